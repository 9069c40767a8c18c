//! A connection as the core sees it: what has come in, what is to go out, and what was agreed at CONNECT.
//!
//! Output is appended here and taken by the driver, one send at a time. The record is hot; what only 5.0
//! clients with topic aliases have is boxed.

use super::guarded::Metered;
use super::session::NO_SLOT;
use crate::codec::ProtocolVersion;
use crate::engine::{ConnId, Large, Output, Time};
use crate::guard::profile::Class;
use std::collections::HashMap;

/// Payloads from this size on are referenced, not copied, in bytes.
pub const LARGE_PAYLOAD_MIN: usize = 16 * 1024;

/// A length that no tail has.
pub const UNSEEN: u32 = u32::MAX;

/// The largest packet there is, in bytes: a first byte and a remaining length of 0xFF_FF_FF_7F (§1.5.5).
pub const PACKET_BYTES_MAX: u32 = 268_435_460;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The CONNECT packet has not arrived completely.
    AwaitsConnect,
    /// CONNECT has arrived; whether it is let in is being asked, and nothing is read meanwhile.
    Asking,
    /// The client was sent AUTH and has to answer it.
    Authenticating,
    /// CONNECT was accepted; the connection belongs to a session.
    Connected,
    /// It was asked to be closed or handed over; nothing of it is read any more.
    Leaving,
}

impl Phase {
    /// The client was not let in yet.
    pub fn is_stranger(self) -> bool {
        matches!(self, Phase::AwaitsConnect | Phase::Asking | Phase::Authenticating)
    }
}

/// One connection.
pub struct Conn {
    /// Where it stands.
    pub phase: Phase,
    /// Protocol version; 3.1.1 until CONNECT says otherwise.
    pub version: ProtocolVersion,
    /// Listed among the connections that gained output.
    dirty: bool,
    /// Its packets are not read further until somebody has caught up.
    pub stalled: bool,
    /// Listed among those that wait for an outbox to be emptied.
    pub awaits_mesh: bool,
    /// It was handed over, and what is counted for it in the whole process with it.
    pub moved: bool,
    /// The client's side ended while it was stalled: it ends when what it sent before is handled.
    pub ended: bool,
    /// The client wants reason strings and user properties in packets other than PUBLISH, CONNACK and
    /// DISCONNECT [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// Index of the listener that accepted it.
    pub listener: u16,
    /// Which limits it has.
    pub class: Class,
    /// Keep alive in seconds, 0 for none.
    pub keep_alive: u16,
    /// Tells this user of the slot from others.
    pub generation: u32,
    /// Slot of its session, or [`NO_SLOT`].
    pub session: u32,
    /// The largest packet the client takes, in bytes.
    pub maximum_packet_size: u32,
    /// The largest packet taken from it, in bytes: little until it is let in, then what its class allows.
    pub packet_bytes_max: u32,
    /// Bytes written and not yet taken by the kernel.
    pub unsent: usize,
    /// Data are written while less than this is unsent, in bytes; 0 while it has got as much as its rate allows.
    room: usize,
    /// SUBACKs held back until other shards have published what was subscribed to.
    pub subacks_held: u32,
    /// When it was accepted.
    pub accepted: Time,
    /// When something last arrived.
    pub last_seen: Time,
    /// How long `tail` was when its growth was looked at last; [`UNSEEN`] if that was before it began.
    pub tail_seen: u32,
    /// The growth of `tail` is looked at later.
    pub tail_watched: bool,
    /// Output not yet taken by the driver.
    output: Output,
    /// The beginning of a packet whose end has not arrived; packets that wait while stalled.
    pub tail: Vec<u8>,
    /// Topic aliases, both ways.
    pub aliases: Option<Box<Aliases>>,
    /// Its rates, if it has any.
    pub metered: Option<Box<Metered>>,
}

const _: () = assert!(size_of::<Conn>() <= 256, "the connection's hot record is part of the memory contract");

/// Topic aliases of one 5.0 connection (MQTT 5.0 §3.3.2.3.4).
#[derive(Debug, Default)]
pub struct Aliases {
    /// What the client's aliases stand for; index is the alias less one.
    pub incoming: Vec<Option<Box<str>>>,
    /// The aliases given to the client.
    pub outgoing: HashMap<Box<str>, u16>,
    /// How many the client takes.
    pub outgoing_max: u16,
    /// About how many bytes all of them take, as counted.
    pub bytes: u32,
}

/// What an alias takes besides its topic.
const ALIAS_BYTES: usize = 48;

/// About how many bytes an alias takes.
pub fn alias_size(topic: &str) -> u32 {
    (topic.len() + ALIAS_BYTES) as u32
}

