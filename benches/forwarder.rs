//! The limit to measure the broker against: a forwarder without MQTT on the same driver.
//!
//! `cargo bench --bench forwarder -- [--pairs N] [--outstanding N] [--cross] [--wait ring|glommio] [--cpus LIST]
//! [--rounds N] [--seconds N] [--pause-us N]` sends 64-byte frames between paired clients through a shard pinned to CPU 0 (two
//! shards with `--cross`, one per side of each pair, so that every frame takes the mesh) from a client thread on CPU 1, and prints
//! the CPU time of the shards per forwarded frame. `--serve ADDRESS` only serves, for other load generators.
//!
//! A frame is four bytes of length, big-endian, and as many bytes. A connection's first frame names its pair
//! (four bytes) and its side (one byte, 0 or 1), and is answered by an empty one; all others are forwarded,
//! whole, to the other side.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use ringmq::engine::{ConnId, Effect, Engine, HandOver, Output, ShardId, Time, TransportEnd};
use ringmq::server::{ServerConfig, start};
use ringmq::shard::Wait;
use rustix::event::{PollFd, PollFlags, poll};

const FRAME: usize = 64;

#[derive(Parser)]
struct Arguments {
    /// Pairs of clients.
    #[arg(long, default_value_t = 100)]
    pairs: u32,
    /// Frames that each pair has on the way at a time.
    #[arg(long, default_value_t = 1)]
    outstanding: usize,
    /// Put the two sides of each pair on different shards.
    #[arg(long)]
    cross: bool,
    /// Where a shard sleeps.
    #[arg(long, default_value = "ring")]
    wait: Where,
    /// CPUs to pin shards to.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    cpus: Vec<usize>,
    /// How often to measure.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long a round is.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rest between the client's rounds of reading and writing, so that the shards fall asleep.
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
    /// Serve at this address instead, until killed.
    #[arg(long)]
    serve: Option<SocketAddr>,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Where {
    Ring,
    Glommio,
}

fn main() {
    let arguments = Arguments::parse();
    let shards = if arguments.cross { 2 } else { 1 };
    let (threads, started) = channel();
    let config = ServerConfig {
        listeners: vec![arguments.serve.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()).into()],
        shards,
        cpus: arguments.cpus.clone(),
        wait: match arguments.wait {
            Where::Ring => Wait::Ring,
            Where::Glommio => Wait::Glommio,
        },
        ..ServerConfig::default()
    };
    let running = start(config, move |me| Forwarder::new(me, shards, &threads)).expect("the forwarder starts");
    if arguments.serve.is_some() {
        return running.join();
    }
    let threads: Vec<i32> = started.iter().take(shards.into()).collect();
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    let mut clients = Clients::connect(running.local_addrs()[0], &arguments);
    for _ in 0..arguments.rounds {
        let wakes = || running.stats().iter().map(|stats| stats.wakes.load()).sum::<u64>();
        let (cpu_before, wakes_before, begin) = (cpu_time(&threads), wakes(), Instant::now());
        let frames = clients.play(Duration::from_secs(arguments.seconds), Duration::from_micros(arguments.pause_us));
        let cpu = cpu_time(&threads) - cpu_before;
        println!(
            "{frames} frames, {:.0}/s, {:.3} µs of shard CPU each, {:.3} wakes each",
            frames as f64 / begin.elapsed().as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / frames as f64,
            (wakes() - wakes_before) as f64 / frames as f64,
        );
    }
    drop(clients);
    running.stop();
    running.join();
}

fn cpu_time(threads: &[i32]) -> Duration {
    let one = |thread: &i32| {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("a thread of ours");
        let nanoseconds = stat.split(' ').next().and_then(|field| field.parse().ok());
        Duration::from_nanos(nanoseconds.expect("schedstat begins with nanoseconds"))
    };
    threads.iter().map(one).sum()
}

/// All clients, on one thread.
struct Clients {
    left: Vec<TcpStream>,
    right: Vec<TcpStream>,
}

