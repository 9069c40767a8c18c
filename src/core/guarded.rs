//! Protection at work: where the core asks the guard, and carries out what it says.
//!
//! Before CONNECT: who may open a connection at all. At CONNECT: bans, flapping, allowed identifiers, connections of a
//! user. Afterwards: rates, by not reading and not writing for a while; memory and slow readers, once a turn.

use super::conn::Phase;
use super::connect::own_name;
use super::counters::{DropReason, EndReason};
use super::session::{Leave, NO_SLOT};
use super::timers::{DEBT_LOOK, Timer};
use super::{Core, Shared, Time};
use crate::auth::Principal;
use crate::codec::{Connect, ReasonCode, Will, topic::level_count};
use crate::config::{Config, Limits, MemoryBudget};
use crate::engine::{ConnId, Effect, Peer};
use crate::guard::bans::{Ban, UnixTime};
use crate::guard::budget::{Budget, Pressure};
use crate::guard::complaints::brief;
use crate::guard::debts::Debts;
use crate::guard::entry::{Guard, Pass, Refused, UserPass};
use crate::guard::flapping::{Flapping, FlappingRule};
use crate::guard::lag::Lag;
use crate::guard::meter::Meter;
use crate::guard::policy::{self, AntiPattern};
use crate::guard::profile::{Class, PerClient, Who};
use crate::guard::sketch::{KeyHash, address_key};
use crate::guard::slow::SlowReaders;
use crate::slab::BySlot;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tracing::{debug, info, warn};

/// For how long a publisher is not read, each time, while memory is short.
const SLOWED_FOR: Duration = Duration::from_millis(100);
/// How often the whole use of memory is summed up at least, while there are turns.
const MEMORY_LOOK: Duration = Duration::from_millis(50);
/// Connections that are held against a new list of bans in one turn.
const BANS_STEP: usize = 1024;

/// Why a CONNECT is refused.
type Refusal = (ReasonCode, &'static str);

const BANNED: Refusal = (ReasonCode::Banned, "banned");
const IDENTIFIER_NOT_ALLOWED: Refusal =
    (ReasonCode::ClientIdentifierNotValid, "this client identifier is not allowed here");
const MEMORY: Refusal = (ReasonCode::ServerBusy, "memory is short");
const FLAPS: Refusal = (ReasonCode::Banned, "connects too often");

/// What a shard keeps for protection.
pub struct Guarding {
    pub(super) guard: Arc<Guard>,
    lag: Lag,
    flapping: Option<Flapping>,
    pub(super) slow: SlowReaders,
    pub(super) slow_after: Duration,
    /// Slow readers are looked at later.
    pub(super) slow_timer: bool,
    budget: Option<Budget>,
    /// The process's level, as this shard last saw it.
    pub pressure: Pressure,
    /// Some class of clients has a rate to keep to.
    has_rates: bool,
    /// What clients that left had used up of theirs.
    debts: Debts,
    /// What this shard held when the whole was last summed up, and when that was.
    summed: (u64, Time),
    /// What connections are counted under, by slot, where addresses or users are counted.
    passes: BySlot<(Pass, UserPass)>,
    /// Where clients came from, by slot, where there is a file of bans: a new one may be about their addresses.
    pub(super) addresses: BySlot<IpAddr>,
    /// Until when connections are not read, by slot.
    unread: BySlot<Time>,
    bans_version: u64,
    /// The next slot to be held against a new list of bans.
    bans_at: Option<u32>,
}

/// What the whole process counts of a connection, on its way to another shard: it is counted all the time, and once.
pub struct Place {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    /// `None` once it has arrived.
    pass: Option<Pass>,
}

impl Place {
    /// It has arrived: whoever takes it gives it back.
    fn take(mut self) -> Option<Pass> {
        self.pass.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.shared.connections.fetch_sub(1, Relaxed);
            self.guard.leave(pass);
        }
    }
}

/// A connection's rates and how far it has used them up.
pub struct Metered {
    limits: PerClient,
    meter: Meter,
    /// What it is remembered under when it leaves.
    key: Option<KeyHash>,
}

impl Metered {
    /// A message and its bytes were written. `Some`: until when no other may be.
    pub fn sent(&mut self, now: Time, bytes: usize) -> Option<Time> {
        self.meter.sent(&self.limits, now, 1, bytes as u64)
    }

