//! A subscriber misses no retained message that is on its way between two shards.
//!
//! A publisher's shard looks up who is interested, and sends the message to the shard that retains it. A new
//! subscription may be too late for the first and its replay too early for the second. So each shard counts the
//! retained messages that it sends to each other one *before* it looks up the interest; a replay waits until
//! all have arrived that were counted when it was asked for, which is after the interest was published. In the single
//! order of both fences either the publisher sees the interest, or the replay sees the count.

use super::Core;
use super::note::{Note, ReplayId};
use crate::index::ScanCursor;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// How many retained messages each shard has sent to each other one, those on their way included.
pub struct Departures {
    shards: usize,
    /// By sender, then by receiver; a row has one writer.
    sent: Box<[AtomicU64]>,
}

impl Departures {
    /// None yet.
    pub fn new(shards: u16) -> Departures {
        let shards = usize::from(shards);
        Departures { shards, sent: (0..shards * shards).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts a message, to be called by its sender before it looks up who is interested.
    fn count(&self, from: u16, to: u16) {
        let sent = self.between(from, to);
        sent.store(sent.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn between(&self, from: u16, to: u16) -> &AtomicU64 {
        &self.sent[usize::from(from) * self.shards + usize::from(to)]
    }
}

/// The receiving side: what has arrived, and who waits for what has not.
pub struct Arrivals {
    /// By sender.
    taken: Box<[u64]>,
    held: Vec<Ask>,
}

/// A replay that begins on this shard.
struct Ask {
    /// The shard of its session.
    from: u16,
    replay: ReplayId,
    filter: Box<str>,
    /// Senders, and how many of their messages have to be here first.
    behind: SmallVec<[(u16, u64); 2]>,
}

impl Arrivals {
    /// None yet.
    pub fn new(shards: u16) -> Arrivals {
        Arrivals { taken: vec![0; usize::from(shards)].into(), held: Vec::new() }
    }
}

impl Core {
    /// A retained message sets out for the shard that keeps it.
    pub(super) fn departs(&self, to: u16) {
        self.shared.departures.count(self.shard, to);
    }

    /// A retained message of another shard is here. Lets go the replays that waited for it.
    pub(super) fn arrived(&mut self, from: u16) {
        let taken = &mut self.arrivals.taken[usize::from(from)];
        *taken += 1;
        if self.arrivals.held.is_empty() {
            return;
        }
        let taken = *taken;
        for ask in &mut self.arrivals.held {
            ask.behind.retain(|&mut (sender, number)| sender != from || number > taken);
        }
        let ready: Vec<Ask> = self.arrivals.held.extract_if(.., |ask| ask.behind.is_empty()).collect();
        for ask in ready {
            self.answer_ask(ask.from, ask.replay, &ask.filter, ScanCursor::default());
        }
    }

    /// A replay asks for retained messages of this shard. True when its first batch has to wait for what is on its
    /// way here: then it is answered when that has arrived.
    pub(super) fn holds_back(&mut self, from: u16, replay: ReplayId, filter: &str, cursor: &ScanCursor) -> bool {
        if !cursor.is_start() {
            return false;
        }
        let behind = self.on_their_way();
        if behind.is_empty() {
            return false;
        }
        self.arrivals.held.push(Ask { from, replay, filter: filter.into(), behind });
        true
    }

    fn on_their_way(&self) -> SmallVec<[(u16, u64); 2]> {
        fence(Ordering::SeqCst);
        let sent = |from: u16| self.shared.departures.between(from, self.shard).load(Ordering::Relaxed);
        let all = (0..self.shards).map(|from| (from, sent(from)));
        all.filter(|&(from, sent)| self.arrivals.taken[usize::from(from)] < sent).collect()
    }

    /// Sends a replay its next batch.
    pub(super) fn answer_ask(&mut self, from: u16, replay: ReplayId, filter: &str, cursor: ScanCursor) {
        let (messages, more) = self.scan_retained(filter, cursor);
        if from == self.shard {
            self.take_retained(replay, messages, more);
        } else {
            self.note(from, Note::Retained { replay, messages, more });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_of_shards_is_counted_apart() {
        let departures = Departures::new(3);
        departures.count(0, 1);
        departures.count(0, 1);
        departures.count(2, 0);
        let all =
            [(0, 1), (1, 0), (2, 0), (0, 2)].map(|(from, to)| departures.between(from, to).load(Ordering::Relaxed));
        assert_eq!(all, [2, 0, 1, 0]);
    }
}
