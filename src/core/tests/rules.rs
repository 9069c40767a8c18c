//! Rules that change, turn by turn.

use super::*;
use crate::acl::{Access, Format, Policy};
use crate::config::{ClientLimits, Profile, RateLimit};
use crate::core::counters::DropReason;
use crate::core::renew::RENEWED_PER_TURN;
use crate::guard::glob::Glob;
use crate::guard::rate::Rate;

fn policy(text: &str) -> Option<Arc<Policy>> {
    let policy = Policy::from_text("rules.toml", text, Format::Toml, Access::Deny, &[]);
    Some(Arc::new(policy.expect("well written")))
}

/// A broker where sensors have limits, whom rules that [`bind`] the role name.
fn with_sensors(limits: ClientLimits) -> Broker {
    let profile = Profile { role: Some("sensor".to_owned()), limits, ..Profile::default() };
    super::guarded::guarded(1, |config| config.guard.profiles = vec![profile]).0
}

/// Denies this to everybody, and nothing else.
fn deny(action: &str, topic: &str) -> Option<Arc<Policy>> {
    let text =
        format!("default = \"allow\"\n[[rules]]\naccess = \"deny\"\naction = \"{action}\"\ntopic = \"{topic}\"\n");
    policy(&text)
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

/// A client with so many subscriptions, `t/0/+` and so on.
fn with_many(broker: &mut Broker, client_id: &str, filters: usize) -> Client {
    let client = broker.connect(client_id, ProtocolVersion::V5);
    for number in 0..filters {
        broker.subscribe(client, &format!("t/{number}/+"), QoS::AtLeastOnce);
    }
    client
}

fn many_allowed() -> Broker {
    Broker::with(1, Limits { subscriptions_per_client_max: u32::MAX, ..Limits::default() })
}

/// How many turns pass until rules have come to all sessions, and the most subscriptions that one of them changed.
fn turns_of_renewal(core: &mut Core, now: Time) -> (usize, u64) {
    let (mut turns, mut most) = (0, 0);
    loop {
        let before = core.counters().subscriptions.load();
        core.attend(now);
        (turns, most) = (turns + 1, before.abs_diff(core.counters().subscriptions.load()).max(most));
        if core.next_deadline() != Some(now) {
            return (turns, most);
        }
    }
}

#[test]
fn a_session_with_many_subscriptions_is_held_against_new_rules_a_piece_in_each_turn() {
    const FILTERS: usize = 100_000;
    let mut broker = many_allowed();
    let client = with_many(&mut broker, "c", FILTERS);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.cores[0].shared.set_policy(deny("subscribe", "t/#"));
    broker.cores[0].attend(broker.now);
    // Midway nothing is delivered by the old rules, and what the client says itself counts.
    broker.read(client);
    for number in [0, FILTERS / 2, FILTERS - 1] {
        broker.publish(publisher, &format!("t/{number}/x"), QoS::AtMostOnce, 0, b"x");
    }
    assert_eq!(broker.cores[0].counters().delivered.load(), 0);
    broker.unsubscribe(client, "t/0/+");
    broker.unsubscribe(client, &format!("t/{}/+", FILTERS - 1));
    assert_eq!(broker.read(client), ["UNSUBACK [0]", "UNSUBACK [0]"]);
    let (turns, most) = turns_of_renewal(&mut broker.cores[0], broker.now);
    assert!(turns >= 90, "it took {turns} turns");
    assert!(most <= RENEWED_PER_TURN as u64, "{most} subscriptions were changed in one turn");
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 0);
    // And back.
    broker.cores[0].shared.set_policy(None);
    let (turns, most) = turns_of_renewal(&mut broker.cores[0], broker.now);
    assert!(turns >= 90 && most <= RENEWED_PER_TURN as u64, "{most} of {turns}");
    assert_eq!(broker.cores[0].counters().subscriptions.load(), FILTERS as u64 - 2, "but for what was unsubscribed");
    broker.check();
}

