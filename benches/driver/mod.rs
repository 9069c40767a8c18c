//! Drives cores in memory: no socket, no ring, a clock that stands still, and clients that answer as the
//! specification asks. What is measured through it is the core, and little else.
//!
//! With several shards, what one leaves in its outbox for another is handed over at once: the core's part of a
//! mesh hop without the mesh.

#![allow(dead_code, unused_imports, reason = "each bench uses a part")]

mod filters;
mod packets;

use std::sync::Arc;

use ringmq::codec::{Framed, PacketType, ProtocolVersion, QoS, encode_ack, frame};
use ringmq::config::{Limits, MqttOptions};
use ringmq::core::{Core, CoreConfig, Shared};
use ringmq::engine::{ConnId, Effect, Engine, Output, ShardId, Time, TransportEnd};

pub use filters::{WAYS, Way, far_apart};
pub use packets::{PROPERTIES, Session, VERSION, connect, publish, publish_with, subscribe};

const NOW: Time = Time(0);

/// The cores of a broker and what its clients are about to say.
pub struct Driver {
    shared: Arc<Shared>,
    cores: Vec<Core>,
    answers: Vec<u8>,
    reading: bool,
    /// PUBLISH packets that reached a client that reads.
    pub delivered: u64,
    /// Bytes that were taken to be sent to clients.
    pub bytes: u64,
}

/// A client's connection, and the shard that it lives on.
#[derive(Clone, Copy)]
pub struct Client {
    shard: usize,
    conn: ConnId,
}

impl Driver {
    /// A broker of one shard without clients.
    pub fn new() -> Self {
        Self::with_shards(1)
    }

    /// A broker of several shards. All seeds are fixed, so that two runs do the same.
    pub fn with_shards(shards: u16) -> Self {
        let shared = Arc::new(Shared::new(shards, 1));
        let core = |shard| {
            Core::new(CoreConfig {
                shard: ShardId(shard),
                shared: shared.clone(),
                limits: Arc::new(Limits::default()),
                mqtt: Arc::new(MqttOptions::default()),
                sys_interval: None,
                seed: 1,
                now: NOW,
            })
        };
        let cores = (0..shards).map(core).collect();
        Self { shared, cores, answers: Vec::new(), reading: true, delivered: 0, bytes: 0 }
    }

    /// From now on nobody looks at what clients receive, or answers: at QoS 0 the work of the core alone remains.
    pub fn without_readers(mut self) -> Self {
        self.reading = false;
        self
    }

    /// Connects a client with a clean session, subscribed to a filter if one is given.
    pub fn client(&mut self, client_id: &str, filter: Option<(&str, QoS)>) -> Client {
        self.client_of(VERSION, client_id, Session::Clean, filter)
    }

    /// Connects any client.
    pub fn client_of(
        &mut self,
        version: ProtocolVersion,
        client_id: &str,
        session: Session,
        filter: Option<(&str, QoS)>,
    ) -> Client {
        let mut bytes = connect(version, client_id, session);
        if let Some((filter, qos)) = filter {
            subscribe(version, filter, qos, &mut bytes);
        }
        let client = self.open(client_id);
        self.receive(client, &bytes);
        client
    }

    /// A connection that has not said anything yet, accepted where this client is at home.
    pub fn open(&mut self, client_id: &str) -> Client {
        let shard = usize::from(self.shared.home(client_id).0);
        let conn = self.cores[shard].open(NOW, 0, None).expect("far from any limit");
        Client { shard, conn }
    }

    /// A client identifier that begins with `name` and is at home on that shard.
    pub fn client_id_on(&self, shard: u16, name: &str) -> String {
        let mut tries = (0..).map(|number| format!("{name}-{number}"));
        tries.find(|client_id| self.shared.home(client_id).0 == shard).expect("every shard is some client's home")
    }

    /// Hands bytes of a client in, and lets everything that follows from them happen.
    pub fn receive(&mut self, client: Client, bytes: &[u8]) {
        self.cores[client.shard].receive(NOW, client.conn, bytes);
        self.settle();
    }

    /// A client is gone without a word.
    pub fn disconnect(&mut self, client: Client) {
        self.cores[client.shard].disconnected(NOW, client.conn, TransportEnd::EndOfStream);
        self.settle();
    }

    /// Until nobody has anything left to do.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for shard in 0..self.cores.len() {
                while let Some(conn) = self.cores[shard].poll_dirty() {
                    self.deliver(Client { shard, conn });
                }
                self.run_effects(shard);
                busy |= self.hand_over_notes(shard);
            }
        }
    }

    fn run_effects(&mut self, shard: usize) {
        while let Some(effect) = self.cores[shard].poll_effect() {
            match effect {
                Effect::Close(conn) => self.cores[shard].release(conn),
                Effect::HandOver { .. } => unreachable!("clients come to their home at once"),
                Effect::Settle(_) | Effect::PauseReceive(_) | Effect::ResumeReceive(_) => {}
            }
        }
    }

    fn hand_over_notes(&mut self, shard: usize) -> bool {
        let mut any = false;
        while let Some(to) = self.cores[shard].poll_outbox() {
            any = true;
            while let Some(note) = self.cores[shard].outbox(to).pop_front() {
                self.cores[usize::from(to.0)].mesh(NOW, ShardId(shard as u16), note);
            }
            self.cores[shard].mesh_has_room(NOW, to);
        }
        any
    }

    /// Takes a client's output, and answers it, until it has none.
    fn deliver(&mut self, client: Client) {
        loop {
            let output = self.cores[client.shard].take_output(client.conn);
            if output.is_empty() {
                return;
            }
            let length = output.len();
            self.bytes += length as u64;
            if self.reading {
                self.read(&output);
            }
            let core = &mut self.cores[client.shard];
            core.recycle(output);
            core.sent(NOW, client.conn, length);
            if !self.answers.is_empty() {
                core.receive(NOW, client.conn, &self.answers);
                self.answers.clear();
            }
        }
    }

    /// What a client does with what it received. A payload that is referenced belongs to the last packet, at QoS 0.
    fn read(&mut self, output: &Output) {
        if !output.large.is_empty() {
            self.delivered += output.large.len() as u64;
            return;
        }
        let mut rest = &output.bytes[..];
        while let Ok(Framed::Complete { frame, len }) = frame(rest, u32::MAX) {
            let kind = PacketType::of(frame.first);
            self.delivered += u64::from(kind == Some(PacketType::Publish));
            if let Some((answer, id)) = kind.and_then(|kind| answer(kind, frame.first, frame.body)) {
                encode_ack(&mut self.answers, VERSION, answer, id, 0);
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "output is whole packets");
    }
}

/// The acknowledgement that a packet asks for, and its packet identifier.
fn answer(kind: PacketType, first: u8, body: &[u8]) -> Option<(PacketType, u16)> {
    let id_at = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let after_topic = || 2 + usize::from(id_at(0));
    match (kind, first >> 1 & 3) {
        (PacketType::Publish, 1) => Some((PacketType::PubAck, id_at(after_topic()))),
        (PacketType::Publish, 2) => Some((PacketType::PubRec, id_at(after_topic()))),
        (PacketType::PubRec, _) => Some((PacketType::PubRel, id_at(0))),
        (PacketType::PubRel, _) => Some((PacketType::PubComp, id_at(0))),
        _ => None,
    }
}
