//! Which limits hold for a client: those of `[limits]`, with those of its listener over them, with those of the first
//! profile that it matches over both.
//!
//! All combinations are put together when the configuration is read: there are as many as listeners times profiles. A
//! connection remembers the number of its own ([`Class`]).

use super::glob::Glob;
use super::rate::Rate;
use crate::config::{ClientLimits, Limits, Profile};
use std::sync::Arc;

/// The number of a combination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(pub u16);

/// What holds for one client.
#[derive(Clone, Debug, PartialEq)]
pub struct PerClient {
    /// The largest packet taken from it once it is let in, in bytes.
    pub packet_bytes_max: u32,
    /// QoS 1 and 2 messages that it may have unfinished towards the server.
    pub receive_maximum: u16,
    /// Levels of topic names and filters.
    pub topic_levels_max: u16,
    /// Subscriptions.
    pub subscriptions_max: u32,
    /// Deliveries in flight.
    pub inflight_max: u16,
    /// Messages in its queue.
    pub queue_messages_max: u32,
    /// Bytes in its queue.
    pub queue_bytes_max: usize,
    /// The shortest keep alive, in seconds.
    pub keep_alive_min: u16,
    /// The longest, in seconds; 0 for any.
    pub keep_alive_max: u16,
    /// How many levels of a filter come before the first wildcard, at least.
    pub wildcard_depth_min: u16,
    /// Client identifiers that are allowed; all if empty.
    pub client_ids: Arc<[Glob]>,
    /// Messages that it may publish.
    pub messages_in: Option<Rate>,
    /// Bytes that it may send, everything counted.
    pub bytes_in: Option<Rate>,
    /// Messages that it gets.
    pub messages_out: Option<Rate>,
    /// Bytes that it gets, everything counted.
    pub bytes_out: Option<Rate>,
}

/// Who a client is, as far as profiles ask.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Client identifier.
    pub client_id: &'a str,
    /// User name that was authenticated, or that it gave.
    pub user: Option<&'a str>,
    /// Roles: those that its authentication gave it, and those that rules give it.
    pub roles: &'a [&'a str],
}

/// All combinations.
#[derive(Clone, Debug)]
pub struct Classes {
    /// By listener, and then: no profile, or the first, the second…
    all: Vec<PerClient>,
    profiles: Vec<Profile>,
}

impl Classes {
    /// Puts them together.
    ///
    /// # Panics
    ///
    /// There are more than 65,536, which the check of the configuration refuses.
    pub fn new<'a>(
        limits: &Limits,
        client_ids: &[Glob],
        listeners: impl Iterator<Item = &'a ClientLimits>,
        profiles: &[Profile],
    ) -> Classes {
        let base = base(limits, client_ids);
        let mut all = Vec::new();
        for listener in listeners {
            let here = over(&base, listener);
            all.push(here.clone());
            all.extend(profiles.iter().map(|profile| over(&here, &profile.limits)));
        }
        assert!(!all.is_empty() && all.len() <= usize::from(u16::MAX) + 1, "checked with the configuration");
        Classes { all, profiles: profiles.to_vec() }
    }

    /// The limits of every class.
    pub fn iter(&self) -> impl Iterator<Item = &PerClient> {
        self.all.iter()
    }

    /// True if some client of this listener, whoever it turns out to be, may use this identifier.
    pub fn may_allow_client_id(&self, listener: u16, client_id: &str) -> bool {
        let base = usize::from(self.of_listener(listener).0);
        self.all[base..=base + self.profiles.len()].iter().any(|limits| limits.allows_client_id(client_id))
    }

    /// The class of a client that no profile is about.
    fn of_listener(&self, listener: u16) -> Class {
        let stride = self.profiles.len() + 1;
        // Drivers of tests may name a listener that is in no configuration.
        let listener = usize::from(listener).min(self.all.len() / stride - 1);
        Class((listener * stride) as u16)
    }

    /// The class of a client of this listener.
    pub fn of(&self, listener: u16, who: Who<'_>) -> Class {
        Class(self.of_listener(listener).0 + self.profile_of(who))
    }

    /// The class of a client that had another one: that of its listener is the same.
    pub fn instead_of(&self, former: Class, who: Who<'_>) -> Class {
        Class(former.0 - former.0 % (self.profiles.len() as u16 + 1) + self.profile_of(who))
    }

    /// The number of the first profile that a client matches, from 1; 0 for none.
    fn profile_of(&self, who: Who<'_>) -> u16 {
        self.profiles.iter().position(|profile| is_meant(profile, who)).map_or(0, |first| first as u16 + 1)
    }

    /// True if some profile is about a role.
    pub fn know_roles(&self) -> bool {
        self.profiles.iter().any(|profile| profile.role.is_some())
    }
}