    /// Until when nothing is to be written, if that is so now.
    fn muted_until(&mut self, now: Time) -> Option<Time> {
        self.meter.sent(&self.limits, now, 0, 0)
    }

    /// Until when nothing is to be read, if that is so now.
    fn unread_until(&mut self, now: Time) -> Option<Time> {
        self.meter.received(&self.limits, now, 0, 0)
    }
}

impl Guarding {
    /// What a shard begins with. Without a guard for the process it has one of its own, which keeps nobody out.
    pub fn new(guard: Option<&Arc<Guard>>, limits: &Limits, now: Time) -> Guarding {
        let own = || {
            let config = Config { limits: limits.clone(), ..Config::default() };
            Arc::new(Guard::new(&config, 0, UnixTime(0)))
        };
        let guard = guard.cloned().unwrap_or_else(own);
        let options = guard.options();
        let has_rates = guard.classes().iter().any(PerClient::has_rates);
        let rule = FlappingRule {
            connects: options.flapping_connects,
            window: options.flapping_window,
            ban: options.flapping_ban,
        };
        Guarding {
            lag: Lag::new(options.turn_max),
            flapping: (rule.connects > 0).then(|| Flapping::new(rule, now)),
            slow: SlowReaders::default(),
            slow_after: options.slow_after,
            slow_timer: false,
            budget: match limits.memory_budget {
                // What the host has is found out before the shards start.
                MemoryBudget::Auto => None,
                MemoryBudget::Bytes(bytes) => Budget::new(bytes),
            },
            pressure: Pressure::None,
            has_rates,
            debts: Debts::default(),
            summed: (0, now),
            passes: BySlot::default(),
            addresses: BySlot::default(),
            unread: BySlot::default(),
            bans_version: 0,
            bans_at: None,
            guard,
        }
    }

    /// The fewest levels that some class allows.
    pub fn topic_levels_max_least(&self) -> u16 {
        self.guard.classes().iter().map(|limits| limits.topic_levels_max).min().unwrap_or(0)
    }

    /// The limits of a class.
    pub fn limits_of(&self, class: Class) -> &PerClient {
        &self.guard.classes()[class]
    }

    /// True where what a client sends may have it read no further: somebody has a rate, or memory is short.
    pub fn watches_input(&self) -> bool {
        self.has_rates || self.pressure >= Pressure::SlowPublishers
    }

    /// True while somebody reads too slowly.
    pub fn has_slow(&self) -> bool {
        !self.slow.is_empty()
    }
}

// Before CONNECT.
impl Core {
    /// Whether somebody may open a connection; counts why not.
    pub(super) fn guard_door(&mut self, now: Time, listener: u16, address: Option<IpAddr>) -> Result<Pass, Refused> {
        let lags = self.guarding.lag.sheds(now);
        self.guarding.guard.enter(now, listener, address, lags).inspect_err(|refused| {
            self.counters.refused_at_door[*refused as usize].add(1);
            debug!(shard = self.shard, listener, ?address, why = refused.label(), "connection refused");
        })
    }

    /// A connection leaves for another shard, and what is counted of it goes along.
    pub(super) fn guard_moves(&mut self, slot: u32) -> Place {
        let conn = &mut self.wire.conns[slot];
        conn.moved = true;
        let pass = self.guarding.passes.remove(&slot).map_or(Pass::of_listener(conn.listener), |(pass, _)| pass);
        Place { shared: self.shared.clone(), guard: self.guarding.guard.clone(), pass: Some(pass) }
    }

    /// A connection of another shard, which asked whether it may come in, lives here from now on.
    pub(super) fn guard_moved_in(&mut self, id: ConnId, place: Place) {
        if let Some(pass) = place.take() {
            self.guard_keep_pass(id, pass);
        }
    }

