//! The timer wheel with as many entries as a shard has connections.

#[path = "driver/sampling.rs"]
mod sampling;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::engine::Time;
use ringmq::wheel::Wheel;
use sampling::sampling;

const TICK: Duration = Duration::from_millis(50);

/// A wheel in which each of `entries` time-outs comes round every 300 s, at moments of their own.
fn filled(entries: u32) -> Wheel<u32> {
    let mut wheel = Wheel::new(TICK, Time(0));
    for entry in 0..entries {
        let spread_ms = (u64::from(entry.wrapping_mul(2_654_435_761)) * 300_000) >> 32;
        wheel.insert(Time(spread_ms * 1_000_000), entry);
    }
    wheel
}

/// Keep alive of many connections: each tick takes what is due and inserts it again.
fn turn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wheel/fire-and-insert-again");
    for entries in [1_000_u32, 1_000_000] {
        let (mut wheel, mut now, mut due) = (filled(entries), Time(0), Vec::new());
        // Per entry on average: 300 s hold 6,000 ticks.
        group.throughput(Throughput::Elements(u64::from(entries).div_ceil(6_000)));
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            bencher.iter(|| {
                now = now.after(TICK);
                wheel.advance(now, &mut due);
                for entry in due.drain(..) {
                    wheel.insert(now.after(Duration::from_secs(300)), black_box(entry));
                }
            });
        });
    }
    group.finish();
}

/// A connection's first keep alive, in a wheel that holds a million others.
fn insert(criterion: &mut Criterion) {
    const ROUND: u64 = 100_000;
    criterion.bench_function("wheel/insert", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut taken = Duration::ZERO;
            // A wheel that were only inserted into would grow without end.
            for round in 0..iterations.div_ceil(ROUND) {
                let mut wheel = filled(1_000_000);
                let begin = Instant::now();
                for number in 0..ROUND.min(iterations - round * ROUND) {
                    wheel.insert(Time(number % 300_000 * 1_000_000), black_box(number as u32));
                }
                taken += begin.elapsed();
            }
            taken
        });
    });
}

/// What a shard asks before each sleep.
fn next_deadline(criterion: &mut Criterion) {
    let wheel = filled(1_000_000);
    criterion.bench_function("wheel/next-deadline", |bencher| bencher.iter(|| black_box(&wheel).next_deadline()));
}

criterion_group! { name = benches; config = sampling(); targets = turn, insert, next_deadline }
criterion_main!(benches);
