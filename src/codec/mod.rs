//! The MQTT wire format: packets to bytes and bytes to packets, for 3.1, 3.1.1 and 5.0, both ways.
//!
//! This room never sees a socket, a session or a clock. Decoding borrows from the buffer that the bytes
//! arrived in and allocates nothing for the packets of the hot path; encoding appends to a `Vec<u8>`.
//! A packet that comes out of [`decode`] is well-formed: strings are UTF-8 without U+0000, topics and
//! filters obey the wildcard rules, flags and reserved bits are as the specification asks. What depends on
//! who sent it, or on what happened before, is the broker's business: packets that only one side may send
//! are decoded from either.

mod decode;
mod encode;
mod error;
mod frame;
mod packet;
pub mod property;
mod reason;
mod subscription;
#[cfg(test)]
mod tests;
pub mod topic;
mod wire;

pub use decode::{connect_version, decode, decode_ack, decode_connect, decode_publish};
pub use encode::{
    PublishHead, encode, encode_ack, encode_ping_resp, encode_publish_body, encode_publish_head, packet_len,
    publish_len,
};
pub use error::DecodeError;
pub use frame::{Frame, Framed, frame};
pub use packet::*;
pub use property::put_user_property;
pub use reason::connack_return_code_v3;