impl Clients {
    fn connect(address: SocketAddr, arguments: &Arguments) -> Clients {
        let side = |side: u8| -> Vec<TcpStream> {
            let client = |pair: u32| {
                let mut stream = TcpStream::connect(address).expect("the forwarder accepts");
                stream.set_nodelay(true).expect("a socket");
                let mut hello = vec![0, 0, 0, 5];
                hello.extend(pair.to_be_bytes());
                hello.push(side);
                stream.write_all(&hello).expect("it reads");
                stream.read_exact(&mut [0; 4]).expect("it answers");
                stream
            };
            (0..arguments.pairs).map(client).collect()
        };
        let mut clients = Clients { left: side(0), right: side(1) };
        let mut frame = [0; FRAME];
        frame[3] = (FRAME - 4) as u8;
        let batch = frame.repeat(arguments.outstanding);
        clients.left.iter_mut().for_each(|left| left.write_all(&batch).expect("it fits"));
        clients.right.iter_mut().for_each(|right| right.set_nonblocking(true).expect("a socket"));
        clients
    }

    /// Whatever arrives on the right is sent again on the left; returns how many frames arrived.
    fn play(&mut self, duration: Duration, pause: Duration) -> u64 {
        let mut bytes = 0;
        let mut buffer = [0; 65_536];
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let mut polls: Vec<PollFd<'_>> = self.right.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
            poll(&mut polls, None).expect("frames are on the way");
            let ready: Vec<bool> = polls.iter().map(|poll| !poll.revents().is_empty()).collect();
            for (pair, _) in ready.iter().enumerate().filter(|(_, is_ready)| **is_ready) {
                match self.right[pair].read(&mut buffer) {
                    Ok(read) => {
                        assert!(read > 0, "the forwarder closed");
                        bytes += read;
                        self.left[pair].write_all(&buffer[..read]).expect("it reads");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        (bytes / FRAME) as u64
    }
}

#[derive(Default)]
struct Conn {
    generation: u32,
    live: bool,
    closed: bool,
    named: bool,
    seat: Option<(u32, u8)>,
    partial: Vec<u8>,
    output: Vec<u8>,
}

struct Frames {
    pair: u32,
    side: u8,
    bytes: Vec<u8>,
}

struct Forwarder {
    me: ShardId,
    shards: u16,
    conns: Vec<Conn>,
    free: Vec<u32>,
    /// By pair and side: the connection, on the shard where that side lives.
    seats: Vec<[Option<ConnId>; 2]>,
    dirty: VecDeque<ConnId>,
    effects: VecDeque<Effect>,
    outboxes: Vec<VecDeque<Frames>>,
    gained: Vec<ShardId>,
    idle_outputs: Vec<Vec<u8>>,
}

impl Forwarder {
    fn new(me: ShardId, shards: u16, threads: &Sender<i32>) -> Forwarder {
        // Nobody listens when it only serves.
        let _ = threads.send(rustix::thread::gettid().as_raw_nonzero().get());
        Forwarder {
            me,
            shards,
            conns: Vec::new(),
            free: Vec::new(),
            seats: Vec::new(),
            dirty: VecDeque::new(),
            effects: VecDeque::new(),
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            gained: Vec::new(),
            idle_outputs: Vec::new(),
        }
    }

    fn home(&self, side: u8) -> ShardId {
        ShardId(u16::from(side) % self.shards)
    }

    fn begin(&mut self) -> ConnId {
        let slot = self.free.pop().unwrap_or(self.conns.len() as u32);
        if slot as usize == self.conns.len() {
            self.conns.push(Conn::default());
        }
        let generation = self.conns[slot as usize].generation + 1;
        self.conns[slot as usize] = Conn { generation, live: true, ..Conn::default() };
        ConnId { slot, generation }
    }

    fn sit_down(&mut self, conn: ConnId, pair: u32, side: u8) {
        self.conns[conn.slot as usize].seat = Some((pair, side));
        if self.seats.len() <= pair as usize {
            self.seats.resize(pair as usize + 1, [None; 2]);
        }
        self.seats[pair as usize][usize::from(side)] = Some(conn);
        self.deliver(pair, side, &[0; 4]);
    }

    fn forward(&mut self, (pair, side): (u32, u8), frames: &[u8]) {
        let to = self.home(1 - side);
        if to == self.me {
            self.deliver(pair, 1 - side, frames);
        } else {
            self.outboxes[usize::from(to.0)].push_back(Frames { pair, side: 1 - side, bytes: frames.to_vec() });
            if !self.gained.contains(&to) {
                self.gained.push(to);
            }
        }
    }

    fn deliver(&mut self, pair: u32, side: u8, frames: &[u8]) {
        let seat = self.seats.get(pair as usize).and_then(|seats| seats[usize::from(side)]);
        // Frames for who has not come yet, or has left, are dropped.
        let Some(id) = seat else { return };
        let conn = &mut self.conns[id.slot as usize];
        if conn.output.capacity() == 0 {
            conn.output = self.idle_outputs.pop().unwrap_or_default();
        }
        conn.output.extend_from_slice(frames);
        if !conn.named {
            conn.named = true;
            self.dirty.push_back(id);
        }
    }
}

/// Bytes of whole frames that `bytes` begins with.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(head) = bytes[end..].first_chunk::<4>() {
        let next = end + 4 + u32::from_be_bytes(*head) as usize;
        if next > bytes.len() {
            break;
        }
        end = next;
    }
    end
}

impl Engine for Forwarder {
    type Message = Frames;

