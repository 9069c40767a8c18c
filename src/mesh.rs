//! How shards speak to each other: one bounded queue per pair, and a wake-up only for who sleeps.
//!
//! Data goes through memory. Each (source, target) pair has a queue of its own, which keeps a publisher's
//! order, with a bound kept by credits: the source counts what it sent, the target publishes what it took. A message
//! counts by what it holds (see [`Load`]); the one that reaches the bound is let through whole.
//! A target learns which queues to look into from a bitmap of pending sources, set once per turn and target,
//! and is woken (by the source's driver, see [`Port::poll_wake`]) only if it said that it is parked.
//!
//! Two flags against two flags, as in Dekker's algorithm, and every access to them `SeqCst`, so that they
//! have one order that all threads agree on:
//!
//! - a source sets `pending`, then reads `parked`; the target sets `parked`, then reads `pending`. Whichever
//!   write comes second in that order, the read after it sees the first: either the target finds the bit and
//!   stays awake, or the source finds it parked and wakes it. Only the one whose `swap` clears `parked` does.
//! - a source without credit sets `blocked`, then reads `taken` again; the target sets `taken`, then reads
//!   `blocked`. Either the source sees the room, or the target sees who waits for it and wakes it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use crossbeam_utils::CachePadded;
use rustix::event::{EventfdFlags, eventfd};

use crate::engine::{HandOver, Load, ShardId};

/// What a driver puts into the mesh.
#[derive(Debug)]
pub enum Item<M> {
    /// A message of the engine.
    Engine(M),
    /// A connection whose descriptor arrives by the ring under the same token.
    HandOver(Box<(u32, HandOver)>),
    /// The descriptor of that token will not arrive.
    HandOverFailed(u32),
}

impl<M: Load> Item<M> {
    fn load(&self) -> u64 {
        match self {
            Item::Engine(message) => message.load() as u64,
            Item::HandOver(_) | Item::HandOverFailed(_) => 1,
        }
    }
}

/// What one shard shows to the others.
struct Seat {
    /// True while the shard sleeps, or is about to.
    parked: AtomicBool,
    /// Set from outside: the shard takes leave of its connections and ends.
    stop: AtomicBool,
    /// The shard's ring, the target of descriptors; -1 until it exists.
    ring: AtomicI32,
    /// Written to when the shard is to wake up.
    eventfd: OwnedFd,
    /// By source: its queue to this shard is worth a look.
    pending: Bitmap,
    /// By source: it waits for room in its queue to this shard.
    blocked: Bitmap,
    /// By source: how much this shard took from its queue. Written by this shard alone.
    taken: Box<[AtomicU64]>,
}

struct Shared {
    seats: Box<[CachePadded<Seat>]>,
    /// Shards that have no connection left after a stop.
    drained: AtomicUsize,
}

/// The sending half of one pair.
struct Lane<M> {
    queue: Sender<Item<M>>,
    sent: u64,
    /// What the target had taken when last looked at.
    taken_seen: u64,
    /// Something was sent since the target was last told.
    unannounced: bool,
}

/// A shard's place in the mesh.
pub struct Port<M> {
    me: ShardId,
    capacity: u64,
    shared: Arc<Shared>,
    lanes: Vec<Lane<M>>,
    inboxes: Vec<Receiver<Item<M>>>,
    /// Sources whose queue was left non-empty by a drain's budget.
    left_over: Vec<usize>,
    /// Targets this shard waits for room of.
    waiting: Vec<ShardId>,
    /// Parked shards whose `parked` this shard cleared and which it must wake.
    wakes: Vec<ShardId>,
}

/// Lets a thread that is no shard wake and stop shards.
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

/// Builds the mesh: one port per shard, each queue taking messages until it holds `capacity` or more.
///
/// # Errors
/// When there is no descriptor for an eventfd.
pub fn build<M: Load>(shards: u16, capacity: usize) -> io::Result<(Vec<Port<M>>, Remote)> {
    assert!(shards > 0 && capacity > 0, "checked by the configuration");
    let seats: io::Result<Box<[_]>> = (0..shards).map(|_| Seat::new(shards).map(CachePadded::new)).collect();
    let shared = Arc::new(Shared { seats: seats?, drained: AtomicUsize::new(0) });
    let mut ports: Vec<Port<M>> = (0..shards).map(|me| Port::new(ShardId(me), capacity, &shared)).collect();
    for target in 0..usize::from(shards) {
        for source in 0..usize::from(shards) {
            // The list flavour of the channel: an idle pair costs next to nothing. The bound is by credits.
            let (sender, receiver) = unbounded();
            ports[source].lanes.push(Lane { queue: sender, sent: 0, taken_seen: 0, unannounced: false });
            ports[target].inboxes.push(receiver);
        }
    }
    Ok((ports, Remote { shared }))
}

