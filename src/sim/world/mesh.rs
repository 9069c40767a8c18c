//! The queues between shards: bounded, first in first out for each pair, late.

use std::collections::VecDeque;

use super::{World, shard_id};
use crate::engine::{Engine, Time};

pub(super) struct Mesh<M> {
    /// One queue for each pair: `from * shards + to`.
    queues: Vec<VecDeque<(Time, M)>>,
    shards: usize,
    capacity: usize,
    pub held: bool,
}

impl<M> Mesh<M> {
    pub(super) fn new(shards: usize, capacity: usize) -> Mesh<M> {
        let queues = (0..shards * shards).map(|_| VecDeque::new()).collect();
        Mesh { queues, shards, capacity, held: false }
    }

    fn queue(&mut self, from: usize, to: usize) -> &mut VecDeque<(Time, M)> {
        &mut self.queues[from * self.shards + to]
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
            if queue.len() >= capacity {
                break;
            }
            let Some(message) = outbox.pop_front() else { break };
            let arrival = queue.back().map_or(arrival, |(last, _)| arrival.max(*last));
            queue.push_back((arrival, message));
            at.get_or_insert(arrival);
        }
        if let Some(at) = at {
            self.schedule_turn(to, at);
        }
        let empty = self.shards[from].engine.outbox(shard_id(to)).is_empty();
        let was_blocked = std::mem::replace(&mut self.shards[from].blocked[to], !empty);
        if empty && was_blocked {
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
        while self.mesh.queue(from, to).front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, message)) = self.mesh.queue(from, to).pop_front() else { break };
            self.shards[to].engine.mesh(now, shard_id(from), message);
            taken = true;
        }
        if let Some((at, _)) = self.mesh.queue(from, to).front() {
            let at = *at;
            self.schedule_turn(to, at);
        }
        if taken && self.shards[from].blocked[to] {
            let at = self.later(self.conditions.turn_max);
            self.schedule_turn(from, at);
        }
    }
}