    /// The transport tells who a connection comes from, which the door may not have known. False if that ends it.
    pub(super) fn guard_identified(&mut self, id: ConnId, peer: &Peer) -> bool {
        let known = self.known_address(id);
        let Some(address) = peer.address.filter(|address| known != Some(*address)) else { return true };
        let listener = self.wire.conns[id.slot].listener;
        let present = self.guarding.passes.get(&id.slot).map_or(Pass::of_listener(listener), |(pass, _)| *pass);
        let came = self.guarding.guard.comes_through(self.wire.now, present, address.ip());
        match came {
            Ok(pass) => self.guard_keep_pass(id, pass),
            Err(refused) => {
                self.counters.refused_at_door[refused as usize].add(1);
                debug!(shard = self.shard, listener, ?address, why = refused.label(), "connection refused");
                self.end(id.slot, EndReason::ConnectRefused, None, Leave::Clean);
            }
        }
        came.is_ok()
    }

    /// Somebody who passed the door finds the house full.
    pub(super) fn guard_turned_back(&self, pass: Pass) {
        self.shared.connections.fetch_sub(1, Relaxed);
        self.guarding.guard.leave(pass);
        if !self.stopping {
            self.counters.refused_at_door[Refused::Connections as usize].add(1);
        }
    }

    pub(super) fn guard_keep_pass(&mut self, id: ConnId, pass: Pass) {
        if pass.is_counted() {
            self.guarding.passes.insert(id.slot, (pass, UserPass::default()));
        }
    }

    /// A connection begins to end: its user may have another, and nobody waits for it to read.
    pub(super) fn guard_ended(&mut self, slot: u32) {
        if self.guarding.has_slow() {
            self.guard_caught_up(slot, true);
        }
        if !self.guarding.unread.is_empty() {
            self.guarding.unread.remove(&slot);
        }
        if !self.guarding.addresses.is_empty() {
            self.guarding.addresses.remove(&slot);
        }
        self.guard_remember(slot);
        if let Some((_, user)) = self.guarding.passes.get_mut(&slot) {
            self.guarding.guard.leave_user(std::mem::take(user));
        }
    }

    /// Its client is gone, whatever it sent before is still to be handled: it shall not begin anew when it comes again.
    pub(super) fn guard_remember(&mut self, slot: u32) {
        let Some(metered) = &self.wire.conns[slot].metered else { return };
        let Some(key) = metered.key else { return };
        self.guarding.debts.leave(key, metered.meter, self.wire.now);
        self.counters.rates_untracked.set(self.guarding.debts.untracked());
    }

    /// A connection that did not move is gone.
    pub(super) fn guard_released(&mut self, slot: u32, listener: u16) {
        self.shared.connections.fetch_sub(1, Relaxed);
        let guarding = &mut self.guarding;
        let counted = if guarding.passes.is_empty() { None } else { guarding.passes.remove(&slot) };
        let (pass, user) = counted.unwrap_or((Pass::of_listener(listener), UserPass::default()));
        guarding.guard.leave(pass);
        guarding.guard.leave_user(user);
    }
}

// At CONNECT.
impl Core {
    /// What a client is turned away for before it is asked who it is.
    pub(super) fn guard_identifier(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
    ) -> Result<(), Refusal> {
        let now = self.wire.now;
        let guarding = &mut self.guarding;
        if let Some(ban) = guarding.guard.ban_of(now, client_id, connect.user_name) {
            let client_id = brief(client_id);
            debug!(shard = self.shard, client_id, ban = %ban.target, reason = ban.reason, "banned client refused");
            self.counters.refused_at_door[Refused::Banned as usize].add(1);
            return Err(BANNED);
        }
        // An identifier that nobody may use needs no asking who this is.
        let listener = self.wire.conns[id.slot].listener;
        if !connect.client_id.is_empty() && !guarding.guard.classes().may_allow_client_id(listener, client_id) {
            return Err(IDENTIFIER_NOT_ALLOWED);
        }
        let Some(flapping) = &guarding.flapping else { return Ok(()) };
        let hash = guarding.guard.hash(client_id.as_bytes()).0;
        if flapping.keeps_out(hash, now) {
            self.counters.refused_at_door[Refused::Flapping as usize].add(1);
            return Err(FLAPS);
        }
        Ok(())
    }

