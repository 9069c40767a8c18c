//! A rate with a burst, and how far somebody has used it up: the token bucket, kept as one point in time.
//!
//! A bucket is the moment at which it would be full again. To take something moves that moment away from now; what is
//! further away than the burst lasts is too much. That is all the state there is: eight bytes, integers only, and a
//! bucket that is full looks like one that was never touched (the generic cell rate algorithm, ITU-T I.371).

use crate::engine::Time;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// So many in a period, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: NonZeroU64,
    period_ns: NonZeroU64,
    burst: NonZeroU64,
}

/// How far a rate is used up: when it will not be any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(Time);

impl Bucket {
    /// True if nothing is used up of it.
    pub fn is_full(self, now: Time) -> bool {
        self.0 <= now
    }
}

/// A bucket that several threads take from. Whoever loses a race tries again; nobody waits.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

impl Rate {
    /// `None` if one of them is zero, or the period longer than 584 years.
    pub fn new(amount: u64, period: Duration, burst: u64) -> Option<Rate> {
        let period_ns = NonZeroU64::new(u64::try_from(period.as_nanos()).ok()?)?;
        Some(Rate { amount: NonZeroU64::new(amount)?, period_ns, burst: NonZeroU64::new(burst)? })
    }

    /// How many in each [`period`](Self::period).
    pub fn amount(self) -> u64 {
        self.amount.get()
    }

    /// The time that the amount is for.
    pub fn period(self) -> Duration {
        Duration::from_nanos(self.period_ns.get())
    }

    /// How many at once, after a pause that was long enough.
    pub fn burst(self) -> u64 {
        self.burst.get()
    }

    /// How long the rate takes to allow `n`, rounded up: no charge is too small by more than a nanosecond.
    fn cost(self, n: u64) -> u64 {
        let cost = (u128::from(n) * u128::from(self.period_ns.get())).div_ceil(u128::from(self.amount.get()));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    /// Where a bucket stands from which one more is taken now; `Err` says when one would be there.
    fn one_more(self, full_at: u64, now: u64) -> Result<u64, Time> {
        let after = full_at.max(now).saturating_add(self.cost(1));
        // As many single ones as the burst says, whatever rounding has made of each.
        let earliest = after.saturating_sub(self.cost(1).saturating_mul(self.burst.get()));
        if earliest <= now { Ok(after) } else { Err(Time(earliest)) }
    }

    /// Takes one if there is one; else says when there will be, and takes nothing.
    ///
    /// # Errors
    ///
    /// The bucket is empty until then.
    pub fn take(self, bucket: &mut Bucket, now: Time) -> Result<(), Time> {
        bucket.0 = Time(self.one_more(bucket.0.0, now.0)?);
        Ok(())
    }

    /// The same from a bucket that others take from too.
    ///
    /// # Errors
    ///
    /// The bucket is empty until then.
    pub fn take_shared(self, bucket: &SharedBucket, now: Time) -> Result<(), Time> {
        let taken = bucket.0.fetch_update(Relaxed, Relaxed, |full_at| self.one_more(full_at, now.0).ok());
        taken.map(drop).map_err(|full_at| self.one_more(full_at, now.0).err().unwrap_or(now))
    }

    /// Takes `n` that have been used already, however many: what was not there becomes a debt. Says when it is paid, and
    /// one more is there.
    pub fn charge(self, bucket: &mut Bucket, now: Time, n: u64) -> Option<Time> {
        bucket.0 = Time(bucket.0.0.max(now.0).saturating_add(self.cost(n)));
        self.debt(*bucket, now)
    }

    /// Which of two buckets of this rate is the emptier: the larger.
    pub(super) fn used(self, bucket: Bucket) -> u64 {
        bucket.0.0
    }

    /// Until when there is not one more; `None` if there is.
    pub fn debt(self, bucket: Bucket, now: Time) -> Option<Time> {
        let paid = bucket.0.0.saturating_add(self.cost(1)).saturating_sub(self.cost(self.burst.get()));
        (paid > now.0).then_some(Time(paid))
    }
}

impl SharedBucket {
    /// As [`Rate::take`] sees it, without taking.
    pub(super) fn look(&self) -> Bucket {
        Bucket(Time(self.0.load(Relaxed)))
    }

