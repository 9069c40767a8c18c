//! Retained messages: kept on the shard that their topic hashes to, replayed to new subscriptions.
//!
//! A replay is paced by its receiver. It asks for a batch only when the last one has been sent, goes on behind
//! the last topic it got, and never takes room in the session's queue.

use super::Core;
use super::message::{Message, NEVER};
use super::note::{Note, ReplayId, Ticket};
use super::route::{Routed, granted};
use super::session::{Outcome, Replay, Replays, Session};
use super::source::{Kept, Origin, Source};
use super::timers::Timer;
use super::wire::{Fan, How};
use crate::codec::QoS;
use crate::guard::budget::Pressure;
use crate::index::{ScanCursor, ScanEnd};
use crate::slab::Key;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How many retained topics are looked at for one batch of a replay.
const BATCH_TOPICS: usize = 64;

/// How often a part of the retained messages is searched for expired ones.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Which of a shard's retained messages may expire.
#[derive(Debug, Default)]
pub struct Expiring {
    /// How many have a message expiry interval.
    messages: u64,
    /// Where the next sweep begins.
    place: u32,
    /// A sweep is due.
    scheduled: bool,
}

/// How many batches of its own messages a shard looks for before it does something else.
const SCANS_MAX: usize = 16;

/// Behind how many topics delivered live during a replay it stops telling old from new.
const LIVE_TOPICS_MAX: usize = 4096;

impl Core {
    /// Has a message retained on the shard of its topic [MQTT-3.3.1-5].
    pub(super) fn route_retained(
        &mut self,
        fan: &mut Fan<'_>,
        publisher: u32,
        ticket: Option<Ticket>,
        routed: &mut Routed,
    ) {
        let home = self.retained_home(fan.publication.head().topic_hash);
        let message = fan.message().clone();
        let source = self.source_of(publisher);
        if home == self.shard {
            routed.outcome = routed.outcome.and(self.retain(message, source));
        } else {
            self.departs(home);
            self.note(home, Note::Retain { message, source, ticket });
            routed.waits += u32::from(ticket.is_some());
        }
    }

    fn retained_home(&self, topic_hash: u64) -> u16 {
        // Other bits than those that choose a client's home or a partition of the interest table.
        ((topic_hash >> 32) % u64::from(self.shards)) as u16
    }

    /// Keeps a message as the retained one of its topic; an empty payload clears it [MQTT-3.3.1-6].
    pub(super) fn retain(&mut self, message: Message, source: Option<Arc<Source>>) -> Outcome {
        if message.payload().is_empty() {
            self.forget_retained(message.topic());
            return Outcome::default();
        }
        let behind = source.as_ref().map_or(0, |source| source.size());
        if !self.retained_has_room(&message, behind) {
            self.counters.retained_refused.add(1);
            return Outcome { matched: false, refused: true };
        }
        let old_behind = self.sources.size(message.head().topic_hash);
        self.sources.set(message.head().topic_hash, source);
        let old = self.retained.set(message.topic(), message.clone());
        self.count_retained(old.as_ref().map(|old| (old, old_behind)), Some((&message, behind)));
        Outcome::default()
    }

    fn forget_retained(&mut self, topic: &str) {
        if let Some(old) = self.retained.remove(topic) {
            self.forget_source(&old);
        }
    }

    /// A message was taken out of the store.
    fn forget_source(&mut self, old: &Message) {
        let behind = self.sources.set(old.head().topic_hash, None).map_or(0, |source| source.size());
        self.count_retained(Some((old, behind)), None);
    }

    /// `behind`: what its source counts for.
    fn retained_has_room(&self, message: &Message, behind: usize) -> bool {
        if message.topic().starts_with("$SYS/") {
            return true; // as many as there are figures
        }
        let old = self.retained.get(message.topic());
        // QoS 1 and 2 do not get here then; what is published at QoS 0 is retained all the same otherwise.
        let grows = old.is_none_or(|old| message.size() > old.size());
        if grows && self.guarding.pressure == Pressure::RefuseQos {
            return false;
        }
        let messages = self.shared.retained.load(Relaxed) + u64::from(old.is_none());
        let old_bytes = old.map_or(0, |old| old.size() + self.sources.size(old.head().topic_hash));
        let bytes = self.shared.retained_bytes.load(Relaxed) + (message.size() + behind) as u64 - old_bytes as u64;
        messages <= self.limits.retained_messages_max && bytes <= self.limits.retained_bytes_max
    }

