//! The broker core: everything that is MQTT, for the clients whose home is one shard.
//!
//! A [`Core`] has no socket and no clock. It is an [`Engine`]: a driver hands it the time, bytes and messages
//! of other shards, and drains bytes, effects and messages. The rooms:
//!
//! - `inbound`: bytes to packets, and which handler gets them;
//! - `gate`: who may come in; `access`: what a client may do; `renew`: what becomes of its subscriptions;
//! - `connect`, `leave`: how a connection gets a session and how it parts from it, takeover, expiry, wills;
//! - `publish`: a PUBLISH that came in, its acknowledgement;
//! - `route`: which sessions and shards a message goes to; `shared`: the same for shared subscriptions;
//! - `deliver`: one message to one session: window, queue, acknowledgements; `wire` writes the bytes; `shares` counts large ones once;
//! - `subscribe`, `retain`: subscriptions and retained messages; `source`: who published those; `sys`: the `$SYS` topics;
//! - `guarded`: what keeps clients from hurting each other;
//! - `message`, `session`, `conn`, `counters`, `note`: the data.

pub mod counters;
pub mod message;
pub mod note;

mod access;
mod conn;
mod connect;
mod deliver;
mod fence;
mod gate;
mod guarded;
mod inbound;
mod leave;
mod parcel;
mod publish;
mod renew;
mod retain;
mod roles;
mod route;
mod session;
mod shared;
mod shares;
mod slow;
mod source;
mod subscribe;
mod sys;
mod timers;
mod wire;
mod withdrawn;
mod withheld;

#[cfg(test)]
pub(crate) use renew::LEAVES_OUT;

use crate::acl::Policy;
use crate::auth::Authenticator;
use crate::codec::ReasonCode;
use crate::config::{Limits, MqttOptions};
use crate::engine::{ConnId, Effect, Engine, HandOver, Load, Output, Peer, ShardId, Time, TransportEnd};
use crate::guard::entry::Guard;
use crate::index::{Groups, HashSeed, Interest, InterestCache, LocalIndex, RetainedStore, Route, Subscriber};
use crate::slab::{BySlot, Key, Slab};
use crate::wheel::Wheel;
use arc_swap::ArcSwap;
use conn::{Conn, Phase};
use counters::{Counters, EndReason};
use hashbrown::HashTable;
use message::Message;
use note::Note;
use parcel::Parcel;
use session::Session;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use timers::Timer;
use wire::Wire;

/// Resolution of timeouts.
const TICK: Duration = Duration::from_millis(50);

/// How many messages may wait for another shard before those who publish there are read no further.
pub const OUTBOX_MESSAGES_MAX: usize = 4096;

/// How many recent topics a shard remembers the interest of the other shards in.
const INTEREST_CACHE_TOPICS: usize = 4096;

/// What all shards of a broker see.
pub struct Shared {
    /// Which shards want which topics.
    pub interest: Interest,
    /// Keys of the hash functions.
    pub seed: HashSeed,
    /// Each shard's counters.
    pub counters: Vec<Arc<Counters>>,
    /// Connections of all shards; bounded by `connections_max`.
    connections: AtomicU64,
    /// Sessions of all shards that no connection is attached to; bounded by `sessions_max`.
    offline_sessions: AtomicU64,
    /// What clients may do.
    rules: access::SharedRules,
    /// Retained messages of all shards and their bytes.
    retained: AtomicU64,
    retained_bytes: AtomicU64,
    /// Retained messages on their way to the shard that keeps them.
    departures: fence::Departures,
    /// The most connections there ever were at once.
    connected_peak: AtomicU64,
    /// Keeps clients from hurting each other; set before the shards begin.
    guard: OnceLock<Arc<Guard>>,
    /// The slowest readers of each shard, as it showed them last.
    slow: Vec<ArcSwap<Vec<slow::SlowClient>>>,
    /// What each shard's driver counts, if it says.
    driver_figures: OnceLock<DriverFigures>,
    /// What a client is told whose authentication is over.
    expired_reason: OnceLock<ReasonCode>,
}