    /// Brings it at least as far as another bucket.
    pub(super) fn raise(&self, to: Bucket) {
        self.0.fetch_max(to.0.0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(amount: u64, period_ns: u64, burst: u64) -> Rate {
        Rate::new(amount, Duration::from_nanos(period_ns), burst).unwrap()
    }

    /// Tokens as anybody would count them, in parts of a token that one nanosecond brings in whole numbers.
    struct Naive {
        rate: Rate,
        parts: u128,
        at: u64,
    }

    impl Naive {
        fn new(rate: Rate) -> Naive {
            Naive { rate, parts: u128::from(rate.burst()) * u128::from(rate.period_ns.get()), at: 0 }
        }

        fn take(&mut self, now: u64) -> bool {
            let full = u128::from(self.rate.burst()) * u128::from(self.rate.period_ns.get());
            self.parts = full.min(self.parts + u128::from(now - self.at) * u128::from(self.rate.amount()));
            self.at = now;
            let one = u128::from(self.rate.period_ns.get());
            let there = self.parts >= one;
            self.parts -= if there { one } else { 0 };
            there
        }
    }

    proptest! {
        #[test]
        fn where_a_token_takes_whole_nanoseconds_it_is_the_naive_bucket(
            each_ns in 1..2000u64, amount in 1..50u64, burst in 1..20u64,
            pauses in prop::collection::vec(0..5000u64, 1..200),
        ) {
            let rate = rate(amount, each_ns * amount, burst);
            let (mut naive, mut bucket, shared, mut now) =
                (Naive::new(rate), Bucket::default(), SharedBucket::default(), 0);
            for pause in pauses {
                now += pause;
                let expected = naive.take(now);
                prop_assert_eq!(rate.take(&mut bucket, Time(now)).is_ok(), expected);
                prop_assert_eq!(rate.take_shared(&shared, Time(now)).is_ok(), expected);
            }
        }

        #[test]
        fn no_stretch_of_time_lets_more_through_than_burst_and_rate(
            amount in 1..10_000u64, period in 1..10_000_000u64, burst in 1..50u64,
            pauses in prop::collection::vec(0..3000u64, 1..200),
        ) {
            let rate = rate(amount, period, burst);
            let (mut bucket, mut now, mut taken) = (Bucket::default(), 0, Vec::new());
            for pause in pauses {
                now += pause;
                if rate.take(&mut bucket, Time(now)).is_ok() {
                    taken.push(now);
                }
            }
            for (i, from) in taken.iter().enumerate() {
                for (j, to) in taken.iter().enumerate().skip(i) {
                    let earned = u128::from(to - from) * u128::from(amount) / u128::from(period);
                    prop_assert!((j - i + 1) as u128 <= u128::from(burst) + earned);
                }
            }
        }

        #[test]
        fn what_is_refused_is_there_at_the_time_that_was_told_and_not_before(
            amount in 1..1000u64, period in 1000..1_000_000u64, burst in 1..10u64,
        ) {
            let (rate, mut bucket) = (rate(amount, period, burst), Bucket::default());
            for _ in 0..burst {
                prop_assert!(rate.take(&mut bucket, Time(5)).is_ok());
            }
            if let Err(then) = rate.take(&mut bucket, Time(5)) {
                prop_assert!(rate.take(&mut bucket.clone(), Time(then.0 - 1)).is_err());
                prop_assert!(rate.take(&mut bucket, then).is_ok());
            }
        }

        #[test]
        fn a_debt_is_paid_at_the_rate(n in 1..1_000_000u64, burst in 1..1000u64) {
            let (rate, mut bucket) = (rate(1000, 1_000_000_000, burst), Bucket::default());
            let paid = rate.charge(&mut bucket, Time(0), n);
            let expected = (n + 1).checked_sub(burst).filter(|over| *over > 0).map(|over| Time(over * 1_000_000));
            prop_assert_eq!(paid, expected);
            if let Some(paid) = paid {
                prop_assert_eq!(rate.debt(bucket, Time(paid.0 - 1)), Some(paid));
                prop_assert_eq!(rate.debt(bucket, paid), None);
            }
        }
    }

    #[test]
    fn the_largest_numbers_there_are_neither_wrap_nor_panic() {
        let rate = rate(1, u64::MAX, u64::MAX);
        let mut bucket = Bucket::default();
        assert_eq!(rate.charge(&mut bucket, Time(u64::MAX), u64::MAX), None);
        assert!(rate.take(&mut bucket, Time(0)).is_ok());
        assert!(Rate::new(0, Duration::from_secs(1), 1).is_none());
    }
}
