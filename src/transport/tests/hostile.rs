//! Peers that mean harm: who floods and does not read, who goes away at the worst moment.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::client::{Authority, CONNACK, Client, connect};
use super::host::Host;
use super::known::Known;
use super::wrapped::{UPGRADE, frame, websocket};
use crate::auth::{Authenticator, Busy, Question, Verdict};
use crate::config::{Limits, MqttOptions};
use crate::core::{Core, CoreConfig};
use crate::engine::{ConnId, Engine, ShardId, Time, TransportEnd};
use crate::transport::tls::Settings;
use crate::transport::ws::frame::{Opcode, put_masked};
use crate::transport::{HANDSHAKE_UNITS_PER_TURN, Stack, Transports};

fn tls(name: &str) -> (Stack, Arc<ClientConfig>, Authority) {
    let mut authority = Authority::new(name);
    authority.issue("server");
    let settings = Settings::load(&authority.tls("server"), &["mqtt"]).unwrap();
    let config = Arc::new(authority.client(None));
    (Stack { tls: Some(Arc::new(settings)), ..Stack::default() }, config, authority)
}

fn client_id_of(host: &Host, shard: u16) -> String {
    (0..).map(|n| format!("c{n}")).find(|id| host.shared.home(id).0 == shard).unwrap()
}

fn ping() -> Vec<u8> {
    let mut out = Vec::new();
    put_masked(Opcode::Ping, &[b'x'; 125], [1, 2, 3, 4], &mut out);
    out
}

#[test]
fn who_pings_by_websocket_and_does_not_read_is_read_no_further() {
    let mut host = Host::new(1, websocket());
    let wire = host.accept().unwrap();
    host.receive(wire, UPGRADE);
    host.settle();
    host.wires[wire].to_client.clear();
    host.wires[wire].is_stuck = true;
    let mut pings = 0;
    while !host.wires[wire].is_paused && pings < 100_000 {
        host.receive(wire, &ping().repeat(50));
        host.turn();
        pings += 50;
    }
    assert!(pings < 10_000, "{pings} pings were taken of somebody who reads no answer");
    host.wires[wire].is_stuck = false;
    host.settle();
    assert!(!host.wires[wire].is_paused);
    assert_eq!(host.wires[wire].to_client.len(), pings * 127, "each of them is answered in the end");
    host.receive(wire, &frame(&connect("c")));
    host.settle();
    assert!(host.wires[wire].to_client.ends_with(&CONNACK));
}

/// Never answers.
struct Late;

impl Authenticator for Late {
    fn ask(&mut self, _: ConnId, _: Question) -> Result<(), Busy> {
        Ok(())
    }
    fn poll(&mut self) -> Option<(ConnId, Verdict)> {
        None
    }
    fn forget(&mut self, _: ConnId) {}
}

#[test]
fn a_connection_that_the_engine_does_not_read_stays_unread_when_its_handshake_ends() {
    let (stack, config, _authority) = tls("unread");
    let mut host = Host::new(1, stack.clone());
    let core = Core::new(CoreConfig {
        shard: ShardId(0),
        shared: host.shared.clone(),
        limits: Arc::new(Limits::default()),
        mqtt: Arc::new(MqttOptions::default()),
        sys_interval: None,
        seed: 0,
        now: Time(0),
    });
    let core = Known::new(core.with_authenticator(Box::new(Late)));
    host.shards[0] = Transports::new(core, vec![stack], 1000, host.counters[0].clone());
    let mut clients: Vec<Client> =
        (0..1 + HANDSHAKE_UNITS_PER_TURN).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in &mut clients {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
        host.settle();
        client.read(&mut host);
        std::io::Write::write_all(&mut client.tls.writer(), &connect(&format!("c{}", client.wire))).unwrap();
    }
    // All of them end their handshakes in the same turn: the last one has to wait for the next.
    for client in &mut clients {
        let finished = client.bytes();
        host.receive(client.wire, &finished);
    }
    host.settle();
    let read: Vec<bool> = clients.iter().map(|client| !host.wires[client.wire].is_paused).collect();
    assert!(!read.contains(&true), "all of them wait for the authenticator: {read:?}");
}

