//! A driver without sockets: shards behind their transports, and the wires to their clients, all in one thread.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::known::Known;
use crate::config::{Limits, MqttOptions};
use crate::core::{Core, CoreConfig, Shared};
use crate::engine::{ConnId, Effect, Engine, ShardId, Time, TransportEnd};
use crate::transport::{Stack, TransportCounters, Transports};

pub struct Host {
    pub shards: Vec<Transports<Known>>,
    pub counters: Vec<Arc<TransportCounters>>,
    pub wires: Vec<Wire>,
    pub shared: Arc<Shared>,
    pub now: Time,
}

/// A connection as its driver sees it.
pub struct Wire {
    pub shard: usize,
    pub conn: ConnId,
    /// What the client has not read yet.
    pub to_client: Vec<u8>,
    /// Output that the kernel has not taken.
    in_flight: usize,
    /// Something was sent: it is asked for more after that, as the driver does.
    asks_again: bool,
    /// The kernel takes nothing.
    pub is_stuck: bool,
    pub is_paused: bool,
    pub is_closed: bool,
    pub hand_overs: usize,
    /// The most that was sent at once.
    pub sends_max: usize,
}

impl Host {
    pub fn new(shards: u16, stack: Stack) -> Host {
        Host::with(shards, stack, 1000)
    }

    pub fn with(shards: u16, stack: Stack, handshakes_max: usize) -> Host {
        let shared = Arc::new(Shared::new(shards, 7));
        let counters: Vec<Arc<TransportCounters>> = (0..shards).map(|_| Arc::default()).collect();
        let core = |shard: u16| {
            Core::new(CoreConfig {
                shard: ShardId(shard),
                shared: shared.clone(),
                limits: Arc::new(Limits::default()),
                mqtt: Arc::new(MqttOptions::default()),
                sys_interval: None,
                seed: u64::from(shard),
                now: Time(0),
            })
        };
        let shards = (0..shards).map(|shard| {
            let counters = counters[usize::from(shard)].clone();
            Transports::new(Known::new(core(shard)), vec![stack.clone()], handshakes_max, counters)
        });
        let shards = shards.collect();
        Host { shards, counters, wires: Vec::new(), shared, now: Time(0) }
    }

    /// Accepts a connection on shard 0; returns its wire's number.
    pub fn accept(&mut self) -> Option<usize> {
        self.accept_from(Some("127.0.0.1:9".parse().unwrap()))
    }

    pub fn accept_from(&mut self, address: Option<SocketAddr>) -> Option<usize> {
        let conn = self.shards[0].open(self.now, 0, address)?;
        self.wires.push(Wire {
            shard: 0,
            conn,
            to_client: Vec::new(),
            in_flight: 0,
            asks_again: false,
            is_stuck: false,
            is_paused: false,
            is_closed: false,
            hand_overs: 0,
            sends_max: 0,
        });
        Some(self.wires.len() - 1)
    }

    /// Bytes of a client come in; not handled further than the driver does while it reaps.
    pub fn receive(&mut self, wire: usize, bytes: &[u8]) {
        let Wire { shard, conn, is_closed, is_paused, .. } = self.wires[wire];
        if !is_closed && !bytes.is_empty() {
            assert!(!is_paused, "it is not read");
            self.shards[shard].receive(self.now, conn, bytes);
        }
    }

    pub fn end(&mut self, wire: usize, end: TransportEnd) {
        let Wire { shard, conn, is_closed, .. } = self.wires[wire];
        if !is_closed {
            self.shards[shard].disconnected(self.now, conn, end);
        }
    }

    /// One turn of every shard.
    pub fn turn(&mut self) {
        for shard in 0..self.shards.len() {
            self.shards[shard].attend(self.now);
            if self.shards[shard].next_deadline().is_some_and(|deadline| deadline <= self.now) {
                self.shards[shard].tick(self.now);
            }
            self.notes(shard);
            while let Some(effect) = self.shards[shard].poll_effect() {
                self.effect(shard, effect);
            }
        }
        self.flush();
    }

    pub fn settle(&mut self) {
        (0..20).for_each(|_| self.turn());
    }

