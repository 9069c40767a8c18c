//! The shards' side of the world: turns, and the watch over the engine's part of the contract.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::link::{LinkId, Stage};
use super::{Event, Notice, OVERDUE_TURNS_MAX, World, shard_id};
use crate::engine::{ConnId, Effect, Engine, HandOver, Output, ShardId, Time, TransportEnd};

pub(super) enum Input {
    Accept(LinkId),
    Adopt(LinkId),
    Bytes(ConnId, Vec<u8>),
    Sent(ConnId, usize),
    Ended(ConnId, TransportEnd),
    Release(ConnId),
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Received one piece at a time.
    Fresh,
    /// Received persistently.
    Settled,
    /// The engine asked for its end.
    Closing,
    /// Given to another shard.
    HandedOver,
    /// The socket is closed; the release is on its way.
    Closed,
}

/// A connection that is not released yet.
struct Held {
    link: LinkId,
    state: State,
    /// Bytes of the send in flight that were not yet told to the engine.
    unsent: usize,
    /// What the send in flight was made of, to give back.
    output: Option<Output>,
    ended: bool,
    awaits_turn: bool,
}

pub(super) struct Shard<E> {
    pub engine: E,
    pub inputs: VecDeque<Input>,
    pub turn_at: Option<Time>,
    pub timer_at: Option<Time>,
    pub blocked: Vec<bool>,
    held: BTreeMap<ConnId, Held>,
    named: BTreeSet<ConnId>,
    overdue: u32,
}

impl<E: Engine> Shard<E> {
    pub(super) fn new(engine: E, shards: usize) -> Shard<E> {
        Shard {
            engine,
            inputs: VecDeque::new(),
            turn_at: None,
            timer_at: None,
            blocked: vec![false; shards],
            held: BTreeMap::new(),
            named: BTreeSet::new(),
            overdue: 0,
        }
    }

    /// True while a connection that is received piece by piece has one the engine has not seen.
    pub(super) fn awaits_turn(&self, conn: ConnId) -> bool {
        self.held.get(&conn).is_some_and(|held| held.awaits_turn)
    }

    /// Notes that a piece was received.
    pub(super) fn expect_turn(&mut self, conn: ConnId) {
        if let Some(held) = self.held.get_mut(&conn) {
            held.awaits_turn = held.state == State::Fresh;
        }
    }

    fn name(&mut self, conn: ConnId, link: LinkId, state: State) {
        assert!(self.named.insert(conn), "{conn:?} was used before");
        assert!(self.held.keys().all(|other| other.slot != conn.slot), "slot of {conn:?} is not released");
        self.held.insert(conn, Held { link, state, unsent: 0, output: None, ended: false, awaits_turn: false });
    }

    fn held(&mut self, conn: ConnId, what: &str) -> &mut Held {
        self.held.get_mut(&conn).unwrap_or_else(|| panic!("{what} for {conn:?}, which is released or never was"))
    }
}

impl<E: Engine> World<E> {
    /// One turn of a shard: all that arrived, the mesh, the timers, then what the engine wants.
    pub(super) fn turn(&mut self, shard: usize) {
        let mut fed = Vec::new();
        let now = self.now;
        self.shards[shard].engine.attend(now);
        for input in std::mem::take(&mut self.shards[shard].inputs) {
            if let Input::Bytes(conn, _) = &input {
                fed.push(*conn);
            }
            self.apply(shard, input);
        }
        self.collect(shard);
        self.post_blocked(shard);
        if self.shards[shard].engine.next_deadline().is_some_and(|at| at <= now) {
            self.shards[shard].engine.tick(now);
        }
        self.drain(shard);
        for conn in fed {
            if let Some(held) = self.shards[shard].held.get_mut(&conn) {
                held.awaits_turn = false;
                let link = held.link;
                self.schedule_up(link);
            }
        }
        self.plan_next_turn(shard);
    }

