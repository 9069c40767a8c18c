//! Drives one shard's core in memory: no socket, no ring, a clock that stands still, and clients that answer
//! as the specification asks. What is measured through it is the core, and little else.

use std::sync::Arc;

use ringmq::codec::{
    Connect, ConnectProperties, FilterRequest, Filters, Framed, Packet, PacketType, ProtocolVersion, PublishHead, QoS,
    Subscribe, SubscriptionOptions, UserProperties, encode, encode_ack, encode_publish_head, frame,
};
use ringmq::config::{Limits, MqttOptions};
use ringmq::core::{Core, CoreConfig, Shared};
use ringmq::engine::{ConnId, Engine, Output, ShardId, Time};

/// What all clients speak.
pub const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// A core and what its clients are about to say.
pub struct Driver {
    core: Core,
    answers: Vec<u8>,
    /// PUBLISH packets that reached a client.
    pub delivered: u64,
}

impl Driver {
    /// A broker of one shard without clients.
    pub fn new() -> Self {
        let core = Core::new(CoreConfig {
            shard: ShardId(0),
            shared: Arc::new(Shared::new(1, 1)),
            limits: Arc::new(Limits::default()),
            mqtt: Arc::new(MqttOptions::default()),
            sys_interval: None,
            seed: 1,
            now: Time(0),
        });
        Self { core, answers: Vec::new(), delivered: 0 }
    }

    /// Connects a client, subscribed to a filter if one is given.
    pub fn client(&mut self, client_id: &str, filter: Option<(&str, QoS)>) -> ConnId {
        let conn = self.core.open(Time(0), 0).expect("far from any limit");
        let mut bytes = connect(client_id);
        if let Some((filter, qos)) = filter {
            subscribe(filter, qos, &mut bytes);
        }
        self.receive(conn, &bytes);
        conn
    }

    /// Hands bytes of a client in, and lets everything that follows from them happen.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.core.receive(Time(0), conn, bytes);
        while self.core.poll_effect().is_some() {}
        while let Some(conn) = self.core.poll_dirty() {
            self.deliver(conn);
        }
    }

    /// Takes a client's output, and answers it, until it has none.
    fn deliver(&mut self, conn: ConnId) {
        loop {
            let output = self.core.take_output(conn);
            if output.is_empty() {
                return;
            }
            let length = output.len();
            self.read(&output);
            self.core.recycle(output);
            self.core.sent(Time(0), conn, length);
            if !self.answers.is_empty() {
                let answers = std::mem::take(&mut self.answers);
                self.core.receive(Time(0), conn, &answers);
                self.answers = answers;
            }
        }
    }

    /// What a client does with what it received. A payload that is referenced belongs to the last packet, at QoS 0.
    fn read(&mut self, output: &Output) {
        self.answers.clear();
        if !output.large.is_empty() {
            self.delivered += output.large.len() as u64;
            return;
        }
        let mut rest = &output.bytes[..];
        while let Ok(Framed::Complete { frame, len }) = frame(rest, u32::MAX) {
            let kind = PacketType::of(frame.first);
            self.delivered += u64::from(kind == Some(PacketType::Publish));
            if let Some((answer, id)) = kind.and_then(|kind| answer(kind, frame.first, frame.body)) {
                encode_ack(&mut self.answers, VERSION, answer, id, 0);
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "output is whole packets");
    }
}

/// The acknowledgement that a packet asks for, and its packet identifier.
fn answer(kind: PacketType, first: u8, body: &[u8]) -> Option<(PacketType, u16)> {
    let id_at = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let after_topic = || 2 + usize::from(id_at(0));
    match (kind, first >> 1 & 3) {
        (PacketType::Publish, 1) => Some((PacketType::PubAck, id_at(after_topic()))),
        (PacketType::Publish, 2) => Some((PacketType::PubRec, id_at(after_topic()))),
        (PacketType::PubRec, _) => Some((PacketType::PubRel, id_at(0))),
        (PacketType::PubRel, _) => Some((PacketType::PubComp, id_at(0))),
        _ => None,
    }
}

/// A CONNECT with a clean session and no keep alive.
pub fn connect(client_id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let connect = Connect {
        version: VERSION,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    encode(&Packet::Connect(Box::new(connect)), VERSION, &mut bytes);
    bytes
}

/// Appends a SUBSCRIBE to one filter.
pub fn subscribe(filter: &str, qos: QoS, bytes: &mut Vec<u8>) {
    let mut payload = Vec::new();
    FilterRequest { filter, options: SubscriptionOptions { qos, ..SubscriptionOptions::default() } }.put(&mut payload);
    let subscribe = Subscribe {
        packet_id: 1,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: Filters { payload: &payload, with_options: true },
    };
    encode(&Packet::Subscribe(subscribe), VERSION, bytes);
}

/// A PUBLISH; above QoS 0 with the packet identifier given.
pub fn publish(topic: &str, qos: QoS, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = PublishHead { qos, topic, packet_id, ..PublishHead::default() };
    encode_publish_head(&mut bytes, VERSION, &head, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}
