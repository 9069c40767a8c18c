//! Which shards want the topics of one partition: a table of atomics with one writer and any number of readers.
//!
//! A slot is a topic's 64-bit hash and a set of shards, 16 bytes. A false positive is harmless (that shard
//! matches again), so the text is not kept.
//!
//! Why readers need no lock. Within one table a slot goes from hash 0 (free) to one hash and stays with it, only
//! its set changes; so whoever reads the hash may read the set later without checking the hash again. The writer
//! stores the set before the hash (release), a reader loads the hash (acquire) before the set. When free slots
//! run out, the writer copies what is in use into a new table and publishes that; the old one is never written
//! again. Whoever has learned of a change (by a message, which orders the writer's stores before the reader's
//! loads) cannot load an older table, hash or set than the change left, because an atomic never goes back.
//!
//! A reader keeps its table and only compares that with what is published. For that a relaxed load does: coherence alone
//! keeps it from finding an older table than the change left, a table it keeps was acquired when it was taken, and no other
//! can be at the address of one that is still alive. The price: until a reader looks again, a former table lives on.

use arc_swap::{ArcSwap, Cache};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Slots of the smallest table.
const SLOTS_MIN: usize = 16;

/// The exact filters of one partition. Only its owner calls the methods that change it.
#[derive(Debug)]
pub struct ExactTable {
    slots: Arc<ArcSwap<Slots>>,
    /// Slots with a hash, and those of them with a shard. Only the owner looks at these.
    used: AtomicUsize,
    live: AtomicUsize,
}

type Slots = Box<[Slot]>;

#[derive(Debug, Default)]
struct Slot {
    hash: AtomicU64,
    shards: AtomicU64,
}

impl ExactTable {
    pub fn new() -> ExactTable {
        let slots = Arc::new(ArcSwap::from_pointee(empty(SLOTS_MIN)));
        ExactTable { slots, used: AtomicUsize::new(0), live: AtomicUsize::new(0) }
    }

    /// A way to read the table that is cheap for the thread that owns it. It keeps the slots it read last alive.
    pub fn reader(&self) -> ExactReader {
        ExactReader(Cache::new(Arc::clone(&self.slots)))
    }

    /// Adds a shard to those that want the hash.
    pub fn add(&self, hash: u64, shard: u64) {
        let slots = self.slots.load();
        let slot = &slots[find(&slots, hash)];
        if slot.hash.load(Ordering::Relaxed) == hash {
            let before = slot.shards.load(Ordering::Relaxed);
            slot.shards.store(before | shard, Ordering::Release);
            self.count(&self.live, usize::from(before == 0), 0);
        } else if (self.used.load(Ordering::Relaxed) + 1) * 4 > slots.len() * 3 {
            self.rebuild(&slots);
            self.add(hash, shard);
        } else {
            slot.shards.store(shard, Ordering::Relaxed);
            slot.hash.store(hash, Ordering::Release);
            self.count(&self.live, 1, 0);
            self.count(&self.used, 1, 0);
        }
    }

    /// Takes a shard out of those that want the hash.
    pub fn remove(&self, hash: u64, shard: u64) {
        let slots = self.slots.load();
        let slot = &slots[find(&slots, hash)];
        if slot.hash.load(Ordering::Relaxed) != hash {
            return;
        }
        let before = slot.shards.load(Ordering::Relaxed);
        slot.shards.store(before & !shard, Ordering::Release);
        self.count(&self.live, 0, usize::from(before != 0 && before & !shard == 0));
        if self.live.load(Ordering::Relaxed) < slots.len() / 8 && slots.len() > SLOTS_MIN {
            self.rebuild(&slots);
        }
    }

    /// Number of hashes that a shard wants.
    pub fn len(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<ExactTable>() + self.slots.load().len() * size_of::<Slot>()
    }

    /// Publishes a table in which half of the slots are used, by hashes that a shard wants.
    fn rebuild(&self, old: &Slots) {
        let live = self.live.load(Ordering::Relaxed);
        let new = empty((live * 2).max(SLOTS_MIN));
        for slot in old {
            let (hash, shards) = (slot.hash.load(Ordering::Relaxed), slot.shards.load(Ordering::Relaxed));
            if shards != 0 {
                let slot = &new[find(&new, hash)];
                slot.hash.store(hash, Ordering::Relaxed);
                slot.shards.store(shards, Ordering::Relaxed);
            }
        }
        self.used.store(live, Ordering::Relaxed);
        self.slots.store(Arc::new(new));
    }

    /// There is one writer, so that a load and a store do.
    fn count(&self, counter: &AtomicUsize, more: usize, fewer: usize) {
        counter.store(counter.load(Ordering::Relaxed) + more - fewer, Ordering::Relaxed);
    }
}

/// Reads an [`ExactTable`], and takes part in no counting of references while the slots are the same.
#[derive(Debug)]
pub struct ExactReader(Cache<Arc<ArcSwap<Slots>>, Arc<Slots>>);

impl ExactReader {
    /// The shards that want a topic with this hash (not 0).
    pub fn shards(&mut self, hash: u64) -> u64 {
        let slots = self.0.load();
        let slot = &slots[find(slots, hash)];
        if slot.hash.load(Ordering::Acquire) == hash { slot.shards.load(Ordering::Acquire) } else { 0 }
    }
}

