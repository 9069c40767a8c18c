//! CONNECT and CONNACK (§3.1, §3.2).

use ringmq::sim::wire::{Connect, Packet, Publish, Reasoned, encode, frame};

use crate::broker::*;

#[test]
fn the_first_packet_must_be_connect() {
    for_both(|broker, version| {
        let mut client = broker.dial(version);
        client.publish("t", "too early");
        client.expect_closed();
        let mut client = broker.dial(version);
        client.send(Packet::PingReq);
        client.expect_closed();
    });
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.send(Packet::Connect(Connect::new(version, "c")));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn three_versions_are_spoken_on_one_port() {
    on_any_shards(|broker| {
        for version in [V31, V311, V5] {
            let (_, ack) = broker.connect(Connect::new(version, "someone"));
            assert!(!ack.session_present);
        }
    });
}

#[test]
fn a_protocol_name_that_is_not_mqtt_is_not_accepted() {
    for_both(|broker, version| {
        let mut client = broker.dial(version);
        let mut bytes = encode(&Packet::Connect(Connect::new(version, "c")), version);
        bytes[4..8].copy_from_slice(b"mqtt");
        client.send_bytes(&bytes);
        client.expect_closed_or_refused();
    });
}

#[test]
fn an_unknown_protocol_level_is_refused_with_the_reason() {
    on_any_shards(|broker| {
        for (level, version, code) in [(6, V5, 0x84), (2, V311, 0x01)] {
            let mut client = broker.dial(version);
            let mut bytes = encode(&Packet::Connect(Connect::new(version, "c")), version);
            bytes[8] = level;
            client.send_bytes(&bytes);
            assert_eq!(client.next_connack().code, code, "level {level}");
            client.expect_closed();
        }
    });
}

#[test]
fn the_reserved_connect_flag_must_be_zero() {
    for_both(|broker, version| {
        let mut client = broker.dial(version);
        let mut bytes = encode(&Packet::Connect(Connect::new(version, "c")), version);
        bytes[9] |= 1;
        client.send_bytes(&bytes);
        client.expect_closed_or_refused();
    });
}

#[test]
fn connect_flags_and_payload_must_agree() {
    // Will QoS or Will Retain without a will, Will QoS 3, a user name that is announced and missing, one that is
    // there and not announced, trailing bytes.
    for_both(|broker, version| {
        let plain = encode(&Packet::Connect(Connect::new(version, "c")), version);
        for flags in [0x08, 0x10, 0x18, 0x20, 0x80, 0x04 | 0x18] {
            let mut client = broker.dial(version);
            let mut bytes = plain.clone();
            bytes[9] |= flags;
            client.send_bytes(&bytes);
            client.expect_closed_or_refused();
        }
        let mut client = broker.dial(version);
        let mut body = plain[2..].to_vec();
        body.extend([0, 1, b'u']);
        client.send_bytes(&frame(0x10, &body));
        client.expect_closed_or_refused();
    });
}

#[test]
fn a_password_needs_a_user_name_in_3_1_1_and_not_in_5_0() {
    on_any_shards(|broker| {
        for version in BOTH {
            let mut connect = Connect::new(version, "c");
            connect.password = Some(b"secret".to_vec());
            let mut client = broker.dial(version);
            client.send(Packet::Connect(connect));
            if version == V5 {
                assert_eq!(client.next_connack().code, 0);
            } else {
                client.expect_closed_or_refused();
            }
        }
    });
}

#[test]
fn user_name_and_password_are_read_where_the_flags_say() {
    for_both(|broker, version| {
        let mut connect = Connect::new(version, "c");
        connect.user_name = Some("name".into());
        connect.password = Some(b"password".to_vec());
        connect.will = Some(Will { topic: "w".into(), payload: b"x".to_vec(), ..Will::default() });
        broker.connect(connect);
    });
}

#[test]
fn a_malformed_connect_closes_the_connection() {
    for_both(|broker, version| {
        let whole = encode(&Packet::Connect(Connect::new(version, "client")), version);
        // The body ends in the middle of a field.
        for cut in 3..whole.len() - 2 {
            let mut client = broker.dial(version);
            client.send_bytes(&frame(0x10, &whole[2..2 + cut]));
            client.expect_closed_or_refused();
        }
        let mut client = broker.dial(version);
        client.send_bytes(&frame(0x11, &whole[2..]));
        client.expect_closed_or_refused();
    });
}

#[test]
fn client_identifiers_of_1_to_23_letters_and_digits_are_accepted() {
    for_both(|broker, version| {
        for client_id in ["a", "0123456789abcdefghijklm", "ABCDEFGHIJKLMNOPQRSTUVW", "nopqrstuvwxyzXYZ"] {
            broker.client(version, client_id);
        }
    });
}

#[test]
fn an_empty_client_identifier_gets_one_assigned_that_nobody_has() {
    on_any_shards(|broker| {
        let (_first, ack) = broker.connect(Connect::new(V5, ""));
        let one = ack.properties.string(id::ASSIGNED_CLIENT_IDENTIFIER).expect("assigned").to_owned();
        let (_second, ack) = broker.connect(Connect::new(V5, ""));
        let two = ack.properties.string(id::ASSIGNED_CLIENT_IDENTIFIER).expect("assigned").to_owned();
        assert!(!one.is_empty() && one != two);
        // It names a session like any other: whoever uses it takes the connection over.
        let mut first = _first;
        broker.client(V5, &one);
        first.expect_dismissal(0x8E);
    });
}

#[test]
fn an_assigned_client_identifier_resumes_its_session() {
    on_any_shards(|broker| {
        let (mut client, ack) = broker.connect(lasting(V5, ""));
        let name = ack.properties.string(id::ASSIGNED_CLIENT_IDENTIFIER).expect("assigned").to_owned();
        client.subscribe("t", AtLeastOnce);
        client.reset();
        assert!(broker.resume(V5, &name).1);
    });
}

#[test]
fn an_empty_client_identifier_of_3_1_1_needs_a_clean_session() {
    on_any_shards(|broker| {
        broker.client(V311, "");
        let mut client = broker.dial(V311);
        client.send(Packet::Connect(lasting(V311, "")));
        let ack = client.next_connack();
        assert_eq!((ack.code, ack.session_present), (0x02, false));
        client.expect_closed();
    });
}

#[test]
fn a_rejected_client_identifier_is_answered_and_closed() {
    for version in BOTH {
        let broker = Broker::with(1, |limits, _| limits.client_id_bytes_max = 30);
        let mut client = broker.dial(version);
        client.send(Packet::Connect(Connect::new(version, &"x".repeat(31))));
        assert_eq!(client.next_connack().code, if version == V5 { 0x85 } else { 0x02 });
        client.expect_closed();
    }
}

#[test]
fn client_identifiers_may_hold_wildcards_and_anything_else() {
    for_both(|broker, version| {
        for client_id in ["a+b", "#", "$share/x", "ä/ö", " "] {
            broker.client(version, client_id);
        }
    });
}

#[test]
fn the_existing_connection_of_a_client_is_closed_when_it_connects_again() {
    for_both(|broker, version| {
        let mut old = broker.client(version, "c");
        let mut new = broker.client(version, "c");
        old.expect_dismissal(0x8E);
        new.ping();
    });
}

#[test]
fn connack_comes_first_and_once() {
    for_both(|broker, version| {
        let (mut client, _) = broker.resume(version, "c");
        client.subscribe("t", AtLeastOnce);
        client.reset();
        broker.client(version, "p").publish_acknowledged("t", "waits");
        // The queued message comes after CONNACK, and no second CONNACK comes.
        let (mut client, present) = broker.resume(version, "c");
        assert!(present);
        client.expect_message("t", "waits");
        client.ping();
    });
}

#[test]
fn packets_sent_right_behind_connect_are_handled() {
    for_both(|broker, version| {
        let mut client = broker.dial(version);
        let mut bytes = encode(&Packet::Connect(Connect::new(version, "hasty")), version);
        bytes.extend(encode(&subscribe(1, &[("t", at(AtMostOnce))]), version));
        bytes.extend(encode(&Packet::Publish(message("t", "to myself")), version));
        bytes.extend(encode(&Packet::PingReq, version));
        client.send_bytes(&bytes);
        assert_eq!(client.next_connack().code, 0);
        // With several shards the SUBACK may wait for another while PINGRESP does not.
        let mut kinds = [client.next(), client.next(), client.next()].map(|packet| match packet {
            Packet::SubAck(_) => 1,
            Packet::Publish(_) => 2,
            Packet::PingResp => 3,
            other => panic!("{other:?}"),
        });
        kinds.sort_unstable();
        assert_eq!(kinds, [1, 2, 3]);
    });
}

#[test]
fn data_behind_a_rejected_connect_is_not_processed() {
    on_any_shards(|broker| {
        let mut watcher = broker.client(V5, "watcher");
        watcher.subscribe("#", AtMostOnce);
        let mut client = broker.dial(V311);
        let mut bytes = encode(&Packet::Connect(lasting(V311, "")), V311);
        bytes.extend(encode(&Packet::Publish(message("t", "never")), V311));
        client.send_bytes(&bytes);
        assert_eq!(client.next_connack().code, 2);
        client.expect_closed();
        watcher.expect_nothing();
    });
}

#[test]
fn connect_split_at_every_byte_is_still_a_connect() {
    for_both(|broker, version| {
        let mut client = broker.dial(version);
        client.one_by_one();
        client.send(Packet::Connect(Connect::new(version, "slow")));
        client.one_by_one();
        assert_eq!(client.next_connack().code, 0);
        client.ping();
    });
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let broker = Broker::new(3);
    let mut silent = broker.dial(V5);
    let mut half = broker.dial(V5);
    half.send_bytes(&[0x10, 0x20, 0, 4]);
    broker.seconds(4);
    assert!(!silent.is_closed() && !half.is_closed());
    broker.seconds(2);
    assert!(silent.is_closed() && half.is_closed());
    assert_eq!(broker.count("connections"), 0);
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    for_both(|broker, version| {
        let mut connect = Connect::new(version, "c");
        connect.keep_alive = 10;
        let (mut client, _) = broker.connect(connect);
        broker.seconds(14);
        client.ping();
        broker.seconds(14);
        assert!(!client.is_closed());
        broker.seconds(2);
        client.expect_dismissal(0x8D);
    });
}

#[test]
fn keep_alive_zero_never_ends_a_connection() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        broker.seconds(100_000);
        client.ping();
    });
}