impl Seat {
    fn new(shards: u16) -> io::Result<Seat> {
        Ok(Seat {
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            ring: AtomicI32::new(-1),
            eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            pending: Bitmap::new(shards),
            blocked: Bitmap::new(shards),
            taken: (0..shards).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    fn ring_doorbell(&self) {
        // Fails only when the counter is at its limit, which no uptime reaches.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}

impl<M: Load> Port<M> {
    fn new(me: ShardId, capacity: usize, shared: &Arc<Shared>) -> Port<M> {
        Port {
            me,
            capacity: capacity as u64,
            shared: Arc::clone(shared),
            lanes: Vec::new(),
            inboxes: Vec::new(),
            left_over: Vec::new(),
            waiting: Vec::new(),
            wakes: Vec::new(),
        }
    }

    /// The shard this is the place of.
    pub fn me(&self) -> ShardId {
        self.me
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.lanes.len() as u16
    }

    fn seat(&self, shard: ShardId) -> &Seat {
        &self.shared.seats[usize::from(shard.0)]
    }

    /// True when the queue for `to` takes one more engine message, however much that holds.
    pub fn has_room(&mut self, to: ShardId) -> bool {
        let lane = &mut self.lanes[usize::from(to.0)];
        if lane.sent - lane.taken_seen < self.capacity {
            return true;
        }
        let taken = &self.shared.seats[usize::from(to.0)].taken[usize::from(self.me.0)];
        lane.taken_seen = taken.load(Ordering::SeqCst);
        lane.sent - lane.taken_seen < self.capacity
    }

    /// Sends an item whose room was seen by [`has_room`](Self::has_room), or one that is bounded by what it
    /// is about: connections on their way.
    pub fn send(&mut self, to: ShardId, item: Item<M>) {
        let lane = &mut self.lanes[usize::from(to.0)];
        let load = item.load();
        // Fails when the target has ended; then nobody is left to care.
        if lane.queue.send(item).is_ok() {
            lane.sent += load;
            lane.unannounced = true;
        }
    }

    /// Asks to be woken when the queue for `to` has room again; returns true if it has it by now.
    pub fn wait_for_room(&mut self, to: ShardId) -> bool {
        self.seat(to).blocked.set(self.me);
        if self.has_room(to) {
            return true;
        }
        if !self.waiting.contains(&to) {
            self.waiting.push(to);
        }
        false
    }

    /// A target that was waited for and has room now.
    pub fn poll_room(&mut self) -> Option<ShardId> {
        let index = (0..self.waiting.len()).find(|&index| self.has_room(self.waiting[index]))?;
        Some(self.waiting.swap_remove(index))
    }

    /// Tells the targets of this turn's messages. Those that are parked come out of [`poll_wake`](Self::poll_wake).
    pub fn announce(&mut self) {
        for index in 0..self.lanes.len() {
            if std::mem::take(&mut self.lanes[index].unannounced) {
                let target = ShardId(index as u16);
                self.seat(target).pending.set(self.me);
                self.unpark(target);
            }
        }
    }

    fn unpark(&mut self, shard: ShardId) {
        let seat = self.seat(shard);
        // The plain read first: of an awake shard this only shares the cache line.
        if seat.parked.load(Ordering::SeqCst) && seat.parked.swap(false, Ordering::SeqCst) {
            self.wakes.push(shard);
        }
    }

    /// A shard that the driver must wake now.
    pub fn poll_wake(&mut self) -> Option<ShardId> {
        self.wakes.pop()
    }

    /// Wakes a shard. By its eventfd: a `MSG_RING` costs as much or more (see `benches/forwarder`), and only
    /// leaves with the next enter.
    pub fn wake(&self, shard: ShardId) {
        self.seat(shard).ring_doorbell();
    }

    /// Takes up to `budget` (and the rest of the item that reaches it) per source, in order. Returns true when some are left.
    pub fn drain(&mut self, budget: usize, mut take: impl FnMut(ShardId, Item<M>)) -> bool {
        let mut sources = std::mem::take(&mut self.left_over);
        self.seat(self.me).pending.take(|source| {
            if !sources.contains(&source) {
                sources.push(source);
            }
        });
        sources.retain(|&source| self.drain_one(source, budget, &mut take));
        self.left_over = sources;
        !self.left_over.is_empty()
    }

    fn drain_one(&mut self, source: usize, budget: usize, take: &mut impl FnMut(ShardId, Item<M>)) -> bool {
        let from = ShardId(source as u16);
        let (budget, mut load) = (budget as u64, 0);
        while load < budget
            && let Ok(item) = self.inboxes[source].try_recv()
        {
            load += item.load();
            take(from, item);
        }
        let seat = self.seat(self.me);
        let taken = &seat.taken[source];
        taken.store(taken.load(Ordering::Relaxed) + load, Ordering::SeqCst);
        if seat.blocked.clear(from) {
            self.unpark(from);
        }
        load >= budget
    }

    /// Says that this shard is about to sleep. Returns false if it must not, as there is something to do.
    pub fn park(&mut self) -> bool {
        let seat = self.seat(self.me);
        seat.parked.store(true, Ordering::SeqCst);
        if seat.pending.is_empty() && !seat.stop.load(Ordering::SeqCst) {
            let room = (0..self.waiting.len()).any(|index| self.has_room(self.waiting[index]));
            if !room && self.left_over.is_empty() {
                return true;
            }
        }
        self.unparked();
        false
    }

    /// Says that this shard is awake.
    pub fn unparked(&self) {
        // Not SeqCst: a source that still sees `true` only wakes in vain.
        self.seat(self.me).parked.store(false, Ordering::Release);
    }

    /// Shows this shard's ring to the others.
    pub fn publish_ring(&self, ring: RawFd) {
        self.seat(self.me).ring.store(ring, Ordering::SeqCst);
    }

    /// Another shard's ring, once it exists.
    pub fn ring_of(&self, shard: ShardId) -> Option<RawFd> {
        let ring = self.seat(shard).ring.load(Ordering::SeqCst);
        (ring >= 0).then_some(ring)
    }

    /// Written to, and never read, when somebody wakes this shard.
    pub fn eventfd(&self) -> RawFd {
        self.seat(self.me).eventfd.as_raw_fd()
    }

    /// True when this shard was asked to stop.
    pub fn stop_requested(&self) -> bool {
        self.seat(self.me).stop.load(Ordering::SeqCst)
    }

    /// Says, once, that this shard has no connection left.
    pub fn drained(&self) {
        if self.shared.drained.fetch_add(1, Ordering::SeqCst) + 1 == self.shared.seats.len() {
            self.shared.seats.iter().for_each(|seat| seat.ring_doorbell());
        }
    }

    /// True when every shard has said so: nobody will send to this one any more.
    pub fn all_drained(&self) -> bool {
        self.shared.drained.load(Ordering::SeqCst) == self.shared.seats.len()
    }
}

impl Remote {
    /// Asks all shards to stop.
    pub fn stop(&self) {
        for seat in &self.shared.seats {
            seat.stop.store(true, Ordering::SeqCst);
            seat.ring_doorbell();
        }
    }

    /// Wakes a shard.
    pub fn wake(&self, shard: ShardId) {
        self.shared.seats[usize::from(shard.0)].ring_doorbell();
    }
}

/// A set of shards.
struct Bitmap {
    words: Box<[AtomicU64]>,
}

impl Bitmap {
    fn new(shards: u16) -> Bitmap {
        Bitmap { words: (0..usize::from(shards).div_ceil(64)).map(|_| AtomicU64::new(0)).collect() }
    }

    fn set(&self, shard: ShardId) {
        self.words[usize::from(shard.0) / 64].fetch_or(1 << (shard.0 % 64), Ordering::SeqCst);
    }

    /// Clears a bit; returns whether it was set.
    fn clear(&self, shard: ShardId) -> bool {
        let word = &self.words[usize::from(shard.0) / 64];
        let bit = 1 << (shard.0 % 64);
        // The plain read first: the bit is rarely set.
        word.load(Ordering::SeqCst) & bit != 0 && word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    fn take(&self, mut each: impl FnMut(usize)) {
        for (index, word) in self.words.iter().enumerate() {
            if word.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                each(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|word| word.load(Ordering::SeqCst) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds as much as it says.
    #[derive(Debug, PartialEq)]
    struct Bundle(usize);

    impl Load for Bundle {
        fn load(&self) -> usize {
            self.0
        }
    }

    fn pair<M: Load>(capacity: usize) -> (Port<M>, Port<M>) {
        let (mut ports, _) = build(2, capacity).unwrap();
        let second = ports.pop().unwrap();
        (ports.pop().unwrap(), second)
    }

    fn drain(port: &mut Port<u32>) -> Vec<u32> {
        let mut got = Vec::new();
        port.drain(usize::MAX, |_, item| match item {
            Item::Engine(message) => got.push(message),
            other => panic!("unexpected {other:?}"),
        });
        got
    }

    #[test]
    fn a_queue_holds_exactly_its_capacity_and_tells_when_it_has_room_again() {
        let (mut a, mut b) = pair(3);
        let to = b.me();
        for n in 0..3 {
            assert!(a.has_room(to));
            a.send(to, Item::Engine(n));
        }
        assert!(!a.has_room(to) && !a.wait_for_room(to));
        a.announce();
        assert!(a.park(), "nothing to do");
        assert_eq!(drain(&mut b), [0, 1, 2]);
        assert_eq!(b.poll_wake(), Some(a.me()), "the one who waits for room is woken");
        assert_eq!(a.poll_room(), Some(to));
        assert!(a.has_room(to));
        assert_eq!(a.poll_room(), None);
    }

    #[test]
    fn a_queue_is_full_by_what_its_messages_hold_and_the_one_that_fills_it_goes_whole() {
        let (mut a, mut b) = pair(10);
        let to = b.me();
        for held in [9, 256] {
            assert!(a.has_room(to));
            a.send(to, Item::Engine(Bundle(held)));
        }
        assert!(!a.has_room(to), "two messages hold 265");
        a.announce();
        assert!(b.drain(9, |_, item| assert!(matches!(item, Item::Engine(Bundle(9))))), "the budget is used up");
        assert!(!a.has_room(to), "256 are left");
        assert!(!b.drain(257, |_, item| assert!(matches!(item, Item::Engine(Bundle(256))))));
        assert!(a.has_room(to));
        a.send(to, Item::Engine(Bundle(10)));
        assert!(!a.has_room(to), "what was taken counts once");
    }

    #[test]
    fn a_parked_shard_is_woken_once_and_an_awake_one_never() {
        let (mut a, mut b) = pair(8);
        let to = b.me();
        a.send(to, Item::Engine(1));
        a.announce();
        assert_eq!(a.poll_wake(), None, "b is awake");
        assert!(!b.park(), "its inbox is not empty");
        assert_eq!(drain(&mut b), [1]);
        assert!(b.park());
        for n in 2..5 {
            a.send(to, Item::Engine(n));
        }
        a.announce();
        assert_eq!((a.poll_wake(), a.poll_wake()), (Some(to), None));
        a.send(to, Item::Engine(5));
        a.announce();
        assert_eq!(a.poll_wake(), None, "it was woken already");
        assert_eq!(drain(&mut b), [2, 3, 4, 5]);
    }

    #[test]
    fn what_a_budget_leaves_is_taken_next_and_keeps_its_order() {
        let (mut a, mut b) = pair(8);
        (0..5).for_each(|n| a.send(b.me(), Item::Engine(n)));
        a.announce();
        let mut got = Vec::new();
        while b.drain(2, |_, item| got.push(item)) {
            assert!(!b.park(), "a shard with items left does not sleep");
        }
        let got: Vec<u32> =
            got.into_iter().filter_map(|item| if let Item::Engine(n) = item { Some(n) } else { None }).collect();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert!(b.park());
    }

    /// Two threads exchange messages, and each sleeps, without a timeout, whenever `park` lets it.
    #[test]
    fn no_wake_up_is_lost_under_a_storm_of_parking() {
        const MESSAGES: u32 = 50_000;
        let (a, b) = pair(4);
        let run = |mut port: Port<u32>, to: ShardId| {
            let (mut sent, mut got) = (0, 0);
            while sent < MESSAGES || got < MESSAGES {
                port.drain(usize::MAX, |_, item| {
                    assert!(matches!(item, Item::Engine(n) if n == got));
                    got += 1;
                });
                while port.poll_room().is_some() {}
                while sent < MESSAGES && port.has_room(to) {
                    port.send(to, Item::Engine(sent));
                    sent += 1;
                }
                if sent < MESSAGES {
                    port.wait_for_room(to);
                }
                port.announce();
                while let Some(shard) = port.poll_wake() {
                    port.wake(shard);
                }
                if (sent < MESSAGES || got < MESSAGES) && port.park() {
                    sleep_on(&port);
                    port.unparked();
                }
            }
        };
        let (to_a, to_b) = (a.me(), b.me());
        std::thread::scope(|scope| {
            scope.spawn(move || run(a, to_b));
            scope.spawn(move || run(b, to_a));
        });
    }

    fn sleep_on(port: &Port<u32>) {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&port.seat(port.me).eventfd, PollFlags::IN)];
        let timeout = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_ne!(poll(&mut fds, Some(&timeout)).unwrap(), 0, "a wake-up was lost");
        rustix::io::read(&port.seat(port.me).eventfd, &mut [0u8; 8]).unwrap();
    }
}
