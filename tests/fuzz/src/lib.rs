//! Codecs, rules and readers of secrets, from the broker's own source, so that fuzzing does not build the rest of the
//! broker.

pub mod acl;
pub mod auth;
#[path = "../../../src/codec/mod.rs"]
pub mod codec;
#[path = "../../../src/transport/proxy/mod.rs"]
pub mod proxy;
#[path = "../../../src/transport/ws/mod.rs"]
pub mod ws;

use codec::{Frame, Framed, ProtocolVersion};

/// Every protocol version.
pub const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5];

/// The packets at the front of a stream of bytes, up to the first that is malformed or incomplete.
pub fn frames(mut bytes: &[u8], maximum_packet_size: u32) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || match codec::frame(bytes, maximum_packet_size) {
        Ok(Framed::Complete { frame, len }) => {
            bytes = &bytes[len..];
            Some(frame)
        }
        Ok(Framed::Incomplete { needed }) => {
            assert!(needed.is_none_or(|needed| needed > bytes.len() && needed <= maximum_packet_size as usize));
            None
        }
        Err(error) => {
            assert!(error.reason().is_error() && !error.label().is_empty());
            None
        }
    })
}
