//! One message to one session: written at once, or kept until the window, the connection or the client allows.

use super::Core;
use super::counters::DropReason;
use super::route::granted;
use super::session::{Delivery, Extra, Inflight, InflightState, NO_SLOT, Outcome, Queue, Session};
use super::wire::{Fan, How, Wire};
use crate::codec::{PacketType, QoS};
use crate::config::QueueFull;
use crate::guard::budget::Pressure;
use crate::index::Subscriber;
use std::num::NonZeroU64;

const TAKEN: Outcome = Outcome { matched: true, refused: false };
const REFUSED: Outcome = Outcome { matched: true, refused: true };

impl Core {
    /// Delivers to one receiver with the identifier of its one subscription.
    pub(super) fn deliver_to(&mut self, fan: &mut Fan<'_>, to: Subscriber, group: Option<u64>) -> Outcome {
        match to.identifier() {
            0 => self.deliver_identified(fan, to, &[], group),
            identifier => self.deliver_identified(fan, to, &[identifier], group),
        }
    }

    /// Delivers to one receiver.
    pub(super) fn deliver_identified(
        &mut self,
        fan: &mut Fan<'_>,
        to: Subscriber,
        identifiers: &[u32],
        group: Option<u64>,
    ) -> Outcome {
        let head = fan.publication.head();
        let how = How {
            qos: granted(head.qos, QoS::from_bits(to.qos()).unwrap_or_default()),
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            retain: head.retain && to.retain_as_published(),
            dup: false,
            packet_id: 0,
            subscription_identifiers: identifiers,
        };
        let slot = to.session();
        if head.retain {
            self.note_live(slot, head.topic_hash);
        }
        self.counters.matched.add(1);
        if how.qos == QoS::AtMostOnce {
            self.deliver_qos0(fan, slot, how)
        } else {
            self.deliver_kept(fan, slot, how, group)
        }
    }

    /// QoS 0: now or never, unless the configuration keeps it for sessions that are away.
    fn deliver_qos0(&mut self, fan: &mut Fan<'_>, slot: u32, how: How<'_>) -> Outcome {
        let session = &self.sessions[slot];
        let conn = session.conn;
        // What was queued while the client was away goes first [MQTT-4.6.0-6].
        if (conn == NO_SLOT || session.has_queue()) && self.mqtt.queue_qos0_offline {
            // No reader is slower than one that is away.
            if self.guarding.pressure >= Pressure::DropQos0 {
                self.counters.drop_delivery(DropReason::Memory);
                self.missed_live(slot, fan);
                return TAKEN;
            }
            let delivery = delivery(fan, how, None);
            return self.enqueue(slot, delivery);
        }
        if conn == NO_SLOT {
            self.counters.drop_delivery(DropReason::OfflineQos0);
            self.missed_live(slot, fan);
        } else if let Some(reason) = self.guard_qos0(conn) {
            self.counters.drop_delivery(reason);
            self.missed_live(slot, fan);
        } else if self.wire.publish(conn, fan, how).is_err() {
            self.counters.drop_delivery(DropReason::PacketTooLarge);
        } else {
            self.counters.delivered.add(1);
        }
        TAKEN
    }

    /// QoS 1 and 2: sent if the window is open and nobody waits before it, else queued.
    fn deliver_kept(&mut self, fan: &mut Fan<'_>, slot: u32, how: How<'_>, group: Option<u64>) -> Outcome {
        let session = &mut self.sessions[slot];
        let at_once =
            session.is_connected() && !session.has_queue() && session.has_window() && self.wire.has_room(session.conn);
        let delivery = delivery(fan, how, group);
        if !at_once {
            let conn = session.conn;
            if conn != NO_SLOT && !self.wire.has_room(conn) {
                self.guard_slow(conn);
            }
            return self.enqueue(slot, delivery);
        }
        send_kept(session, &mut self.wire, &self.counters, fan, delivery);
        TAKEN
    }

