//! One connection between a client and the broker: two streams, cut, delayed, stalled, broken.

use std::collections::VecDeque;

use super::{Conditions, Event, Notice, World};
use crate::engine::{ConnId, Engine, HandOver, TransportEnd};
use crate::sim::rng::Rng;
use crate::sim::world::drive::Input;

/// Names a connection as its client sees it; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// How a stream is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// Everything there is, at once.
    Whole,
    /// Pieces of up to so many bytes.
    Random(usize),
    /// Byte by byte.
    One,
}

impl Chunks {
    fn cut(self, available: usize, rng: &mut Rng) -> usize {
        match self {
            Chunks::Whole => available,
            Chunks::Random(most) => 1 + rng.below(most.min(available)),
            Chunks::One => 1,
        }
    }
}

/// Where the broker's end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In a listener's queue.
    Dialled,
    /// A shard has it.
    Served { shard: usize, conn: ConnId },
    /// Between two shards.
    Moving,
    /// Closed by the broker.
    Gone,
}

pub(super) struct Link {
    pub stage: Stage,
    pub chunks: Chunks,
    /// Written by the client, not yet received by a shard.
    pub to_server: VecDeque<u8>,
    /// Comes when `to_server` is empty.
    pub ending: Option<TransportEnd>,
    pub ending_told: bool,
    pub paused: bool,
    pub up_scheduled: bool,
    /// Given to the kernel, not yet taken by the peer.
    pub flight: VecDeque<u8>,
    pub down_scheduled: bool,
    pub stalled: bool,
    /// The client takes no more notice of what arrives.
    pub deaf: bool,
    pub to_client: VecDeque<u8>,
    /// What a hand-over carries while `stage` is `Moving`.
    pub luggage: Option<HandOver>,
    /// What was received before the connection settled, to hold a hand-over's bytes against.
    pub received: Vec<u8>,
}

impl Link {
    pub(super) fn new(chunks: Chunks) -> Link {
        Link {
            stage: Stage::Dialled,
            chunks,
            to_server: VecDeque::new(),
            ending: None,
            ending_told: false,
            paused: false,
            up_scheduled: false,
            flight: VecDeque::new(),
            down_scheduled: false,
            stalled: false,
            deaf: false,
            to_client: VecDeque::new(),
            luggage: None,
            received: Vec::new(),
        }
    }
}

impl<E: Engine> World<E> {
    /// Lets the next piece of the client's stream arrive in a while, if there is one and somebody reads.
    pub(super) fn schedule_up(&mut self, id: LinkId) {
        let Conditions { delay_max, .. } = self.conditions;
        let link = self.link(id);
        let more = !link.to_server.is_empty() || (link.ending.is_some() && !link.ending_told);
        if !more || link.up_scheduled || link.paused || !matches!(link.stage, Stage::Served { .. }) {
            return;
        }
        self.link_mut(id).up_scheduled = true;
        let at = self.later(delay_max);
        self.schedule(at, Event::Up(id));
    }

    /// A piece of the client's stream, or its end, arrives at the shard.
    pub(super) fn up(&mut self, id: LinkId) {
        let index = id.0 as usize;
        self.links[index].up_scheduled = false;
        let link = &mut self.links[index];
        let Stage::Served { shard, conn } = link.stage else { return };
        if link.paused || self.shards[shard].awaits_turn(conn) {
            return;
        }
        if link.to_server.is_empty() {
            let Some(end) = link.ending.filter(|_| !link.ending_told) else { return };
            link.ending_told = true;
            return self.input(shard, Input::Ended(conn, end));
        }
        let count = link.chunks.cut(link.to_server.len(), &mut self.rng);
        let bytes: Vec<u8> = link.to_server.drain(..count).collect();
        self.shards[shard].expect_turn(conn);
        self.input(shard, Input::Bytes(conn, bytes));
        self.schedule_up(id);
    }

    /// A reset is noticed even by a shard that does not read.
    pub(super) fn notice_reset(&mut self, id: LinkId) {
        let link = &mut self.links[id.0 as usize];
        let (shard, conn) = match link.stage {
            Stage::Gone => return,
            Stage::Served { shard, conn } if !self.shards[shard].awaits_turn(conn) => (shard, conn),
            _ => {
                // Whoever will have it is not known yet.
                let at = self.later(self.conditions.delay_max);
                return self.schedule(at, Event::NoticeReset(id));
            }
        };
        link.to_server.clear();
        if let Some(end) = link.ending.filter(|_| !link.ending_told) {
            link.ending_told = true;
            self.input(shard, Input::Ended(conn, end));
        }
    }

    /// Lets the peer take the next piece of the server's stream in a while.
    pub(super) fn schedule_down(&mut self, id: LinkId) {
        let link = self.link(id);
        if link.flight.is_empty() || link.down_scheduled || (link.stalled && !link.deaf) {
            return;
        }
        self.link_mut(id).down_scheduled = true;
        let at = self.later(self.conditions.delay_max);
        self.schedule(at, Event::Down(id));
    }

    /// The peer takes a piece of the server's stream.
    pub(super) fn down(&mut self, id: LinkId) {
        let index = id.0 as usize;
        let link = &mut self.links[index];
        link.down_scheduled = false;
        let Stage::Served { shard, conn } = link.stage else { return };
        if link.flight.is_empty() || (link.stalled && !link.deaf) {
            return;
        }
        let count = link.chunks.cut(link.flight.len(), &mut self.rng);
        let taken = link.flight.drain(..count);
        if link.deaf {
            drop(taken);
        } else {
            link.to_client.extend(taken);
            self.notices.push_back(Notice::Readable(id));
        }
        self.input(shard, Input::Sent(conn, count));
        self.schedule_down(id);
    }
}
