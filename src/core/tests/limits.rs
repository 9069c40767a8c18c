//! Limits, ours and the clients', and what is said when they are met.

use super::*;
use crate::config::QueueFull;

#[test]
fn a_refusal_keeps_its_reason_behind_acknowledgements_that_wait() {
    let mut broker = Broker::new(2);
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    let publisher = broker.connect(&client_on(&broker, 0, "p"), ProtocolVersion::V5);
    broker.read(publisher);
    let mut bytes = Vec::new();
    for (topic, packet_id, qos) in [("t", 1, 1), ("$SYS/x", 2, 1), ("$SYS/x", 3, 2)] {
        let qos = QoS::from_bits(qos).unwrap();
        bytes.extend(publish_bytes(
            ProtocolVersion::V5,
            PublishHead { topic, packet_id, qos, ..Default::default() },
            b"",
        ));
    }
    broker.cores[0].receive(broker.now, publisher.conn, &bytes);
    broker.settle();
    assert_eq!(broker.read(publisher), ["PUBACK 1 0", "PUBACK 2 135", "PUBREC 3 135"]);
    broker.publish(publisher, "t", QoS::ExactlyOnce, 3, b"");
    assert_eq!(broker.read(publisher), ["PUBREC 3 0"], "the refused identifier is free again");
}

#[test]
fn a_message_that_no_queue_could_hold_empties_none() {
    let limits = Limits { queue_bytes_max: 1000, ..Limits::default() };
    let mut broker =
        Broker::built(1, limits, MqttOptions { queue_full: QueueFull::DropOldest, ..MqttOptions::default() });
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.hang_up(subscriber);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, b"kept");
    broker.publish(publisher, "t", QoS::AtLeastOnce, 2, &[0; 2000]);
    assert_eq!(broker.read(publisher)[1..], ["PUBACK 1 0", "PUBACK 2 151"]);
    assert_eq!(broker.cores[0].counters().queued.load(), 1);
    assert_eq!(broker.cores[0].counters().dropped[counters::DropReason::QueueBytes as usize].load(), 1);
    broker.check();
}

#[test]
fn a_packet_that_only_its_new_alias_makes_too_large_is_sent_without() {
    let mut broker = Broker::new(1);
    // 2 bytes of fixed header, 2 + 1 of topic, 1 of property length, 94 of payload.
    let properties = ConnectProperties {
        maximum_packet_size: Some(100),
        topic_alias_maximum: Some(10),
        ..ConnectProperties::default()
    };
    let subscriber = broker.connect_as(Connect { properties, ..connect_packet("s", ProtocolVersion::V5) });
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    broker.read(subscriber);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    for len in [94, 95, 91] {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 95][..len]);
    }
    assert_eq!(broker.read(subscriber).len(), 2);
    let dropped = &broker.cores[0].counters().dropped[counters::DropReason::PacketTooLarge as usize];
    assert_eq!(dropped.load(), 1);
}

#[test]
fn a_client_gets_no_packet_larger_than_it_takes() {
    let mut broker = Broker::new(1);
    let small = |maximum| ConnectProperties { maximum_packet_size: Some(maximum), ..ConnectProperties::default() };
    // The reason string of a refusal is left out where it does not fit [MQTT-3.2.2-19].
    let properties = ConnectProperties { authentication_method: Some("x"), ..small(8) };
    let conn = broker.cores[0].open(broker.now, 0, None).expect("accepted");
    let refused = Client { shard: 0, conn, version: ProtocolVersion::V5 };
    let packet = Connect { properties, ..connect_packet("c", ProtocolVersion::V5) };
    broker.send(refused, &Packet::Connect(Box::new(packet)));
    let output = broker.cores[0].take_output(conn);
    assert_eq!(output.bytes, [0x20, 3, 0, 0x8C, 0]);
    // Nor is a SUBACK sent that it would have to refuse [MQTT-3.1.2-24].
    let packet = Connect { properties: small(40), ..connect_packet("s", ProtocolVersion::V5) };
    let client = broker.connect_as(packet);
    let mut payload = Vec::new();
    for number in 0..100 {
        let filter = format!("f/{number}");
        crate::codec::FilterRequest { filter: &filter, options: SubscriptionOptions::default() }.put(&mut payload);
    }
    let subscribe = crate::codec::Subscribe {
        packet_id: 1,
        subscription_identifier: None,
        user_properties: Default::default(),
        filters: crate::codec::Filters { payload: &payload, with_options: true },
    };
    broker.send(client, &Packet::Subscribe(subscribe));
    broker.subscribe(client, "f", QoS::AtMostOnce);
    assert_eq!(broker.read(client), ["CONNACK 0 false", "SUBACK [0]"]);
}

