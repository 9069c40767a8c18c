//! What clients had used up of their rates when they left, so that to connect again is not to begin anew.
//!
//! One shard's business, like a client itself. A meter is kept until it would be full again, a few seconds mostly. When there are
//! too many, those who leave are not followed (and that is counted): whoever is in stays in, so that nobody can have
//! himself forgotten by sending others.

use super::meter::Meter;
use super::sketch::KeyHash;
use crate::engine::Time;
use std::collections::HashMap;
use std::time::Duration;

/// Meters that are kept on each shard.
pub const KEPT_MAX: usize = 1 << 16;
/// Below so many nobody looks for those that are full.
const KEPT_UNSEEN: usize = 256;
/// To look at all of them is work for a turn of its own, so it is done at most this often, whoever comes and goes.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A shard's memory of them.
#[derive(Debug, Default)]
pub struct Debts {
    meters: HashMap<KeyHash, Meter>,
    /// How many there were when those that were full were last taken out.
    left: usize,
    /// Before then they are not looked at again.
    sweep_at: Time,
    untracked: u64,
}

impl Debts {
    /// Somebody leaves who has used up so much.
    pub fn leave(&mut self, key: KeyHash, meter: Meter, now: Time) {
        if meter.is_full(now) {
            return;
        }
        if self.meters.len() >= (2 * self.left).clamp(KEPT_UNSEEN, KEPT_MAX) && now >= self.sweep_at {
            self.sweep_at = now.after(SWEEP_EVERY);
            self.meters.retain(|_, meter| !meter.is_full(now));
            self.left = self.meters.len();
        }
        if let Some(present) = self.meters.get_mut(&key) {
            present.add(meter);
        } else if self.meters.len() < KEPT_MAX {
            self.meters.insert(key, meter);
        } else {
            self.untracked += 1;
        }
    }

    /// Somebody comes: what is still used up is his again.
    pub fn come(&mut self, key: KeyHash) -> Meter {
        if self.meters.is_empty() { Meter::default() } else { self.meters.remove(&key).unwrap_or_default() }
    }

    /// How often nothing was kept for want of room.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientLimits, Limits, RateLimit};
    use crate::guard::profile::{Class, Classes};
    use crate::guard::rate::Rate;

    /// Ten messages used up of ten a second.
    fn used(now: Time) -> Meter {
        let rate = RateLimit(Rate::new(10, Duration::from_secs(1), 10));
        let limits = Limits { messages_in_rate: rate, ..Limits::default() };
        let classes = Classes::new(&limits, &[], [&ClientLimits::default()].into_iter(), &[]);
        let mut meter = Meter::default();
        meter.received(&classes[Class(0)], now, 10, 0);
        meter
    }

    #[test]
    fn what_was_used_up_is_found_again_once_and_only_until_it_is_made_good() {
        let (mut debts, meter) = (Debts::default(), used(Time(0)));
        let full = Time(0).after(Duration::from_secs(1));
        assert!(meter.is_full(full) && !meter.is_full(Time(full.0 - 1)));
        debts.leave(KeyHash(7), meter, Time(0));
        assert_eq!(debts.come(KeyHash(8)), Meter::default());
        assert_eq!(debts.come(KeyHash(7)), meter);
        assert_eq!(debts.come(KeyHash(7)), Meter::default());
        debts.leave(KeyHash(7), meter, full);
        assert_eq!(debts.come(KeyHash(7)), Meter::default());
    }

    #[test]
    fn a_flood_of_names_neither_grows_it_nor_hides_who_was_there_before() {
        let (mut debts, now) = (Debts::default(), Time(0));
        for key in 0..2 * KEPT_MAX as u64 {
            debts.leave(KeyHash(key), used(now), now);
        }
        assert_eq!((debts.meters.len(), debts.untracked()), (KEPT_MAX, KEPT_MAX as u64));
        assert_eq!(debts.come(KeyHash(0)), used(now));
        let later = now.after(Duration::from_secs(2));
        debts.leave(KeyHash(0), used(later), later);
        debts.leave(KeyHash(1), used(later), later);
        assert!(debts.meters.len() <= 2, "what is full again makes room");
    }

    #[test]
    fn they_are_not_all_looked_at_for_everyone_who_leaves() {
        let (mut debts, begin) = (Debts::default(), Time(0));
        let full = begin.after(Duration::from_secs(1));
        // The first of them are looked at just before they are full, and all are soon after.
        let looked_at = Time(full.0 - 1);
        (0..KEPT_UNSEEN as u64).for_each(|key| debts.leave(KeyHash(key), used(begin), begin));
        (0..=KEPT_MAX as u64).for_each(|key| debts.leave(KeyHash(key << 32), used(begin), looked_at));
        let untracked = debts.untracked();
        assert_eq!(debts.meters.len(), KEPT_MAX);
        debts.leave(KeyHash(u64::MAX), used(full), full);
        assert_eq!((debts.meters.len(), debts.untracked()), (KEPT_MAX, untracked + 1), "there is no place yet");
        let again = looked_at.after(SWEEP_EVERY);
        debts.leave(KeyHash(u64::MAX), used(again), again);
        assert_eq!((debts.meters.len(), debts.untracked()), (1, untracked + 1));
    }
}
