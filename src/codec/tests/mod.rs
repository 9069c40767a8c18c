//! What the whole codec is held to: bytes written out by hand, one refusal for each rule, round trips, and bytes
//! that nobody meant.

mod golden;
mod hostile;
mod ingredients;
mod refuse_connect;
mod refuse_others;
mod refuse_publish;
mod refuse_subscribe;
mod round_trip;

use super::wire::put_with_length;
use super::*;

pub(super) use ProtocolVersion::{V5, V31, V311};

pub(super) const VERSIONS: [ProtocolVersion; 3] = [V31, V311, V5];

/// A packet of a first byte and a body.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_with_length(&mut bytes, |bytes| bytes.extend_from_slice(body));
    bytes
}

/// Decodes bytes that hold exactly one packet.
pub(super) fn decode_one(bytes: &[u8], version: ProtocolVersion) -> Result<Packet<'_>, DecodeError> {
    match frame(bytes, u32::MAX)? {
        Framed::Complete { frame, len } => {
            assert_eq!(len, bytes.len(), "one packet");
            decode(frame, version)
        }
        incomplete => panic!("{incomplete:?}"),
    }
}

/// Asserts that a body is refused with an error, and the error answered with a reason code.
#[track_caller]
pub(super) fn assert_refused(version: ProtocolVersion, first: u8, body: &[u8], error: DecodeError, reason: u8) {
    assert_eq!(decode_one(&packet(first, body), version), Err(error), "{version:?} {first:#x} {body:x?}");
    assert_eq!(error.reason() as u8, reason, "{error:?}");
}

#[track_caller]
pub(super) fn assert_accepted(version: ProtocolVersion, first: u8, body: &[u8]) {
    if let Err(error) = decode_one(&packet(first, body), version) {
        panic!("{version:?} {first:#x} {body:x?}: {error}");
    }
}