    /// Somebody came while memory was short: he stays if it is not any more, or if he comes to take what his session holds.
    /// (Asked when it is known who he is: a stranger is not told whose queue is full.)
    pub(super) fn guard_trial(&mut self, id: ConnId, connect: &Connect<'_>, client_id: &str) -> Result<(), Refusal> {
        let guarding = &mut self.guarding;
        let on_trial = |(pass, _): &&mut (Pass, UserPass)| pass.is_on_trial();
        let Some((pass, _)) = guarding.passes.get_mut(&id.slot).filter(on_trial) else { return Ok(()) };
        guarding.guard.end_trial(pass);
        let is_short = guarding.guard.gauge().level() >= Pressure::RefuseConnections;
        if !is_short
            || !connect.clean_start && self.find_client(client_id).is_some_and(|slot| self.holds_messages(slot))
        {
            return Ok(());
        }
        self.counters.refused_at_door[Refused::Memory as usize].add(1);
        Err(MEMORY)
    }

    /// True if a session holds messages that only its client can take from it.
    fn holds_messages(&self, slot: u32) -> bool {
        let session = &self.sessions[slot];
        session.has_queue() || session.unacked > 0
    }

    /// A client that was let in connects once more. (Not counted before: whoever pleases could have others kept out.)
    fn guard_flapping(&mut self, client_id: &str) -> Result<(), Refusal> {
        let Some(flapping) = &mut self.guarding.flapping else { return Ok(()) };
        let hash = self.guarding.guard.hash(client_id.as_bytes()).0;
        let flaps = flapping.connects(hash, self.wire.now);
        self.counters.flapping_untracked.set(flapping.untracked());
        if !flaps {
            return Ok(());
        }
        self.counters.flapping.add(1);
        self.counters.refused_at_door[Refused::Flapping as usize].add(1);
        let client_id = brief(client_id);
        info!(shard = self.shard, client_id, "connects too often: kept out for a while (guard.flapping_ban)");
        Err(FLAPS)
    }

    /// Counts a connection of a user; `None` if he has as many as he may.
    fn guard_user(&self, user: &str, client_id: &str) -> Option<UserPass> {
        let guard = &self.guarding.guard;
        if let Some(pass) = guard.enter_user(user) {
            return Some(pass);
        }
        // The one that this client takes over makes room for it, if it is the same user's. It stays counted until it
        // ends: the CONNECT may yet be refused for something else.
        let session = self.find_client(client_id)?;
        let (_, held) = self.guarding.passes.get(&self.sessions[session].conn)?;
        guard.is_of(*held, user).then(|| guard.succeed_user(user))
    }

    /// What a client is turned away for when it is known who it is; else it gets the limits of its class.
    pub(super) fn guard_client(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        principal: Option<&Principal>,
    ) -> Result<(), Refusal> {
        let user = principal.map_or(connect.user_name, |principal| principal.user.as_deref());
        let guard = &self.guarding.guard;
        if user != connect.user_name && guard.ban_of(self.wire.now, client_id, user).is_some() {
            self.counters.refused_at_door[Refused::Banned as usize].add(1);
            return Err(BANNED);
        }
        let listener = self.wire.conns[id.slot].listener;
        let roles = self.roles_of(client_id, principal);
        let class = guard.classes().of(listener, Who { client_id, user, roles: &roles });
        let limits = self.limits_of(class);
        // An identifier that the server gave is one that it allows. (Who a client is was not known before: what CONNECT says
        // of a user and what he turns out to be may be two things.)
        if !connect.client_id.is_empty() && !limits.allows_client_id(client_id) {
            return Err(IDENTIFIER_NOT_ALLOWED);
        }
        connect.will.as_ref().map_or(Ok(()), |will| check_will(will, limits))?;
        // An identifier that the server gave is never used again.
        if !connect.client_id.is_empty() {
            self.guard_flapping(client_id)?;
        }
        user.map_or(Ok(()), |user| self.guard_connect_of_user(id, user, client_id))?;
        self.wire.conns[id.slot].class = class;
        if self.guarding.guard.options().bans.is_some()
            && let Some(address) = self.known_address(id)
        {
            self.guarding.addresses.insert(id.slot, address.ip());
        }
        Ok(())
    }

