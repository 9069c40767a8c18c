//! Clients that read more slowly than they are sent to: who they are, since when, and how much waits for them.
//!
//! A connection is entered when something could not be written to it because too much waits already, and leaves when its
//! output has been taken or it ends. So nothing is spent on connections that keep up. What a slow one costs the others
//! is its memory alone, which is bounded; this is for telling its operator.

use crate::engine::Time;
use std::collections::HashMap;
use std::time::Duration;

/// The most that are followed on a shard; the rest is counted.
pub const FOLLOWED_MAX: usize = 4096;

/// A shard's slow readers, by slot of the connection.
#[derive(Debug, Default)]
pub struct SlowReaders {
    since: HashMap<u32, Entry>,
    untracked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    since: Time,
    told: bool,
}

/// One of them, for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowReader {
    /// Slot of its connection.
    pub slot: u32,
    /// How long it has been slow.
    pub waiting: Duration,
    /// How many bytes wait for it.
    pub bytes: usize,
}

impl SlowReaders {
    /// Something could not be written to this connection. True if that is new.
    pub fn enter(&mut self, slot: u32, now: Time) -> bool {
        if self.since.contains_key(&slot) {
            return false;
        }
        if self.since.len() >= FOLLOWED_MAX {
            self.untracked += 1;
            return false;
        }
        self.since.insert(slot, Entry { since: now, told: false });
        true
    }

    /// It has caught up, or is gone. `Some` if it had been told of: how long it was slow.
    pub fn leave(&mut self, slot: u32, now: Time) -> Option<Duration> {
        let entry = self.since.remove(&slot)?;
        entry.told.then(|| now.since(entry.since))
    }

    /// Those that have been slow for so long and were not told of yet: each once, with its time.
    pub fn tell(&mut self, now: Time, patience: Duration) -> Vec<(u32, Duration)> {
        let due = self.since.iter_mut().filter(|(_, entry)| !entry.told && now.since(entry.since) >= patience);
        let mut told: Vec<(u32, Duration)> = due
            .map(|(slot, entry)| {
                entry.told = true;
                (*slot, now.since(entry.since))
            })
            .collect();
        told.sort_unstable();
        told
    }

    /// The slowest, by how much waits for them; `bytes` tells that of a slot.
    pub fn worst(&self, most: usize, now: Time, bytes: impl Fn(u32) -> usize) -> Vec<SlowReader> {
        let mut all: Vec<SlowReader> = self
            .since
            .iter()
            .map(|(&slot, entry)| SlowReader { slot, waiting: now.since(entry.since), bytes: bytes(slot) })
            .collect();
        all.sort_unstable_by_key(|slow| (std::cmp::Reverse(slow.bytes), slow.slot));
        all.truncate(most);
        all
    }

    /// How many there are now.
    pub fn len(&self) -> usize {
        self.since.len()
    }

    /// True if everybody keeps up.
    pub fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// How often a slow one was not followed for want of room.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn a_slow_reader_is_told_of_once_and_again_when_it_has_caught_up() {
        let (mut slow, patience) = (SlowReaders::default(), Duration::from_secs(10));
        assert!(slow.enter(7, at(0)) && !slow.enter(7, at(5)));
        slow.enter(8, at(4));
        assert!(slow.tell(at(9), patience).is_empty());
        assert_eq!(slow.tell(at(10), patience), [(7, patience)]);
        assert!(slow.tell(at(11), patience).is_empty());
        assert_eq!(slow.leave(8, at(12)), None, "nobody had heard of it");
        assert_eq!(slow.leave(7, at(12)), Some(Duration::from_secs(12)));
        assert!(slow.is_empty());
    }

    #[test]
    fn the_list_begins_with_those_for_whom_most_waits() {
        let mut slow = SlowReaders::default();
        [1, 2, 3].into_iter().for_each(|slot| assert!(slow.enter(slot, at(slot.into()))));
        let worst = slow.worst(2, at(5), |slot| [0, 10, 30, 20][slot as usize]);
        let line = |slot, seconds, bytes| SlowReader { slot, waiting: Duration::from_secs(seconds), bytes };
        assert_eq!(worst, [line(2, 3, 30), line(3, 2, 20)]);
    }

    #[test]
    fn more_than_can_be_followed_are_counted() {
        let mut slow = SlowReaders::default();
        (0..FOLLOWED_MAX as u32 + 5)
            .for_each(|slot| assert_eq!(slow.enter(slot, at(0)), (slot as usize) < FOLLOWED_MAX));
        assert_eq!((slow.len(), slow.untracked()), (FOLLOWED_MAX, 5));
    }
}
