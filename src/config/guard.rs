//! `[guard]`, and the limits of single listeners and clients: how nobody can hurt the others.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::units;
use crate::guard::glob::Glob;
use crate::guard::rate::Rate;

/// Who is kept out, and when nobody new comes in.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardOptions {
    /// The file of bans; `None` (written "") for none.
    #[serde(with = "path_or_none")]
    pub bans: Option<PathBuf>,
    /// Connects of one address; IPv6 by /64.
    pub connect_rate_per_address: RateLimit,
    /// Connections of one address at once; 0 is any number.
    #[serde(deserialize_with = "units::count")]
    pub connections_per_address_max: u32,
    /// Connects of one user.
    pub connect_rate_per_user: RateLimit,
    /// Connections of one user at once; 0 is any number.
    #[serde(deserialize_with = "units::count")]
    pub connections_per_user_max: u32,
    /// More connects of one client than this within the window are too many; 0 is never.
    #[serde(deserialize_with = "units::count")]
    pub flapping_connects: u32,
    /// How long connects count.
    #[serde(with = "units::duration")]
    pub flapping_window: Duration,
    /// How long a flapping client is kept out.
    #[serde(with = "units::duration")]
    pub flapping_ban: Duration,
    /// A shard whose turn takes longer sheds new connections; `None` is never.
    #[serde(with = "units::duration_or_zero")]
    pub turn_max: Option<Duration>,
    /// A client whose output has waited for so long is told of.
    #[serde(with = "units::duration")]
    pub slow_after: Duration,
    /// Lines that one place in the program may log in a minute; 0 is any number.
    #[serde(deserialize_with = "units::count")]
    pub log_lines_per_minute: u32,
    /// Patterns of client identifiers that may be used; all if empty.
    pub client_ids: Vec<Glob>,
    /// `[[guard.profile]]`: the first that a client matches is laid over the limits of its listener.
    #[serde(rename = "profile", skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
}

impl Default for GuardOptions {
    fn default() -> GuardOptions {
        GuardOptions {
            bans: None,
            connect_rate_per_address: RateLimit(None),
            connections_per_address_max: 0,
            connect_rate_per_user: RateLimit(None),
            connections_per_user_max: 0,
            flapping_connects: 0,
            flapping_window: Duration::from_secs(60),
            flapping_ban: Duration::from_secs(300),
            turn_max: Some(Duration::from_secs(1)),
            slow_after: Duration::from_secs(10),
            log_lines_per_minute: 100,
            client_ids: Vec::new(),
            profiles: Vec::new(),
        }
    }
}

/// `[[guard.profile]]`: other limits for some clients. All that is named must match.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// A pattern of user names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Glob>,
    /// A role, that its authentication or the rules gave the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// A pattern of client identifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Glob>,
    /// What holds for them.
    #[serde(skip_serializing_if = "ClientLimits::is_empty")]
    pub limits: ClientLimits,
}

/// Limits that may differ by client. What is left out is as it is without.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientLimits {
    /// Instead of `limits.packet_bytes_max`.
    #[serde(with = "some_bytes", skip_serializing_if = "Option::is_none")]
    pub packet_bytes_max: Option<u32>,
    /// Instead of `limits.receive_maximum`.
    #[serde(deserialize_with = "some_count", skip_serializing_if = "Option::is_none")]
    pub receive_maximum: Option<u16>,
    /// Instead of `limits.topic_levels_max`.
    #[serde(deserialize_with = "some_count", skip_serializing_if = "Option::is_none")]
    pub topic_levels_max: Option<u16>,
    /// Instead of `limits.subscriptions_per_client_max`.
    #[serde(deserialize_with = "some_count", skip_serializing_if = "Option::is_none")]
    pub subscriptions_max: Option<u32>,
    /// Instead of `limits.inflight_max`.
    #[serde(deserialize_with = "some_count", skip_serializing_if = "Option::is_none")]
    pub inflight_max: Option<u16>,
    /// Instead of `limits.queue_messages_max`.
    #[serde(deserialize_with = "some_count", skip_serializing_if = "Option::is_none")]
    pub queue_messages_max: Option<u32>,
    /// Instead of `limits.queue_bytes_max`.
    #[serde(with = "some_bytes", skip_serializing_if = "Option::is_none")]
    pub queue_bytes_max: Option<usize>,
    /// Instead of `limits.keep_alive_min`.
    #[serde(with = "some_seconds", skip_serializing_if = "Option::is_none")]
    pub keep_alive_min: Option<u16>,
    /// Instead of `limits.keep_alive_max`.
    #[serde(with = "some_seconds", skip_serializing_if = "Option::is_none")]
    pub keep_alive_max: Option<u16>,
    /// Instead of `limits.wildcard_depth_min`.
    #[serde(deserialize_with = "some_count", skip_serializing_if = "Option::is_none")]
    pub wildcard_depth_min: Option<u16>,
    /// Instead of `guard.client_ids`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ids: Option<Vec<Glob>>,
    /// Instead of `limits.messages_in_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_in_rate: Option<RateLimit>,
    /// Instead of `limits.bytes_in_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in_rate: Option<RateLimit>,
    /// Instead of `limits.messages_out_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_out_rate: Option<RateLimit>,
    /// Instead of `limits.bytes_out_rate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out_rate: Option<RateLimit>,
}

