//! Finds the first packet in a stream of bytes: fixed header and remaining length, nothing more.

use super::DecodeError;
use super::wire::varint;

/// One whole packet: its first byte and everything after the remaining length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type (upper four bits) and flags.
    pub first: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
}

/// What the front of the received bytes holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole packet.
    Complete {
        /// The packet.
        frame: Frame<'a>,
        /// How many bytes it took, fixed header included.
        len: usize,
    },
    /// Part of a packet.
    Incomplete {
        /// The total length of the packet in bytes, once enough of it has arrived to tell.
        needed: Option<usize>,
    },
}

/// Looks at the first packet in `bytes`, which may be empty and may hold more than one.
///
/// # Errors
/// [`DecodeError::RemainingLength`], and [`DecodeError::PacketTooLarge`] as soon as the length is known to
/// exceed `maximum_packet_size` (in bytes, fixed header included as MQTT 5.0 §3.1.2.11.4 counts it), whether
/// or not the body has arrived.
#[inline]
pub fn frame(bytes: &[u8], maximum_packet_size: u32) -> Result<Framed<'_>, DecodeError> {
    // Nearly every packet is here: a remaining length of one byte, and all of it received.
    if let [first, length, rest @ ..] = bytes
        && *length < 0x80
        && u32::from(*length) + 2 <= maximum_packet_size
        && let Some(body) = rest.get(..usize::from(*length))
    {
        return Ok(Framed::Complete { frame: Frame { first: *first, body }, len: usize::from(*length) + 2 });
    }
    any_frame(bytes, maximum_packet_size)
}

/// The general case of [`frame`].
pub(super) fn any_frame(bytes: &[u8], maximum: u32) -> Result<Framed<'_>, DecodeError> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(Framed::Incomplete { needed: None }) };
    let Some((remaining, taken)) = varint(rest).map_err(|_| DecodeError::RemainingLength)? else {
        return Ok(Framed::Incomplete { needed: None });
    };
    let header = 1 + taken;
    // At most 268,435,455 + 5.
    let length = remaining + header as u32;
    if length > maximum {
        return Err(DecodeError::PacketTooLarge { length, maximum });
    }
    let len = length as usize;
    Ok(match bytes.get(header..len) {
        Some(body) => Framed::Complete { frame: Frame { first: *first, body }, len },
        None => Framed::Incomplete { needed: Some(len) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::wire::put_varint;

    fn packet(length: usize) -> Vec<u8> {
        let mut bytes = vec![0x30];
        put_varint(&mut bytes, length as u32);
        bytes.extend((0..length).map(|index| index as u8));
        bytes
    }

    #[test]
    fn a_frame_is_found_however_the_bytes_are_split() {
        for length in [0, 1, 2, 127, 128, 300, 16_383, 16_384] {
            let bytes = packet(length);
            let header = bytes.len() - length;
            for cut in 0..bytes.len() {
                let needed = (cut >= header).then_some(bytes.len());
                assert_eq!(frame(&bytes[..cut], u32::MAX), Ok(Framed::Incomplete { needed }), "{length} cut at {cut}");
            }
            let complete = Framed::Complete { frame: Frame { first: 0x30, body: &bytes[header..] }, len: bytes.len() };
            assert_eq!(frame(&bytes, u32::MAX), Ok(complete));
            let more = [&bytes[..], &[0xC0, 0x00]].concat();
            assert_eq!(frame(&more, u32::MAX), Ok(complete), "what follows is left alone");
        }
    }

    #[test]
    fn a_packet_too_large_is_refused_before_its_body_arrives() {
        for length in [0, 1, 127, 128, 16_384] {
            let bytes = packet(length);
            let header = bytes.len() - length;
            let size = bytes.len() as u32;
            assert!(frame(&bytes, size).is_ok(), "exactly the maximum is accepted");
            let refused = Err(DecodeError::PacketTooLarge { length: size, maximum: size - 1 });
            assert_eq!(frame(&bytes[..header], size - 1), refused);
            assert_eq!(frame(&bytes, size - 1), refused);
        }
        assert_eq!(
            frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 1024),
            Err(DecodeError::PacketTooLarge { length: 268_435_460, maximum: 1024 })
        );
    }

    #[test]
    fn a_remaining_length_of_five_bytes_or_with_padding_is_refused_at_once() {
        for bytes in [&[0x30, 0xFF, 0xFF, 0xFF, 0xFF][..], &[0x30, 0x80, 0x80, 0x80, 0x80, 0x00], &[0x30, 0x81, 0x00]] {
            assert_eq!(frame(bytes, u32::MAX), Err(DecodeError::RemainingLength), "{bytes:x?}");
        }
        assert_eq!(frame(&[0x30, 0xFF, 0xFF, 0xFF], u32::MAX), Ok(Framed::Incomplete { needed: None }));
    }
}
