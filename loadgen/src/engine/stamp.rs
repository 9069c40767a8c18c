//! What every payload carries so that its subscriber can tell what became of it: which message of which flow it is,
//! and when it was due, in 16 bytes; and a filling that shows corruption.

use crate::plan::template::{STAMP_AT, STAMP_DIGITS, STAMP_PREFIX, read_stamp};

/// Bytes of a stamp; the smallest payload.
pub const BYTES: usize = 16;
/// Bits of the time; 52 days of nanoseconds. The rest of its eight bytes is a check of all of them.
const TIME_BITS: u32 = 52;

/// The identity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher's messages to which topic, over the whole plan.
    pub flow: u32,
    /// 0 for its first message, then rising by 1.
    pub sequence: u32,
    /// When it was due (open loop) or handed to the network, in nanoseconds of the run's clock.
    pub at_ns: u64,
}

impl Stamp {
    /// The stamp on the wire.
    #[inline]
    pub fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..4].copy_from_slice(&self.flow.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        let at_ns = self.at_ns & ((1 << TIME_BITS) - 1);
        bytes[8..16].copy_from_slice(&(at_ns | self.check() << TIME_BITS).to_le_bytes());
        bytes
    }

    /// The stamp that these bytes are; `None` if they are none.
    #[inline]
    pub fn from_bytes(bytes: [u8; BYTES]) -> Option<Self> {
        let whole = u128::from_le_bytes(bytes);
        let time = (whole >> 64) as u64;
        let at_ns = time & ((1 << TIME_BITS) - 1);
        let stamp = Self { flow: whole as u32, sequence: (whole >> 32) as u32, at_ns };
        (time >> TIME_BITS == stamp.check()).then_some(stamp)
    }

    /// The stamp at the front of a payload, in either form; whether the rest is as it should be is not looked at.
    #[inline]
    pub fn of(payload: &[u8]) -> Option<Self> {
        if payload.first() == Some(&STAMP_PREFIX.as_bytes()[0]) && payload.starts_with(STAMP_PREFIX.as_bytes()) {
            return Self::of_text(payload);
        }
        Self::from_bytes(*payload.first_chunk()?)
    }

    #[cold]
    fn of_text(payload: &[u8]) -> Option<Self> {
        let digits = payload.get(STAMP_AT..STAMP_AT + STAMP_DIGITS)?;
        Self::from_bytes(read_stamp(digits)?)
    }

    /// Appends a payload of `length` bytes, at least [`BYTES`].
    #[inline]
    pub fn put_payload(self, length: usize, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.to_bytes());
        output.resize(output.len() + length - BYTES, self.filling());
    }

    /// Whether what follows the stamp in a payload of [`Stamp::put_payload`] is as it was written.
    #[inline]
    pub fn fills(self, payload: &[u8]) -> bool {
        let filling = self.filling();
        let (eights, rest) = payload[BYTES..].as_chunks();
        let eight = u64::from_ne_bytes([filling; 8]);
        // Folding instead of stopping early lets the compiler compare many bytes at once.
        let differences =
            eights.iter().fold(0, |differences, bytes| differences | (u64::from_ne_bytes(*bytes) ^ eight));
        differences == 0 && rest.iter().all(|byte| *byte == filling)
    }

    #[inline]
    fn filling(self) -> u8 {
        (self.flow.wrapping_mul(31) ^ self.sequence) as u8
    }

    /// Twelve bits in which any small change shows.
    #[inline]
    fn check(self) -> u64 {
        let identity = u64::from(self.flow) << 32 | u64::from(self.sequence);
        // A multiplier without runs of equal bits: each bit of the factor moves the highest bits of the product.
        (identity ^ self.at_ns.rotate_left(TIME_BITS / 2)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> TIME_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::template::push_stamp;

    const STAMP: Stamp = Stamp { flow: 7, sequence: 300, at_ns: 1 << 40 };

    #[test]
    fn reads_what_was_written() {
        for length in [BYTES, 17, 64, 1000] {
            let mut payload = Vec::new();
            STAMP.put_payload(length, &mut payload);
            assert_eq!((payload.len(), Stamp::of(&payload)), (length, Some(STAMP)));
            assert!(STAMP.fills(&payload));
        }
        let mut text = STAMP_PREFIX.as_bytes().to_vec();
        push_stamp(&STAMP.to_bytes(), &mut text);
        text.extend_from_slice(b"\"}");
        assert_eq!(Stamp::of(&text), Some(STAMP));
    }

    #[test]
    fn a_changed_byte_in_the_filling_or_a_cut_stamp_is_seen() {
        let mut payload = Vec::new();
        STAMP.put_payload(64, &mut payload);
        assert_eq!(Stamp::of(&payload[..15]), None);
        for at in BYTES..64 {
            payload[at] ^= 1;
            assert!(!STAMP.fills(&payload), "{at}");
            payload[at] ^= 1;
        }
        let mut odd = Vec::new();
        STAMP.put_payload(BYTES + 3, &mut odd);
        odd[BYTES + 2] ^= 1;
        assert!(!STAMP.fills(&odd));
    }

    #[test]
    fn a_changed_bit_anywhere_in_the_stamp_is_seen() {
        for sequence in 0..50 {
            let stamp = Stamp { flow: 5, sequence, at_ns: 123_456_789 };
            for bit in 0..128 {
                let mut bytes = stamp.to_bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Stamp::from_bytes(bytes), None, "bit {bit}");
            }
        }
    }
}
