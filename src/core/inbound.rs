//! Bytes to packets, and packets to their handlers.
//!
//! Packets are handled where they lie in the receive buffer. Only the beginning of a packet whose end has not
//! arrived is copied, and only what it lacks is added to it: the rest of the next buffer is again handled in
//! place. A stalled connection keeps its bytes until it is resumed.

use super::Core;
use super::conn::Phase;
use super::counters::EndReason;
use super::publish::Publisher;
use super::session::{Leave, NO_SLOT};
use crate::codec::{
    Ack, DecodeError, Disconnect, Frame, Framed, Packet, ProtocolVersion, ReasonCode, decode, decode_ack,
    decode_publish, frame,
};
use crate::engine::{ConnId, Effect};
use crate::guard::complaints::brief;
use tracing::debug;

/// After so many packets in a row it is looked at whether the connection has to wait.
const STALL_CHECK_PACKETS: usize = 32;

/// What becomes of a connection after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next packet may be handled.
    Continue,
    /// Nothing more of this connection is handled now: it ended, left, or has to wait.
    Stop,
}

/// Packet types by the upper four bits of the fixed header (MQTT 5.0 §2.1.2).
mod packet_type {
    pub const CONNECT: u8 = 1;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const DISCONNECT: u8 = 14;
    pub const AUTH: u8 = 15;
}

impl Core {
    /// Takes bytes of a connection: handles the packets that are complete, keeps the rest.
    pub(super) fn take_in(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(conn) = self.wire.conns.get_mut(id.slot).filter(|conn| conn.generation == id.generation) else {
            return;
        };
        if conn.phase == Phase::Leaving {
            return;
        }
        conn.last_seen = self.wire.now;
        if conn.stalled {
            return self.keep_tail(id.slot, bytes);
        }
        if conn.tail.is_empty() {
            let used = self.handle_packets(id, bytes);
            return self.keep_tail(id.slot, &bytes[used..]);
        }
        self.complete_tail(id, bytes);
    }

    /// The connection holds the beginning of one packet: completes it, then goes on in place.
    fn complete_tail(&mut self, id: ConnId, mut bytes: &[u8]) {
        let mut tail = std::mem::take(&mut self.wire.conns[id.slot].tail);
        let held = tail.len();
        let most = self.wire.conns[id.slot].packet_bytes_max;
        let mut incomplete = true;
        while incomplete && !bytes.is_empty() {
            let lacking = match frame(&tail, most) {
                Ok(Framed::Incomplete { needed: Some(needed) }) => needed - tail.len(),
                // The remaining length itself is cut: one byte more may tell.
                Ok(Framed::Incomplete { needed: None }) => 1,
                Ok(Framed::Complete { .. }) | Err(_) => break,
            };
            let (now, later) = bytes.split_at(lacking.min(bytes.len()));
            tail.extend_from_slice(now);
            bytes = later;
            incomplete = matches!(frame(&tail, most), Ok(Framed::Incomplete { .. }));
        }
        self.counters.reassembly_bytes.sub(held as u64);
        if incomplete {
            // Put back as it is: to copy it with each piece would make a large packet cost the square of its size.
            self.counters.reassembly_bytes.add(tail.len() as u64);
            self.wire.conns[id.slot].tail = tail;
            return;
        }
        let before_connect = self.wire.conns[id.slot].phase == Phase::AwaitsConnect;
        if before_connect {
            // A hand-over takes every byte along, what follows the CONNECT included.
            tail.extend_from_slice(bytes);
            bytes = &[];
        }
        let used = self.handle_packets(id, &tail);
        self.keep_tail(id.slot, &tail[used..]);
        if !bytes.is_empty() {
            self.take_in(id, bytes);
        }
    }

