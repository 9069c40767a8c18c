//! The forwarder's state machine, in the place of the broker's core: connections, and by topic who receives its frames.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use ringmq::codec::{Framed, Packet, ProtocolVersion, Subscribe, connect_version, decode, encode_ping_resp, frame};
use ringmq::engine::{ConnId, Effect, Engine, HandOver, Load, Output, Peer, ShardId, Time, TransportEnd};

use crate::script;

/// The largest packet; the forwarder has no other limits.
const PACKET_BYTES_MAX: u32 = 1 << 24;

#[derive(Default)]
struct Conn {
    generation: u32,
    live: bool,
    closed: bool,
    named: bool,
    /// Known once it has sent its CONNECT.
    version: Option<ProtocolVersion>,
    /// What it publishes, by index into [`Forwarder::streams`]; known once it has published.
    stream: Option<usize>,
    /// What it has subscribed to, likewise.
    receives: Vec<usize>,
    /// A SUBACK that is held back until so many other shards know of the subscription.
    suback: (u16, Vec<u8>),
    partial: Vec<u8>,
    output: Vec<u8>,
}

/// What the shards say to each other.
pub enum Note {
    /// This connection of the sender wants these topics.
    Receiver(ConnId, Vec<Box<[u8]>>),
    /// The sender knows what that connection wants.
    Known(ConnId),
    /// Frames for a connection.
    Frames(ConnId, Vec<u8>),
}

impl Load for Note {}

/// One shard.
pub struct Forwarder {
    me: ShardId,
    shards: u16,
    conns: Vec<Conn>,
    free: Vec<u32>,
    /// Who receives what is published under a topic.
    streams: Vec<Vec<(ShardId, ConnId)>>,
    topics: HashMap<Box<[u8]>, usize>,
    dirty: VecDeque<ConnId>,
    effects: VecDeque<Effect>,
    outboxes: Vec<VecDeque<Note>>,
    gained: Vec<ShardId>,
    idle_outputs: Vec<Vec<u8>>,
}

impl Forwarder {
    /// A shard without connections.
    pub fn new(me: ShardId, shards: u16) -> Forwarder {
        Forwarder {
            me,
            shards,
            conns: Vec::new(),
            free: Vec::new(),
            streams: Vec::new(),
            topics: HashMap::new(),
            dirty: VecDeque::new(),
            effects: VecDeque::new(),
            outboxes: (0..shards).map(|_| VecDeque::new()).collect(),
            gained: Vec::new(),
            idle_outputs: Vec::new(),
        }
    }

    // --- frames ------------------------------------------------------------------------------------------------------

    /// Forwards the frames in `bytes` and follows the script with what lies between; tells how many bytes that was.
    fn take_in(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        while used < bytes.len() && !self.conn(id).closed {
            let frames = script::frames(&bytes[used..]);
            if frames > 0 {
                self.forward(id, &bytes[used..used + frames]);
                used += frames;
                continue;
            }
            match frame(&bytes[used..], PACKET_BYTES_MAX) {
                Ok(Framed::Complete { len, .. }) => {
                    self.follow_script(id, &bytes[used..]);
                    used += len;
                }
                Ok(Framed::Incomplete { .. }) => return used,
                Err(_) => self.close(id),
            }
        }
        bytes.len()
    }

    fn forward(&mut self, from: ConnId, frames: &[u8]) {
        let Some(stream) = self.stream_of(from, frames) else { return self.close(from) };
        for index in 0..self.streams[stream].len() {
            let (shard, to) = self.streams[stream][index];
            if shard == self.me {
                self.deliver(to, frames);
            } else {
                self.note(shard, Note::Frames(to, frames.to_vec()));
            }
        }
    }

    /// What a connection publishes: what its first frame says.
    fn stream_of(&mut self, conn: ConnId, frames: &[u8]) -> Option<usize> {
        let Conn { stream, version, .. } = *self.conn(conn);
        if stream.is_none() && version.is_some() {
            let stream = self.stream(script::topic(frames)?);
            self.conn_mut(conn).stream = Some(stream);
            return Some(stream);
        }
        stream
    }

