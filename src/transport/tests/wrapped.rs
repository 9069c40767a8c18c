//! PROXY headers and WebSocket, alone and on top of each other.

use std::sync::Arc;

use super::client::{Authority, CONNACK, Client, SUBACK, SUBSCRIBE, connect, publish};
use super::host::Host;
use crate::engine::{Engine, Time};
use crate::transport::tls::Settings;
use crate::transport::{Stack, ws};

pub const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: server\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

pub fn websocket() -> Stack {
    Stack { websocket: Some(Arc::new(ws::Limits::default())), ..Stack::default() }
}

fn behind_proxy(stack: Stack) -> Stack {
    Stack { proxy: Some(Arc::from(["127.0.0.0/8".parse().unwrap()])), ..stack }
}

pub fn frame(mqtt: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ws::frame::put_masked(ws::frame::Opcode::Binary, mqtt, [1, 2, 3, 4], &mut out);
    out
}

/// The payloads of the binary frames in what a server sent; its other frames are left out.
fn payloads(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        if first & 0x0F == 2 {
            all.extend_from_slice(&rest[..len]);
        }
        bytes = &rest[len..];
    }
    all
}

fn behind_head(bytes: &[u8]) -> &[u8] {
    assert!(bytes.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(bytes));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    &bytes[end + 4..]
}

#[test]
fn mqtt_goes_over_websocket_in_pieces_of_any_size() {
    let payload: Vec<u8> = (0..100_000u32).map(|n| (n * 7) as u8).collect();
    let mqtt = [&connect("c")[..], &SUBSCRIBE, &publish(&payload)].concat();
    for piece in [1, 7, 4096] {
        let mut host = Host::new(1, websocket());
        let wire = host.accept().unwrap();
        let sent = [UPGRADE, &mqtt.chunks(1000).flat_map(frame).collect::<Vec<u8>>()].concat();
        for piece in sent.chunks(piece) {
            host.receive(wire, piece);
            host.turn();
        }
        host.settle();
        let got = payloads(behind_head(&host.wires[wire].to_client));
        assert!(got == [&CONNACK[..], &SUBACK, &publish(&payload)].concat(), "in pieces of {piece}");
    }
}

#[test]
fn a_request_that_is_no_websocket_gets_an_answer_and_is_counted() {
    let mut host = Host::new(1, websocket());
    let wire = host.accept().unwrap();
    host.receive(wire, b"GET / HTTP/1.1\r\nHost: server\r\n\r\n");
    host.settle();
    assert!(host.wires[wire].is_closed);
    assert!(host.wires[wire].to_client.starts_with(b"HTTP/1.1 4"));
    assert_eq!(host.counters[0].ws_refused.load(), 1);
}

#[test]
fn a_frame_without_a_mask_ends_the_connection() {
    let mut host = Host::new(1, websocket());
    let wire = host.accept().unwrap();
    host.receive(wire, UPGRADE);
    host.settle();
    host.wires[wire].to_client.clear();
    host.receive(wire, &[0x82, 2, 0xC0, 0]);
    host.settle();
    assert!(host.wires[wire].is_closed);
    assert_eq!(host.wires[wire].to_client[..4], [0x88, 2, 0x03, 0xEA], "close, 1002");
    assert_eq!(host.counters[0].ws_broken.load(), 1);
}

#[test]
fn a_broker_that_stops_closes_the_websocket() {
    let mut host = Host::new(1, websocket());
    let wire = host.accept().unwrap();
    host.receive(wire, &[UPGRADE, &frame(&connect("c"))].concat());
    host.settle();
    host.shards[0].stop(Time(0));
    host.settle();
    assert!(host.wires[wire].to_client.ends_with(&[0x88, 2, 0x03, 0xE8]), "close, 1000");
}

#[test]
fn a_proxy_header_may_come_in_any_pieces_and_leaves_nothing_behind() {
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5555 1883\r\n";
    for split in 1..header.len() {
        let mut host = Host::new(1, behind_proxy(Stack::default()));
        let wire = host.accept().unwrap();
        host.receive(wire, &header[..split]);
        host.receive(wire, &[&header[split..], &connect("c")].concat());
        host.settle();
        assert_eq!(host.wires[wire].to_client, CONNACK, "split at {split}");
        let known = host.shards[0].inner().peers.pop().expect("the core knows where it comes from");
        assert_eq!(known.address, Some("192.0.2.1:5555".parse().unwrap()));
    }
}

#[test]
fn a_proxy_header_is_taken_from_trusted_addresses_alone() {
    let mut host = Host::new(1, behind_proxy(Stack::default()));
    assert_eq!(host.accept_from(Some("192.0.2.9:1".parse().unwrap())), None);
    assert_eq!(host.accept_from(None), None);
    assert_eq!(host.counters[0].proxy_untrusted.load(), 2);
    assert!(host.accept_from(Some("[::ffff:127.0.0.1]:1".parse().unwrap())).is_some());
}

#[test]
fn a_connection_without_the_proxy_header_is_refused() {
    let mut host = Host::new(1, behind_proxy(Stack::default()));
    let wire = host.accept().unwrap();
    host.receive(wire, &connect("c"));
    host.settle();
    assert!(host.wires[wire].is_closed && host.wires[wire].to_client.is_empty());
    assert_eq!(host.counters[0].proxy_refused.load(), 1);
}

#[test]
fn all_three_stand_on_top_of_each_other_and_move_to_the_home_shard() {
    let mut authority = Authority::new("stacked");
    authority.issue("server");
    let tls = Some(Arc::new(Settings::load(&authority.tls("server"), &["http/1.1"]).unwrap()));
    let mut host = Host::new(2, behind_proxy(Stack { tls, ..websocket() }));
    let id = (0..).map(|n| format!("c{n}")).find(|id| host.shared.home(id).0 == 1).unwrap();
    let mut client = Client::new(&mut host, &Arc::new(authority.client(None)), "server");
    let hello = client.bytes();
    host.receive(client.wire, b"PROXY TCP6 2001:db8::1 2001:db8::2 5555 8084\r\n");
    host.receive(client.wire, &hello);
    client.talk(&mut host);
    client.send(&mut host, UPGRADE);
    client.send(&mut host, &frame(&connect(&id)));
    client.send(&mut host, &frame(&SUBSCRIBE));
    client.send(&mut host, &frame(&publish(b"hello")));
    assert_eq!(payloads(behind_head(&client.got)), [&CONNACK[..], &SUBACK, &publish(b"hello")].concat());
    assert_eq!(host.wires[client.wire].hand_overs, 1);
}

#[test]
fn what_comes_drop_by_drop_before_connect_is_cut_off_by_the_connect_timeout() {
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 5555 1883\r\n";
    let connect_after_upgrade = [UPGRADE, &frame(&connect("c"))].concat();
    for (stack, at_once, bytes) in [
        (websocket(), 0, UPGRADE),
        (websocket(), UPGRADE.len(), &connect_after_upgrade[..]),
        (behind_proxy(Stack::default()), 0, &header[..]),
    ] {
        let mut host = Host::new(1, stack);
        let wire = host.accept().unwrap();
        host.receive(wire, &bytes[..at_once]);
        for drop in bytes[at_once..].chunks(1).take(9) {
            host.now = Time(host.now.0 + 500_000_000);
            host.receive(wire, drop);
            host.turn();
            assert!(!host.wires[wire].is_closed);
        }
        host.now = Time(5_100_000_000);
        host.turn();
        assert!(host.wires[wire].is_closed, "each drop does not begin the time anew");
        assert_eq!(host.shards[0].connections(), 0);
    }
}
