//! Decoding and encoding of the packets that a busy broker sees. Decoding is from the bytes as they arrive: framing
//! included.

mod driver;
#[path = "driver/sampling.rs"]
mod sampling;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use driver::{PROPERTIES, Session, connect, publish_with, subscribe};
use ringmq::codec::{
    Framed, PacketType, ProtocolVersion, Publish, PublishHead, QoS, decode, decode_publish, encode, encode_ack,
    encode_publish_body, encode_publish_head, frame,
};
use sampling::sampling;

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;
const VERSIONS: [(&str, ProtocolVersion); 2] = [("3.1.1", V311), ("5.0", V5)];
const LEVELS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const SIZES: [usize; 3] = [64, 1024, 65_536];
const TOPIC: &str = "factory/line-4/press-17/temperature";

fn head(qos: QoS, forward: &[u8]) -> PublishHead<'_> {
    PublishHead { qos, topic: TOPIC, packet_id: 513, forward, ..PublishHead::default() }
}

/// The PUBLISH packets that are measured: name, version, head, payload size.
fn publishes() -> Vec<(String, ProtocolVersion, PublishHead<'static>, usize)> {
    let mut all = Vec::new();
    for (name, version) in VERSIONS {
        for qos in LEVELS {
            let sizes = SIZES.map(|size| (format!("{name}-qos{}-{size}", qos as u8), version, head(qos, &[]), size));
            all.extend(sizes);
        }
    }
    all.push(("5.0-qos1-64-properties".to_owned(), V5, head(QoS::AtLeastOnce, PROPERTIES), 64));
    all
}

fn read_publish(bytes: &[u8], version: ProtocolVersion) -> Publish<'_> {
    match frame(bytes, 1 << 20) {
        Ok(Framed::Complete { frame, .. }) => decode_publish(frame.first, frame.body, version).expect("well-formed"),
        other => panic!("{other:?}"),
    }
}

fn decode_publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/decode-publish");
    group.throughput(Throughput::Elements(1));
    for (name, version, head, size) in publishes() {
        let bytes = publish_with(version, &head, &vec![b'x'; size]);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| read_publish(black_box(&bytes), version).payload.len());
        });
    }
    group.finish();
}

/// The whole packet into a connection's output, payload included.
fn encode_publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/encode-publish");
    group.throughput(Throughput::Elements(1));
    for (name, version, head, size) in publishes() {
        let (mut output, payload) = (Vec::with_capacity(size + 1024), vec![b'x'; size]);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                output.clear();
                encode_publish_head(&mut output, version, black_box(&head), size);
                output.extend_from_slice(black_box(&payload));
            });
        });
    }
    group.finish();
}

/// A packet body as it came, behind a header of its own: what fan-out writes for a receiver of the same form.
fn encode_bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/encode-publish-body");
    group.throughput(Throughput::Elements(1));
    for size in [64, 1024] {
        let (mut output, body) = (Vec::with_capacity(4096), vec![b'x'; size]);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                output.clear();
                encode_publish_body(&mut output, false, QoS::AtMostOnce, false, black_box(&body));
            });
        });
    }
    group.finish();
}

/// The other packets of a busy broker, as bytes.
fn others(version: ProtocolVersion) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("connect", connect(version, "client-0123456789", Session::Clean)), ("pingreq", vec![0xC0, 0])];
    let mut bytes = Vec::new();
    subscribe(version, "building/+/room/17/#", QoS::AtLeastOnce, &mut bytes);
    all.push(("subscribe", bytes));
    let acks = [
        ("puback", PacketType::PubAck),
        ("pubrec", PacketType::PubRec),
        ("pubrel", PacketType::PubRel),
        ("pubcomp", PacketType::PubComp),
    ];
    for (name, kind) in acks {
        let mut bytes = Vec::new();
        encode_ack(&mut bytes, version, kind, 513, 0);
        all.push((name, bytes));
    }
    all
}

/// Decoding each, and encoding what was decoded.
fn other_packets(criterion: &mut Criterion) {
    for (version_name, version) in VERSIONS {
        for (name, bytes) in others(version) {
            let read = |bytes| match frame(bytes, 1 << 20) {
                Ok(Framed::Complete { frame, .. }) => decode(frame, version).expect("well-formed"),
                other => panic!("{other:?}"),
            };
            let mut group = criterion.benchmark_group(format!("codec/{name}"));
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new("decode", version_name), |bencher| {
                bencher.iter(|| black_box(read(black_box(&bytes))));
            });
            let (packet, mut output) = (read(&bytes), Vec::with_capacity(256));
            group.bench_function(BenchmarkId::new("encode", version_name), |bencher| {
                bencher.iter(|| {
                    output.clear();
                    encode(black_box(&packet), version, &mut output);
                });
            });
            group.finish();
        }
    }
}

criterion_group! { name = benches; config = sampling(); targets = decode_publishes, encode_publishes, encode_bodies, other_packets }
criterion_main!(benches);
