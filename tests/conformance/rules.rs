//! Authorization: what clients may publish, subscribe to and receive, and what becomes of it when rules change. The
//! specification leaves the rules to the server; it says how a refusal is told (§3.4.2.1, §3.5.2.1, §3.9.3).

use ringmq::acl::{Access, Format, Policy};
use ringmq::auth::{Principal, Verdict};
use ringmq::core::counters::DropReason;
use ringmq::sim::wire::{Connect, Packet, Publish};

use crate::auth::{auth, with_method};
use crate::broker::*;

/// Rules in TOML; what they do not speak of is allowed.
pub fn policy(rules: &[&str]) -> Policy {
    let rules: String = rules.iter().map(|rule| format!("[[rules]]\n{rule}\n")).collect();
    let text = format!("default = \"allow\"\n{rules}");
    Policy::from_text("rules.toml", &text, Format::Toml, Access::Deny, &[]).expect("rules")
}

pub fn deny(action: &str, topic: &str) -> Policy {
    policy(&[&format!("access = \"deny\"\naction = \"{action}\"\ntopic = \"{topic}\"")])
}

fn withheld(broker: &Broker) -> u64 {
    broker.dropped(DropReason::NotAuthorized)
}

fn will(topic: &str) -> Connect {
    let will = Will { topic: topic.into(), payload: b"gone".to_vec(), ..Will::default() };
    Connect { will: Some(will), ..Connect::new(V5, "c") }
}

pub fn at_least_once(packet_id: u16, topic: &str, payload: &str) -> Packet {
    Packet::Publish(Publish { qos: AtLeastOnce, packet_id, ..message(topic, payload) })
}

fn exactly_once(packet_id: u16, topic: &str, payload: &str) -> Packet {
    Packet::Publish(Publish { qos: ExactlyOnce, packet_id, ..message(topic, payload) })
}

#[test]
fn a_publication_that_is_not_allowed_reaches_nobody_and_5_0_clients_are_told() {
    for_both(|broker, version| {
        broker.set_policy(deny("publish", "t/denied"));
        let mut subscriber = broker.client(V5, "s");
        subscriber.subscribe("t/+", ExactlyOnce);
        let mut client = broker.client(version, "c");
        let reason = if version == V5 { 0x87 } else { 0 };
        client.publish("t/denied", "x");
        client.send(at_least_once(1, "t/denied", "x"));
        assert_eq!(acknowledgement(&client.next()), (1, reason));
        client.send(exactly_once(2, "t/denied", "x"));
        assert_eq!(acknowledgement(&client.next()), (2, reason));
        if version == V311 {
            client.send(pubrel(2));
            client.expect(pubcomp(2));
        }
        assert_eq!((broker.count("publish_denied"), broker.count("publish_refused")), (3, 3));
        client.publish("t/allowed", "y");
        subscriber.expect_message("t/allowed", "y");
        subscriber.expect_nothing();
    });
}

#[track_caller]
fn acknowledgement(packet: &Packet) -> (u16, u8) {
    match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) => (ack.packet_id, ack.reason),
        other => panic!("{other:?} instead of PUBACK or PUBREC"),
    }
}

#[test]
fn a_topic_is_held_against_the_rules_by_its_name_when_an_alias_stands_for_it() {
    on_any_shards(|broker| {
        broker.set_policy(deny("publish", "t/denied"));
        let mut subscriber = broker.client(V5, "s");
        subscriber.subscribe("t/+", AtMostOnce);
        let mut client = broker.client(V5, "c");
        for topic in ["t/denied", ""] {
            let properties = Properties::new().two(id::TOPIC_ALIAS, 1);
            client.send(Packet::Publish(Publish { properties, ..message(topic, "x") }));
        }
        client.ping();
        assert_eq!(broker.count("publish_denied"), 2);
        subscriber.expect_nothing();
    });
}

#[test]
fn each_filter_of_a_subscribe_is_granted_or_refused_by_itself() {
    for_both(|broker, version| {
        let rules = deny("subscribe", "t/denied");
        broker.set_policy(rules);
        let mut client = broker.client(version, "c");
        client.send(subscribe(1, &[("a", at(AtLeastOnce)), ("t/denied", at(AtMostOnce)), ("t/b", at(ExactlyOnce))]));
        client.expect(suback(1, &[1, if version == V5 { 0x87 } else { 0x80 }, 2]));
        assert_eq!((broker.count("subscriptions"), broker.count("subscribe_denied")), (2, 1));
    });
}

#[test]
fn a_shared_subscription_is_held_against_the_rules_by_its_filter() {
    on_any_shards(|broker| {
        broker.set_policy(deny("subscribe", "denied/#"));
        let mut client = broker.client(V5, "c");
        client.send(subscribe(1, &[("$share/g/denied", at(AtMostOnce)), ("$share/g/denied/a", at(AtMostOnce))]));
        client.expect(suback(1, &[0x87, 0x87]));
        client.send(subscribe(2, &[("$share/denied/a", at(AtMostOnce))]));
        client.expect(suback(2, &[0]));
    });
}

