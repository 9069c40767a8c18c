//! A whole broker in one thread on virtual time: shards, their mesh, and the network between them and their
//! clients, all from one seed.
//!
//! The world is a driver of [`Engine`]s like the io_uring driver, and a stricter one: it does everything the
//! contract allows (bytes one at a time, sends that stall, late ticks, a mesh that is full, accepts on any
//! shard, completions after a close) and panics when an engine does what the contract forbids.
//!
//! This file holds the clock, the events and what a client can do; `drive` is the shards' side of it.

mod drive;
mod link;
mod mesh;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use self::drive::{Input, Shard};
use self::link::{Link, Stage};
use self::mesh::Mesh;
use super::rng::Rng;
use crate::engine::{ConnId, Engine, ShardId, Time, TransportEnd};

pub use self::link::{Chunks, LinkId};

/// What an errno of a peer that went without a word is called.
const ECONNRESET: i32 = 104;

/// Turns that a shard may take in a row because its deadline has passed: beyond it the engine spins.
const OVERDUE_TURNS_MAX: u32 = 100_000;

/// How kind the network and the mesh are.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// A piece of a stream travels at most so long.
    pub delay_max: Duration,
    /// A shard begins its turn at most so long after there is something to do.
    pub turn_max: Duration,
    /// A tick comes at most so late.
    pub tick_late_max: Duration,
    /// A message between shards travels at most so long.
    pub mesh_delay_max: Duration,
    /// Messages that fit between two shards.
    pub mesh_capacity: usize,
    /// The driver gives a closing connection so long to take what is left.
    pub flush_max: Duration,
    /// How streams are cut, both ways, unless the link says otherwise.
    pub chunks: Chunks,
}

impl Conditions {
    /// Everything is fast and whole; for tests that are about packets.
    pub fn kind() -> Conditions {
        Conditions {
            delay_max: Duration::from_micros(10),
            turn_max: Duration::from_micros(5),
            tick_late_max: Duration::ZERO,
            mesh_delay_max: Duration::from_micros(10),
            mesh_capacity: 1024,
            flush_max: Duration::from_secs(5),
            chunks: Chunks::Whole,
        }
    }

    /// Anything goes, differently for each seed.
    pub fn unkind(rng: &mut Rng) -> Conditions {
        Conditions {
            delay_max: Duration::from_micros(*rng.pick(&[50, 2_000, 20_000])),
            turn_max: Duration::from_micros(*rng.pick(&[5, 200, 5_000])),
            tick_late_max: Duration::from_millis(rng.range(0, 20)),
            mesh_delay_max: Duration::from_micros(*rng.pick(&[5, 500, 10_000])),
            mesh_capacity: *rng.pick(&[1, 2, 8, 256]),
            flush_max: Duration::from_secs(5),
            chunks: *rng.pick(&[Chunks::Whole, Chunks::Random(7), Chunks::Random(400), Chunks::Random(4000)]),
        }
    }
}

/// Something a client may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Bytes arrived: [`World::take`] has them.
    Readable(LinkId),
    /// The server closed the connection; what it had sent before can still be taken.
    Closed(LinkId),
    /// A time asked for with [`World::wake_in`] has come.
    Wake(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Turn(usize),
    Timer(usize),
    Accept(LinkId, usize),
    Up(LinkId),
    Down(LinkId),
    Adopt(LinkId, usize),
    Release(usize, ConnId),
    FlushTimeout(LinkId),
    NoticeReset(LinkId),
    Wake(u64),
}

impl Event {
    /// True for what the broker or the network still has to do by itself, whatever the clock says.
    fn is_work(self) -> bool {
        !matches!(self, Event::Timer(_) | Event::FlushTimeout(_) | Event::Wake(_))
    }
}

/// The world. See the module's description.
pub struct World<E: Engine> {
    now: Time,
    rng: Rng,
    conditions: Conditions,
    shards: Vec<Shard<E>>,
    links: Vec<Link>,
    mesh: Mesh<E::Message>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    scheduled: u64,
    work: usize,
    notices: VecDeque<Notice>,
    trace: bool,
}

