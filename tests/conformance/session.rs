//! Session state (§4.1) and how long it lives (§3.1.2.4, §3.1.2.11.2), takeover (§3.1.4).

use ringmq::sim::wire::{Connect, Publish};

use crate::broker::*;

/// A CONNECT of 5.0 with this clean start and session expiry interval.
fn connecting(client_id: &str, clean_start: bool, expiry: Option<u32>) -> Connect {
    let mut connect = Connect { clean_start, ..Connect::new(V5, client_id) };
    if let Some(expiry) = expiry {
        connect.properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, expiry);
    }
    connect
}

fn is_present(broker: &Broker, connect: Connect) -> bool {
    broker.connect(connect).1.session_present
}

#[test]
fn a_session_keeps_subscriptions_what_is_in_flight_and_what_is_queued() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t/#", AtLeastOnce);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t/1", "in flight");
        client.expect_message("t/1", "in flight");
        client.close();
        publisher.publish_acknowledged("t/2", "queued");
        publisher.publish("t/3", "QoS 0 is not");
        let (mut client, present) = broker.resume(version, "c");
        assert!(present);
        client.expect_message("t/1", "in flight");
        client.expect_message("t/2", "queued");
        client.expect_nothing();
        publisher.publish("t/4", "still subscribed");
        client.expect_message("t/4", "still subscribed");
    });
}

#[test]
fn qos_0_is_kept_for_those_who_are_away_where_that_is_asked_for() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |_, mqtt| mqtt.queue_qos0_offline = true);
        let (mut client, _) = broker.resume(V311, "c");
        client.subscribe("t", AtLeastOnce);
        client.close();
        let mut publisher = broker.client(V5, "p");
        publisher.publish("t", "0");
        publisher.publish_acknowledged("t", "1");
        let (mut client, _) = broker.resume(V311, "c");
        client.expect(publish(message("t", "0")));
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "1") }));
    }
}

#[test]
fn a_clean_start_discards_everything() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "in flight");
        client.expect_message("t", "in flight");
        client.close();
        publisher.publish_acknowledged("t", "queued");
        let mut client = broker.client(version, "c");
        publisher.publish("t", "not subscribed");
        client.expect_nothing();
        client.disconnect();
        assert!(!broker.resume(version, "c").1);
        assert_eq!((broker.count("queued"), broker.count("inflight"), broker.count("subscriptions")), (0, 0, 0));
    });
}

#[test]
fn a_clean_session_of_3_x_ends_with_its_connection() {
    on_any_shards(|broker| {
        for version in [V31, V311] {
            let mut client = broker.client(version, "c");
            client.subscribe("t", AtLeastOnce);
            client.close();
            assert_eq!((broker.count("sessions"), broker.count("subscriptions")), (0, 0));
            let (mut client, present) = broker.resume(version, "c");
            assert!(!present);
            let mut publisher = broker.client(version, "p");
            publisher.publish("t", "x");
            publisher.disconnect();
            client.expect_nothing();
            client.disconnect();
            broker.client(version, "c").disconnect();
        }
    });
}

#[test]
fn a_session_of_3_x_without_clean_session_lasts() {
    on_any_shards(|broker| {
        broker.resume(V311, "c").0.disconnect();
        broker.seconds(10_000_000);
        assert!(broker.resume(V311, "c").1);
    });
}

#[test]
fn a_session_expiry_interval_of_zero_or_none_ends_the_session_with_the_connection() {
    on_any_shards(|broker| {
        for expiry in [None, Some(0)] {
            broker.connect(connecting("c", false, expiry)).0.close();
            assert_eq!(broker.count("sessions"), 0);
            assert!(!is_present(broker, connecting("c", false, expiry)));
        }
    });
}

#[test]
fn the_longest_session_expiry_interval_never_ends() {
    on_any_shards(|broker| {
        broker.connect(connecting("c", false, Some(u32::MAX))).0.close();
        broker.seconds(u64::from(u32::MAX) * 2);
        assert!(is_present(broker, connecting("c", false, None)));
    });
}

#[test]
fn a_session_ends_when_its_expiry_interval_has_passed_and_not_before() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.connect(connecting("c", false, Some(10)));
        client.subscribe("t", AtLeastOnce);
        client.close();
        let mut publisher = broker.client(V5, "p");
        publisher.publish_acknowledged("t", "x");
        publisher.disconnect();
        broker.seconds(9);
        let (client, ack) = broker.connect(connecting("c", false, Some(10)));
        assert!(ack.session_present);
        client.close();
        // Counted anew from when this connection ended.
        broker.seconds(9);
        assert_eq!(broker.count("sessions"), 1);
        broker.seconds(2);
        assert_eq!((broker.count("sessions"), broker.count("queued"), broker.count("subscriptions")), (0, 0, 0));
        assert!(!is_present(broker, connecting("c", false, Some(10))));
    });
}

