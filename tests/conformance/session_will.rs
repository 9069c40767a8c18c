//! The will beside the session (§3.1.3.2.2): every combination of delay, expiry, takeover and clean start.
//! What else there is to say of wills is in `will`.

use ringmq::sim::wire::{Connect, Packet};

use crate::broker::*;

fn will(payload: &str) -> Will {
    Will { topic: "w".into(), payload: payload.into(), ..Will::default() }
}

fn delayed(seconds: u32) -> Will {
    Will { properties: Properties::new().four(id::WILL_DELAY_INTERVAL, seconds), ..will("delayed") }
}

/// A CONNECT with a will.
fn mourned(version: ProtocolVersion, will: Will) -> Connect {
    Connect { will: Some(will), ..Connect::new(version, "c") }
}

/// A CONNECT of 5.0 without clean start, with a will and a session expiry interval.
fn lasting_with(will: Will, expiry: u32) -> Connect {
    let properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, expiry);
    Connect { clean_start: false, properties, ..mourned(V5, will) }
}

fn watcher(broker: &Broker) -> Client {
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("w", ExactlyOnce);
    watcher
}

#[test]
fn a_will_waits_for_its_delay_or_the_end_of_the_session_whichever_is_first() {
    on_any_shards(|broker| {
        for (delay, expiry, due) in [(5, 100, 5), (100, 5, 5), (5, 5, 5), (5, u32::MAX, 5), (10, 0, 0), (0, 10, 0)] {
            let mut watcher = watcher(broker);
            broker.connect(lasting_with(delayed(delay), expiry)).0.close();
            if due > 0 {
                broker.seconds(due - 1);
                watcher.expect_nothing();
                broker.seconds(2);
            }
            watcher.expect_message("w", "delayed");
            watcher.expect_nothing();
            broker.client(V5, "c").disconnect();
            broker.seconds(200);
            watcher.expect_nothing();
        }
    });
}

#[test]
fn a_will_that_waits_is_taken_back_when_the_client_resumes_its_session() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        broker.connect(lasting_with(delayed(10), 100)).0.close();
        broker.seconds(9);
        let (client, present) = broker.resume(V5, "c");
        assert!(present);
        broker.seconds(60);
        watcher.expect_nothing();
        // The will of the connection before last is not that of the last.
        client.close();
        broker.seconds(60);
        watcher.expect_nothing();
    });
}

#[test]
fn a_delay_counts_from_the_last_connection() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        broker.connect(lasting_with(delayed(10), 100)).0.close();
        broker.seconds(8);
        broker.connect(lasting_with(delayed(10), 100)).0.close();
        broker.seconds(8);
        watcher.expect_nothing();
        broker.seconds(3);
        watcher.expect_message("w", "delayed");
        watcher.expect_nothing();
    });
}

#[test]
fn a_takeover_publishes_the_will_unless_the_session_goes_on_and_the_will_would_wait() {
    on_any_shards(|broker| {
        for clean_start in [false, true] {
            for expiry in [0, 100] {
                for delay in [None, Some(0), Some(10)] {
                    let mut watcher = watcher(broker);
                    let mut connect = lasting_with(delayed(delay.unwrap_or(0)), expiry);
                    connect.will = connect.will.filter(|_| delay.is_some());
                    let (mut old, _) = broker.connect(connect);
                    let (new, ack) = broker.connect(Connect { clean_start, ..lasting(V5, "c") });
                    let goes_on = !clean_start && expiry > 0;
                    assert_eq!(ack.session_present, goes_on);
                    old.expect_dismissal(0x8E);
                    let case = format!("clean start {clean_start}, expiry {expiry}, delay {delay:?}");
                    match delay {
                        Some(delay) if delay == 0 || !goes_on => watcher.expect_message("w", "delayed"),
                        _ => {}
                    }
                    broker.seconds(60);
                    assert_eq!(watcher_got(&mut watcher), 0, "{case}");
                    new.disconnect();
                    broker.client(V5, "c").disconnect();
                }
            }
        }
    });
}

/// How many messages wait for a client.
fn watcher_got(watcher: &mut Client) -> usize {
    watcher.send(Packet::PingReq);
    (0..).take_while(|_| matches!(watcher.next(), Packet::Publish(_))).count()
}

#[test]
fn a_takeover_in_3_1_1_publishes_the_will() {
    on_any_shards(|broker| {
        for (old_clean, new_clean) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut watcher = watcher(broker);
            let (mut old, _) = broker.connect(Connect { clean_start: old_clean, ..mourned(V311, will("taken over")) });
            let (new, ack) = broker.connect(Connect { clean_start: new_clean, ..Connect::new(V311, "c") });
            assert_eq!(ack.session_present, !old_clean && !new_clean);
            old.expect_closed();
            watcher.expect_message("w", "taken over");
            watcher.expect_nothing();
            new.disconnect();
            broker.client(V311, "c").disconnect();
        }
    });
}

#[test]
fn the_will_of_a_takeover_finds_the_new_connection_subscribed() {
    for_both(|broker, version| {
        let connect = Connect { will: Some(Will { qos: AtLeastOnce, ..will("mine") }), ..lasting(version, "c") };
        let (mut old, _) = broker.connect(connect);
        old.subscribe("w", AtLeastOnce);
        let (mut new, present) = broker.resume(version, "c");
        assert!(present);
        new.expect_message("w", "mine");
    });
}