impl Conn {
    /// A connection that was just accepted, to which data are written while less than `room` bytes are unsent.
    pub fn new(listener: u16, packet_bytes_max: u32, accepted: Time, now: Time, room: usize) -> Conn {
        Conn {
            phase: Phase::AwaitsConnect,
            version: ProtocolVersion::V311,
            dirty: false,
            stalled: false,
            awaits_mesh: false,
            moved: false,
            ended: false,
            problem_information: true,
            listener,
            class: Class::default(),
            keep_alive: 0,
            generation: 0,
            session: NO_SLOT,
            maximum_packet_size: PACKET_BYTES_MAX,
            packet_bytes_max,
            unsent: 0,
            room,
            subacks_held: 0,
            accepted,
            last_seen: now,
            tail_seen: UNSEEN,
            tail_watched: false,
            output: Output::default(),
            tail: Vec::new(),
            aliases: None,
            metered: None,
        }
    }

    /// True for MQTT 5.0.
    pub fn is_v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    /// True while it takes more data: its unsent output is below the limit, and no rate of its holds it back.
    pub fn has_room(&self) -> bool {
        self.unsent < self.room
    }

    /// Nothing more is written to it for now: it got as much as its rate allows.
    pub fn is_muted(&self) -> bool {
        self.room == 0
    }

    /// No data are written to it until [`unmute`](Self::unmute).
    pub fn mute(&mut self) {
        self.room = 0;
    }

    /// Data are written to it again while less than `room` bytes are unsent.
    pub fn unmute(&mut self, room: usize) {
        self.room = room;
    }
}

/// The connections that gained output, and used output buffers.
#[derive(Default)]
pub struct Outgoing {
    /// Connections to be named by `poll_dirty`, oldest first from `next`.
    dirty: Vec<ConnId>,
    next: usize,
    /// Empty buffers with memory in them.
    pool: Vec<Output>,
    /// Bytes of all connections that were written and neither taken by the kernel nor given up.
    held: u64,
}

impl Outgoing {
    /// How many used buffers are kept.
    const POOL_MAX: usize = 1024;
    /// A buffer that grew beyond this is let go, in bytes.
    const POOLED_BYTES_MAX: usize = 16 * 1024;
    /// A new buffer's size, in bytes.
    const BUFFER_BYTES: usize = 512;

    /// Lets `write` append to a connection's output, and returns by how many bytes it grew.
    #[inline]
    pub fn write(&mut self, slot: u32, conn: &mut Conn, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        // Whoever is listed has a buffer.
        if !conn.dirty {
            self.begin(slot, conn);
        }
        let before = conn.output.bytes.len();
        write(&mut conn.output.bytes);
        let grown = conn.output.bytes.len() - before;
        conn.unsent += grown;
        self.held += grown as u64;
        grown
    }

    /// Appends a payload by reference.
    pub fn write_large(&mut self, conn: &mut Conn, payload: bytes::Bytes) {
        conn.unsent += payload.len();
        self.held += payload.len() as u64;
        conn.output.large.push(Large { at: conn.output.bytes.len(), payload });
    }

    /// Bytes that were written and are still held.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The kernel took so many, or they are given up with their connection.
    pub fn let_go(&mut self, bytes: usize) {
        self.held -= bytes as u64;
    }

    /// Lists a connection and gives it a buffer.
    #[inline(never)]
    fn begin(&mut self, slot: u32, conn: &mut Conn) {
        conn.dirty = true;
        self.dirty.push(ConnId { slot, generation: conn.generation });
        if conn.output.bytes.capacity() == 0 {
            let new = || Output { bytes: Vec::with_capacity(Self::BUFFER_BYTES), large: Vec::new() };
            conn.output = self.pool.pop().unwrap_or_else(new);
        }
    }

    /// The next connection that gained output.
    pub fn poll(&mut self) -> Option<ConnId> {
        let Some(&id) = self.dirty.get(self.next) else {
            self.dirty.clear();
            self.next = 0;
            return None;
        };
        self.next += 1;
        Some(id)
    }

    /// Takes a connection's output; what is written from now on makes it dirty again.
    pub fn take(&mut self, conn: &mut Conn) -> Output {
        conn.dirty = false;
        std::mem::take(&mut conn.output)
    }

    /// Takes a sent buffer back.
    pub fn recycle(&mut self, mut output: Output) {
        let reusable = (1..=Self::POOLED_BYTES_MAX).contains(&output.bytes.capacity());
        if reusable && self.pool.len() < Self::POOL_MAX {
            output.clear();
            self.pool.push(output);
        }
    }
}
