//! The core driven by hand: a few shards, their mesh, and clients that write packets and read packets, all in
//! one thread on a clock that the test sets. What the specification says is held by `tests/conformance`;
//! here is what only the inside can show.

use super::*;
use crate::codec::{
    Connect, ConnectProperties, Framed, Packet, ProtocolVersion, PublishHead, QoS, SubscriptionOptions, decode, encode,
    encode_publish_head, frame,
};

mod figures;
mod guarded;
mod holds;
mod input;
mod limits;
mod lives;
mod replays;
mod rules;
mod sharing;
mod waiting;

struct Broker {
    cores: Vec<Core>,
    now: Time,
}

#[derive(Clone, Copy)]
struct Client {
    shard: usize,
    conn: ConnId,
    version: ProtocolVersion,
}

impl Broker {
    fn new(shards: u16) -> Broker {
        Self::with(shards, Limits::default())
    }

    fn with(shards: u16, limits: Limits) -> Broker {
        Self::built(shards, limits, MqttOptions::default())
    }

    fn built(shards: u16, limits: Limits, mqtt: MqttOptions) -> Broker {
        let shared = Arc::new(Shared::new(shards, 7));
        let (limits, mqtt) = (Arc::new(limits), Arc::new(mqtt));
        let cores = (0..shards)
            .map(|shard| {
                Core::new(CoreConfig {
                    shard: ShardId(shard),
                    shared: shared.clone(),
                    limits: Arc::clone(&limits),
                    mqtt: Arc::clone(&mqtt),
                    sys_interval: None,
                    seed: u64::from(shard),
                    now: Time(0),
                })
            })
            .collect();
        Broker { cores, now: Time(0) }
    }

    /// Connects with session expiry 100 s and without clean start.
    fn connect(&mut self, client_id: &str, version: ProtocolVersion) -> Client {
        self.connect_as(connect_packet(client_id, version))
    }

    /// The same, from an address, to the only shard; whether the client is let in the caller sees.
    fn connect_from(&mut self, address: &str, client_id: &str) -> Client {
        let conn = self.cores[0].open(self.now, 0, Some(address.parse().unwrap())).expect("accepted");
        let client = Client { shard: 0, conn, version: ProtocolVersion::V5 };
        self.send(client, &Packet::Connect(Box::new(connect_packet(client_id, client.version))));
        client
    }

    fn connect_as(&mut self, packet: Connect<'_>) -> Client {
        let conn = self.cores[0].open(self.now, 0, None).expect("accepted");
        let mut client = Client { shard: 0, conn, version: packet.version };
        self.send(client, &Packet::Connect(Box::new(packet)));
        while let Some(effect) = self.cores[client.shard].poll_effect() {
            if let Effect::HandOver { to, hand_over, conn } = effect {
                self.cores[client.shard].release(conn);
                client.shard = usize::from(to.0);
                client.conn = self.cores[client.shard].adopt(self.now, hand_over).expect("adopted");
            }
        }
        client
    }

