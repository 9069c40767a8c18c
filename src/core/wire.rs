//! The connections of a shard and every byte that is written to them.
//!
//! A publication that goes to many receivers is encoded once for each form it takes and copied, with its
//! packet identifier patched in.

use super::conn::{Conn, LARGE_PAYLOAD_MIN, Outgoing, PACKET_BYTES_MAX, alias_size};
use super::counters::Counters;
use super::message::{Message, Publication};
use super::shares::Shares;
use crate::codec::{
    Ack, Disconnect, Packet, PacketType, ProtocolVersion, PublishHead, QoS, ReasonCode, encode, encode_ack,
    encode_ping_resp, encode_publish_body, encode_publish_head, packet_len, publish_len,
};
use crate::config::Limits;
use crate::engine::{ConnId, Effect, Time};
use crate::slab::Slab;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Connections, their output, and what the driver is asked to do with them.
pub struct Wire {
    pub conns: Slab<Conn>,
    pub outgoing: Outgoing,
    /// What of the messages that are kept and written is there only once.
    pub shares: Shares,
    pub effects: VecDeque<Effect>,
    /// Connections that got as much as their rates allow, and until when nothing more is written to them.
    pub muted: Vec<(ConnId, Time)>,
    pub now: Time,
    counters: Arc<Counters>,
    limits: Arc<Limits>,
    cache: FrameCache,
}

/// A publication while it is delivered to its receivers.
pub struct Fan<'a> {
    /// What is delivered.
    pub publication: &'a Publication<'a>,
    /// The same in an allocation of its own, if it came in one.
    given: Option<&'a Message>,
    /// The same, once somebody needed to keep it.
    kept: Option<Message>,
    /// Its payload as a reference, once somebody was sent a large one.
    payload: Option<Bytes>,
    /// Number of this fan-out.
    pub round: u32,
    /// It goes on to other shards or shared subscriptions when the sessions of this shard have it.
    pub goes_on: bool,
    /// The receiver that is served now is the last one.
    pub is_last: bool,
}

/// How one receiver gets a publication.
#[derive(Clone, Copy)]
pub struct How<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
    pub subscription_identifiers: &'a [u32],
}

/// The packet is larger than the receiver takes.
#[derive(Debug)]
pub struct TooLarge;

/// The form that was encoded last.
#[derive(Default)]
struct FrameCache {
    form: Option<(u32, bool, QoS, bool)>,
    bytes: Vec<u8>,
    packet_id_at: usize,
}

impl<'a> Fan<'a> {
    /// A publication that is in some buffer.
    pub fn new(publication: &'a Publication<'a>, round: u32) -> Fan<'a> {
        Fan { publication, given: None, kept: None, payload: None, round, goes_on: false, is_last: false }
    }

    /// A publication that is kept already: `publication` is the view of `message`.
    pub fn of(message: &'a Message, publication: &'a Publication<'a>, round: u32) -> Fan<'a> {
        Fan { given: Some(message), ..Fan::new(publication, round) }
    }

    /// The publication as a message that can be kept.
    pub fn message(&mut self) -> &Message {
        match self.given {
            Some(message) => message,
            None => self.kept.get_or_insert_with(|| self.publication.to_message()),
        }
    }

    /// A reference of one's own to the message. The last receiver gets the only one: it costs no counting.
    pub fn keep(&mut self) -> Message {
        // The bytes of a large payload are still to be asked for.
        if self.is_last && self.given.is_none() && self.publication.payload().len() < LARGE_PAYLOAD_MIN {
            return self.kept.take().unwrap_or_else(|| self.publication.to_message());
        }
        self.message().clone()
    }

    /// The payload as a reference that all receivers share.
    fn payload(&mut self) -> Bytes {
        if let Some(payload) = &self.payload {
            return payload.clone();
        }
        let payload = self.message().payload_bytes();
        self.payload.insert(payload).clone()
    }
}

impl Wire {
    pub fn new(counters: Arc<Counters>, limits: Arc<Limits>, now: Time) -> Wire {
        Wire {
            conns: Slab::new(),
            outgoing: Outgoing::default(),
            shares: Shares::default(),
            effects: VecDeque::new(),
            muted: Vec::new(),
            now,
            counters,
            limits,
            cache: FrameCache::default(),
        }
    }

    /// True while the connection takes more data.
    pub fn has_room(&self, slot: u32) -> bool {
        self.conns[slot].has_room()
    }

    /// A connection that got as much as its rate allowed may be written to again.
    pub fn unmute(&mut self, slot: u32) {
        self.conns[slot].unmute(self.limits.output_bytes_max);
    }

    /// A message was written to a connection that has a rate.
    #[cold]
    fn charge(&mut self, slot: u32, written: usize) {
        let conn = &mut self.conns[slot];
        let until = conn.metered.as_mut().and_then(|metered| metered.sent(self.now, written));
        if let Some(until) = until.filter(|_| !conn.is_muted()) {
            conn.mute();
            self.muted.push((ConnId { slot, generation: conn.generation }, until));
        }
    }

