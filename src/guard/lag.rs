//! Overload seen from inside: a shard whose turns take long answers everybody late, and sheds new connections first.

use crate::engine::Time;
use std::time::Duration;

/// For how long nobody new comes in after a turn that took too long.
const SHED_FOR: Duration = Duration::from_secs(1);

/// Watches how long a shard's turns take.
#[derive(Debug)]
pub struct Lag {
    max: Option<Duration>,
    shed_until: Time,
}

impl Lag {
    /// Turns may take so long; `None` for any time.
    pub fn new(max: Option<Duration>) -> Lag {
        Lag { max, shed_until: Time(0) }
    }

    /// A turn ended now and took so long. True if that is when shedding began.
    pub fn turn(&mut self, now: Time, took: Duration) -> bool {
        if self.max.is_none_or(|max| took <= max) {
            return false;
        }
        let began = !self.sheds(now);
        self.shed_until = now.after(SHED_FOR);
        began
    }

    /// True while nobody new is to come in.
    pub fn sheds(&self, now: Time) -> bool {
        now < self.shed_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_took_too_long_sheds_for_a_second() {
        let mut lag = Lag::new(Some(Duration::from_millis(100)));
        let at = |ms: u64| Time(ms * 1_000_000);
        assert!(!lag.turn(at(0), Duration::from_millis(100)));
        assert!(!lag.sheds(at(0)));
        assert!(lag.turn(at(200), Duration::from_millis(101)));
        assert!(!lag.turn(at(700), Duration::from_millis(300)), "it began before");
        assert!(lag.sheds(at(1699)) && !lag.sheds(at(1700)));
        let mut any = Lag::new(None);
        assert!(!any.turn(at(0), Duration::from_secs(9)) && !any.sheds(at(1)));
    }
}
