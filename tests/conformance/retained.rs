//! Retained messages and what subscription options say about them (§3.3.1.3, §3.8.3.1, §3.8.4).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ringmq::sim::wire::{Connect, Packet, Publish};

use crate::broker::*;
use crate::subscribe::{identified, identifiers};

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..at(AtMostOnce) }
}

fn as_published(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { retain_as_published: true, ..at(qos) }
}

fn retained(topic: &str, payload: &str) -> Publish {
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
fn thousands_of_retained_messages_reach_a_slow_reader_while_live_traffic_flows() {
    const TOPICS: usize = 3000;
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..TOPICS {
            publisher.send(Packet::Publish(Publish {
                qos: AtLeastOnce,
                packet_id: 1,
                ..retained(&format!("r/{topic}"), "")
            }));
            publisher.next();
            publisher.retain(&format!("r/{topic}"), "kept");
        }
        let mut connect = Connect::new(version, "c");
        if version == V5 {
            connect.properties = Properties::new().two(id::RECEIVE_MAXIMUM, 7);
        }
        let (mut client, _) = broker.connect(connect);
        client.subscribe("live", AtLeastOnce);
        client.send(subscribe(5, &[("r/#", at(AtLeastOnce))]));
        let (mut kept, mut live, mut unacked) = (HashSet::new(), Vec::new(), Vec::new());
        let mut published = 0;
        while kept.len() < TOPICS || live.len() < published {
            if client.is_closed() {
                panic!("closed after {} of {TOPICS}", kept.len());
            }
            match client.next_or_none() {
                Some(Packet::Publish(publish)) => {
                    unacked.push(publish.packet_id);
                    assert!(version != V5 || unacked.len() <= 7, "more than the receive maximum");
                    if publish.retain {
                        assert_eq!(publish.payload, b"kept");
                        assert!(kept.insert(publish.topic), "twice");
                    } else {
                        live.push(String::from_utf8(publish.payload).expect("a number"));
                    }
                }
                Some(Packet::SubAck(codes)) => assert_eq!(codes.codes, [1]),
                Some(other) => panic!("{other:?}"),
                // Nothing more comes before the client acknowledges.
                None => {
                    unacked.drain(..).for_each(|packet_id| client.send(puback(packet_id)));
                    if published < 200 {
                        publisher.publish_acknowledged("live", &published.to_string());
                        published += 1;
                    }
                }
            }
        }
        assert_eq!(live, (0..published).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(published > 10);
        unacked.drain(..).for_each(|packet_id| client.send(puback(packet_id)));
        client.expect_nothing();
        assert_eq!((broker.count("inflight"), broker.count("queued")), (0, 0));
    });
}

#[test]
fn a_replay_never_ends_with_an_older_message_than_was_delivered_live() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..300 {
            publisher.retain(&format!("r/{topic}"), "0");
        }
        let mut client = broker.client(version, "c");
        client.send(subscribe(5, &[("r/#", at(AtMostOnce))]));
        for topic in (0..300).rev() {
            publisher.retain(&format!("r/{topic}"), "1");
        }
        let mut last = BTreeMap::new();
        while let Some(packet) = client.next_or_none() {
            if let Packet::Publish(publish) = packet {
                last.insert(publish.topic, publish.payload);
            }
        }
        assert_eq!(last.len(), 300);
        for (topic, payload) in last {
            assert_eq!(payload, b"1", "{topic}");
        }
    });
}

#[test]
fn the_newest_retained_message_is_the_last_one_for_whoever_subscribed_before_it() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for moment in 0..60 {
            let old = format!("{moment} old");
            (0..20).for_each(|topic| publisher.retain(&format!("r/{topic}"), &old));
            let mut client = broker.client(version, &format!("c{}", moment % 5));
            let new = format!("{moment} new");
            client.send(subscribe(1, &[("r/+", at(AtMostOnce))]));
            client.expect(suback(1, &[0]));
            broker.advance(Duration::from_micros(moment));
            (0..20).for_each(|topic| publisher.send(Packet::Publish(retained(&format!("r/{topic}"), &new))));
            let mut last = BTreeMap::new();
            while let Some(packet) = client.next_or_none() {
                if let Packet::Publish(publish) = packet {
                    last.insert(publish.topic, publish.payload);
                }
            }
            assert_eq!(last.len(), 20);
            for (topic, payload) in last {
                assert_eq!(payload, new.as_bytes(), "{topic}");
            }
        }
    });
}

