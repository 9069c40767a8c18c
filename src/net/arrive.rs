//! How connections come to a shard: accepted on its listeners, or given by another shard.
//!
//! Who accepts reads as far as its engine needs to know the connection's home. Then the descriptor goes by
//! `MSG_RING` into the table of the home's ring, and the bytes go through the mesh under the same token.
//! Either may arrive first; a connection exists at its home when both have.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use tracing::warn;

use super::conn::{Marks, Phase};
use super::driver::{Driver, Stopping};
use super::listen::Listener;
use super::op::{Kind, Op};
use super::ring::Completion;
use super::ring_ask::PeerName;
use crate::engine::{ConnId, Engine, HandOver, ShardId, Time};
use crate::mesh::Item;

/// How long nothing more is said of clients that are turned away.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// A listener of this shard.
pub struct Listening {
    /// Gone once a stop has ended accepting, so that clients are refused at once instead of left waiting.
    socket: Option<OwnedFd>,
    /// How many bytes the names of its peers have, where they are asked for.
    peer_name_bytes: Option<u32>,
    armed: bool,
    /// No accept before this; set while descriptors or memory are short.
    pub paused_until: Option<Time>,
}

impl Listening {
    /// A listener that is not armed yet.
    pub fn new(listener: Listener) -> Listening {
        let Listener { socket, peer_name_bytes } = listener;
        Listening { socket: Some(socket), peer_name_bytes, armed: false, paused_until: None }
    }
}

/// An accepted socket whose peer's name is being asked for.
pub struct Asking {
    listener: usize,
    file: u32,
    name: PeerName,
}

/// The half of a hand-over that came first.
pub enum Arrival {
    /// The descriptor, by its index in this ring's table.
    File(u32),
    /// The bytes.
    HandOver(HandOver),
}

impl<E: Engine> Driver<E> {
    pub(super) fn arm_accept(&mut self, index: usize) {
        let listening = &mut self.listening[index];
        let Some(socket) = &listening.socket else { return };
        listening.armed = true;
        listening.paused_until = None;
        self.ring.accept_multishot(socket.as_raw_fd(), Op::bare(Kind::Accept, index as u32));
    }

    pub(super) fn accepted(&mut self, index: usize, completion: Completion) {
        match completion.result {
            file if file >= 0 => self.came(index, file as u32),
            error => self.accept_failed(index, -error),
        }
        if !io_uring::cqueue::more(completion.flags) {
            self.listening[index].armed = false;
            if self.stopping != Stopping::No {
                self.listening[index].socket = None;
            } else if self.listening[index].paused_until.is_none() {
                self.arm_accept(index);
            }
        }
    }

    fn came(&mut self, index: usize, file: u32) {
        self.stats.accepts.add(1);
        self.descriptor_opened();
        let Some(bytes) = self.listening[index].peer_name_bytes else { return self.open(index, file, None) };
        let slot = self.asking.insert(Asking { listener: index, file, name: PeerName::default() }).slot;
        let asking = self.asking.get_mut(slot).expect("it was just put there");
        asking.name.ask(&mut self.ring, file, bytes, Op::bare(Kind::PeerName, slot));
    }

    /// The kernel has said who is at the other end of a socket. If it has not, there is nobody any more.
    pub(super) fn peer_named(&mut self, slot: u32, result: i32) {
        let asking = self.asking.remove(slot).expect("asked once, answered once");
        match asking.name.address().filter(|_| result >= 0) {
            Some(address) => self.open(asking.listener, asking.file, Some(address)),
            None => self.refuse(asking.file),
        }
    }

    fn open(&mut self, index: usize, file: u32, address: Option<SocketAddr>) {
        match self.engine.open(self.now, index as u16, address) {
            Some(conn) => {
                self.records.begin(conn, file, Phase::Opening);
                self.receive_next(conn);
            }
            None => self.refuse(file),
        }
    }

    fn accept_failed(&mut self, index: usize, errno: i32) {
        // The peer gave up while it was in the queue: the next one may be fine. Anything else, above all a
        // full table of descriptors, stays as it is for a while; to try again at once would be to spin.
        if errno != libc::ECANCELED {
            self.stats.accept_errors.add(1);
        }
        if !matches!(errno, libc::ECANCELED | libc::ECONNABORTED | libc::EINTR) {
            self.listening[index].paused_until = Some(self.now.after(self.config.accept_pause));
            self.complain(errno, "a connection cannot be accepted");
        }
    }

