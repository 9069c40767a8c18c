//! PUBLISH without its properties (§3.3.1, §3.3.2.1, §3.3.4), and who is refused with which reason code.

use ringmq::config::QueueFull;
use ringmq::sim::wire::{Ack, Packet, Publish, encode};

use crate::broker::*;

/// PUBACK or PUBREC with a reason, whatever else it says.
#[track_caller]
fn expect_reason(client: &mut Client, qos: QoS, packet_id: u16, reason: u8) {
    let ack = match (client.next(), qos) {
        (Packet::PubAck(ack), AtLeastOnce) | (Packet::PubRec(ack), ExactlyOnce) => ack,
        (other, _) => panic!("{other:?} instead of an acknowledgement"),
    };
    assert_eq!((ack.packet_id, ack.reason), (packet_id, reason), "{ack:?}");
}

#[test]
fn each_qos_has_its_answer() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        publisher.publish("t", "0");
        publisher.send(publish(Publish { qos: AtLeastOnce, packet_id: 7, ..message("t", "1") }));
        publisher.expect(puback(7));
        publisher.send(publish(Publish { qos: ExactlyOnce, packet_id: 8, ..message("t", "2") }));
        publisher.expect(pubrec(8));
        publisher.expect_nothing();
        subscriber.expect(publish(message("t", "0")));
        subscriber.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "1") }));
        subscriber.expect(publish(Publish { qos: ExactlyOnce, packet_id: 2, ..message("t", "2") }));
    });
}

#[test]
fn the_dup_flag_of_a_publisher_goes_no_further() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2)] {
            publisher.send(publish(Publish { dup: true, qos, packet_id, ..message("t", "x") }));
            subscriber.expect(publish(Publish { qos, packet_id, ..message("t", "x") }));
        }
    });
}

#[test]
fn dup_at_qos_0_and_qos_3_end_the_connection() {
    for_both(|broker, version| {
        for (first, reason) in [(0x38, 0x82), (0x36, 0x81), (0x3E, 0x81)] {
            let mut client = broker.client(version, "c");
            let mut bytes = encode(&publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "x") }), version);
            if first == 0x38 {
                bytes = encode(&publish(message("t", "x")), version);
            }
            bytes[0] = first;
            client.send_bytes(&bytes);
            client.expect_dismissal(reason);
        }
    });
}

#[test]
fn a_topic_name_with_a_wildcard_or_without_a_character_ends_the_connection() {
    for_both(|broker, version| {
        for (topic, reason) in [("#", 0x90), ("a/+/b", 0x90), ("a/#", 0x90), ("a+b", 0x90)] {
            let mut client = broker.client(version, "c");
            client.publish(topic, "x");
            client.expect_dismissal(reason);
        }
        // In 5.0 an empty topic name stands for an alias, and there is none here.
        let mut client = broker.client(version, "c");
        client.publish("", "x");
        client.expect_dismissal(0x82);
    });
}

#[test]
fn a_message_arrives_under_the_topic_name_it_was_published_to() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("a/+/c/#", AtMostOnce);
        for topic in ["a/b/c", "a//c/d/e", "a/b/C", "a/b", "A/b/c", "a/ä/c/"] {
            publisher.publish(topic, topic);
        }
        for topic in ["a/b/c", "a//c/d/e", "a/ä/c/"] {
            subscriber.expect(publish(message(topic, topic)));
        }
        subscriber.expect_nothing();
    });
}

#[test]
fn overlapping_subscriptions_get_one_copy_at_the_highest_qos() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("a/#", AtMostOnce);
        subscriber.subscribe("a/+", ExactlyOnce);
        subscriber.subscribe("a/b", AtLeastOnce);
        publisher.send(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("a/b", "x") }));
        subscriber.expect(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("a/b", "x") }));
        subscriber.expect_nothing();
    });
}

#[test]
fn the_qos_delivered_is_the_lower_of_published_and_granted() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for granted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut subscriber = broker.client(version, "s");
            subscriber.subscribe("t", granted);
            for published in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                let packet_id = published as u16;
                publisher.send(publish(Publish { qos: published, packet_id, ..message("t", "x") }));
                let got = subscriber.next_publish();
                assert_eq!((got.qos, got.packet_id == 0), (published.min(granted), got.qos == AtMostOnce));
                if published == AtLeastOnce {
                    publisher.expect(puback(packet_id));
                } else if published == ExactlyOnce {
                    publisher.expect(pubrec(packet_id));
                    publisher.send(pubrel(packet_id));
                    publisher.expect(pubcomp(packet_id));
                }
            }
        }
    });
}

#[test]
fn nobody_subscribed_is_told_to_5_0_and_only_to_5_0() {
    for_both(|broker, version| {
        let reason = if version == V5 { 0x10 } else { 0 };
        let mut client = broker.client(version, "p");
        client.send(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("nobody", "x") }));
        client.expect(Packet::PubAck(Ack { reason, ..Ack::new(1) }));
        client.send(publish(Publish { qos: ExactlyOnce, packet_id: 2, ..message("nobody", "x") }));
        client.expect(Packet::PubRec(Ack { reason, ..Ack::new(2) }));
        // The exchange goes on as any other.
        client.send(pubrel(2));
        client.expect(pubcomp(2));
    });
}

#[test]
fn publishing_to_sys_is_refused_and_reaches_nobody() {
    for_both(|broker, version| {
        let (mut subscriber, mut client) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("$SYS/#", ExactlyOnce);
        let reason = if version == V5 { 0x87 } else { 0 };
        client.publish("$SYS/broker/uptime", "0");
        for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2)] {
            client.send(publish(Publish { qos, packet_id, retain: true, ..message("$SYS/x", "forged") }));
            expect_reason(&mut client, qos, packet_id, reason);
        }
        client.ping();
        subscriber.expect_nothing();
        assert_eq!(broker.count("retained_messages"), 0);
    });
}