    fn send(&mut self, client: Client, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, client.version, &mut bytes);
        self.cores[client.shard].receive(self.now, client.conn, &bytes);
        self.settle();
    }

    fn publish(&mut self, client: Client, topic: &str, qos: QoS, packet_id: u16, payload: &[u8]) {
        self.publish_head(client, PublishHead { topic, qos, packet_id, ..PublishHead::default() }, payload);
    }

    fn publish_head(&mut self, client: Client, head: PublishHead<'_>, payload: &[u8]) {
        let bytes = publish_bytes(client.version, head, payload);
        self.cores[client.shard].receive(self.now, client.conn, &bytes);
        self.settle();
    }

    fn subscribe(&mut self, client: Client, filter: &str, qos: QoS) {
        self.subscribe_as(client, filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() }, None);
    }

    fn subscribe_as(&mut self, client: Client, filter: &str, options: SubscriptionOptions, identifier: Option<u32>) {
        let bytes = subscribe_bytes(client.version, filter, options, identifier);
        self.cores[client.shard].receive(self.now, client.conn, &bytes);
        self.settle();
    }

    fn unsubscribe(&mut self, client: Client, filter: &str) {
        self.send(client, &unsubscribe_packet(&filter_payload(filter)));
    }

    /// The client's transport ends, and the driver lets go of it.
    fn hang_up(&mut self, client: Client) {
        let core = &mut self.cores[client.shard];
        core.disconnected(self.now, client.conn, TransportEnd::EndOfStream);
        core.release(client.conn);
        self.settle();
    }

    /// Lets time pass: every shard does what is due, when it is due.
    fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some(next) = self.cores.iter().filter_map(Core::next_deadline).min().filter(|&next| next <= end) {
            self.now = next.max(self.now);
            self.cores.iter_mut().for_each(|core| core.tick(self.now));
            self.settle();
        }
        self.now = end;
    }

    /// Carries notes between the shards until all is quiet.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for from in 0..self.cores.len() {
                while let Some(to) = self.cores[from].poll_outbox() {
                    while let Some(note) = self.cores[from].outbox(to).pop_front() {
                        moved = true;
                        self.cores[usize::from(to.0)].mesh(self.now, ShardId(from as u16), note);
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// What a client has been sent, in a form to compare, the kernel having taken it all.
    fn read(&mut self, client: Client) -> Vec<String> {
        let core = &mut self.cores[client.shard];
        let output = core.take_output(client.conn);
        let mut bytes = Vec::new();
        let mut at = 0;
        for large in &output.large {
            bytes.extend_from_slice(&output.bytes[at..large.at]);
            bytes.extend_from_slice(&large.payload);
            at = large.at;
        }
        bytes.extend_from_slice(&output.bytes[at..]);
        core.sent(self.now, client.conn, bytes.len());
        let mut packets = Vec::new();
        let mut rest = &bytes[..];
        while let Ok(Framed::Complete { frame, len }) = frame(rest, u32::MAX) {
            packets.push(describe(&decode(frame, client.version).expect("the broker sends well-formed packets")));
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "whole packets");
        packets
    }

    fn check(&self) {
        for core in &self.cores {
            core.conservation().expect("conserved");
            let kept = core.sessions.iter().flat_map(|(_, session)| &session.inflight);
            let kept = kept.filter_map(|inflight| inflight.delivery.as_ref());
            let bytes: usize = kept.map(|delivery| delivery.message.size()).sum();
            assert_eq!(core.counters().inflight_bytes.load(), bytes as u64, "what is in flight is counted");
            let wills = core.sessions.iter().filter_map(|(_, session)| session.will.as_ref());
            let bytes: usize = wills.map(|will| will.message.size()).sum();
            assert_eq!(core.counters().will_bytes.load(), bytes as u64, "wills are counted");
        }
    }
}

/// A CONNECT with session expiry 100 s and without clean start.
fn connect_packet(client_id: &str, version: ProtocolVersion) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: false,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval: (version == ProtocolVersion::V5).then_some(100),
            ..ConnectProperties::default()
        },
    }
}

fn publish_bytes(version: ProtocolVersion, head: PublishHead<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_publish_head(&mut bytes, version, &head, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

fn subscribe_bytes(version: ProtocolVersion, filter: &str, options: SubscriptionOptions, id: Option<u32>) -> Vec<u8> {
    let (mut payload, mut bytes) = (Vec::new(), Vec::new());
    crate::codec::FilterRequest { filter, options }.put(&mut payload);
    encode(&subscribe_packet(&payload, id), version, &mut bytes);
    bytes
}

fn subscribe_packet(payload: &[u8], identifier: Option<u32>) -> Packet<'_> {
    Packet::Subscribe(crate::codec::Subscribe {
        packet_id: 1,
        subscription_identifier: identifier,
        user_properties: Default::default(),
        filters: crate::codec::Filters { payload, with_options: true },
    })
}

/// One topic filter as UNSUBSCRIBE has it.
fn filter_payload(filter: &str) -> Vec<u8> {
    [&(filter.len() as u16).to_be_bytes(), filter.as_bytes()].concat()
}

fn unsubscribe_packet(payload: &[u8]) -> Packet<'_> {
    Packet::Unsubscribe(crate::codec::Unsubscribe {
        packet_id: 1,
        user_properties: Default::default(),
        filters: crate::codec::Filters { payload, with_options: false },
    })
}

