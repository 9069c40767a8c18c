//! Which shards want a topic: shared by all shards, one writer for each part, read without a lock.
//!
//! Filters without wildcards are partitioned over the shards by their hash (`exact.rs`). Filters with wildcards,
//! and all shared subscriptions, lie in [`STRIPES`] immutable tries by their literal prefix (`stripe.rs`); stripe
//! `s` is written by shard `s % shards`. A shard tells a filter's owner (over the mesh) when it gains its first
//! and when it loses its last subscriber, and the owner calls [`Interest::apply`].
//!
//! What a reader may rely on: **a lookup sees every change whose [`Interest::apply`] returned before it**, in the
//! sense of happens-before, as when the owner's answer came through the mesh; whatever the cache holds. For the
//! exact filters `exact.rs` tells why. For a stripe: the writer publishes the new trie, then raises the stripe's
//! generation (release). A lookup takes an entry of its cache only if the generations it was filled under are
//! still the present ones; having learned of the change, it cannot load a generation from before it. An entry is
//! filled by loading the generations first (acquire) and the tries after that, so under a generation there is
//! never a trie older than the one published before it; a newer one does no harm, it is looked up once more.

use super::exact::{ExactReader, ExactTable};
use super::stripe::{End, Prefix, ShardMembers, ShareGroup, StripeTrie};
use super::{HashSeed, has_wildcard, topic_hash};
use arc_swap::ArcSwapOption;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The most shards there can be: a set of shards is one word.
pub const SHARDS_MAX: u16 = 64;
/// Parts of the wildcard filters that are published, and make caches stale, on their own.
pub const STRIPES: usize = 1024;
/// A topic's filters have at most this many different prefixes.
const PREFIXES_MAX: usize = 3;

/// The interest of all shards. See the module's description.
#[derive(Debug)]
pub struct Interest {
    seed: HashSeed,
    partitions: Box<[ExactTable]>,
    stripes: Box<[Stripe]>,
    /// Stripes that are not empty, and shared subscriptions: with none of them a lookup is one probe.
    stripes_used: AtomicUsize,
    groups: AtomicUsize,
}

/// (On a cache line of its own, since neighbours have different writers.)
#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    trie: ArcSwapOption<StripeTrie>,
    /// Raised after each publication.
    generation: AtomicU64,
}

/// A change of one shard's interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The shard has a subscriber to the filter.
    Interested {
        /// The topic filter.
        filter: &'a str,
        /// The shard.
        shard: u16,
    },
    /// It has none any more, nor one to another filter of the same hash
    /// ([`Unsubscribed::hash_gone`](super::Unsubscribed)).
    NotInterested {
        /// The topic filter.
        filter: &'a str,
        /// The shard.
        shard: u16,
    },
    /// It has so many members of `$share/{name}/{filter}`.
    Group {
        /// The share name.
        name: &'a str,
        /// The topic filter.
        filter: &'a str,
        /// The shard.
        shard: u16,
        /// Members that are connected.
        online: u32,
        /// All members; 0 takes the shard out of the group.
        total: u32,
    },
}

/// Where a message goes.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The shards with sessions that may want it, a bit for each.
    pub shards: u64,
    /// The shared subscriptions that match.
    pub groups: Vec<Arc<ShareGroup>>,
}

/// What one publisher's shard remembers: where the filters without wildcards are, and which of those with wildcards
/// matched its recent topics. Used with one [`Interest`] only.
#[derive(Debug)]
pub struct InterestCache {
    /// By partition; made at the first lookup.
    exact: Box<[ExactReader]>,
    /// Direct-mapped by the topic's hash.
    entries: Box<[CacheEntry]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct CacheEntry {
    /// The topic's hash; 0 for none. Two topics with one 64-bit keyed hash are taken not to occur.
    hash: u64,
    generations: [u64; PREFIXES_MAX],
    shards: u64,
    stripes: [u16; PREFIXES_MAX],
    /// Shared subscriptions match as well; they are looked up each time.
    groups: bool,
}

impl Interest {
    /// Nobody is interested in anything yet. `shards` is 1 to [`SHARDS_MAX`].
    pub fn new(shards: u16, seed: HashSeed) -> Interest {
        assert!((1..=SHARDS_MAX).contains(&shards), "there are 1 to {SHARDS_MAX} shards");
        let partitions = (0..shards).map(|_| ExactTable::new()).collect();
        let stripes = (0..STRIPES).map(|_| Stripe::default()).collect();
        Interest { seed, partitions, stripes, stripes_used: AtomicUsize::new(0), groups: AtomicUsize::new(0) }
    }

