//! The engine around the engine.
//!
//! Bytes of a connection with a link go through it; everything else is passed on. Three things are decided here:
//!
//! - **Whose turn it is.** A step of a TLS handshake costs as much as hundreds of messages. Only so many are done in one turn;
//!   the other connections wait, unread, for the turns that follow at once.
//! - **Hand-over.** The link travels with the connection to its home shard, when the kernel has taken all that the driver was given.
//! - **The end.** A connection that the engine closes says so in the terms of its stack first; one whose stack is broken is reported
//!   to the engine as a failed transport.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::Stack;
use super::counters::TransportCounters;
use super::handshakes::{Handshakes, Standing};
use super::link::{Failure, Link, Scratch};
use super::verify::Verifying;
use crate::acl::Network;
use crate::engine::{ConnId, Effect, Engine, HandOver, Output, Peer, ShardId, Time, TransportEnd};

/// What the handshakes of one turn may cost, in signatures by an elliptic curve key: well under a millisecond.
pub const HANDSHAKE_UNITS_PER_TURN: u32 = 4;

/// The most that may wait for a peer of what its stack has to say: with more, it is not read until that is out.
const REPLY_BYTES_MAX: usize = 16 * 1024;

/// For how long a hand-over waits for the kernel to take what is being sent: no client that means well makes it wait.
const HAND_OVER_WAIT_MAX: Duration = Duration::from_secs(5);

/// Output buffers kept for the next send, and the largest of them in bytes.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 128 * 1024;

/// An engine behind what its listeners put between socket and MQTT. See the module's description.
pub struct Transports<E: Engine> {
    pub(super) inner: E,
    pub(super) stacks: Vec<Stack>,
    /// By slot; shorter than the engine's own table wherever no connection has a link.
    pub(super) links: Vec<Option<Box<Link>>>,
    /// Connections whose link has something to say by itself.
    dirty: Vec<ConnId>,
    effects: VecDeque<Effect>,
    /// Connections whose next step of the handshake is for a later turn.
    waiting: VecDeque<ConnId>,
    pub(super) verifying: Verifying,
    /// Connections that wait to be handed over, and until when.
    leaving: VecDeque<(Time, ConnId)>,
    /// What is left for handshakes in this turn.
    units: u32,
    handshakes: Handshakes,
    /// Connections that may be read again, unless the engine thinks otherwise.
    resume: Vec<ConnId>,
    /// Something came up outside the usual order of a turn.
    hurry: bool,
    now: Time,
    counters: Arc<TransportCounters>,
    scratch: Scratch,
}

impl<E: Engine> Transports<E> {
    /// Puts `stacks[i]` before what comes in by the engine's listener `i`. At most `handshakes_max` TLS handshakes are in
    /// progress at a time.
    pub fn new(inner: E, stacks: Vec<Stack>, handshakes_max: usize, counters: Arc<TransportCounters>) -> Transports<E> {
        Transports {
            inner,
            stacks,
            links: Vec::new(),
            dirty: Vec::new(),
            effects: VecDeque::new(),
            waiting: VecDeque::new(),
            verifying: Verifying::default(),
            leaving: VecDeque::new(),
            units: HANDSHAKE_UNITS_PER_TURN,
            handshakes: Handshakes::new(handshakes_max),
            resume: Vec::new(),
            hurry: false,
            now: Time(0),
            counters,
            scratch: Scratch::default(),
        }
    }

    /// The engine behind.
    pub fn inner(&mut self) -> &mut E {
        &mut self.inner
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        let link = self.links.get_mut(conn.slot as usize)?.as_deref_mut();
        link.filter(|link| link.generation == conn.generation)
    }

    fn put(&mut self, conn: ConnId, mut link: Box<Link>) {
        let slot = conn.slot as usize;
        (link.generation, link.unread, link.choked) = (conn.generation, false, false);
        if self.links.len() <= slot {
            self.links.resize_with(slot + 1, || None);
        }
        if link.has_reply() {
            self.dirty.push(conn);
        }
        self.links[slot] = Some(link);
    }