    /// Each message with what its source counts for.
    fn count_retained(&mut self, old: Option<(&Message, usize)>, new: Option<(&Message, usize)>) {
        let expires =
            |message: Option<(&Message, usize)>| message.is_some_and(|(message, _)| message.head().expires != NEVER);
        self.expiring.messages -= u64::from(expires(old));
        self.expiring.messages += u64::from(expires(new));
        self.schedule_sweep();
        let bytes = |(message, behind): (&Message, usize)| (message.size() + behind) as u64;
        if let Some(old) = old.map(bytes) {
            self.counters.retained_messages.sub(1);
            self.counters.retained_bytes.sub(old);
            self.shared.retained.fetch_sub(1, Relaxed);
            self.shared.retained_bytes.fetch_sub(old, Relaxed);
        }
        if let Some(new) = new.map(bytes) {
            self.counters.retained_messages.add(1);
            self.counters.retained_bytes.add(new);
            self.shared.retained.fetch_add(1, Relaxed);
            self.shared.retained_bytes.fetch_add(new, Relaxed);
        }
    }

    /// What expires is looked for as long as there is something that can.
    fn schedule_sweep(&mut self) {
        if self.expiring.messages > 0 && !self.expiring.scheduled {
            self.expiring.scheduled = true;
            self.wheel.insert(self.wire.now.after(SWEEP_INTERVAL), Timer::retained());
        }
    }

    /// Removes what has expired from a part of the store: it may be nobody ever asks for it, and it takes the room
    /// of others.
    pub(super) fn sweep_retained(&mut self) {
        let now = self.wire.now;
        let budget = (self.retained.places() / 64).clamp(1024, 16_384);
        let gone = self.retained.sweep(&mut self.expiring.place, budget, |message| message.is_expired(now));
        self.expiring.scheduled = false;
        for message in &gone {
            self.counters.retained_expired.add(1);
            self.forget_source(message);
        }
        self.schedule_sweep();
    }

    /// The replay for a new subscription: every shard may hold matching topics, one if the filter is a topic.
    pub(super) fn new_replay(&self, filter: &str, qos: QoS, identifier: u32) -> Replay {
        let exact = memchr::memchr2(b'+', b'#', filter.as_bytes()).is_none();
        let home = self.retained_home(crate::index::topic_hash(&self.shared.seed, filter));
        Replay {
            filter: filter.into(),
            qos,
            identifier,
            shard: if exact { home } else { 0 },
            shard_end: if exact { home + 1 } else { self.shards },
            cursor: ScanCursor::default(),
            batch: VecDeque::new(),
        }
    }

    pub(super) fn start_replays(&mut self, slot: u32, replays: Vec<Replay>) {
        if replays.is_empty() {
            return;
        }
        let session = &mut self.sessions[slot];
        let present = session.replays.get_or_insert_default();
        present.waiting.extend(replays);
        if present.waiting.len() > 2 * session.filters.len() {
            present.drop_repeated();
        }
        self.replay(slot);
    }

    /// The subscription is gone: what it would still be sent is not wanted any more.
    pub(super) fn stop_replay(&mut self, slot: u32, filter: &str) {
        let Some(replays) = &mut self.sessions[slot].replays else { return };
        let first_goes = replays.waiting.front().is_some_and(|replay| *replay.filter == *filter);
        replays.waiting.retain(|replay| *replay.filter != *filter);
        let session = &mut self.sessions[slot];
        if !session.is_connected() {
            return session.pause_replays(); // nobody asks
        }
        let Some(replays) = session.replays.as_mut().filter(|_| first_goes) else {
            return; // only the first one asks, and it goes on with what it asked for
        };
        replays.awaited = 0; // a batch that is on its way belongs to nobody now
        self.replay(slot);
    }

