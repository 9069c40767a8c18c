//! The queues between shards: bounded by what their messages hold, first in first out for each pair, late.

use std::collections::VecDeque;

use super::{World, shard_id};
use crate::engine::{Engine, Load, Time};

pub(super) struct Mesh<M> {
    /// One queue for each pair: `from * shards + to`.
    queues: Vec<Queue<M>>,
    shards: usize,
    capacity: usize,
    pub held: bool,
}

struct Queue<M> {
    messages: VecDeque<(Time, M)>,
    /// What all of them hold.
    load: usize,
}

impl<M> Mesh<M> {
    pub(super) fn new(shards: usize, capacity: usize) -> Mesh<M> {
        let queues = (0..shards * shards).map(|_| Queue { messages: VecDeque::new(), load: 0 }).collect();
        Mesh { queues, shards, capacity, held: false }
    }

    fn queue(&mut self, from: usize, to: usize) -> &mut Queue<M> {
        &mut self.queues[from * self.shards + to]
    }
}

impl<M: Load> Queue<M> {
    /// The next message, if it has arrived.
    fn take(&mut self, now: Time) -> Option<M> {
        self.messages.front().filter(|(at, _)| *at <= now)?;
        let (_, message) = self.messages.pop_front()?;
        self.load -= message.load();
        Some(message)
    }
}

impl<E: Engine> World<E> {
    /// Moves messages from an outbox into the mesh as far as there is room.
    pub(super) fn post(&mut self, from: usize, to: usize) {
        assert_ne!(from, to, "shard {from} sends to itself over the mesh");
        let mut at = None;
        loop {
            let arrival = self.later(self.conditions.mesh_delay_max);
            let capacity = self.mesh.capacity;
            let queue = self.mesh.queue(from, to);
            let outbox = self.shards[from].engine.outbox(shard_id(to));
            if queue.load >= capacity {
                break;
            }
            let Some(message) = outbox.pop_front() else { break };
            let arrival = queue.messages.back().map_or(arrival, |(last, _)| arrival.max(*last));
            queue.load += message.load();
            queue.messages.push_back((arrival, message));
            at.get_or_insert(arrival);
        }
        if let Some(at) = at {
            self.schedule_turn(to, at);
        }
        let empty = self.shards[from].engine.outbox(shard_id(to)).is_empty();
        self.shards[from].blocked[to] = !empty;
        if empty {
            self.shards[from].engine.mesh_has_room(self.now, shard_id(to));
        }
    }

    /// Posts again what had found no room.
    pub(super) fn post_blocked(&mut self, from: usize) {
        for to in 0..self.shards.len() {
            if self.shards[from].blocked[to] {
                self.post(from, to);
            }
        }
    }

    /// Hands a shard what has arrived for it, some pair first, and lets blocked senders know.
    pub(super) fn collect(&mut self, to: usize) {
        if self.mesh.held {
            return;
        }
        let count = self.shards.len();
        let first = self.rng.below(count);
        for from in (0..count).map(|index| (first + index) % count) {
            self.collect_from(from, to);
        }
    }

    fn collect_from(&mut self, from: usize, to: usize) {
        let now = self.now;
        let mut taken = false;
        while let Some(message) = self.mesh.queue(from, to).take(now) {
            self.shards[to].engine.mesh(now, shard_id(from), message);
            taken = true;
        }
        if let Some((at, _)) = self.mesh.queue(from, to).messages.front() {
            let at = *at;
            self.schedule_turn(to, at);
        }
        if taken && self.shards[from].blocked[to] {
            let at = self.later(self.conditions.turn_max);
            self.schedule_turn(from, at);
        }
    }
}