#[test]
fn a_payload_that_is_not_the_utf8_it_says_is_refused_where_that_is_checked() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |_, mqtt| mqtt.check_payload_format = true);
        let (mut subscriber, mut client) = (broker.client(V5, "s"), broker.client(V5, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        let says = Properties::new().byte(id::PAYLOAD_FORMAT_INDICATOR, 1);
        let broken = Publish { payload: vec![0xFF], properties: says.clone(), ..message("t", "") };
        for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2)] {
            client.send(publish(Publish { qos, packet_id, ..broken.clone() }));
            expect_reason(&mut client, qos, packet_id, 0x99);
        }
        client.send(publish(Publish { properties: says, ..message("t", "ü") }));
        client.send(publish(Publish { properties: Properties::new(), ..broken }));
        subscriber.expect_message("t", "ü");
        assert_eq!(subscriber.next_publish().payload, [0xFF]);
    }
}

#[test]
fn a_full_queue_is_told_to_5_0_publishers() {
    for version in BOTH {
        for shards in [1, 3] {
            let broker = Broker::with(shards, |limits, _| limits.queue_messages_max = 2);
            let (mut subscriber, _) = broker.resume(version, "s");
            subscriber.subscribe("t", ExactlyOnce);
            subscriber.close();
            let mut client = broker.client(version, "p");
            for (packet_id, reason) in [(1, 0), (2, 0), (3, 0x97)] {
                client.send(publish(Publish { qos: AtLeastOnce, packet_id, ..message("t", "x") }));
                expect_reason(&mut client, AtLeastOnce, packet_id, if version == V5 { reason } else { 0 });
            }
            client.send(publish(Publish { qos: ExactlyOnce, packet_id: 4, ..message("t", "x") }));
            expect_reason(&mut client, ExactlyOnce, 4, if version == V5 { 0x97 } else { 0 });
            assert_eq!(broker.count("queued"), 2);
        }
    }
}

#[test]
fn a_full_queue_may_drop_its_oldest_message_instead() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |limits, mqtt| {
            limits.queue_messages_max = 2;
            mqtt.queue_full = QueueFull::DropOldest;
        });
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", AtLeastOnce);
        subscriber.close();
        let mut client = broker.client(V5, "p");
        for payload in ["1", "2", "3", "4"] {
            client.publish_acknowledged("t", payload);
        }
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.expect_message("t", "3");
        subscriber.expect_message("t", "4");
        subscriber.expect_nothing();
    }
}

#[test]
fn a_topic_name_beyond_the_limits_is_refused() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |limits, _| {
            limits.topic_bytes_max = 20;
            limits.topic_levels_max = 3;
        });
        let mut client = broker.client(V5, "p");
        for (packet_id, topic) in [(1, "x".repeat(21)), (2, "a/b/c/d".to_owned())] {
            client.send(publish(Publish { qos: AtLeastOnce, packet_id, ..message(&topic, "x") }));
            expect_reason(&mut client, AtLeastOnce, packet_id, 0x90);
        }
        client.send(publish(Publish { qos: AtLeastOnce, packet_id: 3, ..message("a/b/c", "x") }));
        expect_reason(&mut client, AtLeastOnce, 3, 0x10);
    }
}

#[test]
fn a_reason_string_stays_away_where_it_is_not_wanted_or_does_not_fit() {
    on_any_shards(|broker| {
        let refused = Publish { qos: AtLeastOnce, packet_id: 1, ..message("$SYS/x", "x") };
        for (properties, expected) in [
            (Properties::new(), true),
            (Properties::new().byte(id::REQUEST_PROBLEM_INFORMATION, 1), true),
            (Properties::new().byte(id::REQUEST_PROBLEM_INFORMATION, 0), false),
            (Properties::new().four(id::MAXIMUM_PACKET_SIZE, 30), false),
        ] {
            let mut connect = ringmq::sim::wire::Connect::new(V5, "c");
            connect.properties = properties;
            let (mut client, _) = broker.connect(connect);
            for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2)] {
                client.send(publish(Publish { qos, packet_id, ..refused.clone() }));
                let (Packet::PubAck(ack) | Packet::PubRec(ack)) = client.next() else { panic!("no acknowledgement") };
                assert_eq!((ack.packet_id, ack.reason), (packet_id, 0x87));
                assert_eq!(ack.properties.string(id::REASON_STRING).is_some(), expected);
            }
        }
    });
}

#[test]
fn a_refusal_keeps_its_reason_behind_acknowledgements_that_wait() {
    let broker = Broker::new(3);
    let mut subscribers: Vec<Client> = (0..6).map(|number| broker.client(V5, &format!("s{number}"))).collect();
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("t", AtLeastOnce));
    let mut client = broker.client(V5, "p");
    broker.hold_mesh(true);
    client.send(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "x") }));
    client.send(publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("$SYS/x", "x") }));
    client.send(publish(Publish { qos: ExactlyOnce, packet_id: 3, ..message("$SYS/x", "x") }));
    client.expect_nothing();
    broker.hold_mesh(false);
    expect_reason(&mut client, AtLeastOnce, 1, 0);
    expect_reason(&mut client, AtLeastOnce, 2, 0x87);
    expect_reason(&mut client, ExactlyOnce, 3, 0x87);
    // The refused identifier is free.
    client.send(pubrel(3));
    client.expect(Packet::PubComp(Ack { reason: 0x92, ..Ack::new(3) }));
}
