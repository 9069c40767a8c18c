//! How much memory messages may take, and what is given up first when it runs short.
//!
//! The shards count the bytes of messages (topic, properties, payload, and 128 for each) that wait in queues, were sent at
//! QoS 1 or 2 and are not acknowledged, are retained, or are wills; of the filters that are subscribed to; of topic aliases;
//! the output that the kernel has not taken; what has arrived of packets whose end has not; and, twice, CONNECTs that are
//! being asked about. Those who hold one message share one allocation. Each counts all of a small one; of a payload from
//! 16 KiB on a shard counts one holder. So the sum is never less than these take. Not counted, since something else bounds it:
//!
//! - connections and sessions: their records, up to 1 KiB, by `limits.connections_max` and `limits.sessions_max`; subscriptions, by
//!   `limits.subscriptions_per_client_max`;
//! - who a client is, where it authenticates: user, roles and claims are no larger than its CONNECT (`limits.connect_bytes_max`), or
//!   than the answer of the server that was asked; of the rules it holds its values and a bit for each condition, some 256 bytes.
//!   Rules of its own, from a token, are a list up to 16 and beyond a trie, which is several times as large as they are: the issuer
//!   bounds that, and `limits.connect_bytes_max`;
//! - the transport: half a TLS record (16 KiB), a handshake (80 KiB, `limits.tls_handshakes_max` at once), half the head of a
//!   WebSocket frame or an upgrade request, each of connections that are in the midst of one;
//! - what a retained replay has fetched, one batch a session; what travels between shards (`ring.mesh_capacity`).
//!
//! Against the budget that sum is a level of pressure, and each level adds one measure to those below it:
//!
//! | From | Measure |
//! |-|-|
//! | 70 % | new connections are refused, but of clients that come to take what waits for them |
//! | 80 % | publishers are read more slowly |
//! | 90 % | QoS 0 for clients that read slowly is dropped, and counted |
//! | 95 % | QoS 1 and 2 and new subscriptions are refused: 0x97 (Quota exceeded) |
//!
//! A level is left only when 5 % of the budget less is used than it was entered at, and not within a second of the last
//! rise, so that it does not flicker. The log hears of a rise at once, of a fall every ten seconds at most.

use crate::engine::Time;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What the shortage of memory has come to; each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// New connections are refused, but of clients for whom messages wait.
    RefuseConnections,
    /// Publishers are slowed.
    SlowPublishers,
    /// QoS 0 for slow readers is dropped.
    DropQos0,
    /// QoS 1 and 2 are refused, and new subscriptions.
    RefuseQos,
}

impl Pressure {
    /// All levels, rising.
    pub const ALL: [Pressure; 5] = [
        Pressure::None,
        Pressure::RefuseConnections,
        Pressure::SlowPublishers,
        Pressure::DropQos0,
        Pressure::RefuseQos,
    ];

    /// What happens at this level, for the log.
    pub fn label(self) -> &'static str {
        match self {
            Pressure::None => "everything is taken",
            Pressure::RefuseConnections => "new connections are refused",
            Pressure::SlowPublishers => "publishers are slowed",
            Pressure::DropQos0 => "QoS 0 for slow readers is dropped",
            Pressure::RefuseQos => "QoS 1 and 2 and new subscriptions are refused",
        }
    }
}

/// A number of bytes, and where the levels begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    bytes: u64,
}

/// Levels begin at so many thousandths of the budget, in the order of [`Pressure::ALL`] from the second.
const ENTER: [u64; 4] = [700, 800, 900, 950];
/// And end so many thousandths lower.
const SLACK: u64 = 50;
/// For how long at least no level is left after one was entered.
pub const STAY: Duration = Duration::from_secs(1);
/// How often at most the log hears that memory is less short.
pub const TELL_EVERY: Duration = Duration::from_secs(10);

const _: () = assert!(ENTER[0] > SLACK && ENTER[3] < 1000);

impl Budget {
    /// So many bytes; `None` for 0, which is no budget.
    pub fn new(bytes: u64) -> Option<Budget> {
        (bytes > 0).then_some(Budget { bytes })
    }

    /// All of it.
    pub fn bytes(self) -> u64 {
        self.bytes
    }

    /// By how much a shard's own part may change before the whole is looked at again.
    pub fn step(self) -> u64 {
        self.bytes / 512
    }

    /// The level that follows one when so much is used.
    pub fn next(self, before: Pressure, used: u64) -> Pressure {
        let level = |slack: u64| {
            let reached = ENTER.iter().filter(|enter| used >= self.part(**enter - slack)).count();
            Pressure::ALL[reached]
        };
        let (entered, kept) = (level(0), level(SLACK));
        // Up as far as was entered; down no further than what is not left yet.
        before.clamp(entered, kept)
    }

