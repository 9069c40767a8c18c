//! Limits that differ by listener and profile: what CONNACK says of them to a client (§3.2.2.3) is what it is held to.

use std::time::Duration;

use ringmq::auth::{Principal, Verdict};
use ringmq::config::{ClientLimits, Config, Profile, RateLimit};
use ringmq::guard::glob::Glob;
use ringmq::guard::rate::Rate;
use ringmq::sim::wire::{Connect, Packet, Publish, encode};

use crate::broker::*;

fn profile(client_id: &str, limits: ClientLimits) -> Profile {
    Profile { client_id: Some(Glob::new(client_id).unwrap()), limits, ..Profile::default() }
}

/// One shard and three, and a listener of its own limits with one profile over them.
fn with_profile(listener: ClientLimits, limits: ClientLimits, test: impl Fn(&Broker)) {
    let change = |config: &mut Config| {
        config.listeners[0].limits = listener.clone();
        config.guard.profiles = vec![profile("special*", limits.clone())];
    };
    for shards in [1, 3] {
        test(&Broker::configured(shards, false, change));
    }
}

fn of_len(len: usize) -> Packet {
    let without = encode(&publish(message("t", &"x".repeat(200))), V5).len() - 200;
    let packet = publish(message("t", &"x".repeat(len - without)));
    assert_eq!(encode(&packet, V5).len(), len);
    packet
}

fn qos1(packet_id: u16) -> Packet {
    publish(Publish { qos: AtLeastOnce, packet_id, ..message("t", "x") })
}

fn qos2(packet_id: u16) -> Packet {
    publish(Publish { qos: ExactlyOnce, packet_id, ..message("t", "x") })
}

#[test]
fn the_maximum_packet_size_of_a_client_is_told_and_enforced() {
    let packet = |bytes| ClientLimits { packet_bytes_max: Some(bytes), ..ClientLimits::default() };
    with_profile(packet(300), packet(5000), |broker| {
        let mut watcher = broker.client(V5, "special-w");
        watcher.subscribe("t", AtMostOnce);
        for (client_id, most) in [("plain", 300), ("special", 5000)] {
            let (mut client, ack) = broker.connect(Connect::new(V5, client_id));
            assert_eq!(ack.properties.number(id::MAXIMUM_PACKET_SIZE), Some(most as u32));
            client.send(of_len(most));
            watcher.expect(of_len(most));
            // The fixed header is enough to tell [MQTT-3.2.2-15].
            client.send_bytes(&encode(&of_len(most + 1), V5)[..3]);
            client.expect_dismissal(0x95);
            watcher.expect_nothing();
        }
    });
}

#[test]
fn a_packet_right_behind_connect_is_held_to_the_clients_own_maximum() {
    let packet = |bytes| ClientLimits { packet_bytes_max: Some(bytes), ..ClientLimits::default() };
    with_profile(ClientLimits::default(), packet(300), |broker| {
        let mut watcher = broker.client(V5, "w");
        watcher.subscribe("t", AtMostOnce);
        for (len, taken) in [(300, true), (301, false)] {
            let mut client = broker.dial(V5);
            let connect = encode(&Packet::Connect(Connect::new(V5, "special")), V5);
            client.send_bytes(&[connect, encode(&of_len(len), V5)].concat());
            assert_eq!(client.next_connack().code, 0);
            if taken {
                watcher.expect(of_len(len));
            } else {
                client.expect_dismissal(0x95);
                watcher.expect_nothing();
            }
        }
    });
}

#[test]
fn the_receive_maximum_of_a_client_is_told_and_enforced() {
    let window = |receive_maximum| ClientLimits { receive_maximum: Some(receive_maximum), ..ClientLimits::default() };
    with_profile(window(3), window(1), |broker| {
        for (client_id, most) in [("plain", 3), ("special", 1)] {
            let (mut client, ack) = broker.connect(Connect::new(V5, client_id));
            assert_eq!(ack.properties.number(id::RECEIVE_MAXIMUM), Some(u32::from(most)));
            for packet_id in 1..=most {
                client.send(qos2(packet_id));
                assert!(matches!(client.next(), Packet::PubRec(ack) if ack.packet_id == packet_id));
            }
            // What comes again is not one more.
            client.send(publish(Publish { dup: true, qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }));
            assert!(matches!(client.next(), Packet::PubRec(ack) if ack.packet_id == 1));
            client.send(qos2(most + 1));
            client.expect_dismissal(0x93); // [MQTT-3.3.4-9]
        }
    });
}

#[test]
fn no_more_is_in_flight_to_a_client_than_its_profile_allows() {
    let inflight = |most| ClientLimits { inflight_max: Some(most), ..ClientLimits::default() };
    with_profile(inflight(3), inflight(1), |broker| {
        for (client_id, most) in [("plain", 3), ("special", 1)] {
            let mut client = broker.client(V5, client_id);
            client.subscribe("t", AtLeastOnce);
            let mut publisher = broker.client(V5, "p");
            for _ in 0..4 {
                publisher.publish_acknowledged("t", "x");
            }
            for packet_id in 1..=most {
                client.expect(qos1(packet_id));
            }
            client.expect_nothing();
            client.send(puback(1));
            client.expect(qos1(most + 1));
            client.disconnect();
        }
    });
}

