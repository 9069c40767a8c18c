//! Retained messages and what subscription options say about them (§3.3.1.3, §3.8.3.1, §3.8.4).

use std::time::Duration;

use ringmq::sim::wire::{Packet, Publish};

use crate::broker::*;
use crate::subscribe::{identified, identifiers};

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..at(AtMostOnce) }
}

fn as_published(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { retain_as_published: true, ..at(qos) }
}

pub fn retained(topic: &str, payload: &str) -> Publish {
    Publish { retain: true, ..message(topic, payload) }
}

#[test]
fn the_last_retained_message_is_sent_to_a_new_subscription_with_retain_set() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.retain("t", "old");
        publisher.retain("t", "new");
        publisher.retain("other", "x");
        for filter in ["t", "t/#", "+"] {
            let mut client = broker.client(version, "c");
            client.subscribe(filter, AtMostOnce);
            let mut got = vec![client.next_publish()];
            if filter == "+" {
                got.push(client.next_publish());
                got.sort_by(|a, b| b.topic.cmp(&a.topic));
                assert_eq!(got[1], retained("other", "x"));
            }
            assert_eq!(got[0], retained("t", "new"));
            client.expect_nothing();
        }
    });
}

#[test]
fn a_retained_message_keeps_its_qos() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let packet_id = if qos == AtMostOnce { 0 } else { 9 };
            publisher.send(Packet::Publish(Publish { qos, packet_id, ..retained("t", "x") }));
            broker.rest();
            for granted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                let mut client = broker.client(version, "c");
                client.subscribe("t", granted);
                let qos = qos.min(granted);
                let packet_id = u16::from(qos != AtMostOnce);
                client.expect(publish(Publish { qos, packet_id, ..retained("t", "x") }));
            }
            publisher.send(pubrel(9));
        }
    });
}

#[test]
fn a_message_that_is_not_retained_neither_replaces_nor_removes_the_retained_one() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "never kept");
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtMostOnce);
        client.expect_nothing();
        publisher.retain("t", "kept");
        publisher.publish_acknowledged("t", "passing");
        publisher.publish_acknowledged("t", "");
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtMostOnce);
        client.expect(publish(retained("t", "kept")));
        client.expect_nothing();
    });
}

#[test]
fn an_empty_payload_clears_and_is_delivered_like_any_other() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        let mut watcher = broker.client(version, "w");
        publisher.retain("t", "kept");
        watcher.subscribe("t", AtMostOnce);
        watcher.expect(publish(retained("t", "kept")));
        publisher.retain("t", "");
        watcher.expect(publish(message("t", "")));
        // Once more: there is nothing to clear, and nothing is kept of the empty message itself.
        publisher.retain("t", "");
        watcher.expect(publish(message("t", "")));
        assert_eq!((broker.count("retained_messages"), broker.count("retained_bytes")), (0, 0));
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtMostOnce);
        client.expect_nothing();
    });
}

#[test]
fn a_retained_message_of_qos_0_takes_the_place_of_an_earlier_one() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.retain("t", "one");
        publisher.send(Packet::Publish(retained("t", "zero")));
        broker.rest();
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtLeastOnce);
        client.expect(publish(retained("t", "zero")));
        assert_eq!(broker.count("retained_messages"), 1);
    });
}

#[test]
fn retain_is_cleared_for_established_subscriptions_unless_asked_to_be_kept() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V5, "p");
        let mut plain = broker.client(V5, "plain");
        let mut old = broker.client(V311, "old");
        let mut keeps = broker.client(V5, "keeps");
        plain.subscribe("t/#", AtMostOnce);
        old.subscribe("t/#", AtMostOnce);
        keeps.subscribe_with("t/#", as_published(AtMostOnce));
        for retain in [true, false] {
            publisher.send(Packet::Publish(Publish { retain, ..message("t/a", "x") }));
            plain.expect(publish(message("t/a", "x")));
            old.expect(publish(message("t/a", "x")));
            keeps.expect(publish(Publish { retain, ..message("t/a", "x") }));
        }
        // An empty payload that clears is no exception.
        publisher.send(Packet::Publish(retained("t/a", "")));
        plain.expect(publish(message("t/a", "")));
        keeps.expect(publish(retained("t/a", "")));
    });
}