    /// A retained message of a replay, which made sure that it can be sent now.
    pub(super) fn deliver_replayed(&mut self, fan: &mut Fan<'_>, slot: u32, how: How<'_>) {
        let delivery = delivery(fan, how, None);
        let session = &mut self.sessions[slot];
        if how.qos == QoS::AtMostOnce {
            send_qos0(session, &mut self.wire, &self.counters, fan, &delivery);
        } else {
            send_kept(session, &mut self.wire, &self.counters, fan, delivery);
        }
    }

    fn enqueue(&mut self, slot: u32, delivery: Delivery) -> Outcome {
        let total = self.queued_bytes_of_all_shards();
        let limits = &self.limits;
        let own = self.guarding.limits_of(self.sessions[slot].class);
        let size = delivery.message.size();
        if size > own.queue_bytes_max {
            // No room can be made for it.
            self.counters.drop_delivery(DropReason::QueueBytes);
            return REFUSED;
        }
        let queue = self.sessions[slot].queue.get_or_insert_default();
        loop {
            let reason = if queue.deliveries.len() >= own.queue_messages_max as usize {
                DropReason::QueueMessages
            } else if queue.bytes + size > own.queue_bytes_max {
                DropReason::QueueBytes
            } else if total + size as u64 > limits.queue_bytes_total_max {
                // Making room in this queue would not help the others.
                self.counters.drop_delivery(DropReason::QueueBytesTotal);
                return REFUSED;
            } else {
                break;
            };
            // What has expired at the front was in nobody's way before [MQTT-3.3.2-5].
            let expired = queue.deliveries.front().is_some_and(|oldest| oldest.message.is_expired(self.wire.now));
            self.counters.drop_delivery(if expired { DropReason::Expired } else { reason });
            let oldest = match self.mqtt.queue_full {
                QueueFull::Refuse if !expired => None,
                _ => queue.deliveries.pop_front(),
            };
            let Some(oldest) = oldest else { return REFUSED };
            queue.bytes -= oldest.message.size();
            self.wire.unqueued(&oldest.message);
        }
        queue.bytes += size;
        self.wire.queued(&delivery.message);
        queue.deliveries.push_back(delivery);
        self.guard_queued(slot);
        TAKEN
    }

    fn queued_bytes_of_all_shards(&self) -> u64 {
        self.shared.counters.iter().map(|counters| counters.queued_bytes.load()).sum()
    }

    /// Sends what a session has waiting, as far as window and connection allow.
    pub(super) fn pump(&mut self, slot: u32) {
        if !self.sessions[slot].is_connected() {
            return;
        }
        self.resend(slot);
        while let Some(delivery) = self.next_queued(slot) {
            self.wire.unqueued(&delivery.message);
            if delivery.message.is_expired(self.wire.now) {
                self.counters.drop_delivery(DropReason::Expired);
                continue;
            }
            if self.rules.in_force()
                && !self.may_have(slot, delivery.message.topic(), delivery.message.head().topic_hash)
            {
                self.counters.drop_delivery(DropReason::NotAuthorized);
                continue;
            }
            let session = &mut self.sessions[slot];
            self.scratch.round = self.scratch.round.wrapping_add(1).max(1);
            let message = delivery.message.clone();
            let publication = message.publication();
            let mut fan = Fan::of(&message, &publication, self.scratch.round);
            if delivery.qos == QoS::AtMostOnce {
                send_qos0(session, &mut self.wire, &self.counters, &mut fan, &delivery);
            } else {
                send_kept(session, &mut self.wire, &self.counters, &mut fan, delivery);
            }
        }
        if self.sessions[slot].replays.is_some() {
            self.replay(slot);
        }
    }