    /// Writes a PUBLISH, or nothing if it is larger than the client takes [MQTT-3.1.2-24].
    pub fn publish(&mut self, slot: u32, fan: &mut Fan<'_>, how: How<'_>) -> Result<(), TooLarge> {
        let conn = &mut self.conns[slot];
        let metered = conn.metered.is_some();
        let payload_len = fan.publication.payload().len();
        let alike =
            conn.aliases.is_none() && how.subscription_identifiers.is_empty() && payload_len < LARGE_PAYLOAD_MIN;
        let written =
            if let Some((body, packet_id_at)) = fan.publication.packet_body(conn.is_v5(), how.qos).filter(|_| alike) {
                if packet_len(body.len()) > conn.maximum_packet_size as usize {
                    return Err(TooLarge);
                }
                self.outgoing.write(slot, conn, |out| put_packet(out, body, packet_id_at, how))
            } else if alike {
                self.cache.fill(conn.version, fan, how, self.now);
                let FrameCache { bytes, packet_id_at, .. } = &self.cache;
                if bytes.len() > conn.maximum_packet_size as usize {
                    return Err(TooLarge);
                }
                self.outgoing.write(slot, conn, |out| {
                    let at = out.len();
                    out.extend_from_slice(bytes);
                    if how.qos != QoS::AtMostOnce {
                        out[at] |= u8::from(how.dup) << 3;
                        out[at + packet_id_at..at + packet_id_at + 2].copy_from_slice(&how.packet_id.to_be_bytes());
                    }
                })
            } else {
                self.publish_alone(slot, fan, how)?
            };
        self.counters.packets_sent.add(1);
        self.counters.publish_sent.add(1);
        self.counters.publish_bytes_sent.add(payload_len as u64);
        if metered {
            self.charge(slot, written);
        }
        Ok(())
    }

    /// Writes a PUBLISH that no other receiver gets in the same form; how many bytes it took.
    fn publish_alone(&mut self, slot: u32, fan: &mut Fan<'_>, how: How<'_>) -> Result<usize, TooLarge> {
        let conn = &mut self.conns[slot];
        let publication = fan.publication;
        let payload = publication.payload();
        let version = conn.version;
        let fits =
            |head: &PublishHead<'_>| publish_len(version, head, payload.len()) <= conn.maximum_packet_size as usize;
        let named = head(fan, how, self.now);
        let (alias, known) = conn.alias_for(publication.topic());
        let topic = if known { "" } else { publication.topic() };
        let with_alias = PublishHead { topic, topic_alias: alias, ..named };
        // Giving an alias takes a few bytes: a message that fits without them goes without.
        let head = [with_alias, named].into_iter().find(fits).ok_or(TooLarge)?;
        if let (Some(alias), false) = (head.topic_alias, known) {
            conn.give_alias(publication.topic(), alias);
            self.counters.alias_bytes.add(alias_size(publication.topic()).into());
        }
        let large = payload.len() >= LARGE_PAYLOAD_MIN;
        let written = self.outgoing.write(slot, conn, |out| {
            encode_publish_head(out, version, &head, payload.len());
            if !large {
                out.extend_from_slice(payload);
            }
        });
        if large {
            self.shares.written(slot, conn.unsent, fan.message().clone());
            self.outgoing.write_large(conn, fan.payload());
            return Ok(written + payload.len());
        }
        Ok(written)
    }

    /// A message waits in a queue from now on.
    pub fn queued(&mut self, message: &Message) {
        self.counters.queued.add(1);
        self.counters.queued_bytes.add(message.size() as u64);
        self.shares.hold(message);
    }

    /// It was taken out of the queue.
    pub fn unqueued(&mut self, message: &Message) {
        self.counters.queued.sub(1);
        self.counters.queued_bytes.sub(message.size() as u64);
        self.shares.let_go(message);
    }

    /// A delivery of QoS 1 or 2 was sent, and its message is kept until it is acknowledged.
    #[inline]
    pub fn begin_delivery(&mut self, message: &Message) {
        self.counters.begin_delivery(message.size() as u64);
        self.shares.hold(message);
    }

    /// Such a delivery ended, with this message still kept for it.
    #[inline]
    pub fn end_delivery(&mut self, kept: Option<Message>) {
        self.counters.inflight.sub(1);
        self.let_go(kept);
    }

    /// The message of such a delivery is not kept any more.
    #[inline]
    pub fn let_go(&mut self, kept: Option<Message>) {
        let Some(message) = kept else { return };
        self.counters.inflight_bytes.sub(message.size() as u64);
        self.shares.let_go(&message);
    }

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn ack(&mut self, slot: u32, kind: PacketType, packet_id: u16, reason: u8) {
        let conn = &mut self.conns[slot];
        let version = conn.version;
        self.outgoing.write(slot, conn, |out| encode_ack(out, version, kind, packet_id, reason));
        self.counters.packets_sent.add(1);
    }