    fn stream(&mut self, topic: &[u8]) -> usize {
        if let Some(stream) = self.topics.get(topic) {
            return *stream;
        }
        self.streams.push(Vec::new());
        self.topics.insert(topic.into(), self.streams.len() - 1);
        self.streams.len() - 1
    }

    fn deliver(&mut self, to: ConnId, bytes: &[u8]) {
        let conn = &mut self.conns[to.slot as usize];
        if conn.closed || conn.generation != to.generation {
            return;
        }
        if conn.output.capacity() == 0 {
            conn.output = self.idle_outputs.pop().unwrap_or_default();
        }
        conn.output.extend_from_slice(bytes);
        if !conn.named {
            conn.named = true;
            self.dirty.push_back(to);
        }
    }

    fn note(&mut self, to: ShardId, note: Note) {
        self.outboxes[usize::from(to.0)].push_back(note);
        if !self.gained.contains(&to) {
            self.gained.push(to);
        }
    }

    // --- the script --------------------------------------------------------------------------------------------------

    /// Answers the packet at the front of `bytes`, the rest of which goes with it if the connection does.
    fn follow_script(&mut self, id: ConnId, bytes: &[u8]) {
        let Ok(Framed::Complete { frame, .. }) = frame(bytes, PACKET_BYTES_MAX) else { return };
        let version = self.conn(id).version.or_else(|| connect_version(frame.body));
        let packet = version.and_then(|version| Some((version, decode(frame, version).ok()?)));
        let mut answer = Vec::new();
        match (packet, self.conn(id).version) {
            (Some((version, Packet::Connect(connect))), None) => {
                let home = self.home(connect.client_id);
                if home != self.me {
                    return self.hand_over(id, home, bytes);
                }
                self.conn_mut(id).version = Some(version);
                script::connack(version, &mut answer);
                self.effects.push_back(Effect::Settle(id));
            }
            (Some((version, Packet::Subscribe(subscribe))), Some(_)) => {
                script::suback(version, &subscribe, &mut answer);
                if self.shards > 1 {
                    self.conn_mut(id).suback = (self.shards - 1, std::mem::take(&mut answer));
                }
                self.subscribe(id, &subscribe);
            }
            (Some((_, Packet::PingReq)), Some(_)) => encode_ping_resp(&mut answer),
            // DISCONNECT, and whatever it does not know.
            _ => return self.close(id),
        }
        self.deliver(id, &answer);
    }

    fn home(&self, client_id: &str) -> ShardId {
        ShardId(u16::from(client_id.starts_with("sub")) % self.shards)
    }

    fn hand_over(&mut self, conn: ConnId, to: ShardId, bytes: &[u8]) {
        self.conn_mut(conn).closed = true;
        let hand_over = HandOver {
            listener: 0,
            accepted: Time(0),
            bytes: bytes.to_vec(),
            peer: Peer::default(),
            transport: None,
            place: None,
        };
        self.effects.push_back(Effect::HandOver { conn, to, hand_over });
    }

    fn subscribe(&mut self, conn: ConnId, subscribe: &Subscribe<'_>) {
        let wanted = subscribe.filters.iter().filter(script::forwards);
        let topics: Vec<Box<[u8]>> = wanted.map(|request| request.filter.as_bytes().into()).collect();
        let me = self.me;
        for shard in (0..self.shards).map(ShardId).filter(|shard| *shard != me) {
            self.note(shard, Note::Receiver(conn, topics.clone()));
        }
        self.add_receiver(self.me, conn, &topics);
    }

    fn add_receiver(&mut self, shard: ShardId, conn: ConnId, topics: &[Box<[u8]>]) {
        for topic in topics {
            let stream = self.stream(topic);
            self.streams[stream].push((shard, conn));
            if shard == self.me {
                self.conn_mut(conn).receives.push(stream);
            }
        }
    }

