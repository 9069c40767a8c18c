//! How long things live: timers, sessions, wills, messages that expire.

use super::*;
use crate::codec::{PublishProperties, Will};

#[test]
fn a_client_that_comes_and_goes_leaves_no_pile_of_timers() {
    let mut broker = Broker::new(1);
    let long = ConnectProperties { session_expiry_interval: Some(1_000_000), ..ConnectProperties::default() };
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "w",
        payload: b"",
        delay_interval: 500_000,
        properties: PublishProperties::EMPTY,
    };
    for _ in 0..10_000 {
        let packet = Connect {
            keep_alive: 65_535,
            will: Some(will.clone()),
            properties: long.clone(),
            ..connect_packet("c", ProtocolVersion::V5)
        };
        let client = broker.connect_as(packet);
        broker.hang_up(client);
        broker.pass(Duration::from_secs(1));
    }
    let timers = broker.cores[0].wheel.len();
    assert!(timers < 1000, "{timers} timers of one client");
    broker.pass(Duration::from_secs(499_998));
    assert_eq!(broker.cores[0].counters().wills_published.load(), 0);
    broker.pass(Duration::from_secs(3));
    assert_eq!(broker.cores[0].counters().wills_published.load(), 1);
    assert_eq!(broker.cores[0].counters().sessions.load(), 1);
    broker.pass(Duration::from_secs(500_000));
    assert_eq!(broker.cores[0].counters().sessions.load(), 0);
    assert_eq!(broker.cores[0].wheel.len(), 0);
}

#[test]
fn a_session_ends_on_time_though_its_expiry_was_longer_before() {
    let mut broker = Broker::new(1);
    for (seconds, sessions) in [(1000, 1), (10, 0)] {
        let properties = ConnectProperties { session_expiry_interval: Some(seconds), ..ConnectProperties::default() };
        let client = broker.connect_as(Connect { properties, ..connect_packet("c", ProtocolVersion::V5) });
        broker.hang_up(client);
        broker.pass(Duration::from_secs(11));
        assert_eq!(broker.cores[0].counters().sessions.load(), sessions);
    }
    assert_eq!(broker.cores[0].shared.offline_sessions.load(Relaxed), 0);
}

#[test]
fn retained_messages_that_expired_make_room_though_nobody_asks_for_them() {
    let limits = Limits { retained_messages_max: 1000, ..Limits::default() };
    let mut broker = Broker::with(1, limits);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    for number in 0..1000 {
        let topic = format!("$device/{number}");
        let message_expiry_interval = Some(if number < 500 { 10 } else { 3600 });
        let head = PublishHead { topic: &topic, retain: true, message_expiry_interval, ..PublishHead::default() };
        broker.publish_head(publisher, head, b"x");
    }
    broker.pass(Duration::from_secs(20));
    assert_eq!(broker.cores[0].counters().retained_messages.load(), 500);
    assert_eq!(broker.cores[0].counters().retained_expired.load(), 500);
    broker.pass(Duration::from_secs(3600));
    assert_eq!(broker.cores[0].counters().retained_messages.load(), 0);
    assert_eq!(broker.cores[0].wheel.len(), 0, "nothing is left to expire, so nothing is looked at");
}

#[test]
fn only_clients_that_can_be_told_get_the_servers_keep_alive() {
    let limits = Limits { keep_alive_max: 10, ..Limits::default() };
    let mut broker = Broker::with(1, limits);
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        broker.connect_as(Connect { keep_alive: 100, ..connect_packet(&format!("{version:?}"), version) });
    }
    broker.pass(Duration::from_secs(20));
    assert_eq!(broker.cores[0].counters().connected.load(), 1);
    broker.pass(Duration::from_secs(140));
    assert_eq!(broker.cores[0].counters().connected.load(), 0);
}

#[test]
fn a_clients_own_will_does_not_come_to_it_against_no_local() {
    let mut broker = Broker::new(1);
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "w",
        payload: b"gone",
        delay_interval: 0,
        properties: PublishProperties::EMPTY,
    };
    let client = broker.connect_as(Connect { will: Some(will), ..connect_packet("c", ProtocolVersion::V5) });
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscriptionOptions::default() };
    broker.subscribe_as(client, "w", options, None);
    broker.hang_up(client);
    assert_eq!(broker.cores[0].counters().wills_published.load(), 1);
    let client = broker.connect("c", ProtocolVersion::V5);
    assert_eq!(broker.read(client), ["CONNACK 0 true"]);
}

#[test]
fn queued_messages_that_expired_make_room_for_new_ones() {
    let limits = Limits { queue_messages_max: 3, ..Limits::default() };
    let mut broker = Broker::with(1, limits);
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.hang_up(subscriber);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    let head = PublishHead { topic: "t", qos: QoS::AtLeastOnce, packet_id: 1, ..PublishHead::default() };
    for _ in 0..3 {
        broker.publish_head(publisher, PublishHead { message_expiry_interval: Some(5), ..head }, b"old");
    }
    broker.pass(Duration::from_secs(6));
    broker.publish_head(publisher, head, b"new");
    assert_eq!(broker.read(publisher).last().unwrap(), "PUBACK 1 0");
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    assert_eq!(broker.read(subscriber), ["CONNACK 0 true", "PUBLISH t q1 id1 dup0 r0 new"]);
    broker.check();
}
