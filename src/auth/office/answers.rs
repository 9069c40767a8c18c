//! Answers on their way to a shard.
//!
//! The threads that answer stand back for shards, so one may lose its CPU at any instruction, for as long as shards are busy.
//! A channel's receiver would spin then, until that thread has put in what it had begun to: here the shard takes what
//! is there, or goes on if somebody is just putting something in. Nothing is forgotten by that: it is woken behind each answer.

use std::collections::VecDeque;
use std::mem::swap;
use std::sync::{Mutex, PoisonError, TryLockError};

use crate::auth::Verdict;
use crate::auth::chain::Queue;
use crate::engine::ConnId;

/// What is said of a connection; an error names the queue that had no room.
pub(super) type Answer = (ConnId, Result<Verdict, Queue>);

/// See the module's description. A desk has no more answers than it asked questions, and those are bounded.
#[derive(Default)]
pub(super) struct Answers(Mutex<VecDeque<Answer>>);

impl Answers {
    /// Puts an answer in; the shard is to be woken behind this.
    pub(super) fn put(&self, answer: Answer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
    }

    /// Takes all answers that are there into an empty queue: none while another thread is at them.
    pub(super) fn take(&self, empty: &mut VecDeque<Answer>) {
        debug_assert!(empty.is_empty(), "their order would be lost");
        match self.0.try_lock() {
            Ok(mut answers) => swap(&mut *answers, empty),
            Err(TryLockError::Poisoned(poisoned)) => swap(&mut *poisoned.into_inner(), empty),
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ReasonCode;

    fn answer(slot: u32) -> Answer {
        (ConnId { slot, generation: 0 }, Ok(Verdict::Deny(ReasonCode::NotAuthorized)))
    }

    #[test]
    fn a_shard_takes_answers_in_their_order_and_does_not_wait_for_one_that_is_being_put_in() {
        let (answers, mut taken) = (Answers::default(), VecDeque::new());
        answers.put(answer(1));
        answers.put(answer(2));
        let interrupted = answers.0.lock().unwrap();
        answers.take(&mut taken);
        assert!(taken.is_empty());
        drop(interrupted);
        answers.take(&mut taken);
        assert_eq!(taken.iter().map(|(conn, _)| conn.slot).collect::<Vec<_>>(), [1, 2]);
    }
}
