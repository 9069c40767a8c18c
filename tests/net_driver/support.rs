//! Small engines that stand in for the broker, and what the driver's tests share.
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringmq::counter::Counter;
use ringmq::engine::{ConnId, Effect, Engine, HandOver, Large, Output, Peer, ShardId, Time, TransportEnd};
use ringmq::net::driver::DriverConfig;
use ringmq::net::stats::DriverStats;
use ringmq::server::{Listen, Running, ServerConfig, start};

/// What tests see of engines from outside.
#[derive(Default)]
pub struct Watched {
    pub connections: AtomicUsize,
    pub output_bytes: AtomicUsize,
    pub output_bytes_max: AtomicUsize,
    pub pauses: AtomicUsize,
    pub disconnected: AtomicUsize,
    pub resets: AtomicUsize,
    pub turns: AtomicUsize,
}

#[derive(Clone, Copy)]
pub struct EchoOptions {
    /// How many shards there are to live on.
    pub shards: u16,
    /// Bytes of a connection that must be there before it settles.
    pub settle_after: usize,
    /// Output above which a connection is not read.
    pub pause_above: usize,
    /// Send what arrives as a referenced payload.
    pub large: bool,
    /// The byte upon which the engine says goodbye and closes.
    pub close_on: Option<u8>,
    /// Let the end of the peer's stream be, as an engine does that has still to handle what came before.
    pub outlive_end: bool,
    /// The byte upon which the engine panics.
    pub panic_on: Option<u8>,
}

impl Default for EchoOptions {
    fn default() -> EchoOptions {
        EchoOptions {
            shards: 1,
            settle_after: 1,
            pause_above: 256 << 10,
            large: false,
            close_on: None,
            outlive_end: false,
            panic_on: None,
        }
    }
}

#[derive(Default)]
struct Conn {
    generation: u32,
    live: bool,
    closed: bool,
    settled: bool,
    paused: bool,
    named: bool,
    early: Vec<u8>,
    output: Output,
    /// Bytes taken by the driver and not yet reported as sent.
    in_driver: usize,
}

/// Sends back what it receives. A connection's first byte names its home shard (`% shards`).
pub struct EchoEngine {
    me: ShardId,
    options: EchoOptions,
    conns: Vec<Conn>,
    free: Vec<u32>,
    dirty: VecDeque<ConnId>,
    effects: VecDeque<Effect>,
    outbox: VecDeque<()>,
    watched: Arc<Watched>,
    live: usize,
    stopping: bool,
    attended: bool,
}

impl EchoEngine {
    pub fn new(me: ShardId, options: EchoOptions, watched: Arc<Watched>) -> EchoEngine {
        EchoEngine {
            me,
            options,
            conns: Vec::new(),
            free: Vec::new(),
            dirty: VecDeque::new(),
            effects: VecDeque::new(),
            outbox: VecDeque::new(),
            watched,
            live: 0,
            stopping: false,
            attended: false,
        }
    }

