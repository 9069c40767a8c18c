//! Finding the sessions that want a topic. The time must stay flat, cache misses apart, as subscriptions grow.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringmq::index::{HashSeed, LocalIndex, Subscriber, topic_hash};

/// A way to subscribe: its name, and the filter that the session of this number takes.
type Way = (&'static str, fn(u32) -> String);

const WAYS: [Way; 4] = [
    ("exact", |number| format!("building/{}/room/{number}/state", number % 64)),
    ("plus", |number| format!("building/{}/+/{number}/state", number % 64)),
    ("hash", |number| format!("building/{}/room/{number}/#", number % 64)),
    ("deep", |number| format!("a/b/c/d/e/f/g/h/i/j/k/{number}/+/n")),
];

fn topic(way: &str, number: u32) -> String {
    match way {
        "deep" => format!("a/b/c/d/e/f/g/h/i/j/k/{number}/m/n"),
        _ => format!("building/{}/room/{number}/state", number % 64),
    }
}

fn matches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/match");
    for (way, filter) in WAYS {
        for subscriptions in [1_000, 100_000] {
            let seed = HashSeed::from_u64(1);
            let mut index = LocalIndex::new(seed.clone());
            for number in 0..subscriptions {
                index.subscribe(&filter(number), Subscriber::new(number, 0));
            }
            println!("{way} {subscriptions}: {} bytes per subscription", index.memory_bytes() / subscriptions as usize);
            // Topics far apart, so that a large index misses the cache as it would in a broker.
            let topics: Vec<_> = (0..1024).map(|step| topic(way, step * 7919 % subscriptions)).collect();
            let (mut out, mut turn) = (Vec::new(), 0);
            group.bench_function(BenchmarkId::new(way, subscriptions), |bencher| {
                bencher.iter(|| {
                    turn = (turn + 1) % topics.len();
                    out.clear();
                    let topic = black_box(&topics[turn]);
                    assert_eq!(index.matches(topic, topic_hash(&seed, topic), &mut out), 1);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, matches);
criterion_main!(benches);