#[test]
fn a_subscription_is_granted_at_most_at_the_qos_of_its_rule() {
    for_both(|broker, version| {
        broker.set_policy(policy(&["access = \"allow\"\naction = \"subscribe\"\ntopic = \"t/#\"\nqos_max = 1"]));
        let mut client = broker.client(version, "c");
        client.send(subscribe(1, &[("t/a", at(ExactlyOnce)), ("u", at(ExactlyOnce))]));
        client.expect(suback(1, &[1, 2]));
        let mut publisher = broker.client(version, "p");
        publisher.send(exactly_once(7, "t/a", "x"));
        assert_eq!(client.next_publish().qos, AtLeastOnce);
    });
}

#[test]
fn a_wildcard_does_not_reach_what_is_denied() {
    for_both(|broker, version| {
        broker.set_policy(deny("subscribe", "t/secret"));
        let mut client = broker.client(version, "c");
        client.subscribe("t/#", AtLeastOnce);
        client.subscribe("+/+", AtMostOnce);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t/secret", "x");
        publisher.publish_acknowledged("t/open", "y");
        client.expect_message("t/open", "y");
        client.expect_nothing();
        assert_eq!(withheld(broker), 1, "one delivery to one session");
    });
}

/// CVE class: replay of retained messages that skips deny rules.
#[test]
fn a_deny_rule_holds_at_the_replay_of_retained_messages() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.retain("t/secret", "x");
        publisher.retain("t/open", "y");
        broker.set_policy(deny("subscribe", "t/secret"));
        let mut client = broker.client(version, "c");
        client.subscribe("t/#", AtLeastOnce);
        client.expect_message("t/open", "y");
        client.expect_nothing();
        assert_eq!(withheld(broker), 1);
    });
}

/// CVE class: a retained message that a client still gets after its right was revoked.
#[test]
fn a_retained_message_is_not_sent_to_whoever_lost_the_right_to_it() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        publisher.retain("t/a", "x");
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t/a", AtLeastOnce);
        client.expect_message("t/a", "x");
        broker.set_policy(deny("subscribe", "t/a"));
        client.send(subscribe(1, &[("t/a", at(AtMostOnce)), ("t/+", at(AtMostOnce))]));
        client.expect(suback(1, &[if version == V5 { 0x87 } else { 0x80 }, 0]));
        client.expect_nothing();
    });
}

/// CVE class: a durable subscription that outlives the right to it.
#[test]
fn a_durable_subscription_is_mute_without_the_right_to_it() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t", AtLeastOnce);
        client.close();
        broker.set_policy(deny("subscribe", "t"));
        assert_eq!((broker.count("subscriptions"), broker.count("subscriptions_revoked")), (0, 1));
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "x");
        let (mut client, present) = broker.resume(version, "c");
        assert!(present);
        client.expect_nothing();
        // With the right it is back: the client was not told that it was gone.
        broker.set_policy(policy(&[]));
        assert_eq!((broker.count("subscriptions"), broker.count("subscriptions_restored")), (1, 1));
        publisher.publish_acknowledged("t", "y");
        client.expect_message("t", "y");
        client.expect_nothing();
    });
}

#[test]
fn a_revoked_subscription_of_a_connected_client_is_over_at_once_and_others_go_on() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("t", AtLeastOnce);
        client.subscribe("u", AtLeastOnce);
        let mut other = broker.client(version, "d");
        other.subscribe("t", AtLeastOnce);
        broker.set_policy(policy(&["access = \"deny\"\naction = \"subscribe\"\ntopic = \"t\"\nclient = \"c\""]));
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "x");
        publisher.publish_acknowledged("u", "y");
        client.expect_message("u", "y");
        client.expect_nothing();
        other.expect_message("t", "x");
    });
}

#[test]
fn what_waits_in_a_queue_is_held_against_the_rules_when_it_is_sent() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t/#", AtLeastOnce);
        client.close();
        let mut publisher = broker.client(version, "p");
        for topic in ["t/secret", "t/open", "t/secret"] {
            publisher.publish_acknowledged(topic, topic);
        }
        broker.set_policy(deny("subscribe", "t/secret"));
        let (mut client, _) = broker.resume(version, "c");
        client.expect_message("t/open", "t/open");
        client.expect_nothing();
        assert_eq!((withheld(broker), broker.count("queued")), (2, 0));
    });
}