#[test]
fn retain_as_published_holds_for_messages_that_waited() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.resume(V5, "c");
        client.subscribe_with("keeps", as_published(AtLeastOnce));
        client.subscribe_with("clears", at(AtLeastOnce));
        client.disconnect();
        let mut publisher = broker.client(V5, "p");
        publisher.retain("keeps", "x");
        publisher.retain("clears", "y");
        let (mut client, _) = broker.resume(V5, "c");
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..retained("keeps", "x") }));
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 2, ..message("clears", "y") }));
        // A session that goes on is not a new subscription.
        client.expect_nothing();
    });
}

#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    use RetainHandling::{DoNotSend, Send, SendIfNew};
    on_any_shards(|broker| {
        broker.client(V5, "p").retain("t", "x");
        let mut client = broker.client(V5, "c");
        for (handling_asked, sent) in
            [(DoNotSend, false), (SendIfNew, false), (Send, true), (Send, true), (SendIfNew, false), (DoNotSend, false)]
        {
            client.subscribe_with("t", handling(handling_asked));
            if sent {
                client.expect(publish(retained("t", "x")));
            }
            client.expect_nothing();
        }
        // New is what no subscription of the session has the same filter as, whatever it matches.
        client.subscribe_with("+", handling(SendIfNew));
        client.expect(publish(retained("t", "x")));
        client.expect_nothing();
    });
}

#[test]
fn the_same_filter_in_3_1_1_has_retained_messages_sent_again() {
    on_any_shards(|broker| {
        broker.client(V311, "p").retain("t", "x");
        let mut client = broker.client(V311, "c");
        for qos in [AtMostOnce, AtMostOnce] {
            client.subscribe("t", qos);
            client.expect(publish(retained("t", "x")));
            client.expect_nothing();
        }
    });
}

#[test]
fn a_retained_message_is_sent_for_each_of_several_overlapping_filters() {
    for_both(|broker, version| {
        broker.client(version, "p").retain("a/b", "x");
        let mut client = broker.client(version, "c");
        client.send(subscribe(1, &[("a/b", at(AtMostOnce)), ("a/+", at(AtMostOnce)), ("b/#", at(AtMostOnce))]));
        client.expect(suback(1, &[0, 0, 0]));
        client.expect(publish(retained("a/b", "x")));
        client.expect(publish(retained("a/b", "x")));
        client.expect_nothing();
    });
}

#[test]
fn retained_messages_carry_the_identifier_of_their_subscription() {
    on_any_shards(|broker| {
        broker.client(V5, "p").retain("t", "x");
        let mut client = broker.client(V5, "c");
        for (filter, identifier) in [("t", 7), ("+", 8)] {
            client.send(identified(filter, at(AtMostOnce), identifier));
            client.expect(suback(77, &[0]));
            let got = client.next_publish();
            assert_eq!((identifiers(&got), got.retain), (vec![identifier], true));
        }
    });
}

#[test]
fn retained_messages_outlive_the_session_of_their_publisher() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.retain("t", "x");
        publisher.disconnect();
        assert_eq!(broker.count("sessions"), 0);
        broker.seconds(1_000_000);
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtMostOnce);
        client.expect(publish(retained("t", "x")));
    });
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    for_both(|broker, version| {
        broker.client(version, "p").retain("t", "x");
        let mut client = broker.client(version, "c");
        client.subscribe("$share/g/t", AtMostOnce);
        client.subscribe("$share/g/#", AtMostOnce);
        client.expect_nothing();
    });
}

#[test]
fn a_wildcard_finds_every_retained_message_it_matches_and_no_other() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        let topics = ["a", "/", "/a", "a/", "a/b", "a/b/c", "a//c", "b", "$x", "$x/a", "a/$x"];
        topics.iter().for_each(|topic| publisher.retain(topic, "x"));
        for (filter, expected) in [
            ("#", &["a", "/", "/a", "a/", "a/b", "a/b/c", "a//c", "b", "a/$x"][..]),
            ("+", &["a", "b"]),
            ("a/#", &["a", "a/", "a/b", "a/b/c", "a//c", "a/$x"]),
            ("a/+", &["a/", "a/b", "a/$x"]),
            ("a/+/c", &["a/b/c", "a//c"]),
            ("/+", &["/", "/a"]),
            ("+/+", &["/", "/a", "a/", "a/b", "a/$x"]),
            ("$x/#", &["$x", "$x/a"]),
            ("+/a", &["/a"]),
            ("nothing/#", &[]),
        ] {
            let mut client = broker.client(version, "c");
            client.subscribe(filter, AtMostOnce);
            let mut got: Vec<_> = expected.iter().map(|_| client.next_publish().topic).collect();
            client.expect_nothing();
            let mut expected = expected.to_vec();
            got.sort();
            expected.sort_unstable();
            assert_eq!(got, expected, "{filter}");
        }
    });
}