    fn open(&mut self, _now: Time, _listener: u16) -> Option<ConnId> {
        Some(self.begin())
    }

    fn adopt(&mut self, now: Time, hand_over: HandOver) -> Option<ConnId> {
        let conn = self.begin();
        self.receive(now, conn, &hand_over.bytes);
        Some(conn)
    }

    fn receive(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let conn = &mut self.conns[id.slot as usize];
        if conn.closed {
            return;
        }
        let mut gathered = std::mem::take(&mut conn.partial);
        let bytes = if gathered.is_empty() {
            bytes
        } else {
            gathered.extend_from_slice(bytes);
            &gathered
        };
        let mut begin = 0;
        if conn.seat.is_none() && bytes.len() >= 9 {
            let pair = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let side = bytes[8] & 1;
            let to = self.home(side);
            if to != self.me {
                self.conns[id.slot as usize].closed = true;
                let hand_over = HandOver { listener: 0, accepted: now, bytes: bytes.to_vec() };
                self.effects.push_back(Effect::HandOver { conn: id, to, hand_over });
                return;
            }
            self.sit_down(id, pair, side);
            self.effects.push_back(Effect::Settle(id));
            begin = 9;
        }
        let mut end = begin;
        if let Some(seat) = self.conns[id.slot as usize].seat {
            end += whole_frames(&bytes[begin..]);
            if end > begin {
                self.forward(seat, &bytes[begin..end]);
            }
        }
        if end < bytes.len() {
            self.conns[id.slot as usize].partial = bytes[end..].to_vec();
        }
    }

    fn sent(&mut self, _now: Time, _conn: ConnId, _bytes: usize) {}

    fn disconnected(&mut self, _now: Time, id: ConnId, _end: TransportEnd) {
        let conn = &mut self.conns[id.slot as usize];
        if !conn.closed {
            conn.closed = true;
            if let Some((pair, side)) = conn.seat {
                self.seats[pair as usize][usize::from(side)] = None;
            }
            self.effects.push_back(Effect::Close(id));
        }
    }

    fn release(&mut self, id: ConnId) {
        self.conns[id.slot as usize].live = false;
        self.free.push(id.slot);
    }

    fn mesh(&mut self, _now: Time, _from: ShardId, frames: Frames) {
        self.deliver(frames.pair, frames.side, &frames.bytes);
    }

    fn tick(&mut self, _now: Time) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        let conn = self.dirty.pop_front()?;
        self.conns[conn.slot as usize].named = false;
        Some(conn)
    }

    fn take_output(&mut self, id: ConnId) -> Output {
        Output { bytes: std::mem::take(&mut self.conns[id.slot as usize].output), large: Vec::new() }
    }

    fn recycle(&mut self, mut output: Output) {
        output.clear();
        self.idle_outputs.push(output.bytes);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<Frames> {
        &mut self.outboxes[usize::from(to.0)]
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        self.gained.pop()
    }

    fn mesh_has_room(&mut self, _now: Time, _to: ShardId) {}

    fn stop(&mut self, now: Time) {
        for slot in 0..self.conns.len() as u32 {
            let conn = &self.conns[slot as usize];
            if conn.live {
                self.disconnected(now, ConnId { slot, generation: conn.generation }, TransportEnd::EndOfStream);
            }
        }
    }

    fn connections(&self) -> usize {
        self.conns.iter().filter(|conn| conn.live).count()
    }
}
