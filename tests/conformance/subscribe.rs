//! SUBSCRIBE and SUBACK, and the subscription options (§3.8, §3.9, §3.3.1.3, §3.3.4).

use ringmq::sim::wire::{Packet, Publish, Subscribe};

use crate::broker::*;

const NO_LOCAL: SubscriptionOptions = SubscriptionOptions { no_local: true, ..options(AtLeastOnce) };

const fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send }
}

/// A SUBSCRIBE of one filter with a subscription identifier.
pub fn identified(filter: &str, options: SubscriptionOptions, identifier: u32) -> Packet {
    Packet::Subscribe(Subscribe {
        packet_id: 77,
        properties: Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, identifier),
        filters: vec![(filter.to_owned(), options)],
    })
}

/// The subscription identifiers of a PUBLISH, ascending.
pub fn identifiers(publish: &Publish) -> Vec<u32> {
    let of = |property: &ringmq::sim::wire::Property| match property.value {
        Value::Variable(value) if property.id == id::SUBSCRIPTION_IDENTIFIER => Some(value),
        _ => None,
    };
    let mut found: Vec<u32> = publish.properties.0.iter().filter_map(of).collect();
    found.sort_unstable();
    found
}

/// The bytes of a SUBSCRIBE with the filter `f` and this options byte.
fn raw_subscribe(version: ProtocolVersion, first: u8, options: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == V5 { &[0] } else { &[] };
    let body = [&[0, 1], properties, &[0, 1, b'f'], options].concat();
    [&[first, body.len() as u8], &body[..]].concat()
}

#[test]
fn suback_has_the_packet_identifier_and_a_code_for_each_filter_in_order() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        for packet_id in [1, 2, 0x1234, 65_535] {
            client.send(subscribe(
                packet_id,
                &[("a", at(ExactlyOnce)), ("b/+", at(AtMostOnce)), ("c/#", at(AtLeastOnce))],
            ));
            client.expect(suback(packet_id, &[2, 0, 1]));
        }
        client.expect_nothing();
    });
}

#[test]
fn a_subscribe_without_a_filter_is_a_protocol_error() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        client.send_bytes(&[&[0x82, 2 + properties.len() as u8, 0, 1], properties].concat());
        client.expect_dismissal(0x82);
    });
}

#[test]
fn reserved_bits_of_subscribe_must_be_what_they_are() {
    for_both(|broker, version| {
        for first in (0x80..=0x8F).filter(|first| *first != 0x82) {
            let mut client = broker.client(version, "c");
            client.send_bytes(&raw_subscribe(version, first, &[0]));
            client.expect_dismissal(0x81);
        }
    });
}

#[test]
fn reserved_bits_and_impossible_values_of_the_options_are_refused() {
    on_any_shards(|broker| {
        for (version, options, reason) in [
            (V5, 0x40, 0x81),
            (V5, 0x80, 0x81),
            (V5, 0x03, 0x82),
            (V5, 0x30, 0x82),
            (V311, 0x03, 0),
            (V311, 0x04, 0),
            (V311, 0x80, 0),
        ] {
            let mut client = broker.client(version, "c");
            client.send_bytes(&raw_subscribe(version, 0x82, &[options]));
            client.expect_dismissal(reason);
        }
    });
}

#[test]
fn filters_that_are_no_filters_end_the_connection() {
    for_both(|broker, version| {
        for filter in
            ["", "a+", "+a/b", "a/b#", "#/b", "a/#/b", "++", "$share/g", "$share/g/", "$share//a", "$share/+/a"]
        {
            let mut client = broker.client(version, "c");
            client.send(subscribe(1, &[("good", at(AtMostOnce)), (filter, at(AtMostOnce))]));
            client.expect_dismissal(0x8F);
            let mut client = broker.client(version, "c");
            client.send(unsubscribe(1, &[filter]));
            client.expect_dismissal(0x8F);
        }
        // No UTF-8, and U+0000.
        for byte in [0xFF, 0] {
            let mut client = broker.client(version, "c");
            let mut bytes = raw_subscribe(version, 0x82, &[0]);
            let at = bytes.len() - 2;
            bytes[at] = byte;
            client.send_bytes(&bytes);
            client.expect_dismissal(0x81);
        }
    });
}