    /// What stands before a new connection; an error where it is refused.
    fn link_for(&mut self, listener: u16, address: Option<SocketAddr>) -> Result<Option<Box<Link>>, ()> {
        let stack = self.stacks.get(usize::from(listener)).filter(|stack| !stack.is_plain());
        let Some(stack) = stack else { return Ok(None) };
        if stack.proxy.as_ref().is_some_and(|trusted| !is_trusted(trusted, address)) {
            self.counters.proxy_untrusted.add(1);
            tracing::info!(
                from = address.map(tracing::field::display),
                "a connection is refused: no trusted proxy has this address"
            );
            return Err(());
        }
        match Link::new(stack, address) {
            Ok(mut link) => {
                link.listener = listener;
                Ok(Some(Box::new(link)))
            }
            Err(failure) => {
                self.counters.failed(&failure, true);
                Err(())
            }
        }
    }

    fn count_handshakes(&mut self, change: isize) {
        self.handshakes.count = self.handshakes.count.saturating_add_signed(change);
        self.counters.tls_handshaking.set(self.handshakes.count as u64);
    }

    /// Who is given up if another begins to shake hands; an error if it cannot.
    fn victim(&mut self) -> Result<Option<ConnId>, ()> {
        if !self.handshakes.is_full() {
            return Ok(None);
        }
        let links = &self.links;
        let victim = self.handshakes.oldest(|conn| standing(links, conn));
        victim.map(Some).ok_or_else(|| self.counters.tls_refused_full.add(1))
    }

    /// Ends a handshake for another one's sake.
    fn give_up(&mut self, now: Time, conn: ConnId) {
        let Some(link) = self.link(conn) else { return };
        let counter = match link.has_spoken {
            true => &self.counters.tls_refused_unfinished,
            false => &self.counters.tls_refused_silent,
        };
        counter.add(1);
        self.break_off(now, conn, libc::ECONNABORTED);
    }

    fn receive_by_link(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.link(conn) else { return };
        if link.closing || link.failed || link.end_told {
            return;
        }
        let bytes = match link.behind_proxy_header(bytes) {
            Ok(bytes) => bytes,
            Err(failure) => return self.fail(now, conn, &failure),
        };
        if link.is_spent() {
            return self.dissolve(now, conn, &bytes);
        }
        if bytes.is_empty() {
            return;
        }
        if !link.is_shaking_hands() {
            return self.pass_in(now, conn, &bytes);
        }
        if !std::mem::replace(&mut link.has_spoken, true) {
            let links = &self.links;
            self.handshakes.spoke(conn, |conn| standing(links, conn));
        }
        let Some(link) = self.link(conn) else { return };
        // A client that sends byte by byte costs a byte's worth of copying each time.
        let gets_anywhere = link.tls().is_some_and(|tls| tls.keep(&bytes));
        if !gets_anywhere || link.waiting {
            return;
        }
        if self.units > 0 {
            return self.step(now, conn);
        }
        self.counters.tls_waits.add(1);
        if let Some(link) = self.link(conn) {
            link.waiting = true;
        }
        self.waiting.push_back(conn);
        // Unread meanwhile: it can neither send more, nor be handed over with a receive under way.
        self.effects.push_back(Effect::PauseReceive(conn));
    }

    /// Nothing stands before the connection any more: it passes through like any other.
    fn dissolve(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        self.identify(conn);
        self.links[conn.slot as usize] = None;
        if !bytes.is_empty() {
            self.inner.receive(now, conn, bytes);
        }
    }

    /// One step of a handshake, with what was received so far.
    fn step(&mut self, now: Time, conn: ConnId) {
        let cost = self.link(conn).map_or(0, |link| link.step_units);
        self.units = self.units.saturating_sub(cost);
        self.pass_in(now, conn, &[]);
    }

    fn steps_that_waited(&mut self, now: Time) {
        self.units = HANDSHAKE_UNITS_PER_TURN;
        while self.units > 0
            && let Some(conn) = self.waiting.pop_front()
        {
            let Some(link) = self.link(conn).filter(|link| link.waiting) else { continue };
            link.waiting = false;
            if link.closing {
                continue;
            }
            self.resume.push(conn);
            self.step(now, conn);
            if self.link(conn).is_some_and(|link| link.ended) {
                self.end_of_stream(now, conn);
            }
        }
    }