    fn plan_next_turn(&mut self, shard: usize) {
        let deadline = self.shards[shard].engine.next_deadline();
        match deadline {
            Some(at) if at <= self.now => {
                self.shards[shard].overdue += 1;
                assert!(
                    self.shards[shard].overdue < OVERDUE_TURNS_MAX,
                    "shard {shard} spins: {deadline:?} never passes"
                );
                let at = self.later(self.conditions.turn_max);
                self.schedule_turn(shard, at);
            }
            Some(at) => {
                self.shards[shard].overdue = 0;
                let late = self.later(self.conditions.tick_late_max).0 - self.now.0 - 1;
                let at = Time(at.0.saturating_add(late));
                if self.shards[shard].timer_at.is_none_or(|earlier| at < earlier || earlier <= self.now) {
                    self.shards[shard].timer_at = Some(at);
                    self.schedule(at, Event::Timer(shard));
                }
            }
            None => self.shards[shard].overdue = 0,
        }
    }

    fn apply(&mut self, shard: usize, input: Input) {
        let now = self.now;
        match input {
            Input::Accept(link) => {
                let conn = self.shards[shard].engine.open(now, 0, None);
                self.tell(|| format!("shard {shard} accepts {link:?} as {conn:?}"));
                self.settle_in(shard, link, conn, State::Fresh);
            }
            Input::Adopt(link) => {
                let Some(luggage) = self.link_mut(link).luggage.take() else { return };
                let conn = self.shards[shard].engine.adopt(now, luggage);
                self.tell(|| format!("shard {shard} adopts {link:?} as {conn:?}"));
                self.settle_in(shard, link, conn, State::Settled);
            }
            Input::Bytes(conn, bytes) => self.receive(shard, conn, &bytes),
            Input::Sent(conn, count) => self.sent(shard, conn, count),
            Input::Ended(conn, end) => self.ended(shard, conn, end),
            Input::Release(conn) => {
                self.tell(|| format!("shard {shard} releases {conn:?}"));
                self.shards[shard].engine.release(conn);
                self.shards[shard].held.remove(&conn);
            }
            Input::Stop => self.shards[shard].engine.stop(now),
        }
    }

    fn settle_in(&mut self, shard: usize, link: LinkId, conn: Option<ConnId>, state: State) {
        let Some(conn) = conn else {
            self.link_mut(link).stage = Stage::Gone;
            return self.notices.push_back(Notice::Closed(link));
        };
        self.shards[shard].name(conn, link, state);
        self.link_mut(link).stage = Stage::Served { shard, conn };
        self.schedule_up(link);
    }

    /// Hands bytes in, even after the engine asked for a close: a real driver may have them by then.
    fn receive(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        let Some(held) = self.shards[shard].held.get_mut(&conn) else { return };
        let (link, state) = (held.link, held.state);
        if state == State::Closed {
            return;
        }
        assert_ne!(state, State::HandedOver, "the world received for a connection that went away");
        if state == State::Fresh {
            self.link_mut(link).received.extend_from_slice(bytes);
        }
        self.tell(|| {
            format!("shard {shard} receives {} bytes of {link:?} {conn:?}: {:02x?}", bytes.len(), head(bytes))
        });
        let now = self.now;
        self.shards[shard].engine.receive(now, conn, bytes);
        if state == State::Fresh {
            // The next piece must not be read before it is known who reads it.
            self.effects(shard);
        }
    }

    fn sent(&mut self, shard: usize, conn: ConnId, count: usize) {
        let now = self.now;
        let Some(held) = self.shards[shard].held.get_mut(&conn) else { return };
        if held.unsent == 0 {
            return;
        }
        held.unsent -= count;
        let done = held.unsent == 0;
        let output = if done { held.output.take() } else { None };
        let engine = &mut self.shards[shard].engine;
        engine.sent(now, conn, count);
        if let Some(output) = output {
            engine.recycle(output);
            self.start_send(shard, conn);
        }
    }

