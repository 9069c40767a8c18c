//! Finding who wants a topic: the sessions of this shard, the members of shared subscriptions, the other shards.
//! The time must stay flat, cache misses apart, as subscriptions grow; so each is measured at rising numbers of
//! subscriptions, *hot*, over 16 topics that stay in the cache, and *cold*, over 65,536 topics far apart.
//!
//! Building prints the bytes that a subscription takes: as the index counts them, and by the growth of the process.
//! 10,000,000 subscriptions are built only with `RINGMQ_BENCH_LARGE=1`, one way at a time: up to 4 GiB and a minute each.

mod driver;

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use driver::{WAYS, Way, far_apart};
use ringmq::index::{
    Change, GroupId, Groups, HashSeed, Interest, InterestCache, LocalIndex, Pick, Route, Subscriber, topic_hash,
};

const HOT: u32 = 16;
const COLD: u32 = 65_536;
/// Members of each shared subscription.
const MEMBERS: u32 = 16;

fn seed() -> HashSeed {
    HashSeed::from_u64(1)
}

fn sizes() -> impl Iterator<Item = u32> {
    let large = std::env::var_os("RINGMQ_BENCH_LARGE").is_some_and(|value| value == "1");
    [1_000, 100_000, 1_000_000].into_iter().chain(large.then_some(10_000_000))
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
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
        // What is built when it is first needed is built outside of the measurement.
        look_up(&topics[0].0, topics[0].1);
        bencher.iter(|| {
            turn = if turn + 1 == topics.len() { 0 } else { turn + 1 };
            let (topic, hash) = &topics[turn];
            look_up(black_box(topic), *hash);
        });
    });
}

/// Bytes that this process occupies.
fn occupied() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: Option<usize> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.expect("statm begins with two numbers") * 4096
}

/// Builds something for so many subscriptions and prints what it takes. `counted` says how many bytes it knows of.
fn built<T>(name: &str, subscriptions: u32, build: impl FnOnce() -> T, counted: impl FnOnce(&T) -> usize) -> T {
    let before = occupied();
    let built = build();
    let (counted, grown) = (counted(&built), occupied().saturating_sub(before));
    let each = |bytes: usize| bytes / subscriptions as usize;
    println!("{name} {subscriptions}: {} bytes per subscription, {} by RSS", each(counted), each(grown));
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
    built(way.name, subscriptions, build, LocalIndex::memory_bytes)
}

fn matches(criterion: &mut Criterion) {
    let mut group = group(criterion, "index/match");
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
    let mut group = group(criterion, "index/match-again");
    for way in [WAYS[0], WAYS[1]] {
        let mut index = index(way, 100_000);
        let mut out = Vec::new();
        over(
            &mut group,
            BenchmarkId::from_parameter(way.name),
            || topics(way, HOT, 100_000),
            |topic, hash| {
                out.clear();
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
    // What lies in the groups themselves, only the process tells.
    built("shared (interest alone)", subscriptions, build, |(interest, _)| interest.memory_bytes())
}

/// Which shared subscriptions match, and which member gets it.
fn shared(criterion: &mut Criterion) {
    let mut group = group(criterion, "index/shared");
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
        let filters: Vec<_> = (0..filters).map(way.filter).collect();
        interest.apply(filters.iter().map(|filter| Change::Interested { filter, shard: 1 }));
        interest
    };
    built(&format!("interest {}", way.name), filters, build, Interest::memory_bytes)
}

/// Which shards want a topic, with the publishing shard's cache and without (one that holds a single topic).
fn interest(criterion: &mut Criterion) {
    let mut group = group(criterion, "interest/lookup");
    for (way, size) in [WAYS[0], WAYS[1]].into_iter().flat_map(|way| sizes().map(move |size| (way, size))) {
        let interest = LazyCell::new(|| interest_in(way, size));
        for (cached, entries) in [("cached", 4096), ("uncached", 1)] {
            let (mut cache, mut route) = (InterestCache::new(entries), Route::default());
            let id = BenchmarkId::new(format!("{}-{cached}", way.name), size);
            over(
                &mut group,
                id,
                || topics(way, HOT, size),
                |topic, hash| {
                    interest.lookup(topic, hash, &mut cache, &mut route);
                    assert_eq!(route.shards, 1 << 1);
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, matches, matches_again, shared, interest);
criterion_main!(benches);