    /// Takes the first waiting delivery, if it may be sent now.
    fn next_queued(&mut self, slot: u32) -> Option<Delivery> {
        let session = &mut self.sessions[slot];
        let open = session.has_window();
        let queue = session.queue.as_mut()?;
        let front = queue.deliveries.front()?;
        if (front.qos != QoS::AtMostOnce && !open) || !self.wire.has_room(session.conn) {
            return None;
        }
        queue.bytes -= front.message.size();
        queue.deliveries.pop_front()
    }

    /// Sends again what was in flight when the last connection ended, in the same order and with the same
    /// identifiers [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    fn resend(&mut self, slot: u32) {
        let mut at = 0;
        loop {
            let session = &mut self.sessions[slot];
            if session.to_resend == 0 || at >= session.inflight.len() {
                return;
            }
            if session.inflight[at].sent {
                at += 1;
                continue;
            }
            let open = session.unacked - session.to_resend < session.window && self.wire.has_room(session.conn);
            let publish = session.inflight[at].state != InflightState::AwaitsPubComp;
            if publish && !open {
                return;
            }
            if publish && self.rules.in_force() && self.withdraw(slot, at) {
                continue;
            }
            let session = &mut self.sessions[slot];
            let inflight = &mut session.inflight[at];
            inflight.sent = true;
            session.to_resend -= 1;
            at += 1;
            let Some(delivery) = inflight.delivery.as_ref().filter(|_| publish) else {
                self.wire.ack(session.conn, PacketType::PubRel, inflight.packet_id, 0);
                continue;
            };
            self.scratch.round = self.scratch.round.wrapping_add(1).max(1);
            let publication = delivery.message.publication();
            let mut fan = Fan::of(&delivery.message, &publication, self.scratch.round);
            let how = delivery.how(true, inflight.packet_id);
            if self.wire.publish(session.conn, &mut fan, how).is_err() {
                self.counters.drop_delivery(DropReason::PacketTooLarge);
                let finished = at - 1;
                let before = session.inflight.len();
                self.wire.end_delivery(session.finish_inflight(finished));
                at -= before - session.inflight.len();
            }
        }
    }

    /// Ends a delivery that would be sent again, if the rules do not allow that any more. False if they do.
    fn withdraw(&mut self, slot: u32, at: usize) -> bool {
        let Some(delivery) = &self.sessions[slot].inflight[at].delivery else { return false };
        let message = delivery.message.clone();
        if self.may_have(slot, message.topic(), message.head().topic_hash) {
            return false;
        }
        let session = &mut self.sessions[slot];
        session.to_resend -= 1;
        session.inflight[at].sent = true;
        if session.inflight[at].state == InflightState::AwaitsPubRec {
            // The client may have it, and hold its packet identifier for used: PUBREL ends that either way.
            session.inflight[at].state = InflightState::AwaitsPubComp;
            self.wire.let_go(session.inflight[at].let_go());
            self.wire.ack(session.conn, PacketType::PubRel, session.inflight[at].packet_id, 0);
        } else {
            self.counters.drop_delivery(DropReason::NotAuthorized);
            self.wire.end_delivery(session.finish_inflight(at));
        }
        true
    }

    /// PUBACK from a client [MQTT-4.3.2-5].
    pub(super) fn on_pub_ack(&mut self, slot: u32, packet_id: u16, reason: u8) {
        self.finish(slot, packet_id, reason, InflightState::AwaitsPubAck);
    }

    /// PUBCOMP from a client.
    pub(super) fn on_pub_comp(&mut self, slot: u32, packet_id: u16, reason: u8) {
        self.finish(slot, packet_id, reason, InflightState::AwaitsPubComp);
    }

    fn finish(&mut self, slot: u32, packet_id: u16, reason: u8, state: InflightState) {
        let session = &mut self.sessions[slot];
        let Some(at) = session.find_inflight(packet_id).filter(|&at| session.inflight[at].state == state) else {
            return;
        };
        if !session.inflight[at].sent {
            session.to_resend -= 1;
        }
        self.wire.end_delivery(session.finish_inflight(at));
        // A PUBCOMP of 0x92 also ends the exchange well: the client had finished it before.
        if reason >= 0x80 && state == InflightState::AwaitsPubAck {
            self.counters.drop_delivery(DropReason::RefusedByReceiver);
        } else {
            self.counters.delivered.add(1);
        }
        if session.has_waiting() {
            self.pump(slot);
        }
    }

    /// PUBREC from a client: PUBREL follows, unless the client refused the message [MQTT-4.3.3-4].
    pub(super) fn on_pub_rec(&mut self, slot: u32, packet_id: u16, reason: u8) {
        let session = &mut self.sessions[slot];
        let conn = session.conn;
        let awaited =
            |inflight: &Inflight| matches!(inflight.state, InflightState::AwaitsPubRec | InflightState::AwaitsPubComp);
        let Some(at) = session.find_inflight(packet_id).filter(|&at| awaited(&session.inflight[at])) else {
            if reason < 0x80 {
                let code = if self.wire.conns[conn].is_v5() { 0x92 } else { 0 };
                self.wire.ack(conn, PacketType::PubRel, packet_id, code);
            }
            return;
        };
        if reason >= 0x80 && session.inflight[at].state == InflightState::AwaitsPubRec {
            if !session.inflight[at].sent {
                session.to_resend -= 1;
            }
            self.wire.end_delivery(session.finish_inflight(at));
            self.counters.drop_delivery(DropReason::RefusedByReceiver);
            return self.pump(slot);
        }
        session.inflight[at].state = InflightState::AwaitsPubComp;
        self.wire.let_go(session.inflight[at].let_go());
        self.wire.ack(conn, PacketType::PubRel, packet_id, 0);
    }
}

