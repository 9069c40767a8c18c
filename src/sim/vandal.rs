//! What somebody sends who does not speak MQTT, or badly. Each ends in a close, of itself or by a timeout.

use super::rng::Rng;
use super::wire::{Ack, Connect, Packet, ProtocolVersion, Publish, QoS, encode, frame};

/// A stream that the broker has to end.
pub fn bytes(rng: &mut Rng) -> Vec<u8> {
    let version = *rng.pick(&[ProtocolVersion::V311, ProtocolVersion::V5]);
    let hello = encode(&Packet::Connect(Connect::new(version, &format!("vandal-{}", rng.below(3)))), version);
    let after = |tail: Vec<u8>| [hello.clone(), tail].concat();
    match rng.below(12) {
        0 => Vec::from([0]),
        1 => (0..rng.range(1, 300)).map(|_| rng.draw() as u8 | 0x80).collect(),
        2 => hello[..rng.below(hello.len() - 1)].iter().copied().chain([0x10]).collect(),
        3 => after(hello.clone()),
        4 => after(vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        5 => after(encode(&Packet::PubAck(Ack::new(0)), version)),
        6 => after(frame(0x82, &[0, 1])),
        7 => after(frame(0x32, &[0, 1, b't', 0, 0])),
        8 => after(encode(&Packet::Publish(Publish { topic: "a/+".into(), ..Default::default() }), version)),
        9 => after(frame(0x20, &[0, 0])),
        10 => after(frame(0x30, &[0, 2, 0xC3, 0x28])),
        _ => {
            // A QoS 2 message that is never completed, then garbage.
            let publish = Publish { topic: "t/1".into(), qos: QoS::ExactlyOnce, packet_id: 9, ..Default::default() };
            let mut stream = after(encode(&Packet::Publish(publish), version));
            stream.push(0x00);
            stream.push(0x00);
            stream
        }
    }
}
