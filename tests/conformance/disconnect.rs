//! PINGREQ, PINGRESP, DISCONNECT and AUTH (§3.12–§3.15, §4.12).

use ringmq::sim::wire::{Connect, Packet, Reasoned, encode};

use crate::broker::*;

fn disconnect(reason: u8) -> Packet {
    Packet::Disconnect(Reasoned { reason, properties: Properties::new() })
}

fn disconnect_expiring(interval: u32) -> Packet {
    let properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, interval);
    Packet::Disconnect(Reasoned { reason: 0, properties })
}

/// A CONNECT of 5.0 that goes on with a session and keeps it for so long.
fn expiring(client_id: &str, interval: u32) -> Connect {
    let mut connect = Connect::new(V5, client_id);
    connect.clean_start = false;
    connect.properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, interval);
    connect
}

#[test]
fn every_pingreq_is_answered_with_a_pingresp() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.send_bytes(&[0xC0, 0, 0xC0, 0, 0xC0, 0]);
        (0..3).for_each(|_| client.expect(Packet::PingResp));
        client.expect_nothing();
    });
}

#[test]
fn reserved_bits_of_pingreq_disconnect_and_auth_must_be_zero() {
    for_both(|broker, version| {
        for first in [0xC1, 0xC2, 0xC8, 0xE1, 0xE2, 0xEF, 0xF1, 0xFF] {
            let mut client = broker.client(version, "c");
            client.send_bytes(&[first, 0]);
            client.expect_dismissal(0x81);
        }
    });
}

#[test]
fn a_pingreq_with_a_body_is_malformed() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.send_bytes(&[0xC0, 1, 0]);
        client.expect_dismissal(0x81);
    });
}

#[test]
fn packets_that_only_a_server_sends_are_protocol_errors() {
    for_both(|broker, version| {
        let codes: &[u8] = if version == V5 { &[0, 0] } else { &[] };
        let suback = [&[0x90, 3 + codes.len() as u8 / 2, 0, 1], &codes[..codes.len() / 2], &[0]].concat();
        for bytes in [&[0xD0, 0][..], &suback] {
            let mut client = broker.client(version, "c");
            client.send_bytes(bytes);
            client.expect_dismissal(0x82);
        }
    });
}

#[test]
fn disconnect_closes_and_nothing_behind_it_is_handled() {
    for_both(|broker, version| {
        let mut watcher = broker.client(version, "w");
        watcher.subscribe("#", AtMostOnce);
        let mut client = broker.client(version, "c");
        let mut bytes = encode(&disconnect(0), version);
        bytes.extend(encode(&Packet::Publish(message("t", "too late")), version));
        bytes.extend(encode(&Packet::PingReq, version));
        client.send_bytes(&bytes);
        client.expect_closed();
        watcher.expect_nothing();
    });
}

#[test]
fn every_way_to_write_a_normal_disconnection_is_one() {
    on_any_shards(|broker| {
        for bytes in [&[0xE0, 0][..], &[0xE0, 1, 0], &[0xE0, 2, 0, 0]] {
            let mut client = broker.client(V5, "c");
            client.send_bytes(bytes);
            client.expect_closed();
        }
    });
}

#[test]
fn disconnect_of_3_1_1_has_no_body() {
    on_any_shards(|broker| {
        let mut client = broker.client(V311, "c");
        client.send_bytes(&[0xE0, 1, 0]);
        client.expect_closed();
        assert_eq!(broker.count("connected"), 0);
    });
}

#[test]
fn every_reason_that_a_client_may_give_is_taken() {
    on_any_shards(|broker| {
        for reason in [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
            let mut client = broker.client(V5, "c");
            let properties = Properties::new().text(id::REASON_STRING, "why").user("a", "1").user("a", "2");
            client.send(Packet::Disconnect(Reasoned { reason, properties }));
            client.expect_closed();
        }
    });
}

#[test]
fn a_reason_that_no_disconnect_has_is_a_protocol_error() {
    on_any_shards(|broker| {
        for reason in [0x01, 0x10, 0x84, 0x85, 0x91, 0xFF] {
            let mut client = broker.client(V5, "c");
            client.send(disconnect(reason));
            client.expect_dismissal(0x82);
        }
    });
}

#[test]
fn a_server_reference_from_a_client_is_a_protocol_error() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        let properties = Properties::new().text(id::SERVER_REFERENCE, "elsewhere");
        client.send(Packet::Disconnect(Reasoned { reason: 0, properties }));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn the_server_says_the_exact_reason_and_nothing_else() {
    on_any_shards(|broker| {
        let mut connect = Connect::new(V5, "c");
        connect.keep_alive = 2;
        let (mut client, _) = broker.connect(connect.clone());
        broker.seconds(4);
        client.expect(disconnect(0x8D));
        client.expect_closed();
        let (mut client, _) = broker.connect(connect);
        let _other = broker.client(V5, "c");
        client.expect(disconnect(0x8E));
        client.expect_closed();
        let mut client = broker.client(V5, "d");
        client.send(Packet::Connect(Connect::new(V5, "d")));
        client.expect(disconnect(0x82));
        client.expect_closed();
        let mut client = broker.client(V5, "e");
        client.send_bytes(&[0xC1, 0]);
        client.expect(disconnect(0x81));
        client.expect_closed();
        let mut client = broker.client(V5, "f");
        broker.stop();
        client.expect(disconnect(0x8B));
        client.expect_closed();
    });
}