    /// Writes PUBACK or PUBREC with a sentence for whoever debugs the client, if it wants one.
    pub fn ack_because(&mut self, slot: u32, kind: PacketType, packet_id: u16, reason: ReasonCode, why: &str) {
        let conn = &self.conns[slot];
        if !conn.is_v5() || !conn.problem_information {
            return self.ack(slot, kind, packet_id, reason as u8);
        }
        let ack = Ack { packet_id, reason: reason as u8, reason_string: Some(why), ..Ack::default() };
        let packet = if kind == PacketType::PubAck { Packet::PubAck(ack) } else { Packet::PubRec(ack) };
        if !self.fits(slot, &packet) {
            return self.ack(slot, kind, packet_id, reason as u8);
        }
        self.packet(slot, &packet);
    }

    /// Writes PINGRESP.
    pub fn ping_resp(&mut self, slot: u32) {
        let conn = &mut self.conns[slot];
        self.outgoing.write(slot, conn, encode_ping_resp);
        self.counters.packets_sent.add(1);
    }

    /// Writes DISCONNECT to a 5.0 client; earlier versions have no such packet from a server.
    pub fn disconnect(&mut self, slot: u32, code: ReasonCode) {
        if self.conns[slot].is_v5() {
            self.packet(slot, &Packet::Disconnect(Disconnect { reason: code as u8, ..Disconnect::default() }));
        }
    }

    /// Writes any packet, or nothing if it is larger than the client takes [MQTT-3.1.2-24].
    pub fn packet(&mut self, slot: u32, packet: &Packet<'_>) {
        let conn = &mut self.conns[slot];
        let (version, maximum) = (conn.version, conn.maximum_packet_size as usize);
        let written = self.outgoing.write(slot, conn, |out| {
            let start = out.len();
            encode(packet, version, out);
            if out.len() - start > maximum {
                out.truncate(start);
            }
        });
        self.counters.packets_sent.add(u64::from(written > 0));
    }

    /// True if the client takes a packet of this size.
    pub fn fits(&self, slot: u32, packet: &Packet<'_>) -> bool {
        let conn = &self.conns[slot];
        if conn.maximum_packet_size == PACKET_BYTES_MAX {
            return true;
        }
        let mut bytes = Vec::new();
        encode(packet, conn.version, &mut bytes);
        bytes.len() <= conn.maximum_packet_size as usize
    }
}

impl FrameCache {
    fn fill(&mut self, version: ProtocolVersion, fan: &Fan<'_>, how: How<'_>, now: Time) {
        let form = Some((fan.round, version == ProtocolVersion::V5, how.qos, how.retain));
        if self.form == form {
            return;
        }
        self.form = form;
        self.bytes.clear();
        let payload = fan.publication.payload();
        // The identifier is patched in each copy; any but 0 stands for it here.
        let head = PublishHead { dup: false, packet_id: 1, ..head(fan, how, now) };
        self.packet_id_at = encode_publish_head(&mut self.bytes, version, &head, payload.len()).unwrap_or(0);
        self.bytes.extend_from_slice(payload);
    }
}

/// Writes a PUBLISH whose body is the publisher's own.
fn put_packet(out: &mut Vec<u8>, body: &[u8], packet_id_at: usize, how: How<'_>) {
    let at = encode_publish_body(out, how.dup, how.qos, how.retain, body) + packet_id_at;
    if how.qos != QoS::AtMostOnce {
        out[at..at + 2].copy_from_slice(&how.packet_id.to_be_bytes());
    }
}

fn head<'h>(fan: &Fan<'h>, how: How<'h>, now: Time) -> PublishHead<'h> {
    let publication = fan.publication;
    PublishHead {
        dup: how.dup,
        qos: how.qos,
        retain: how.retain,
        topic: publication.topic(),
        packet_id: how.packet_id,
        topic_alias: None,
        message_expiry_interval: publication.head().expiry_left(now),
        subscription_identifiers: how.subscription_identifiers,
        forward: publication.properties(),
    }
}

impl Conn {
    /// The alias to send a topic with, and whether the client knows it already.
    fn alias_for(&self, topic: &str) -> (Option<u16>, bool) {
        let Some(aliases) = self.aliases.as_ref().filter(|aliases| aliases.outgoing_max > 0) else {
            return (None, false);
        };
        match aliases.outgoing.get(topic) {
            Some(&alias) => (Some(alias), true),
            None if aliases.outgoing.len() < usize::from(aliases.outgoing_max) => {
                (Some(aliases.outgoing.len() as u16 + 1), false)
            }
            None => (None, false),
        }
    }

    fn give_alias(&mut self, topic: &str, alias: u16) {
        if let Some(aliases) = &mut self.aliases {
            aliases.outgoing.insert(topic.into(), alias);
            aliases.bytes += alias_size(topic);
        }
    }
}