    fn ended(&mut self, shard: usize, conn: ConnId, end: TransportEnd) {
        let now = self.now;
        let Some(held) = self.shards[shard].held.get_mut(&conn) else { return };
        if held.state == State::Closed {
            return;
        }
        held.ended = true;
        let link = held.link;
        self.tell(|| format!("shard {shard} sees the end of {link:?} {conn:?}: {end:?}"));
        if end != TransportEnd::EndOfStream {
            self.drop_flight(shard, conn);
        }
        self.shards[shard].engine.disconnected(now, conn, end);
        if self.shards[shard].held(conn, "end").state == State::Closing {
            self.start_send(shard, conn);
        }
    }

    /// The kernel gives up what it had of a broken connection.
    fn drop_flight(&mut self, shard: usize, conn: ConnId) {
        let held = self.shards[shard].held(conn, "drop");
        held.unsent = 0;
        let (link, output) = (held.link, held.output.take());
        self.link_mut(link).flight.clear();
        if let Some(output) = output {
            self.shards[shard].engine.recycle(output);
        }
    }

    /// Does all that the engine wants done, until it wants nothing more.
    fn drain(&mut self, shard: usize) {
        loop {
            let mut idle = !self.effects(shard);
            while let Some(ShardId(to)) = self.shards[shard].engine.poll_outbox() {
                idle = false;
                self.post(shard, usize::from(to));
            }
            while let Some(conn) = self.shards[shard].engine.poll_dirty() {
                idle = false;
                self.shards[shard].held(conn, "output");
                self.start_send(shard, conn);
            }
            if idle {
                break;
            }
        }
        for (conn, held) in &self.shards[shard].held {
            let closed = !matches!(held.state, State::Fresh | State::Settled);
            // One that is paused still has packets to be handled, and is closed when they are.
            let paused = self.link(held.link).paused;
            assert!(!held.ended || closed || paused, "{conn:?} ended and the engine did not close it");
        }
        for to in (0..self.shards.len()).filter(|to| *to != shard) {
            let left = !self.shards[shard].engine.outbox(shard_id(to)).is_empty();
            assert!(!left || self.shards[shard].blocked[to], "shard {shard} did not name its outbox for {to}");
        }
    }

    fn effects(&mut self, shard: usize) -> bool {
        let mut any = false;
        while let Some(effect) = self.shards[shard].engine.poll_effect() {
            any = true;
            self.effect(shard, effect);
        }
        any
    }

    fn effect(&mut self, shard: usize, effect: Effect) {
        self.tell(|| format!("shard {shard} wants {}", describe(&effect)));
        match effect {
            Effect::Close(conn) => {
                let held = self.shards[shard].held(conn, "Close");
                assert!(matches!(held.state, State::Fresh | State::Settled), "Close for {conn:?}, {:?}", held.state);
                held.state = State::Closing;
                let link = held.link;
                self.schedule(self.now.after(self.conditions.flush_max), Event::FlushTimeout(link));
                self.start_send(shard, conn);
            }
            Effect::HandOver { conn, to, hand_over } => self.hand_over(shard, conn, to, hand_over),
            Effect::Settle(conn) => {
                let held = self.shards[shard].held(conn, "Settle");
                // An adopted connection is settled from the start; to say so again does no harm.
                assert!(matches!(held.state, State::Fresh | State::Settled), "Settle for {conn:?}, {:?}", held.state);
                held.state = State::Settled;
                held.awaits_turn = false;
            }
            Effect::PauseReceive(conn) => self.set_paused(shard, conn, true),
            Effect::ResumeReceive(conn) => self.set_paused(shard, conn, false),
        }
    }

