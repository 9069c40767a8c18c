//! What a server does not offer and what it limits, as SUBSCRIBE and PUBLISH meet it (§3.2.2.3, §3.9.3).

use ringmq::sim::wire::{Packet, Publish};

use crate::broker::*;
use crate::subscribe::identified;

/// The codes that a client of this version sees.
fn codes(version: ProtocolVersion, codes: &[u8]) -> Vec<u8> {
    codes.iter().map(|&code| if version == V5 || code < 0x80 { code } else { 0x80 }).collect()
}

#[test]
fn filters_of_one_subscribe_fail_and_succeed_independently() {
    for version in BOTH {
        let change = |limits: &mut ringmq::config::Limits, mqtt: &mut ringmq::config::MqttOptions| {
            limits.topic_levels_max = 4;
            limits.topic_bytes_max = 20;
            mqtt.wildcard_subscriptions = false;
            mqtt.shared_subscriptions = false;
            mqtt.max_qos = AtLeastOnce;
        };
        on_any_shards_with(change, |broker| {
            let mut client = broker.client(version, "c");
            let long = "x".repeat(21);
            let filters = ["a", "a/+", "b", "$share/g/c", "1/2/3/4/5", &long, "c"];
            client.send(subscribe(9, &filters.map(|filter| (filter, at(ExactlyOnce)))));
            client.expect(suback(9, &codes(version, &[1, 0xA2, 1, 0x9E, 0x8F, 0x8F, 1])));
            let mut publisher = broker.client(version, "p");
            for topic in ["a/x", "a", "b", "c"] {
                publisher.publish(topic, "x");
            }
            for topic in ["a", "b", "c"] {
                client.expect(publish(message(topic, "x")));
            }
            client.expect_nothing();
            // What failed does not exist.
            client.send(unsubscribe(1, &["a/+", "$share/g/c", "a"]));
            client.expect(unsuback(version, 1, &[0x11, 0x11, 0]));
        });
    }
}

#[test]
fn a_shared_filter_with_wildcards_needs_both_to_be_offered() {
    let change = |_: &mut _, mqtt: &mut ringmq::config::MqttOptions| mqtt.wildcard_subscriptions = false;
    on_any_shards_with(change, |broker| {
        let mut client = broker.client(V5, "c");
        client.send(subscribe(
            1,
            &[("$share/g/a", at(AtMostOnce)), ("$share/g/#", at(AtMostOnce)), ("#", at(AtMostOnce))],
        ));
        client.expect(suback(1, &[0, 0xA2, 0xA2]));
    });
}

#[test]
fn a_subscription_identifier_where_none_is_offered_ends_the_connection() {
    let change = |_: &mut _, mqtt: &mut ringmq::config::MqttOptions| mqtt.subscription_identifiers = false;
    on_any_shards_with(change, |broker| {
        let mut client = broker.client(V5, "c");
        client.subscribe("t", AtMostOnce);
        client.send(identified("t", at(AtMostOnce), 1));
        client.expect_dismissal(0xA1);
    });
}

#[test]
fn subscriptions_of_one_client_are_limited() {
    for version in BOTH {
        on_any_shards_with(
            |limits, _| limits.subscriptions_per_client_max = 3,
            |broker| {
                let mut client = broker.client(version, "c");
                let filters = ["a", "b/+", "$share/g/c", "d"];
                client.send(subscribe(1, &filters.map(|filter| (filter, at(AtMostOnce)))));
                client.expect(suback(1, &codes(version, &[0, 0, 0, 0x97])));
                // What is there can be replaced; a new one needs room first.
                client.send(subscribe(
                    2,
                    &[("$share/g/c", at(AtLeastOnce)), ("a", at(AtLeastOnce)), ("e", at(AtMostOnce))],
                ));
                client.expect(suback(2, &codes(version, &[1, 1, 0x97])));
                client.send(unsubscribe(3, &["$share/g/c", "d"]));
                client.expect(unsuback(version, 3, &[0, 0x11]));
                client.send(subscribe(4, &[("d", at(AtMostOnce)), ("e", at(AtMostOnce))]));
                client.expect(suback(4, &codes(version, &[0, 0x97])));
                // Another client has a count of its own.
                broker.client(version, "other").subscribe("a", AtMostOnce);
            },
        );
    }
}

