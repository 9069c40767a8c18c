//! UNSUBSCRIBE and UNSUBACK (§3.10, §3.11).

use ringmq::sim::wire::{Packet, Publish};

use crate::broker::*;
use crate::subscribe::{identified, identifiers};

#[test]
fn unsuback_has_the_packet_identifier_and_a_code_for_each_filter_in_order() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.send(subscribe(1, &[("a", at(AtMostOnce)), ("b/+", at(AtMostOnce)), ("$share/g/c", at(AtMostOnce))]));
        client.expect(suback(1, &[0, 0, 0]));
        client.send(unsubscribe(0xFFFF, &["b/+", "nothing", "a", "$share/g/c", "a", "$share/g/c"]));
        client.expect(unsuback(version, 0xFFFF, &[0, 0x11, 0, 0, 0x11, 0x11]));
        // Also when there was nothing at all to delete.
        client.send(unsubscribe(2, &["a"]));
        client.expect(unsuback(version, 2, &[0x11]));
        client.expect_nothing();
        assert_eq!(broker.count("subscriptions"), 0);
    });
}

#[test]
fn an_unsubscribe_without_a_filter_is_a_protocol_error() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        client.send_bytes(&[&[0xA2, 2 + properties.len() as u8, 0, 1], properties].concat());
        client.expect_dismissal(0x82);
    });
}

#[test]
fn reserved_bits_of_unsubscribe_must_be_what_they_are() {
    for_both(|broker, version| {
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        let body = [&[0, 1], properties, &[0, 1, b'f']].concat();
        for first in (0xA0..=0xAF).filter(|first| *first != 0xA2) {
            let mut client = broker.client(version, "c");
            client.send_bytes(&[&[first, body.len() as u8], &body[..]].concat());
            client.expect_dismissal(0x81);
        }
    });
}

#[test]
fn filters_are_compared_character_by_character() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("a/+", AtMostOnce);
        let near = ["a/b", "A/+", "a/+/", "/a/+", "a/#", "a", "#", "a/ ", "$share/g/a/+"];
        client.send(unsubscribe(1, &near));
        client.expect(unsuback(version, 1, &[0x11; 9]));
        broker.client(version, "p").publish("a/b", "x");
        client.expect_message("a/b", "x");
    });
}

#[test]
fn nothing_new_is_sent_after_unsuback_wherever_it_is_published() {
    for_both(|broker, version| {
        let mut publishers: Vec<_> = (0..6).map(|at| broker.client(version, &format!("p{at}"))).collect();
        let mut client = broker.client(version, "c");
        for filter in ["a/b", "a/+", "#", "$share/g/a/b", "$share/g/#"] {
            client.subscribe(filter, AtMostOnce);
            client.send(unsubscribe(1, &[filter]));
            client.expect(unsuback(version, 1, &[0]));
            publishers.iter_mut().for_each(|publisher| publisher.publish("a/b", "x"));
            client.expect_nothing();
        }
    });
}

#[test]
fn deliveries_that_were_begun_are_completed() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        let mut publisher = broker.client(version, "p");
        client.subscribe("t", ExactlyOnce);
        publisher.send(Packet::Publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "two") }));
        client.expect(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "two") }));
        publisher.send(Packet::Publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("t", "one") }));
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("t", "one") }));
        client.send(unsubscribe(1, &["t"]));
        client.expect(unsuback(version, 1, &[0]));
        client.send(pubrec(1));
        client.expect(pubrel(1));
        client.reset();
        // Also on the next connection.
        let (mut client, _) = broker.resume(version, "c");
        client.expect(pubrel(1));
        client.expect(publish(Publish { dup: true, qos: AtLeastOnce, packet_id: 2, ..message("t", "one") }));
        client.send(pubcomp(1));
        client.send(puback(2));
        client.expect_nothing();
        assert_eq!(broker.count("inflight"), 0);
    });
}

#[test]
fn other_subscriptions_that_match_stay() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        for (filter, identifier) in [("a/#", 1), ("a/b", 2)] {
            client.send(identified(filter, at(AtMostOnce), identifier));
            client.expect(suback(77, &[0]));
        }
        client.send(unsubscribe(1, &["a/b"]));
        client.expect(unsuback(V5, 1, &[0]));
        broker.client(V5, "p").publish("a/b", "x");
        assert_eq!(identifiers(&client.next_publish()), [1]);
        client.expect_nothing();
    });
}

#[test]
fn subscribers_of_the_same_filter_do_not_disturb_each_other() {
    for_both(|broker, version| {
        let mut clients: Vec<_> = (0..6).map(|at| broker.client(version, &format!("c{at}"))).collect();
        let mut publisher = broker.client(version, "p");
        for filter in ["a/b", "a/+"] {
            clients.iter_mut().for_each(|client| client.subscribe(filter, AtMostOnce));
            for gone in 0..clients.len() {
                clients[gone].send(unsubscribe(1, &[filter]));
                clients[gone].expect(unsuback(version, 1, &[0]));
                publisher.publish("a/b", "x");
                for (at, client) in clients.iter_mut().enumerate() {
                    if at > gone {
                        client.expect_message("a/b", "x");
                    }
                    client.expect_nothing();
                }
            }
        }
    });
}

