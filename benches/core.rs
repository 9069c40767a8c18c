//! From the bytes of a PUBLISH to the bytes of its delivery, with every acknowledgement both ways: the core of a shard
//! without network. What the clients do in memory is counted too; only [`fan_out`] leaves them out.

mod driver;
#[path = "driver/sampling.rs"]
mod sampling;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use driver::{Driver, Session, VERSION, publish};
use ringmq::codec::QoS;
use sampling::sampling;

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const TOPIC: &str = "sensor/7/state";

/// One publisher, one subscriber, messages of 64 bytes from PUBLISH to the last acknowledgement: one at a time, and
/// 32 that arrive together, which is what a busy connection costs per message.
fn cycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/cycle");
    for (qos, batch) in LEVELS.into_iter().flat_map(|qos| [(qos, 1), (qos, 32)]) {
        let mut driver = Driver::new();
        driver.client("subscriber", Some((TOPIC, qos)));
        let publisher = driver.client("publisher", None);
        let packets: Vec<u8> = (1..=batch).flat_map(|id| publish(TOPIC, qos, id, &[7; 64])).collect();
        group.throughput(Throughput::Elements(batch.into()));
        group.bench_function(BenchmarkId::new(format!("qos{}", qos as u8), batch), |bencher| {
            bencher.iter(|| driver.receive(publisher, black_box(&packets)));
        });
    }
    group.finish();
}

/// The same between two shards: notes both ways, handed over at once.
fn cross_shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/cross-shard");
    for qos in LEVELS {
        let mut driver = Driver::with_shards(2);
        let (here, there) = (driver.client_id_on(0, "publisher"), driver.client_id_on(1, "subscriber"));
        driver.client(&there, Some((TOPIC, qos)));
        let publisher = driver.client(&here, None);
        let packet = publish(TOPIC, qos, 1, &[7; 64]);
        group.bench_function(BenchmarkId::from_parameter(format!("qos{}", qos as u8)), |bencher| {
            bencher.iter(|| driver.receive(publisher, black_box(&packet)));
        });
    }
    group.finish();
}

/// One QoS 0 message into the output of many subscribers, which is then thrown away.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/fan-out");
    for (subscribers, size) in [1, 100, 10_000].into_iter().flat_map(|count| [(count, 64), (count, 4096)]) {
        let mut driver = Driver::new();
        for subscriber in 0..subscribers {
            driver.client(&format!("subscriber-{subscriber}"), Some(("news", QoS::AtMostOnce)));
        }
        let publisher = driver.client("publisher", None);
        let mut driver = driver.without_readers();
        let packet = publish("news", QoS::AtMostOnce, 0, &vec![7; size]);
        group.throughput(Throughput::Elements(subscribers));
        group.bench_function(BenchmarkId::new(size.to_string(), subscribers), |bencher| {
            bencher.iter(|| driver.receive(publisher, black_box(&packet)));
        });
    }
    group.finish();
}

/// 1,000 messages are queued for a session without a connection, which then comes, takes and acknowledges them.
fn offline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/enqueue-and-acknowledge");
    group.throughput(Throughput::Elements(1000));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut driver = Driver::new();
        let subscription = Some((TOPIC, qos));
        let mut subscriber = driver.client_of(VERSION, "subscriber", Session::Kept, subscription);
        let publisher = driver.client("publisher", None);
        let packets: Vec<u8> = (1..=1000).flat_map(|id| publish(TOPIC, qos, id, &[7; 64])).collect();
        group.bench_function(BenchmarkId::from_parameter(format!("qos{}", qos as u8)), |bencher| {
            bencher.iter(|| {
                driver.disconnect(subscriber);
                driver.receive(publisher, black_box(&packets));
                let before = driver.delivered;
                subscriber = driver.client_of(VERSION, "subscriber", Session::Kept, subscription);
                assert_eq!(driver.delivered - before, 1000);
            });
        });
    }
    group.finish();
}

/// A thousand clients come in, with a subscription each.
fn connect(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/connect-and-subscribe");
    group.throughput(Throughput::Elements(1000));
    let clients: Vec<_> = (0..1000).map(|client| (format!("client-{client}"), format!("command/{client}"))).collect();
    group.bench_function("1000", |bencher| {
        bencher.iter_batched_ref(
            Driver::new,
            |driver| {
                for (client_id, filter) in &clients {
                    driver.client(client_id, Some((filter, QoS::AtMostOnce)));
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group! { name = benches; config = sampling(); targets = cycle, cross_shard, fan_out, offline, connect }
criterion_main!(benches);