#[test]
fn a_message_is_delivered_at_the_lower_of_its_qos_and_the_granted_one() {
    for_both(|broker, version| {
        for granted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut subscriber = broker.client(version, "s");
            let mut publisher = broker.client(version, "p");
            subscriber.subscribe("t", granted);
            for (at, qos) in [AtMostOnce, AtLeastOnce, ExactlyOnce].into_iter().enumerate() {
                let packet_id = if qos == AtMostOnce { 0 } else { at as u16 };
                publisher.send(Packet::Publish(Publish { qos, packet_id, ..message("t", "x") }));
                let got = subscriber.next_publish();
                assert_eq!(got.qos, qos.min(granted));
                assert_eq!(got.packet_id == 0, got.qos == AtMostOnce);
                let expected = Publish { qos: got.qos, packet_id: got.packet_id, ..message("t", "x") };
                assert_eq!(got, expected);
            }
        }
    });
}

#[test]
fn a_message_published_after_suback_reaches_the_subscriber_wherever_it_is_published() {
    for_both(|broker, version| {
        let mut publishers: Vec<_> = (0..6).map(|at| broker.client(version, &format!("p{at}"))).collect();
        for filter in ["a/b/c", "a/+/c", "#", "$share/g/a/b/c", "$share/g/a/#"] {
            let mut subscriber = broker.client(version, "s");
            subscriber.subscribe(filter, AtLeastOnce);
            for publisher in &mut publishers {
                publisher.publish("a/b/c", "x");
                subscriber.expect_message("a/b/c", "x");
            }
            subscriber.expect_nothing();
        }
    });
}

#[test]
fn suback_waits_until_every_shard_knows_and_nothing_else_waits_for_it() {
    for version in BOTH {
        let broker = Broker::new(3);
        let mut client = broker.client(version, "c");
        broker.hold_mesh(true);
        for number in 0..12 {
            client.send(subscribe(number + 1, &[(&format!("f/{number}"), at(AtMostOnce))]));
        }
        client.send(unsubscribe(20, &["f/3"]));
        client.send(Packet::PingReq);
        let mut early = Vec::new();
        while let Some(packet) = client.next_or_none() {
            early.push(packet);
        }
        assert!(early.contains(&Packet::PingResp) && early.contains(&unsuback(version, 20, &[0])));
        assert!(early.len() < 10, "not even the owner of a filter can have heard of it");
        broker.hold_mesh(false);
        let late = std::iter::from_fn(|| client.next_or_none()).count();
        assert_eq!(early.len() + late, 14);
        for number in 0..12 {
            broker.client(version, &format!("p{number}")).publish(&format!("f/{number}"), "x");
        }
        let got = std::iter::from_fn(|| client.next_or_none()).count();
        assert_eq!(got, 11);
    }
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    for_both(|broker, version| {
        let mut subscriber = broker.client(version, "s");
        let mut publisher = broker.client(version, "p");
        for qos in [ExactlyOnce, AtMostOnce, AtLeastOnce] {
            subscriber.subscribe("a/+", qos);
            publisher.publish_acknowledged("a/b", "x");
            let got = subscriber.next_publish();
            assert_eq!(got.qos, qos.min(AtLeastOnce));
            if got.packet_id > 0 {
                subscriber.send(puback(got.packet_id));
            }
            subscriber.expect_nothing();
        }
        assert_eq!(broker.count("subscriptions"), 1);
        subscriber.send(unsubscribe(1, &["a/+"]));
        subscriber.expect(unsuback(version, 1, &[0]));
        assert_eq!(broker.count("subscriptions"), 0);
    });
}