    /// One more connection of a user: how often, and how many.
    fn guard_connect_of_user(&mut self, id: ConnId, user: &str, client_id: &str) -> Result<(), Refusal> {
        if !self.guarding.guard.user_may_connect(self.wire.now, user) {
            self.counters.refused_at_door[Refused::UserRate as usize].add(1);
            return Err((ReasonCode::ConnectionRateExceeded, "the user connects too often"));
        }
        let Some(pass) = self.guard_user(user, client_id) else {
            self.counters.refused_at_door[Refused::UserConnections as usize].add(1);
            return Err((ReasonCode::QuotaExceeded, "the user has too many connections"));
        };
        if pass.is_counted() {
            let listener = self.wire.conns[id.slot].listener;
            self.guarding.passes.entry(id.slot).or_insert((Pass::of_listener(listener), pass)).1 = pass;
        }
        Ok(())
    }

    /// The limits of a class.
    pub(super) fn limits_of(&self, class: Class) -> &PerClient {
        self.guarding.limits_of(class)
    }

    /// Gives a connection that belongs to a session now the rates it has to keep to, used up as far as they were when it was
    /// here last. False if that is so far that it is not read yet.
    pub(super) fn guard_meter(&mut self, id: ConnId, connect: &Connect<'_>, user: Option<&str>) -> bool {
        let limits = self.limits_of(self.wire.conns[id.slot].class);
        if !limits.has_rates() {
            return true;
        }
        let (limits, own) = (limits.clone(), own_name(connect.client_id));
        let address = self.known_address(id).map(|address| address.ip());
        let key = self.meter_key(own, user, address);
        self.guard_meter_by(id, limits, key);
        !self.guard_holds(id.slot)
    }

    /// Gives a connection rates, used up as far as is remembered under this key.
    fn guard_meter_by(&mut self, id: ConnId, limits: PerClient, key: Option<KeyHash>) {
        let meter = key.map_or_else(Meter::default, |key| self.guarding.debts.come(key));
        let conn = &mut self.wire.conns[id.slot];
        let metered = conn.metered.insert(Box::new(Metered { limits, meter, key }));
        if let Some(until) = metered.muted_until(self.wire.now) {
            conn.mute();
            self.wire.muted.push((id, until));
        }
        self.guard_received(id, 0, 0);
    }

    /// What a client's rates are remembered under: the identifier it gave itself. Those that the server gives are never used
    /// again: then its user, if that is known for sure, or else the address it comes from.
    fn meter_key(&self, own: Option<&str>, user: Option<&str>, address: Option<IpAddr>) -> Option<KeyHash> {
        Some(match (own, user) {
            (Some(own), _) => self.key_of("client", own.as_bytes()),
            (None, Some(user)) => self.key_of("user", user.as_bytes()),
            (None, None) => self.key_of("address", &address_key(address?)),
        })
    }

    fn key_of(&self, kind: &str, name: &[u8]) -> KeyHash {
        self.guarding.guard.hash(&[kind.as_bytes(), name].concat())
    }

    /// Other limits for the connection of a session: what it has used up of its rates, it has used up, now or before it had
    /// none.
    pub(super) fn guard_meter_anew(&mut self, slot: u32, limits: PerClient) {
        let session = &self.sessions[slot];
        let Some(conn) = self.wire.conns.get_mut(session.conn) else { return };
        match &mut conn.metered {
            Some(metered) => {
                metered.limits = limits;
                // A debt is paid by the limits of now; the entry that is there looks at it soon.
                if let Some(unread) = self.guarding.unread.get_mut(&session.conn) {
                    *unread = metered.unread_until(self.wire.now).unwrap_or(self.wire.now);
                }
            }
            None if limits.has_rates() => {
                let id = ConnId { slot: session.conn, generation: conn.generation };
                let own = own_name(&session.client_id);
                let access = session.access.as_deref();
                let user = access.and_then(|access| access.principal.user.as_deref());
                let address = access.and_then(|access| access.peer.address).map(|address| address.ip());
                let key = self.meter_key(own, user, address);
                self.guard_meter_by(id, limits, key);
            }
            None => {}
        }
    }

    /// A topic that was not published to lately: the operator may want to hear of it.
    pub(super) fn guard_topic(&self, publisher: u32, topic: &str) {
        if publisher == NO_SLOT || !policy::is_very_deep(topic) {
            return;
        }
        self.counters.anti_patterns.add(1);
        let (client_id, topic) = (brief(&self.sessions[publisher].client_id), brief(topic));
        info!(shard = self.shard, client_id, topic, "a client {}", AntiPattern::VeryDeep.advice());
    }

