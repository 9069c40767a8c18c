//! A slab: values in numbered slots that are used again, with a generation that tells a slot's users apart.
//!
//! Whatever a shard holds many of (connections, sessions, filters, trie nodes) lives in one and is named by a
//! `u32`. It grows by chunks instead of doubling, so a million entries are never copied and never held twice.

use foldhash::fast::FixedState;
use std::collections::HashMap;

/// What only some slots have, by slot. Nobody outside chooses the numbers of slots: their hash needs no secret.
pub type BySlot<T> = HashMap<u32, T, FixedState>;

/// Slots per chunk. The first chunk grows like a `Vec`, so that a small slab stays small.
const CHUNK: usize = 1024;
/// Ends the list of free slots; no slot has this number.
const NONE: u32 = u32::MAX;

/// Names one value of a [`Slab`] for ever: once that value is removed the key finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Index of the slot; dense, reused.
    pub slot: u32,
    /// Raised each time the slot's value is removed.
    pub generation: u32,
}

/// Values of one kind, numbered densely. See the module's description.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    len: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Occupied(T),
    /// The next free slot lies where the value was.
    Vacant(u32),
}

impl<T> Slab<T> {
    /// An empty slab; allocates nothing.
    pub const fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), free: NONE, len: 0 }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The key the next [`Slab::insert`] returns, for values that hold their own name.
    pub fn next_key(&self) -> Key {
        match self.slot(self.free) {
            Some(slot) => Key { slot: self.free, generation: slot.generation },
            None => Key { slot: self.slots(), generation: 0 },
        }
    }

    /// Puts a value into a free slot: the one freed last, else a new one.
    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        self.len += 1;
        let Some(slot) = self.slot_mut(key.slot) else {
            self.push(Slot { generation: 0, content: Content::Occupied(value) });
            return key;
        };
        match std::mem::replace(&mut slot.content, Content::Occupied(value)) {
            Content::Vacant(next) => self.free = next,
            Content::Occupied(_) => unreachable!("the free list names only vacant slots"),
        }
        key
    }

    /// The value in a slot, whichever it is.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.slot(slot).and_then(Slot::value)
    }

    /// The value in a slot, whichever it is.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slot_mut(slot).and_then(Slot::value_mut)
    }

    /// The value this key was given for, unless it was removed.
    pub fn get_key(&self, key: Key) -> Option<&T> {
        self.slot(key.slot).filter(|slot| slot.generation == key.generation).and_then(Slot::value)
    }

    /// The value this key was given for, unless it was removed.
    pub fn get_key_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slot_mut(key.slot).filter(|slot| slot.generation == key.generation).and_then(Slot::value_mut)
    }

    /// The key of the value in a slot.
    pub fn key_of(&self, slot: u32) -> Option<Key> {
        let found = self.slot(slot).filter(|found| found.value().is_some())?;
        Some(Key { slot, generation: found.generation })
    }

    /// Takes the value out of a slot and raises the slot's generation.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let found = self.slot_mut(slot).filter(|found| found.value().is_some())?;
        found.generation = found.generation.wrapping_add(1);
        let content = std::mem::replace(&mut found.content, Content::Vacant(free));
        self.free = slot;
        self.len -= 1;
        match content {
            Content::Occupied(value) => Some(value),
            Content::Vacant(_) => None,
        }
    }

    /// Takes out the value this key was given for, unless that was done before.
    pub fn remove_key(&mut self, key: Key) -> Option<T> {
        self.get_key(key)?;
        self.remove(key.slot)
    }

    /// Every value with its slot, by rising slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.chunks.iter().flatten().zip(0..);
        slots.filter_map(|(slot, number)| Some((number, slot.value()?)))
    }

    /// Every value with its slot, by rising slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let slots = self.chunks.iter_mut().flatten().zip(0..);
        slots.filter_map(|(slot, number)| Some((number, slot.value_mut()?)))
    }

    /// Bytes of memory held by the slots themselves, free ones included.
    pub fn memory_bytes(&self) -> usize {
        let slots: usize = self.chunks.iter().map(Vec::capacity).sum();
        slots * size_of::<Slot<T>>() + self.chunks.capacity() * size_of::<Vec<Slot<T>>>()
    }

    /// Number of slots, free ones included. All chunks but the last are full.
    pub fn slots(&self) -> u32 {
        let slots = self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len());
        u32::try_from(slots).ok().filter(|slots| *slots < NONE).expect("a slab has fewer than 2^32 - 1 slots")
    }

    fn push(&mut self, slot: Slot<T>) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(slot),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(slot);
                self.chunks.push(chunk);
            }
            None => self.chunks.push(vec![slot]),
        }
    }

    fn slot(&self, slot: u32) -> Option<&Slot<T>> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab::new()
    }
}

impl<T> Slot<T> {
    fn value(&self) -> Option<&T> {
        match &self.content {
            Content::Occupied(value) => Some(value),
            Content::Vacant(_) => None,
        }
    }

    fn value_mut(&mut self) -> Option<&mut T> {
        match &mut self.content {
            Content::Occupied(value) => Some(value),
            Content::Vacant(_) => None,
        }
    }
}

/// A slot whose value is known to be there.
impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        self.get(slot).expect("the slot is occupied")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.get_mut(slot).expect("the slot is occupied")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_removed_value_is_not_found_by_its_key_when_the_slot_is_used_again() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.remove_key(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slab.get_key(first), None);
        assert_eq!(slab.remove_key(first), None);
        assert_eq!(slab.get_key(second), Some(&"second"));
    }

    #[test]
    fn a_vacant_slot_takes_no_more_room_than_a_value_with_a_pointer() {
        assert_eq!(size_of::<Content<(Box<str>, u64)>>(), size_of::<(Box<str>, u64)>());
    }

    #[test]
    fn values_stay_in_place_while_the_slab_grows() {
        let mut slab = Slab::new();
        (0..CHUNK).for_each(|number| assert_eq!(slab.insert(number).slot as usize, number));
        let place = std::ptr::from_ref(slab.get(7).unwrap());
        (0..CHUNK).for_each(|number| assert_eq!(slab.insert(number).slot as usize, CHUNK + number));
        assert_eq!(place, std::ptr::from_ref(slab.get(7).unwrap()));
        assert_eq!(slab.len(), 2 * CHUNK);
    }

    proptest! {
        #[test]
        fn a_slab_does_what_a_map_does(steps in prop::collection::vec((any::<bool>(), 0..64usize), 0..4000)) {
            let mut slab = Slab::new();
            let mut twin = BTreeMap::new();
            let mut keys: Vec<Key> = Vec::new();
            for (value, (insert, which)) in steps.into_iter().enumerate() {
                if insert || keys.is_empty() {
                    let expected = slab.next_key();
                    let key = slab.insert(value);
                    prop_assert_eq!(key, expected);
                    prop_assert_eq!(twin.insert(key.slot, value), None);
                    keys.push(key);
                } else {
                    let key = keys.swap_remove(which % keys.len());
                    prop_assert_eq!(slab.remove_key(key), twin.remove(&key.slot));
                }
                prop_assert_eq!(slab.len(), twin.len());
            }
            prop_assert!(slab.iter().map(|(slot, value)| (slot, *value)).eq(twin));
            prop_assert!(keys.iter().all(|key| slab.get_key(*key).is_some() && slab.key_of(key.slot) == Some(*key)));
        }
    }
}