    /// Tells the operator that clients are turned away, but not of each of them.
    fn complain(&mut self, errno: i32, what: &str) {
        if self.quiet_until.is_some_and(|until| self.now < until) {
            return;
        }
        self.quiet_until = Some(self.now.after(COMPLAINT_INTERVAL));
        let error = std::io::Error::from_raw_os_error(errno);
        let (shard, table) = (self.port.me().0, self.config.descriptors);
        if errno == libc::ENFILE {
            warn!(shard, "{what}: all {table} descriptors of the shard are taken (ulimit -n, limits.connections_max)");
        } else {
            warn!(shard, "{what}: {error}");
        }
    }

    pub(super) fn resume_accepts(&mut self) {
        for index in 0..self.listening.len() {
            let listening = &mut self.listening[index];
            if listening.paused_until.is_some_and(|until| until <= self.now) {
                listening.paused_until = None;
                if !listening.armed && self.stopping == Stopping::No {
                    self.arm_accept(index);
                }
            }
        }
    }

    pub(super) fn cancel_accepts(&mut self) {
        for (index, listening) in (0..).zip(&mut self.listening) {
            listening.paused_until = None;
            if listening.armed {
                self.ring.cancel(Op::bare(Kind::Accept, index), Op::bare(Kind::CancelAccept, index));
            } else {
                listening.socket = None;
            }
        }
    }

    /// True when the kernel accepts nothing any more on this shard's listeners.
    pub(super) fn accepts_ended(&self) -> bool {
        self.listening.iter().all(|listening| !listening.armed)
    }

    fn refuse(&mut self, file: u32) {
        self.stats.refused.add(1);
        self.ring.close(file, Op::bare(Kind::CloseUnowned, 0));
    }

    pub(super) fn give_away(&mut self, conn: ConnId, to: ShardId, hand_over: HandOver) {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        let record = self.record(conn);
        assert!(record.phase == Phase::Opening, "only a connection that is not settled is handed over");
        assert!(!record.marks.has(Marks::RECEIVING), "it is handed over after a receive, before the next");
        if record.marks.has(Marks::ENDED) {
            // The peer is gone already: there is nobody to hand over.
            self.begin_closing(conn);
            return;
        }
        record.phase = Phase::GivenAway;
        let file = record.file;
        match self.port.ring_of(to) {
            Some(ring) => {
                self.begin_op(conn);
                let there = Op::arrived(self.port.me().0, token);
                self.ring.give_away(file, ring, there, Op::of(Kind::GiveAway, conn));
                self.giving.insert(conn, (to, token));
                self.port.send(to, Item::HandOver(Box::new((token, hand_over))));
            }
            None => self.begin_closing(conn),
        }
    }

    pub(super) fn given_away(&mut self, conn: ConnId, result: i32) {
        let giving = self.giving.remove(&conn);
        if result >= 0 {
            self.stats.handed_over.add(1);
        } else if let Some((to, token)) = giving {
            self.stats.hand_over_errors.add(1);
            self.complain(-result, "a connection cannot be handed to another shard");
            self.port.send(to, Item::HandOverFailed(token));
        }
        self.begin_closing(conn);
    }

    /// The descriptor of a hand-over is in this ring's table.
    pub(super) fn descriptor_arrived(&mut self, op: Op, result: i32) {
        // What failed is told by the giver, who knows the token's fate for sure.
        let Ok(file) = u32::try_from(result) else { return };
        self.descriptor_opened();
        let key = (ShardId(op.generation as u16), op.slot);
        match self.arrivals.remove(&key) {
            Some(Arrival::HandOver(hand_over)) => self.adopt(file, hand_over),
            _ => drop(self.arrivals.insert(key, Arrival::File(file))),
        }
    }

    /// The bytes of a hand-over are here, or the news that the descriptor will not come.
    pub(super) fn hand_over_came(&mut self, from: ShardId, item: Item<E::Message>) {
        match item {
            Item::HandOver(boxed) => {
                let (token, hand_over) = *boxed;
                match self.arrivals.remove(&(from, token)) {
                    Some(Arrival::File(file)) => self.adopt(file, hand_over),
                    _ => drop(self.arrivals.insert((from, token), Arrival::HandOver(hand_over))),
                }
            }
            Item::HandOverFailed(token) => drop(self.arrivals.remove(&(from, token))),
            Item::Engine(_) => unreachable!("the caller handled it"),
        }
    }

    fn adopt(&mut self, file: u32, hand_over: HandOver) {
        match self.engine.adopt(self.now, hand_over) {
            Some(conn) => {
                self.stats.adopted.add(1);
                self.records.begin(conn, file, Phase::Settled);
                self.receive_next(conn);
            }
            None => self.refuse(file),
        }
    }

    pub(super) fn descriptor_opened(&mut self) {
        self.stats.descriptors.add(1);
    }

    pub(super) fn descriptor_closed(&mut self, result: i32) {
        assert!(result >= 0, "closing a direct descriptor failed: errno {}", -result);
        self.stats.descriptors.sub(1);
    }
}