    /// Takes bytes of the wire through the link to the engine.
    fn pass_in(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(conn.slot as usize).and_then(Option::as_deref_mut) else { return };
        let was_handshaking = link.is_shaking_hands();
        let outcome = link.receive(bytes, &mut self.scratch);
        let (over, peer_closed) = (was_handshaking && !link.is_shaking_hands(), link.is_closed_by_peer());
        if link.has_reply() {
            self.dirty.push(conn);
        }
        if link.reply_bytes() > REPLY_BYTES_MAX && !std::mem::replace(&mut link.choked, true) {
            self.effects.push_back(Effect::PauseReceive(conn));
        }
        if over {
            self.shook_hands(conn);
        }
        if !self.scratch.content.is_empty() {
            self.identify(conn);
            let content = std::mem::take(&mut self.scratch.content);
            self.inner.receive(now, conn, &content);
            self.scratch.content = content;
        }
        match outcome {
            Err(failure) => self.fail(now, conn, &failure),
            Ok(()) if peer_closed => self.end_of_stream(now, conn),
            Ok(()) => {}
        }
    }

    fn shook_hands(&mut self, conn: ConnId) {
        self.count_handshakes(-1);
        let kind = self.link(conn).and_then(|link| link.tls()?.kind());
        self.counters.shook_hands(kind);
        self.verify_again(conn);
    }

    /// Tells the engine who the peer is, before the first byte of it.
    fn identify(&mut self, conn: ConnId) {
        let Some(link) = self.link(conn).filter(|link| !link.identified) else { return };
        link.identified = true;
        let peer = link.peer();
        if peer != Peer::default() {
            self.inner.identify(conn, peer);
        }
    }

    fn fail(&mut self, now: Time, conn: ConnId, failure: &Failure) {
        let Some(link) = self.link(conn) else { return };
        let handshaking = link.is_shaking_hands();
        // Who sets up a client or a broker looks here first. What comes later in a connection's life is no misconfiguration.
        match handshaking {
            true => tracing::info!(from = link.address().map(tracing::field::display), "a handshake failed: {failure}"),
            false => debug!(slot = conn.slot, "a connection is closed: {failure}"),
        }
        self.counters.failed(failure, handshaking);
        self.break_off(now, conn, libc::EPROTO);
    }

    /// Nothing more is said or heard on a connection.
    fn break_off(&mut self, now: Time, conn: ConnId, errno: i32) {
        let Some(link) = self.link(conn) else { return };
        link.failed = true;
        if link.is_shaking_hands() {
            self.count_handshakes(-1);
        }
        self.hurry = true;
        self.disconnect(now, conn, TransportEnd::Error(errno));
    }

    fn end_of_stream(&mut self, now: Time, conn: ConnId) {
        let Some(link) = self.link(conn).filter(|link| !link.end_told) else { return };
        link.end_told = true;
        self.disconnect(now, conn, TransportEnd::EndOfStream);
    }

    fn disconnect(&mut self, now: Time, conn: ConnId, end: TransportEnd) {
        match self.link(conn).and_then(|link| link.leaving.take()) {
            // The engine is done with it: the driver finds out that there is nobody to hand over.
            Some(leaving) if matches!(end, TransportEnd::Error(_)) => self.hand_over(conn, *leaving),
            Some(leaving) => {
                if let Some(link) = self.link(conn) {
                    link.leaving = Some(leaving);
                }
            }
            None => self.inner.disconnected(now, conn, end),
        }
    }

    fn hand_over(&mut self, conn: ConnId, (to, mut hand_over): (ShardId, HandOver)) {
        let link = self.links.get_mut(conn.slot as usize).and_then(Option::take);
        hand_over.transport = link.map(|link| link as Box<_>);
        self.effects.push_back(Effect::HandOver { conn, to, hand_over });
    }

    /// Closes those who have waited to be handed over for too long: here the engine is done with them, and there it does
    /// not know them yet.
    fn end_waits(&mut self, now: Time) {
        while let Some((_, conn)) = self.leaving.front().copied().filter(|(until, _)| *until <= now) {
            self.leaving.pop_front();
            if let Some(link) = self.link(conn).filter(|link| link.leaving.is_some() && !link.closing) {
                (link.leaving, link.closing) = (None, true);
                debug!(slot = conn.slot, "a connection is closed: it takes nothing and cannot be handed over");
                self.counters.hand_overs_given_up.add(1);
                self.effects.push_back(Effect::Close(conn));
            }
        }
    }

