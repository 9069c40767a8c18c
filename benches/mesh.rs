//! A hop over the mesh: to a shard that is awake, where it costs memory traffic, and to one that sleeps, where it costs
//! a wake-up. The shards of the second kind are threads that sleep on their eventfd as a shard does in its ring.

#[path = "driver/sampling.rs"]
mod sampling;

use std::hint::black_box;
use std::os::fd::BorrowedFd;
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::engine::ShardId;
use ringmq::mesh::{self, Item, Port};
use rustix::event::{PollFd, PollFlags, poll};
use sampling::sampling;

const FIRST: ShardId = ShardId(0);
const SECOND: ShardId = ShardId(1);
/// Asks the other thread to end.
const END: u64 = u64::MAX;

fn pair() -> (Port<u64>, Port<u64>) {
    let (mut ports, _) = mesh::build(2, 8192).expect("two eventfds");
    let second = ports.pop().expect("the second of two");
    (ports.pop().expect("the first of two"), second)
}

fn number(item: Item<u64>) -> u64 {
    match item {
        Item::Engine(number) => number,
        other => panic!("unexpected {other:?}"),
    }
}

/// A turn's messages to a shard that is awake, and their receipt, both on one thread: the work without the transfer of
/// cache lines between CPUs.
fn busy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/busy");
    for batch in [1, 32, 1024] {
        let (mut source, mut target) = pair();
        let mut sum = 0;
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter(|| {
                for number in 0..batch {
                    assert!(source.has_room(SECOND));
                    source.send(SECOND, Item::Engine(black_box(number)));
                }
                source.announce();
                target.drain(usize::MAX, |_, item| sum += number(item));
            });
        });
        black_box(sum);
    }
    group.finish();
}

/// There and back between two threads, two hops. With `awake` neither ever sleeps; else each sleeps whenever it waits.
fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh/round-trip");
    for (name, awake) in [("awake", true), ("parked", false)] {
        let (mut here, mut there) = pair();
        let echo = thread::spawn(move || {
            loop {
                let number = receive(&mut there, awake);
                if number == END {
                    return;
                }
                send(&mut there, FIRST, number);
            }
        });
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                send(&mut here, SECOND, 7);
                receive(&mut here, awake)
            });
        });
        send(&mut here, SECOND, END);
        echo.join().expect("the echo ends when asked to");
    }
    group.finish();
}

fn send(port: &mut Port<u64>, to: ShardId, number: u64) {
    assert!(port.has_room(to));
    port.send(to, Item::Engine(number));
    port.announce();
    while let Some(shard) = port.poll_wake() {
        port.wake(shard);
    }
}

fn receive(port: &mut Port<u64>, awake: bool) -> u64 {
    loop {
        let mut received = None;
        port.drain(1, |_, item| received = Some(number(item)));
        if let Some(number) = received {
            return number;
        }
        if awake {
            thread::yield_now();
        } else if port.park() {
            sleep(port);
            port.unparked();
        }
    }
}

fn sleep(port: &Port<u64>) {
    // SAFETY: the port owns the eventfd, and outlives this call.
    let eventfd = unsafe { BorrowedFd::borrow_raw(port.eventfd()) };
    poll(&mut [PollFd::new(&eventfd, PollFlags::IN)], None).expect("an eventfd can be polled");
    rustix::io::read(eventfd, &mut [0; 8]).expect("it was readable");
}

criterion_group! { name = benches; config = sampling(); targets = busy, round_trip }
criterion_main!(benches);