#[test]
fn rules_that_change_midway_begin_again_with_a_session() {
    let mut broker = many_allowed();
    let client = with_many(&mut broker, "c", 5_000);
    broker.cores[0].shared.set_policy(deny("subscribe", "t/#"));
    broker.cores[0].attend(broker.now);
    broker.cores[0].attend(broker.now);
    broker.cores[0].shared.set_policy(deny("subscribe", "t/7/#"));
    turns_of_renewal(&mut broker.cores[0], broker.now);
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 4_999);
    broker.read(client);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    for number in 5..10 {
        broker.publish(publisher, &format!("t/{number}/x"), QoS::AtMostOnce, 0, b"x");
    }
    assert_eq!(broker.cores[0].counters().delivered.load(), 4);
    assert_eq!(withheld(&broker.cores[0]), 0, "it is settled, and no delivery is asked about");
    broker.check();
}

#[test]
fn a_client_that_comes_back_to_many_subscriptions_does_not_have_all_looked_at_in_one_turn() {
    let mut broker = many_allowed();
    let client = with_many(&mut broker, "c", 5_000);
    broker.hang_up(client);
    broker.cores[0].shared.set_policy(deny("subscribe", "t/#"));
    // It comes back while it is being held against them.
    broker.cores[0].attend(broker.now);
    let client = broker.connect("c", ProtocolVersion::V5);
    let before = broker.cores[0].counters().subscriptions.load();
    assert!(before >= 5_000 - 2 * RENEWED_PER_TURN as u64, "{before} are left");
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.publish(publisher, "t/4999/x", QoS::AtMostOnce, 0, b"x");
    let (turns, most) = turns_of_renewal(&mut broker.cores[0], broker.now);
    assert!(turns > 1 && most <= RENEWED_PER_TURN as u64, "{most} of {turns}");
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 0);
    assert_eq!(broker.cores[0].counters().delivered.load(), 0);
    broker.read(client);
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

/// Gives a role to clients of these names; everything is allowed.
fn bind(role: &str, clients: &str, users: &str) -> Option<Arc<Policy>> {
    let text = format!(
        "default = \"allow\"\n[roles.{role}]\n[clients]\n\"{clients}\" = \"{role}\"\n[users]\n\"{users}\" = \"{role}\"\n"
    );
    policy(&text)
}

#[test]
fn a_profile_is_about_the_roles_that_rules_give_too_also_after_a_reload() {
    let profile = |limit| {
        let limits = ClientLimits { topic_levels_max: Some(limit), ..ClientLimits::default() };
        Profile { role: Some("sensor".to_owned()), limits, ..Profile::default() }
    };
    let (mut broker, _) = super::guarded::guarded(1, |config| {
        let admin = Profile { user: Some(Glob::new("root").unwrap()), ..Profile::default() };
        config.guard.profiles = vec![admin, profile(2)];
    });
    let levels = |broker: &Broker, client_id| {
        let core = &broker.cores[0];
        core.limits_of(core.sessions[core.find_client(client_id).unwrap()].class).topic_levels_max
    };
    let many = Limits::default().topic_levels_max;
    broker.cores[0].shared.set_policy(bind("sensor", "s-*", "nobody"));
    broker.cores[0].attend(broker.now);
    let sensor = broker.connect("s-1", ProtocolVersion::V5);
    broker.connect("x", ProtocolVersion::V5);
    broker.connect_as(Connect { user_name: Some("root"), ..connect_packet("s-root", ProtocolVersion::V5) });
    // A name that nobody checked is no user's for the rules.
    broker.connect_as(Connect { user_name: Some("nobody"), ..connect_packet("n", ProtocolVersion::V5) });
    let all = |broker: &Broker| ["s-1", "x", "s-root", "n"].map(|client_id| levels(broker, client_id));
    assert_eq!(all(&broker), [2, many, many, many]);
    broker.read(sensor);
    broker.subscribe(sensor, "a/b/c", QoS::AtMostOnce);
    assert_ne!(broker.read(sensor), ["SUBACK [0]"]);
    // New rules give the role to others; a session without a connection is looked at too.
    broker.hang_up(sensor);
    broker.cores[0].shared.set_policy(bind("sensor", "x", "nobody"));
    broker.cores[0].attend(broker.now);
    assert_eq!(all(&broker), [many, 2, many, many]);
    broker.cores[0].shared.set_policy(None);
    broker.cores[0].attend(broker.now);
    assert_eq!(all(&broker), [many, many, many, many]);
}

