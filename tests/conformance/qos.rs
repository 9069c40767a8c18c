//! The QoS delivery protocols (§4.3), from either side, and what holds packet identifiers together (§2.2.1).

use ringmq::sim::wire::{Ack, Packet, Publish};

use crate::broker::*;

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

/// An acknowledgement of something that the receiver does not know.
fn unknown(version: ProtocolVersion, packet_id: u16) -> Ack {
    Ack { reason: if version == V5 { 0x92 } else { 0 }, ..Ack::new(packet_id) }
}

/// Six subscribers, so that with three shards some live on others than the publisher.
fn subscribers(broker: &Broker) -> Vec<Client> {
    let mut subscribers: Vec<Client> = (0..6).map(|number| broker.client(V5, &format!("s{number}"))).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("t", AtMostOnce));
    subscribers
}

#[test]
fn a_qos_1_identifier_may_be_used_again_at_once_whatever_dup_says() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", AtMostOnce);
        for packet in [qos1(5, "a"), again(qos1(5, "b")), qos1(5, "c")] {
            publisher.send(packet);
            publisher.expect(puback(5));
        }
        for payload in ["a", "b", "c"] {
            subscriber.expect_message("t", payload);
        }
    });
}

#[test]
fn a_qos_2_message_sent_again_before_its_pubrel_is_delivered_once() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        // Without the DUP flag it is the same message too.
        for packet in [qos2(5, "a"), again(qos2(5, "a")), qos2(5, "a")] {
            publisher.send(packet);
            publisher.expect(pubrec(5));
        }
        publisher.send(pubrel(5));
        publisher.expect(pubcomp(5));
        subscriber.expect(qos2(1, "a"));
        subscriber.expect_nothing();
    });
}

#[test]
fn a_qos_2_identifier_names_a_new_message_after_pubcomp() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", AtMostOnce);
        for (packet, payload) in [(qos2(5, "a"), "a"), (again(qos2(5, "b")), "b")] {
            publisher.send(packet);
            publisher.expect(pubrec(5));
            publisher.send(pubrel(5));
            publisher.expect(pubcomp(5));
            subscriber.expect_message("t", payload);
        }
    });
}

#[test]
fn a_qos_2_message_sent_again_on_the_next_connection_is_delivered_once() {
    for_both(|broker, version| {
        let mut subscriber = broker.client(version, "s");
        subscriber.subscribe("t", AtMostOnce);
        let (mut publisher, _) = broker.resume(version, "p");
        publisher.send(qos2(5, "a"));
        publisher.expect(pubrec(5));
        for _ in 0..2 {
            publisher.close();
            publisher = broker.resume(version, "p").0;
            publisher.expect_nothing();
            publisher.send(again(qos2(5, "a")));
            publisher.expect(pubrec(5));
        }
        publisher.send(pubrel(5));
        publisher.expect(pubcomp(5));
        publisher.close();
        // PUBCOMP may have been lost: the PUBREL comes again.
        let (mut publisher, _) = broker.resume(version, "p");
        publisher.send(pubrel(5));
        publisher.expect(Packet::PubComp(unknown(version, 5)));
        subscriber.expect_message("t", "a");
        subscriber.expect_nothing();
        publisher.send(qos2(5, "b"));
        publisher.expect(pubrec(5));
        subscriber.expect_message("t", "b");
    });
}

#[test]
fn a_clean_start_forgets_qos_2_identifiers() {
    for_both(|broker, version| {
        let mut subscriber = broker.client(version, "s");
        subscriber.subscribe("t", AtMostOnce);
        let (mut publisher, _) = broker.resume(version, "p");
        publisher.send(qos2(5, "a"));
        publisher.expect(pubrec(5));
        publisher.close();
        let mut publisher = broker.client(version, "p");
        publisher.send(again(qos2(5, "a")));
        publisher.expect(pubrec(5));
        subscriber.expect_message("t", "a");
        subscriber.expect_message("t", "a");
    });
}