    /// What of the engine's wishes goes to the driver as it is.
    fn pass_out(&mut self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Close(conn) => {
                if let Some(link) = self.link(conn) {
                    // The driver asks for what is left to send: the farewell is in it.
                    link.closing = true;
                }
                Some(effect)
            }
            Effect::HandOver { conn, to, hand_over } => {
                let Some(link) = self.link(conn) else { return Some(Effect::HandOver { conn, to, hand_over }) };
                if link.is_sending() {
                    link.leaving = Some(Box::new((to, hand_over)));
                    self.leaving.push_back((self.now.after(HAND_OVER_WAIT_MAX), conn));
                    return Some(Effect::PauseReceive(conn));
                }
                self.hand_over(conn, (to, hand_over));
                self.effects.pop_back()
            }
            Effect::PauseReceive(conn) | Effect::ResumeReceive(conn) => {
                let resumes = matches!(effect, Effect::ResumeReceive(_));
                let Some(link) = self.link(conn) else { return Some(effect) };
                link.unread = !resumes;
                (!resumes || !link.choked).then_some(effect)
            }
            effect => Some(effect),
        }
    }

    fn take_by_link(&mut self, conn: ConnId) -> Output {
        let Transports { inner, links, scratch, .. } = self;
        let Some(link) = links.get_mut(conn.slot as usize).and_then(Option::as_deref_mut) else {
            return inner.take_output(conn);
        };
        let spares = std::cell::RefCell::new(Vec::new());
        let taken = link.take(scratch, || inner.take_output(conn), |output| spares.borrow_mut().push(output));
        spares.into_inner().into_iter().for_each(|output| self.keep_spare(output));
        taken.unwrap_or_else(|failure| {
            self.fail(self.now, conn, &failure);
            Output::default()
        })
    }

    fn keep_spare(&mut self, output: Output) {
        let usable = (1..=SPARE_BYTES_MAX).contains(&output.bytes.capacity());
        if usable && self.scratch.spare.len() < SPARES_MAX {
            self.scratch.spare.push(output.bytes);
        } else {
            self.inner.recycle(output);
        }
    }
}

/// How far a handshake has come.
fn standing(links: &[Option<Box<Link>>], conn: ConnId) -> Standing {
    let link = links.get(conn.slot as usize).and_then(Option::as_deref);
    let link = link.filter(|link| link.generation == conn.generation && link.is_shaking_hands());
    match link {
        None => Standing::Over,
        Some(link) if link.failed || link.closing => Standing::Over,
        Some(link) if link.waiting => Standing::Waits,
        Some(link) if link.has_spoken => Standing::Begun,
        Some(_) => Standing::Silent,
    }
}

/// Whoever comes by a Unix domain socket has no address, and is as trusted as the socket's mode says.
fn is_trusted(networks: &[Network], address: Option<SocketAddr>) -> bool {
    match address {
        Some(address) => networks.iter().any(|network| network.contains(address.ip())),
        None => networks.is_empty(),
    }
}

impl<E: Engine> Engine for Transports<E> {
    type Message = E::Message;

    fn open(&mut self, now: Time, listener: u16, address: Option<SocketAddr>) -> Option<ConnId> {
        let link = self.link_for(listener, address).ok()?;
        let shakes_hands = link.as_ref().is_some_and(|link| link.is_shaking_hands());
        let victim = if shakes_hands { self.victim().ok()? } else { None };
        // A load balancer's address is nobody's who could be held to it; the client's own comes with the header.
        let proxied = self.stacks.get(usize::from(listener)).is_some_and(|stack| stack.proxy.is_some());
        let conn = self.inner.open(now, listener, address.filter(|_| !proxied))?;
        if let Some(link) = link {
            self.put(conn, link);
        }
        // Nobody goes for somebody who is not let in.
        if let Some(victim) = victim {
            self.give_up(now, victim);
        }
        if shakes_hands {
            self.count_handshakes(1);
            let links = &self.links;
            self.handshakes.connected(conn, |conn| standing(links, conn));
        }
        Some(conn)
    }

    fn identify(&mut self, conn: ConnId, peer: Peer) {
        self.inner.identify(conn, peer);
    }

