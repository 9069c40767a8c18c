//! What a shard's network driver and the state machine behind it say to each other.
//!
//! An [`Engine`] has no socket and no clock: the driver hands it the time, received bytes and messages of
//! other shards, then drains what it wants done. The broker core is one engine; the MQTT-free forwarder and
//! the echo of the driver's tests are others; the simulator is another driver.
//!
//! A connection's life: [`Engine::open`] (or [`Engine::adopt`]) gives it a [`ConnId`]. Whoever wants it gone,
//! the engine says so exactly once with [`Effect::Close`] (or [`Effect::HandOver`]); after that it ignores the
//! connection, the driver flushes what output is left, closes the socket, waits until the kernel holds
//! nothing of it any more, and calls [`Engine::release`]. Only then may the slot be used again.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// A point of the driver's monotonic clock, in nanoseconds since an origin of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This point plus a duration, saturating.
    pub fn after(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A shard's number, `0..shards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Names a connection of one shard: a slot that is used again and the generation that tells its users apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index into the shard's connection slab; dense, reused.
    pub slot: u32,
    /// Raised at each reuse of the slot.
    pub generation: u32,
}

/// Who is at the other end of a connection, as far as its transport knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from; the real client's where a trusted proxy has told. `None`: a Unix domain socket, or
    /// nobody asked the kernel.
    pub address: Option<SocketAddr>,
    /// The certificate it was verified by.
    pub certificate: Option<Box<Certificate>>,
}

/// What names a client in its verified certificate (or in what a trusted proxy says of it). Only valid UTF-8 is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// The whole subject, as in RFC 4514.
    pub subject: String,
    /// Subject alternative names: DNS names.
    pub dns: Vec<String>,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

/// Why a transport ended, as far as the driver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// The peer closed its side in order.
    EndOfStream,
    /// Reset or another error, as the positive errno.
    Error(i32),
}

/// What an engine wants its driver to do, in the order it was asked.
#[derive(Debug)]
pub enum Effect {
    /// Send what output is left (for a bounded time), then close the socket and [`Engine::release`] it.
    Close(ConnId),
    /// Give socket and bytes to another shard, where they arrive as [`Engine::adopt`]; then
    /// [`Engine::release`] it here. Asked only before the connection's receive was made persistent.
    HandOver {
        /// The connection as it is named here.
        conn: ConnId,
        /// Where it lives from now on.
        to: ShardId,
        /// What the new shard needs: the listener and every byte received so far.
        hand_over: HandOver,
    },
    /// The connection stays on this shard: from now on receive persistently (multishot).
    Settle(ConnId),
    /// Stop reading this socket. What still arrives is handed in all the same.
    PauseReceive(ConnId),
    /// Read it again.
    ResumeReceive(ConnId),
}

/// A connection on its way to its home shard.
#[derive(Debug)]
pub struct HandOver {
    /// Index of the listener that accepted it.
    pub listener: u16,
    /// When it was accepted.
    pub accepted: Time,
    /// Every byte received so far, as the engine saw them.
    pub bytes: Vec<u8>,
    /// Who is at the other end.
    pub peer: Peer,
    /// What a transport between driver and engine keeps of the connection: its keys, half a frame.
    pub transport: Option<Box<dyn Any + Send>>,
    /// What the engine counts it under for the whole process. Dropped with a hand-over that fails, it is given back.
    pub place: Option<Box<dyn Any + Send>>,
}

/// Bytes on their way out of one connection: small packets copied together, large payloads referenced.
#[derive(Debug, Default)]
pub struct Output {
    /// Packets, and the heads of packets whose payload is in `large`.
    pub bytes: Vec<u8>,
    /// Payloads that belong at an offset of `bytes`, by rising offset.
    pub large: Vec<Large>,
}

/// A payload too large to copy.
#[derive(Debug, Clone)]
pub struct Large {
    /// The payload goes out when `at` bytes of [`Output::bytes`] have.
    pub at: usize,
    /// The payload.
    pub payload: bytes::Bytes,
}

impl Output {
    /// Total number of bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large.iter().map(|large| large.payload.len()).sum::<usize>()
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.large.is_empty()
    }

    /// Forgets the content, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.large.clear();
    }
}

