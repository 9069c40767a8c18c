//! What a subscriber received of each publisher it follows: in order, late, twice, or not at all.

use std::collections::HashSet;

use serde::Serialize;

/// What went wrong with messages, over a whole run (warm-up and drain included).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries of a message that had been delivered to that subscriber before.
    pub duplicated: u64,
    /// Deliveries after a later message of the same publisher.
    pub reordered: u64,
    /// Deliveries with a payload that nobody sent.
    pub corrupted: u64,
    /// Acknowledgements with a packet identifier that was not the oldest unacknowledged one [MQTT-4.6.0-2].
    pub misacknowledged: u64,
}

impl Faults {
    /// True when every message did what it should.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One subscriber's account of a range of publishers.
#[derive(Debug, Default)]
pub struct Ledger {
    first: u32,
    next: Vec<u32>,
    missing: HashSet<(u32, u32)>,
}

impl Ledger {
    /// An account of the publishers `first..first + count`.
    pub fn of(first: u32, count: usize) -> Self {
        Self { first, next: vec![0; count], missing: HashSet::new() }
    }

    /// Enters a delivery, of `sent` messages that the publisher sent so far. True when the message is new here.
    pub fn enter(&mut self, publisher: u32, sequence: u32, sent: u32, faults: &mut Faults) -> bool {
        let index = publisher.wrapping_sub(self.first) as usize;
        let Some(next) = self.next.get_mut(index).filter(|_| sequence < sent) else {
            faults.corrupted += 1;
            return false;
        };
        if sequence >= *next {
            self.missing.extend((*next..sequence).map(|skipped| (publisher, skipped)));
            *next = sequence + 1;
            return true;
        }
        let late = self.missing.remove(&(publisher, sequence));
        faults.reordered += u64::from(late);
        faults.duplicated += u64::from(!late);
        late
    }

    /// How many messages never came, given how many each publisher sent.
    pub fn lost(&self, sent: impl Fn(u32) -> u32) -> u64 {
        let unseen = (self.first..).zip(&self.next).map(|(publisher, next)| u64::from(sent(publisher) - next));
        unseen.sum::<u64>() + self.missing.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter_all(sequences: &[u32]) -> (Ledger, Faults, usize) {
        let (mut ledger, mut faults) = (Ledger::of(3, 1), Faults::default());
        let new = sequences.iter().filter(|&&sequence| ledger.enter(3, sequence, 10, &mut faults)).count();
        (ledger, faults, new)
    }

    #[test]
    fn order_is_no_fault() {
        let (ledger, faults, new) = enter_all(&[0, 1, 2]);
        assert!(faults.is_empty());
        assert_eq!((new, ledger.lost(|_| 3)), (3, 0));
    }

    #[test]
    fn a_late_message_is_reordered_and_not_lost() {
        let (ledger, faults, new) = enter_all(&[0, 2, 1]);
        assert_eq!(faults, Faults { reordered: 1, ..Faults::default() });
        assert_eq!((new, ledger.lost(|_| 3)), (3, 0));
    }

    #[test]
    fn a_second_delivery_is_a_duplicate() {
        let (_, faults, new) = enter_all(&[0, 1, 1, 0]);
        assert_eq!(faults, Faults { duplicated: 2, ..Faults::default() });
        assert_eq!(new, 2);
    }

    #[test]
    fn gaps_and_what_never_came_at_the_end_are_lost() {
        let (ledger, faults, _) = enter_all(&[0, 3]);
        assert!(faults.is_empty());
        assert_eq!(ledger.lost(|_| 6), 4);
    }

    #[test]
    fn a_sequence_that_was_never_sent_or_a_strange_publisher_is_corruption() {
        let (mut ledger, mut faults, _) = enter_all(&[10]);
        assert!(!ledger.enter(4, 0, 10, &mut faults));
        assert!(!ledger.enter(2, 0, 10, &mut faults));
        assert_eq!(faults.corrupted, 3);
    }
}