    fn begin(&mut self) -> Option<ConnId> {
        if self.stopping {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Conn::default());
            self.conns.len() as u32 - 1
        });
        let generation = self.conns[slot as usize].generation + 1;
        self.conns[slot as usize] = Conn { generation, live: true, ..Conn::default() };
        self.live += 1;
        self.watched.connections.fetch_add(1, Ordering::SeqCst);
        Some(ConnId { slot, generation })
    }

    fn conn(&mut self, id: ConnId) -> &mut Conn {
        let conn = &mut self.conns[id.slot as usize];
        assert!(conn.live && conn.generation == id.generation, "the driver named a connection that is not there");
        conn
    }

    fn close(&mut self, id: ConnId) {
        let conn = self.conn(id);
        if !conn.closed {
            conn.closed = true;
            self.effects.push_back(Effect::Close(id));
        }
    }

    fn echo(&mut self, id: ConnId, bytes: &[u8]) {
        let large = self.options.large;
        let close_on = self.options.close_on;
        let conn = self.conn(id);
        if large {
            conn.output.large.push(Large { at: conn.output.bytes.len(), payload: Bytes::copy_from_slice(bytes) });
        } else {
            conn.output.bytes.extend_from_slice(bytes);
        }
        let goodbye = close_on.is_some_and(|byte| bytes.contains(&byte));
        if goodbye {
            conn.output.bytes.extend_from_slice(b"goodbye");
        }
        self.output_changed(id, bytes.len() as isize + if goodbye { 7 } else { 0 });
        if goodbye {
            self.close(id);
        }
    }

    fn output_changed(&mut self, id: ConnId, by: isize) {
        let limit = self.options.pause_above;
        let conn = self.conn(id);
        let pending = conn.output.len() + conn.in_driver;
        if !conn.named && !conn.output.is_empty() {
            conn.named = true;
            self.dirty.push_back(id);
        }
        let conn = self.conn(id);
        let (paused, closed) = (conn.paused, conn.closed);
        if !closed && !paused && pending > limit {
            self.conn(id).paused = true;
            self.watched.pauses.fetch_add(1, Ordering::SeqCst);
            self.effects.push_back(Effect::PauseReceive(id));
        } else if !closed && paused && pending <= limit / 2 {
            self.conn(id).paused = false;
            self.effects.push_back(Effect::ResumeReceive(id));
        }
        if by > 0 {
            let now = self.watched.output_bytes.fetch_add(by as usize, Ordering::SeqCst) + by as usize;
            self.watched.output_bytes_max.fetch_max(now, Ordering::SeqCst);
        } else {
            self.watched.output_bytes.fetch_sub(-by as usize, Ordering::SeqCst);
        }
    }
}

impl Engine for EchoEngine {
    type Message = ();

    fn open(&mut self, _now: Time, listener: u16, _address: Option<SocketAddr>) -> Option<ConnId> {
        assert_eq!(listener, 0);
        self.begin()
    }

    fn adopt(&mut self, _now: Time, hand_over: HandOver) -> Option<ConnId> {
        let id = self.begin()?;
        self.conn(id).settled = true;
        self.echo(id, &hand_over.bytes);
        Some(id)
    }

    fn attend(&mut self, _now: Time) {
        assert!(!std::mem::replace(&mut self.attended, true), "once a turn");
    }

    fn worked(&mut self, _now: Time, _took: Duration) {
        assert!(std::mem::take(&mut self.attended), "in each turn");
        self.watched.turns.fetch_add(1, Ordering::Relaxed);
    }

    fn receive(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        assert!(self.options.panic_on.is_none_or(|byte| !bytes.contains(&byte)), "asked to panic");
        let (shards, settle_after, me) = (self.options.shards, self.options.settle_after, self.me);
        let conn = self.conn(id);
        if conn.closed {
            return;
        }
        if conn.settled {
            self.echo(id, bytes);
            return;
        }
        conn.early.extend_from_slice(bytes);
        if conn.early.len() < settle_after {
            return;
        }
        let early = std::mem::take(&mut conn.early);
        let home = ShardId(u16::from(early[0]) % shards);
        if home == me {
            conn.settled = true;
            self.effects.push_back(Effect::Settle(id));
            self.echo(id, &early);
        } else {
            conn.closed = true;
            let hand_over = HandOver {
                listener: 0,
                accepted: now,
                bytes: early,
                peer: Peer::default(),
                transport: None,
                place: None,
            };
            self.effects.push_back(Effect::HandOver { conn: id, to: home, hand_over });
        }
    }

    fn sent(&mut self, _now: Time, id: ConnId, bytes: usize) {
        self.conn(id).in_driver -= bytes;
        self.output_changed(id, -(bytes as isize));
    }

    fn disconnected(&mut self, _now: Time, id: ConnId, end: TransportEnd) {
        self.watched.disconnected.fetch_add(1, Ordering::SeqCst);
        if matches!(end, TransportEnd::Error(_)) {
            self.watched.resets.fetch_add(1, Ordering::SeqCst);
        } else if self.options.outlive_end {
            return;
        }
        self.close(id);
    }

