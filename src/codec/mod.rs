//! The MQTT wire format: packets to bytes and bytes to packets, for 3.1, 3.1.1 and 5.0, both ways.
//!
//! This room never sees a socket, a session or a clock. Decoding borrows from the buffer that the bytes
//! arrived in and allocates nothing for the packets of the hot path; encoding appends to a `Vec<u8>`.
//! A packet that comes out of [`decode`] is well-formed: strings are UTF-8 without U+0000, topics and
//! filters obey the wildcard rules, flags and reserved bits are as the specification asks.

mod packet;

pub use packet::*;