/// A client identifier that lives on a shard.
fn client_on(broker: &Broker, shard: u16, name: &str) -> String {
    let shared = &broker.cores[0].shared;
    (0..).map(|number| format!("{name}-{number}")).find(|id| shared.home(id).0 == shard).expect("one in few does")
}

fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(ack) => format!("CONNACK {} {}", ack.code, ack.session_present),
        Packet::Publish(p) => format!(
            "PUBLISH {} q{} id{} dup{} r{} {}",
            p.topic,
            p.qos as u8,
            p.packet_id,
            u8::from(p.dup),
            u8::from(p.retain),
            if p.payload.len() > 100 {
                format!("{} bytes", p.payload.len())
            } else {
                String::from_utf8_lossy(p.payload).into()
            }
        ),
        Packet::PubAck(ack) => format!("PUBACK {} {}", ack.packet_id, ack.reason),
        Packet::PubRec(ack) => format!("PUBREC {} {}", ack.packet_id, ack.reason),
        Packet::PubRel(ack) => format!("PUBREL {} {}", ack.packet_id, ack.reason),
        Packet::PubComp(ack) => format!("PUBCOMP {} {}", ack.packet_id, ack.reason),
        Packet::SubAck(ack) => format!("SUBACK {:?}", ack.codes),
        Packet::UnsubAck(ack) => format!("UNSUBACK {:?}", ack.codes),
        Packet::Disconnect(d) => format!("DISCONNECT {:#x}", d.reason),
        other => format!("{other:?}"),
    }
}

#[test]
fn a_message_reaches_its_subscriber_at_each_qos_wherever_it_lives() {
    for shards in [1, 2, 4] {
        let mut broker = Broker::new(shards);
        for number in 0..8 {
            let subscriber = broker.connect(&format!("subscriber-{number}"), ProtocolVersion::V5);
            let publisher = broker.connect(&format!("publisher-{number}"), ProtocolVersion::V311);
            broker.subscribe(subscriber, &format!("a/{number}/+"), QoS::ExactlyOnce);
            assert_eq!(broker.read(subscriber), ["CONNACK 0 false", "SUBACK [2]"]);
            assert_eq!(broker.read(publisher), ["CONNACK 0 false"]);
            let topic = format!("a/{number}/b");
            broker.publish(publisher, &topic, QoS::AtMostOnce, 0, b"zero");
            broker.publish(publisher, &topic, QoS::AtLeastOnce, 5, b"one");
            broker.publish(publisher, &topic, QoS::ExactlyOnce, 6, b"two");
            assert_eq!(
                broker.read(subscriber),
                [
                    format!("PUBLISH {topic} q0 id0 dup0 r0 zero"),
                    format!("PUBLISH {topic} q1 id1 dup0 r0 one"),
                    format!("PUBLISH {topic} q2 id2 dup0 r0 two"),
                ]
            );
            assert_eq!(broker.read(publisher), ["PUBACK 5 0", "PUBREC 6 0"]);
            broker.check();
        }
    }
}

#[test]
fn a_large_payload_is_referenced_and_arrives_whole() {
    let mut broker = Broker::new(2);
    let subscriber = broker.connect("large-s", ProtocolVersion::V5);
    let publisher = broker.connect("large-p", ProtocolVersion::V5);
    broker.subscribe(subscriber, "#", QoS::AtLeastOnce);
    broker.read(subscriber);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, &vec![7; 100_000]);
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"small");
    let expected = ["PUBLISH t q1 id1 dup0 r0 100000 bytes", "PUBLISH t q0 id0 dup0 r0 small"];
    assert_eq!(broker.read(subscriber), expected);
}

