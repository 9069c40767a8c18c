//! Slow readers: found as they fall behind, listed for whoever asks, told once to the log.
//!
//! Each shard keeps its own and shows the worst of them to the others once a second, while there are any; shard 0 puts
//! the worst of all among the `$SYS` topics.

use super::Core;
use super::session::NO_SLOT;
use super::timers::Timer;
use crate::guard::complaints::brief;
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

/// How often slow readers are looked at, while there are any.
const SLOW_LOOK: Duration = Duration::from_secs(1);

/// How many are listed.
pub const SLOW_LISTED: usize = 10;

/// A slow reader, for whoever reads the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowClient {
    /// Client identifier.
    pub client_id: Box<str>,
    /// Bytes that wait for it, in its connection's output and in its queue.
    pub bytes: u64,
    /// How long it has been behind.
    pub waiting: Duration,
}

impl Core {
    /// So much waits for a connection that it is not written to, or its queue is half full.
    #[cold]
    pub(super) fn guard_slow(&mut self, slot: u32) {
        // A rate of ours is no fault of the client's.
        if self.wire.conns[slot].is_muted() {
            return;
        }
        let is_new = self.guarding.slow.enter(slot, self.wire.now);
        self.counters.slow_untracked.set(self.guarding.slow.untracked());
        if !is_new {
            return;
        }
        self.counters.slow_readers.set(self.guarding.slow.len() as u64);
        if !std::mem::replace(&mut self.guarding.slow_timer, true) {
            self.wheel.insert(self.wire.now.after(SLOW_LOOK), Timer::slow());
        }
    }

    /// Something was queued for a session: its client is behind if the queue is half full.
    pub(super) fn guard_queued(&mut self, slot: u32) {
        let conn = self.sessions[slot].conn;
        if conn != NO_SLOT && self.is_half_full(slot) {
            self.guard_slow(conn);
        }
    }

    fn is_half_full(&self, session: u32) -> bool {
        let session = &self.sessions[session];
        let Some(queue) = &session.queue else { return false };
        let own = self.limits_of(session.class);
        queue.bytes > own.queue_bytes_max / 2 || queue.deliveries.len() > own.queue_messages_max as usize / 2
    }

    /// A connection's output was taken, or it ended.
    #[cold]
    pub(super) fn guard_caught_up(&mut self, slot: u32, gone: bool) {
        if self.guarding.slow.is_empty() {
            return;
        }
        let conn = &self.wire.conns[slot];
        let is_behind = conn.unsent >= self.limits.output_bytes_max / 2
            || self.sessions.get(conn.session).is_some() && self.is_half_full(conn.session);
        if is_behind && !gone {
            return;
        }
        if let Some(waited) = self.guarding.slow.leave(slot, self.wire.now) {
            let client_id = brief(self.client_id_of(slot));
            info!(shard = self.shard, client_id, ?waited, gone, "a slow reader has caught up, or is gone");
        }
        self.counters.slow_readers.set(self.guarding.slow.len() as u64);
        if self.guarding.slow.is_empty() {
            self.show_slow();
        }
    }

    /// Tells of those who have been slow for long, and shows the worst.
    pub(super) fn tell_slow(&mut self) {
        let now = self.wire.now;
        for (slot, waiting) in self.guarding.slow.tell(now, self.guarding.slow_after) {
            let (client_id, bytes) = (brief(self.client_id_of(slot)), self.bytes_waiting(slot));
            info!(shard = self.shard, client_id, bytes, ?waiting, "a client reads too slowly");
        }
        self.show_slow();
        self.guarding.slow_timer = !self.guarding.slow.is_empty();
        if self.guarding.slow_timer {
            self.wheel.insert(now.after(SLOW_LOOK), Timer::slow());
        }
    }

    fn show_slow(&self) {
        let list = &self.shared.slow[usize::from(self.shard)];
        if !self.guarding.slow.is_empty() || !list.load().is_empty() {
            list.store(Arc::new(self.slow_readers(SLOW_LISTED)));
        }
    }

    fn client_id_of(&self, slot: u32) -> &str {
        self.sessions.get(self.wire.conns[slot].session).map_or("", |session| &session.client_id)
    }

    fn bytes_waiting(&self, slot: u32) -> usize {
        let conn = &self.wire.conns[slot];
        let queue = self.sessions.get(conn.session).and_then(|session| session.queue.as_ref());
        conn.unsent + queue.map_or(0, |queue| queue.bytes)
    }

    /// The slowest readers of this shard, those for whom most waits first.
    pub fn slow_readers(&self, most: usize) -> Vec<SlowClient> {
        let worst = self.guarding.slow.worst(most, self.wire.now, |slot| self.bytes_waiting(slot));
        let client = |slow: crate::guard::slow::SlowReader| SlowClient {
            client_id: self.client_id_of(slow.slot).into(),
            bytes: slow.bytes as u64,
            waiting: slow.waiting,
        };
        worst.into_iter().map(client).collect()
    }

    /// The slowest readers of all shards, as each showed them last.
    pub(super) fn slowest_of_all(&self) -> Vec<SlowClient> {
        let mut all: Vec<SlowClient> = self.shared.slow.iter().flat_map(|list| list.load().to_vec()).collect();
        all.sort_by(|a, b| (Reverse(a.bytes), &a.client_id).cmp(&(Reverse(b.bytes), &b.client_id)));
        all.truncate(SLOW_LISTED);
        all
    }
}