#[test]
fn topics_with_too_many_levels_or_bytes_are_refused_and_the_connection_goes_on() {
    let change = |limits: &mut ringmq::config::Limits, _: &mut _| {
        limits.topic_levels_max = 3;
        limits.topic_bytes_max = 12;
    };
    on_any_shards_with(change, |broker| {
        let mut watcher = broker.client(V5, "w");
        watcher.subscribe("#", AtMostOnce);
        let mut client = broker.client(V5, "c");
        for topic in ["1/2/3/4", "1234567890123"] {
            let refused = |qos| Packet::Publish(Publish { qos, packet_id: 5, ..message(topic, "x") });
            client.send(refused(AtLeastOnce));
            match client.next() {
                Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason), (5, 0x90)),
                other => panic!("{other:?}"),
            }
            client.send(refused(ExactlyOnce));
            match client.next() {
                Packet::PubRec(ack) => assert_eq!((ack.packet_id, ack.reason), (5, 0x90)),
                other => panic!("{other:?}"),
            }
            client.publish(topic, "x");
        }
        client.publish_acknowledged("1/2/3", "x");
        watcher.expect_message("1/2/3", "x");
        watcher.expect_nothing();
        // The share and its name do not count as levels.
        client.subscribe("$share/g/1/2", AtMostOnce);
        client.send(subscribe(1, &[("1/2/3/#", at(AtMostOnce)), ("1/2/#", at(AtMostOnce))]));
        client.expect(suback(1, &[0x8F, 0]));
    });
}

#[test]
fn too_many_user_properties_of_a_publication_are_refused() {
    on_any_shards_with(
        |limits, _| limits.user_properties_max = 3,
        |broker| {
            let mut watcher = broker.client(V5, "w");
            watcher.subscribe("t", AtMostOnce);
            let mut client = broker.client(V5, "c");
            let with = |count, qos| {
                let properties = (0..count).fold(Properties::new(), |all, _| all.user("k", "v"));
                Packet::Publish(Publish { qos, packet_id: 5, properties, ..message("t", "x") })
            };
            for count in [4, 9000] {
                client.send(with(count, AtLeastOnce));
                match client.next() {
                    Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason), (5, 0x97)),
                    other => panic!("{other:?}"),
                }
                client.send(with(count, AtMostOnce));
            }
            watcher.expect_nothing();
            client.send(with(3, AtLeastOnce));
            client.expect(puback(5));
            watcher.next_publish();
        },
    );
}

#[test]
fn a_3_1_1_publisher_of_a_refused_message_is_acknowledged_and_ignored() {
    on_any_shards_with(
        |limits, _| limits.topic_levels_max = 3,
        |broker| {
            let mut watcher = broker.client(V311, "w");
            watcher.subscribe("#", AtMostOnce);
            let mut client = broker.client(V311, "c");
            client.send(Packet::Publish(Publish { qos: AtLeastOnce, packet_id: 5, ..message("1/2/3/4", "x") }));
            client.expect(puback(5));
            client.send(Packet::Publish(Publish { qos: ExactlyOnce, packet_id: 6, ..message("1/2/3/4", "x") }));
            client.expect(pubrec(6));
            client.send(pubrel(6));
            client.expect(pubcomp(6));
            watcher.expect_nothing();
        },
    );
}

#[test]
fn a_suback_larger_than_the_client_takes_carries_no_words() {
    // Codes cannot be left out, reasons can: this server never adds them to SUBACK and UNSUBACK.
    on_any_shards_with(
        |limits, _| limits.topic_levels_max = 2,
        |broker| {
            let mut connect = ringmq::sim::wire::Connect::new(V5, "c");
            connect.properties = Properties::new().four(id::MAXIMUM_PACKET_SIZE, 64);
            let (mut client, _) = broker.connect(connect);
            client.send(subscribe(1, &[("a/b/c", at(AtMostOnce)), ("a", at(AtMostOnce))]));
            client.expect(suback(1, &[0x8F, 0]));
            client.send(unsubscribe(2, &["a/b/c", "a"]));
            client.expect(unsuback(V5, 2, &[0x11, 0]));
        },
    );
}
