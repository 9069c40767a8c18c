//! From the bytes of a PUBLISH to the bytes of its delivery, with every acknowledgement both ways.

mod driver;

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::codec::QoS;

use driver::{Driver, publish};

const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// One publisher, one subscriber, one message of 64 bytes from PUBLISH to the last acknowledgement.
fn cycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/cycle");
    for qos in LEVELS {
        let mut driver = Driver::new();
        driver.client("subscriber", Some(("sensor/7/state", qos)));
        let publisher = driver.client("publisher", None);
        let packet = publish("sensor/7/state", qos, 1, &[7; 64]);
        group.bench_function(BenchmarkId::from_parameter(format!("qos{}", qos as u8)), |bencher| {
            bencher.iter(|| driver.receive(publisher, black_box(&packet)));
        });
    }
    group.finish();
}

/// The same with 32 messages that arrive together: what a busy connection costs per message.
fn batched(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/batch-of-32");
    group.throughput(Throughput::Elements(32));
    for qos in LEVELS {
        let mut driver = Driver::new();
        driver.client("subscriber", Some(("sensor/7/state", qos)));
        let publisher = driver.client("publisher", None);
        let packets: Vec<u8> = (1..=32).flat_map(|id| publish("sensor/7/state", qos, id, &[7; 64])).collect();
        group.bench_function(BenchmarkId::from_parameter(format!("qos{}", qos as u8)), |bencher| {
            bencher.iter(|| driver.receive(publisher, black_box(&packets)));
        });
    }
    group.finish();
}

/// One message to many subscribers at QoS 0.
fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core/fan-out");
    for subscribers in [100, 1000] {
        let mut driver = Driver::new();
        for subscriber in 0..subscribers {
            driver.client(&format!("subscriber-{subscriber}"), Some(("news", QoS::AtMostOnce)));
        }
        let publisher = driver.client("publisher", None);
        let packet = publish("news", QoS::AtMostOnce, 0, &[7; 64]);
        group.throughput(Throughput::Elements(subscribers));
        group.bench_function(BenchmarkId::from_parameter(subscribers), |bencher| {
            bencher.iter(|| driver.receive(publisher, black_box(&packet)));
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

criterion_group!(benches, cycle, batched, fan_out, connect);
criterion_main!(benches);