    /// Goes on with a session's replays as far as its window and its connection allow.
    pub(super) fn replay(&mut self, slot: u32) {
        let mut scans = 0;
        loop {
            let session = &mut self.sessions[slot];
            let Some(replays) = &mut session.replays else { return };
            let Some(replay) = replays.waiting.front_mut() else {
                // With a SUBACK held back there may be more to come, and what is live is remembered for it.
                if self.wire.conns[session.conn].subacks_held == 0 {
                    session.replays = None;
                }
                return;
            };
            if let Some(kept) = replay.batch.front() {
                let qos = granted(kept.message.head().qos, replay.qos);
                let session = &self.sessions[slot];
                if (qos != QoS::AtMostOnce && !session.has_window()) || !self.wire.has_room(session.conn) {
                    return;
                }
                self.replay_next(slot);
            } else if replays.awaited != 0 {
                return;
            } else if replay.shard >= replay.shard_end {
                replays.waiting.pop_front();
            } else if replays.scans_later {
                return;
            } else if scans == SCANS_MAX && replay.shard == self.shard {
                // A filter may match little of very much.
                replays.scans_later = true;
                self.scans.push_back(self.session_key(slot));
                return;
            } else {
                scans += 1;
                self.ask_retained(slot);
            }
        }
    }

    /// Goes on with the replay that has waited longest for its turn to search this shard.
    pub(super) fn scan_on(&mut self) {
        let Some(key) = self.scans.pop_front() else { return };
        let Some(session) = self.sessions.get_key_mut(key) else { return };
        let Some(replays) = &mut session.replays else { return };
        replays.scans_later = false;
        if session.is_connected() {
            self.replay(key.slot);
        }
    }

    /// Sends the next message of the batch.
    fn replay_next(&mut self, slot: u32) {
        let round = self.next_round();
        let Some(replays) = &mut self.sessions[slot].replays else { return };
        let Some(replay) = replays.waiting.front_mut() else { return };
        let Some(kept) = replay.batch.pop_front() else { return };
        let message = &kept.message;
        if message.is_expired(self.wire.now) || replays.live.contains(&message.head().topic_hash) {
            return; // what was delivered live meanwhile is newer
        }
        if self.rules.in_force() && !self.may_have(slot, message.topic(), message.head().topic_hash) {
            return self.withhold();
        }
        if !self.is_still_published(&kept) {
            return;
        }
        let Some(replays) = &self.sessions[slot].replays else { return };
        let Some(replay) = replays.waiting.front() else { return };
        let identifiers = [replay.identifier];
        let how = How {
            qos: granted(message.head().qos, replay.qos),
            retain: true, // [MQTT-3.3.1-8]
            dup: false,
            packet_id: 0,
            subscription_identifiers: if replay.identifier == 0 { &[] } else { &identifiers },
        };
        self.counters.matched.add(1);
        let publication = message.publication();
        let mut fan = Fan::of(message, &publication, round);
        self.deliver_replayed(&mut fan, slot, how);
    }

    fn ask_retained(&mut self, slot: u32) {
        let generation = self.session_key(slot).generation;
        self.asked = self.asked.wrapping_add(1).max(1);
        let Some(replays) = &mut self.sessions[slot].replays else { return };
        let Some(replay) = replays.waiting.front_mut() else { return };
        replays.awaited = self.asked;
        let id = ReplayId { session: slot, generation, number: self.asked };
        let (shard, filter, cursor) = (replay.shard, replay.filter.clone(), replay.cursor.clone());
        if shard == self.shard {
            if !self.holds_back(shard, id, &filter, &cursor) {
                let (messages, more) = self.scan_retained(&filter, cursor);
                self.take_batch(id, messages, more);
            }
        } else {
            self.note(shard, Note::AskRetained { replay: id, filter, cursor });
        }
    }