    fn adopt(&mut self, now: Time, mut hand_over: HandOver) -> Option<ConnId> {
        let link = hand_over.transport.take().and_then(|transport| transport.downcast::<Link>().ok());
        let conn = self.inner.adopt(now, hand_over)?;
        if let Some(link) = link {
            // What came behind the CONNECT may have been the end already: told where the client had not arrived yet.
            let end = match (link.failed, link.end_told) {
                (true, _) => Some(TransportEnd::Error(libc::EPROTO)),
                (false, true) => Some(TransportEnd::EndOfStream),
                (false, false) => None,
            };
            self.put(conn, link);
            self.verify_again(conn);
            if let Some(end) = end {
                self.inner.disconnected(now, conn, end);
            }
        }
        Some(conn)
    }

    fn receive(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        match self.links.get(conn.slot as usize) {
            None | Some(None) => self.inner.receive(now, conn, bytes),
            Some(Some(_)) => self.receive_by_link(now, conn, bytes),
        }
    }

    fn sent(&mut self, now: Time, conn: ConnId, bytes: usize) {
        let Some(link) = self.link(conn) else { return self.inner.sent(now, conn, bytes) };
        let content = link.sent(bytes);
        if content > 0 {
            self.inner.sent(now, conn, content);
        }
        let Some(link) = self.link(conn).filter(|link| !link.is_sending()) else { return };
        if link.choked && !link.has_reply() {
            link.choked = false;
            self.resume.push(conn);
        }
        let leaving = self.link(conn).and_then(|link| link.leaving.take());
        if let Some(leaving) = leaving {
            self.hand_over(conn, *leaving);
        }
    }

    fn disconnected(&mut self, now: Time, conn: ConnId, end: TransportEnd) {
        let Some(link) = self.link(conn) else { return self.inner.disconnected(now, conn, end) };
        match end {
            TransportEnd::EndOfStream if link.waiting => link.ended = true,
            TransportEnd::EndOfStream => self.end_of_stream(now, conn),
            TransportEnd::Error(_) => self.disconnect(now, conn, end),
        }
    }

    fn release(&mut self, conn: ConnId) {
        let link = self.links.get_mut(conn.slot as usize).and_then(Option::take);
        if link.is_some_and(|link| link.is_shaking_hands() && !link.failed) {
            self.counters.tls_refused_abandoned.add(1);
            self.count_handshakes(-1);
        }
        self.inner.release(conn);
    }

    fn mesh(&mut self, now: Time, from: ShardId, message: E::Message) {
        self.inner.mesh(now, from, message);
    }

    fn attend(&mut self, now: Time) {
        self.now = now;
        self.steps_that_waited(now);
        self.follow_settings(now);
        self.inner.attend(now);
    }

    fn worked(&mut self, now: Time, took: Duration) {
        self.inner.worked(now, took);
    }

    fn tick(&mut self, now: Time) {
        self.hurry = false;
        self.end_waits(now);
        if self.inner.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.inner.tick(now);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        if self.hurry || !self.waiting.is_empty() || self.verifying.at.is_some() {
            return Some(Time(0));
        }
        let given_up = self.leaving.front().map(|(until, _)| *until);
        given_up.into_iter().chain(self.inner.next_deadline()).min()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop().or_else(|| self.inner.poll_dirty())
    }

    fn take_output(&mut self, conn: ConnId) -> Output {
        match self.links.get(conn.slot as usize) {
            None | Some(None) => self.inner.take_output(conn),
            Some(Some(_)) => self.take_by_link(conn),
        }
    }

    fn recycle(&mut self, output: Output) {
        self.inner.recycle(output);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(effect);
        }
        while let Some(effect) = self.inner.poll_effect() {
            if let Some(effect) = self.pass_out(effect) {
                return Some(effect);
            }
        }
        // Last, as whoever is handed over must not be read meanwhile.
        while let Some(conn) = self.resume.pop() {
            if self.link(conn).is_some_and(|link| link.may_be_read()) {
                return Some(Effect::ResumeReceive(conn));
            }
        }
        None
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<E::Message> {
        self.inner.outbox(to)
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        self.inner.poll_outbox()
    }

    fn mesh_has_room(&mut self, now: Time, to: ShardId) {
        self.inner.mesh_has_room(now, to);
    }

    fn stop(&mut self, now: Time) {
        self.inner.stop(now);
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }
}