    /// The shard that applies changes of the interest in a filter.
    pub fn owner(&self, filter: &str) -> u16 {
        if has_wildcard(filter) {
            self.shared_owner(filter)
        } else {
            self.partition_of(topic_hash(&self.seed, filter)) as u16
        }
    }

    /// The shard that applies changes of the shared subscriptions to a filter.
    pub fn shared_owner(&self, filter: &str) -> u16 {
        stripe_of(&Prefix::of_filter(&self.seed, filter)) % self.partitions.len() as u16
    }

    /// Makes changes visible to all shards. Called only by the owner of the filters; when it returns, the changes
    /// are published.
    pub fn apply<'a>(&self, changes: impl IntoIterator<Item = Change<'a>>) {
        let mut batch = Batch { interest: self, tries: BTreeMap::new(), groups: 0 };
        changes.into_iter().for_each(|change| batch.apply(change));
        batch.publish();
    }

    /// Finds out where a topic's message goes. `hash` is the topic's [`topic_hash`].
    pub fn lookup(&self, topic: &str, hash: u64, cache: &mut InterestCache, route: &mut Route) {
        route.clear();
        if cache.exact.is_empty() {
            cache.exact = self.partitions.iter().map(ExactTable::reader).collect();
        }
        route.shards = cache.exact[self.partition_of(hash)].shards(hash);
        if self.stripes_used.load(Ordering::Acquire) == 0 {
            return;
        }
        let entry = cache.entry_mut(hash);
        if entry.hash != hash || !self.is_current(entry) {
            *entry = self.look_up_wildcards(topic, hash);
        }
        route.shards |= entry.shards;
        if entry.groups {
            self.add_groups(topic, route);
        }
    }

    /// Finds the shared subscriptions that match a topic, for a single shard that has no need to ask for others.
    pub fn lookup_groups(&self, topic: &str, route: &mut Route) {
        route.clear();
        if self.groups.load(Ordering::Acquire) > 0 {
            self.add_groups(topic, route);
        }
    }

    /// Number of filters without wildcards that a shard is interested in.
    pub fn exact_filters(&self) -> usize {
        self.partitions.iter().map(ExactTable::len).sum()
    }

    /// Number of shared subscriptions.
    pub fn groups(&self) -> usize {
        self.groups.load(Ordering::Relaxed)
    }

    /// Bytes of memory held by all shards together, the allocator's rounding apart. Visits every filter.
    pub fn memory_bytes(&self) -> usize {
        let tries = self.stripes.iter().filter_map(|stripe| stripe.trie.load_full());
        self.partitions.iter().map(ExactTable::memory_bytes).sum::<usize>()
            + size_of_val(&*self.stripes)
            + tries.map(|trie| trie.memory_bytes()).sum::<usize>()
    }

