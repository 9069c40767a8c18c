//! The RETAIN flag (§3.3.1.3).

use ringmq::sim::wire::{Packet, Publish};

use crate::broker::*;

fn retained(topic: &str, payload: &str) -> Packet {
    publish(Publish { retain: true, ..message(topic, payload) })
}

/// What a new subscriber is sent.
#[track_caller]
fn expect_kept(broker: &Broker, version: ProtocolVersion, topic: &str, expected: &[&str]) {
    let mut client = broker.client(version, "new subscriber");
    client.subscribe(topic, ExactlyOnce);
    for payload in expected {
        client.expect(retained(topic, payload));
    }
    client.expect_nothing();
    client.disconnect();
}

#[test]
fn the_last_retained_message_of_a_topic_is_kept_with_its_qos() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.send(retained("t", "old"));
        publisher.send(retained("t", "zero"));
        expect_kept(broker, version, "t", &["zero"]);
        for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2)] {
            publisher.send(publish(Publish { retain: true, qos, packet_id, ..message("t", "x") }));
            publisher.next();
            let mut subscriber = broker.client(version, "s");
            subscriber.subscribe("t", ExactlyOnce);
            subscriber.expect(publish(Publish { retain: true, qos, packet_id: 1, ..message("t", "x") }));
        }
    });
}

#[test]
fn a_message_that_is_not_retained_leaves_the_retained_one_alone() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.publish("t", "passing");
        expect_kept(broker, version, "t", &[]);
        publisher.send(retained("t", "kept"));
        publisher.publish("t", "passing");
        publisher.publish("t", "");
        expect_kept(broker, version, "t", &["kept"]);
    });
}

#[test]
fn an_empty_retained_message_is_delivered_clears_and_is_not_kept() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", AtMostOnce);
        publisher.send(retained("t", "x"));
        publisher.send(retained("t", ""));
        subscriber.expect(publish(message("t", "x")));
        subscriber.expect(publish(message("t", "")));
        expect_kept(broker, version, "t", &[]);
        assert_eq!(broker.count("retained_messages"), 0);
    });
}

#[test]
fn retain_is_cleared_for_an_established_subscription_unless_it_asks_otherwise() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", AtMostOnce);
        publisher.send(retained("t", "x"));
        subscriber.expect(publish(message("t", "x")));
        if version == V5 {
            let mut keeps = broker.client(V5, "keeps");
            let options = SubscriptionOptions { retain_as_published: true, ..at(AtMostOnce) };
            keeps.subscribe_with("t", options);
            keeps.expect(retained("t", "x"));
            publisher.send(retained("t", "y"));
            publisher.publish("t", "z");
            keeps.expect(retained("t", "y"));
            keeps.expect(publish(message("t", "z")));
        }
    });
}

#[test]
fn retain_handling_says_when_retained_messages_are_sent() {
    on_any_shards(|broker| {
        broker.client(V5, "p").retain("t", "x");
        use RetainHandling::{DoNotSend, Send, SendIfNew};
        for (handling, first, second) in [(Send, true, true), (SendIfNew, true, false), (DoNotSend, false, false)] {
            let mut client = broker.client(V5, "c");
            for expected in [first, second] {
                let options = SubscriptionOptions { retain_handling: handling, ..at(AtMostOnce) };
                client.subscribe_with("t", options);
                if expected {
                    client.expect(retained("t", "x"));
                }
                client.expect_nothing();
            }
        }
    });
}

#[test]
fn retained_messages_outlive_every_session() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.send(retained("t", "x"));
        publisher.disconnect();
        assert_eq!(broker.count("sessions"), 0);
        expect_kept(broker, version, "t", &["x"]);
    });
}
