//! Flow control (§4.9, §3.3.4): receive maximum in both directions.

use ringmq::sim::wire::{Ack, Connect, Packet, Publish};

use crate::broker::*;

/// A CONNECT that goes on with a session and takes so many unacknowledged messages.
fn taking(client_id: &str, receive_maximum: u16) -> Connect {
    let mut connect = lasting(V5, client_id);
    connect.properties = connect.properties.two(id::RECEIVE_MAXIMUM, receive_maximum);
    connect
}

fn qos1(packet_id: u16, payload: &str) -> Packet {
    publish(Publish { qos: AtLeastOnce, packet_id, ..message("t", payload) })
}

fn qos2(packet_id: u16, payload: &str) -> Packet {
    publish(Publish { qos: ExactlyOnce, packet_id, ..message("t", payload) })
}

fn again(packet: Packet) -> Packet {
    match packet {
        Packet::Publish(sent) => publish(Publish { dup: true, ..sent }),
        other => other,
    }
}

#[test]
fn no_more_than_receive_maximum_messages_are_unacknowledged() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.connect(taking("s", 2));
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        for payload in ["1", "2", "3", "4"] {
            publisher.publish_acknowledged("t", payload);
        }
        subscriber.expect(qos1(1, "1"));
        subscriber.expect(qos1(2, "2"));
        subscriber.expect_nothing();
        // One acknowledgement, one more message; in any order.
        subscriber.send(puback(2));
        subscriber.expect(qos1(3, "3"));
        subscriber.expect_nothing();
        subscriber.send(puback(1));
        subscriber.expect(qos1(4, "4"));
    });
}

#[test]
fn the_quota_comes_back_with_pubcomp_and_with_a_refusal_not_with_pubrec() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.connect(taking("s", 1));
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        for (packet_id, payload) in [(1, "1"), (2, "2"), (3, "3")] {
            publisher.send(qos2(packet_id, payload));
            publisher.expect(pubrec(packet_id));
        }
        subscriber.expect(qos2(1, "1"));
        subscriber.send(pubrec(1));
        subscriber.expect(pubrel(1));
        subscriber.expect_nothing();
        subscriber.send(pubcomp(1));
        subscriber.expect(qos2(2, "2"));
        subscriber.send(Packet::PubRec(Ack { reason: 0x80, ..Ack::new(2) }));
        subscriber.expect(qos2(3, "3"));
        // An acknowledgement that was given before gives nothing again.
        subscriber.send(pubcomp(1));
        subscriber.expect_nothing();
    });
}

#[test]
fn an_empty_quota_holds_up_nothing_but_qos_1_and_2() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.connect(taking("s", 1));
        client.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.publish_acknowledged("t", "1");
        publisher.publish_acknowledged("t", "2");
        client.expect(qos1(1, "1"));
        client.ping();
        client.subscribe("other", AtMostOnce);
        client.send(unsubscribe(9, &["other"]));
        client.expect(unsuback(V5, 9, &[0]));
        client.send(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("elsewhere", "x") }));
        client.expect(puback_with(1, 0x10));
        client.send(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("elsewhere", "x") }));
        client.expect(Packet::PubRec(Ack { reason: 0x10, ..Ack::new(1) }));
        client.send(pubrel(1));
        client.expect(pubcomp(1));
        publisher.publish("t", "QoS 0 passes");
        client.expect(publish(message("t", "QoS 0 passes")));
        client.expect_nothing();
    });
}

#[test]
fn a_smaller_receive_maximum_holds_when_the_session_is_resumed() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.connect(taking("s", 4));
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        for packet_id in 1..=6 {
            publisher.send(qos2(packet_id, &packet_id.to_string()));
            publisher.expect(pubrec(packet_id));
        }
        for packet_id in 1..=4 {
            subscriber.expect(qos2(packet_id, &packet_id.to_string()));
        }
        subscriber.send(pubrec(1));
        subscriber.expect(pubrel(1));
        subscriber.close();
        let (mut subscriber, _) = broker.connect(taking("s", 2));
        // The PUBREL is no PUBLISH, but what it belongs to is one of the two.
        subscriber.expect(pubrel(1));
        subscriber.expect(again(qos2(2, "2")));
        subscriber.expect_nothing();
        subscriber.send(pubcomp(1));
        subscriber.expect(again(qos2(3, "3")));
        subscriber.expect_nothing();
        for packet_id in [2, 3] {
            subscriber.send(pubrec(packet_id));
            subscriber.expect(pubrel(packet_id));
            subscriber.expect_nothing();
        }
        subscriber.send(pubcomp(2));
        subscriber.expect(again(qos2(4, "4")));
        subscriber.send(pubcomp(3));
        subscriber.expect(qos2(5, "5"));
        subscriber.expect_nothing();
        subscriber.send(Packet::PubRec(Ack { reason: 0x83, ..Ack::new(4) }));
        subscriber.expect(qos2(6, "6"));
    });
}

