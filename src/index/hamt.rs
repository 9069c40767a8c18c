//! A persistent map: copying it is one reference, changing it copies a handful of small branches.
//!
//! It is what lets a published trie have a node with 100,000 children: a hash array mapped trie (Bagwell, "Ideal
//! hash trees", 2001) with 16-way branches, whose leaves hold their own key. Values that nobody else refers to
//! are changed in place, so a batch of changes copies each branch once.

use triomphe::Arc;

/// A value of a [`Hamt`], which knows its key.
pub trait Keyed: Clone {
    /// Hash of the key; the same key always has the same.
    fn hash(&self) -> u64;
    /// The key.
    fn key(&self) -> &str;
}

const BITS: u32 = 4;
/// Below this depth a hash is used up: a branch there is a list of keys that share their whole hash.
const DEPTH_MAX: u32 = u64::BITS / BITS;

/// Values found by their key. See the module's description.
#[derive(Debug)]
pub struct Hamt<V>(Option<Arc<Branch<V>>>);

#[derive(Debug)]
struct Branch<V> {
    /// A bit for each of 16 places that has a slot; 0 at the lowest depth.
    occupied: u16,
    slots: Vec<Slot<V>>,
}

#[derive(Debug)]
enum Slot<V> {
    Leaf(Arc<V>),
    /// At least two leaves, so that one leaf has one shape.
    Branch(Arc<Branch<V>>),
}

impl<V: Keyed> Hamt<V> {
    pub const fn new() -> Hamt<V> {
        Hamt(None)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// True when there is exactly one value.
    pub fn is_single(&self) -> bool {
        self.0.as_ref().is_some_and(|branch| matches!(branch.slots[..], [Slot::Leaf(_)]))
    }

    pub fn get(&self, hash: u64, key: &str) -> Option<&V> {
        let mut branch = self.0.as_deref()?;
        for depth in 0.. {
            match &branch.slots[branch.position(hash, key, depth).ok()?] {
                Slot::Leaf(value) => return (value.key() == key).then_some(value),
                Slot::Branch(below) => branch = below,
            }
        }
        None
    }

    /// The value of a key, which `make` makes if it is not there. What others refer to is copied.
    pub fn get_or_insert(&mut self, hash: u64, key: &str, make: impl FnOnce() -> V) -> &mut V {
        let mut branch = Arc::make_mut(self.0.get_or_insert_with(|| Arc::new(Branch::new())));
        let mut depth = 0;
        loop {
            let index = match branch.position(hash, key, depth) {
                Ok(index) => index,
                Err(index) => {
                    branch.insert(index, hash, depth, Arc::new(make()));
                    return branch.leaf_mut(index);
                }
            };
            match &branch.slots[index] {
                Slot::Leaf(value) if value.key() == key => return branch.leaf_mut(index),
                Slot::Leaf(value) => branch.slots[index] = Slot::Branch(Arc::new(Branch::of(value.clone(), depth + 1))),
                Slot::Branch(_) => {}
            }
            branch = branch.below_mut(index);
            depth += 1;
        }
    }

    /// Removes the value of a key; false when it is not there.
    pub fn remove(&mut self, hash: u64, key: &str) -> bool {
        if self.get(hash, key).is_none() {
            return false;
        }
        let Some(branch) = &mut self.0 else { return false };
        let branch = Arc::make_mut(branch);
        branch.remove(hash, key, 0);
        if branch.slots.is_empty() {
            self.0 = None;
        }
        true
    }

    /// Every value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        let mut pending: Vec<std::slice::Iter<'_, Slot<V>>> = self.0.iter().map(|top| top.slots.iter()).collect();
        std::iter::from_fn(move || {
            loop {
                match pending.last_mut()?.next() {
                    Some(Slot::Leaf(value)) => return Some(&**value),
                    Some(Slot::Branch(branch)) => pending.push(branch.slots.iter()),
                    None => drop(pending.pop()),
                }
            }
        })
    }

    /// Empties the map and hands out the values of every branch that no other map refers to.
    pub fn drain_into(&mut self, out: &mut Vec<Arc<V>>) {
        let mut pending: Vec<Arc<Branch<V>>> = self.0.take().into_iter().collect();
        while let Some(branch) = pending.pop() {
            let Ok(branch) = Arc::try_unwrap(branch) else { continue };
            for slot in branch.slots {
                match slot {
                    Slot::Leaf(value) => out.push(value),
                    Slot::Branch(below) => pending.push(below),
                }
            }
        }
    }

    /// Bytes of memory of branches and leaves, without what the values hold elsewhere.
    pub fn memory_bytes(&self) -> usize {
        let mut pending: Vec<&Branch<V>> = self.0.as_deref().into_iter().collect();
        let mut bytes = 0;
        while let Some(branch) = pending.pop() {
            bytes += ARC_HEADER + size_of::<Branch<V>>() + branch.slots.capacity() * size_of::<Slot<V>>();
            for slot in &branch.slots {
                match slot {
                    Slot::Leaf(_) => bytes += ARC_HEADER + size_of::<V>(),
                    Slot::Branch(below) => pending.push(below),
                }
            }
        }
        bytes
    }
}