#[test]
fn no_retained_message_follows_the_unsuback_of_its_subscription() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..300 {
            publisher.retain(&format!("r/{topic}"), "x");
        }
        for name in 0..6 {
            let mut client = broker.client(version, &format!("c{name}"));
            // Both at once, so that on several shards UNSUBSCRIBE is handled before SUBACK can be sent.
            let mut bytes = ringmq::sim::wire::encode(&subscribe(1, &[("r/#", at(AtLeastOnce))]), version);
            bytes.extend(ringmq::sim::wire::encode(&unsubscribe(2, &["r/#"]), version));
            client.send_bytes(&bytes);
            let mut acked = [false; 2];
            while acked != [true; 2] {
                match client.next() {
                    Packet::SubAck(_) => acked[0] = true,
                    Packet::UnsubAck(_) => acked[1] = true,
                    Packet::Publish(_) => assert!(!acked[1], "a retained message behind UNSUBACK"),
                    other => panic!("{other:?}"),
                }
            }
            client.expect_nothing();
        }
    });
}

#[test]
fn unsubscribing_from_one_filter_leaves_the_retained_messages_of_another_on_their_way() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V5, "p");
        for topic in 0..300 {
            publisher.retain(&format!("r/{topic}"), "x");
        }
        // The one that is being sent, or the one that waits behind it, and at various moments.
        for (gone, stays) in [("r/#", 2), ("r/+", 1)] {
            for moment in [0, 5, 10, 20, 30, 40, 50, 60, 70, 80] {
                let mut client = broker.client(V5, "c");
                client.send(identified("r/#", at(AtMostOnce), 1));
                client.send(identified("r/+", at(AtMostOnce), 2));
                broker.advance(std::time::Duration::from_micros(moment));
                client.send(unsubscribe(2, &[gone]));
                let mut got = std::collections::HashSet::new();
                while let Some(packet) = client.next_or_none() {
                    if let Packet::Publish(publish) = packet {
                        let identifiers = identifiers(&publish);
                        assert!(got.insert((identifiers, publish.topic)), "twice, {gone} gone after {moment} µs");
                    }
                }
                assert_eq!(got.iter().filter(|(identifiers, _)| identifiers == &[stays]).count(), 300);
            }
        }
    });
}

#[test]
fn what_was_asked_for_one_filter_is_not_sent_for_the_next() {
    let broker = Broker::new(3);
    let mut publisher = broker.client(V5, "p");
    for topic in 0..30 {
        publisher.retain(&format!("a/{topic}"), "x");
        publisher.retain(&format!("b/{topic}"), "x");
    }
    for name in 0..6 {
        let mut client = broker.client(V5, &format!("c{name}"));
        let not_yet = SubscriptionOptions { retain_handling: RetainHandling::DoNotSend, ..at(AtMostOnce) };
        client.send(subscribe(1, &[("a/#", not_yet), ("b/#", not_yet)]));
        client.expect(suback(1, &[0, 0]));
        // All in one piece: the answers to the first come when the second has been asked for.
        let packets =
            [subscribe(2, &[("a/#", at(AtMostOnce))]), unsubscribe(3, &["a/#"]), identified("b/#", at(AtMostOnce), 9)];
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| ringmq::sim::wire::encode(packet, V5)).collect();
        client.send_bytes(&bytes);
        let mut got = std::collections::BTreeSet::new();
        while let Some(packet) = client.next_or_none() {
            if let Packet::Publish(publish) = packet
                && identifiers(&publish) == [9]
            {
                assert!(publish.topic.starts_with("b/"), "{}", publish.topic);
                assert!(got.insert(publish.topic), "twice");
            }
        }
        assert_eq!(got.len(), 30);
    }
}

#[test]
fn a_subscription_made_after_unsubscribing_is_a_new_one() {
    on_any_shards(|broker| {
        broker.client(V5, "p").retain("r", "kept");
        let mut client = broker.client(V5, "c");
        let options = SubscriptionOptions { retain_handling: RetainHandling::SendIfNew, ..at(AtMostOnce) };
        for _ in 0..2 {
            client.subscribe_with("r", options);
            client.expect(publish(Publish { retain: true, ..message("r", "kept") }));
            client.subscribe_with("r", options);
            client.expect_nothing();
            client.send(unsubscribe(1, &["r"]));
            client.expect(unsuback(V5, 1, &[0]));
        }
    });
}

#[test]
fn acknowledgements_do_not_wait_behind_a_closed_window() {
    on_any_shards(|broker| {
        let mut connect = ringmq::sim::wire::Connect::new(V5, "c");
        connect.properties = Properties::new().two(id::RECEIVE_MAXIMUM, 1);
        let (mut client, _) = broker.connect(connect);
        client.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        for payload in ["1", "2", "3"] {
            publisher.publish_acknowledged("t", payload);
        }
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "1") }));
        client.expect_nothing();
        client.subscribe("other", AtMostOnce);
        client.send(unsubscribe(1, &["other"]));
        client.expect(unsuback(V5, 1, &[0]));
        client.ping();
        publisher.publish("t", "QoS 0 passes");
        client.expect(publish(message("t", "QoS 0 passes")));
        client.send(puback(1));
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("t", "2") }));
        client.expect_nothing();
    });
}