#[test]
fn the_subscription_that_replaces_has_options_and_identifier_of_its_own() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        client.send(identified("t", NO_LOCAL, 5));
        client.expect(suback(77, &[1]));
        client.publish("t", "not to myself");
        client.ping();
        client.send(identified("t", at(AtMostOnce), 6));
        client.expect(suback(77, &[0]));
        client.publish("t", "to myself");
        let properties = Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 6);
        client.expect(publish(Publish { properties, ..message("t", "to myself") }));
        client.subscribe("t", AtMostOnce);
        client.publish("t", "without identifier");
        client.expect(publish(message("t", "without identifier")));
    });
}

#[test]
fn no_message_is_lost_or_doubled_while_a_subscription_is_replaced() {
    for_both(|broker, version| {
        let mut subscriber = broker.client(version, "s");
        let mut publisher = broker.client(version, "p");
        subscriber.subscribe("a/#", AtLeastOnce);
        for round in 0..60_u16 {
            publisher.send(Packet::Publish(Publish {
                qos: AtLeastOnce,
                packet_id: round + 1,
                ..message("a/b", &round.to_string())
            }));
            if round % 3 == 0 {
                let qos = if round % 2 == 0 { ExactlyOnce } else { AtLeastOnce };
                subscriber.send(subscribe(round + 1, &[("a/#", at(qos))]));
            }
            broker.advance(std::time::Duration::from_micros(u64::from(round % 7)));
        }
        let (mut payloads, mut subacks) = (Vec::new(), 0);
        while payloads.len() < 60 || subacks < 20 {
            match subscriber.next() {
                Packet::Publish(publish) => {
                    payloads.push(String::from_utf8(publish.payload).expect("a number"));
                    subscriber.send(puback(publish.packet_id));
                }
                Packet::SubAck(codes) => {
                    assert_eq!(codes.codes.len(), 1);
                    subacks += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(payloads, (0..60).map(|round| round.to_string()).collect::<Vec<_>>());
        subscriber.expect_nothing();
    });
}

#[test]
fn one_filter_twice_in_one_subscribe_is_two_subscribes_in_sequence() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        let mut client = broker.client(version, "c");
        client.send(subscribe(3, &[("t", at(AtMostOnce)), ("t", at(AtLeastOnce))]));
        client.expect(suback(3, &[0, 1]));
        publisher.publish_acknowledged("t", "x");
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "x") }));
        client.expect_nothing();
        assert_eq!(broker.count("subscriptions"), 1);
    });
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_the_highest_qos() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        let mut client = broker.client(version, "c");
        for (filter, qos) in [("#", AtMostOnce), ("a/b", AtLeastOnce), ("a/+", ExactlyOnce), ("+/b", AtMostOnce)] {
            client.subscribe(filter, qos);
        }
        publisher.send(Packet::Publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("a/b", "x") }));
        client.expect(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("a/b", "x") }));
        client.expect_nothing();
        publisher.send(Packet::Publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("c/b", "y") }));
        client.expect(publish(message("c/b", "y")));
        client.expect_nothing();
    });
}

#[test]
fn a_message_carries_the_identifiers_of_all_matching_subscriptions_that_have_one() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V5, "p");
        let mut client = broker.client(V5, "c");
        for (filter, identifier) in [("a/b", 1), ("a/#", 268_435_455), ("+/b", 3), ("x", 4)] {
            client.send(identified(filter, at(AtLeastOnce), identifier));
            client.expect(suback(77, &[1]));
        }
        client.subscribe("#", ExactlyOnce);
        publisher.publish_acknowledged("a/b", "x");
        let got = client.next_publish();
        assert_eq!(identifiers(&got), [1, 3, 268_435_455]);
        assert_eq!((got.qos, got.properties.0.len()), (AtLeastOnce, 3));
        client.send(puback(got.packet_id));
        publisher.publish_acknowledged("a/c", "y");
        assert_eq!(identifiers(&client.next_publish()), [268_435_455]);
        publisher.publish("z", "no identifier");
        client.expect(publish(message("z", "no identifier")));
        client.expect_nothing();
    });
}

