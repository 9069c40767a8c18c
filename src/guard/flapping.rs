//! Clients that connect again and again: so many connects in so long, and a client is kept out for a while.
//!
//! One shard's business: a client identifier has one home. What is remembered is bounded by two generations of a table:
//! the present stretch of time and the one before. When the present one is full, clients that are not in it are not
//! followed (and that is counted): whoever is in it stays in it, so that nobody can flood himself out of it.

use crate::engine::Time;
use std::collections::HashMap;
use std::mem;
use std::time::Duration;

/// Clients followed in each stretch of time, and clients kept out, on each shard.
pub const FOLLOWED_MAX: usize = 1 << 16;

/// What counts as flapping, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlappingRule {
    /// More connects than this within the window are too many.
    pub connects: u32,
    /// How long connects count.
    pub window: Duration,
    /// How long the client is kept out.
    pub ban: Duration,
}

/// A shard's memory of who connected how often.
#[derive(Debug)]
pub struct Flapping {
    rule: FlappingRule,
    /// Connects of this stretch, by hash of the client identifier, and of the one before.
    current: HashMap<u64, u32>,
    previous: HashMap<u64, u32>,
    /// Number of the present stretch, each half a window long.
    stretch: u64,
    /// Until when clients are kept out.
    out: HashMap<u64, Time>,
    untracked: u64,
}

fn stretch(rule: FlappingRule, now: Time) -> u64 {
    now.since(Time(0)).as_nanos().checked_div(rule.window.as_nanos() / 2).unwrap_or(0) as u64
}

impl Flapping {
    /// Remembers nothing yet.
    pub fn new(rule: FlappingRule, now: Time) -> Flapping {
        let (current, previous, out) = (HashMap::new(), HashMap::new(), HashMap::new());
        Flapping { rule, current, previous, stretch: stretch(rule, now), out, untracked: 0 }
    }

    /// True while a client is kept out.
    pub fn keeps_out(&self, client: u64, now: Time) -> bool {
        self.out.get(&client).is_some_and(|until| *until > now)
    }

    /// A client connects that is not kept out. True if that is one too many: from now on it is.
    pub fn connects(&mut self, client: u64, now: Time) -> bool {
        self.out.remove(&client);
        self.turn_over(now);
        let before = self.previous.get(&client).copied().unwrap_or(0);
        let room = self.current.len() < FOLLOWED_MAX;
        let count = match self.current.get_mut(&client) {
            Some(count) => count,
            None if room => self.current.entry(client).or_insert(0),
            None => {
                self.untracked += 1;
                return false;
            }
        };
        *count += 1;
        let flaps = u64::from(*count) + u64::from(before) > u64::from(self.rule.connects);
        if flaps {
            self.keep_out(client, now);
        }
        flaps
    }

    fn keep_out(&mut self, client: u64, now: Time) {
        if self.out.len() >= FOLLOWED_MAX {
            self.out.retain(|_, until| *until > now);
        }
        if self.out.len() >= FOLLOWED_MAX {
            self.untracked += 1;
            return;
        }
        self.out.insert(client, now.after(self.rule.ban));
        // When it may come back it begins anew.
        self.current.remove(&client);
        self.previous.remove(&client);
    }

    /// Begins a new stretch: a connect counts for at least half a window, and for less than a whole one.
    fn turn_over(&mut self, now: Time) {
        let stretch = stretch(self.rule, now);
        if stretch == self.stretch {
            return;
        }
        let next = stretch == self.stretch + 1;
        self.previous = if next { mem::take(&mut self.current) } else { HashMap::new() };
        self.current = HashMap::new();
        self.stretch = stretch;
        self.out.retain(|_, until| *until > now);
    }

    /// Connects that nobody followed because too many other clients were.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: FlappingRule =
        FlappingRule { connects: 3, window: Duration::from_secs(10), ban: Duration::from_secs(60) };

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn a_client_that_comes_too_often_is_kept_out_for_a_while_and_then_begins_anew() {
        let mut flapping = Flapping::new(RULE, at(0));
        assert_eq!([0, 10, 20, 30].map(|ms| flapping.connects(7, at(ms))), [false, false, false, true]);
        assert!(flapping.keeps_out(7, at(60_029)) && !flapping.keeps_out(8, at(40)), "others are not meant");
        assert!(!flapping.keeps_out(7, at(60_030)));
        assert_eq!([60_030, 60_031, 60_032].map(|ms| flapping.connects(7, at(ms))), [false; 3]);
    }

    #[test]
    fn a_client_within_the_rule_is_never_kept_out() {
        let mut flapping = Flapping::new(RULE, at(0));
        assert!((0..100).all(|n| !flapping.connects(7, at(n * 3400))));
    }

    #[test]
    fn a_flood_of_names_neither_grows_it_nor_hides_who_was_there_before() {
        let mut flapping = Flapping::new(RULE, at(0));
        flapping.connects(7, at(0));
        for name in 100..100 + 2 * FOLLOWED_MAX as u64 {
            flapping.connects(name, at(1));
        }
        assert_eq!(flapping.current.len(), FOLLOWED_MAX);
        assert!(flapping.untracked() > FOLLOWED_MAX as u64 / 2);
        assert_eq!([2, 3, 4].map(|ms| flapping.connects(7, at(ms))), [false, false, true]);
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let mut flapping = Flapping::new(RULE, at(0));
        for name in 0..1000 {
            assert_eq!([0; 4].map(|ms| flapping.connects(name, at(ms))), [false, false, false, true]);
        }
        assert_eq!(flapping.out.len(), 1000);
        flapping.connects(5000, at(70_000));
        assert_eq!((flapping.out.len(), flapping.current.len(), flapping.previous.len()), (0, 1, 0));
    }
}