#[test]
fn a_session_is_kept_while_its_connection_is_open_whatever_its_expiry_interval() {
    on_any_shards(|broker| {
        for expiry in [0, 1] {
            let (mut client, _) = broker.connect(connecting("c", false, Some(expiry)));
            client.subscribe("t", AtLeastOnce);
            broker.seconds(1000);
            broker.client(V5, "p").publish_acknowledged("t", "x");
            client.expect_message("t", "x");
            client.disconnect();
        }
    });
}

#[test]
fn the_expiry_interval_is_that_of_the_last_connect() {
    on_any_shards(|broker| {
        broker.connect(connecting("c", false, Some(u32::MAX))).0.close();
        let (client, ack) = broker.connect(connecting("c", false, Some(5)));
        assert!(ack.session_present);
        client.close();
        broker.seconds(6);
        assert!(!is_present(broker, connecting("c", false, Some(u32::MAX))));
        // And the other way round: a session that lasts is made of one that would not have.
        broker.connect(connecting("d", false, Some(5))).0.close();
        assert!(is_present(broker, connecting("d", false, Some(u32::MAX))));
        broker.seconds(10);
        assert!(is_present(broker, connecting("d", false, None)));
    });
}

#[test]
fn a_session_may_last_no_longer_than_the_server_grants() {
    for version in BOTH {
        let broker = Broker::with(3, |limits, _| limits.session_expiry_max = 60);
        broker.resume(version, "c").0.close();
        broker.seconds(59);
        assert_eq!(broker.count("sessions"), 1);
        broker.seconds(2);
        assert_eq!(broker.count("sessions"), 0);
    }
}

#[test]
fn a_clean_start_with_an_expiry_interval_begins_a_session_that_lasts() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.connect(connecting("c", true, Some(100)));
        client.subscribe("t", AtLeastOnce);
        client.disconnect();
        broker.client(V5, "p").publish_acknowledged("t", "x");
        let (mut client, ack) = broker.connect(connecting("c", false, None));
        assert!(ack.session_present);
        client.expect_message("t", "x");
    });
}

#[test]
fn a_session_is_found_by_its_client_identifier_alone() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.resume(V311, "one");
        client.subscribe("t", AtLeastOnce);
        client.close();
        assert!(!broker.resume(V5, "other").1);
        assert!(!broker.resume(V5, "One").1);
        broker.client(V5, "p").publish_acknowledged("t", "x");
        let (mut client, present) = broker.resume(V5, "one");
        assert!(present, "in another version of the protocol");
        client.expect_message("t", "x");
    });
}

#[test]
fn a_takeover_resumes_or_discards_as_its_clean_start_says() {
    for_both(|broker, version| {
        let (mut old, _) = broker.resume(version, "c");
        old.subscribe("t", AtLeastOnce);
        let (mut new, present) = broker.resume(version, "c");
        assert!(present);
        old.expect_dismissal(0x8E);
        let mut publisher = broker.client(version, "p");
        publisher.publish_acknowledged("t", "x");
        new.expect_message("t", "x");
        let mut clean = broker.client(version, "c");
        new.expect_dismissal(0x8E);
        publisher.publish_acknowledged("t", "y");
        clean.expect_nothing();
    });
}

#[test]
fn a_takeover_of_a_session_that_ends_with_its_connection_begins_anew() {
    on_any_shards(|broker| {
        let (mut old, _) = broker.connect(connecting("c", false, None));
        old.subscribe("t", AtLeastOnce);
        assert!(!is_present(broker, connecting("c", false, Some(100))));
        old.expect_dismissal(0x8E);
    });
}

#[test]
fn a_storm_of_takeovers_leaves_one_connection() {
    for_both(|broker, version| {
        let clients: Vec<Client> = (0..20).map(|_| broker.resume(version, "c").0).collect();
        let mut clients = clients.into_iter().rev();
        clients.next().expect("the last one").ping();
        clients.for_each(|mut old| old.expect_dismissal(0x8E));
        assert_eq!((broker.count("connections"), broker.count("sessions")), (1, 1));
    });
}