#[test]
fn one_identifier_may_stand_for_several_subscriptions() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V5, "p");
        let mut client = broker.client(V5, "c");
        for filter in ["a/b", "c"] {
            client.send(identified(filter, at(AtMostOnce), 9));
            client.expect(suback(77, &[0]));
        }
        for topic in ["a/b", "c"] {
            publisher.publish(topic, "x");
            assert_eq!(identifiers(&client.next_publish()), [9]);
        }
    });
}

#[test]
fn identifiers_are_kept_with_the_session_and_with_queued_messages() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.resume(V5, "c");
        client.send(identified("a/+", at(AtLeastOnce), 11));
        client.expect(suback(77, &[1]));
        client.send(identified("a/b", at(AtLeastOnce), 12));
        client.expect(suback(77, &[1]));
        client.reset();
        broker.client(V5, "p").publish_acknowledged("a/b", "while away");
        let (mut client, present) = broker.resume(V5, "c");
        assert!(present);
        assert_eq!(identifiers(&client.next_publish()), [11, 12]);
        broker.client(V5, "p").publish_acknowledged("a/c", "after");
        assert_eq!(identifiers(&client.next_publish()), [11]);
    });
}

#[test]
fn a_subscription_identifier_of_zero_or_two_of_them_are_protocol_errors() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        client.send(identified("t", at(AtMostOnce), 0));
        client.expect_dismissal(0x82);
        let mut client = broker.client(V5, "c");
        let properties =
            Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 1).variable(id::SUBSCRIPTION_IDENTIFIER, 2);
        client.send(Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties,
            filters: vec![("t".into(), at(AtMostOnce))],
        }));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it_and_nobody_elses() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.resume(V5, "c");
        let mut other = broker.client(V5, "o");
        client.subscribe_with("t/#", NO_LOCAL);
        other.subscribe_with("t/#", at(AtMostOnce));
        client.publish_acknowledged("t/x", "mine");
        other.expect_message("t/x", "mine");
        other.publish("t/y", "other");
        client.expect(publish(message("t/y", "other")));
        client.expect_nothing();
        // It is the client that counts, not the connection.
        client.reset();
        let (mut client, _) = broker.resume(V5, "c");
        client.publish_acknowledged("t/x", "still mine");
        client.expect_nothing();
    });
}

#[test]
fn no_local_of_one_subscription_does_not_hide_what_another_lets_through() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        client.send(identified("a/#", SubscriptionOptions { no_local: true, ..at(ExactlyOnce) }, 1));
        client.expect(suback(77, &[2]));
        client.send(identified("a/b", at(AtMostOnce), 2));
        client.expect(suback(77, &[0]));
        client.publish("a/b", "x");
        let properties = Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 2);
        client.expect(publish(Publish { properties, ..message("a/b", "x") }));
        client.publish("a/c", "y");
        client.expect_nothing();
    });
}

#[test]
fn no_local_does_not_go_with_a_shared_subscription_on_the_wire() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        client.send(subscribe(1, &[("$share/g/t", NO_LOCAL)]));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn subscriptions_of_a_session_outlive_the_connection_and_only_the_session() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t", AtMostOnce);
        client.disconnect();
        let (mut client, present) = broker.resume(version, "c");
        assert!(present);
        broker.client(version, "p").publish("t", "again");
        client.expect_message("t", "again");
        client.disconnect();
        let mut client = broker.client(version, "c");
        broker.client(version, "p").publish("t", "never");
        client.expect_nothing();
        assert_eq!(broker.count("subscriptions"), 0);
    });
}
