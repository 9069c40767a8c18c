//! Rules that change, turn by turn.

use super::*;
use crate::acl::{Access, Format, Policy};
use crate::core::counters::DropReason;

/// Denies this to everybody, and nothing else.
fn deny(action: &str, topic: &str) -> Option<Arc<Policy>> {
    let text =
        format!("default = \"allow\"\n[[rules]]\naccess = \"deny\"\naction = \"{action}\"\ntopic = \"{topic}\"\n");
    let policy = Policy::from_text("rules.toml", &text, Format::Toml, Access::Deny, &[]);
    Some(Arc::new(policy.expect("well written")))
}

fn withheld(core: &Core) -> u64 {
    core.counters().dropped[DropReason::NotAuthorized as usize].load()
}

#[test]
fn sessions_that_were_not_held_against_new_rules_yet_get_nothing_by_the_old_ones() {
    const CLIENTS: usize = 3000;
    let mut broker = Broker::new(1);
    for number in 0..CLIENTS {
        let client = broker.connect(&format!("c{number}"), ProtocolVersion::V5);
        broker.subscribe(client, "t", QoS::AtLeastOnce);
        if number % 2 == 0 {
            broker.hang_up(client);
        }
    }
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.cores[0].shared.set_policy(deny("subscribe", "t"));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].next_deadline(), Some(broker.now), "the next turn goes on with it");
    let left = broker.cores[0].counters().subscriptions.load();
    assert!((1..CLIENTS as u64).contains(&left), "{left} subscriptions are left after one turn");
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, b"x");
    let counters = broker.cores[0].counters();
    assert_eq!((counters.delivered.load(), counters.queued.load(), counters.inflight.load()), (0, 0, 0));
    assert_eq!(withheld(&broker.cores[0]), left);
    for _ in 0..10 {
        broker.cores[0].attend(broker.now);
    }
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 0);
    assert_ne!(broker.cores[0].next_deadline(), Some(broker.now), "it comes to an end");
    broker.check();
}

#[test]
fn rules_that_are_taken_away_leave_everything_as_it_was_without_them() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", ProtocolVersion::V5);
    broker.cores[0].shared.set_policy(deny("both", "t"));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].plain_topic_bytes, 0, "each topic is asked about");
    broker.publish(client, "t", QoS::AtLeastOnce, 1, b"x");
    assert_eq!(broker.cores[0].counters().publish_denied.load(), 1);
    broker.cores[0].shared.set_policy(None);
    broker.cores[0].attend(broker.now);
    assert!(broker.cores[0].plain_topic_bytes > 0);
    broker.read(client);
    broker.subscribe(client, "t", QoS::AtMostOnce);
    broker.publish(client, "t", QoS::AtLeastOnce, 2, b"x");
    assert_eq!(broker.cores[0].counters().delivered.load(), 1);
}

#[test]
fn a_replay_that_waits_goes_with_its_subscription_when_the_client_is_away() {
    let mut broker = Broker::with(1, Limits { inflight_max: 1, ..Limits::default() });
    let publisher = broker.connect("p", ProtocolVersion::V5);
    for (packet_id, topic) in [(1, "r/1"), (2, "r/2"), (3, "r/3")] {
        let head = PublishHead { topic, qos: QoS::AtLeastOnce, retain: true, packet_id, ..PublishHead::default() };
        broker.publish_head(publisher, head, b"x");
    }
    let client = broker.connect("c", ProtocolVersion::V5);
    broker.subscribe(client, "r/#", QoS::AtLeastOnce);
    broker.hang_up(client);
    broker.cores[0].shared.set_policy(deny("subscribe", "r/#"));
    broker.cores[0].attend(broker.now);
    let client = broker.connect("c", ProtocolVersion::V5);
    let read = broker.read(client);
    assert!(read.iter().all(|packet| !packet.contains("r/")), "{read:?}");
    broker.check();
}
