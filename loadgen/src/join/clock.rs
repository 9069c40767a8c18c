//! How far apart two hosts' clocks are, from round trips, and how wrong that may be.
//!
//! A worker's clock read halfway between asking and hearing is off by at most half of the round trip, whatever
//! the two ways took. So the shortest round trip says most. Processes of one boot of one kernel read the very same
//! monotonic clock: nothing to estimate, and no error.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::engine::Clock;

/// How many round trips an estimate takes.
pub const ROUND_TRIPS: u32 = 32;

/// The distance between two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// What to add to the worker's clock to get the coordinator's, in nanoseconds.
    pub ns: i64,
    /// The true distance differs from it by at most so much, in nanoseconds.
    pub error_ns: u64,
}

impl Offset {
    /// From one round trip: when it was asked and heard by the coordinator's clock, and the worker's clock between.
    pub fn of_round_trip(asked_ns: i64, answer_ns: i64, heard_ns: i64) -> Self {
        let round_trip = heard_ns.abs_diff(asked_ns);
        Self { ns: i64::midpoint(asked_ns, heard_ns) - answer_ns, error_ns: round_trip.div_ceil(2) }
    }

    /// The one of two that can be less wrong.
    pub fn better(self, other: Self) -> Self {
        if other.error_ns < self.error_ns { other } else { self }
    }

    /// Whether the clocks may be one and the same.
    pub fn may_be_none(self) -> bool {
        self.ns.unsigned_abs() <= self.error_ns
    }

    /// How wrong this one turned out, by a later look at the same clocks: clocks of two hosts drift.
    pub fn error_seen_by(self, later: Self) -> u64 {
        self.ns.abs_diff(later.ns) + later.error_ns
    }
}

/// The host's monotonic clock in nanoseconds.
pub fn monotonic_ns() -> i64 {
    Clock::start().origin_ns()
}

/// This boot of this kernel; `None` when /proc doesn't say.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_distance_is_never_farther_away_than_the_error() {
        // The worker's clock is 1,000 behind; the ways take (there, back).
        for (there, back) in [(0, 0), (5, 5), (9, 1), (1, 10), (100, 0), (0, 77)] {
            let asked = 5_000;
            let offset = Offset::of_round_trip(asked, asked + there - 1_000, asked + there + back);
            assert!(offset.ns.abs_diff(1_000) <= offset.error_ns, "{there} {back}: {offset:?}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_gets_a_negative_offset() {
        assert_eq!(Offset::of_round_trip(100, 10_150, 200), Offset { ns: -10_000, error_ns: 50 });
    }

    #[test]
    fn the_shorter_round_trip_wins() {
        let (long, short) = (Offset { ns: 7, error_ns: 90 }, Offset { ns: 3, error_ns: 2 });
        assert_eq!((long.better(short), short.better(long)), (short, short));
    }

    #[test]
    fn a_drift_shows_in_the_later_look() {
        let (first, later) = (Offset { ns: 100, error_ns: 5 }, Offset { ns: 130, error_ns: 4 });
        assert_eq!(first.error_seen_by(later), 34);
        assert!(Offset { ns: -4, error_ns: 5 }.may_be_none() && !first.may_be_none());
    }
}
