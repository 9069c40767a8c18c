//! Which sessions a shard's most recent topics went to.
//!
//! A device publishes to the same few topics again and again, and most topics have one subscriber. An entry
//! answers such a topic with one probe, whatever the filters look like. Any change of the index makes all entries
//! stale at once, by a generation that both carry: a shard whose clients subscribe all the time is no worse off
//! than without.

use super::Subscriber;

/// How many topics are remembered, direct-mapped by their hash; 32 bytes each.
const TOPICS: usize = 1024;
/// Topics with more subscribers than this are not remembered.
const SUBSCRIBERS_MAX: usize = 2;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Recent {
    /// Made when it is first used.
    entries: Box<[Entry]>,
    /// Raised by every change of the index.
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Two topics with one 64-bit keyed hash are taken not to occur.
    hash: u64,
    generation: u32,
    found: Recalled,
}

/// What is remembered of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    filters: u8,
    len: u8,
    subscribers: [Subscriber; SUBSCRIBERS_MAX],
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Default for Recent {
    fn default() -> Recent {
        Recent { entries: Box::default(), generation: 1 }
    }
}

impl Recent {
    /// The index has changed.
    pub fn forget(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            // Entries of the last time round would look fresh.
            self.entries = Box::default();
            self.generation = 1;
        }
    }

    /// What is remembered of a topic.
    #[inline]
    pub fn recall(&self, hash: u64) -> Option<Recalled> {
        let entry = self.entries.get(hash as usize % TOPICS)?;
        (entry.hash == hash && entry.generation == self.generation).then_some(entry.found)
    }

    /// Remembers what matched a topic, if it is little enough.
    pub fn remember(&mut self, hash: u64, filters: usize, found: &[Subscriber]) {
        let Ok(filters) = u8::try_from(filters) else { return };
        if found.len() > SUBSCRIBERS_MAX {
            return;
        }
        if self.entries.is_empty() {
            let nothing = Subscriber::new(0, 0);
            let nothing = Recalled { filters: 0, len: 0, subscribers: [nothing; SUBSCRIBERS_MAX] };
            self.entries = vec![Entry { hash: 0, generation: 0, found: nothing }; TOPICS].into();
        }
        let entry = &mut self.entries[hash as usize % TOPICS];
        (entry.hash, entry.generation) = (hash, self.generation);
        (entry.found.filters, entry.found.len) = (filters, found.len() as u8);
        entry.found.subscribers[..found.len()].copy_from_slice(found);
    }
}

impl Recalled {
    /// How many filters matched.
    #[inline]
    pub fn filters(&self) -> usize {
        usize::from(self.filters)
    }

    /// Their subscribers.
    #[inline]
    pub fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use crate::index::naive::strategies;
    use crate::index::{HashSeed, LocalIndex, Subscriber, topic_hash};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_remembered_is_what_would_be_found(
            steps in prop::collection::vec((0u32..4, strategies::filter(), strategies::topic(), 0u32..4), 1..200),
        ) {
            let seed = HashSeed::from_u64(1);
            let mut index = LocalIndex::new(seed.clone());
            for (kind, filter, topic, session) in steps {
                match kind {
                    0 => {
                        index.subscribe(&filter, Subscriber::new(session, 1));
                    }
                    1 => {
                        index.unsubscribe(&filter, session);
                    }
                    _ => {}
                }
                let hash = topic_hash(&seed, &topic);
                let (mut found, mut again) = (Vec::new(), Vec::new());
                let filters = index.matches(&topic, hash, &mut found);
                // Twice: the second time it is remembered.
                for _ in 0..2 {
                    again.clear();
                    prop_assert_eq!(index.matches_again(&topic, hash, &mut again), filters);
                    prop_assert_eq!(&again, &found);
                }
            }
        }
    }

    #[test]
    fn the_generation_may_wrap() {
        let mut recent = super::Recent::default();
        recent.remember(5, 1, &[Subscriber::new(1, 0)]);
        recent.generation = u32::MAX;
        recent.forget();
        assert_eq!(recent.recall(5), None);
    }
}