impl<E: Engine> World<E> {
    /// A world of these shards, in their order, at the time `start`.
    pub fn new(engines: Vec<E>, conditions: Conditions, seed: u64, start: Time) -> World<E> {
        let count = engines.len();
        let mut world = World {
            now: start,
            rng: Rng::new(seed),
            mesh: Mesh::new(count, conditions.mesh_capacity),
            conditions,
            shards: engines.into_iter().map(|engine| Shard::new(engine, count)).collect(),
            links: Vec::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            work: 0,
            notices: VecDeque::new(),
            trace: false,
        };
        for shard in 0..count {
            world.schedule_turn(shard, start);
        }
        world
    }

    /// Tells every event on standard error from now on.
    pub fn trace(&mut self) {
        self.trace = true;
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The engines, in shard order.
    pub fn engines(&self) -> impl Iterator<Item = &E> {
        self.shards.iter().map(|shard| &shard.engine)
    }

    /// Changes how kind the network is from now on; the mesh keeps its capacity.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// A client dials; some shard will accept it.
    pub fn connect(&mut self) -> LinkId {
        let shard = self.rng.below(self.shards.len());
        self.connect_at(shard)
    }

    /// A client dials and this shard will accept it.
    pub fn connect_at(&mut self, shard: usize) -> LinkId {
        let id = LinkId(u32::try_from(self.links.len()).expect("fewer than 2^32 links"));
        self.links.push(Link::new(self.conditions.chunks));
        let at = self.later(self.conditions.delay_max);
        self.schedule(at, Event::Accept(id, shard));
        id
    }

    /// The client writes.
    pub fn send(&mut self, link: LinkId, bytes: &[u8]) {
        self.tell(|| format!("{link:?} writes {} bytes: {:02x?}", bytes.len(), drive::head(bytes)));
        self.link_mut(link).to_server.extend(bytes);
        self.schedule_up(link);
    }

    /// What arrived at the client since it last took.
    pub fn take(&mut self, link: LinkId) -> Vec<u8> {
        self.link_mut(link).to_client.drain(..).collect()
    }

    /// True once the server has closed the connection and all it sent has arrived.
    pub fn is_closed(&self, link: LinkId) -> bool {
        self.link(link).stage == Stage::Gone
    }

    /// How many bytes the client wrote that have not arrived.
    pub fn unsent(&self, link: LinkId) -> usize {
        self.link(link).to_server.len()
    }

    /// Cuts this link's streams in another way from now on.
    pub fn set_chunks(&mut self, link: LinkId, chunks: Chunks) {
        self.link_mut(link).chunks = chunks;
    }

    /// Whether the client does not read.
    pub fn is_stalled(&self, link: LinkId) -> bool {
        self.link(link).stalled
    }

    /// The client stops reading, or begins again: the server's sends complete only while it reads.
    pub fn set_stalled(&mut self, link: LinkId, stalled: bool) {
        self.link_mut(link).stalled = stalled;
        self.schedule_down(link);
    }

    /// The client closes in order: what it wrote arrives, then the end of the stream. It reads no more.
    pub fn close(&mut self, link: LinkId) {
        self.end(link, TransportEnd::EndOfStream);
    }

    /// The connection breaks: of what was on its way some part arrives, in either direction.
    pub fn reset(&mut self, link: LinkId) {
        let left = self.link(link).to_server.len();
        let kept = self.rng.below(left + 1);
        self.link_mut(link).to_server.truncate(kept);
        self.end(link, TransportEnd::Error(ECONNRESET));
        let at = self.later(self.conditions.delay_max * 4);
        self.schedule(at, Event::NoticeReset(link));
    }

    fn end(&mut self, link: LinkId, end: TransportEnd) {
        let state = self.link_mut(link);
        state.ending.get_or_insert(end);
        state.deaf = true;
        state.to_client.clear();
        self.schedule_up(link);
        self.schedule_down(link);
    }

    /// Asks for [`Notice::Wake`] with this token.
    pub fn wake_in(&mut self, delay: Duration, token: u64) {
        self.schedule(self.now.after(delay), Event::Wake(token));
    }

    /// Keeps messages between shards from arriving, or lets them again.
    pub fn hold_mesh(&mut self, held: bool) {
        self.mesh.held = held;
        for shard in 0..self.shards.len() {
            self.schedule_turn(shard, self.now);
        }
    }

    /// The broker stops.
    pub fn stop(&mut self) {
        for shard in 0..self.shards.len() {
            self.shards[shard].inputs.push_back(Input::Stop);
            self.schedule_turn(shard, self.now);
        }
    }

    /// Something outside has news for every shard: each takes a turn soon.
    pub fn wake_shards(&mut self) {
        for shard in 0..self.shards.len() {
            let at = self.later(self.conditions.turn_max);
            self.schedule_turn(shard, at);
        }
    }

    /// The oldest notice that nobody has had yet.
    pub fn notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// True when nothing moves and nothing will before a timer or a client does something.
    pub fn is_quiet(&self) -> bool {
        self.work == 0
    }

    /// Lets the next event happen, unless it lies after `until`: then the clock is put there.
    pub fn step(&mut self, until: Time) -> bool {
        match self.events.peek() {
            Some(Reverse((at, ..))) if *at <= until => {}
            _ => {
                self.now = self.now.max(until);
                return false;
            }
        }
        let Some(Reverse((at, _, event))) = self.events.pop() else { return false };
        self.now = self.now.max(at);
        if event.is_work() {
            self.work -= 1;
        }
        self.happen(event, at);
        true
    }

    /// Runs for so long, whoever has notices.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now.after(duration);
        while self.step(until) {}
    }

