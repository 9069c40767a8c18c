//! Decoding and encoding of the packets that a busy broker sees.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::codec::{
    Ack, Framed, PacketType, ProtocolVersion, Publish, PublishHead, QoS, decode_ack, decode_publish, encode_ack,
    encode_publish_head, frame,
};

const VERSIONS: [(&str, ProtocolVersion); 2] = [("3.1.1", ProtocolVersion::V311), ("5.0", ProtocolVersion::V5)];
const TOPIC: &str = "factory/line-4/press-17/temperature";
/// Content type and a user property, as 5.0 puts them.
const PROPERTIES: &[u8] = b"\x03\x00\x10application/json\x26\x00\x04unit\x00\x01C";

fn publish(version: ProtocolVersion, head: &PublishHead<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_publish_head(&mut bytes, version, head, 64);
    bytes.resize(bytes.len() + 64, b'x');
    bytes
}

fn head(qos: QoS, forward: &[u8]) -> PublishHead<'_> {
    PublishHead { qos, topic: TOPIC, packet_id: 513, forward, ..PublishHead::default() }
}

fn read_publish(bytes: &[u8], version: ProtocolVersion) -> Publish<'_> {
    match frame(bytes, 1 << 20) {
        Ok(Framed::Complete { frame, .. }) => decode_publish(frame.first, frame.body, version).expect("well-formed"),
        other => panic!("{other:?}"),
    }
}

fn read_ack(bytes: &[u8], version: ProtocolVersion) -> Ack<'_> {
    match frame(bytes, 1 << 20) {
        Ok(Framed::Complete { frame, .. }) => decode_ack(frame.first, frame.body, version).expect("well-formed"),
        other => panic!("{other:?}"),
    }
}

fn decode_publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/decode-publish");
    group.throughput(Throughput::Elements(1));
    let mut bench = |name: String, bytes: Vec<u8>, version| {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| read_publish(black_box(&bytes), version).payload.len());
        });
    };
    for (name, version) in VERSIONS {
        bench(format!("{name}-qos0"), publish(version, &head(QoS::AtMostOnce, &[])), version);
        bench(format!("{name}-qos1"), publish(version, &head(QoS::AtLeastOnce, &[])), version);
    }
    let version = ProtocolVersion::V5;
    bench("5.0-qos1-properties".to_owned(), publish(version, &head(QoS::AtLeastOnce, PROPERTIES)), version);
    group.finish();
}

fn encode_publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/encode-publish");
    group.throughput(Throughput::Elements(1));
    for (name, version) in VERSIONS {
        let mut output = Vec::with_capacity(1024);
        group.bench_function(BenchmarkId::from_parameter(format!("{name}-qos1")), |bencher| {
            bencher.iter(|| {
                output.clear();
                encode_publish_head(&mut output, version, black_box(&head(QoS::AtLeastOnce, &[])), 64);
                output.extend_from_slice(black_box(&[b'x'; 64]));
            });
        });
    }
    group.finish();
}

fn acks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/puback");
    group.throughput(Throughput::Elements(1));
    for (name, version) in VERSIONS {
        let mut bytes = Vec::with_capacity(64);
        encode_ack(&mut bytes, version, PacketType::PubAck, 513, 0);
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| read_ack(black_box(&bytes), version).packet_id);
        });
        let mut output = Vec::with_capacity(64);
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                output.clear();
                encode_ack(&mut output, version, PacketType::PubAck, black_box(513), 0);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode_publishes, encode_publishes, acks);
criterion_main!(benches);
