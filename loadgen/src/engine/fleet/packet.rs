//! What a client makes of what arrives: packets out of bytes, and each to who handles it.

use ringmq::codec::{
    Ack, Frame, Framed, Packet, PacketType, Publish, QoS, decode, decode_ack, decode_publish, encode_ack, frame,
};

use super::Fleet;
use super::connection::FAILURE;
use crate::engine::client::State;
use crate::engine::inflight::Acknowledged;
use crate::net::{LinkId, Links};

impl Fleet {
    /// Handles the packets that are whole, and keeps the rest.
    #[inline]
    pub(super) fn receive(&mut self, links: &mut Links, number: u32, link: LinkId, bytes: &[u8]) {
        let more = self.clients[number as usize].more.as_deref_mut();
        let mut partial = more.map_or_else(Vec::new, |more| std::mem::take(&mut more.partial));
        if partial.is_empty() {
            let used = self.packets(links, number, link, bytes);
            partial.extend_from_slice(&bytes[used..]);
        } else {
            partial.extend_from_slice(bytes);
            let used = self.packets(links, number, link, &partial);
            partial.drain(..used);
        }
        if partial.capacity() > 0 {
            self.keep(number, partial);
        }
    }

    fn keep(&mut self, number: u32, partial: Vec<u8>) {
        let client = &mut self.clients[number as usize];
        if !partial.is_empty() || client.more.is_some() {
            client.more.get_or_insert_default().partial = partial;
        }
    }

    /// Handles the whole packets in `bytes` and tells how many bytes they were.
    fn packets(&mut self, links: &mut Links, number: u32, link: LinkId, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.failure.is_none() {
            match frame(&bytes[used..], u32::MAX) {
                Ok(Framed::Complete { frame, len }) => {
                    self.packet(links, number, link, frame);
                    used += len;
                }
                Ok(Framed::Incomplete { .. }) => {
                    if self.clients[number as usize].state == State::Connecting {
                        self.check_answer(number, &bytes[used..]);
                    }
                    return used;
                }
                Err(error) => self.fail_malformed(number, &bytes[used..], &error),
            }
        }
        bytes.len()
    }

    #[inline]
    fn packet(&mut self, links: &mut Links, number: u32, link: LinkId, frame: Frame<'_>) {
        let Frame { first, body } = frame;
        let version = self.clients[number as usize].version;
        if first >> 4 != PacketType::Publish as u8 {
            return self.other_packet(links, number, link, frame);
        }
        match decode_publish(first, body, version) {
            Ok(publish) => self.on_publish(links, number, link, &publish),
            Err(error) => self.fail_malformed(number, &beginning(first, body), &error),
        }
    }

    #[inline(never)]
    fn other_packet(&mut self, links: &mut Links, number: u32, link: LinkId, frame: Frame<'_>) {
        let Frame { first, body } = frame;
        let version = self.clients[number as usize].version;
        let handled = match PacketType::of(first) {
            Some(kind @ (PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp)) => {
                decode_ack(first, body, version).map(|ack| self.on_ack(links, number, link, kind, &ack))
            }
            _ => decode(frame, version).map(|packet| self.on_rare(links, number, &packet)),
        };
        if let Err(error) = handled {
            self.fail_malformed(number, &beginning(first, body), &error);
        }
    }

    #[inline]
    fn on_publish(&mut self, links: &mut Links, number: u32, link: LinkId, publish: &Publish<'_>) {
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(links, number, link, PacketType::PubAck, publish.packet_id),
            QoS::ExactlyOnce => {
                self.answer(links, number, link, PacketType::PubRec, publish.packet_id);
                // A copy comes when the PUBREC did not get through: this is how a second delivery is prevented.
                if !self.clients[number as usize].inflight().receive(publish.packet_id, publish.dup) {
                    return;
                }
            }
        }
        self.deliver(links, number, publish);
    }

    #[inline]
    fn answer(&mut self, links: &mut Links, number: u32, link: LinkId, kind: PacketType, packet_id: u16) {
        let client = &mut self.clients[number as usize];
        encode_ack(links.output(link), client.version, kind, packet_id, 0);
        client.last_sent_ms = self.now_ms;
        self.tally.counts.bytes_out += 4;
    }

    fn on_ack(&mut self, links: &mut Links, number: u32, link: LinkId, kind: PacketType, ack: &Ack<'_>) {
        let failed = ack.reason >= FAILURE;
        let id = ack.packet_id;
        let inflight = self.clients[number as usize].inflight();
        match kind {
            PacketType::PubAck => {
                let found = inflight.puback(id);
                self.on_acknowledged(links, number, found, failed, true);
            }
            PacketType::PubComp => {
                let found = inflight.pubcomp(id);
                self.on_acknowledged(links, number, found, failed, true);
            }
            PacketType::PubRec if failed => {
                let found = inflight.pubrec_failed(id);
                self.on_acknowledged(links, number, found, true, true);
            }
            PacketType::PubRec => {
                let found = inflight.pubrec(id);
                self.on_acknowledged(links, number, found, false, false);
                self.answer(links, number, link, PacketType::PubRel, id);
            }
            _ => {
                let known = inflight.release(id);
                let came_back = self.clients[number as usize].flags.came_back;
                self.count_misacknowledged(!known && !came_back);
                self.answer(links, number, link, PacketType::PubComp, id);
            }
        }
    }

    fn count_misacknowledged(&mut self, wrong: bool) {
        self.ledger.faults.misacknowledged += u64::from(wrong && !self.settled);
    }

    fn on_acknowledged(
        &mut self,
        links: &mut Links,
        number: u32,
        found: Option<Acknowledged>,
        failed: bool,
        for_good: bool,
    ) {
        self.count_misacknowledged(found.is_none_or(|found| !found.in_turn));
        let Some(Acknowledged { message, .. }) = found.filter(|_| for_good) else { return };
        self.tally.counts.rejected += u64::from(failed);
        self.tally.acknowledged(self.now_ns.saturating_sub(message.at_ns));
        self.figures.acknowledged += 1;
        self.message_acknowledged(links, &message);
        let client = &mut self.clients[number as usize];
        if client.state == State::Departing && client.has_settled() {
            self.say_goodbye(links, number);
        } else if std::mem::take(&mut client.flags.blocked) {
            self.unblock_streams(links, number);
        }
    }

    #[inline(never)]
    fn on_rare(&mut self, links: &mut Links, number: u32, packet: &Packet<'_>) {
        match (packet, self.clients[number as usize].state) {
            (Packet::ConnAck(connack), State::Connecting) => self.on_connack(links, number, connack),
            (Packet::SubAck(suback), State::Subscribing) => self.on_suback(links, number, suback),
            (Packet::PingResp, _) => self.on_ping_response(number),
            (Packet::Disconnect(disconnect), state) => {
                // The end of the connection follows, and is told then.
                if !matches!(state, State::Leaving | State::Gone) {
                    let reason = disconnect.reason;
                    self.note(|fleet| {
                        format!("{} was sent DISCONNECT with reason {reason:#04x}", fleet.name_of(number))
                    });
                }
            }
            _ => self.fail_protocol(number, format!("an unexpected packet: {packet:?}")),
        }
    }
}

/// The first bytes of a packet, whose length is one byte if it is short.
#[cold]
fn beginning(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first, body.len() as u8], &body[..body.len().min(2)]].concat()
}