#[test]
fn packets_may_arrive_in_pieces_of_any_size() {
    let mut broker = Broker::new(1);
    let subscriber = broker.connect("s", ProtocolVersion::V311);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    broker.read(subscriber);
    let mut bytes = Vec::new();
    for payload in [&b"first"[..], &[b'x'; 200], b""] {
        let head = PublishHead { topic: "t", ..PublishHead::default() };
        encode_publish_head(&mut bytes, ProtocolVersion::V311, &head, payload.len());
        bytes.extend_from_slice(payload);
    }
    for size in 1..bytes.len() {
        for piece in bytes.chunks(size) {
            broker.cores[0].receive(broker.now, publisher.conn, piece);
        }
        assert_eq!(broker.read(subscriber).len(), 3, "pieces of {size}");
        assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
    }
}

#[test]
fn what_was_in_flight_goes_out_again_in_order_when_the_client_is_back() {
    let mut broker = Broker::new(1);
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, b"a");
    broker.publish(publisher, "t", QoS::ExactlyOnce, 2, b"b");
    broker.read(subscriber);
    broker.cores[0].disconnected(broker.now, subscriber.conn, TransportEnd::EndOfStream);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 3, b"c");
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    let expected =
        ["CONNACK 0 true", "PUBLISH t q1 id1 dup1 r0 a", "PUBLISH t q2 id2 dup1 r0 b", "PUBLISH t q1 id3 dup0 r0 c"];
    assert_eq!(broker.read(subscriber), expected);
    broker.check();
}

#[test]
fn retained_messages_of_every_shard_are_replayed() {
    let mut broker = Broker::new(3);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    for number in 0..300 {
        let mut bytes = Vec::new();
        let topic = format!("r/{number}");
        let head = PublishHead { topic: &topic, retain: true, ..PublishHead::default() };
        encode_publish_head(&mut bytes, ProtocolVersion::V311, &head, 1);
        bytes.push(b'x');
        broker.cores[publisher.shard].receive(broker.now, publisher.conn, &bytes);
    }
    broker.settle();
    let subscriber = broker.connect("s", ProtocolVersion::V311);
    broker.subscribe(subscriber, "r/+", QoS::AtMostOnce);
    let received = broker.read(subscriber);
    assert_eq!(received.iter().filter(|packet| packet.contains(" r1 x")).count(), 300);
    broker.subscribe(subscriber, "r/77", QoS::AtMostOnce);
    assert_eq!(broker.read(subscriber), ["SUBACK [0]", "PUBLISH r/77 q0 id0 dup0 r1 x"]);
}

#[test]
fn a_connection_on_its_way_to_its_home_counts_once() {
    let mut broker = Broker::with(2, Limits { connections_max: 1, ..Limits::default() });
    let shared = broker.cores[0].shared.clone();
    let away = (0..).map(|n| format!("c{n}")).find(|id| shared.home(id) == ShardId(1)).expect("of endlessly many");
    let connect = Packet::Connect(Box::new(Connect {
        version: ProtocolVersion::V311,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id: &away,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }));
    let mut bytes = Vec::new();
    encode(&connect, ProtocolVersion::V311, &mut bytes);
    let conn = broker.cores[0].open(broker.now, 0, None).expect("the first");
    assert!(broker.cores[1].open(broker.now, 0, None).is_none(), "the limit is reached");
    broker.cores[0].receive(broker.now, conn, &bytes);
    let Some(Effect::HandOver { hand_over, .. }) = broker.cores[0].poll_effect() else { panic!("it is at home") };
    // The driver releases it here when it knows that it arrived there.
    let adopted = broker.cores[1].adopt(broker.now, hand_over);
    assert!(adopted.is_some(), "it is still the only connection");
    broker.cores[0].release(conn);
    assert!(broker.cores[0].open(broker.now, 0, None).is_none(), "and still counted");
}

