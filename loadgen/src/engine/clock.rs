//! The run's clock: nanoseconds since the run began, the same for every thread, worker and stamp.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// `CLOCK_MONOTONIC` less an origin. A joined worker on another host is given an origin of its own, such that its
/// clock says what the coordinator's says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    origin_ns: i64,
}

impl Clock {
    /// A clock that says 0 now.
    pub fn start() -> Self {
        Self::with_origin(monotonic_ns())
    }

    /// A clock that says 0 when [`monotonic_ns`] says `origin_ns`, which may lie before the host's start.
    pub fn with_origin(origin_ns: i64) -> Self {
        Self { origin_ns }
    }

    /// What [`monotonic_ns`] said when this clock said 0.
    pub fn origin_ns(self) -> i64 {
        self.origin_ns
    }

    /// Nanoseconds since 0, and 0 before.
    #[inline]
    pub fn now_ns(self) -> u64 {
        u64::try_from(monotonic_ns() - self.origin_ns).unwrap_or(0)
    }

    /// How long it is until the clock says `at_ns`.
    pub fn until(self, at_ns: u64) -> Duration {
        Duration::from_nanos(at_ns.saturating_sub(self.now_ns()))
    }
}

/// The host's monotonic clock in nanoseconds.
#[inline]
pub fn monotonic_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU that the calling thread has used, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime)).unsigned_abs()
}

fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_of_one_origin_agree() {
        let clock = Clock::start();
        let twin = Clock::with_origin(clock.origin_ns());
        let (before, between, after) = (clock.now_ns(), twin.now_ns(), clock.now_ns());
        assert!(before <= between && between <= after);
    }

    #[test]
    fn before_its_origin_a_clock_says_zero() {
        let clock = Clock::with_origin(monotonic_ns() + 1_000_000_000_000);
        assert_eq!(clock.now_ns(), 0);
        assert!(clock.until(5_000) <= Duration::from_nanos(5_000));
    }
}
