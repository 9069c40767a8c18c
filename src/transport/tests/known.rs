//! A core that remembers who its transports said is at the other end.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;

use crate::core::Core;
use crate::core::note::Note;
use crate::engine::{ConnId, Effect, Engine, HandOver, Output, Peer, ShardId, Time, TransportEnd};

pub struct Known {
    pub core: Core,
    pub peers: Vec<Peer>,
    /// Connections that bytes have come from.
    received: HashSet<ConnId>,
}

impl Known {
    pub fn new(core: Core) -> Known {
        Known { core, peers: Vec::new(), received: HashSet::new() }
    }
}

impl Engine for Known {
    type Message = Note;

    fn open(&mut self, now: Time, listener: u16, address: Option<SocketAddr>) -> Option<ConnId> {
        self.core.open(now, listener, address)
    }

    fn identify(&mut self, conn: ConnId, peer: Peer) {
        assert!(!self.received.contains(&conn), "it is told before the first byte");
        self.peers.push(peer.clone());
        self.core.identify(conn, peer);
    }

    fn adopt(&mut self, now: Time, hand_over: HandOver) -> Option<ConnId> {
        self.core.adopt(now, hand_over)
    }

    fn receive(&mut self, now: Time, conn: ConnId, bytes: &[u8]) {
        self.received.insert(conn);
        self.core.receive(now, conn, bytes);
    }

    fn sent(&mut self, now: Time, conn: ConnId, bytes: usize) {
        self.core.sent(now, conn, bytes);
    }

    fn disconnected(&mut self, now: Time, conn: ConnId, end: TransportEnd) {
        self.core.disconnected(now, conn, end);
    }

    fn withdraw(&mut self, now: Time, conn: ConnId) {
        self.core.withdraw(now, conn);
    }

    fn release(&mut self, conn: ConnId) {
        self.received.remove(&conn);
        self.core.release(conn);
    }

    fn mesh(&mut self, now: Time, from: ShardId, message: Note) {
        self.core.mesh(now, from, message);
    }

    fn attend(&mut self, now: Time) {
        self.core.attend(now);
    }

    fn tick(&mut self, now: Time) {
        self.core.tick(now);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.core.next_deadline()
    }

    fn poll_dirty(&mut self) -> Option<ConnId> {
        self.core.poll_dirty()
    }

    fn take_output(&mut self, conn: ConnId) -> Output {
        self.core.take_output(conn)
    }

    fn recycle(&mut self, output: Output) {
        self.core.recycle(output);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.core.poll_effect()
    }

    fn outbox(&mut self, to: ShardId) -> &mut VecDeque<Note> {
        self.core.outbox(to)
    }

    fn poll_outbox(&mut self) -> Option<ShardId> {
        self.core.poll_outbox()
    }

    fn mesh_has_room(&mut self, now: Time, to: ShardId) {
        self.core.mesh_has_room(now, to);
    }

    fn stop(&mut self, now: Time) {
        self.core.stop(now);
    }

    fn connections(&self) -> usize {
        self.core.connections()
    }
}
