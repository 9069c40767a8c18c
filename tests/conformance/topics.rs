//! Topic names and topic filters, and what matches what (§4.5, §4.7, §4.10).

use ringmq::sim::wire::{Packet, Publish};

use crate::broker::*;

/// What a subscription to each filter gets of each topic.
const MATCHES: [(&str, &[&str], &[&str]); 16] = [
    ("a/b", &["a/b"], &["a", "a/b/c", "a/", "a/B", "A/b", "/a/b", "a/b/", "a//b"]),
    ("#", &["a", "/", "//", "a/b/c/d/e/f", " "], &["$a", "$a/b", "$SYSX", "$"]),
    ("+", &["a", " ", "ä"], &["/", "a/b", "a/", "/a", "$a", "$"]),
    ("+/+", &["/", "a/b", "/a", "a/"], &["a", "a/b/c", "$a/b", "$a/"]),
    ("/+", &["/", "/a", "/$a"], &["a", "a/b", "//", "/a/b"]),
    ("/#", &["/", "/a", "//", "/a/b"], &["a", "a/b", "$/a"]),
    ("a/#", &["a", "a/", "a/b", "a/b/c"], &["ab", "b/a", "/a", "A/b"]),
    ("a/+/#", &["a/", "a/b", "a/b/c"], &["a", "b/a"]),
    ("+/a/#", &["/a", "b/a", "b/a/c"], &["a", "$b/a", "$b/a/c", "b/b"]),
    ("a/+/c", &["a/b/c", "a//c", "a/$b/c"], &["a/c", "a/b/d", "a/b/c/d", "a/b/b/c"]),
    ("+/+/+", &["//", "a/b/c", "a//"], &["/", "a/b", "$a/b/c"]),
    ("$a/#", &["$a", "$a/b"], &["a", "$ab", "a/b"]),
    ("$a/+", &["$a/b", "$a/"], &["$a", "a/b", "$b/b"]),
    ("//#", &["/", "//", "//a"], &["/a", "a//", "a/"]),
    ("$share", &["$share"], &["share"]),
    ("$shared/+", &["$shared/a"], &["a"]),
];

#[test]
fn filters_match_topics_as_the_specification_says() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for (filter, matching, others) in MATCHES {
            let mut plain = broker.client(version, "plain");
            plain.subscribe(filter, AtMostOnce);
            let mut shared = broker.client(version, "shared");
            shared.subscribe(&format!("$share/g/{filter}"), AtMostOnce);
            for topic in others.iter().chain(matching) {
                publisher.publish(topic, topic);
            }
            for client in [&mut plain, &mut shared] {
                for topic in matching {
                    client.expect(publish(message(topic, topic)));
                }
                client.expect_nothing();
            }
        }
    });
}

#[test]
fn a_subscription_matches_the_same_for_messages_that_come_again_and_again() {
    // A publisher's recent topics are remembered with who wanted them: that must not outlive a change.
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        let mut client = broker.client(version, "c");
        for _ in 0..3 {
            publisher.publish("a/b", "nobody");
            broker.rest();
            for filter in ["a/b", "a/+", "#"] {
                client.subscribe(filter, AtMostOnce);
                for payload in ["1", "2"] {
                    publisher.publish("a/b", payload);
                    client.expect_message("a/b", payload);
                }
                client.send(unsubscribe(1, &[filter]));
                client.expect(unsuback(version, 1, &[0]));
                publisher.publish("a/b", "nobody");
                client.expect_nothing();
            }
        }
    });
}

#[test]
fn every_session_with_a_matching_subscription_gets_a_message() {
    for_both(|broker, version| {
        let filters = ["a/b", "a/+", "#", "+/b", "a/#"];
        let mut online: Vec<_> = (0..10).map(|at| broker.client(version, &format!("on{at}"))).collect();
        for (at, client) in online.iter_mut().enumerate() {
            client.subscribe(filters[at % filters.len()], AtLeastOnce);
        }
        for at in 0..10 {
            let (mut client, _) = broker.resume(version, &format!("off{at}"));
            client.subscribe(filters[at % filters.len()], AtLeastOnce);
            client.disconnect();
        }
        broker.client(version, "p").publish_acknowledged("a/b", "to all");
        for client in &mut online {
            client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("a/b", "to all") }));
            client.expect_nothing();
        }
        for at in 0..10 {
            let (mut client, present) = broker.resume(version, &format!("off{at}"));
            assert!(present);
            client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("a/b", "to all") }));
            client.expect_nothing();
        }
    });
}

