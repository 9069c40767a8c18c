//! A hash table of numbers: finds the slot in an arena by what lies there.
//!
//! Every index keeps its values in a slab and needs to find them by text. A cell is the number and half of the
//! 64-bit hash, 8 bytes (9 with the control byte): the half answers most misses without a look at the arena,
//! and growing the table touches nothing else.

use hashbrown::HashTable;

/// Numbers found by hash and a comparison of the caller's.
#[derive(Debug, Default)]
pub struct IdTable {
    cells: HashTable<Cell>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    hash: u32,
    id: u32,
}

impl IdTable {
    /// The number under this hash that `is_it` says yes to.
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = half(hash);
        self.cells.find(spread(hash), |cell| cell.hash == hash && is_it(cell.id)).map(|cell| cell.id)
    }

    /// Adds a number that is not there yet.
    pub fn insert(&mut self, hash: u64, id: u32) {
        let hash = half(hash);
        self.cells.insert_unique(spread(hash), Cell { hash, id }, |cell| spread(cell.hash));
    }

    /// Removes a number that is there, and gives memory back once most of it is unused.
    pub fn remove(&mut self, hash: u64, id: u32) {
        let hash = half(hash);
        let found = self.cells.find_entry(spread(hash), |cell| cell.hash == hash && cell.id == id);
        found.expect("what is removed was inserted under this hash").remove();
        if self.cells.len() < self.cells.capacity() / 8 {
            self.cells.shrink_to(self.cells.len() * 2, |cell| spread(cell.hash));
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.cells.allocation_size()
    }
}

fn half(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// The table takes its tag from the highest bits and the place from the lowest.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
