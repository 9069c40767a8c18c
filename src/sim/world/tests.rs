//! The world against an engine with no MQTT in it: a mirror that hands over, echoes, and tells the others.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Chunks, Conditions, Notice, World};
use crate::engine::{ConnId, Effect, Engine, HandOver, Output, ShardId, Time, TransportEnd};
use crate::sim::rng::Rng;

/// The first byte of a connection names its home. `Q` ends it; with `faulty`, twice.
#[derive(Default)]
struct Mirror {
    shard: u16,
    next: u32,
    conns: BTreeMap<ConnId, Peer>,
    effects: VecDeque<Effect>,
    dirty: VecDeque<ConnId>,
    outboxes: Vec<VecDeque<u8>>,
    named: Vec<ShardId>,
    heard: BTreeMap<ShardId, Vec<u8>>,
    rooms: usize,
    sent: usize,
    faulty: bool,
}

#[derive(Default)]
struct Peer {
    output: Vec<u8>,
    settled: bool,
    closing: bool,
}

impl Mirror {
    fn admit(&mut self, settled: bool) -> ConnId {
        self.next += 1;
        let id = ConnId { slot: self.next, generation: 0 };
        self.conns.insert(id, Peer { settled, ..Peer::default() });
        id
    }

    fn close(&mut self, id: ConnId) {
        let peer = self.conns.get_mut(&id).unwrap();
        if !std::mem::replace(&mut peer.closing, true) {
            self.effects.extend((0..1 + usize::from(self.faulty)).map(|_| Effect::Close(id)));
        }
    }
}

impl Engine for Mirror {
    type Message = u8;

    fn open(&mut self, _: Time, _: u16, _: Option<SocketAddr>) -> Option<ConnId> {
        Some(self.admit(false))
    }

    fn adopt(&mut self, now: Time, hand_over: HandOver) -> Option<ConnId> {
        let id = self.admit(true);
        self.receive(now, id, &hand_over.bytes);
        Some(id)
    }

    fn receive(&mut self, now: Time, id: ConnId, bytes: &[u8]) {
        let peer = self.conns.get_mut(&id).unwrap();
        if peer.closing {
            return;
        }
        let home = ShardId(u16::from(bytes[0]).saturating_sub(u16::from(b'0')));
        if !peer.settled && home.0 != self.shard {
            peer.closing = true;
            let hand_over = HandOver {
                listener: 0,
                accepted: now,
                bytes: bytes.to_vec(),
                peer: Default::default(),
                transport: None,
                place: None,
            };
            return self.effects.push_back(Effect::HandOver { conn: id, to: home, hand_over });
        }
        if !std::mem::replace(&mut peer.settled, true) {
            self.effects.push_back(Effect::Settle(id));
        }
        peer.output.extend_from_slice(bytes);
        self.dirty.push_back(id);
        for to in (0..self.outboxes.len()).filter(|to| *to != usize::from(self.shard)) {
            self.outboxes[to].extend(bytes);
            self.named.push(ShardId(to as u16));
        }
        if bytes.contains(&b'Q') {
            self.close(id);
        }
    }

    fn sent(&mut self, _: Time, _: ConnId, bytes: usize) {
        self.sent += bytes;
    }

    fn disconnected(&mut self, _: Time, id: ConnId, _: TransportEnd) {
        self.close(id);
    }

    fn release(&mut self, id: ConnId) {
        self.conns.remove(&id).unwrap();
    }

    fn mesh(&mut self, _: Time, from: ShardId, message: u8) {
        self.heard.entry(from).or_default().push(message);
    }

    fn tick(&mut self, _: Time) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.dirty.pop_front()
    }

    fn take_output(&mut self, id: ConnId) -> Output {
        Output { bytes: std::mem::take(&mut self.conns.get_mut(&id).unwrap().output), large: Vec::new() }
    }

    fn recycle(&mut self, _: Output) {}

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<u8> {
        &mut self.outboxes[usize::from(to.0)]
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        self.named.pop()
    }

    fn mesh_has_room(&mut self, _: Time, _: ShardId) {
        self.rooms += 1;
    }

    fn stop(&mut self, _: Time) {}

    fn connections(&self) -> usize {
        self.conns.len()
    }
}