#[test]
fn a_qos_2_publish_that_was_refused_leaves_its_identifier_free() {
    on_any_shards(|broker| {
        let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
        subscriber.subscribe("t", AtMostOnce);
        publisher.send(publish(Publish { qos: ExactlyOnce, packet_id: 5, ..message("$SYS/x", "x") }));
        assert!(matches!(publisher.next(), Packet::PubRec(Ack { packet_id: 5, reason: 0x87, .. })));
        publisher.send(again(qos2(5, "new")));
        publisher.expect(pubrec(5));
        subscriber.expect_message("t", "new");
    });
}

#[test]
fn in_3_1_1_a_refused_qos_2_publish_goes_through_the_whole_exchange() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V311, "p");
        for packet in [message("$SYS/x", "x"), message("$SYS/x", "x")] {
            publisher.send(publish(Publish { qos: ExactlyOnce, packet_id: 5, ..packet }));
            publisher.expect(pubrec(5));
        }
        publisher.send(pubrel(5));
        publisher.expect(pubcomp(5));
    });
}

#[test]
fn pubrel_for_an_unknown_identifier_is_answered() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.send(pubrel(77));
        client.expect(Packet::PubComp(unknown(version, 77)));
        client.ping();
    });
}

#[test]
fn acknowledgements_of_nothing_harm_nobody() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.send(puback(77));
        client.send(pubcomp(77));
        client.expect_nothing();
        client.send(pubrec(77));
        client.expect(Packet::PubRel(unknown(version, 77)));
        client.ping();
        if version == V5 {
            // An error for an unknown identifier asks for nothing.
            client.send(Packet::PubRec(Ack { reason: 0x80, ..Ack::new(77) }));
            client.expect_nothing();
        }
    });
}

#[test]
fn a_message_stays_unacknowledged_until_the_acknowledgement_of_its_qos() {
    for_both(|broker, version| {
        let (mut subscriber, _) = broker.resume(version, "s");
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "1");
        publisher.send(qos2(7, "2"));
        publisher.expect(pubrec(7));
        subscriber.expect(qos1(1, "1"));
        subscriber.expect(qos2(2, "2"));
        // The wrong kind of acknowledgement, and the right kind for another identifier.
        subscriber.send(pubcomp(1));
        subscriber.send(puback(2));
        subscriber.send(puback(3));
        subscriber.send(pubcomp(2));
        subscriber.ping();
        assert_eq!(broker.count("inflight"), 2);
        subscriber.close();
        let (mut subscriber, _) = broker.resume(version, "s");
        subscriber.expect(again(qos1(1, "1")));
        subscriber.expect(again(qos2(2, "2")));
        subscriber.send(puback(1));
        subscriber.send(pubrec(2));
        subscriber.expect(pubrel(2));
        subscriber.send(pubcomp(2));
        subscriber.ping();
        assert_eq!(broker.count("inflight"), 0);
    });
}

#[test]
fn pubrec_again_gets_pubrel_again() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        publisher.send(qos2(1, "x"));
        subscriber.expect(qos2(1, "x"));
        for _ in 0..3 {
            subscriber.send(pubrec(1));
            subscriber.expect(pubrel(1));
        }
        subscriber.send(pubcomp(1));
        subscriber.send(pubrec(1));
        subscriber.expect(Packet::PubRel(unknown(version, 1)));
        assert_eq!(broker.count("inflight"), 0);
    });
}

#[test]
fn a_message_the_receiver_refuses_is_acknowledged_and_dropped() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.publish_acknowledged("t", "1");
        publisher.send(qos2(7, "2"));
        publisher.expect(pubrec(7));
        subscriber.expect(qos1(1, "1"));
        subscriber.expect(qos2(2, "2"));
        subscriber.send(puback_with(1, 0x97));
        subscriber.send(Packet::PubRec(Ack { reason: 0x99, ..Ack::new(2) }));
        subscriber.expect_nothing();
        subscriber.close();
        let (mut subscriber, present) = broker.resume(V5, "s");
        assert!(present);
        subscriber.expect_nothing();
    });
}

#[test]
fn acknowledgements_with_any_reason_code_of_theirs_are_understood() {
    on_any_shards(|broker| {
        let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        for reason in [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
            publisher.publish_acknowledged("t", "x");
            let Packet::Publish(got) = subscriber.next() else { panic!("no PUBLISH") };
            let properties = Properties::new().text(id::REASON_STRING, "because").user("k", "v");
            subscriber.send(Packet::PubAck(Ack { packet_id: got.packet_id, reason, properties }));
        }
        subscriber.ping();
        assert_eq!(broker.count("inflight"), 0);
        subscriber.send(puback_with(1, 0x01));
        subscriber.expect_dismissal(0x82);
    });
}