    /// A filter that was accepted: the operator may want to hear of it.
    pub(super) fn guard_filter(&self, slot: u32, filter: &str) {
        let Some(odd) = policy::of_filter(filter) else { return };
        self.counters.anti_patterns.add(1);
        let (client_id, filter) = (brief(&self.sessions[slot].client_id), brief(filter));
        info!(shard = self.shard, client_id, filter, "a client {}", odd.advice());
    }
}

// Rates.
impl Core {
    /// Packets of a connection were handled: it is not read for a while if that was more than it may send, or if memory
    /// is short and it published.
    pub(super) fn guard_received(&mut self, id: ConnId, bytes: usize, messages: u64) {
        let (now, pressure) = (self.wire.now, self.guarding.pressure);
        let conn = &mut self.wire.conns[id.slot];
        // The everyday case first: no rate, and memory enough.
        if conn.metered.is_none() && pressure < Pressure::SlowPublishers || conn.phase != Phase::Connected {
            return;
        }
        let charge = |metered: &mut Box<Metered>| metered.meter.received(&metered.limits, now, messages, bytes as u64);
        let rate = conn.metered.as_mut().and_then(charge);
        let slowed = (messages > 0 && pressure >= Pressure::SlowPublishers).then(|| now.after(SLOWED_FOR));
        let Some(until) = rate.max(slowed) else { return };
        self.counters.throttled.add(1);
        if !conn.stalled {
            conn.stalled = true;
            self.counters.pauses.add(1);
            self.wire.effects.push_back(Effect::PauseReceive(id));
        }
        let before = self.guarding.unread.insert(id.slot, until);
        if before.is_none() {
            self.look_again(until, Timer::unread(id));
        }
    }

    /// True while a connection is not to be read for its rate's sake.
    pub(super) fn guard_holds(&self, slot: u32) -> bool {
        !self.guarding.unread.is_empty() && self.guarding.unread.contains_key(&slot)
    }

    /// Has the connections that were written enough looked at when they may be written to again.
    pub(super) fn guard_muted(&mut self) {
        while let Some((id, until)) = self.wire.muted.pop() {
            self.counters.muted.add(1);
            self.look_again(until, Timer::muted(id));
        }
    }

    /// Has a debt looked at when it is paid, or before that if it is large.
    fn look_again(&mut self, until: Time, timer: Timer) {
        self.wheel.insert(until.min(self.wire.now.after(DEBT_LOOK)), timer);
    }

    /// A connection may be written to again, unless its debt takes longer.
    pub(super) fn write_again(&mut self, id: ConnId) {
        let Some(session) = self.live(id).map(|conn| conn.session) else { return };
        let (now, metered) = (self.wire.now, &mut self.wire.conns[id.slot].metered);
        if let Some(until) = metered.as_mut().and_then(|metered| metered.muted_until(now)) {
            return self.look_again(until, Timer::muted(id));
        }
        self.wire.unmute(id.slot);
        if session != NO_SLOT {
            self.pump(session);
        }
    }

    /// A connection may be read again, unless it was told to wait longer meanwhile.
    pub(super) fn read_again(&mut self, id: ConnId) {
        let Some(until) = self.live(id).and_then(|_| self.guarding.unread.get(&id.slot).copied()) else { return };
        if until > self.wire.now {
            return self.look_again(until, Timer::unread(id));
        }
        self.guarding.unread.remove(&id.slot);
        self.resume(id);
    }

    /// Why a QoS 0 message is not written to a connection; `None` if it is.
    #[inline]
    pub(super) fn guard_qos0(&mut self, slot: u32) -> Option<DropReason> {
        let everyday = self.guarding.pressure < Pressure::DropQos0 && self.wire.has_room(slot);
        if everyday { None } else { self.judge_qos0(slot) }
    }

    #[cold]
    #[inline(never)]
    fn judge_qos0(&mut self, slot: u32) -> Option<DropReason> {
        if self.wire.has_room(slot) {
            let slow = self.wire.conns[slot].unsent >= self.limits.output_bytes_max / 16;
            return slow.then_some(DropReason::Memory);
        }
        self.guard_slow(slot);
        Some(if self.wire.conns[slot].is_muted() { DropReason::OutRate } else { DropReason::SlowReader })
    }
}

