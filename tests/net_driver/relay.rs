//! An engine without MQTT that forwards between paired connections of different shards, with back-pressure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringmq::engine::{ConnId, Effect, Engine, HandOver, Load, Output, Peer, ShardId, Time, TransportEnd};

/// The first bytes of a connection: its home, its partner's home, the pair's number, its side (0 or 1).
pub const HEAD: usize = 4;

/// Bytes for one side of a pair.
pub struct Parcel {
    pair: u8,
    side: u8,
    bytes: Vec<u8>,
}

impl Load for Parcel {}

#[derive(Default)]
struct Conn {
    generation: u32,
    live: bool,
    closed: bool,
    paused: bool,
    head: Vec<u8>,
    output: Vec<u8>,
}

/// What tests see from outside.
#[derive(Default)]
pub struct Counts {
    pub blocked: AtomicUsize,
    pub connections: AtomicUsize,
}

pub struct RelayEngine {
    me: ShardId,
    conns: Vec<Conn>,
    free: Vec<u32>,
    sides: HashMap<(u8, u8), ConnId>,
    early: HashMap<(u8, u8), Vec<u8>>,
    dirty: VecDeque<ConnId>,
    effects: VecDeque<Effect>,
    outboxes: Vec<VecDeque<Parcel>>,
    gained: HashSet<ShardId>,
    counts: Arc<Counts>,
}

impl RelayEngine {
    pub fn new(me: ShardId, shards: u16, counts: Arc<Counts>) -> RelayEngine {
        RelayEngine {
            me,
            conns: Vec::new(),
            free: Vec::new(),
            sides: HashMap::new(),
            early: HashMap::new(),
            dirty: VecDeque::new(),
            effects: VecDeque::new(),
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            gained: HashSet::new(),
            counts,
        }
    }

    fn begin(&mut self) -> ConnId {
        let slot = self.free.pop().unwrap_or(self.conns.len() as u32);
        if slot as usize == self.conns.len() {
            self.conns.push(Conn::default());
        }
        let generation = self.conns[slot as usize].generation + 1;
        self.conns[slot as usize] = Conn { generation, live: true, ..Conn::default() };
        self.counts.connections.fetch_add(1, Ordering::SeqCst);
        ConnId { slot, generation }
    }

    fn attach(&mut self, id: ConnId, early: &[u8]) {
        let key = (early[2], early[3]);
        self.conns[id.slot as usize].head = early[..HEAD].to_vec();
        self.sides.insert(key, id);
        if let Some(waiting) = self.early.remove(&key) {
            self.deliver(key, &waiting);
        }
        if early.len() > HEAD {
            self.forward(id, &early[HEAD..]);
        }
    }

    fn forward(&mut self, id: ConnId, bytes: &[u8]) {
        let head = &self.conns[id.slot as usize].head;
        let (to, pair, side) = (ShardId(head[1].into()), head[2], 1 - head[3]);
        // Many small parcels: the mesh must run out of room.
        for part in bytes.chunks(64) {
            self.outboxes[usize::from(to.0)].push_back(Parcel { pair, side, bytes: part.to_vec() });
        }
        self.gained.insert(to);
        let conn = &mut self.conns[id.slot as usize];
        if !conn.paused && self.outboxes[usize::from(to.0)].len() > 256 {
            conn.paused = true;
            self.counts.blocked.fetch_add(1, Ordering::SeqCst);
            self.effects.push_back(Effect::PauseReceive(id));
        }
    }

    fn deliver(&mut self, key: (u8, u8), bytes: &[u8]) {
        match self.sides.get(&key) {
            Some(id) => {
                self.conns[id.slot as usize].output.extend_from_slice(bytes);
                self.dirty.push_back(*id);
            }
            None => self.early.entry(key).or_default().extend_from_slice(bytes),
        }
    }
}

impl Engine for RelayEngine {
    type Message = Parcel;

    fn open(&mut self, _now: Time, _listener: u16, _address: Option<SocketAddr>) -> Option<ConnId> {
        Some(self.begin())
    }

    fn adopt(&mut self, _now: Time, hand_over: HandOver) -> Option<ConnId> {
        let id = self.begin();
        self.attach(id, &hand_over.bytes);
        Some(id)
    }

    fn receive(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let conn = &mut self.conns[id.slot as usize];
        assert!(conn.live && conn.generation == id.generation);
        if conn.head.len() == HEAD {
            return self.forward(id, bytes);
        }
        let mut early = std::mem::take(&mut conn.head);
        early.extend_from_slice(bytes);
        if early.len() < HEAD {
            conn.head = early;
        } else if u16::from(early[0]) == self.me.0 {
            self.effects.push_back(Effect::Settle(id));
            self.attach(id, &early);
        } else {
            conn.closed = true;
            let to = ShardId(early[0].into());
            let hand_over = HandOver {
                listener: 0,
                accepted: now,
                bytes: early,
                peer: Peer::default(),
                transport: None,
                place: None,
            };
            self.effects.push_back(Effect::HandOver { conn: id, to, hand_over });
        }
    }

    fn sent(&mut self, _now: Time, _id: ConnId, _bytes: usize) {}

    fn disconnected(&mut self, _now: Time, id: ConnId, _end: TransportEnd) {
        let conn = &mut self.conns[id.slot as usize];
        if !conn.closed {
            conn.closed = true;
            if conn.head.len() == HEAD {
                let key = (conn.head[2], conn.head[3]);
                self.sides.remove(&key);
            }
            self.effects.push_back(Effect::Close(id));
        }
    }

    fn release(&mut self, id: ConnId) {
        self.conns[id.slot as usize].live = false;
        self.free.push(id.slot);
        self.counts.connections.fetch_sub(1, Ordering::SeqCst);
    }

    fn mesh(&mut self, _now: Time, _from: ShardId, parcel: Parcel) {
        self.deliver((parcel.pair, parcel.side), &parcel.bytes);
    }

    fn tick(&mut self, _now: Time) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop_front()
    }

    fn take_output(&mut self, id: ConnId) -> Output {
        Output { bytes: std::mem::take(&mut self.conns[id.slot as usize].output), large: Vec::new() }
    }

    fn recycle(&mut self, _output: Output) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<Parcel> {
        &mut self.outboxes[usize::from(to.0)]
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        let to = *self.gained.iter().next()?;
        self.gained.take(&to)
    }

    fn mesh_has_room(&mut self, _now: Time, to: ShardId) {
        assert!(self.outboxes[usize::from(to.0)].is_empty());
        for slot in 0..self.conns.len() as u32 {
            let conn = &mut self.conns[slot as usize];
            if conn.live && conn.paused && !conn.closed && u16::from(conn.head[1]) == to.0 {
                conn.paused = false;
                self.effects.push_back(Effect::ResumeReceive(ConnId { slot, generation: conn.generation }));
            }
        }
    }

    fn stop(&mut self, now: Time) {
        for slot in 0..self.conns.len() as u32 {
            let conn = &self.conns[slot as usize];
            if conn.live {
                let id = ConnId { slot, generation: conn.generation };
                self.disconnected(now, id, TransportEnd::EndOfStream);
            }
        }
    }

    fn connections(&self) -> usize {
        self.conns.iter().filter(|conn| conn.live).count()
    }
}
