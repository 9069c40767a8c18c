//! TLS handshakes in progress: how many there may be, and who goes when there are too many.
//!
//! A connection costs nothing to open and to leave silent. Were the newcomer turned away, a few hundred of those a second
//! would shut out everybody else until their time is up. So the oldest goes that has sent nothing; else the oldest whose
//! next word is the client's. One that waits for its turn here is never given up: in a storm of clients that mean well, it
//! would be the one that is nearly done.

use std::collections::VecDeque;

use crate::engine::ConnId;

/// How many handshakes are looked at for one whose client owes the next word.
const LOOKED_AT_MAX: usize = 8;

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is over, one way or another.
    Over,
    /// The client has not sent a byte.
    Silent,
    /// The client is to go on with it.
    Begun,
    /// It waits for its turn.
    Waits,
}

/// See the module's description. Whose handshake is over is forgotten in passing.
pub struct Handshakes {
    pub count: usize,
    max: usize,
    /// In the order of their connects.
    silent: VecDeque<ConnId>,
    /// In the order of their first bytes.
    begun: VecDeque<ConnId>,
}

impl Handshakes {
    /// At most `max` in progress.
    pub fn new(max: usize) -> Handshakes {
        Handshakes { count: 0, max, silent: VecDeque::new(), begun: VecDeque::new() }
    }

    /// True when another one would be too many.
    pub fn is_full(&self) -> bool {
        self.count >= self.max
    }

    /// One begins with a connection that has sent nothing.
    pub fn connected(&mut self, conn: ConnId, standing: impl Fn(ConnId) -> Standing) {
        note(&mut self.silent, conn, self.max, |conn| standing(conn) == Standing::Silent);
    }

    /// The first bytes of one have come.
    pub fn spoke(&mut self, conn: ConnId, standing: impl Fn(ConnId) -> Standing) {
        note(&mut self.begun, conn, self.max, |conn| matches!(standing(conn), Standing::Begun | Standing::Waits));
    }

    /// The one to be given up for another. `None`: all of those that were looked at wait for their turn.
    pub fn oldest(&mut self, standing: impl Fn(ConnId) -> Standing) -> Option<ConnId> {
        while let Some(conn) = self.silent.front().copied() {
            if standing(conn) == Standing::Silent {
                return Some(conn);
            }
            self.silent.pop_front();
        }
        let mut looked_at = 0;
        while looked_at < LOOKED_AT_MAX
            && let Some(conn) = self.begun.front().copied()
        {
            match standing(conn) {
                Standing::Begun => return Some(conn),
                // To be looked at again when all others were.
                Standing::Waits => {
                    looked_at += 1;
                    self.begun.rotate_left(1);
                }
                Standing::Over | Standing::Silent => drop(self.begun.pop_front()),
            }
        }
        None
    }
}

/// Adds one; those that do not belong any more go when they are as many as those that may.
fn note(queue: &mut VecDeque<ConnId>, conn: ConnId, max: usize, belongs: impl Fn(ConnId) -> bool) {
    if queue.len() >= max.saturating_mul(2) {
        queue.retain(|conn| belongs(*conn));
    }
    queue.push_back(conn);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    #[test]
    fn the_oldest_silent_one_goes_then_the_oldest_whose_client_owes_a_word_and_nobody_else() {
        let mut handshakes = Handshakes::new(100);
        for slot in 0..40 {
            handshakes.connected(conn(slot), |_| Standing::Silent);
            if slot != 9 {
                handshakes.spoke(conn(slot), |_| Standing::Begun);
            }
        }
        let standing = |over: u32, waits: u32| {
            move |conn: ConnId| match conn.slot {
                slot if slot < over => Standing::Over,
                9 => Standing::Silent,
                slot if slot < waits => Standing::Waits,
                _ => Standing::Begun,
            }
        };
        assert_eq!(handshakes.oldest(standing(0, 0)), Some(conn(9)));
        assert_eq!(handshakes.oldest(standing(10, 15)), Some(conn(15)));
        assert_eq!(handshakes.oldest(standing(20, 100)), None, "all of them wait for their turn");
    }

    #[test]
    fn of_those_that_are_over_no_more_is_kept_than_may_be_in_progress() {
        let mut handshakes = Handshakes::new(10);
        for slot in 0..1000 {
            handshakes
                .connected(conn(slot), |other| if other.slot == slot { Standing::Silent } else { Standing::Over });
            handshakes.spoke(conn(slot), |_| Standing::Over);
            assert!(handshakes.silent.len() <= 20 && handshakes.begun.len() <= 20);
        }
    }
}
