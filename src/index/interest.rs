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

use super::exact::ExactTable;
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

/// What one publisher's shard remembers of the wildcard filters that matched its recent topics. Used with one
/// [`Interest`] only.
#[derive(Debug)]
pub struct InterestCache {
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
        route.shards = self.partitions[self.partition_of(hash)].shards(hash);
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
        InterestCache { entries: vec![CacheEntry::default(); topics.max(1).next_power_of_two()].into() }
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
mod tests {
    use super::super::naive::{filter_matches, strategies};
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::AtomicU32;

    fn lookup(interest: &Interest, topic: &str, cache: &mut InterestCache) -> Route {
        let mut route = Route { shards: 99, groups: Vec::new() };
        interest.lookup(topic, topic_hash(&interest.seed, topic), cache, &mut route);
        route
    }

    fn interested(filter: &str, shard: u16) -> Change<'_> {
        Change::Interested { filter, shard }
    }

    fn not_interested(filter: &str, shard: u16) -> Change<'_> {
        Change::NotInterested { filter, shard }
    }

    fn group(name: &'static str, filter: &'static str, shard: u16, online: u32, total: u32) -> Change<'static> {
        Change::Group { name, filter, shard, online, total }
    }

    #[test]
    fn churn_in_one_stripe_leaves_the_cached_topics_of_others_alone() {
        let interest = Interest::new(4, HashSeed::from_u64(5));
        let mut cache = InterestCache::new(8);
        interest.apply([interested("here/a/+", 1)]);
        assert_eq!(lookup(&interest, "here/a/b", &mut cache).shards, 2);
        let hash = topic_hash(&interest.seed, "here/a/b");
        let entry = *cache.entry_mut(hash);
        let elsewhere = ["x/y/+", "x/+/z", "far/away/#"];
        let stripe = |filter| stripe_of(&Prefix::of_filter(&interest.seed, filter));
        assert!(elsewhere.iter().all(|filter| !entry.stripes.contains(&stripe(*filter))), "take another seed");
        interest.apply(elsewhere.map(|filter| interested(filter, 2)));
        assert!(interest.is_current(cache.entry_mut(hash)));
        interest.apply([interested("here/+/b", 3)]);
        assert!(!interest.is_current(cache.entry_mut(hash)));
        assert_eq!(lookup(&interest, "here/a/b", &mut cache).shards, 2 | 8);
    }

    #[test]
    fn a_group_is_where_its_members_are_and_goes_with_the_last() {
        let interest = Interest::new(4, HashSeed::from_u64(5));
        let mut cache = InterestCache::new(8);
        interest.apply([group("g", "a/b", 3, 0, 2), group("g", "a/b", 1, 1, 1), group("h", "a/+", 0, 1, 1)]);
        let route = lookup(&interest, "a/b", &mut cache);
        assert_eq!((route.shards, route.groups.len(), interest.groups()), (0, 2, 2));
        let found = route.groups.iter().find(|group| &*group.name == "g").unwrap();
        let members = |shard, online, total| ShardMembers { shard, online, total };
        assert_eq!((&*found.filter, &*found.members), ("a/b", &[members(1, 1, 1), members(3, 0, 2)][..]));
        assert_eq!(found.id, super::super::share_hash(&interest.seed, "g", "a/b"));
        interest.apply([group("g", "a/b", 1, 0, 0), group("h", "a/+", 0, 0, 0), group("h", "a/+", 2, 0, 0)]);
        let mut route = lookup(&interest, "a/b", &mut cache);
        assert_eq!(*route.groups[0].members, [members(3, 0, 2)]);
        interest.apply([group("g", "a/b", 3, 0, 0)]);
        interest.lookup_groups("a/b", &mut route);
        assert!(route.groups.is_empty() && interest.groups() == 0);
    }

    #[test]
    fn a_filter_of_its_own_takes_at_most_32_bytes_and_with_a_wildcard_at_most_220() {
        const FILTERS: usize = 100_000;
        for (end, bytes_max) in [("", 32), ("/+", 220), ("/#", 140)] {
            let interest = Interest::new(4, HashSeed::from_u64(5));
            let before = interest.memory_bytes();
            let filters: Vec<String> = (0..FILTERS).map(|number| format!("devices/{number:012}{end}")).collect();
            for some in filters.chunks(100) {
                interest.apply(some.iter().map(|filter| interested(filter, 1)));
            }
            let bytes = (interest.memory_bytes() - before) / FILTERS;
            println!("{bytes} bytes for each filter \"devices/…{end}\"");
            assert!(bytes <= bytes_max, "{bytes} bytes");
            interest.apply(filters.iter().map(|filter| not_interested(filter, 1)));
            assert!(interest.memory_bytes() <= before);
            assert_eq!(interest.stripes_used.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn the_deepest_filter_is_added_and_dropped_on_an_ordinary_stack() {
        let interest = Interest::new(1, HashSeed::from_u64(5));
        let mut cache = InterestCache::new(1);
        let levels = super::super::FILTER_LEVELS_MAX;
        let (filter, topic) = ("+/a/".repeat(levels / 2 - 1) + "+/#", "a/".repeat(60_000));
        interest.apply([interested(&filter, 0)]);
        assert_eq!(lookup(&interest, &topic[..levels * 2 - 3], &mut cache).shards, 1);
        assert_eq!(lookup(&interest, &topic, &mut cache).shards, 1);
        interest.apply([not_interested(&filter, 0)]);
        assert_eq!(lookup(&interest, &topic, &mut cache).shards, 0);
    }

    /// Two owners change wildcard filters; two readers with caches must see what was announced to them. Shards
    /// below 32 are only ever added, those above only ever removed.
    #[test]
    fn readers_on_other_threads_see_every_announced_change_whatever_they_cached() {
        const ROUNDS: u16 = 32;
        let interest = Interest::new(64, HashSeed::from_u64(5));
        let places: Vec<String> = (0..24).map(|number| format!("place/{number}")).collect();
        let filters: Vec<String> = places.iter().map(|place| format!("{place}/+")).collect();
        let announced: Vec<AtomicU64> = places.iter().map(|_| AtomicU64::new(0)).collect();
        let looks = [AtomicU64::new(0), AtomicU64::new(0)];
        let (missing, left_over) = (AtomicU32::new(0), AtomicU32::new(0));
        let bits = |rounds: u64| (1u64 << rounds) - 1;
        interest.apply(filters.iter().flat_map(|filter| (32..64).map(|shard| interested(filter, shard))));
        let write = |writer: u16| {
            let own = |filter: &String| interest.owner(filter) % 2 == writer;
            for round in 0..ROUNDS {
                // Let the readers see something of every round.
                while looks.iter().any(|looks| looks.load(Ordering::Relaxed) < u64::from(round) * 100) {
                    std::thread::yield_now();
                }
                for (filter, announced) in filters.iter().zip(&announced).filter(|(filter, _)| own(filter)) {
                    interest.apply([interested(filter, round), not_interested(filter, 32 + round)]);
                    announced.store(u64::from(round) + 1, Ordering::Release);
                }
            }
        };
        let read = |reader: usize| {
            let mut cache = InterestCache::new(16);
            let mut number = reader;
            while announced.iter().any(|announced| announced.load(Ordering::Relaxed) < u64::from(ROUNDS)) {
                number = (number + 7) % places.len();
                looks[reader].fetch_add(1, Ordering::Relaxed);
                let seen = bits(announced[number].load(Ordering::Acquire));
                let shards = lookup(&interest, &format!("{}/x", places[number]), &mut cache).shards;
                // Counted, not asserted: a writer waits for this thread.
                missing.fetch_add((seen & !shards).count_ones(), Ordering::Relaxed);
                left_over.fetch_add((shards >> 32 & seen).count_ones(), Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| {
            let (read, write) = (&read, &write);
            [0, 1].into_iter().for_each(|reader| drop(scope.spawn(move || read(reader))));
            [0, 1].into_iter().for_each(|writer| drop(scope.spawn(move || write(writer))));
        });
        assert_eq!((missing.into_inner(), left_over.into_inner()), (0, 0), "announced changes that were not seen");
        let mut cache = InterestCache::new(1);
        assert!(places.iter().all(|place| lookup(&interest, &format!("{place}/x"), &mut cache).shards == bits(32)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Interest(String, u16, bool),
        Group(&'static str, String, u16, u32),
        Publish,
        Lookup(String, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let shard = 0u16..3;
        let share = proptest::sample::select(vec!["g", "h"]);
        prop_oneof![
            3 => (strategies::filter(), shard.clone(), any::<bool>()).prop_map(|(f, s, on)| Step::Interest(f, s, on)),
            1 => (share, strategies::filter(), shard, 0u32..2).prop_map(|(n, f, s, t)| Step::Group(n, f, s, t)),
            1 => Just(Step::Publish),
            4 => (strategies::topic(), 0usize..2).prop_map(|(topic, cache)| Step::Lookup(topic, cache)),
        ]
    }

    /// The wanted shards by filter, and members by group and shard.
    #[derive(Clone, Default)]
    struct Twin {
        wanted: BTreeSet<(String, u16)>,
        members: BTreeMap<(&'static str, String, u16), u32>,
    }

    impl Twin {
        fn apply(&mut self, step: &Step) {
            match step.clone() {
                Step::Interest(filter, shard, true) => drop(self.wanted.insert((filter, shard))),
                Step::Interest(filter, shard, false) => drop(self.wanted.remove(&(filter, shard))),
                Step::Group(name, filter, shard, 0) => drop(self.members.remove(&(name, filter, shard))),
                Step::Group(name, filter, shard, total) => drop(self.members.insert((name, filter, shard), total)),
                Step::Publish | Step::Lookup(..) => {}
            }
        }

        fn shards(&self, topic: &str) -> u64 {
            let matching = self.wanted.iter().filter(|(filter, _)| filter_matches(filter, topic));
            matching.fold(0, |shards, (_, shard)| shards | 1 << shard)
        }

        fn groups(&self, topic: &str) -> Vec<(String, String, u16, u32)> {
            let matching = self.members.iter().filter(|((_, filter, _), _)| filter_matches(filter, topic));
            matching.map(|((name, filter, shard), total)| (name.to_string(), filter.clone(), *shard, *total)).collect()
        }
    }

    fn members(route: &Route) -> Vec<(String, String, u16, u32)> {
        let mut all: Vec<_> = route
            .groups
            .iter()
            .flat_map(|group| group.members.iter().map(move |at| (group, at)))
            .map(|(group, at)| (group.name.to_string(), group.filter.to_string(), at.shard, at.total))
            .collect();
        all.sort();
        all
    }

    fn change(step: &Step) -> Option<Change<'_>> {
        match step {
            Step::Interest(filter, shard, true) => Some(interested(filter, *shard)),
            Step::Interest(filter, shard, false) => Some(not_interested(filter, *shard)),
            Step::Group(name, filter, shard, total) => {
                Some(Change::Group { name, filter, shard: *shard, online: 0, total: *total })
            }
            Step::Publish | Step::Lookup(..) => None,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn lookups_find_what_a_linear_search_finds_whatever_is_cached(
            steps in prop::collection::vec(step(), 0..120)
        ) {
            let interest = Interest::new(3, HashSeed::from_u64(7));
            let mut caches = [InterestCache::new(1), InterestCache::new(16)];
            let mut twin = Twin::default();
            let mut batch: Vec<&Step> = Vec::new();
            for step in &steps {
                let Step::Lookup(topic, cache) = step else {
                    batch.push(step);
                    if matches!(step, Step::Publish) {
                        batch.iter().for_each(|step| twin.apply(step));
                        interest.apply(batch.drain(..).filter_map(change));
                    }
                    continue;
                };
                let mut route = lookup(&interest, topic, &mut caches[*cache]);
                prop_assert_eq!(route.shards, twin.shards(topic));
                prop_assert_eq!(members(&route), twin.groups(topic));
                interest.lookup_groups(topic, &mut route);
                prop_assert_eq!((route.shards, members(&route)), (0, twin.groups(topic)));
            }
            let groups: BTreeSet<_> = twin.members.keys().map(|(name, filter, _)| (name, filter)).collect();
            prop_assert_eq!(interest.groups(), groups.len());
            interest.apply(twin.wanted.iter().map(|(filter, shard)| not_interested(filter, *shard)));
            interest.apply(twin.members.keys().map(|(name, filter, shard)| {
                Change::Group { name, filter, shard: *shard, online: 0, total: 0 }
            }));
            prop_assert_eq!(interest.stripes_used.load(Ordering::Relaxed), 0, "nodes were left behind");
        }
    }
}
