//! The interest held against a linear search, a memory budget, and readers on other threads.

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
    let levels = 32_000;
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