/// The reference count before a shared value.
pub const ARC_HEADER: usize = size_of::<usize>();

impl<V> Clone for Hamt<V> {
    fn clone(&self) -> Self {
        Hamt(self.0.clone())
    }
}

impl<V: Keyed> Branch<V> {
    const fn new() -> Branch<V> {
        Branch { occupied: 0, slots: Vec::new() }
    }

    fn of(value: Arc<V>, depth: u32) -> Branch<V> {
        let mut branch = Branch::new();
        branch.insert(0, value.hash(), depth, value);
        branch
    }

    /// Where a key is or leads to; else where its slot has to be inserted.
    fn position(&self, hash: u64, key: &str, depth: u32) -> Result<usize, usize> {
        if depth == DEPTH_MAX {
            let is_it = |slot: &Slot<V>| matches!(slot, Slot::Leaf(value) if value.key() == key);
            return self.slots.iter().position(is_it).ok_or(self.slots.len());
        }
        let bit = place(hash, depth);
        let index = (self.occupied & (bit - 1)).count_ones() as usize;
        if self.occupied & bit == 0 { Err(index) } else { Ok(index) }
    }

    fn insert(&mut self, index: usize, hash: u64, depth: u32, value: Arc<V>) {
        if depth < DEPTH_MAX {
            self.occupied |= place(hash, depth);
        }
        self.slots.reserve_exact(1);
        self.slots.insert(index, Slot::Leaf(value));
    }

    /// Removes a key that is there. Goes at most [`DEPTH_MAX`] deep.
    fn remove(&mut self, hash: u64, key: &str, depth: u32) {
        let Ok(index) = self.position(hash, key, depth) else { return };
        if let Slot::Branch(below) = &mut self.slots[index] {
            let below = Arc::make_mut(below);
            below.remove(hash, key, depth + 1);
            if let [Slot::Leaf(single)] = &below.slots[..] {
                self.slots[index] = Slot::Leaf(single.clone());
            }
            return;
        }
        self.slots.remove(index);
        if depth < DEPTH_MAX {
            self.occupied &= !place(hash, depth);
        }
    }

    fn leaf_mut(&mut self, index: usize) -> &mut V {
        match &mut self.slots[index] {
            Slot::Leaf(value) => Arc::make_mut(value),
            Slot::Branch(_) => unreachable!("the caller looked"),
        }
    }

    fn below_mut(&mut self, index: usize) -> &mut Branch<V> {
        match &mut self.slots[index] {
            Slot::Branch(below) => Arc::make_mut(below),
            Slot::Leaf(_) => unreachable!("the caller looked"),
        }
    }
}

impl<V> Clone for Branch<V> {
    fn clone(&self) -> Self {
        Branch { occupied: self.occupied, slots: self.slots.clone() }
    }
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        match self {
            Slot::Leaf(value) => Slot::Leaf(value.clone()),
            Slot::Branch(branch) => Slot::Branch(branch.clone()),
        }
    }
}

fn place(hash: u64, depth: u32) -> u16 {
    1 << ((hash >> (BITS * depth)) & ((1 << BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(String, u32);

    impl Keyed for Pair {
        fn hash(&self) -> u64 {
            hash(&self.0)
        }
        fn key(&self) -> &str {
            &self.0
        }
    }

    /// Few hashes, some alike in all but the highest bits: so that deep branches and equal hashes occur.
    fn hash(key: &str) -> u64 {
        let number: u64 = key.parse().unwrap();
        if number.is_multiple_of(3) { 7 | (number / 6) << 61 } else { number % 16 }
    }

    proptest! {
        #[test]
        fn a_persistent_map_does_what_a_map_does_and_leaves_old_copies_alone(
            steps in prop::collection::vec((0u8..8, 0u32..100), 0..300)
        ) {
            let (mut map, mut twin) = (Hamt::new(), BTreeMap::new());
            let (mut old, mut old_twin) = (map.clone(), twin.clone());
            for (value, (kind, key)) in (0u32..).zip(steps) {
                let key = key.to_string();
                match kind {
                    0 => (old, old_twin) = (map.clone(), twin.clone()),
                    1..4 => prop_assert_eq!(map.remove(hash(&key), &key), twin.remove(&key).is_some()),
                    _ => {
                        map.get_or_insert(hash(&key), &key, || Pair(key.clone(), 0)).1 = value;
                        twin.insert(key.clone(), value);
                    }
                }
                prop_assert_eq!(map.get(hash(&key), &key).map(|pair| pair.1), twin.get(&key).copied());
                prop_assert_eq!((map.is_empty(), map.is_single()), (twin.is_empty(), twin.len() == 1));
            }
            for (map, twin) in [(map, twin), (old, old_twin)] {
                let content: BTreeMap<String, u32> = map.iter().map(|pair| (pair.0.clone(), pair.1)).collect();
                prop_assert_eq!(map.iter().count(), content.len());
                prop_assert_eq!(content, twin);
            }
        }
    }
}