    /// Keeps what was not handled: nearly always nothing.
    #[inline(always)]
    fn keep_tail(&mut self, slot: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.keep_rest(slot, bytes);
        }
    }

    #[inline(never)]
    fn keep_rest(&mut self, slot: u32, bytes: &[u8]) {
        let conn = &mut self.wire.conns[slot];
        if conn.phase == Phase::Leaving {
            return;
        }
        let begins = conn.tail.is_empty();
        conn.tail.extend_from_slice(bytes);
        self.counters.reassembly_bytes.add(bytes.len() as u64);
        if begins {
            self.watch_tail(slot);
        }
    }

    /// Handles the complete packets at the front of `bytes`; returns how many bytes they took.
    fn handle_packets(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        if self.guarding.watches_input() { self.handle_watched(id, bytes) } else { self.handle_each(id, bytes) }
    }

    /// The same where what a connection sends may have it read no further.
    #[cold]
    #[inline(never)]
    fn handle_watched(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        let published = self.counters.publish_received.load();
        let used = self.handle_each(id, bytes);
        self.guard_received(id, used, self.counters.publish_received.load() - published);
        used
    }

    fn handle_each(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut unchecked = 0;
        let conn = &self.wire.conns[id.slot];
        let (mut most, mut is_stranger) = (conn.packet_bytes_max, conn.phase.is_stranger());
        while at < bytes.len() {
            match frame(&bytes[at..], most) {
                Ok(Framed::Complete { frame, len }) => {
                    let mut flow = self.handle_packet(id, frame, &bytes[at..]);
                    at += len;
                    unchecked += 1;
                    if is_stranger {
                        // This packet may have let it in.
                        let conn = &self.wire.conns[id.slot];
                        (most, is_stranger) = (conn.packet_bytes_max, conn.phase.is_stranger());
                    }
                    // What a connection has caused is looked at now and then, not after each small packet.
                    if flow == Flow::Continue && (unchecked == STALL_CHECK_PACKETS || at == bytes.len()) {
                        unchecked = 0;
                        flow = self.stall_if_behind(id);
                    }
                    if flow == Flow::Stop {
                        return at;
                    }
                }
                Ok(Framed::Incomplete { .. }) => {
                    if is_stranger && !self.awaits_rest(id, &bytes[at..]) {
                        return bytes.len();
                    }
                    if unchecked > 0 {
                        self.stall_if_behind(id);
                    }
                    break;
                }
                Err(error) => {
                    self.break_off(id, error);
                    return bytes.len();
                }
            }
        }
        at
    }

    /// Handles one packet. `from_here` is everything received from its first byte on.
    fn handle_packet(&mut self, id: ConnId, frame: Frame<'_>, from_here: &[u8]) -> Flow {
        self.counters.packets_received.add(1);
        let conn = &self.wire.conns[id.slot];
        let (version, session) = (conn.version, conn.session);
        // What was decoded is used where it was decoded to: moved, it would be read in wider pieces than it was
        // just written in, for which the CPU has to wait.
        match (conn.phase, frame.first >> 4) {
            (Phase::Connected, packet_type::PUBLISH) => match &decode_publish(frame.first, frame.body, version) {
                Ok(publish) => {
                    let v5 = version == ProtocolVersion::V5;
                    self.on_publish(Publisher { id, session, v5 }, publish, frame.body)
                }
                Err(error) => self.break_off(id, *error),
            },
            (Phase::Connected, kind @ packet_type::PUBACK..=packet_type::PUBCOMP) => {
                match &decode_ack(frame.first, frame.body, version) {
                    Ok(ack) => self.on_ack(id, session, kind, ack),
                    Err(error) => self.break_off(id, *error),
                }
            }
            (Phase::Connected, _) => match &decode(frame, version) {
                Ok(packet) => self.on_rare_packet(id, packet),
                Err(error) => self.break_off(id, *error),
            },
            (Phase::Leaving, _) => Flow::Stop,
            (Phase::AwaitsConnect, packet_type::CONNECT) => self.on_first_packet(id, frame, from_here),
            (Phase::Asking, _) => Flow::Stop,
            (Phase::Authenticating, _) => match &decode(frame, version) {
                Ok(packet) => self.on_authenticating(id, packet),
                Err(error) => self.break_off(id, *error),
            },
            (Phase::AwaitsConnect, _) => self.close_silently(id, "the first packet is not a CONNECT"),
        }
    }

    /// The largest packet that is waited for of a client that was not let in yet.
    pub(super) fn stranger_bytes_max(&self) -> u32 {
        self.limits.connect_bytes_max.min(self.limits.packet_bytes_max)
    }

    /// Whether the rest of a packet is waited for of somebody who was not let in yet: such a client is given memory
    /// for what belongs here alone. (How much, `packet_bytes_max` of its connection says.)
    fn awaits_rest(&mut self, id: ConnId, begun: &[u8]) -> bool {
        let first = self.wire.conns[id.slot].phase == Phase::AwaitsConnect;
        let kind = begun[0] >> 4;
        if first && kind != packet_type::CONNECT {
            self.close_silently(id, "the first packet is not a CONNECT");
            return false;
        }
        if !first && !matches!(kind, packet_type::AUTH | packet_type::DISCONNECT) {
            self.refuse(id, ReasonCode::ProtocolError, "only AUTH and DISCONNECT may come before CONNACK");
            return false;
        }
        true
    }

    fn on_ack(&mut self, id: ConnId, session: u32, kind: u8, ack: &Ack<'_>) -> Flow {
        match kind {
            packet_type::PUBACK => self.on_pub_ack(session, ack.packet_id, ack.reason),
            packet_type::PUBREC => self.on_pub_rec(session, ack.packet_id, ack.reason),
            packet_type::PUBREL => self.on_pub_rel(id, ack.packet_id),
            _ => self.on_pub_comp(session, ack.packet_id, ack.reason),
        }
        Flow::Continue
    }

    fn on_rare_packet(&mut self, id: ConnId, packet: &Packet<'_>) -> Flow {
        match packet {
            Packet::PingReq => self.wire.ping_resp(id.slot),
            Packet::Subscribe(subscribe) => return self.on_subscribe(id, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, unsubscribe),
            Packet::Disconnect(disconnect) => return self.on_disconnect(id, disconnect),
            Packet::Auth(auth) => return self.on_auth(id, auth),
            // A second CONNECT [MQTT-3.1.0-2], or a packet that only a server sends.
            _ => return self.protocol_error(id, ReasonCode::ProtocolError, "a packet that does not belong here"),
        }
        Flow::Continue
    }

    fn on_disconnect(&mut self, id: ConnId, disconnect: &Disconnect<'_>) -> Flow {
        if disconnect.server_reference.is_some() {
            return self.protocol_error(id, ReasonCode::ProtocolError, "a server reference from a client");
        }
        let session = self.wire.conns[id.slot].session;
        if let Some(interval) = disconnect.session_expiry_interval {
            let now = self.sessions[session].expiry_interval;
            if now == 0 && interval != 0 {
                return self.protocol_error(
                    id,
                    ReasonCode::ProtocolError,
                    "a session expiry interval of 0 cannot be changed",
                );
            }
            self.sessions[session].expiry_interval = interval.min(self.limits.session_expiry_max);
        }
        let leave = if disconnect.reason == 0 { Leave::Clean } else { Leave::WithWill };
        self.end(id.slot, EndReason::ClientDisconnect, None, leave);
        Flow::Stop
    }

    /// The bytes are no packet, or one that the protocol forbids here.
    fn break_off(&mut self, id: ConnId, error: DecodeError) -> Flow {
        match self.wire.conns[id.slot].phase {
            Phase::AwaitsConnect => return self.refuse_malformed_connect(id, error, &[]),
            Phase::Asking | Phase::Authenticating => return self.refuse(id, error.reason(), error.label()),
            Phase::Connected | Phase::Leaving => {}
        }
        self.end_for(id, error.reason(), error.label())
    }

    /// Ends a connection whose client breaks the protocol, telling a 5.0 client the reason code.
    pub(super) fn protocol_error(&mut self, id: ConnId, code: ReasonCode, why: &'static str) -> Flow {
        self.end_for(id, code, why)
    }

    fn end_for(&mut self, id: ConnId, code: ReasonCode, why: &str) -> Flow {
        let session = self.wire.conns[id.slot].session;
        let client_id = if session == NO_SLOT { "" } else { brief(&self.sessions[session].client_id) };
        debug!(shard = self.shard, slot = id.slot, client_id, code = code.name(), why, "connection ended");
        self.counters.protocol_errors.of(code as u8).add(1);
        self.end(id.slot, EndReason::ProtocolError, Some(code), Leave::WithWill);
        Flow::Stop
    }

    /// Ends a connection that has not said CONNECT, without an answer [MQTT-3.1.0-1].
    pub(super) fn close_silently(&mut self, id: ConnId, why: &str) -> Flow {
        debug!(shard = self.shard, slot = id.slot, why, "connection closed before CONNECT");
        self.counters.protocol_errors.of(ReasonCode::ProtocolError as u8).add(1);
        self.end(id.slot, EndReason::ProtocolError, None, Leave::Clean);
        Flow::Stop
    }

    /// Stops reading a connection whose output, acknowledgements or target shards are too far behind.
    fn stall_if_behind(&mut self, id: ConnId) -> Flow {
        let mesh = self.mesh_is_behind();
        let conn = &mut self.wire.conns[id.slot];
        // Data stops at the limit itself (`has_room`); beyond it only answers to the client's own packets grow.
        // Who has sent its last packet cannot make them grow much, and may never read them.
        let output = !conn.ended && conn.unsent >= 2 * self.limits.output_bytes_max;
        let acks = self.sessions.get(conn.session).is_some_and(|session| session.acks_behind());
        if !mesh && !output && !acks {
            return Flow::Continue;
        }
        conn.stalled = true;
        self.counters.pauses.add(1);
        if mesh {
            self.await_mesh(id);
        }
        self.wire.effects.push_back(Effect::PauseReceive(id));
        Flow::Stop
    }

    /// Lists a stalled connection, once, among those that go on when the outboxes are emptied.
    fn await_mesh(&mut self, id: ConnId) {
        if !std::mem::replace(&mut self.wire.conns[id.slot].awaits_mesh, true) {
            self.stalled.push(id);
        }
    }

    /// Goes on with those that waited for the outboxes.
    pub(super) fn resume_all(&mut self) {
        for id in std::mem::take(&mut self.stalled) {
            if let Some(conn) = self.wire.conns.get_mut(id.slot).filter(|conn| conn.generation == id.generation) {
                conn.awaits_mesh = false;
                self.resume(id);
            }
        }
    }

    /// Goes on with a stalled connection if what it waited for has happened.
    pub(super) fn resume(&mut self, id: ConnId) {
        let Some(conn) = self.live(id) else { return };
        let acks = self.sessions.get(conn.session).is_some_and(|session| session.acks_still_behind());
        let output = !conn.ended && conn.unsent >= self.limits.output_bytes_max;
        if !conn.stalled || output || acks || conn.phase == Phase::Asking || self.guard_holds(id.slot) {
            return;
        }
        if self.mesh_is_behind() {
            return self.await_mesh(id);
        }
        let conn = &mut self.wire.conns[id.slot];
        conn.stalled = false;
        // While nobody listened it could not be heard.
        conn.last_seen = self.wire.now;
        let tail = std::mem::take(&mut conn.tail);
        self.counters.reassembly_bytes.sub(tail.len() as u64);
        let used = self.handle_packets(id, &tail);
        self.keep_tail(id.slot, &tail[used..]);
        let Some(conn) = self.live(id).filter(|conn| !conn.stalled) else { return };
        if conn.ended {
            return self.end(id.slot, EndReason::EndOfStream, None, Leave::WithWill);
        }
        self.wire.effects.push_back(Effect::ResumeReceive(id));
    }
}

/// Reads protocol errors of a CONNECT that could not be decoded: which answer its version understands.
pub(super) fn version_of_malformed(error: DecodeError) -> ProtocolVersion {
    match error {
        // Whoever asks for a level above 5 reads 5.0's answer; 1 and 2 never existed on the wire.
        DecodeError::ProtocolVersion { level } if level >= 5 => ProtocolVersion::V5,
        _ => ProtocolVersion::V311,
    }
}
