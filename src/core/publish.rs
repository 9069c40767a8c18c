//! A PUBLISH that came in: checked, routed, acknowledged once every shard has answered.

use super::Core;
use super::conn::{Aliases, alias_size};
use super::inbound::Flow;
use super::message::{Form, NEVER, Parts, Publication};
use super::note::Ticket;
use super::route::Routed;
use super::session::{Ack, Outcome};
use crate::codec::{PacketType, Publish, QoS, ReasonCode, topic::level_count};
use crate::engine::{ConnId, Time};
use crate::guard::budget::Pressure;
use crate::slab::Key;
use std::time::Duration;

/// How many acknowledgements of one client may wait for other shards before it is read no further.
const ACKS_WAITING_MAX: usize = 8192;

/// Why a publish is refused, when the connection may go on.
type Refusal = (ReasonCode, &'static str);

/// The client that a PUBLISH came from, looked up once for the packet.
#[derive(Clone, Copy)]
pub struct Publisher {
    /// Its connection.
    pub id: ConnId,
    /// Slot of its session.
    pub session: u32,
    /// It speaks 5.0.
    pub v5: bool,
}

impl Core {
    pub(super) fn on_publish(&mut self, from: Publisher, publish: &Publish<'_>, body: &[u8]) -> Flow {
        self.counters.publish_received.add(1);
        self.counters.publish_bytes_received.add(publish.payload.len() as u64);
        if let Err((code, why)) = self.check_flow(from, publish) {
            return self.protocol_error(from.id, code, why);
        }
        if publish.qos == QoS::ExactlyOnce && self.is_repeated(from.session, publish.packet_id) {
            return self.take_repeated(from, publish);
        }
        let plain = publish.properties.forwards_as_is && publish.properties.topic_alias.is_none();
        if plain {
            let form = if from.v5 { Form::Packet5 } else { Form::Packet3 };
            let (topic, properties, payload) = (publish.topic, publish.properties.raw, publish.payload);
            return self.take_publish(from, publish, &Parts { body, form, topic, properties, payload });
        }
        let mut scratch = std::mem::take(&mut self.scratch.body);
        scratch.clear();
        let flow = self.take_rebuilt(from, publish, &mut scratch);
        self.scratch.body = scratch;
        flow
    }

    /// A PUBLISH with an alias or with properties that are not forwarded as they are: put together anew.
    fn take_rebuilt(&mut self, from: Publisher, publish: &Publish<'_>, body: &mut Vec<u8>) -> Flow {
        if publish.properties.subscription_identifiers().next().is_some() {
            let why = "a subscription identifier from a client"; // [MQTT-3.3.4-6]
            return self.protocol_error(from.id, ReasonCode::ProtocolError, why);
        }
        if let Err((code, why)) = self.resolve_topic(from.id, publish, body) {
            return self.protocol_error(from.id, code, why);
        }
        let topic_end = body.len();
        publish.properties.forwardable(body);
        let properties_end = body.len();
        body.extend_from_slice(publish.payload);
        // The topic was valid UTF-8 when it arrived, in this packet or in the one that set the alias.
        let Ok(topic) = std::str::from_utf8(&body[..topic_end]) else {
            return self.protocol_error(from.id, ReasonCode::UnspecifiedError, "a topic alias lost its topic");
        };
        let (properties, payload) = (&body[topic_end..properties_end], &body[properties_end..]);
        self.take_publish(from, publish, &Parts { body, form: Form::Parts, topic, properties, payload })
    }

    /// Appends the topic name to `out`, through the connection's aliases where one is used (§3.3.2.3.4).
    fn resolve_topic(&mut self, id: ConnId, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let Some(alias) = publish.properties.topic_alias else {
            out.extend_from_slice(publish.topic.as_bytes());
            return Ok(());
        };
        let max = self.limits.topic_alias_max;
        if alias > max {
            return Err((ReasonCode::TopicAliasInvalid, "topic alias above the maximum"));
        }
        let Aliases { incoming, bytes, .. } = &mut **self.wire.conns[id.slot].aliases.get_or_insert_default();
        if incoming.is_empty() {
            incoming.resize(usize::from(max), None);
        }
        let known = &mut incoming[usize::from(alias) - 1];
        if !publish.topic.is_empty() {
            let before = known.replace(publish.topic.into()).map_or(0, |topic| alias_size(&topic));
            let after = alias_size(publish.topic);
            *bytes = *bytes - before + after;
            self.counters.alias_bytes.add(after.into());
            self.counters.alias_bytes.sub(before.into());
        }
        let topic = known.as_ref().ok_or((ReasonCode::ProtocolError, "a topic alias that stands for nothing"))?;
        out.extend_from_slice(topic.as_bytes());
        Ok(())
    }

    /// What ends the connection when it is wrong: flow control and what was ruled out at CONNECT.
    fn check_flow(&self, from: Publisher, publish: &Publish<'_>) -> Result<(), Refusal> {
        if publish.qos > self.mqtt.max_qos {
            return Err((ReasonCode::QoSNotSupported, "QoS above the maximum"));
        }
        if publish.retain && !self.mqtt.retain_available {
            return Err((ReasonCode::RetainNotSupported, "retained messages are not available"));
        }
        if publish.qos != QoS::AtMostOnce && from.v5 {
            let session = &self.sessions[from.session];
            let known = publish.qos == QoS::ExactlyOnce && self.is_repeated(from.session, publish.packet_id);
            if !known && session.receives_at_least(usize::from(session.receive_maximum)) {
                return Err((
                    ReasonCode::ReceiveMaximumExceeded,
                    "more unacknowledged messages than the receive maximum",
                ));
            }
        }
        Ok(())
    }

    /// What this message is refused for, the connection going on.
    fn check_content(&mut self, session: u32, publish: &Publish<'_>, topic: &str) -> Result<(), Refusal> {
        if publish.qos != QoS::AtMostOnce && self.guarding.pressure == Pressure::RefuseQos {
            return Err((ReasonCode::QuotaExceeded, "memory is short"));
        }
        if topic.len() >= self.plain_topic_bytes {
            self.check_topic(session, publish, topic)?;
        }
        if topic.starts_with("$SYS/") || topic == "$SYS" {
            return Err((ReasonCode::NotAuthorized, "$SYS belongs to the server"));
        }
        let properties = &publish.properties;
        if properties.raw.is_empty() {
            return Ok(());
        }
        if properties.user_properties().iter().nth(usize::from(self.limits.user_properties_max)).is_some() {
            return Err((ReasonCode::QuotaExceeded, "too many user properties"));
        }
        if self.mqtt.check_payload_format
            && properties.payload_is_utf8
            && simdutf8::basic::from_utf8(publish.payload).is_err()
        {
            return Err((ReasonCode::PayloadFormatInvalid, "the payload is not UTF-8"));
        }
        Ok(())
    }

    /// A topic name that is long, or that rules are to be asked about.
    #[cold]
    fn check_topic(&mut self, session: u32, publish: &Publish<'_>, topic: &str) -> Result<(), Refusal> {
        if topic.len() > usize::from(self.limits.topic_bytes_max) {
            return Err((ReasonCode::TopicNameInvalid, "the topic name is too long"));
        }
        let levels_max = usize::from(self.limits_of(self.sessions[session].class).topic_levels_max);
        // A topic has fewer levels than bytes, but for one: a short one needs no counting.
        if topic.len() >= levels_max && level_count(topic) > levels_max {
            return Err((ReasonCode::TopicNameInvalid, "the topic name has too many levels"));
        }
        if !self.rules.in_force() {
            return Ok(());
        }
        let hash = crate::index::topic_hash(&self.shared.seed, topic);
        if !self.may_publish(session, topic, hash, publish.qos, publish.retain) {
            self.counters.publish_denied.add(1);
            return Err((ReasonCode::NotAuthorized, "not allowed to publish to this topic"));
        }
        Ok(())
    }

    fn take_publish(&mut self, from: Publisher, publish: &Publish<'_>, parts: &Parts<'_>) -> Flow {
        let session = from.session;
        if let Err((code, why)) = self.check_content(session, publish, parts.topic) {
            self.counters.publish_refused.add(1);
            self.refuse_publish(from, publish, code, why);
            return Flow::Continue;
        }
        let expires = self.expires(publish.properties.message_expiry_interval);
        let topic_hash = crate::index::topic_hash(&self.shared.seed, parts.topic);
        let publication = Publication::new(parts, topic_hash, publish.qos, publish.retain, expires);
        if publish.qos == QoS::AtMostOnce {
            self.route(&publication, session, None);
            return Flow::Continue;
        }
        if publish.qos == QoS::ExactlyOnce {
            self.sessions[session].receiving.get_or_insert_default().insert(publish.packet_id);
        }
        let ticket = (self.shards > 1).then(|| self.ticket(session));
        let routed = self.route(&publication, session, ticket);
        let waiting = self.sessions[session].acks.as_ref().is_some_and(|acks| !acks.waiting.is_empty());
        if routed.waits == 0 && !waiting {
            self.acknowledge(session, publish.packet_id, publish.qos, routed.outcome, None);
        } else {
            let acks = self.sessions[session].acks.get_or_insert_default();
            let Routed { waits, outcome } = routed;
            let (packet_id, qos) = (publish.packet_id, publish.qos);
            acks.waiting.push_back(Ack { packet_id, qos, waits, owed: true, outcome, refusal: None });
        }
        Flow::Continue
    }

    /// The ticket of the acknowledgement that comes next.
    fn ticket(&mut self, slot: u32) -> Ticket {
        let generation = self.session_key(slot).generation;
        let acks = self.sessions[slot].acks.get_or_insert_default();
        Ticket { session: slot, generation, number: acks.first.wrapping_add(acks.waiting.len() as u32) }
    }

    fn expires(&self, interval: Option<u32>) -> Time {
        interval.map_or(NEVER, |seconds| self.wire.now.after(Duration::from_secs(seconds.into())))
    }

    /// PUBACK or PUBREC with an error; 3.x has no such answer: the message is acknowledged and ignored (§4.3.2).
    fn refuse_publish(&mut self, from: Publisher, publish: &Publish<'_>, code: ReasonCode, why: &str) {
        let kind = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => PacketType::PubAck,
            QoS::ExactlyOnce => PacketType::PubRec,
        };
        let session = from.session;
        if self.sessions[session].acks.as_ref().is_some_and(|acks| !acks.waiting.is_empty()) {
            // Earlier acknowledgements wait: this one keeps its place behind them.
            let outcome = Outcome { matched: true, refused: true };
            let refusal = Some(code);
            let acks = self.sessions[session].acks.get_or_insert_default();
            let (packet_id, qos) = (publish.packet_id, publish.qos);
            acks.waiting.push_back(Ack { packet_id, qos, waits: 0, owed: true, outcome, refusal });
            if publish.qos == QoS::ExactlyOnce {
                self.sessions[session].receiving.get_or_insert_default().insert(publish.packet_id);
            }
            return;
        }
        if !from.v5 && publish.qos == QoS::ExactlyOnce {
            self.sessions[session].receiving.get_or_insert_default().insert(publish.packet_id);
        }
        self.wire.ack_because(from.id.slot, kind, publish.packet_id, code, why);
    }

    /// Another shard has dealt with a message that carried a ticket.
    pub(super) fn take_answer(&mut self, ticket: Ticket, outcome: Outcome) {
        let slot = ticket.session;
        if self.sessions.get_key(Key { slot, generation: ticket.generation }).is_none() {
            return;
        }
        let Some(acks) = &mut self.sessions[slot].acks else { return };
        let at = ticket.number.wrapping_sub(acks.first) as usize;
        let Some(ack) = acks.waiting.get_mut(at) else { return };
        ack.waits -= 1;
        ack.outcome = ack.outcome.and(outcome);
        self.release_acks(slot);
    }

    /// Sends the acknowledgements at the front that wait for nobody any more.
    fn release_acks(&mut self, slot: u32) {
        loop {
            let Some(acks) = &mut self.sessions[slot].acks else { return };
            if acks.waiting.front().is_none_or(|ack| ack.waits > 0) {
                break;
            }
            let Some(ack) = acks.waiting.pop_front() else { break };
            acks.first = acks.first.wrapping_add(1);
            if ack.owed {
                self.acknowledge(slot, ack.packet_id, ack.qos, ack.outcome, ack.refusal);
            } else if ack.qos == QoS::ExactlyOnce && ack.outcome.refused {
                // The publisher will send it again, and then it is a new message.
                self.sessions[slot].receiving.as_mut().map(|ids| ids.remove(ack.packet_id));
            }
        }
        let session = &self.sessions[slot];
        if session.is_connected() && !session.acks_still_behind() {
            let conn = session.conn;
            if self.wire.conns[conn].stalled {
                self.resume(ConnId { slot: conn, generation: self.wire.conns[conn].generation });
            }
        }
    }

    /// PUBACK [MQTT-4.3.2-4] or PUBREC [MQTT-4.3.3-8]: every session that should get the message has it.
    fn acknowledge(&mut self, slot: u32, packet_id: u16, qos: QoS, outcome: Outcome, refusal: Option<ReasonCode>) {
        let reason = match outcome {
            Outcome { refused: true, .. } => refusal.unwrap_or(ReasonCode::QuotaExceeded),
            Outcome { matched: false, .. } => ReasonCode::NoMatchingSubscribers,
            _ => ReasonCode::Success,
        };
        let session = &mut self.sessions[slot];
        let v5 = self.wire.conns[session.conn].is_v5();
        if qos == QoS::ExactlyOnce && outcome.refused && v5 {
            // A PUBREC of 0x80 or more ends the exchange; the identifier is free again.
            session.receiving.as_mut().map(|ids| ids.remove(packet_id));
        }
        let kind = if qos == QoS::ExactlyOnce { PacketType::PubRec } else { PacketType::PubAck };
        self.wire.ack(session.conn, kind, packet_id, reason as u8);
    }

    /// The message of this identifier was taken before; its PUBREL has not come.
    fn is_repeated(&self, session: u32, packet_id: u16) -> bool {
        self.sessions[session].receiving.as_ref().is_some_and(|ids| ids.contains(packet_id))
    }

    /// A QoS 2 message that was taken before. The alias it may set is one of this connection, and counts.
    fn take_repeated(&mut self, from: Publisher, publish: &Publish<'_>) -> Flow {
        if publish.properties.topic_alias.is_some() {
            let mut scratch = std::mem::take(&mut self.scratch.body);
            scratch.clear();
            let resolved = self.resolve_topic(from.id, publish, &mut scratch);
            self.scratch.body = scratch;
            if let Err((code, why)) = resolved {
                return self.protocol_error(from.id, code, why);
            }
        }
        self.acknowledge_repeated(from.session, publish.packet_id);
        Flow::Continue
    }

    /// PUBREC again [MQTT-4.3.3-10], unless the first one has yet to come: then that one serves.
    fn acknowledge_repeated(&mut self, slot: u32, packet_id: u16) {
        let session = &mut self.sessions[slot];
        let waiting = session.acks.as_mut().and_then(|acks| {
            acks.waiting.iter_mut().find(|ack| ack.packet_id == packet_id && ack.qos == QoS::ExactlyOnce)
        });
        if let Some(ack) = waiting {
            ack.owed = true;
        } else {
            self.wire.ack(session.conn, PacketType::PubRec, packet_id, 0);
        }
    }

    /// PUBREL: the identifier is free again [MQTT-4.3.3-11].
    pub(super) fn on_pub_rel(&mut self, id: ConnId, packet_id: u16) {
        let conn = &self.wire.conns[id.slot];
        let known = self.sessions[conn.session].receiving.as_mut().is_some_and(|ids| ids.remove(packet_id));
        let reason = if known || !conn.is_v5() { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.wire.ack(id.slot, PacketType::PubComp, packet_id, reason as u8);
    }
}

impl super::Session {
    /// True when so many acknowledgements wait for other shards that the client is read no further.
    pub(super) fn acks_behind(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.waiting.len() >= ACKS_WAITING_MAX)
    }

    /// True until half of them have been answered: not each answer shall start and stop the reading.
    pub(super) fn acks_still_behind(&self) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.waiting.len() >= ACKS_WAITING_MAX / 2)
    }

    /// The connection is gone: on the next one a packet identifier of QoS 1 means something else, and one of
    /// QoS 2 is answered when its PUBLISH comes again.
    pub(super) fn forget_acks(&mut self) {
        if let Some(acks) = &mut self.acks {
            acks.waiting.iter_mut().for_each(|ack| ack.owed = false);
        }
    }
}