#[test]
fn the_server_sends_no_disconnect_before_it_accepted_the_connection() {
    let broker = Broker::with(3, |limits, _| limits.client_id_bytes_max = 10);
    for bytes in [
        vec![0xC0, 0],
        vec![0xF0, 0],
        vec![0x10, 0],
        encode(&Packet::Connect(Connect::new(V5, "far too long a name")), V5),
    ] {
        let mut client = broker.dial(V5);
        client.send_bytes(&bytes);
        // A CONNACK may come, and never a DISCONNECT.
        client.expect_closed_or_refused();
    }
    let mut silent = broker.dial(V5);
    broker.seconds(6);
    silent.expect_closed();
}

#[test]
fn a_client_of_3_1_1_is_never_sent_a_disconnect() {
    on_any_shards(|broker| {
        let mut connect = Connect::new(V311, "c");
        connect.keep_alive = 2;
        let (mut client, _) = broker.connect(connect);
        broker.seconds(4);
        client.expect_closed();
        let mut client = broker.client(V311, "c");
        let _other = broker.client(V5, "c");
        client.expect_closed();
        let mut client = broker.client(V311, "d");
        broker.stop();
        client.expect_closed();
    });
}

#[test]
fn disconnect_can_shorten_and_prolong_the_session() {
    on_any_shards(|broker| {
        for (at_connect, at_disconnect, after, present) in [
            (1000, None, 999, true),
            (1000, None, 1001, false),
            (1000, Some(5), 4, true),
            (1000, Some(5), 6, false),
            (1000, Some(0), 0, false),
            (5, Some(1000), 999, true),
            (5, Some(1000), 1001, false),
            (5, Some(u32::MAX), 10_000_000, true),
            (0, Some(0), 0, false),
        ] {
            // Whatever the case before it left.
            broker.client(V5, "c").disconnect();
            let (mut client, ack) = broker.connect(expiring("c", at_connect));
            assert!(!ack.session_present);
            client.send(at_disconnect.map_or(disconnect(0), disconnect_expiring));
            client.expect_closed();
            broker.seconds(after);
            let (client, ack) = broker.connect(expiring("c", 0));
            assert_eq!(ack.session_present, present, "{at_connect} {at_disconnect:?} after {after} s");
            client.disconnect();
        }
    });
}

#[test]
fn a_session_that_was_to_end_with_its_connection_cannot_be_prolonged() {
    on_any_shards(|broker| {
        for connect in [expiring("c", 0), Connect::new(V5, "c")] {
            let (mut client, _) = broker.connect(connect);
            client.send(disconnect_expiring(1));
            client.expect_dismissal(0x82);
            assert_eq!(broker.count("sessions"), 0);
        }
    });
}

#[test]
fn the_prolonged_session_is_bounded_as_at_connect() {
    for shards in [1, 3] {
        let broker = Broker::with(shards, |limits, _| limits.session_expiry_max = 10);
        let (mut client, _) = broker.connect(expiring("c", 5));
        client.send(disconnect_expiring(u32::MAX));
        client.expect_closed();
        broker.seconds(11);
        assert_eq!(broker.count("sessions"), 0);
    }
}

#[test]
fn every_packet_of_enhanced_authentication_is_refused() {
    on_any_shards(|broker| {
        let mut connect = Connect::new(V5, "c");
        connect.properties =
            Properties::new().text(id::AUTHENTICATION_METHOD, "PLAIN").binary(id::AUTHENTICATION_DATA, b"data");
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(connect));
        let ack = client.next_connack();
        assert_eq!((ack.code, ack.properties.find(id::AUTHENTICATION_METHOD)), (0x8C, None));
        client.expect_closed();
        let method = Properties::new().text(id::AUTHENTICATION_METHOD, "PLAIN");
        for (reason, properties) in [(0x18, method.clone()), (0x19, method), (0x00, Properties::new())] {
            let mut client = broker.client(V5, "c");
            client.send(Packet::Auth(Reasoned { reason, properties }));
            client.expect_dismissal(0x82);
        }
    });
}

#[test]
fn auth_is_no_packet_of_3_1_1() {
    on_any_shards(|broker| {
        let mut client = broker.client(V311, "c");
        client.send_bytes(&[0xF0, 0]);
        client.expect_closed();
    });
}