#[test]
fn packet_identifiers_of_the_two_directions_are_apart() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("t", ExactlyOnce);
        client.send(qos2(1, "to myself"));
        let mut came = [client.next(), client.next()];
        came.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(came, [pubrec(1), qos2(1, "to myself")]);
        client.send(pubrec(1));
        client.expect(pubrel(1));
        client.send(pubrel(1));
        client.expect(pubcomp(1));
        client.send(pubcomp(1));
        client.ping();
        assert_eq!(broker.count("inflight"), 0);
    });
}

#[test]
fn the_servers_identifiers_wrap_without_zero() {
    let broker = Broker::new(1);
    let (mut subscriber, mut publisher) = (broker.client(V311, "s"), broker.client(V311, "p"));
    subscriber.subscribe("t", AtLeastOnce);
    let mut expected = 0u16;
    for _ in 0..660 {
        for _ in 0..100 {
            publisher.send(qos1(1, "x"));
        }
        for _ in 0..100 {
            expected = expected.checked_add(1).unwrap_or(1);
            subscriber.expect(qos1(expected, "x"));
            publisher.expect(puback(1));
            subscriber.send(puback(expected));
        }
    }
    assert!(expected < 1000, "the identifiers went round");
}

#[test]
fn an_identifier_in_use_is_not_given_to_another_message() {
    let broker = Broker::new(1);
    let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
    subscriber.subscribe("t", AtLeastOnce);
    // Of what arrives, only every thousandth message is acknowledged late.
    let mut held = Vec::new();
    for number in 0..80_000 {
        publisher.send(qos1(1, "x"));
        publisher.expect(puback(1));
        let packet_id = subscriber.next_publish().packet_id;
        assert!(!held.contains(&packet_id), "identifier {packet_id} is in use");
        if number % 1000 == 0 {
            held.push(packet_id);
        } else {
            subscriber.send(puback(packet_id));
        }
        if held.len() == 4 {
            subscriber.send(puback(held.remove(0)));
        }
    }
}

#[test]
fn the_acknowledgements_keep_the_order_of_their_messages_over_all_shards() {
    for version in BOTH {
        let broker = Broker::new(3);
        let mut subscribers = subscribers(&broker);
        let mut client = broker.client(version, "p");
        let nobody = if version == V5 { 0x10 } else { 0 };
        broker.hold_mesh(true);
        client.send(qos1(1, "x"));
        client.send(publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("nobody", "x") }));
        client.send(qos2(3, "x"));
        client.send(publish(Publish { qos: ExactlyOnce, packet_id: 4, ..message("nobody", "x") }));
        client.send(qos1(5, "x"));
        client.expect_nothing();
        broker.hold_mesh(false);
        client.expect(puback(1));
        client.expect(puback_with(2, nobody));
        client.expect(pubrec(3));
        client.expect(Packet::PubRec(Ack { reason: nobody, ..Ack::new(4) }));
        client.expect(puback(5));
        for subscriber in &mut subscribers {
            for _ in 0..3 {
                subscriber.expect_message("t", "x");
            }
        }
    }
}

#[test]
fn a_qos_2_message_sent_again_while_shards_are_asked_is_acknowledged_and_delivered_once() {
    for version in BOTH {
        let broker = Broker::new(3);
        let mut subscribers = subscribers(&broker);
        let (mut client, _) = broker.resume(version, "p");
        broker.hold_mesh(true);
        client.send(qos2(1, "x"));
        client.send(again(qos2(1, "x")));
        client.expect_nothing();
        client.close();
        let (mut client, _) = broker.resume(version, "p");
        client.send(again(qos2(1, "x")));
        client.expect_nothing();
        broker.hold_mesh(false);
        client.expect(pubrec(1));
        client.expect_nothing();
        client.send(pubrel(1));
        client.expect(pubcomp(1));
        for subscriber in &mut subscribers {
            subscriber.expect_message("t", "x");
            subscriber.expect_nothing();
        }
    }
}
