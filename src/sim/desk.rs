//! An authenticator that answers when, and as, whoever holds its other end says: at once, late, never.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::{Authenticator, Busy, Question, Verdict};
use crate::engine::ConnId;

/// The other end of the authenticators of all shards.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Questions that nobody has looked at.
    asked: VecDeque<Asked>,
    /// Answers that were not fetched, by shard.
    answers: Vec<VecDeque<(ConnId, Verdict)>>,
    /// Connections that the shards have forgotten.
    forgotten: Vec<(usize, ConnId)>,
    /// No question is taken.
    busy: bool,
}

/// A question.
#[derive(Debug)]
pub struct Asked {
    /// The shard that asks.
    pub shard: usize,
    /// About this connection.
    pub conn: ConnId,
    /// What it asks.
    pub question: Question,
}

/// One shard's end.
struct End {
    shard: usize,
    desk: Desk,
}

impl Desk {
    /// Without questions.
    pub fn new() -> Desk {
        Desk::default()
    }

    /// The authenticator of a shard.
    pub fn authenticator(&self, shard: usize) -> Box<dyn Authenticator> {
        let mut state = self.state();
        if state.answers.len() <= shard {
            state.answers.resize_with(shard + 1, VecDeque::new);
        }
        Box::new(End { shard, desk: self.clone() })
    }

    /// The oldest question that nobody has looked at.
    pub fn next(&self) -> Option<Asked> {
        self.state().asked.pop_front()
    }

    /// Answers a question; the shard has to be woken for it.
    pub fn answer(&self, shard: usize, conn: ConnId, verdict: Verdict) {
        self.state().answers[shard].push_back((conn, verdict));
    }

    /// From now on no question is taken, or they are again.
    pub fn set_busy(&self, busy: bool) {
        self.state().busy = busy;
    }

    /// Whether the shard has said that it does not ask about this connection any more.
    pub fn is_forgotten(&self, shard: usize, conn: ConnId) -> bool {
        self.state().forgotten.contains(&(shard, conn))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authenticator for End {
    fn ask(&mut self, conn: ConnId, question: Question) -> Result<(), Busy> {
        let mut state = self.desk.state();
        if state.busy {
            return Err(Busy);
        }
        state.asked.push_back(Asked { shard: self.shard, conn, question });
        Ok(())
    }

    fn poll(&mut self) -> Option<(ConnId, Verdict)> {
        self.desk.state().answers[self.shard].pop_front()
    }

    fn forget(&mut self, conn: ConnId) {
        self.desk.state().forgotten.push((self.shard, conn));
    }
}