/// Grants QoS 0 for this, and everything else.
fn at_most_once(filter: &str) -> Option<Arc<Policy>> {
    let text = format!(
        "default = \"allow\"\n[[rules]]\naccess = \"allow\"\naction = \"subscribe\"\ntopic = \"{filter}\"\nqos_max = 0\n"
    );
    policy(&text)
}

#[test]
fn a_subscription_that_comes_back_comes_back_at_the_qos_that_the_rules_grant() {
    const FILTERS: usize = 3 * RENEWED_PER_TURN;
    let mut broker = many_allowed();
    let client = with_many(&mut broker, "c", FILTERS);
    broker.cores[0].shared.set_policy(deny("subscribe", "t/#"));
    turns_of_renewal(&mut broker.cores[0], broker.now);
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 0);
    broker.cores[0].shared.set_policy(at_most_once("t/#"));
    let now = broker.now;
    loop {
        broker.cores[0].attend(now);
        let core = &broker.cores[0];
        let slot = core.find_client("c").unwrap();
        let back = core.sessions[slot].filters.iter().map(|filter| core.index.subscriber(*filter, slot).unwrap().qos());
        assert_eq!(back.max().unwrap_or(0), 0, "in no turn it is at the QoS of SUBACK");
        if core.next_deadline() != Some(now) {
            break;
        }
    }
    let counters = broker.cores[0].counters();
    assert_eq!(
        (counters.subscriptions.load(), counters.subscriptions_restored.load()),
        (FILTERS as u64, FILTERS as u64)
    );
    broker.cores[0].shared.set_policy(None);
    turns_of_renewal(&mut broker.cores[0], broker.now);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.read(client);
    broker.publish(publisher, "t/1/x", QoS::AtLeastOnce, 1, b"x");
    assert_eq!(broker.cores[0].counters().inflight.load(), 1, "without rules it has the QoS of SUBACK again");
    broker.check();
}

#[test]
fn clients_that_come_back_to_many_subscriptions_again_and_again_hold_up_neither_the_sweep_nor_each_other() {
    const OTHERS: usize = 5_000;
    let mut broker = many_allowed();
    for client_id in ["a", "b", "z"] {
        let client = with_many(&mut broker, client_id, 2 * RENEWED_PER_TURN);
        broker.hang_up(client);
    }
    for number in 0..OTHERS {
        let client = broker.connect(&format!("c{number}"), ProtocolVersion::V5);
        broker.subscribe(client, "s", QoS::AtLeastOnce);
    }
    let all = broker.cores[0].counters().subscriptions.load();
    assert_eq!(all, (OTHERS + 6 * RENEWED_PER_TURN) as u64);
    broker.cores[0].shared.set_policy(deny("subscribe", "#"));
    // Two of them come back in each turn.
    let mut turns = 0;
    while broker.cores[0].counters().subscriptions.load() > 4 * RENEWED_PER_TURN as u64 {
        for client_id in ["a", "b"] {
            let client = broker.connect(client_id, ProtocolVersion::V5);
            broker.hang_up(client);
        }
        broker.cores[0].attend(broker.now);
        turns += 1;
        assert!(turns < 100, "{} subscriptions are left", broker.cores[0].counters().subscriptions.load());
    }
    turns_of_renewal(&mut broker.cores[0], broker.now);
    assert_eq!(broker.cores[0].counters().subscriptions.load(), 0);
}

/// Twenty small messages; returns how many the shard has received.
fn publish_twenty(broker: &mut Broker, client: Client) -> u64 {
    (0..20).for_each(|_| broker.publish(client, "t", QoS::AtMostOnce, 0, b"x"));
    broker.cores[0].counters().publish_received.load()
}

#[test]
fn what_a_client_used_up_of_its_rates_is_used_up_when_rules_give_it_them_again() {
    let rate = RateLimit(Rate::new(10, Duration::from_secs(1), 10));
    let mut broker = with_sensors(ClientLimits { messages_in_rate: Some(rate), ..ClientLimits::default() });
    broker.cores[0].shared.set_policy(bind("sensor", "s", "nobody"));
    broker.cores[0].attend(broker.now);
    let client = broker.connect("s", ProtocolVersion::V5);
    assert_eq!(publish_twenty(&mut broker, client), 10);
    broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::EndOfStream);
    // It comes back to other rules, and is given the role again.
    broker.cores[0].shared.set_policy(bind("sensor", "x", "nobody"));
    broker.cores[0].attend(broker.now);
    let client = broker.connect("s", ProtocolVersion::V5);
    let before = publish_twenty(&mut broker, client);
    assert!(before >= 30, "{before}: it has no rates");
    broker.cores[0].shared.set_policy(bind("sensor", "s", "nobody"));
    broker.cores[0].attend(broker.now);
    assert_eq!(publish_twenty(&mut broker, client), before, "it owes what it owed");
}