    fn happen(&mut self, event: Event, at: Time) {
        match event {
            Event::Turn(shard) => {
                if self.shards[shard].turn_at == Some(at) {
                    self.shards[shard].turn_at = None;
                    self.turn(shard);
                }
            }
            Event::Timer(shard) => {
                if self.shards[shard].timer_at == Some(at) {
                    self.shards[shard].timer_at = None;
                    self.turn(shard);
                }
            }
            Event::Accept(link, shard) => self.input(shard, Input::Accept(link)),
            Event::Up(link) => self.up(link),
            Event::Down(link) => self.down(link),
            Event::Adopt(link, shard) => self.input(shard, Input::Adopt(link)),
            Event::Release(shard, conn) => self.input(shard, Input::Release(conn)),
            Event::FlushTimeout(link) => self.flush_timeout(link),
            Event::NoticeReset(link) => self.notice_reset(link),
            Event::Wake(token) => self.notices.push_back(Notice::Wake(token)),
        }
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        if event.is_work() {
            self.work += 1;
        }
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn schedule_turn(&mut self, shard: usize, at: Time) {
        if self.shards[shard].turn_at.is_none_or(|earlier| at < earlier) {
            self.shards[shard].turn_at = Some(at);
            self.schedule(at, Event::Turn(shard));
        }
    }

    fn input(&mut self, shard: usize, input: Input) {
        self.shards[shard].inputs.push_back(input);
        let at = self.later(self.conditions.turn_max);
        self.schedule_turn(shard, at);
    }

    /// A time after now by at least 1 ns and at most `most`.
    fn later(&mut self, most: Duration) -> Time {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
        Time(self.now.0 + self.rng.range(1, most))
    }

    fn link(&self, link: LinkId) -> &Link {
        &self.links[link.0 as usize]
    }

    fn link_mut(&mut self, link: LinkId) -> &mut Link {
        &mut self.links[link.0 as usize]
    }

    /// Tells something, when it tells at all.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>14.6}  {}", self.now.0 as f64 / 1e9, what());
        }
    }
}

/// A shard by its index.
fn shard_id(shard: usize) -> ShardId {
    ShardId(u16::try_from(shard).expect("fewer than 2^16 shards"))
}