// Once a turn, and by the clock.
impl Core {
    /// A turn took so long.
    pub(super) fn guard_turn(&mut self, now: Time, took: Duration) {
        if self.guarding.lag.turn(now, took) {
            self.counters.lags.add(1);
            warn!(shard = self.shard, ?took, "behind: nobody new is let in for a moment (guard.turn_max)");
        }
    }

    /// Looks at memory and at a new list of bans.
    pub(super) fn guard_attend(&mut self, now: Time) {
        self.counters.output_bytes.set(self.wire.outgoing.held());
        self.counters.shared_bytes.set(self.wire.shares.excess());
        self.watch_memory(now);
        let version = self.guarding.guard.bans_version();
        if version != self.guarding.bans_version {
            self.guarding.bans_version = version;
            self.guarding.bans_at = Some(0);
        }
        if let Some(from) = self.guarding.bans_at {
            self.hold_against_bans(from);
        }
    }

    /// True while there is work for the next turn.
    pub(super) fn guard_is_busy(&self) -> bool {
        self.guarding.bans_at.is_some()
    }

    fn watch_memory(&mut self, now: Time) {
        let Some(budget) = self.guarding.budget else { return };
        let own = self.counters.message_bytes();
        let (summed, at) = self.guarding.summed;
        if own.abs_diff(summed) < budget.step() && now.since(at) < MEMORY_LOOK {
            return;
        }
        self.guarding.summed = (own, now);
        let used = self.shared.counters.iter().map(|counters| counters.message_bytes()).sum();
        let gauge = self.guarding.guard.gauge();
        self.counters.pressure_changes.add(u64::from(gauge.update(budget, used, now)));
        if let Some((before, after)) = gauge.news(now) {
            let (used, budget) = (crate::config::size_text(used), crate::config::size_text(budget.bytes()));
            match after > before {
                true => warn!(used, budget, "memory runs short: from now on {}", after.label()),
                false => info!(used, budget, "memory is less short: from now on {}", after.label()),
            }
        }
        self.guarding.pressure = gauge.level();
        self.counters.pressure.set(self.guarding.pressure as u64);
    }

    /// Ends the connections of those who were banned, some in each turn.
    fn hold_against_bans(&mut self, from: u32) {
        let slots: Vec<u32> =
            self.wire.conns.iter().map(|(slot, _)| slot).filter(|slot| *slot >= from).take(BANS_STEP).collect();
        self.guarding.bans_at = slots.last().filter(|_| slots.len() == BANS_STEP).map(|last| last + 1);
        for slot in slots {
            let Some(ban) = self.ban_of_connection(slot) else { continue };
            let session = self.sessions.get(self.wire.conns[slot].session);
            let client_id = session.map_or("", |session| brief(&session.client_id));
            info!(shard = self.shard, client_id, ban = %ban.target, reason = ban.reason, "banned client disconnected");
            self.end(slot, EndReason::Banned, Some(ReasonCode::AdministrativeAction), Leave::WithWill);
        }
    }

    /// The ban that a connection that is there has come under. Who has not said CONNECT is known by his address alone.
    fn ban_of_connection(&self, slot: u32) -> Option<Ban> {
        let (conn, guard, now) = (&self.wire.conns[slot], &self.guarding.guard, self.wire.now);
        if conn.phase == Phase::Leaving {
            return None;
        }
        if conn.phase.is_stranger() {
            let address = self.known_address(ConnId { slot, generation: conn.generation })?;
            return guard.ban_of_address(now, address.ip());
        }
        let session = &self.sessions[conn.session];
        let user = session.access.as_ref().and_then(|access| access.principal.user.as_deref());
        let by_name = guard.ban_of(now, &session.client_id, user);
        by_name.or_else(|| guard.ban_of_address(now, *self.guarding.addresses.get(&slot)?))
    }
}

/// What a will is refused for that its client could not publish either.
fn check_will(will: &Will<'_>, limits: &PerClient) -> Result<(), Refusal> {
    if level_count(will.topic) > usize::from(limits.topic_levels_max) {
        return Err((ReasonCode::TopicNameInvalid, "the will's topic name has too many levels"));
    }
    if will.topic.len() + will.payload.len() > limits.packet_bytes_max as usize {
        return Err((ReasonCode::PacketTooLarge, "the will is larger than the maximum packet size"));
    }
    Ok(())
}