fn empty(slots: usize) -> Slots {
    (0..slots).map(|_| Slot::default()).collect()
}

/// The slot with this hash, else the free one where it belongs. A quarter of all slots are free.
fn find(slots: &[Slot], hash: u64) -> usize {
    // By the highest bits, so that slots stay in the order of their hashes: a rebuild reads and writes in order.
    let mut index = ((u128::from(hash) * slots.len() as u128) >> 64) as usize;
    loop {
        match slots[index].hash.load(Ordering::Acquire) {
            0 => return index,
            found if found == hash => return index,
            _ => index += 1,
        }
        if index == slots.len() {
            index = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicU32;

    /// Spreads small numbers over the whole table; 0 stays the worst case, 1.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1)
    }

    #[test]
    fn a_hash_costs_at_most_32_bytes_once_there_are_many() {
        let table = ExactTable::new();
        for number in 1..100_000 {
            table.add(hash(number), 1);
            assert!(number < 1_000 || table.memory_bytes() <= 33 * number as usize, "{number} hashes");
        }
    }

    #[test]
    fn churn_does_not_let_the_table_grow() {
        let table = ExactTable::new();
        for number in 1..100_000 {
            table.add(hash(number), 1);
            table.remove(hash(number), 1);
        }
        assert!(table.len() == 0 && table.memory_bytes() < 4096, "{} bytes", table.memory_bytes());
    }

    #[test]
    fn neighbouring_hashes_at_the_end_wrap_to_the_beginning() {
        let table = ExactTable::new();
        (0..100).for_each(|number| table.add(u64::MAX - number, 1 << (number % 64)));
        let mut reader = table.reader();
        (0..100).for_each(|number| assert_eq!(reader.shards(u64::MAX - number), 1 << (number % 64)));
    }

    /// Bit `n` of the low half is only ever added, bit `32 + n` only ever removed, and announced afterwards through
    /// an atomic as a message would; hashes that come and go make the writer publish new tables all the while.
    #[test]
    fn readers_on_other_threads_see_every_announced_change() {
        const HASHES: usize = 64;
        const ROUNDS: u64 = 32;
        let table = ExactTable::new();
        let announced: Vec<AtomicU64> = (0..HASHES).map(|_| AtomicU64::new(0)).collect();
        let looks = [AtomicU64::new(0), AtomicU64::new(0)];
        let (missing, left_over) = (AtomicU32::new(0), AtomicU32::new(0));
        let bits = |rounds: u64| (1u64 << rounds) - 1;
        (1..=HASHES as u64).for_each(|number| (32..64).for_each(|bit| table.add(hash(number), 1 << bit)));
        let write = || {
            for (round, number) in (0..ROUNDS).flat_map(|round| (0..HASHES).map(move |number| (round, number))) {
                // Let the readers see something of every round.
                while number == 0 && looks.iter().any(|looks| looks.load(Ordering::Relaxed) < round * 100) {
                    std::thread::yield_now();
                }
                table.add(hash(number as u64 + 1), 1 << round);
                table.remove(hash(number as u64 + 1), 1 << (32 + round));
                announced[number].store(round + 1, Ordering::Release);
                let passing = hash(1000 + (round << 8) + number as u64);
                table.add(passing, 1);
                table.remove(passing, 1);
            }
        };
        let read = |reader: usize| {
            let mut number = reader;
            let mut present = table.reader();
            while announced[HASHES - 1].load(Ordering::Acquire) < ROUNDS {
                number = (number + 7) % HASHES;
                looks[reader].fetch_add(1, Ordering::Relaxed);
                let seen = bits(announced[number].load(Ordering::Acquire));
                let shards = present.shards(hash(number as u64 + 1));
                // Counted, not asserted: a writer waits for this thread.
                missing.fetch_add((seen & !shards).count_ones(), Ordering::Relaxed);
                left_over.fetch_add((shards >> 32 & seen).count_ones(), Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| read(0));
            scope.spawn(|| read(1));
            scope.spawn(write);
        });
        assert_eq!((missing.into_inner(), left_over.into_inner()), (0, 0), "announced changes that were not seen");
        let mut reader = table.reader();
        (1..=HASHES as u64).for_each(|number| assert_eq!(reader.shards(hash(number)), bits(ROUNDS)));
    }

    proptest! {
        #[test]
        fn a_table_does_what_a_map_does(steps in prop::collection::vec((any::<bool>(), 0u64..200, 0u32..3), 0..2000)) {
            let table = ExactTable::new();
            let mut reader = table.reader();
            let mut twin: BTreeMap<u64, u64> = BTreeMap::new();
            for (add, number, shard) in steps {
                let wanted = twin.entry(number).or_default();
                if add {
                    table.add(hash(number), 1 << shard);
                    *wanted |= 1 << shard;
                } else {
                    table.remove(hash(number), 1 << shard);
                    *wanted &= !(1 << shard);
                }
                prop_assert_eq!(reader.shards(hash(number)), *wanted);
            }
            for number in 0..200 {
                prop_assert_eq!(reader.shards(hash(number)), twin.get(&number).copied().unwrap_or(0));
            }
            prop_assert_eq!(table.len(), twin.values().filter(|shards| **shards != 0).count());
        }
    }
}