#[test]
fn a_larger_receive_maximum_lets_more_out_when_the_session_is_resumed() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.connect(taking("s", 1));
        subscriber.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        for payload in ["1", "2", "3"] {
            publisher.publish_acknowledged("t", payload);
        }
        subscriber.expect(qos1(1, "1"));
        subscriber.close();
        let (mut subscriber, _) = broker.connect(taking("s", 65_535));
        subscriber.expect(again(qos1(1, "1")));
        subscriber.expect(qos1(2, "2"));
        subscriber.expect(qos1(3, "3"));
        subscriber.expect_nothing();
    });
}

#[test]
fn without_a_receive_maximum_the_servers_own_limit_holds() {
    for version in BOTH {
        let broker = Broker::with(3, |limits, _| limits.inflight_max = 3);
        let mut subscriber = broker.client(version, "s");
        subscriber.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(version, "p");
        for number in 1..=5 {
            publisher.publish_acknowledged("t", &number.to_string());
        }
        for number in 1..=3 {
            subscriber.expect(qos1(number, &number.to_string()));
        }
        subscriber.expect_nothing();
        subscriber.send(puback(1));
        subscriber.expect(qos1(4, "4"));
    }
}

#[test]
fn a_publisher_beyond_the_servers_receive_maximum_is_dismissed() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |limits, _| limits.receive_maximum = 2);
        let (mut client, ack) = broker.connect(Connect::new(V5, "p"));
        assert_eq!(ack.properties.number(id::RECEIVE_MAXIMUM), Some(2));
        for packet_id in [1, 2] {
            client.send(qos2(packet_id, "x"));
            client.expect(Packet::PubRec(Ack { reason: 0x10, ..Ack::new(packet_id) }));
        }
        // The same message again is none more, and QoS 0 counts for nothing.
        client.send(again(qos2(2, "x")));
        client.expect(pubrec(2));
        client.publish("t", "x");
        client.ping();
        client.send(pubrel(1));
        client.expect(pubcomp(1));
        client.send(qos1(3, "x"));
        client.expect(puback_with(3, 0x10));
        client.send(qos2(4, "x"));
        client.expect(Packet::PubRec(Ack { reason: 0x10, ..Ack::new(4) }));
        client.send(qos1(5, "x"));
        client.expect_dismissal(0x93);
    }
}

#[test]
fn acknowledgements_that_wait_for_other_shards_count_against_the_publisher() {
    let broker = Broker::with(3, |limits, _| limits.receive_maximum = 3);
    let mut subscribers: Vec<Client> = (0..6).map(|number| broker.client(V5, &format!("s{number}"))).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("t", AtLeastOnce));
    let mut client = broker.client(V5, "p");
    broker.hold_mesh(true);
    for packet_id in 1..=3 {
        client.send(qos1(packet_id, "x"));
    }
    client.expect_nothing();
    client.send(qos1(4, "x"));
    client.expect_dismissal(0x93);
}

#[test]
fn a_receive_maximum_that_is_kept_to_is_never_held_against_a_publisher() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |limits, _| limits.receive_maximum = 1);
        let mut subscriber = broker.client(V5, "s");
        subscriber.subscribe("t", AtMostOnce);
        let mut client = broker.client(V5, "p");
        for packet_id in 1..=300 {
            if packet_id % 2 == 0 {
                client.send(qos1(packet_id, "x"));
                client.expect(puback(packet_id));
            } else {
                client.send(qos2(packet_id, "x"));
                client.expect(pubrec(packet_id));
                client.send(pubrel(packet_id));
                client.expect(pubcomp(packet_id));
            }
            subscriber.expect_message("t", "x");
        }
    }
}