    fn set_paused(&mut self, shard: usize, conn: ConnId, paused: bool) {
        let held = self.shards[shard].held(conn, "Pause or Resume");
        assert!(matches!(held.state, State::Fresh | State::Settled), "Pause or Resume for {conn:?}, {:?}", held.state);
        let link = held.link;
        self.link_mut(link).paused = paused;
        self.schedule_up(link);
    }

    fn hand_over(&mut self, shard: usize, conn: ConnId, to: ShardId, hand_over: HandOver) {
        let held = self.shards[shard].held(conn, "HandOver");
        assert_eq!(held.state, State::Fresh, "HandOver for {conn:?}");
        assert_eq!(held.unsent, 0, "HandOver of {conn:?} with output in flight");
        held.state = State::HandedOver;
        let link = held.link;
        let output = self.shards[shard].engine.take_output(conn);
        assert!(output.is_empty(), "HandOver of {conn:?} with output left");
        let to = usize::from(to.0);
        assert!(to != shard && to < self.shards.len(), "HandOver of {conn:?} from {shard} to {to}");
        assert_eq!(hand_over.bytes, self.link(link).received, "HandOver of {conn:?} lost or made up bytes");
        self.link_mut(link).stage = Stage::Moving;
        self.link_mut(link).luggage = Some(hand_over);
        let at = self.later(self.conditions.mesh_delay_max);
        self.schedule(at, Event::Adopt(link, to));
        let at = self.later(self.conditions.mesh_delay_max);
        self.schedule(at, Event::Release(shard, conn));
    }

    /// Starts the next send unless one is in flight; closes the socket when nothing is left of a closing one.
    fn start_send(&mut self, shard: usize, conn: ConnId) {
        let held = self.shards[shard].held(conn, "output");
        let (link, state) = (held.link, held.state);
        let broken = held.ended && self.links[link.0 as usize].ending != Some(TransportEnd::EndOfStream);
        if held.unsent > 0 || matches!(state, State::HandedOver | State::Closed) {
            return;
        }
        let output = self.shards[shard].engine.take_output(conn);
        let bytes = flatten(&output);
        if bytes.is_empty() || broken {
            self.shards[shard].engine.recycle(output);
            if state == State::Closing {
                self.close_socket(shard, conn);
            }
            return;
        }
        self.tell(|| format!("shard {shard} sends {} bytes to {link:?} {conn:?}: {:02x?}", bytes.len(), head(&bytes)));
        let held = self.shards[shard].held(conn, "output");
        held.unsent = bytes.len();
        held.output = Some(output);
        self.link_mut(link).flight.extend(bytes);
        self.schedule_down(link);
    }

    /// A closing connection that does not take what is left is closed all the same.
    pub(super) fn flush_timeout(&mut self, link: LinkId) {
        let Stage::Served { shard, conn } = self.link(link).stage else { return };
        if self.shards[shard].held.get(&conn).is_some_and(|held| held.state == State::Closing) {
            self.drop_flight(shard, conn);
            self.close_socket(shard, conn);
        }
    }

    fn close_socket(&mut self, shard: usize, conn: ConnId) {
        let held = self.shards[shard].held(conn, "close");
        held.state = State::Closed;
        let link = held.link;
        self.link_mut(link).stage = Stage::Gone;
        if !self.link(link).deaf {
            self.notices.push_back(Notice::Closed(link));
        }
        let at = self.later(self.conditions.delay_max);
        self.schedule(at, Event::Release(shard, conn));
    }
}

fn flatten(output: &Output) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(output.len());
    let mut at = 0;
    for large in &output.large {
        assert!(at <= large.at && large.at <= output.bytes.len(), "large payloads out of order");
        bytes.extend_from_slice(&output.bytes[at..large.at]);
        bytes.extend_from_slice(&large.payload);
        at = large.at;
    }
    bytes.extend_from_slice(&output.bytes[at..]);
    bytes
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::HandOver { conn, to, hand_over } => {
            format!("HandOver {conn:?} to {to:?}, {} bytes", hand_over.bytes.len())
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(64)]
}