impl std::ops::Index<Class> for Classes {
    type Output = PerClient;

    fn index(&self, class: Class) -> &PerClient {
        &self.all[usize::from(class.0)]
    }
}

fn is_meant(profile: &Profile, who: Who<'_>) -> bool {
    let user = profile.user.as_ref().is_none_or(|glob| who.user.is_some_and(|user| glob.matches(user)));
    let role = profile.role.as_ref().is_none_or(|role| who.roles.contains(&&**role));
    user && role && profile.client_id.as_ref().is_none_or(|glob| glob.matches(who.client_id))
}

fn base(limits: &Limits, client_ids: &[Glob]) -> PerClient {
    PerClient {
        packet_bytes_max: limits.packet_bytes_max,
        receive_maximum: limits.receive_maximum,
        topic_levels_max: limits.topic_levels_max,
        subscriptions_max: limits.subscriptions_per_client_max,
        inflight_max: limits.inflight_max,
        queue_messages_max: limits.queue_messages_max,
        queue_bytes_max: limits.queue_bytes_max,
        keep_alive_min: limits.keep_alive_min,
        keep_alive_max: limits.keep_alive_max,
        wildcard_depth_min: limits.wildcard_depth_min,
        client_ids: client_ids.into(),
        messages_in: limits.messages_in_rate.0,
        bytes_in: limits.bytes_in_rate.0,
        messages_out: limits.messages_out_rate.0,
        bytes_out: limits.bytes_out_rate.0,
    }
}

/// What is said over what was there.
fn over(base: &PerClient, said: &ClientLimits) -> PerClient {
    PerClient {
        packet_bytes_max: said.packet_bytes_max.unwrap_or(base.packet_bytes_max),
        receive_maximum: said.receive_maximum.unwrap_or(base.receive_maximum),
        topic_levels_max: said.topic_levels_max.unwrap_or(base.topic_levels_max),
        subscriptions_max: said.subscriptions_max.unwrap_or(base.subscriptions_max),
        inflight_max: said.inflight_max.unwrap_or(base.inflight_max),
        queue_messages_max: said.queue_messages_max.unwrap_or(base.queue_messages_max),
        queue_bytes_max: said.queue_bytes_max.unwrap_or(base.queue_bytes_max),
        keep_alive_min: said.keep_alive_min.unwrap_or(base.keep_alive_min),
        keep_alive_max: said.keep_alive_max.unwrap_or(base.keep_alive_max),
        wildcard_depth_min: said.wildcard_depth_min.unwrap_or(base.wildcard_depth_min),
        client_ids: said.client_ids.as_ref().map_or_else(|| base.client_ids.clone(), |globs| globs.as_slice().into()),
        messages_in: said.messages_in_rate.map_or(base.messages_in, |rate| rate.0),
        bytes_in: said.bytes_in_rate.map_or(base.bytes_in, |rate| rate.0),
        messages_out: said.messages_out_rate.map_or(base.messages_out, |rate| rate.0),
        bytes_out: said.bytes_out_rate.map_or(base.bytes_out, |rate| rate.0),
    }
}

impl PerClient {
    /// True if a client may use this identifier.
    pub fn allows_client_id(&self, client_id: &str) -> bool {
        self.client_ids.is_empty() || self.client_ids.iter().any(|glob| glob.matches(client_id))
    }