#[test]
fn without_a_server_keep_alive_the_clients_own_holds() {
    let broker = Broker::new(1);
    let mut connect = Connect::new(V5, "c");
    connect.keep_alive = 10;
    let (_, ack) = broker.connect(connect);
    assert_eq!(ack.properties.find(id::SERVER_KEEP_ALIVE), None);
}

#[test]
fn a_server_keep_alive_is_told_and_holds() {
    let broker = Broker::with(1, |limits, _| limits.keep_alive_max = 20);
    for asked in [0, 60] {
        let mut connect = Connect::new(V5, "c");
        connect.keep_alive = asked;
        let (mut client, ack) = broker.connect(connect);
        assert_eq!(ack.properties.number(id::SERVER_KEEP_ALIVE), Some(20));
        broker.seconds(31);
        client.expect_dismissal(0x8D);
    }
}

#[test]
fn response_information_is_given_only_when_asked_for() {
    let broker = Broker::with(1, |_, mqtt| mqtt.response_information = Some("answers/here".into()));
    for (asked, expected) in [(None, None), (Some(0), None), (Some(1), Some("answers/here"))] {
        let mut connect = Connect::new(V5, "c");
        if let Some(asked) = asked {
            connect.properties = Properties::new().byte(id::REQUEST_RESPONSE_INFORMATION, asked);
        }
        let (_, ack) = broker.connect(connect);
        assert_eq!(ack.properties.string(id::RESPONSE_INFORMATION), expected);
    }
}