    fn release(&mut self, id: ConnId) {
        let conn = self.conn(id);
        assert!(conn.closed, "released though nobody closed it");
        let lost = conn.output.len() + conn.in_driver;
        self.watched.output_bytes.fetch_sub(lost, Ordering::SeqCst);
        let conn = self.conn(id);
        conn.live = false;
        conn.output = Output::default();
        self.free.push(id.slot);
        self.live -= 1;
        self.watched.connections.fetch_sub(1, Ordering::SeqCst);
    }

    fn mesh(&mut self, _now: Time, _from: ShardId, _message: ()) {}

    fn tick(&mut self, _now: Time) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        loop {
            let id = self.dirty.pop_front()?;
            let conn = &mut self.conns[id.slot as usize];
            if conn.live && conn.generation == id.generation {
                conn.named = false;
                return Some(id);
            }
        }
    }

    fn take_output(&mut self, id: ConnId) -> Output {
        let conn = self.conn(id);
        conn.in_driver += conn.output.len();
        std::mem::take(&mut conn.output)
    }

    fn recycle(&mut self, _output: Output) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn outbox(&mut self, _to: ShardId) -> &mut VecDeque<()> {
        &mut self.outbox
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        None
    }

    fn mesh_has_room(&mut self, _now: Time, _to: ShardId) {}

    fn stop(&mut self, _now: Time) {
        self.stopping = true;
        for slot in 0..self.conns.len() as u32 {
            let conn = &mut self.conns[slot as usize];
            if conn.live && !conn.closed {
                let id = ConnId { slot, generation: conn.generation };
                conn.output.bytes.extend_from_slice(b"stopping");
                self.output_changed(id, 8);
                self.close(id);
            }
        }
    }

    fn connections(&self) -> usize {
        self.live
    }
}

/// A running server with echo engines, stopped and checked at the end of a test.
pub struct Echo {
    pub running: Option<Running>,
    pub watched: Arc<Watched>,
    pub address: SocketAddr,
    pub stats: Vec<Arc<DriverStats>>,
}

impl Echo {
    pub fn start(shards: u16, options: EchoOptions) -> Echo {
        Echo::with(ServerConfig { shards, ..config() }, options)
    }

    pub fn with(config: ServerConfig, options: EchoOptions) -> Echo {
        let watched = Arc::new(Watched::default());
        let engines = Arc::clone(&watched);
        let running = start(config, move |me| EchoEngine::new(me, options, Arc::clone(&engines))).unwrap();
        let address = running.local_addrs()[0];
        let stats = running.stats().to_vec();
        Echo { running: Some(running), watched, address, stats }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub fn sum(&self, counter: impl Fn(&DriverStats) -> &Counter) -> u64 {
        self.stats.iter().map(|stats| counter(stats).load()).sum()
    }

    /// Waits until every connection was released, and checks that nothing is left of any.
    pub fn expect_all_gone(&self) {
        wait_until("every connection is released", || self.watched.connections.load(Ordering::SeqCst) == 0);
        wait_until("every descriptor is closed", || self.sum(|stats| &stats.descriptors) == 0);
        assert_eq!(self.sum(|stats| &stats.in_flight), 0, "no operation is left in the kernel");
        assert_eq!(self.sum(|stats| &stats.stale), 0);
        assert_eq!(self.watched.output_bytes.load(Ordering::SeqCst), 0);
    }

    pub fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop();
        running.join();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            if !std::thread::panicking() {
                running.join();
            }
        }
    }
}

/// A configuration for tests: a free port, no pinning, little patience.
pub fn config() -> ServerConfig {
    ServerConfig {
        listeners: vec![Listen::from(SocketAddr::from(([127, 0, 0, 1], 0)))],
        connections_per_shard: 8192,
        driver: DriverConfig {
            close_timeout: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(3),
            ..DriverConfig::default()
        },
        ..ServerConfig::default()
    }
}

/// Awaits a condition that only other threads' counters tell.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(20), "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that show every loss, repetition and swap.
pub fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n ^ n >> 8 ^ n >> 16) as u8).wrapping_mul(31).wrapping_add(seed as u8)).collect()
}

/// Writes all from a second thread while reading as much back; returns what came.
pub fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut writer = stream.try_clone().unwrap();
    let mut back = vec![0; bytes.len()];
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).unwrap());
        stream.read_exact(&mut back).unwrap();
    });
    back
}
