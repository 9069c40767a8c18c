//! TLS: the handshake in any pieces, hand-over in its midst, the end, bounds.

use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig};

use super::client::{Authority, CONNACK, Client, SUBACK, SUBSCRIBE, connect, publish};
use super::host::Host;
use crate::core::counters::EndReason;
use crate::engine::{Engine, Time, TransportEnd};
use crate::transport::tls::Settings;
use crate::transport::{HANDSHAKE_UNITS_PER_TURN, Stack};

/// A host with a certificate for "server", and how its clients are set up.
fn tls_host(name: &str, shards: u16) -> (Host, Arc<ClientConfig>, Authority) {
    let mut authority = Authority::new(name);
    authority.issue("server");
    let host = Host::new(shards, stack(&authority));
    let client = Arc::new(authority.client(None));
    (host, client, authority)
}

fn stack(authority: &Authority) -> Stack {
    let settings = Settings::load(&authority.tls("server"), &["mqtt"]).unwrap();
    Stack { tls: Some(Arc::new(settings)), ..Stack::default() }
}

/// A client identifier that lives on that shard.
fn client_id_of(host: &Host, shard: u16) -> String {
    (0..).map(|n| format!("c{n}")).find(|id| host.shared.home(id).0 == shard).unwrap()
}

#[test]
fn a_handshake_works_in_pieces_of_any_size() {
    let (mut host, config, _authority) = tls_host("pieces", 1);
    for piece in [1, 2, 3, 5, 7, 11, 64, 255, 256, 4096, usize::MAX] {
        let mut client = Client::new(&mut host, &config, "server");
        client.piece = piece;
        client.talk(&mut host);
        client.send(&mut host, &connect(&format!("p{}", piece % 1000)));
        assert_eq!(client.got, CONNACK, "in pieces of {piece}");
    }
    assert_eq!(host.counters[0].tls_handshakes.load(), 11);
    assert_eq!(host.counters[0].tls_handshaking.load(), 0);
}

#[test]
fn a_connect_that_comes_with_the_end_of_the_handshake_is_seen() {
    let (mut host, config, _authority) = tls_host("early", 1);
    let mut client = Client::new(&mut host, &config, "server");
    std::io::Write::write_all(&mut client.tls.writer(), &connect("c")).unwrap();
    client.talk(&mut host);
    assert_eq!(client.got, CONNACK);
}

#[test]
fn tls_1_2_is_spoken_too() {
    let (mut host, _, authority) = tls_host("old", 1);
    let config = Arc::new(authority.client_of(None, &[&rustls::version::TLS12]));
    for resumed in [0, 1] {
        Client::let_in(&mut host, &config, "c");
        assert_eq!(host.counters[0].tls_resumed.load(), resumed);
    }
}

#[test]
fn a_ticket_of_one_shard_is_good_on_another() {
    let (_, config, authority) = tls_host("tickets", 1);
    let stack = stack(&authority);
    let mut first = Host::new(1, stack.clone());
    let mut second = Host::new(1, stack);
    for (host, resumed) in [(&mut first, 0), (&mut second, 1)] {
        Client::let_in(host, &config, "c");
        assert_eq!(host.counters[0].tls_resumed.load(), resumed);
    }
}