/// Tells what the driver of a shard, given by its number, has counted.
pub type DriverFigures = Box<dyn Fn(usize) -> Vec<(&'static str, u64)> + Send + Sync>;

impl Shared {
    /// The shared state of a broker with this many shards.
    pub fn new(shards: u16, seed: u64) -> Shared {
        let seed = HashSeed::from_u64(seed);
        Shared {
            interest: Interest::new(shards, seed.clone()),
            seed,
            counters: (0..shards).map(|_| Arc::default()).collect(),
            connections: AtomicU64::new(0),
            offline_sessions: AtomicU64::new(0),
            rules: access::SharedRules::default(),
            retained: AtomicU64::new(0),
            retained_bytes: AtomicU64::new(0),
            departures: fence::Departures::new(shards),
            connected_peak: AtomicU64::new(0),
            guard: OnceLock::new(),
            slow: (0..shards).map(|_| ArcSwap::default()).collect(),
            driver_figures: OnceLock::new(),
            expired_reason: OnceLock::new(),
        }
    }

    /// Has the drivers' figures published with the core's own; only the first call counts.
    pub fn tell_driver_figures(&self, figures: DriverFigures) {
        let _ = self.driver_figures.set(figures);
    }

    /// What clients of 5.0 are told when their authentication is over, instead of 0x87; only the first call counts.
    pub fn set_expired_reason(&self, reason: ReasonCode) {
        let _ = self.expired_reason.set(reason);
    }

    /// Has the shards that are made from now on ask this guard; only the first call counts.
    pub fn set_guard(&self, guard: Arc<Guard>) {
        let _ = self.guard.set(guard);
    }

    /// Sets what clients may do, from each shard's next turn on: wake the shards after it. `None`: everything.
    pub fn set_policy(&self, policy: Option<Arc<Policy>>) {
        self.rules.set(policy);
    }

    /// The shard where a client's session lives.
    pub fn home(&self, client_id: &str) -> ShardId {
        ShardId((crate::index::topic_hash(&self.seed, client_id) % self.counters.len() as u64) as u16)
    }
}

/// What a core is made from.
#[derive(Clone)]
pub struct CoreConfig {
    /// Which shard it is.
    pub shard: ShardId,
    /// State shared with the other shards; says how many there are.
    pub shared: Arc<Shared>,
    /// Limits.
    pub limits: Arc<Limits>,
    /// Which parts of MQTT are offered, and how.
    pub mqtt: Arc<MqttOptions>,
    /// How often the `$SYS` topics are published; `None` never.
    pub sys_interval: Option<Duration>,
    /// Seed of everything that is chosen at random.
    pub seed: u64,
    /// The time now.
    pub now: Time,
}

/// The state machine of one shard.
pub struct Core {
    shard: u16,
    shards: u16,
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    mqtt: Arc<MqttOptions>,
    counters: Arc<Counters>,
    /// Connections and their output.
    wire: Wire,
    sessions: Slab<Session>,
    /// Session slots by client identifier.
    clients: HashTable<u32>,
    /// Which sessions of this shard want which topics.
    index: LocalIndex,
    /// Members of shared subscriptions on this shard.
    groups: Groups,
    /// The retained messages whose topics hash to this shard.
    retained: RetainedStore<Message>,
    expiring: retain::Expiring,
    /// Who published them, where rules are in force.
    sources: source::Sources,
    /// Retained messages that came from other shards, and the replays that wait for more.
    arrivals: fence::Arrivals,
    interest_cache: InterestCache,
    wheel: Wheel<Timer>,
    /// Notes for other shards, by shard.
    outboxes: Vec<VecDeque<Note>>,
    /// What was put into each outbox since it was last found empty.
    outbox_loads: Vec<usize>,
    spare_parcels: parcel::Spares,
    /// Shards whose outbox gained a note, to be named by `poll_outbox`.
    noted: Vec<ShardId>,
    /// Says who may come in; everybody may without.
    authenticator: Option<Box<dyn Authenticator>>,
    /// What clients may do.
    rules: access::Rules,
    renewals: renew::Renewals,
    /// Topic names shorter than this are taken as they are, in bytes; 0 where rules are in force.
    plain_topic_bytes: usize,
    /// What is known of connections that belong to no session yet, by slot.
    gates: BySlot<gate::Gate>,
    /// What keeps clients from hurting each other.
    guarding: guarded::Guarding,
    withdrawn: withdrawn::Withdrawn,
    /// Connections that are not read until an outbox has room.
    stalled: Vec<ConnId>,
    /// SUBACKs that wait for the owners of their filters.
    announcing: Slab<subscribe::Announcing>,
    /// Number of the batch of retained messages that was asked for last, by any replay: a late answer to one that
    /// is over is told from what is awaited.
    asked: u32,
    /// Sessions whose replays search this shard, one after the other, a piece in each turn.
    scans: VecDeque<Key>,
    /// Where the turn stands in each shared subscription that is published to from here.
    turns: HashMap<u64, shared::Turn>,
    random: fastrand::Rng,
    stopping: bool,
    sys: Option<Box<sys::Sys>>,
    scratch: Scratch,
}

/// Memory that is used again for each packet.
#[derive(Default)]
struct Scratch {
    receivers: Vec<Subscriber>,
    /// Identifiers of further subscriptions, by index into `receivers`.
    identifiers: Vec<(u32, u32)>,
    one_receiver_identifiers: Vec<u32>,
    route: Route,
    body: Vec<u8>,
    due: Vec<Timer>,
    round: u32,
}

impl Core {
    /// A core without clients.
    pub fn new(config: CoreConfig) -> Core {
        let CoreConfig { shard: ShardId(shard), shared, limits, mqtt, sys_interval, seed, now } = config;
        let counters = shared.counters[usize::from(shard)].clone();
        let shards = shared.counters.len() as u16;
        let mut core = Core {
            shard,
            shards,
            wire: Wire::new(counters.clone(), limits.clone(), now),
            sessions: Slab::new(),
            clients: HashTable::new(),
            index: LocalIndex::new(shared.seed.clone()),
            groups: Groups::new(shared.seed.clone()),
            retained: RetainedStore::new(shared.seed.clone()),
            expiring: retain::Expiring::default(),
            sources: source::Sources::default(),
            arrivals: fence::Arrivals::new(shards),
            interest_cache: InterestCache::new(INTEREST_CACHE_TOPICS),
            wheel: Wheel::new(TICK, now),
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            outbox_loads: vec![0; usize::from(shards)],
            spare_parcels: parcel::Spares::default(),
            noted: Vec::new(),
            authenticator: None,
            rules: access::Rules::default(),
            renewals: renew::Renewals::default(),
            plain_topic_bytes: 0,
            gates: BySlot::default(),
            guarding: guarded::Guarding::new(shared.guard.get(), &limits, now),
            withdrawn: withdrawn::Withdrawn::default(),
            stalled: Vec::new(),
            announcing: Slab::new(),
            asked: 0,
            scans: VecDeque::new(),
            turns: HashMap::new(),
            random: fastrand::Rng::with_seed(seed),
            stopping: false,
            sys: sys_interval.map(|interval| Box::new(sys::Sys::new(interval, now))),
            scratch: Scratch::default(),
            shared,
            limits,
            mqtt,
            counters,
        };
        core.plain_topic_bytes = core.plain_topic_bytes();
        core.follow_rules();
        core.schedule_sys(now);
        core
    }

    /// This shard's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Checks that no delivery has disappeared (see [`Counters::conservation`]).
    pub fn conservation(&self) -> Result<(), String> {
        self.counters.conservation()
    }

    /// Bytes held for packets that are incomplete or whose connection is stalled.
    pub fn reassembly_bytes(&self) -> usize {
        self.wire.conns.iter().map(|(_, conn)| conn.tail.capacity()).sum()
    }

    /// The most bytes that wait to be sent on one connection.
    pub fn unsent_max(&self) -> usize {
        self.wire.conns.iter().map(|(_, conn)| conn.unsent).max().unwrap_or(0)
    }

    /// Leaves a note for another shard.
    fn note(&mut self, to: u16, note: Note) {
        self.count_into_outbox(to, note.load());
        self.outboxes[usize::from(to)].push_back(note);
        self.name_outbox(ShardId(to));
    }

    /// Leaves something for another shard in the parcel that it gets next.
    fn put_in_parcel(&mut self, to: u16, body_len: usize, put: impl FnOnce(&mut Parcel)) {
        self.count_into_outbox(to, 1);
        let outbox = &mut self.outboxes[usize::from(to)];
        // Only in the last note, behind which nothing was noted: no publication overtakes what was noted before it.
        if let Some(Note::Parcel(parcel)) = outbox.back_mut()
            && parcel.takes(body_len)
        {
            put(parcel);
        } else {
            let mut parcel = self.spare_parcels.take();
            put(&mut parcel);
            outbox.push_back(Note::Parcel(parcel));
        }
        self.name_outbox(ShardId(to));
    }

    fn count_into_outbox(&mut self, to: u16, load: usize) {
        let to = usize::from(to);
        let before = if self.outboxes[to].is_empty() { 0 } else { self.outbox_loads[to] };
        self.outbox_loads[to] = before + load;
    }

    fn name_outbox(&mut self, to: ShardId) {
        if self.noted.last() != Some(&to) && !self.noted.contains(&to) {
            self.noted.push(to);
        }
    }

    /// True when some outbox is so full that publishers have to wait.
    fn mesh_is_behind(&self) -> bool {
        let mut loads = self.outboxes.iter().zip(&self.outbox_loads);
        self.shards > 1 && loads.any(|(outbox, &load)| load >= OUTBOX_MESSAGES_MAX && !outbox.is_empty())
    }

    /// Ends a connection: parts it from its session, tells a 5.0 client why, and asks the driver to close it.
    fn end(&mut self, slot: u32, reason: EndReason, code: Option<ReasonCode>, leave: session::Leave) {
        let conn = &mut self.wire.conns[slot];
        if conn.phase == Phase::Leaving {
            return;
        }
        let id = ConnId { slot, generation: conn.generation };
        self.forget_question(id);
        self.guard_ended(slot);
        let conn = &mut self.wire.conns[slot];
        let session = std::mem::replace(&mut conn.session, session::NO_SLOT);
        if let Some(code) = code.filter(|_| conn.phase == Phase::Connected) {
            self.wire.disconnect(slot, code);
        }
        self.close(slot, reason);
        if session != session::NO_SLOT {
            self.leave(session, leave);
        }
    }

    /// Asks the driver to flush and close; nothing of the connection is handled from now on.
    fn close(&mut self, slot: u32, reason: EndReason) {
        let conn = &mut self.wire.conns[slot];
        if conn.phase == Phase::Connected {
            self.counters.connected.sub(1);
        }
        conn.phase = Phase::Leaving;
        self.counters.reassembly_bytes.sub(conn.tail.len() as u64);
        conn.tail = Vec::new();
        let aliases = conn.aliases.take().map_or(0, |aliases| aliases.bytes);
        self.counters.alias_bytes.sub(aliases.into());
        self.counters.ended[reason as usize].add(1);
        let id = ConnId { slot, generation: conn.generation };
        self.wire.effects.push_back(Effect::Close(id));
    }

    /// The key of a session that exists.
    fn session_key(&self, slot: u32) -> Key {
        self.sessions.key_of(slot).expect("the slot was taken from a connection or an index, which name live sessions")
    }

    fn live(&self, id: ConnId) -> Option<&Conn> {
        let conn = self.wire.conns.get(id.slot)?;
        (conn.generation == id.generation && conn.phase != Phase::Leaving).then_some(conn)
    }

    /// Gives a note of another shard to whoever it is for.
    fn handle_note(&mut self, from: u16, note: Note) {
        match note {
            Note::Parcel(parcel) => self.unpack(from, parcel),
            Note::Publish { message, ticket } => self.receive_publish(from, message, ticket),
            Note::PublishShared { message, group, pick, search } => self.receive_shared(&message, &group, pick, search),
            Note::Retain { message, source, ticket } => {
                let outcome = self.retain(message, source);
                self.answer(from, ticket, outcome);
                self.arrived(from);
            }
            Note::Announce { changes, waiter } => {
                self.shared.interest.apply(changes.iter().map(|change| change.of(from)));
                if let Some(waiter) = waiter {
                    self.note(from, Note::Announced { waiter });
                }
            }
            Note::Announced { waiter } => self.take_announced(waiter),
            Note::AskRetained { replay, filter, cursor } => {
                if !self.holds_back(from, replay, &filter, &cursor) {
                    self.answer_ask(from, replay, &filter, cursor);
                }
            }
            Note::Retained { replay, messages, more } => self.take_retained(replay, messages, more),
        }
    }

    fn take_up(&mut self, now: Time, listener: u16, accepted: Time) -> Option<ConnId> {
        self.wire.now = now;
        if self.stopping {
            return None;
        }
        self.counters.connections.add(1);
        let room = self.limits.output_bytes_max;
        let key = self.wire.conns.insert(Conn::new(listener, self.stranger_bytes_max(), accepted, now, room));
        self.wire.conns[key.slot].generation = key.generation;
        let id = ConnId { slot: key.slot, generation: key.generation };
        self.wheel.insert(accepted.after(self.limits.connect_timeout), Timer::connect(id));
        Some(id)
    }
}

impl Engine for Core {
    type Message = Note;

    fn open(&mut self, now: Time, listener: u16, address: Option<SocketAddr>) -> Option<ConnId> {
        let pass = self.guard_door(now, listener, address.map(|address| address.ip())).ok()?;
        let free = self.shared.connections.fetch_add(1, Relaxed) < u64::from(self.limits.connections_max);
        let Some(id) = free.then(|| self.take_up(now, listener, now)).flatten() else {
            self.guard_turned_back(pass);
            return None;
        };
        self.guard_keep_pass(id, pass);
        self.counters.sockets_opened.add(1);
        self.remember_peer(id, Peer { address, certificate: None });
        Some(id)
    }

    fn identify(&mut self, id: ConnId, peer: Peer) {
        if self.guard_identified(id, &peer) {
            self.remember_peer(id, peer);
        }
    }

    fn adopt(&mut self, now: Time, hand_over: HandOver) -> Option<ConnId> {
        // The shard that accepted it let it in: the limits were asked there.
        let place = hand_over.place?.downcast().ok()?;
        let id = self.take_up(now, hand_over.listener, hand_over.accepted)?;
        self.guard_moved_in(id, *place);
        self.remember_peer(id, hand_over.peer);
        self.take_in(id, &hand_over.bytes);
        Some(id)
    }

    fn receive(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        self.wire.now = now;
        self.counters.bytes_received.add(bytes.len() as u64);
        self.take_in(id, bytes);
    }

    fn sent(&mut self, now: Time, id: ConnId, bytes: usize) {
        self.wire.now = now;
        self.counters.bytes_sent.add(bytes as u64);
        let Some(conn) = self.wire.conns.get_mut(id.slot).filter(|conn| conn.generation == id.generation) else {
            return;
        };
        conn.unsent -= bytes;
        let (session, stalled) = (conn.session, conn.stalled);
        self.wire.outgoing.let_go(bytes);
        self.wire.shares.sent(id.slot, bytes);
        if self.guarding.has_slow() {
            self.guard_caught_up(id.slot, false);
        }
        // Nearly always nothing waits.
        if session != session::NO_SLOT && self.sessions[session].has_waiting() {
            self.pump(session);
        }
        if stalled {
            self.resume(id);
        }
    }

    fn disconnected(&mut self, now: Time, id: ConnId, end: TransportEnd) {
        self.wire.now = now;
        if self.live(id).is_none() {
            return;
        }
        if end == TransportEnd::EndOfStream && self.wire.conns[id.slot].stalled {
            // It closed after its last packet, which still waits here: perhaps a DISCONNECT that cancels the will.
            self.wire.conns[id.slot].ended = true;
            self.guard_remember(id.slot);
            return self.resume(id);
        }
        let reason = match end {
            TransportEnd::EndOfStream => EndReason::EndOfStream,
            TransportEnd::Error(_) => EndReason::TransportError,
        };
        self.end(id.slot, reason, None, session::Leave::WithWill);
    }

    fn withdraw(&mut self, now: Time, id: ConnId) {
        self.wire.now = now;
        self.send_away(id, "its certificate does not hold any more");
    }

    fn release(&mut self, id: ConnId) {
        let conn = self.wire.conns.remove(id.slot).expect("the driver releases what it was given");
        assert_eq!(conn.generation, id.generation, "a connection is released once");
        assert_eq!(conn.phase, Phase::Leaving, "the core lets go of a connection before the driver does");
        self.counters.connections.sub(1);
        self.wire.outgoing.let_go(conn.unsent);
        self.wire.shares.gone(id.slot);
        if !conn.moved {
            self.guard_released(id.slot, conn.listener);
        }
    }

    fn mesh(&mut self, now: Time, from: ShardId, note: Note) {
        self.wire.now = now;
        self.handle_note(from.0, note);
    }

    fn attend(&mut self, now: Time) {
        self.wire.now = now;
        if self.authenticator.is_some() {
            self.take_verdicts();
            self.follow_users();
        }
        self.follow_rules();
        self.guard_attend(now);
    }

    fn worked(&mut self, now: Time, took: Duration) {
        self.guard_turn(now, took);
    }

    fn tick(&mut self, now: Time) {
        self.wire.now = now;
        let mut due = std::mem::take(&mut self.scratch.due);
        self.wheel.advance(now, &mut due);
        for timer in due.drain(..) {
            self.fire(timer);
        }
        self.scratch.due = due;
        self.scan_on();
    }

    fn next_deadline(&self) -> Option<Time> {
        let at_once = !self.scans.is_empty() || !self.renewals.are_done() || self.withdrawn.at.is_some();
        let at_once = at_once || self.guard_is_busy();
        if at_once { Some(self.wire.now) } else { self.wheel.next_deadline() }
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.wire.outgoing.poll()
    }

    fn take_output(&mut self, id: ConnId) -> Output {
        match self.wire.conns.get_mut(id.slot) {
            Some(conn) if conn.generation == id.generation => self.wire.outgoing.take(conn),
            _ => Output::default(),
        }
    }

    fn recycle(&mut self, output: Output) {
        self.wire.outgoing.recycle(output);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        if !self.wire.muted.is_empty() {
            self.guard_muted();
        }
        self.wire.effects.pop_front()
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<Note> {
        &mut self.outboxes[usize::from(to.0)]
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        self.noted.pop()
    }

    fn mesh_has_room(&mut self, now: Time, _to: ShardId) {
        self.wire.now = now;
        if !self.stalled.is_empty() && !self.mesh_is_behind() {
            self.resume_all();
        }
    }

    fn stop(&mut self, now: Time) {
        self.wire.now = now;
        self.stopping = true;
        let slots: Vec<u32> = self.wire.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.end(slot, EndReason::ShuttingDown, Some(ReasonCode::ServerShuttingDown), session::Leave::Stopping);
        }
    }

    fn connections(&self) -> usize {
        self.wire.conns.len()
    }
}

#[cfg(test)]
mod tests;
