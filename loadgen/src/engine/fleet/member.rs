//! What a member of shared subscriptions remembers: which they are, and how far each publisher was when it was last heard.
//!
//! The members of a shared subscription have one ledger between them, which sees every message once but not in order, as
//! one member may be quicker than another. Each of them for itself is owed order, though with gaps `[MQTT-4.6.0-6]`.

use std::iter;

/// How many flows a member remembers at most, 8 KiB. With more than that some take each other's place, and a fault between
/// two messages of one flow is seen only if no other of its place came between them.
const FLOWS_MAX: usize = 1024;
/// Nobody's number.
const NONE: u32 = u32::MAX;

/// A member.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its shared subscriptions.
    pub shares: Vec<u32>,
    /// Entry and the sequence number that was last delivered, by the low bits of the entry's number.
    last: Box<[(u32, u32)]>,
}

impl Member {
    /// It has one more share, of so many flows.
    pub fn join(&mut self, share: u32, flows: usize, remembers: bool) {
        self.shares.push(share);
        let room = (self.last.len() + flows).next_power_of_two().min(FLOWS_MAX);
        if remembers {
            self.last = iter::repeat_n((NONE, 0), room).collect();
        }
    }

    /// A message of an entry is delivered to it; false when a later one was before.
    pub fn hears(&mut self, entry: u32, sequence: u32) -> bool {
        let Some(mask) = self.last.len().checked_sub(1) else { return true };
        let last = &mut self.last[entry as usize & mask];
        if last.0 == entry && sequence < last.1 {
            return false;
        }
        *last = (entry, sequence);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_no_fault_and_going_back_is() {
        let mut member = Member::default();
        member.join(0, 3, true);
        let heard =
            [(7, 0), (8, 5), (7, 4), (7, 3), (8, 6), (7, 9)].map(|(entry, sequence)| member.hears(entry, sequence));
        assert_eq!(heard, [true, true, true, false, true, true]);
    }

    #[test]
    fn what_is_not_to_be_checked_is_not_remembered() {
        let mut member = Member::default();
        member.join(0, 3, false);
        assert!(member.hears(7, 5) && member.hears(7, 4));
    }
}
