//! What decodes encodes to bytes that decode to the same packet, and to the same bytes again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_fuzz::codec::{Framed, Packet, ProtocolVersion, decode, encode, frame};
use ringmq_fuzz::{VERSIONS, frames};

fuzz_target!(|bytes: &[u8]| {
    for frame in frames(bytes, u32::MAX) {
        for version in VERSIONS {
            if let Ok(packet) = decode(frame, version) {
                come_back(&packet, version);
            }
        }
    }
});

fn come_back(packet: &Packet<'_>, version: ProtocolVersion) {
    let mut first = Vec::new();
    encode(packet, version, &mut first);
    let Ok(Framed::Complete { frame, len }) = frame(&first, u32::MAX) else { panic!("{first:x?} is no packet") };
    assert_eq!(len, first.len());
    let again = decode(frame, version).expect("what was encoded decodes");
    assert_eq!(*packet, again);
    let mut second = Vec::new();
    encode(&again, version, &mut second);
    assert_eq!(first, second);
}