#[test]
fn no_client_is_taken_to_read_more_than_a_packet_can_hold() {
    let mut broker = Broker::new(1);
    for maximum_packet_size in [None, Some(u32::MAX)] {
        let properties = ConnectProperties { maximum_packet_size, ..ConnectProperties::default() };
        let client = broker.connect_as(Connect { properties, ..connect_packet("c", ProtocolVersion::V5) });
        // 0xFF_FF_FF_7F after the first byte (§1.5.5): what properties push a message beyond is not encoded.
        assert_eq!(broker.cores[0].wire.conns[client.conn.slot].maximum_packet_size, 268_435_460);
    }
}

#[test]
fn messages_of_qos_0_that_waited_come_before_later_ones() {
    let mqtt = MqttOptions { queue_qos0_offline: true, ..MqttOptions::default() };
    let mut broker = Broker::built(1, Limits { inflight_max: 1, ..Limits::default() }, mqtt);
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.hang_up(subscriber);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, b"1");
    broker.publish(publisher, "t", QoS::AtLeastOnce, 2, b"2");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"3");
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"4");
    assert_eq!(broker.read(subscriber), ["CONNACK 0 true", "PUBLISH t q1 id1 dup0 r0 1"]);
    let ack = |packet_id| Packet::PubAck(crate::codec::Ack { packet_id, ..Default::default() });
    broker.send(subscriber, &ack(1));
    let expected = ["PUBLISH t q1 id2 dup0 r0 2", "PUBLISH t q0 id0 dup0 r0 3", "PUBLISH t q0 id0 dup0 r0 4"];
    assert_eq!(broker.read(subscriber), expected);
    broker.check();
}

#[test]
fn what_waited_for_other_shards_leaves_no_memory_behind() {
    let mut broker = Broker::new(2);
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    let id = client_on(&broker, 0, "p");
    let publisher = broker.connect_as(Connect { keep_alive: 10, ..connect_packet(&id, ProtocolVersion::V5) });
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, b"");
    broker.pass(Duration::from_secs(10));
    broker.send(publisher, &Packet::PingReq);
    broker.pass(Duration::from_secs(10));
    let session = broker.cores[0].wire.conns[publisher.conn.slot].session;
    assert!(broker.cores[0].sessions[session].acks.is_none());
    broker.publish(publisher, "t", QoS::AtLeastOnce, 2, b"");
    assert_eq!(broker.read(publisher).last().unwrap(), "PUBACK 2 0");
}

#[test]
fn no_packet_has_more_filters_looked_at_than_a_client_may_have() {
    let mut broker = Broker::with(1, Limits { subscriptions_per_client_max: 2, ..Limits::default() });
    let client = broker.connect("c", ProtocolVersion::V5);
    broker.read(client);
    let filter = [0, 1, b'a', 0];
    let packet = [&[0x82, 3 + 4 * 4, 0, 1, 0][..], &filter.repeat(4)].concat();
    broker.cores[0].receive(broker.now, client.conn, &packet);
    assert_eq!(broker.read(client), ["SUBACK [0, 0, 151, 151]"]);
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 1);
}