    /// The keep alive that holds for one that was asked for, in seconds; 0 is none. Only 5.0 clients can be told of
    /// another than their own (server keep alive, MQTT 5.0 §3.2.2.3.14 [MQTT-3.1.2-21]); others keep theirs.
    pub fn keep_alive(&self, asked: u16, v5: bool) -> u16 {
        match (asked, self.keep_alive_max) {
            _ if !v5 => asked,
            (0, max) => max,
            // A client that asks for very little would spend everybody's time on pings: it is told a longer one.
            (asked, 0) => asked.max(self.keep_alive_min),
            (asked, max) => asked.max(self.keep_alive_min).min(max),
        }
    }

    /// True if anything of it has to be measured.
    pub fn has_rates(&self) -> bool {
        [self.messages_in, self.bytes_in, self.messages_out, self.bytes_out].iter().any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateLimit;
    use std::time::Duration;

    fn glob(text: &str) -> Option<Glob> {
        Some(Glob::new(text).unwrap())
    }

    fn classes() -> Classes {
        let inner = ClientLimits { inflight_max: Some(7), subscriptions_max: Some(5), ..ClientLimits::default() };
        let profile = |user: Option<Glob>, role: Option<&str>, client_id: Option<Glob>, inflight_max| Profile {
            user,
            role: role.map(str::to_owned),
            client_id,
            limits: ClientLimits { inflight_max: Some(inflight_max), ..ClientLimits::default() },
        };
        let profiles = [
            profile(glob("admin"), None, None, 100),
            profile(None, Some("sensor"), None, 101),
            profile(glob("u*"), None, glob("s-*"), 102),
        ];
        Classes::new(&Limits::default(), &[], [&ClientLimits::default(), &inner].into_iter(), &profiles)
    }

    #[test]
    fn the_first_profile_that_matches_is_laid_over_the_listener_over_the_limits() {
        let classes = classes();
        let roles = ["sensor"];
        let of = |listener, user, roles, client_id| {
            let limits = &classes[classes.of(listener, Who { client_id, user, roles })];
            (limits.inflight_max, limits.subscriptions_max)
        };
        assert_eq!(of(0, None, &[], "c"), (128, 10_000));
        assert_eq!(of(1, None, &[], "c"), (7, 5));
        assert_eq!(of(1, Some("admin"), &roles[..], "s-1"), (100, 5));
        assert_eq!(of(0, Some("u1"), &roles[..], "s-1"), (101, 10_000));
        assert_eq!(of(0, Some("u1"), &[], "s-1"), (102, 10_000));
        assert_eq!(of(0, None, &[], "s-1"), (128, 10_000), "every condition of a profile must hold");
    }

    #[test]
    fn an_override_of_zero_takes_a_rate_away() {
        let rate = RateLimit(Rate::new(10, Duration::from_secs(1), 10));
        let limits = Limits { messages_in_rate: rate, ..Limits::default() };
        let free = ClientLimits { messages_in_rate: Some(RateLimit(None)), ..ClientLimits::default() };
        let classes = Classes::new(&limits, &[], [&ClientLimits::default(), &free].into_iter(), &[]);
        assert!(classes[Class(0)].has_rates() && !classes[Class(1)].has_rates());
    }

    #[test]
    fn keep_alive_stays_within_its_bounds_for_those_who_can_be_told() {
        let mut limits = classes()[Class(0)].clone();
        (limits.keep_alive_min, limits.keep_alive_max) = (10, 60);
        let granted = [0, 1, 30, 100].map(|asked| limits.keep_alive(asked, true));
        assert_eq!(granted, [60, 10, 30, 60]);
        assert_eq!([0, 1, 100].map(|asked| limits.keep_alive(asked, false)), [0, 1, 100]);
        limits.keep_alive_max = 0;
        assert_eq!([0, 1, 100].map(|asked| limits.keep_alive(asked, true)), [0, 10, 100]);
    }
}