    /// Another shard knows of a subscription: when all do, whatever is published from now on arrives.
    fn known(&mut self, conn: ConnId) {
        let (missing, suback) = &mut self.conns[conn.slot as usize].suback;
        *missing = missing.saturating_sub(1);
        if *missing == 0 {
            let suback = std::mem::take(suback);
            self.deliver(conn, &suback);
        }
    }

    // --- connections -------------------------------------------------------------------------------------------------

    fn begin(&mut self) -> ConnId {
        let slot = self.free.pop().unwrap_or(self.conns.len() as u32);
        if slot as usize == self.conns.len() {
            self.conns.push(Conn::default());
        }
        let generation = self.conns[slot as usize].generation + 1;
        self.conns[slot as usize] = Conn { generation, live: true, ..Conn::default() };
        ConnId { slot, generation }
    }

    fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id.slot as usize]
    }

    fn conn_mut(&mut self, id: ConnId) -> &mut Conn {
        &mut self.conns[id.slot as usize]
    }

    fn close(&mut self, id: ConnId) {
        if !self.conn(id).closed {
            self.conn_mut(id).closed = true;
            for stream in std::mem::take(&mut self.conn_mut(id).receives) {
                self.streams[stream].retain(|receiver| *receiver != (self.me, id));
            }
            self.effects.push_back(Effect::Close(id));
        }
    }
}

impl Engine for Forwarder {
    type Message = Note;

    fn open(&mut self, _now: Time, _listener: u16, _address: Option<SocketAddr>) -> Option<ConnId> {
        Some(self.begin())
    }

    fn adopt(&mut self, now: Time, hand_over: HandOver) -> Option<ConnId> {
        let conn = self.begin();
        self.receive(now, conn, &hand_over.bytes);
        Some(conn)
    }

    fn receive(&mut self, _now: Time, id: ConnId, bytes: &[u8]) {
        let conn = self.conn_mut(id);
        if conn.closed {
            return;
        }
        if conn.partial.is_empty() {
            let used = self.take_in(id, bytes);
            if used < bytes.len() {
                self.conn_mut(id).partial = bytes[used..].to_vec();
            }
            return;
        }
        let mut gathered = std::mem::take(&mut conn.partial);
        gathered.extend_from_slice(bytes);
        let used = self.take_in(id, &gathered);
        gathered.drain(..used);
        self.conn_mut(id).partial = gathered;
    }

    fn sent(&mut self, _now: Time, _conn: ConnId, _bytes: usize) {}

    fn disconnected(&mut self, _now: Time, id: ConnId, _end: TransportEnd) {
        self.close(id);
    }

    fn release(&mut self, id: ConnId) {
        self.conn_mut(id).live = false;
        self.free.push(id.slot);
    }

    fn mesh(&mut self, _now: Time, from: ShardId, note: Note) {
        match note {
            Note::Receiver(conn, topics) => {
                self.add_receiver(from, conn, &topics);
                self.note(from, Note::Known(conn));
            }
            Note::Known(conn) => self.known(conn),
            Note::Frames(to, frames) => self.deliver(to, &frames),
        }
    }

    fn tick(&mut self, _now: Time) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        let conn = self.dirty.pop_front()?;
        self.conn_mut(conn).named = false;
        Some(conn)
    }

    fn take_output(&mut self, id: ConnId) -> Output {
        Output { bytes: std::mem::take(&mut self.conn_mut(id).output), large: Vec::new() }
    }

    fn recycle(&mut self, mut output: Output) {
        output.clear();
        self.idle_outputs.push(output.bytes);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<Note> {
        &mut self.outboxes[usize::from(to.0)]
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        self.gained.pop()
    }

    fn mesh_has_room(&mut self, _now: Time, _to: ShardId) {}

    fn stop(&mut self, _now: Time) {
        for slot in 0..self.conns.len() as u32 {
            let Conn { live, generation, .. } = self.conns[slot as usize];
            if live {
                self.close(ConnId { slot, generation });
            }
        }
    }

    fn connections(&self) -> usize {
        self.conns.iter().filter(|conn| conn.live).count()
    }
}