#[test]
fn a_retained_message_is_sent_with_its_properties_and_what_is_left_of_its_expiry() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V5, "p");
        let properties = |expiry| {
            Properties::new()
                .byte(id::PAYLOAD_FORMAT_INDICATOR, 1)
                .four(id::MESSAGE_EXPIRY_INTERVAL, expiry)
                .text(id::CONTENT_TYPE, "text/plain")
                .text(id::RESPONSE_TOPIC, "answers")
                .binary(id::CORRELATION_DATA, &[0, 255])
                .user("b", "1")
                .user("a", "2")
                .user("b", "3")
        };
        publisher.send(Packet::Publish(Publish { properties: properties(100), ..retained("t", "x") }));
        broker.rest();
        broker.advance(Duration::from_millis(9_500));
        let mut client = broker.client(V5, "c");
        client.subscribe("t", AtMostOnce);
        client.expect(publish(Publish { properties: properties(91), ..retained("t", "x") }));
        broker.seconds(91);
        client.subscribe("t", AtMostOnce);
        client.expect_nothing();
        assert_eq!((broker.count("retained_messages"), broker.count("retained_expired")), (0, 1));
    });
}

#[test]
fn one_message_more_than_the_retained_limit_is_refused() {
    on_any_shards_with(
        |limits, _| limits.retained_messages_max = 2,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            publisher.retain("a", "1");
            publisher.retain("b", "1");
            let third = |qos| Publish { qos, packet_id: 3, ..retained("c", "1") };
            publisher.send(Packet::Publish(third(AtLeastOnce)));
            publisher.expect(puback_with(3, 0x97));
            publisher.send(Packet::Publish(third(ExactlyOnce)));
            match publisher.next() {
                Packet::PubRec(ack) => assert_eq!((ack.packet_id, ack.reason), (3, 0x97)),
                other => panic!("{other:?}"),
            }
            // 3.1.1 has no words for it.
            let mut old = broker.client(V311, "old");
            old.send(Packet::Publish(third(AtLeastOnce)));
            old.expect(puback(3));
            assert_eq!(broker.count("retained_refused"), 3);
            // Replacing needs no room, clearing makes some.
            publisher.retain("b", "2");
            publisher.retain("a", "");
            publisher.retain("c", "2");
            let mut client = broker.client(V5, "c");
            client.subscribe("#", AtMostOnce);
            let mut got = [client.next_publish(), client.next_publish()];
            got.sort_by(|a, b| a.topic.cmp(&b.topic));
            assert_eq!(got, [retained("b", "2"), retained("c", "2")]);
            client.expect_nothing();
        },
    );
}

#[test]
fn retained_bytes_are_limited_too() {
    on_any_shards_with(
        // Each of the two counts 128 bytes besides its own.
        |limits, _| limits.retained_bytes_max = 100 + 2 * 128,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            publisher.retain("a", &"x".repeat(60));
            let big = Publish { qos: AtLeastOnce, packet_id: 3, ..retained("b", &"x".repeat(60)) };
            publisher.send(Packet::Publish(big.clone()));
            publisher.expect(puback_with(3, 0x97));
            publisher.retain("a", "x");
            publisher.send(Packet::Publish(big));
            publisher.expect(puback_with(3, 0x10));
            assert!(broker.count("retained_bytes") <= 100 + 2 * 128);
        },
    );
}

#[test]
fn where_retained_messages_are_not_available_none_is_sent_or_kept() {
    on_any_shards_with(
        |_, mqtt| mqtt.retain_available = false,
        |broker| {
            let mut client = broker.client(V5, "c");
            client.send(Packet::Publish(retained("t", "x")));
            client.expect_dismissal(0x9A);
            let mut old = broker.client(V311, "o");
            old.send(Packet::Publish(retained("t", "x")));
            old.expect_closed();
            assert_eq!(broker.count("retained_messages"), 0);
        },
    );
}
