//! When messages are due: intended times, which do not move when a message can't be sent in time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::Pace;

/// Not by the clock.
pub const NEVER: u64 = u64::MAX;

/// The distance between the messages of one client's publication.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rhythm {
    /// Always the same.
    Even {
        /// In nanoseconds, at least 1.
        interval_ns: u64,
    },
    /// Exponentially distributed: a Poisson process. Those of a group's clients together are one again.
    Poisson {
        /// On average, in nanoseconds.
        mean_ns: f64,
    },
    /// None: one message each time the client comes in.
    Arrival,
    /// None: a message follows when another one is through.
    Closed {
        /// How many are under way.
        outstanding: u32,
    },
}

impl Rhythm {
    /// That of each of a group's `clients`.
    pub fn of(pace: Pace, clients: u32) -> Self {
        let each = |per_second: f64| f64::from(clients) * 1e9 / per_second;
        match pace {
            Pace::Every(interval) => Self::Even { interval_ns: nanoseconds(interval).max(1) },
            Pace::Rate { per_second, poisson: false } => Self::Even { interval_ns: each(per_second).max(1.0) as u64 },
            Pace::Rate { per_second, poisson: true } => Self::Poisson { mean_ns: each(per_second) },
            Pace::Outstanding(outstanding) => Self::Closed { outstanding },
            Pace::Arrival => Self::Arrival,
        }
    }

    /// When the first message of client `index` of `clients` is due: even ones are spread over the interval.
    pub fn first(self, start_ns: u64, index: u32, clients: u32, random: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Even { interval_ns } => {
                let share = u128::from(interval_ns) * u128::from(index) / u128::from(clients.max(1));
                start_ns + share as u64
            }
            Self::Poisson { mean_ns } => start_ns + exponential(mean_ns, random),
            Self::Closed { .. } | Self::Arrival => start_ns,
        }
    }

    /// When the message after one that was due at `previous_ns` is due; [`NEVER`]: when the client has come in again.
    #[inline]
    pub fn after(self, previous_ns: u64, random: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Even { interval_ns } => previous_ns + interval_ns,
            Self::Poisson { mean_ns } => previous_ns + exponential(mean_ns, random),
            Self::Closed { .. } => previous_ns,
            Self::Arrival => NEVER,
        }
    }

    /// When the next message is due after a time in which none was wanted: those in between are not made up for.
    pub fn resume(self, due_ns: u64, now_ns: u64, random: &mut fastrand::Rng) -> u64 {
        if due_ns >= now_ns && self != Self::Arrival {
            return due_ns;
        }
        match self {
            Self::Even { interval_ns } => due_ns + (now_ns - due_ns).div_ceil(interval_ns) * interval_ns,
            // It has no memory.
            Self::Poisson { mean_ns } => now_ns + exponential(mean_ns, random),
            Self::Closed { .. } | Self::Arrival => now_ns,
        }
    }
}

/// A duration in nanoseconds.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn exponential(mean_ns: f64, random: &mut fastrand::Rng) -> u64 {
    // 1 - [0, 1) is never 0.
    (-(1.0 - random.f64()).ln() * mean_ns) as u64
}

/// Publications by when they want to be looked at.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Agenda {
    /// Looks at a publication then.
    #[inline]
    pub fn push(&mut self, at_ns: u64, stream: u32) {
        self.heap.push(Reverse((at_ns, stream)));
    }

    /// One whose time has come.
    #[inline]
    pub fn pop(&mut self, now_ns: u64) -> Option<u32> {
        self.next_ns().filter(|at_ns| *at_ns <= now_ns)?;
        self.heap.pop().map(|Reverse((_, stream))| stream)
    }

    /// When the next one's time comes.
    #[inline]
    pub fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ns, _))| *at_ns)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.heap.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_evenly_over_the_interval() {
        let rhythm = Rhythm::of(Pace::Rate { per_second: 1000.0, poisson: false }, 4);
        assert_eq!(rhythm, Rhythm::Even { interval_ns: 4_000_000 });
        let mut random = fastrand::Rng::with_seed(0);
        let first: Vec<u64> = (0..4).map(|index| rhythm.first(100, index, 4, &mut random)).collect();
        assert_eq!(first, [100, 1_000_100, 2_000_100, 3_000_100]);
        assert_eq!(rhythm.after(100, &mut random), 4_000_100);
    }

    #[test]
    fn times_without_demand_are_left_out_without_losing_the_beat() {
        let rhythm = Rhythm::Even { interval_ns: 10 };
        let mut random = fastrand::Rng::with_seed(0);
        assert_eq!(rhythm.resume(7, 35, &mut random), 37);
        assert_eq!(rhythm.resume(7, 37, &mut random), 37);
        assert_eq!(rhythm.resume(50, 37, &mut random), 50);
    }

    #[test]
    fn poisson_distances_have_the_mean_and_the_spread_of_an_exponential() {
        let rhythm = Rhythm::of(Pace::Rate { per_second: 2000.0, poisson: true }, 2);
        let mut random = fastrand::Rng::with_seed(7);
        let (count, mut at, mut squares) = (100_000, 0, 0.0);
        for _ in 0..count {
            let next = rhythm.after(at, &mut random);
            squares += ((next - at) as f64).powi(2);
            at = next;
        }
        let mean = at as f64 / f64::from(count);
        let deviation = (squares / f64::from(count) - mean * mean).sqrt();
        assert!((mean / 1e6 - 1.0).abs() < 0.02, "{mean}");
        assert!((deviation / mean - 1.0).abs() < 0.02, "{deviation}");
    }

    #[test]
    fn the_agenda_gives_out_what_is_due_and_nothing_else() {
        let mut agenda = Agenda::default();
        [(30, 3), (10, 1), (20, 2)].into_iter().for_each(|(at, stream)| agenda.push(at, stream));
        assert_eq!(agenda.next_ns(), Some(10));
        assert_eq!([agenda.pop(20), agenda.pop(20), agenda.pop(20)], [Some(1), Some(2), None]);
        assert_eq!(agenda.next_ns(), Some(30));
    }
}