    fn part(self, thousandths: u64) -> u64 {
        (u128::from(self.bytes) * u128::from(thousandths) / 1000) as u64
    }
}

/// The level of the whole process, which every shard reads and any may change.
#[derive(Debug, Default)]
pub struct Gauge {
    level: AtomicU8,
    /// When it rose last.
    rose: AtomicU64,
    /// The level that the log heard of last, and when.
    told: AtomicU8,
    told_at: AtomicU64,
}

fn level_of(level: &AtomicU8) -> Pressure {
    Pressure::ALL[usize::from(level.load(Relaxed)).min(Pressure::ALL.len() - 1)]
}

/// True to the one who makes `to` of `from`.
fn turns(level: &AtomicU8, from: Pressure, to: Pressure) -> bool {
    from != to && level.compare_exchange(from as u8, to as u8, Relaxed, Relaxed).is_ok()
}

impl Gauge {
    /// The level now.
    pub fn level(&self) -> Pressure {
        level_of(&self.level)
    }

    /// Takes in how much is used now. True to the one who changed the level.
    pub fn update(&self, budget: Budget, used: u64, now: Time) -> bool {
        let before = self.level();
        let after = budget.next(before, used);
        if after < before && now.since(Time(self.rose.load(Relaxed))) < STAY {
            return false;
        }
        let changed = turns(&self.level, before, after);
        if changed && after > before {
            self.rose.store(now.0, Relaxed);
        }
        changed
    }

    /// `Some` to the one who has to tell the log: the level that it knows, and the one that it is to hear of.
    pub fn news(&self, now: Time) -> Option<(Pressure, Pressure)> {
        let (told, level) = (level_of(&self.told), self.level());
        if level < told && now.since(Time(self.told_at.load(Relaxed))) < TELL_EVERY || !turns(&self.told, told, level) {
            return None;
        }
        self.told_at.store(now.0, Relaxed);
        Some((told, level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_level() -> impl Strategy<Value = Pressure> {
        prop::sample::select(Pressure::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn measures_are_taken_in_their_order_and_never_late(bytes in 1..u64::MAX, before in any_level(), used: u64) {
            let after = Budget { bytes }.next(before, used);
            let percent = |percent: u64| (u128::from(bytes) * u128::from(percent) / 100) as u64;
            prop_assert!(after >= Pressure::RefuseConnections || used < percent(70));
            prop_assert!(after >= Pressure::SlowPublishers || used < percent(80));
            prop_assert!(after >= Pressure::DropQos0 || used < percent(90));
            prop_assert!(after == Pressure::RefuseQos || used < percent(95));
            prop_assert!(after == Pressure::None || used >= percent(65));
        }

        #[test]
        fn the_same_use_never_changes_the_level_twice(bytes in 1..u64::MAX, before in any_level(), used: u64) {
            let budget = Budget { bytes };
            let after = budget.next(before, used);
            prop_assert_eq!(budget.next(after, used), after);
        }
    }

    #[test]
    fn a_level_is_left_only_well_below_where_it_begins() {
        let (budget, gauge, mut now) = (Budget::new(1000).unwrap(), Gauge::default(), Time(0));
        let steps = [(699, 0), (700, 1), (651, 1), (649, 0), (950, 4), (901, 4), (899, 3), (851, 3), (820, 2), (0, 0)];
        for (used, level) in steps {
            now = now.after(STAY);
            gauge.update(budget, used, now);
            assert_eq!(gauge.level() as u8, level, "{used} used");
        }
        assert!(gauge.update(budget, 800, now));
        assert!(!gauge.update(budget, 800, now), "a change is told once");
        assert_eq!(Budget::new(0), None);
    }

    #[test]
    fn use_that_swings_within_milliseconds_changes_the_level_once_a_second_and_the_log_hears_little() {
        let (budget, gauge) = (Budget::new(1000).unwrap(), Gauge::default());
        let (mut changes, mut lines) = (0, Vec::new());
        for ms in 1..=30_000u64 {
            let now = Time(ms * 1_000_000);
            changes += u32::from(gauge.update(budget, if ms % 2 == 0 { 600 } else { 960 }, now));
            lines.extend(gauge.news(now));
        }
        assert!((55..=60).contains(&changes), "up and down, thirty times at most: {changes}");
        assert_eq!(lines[0], (Pressure::None, Pressure::RefuseQos), "at once");
        assert!(lines.len() <= 7, "{lines:?}");
        let end = Time(60_000_000_000);
        gauge.update(budget, 0, end);
        assert_eq!(gauge.news(end).map(|(_, level)| level), Some(Pressure::None), "the last word is what holds");
        assert_eq!(gauge.news(end), None);
    }
}