#[test]
fn who_closes_right_behind_its_connect_is_gone_from_its_home_shard_too() {
    let (stack, config, _authority) = tls("behind");
    let mut host = Host::new(2, stack);
    let id = client_id_of(&host, 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    std::io::Write::write_all(&mut client.tls.writer(), &connect(&id)).unwrap();
    client.tls.send_close_notify();
    let bytes = client.bytes();
    host.receive(client.wire, &bytes);
    host.settle();
    assert_eq!(host.wires[client.wire].hand_overs, 1);
    host.end(client.wire, TransportEnd::EndOfStream);
    host.settle();
    assert!(host.wires[client.wire].is_closed);
    assert_eq!((host.shards[0].connections(), host.shards[1].connections()), (0, 0));
}

#[test]
fn who_breaks_tls_right_behind_its_connect_is_gone_from_its_home_shard_too() {
    let (stack, config, _authority) = tls("broken");
    let mut host = Host::new(2, stack);
    let id = client_id_of(&host, 1);
    let mut client = Client::new(&mut host, &config, "server");
    client.talk(&mut host);
    std::io::Write::write_all(&mut client.tls.writer(), &connect(&id)).unwrap();
    let bytes = client.bytes();
    host.receive(client.wire, &[&bytes[..], &[23, 3, 3, 0, 32], &[0; 32]].concat());
    host.settle();
    assert!(host.wires[client.wire].is_closed);
    assert_eq!((host.shards[0].connections(), host.shards[1].connections()), (0, 0));
}

#[test]
fn a_hand_over_that_waits_for_a_peer_who_does_not_read_is_given_up_in_time() {
    let mut host = Host::new(2, websocket());
    let id = client_id_of(&host, 1);
    let wire = host.accept().unwrap();
    host.receive(wire, UPGRADE);
    host.settle();
    host.wires[wire].is_stuck = true;
    host.receive(wire, &ping());
    host.turn();
    host.receive(wire, &frame(&connect(&id)));
    host.settle();
    assert!(host.wires[wire].is_paused && host.wires[wire].hand_overs == 0);
    for _ in 0..20 {
        host.now = host.now.after(Duration::from_secs(1));
        host.turn();
    }
    assert!(host.wires[wire].is_closed);
    assert_eq!((host.shards[0].connections(), host.shards[1].connections()), (0, 0));
}

#[test]
fn a_handshake_that_waited_for_somebody_who_left_does_not_wake_the_next_in_its_slot() {
    let (stack, config, _authority) = tls("reused");
    let mut host = Host::new(1, stack);
    let mut clients: Vec<Client> = (0..40).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in &mut clients {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
    }
    // The last one leaves while it waits; another one gets its slot and waits as well.
    let last = clients.pop().unwrap();
    host.end(last.wire, TransportEnd::Error(libc::ECONNRESET));
    host.turn();
    assert!(host.wires[last.wire].is_closed);
    let mut next = Client::new(&mut host, &config, "server");
    assert_eq!(host.wires[next.wire].conn.slot, host.wires[last.wire].conn.slot);
    let mut busy: Vec<Client> = (0..8).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in busy.iter_mut().chain([&mut next]) {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
    }
    host.settle();
    next.talk(&mut host);
    next.send(&mut host, &connect("next"));
    assert_eq!(next.got, CONNACK);
}

#[test]
fn nobody_signs_for_a_client_that_left_while_its_handshake_waited() {
    let (stack, config, _authority) = tls("unsigned");
    let mut host = Host::new(1, stack);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::new(&mut host, &config, "server")).collect();
    for client in &mut clients {
        let hello = client.bytes();
        host.receive(client.wire, &hello);
    }
    for client in &clients {
        host.end(client.wire, TransportEnd::Error(libc::ECONNRESET));
    }
    host.settle();
    assert!(host.wires.iter().all(|wire| wire.is_closed));
    let signed = host.wires.iter().filter(|wire| !wire.to_client.is_empty()).count();
    assert!(signed <= 2 * HANDSHAKE_UNITS_PER_TURN as usize, "{signed} handshakes went on without a client");
    assert_eq!(host.counters[0].tls_handshaking.load(), 0);
}