#[test]
fn reason_strings_stay_away_when_problem_information_is_not_asked_for() {
    on_any_shards(|broker| {
        let mut connect = Connect::new(V5, "c");
        connect.properties = Properties::new().byte(id::REQUEST_PROBLEM_INFORMATION, 0);
        let (mut client, _) = broker.connect(connect);
        client.send(subscribe(1, &[("a/#/b", at(AtMostOnce)), ("ok", at(AtMostOnce))]));
        match client.next() {
            Packet::SubAck(codes) => assert_eq!(codes.properties, Properties::new()),
            Packet::Disconnect(_) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_the_server_does_not_offer_is_told_and_a_will_that_needs_it_refused() {
    let broker = Broker::with(1, |_, mqtt| {
        mqtt.max_qos = AtLeastOnce;
        mqtt.retain_available = false;
        mqtt.wildcard_subscriptions = false;
        mqtt.shared_subscriptions = false;
        mqtt.subscription_identifiers = false;
    });
    let (mut client, ack) = broker.connect(Connect::new(V5, "c"));
    for property in [
        id::RETAIN_AVAILABLE,
        id::WILDCARD_SUBSCRIPTION_AVAILABLE,
        id::SHARED_SUBSCRIPTION_AVAILABLE,
        id::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
    ] {
        assert_eq!(ack.properties.number(property), Some(0), "property {property:#04x}");
    }
    assert_eq!(ack.properties.number(id::MAXIMUM_QOS), Some(1));
    // A subscription with QoS 2 is accepted all the same, with less.
    client.send(subscribe(1, &[("t", at(ExactlyOnce))]));
    client.expect(suback(1, &[1]));
    for (will, code) in [
        (Will { qos: ExactlyOnce, topic: "w".into(), ..Will::default() }, 0x9B),
        (Will { retain: true, topic: "w".into(), ..Will::default() }, 0x9A),
    ] {
        let mut connect = Connect::new(V5, "w");
        connect.will = Some(will);
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(connect));
        assert_eq!(client.next_connack().code, code);
        client.expect_closed();
    }
    for (publish, code) in [
        (Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }, 0x9B),
        (Publish { retain: true, ..message("t", "x") }, 0x9A),
    ] {
        let mut client = broker.client(V5, "p");
        client.send(Packet::Publish(publish));
        client.expect_dismissal(code);
    }
}

#[test]
fn an_authentication_method_is_refused() {
    on_any_shards(|broker| {
        let mut connect = Connect::new(V5, "c");
        connect.properties = Properties::new().text(id::AUTHENTICATION_METHOD, "SCRAM-SHA-1");
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(connect));
        assert_eq!(client.next_connack().code, 0x8C);
        client.expect_closed();
    });
}

#[test]
fn auth_without_an_authentication_method_is_a_protocol_error() {
    on_any_shards(|broker| {
        let (mut client, ack) = broker.connect(Connect::new(V5, "c"));
        assert_eq!(ack.properties.find(id::AUTHENTICATION_METHOD), None);
        let properties = Properties::new().text(id::AUTHENTICATION_METHOD, "SCRAM-SHA-1");
        client.send(Packet::Auth(Reasoned { reason: 0x19, properties }));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn properties_that_may_come_once_come_once_and_zero_is_refused_where_it_must_be() {
    on_any_shards(|broker| {
        for properties in [
            Properties::new().four(id::SESSION_EXPIRY_INTERVAL, 1).four(id::SESSION_EXPIRY_INTERVAL, 2),
            Properties::new().two(id::RECEIVE_MAXIMUM, 0),
            Properties::new().four(id::MAXIMUM_PACKET_SIZE, 0),
            Properties::new().byte(id::REQUEST_PROBLEM_INFORMATION, 2),
            Properties::new().binary(id::AUTHENTICATION_DATA, b"without a method"),
            Properties::new().two(id::TOPIC_ALIAS, 1),
        ] {
            let mut connect = Connect::new(V5, "c");
            connect.properties = properties.clone();
            let mut client = broker.dial(V5);
            client.send(Packet::Connect(connect));
            let code = client.next_connack().code;
            assert!(code == 0x81 || code == 0x82, "{properties:?} answered with {code:#04x}");
            client.expect_closed();
        }
    });
}

#[test]
fn the_session_expiry_interval_granted_is_told_when_it_is_not_the_one_asked_for() {
    let broker = Broker::with(1, |limits, _| limits.session_expiry_max = 100);
    let (_, ack) = broker.connect(lasting(V5, "c"));
    assert_eq!(ack.properties.number(id::SESSION_EXPIRY_INTERVAL), Some(100));
}

#[test]
fn a_stopping_broker_says_so_and_closes() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        broker.stop();
        client.expect_dismissal(0x8B);
        let mut late = broker.dial(version);
        late.expect_closed();
    });
}

#[test]
fn the_limit_of_connections_holds_and_frees() {
    let broker = Broker::with(3, |limits, _| limits.connections_max = 2);
    let first = broker.client(V5, "1");
    let _second = broker.client(V5, "2");
    broker.dial(V5).expect_closed();
    first.disconnect();
    broker.client(V5, "3");
}