#[test]
fn a_client_without_a_name_owes_what_its_address_owed_when_rules_give_it_rates() {
    let rate = RateLimit(Rate::new(10, Duration::from_secs(1), 10));
    let mut broker = with_sensors(ClientLimits { messages_in_rate: Some(rate), ..ClientLimits::default() });
    let connect_and_publish = |broker: &mut Broker| {
        let client = broker.connect_from("192.0.2.1:5", "");
        publish_twenty(broker, client);
        client
    };
    broker.cores[0].shared.set_policy(bind("sensor", "*", "nobody"));
    broker.cores[0].attend(broker.now);
    let client = connect_and_publish(&mut broker);
    broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::EndOfStream);
    broker.cores[0].shared.set_policy(bind("sensor", "x", "nobody"));
    broker.cores[0].attend(broker.now);
    let client = connect_and_publish(&mut broker);
    let before = broker.cores[0].counters().publish_received.load();
    assert!(before >= 30, "{before}: it has no rates");
    broker.cores[0].shared.set_policy(bind("sensor", "*", "nobody"));
    broker.cores[0].attend(broker.now);
    assert_eq!(publish_twenty(&mut broker, client), before, "it owes what its address owed");
}

#[test]
fn a_client_that_is_not_read_is_read_again_soon_when_its_rates_are_taken_away() {
    let rate = RateLimit(Rate::new(1, Duration::from_secs(1), 200));
    let mut broker = with_sensors(ClientLimits { bytes_in_rate: Some(rate), ..ClientLimits::default() });
    broker.cores[0].shared.set_policy(bind("sensor", "auto-1", "nobody"));
    broker.cores[0].attend(broker.now);
    let client = broker.connect("auto-1", ProtocolVersion::V5);
    broker.publish(client, "t", QoS::AtMostOnce, 0, &[b'x'; 5000]);
    broker.pass(Duration::from_secs(60));
    assert!(broker.cores[0].guard_holds(client.conn.slot), "5,000 bytes are 80 minutes");
    // Its name is its own, though it begins as those that the server gives: others pay nothing for it.
    let other = broker.connect("auto-2", ProtocolVersion::V5);
    assert!(!broker.cores[0].guard_holds(other.conn.slot));
    broker.cores[0].shared.set_policy(bind("sensor", "x", "nobody"));
    broker.cores[0].attend(broker.now);
    broker.pass(Duration::from_secs(11));
    assert!(!broker.cores[0].guard_holds(client.conn.slot));
}

#[test]
fn the_filters_of_one_subscribe_are_looked_at_in_rules_as_far_as_a_packet_has_room() {
    const FILTERS: usize = 300;
    let mut text = "default = \"allow\"\n".to_owned();
    for number in 0..256 {
        text +=
            &format!("[[rules]]\naccess = \"allow\"\nqos_max = 0\naction = \"subscribe\"\ntopic = \"a/{number}/b\"\n");
    }
    let mut broker = Broker::new(1);
    broker.cores[0].shared.set_policy(policy(&text));
    broker.cores[0].attend(broker.now);
    let client = broker.connect("c", ProtocolVersion::V5);
    broker.read(client);
    let mut payload = Vec::new();
    for number in 0..FILTERS {
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        crate::codec::FilterRequest { filter: &format!("a/+/x{number}"), options }.put(&mut payload);
    }
    // In the second packet there is room again.
    for _ in 0..2 {
        broker.send(client, &subscribe_packet(&payload, None));
        let granted = [vec!["1"; 256], vec!["0"; FILTERS - 256]].concat().join(", ");
        assert_eq!(broker.read(client), [format!("SUBACK [{granted}]")]);
    }
}
