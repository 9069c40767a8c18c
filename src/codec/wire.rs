//! The data representations of MQTT 5.0 §1.5, read from a slice and appended to a `Vec<u8>`.

use super::DecodeError;
use super::topic::{self, TopicError};

/// The largest value of a variable byte integer, and so the largest remaining length.
pub(super) const VARINT_MAX: u32 = 268_435_455;

/// Reads a variable byte integer from the front: its value and how many bytes it took. `Ok(None)` when the
/// bytes end within it; an error when it takes more than four bytes or more than it needs `[MQTT-1.5.5-1]`.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    match bytes {
        [low, ..] if *low < 0x80 => Ok(Some((u32::from(*low), 1))),
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let padded = index > 0 && *byte == 0;
            return if padded { Err(DecodeError::VariableByteInteger) } else { Ok(Some((value, index + 1))) };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(DecodeError::VariableByteInteger) }
}

/// How many bytes a variable byte integer takes.
#[inline]
pub(super) fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// A variable byte integer in the bytes it takes; how many those are.
///
/// # Panics
/// When the value is above [`VARINT_MAX`]: such a packet cannot exist, and its maker should have known.
#[inline]
pub(super) fn varint_bytes(mut value: u32) -> ([u8; 4], usize) {
    assert!(value <= VARINT_MAX, "{value} is no variable byte integer");
    let mut bytes = [0; 4];
    let length = varint_len(value);
    for byte in &mut bytes[..length] {
        *byte = (value & 0x7F) as u8 | 0x80;
        value >>= 7;
    }
    bytes[length - 1] &= 0x7F;
    (bytes, length)
}

/// Appends a variable byte integer; panics above [`VARINT_MAX`].
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, value: u32) {
    let (bytes, length) = varint_bytes(value);
    out.extend_from_slice(&bytes[..length]);
}

/// Appends binary data with its two-byte length.
///
/// # Panics
/// When the data are longer than 65,535 bytes: MQTT has no such field.
#[inline]
pub(super) fn put_binary(out: &mut Vec<u8>, data: &[u8]) {
    let Ok(length) = u16::try_from(data.len()) else { panic!("a field of {} bytes", data.len()) };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
}

/// Appends a UTF-8 encoded string; panics above 65,535 bytes.
#[inline]
pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    put_binary(out, string.as_bytes());
}

/// Puts the length of what `write` appends before it, as a variable byte integer. Not for the hot path: a
/// length of more than one byte moves what was written.
pub(super) fn put_with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    write(out);
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    let (bytes, count) = varint_bytes(length);
    out.splice(start..=start, bytes[..count].iter().copied());
}

/// Reads fields from the front of a packet's body or of a property section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// What is not read yet.
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*byte)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let (value, length) = varint(self.rest)?.ok_or(DecodeError::Truncated)?;
        self.rest = &self.rest[length..];
        Ok(value)
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Binary data: two bytes of length, then that many.
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 encoded string without U+0000.
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        let string = utf8(self.binary()?)?;
        match memchr::memchr(0, string.as_bytes()) {
            Some(_) => Err(DecodeError::NullCharacter),
            None => Ok(string),
        }
    }

    /// A topic name, or the empty string: only the caller knows what that means.
    #[inline]
    pub fn topic_name(&mut self) -> Result<Result<&'a str, TopicError>, DecodeError> {
        let bytes = self.binary()?;
        if let Some(name) = topic::plain_name(bytes) {
            return Ok(Ok(name));
        }
        let string = utf8(bytes)?;
        match topic::validate_topic_name(string) {
            Ok(()) | Err(TopicError::Empty) => Ok(Ok(string)),
            Err(TopicError::NullCharacter) => Err(DecodeError::NullCharacter),
            Err(error) => Ok(Err(error)),
        }
    }

    /// A packet identifier, which is never 0 `[MQTT-2.2.1-3]`.
    #[inline]
    pub fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::PacketIdentifierZero),
            packet_id => Ok(packet_id),
        }
    }
}

#[inline]
fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_take_the_bytes_the_specification_says() {
        // MQTT 5.0 table 1-1.
        let table: [(u32, &[u8]); 8] = [
            (0, &[0x00]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (VARINT_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(varint(bytes), Ok(Some((value, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(varint(&bytes[..cut]), Ok(None), "{value} cut at {cut}");
            }
        }
    }

    #[test]
    fn variable_byte_integers_of_five_bytes_or_with_padding_are_refused() {
        for bytes in
            [&[0xFF, 0xFF, 0xFF, 0xFF][..], &[0x80, 0x80, 0x80, 0x80, 0x01], &[0x80, 0x00], &[0xFF, 0x80, 0x00]]
        {
            assert_eq!(varint(bytes), Err(DecodeError::VariableByteInteger), "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_prefix_grows_with_what_follows() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384] {
            let mut out = vec![0xAA];
            put_with_length(&mut out, |out| out.resize(out.len() + length, 0x55));
            let (value, taken) = varint(&out[1..]).unwrap().unwrap();
            assert_eq!(value as usize, length);
            assert_eq!(out.len(), 1 + taken + length);
            assert!(out[1 + taken..].iter().all(|byte| *byte == 0x55));
        }
    }

    #[test]
    fn strings_are_utf8_without_null() {
        let string = |bytes: &[u8]| {
            let mut field = Vec::new();
            put_binary(&mut field, bytes);
            Reader::new(&field).string().map(str::to_owned)
        };
        assert_eq!(string("grüße/𝄞".as_bytes()).as_deref(), Ok("grüße/𝄞"));
        assert_eq!(string(b"").as_deref(), Ok(""));
        assert_eq!(string(b"a\0b"), Err(DecodeError::NullCharacter));
        assert_eq!(string(&[0xED, 0xA0, 0x80]), Err(DecodeError::InvalidUtf8), "a surrogate");
        assert_eq!(string(&[0xC0, 0x80]), Err(DecodeError::InvalidUtf8), "an overlong null");
        assert_eq!(string(&[0xF4, 0x90, 0x80, 0x80]), Err(DecodeError::InvalidUtf8), "above U+10FFFF");
        assert_eq!(string("\u{FEFF}bom".as_bytes()).as_deref(), Ok("\u{FEFF}bom"), "the BOM stays [MQTT-1.5.4-3]");
    }

    #[test]
    fn fields_that_run_past_the_end_are_truncated() {
        assert_eq!(Reader::new(&[0]).u16(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[0, 0, 0]).u32(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[0, 3, b'a', b'b']).string(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[0x80]).varint(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[]).u8(), Err(DecodeError::Truncated));
    }
}