#[test]
fn retained_messages_that_could_not_be_sent_yet_wait_with_the_session() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..300 {
            publisher.retain(&format!("r/{topic}"), "kept");
        }
        let mut got = HashSet::new();
        let (mut client, _) = broker.resume(version, "c");
        client.send(subscribe(1, &[("r/#", at(AtLeastOnce))]));
        client.expect(suback(1, &[1]));
        for _ in 0..3 {
            for _ in 0..50 {
                let publish = client.next_publish();
                assert!(publish.retain);
                client.send(puback(publish.packet_id));
                got.insert(publish.topic);
            }
            client.reset();
            (client, _) = broker.resume(version, "c");
        }
        while let Some(packet) = client.next_or_none() {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            client.send(puback(publish.packet_id));
            got.insert(publish.topic);
        }
        assert_eq!(got.len(), 300);
    });
}

#[test]
fn a_reader_that_stops_is_sent_what_fits_and_everything_later() {
    on_any_shards_with(
        |limits, _| limits.output_bytes_max = 16 * 1024,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            let payload = "x".repeat(1000);
            for topic in 0..500 {
                publisher.retain(&format!("r/{topic}"), &payload);
            }
            let mut client = broker.client(V5, "c");
            client.subscribe("live", AtMostOnce);
            client.stall(true);
            let sent = broker.count("publish_sent");
            client.send(subscribe(1, &[("r/#", at(AtMostOnce))]));
            broker.rest();
            assert!((10..40).contains(&(broker.count("publish_sent") - sent)), "unsent output is bounded");
            publisher.publish("live", "QoS 0 is not kept for it");
            broker.rest();
            client.stall(false);
            client.expect(suback(1, &[0]));
            let got: HashSet<_> = (0..500).map(|_| client.next_publish().topic).collect();
            assert_eq!(got.len(), 500);
            client.expect_nothing();
        },
    );
}

#[test]
fn what_a_slow_reader_misses_live_is_what_its_replay_sends() {
    on_any_shards_with(
        |limits, _| limits.output_bytes_max = 16 * 1024,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            let filler = "x".repeat(1000);
            for topic in 0..500 {
                publisher.retain(&format!("r/{topic}"), &filler);
            }
            let mut client = broker.client(V5, "c");
            client.subscribe("other", AtMostOnce);
            client.stall(true);
            client.send(subscribe(1, &[("r/#", at(AtMostOnce))]));
            broker.rest();
            // It takes nothing now: these QoS 0 messages are dropped for it, and retained.
            (0..400).for_each(|topic| publisher.retain(&format!("r/{topic}"), "new"));
            (400..500).for_each(|topic| publisher.retain(&format!("r/{topic}"), ""));
            client.stall(false);
            client.expect(suback(1, &[0]));
            let mut last = BTreeMap::new();
            let mut old = 0;
            while let Some(packet) = client.next_or_none() {
                let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                old += usize::from(publish.payload.len() == 1000);
                last.insert(publish.topic, publish.payload);
            }
            // What was on its way before stays old, as QoS 0 may; nothing else does.
            assert!(old < 40, "{old} old ones");
            for topic in 0..500 {
                match last.get(&format!("r/{topic}")).map(Vec::len) {
                    None => assert!(topic >= 400, "{topic} is missing"),
                    Some(3) => assert!(topic < 400, "{topic} was cleared"),
                    Some(length) => assert_eq!(length, 1000),
                }
            }
        },
    );
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
        |limits, _| limits.retained_bytes_max = 100,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            publisher.retain("a", &"x".repeat(60));
            let big = Publish { qos: AtLeastOnce, packet_id: 3, ..retained("b", &"x".repeat(60)) };
            publisher.send(Packet::Publish(big.clone()));
            publisher.expect(puback_with(3, 0x97));
            publisher.retain("a", "x");
            publisher.send(Packet::Publish(big));
            publisher.expect(puback_with(3, 0x10));
            assert!(broker.count("retained_bytes") <= 100);
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