#[test]
fn names_are_taken_as_they_are() {
    // No case folding, no Unicode normalisation, no trimming, no substitution.
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        let names =
            ["é", "e\u{301}", "É", "Ⅸ", "IX", "\u{FEFF}a", "a", " a", "a ", "a\u{1}", "\u{10FFFF}", "%61", "a\\b"];
        for name in names {
            let mut client = broker.client(version, "c");
            client.subscribe(name, AtMostOnce);
            names.iter().for_each(|other| publisher.publish(other, other));
            client.expect(publish(message(name, name)));
            client.expect_nothing();
        }
    });
}

#[test]
fn wildcards_and_nothing_are_no_topic_names() {
    for_both(|broker, version| {
        for topic in ["a/+", "#", "a#", "+", "a+b/c"] {
            let mut client = broker.client(version, "c");
            client.send(Packet::Publish(message(topic, "x")));
            client.expect_ended();
        }
        let mut client = broker.client(version, "c");
        client.send(Packet::Publish(message("", "x")));
        client.expect_ended();
        let mut client = broker.client(version, "c");
        client.send(Packet::Publish(message("a\0b", "x")));
        client.expect_ended();
    });
}

#[test]
fn the_longest_topic_that_the_protocol_has_is_carried() {
    for version in BOTH {
        for shards in [1, 3] {
            let broker = Broker::with(shards, |limits, _| limits.topic_bytes_max = u16::MAX);
            let topic = "t".repeat(65_535);
            let mut client = broker.client(version, "c");
            client.subscribe(&topic, AtMostOnce);
            broker.client(version, "p").publish(&topic, "x");
            client.expect(publish(message(&topic, "x")));
        }
    }
}

#[test]
fn a_topic_of_as_many_levels_as_allowed_is_carried() {
    for_both(|broker, version| {
        let topic = "/".repeat(127);
        let mut client = broker.client(version, "c");
        for filter in [topic.clone(), format!("{}#", "+/".repeat(127)), "#".to_owned()] {
            client.subscribe(&filter, AtMostOnce);
        }
        broker.client(version, "p").publish(&topic, "x");
        client.expect(publish(message(&topic, "x")));
        client.expect_nothing();
    });
}

#[test]
fn a_request_and_its_response_find_each_other() {
    let change =
        |_: &mut _, mqtt: &mut ringmq::config::MqttOptions| mqtt.response_information = Some("answers/".into());
    on_any_shards_with(change, |broker| {
        let mut connect = ringmq::sim::wire::Connect::new(V5, "requester");
        connect.properties = Properties::new().byte(id::REQUEST_RESPONSE_INFORMATION, 1);
        let (mut requester, ack) = broker.connect(connect);
        let answers = format!("{}requester", ack.properties.string(id::RESPONSE_INFORMATION).expect("asked for"));
        let mut responder = broker.client(V5, "responder");
        requester.subscribe(&answers, AtLeastOnce);
        responder.subscribe("requests/#", AtLeastOnce);
        let about = Properties::new().text(id::RESPONSE_TOPIC, &answers).binary(id::CORRELATION_DATA, &[7, 0, 7]);
        requester.send(Packet::Publish(Publish { properties: about.clone(), ..message("requests/time", "?") }));
        let request = responder.next_publish();
        assert_eq!(request, Publish { properties: about, ..message("requests/time", "?") });
        let to = request.properties.string(id::RESPONSE_TOPIC).expect("sent").to_owned();
        let properties = Properties::new().binary(id::CORRELATION_DATA, &[7, 0, 7]);
        responder.send(Packet::Publish(Publish { properties: properties.clone(), ..message(&to, "now") }));
        requester.expect(publish(Publish { properties, ..message(&answers, "now") }));
    });
}
