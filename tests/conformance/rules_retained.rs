//! Authorization of retained messages: whoever published one must still be allowed to when it is replayed.

use std::collections::BTreeSet;

use ringmq::acl::Policy;
use ringmq::auth::{Principal, Verdict};
use ringmq::core::counters::DropReason;
use ringmq::sim::wire::{Connect, Packet};

use crate::broker::*;
use crate::rules::{at_least_once, deny, policy};

/// On several shards: each topic is kept on one.
const TOPICS: [&str; 6] = ["t/0", "t/1", "t/2", "t/3", "t/4", "t/5"];

fn dropped(broker: &Broker) -> u64 {
    broker.dropped(DropReason::PublisherNotAuthorized)
}

fn deny_publish(whom: &str) -> Policy {
    policy(&[&format!("access = \"deny\"\naction = \"publish\"\ntopic = \"t/#\"\n{whom}")])
}

fn received(client: &mut Client) -> BTreeSet<String> {
    std::iter::from_fn(|| client.next_or_none())
        .map(|packet| match packet {
            Packet::Publish(publish) => publish.topic,
            other => panic!("{other:?} instead of PUBLISH"),
        })
        .collect()
}

/// CVE class: a retained message that outlives its publisher's right (CVE-2018-12546).
#[test]
fn a_retained_message_is_not_replayed_when_its_publisher_lost_the_right_to_publish_it() {
    for_both(|broker, version| {
        broker.set_policy(policy(&[]));
        let mut publisher = broker.client(version, "p");
        TOPICS.iter().for_each(|topic| publisher.retain(topic, "x"));
        publisher.retain("u/0", "y");
        broker.set_policy(deny_publish("client = \"p\""));
        let mut client = broker.client(version, "c");
        client.subscribe("+/+", AtMostOnce);
        client.expect_message("u/0", "y");
        client.expect_nothing();
        assert_eq!((dropped(broker), broker.count("retained_messages")), (6, 7));
        // Nothing was destroyed: with the right the messages are back.
        broker.set_policy(policy(&[]));
        client.subscribe("t/+", AtMostOnce);
        assert_eq!(received(&mut client), TOPICS.map(str::to_owned).into());
    });
}

#[test]
fn who_replaces_a_retained_message_is_who_it_is_asked_about() {
    for_both(|broker, version| {
        broker.set_policy(policy(&[]));
        let mut publisher = broker.client(version, "p");
        TOPICS.iter().for_each(|topic| publisher.retain(topic, "of p"));
        broker.set_policy(deny_publish("client = \"p\""));
        let mut other = broker.client(version, "q");
        other.retain("t/2", "of q");
        other.retain("t/3", "");
        let mut client = broker.client(version, "c");
        client.subscribe("t/+", AtMostOnce);
        client.expect_message("t/2", "of q");
        client.expect_nothing();
        assert_eq!((dropped(broker), broker.count("retained_messages")), (4, 5));
    });
}

#[test]
fn a_retained_will_is_asked_about_the_client_that_left_it() {
    for_both(|broker, version| {
        broker.set_policy(policy(&[]));
        for (number, topic) in TOPICS.iter().enumerate() {
            let will = Will { topic: (*topic).into(), payload: b"gone".to_vec(), retain: true, ..Will::default() };
            let connect = Connect { will: Some(will), ..Connect::new(version, &format!("p{number}")) };
            broker.connect(connect).0.reset();
        }
        let mut before = broker.client(version, "c");
        before.subscribe("t/+", AtMostOnce);
        assert_eq!(received(&mut before).len(), TOPICS.len());
        broker.set_policy(deny_publish("client = \"p*\""));
        let mut after = broker.client(version, "d");
        after.subscribe("t/+", AtMostOnce);
        after.expect_nothing();
        assert_eq!(dropped(broker), 6);
    });
}

#[test]
fn a_source_is_asked_about_with_the_user_roles_and_claims_it_had() {
    for shards in [1, 3] {
        for whom in ["user = \"anna\"", "role = \"writer\""] {
            let broker = Broker::asking(shards);
            broker.set_policy(policy(&[]));
            let mut publisher = broker.dial(V5);
            publisher.send(Packet::Connect(Connect::new(V5, "p")));
            let claims = [("team".into(), "0".into())].into();
            let principal =
                Principal { user: Some("anna".into()), roles: vec!["writer".into()], claims, ..Principal::default() };
            let asked = broker.question();
            broker.answer(&asked, Verdict::Allow { principal: Box::new(principal), data: Vec::new() });
            publisher.next_connack();
            TOPICS.iter().for_each(|topic| publisher.retain(topic, "x"));
            // It is gone, and its session with it.
            publisher.disconnect();
            let allow = format!("access = \"allow\"\naction = \"publish\"\ntopic = \"t/${{jwt.team}}\"\n{whom}");
            broker.set_policy(policy(&[&allow, "access = \"deny\"\naction = \"publish\"\ntopic = \"t/#\""]));
            let (mut client, _) = broker.let_in(Connect::new(V5, "c"), "bert");
            client.subscribe("t/+", AtMostOnce);
            client.expect_message("t/0", "x");
            client.expect_nothing();
            assert_eq!(dropped(&broker), 5);
        }
    }
}

#[test]
fn a_replay_that_has_begun_goes_by_the_rules_of_each_moment() {
    for shards in [1, 3] {
        // One message in flight: the next is taken out of the batch when that was acknowledged.
        let broker = Broker::with(shards, |limits, _| limits.inflight_max = 1);
        broker.set_policy(policy(&[]));
        let mut publisher = broker.client(V5, "p");
        TOPICS.iter().for_each(|topic| publisher.retain(topic, "x"));
        let mut client = broker.client(V5, "c");
        client.subscribe("t/+", AtLeastOnce);
        let first = client.next_publish();
        broker.set_policy(deny_publish("client = \"p\""));
        client.send(puback(first.packet_id));
        client.expect_nothing();
        assert_eq!(dropped(&broker), 5);
    }
}

#[test]
fn what_was_retained_before_there_were_rules_is_replayed() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.retain("t/0", "x");
        broker.set_policy(deny("publish", "t/#"));
        let mut client = broker.client(version, "c");
        client.subscribe("t/+", AtMostOnce);
        client.expect_message("t/0", "x");
        assert_eq!(dropped(broker), 0);
    });
}

#[test]
fn a_source_counts_among_the_bytes_of_retained_messages() {
    on_any_shards(|broker| {
        let bytes = |client_id: &str| {
            let before = broker.count("retained_bytes");
            broker.client(V5, client_id).retain("t/0", "x");
            let with = broker.count("retained_bytes") - before;
            broker.client(V5, client_id).retain("t/0", "");
            assert_eq!(broker.count("retained_bytes"), before);
            with
        };
        let plain = bytes("a-publisher");
        broker.set_policy(policy(&[]));
        assert_eq!(bytes("a-publisher"), plain + 11);
        let mut client = broker.client(V5, "c");
        client.send(at_least_once(1, "t/0", "x"));
        client.next();
        assert_eq!(broker.count("retained_messages"), 0);
    });
}