#[test]
fn the_keep_alive_of_a_profile_is_told_to_those_who_can_be_told() {
    let bounds = |least, most| ClientLimits {
        keep_alive_min: Some(least),
        keep_alive_max: Some(most),
        ..ClientLimits::default()
    };
    with_profile(bounds(5, 100), bounds(20, 40), |broker| {
        let told = |client_id: &str, keep_alive| {
            let (client, ack) = broker.connect(Connect { keep_alive, ..Connect::new(V5, client_id) });
            client.close();
            ack.properties.number(id::SERVER_KEEP_ALIVE)
        };
        let all = |client_id: &str| [0, 1, 30, 1000].map(|keep_alive| told(client_id, keep_alive));
        assert_eq!(all("plain"), [Some(100), Some(5), None, Some(100)]);
        assert_eq!(all("special"), [Some(40), Some(20), None, Some(40)]);
        // It is what the client is held to [MQTT-3.2.2-21].
        let (mut silent, _) = broker.connect(Connect { keep_alive: 1000, ..Connect::new(V5, "special") });
        broker.seconds(59);
        silent.expect_nothing();
        broker.seconds(3);
        silent.expect_dismissal(0x8D);
        let (mut old, _) = broker.connect(Connect { keep_alive: 1000, ..Connect::new(V311, "special") });
        broker.seconds(1000);
        old.ping();
    });
}

#[test]
fn a_profile_may_subscribe_to_what_others_may_not() {
    let limits = |wildcard_depth_min, topic_levels_max, subscriptions_max| ClientLimits {
        wildcard_depth_min: Some(wildcard_depth_min),
        topic_levels_max: Some(topic_levels_max),
        subscriptions_max: Some(subscriptions_max),
        ..ClientLimits::default()
    };
    with_profile(limits(1, 3, 2), limits(0, 5, 4), |broker| {
        let filters = ["#", "+/#", "a/b/c/d/e", "a/#", "b", "c"].map(|filter| (filter, at(AtMostOnce)));
        let codes = |client_id| {
            let mut client = broker.client(V5, client_id);
            client.send(subscribe(1, &filters));
            match client.next() {
                Packet::SubAck(ack) => ack.codes,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(codes("plain"), [0xA2, 0xA2, 0x8F, 0, 0, 0x97]);
        assert_eq!(codes("special"), [0, 0, 0, 0, 0x97, 0x97]);
        for (client_id, refused) in [("plain-2", true), ("special-2", false)] {
            let mut client = broker.client(V5, client_id);
            client.send(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("x/b/c/d/e", "x") }));
            match client.next() {
                Packet::PubAck(ack) => assert_eq!(ack.reason == 0x90, refused, "{ack:?}"),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_will_is_held_to_what_its_client_may_publish() {
    let limits = ClientLimits { topic_levels_max: Some(2), packet_bytes_max: Some(300), ..ClientLimits::default() };
    with_profile(ClientLimits::default(), limits, |broker| {
        let told = |client_id: &str, topic: &str, len: usize| {
            let will = Will { topic: topic.into(), payload: vec![b'x'; len], ..Will::default() };
            let mut client = broker.dial(V5);
            client.send(Packet::Connect(Connect { will: Some(will), ..Connect::new(V5, client_id) }));
            client.next_connack().code
        };
        assert_eq!([told("plain", "a/b/c", 1000), told("special", "a/b", 200)], [0, 0]);
        assert_eq!([told("special", "a/b/c", 1), told("special", "a/b", 400)], [0x90, 0x95]);
    });
}

#[test]
fn who_may_use_an_identifier_is_decided_when_it_is_known_who_that_is() {
    let only = |pattern: &str| Some(vec![Glob::new(pattern).unwrap()]);
    let broker = Broker::configured(3, true, |config| {
        config.guard.client_ids = only("sensor-*").unwrap();
        let any = ClientLimits { client_ids: only("*"), ..ClientLimits::default() };
        let odd = ClientLimits { client_ids: only("odd-*"), ..ClientLimits::default() };
        config.guard.profiles = vec![
            Profile { role: Some("operator".to_owned()), limits: any, ..Profile::default() },
            Profile { user: Some(Glob::new("odd").unwrap()), limits: odd, ..Profile::default() },
        ];
    });
    let told = |client_id: &str, user: &str, role: Option<&str>| {
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(Connect::new(V5, client_id)));
        let roles = role.map(Into::into).into_iter().collect();
        let principal = Box::new(Principal { user: Some(user.into()), roles, ..Principal::default() });
        let asked = broker.question();
        broker.answer(&asked, Verdict::Allow { principal, data: Vec::new() });
        client.next_connack().code
    };
    assert_eq!([told("sensor-1", "u", None), told("x", "u", None)], [0, 0x85]);
    assert_eq!([told("x", "o", Some("operator")), told("x", "o", Some("other"))], [0, 0x85]);
    assert_eq!([told("odd-1", "odd", None), told("sensor-2", "odd", None)], [0, 0x85]);
}

#[test]
fn an_identifier_that_nobody_may_use_is_refused_unasked() {
    let broker = Broker::configured(1, true, |config| config.guard.client_ids = vec![Glob::new("ok-*").unwrap()]);
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(Connect::new(V5, "x")));
    assert_eq!(client.next_connack().code, 0x85);
    assert_eq!(broker.count("authentications"), 0);
}

#[test]
fn a_user_who_connects_too_often_is_told_so_and_others_are_let_in() {
    let broker = Broker::configured(3, true, |config| {
        config.guard.connect_rate_per_user = RateLimit(Rate::new(1, Duration::from_secs(1), 2));
    });
    let told = |client_id: &str, user: &str| {
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(Connect::new(V5, client_id)));
        broker.allow(user);
        client.next_connack().code
    };
    // Whichever clients, on whichever shards.
    assert_eq!([told("a", "u"), told("b", "u"), told("c", "u"), told("d", "v")], [0, 0, 0x9F, 0]);
    broker.seconds(1);
    assert_eq!([told("c", "u"), told("a", "u")], [0, 0x9F]);
}
