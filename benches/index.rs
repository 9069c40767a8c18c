//! Finding who wants a topic: the sessions of this shard, the members of shared subscriptions, the other shards.
//! The time must stay flat, cache misses apart, as subscriptions grow; so each is measured at rising numbers of
//! subscriptions, *hot*, over 16 topics that stay in the cache, and *cold*, over 65,536 topics far apart.
//!
//! Building prints the bytes that a subscription takes, the allocator's rounding included.
//! 10,000,000 subscriptions are built only with `RINGMQ_BENCH_LARGE=1`, one way at a time: up to 4 GiB and a minute each.

mod driver;
#[path = "driver/heap.rs"]
mod heap;
#[path = "driver/sampling.rs"]
mod sampling;

use std::cell::LazyCell;
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use driver::{WAYS, Way, far_apart};
use ringmq::index::{
    Change, GroupId, Groups, HashSeed, Interest, InterestCache, LocalIndex, Pick, Route, Subscriber, topic_hash,
};
use sampling::sampling;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

const HOT: u32 = 16;
const COLD: u32 = 65_536;
/// Filters that are announced at once.
const BATCH: usize = 65_536;
/// Members of each shared subscription.
const MEMBERS: u32 = 16;

fn seed() -> HashSeed {
    HashSeed::from_u64(1)
}

fn sizes() -> impl Iterator<Item = u32> {
    let large = std::env::var_os("RINGMQ_BENCH_LARGE").is_some_and(|value| value == "1");
    [1_000, 100_000, 1_000_000].into_iter().chain(large.then_some(10_000_000))
}

/// Topics with their hashes, as a publisher's shard has them: computed once per message.
fn topics(way: Way, count: u32, subscriptions: u32) -> Vec<(String, u64)> {
    let topic = |number| {
        let topic = (way.topic)(number);
        let hash = topic_hash(&seed(), &topic);
        (topic, hash)
    };
    far_apart(count, subscriptions).map(topic).collect()
}

/// Measures `look_up` over the topics, round and round.
fn over(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    topics: impl Fn() -> Vec<(String, u64)>,
    mut look_up: impl FnMut(&str, u64),
) {
    let topics = LazyCell::new(topics);
    let mut turn = 0;
    group.bench_function(id, |bencher| {
        // What is built when it is first needed is built outside of the measurement, and what is hot is touched.
        topics.iter().take(HOT as usize).for_each(|(topic, hash)| look_up(topic, *hash));
        bencher.iter(|| {
            turn = if turn + 1 == topics.len() { 0 } else { turn + 1 };
            let (topic, hash) = &topics[turn];
            look_up(black_box(topic), *hash);
        });
    });
}

/// Builds something for so many subscriptions and prints what it takes.
fn built<T>(name: &str, subscriptions: u32, build: impl FnOnce() -> T) -> T {
    let before = heap::bytes();
    let built = build();
    println!("{name} {subscriptions}: {} bytes per subscription", (heap::bytes() - before) / subscriptions as usize);
    built
}

fn index(way: Way, subscriptions: u32) -> LocalIndex {
    let build = || {
        let mut index = LocalIndex::new(seed());
        for number in 0..subscriptions {
            index.subscribe(&(way.filter)(number), Subscriber::new(number, 0));
        }
        index
    };
    built(way.name, subscriptions, build)
}

fn matches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/match");
    for (way, size) in WAYS.into_iter().flat_map(|way| sizes().map(move |size| (way, size))) {
        let index = LazyCell::new(|| index(way, size));
        let mut out = Vec::new();
        for (heat, count) in [("hot", HOT), ("cold", COLD)] {
            let id = BenchmarkId::new(format!("{}-{heat}", way.name), size);
            over(
                &mut group,
                id,
                || topics(way, count, size),
                |topic, hash| {
                    out.clear();
                    assert_eq!(index.matches(topic, hash, &mut out), 1);
                },
            );
        }
    }
    group.finish();
}

/// A topic that went to the same sessions a moment ago: what steady traffic pays.
fn matches_again(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/match-again");
    for way in [WAYS[0], WAYS[1]] {
        let mut filled = None;
        let mut out = Vec::new();
        over(
            &mut group,
            BenchmarkId::from_parameter(way.name),
            || topics(way, HOT, 100_000),
            |topic, hash| {
                out.clear();
                let index = filled.get_or_insert_with(|| index(way, 100_000));
                assert_eq!(index.matches_again(topic, hash, &mut out), 1);
            },
        );
    }
    group.finish();
}

/// Shared subscriptions with [`MEMBERS`] members each, all on this shard.
fn shared_subscriptions(way: Way, subscriptions: u32) -> (Interest, Groups) {
    let build = || {
        let (interest, mut groups) = (Interest::new(1, seed()), Groups::new(seed()));
        let filters: Vec<_> = (0..subscriptions / MEMBERS).map(way.filter).collect();
        let group = |filter| Change::Group { name: "g", filter, shard: 0, online: MEMBERS, total: MEMBERS };
        interest.apply(filters.iter().map(|filter| group(filter)));
        for (first, filter) in (0..).step_by(MEMBERS as usize).zip(&filters) {
            (first..first + MEMBERS).for_each(|session| {
                groups.join("g", filter, Subscriber::new(session, 0), true);
            });
        }
        (interest, groups)
    };
    built(&format!("shared by {MEMBERS}"), subscriptions, build)
}

/// Which shared subscriptions match, and which member gets it.
fn shared(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/shared");
    let way = WAYS[0];
    for size in sizes() {
        let (mut subscriptions, mut route) = (None, Route::default());
        for (heat, count) in [("hot", HOT), ("cold", COLD)] {
            let topics = || topics(way, count, size / MEMBERS);
            over(&mut group, BenchmarkId::new(heat, size), topics, |topic, _| {
                let (interest, groups) = subscriptions.get_or_insert_with(|| shared_subscriptions(way, size));
                interest.lookup_groups(topic, &mut route);
                assert!(groups.pick(GroupId(route.groups[0].id), Pick::RoundRobin).is_some());
            });
        }
    }
    group.finish();
}

fn interest_in(way: Way, filters: u32) -> Interest {
    let build = || {
        let interest = Interest::new(2, seed());
        // In batches, as shards announce what clients subscribe to; but the texts of all at once would take much memory.
        for first in (0..filters).step_by(BATCH) {
            let batch: Vec<_> = (first..filters.min(first + BATCH as u32)).map(way.filter).collect();
            interest.apply(batch.iter().map(|filter| Change::Interested { filter, shard: 1 }));
        }
        interest
    };
    built(&format!("interest {}", way.name), filters, build)
}

/// Which shards want a topic, with the publishing shard's cache and without (one that holds a single topic).
fn interest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("interest/lookup");
    for (way, size) in [WAYS[0], WAYS[1]].into_iter().flat_map(|way| sizes().map(move |size| (way, size))) {
        let interest = LazyCell::new(|| interest_in(way, size));
        for (cached, entries, count) in [("cached", 4096, HOT), ("uncached", 1, HOT), ("uncached-cold", 1, COLD)] {
            let (mut cache, mut route) = (InterestCache::new(entries), Route::default());
            let id = BenchmarkId::new(format!("{}-{cached}", way.name), size);
            over(
                &mut group,
                id,
                || topics(way, count, size),
                |topic, hash| {
                    interest.lookup(topic, hash, &mut cache, &mut route);
                    assert_eq!(route.shards, 1 << 1);
                },
            );
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = sampling(); targets = matches, matches_again, shared, interest }
criterion_main!(benches);
