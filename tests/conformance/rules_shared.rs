//! Authorization of shared subscriptions: a message goes to a member that may have it, wherever there is one.

use ringmq::acl::Policy;
use ringmq::core::counters::DropReason;
use ringmq::sim::wire::Packet;

use crate::broker::*;
use crate::rules::{at_least_once, policy};
use crate::shared::STRATEGIES;

/// More than are picked in their turn before all are asked, on each of three shards.
const DENIED: usize = 80;

fn secret_from_a() -> Policy {
    policy(&["access = \"deny\"\naction = \"subscribe\"\ntopic = \"t/secret\"\nclient = \"a*\""])
}

fn for_each_strategy(test: impl Fn(&Broker)) {
    for shards in [1, 3] {
        for strategy in STRATEGIES {
            test(&Broker::with(shards, |_, mqtt| mqtt.shared_strategy = strategy));
        }
    }
}

/// Members whose filter is granted, and the topic not.
fn denied_members(broker: &Broker) -> Vec<Client> {
    let member = |number| {
        let mut client = broker.client(V5, &format!("a{number}"));
        client.subscribe("$share/g/t/+", AtLeastOnce);
        client
    };
    (0..DENIED).map(member).collect()
}

fn withheld(broker: &Broker) -> u64 {
    broker.dropped(DropReason::NotAuthorized)
}

#[test]
fn the_one_member_that_may_have_a_message_gets_it_whichever_shard_it_is_on() {
    for_each_strategy(|broker| {
        broker.set_policy(secret_from_a());
        let mut denied = denied_members(broker);
        for name in ["b0", "b1", "b2", "b3"] {
            let mut allowed = broker.client(V5, name);
            allowed.subscribe("$share/g/t/+", AtLeastOnce);
            let mut publisher = broker.client(V5, "p");
            for number in 0..6 {
                publisher.send(at_least_once(1, "t/secret", &number.to_string()));
                publisher.expect(puback(1));
                let publish = allowed.next_publish();
                assert_eq!(publish.payload, number.to_string().as_bytes());
                allowed.send(puback(publish.packet_id));
            }
            allowed.disconnect();
        }
        denied.iter_mut().for_each(Client::expect_nothing);
        assert_eq!(withheld(broker), 0, "each message was one delivery, and was made");
    });
}

#[test]
fn a_member_that_is_away_gets_what_no_connected_one_may_have() {
    for_each_strategy(|broker| {
        broker.set_policy(secret_from_a());
        let _denied = denied_members(broker);
        let (mut away, _) = broker.resume(V5, "b");
        away.subscribe("$share/g/t/+", AtLeastOnce);
        away.close();
        let mut publisher = broker.client(V5, "p");
        publisher.send(at_least_once(1, "t/secret", "x"));
        publisher.expect(puback(1));
        assert_eq!((broker.count("queued"), withheld(broker)), (1, 0));
        broker.resume(V5, "b").0.expect_message("t/secret", "x");
    });
}

#[test]
fn what_no_member_may_have_is_withheld_once_and_the_publisher_hears_of_nobody() {
    for_each_strategy(|broker| {
        broker.set_policy(secret_from_a());
        let mut denied = denied_members(broker);
        let mut publisher = broker.client(V5, "p");
        publisher.send(at_least_once(1, "t/secret", "x"));
        publisher.expect(puback_with(1, 0x10));
        assert_eq!(withheld(broker), 1);
        denied.iter_mut().for_each(Client::expect_nothing);
    });
}

#[test]
fn what_a_member_leaves_behind_goes_to_one_that_may_have_it() {
    for_each_strategy(|broker| {
        broker.set_policy(secret_from_a());
        let mut first = broker.client(V5, "b");
        first.subscribe("$share/g/t/+", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.send(at_least_once(1, "t/secret", "x"));
        publisher.expect(puback(1));
        assert!(matches!(first.next(), Packet::Publish(_)));
        let _denied = denied_members(broker);
        let mut second = broker.client(V5, "c");
        second.subscribe("$share/g/t/+", AtLeastOnce);
        first.close();
        second.expect_message("t/secret", "x");
        assert_eq!((broker.count("redispatched"), withheld(broker)), (1, 0));
    });
}