#[test]
fn a_client_is_handed_over_with_its_keys() {
    let (mut host, config, _authority) = tls_host("over", 2);
    let id = client_id_of(&host, 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    // CONNECT and what follows in one go, and the beginning of a record that ends later.
    std::io::Write::write_all(&mut client.tls.writer(), &[&connect(&id)[..], &SUBSCRIBE].concat()).unwrap();
    std::io::Write::write_all(&mut client.tls.writer(), &publish(b"hello")).unwrap();
    let bytes = client.bytes();
    host.receive(client.wire, &bytes[..bytes.len() - 10]);
    host.settle();
    assert_eq!(host.wires[client.wire].hand_overs, 1);
    host.receive(client.wire, &bytes[bytes.len() - 10..]);
    host.settle();
    client.talk(&mut host);
    assert_eq!(client.got, [&CONNACK[..], &SUBACK, &publish(b"hello")].concat());
}

#[test]
fn a_hand_over_waits_until_the_kernel_has_taken_the_end_of_the_handshake() {
    let (mut host, config, _authority) = tls_host("waits", 2);
    let id = client_id_of(&host, 1);
    let mut client = Client::new(&mut host, &config, "server");
    let hello = client.bytes();
    host.receive(client.wire, &hello);
    host.settle();
    client.read(&mut host);
    host.wires[client.wire].is_stuck = true;
    let finished = client.bytes();
    host.receive(client.wire, &finished);
    // The session ticket is on its way when CONNECT arrives.
    host.turn();
    std::io::Write::write_all(&mut client.tls.writer(), &connect(&id)).unwrap();
    let bytes = client.bytes();
    host.receive(client.wire, &bytes);
    host.settle();
    assert_eq!(host.wires[client.wire].hand_overs, 0);
    assert!(host.wires[client.wire].is_paused);
    host.wires[client.wire].is_stuck = false;
    host.settle();
    assert_eq!(host.wires[client.wire].hand_overs, 1);
    client.talk(&mut host);
    assert_eq!(client.got, CONNACK);
}

#[test]
fn a_large_payload_goes_through_in_bounded_pieces() {
    let (mut host, config, _authority) = tls_host("large", 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.piece = 4096;
    client.talk(&mut host);
    client.send(&mut host, &[&connect("c")[..], &SUBSCRIBE].concat());
    client.got.clear();
    let payload: Vec<u8> = (0..900_000u32).map(|n| (n * 7) as u8).collect();
    client.send(&mut host, &publish(&payload));
    client.talk(&mut host);
    assert_eq!(client.got.len(), publish(&payload).len());
    assert!(client.got == publish(&payload));
    let most = host.wires[client.wire].sends_max;
    assert!(most > 60_000 && most < 100_000, "{most} bytes were sent at once");
}

#[test]
fn a_broker_that_stops_says_so_in_tls() {
    let (mut host, config, _authority) = tls_host("stops", 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    client.send(&mut host, &connect("c"));
    assert!(!client.is_closed);
    host.shards[0].stop(Time(0));
    host.settle();
    client.read(&mut host);
    assert!(client.is_closed && host.wires[client.wire].is_closed);
}

#[test]
fn the_end_of_tls_is_the_end_of_the_connection() {
    let (mut host, config, _authority) = tls_host("ends", 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    client.send(&mut host, &connect("c"));
    client.tls.send_close_notify();
    client.talk(&mut host);
    assert!(host.wires[client.wire].is_closed);
    let ended = host.shards[0].inner().core.counters().ended[EndReason::EndOfStream as usize].load();
    assert_eq!(ended, 1);
}

#[test]
fn a_client_that_speaks_plain_mqtt_is_told_by_an_alert() {
    let (mut host, _, _authority) = tls_host("plain", 1);
    let wire = host.accept().unwrap();
    host.receive(wire, &connect("c"));
    host.settle();
    assert!(host.wires[wire].is_closed);
    assert_eq!(host.wires[wire].to_client.first(), Some(&21), "an alert record");
    assert_eq!(host.counters[0].tls_refused_not_tls.load(), 1);
    assert_eq!(host.counters[0].tls_handshaking.load(), 0);
}

/// What `mosquitto_pub --psk aabbcc --psk-identity me` of Debian sends, which would take any certificate.
const MOSQUITTO_PSK: &[u8] = include_bytes!("mosquitto-psk-hello.bin");

#[test]
fn a_client_that_relies_on_a_pre_shared_key_is_told_that_none_is_known() {
    let (mut host, _, _authority) = tls_host("psk", 1);
    for piece in [1, 100, usize::MAX] {
        let wire = host.accept().unwrap();
        for bytes in MOSQUITTO_PSK.chunks(piece) {
            host.receive(wire, bytes);
        }
        host.settle();
        assert!(host.wires[wire].is_closed);
        assert_eq!(host.wires[wire].to_client, [21, 3, 3, 0, 2, 2, 115], "fatal alert unknown_psk_identity");
    }
    assert_eq!(host.counters[0].tls_refused_psk.load(), 3);
    assert_eq!(host.counters[0].tls_handshaking.load(), 0);
}

#[test]
fn a_tls_client_on_a_plain_listener_is_cut_off() {
    let (_, config, _authority) = tls_host("inverse", 1);
    let mut host = Host::new(1, Stack::default());
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    assert!(host.wires[client.wire].is_closed);
}

#[test]
fn a_record_that_was_tampered_with_ends_the_connection() {
    let (mut host, config, _authority) = tls_host("tampered", 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    std::io::Write::write_all(&mut client.tls.writer(), &connect("c")).unwrap();
    let mut bytes = client.bytes();
    *bytes.last_mut().unwrap() ^= 1;
    host.receive(client.wire, &bytes);
    host.settle();
    client.read(&mut host);
    assert!(host.wires[client.wire].is_closed);
    assert_eq!(client.error, Some(rustls::Error::AlertReceived(AlertDescription::BadRecordMac)));
    assert_eq!(host.counters[0].tls_broken.load(), 1);
}

#[test]
fn a_handshake_that_never_ends_is_cut_off_by_the_connect_timeout() {
    let (mut host, config, _authority) = tls_host("drip", 1);
    let mut client = Client::new(&mut host, &config, "server");
    let hello = client.bytes();
    for byte in hello[..hello.len() - 1].chunks(1).take(100) {
        host.now = Time(host.now.0 + 60_000_000);
        host.receive(client.wire, byte);
        host.turn();
    }
    assert!(host.wires[client.wire].is_closed);
    assert_eq!(host.counters[0].tls_refused_abandoned.load(), 1);
    assert_eq!(host.counters[0].tls_handshaking.load(), 0);
}

#[test]
fn who_says_nothing_is_given_up_for_who_comes() {
    let mut authority = Authority::new("full");
    authority.issue("server");
    let mut host = Host::with(1, stack(&authority), 3);
    let config = Arc::new(authority.client(None));
    let mut first = Client::new(&mut host, &config, "server");
    let hello = first.bytes();
    host.receive(first.wire, &hello);
    host.settle();
    // A flood of connections that send nothing, and between them clients that do.
    for n in 0..30 {
        (0..3).for_each(|_| assert!(host.accept().is_some()));
        Client::let_in(&mut host, &config, &format!("c{n}"));
        assert!(host.counters[0].tls_handshaking.load() <= 3);
    }
    let silent = host.wires.iter().filter(|wire| wire.is_closed).count() as u64;
    assert!(silent > 80, "{silent}");
    assert_eq!(host.counters[0].tls_refused_silent.load(), silent);
    first.talk(&mut host);
    first.send(&mut host, &connect("first"));
    assert_eq!(first.got, CONNACK, "who has begun is not given up while others are silent");
    assert_eq!(host.counters[0].tls_refused_unfinished.load() + host.counters[0].tls_refused_full.load(), 0);
}

#[test]
fn who_waits_for_its_turn_is_not_given_up_and_who_does_not_go_on_is() {
    let mut authority = Authority::new("owes");
    authority.issue("server");
    let mut host = Host::with(1, stack(&authority), 6);
    let config = Arc::new(authority.client(None));
    let mut clients: Vec<Client> = (0..6).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in &mut clients {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
    }
    // Four were answered at once, and owe the next word; two wait.
    for given_up in 1..=4 {
        assert!(host.accept().is_some());
        assert_eq!(host.counters[0].tls_refused_unfinished.load(), 1);
        assert_eq!(host.counters[0].tls_refused_silent.load(), given_up - 1);
    }
    host.settle();
    assert!(host.wires[clients[0].wire].is_closed, "the oldest");
    for client in &mut clients[1..] {
        client.talk(&mut host);
        client.send(&mut host, &connect(&format!("c{}", client.wire)));
        assert_eq!(client.got, CONNACK);
    }
}

#[test]
fn a_turn_does_only_so_many_handshakes() {
    let (mut host, config, _authority) = tls_host("turns", 1);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in &mut clients {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
    }
    let answered = |host: &Host| host.wires.iter().filter(|wire| !wire.to_client.is_empty()).count();
    host.turn();
    assert_eq!(answered(&host), 2 * HANDSHAKE_UNITS_PER_TURN as usize, "those at once, and those of one turn");
    assert!(host.shards[0].next_deadline().is_some_and(|deadline| deadline <= host.now), "the next turn is at once");
    host.turn();
    assert_eq!(answered(&host), 3 * HANDSHAKE_UNITS_PER_TURN as usize);
    host.settle();
    assert_eq!(answered(&host), 20);
    for client in &mut clients {
        client.talk(&mut host);
        client.send(&mut host, &connect(&format!("c{}", client.wire)));
        assert_eq!(client.got, CONNACK);
    }
    assert!(host.wires.iter().all(|wire| !wire.is_paused));
}

#[test]
fn a_client_that_left_while_its_handshake_waited_is_let_go() {
    let (mut host, config, _authority) = tls_host("left", 1);
    let mut clients: Vec<Client> = (0..10).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in &mut clients {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
        host.end(client.wire, TransportEnd::EndOfStream);
    }
    host.settle();
    assert!(host.wires.iter().all(|wire| wire.is_closed));
    assert_eq!(host.counters[0].tls_handshaking.load(), 0);
    assert_eq!(host.shards[0].connections(), 0);
}

#[test]
fn a_client_may_name_mqtt_as_its_protocol_or_none_but_no_other() {
    let (mut host, _, authority) = tls_host("alpn", 1);
    for (protocol, is_let_in) in [(&b"mqtt"[..], true), (b"h2", false)] {
        let mut config = authority.client(None);
        config.alpn_protocols = vec![protocol.to_vec()];
        let mut client = Client::new(&mut host, &Arc::new(config), "server");
        client.talk(&mut host);
        assert_eq!(client.error.is_none(), is_let_in, "{:?}", client.error);
    }
    assert_eq!(host.counters[0].tls_refused_incompatible.load(), 1);
}