    fn notes(&mut self, from: usize) {
        while let Some(to) = self.shards[from].poll_outbox() {
            let notes: Vec<_> = self.shards[from].outbox(to).drain(..).collect();
            for note in notes {
                self.shards[usize::from(to.0)].mesh(self.now, ShardId(from as u16), note);
            }
            self.shards[from].mesh_has_room(self.now, to);
        }
    }

    fn wire_of(&mut self, shard: usize, conn: ConnId) -> Option<&mut Wire> {
        self.wires.iter_mut().find(|wire| wire.shard == shard && wire.conn == conn && !wire.is_closed)
    }

    fn effect(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Close(conn) => {
                self.drain(shard, conn);
                self.wire_of(shard, conn).expect("closed once").is_closed = true;
                self.shards[shard].release(conn);
            }
            Effect::HandOver { conn, to, hand_over } => {
                let now = self.now;
                let wire = self.wire_of(shard, conn).expect("it is there");
                assert_eq!(wire.in_flight, 0, "a send that is short would be lost with the connection");
                wire.hand_overs += 1;
                let home = usize::from(to.0);
                self.shards[shard].release(conn);
                let adopted = self.shards[home].adopt(now, hand_over).expect("there is room");
                let wire = self.wire_of(shard, conn).expect("it is there");
                (wire.shard, wire.conn, wire.is_paused) = (home, adopted, false);
            }
            Effect::PauseReceive(conn) => self.set_paused(shard, conn, true),
            Effect::ResumeReceive(conn) => self.set_paused(shard, conn, false),
            Effect::Settle(_) => {}
        }
    }

    fn set_paused(&mut self, shard: usize, conn: ConnId, is_paused: bool) {
        if let Some(wire) = self.wire_of(shard, conn) {
            wire.is_paused = is_paused;
        }
    }

    /// What a driver does at the end: all output, then nothing more.
    fn drain(&mut self, shard: usize, conn: ConnId) {
        loop {
            let output = self.shards[shard].take_output(conn);
            if output.is_empty() {
                break;
            }
            let sent = output.len();
            let wire = self.wire_of(shard, conn).expect("it is there");
            wire.to_client.extend_from_slice(&output.bytes);
            self.shards[shard].recycle(output);
            self.shards[shard].sent(self.now, conn, sent);
        }
    }

    fn flush(&mut self) {
        for shard in 0..self.shards.len() {
            let mut dirty = BTreeSet::new();
            while let Some(conn) = self.shards[shard].poll_dirty() {
                dirty.insert((conn.slot, conn.generation));
            }
            for wire in 0..self.wires.len() {
                let Wire { conn, asks_again, in_flight, .. } = self.wires[wire];
                if asks_again || in_flight > 0 || dirty.contains(&(conn.slot, conn.generation)) {
                    self.flush_one(shard, wire);
                }
            }
        }
    }

    /// One send, and the kernel's word that it took all of it, unless it is stuck.
    fn flush_one(&mut self, shard: usize, wire: usize) {
        let Wire { shard: at, conn, in_flight, is_stuck, is_closed, .. } = self.wires[wire];
        if at != shard || is_closed {
            return;
        }
        if in_flight == 0 {
            self.wires[wire].asks_again = false;
            let output = self.shards[shard].take_output(conn);
            let len = output.len();
            let to = &mut self.wires[wire];
            to.in_flight = len;
            to.sends_max = to.sends_max.max(len);
            let mut at = 0;
            for large in &output.large {
                to.to_client.extend_from_slice(&output.bytes[at..large.at]);
                to.to_client.extend_from_slice(&large.payload);
                at = large.at;
            }
            to.to_client.extend_from_slice(&output.bytes[at..]);
            self.shards[shard].recycle(output);
        }
        let in_flight = self.wires[wire].in_flight;
        if in_flight > 0 && !is_stuck {
            // In two parts, as a short send would have it.
            self.wires[wire].in_flight = 0;
            self.wires[wire].asks_again = true;
            let half = in_flight / 2;
            if half > 0 {
                self.shards[shard].sent(self.now, conn, half);
            }
            self.shards[shard].sent(self.now, conn, in_flight - half);
        }
    }
}