fn delivery(fan: &mut Fan<'_>, how: How<'_>, group: Option<u64>) -> Delivery {
    let extra = (!how.subscription_identifiers.is_empty() || group.is_some()).then(|| {
        Box::new(Extra {
            subscription_identifiers: how.subscription_identifiers.to_vec(),
            group: group.and_then(NonZeroU64::new),
        })
    });
    Delivery { message: fan.keep(), extra, qos: how.qos, retain: how.retain }
}

/// Sends a delivery of QoS 1 or 2 and keeps it until it is acknowledged.
fn send_kept(
    session: &mut Session,
    wire: &mut Wire,
    counters: &super::Counters,
    fan: &mut Fan<'_>,
    delivery: Delivery,
) {
    let packet_id = session.next_packet_id();
    if wire.publish(session.conn, fan, delivery.how(false, packet_id)).is_err() {
        return counters.drop_delivery(DropReason::PacketTooLarge);
    }
    session.last_packet_id = packet_id;
    session.unacked += 1;
    wire.begin_delivery(&delivery.message);
    let state =
        if delivery.qos == QoS::ExactlyOnce { InflightState::AwaitsPubRec } else { InflightState::AwaitsPubAck };
    session.inflight.push_back(Inflight { delivery: Some(delivery), packet_id, state, sent: true });
}

fn send_qos0(
    session: &mut Session,
    wire: &mut Wire,
    counters: &super::Counters,
    fan: &mut Fan<'_>,
    delivery: &Delivery,
) {
    match wire.publish(session.conn, fan, delivery.how(false, 0)) {
        Ok(()) => counters.delivered.add(1),
        Err(_) => counters.drop_delivery(DropReason::PacketTooLarge),
    }
}

impl Delivery {
    fn how(&self, dup: bool, packet_id: u16) -> How<'_> {
        How {
            qos: self.qos,
            retain: self.retain,
            dup,
            packet_id,
            subscription_identifiers: self.subscription_identifiers(),
        }
    }
}

impl Queue {
    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Delivery> + '_ {
        self.bytes = 0;
        self.deliveries.drain(..)
    }
}