impl ClientLimits {
    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == ClientLimits::default()
    }
}

fn some_count<'de, D: Deserializer<'de>, T: TryFrom<u64> + units::Widest>(d: D) -> Result<Option<T>, D::Error> {
    units::count(d).map(Some)
}

mod some_bytes {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(d: D) -> Result<Option<T>, D::Error> {
        units::bytes::deserialize(d).map(Some)
    }

    pub fn serialize<S: Serializer, T: TryInto<u64> + Copy + Default>(
        value: &Option<T>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        units::bytes::serialize(&value.unwrap_or_default(), s)
    }
}

mod some_seconds {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
        units::seconds::deserialize(d).map(Some)
    }

    pub fn serialize<S: Serializer>(value: &Option<u16>, s: S) -> Result<S::Ok, S::Error> {
        units::seconds::serialize(&value.unwrap_or_default(), s)
    }
}

mod path_or_none {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Some(PathBuf::deserialize(d)?).filter(|path| !path.as_os_str().is_empty()))
    }

    pub fn serialize<S: Serializer>(value: &Option<PathBuf>, s: S) -> Result<S::Ok, S::Error> {
        value.clone().unwrap_or_default().serialize(s)
    }
}

/// A rate as it is written: "100/s", "10/min", "1MiB/s burst 4MiB", or 0 for none. The burst that is not written is one
/// second's worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit(pub Option<Rate>);

const PERIODS: [(&str, Duration); 3] =
    [("s", Duration::from_secs(1)), ("min", Duration::from_secs(60)), ("h", Duration::from_secs(3600))];

fn parse_rate(text: &str) -> Option<Rate> {
    let (rate, burst) = text.split_once("burst").map_or((text, None), |(rate, burst)| (rate, Some(burst)));
    let (amount, period) = rate.split_once('/')?;
    let amount = units::parse_size(amount)?;
    let (_, period) = PERIODS.into_iter().find(|(name, _)| *name == period.trim())?;
    let burst = match burst {
        Some(burst) => units::parse_size(burst)?,
        None => (amount / period.as_secs()).max(1),
    };
    Rate::new(amount, period, burst)
}

fn rate_text(rate: Rate) -> String {
    let size = |n: u64| units::size_text(n).trim_end_matches(|c| c == 'B' && n < 1024).to_owned();
    let (name, _) = PERIODS.into_iter().find(|(_, period)| *period == rate.period()).unwrap_or(PERIODS[0]);
    format!("{}/{name} burst {}", size(rate.amount()), size(rate.burst()))
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<RateLimit, D::Error> {
        let expecting = "a rate, like \"100/s\", \"10/min\" or \"1MiB/s burst 4MiB\", or 0";
        d.deserialize_any(units::NumberOr::new(expecting, |written| match written {
            units::Written::Number(number) => (number == 0).then_some(RateLimit(None)),
            units::Written::Text(text) => parse_rate(text).map(|rate| RateLimit(Some(rate))),
        }))
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(rate) => s.serialize_str(&rate_text(rate)),
            None => s.serialize_u64(0),
        }
    }
}

/// How much memory messages may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryBudget {
    /// Half of what the host, or the process's control group, has.
    #[default]
    Auto,
    /// So many bytes; 0 is no budget.
    Bytes(u64),
}

impl<'de> Deserialize<'de> for MemoryBudget {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<MemoryBudget, D::Error> {
        let expecting = "a size, like \"4GiB\", 0 for no budget, or \"auto\"";
        d.deserialize_any(units::NumberOr::new(expecting, |written| match written {
            units::Written::Number(number) => Some(MemoryBudget::Bytes(number)),
            units::Written::Text("auto") => Some(MemoryBudget::Auto),
            units::Written::Text(text) => units::parse_size(text).map(MemoryBudget::Bytes),
        }))
    }
}

impl Serialize for MemoryBudget {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            MemoryBudget::Auto => s.serialize_str("auto"),
            MemoryBudget::Bytes(bytes) => s.serialize_str(&units::size_text(*bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_is_read_as_it_was_written(amount in 1..u64::MAX, burst in 1..u64::MAX, period in 0..3usize) {
            let rate = Rate::new(amount, PERIODS[period].1, burst);
            prop_assert_eq!(parse_rate(&rate_text(rate.unwrap())), rate);
        }

        #[test]
        fn no_text_breaks_the_reader_of_rates(text: String) {
            let _ = parse_rate(&text);
        }
    }

    #[test]
    fn a_rate_without_a_burst_has_one_seconds_worth() {
        let burst = |text| parse_rate(text).map(Rate::burst);
        assert_eq!(burst("100/s"), Some(100));
        assert_eq!(burst("600 / min"), Some(10));
        assert_eq!(burst("5/h"), Some(1));
        assert_eq!(burst("1MiB/s burst 4MiB"), Some(4 << 20));
        for text in ["", "100", "0/s", "5/d", "x/s", "5/s burst", "5/s burst 0", "-1/s"] {
            assert_eq!(burst(text), None, "{text}");
        }
    }
}
