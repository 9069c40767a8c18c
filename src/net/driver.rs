//! The driver of one shard: everything between the kernel and an [`Engine`], one turn at a time.
//!
//! A turn submits and waits in one enter, reaps every completion into a list, handles the list, drains the
//! mesh, runs timers, does what the engine asks for, and flushes: at most one send per connection. The steps
//! are spread over the neighbouring files: accepting and handing over in `arrive`, `receive`,
//! `send`, `close`; this file holds the state and the order.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arrive::{Arrival, Asking, Listening};
use super::conn::{Marks, Records};
use super::listen::Listener;
use super::op::{Kind, Op};
use super::probe::Features;
use super::ring::{Completion, QueueSizes, Ring};
use super::ring_buffers::RingBuffers;
use super::ring_send::SendState;
use super::stats::DriverStats;
use crate::engine::{ConnId, Effect, Engine, ShardId, Time};
use crate::mesh::{Item, Port};
use crate::slab::Slab;

/// Items taken from one other shard per turn.
const MESH_BUDGET: usize = 1024;

/// The sizes and times of a driver.
#[derive(Clone, Copy, Debug)]
pub struct DriverConfig {
    /// The two queues of the ring.
    pub queues: QueueSizes,
    /// Provided receive buffers; a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes in each of them.
    pub buffer_size: u32,
    /// Size of the ring's table of descriptors: the most connections this shard can hold.
    pub descriptors: u32,
    /// How long the last output of a closed connection may take, together with the peer's own close.
    pub close_timeout: Duration,
    /// How long to accept nothing after an accept failed for want of descriptors or memory.
    pub accept_pause: Duration,
    /// How long all connections may take to close after a stop.
    pub stop_timeout: Duration,
}

