//! CONNACK (§3.2): what it says when all is well, and with which code each version is refused.

use ringmq::config::{Limits, MqttOptions};
use ringmq::sim::wire::{ConnAck, Connect, Packet, Publish, encode};

use crate::broker::*;

/// Sends a CONNECT that is refused with this code, without a session, and closed.
#[track_caller]
fn assert_refused(broker: &Broker, connect: Connect, code: u8) -> ConnAck {
    let mut client = broker.dial(connect.version);
    client.send(Packet::Connect(connect));
    let ack = client.next_connack();
    assert_eq!((ack.code, ack.session_present), (code, false), "{ack:?}");
    client.expect_closed();
    ack
}

fn with_will(version: ProtocolVersion, will: Will) -> Connect {
    Connect { will: Some(will), ..Connect::new(version, "w") }
}

fn will_to(topic: &str) -> Will {
    Will { topic: topic.into(), payload: b"x".to_vec(), ..Will::default() }
}

fn user_properties(count: usize) -> Properties {
    (0..count).fold(Properties::new(), |properties, _| properties.user("k", "v"))
}

#[test]
fn connack_says_exactly_what_differs_from_the_specifications_defaults() {
    on_any_shards(|broker| {
        let limits = Limits::default();
        let (_, ack) = broker.connect(Connect::new(V5, "c"));
        let properties = Properties::new()
            .two(id::RECEIVE_MAXIMUM, limits.receive_maximum)
            .four(id::MAXIMUM_PACKET_SIZE, limits.packet_bytes_max)
            .two(id::TOPIC_ALIAS_MAXIMUM, limits.topic_alias_max);
        assert_eq!(ack, ConnAck { session_present: false, code: 0, properties });
        for version in [V31, V311] {
            assert_eq!(broker.connect(Connect::new(version, "c")).1, ConnAck::default());
        }
    });
}

#[test]
fn session_present_says_whether_there_was_a_session() {
    for_both(|broker, version| {
        assert!(!broker.resume(version, "c").1);
        assert!(broker.resume(version, "c").1, "taken over");
        let (client, present) = broker.resume(version, "c");
        assert!(present);
        client.disconnect();
        assert!(broker.resume(version, "c").1, "after DISCONNECT");
        let (_, ack) = broker.connect(Connect::new(version, "c"));
        assert!(!ack.session_present, "clean start");
        assert!(!broker.resume(version, "c").1, "the clean start left nothing behind");
    });
}

#[test]
fn in_3_1_connack_has_no_session_present_flag() {
    on_any_shards(|broker| {
        let (mut client, present) = broker.resume(V31, "c");
        assert!(!present);
        client.subscribe("t", AtLeastOnce);
        client.close();
        broker.client(V31, "p").publish_acknowledged("t", "x");
        let (mut client, present) = broker.resume(V31, "c");
        assert!(!present, "the byte is reserved");
        client.expect_message("t", "x");
    });
}

#[test]
fn versions_that_are_turned_off_are_refused_in_their_own_words() {
    let only = |version| Broker::with(3, move |_: &mut Limits, mqtt: &mut MqttOptions| mqtt.versions = vec![version]);
    for (spoken, refused, code) in [(V311, V5, 0x84), (V5, V311, 1), (V5, V31, 1), (V311, V31, 1), (V31, V311, 1)] {
        let broker = only(spoken);
        assert_refused(&broker, Connect::new(refused, "c"), code);
        broker.client(spoken, "c");
    }
}

#[test]
fn a_client_identifier_that_is_too_long_is_refused() {
    let broker = Broker::with(3, |limits, _| limits.client_id_bytes_max = 23);
    for (version, code) in [(V31, 2), (V311, 2), (V5, 0x85)] {
        broker.client(version, &"x".repeat(23));
        assert_refused(&broker, Connect::new(version, &"x".repeat(24)), code);
    }
}

#[test]
fn in_3_1_a_client_identifier_is_never_empty() {
    on_any_shards(|broker| {
        assert_refused(broker, Connect::new(V31, ""), 2);
        assert_refused(broker, lasting(V31, ""), 2);
    });
}

#[test]
fn an_authentication_method_is_refused_with_0x8c() {
    on_any_shards(|broker| {
        let properties =
            Properties::new().text(id::AUTHENTICATION_METHOD, "GS2-KRB5").binary(id::AUTHENTICATION_DATA, b"x");
        assert_refused(broker, Connect { properties, ..Connect::new(V5, "c") }, 0x8C);
    });
}

#[test]
fn a_will_that_the_server_cannot_publish_is_refused() {
    let broker = Broker::with(3, |limits, mqtt| {
        mqtt.max_qos = AtLeastOnce;
        mqtt.retain_available = false;
        mqtt.check_payload_format = true;
        limits.topic_levels_max = 3;
        limits.topic_bytes_max = 20;
    });
    for version in BOTH {
        let code = |v5, v3| if version == V5 { v5 } else { v3 };
        let refused = |will, code| assert_refused(&broker, with_will(version, will), code);
        refused(Will { qos: ExactlyOnce, ..will_to("w") }, code(0x9B, 3));
        refused(Will { retain: true, ..will_to("w") }, code(0x9A, 3));
        refused(will_to("$SYS/w"), code(0x87, 5));
        refused(will_to("a/b/c/d"), code(0x90, 3));
        refused(will_to(&"x".repeat(21)), code(0x90, 3));
        broker.connect(with_will(version, Will { qos: AtLeastOnce, ..will_to("a/b/c") }));
    }
    let properties = Properties::new().byte(id::PAYLOAD_FORMAT_INDICATOR, 1);
    let broken = Will { properties, payload: vec![0xFF], ..will_to("w") };
    assert_refused(&broker, with_will(V5, broken), 0x99);
}