#[test]
fn what_was_in_flight_is_held_against_the_rules_when_it_is_sent_again() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t/#", ExactlyOnce);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t/secret", "1");
        publisher.send(exactly_once(3, "t/secret", "2"));
        publisher.expect_with_id(3);
        publisher.publish_acknowledged("t/open", "3");
        let secret = client.next_publish();
        let twice_secret = client.next_publish();
        assert_eq!((secret.qos, twice_secret.qos), (AtLeastOnce, ExactlyOnce));
        client.next_publish();
        client.close();
        broker.set_policy(deny("subscribe", "t/secret"));
        let (mut client, _) = broker.resume(version, "c");
        // Its packet identifier is free again on both sides, and nothing of the message is told.
        client.expect(pubrel(twice_secret.packet_id));
        client.expect_message("t/open", "3");
        client.expect_nothing();
        client.send(pubcomp(twice_secret.packet_id));
        client.ping();
        assert_eq!((withheld(broker), broker.count("inflight")), (1, 1));
    });
}

#[test]
fn a_will_is_held_against_the_rules_of_the_moment_it_is_published() {
    on_any_shards(|broker| {
        let mut watcher = broker.client(V5, "w");
        watcher.subscribe("will/#", AtMostOnce);
        // Denied from the start.
        broker.set_policy(deny("publish", "will/denied"));
        broker.connect(will("will/denied")).0.reset();
        watcher.expect_nothing();
        assert_eq!((broker.count("wills_denied"), broker.count("wills_published")), (1, 0));
        // Allowed when it was left, denied when it is due.
        let (client, _) = broker.connect(will("will/a"));
        broker.set_policy(deny("publish", "will/a"));
        client.reset();
        watcher.expect_nothing();
        // The other way round.
        let (client, _) = broker.connect(will("will/a"));
        broker.set_policy(deny("publish", "will/b"));
        client.reset();
        watcher.expect_message("will/a", "gone");
    });
}

#[test]
fn a_shared_message_goes_to_a_member_that_may_have_it() {
    on_any_shards(|broker| {
        broker
            .set_policy(policy(&["access = \"deny\"\naction = \"subscribe\"\ntopic = \"t/secret\"\nclient = \"a*\""]));
        let mut allowed = broker.client(V5, "b");
        allowed.subscribe("$share/g/t/+", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        for _ in 0..4 {
            publisher.publish_acknowledged("t/secret", "x");
            allowed.expect_message("t/secret", "x");
        }
        let mut denied = broker.client(V5, "a");
        denied.subscribe("$share/h/t/+", AtLeastOnce);
        publisher.send(at_least_once(9, "t/secret", "x"));
        publisher.next();
        denied.expect_nothing();
        assert_eq!(withheld(broker), 1);
    });
}

#[test]
fn topics_that_begin_with_a_dollar_sign_are_not_for_everybody() {
    for_both(|broker, version| {
        broker.set_policy(policy(&[]));
        let mut client = broker.client(version, "c");
        let refused = if version == V5 { 0x87 } else { 0x80 };
        client.send(subscribe(1, &[("$SYS/#", at(AtMostOnce)), ("#", at(AtMostOnce))]));
        client.expect(suback(1, &[refused, 0]));
    });
}

#[test]
fn rules_see_the_user_that_authentication_found_and_not_the_one_that_connect_names() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let allow = "access = \"allow\"\ntopic = \"anna/#\"\nuser = \"anna\"";
        broker.set_policy(policy(&[allow, "access = \"deny\"\ntopic = \"anna/#\""]));
        for (user, code) in [("anna", 0), ("mallory", 0x87)] {
            let connect = Connect { user_name: Some("anna".into()), ..Connect::new(V5, user) };
            let (mut client, _) = broker.let_in(connect, user);
            client.send(subscribe(1, &[("anna/a", at(AtMostOnce))]));
            client.expect(suback(1, &[code]));
        }
    }
}

/// Lets a client in, or on, in this role.
pub fn as_role(role: &str) -> Verdict {
    let (user, roles) = (Some("anna".into()), vec![role.into()]);
    Verdict::Allow { principal: Box::new(Principal { user, roles, ..Principal::default() }), data: Vec::new() }
}

/// A client in the role "reader", where no other may subscribe to `t`.
pub fn reader(broker: &Broker) -> Client {
    let allow = "access = \"allow\"\ntopic = \"t\"\nrole = \"reader\"";
    broker.set_policy(policy(&[allow, "access = \"deny\"\ntopic = \"t\"\naction = \"subscribe\""]));
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(with_method("c", b"1")));
    let asked = broker.question();
    broker.answer(&asked, as_role("reader"));
    client.next_connack();
    client
}

#[test]
fn a_client_that_authenticates_again_with_fewer_roles_loses_what_they_granted() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = reader(&broker);
        client.subscribe("t", AtMostOnce);
        client.send(auth(0x19, "SCRAM-SHA-256", b"again"));
        let asked = broker.question();
        broker.answer(&asked, as_role("writer"));
        assert!(matches!(client.next(), Packet::Auth(_)));
        client.publish("t", "x");
        client.ping();
        assert_eq!(broker.count("subscriptions_revoked"), 1);
    }
}
