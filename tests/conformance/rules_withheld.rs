//! Authorization of subscriptions while rules change: at each moment a client has, of what SUBACK granted it, what the
//! rules of that moment grant. No version of MQTT has a packet that would tell it.

use ringmq::sim::wire::Packet;

use crate::auth::auth;
use crate::broker::*;
use crate::rules::{as_role, at_least_once, deny, policy, reader};

#[test]
fn a_subscription_of_a_connected_client_comes_back_with_the_right_to_it() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("t/+", AtLeastOnce);
        let mut publisher = broker.client(version, "p");
        for round in ["1", "2"] {
            broker.set_policy(deny("subscribe", "t/#"));
            publisher.publish_acknowledged("t/a", "denied");
            broker.set_policy(policy(&[]));
            publisher.publish_acknowledged("t/a", round);
            client.expect_message("t/a", round);
        }
        client.expect_nothing();
        assert_eq!((broker.count("subscriptions_revoked"), broker.count("subscriptions_restored")), (2, 2));
    });
}

#[test]
fn retained_messages_are_not_replayed_to_a_subscription_that_comes_back() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtLeastOnce);
        broker.set_policy(deny("subscribe", "t"));
        broker.client(version, "p").retain("t", "x");
        broker.set_policy(policy(&[]));
        client.expect_nothing();
    });
}

#[test]
fn a_subscription_is_served_at_the_qos_of_the_rules_and_never_above_that_of_its_suback() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(version, "p");
        let at_most = |qos: u8| {
            let rule = format!("access = \"allow\"\naction = \"subscribe\"\ntopic = \"t\"\nqos_max = {qos}");
            policy(&[&rule, "access = \"deny\"\naction = \"subscribe\"\ntopic = \"t\""])
        };
        for (rules, qos) in [
            (at_most(0), Some(AtMostOnce)),
            (at_most(2), Some(AtLeastOnce)),
            (at_most(0), Some(AtMostOnce)),
            (deny("subscribe", "t"), None),
            (at_most(0), Some(AtMostOnce)),
            (policy(&[]), Some(AtLeastOnce)),
        ] {
            broker.set_policy(rules);
            publisher.send(Packet::Publish(ringmq::sim::wire::Publish {
                qos: ExactlyOnce,
                packet_id: 1,
                ..message("t", "x")
            }));
            publisher.next();
            publisher.send(pubrel(1));
            publisher.next();
            let got = client.next_or_none().map(|packet| match packet {
                Packet::Publish(publish) => {
                    if publish.qos == AtLeastOnce {
                        client.send(puback(publish.packet_id));
                    }
                    publish.qos
                }
                other => panic!("{other:?} instead of PUBLISH"),
            });
            assert_eq!(got, qos);
        }
    });
}

#[test]
fn what_the_client_is_told_about_a_mute_subscription_counts() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        ["a", "b", "c"].iter().for_each(|filter| client.subscribe(filter, AtLeastOnce));
        broker.set_policy(policy(&["access = \"deny\"\naction = \"subscribe\"\ntopic = \"#\""]));
        client.send(unsubscribe(1, &["a", "x"]));
        client.expect(unsuback(version, 1, &[0, 0x11]));
        client.send(subscribe(2, &[("b", at(AtLeastOnce))]));
        client.expect(suback(2, &[if version == V5 { 0x87 } else { 0x80 }]));
        broker.set_policy(policy(&[]));
        assert_eq!((broker.count("subscriptions"), broker.count("subscriptions_restored")), (1, 1));
        let mut publisher = broker.client(version, "p");
        ["a", "b", "c"].iter().for_each(|topic| publisher.publish_acknowledged(topic, "x"));
        client.expect_message("c", "x");
        client.expect_nothing();
    });
}

#[test]
fn a_mute_subscription_takes_room_among_those_a_client_may_have() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |limits, _| limits.subscriptions_per_client_max = 2);
        let mut client = broker.client(V5, "c");
        client.subscribe("a", AtMostOnce);
        client.subscribe("$share/g/b", AtMostOnce);
        broker.set_policy(deny("subscribe", "b"));
        client.send(subscribe(1, &[("d", at(AtMostOnce)), ("a", at(AtMostOnce))]));
        client.expect(suback(1, &[0x97, 0]));
        client.send(unsubscribe(2, &["$share/g/b"]));
        client.expect(unsuback(V5, 2, &[0]));
        client.subscribe("d", AtMostOnce);
        broker.set_policy(policy(&[]));
        assert_eq!(broker.count("subscriptions"), 2);
    }
}

#[test]
fn a_shared_subscription_comes_back_also_to_a_client_that_is_away() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("$share/g/t", AtLeastOnce);
        client.close();
        broker.set_policy(deny("subscribe", "t"));
        assert_eq!(broker.count("shared_subscriptions"), 0);
        broker.set_policy(policy(&[]));
        assert_eq!(broker.count("shared_subscriptions"), 1);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "x");
        let (mut client, present) = broker.resume(version, "c");
        assert!(present);
        client.expect_message("t", "x");
    });
}

#[test]
fn a_clean_start_leaves_nothing_that_could_come_back() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t", AtLeastOnce);
        broker.set_policy(deny("subscribe", "t"));
        client.close();
        let mut client = broker.client(version, "c");
        broker.set_policy(policy(&[]));
        broker.client(version, "p").publish_acknowledged("t", "x");
        client.expect_nothing();
        assert_eq!(broker.count("subscriptions"), 0);
    });
}

#[test]
fn a_client_that_authenticates_again_with_a_role_it_had_gets_what_the_role_grants() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = reader(&broker);
        client.subscribe("t", AtLeastOnce);
        for (role, gets) in [("writer", false), ("reader", true)] {
            client.send(auth(0x19, "SCRAM-SHA-256", b"again"));
            let asked = broker.question();
            broker.answer(&asked, as_role(role));
            assert!(matches!(client.next(), Packet::Auth(_)));
            client.send(at_least_once(1, "t", role));
            let mut behind = Vec::new();
            while let Some(packet) = client.next_or_none() {
                behind.push(packet);
            }
            let messages = behind.iter().filter(|packet| matches!(packet, Packet::Publish(_))).count();
            assert_eq!(messages, usize::from(gets), "{behind:?}");
        }
    }
}