#[test]
fn a_publisher_that_is_gone_while_it_had_to_wait_is_still_heard_to_its_disconnect() {
    const MESSAGES: usize = 2 * OUTBOX_MESSAGES_MAX;
    let mut broker = Broker::new(2);
    let shared = broker.cores[0].shared.clone();
    let id_on = |shard| (0..).map(|n| format!("c{n}")).find(|id| shared.home(id) == ShardId(shard));
    let publisher = broker.connect(&id_on(0).expect("of endlessly many"), ProtocolVersion::V311);
    let subscriber = broker.connect(&id_on(1).expect("of endlessly many"), ProtocolVersion::V311);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    broker.read(subscriber);
    let mut bytes = Vec::new();
    for _ in 0..MESSAGES {
        let head = PublishHead { topic: "t", ..PublishHead::default() };
        encode_publish_head(&mut bytes, ProtocolVersion::V311, &head, 1);
        bytes.push(b'x');
    }
    encode(&Packet::Disconnect(crate::codec::Disconnect::default()), ProtocolVersion::V311, &mut bytes);
    broker.cores[0].receive(broker.now, publisher.conn, &bytes);
    assert_eq!(broker.cores[0].counters().pauses.load(), 1, "the other shard is too far behind");
    broker.cores[0].disconnected(broker.now, publisher.conn, TransportEnd::EndOfStream);
    for _ in 0..4 {
        broker.settle();
        broker.cores[0].mesh_has_room(broker.now, ShardId(1));
    }
    assert_eq!(broker.read(subscriber).len(), MESSAGES);
    let ended = &broker.cores[0].counters().ended;
    assert_eq!(ended[EndReason::ClientDisconnect as usize].load(), 1);
    assert_eq!(ended[EndReason::EndOfStream as usize].load(), 0);
}

/// Larger ones travel by reference, those with a shared subscription in a note of their own, retained ones by way of
/// their keeper; the rest in parcels.
#[test]
fn messages_of_one_publisher_keep_their_order_however_they_travel() {
    let mut broker = Broker::new(2);
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), ProtocolVersion::V311);
    let publisher = broker.connect(&client_on(&broker, 0, "p"), ProtocolVersion::V311);
    broker.subscribe(subscriber, "t/+", QoS::AtLeastOnce);
    broker.subscribe(subscriber, "$share/g/shared", QoS::AtLeastOnce);
    broker.read(subscriber);
    broker.read(publisher);
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for packet_id in 1..=600_u16 {
        let text = format!("{packet_id}");
        let (topic, retain, size) = match packet_id % 7 {
            1 => ("t/large", false, 2 * parcel::BODY_MAX),
            3 => ("shared", false, 0),
            5 => ("t/retained", true, 0),
            _ => ("t/small", false, 0),
        };
        let payload = if size > 0 { vec![b'x'; size + usize::from(packet_id)] } else { text.clone().into_bytes() };
        expected.push(if size > 0 { format!("{} bytes", payload.len()) } else { text });
        let head = PublishHead { topic, qos: QoS::AtLeastOnce, retain, packet_id, ..PublishHead::default() };
        bytes.extend(publish_bytes(publisher.version, head, &payload));
    }
    broker.cores[0].receive(broker.now, publisher.conn, &bytes);
    broker.settle();
    let mut came = Vec::new();
    while came.len() < expected.len() {
        let packets = broker.read(subscriber);
        assert!(!packets.is_empty(), "after {}", came.len());
        for packet in packets {
            let words: Vec<_> = packet.splitn(7, ' ').collect();
            let packet_id = words[3].trim_start_matches("id").parse().expect("QoS 1");
            let ack = crate::codec::Ack { packet_id, ..crate::codec::Ack::default() };
            broker.send(subscriber, &Packet::PubAck(ack));
            came.push(words[6].to_owned());
        }
    }
    assert_eq!(came, expected);
    assert_eq!(broker.read(publisher), (1..=600).map(|id| format!("PUBACK {id} 0")).collect::<Vec<_>>());
}