fn world(seed: u64, faulty: bool) -> World<Mirror> {
    let conditions = Conditions { mesh_capacity: 1, ..Conditions::unkind(&mut Rng::new(seed)) };
    let mirror = |shard| Mirror { shard, faulty, outboxes: vec![VecDeque::new(); 3], ..Mirror::default() };
    World::new((0..3).map(mirror).collect(), conditions, seed, Time(0))
}

fn run(world: &mut World<Mirror>) -> Vec<Notice> {
    let mut notices = Vec::new();
    while !world.is_quiet() {
        world.step(Time(u64::MAX));
        while let Some(notice) = world.notice() {
            notices.push(notice);
        }
    }
    notices
}

#[test]
fn every_byte_arrives_in_order_however_the_stream_is_cut() {
    for (seed, chunks) in [(1, Chunks::Whole), (2, Chunks::Random(5)), (3, Chunks::One)] {
        let mut world = world(seed, false);
        let text: Vec<u8> =
            (0..500u32).map(|index| if index == 0 { b'2' } else { b'a' + (index % 16) as u8 }).collect();
        let link = world.connect_at(0);
        world.set_chunks(link, chunks);
        world.send(link, &text);
        run(&mut world);
        assert_eq!(world.take(link), text);
        world.send(link, b"Q");
        assert_eq!(run(&mut world).last(), Some(&Notice::Closed(link)));
        assert_eq!(world.engines().map(Engine::connections).sum::<usize>(), 0);
    }
}

#[test]
fn the_mesh_keeps_order_and_says_when_it_has_room() {
    let mut world = world(4, false);
    let link = world.connect_at(1);
    world.send(link, b"1abcdefgh");
    run(&mut world);
    let heard: Vec<_> = world.engines().filter_map(|engine| engine.heard.get(&ShardId(1)).cloned()).collect();
    assert_eq!(heard, [b"1abcdefgh".to_vec(), b"1abcdefgh".to_vec()]);
    assert!(world.engines().nth(1).unwrap().rooms > 0);
}

#[test]
fn nothing_is_sent_to_who_does_not_read_and_a_close_does_not_wait_for_ever() {
    let mut world = world(5, false);
    let link = world.connect_at(0);
    world.set_stalled(link, true);
    world.send(link, b"0Q");
    run(&mut world);
    assert_eq!(world.engines().map(|engine| engine.sent).sum::<usize>(), 0);
    assert!(!world.is_closed(link));
    world.run_for(Duration::from_secs(10));
    assert!(world.is_closed(link));
}

#[test]
fn a_reset_ends_the_connection_on_whatever_shard_it_is() {
    for seed in 0..50 {
        let mut world = world(seed, false);
        let link = world.connect();
        world.send(link, b"1abc");
        world.run_for(Duration::from_micros(seed * 40));
        world.reset(link);
        run(&mut world);
        assert_eq!(world.engines().map(Engine::connections).sum::<usize>(), 0, "seed {seed}");
    }
}

#[test]
fn one_seed_gives_one_run() {
    let record = |seed| {
        let mut world = world(seed, false);
        let links: Vec<_> = (0..5).map(|_| world.connect()).collect();
        links.iter().for_each(|link| world.send(*link, b"2 some bytes"));
        (run(&mut world), world.now())
    };
    assert_eq!(record(6), record(6));
    assert_ne!(record(6), record(7));
}

#[test]
#[should_panic(expected = "Close for")]
fn an_engine_that_closes_twice_is_caught() {
    let mut world = world(8, true);
    let link = world.connect_at(0);
    world.send(link, b"0Q");
    run(&mut world);
}