    /// The lowest bits choose the partition, since the table inside goes by the highest.
    fn partition_of(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.partitions.len() as u64) >> 32) as usize
    }

    fn is_current(&self, entry: &CacheEntry) -> bool {
        let mut places = entry.stripes.iter().zip(entry.generations);
        places.all(|(stripe, generation)| self.generation(*stripe) == generation)
    }

    fn generation(&self, stripe: u16) -> u64 {
        self.stripes[usize::from(stripe)].generation.load(Ordering::Acquire)
    }

    fn look_up_wildcards(&self, topic: &str, hash: u64) -> CacheEntry {
        let prefixes = Prefix::of_topic(&self.seed, topic);
        // With fewer prefixes a stripe is named more than once.
        let stripes = std::array::from_fn(|index| stripe_of(&prefixes[index.min(prefixes.len() - 1)]));
        let generations = stripes.map(|stripe| self.generation(stripe));
        let mut entry = CacheEntry { hash, generations, shards: 0, stripes, groups: false };
        self.for_each_match(topic, &prefixes, |end| {
            entry.shards |= end.shards;
            entry.groups |= !end.groups().is_empty();
        });
        entry
    }

    fn add_groups(&self, topic: &str, route: &mut Route) {
        let prefixes = Prefix::of_topic(&self.seed, topic);
        self.for_each_match(topic, &prefixes, |end| route.groups.extend_from_slice(end.groups()));
    }

    fn for_each_match(&self, topic: &str, prefixes: &[Prefix<'_>], mut found: impl FnMut(&End)) {
        for prefix in prefixes {
            if let Some(trie) = &*self.stripes[usize::from(stripe_of(prefix))].trie.load() {
                trie.matches(&self.seed, prefix, topic, &mut found);
            }
        }
    }
}

impl Route {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.shards = 0;
        self.groups.clear();
    }
}

impl InterestCache {
    /// A cache for at least so many topics, 48 bytes each.
    pub fn new(topics: usize) -> InterestCache {
        InterestCache {
            exact: Box::default(),
            entries: vec![CacheEntry::default(); topics.max(1).next_power_of_two()].into(),
        }
    }

    fn entry_mut(&mut self, hash: u64) -> &mut CacheEntry {
        let mask = self.entries.len() - 1;
        &mut self.entries[hash as usize & mask]
    }
}

/// The stripe of a prefix.
fn stripe_of(prefix: &Prefix<'_>) -> u16 {
    (prefix.hash % STRIPES as u64) as u16
}

/// Changes on their way: the new trie of every stripe that they touch.
struct Batch<'i> {
    interest: &'i Interest,
    tries: BTreeMap<u16, StripeTrie>,
    /// By how much the number of shared subscriptions changes.
    groups: isize,
}

impl Batch<'_> {
    fn apply(&mut self, change: Change<'_>) {
        match change {
            Change::Interested { filter, shard } => self.set_interest(filter, shard, true),
            Change::NotInterested { filter, shard } => self.set_interest(filter, shard, false),
            Change::Group { name, filter, shard, online, total } => {
                let seed = &self.interest.seed;
                let members = ShardMembers { shard, online, total };
                self.groups += self.trie(filter).set_group(seed, name, filter, members);
            }
        }
    }

    fn set_interest(&mut self, filter: &str, shard: u16, wanted: bool) {
        let Interest { seed, partitions, .. } = self.interest;
        assert!(usize::from(shard) < partitions.len(), "there is no shard {shard}");
        let shards = 1 << shard;
        if has_wildcard(filter) {
            return self.trie(filter).set_shards(seed, filter, shards, wanted);
        }
        let hash = topic_hash(seed, filter);
        let partition = &partitions[self.interest.partition_of(hash)];
        if wanted { partition.add(hash, shards) } else { partition.remove(hash, shards) }
    }

    /// The trie a filter belongs to, as it will be published.
    fn trie(&mut self, filter: &str) -> &mut StripeTrie {
        let stripe = stripe_of(&Prefix::of_filter(&self.interest.seed, filter));
        let present = || self.interest.stripes[usize::from(stripe)].trie.load();
        self.tries.entry(stripe).or_insert_with(|| present().as_deref().cloned().unwrap_or(StripeTrie::new()))
    }

    fn publish(self) {
        let Interest { stripes, stripes_used, groups, .. } = self.interest;
        groups.fetch_add(self.groups.cast_unsigned(), Ordering::Release);
        for (number, trie) in self.tries {
            let stripe = &stripes[usize::from(number)];
            let used = !trie.is_empty();
            if used {
                stripes_used.fetch_add(1, Ordering::Release);
            }
            let before = stripe.trie.swap(used.then(|| Arc::new(trie)));
            if before.is_some() {
                stripes_used.fetch_sub(1, Ordering::Release);
            }
            stripe.generation.fetch_add(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