/// How much a message between shards holds: what the mesh counts against its bound.
pub trait Load {
    /// At least 1.
    fn load(&self) -> usize {
        1
    }
}

impl Load for () {}
impl Load for u8 {}
impl Load for u32 {}
impl Load for u64 {}

/// A shard's state machine. See the module's description for the order of calls.
pub trait Engine {
    /// What shards say to each other.
    type Message: Load + Send + 'static;

    /// A socket was accepted on a listener. `None` refuses it: the driver closes it without a word. The address is
    /// known where the listener was set up to ask for it.
    fn open(&mut self, now: Time, listener: u16, address: Option<SocketAddr>) -> Option<ConnId>;

    /// Who is at the other end, if its transport knows more than the address: called before the first byte is
    /// received, and not again.
    fn identify(&mut self, conn: ConnId, peer: Peer) {
        let _ = (conn, peer);
    }

    /// A connection that another shard handed over. `None` refuses it. The driver reads it persistently
    /// at once; its bytes were handled when this returns.
    fn adopt(&mut self, now: Time, hand_over: HandOver) -> Option<ConnId>;

    /// Bytes that arrived, in order, of any length ≥ 1.
    fn receive(&mut self, now: Time, conn: ConnId, bytes: &[u8]);

    /// The kernel took `bytes` of a connection's output.
    fn sent(&mut self, now: Time, conn: ConnId, bytes: usize);

    /// The peer is gone. The engine answers with [`Effect::Close`] unless it did so before: at once to an error;
    /// to the end of the stream when it has handled what came before it. An error may follow such an end.
    fn disconnected(&mut self, now: Time, conn: ConnId, end: TransportEnd);

    /// The transport does not vouch for the peer any more: its certificate was
    /// revoked, ran out, or has no authority any more. The engine ends the connection.
    fn withdraw(&mut self, now: Time, conn: ConnId) {
        self.disconnected(now, conn, TransportEnd::Error(libc::EACCES));
    }

    /// Neither driver nor kernel holds anything of this connection any more: the slot is free.
    fn release(&mut self, conn: ConnId);

    /// A message of another shard; those of one shard arrive in the order they were sent.
    fn mesh(&mut self, now: Time, from: ShardId, message: Self::Message);

    /// Called once a turn: takes what threads beside the shards have answered. They wake the shard (see
    /// [`Remote::wake`](crate::mesh::Remote::wake)) when they have.
    fn attend(&mut self, now: Time) {
        let _ = now;
    }

    /// Called at the end of a turn: it took so long, sleep not counted.
    fn worked(&mut self, now: Time, took: Duration) {
        let _ = (now, took);
    }

    /// Called when [`Engine::next_deadline`] has passed (and at most a tick late), and once a turn at most.
    fn tick(&mut self, now: Time);

    /// When `tick` is wanted next; `None` when nothing is pending.
    fn next_deadline(&self) -> Option<Time>;

    /// The next connection that gained output since it was last named here. `None` when all are named.
    fn poll_dirty(&mut self) -> Option<ConnId>;

    /// Takes all output of a connection; an empty `Output` when there is none. The driver calls it only when
    /// no send of that connection is in flight: after `poll_dirty` named it, and after each `sent`.
    fn take_output(&mut self, conn: ConnId) -> Output;

    /// Gives a sent `Output` back so that its memory is used again.
    fn recycle(&mut self, output: Output);

    /// The next thing to do.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// Messages for another shard, oldest first. The driver takes from the front what the mesh has room for;
    /// while messages remain, the engine slows those who publish there, and [`Engine::mesh_has_room`] ends that.
    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<Self::Message>;

    /// The shards whose outbox gained a message since the last call, each once.
    fn poll_outbox(&mut self) -> Option<ShardId>;

    /// The outbox for `to` was emptied.
    fn mesh_has_room(&mut self, now: Time, to: ShardId);

    /// The broker stops: take leave of every connection (each ends in [`Effect::Close`]), refuse new ones.
    fn stop(&mut self, now: Time);

    /// How many slots are not released yet.
    fn connections(&self) -> usize;
}