impl Default for DriverConfig {
    fn default() -> DriverConfig {
        DriverConfig {
            queues: QueueSizes { submission: 1024, completion: 8192 },
            buffers: 1024,
            buffer_size: 4096,
            descriptors: 4096,
            close_timeout: Duration::from_secs(5),
            accept_pause: Duration::from_millis(100),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more to do at once.
    Again,
    /// A watched descriptor was readable.
    Watched,
    /// The stop is complete: nothing is left.
    Stopped,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    No,
    /// The connections close as ever, and their peers are given a moment to close their side.
    Polite(Time),
    /// Until the deadline the connections may flush what is left; nobody waits for a peer.
    Until(Time),
    /// They are being closed by force; what is not gone by then is left to the kernel.
    Forced(Time),
    /// No connection is left here, but other shards may still have some.
    Drained,
}

/// See the module's description.
pub struct Driver<E: Engine> {
    // Dropped in this order: the kernel must have let go of the memory before it goes.
    pub(super) ring: Ring,
    pub(super) buffers: RingBuffers,
    pub(super) records: Records,
    pub(super) engine: E,
    pub(super) port: Port<E::Message>,
    pub(super) config: DriverConfig,
    pub(super) stats: Arc<DriverStats>,
    pub(super) now: Time,
    origin: Instant,
    completions: Vec<Completion>,
    /// Completions of this turn.
    reaped: usize,
    overflowed: bool,
    mesh_left_over: bool,
    watched: bool,
    pub(super) listening: Vec<Listening>,
    /// Connections to flush at the end of this turn.
    pub(super) dirty: Vec<ConnId>,
    /// Connections whose next receive is decided on after the effects.
    pub(super) rearm: Vec<ConnId>,
    /// Closing connections by the time at which patience ends, earliest first.
    pub(super) deadlines: VecDeque<(Time, ConnId)>,
    /// Send states for the next sends.
    pub(super) idle_sends: Vec<SendState>,
    /// Accepted sockets whose peer's name is being asked for.
    pub(super) asking: Slab<Asking>,
    /// Half of a hand-over that waits for the other half, by giver and token.
    pub(super) arrivals: HashMap<(ShardId, u32), Arrival>,
    /// Where the connections that are being given away go, and under which token.
    pub(super) giving: HashMap<ConnId, (ShardId, u32)>,
    pub(super) next_token: u32,
    /// Until then nothing more is said of clients that were turned away.
    pub(super) quiet_until: Option<Time>,
    pub(super) stopping: Stopping,
    /// When whoever runs this driver wants it awake.
    alarm: Option<Time>,
}

impl<E: Engine> Driver<E> {
    /// Sets up the ring of a shard. To be called on its thread: no other may use the ring.
    ///
    /// # Errors
    /// When the kernel refuses the ring, the buffers or the table of descriptors.
    pub fn new(
        config: DriverConfig,
        features: &Features,
        engine: E,
        port: Port<E::Message>,
        origin: Instant,
        stats: Arc<DriverStats>,
    ) -> io::Result<Driver<E>> {
        let ring = Ring::new(config.queues, features)?;
        ring.submitter().register_files_sparse(config.descriptors)?;
        // The only operation that the kernel has a thread of its own for is shutdown; one will do.
        ring.submitter().register_iowq_max_workers(&mut [1, 1])?;
        let buffers = RingBuffers::new(&ring, config.buffers, config.buffer_size)?;
        port.publish_ring(ring.as_raw_fd());
        let mut driver = Driver {
            ring,
            buffers,
            records: Records::default(),
            engine,
            port,
            config,
            stats,
            now: Time(0),
            origin,
            completions: Vec::new(),
            reaped: 0,
            overflowed: false,
            mesh_left_over: false,
            watched: false,
            listening: Vec::new(),
            dirty: Vec::new(),
            rearm: Vec::new(),
            deadlines: VecDeque::new(),
            idle_sends: Vec::new(),
            asking: Slab::new(),
            arrivals: HashMap::new(),
            giving: HashMap::new(),
            next_token: 0,
            quiet_until: None,
            stopping: Stopping::No,
            alarm: None,
        };
        driver.read_clock();
        driver.watch_eventfd();
        Ok(driver)
    }

    /// Begins to accept. `listeners[i]` is the engine's listener `i`.
    pub fn listen(&mut self, listeners: Vec<Listener>) {
        self.listening = listeners.into_iter().map(Listening::new).collect();
        (0..self.listening.len()).for_each(|index| self.arm_accept(index));
    }

    /// Lets the readability of a descriptor end the wait, and [`turn`](Self::turn) say so.
    pub fn watch(&mut self, fd: RawFd) {
        self.ring.poll_multishot(fd, Op::bare(Kind::Watch, fd as u32));
    }

    /// Wakes a sleeping turn at that time, for the runner's own purposes.
    pub fn set_alarm(&mut self, alarm: Option<Time>) {
        self.alarm = alarm;
    }

    /// The state machine this drives.
    pub fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    /// An eventfd that becomes readable when [`turn`](Self::turn) has something to do; for whoever sleeps elsewhere.
    ///
    /// # Errors
    /// When there is no descriptor left, or the kernel refuses.
    pub fn signal_by_eventfd(&mut self) -> io::Result<OwnedFd> {
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        Ok(eventfd)
    }

    /// A point of the system's clock on this driver's.
    pub fn time_of(&self, instant: Instant) -> Time {
        Time(0).after(instant.saturating_duration_since(self.origin))
    }

    /// One turn; with `wait` it sleeps first until there is something to do.
    ///
    /// # Errors
    /// When the ring is unusable.
    pub fn turn(&mut self, wait: bool) -> io::Result<Turn> {
        self.enter(wait)?;
        self.read_clock();
        self.engine.attend(self.now);
        self.handle_completions();
        self.drain_mesh();
        self.run_timers();
        self.follow_stop();
        self.fill_mesh();
        self.run_effects();
        self.rearm_receives();
        self.flush();
        self.announce();
        self.stats.turns.add(1);
        self.engine.worked(self.now, Time(0).after(self.origin.elapsed()).since(self.now));
        if self.stopping == Stopping::Drained && self.port.all_drained() {
            return Ok(Turn::Stopped);
        }
        Ok(if std::mem::take(&mut self.watched) { Turn::Watched } else { Turn::Again })
    }

    /// Says that the shard is about to sleep elsewhere, with everything submitted; returns how long it may at
    /// most, or `None` when it must not. [`awake`](Self::awake) ends that.
    pub fn prepare_to_sleep(&mut self) -> Option<Option<Duration>> {
        // The kernel runs its deferred work in portions, and signals only the first of what gathers: all is
        // done when a turn has found nothing.
        if self.reaped > 0 || self.overflowed || self.mesh_left_over || self.ring.has_queued() {
            return None;
        }
        let timeout = match self.next_deadline() {
            Some(deadline) if deadline <= self.now => return None,
            Some(deadline) => Some(deadline.since(self.now)),
            None => None,
        };
        self.port.park().then_some(timeout)
    }

    /// Ends what [`prepare_to_sleep`](Self::prepare_to_sleep) began.
    pub fn awake(&mut self) {
        self.port.unparked();
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        if !wait || self.overflowed || self.mesh_left_over {
            return self.ring.submit();
        }
        let timeout = match self.next_deadline() {
            Some(deadline) if deadline <= self.now => return self.ring.submit(),
            Some(deadline) => Some(deadline.since(self.now)),
            None => None,
        };
        if !self.port.park() {
            return self.ring.submit();
        }
        let entered = self.ring.submit_and_wait(timeout);
        self.port.unparked();
        entered
    }

    fn next_deadline(&self) -> Option<Time> {
        let stop = match self.stopping {
            Stopping::Polite(deadline) | Stopping::Until(deadline) | Stopping::Forced(deadline) => Some(deadline),
            Stopping::No | Stopping::Drained => None,
        };
        let closing = self.deadlines.front().map(|(deadline, _)| *deadline);
        let accept = self.listening.iter().filter_map(|listening| listening.paused_until).min();
        [self.engine.next_deadline(), closing, accept, stop, self.alarm].into_iter().flatten().min()
    }

    fn read_clock(&mut self) {
        self.now = Time(0).after(self.origin.elapsed());
    }

    fn handle_completions(&mut self) {
        let mut list = std::mem::take(&mut self.completions);
        self.overflowed = self.ring.reap(&mut list);
        self.reaped = list.len();
        if self.overflowed {
            self.stats.overflows.add(1);
        }
        for completion in list.drain(..) {
            self.handle(completion);
        }
        self.completions = list;
        self.buffers.publish();
    }

    fn handle(&mut self, completion: Completion) {
        let Some(op) = Op::decode(completion.user_data) else {
            unreachable!("a completion of an operation that was never queued: {completion:?}");
        };
        match op.kind {
            Kind::Accept => self.accepted(op.slot as usize, completion),
            Kind::CancelAccept => {}
            Kind::PeerName => self.peer_named(op.slot, completion.result),
            Kind::Arrived => self.descriptor_arrived(op, completion.result),
            Kind::CloseUnowned => self.descriptor_closed(completion.result),
            Kind::EventFd => self.eventfd_rang(completion),
            Kind::Watch => self.watch_fired(op, completion),
            _ => self.handle_of_connection(op, completion),
        }
    }

    fn handle_of_connection(&mut self, op: Op, completion: Completion) {
        let conn = self.records.at(op.slot).filter(|conn| op.is_of(*conn));
        let Some(conn) = conn else {
            self.stats.stale.add(1);
            self.drop_buffer(completion);
            return;
        };
        if !io_uring::cqueue::more(completion.flags) {
            self.end_op(conn);
        }
        match op.kind {
            Kind::Receive => self.received(conn, completion),
            Kind::Send => self.sent(conn, completion.result),
            Kind::GiveAway => self.given_away(conn, completion.result),
            Kind::Close => self.descriptor_closed(completion.result),
            Kind::Cancel => self.record(conn).marks.clear(Marks::CANCELLING),
            Kind::Shutdown => self.shut(conn),
            _ => unreachable!("handled by the caller"),
        }
        self.release_if_done(conn);
    }

    /// The record of a connection that is known to be there.
    pub(super) fn record(&mut self, conn: ConnId) -> &mut super::conn::Record {
        self.records.of(conn).expect("a connection stays until its last operation has completed")
    }

    /// It is never read: a multishot poll completes at each write, and writes between two turns may share one.
    fn eventfd_rang(&mut self, completion: Completion) {
        if !io_uring::cqueue::more(completion.flags) {
            self.watch_eventfd();
        }
    }

    fn watch_eventfd(&mut self) {
        let eventfd = self.port.eventfd();
        self.ring.poll_multishot(eventfd, Op::bare(Kind::EventFd, 0));
    }

    fn watch_fired(&mut self, op: Op, completion: Completion) {
        self.watched = true;
        if !io_uring::cqueue::more(completion.flags) {
            self.watch(op.slot as RawFd);
        }
    }

    fn drain_mesh(&mut self) {
        let Driver { port, engine, stats, now, .. } = self;
        let mut hand_overs = Vec::new();
        self.mesh_left_over = port.drain(MESH_BUDGET, |from, item| {
            stats.mesh_received.add(1);
            match item {
                Item::Engine(message) => engine.mesh(*now, from, message),
                other => hand_overs.push((from, other)),
            }
        });
        for (from, item) in hand_overs {
            self.hand_over_came(from, item);
        }
    }

    fn run_timers(&mut self) {
        if self.engine.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.engine.tick(self.now);
        }
        self.resume_accepts();
        self.end_patience();
    }

    /// Moves the engine's messages into the mesh as far as there is room.
    fn fill_mesh(&mut self) {
        while let Some(to) = self.port.poll_room() {
            if self.empty_outbox(to) {
                self.engine.mesh_has_room(self.now, to);
            }
        }
        // Whoever waits for an outbox may have begun to wait in this very turn: each one that was emptied is told.
        while let Some(to) = self.engine.poll_outbox() {
            if self.empty_outbox(to) {
                self.engine.mesh_has_room(self.now, to);
            }
        }
    }

    fn empty_outbox(&mut self, to: ShardId) -> bool {
        let Driver { engine, port, stats, .. } = self;
        let outbox = engine.outbox(to);
        loop {
            while !outbox.is_empty() && port.has_room(to) {
                port.send(to, Item::Engine(outbox.pop_front().expect("it is not empty")));
                stats.mesh_sent.add(1);
            }
            if outbox.is_empty() {
                return true;
            }
            if !port.wait_for_room(to) {
                return false;
            }
        }
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Close(conn) => self.close(conn),
                Effect::HandOver { conn, to, hand_over } => self.give_away(conn, to, hand_over),
                Effect::Settle(conn) => self.settle(conn),
                Effect::PauseReceive(conn) => self.pause_receive(conn),
                Effect::ResumeReceive(conn) => self.resume_receive(conn),
            }
        }
    }

    fn announce(&mut self) {
        self.port.announce();
        while let Some(shard) = self.port.poll_wake() {
            self.stats.wakes.add(1);
            self.port.wake(shard);
        }
    }
}

impl<E: Engine> Drop for Driver<E> {
    fn drop(&mut self) {
        // Sends that are still in flight read their memory until the kernel has torn the ring down, which is
        // after the drop: leave it to them. Only a stop that ran out of time gets here with any.
        self.records.take_sends().into_iter().for_each(std::mem::forget);
        std::mem::forget(std::mem::take(&mut self.asking));
    }
}