    /// Finds the next retained messages of this shard that match a filter, and where to go on.
    pub(super) fn scan_retained(&mut self, filter: &str, mut cursor: ScanCursor) -> (Vec<Kept>, Option<ScanCursor>) {
        let mut found = Vec::new();
        let end = self.retained.scan(filter, &mut cursor, BATCH_TOPICS, &mut found);
        let mut messages: Vec<Message> = found.into_iter().map(|(_, message)| message).collect();
        let now = self.wire.now;
        for expired in messages.extract_if(.., |message| message.is_expired(now)) {
            self.counters.retained_expired.add(1);
            self.forget_retained(expired.topic());
        }
        let messages = messages.into_iter().map(|message| self.sources.kept(message)).collect();
        (messages, (end == ScanEnd::More).then_some(cursor))
    }

    pub(super) fn take_retained(&mut self, id: ReplayId, messages: Vec<Kept>, more: Option<ScanCursor>) {
        if self.take_batch(id, messages, more) {
            self.replay(id.session);
        }
    }

    /// Hands a batch to the replay that asked for it; false if that one is gone.
    fn take_batch(&mut self, id: ReplayId, messages: Vec<Kept>, more: Option<ScanCursor>) -> bool {
        let key = Key { slot: id.session, generation: id.generation };
        let Some(session) = self.sessions.get_key_mut(key).filter(|session| session.is_connected()) else {
            return false;
        };
        let Some(replays) = session.replays.as_mut().filter(|replays| replays.awaited == id.number) else {
            return false;
        };
        replays.awaited = 0;
        let Some(replay) = replays.waiting.front_mut() else { return false };
        replay.batch.extend(messages);
        match more {
            Some(cursor) => replay.cursor = cursor,
            None => {
                replay.shard += 1;
                replay.cursor = ScanCursor::default();
            }
        }
        true
    }

    /// Remembers that a retained topic was delivered live while a replay runs.
    pub(super) fn note_live(&mut self, slot: u32, topic_hash: u64) {
        if let Some(replays) = &mut self.sessions[slot].replays
            && replays.live.len() < LIVE_TOPICS_MAX
        {
            replays.live.insert(topic_hash);
        }
    }

    /// A message was dropped for its receiver: if it is retained, a replay that runs sends it instead of what it
    /// was going to send of that topic; if it clears the topic, nothing.
    pub(super) fn missed_live(&mut self, slot: u32, fan: &mut Fan<'_>) {
        let head = *fan.publication.head();
        let origin = Origin::Live(self.rules.generation);
        let Some(replays) = self.sessions[slot].replays.as_mut().filter(|_| head.retain) else { return };
        replays.live.remove(&head.topic_hash);
        let clears = fan.publication.payload().is_empty();
        for replay in &mut replays.waiting {
            let is_same = |kept: &Kept| kept.message.head().topic_hash == head.topic_hash;
            replay.batch.retain(|kept| !clears || !is_same(kept));
            for kept in replay.batch.iter_mut().filter(|kept| is_same(kept)) {
                *kept = Kept { message: fan.message().clone(), origin: origin.clone() };
            }
        }
    }
}

impl Session {
    /// The connection is gone. What was still to be sent of retained messages is sent to the next one; whatever
    /// was asked for is asked for again.
    pub(super) fn pause_replays(&mut self) {
        if let Some(replays) = &mut self.replays {
            replays.awaited = 0;
            if replays.waiting.is_empty() {
                self.replays = None;
            }
        }
    }
}

impl Replays {
    /// A client may subscribe to the same again and again without reading what it gets: of the replays that have
    /// not begun, the last of each filter does for all.
    fn drop_repeated(&mut self) {
        let first = self.waiting.pop_front();
        let mut filters = HashSet::new();
        let mut kept = VecDeque::new();
        for replay in std::mem::take(&mut self.waiting).into_iter().rev() {
            if filters.insert(replay.filter.clone()) {
                kept.push_front(replay);
            }
        }
        first.into_iter().for_each(|first| kept.push_front(first));
        self.waiting = kept;
    }
}
