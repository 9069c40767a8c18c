//! How much memory messages may take, and what is given up first when it runs short.
//!
//! The shards count the bytes of messages (topic, properties, payload) that wait in queues, were sent at QoS 1 or 2 and
//! are not acknowledged, are retained, or are wills; of the filters that are subscribed to; the output that the kernel has
//! not taken; and what has arrived of packets whose end has not. Those who hold one message share one allocation, and each
//! counts all of it: the sum is never less than these take, and more where one message is for many. Not counted are the
//! records of sessions, subscriptions and deliveries, what a retained replay has fetched, and what travels between shards,
//! each with a limit of its own. Against the budget that sum is a level of pressure, and each level adds one measure to
//! those below it:
//!
//! | From | Measure |
//! |-|-|
//! | 70 % | new connections are refused |
//! | 80 % | publishers are read more slowly |
//! | 90 % | QoS 0 for clients that read slowly is dropped, and counted |
//! | 95 % | QoS 1 and 2 and new subscriptions are refused: 0x97 (Quota exceeded) |
//!
//! A level is left only when 5 % of the budget less is used than it was entered at, so that it does not flicker.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What the shortage of memory has come to; each includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pressure {
    /// There is enough.
    #[default]
    None,
    /// New connections are refused.
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
pub struct Gauge(AtomicU8);

impl Gauge {
    /// The level now.
    pub fn level(&self) -> Pressure {
        Pressure::ALL[usize::from(self.0.load(Relaxed)).min(Pressure::ALL.len() - 1)]
    }

    /// Takes in how much is used. `Some` to the one who changed the level: what it was, and what it is.
    pub fn update(&self, budget: Budget, used: u64) -> Option<(Pressure, Pressure)> {
        let before = self.level();
        let after = budget.next(before, used);
        let changed = before != after && self.0.compare_exchange(before as u8, after as u8, Relaxed, Relaxed).is_ok();
        changed.then_some((before, after))
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
        let (budget, gauge) = (Budget::new(1000).unwrap(), Gauge::default());
        let steps = [(699, 0), (700, 1), (651, 1), (649, 0), (950, 4), (901, 4), (899, 3), (851, 3), (820, 2), (0, 0)];
        for (used, level) in steps {
            gauge.update(budget, used);
            assert_eq!(gauge.level() as u8, level, "{used} used");
        }
        assert_eq!(gauge.update(budget, 800), Some((Pressure::None, Pressure::SlowPublishers)));
        assert_eq!(gauge.update(budget, 800), None, "a change is told once");
        assert_eq!(Budget::new(0), None);
    }
}