#[test]
fn a_will_topic_is_a_topic_name() {
    on_any_shards(|broker| {
        for topic in ["", "a/#", "+", "a\0"] {
            assert_refused(broker, with_will(V5, will_to(topic)), if topic == "a\0" { 0x81 } else { 0x90 });
            let mut client = broker.dial(V311);
            client.send(Packet::Connect(with_will(V311, will_to(topic))));
            client.expect_closed();
        }
    });
}

#[test]
fn too_many_user_properties_are_refused() {
    let broker = Broker::with(3, |limits, _| limits.user_properties_max = 3);
    let connect = |count| Connect { properties: user_properties(count), ..Connect::new(V5, "c") };
    broker.connect(connect(3));
    assert_refused(&broker, connect(4), 0x97);
    let will = |count| Will { properties: user_properties(count), ..will_to("w") };
    broker.connect(with_will(V5, will(3)));
    assert_refused(&broker, with_will(V5, will(4)), 0x97);
}

#[test]
fn more_kept_sessions_than_the_limit_are_refused() {
    for (version, code) in [(V311, 3), (V5, 0x97)] {
        let broker = Broker::with(3, |limits, _| limits.sessions_max = 1);
        broker.resume(version, "first").0.close();
        assert_refused(&broker, lasting(version, "second"), code);
        // Whoever leaves nothing behind is welcome, and so is who has a session.
        broker.client(version, "second");
        assert!(broker.resume(version, "first").1);
    }
}

#[test]
fn a_malformed_connect_of_5_0_is_told_what_is_wrong_and_one_of_3_1_1_just_closed() {
    on_any_shards(|broker| {
        let plain = encode(&Packet::Connect(Connect::new(V5, "c")), V5);
        let mut reserved = plain.clone();
        reserved[9] |= 1;
        let mut ends_early = plain.clone();
        ends_early.pop();
        ends_early[1] -= 1;
        for bytes in [reserved, ends_early] {
            let mut client = broker.dial(V5);
            client.send_bytes(&bytes);
            assert_eq!(client.next_connack(), ConnAck { code: 0x81, ..ConnAck::default() });
            client.expect_closed();
            let mut client = broker.dial(V311);
            let mut old = encode(&Packet::Connect(Connect::new(V311, "c")), V311);
            old[9] |= 1;
            client.send_bytes(&old);
            client.expect_closed();
        }
    });
}

#[test]
fn a_refusal_leaves_out_its_words_where_they_do_not_fit() {
    on_any_shards(|broker| {
        for (maximum, with_words) in [(1000, true), (20, false), (5, false)] {
            let properties =
                Properties::new().text(id::AUTHENTICATION_METHOD, "unheard of").four(id::MAXIMUM_PACKET_SIZE, maximum);
            let ack = assert_refused(broker, Connect { properties, ..Connect::new(V5, "c") }, 0x8C);
            assert_eq!(ack.properties.string(id::REASON_STRING).is_some(), with_words);
        }
    });
}

#[test]
fn a_connack_that_does_not_fit_is_not_sent() {
    on_any_shards(|broker| {
        let taking = |maximum| Connect {
            properties: Properties::new().four(id::MAXIMUM_PACKET_SIZE, maximum),
            ..Connect::new(V5, "c")
        };
        let mut old = broker.client(V5, "c");
        let (_, ack) = broker.connect(Connect::new(V5, "other"));
        let whole = encode(&Packet::ConnAck(ack), V5).len() as u32;
        assert_refused(broker, taking(whole - 1), 0x95);
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(taking(4)));
        client.expect_closed();
        // Nobody was disturbed by either.
        old.ping();
        broker.connect(taking(whole));
        old.expect_dismissal(0x8E);
    });
}

#[test]
fn an_assigned_client_identifier_is_told_in_5_0_only() {
    on_any_shards(|broker| {
        let (mut one, ack) = broker.connect(Connect::new(V311, ""));
        assert_eq!(ack, ConnAck::default());
        let (mut other, _) = broker.connect(Connect::new(V311, ""));
        one.ping();
        other.ping();
        let (_, ack) = broker.connect(Connect::new(V5, "named"));
        assert_eq!(ack.properties.find(id::ASSIGNED_CLIENT_IDENTIFIER), None);
    });
}

#[test]
fn a_server_without_qos_grants_less_and_takes_no_more() {
    let broker = Broker::with(3, |_, mqtt| mqtt.max_qos = AtMostOnce);
    let (mut client, ack) = broker.connect(Connect::new(V5, "c"));
    assert_eq!(ack.properties.number(id::MAXIMUM_QOS), Some(0));
    client.send(subscribe(1, &[("a", at(AtMostOnce)), ("b", at(AtLeastOnce)), ("c", at(ExactlyOnce))]));
    client.expect(suback(1, &[0, 0, 0]));
    client.send(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("a", "x") }));
    client.expect_dismissal(0x9B);
}

#[test]
fn what_the_server_does_offer_is_said_by_silence() {
    on_any_shards(|broker| {
        let (_, ack) = broker.connect(lasting(V5, "c"));
        for property in [
            id::SESSION_EXPIRY_INTERVAL,
            id::MAXIMUM_QOS,
            id::RETAIN_AVAILABLE,
            id::WILDCARD_SUBSCRIPTION_AVAILABLE,
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
            id::SHARED_SUBSCRIPTION_AVAILABLE,
            id::SERVER_KEEP_ALIVE,
            id::RESPONSE_INFORMATION,
            id::SERVER_REFERENCE,
            id::REASON_STRING,
            id::AUTHENTICATION_METHOD,
        ] {
            assert_eq!(ack.properties.find(property), None, "property {property:#04x}");
        }
    });
}
