//! What every payload carries so that its subscriber can tell what became of it: which message of which flow it is,
//! and when it was due, in 16 bytes; and a filling that shows corruption.

use crate::plan::template::{STAMP_AT, STAMP_DIGITS, STAMP_PREFIX, read_stamp};

/// Bytes of a stamp; the smallest payload.
pub const BYTES: usize = 16;
/// Bits of the time; 52 days of nanoseconds, which each run begins at a moment of its own: what is left of an earlier run
/// seems to come from the future.
/// The rest of its eight bytes is a check of all of them.
const TIME_BITS: u32 = 52;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// The clocks of joined workers are this close to each other, by far.
const CLOCKS_DIFFER_NS: u64 = 60_000_000_000;

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
    /// The stamp on the wire, in a run of this number.
    #[inline]
    pub fn to_bytes(self, run: u64) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0..4].copy_from_slice(&self.flow.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_le_bytes());
        let time = self.at_ns.wrapping_add(run) & TIME;
        bytes[8..16].copy_from_slice(&(time | self.check(time) << TIME_BITS).to_le_bytes());
        bytes
    }

    /// The stamp that these bytes are; `None` if they are none.
    #[inline]
    pub fn from_bytes(bytes: [u8; BYTES], run: u64) -> Option<Self> {
        let whole = u128::from_le_bytes(bytes);
        let last = (whole >> 64) as u64;
        let time = last & TIME;
        let at_ns = time.wrapping_sub(run) & TIME;
        let stamp = Self { flow: whole as u32, sequence: (whole >> 32) as u32, at_ns };
        (last >> TIME_BITS == stamp.check(time)).then_some(stamp)
    }

    /// The stamp at the front of a payload, in either form; whether the rest is as it should be is not looked at.
    #[inline]
    pub fn of(payload: &[u8], run: u64) -> Option<Self> {
        if payload.first() == Some(&STAMP_PREFIX.as_bytes()[0]) && payload.starts_with(STAMP_PREFIX.as_bytes()) {
            return Self::of_text(payload, run);
        }
        Self::from_bytes(*payload.first_chunk()?, run)
    }

    #[cold]
    fn of_text(payload: &[u8], run: u64) -> Option<Self> {
        let digits = payload.get(STAMP_AT..STAMP_AT + STAMP_DIGITS)?;
        Self::from_bytes(read_stamp(digits)?, run)
    }

    /// Appends a payload of `length` bytes, at least [`BYTES`].
    #[inline]
    pub fn put_payload(self, length: usize, run: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(&self.to_bytes(run));
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

    /// Whether no message of this run can have been due then, as it is not so late yet.
    #[inline]
    pub fn is_of_another_run(self, now_ns: u64) -> bool {
        self.at_ns > now_ns + CLOCKS_DIFFER_NS
    }

    /// Twelve bits in which any small change shows, of the time as it is on the wire too.
    #[inline]
    fn check(self, time: u64) -> u64 {
        let identity = u64::from(self.flow) << 32 | u64::from(self.sequence);
        // A multiplier without runs of equal bits: each bit of the factor moves the highest bits of the product.
        (identity ^ time.rotate_left(TIME_BITS / 2)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> TIME_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::template::push_stamp;

    const RUN: u64 = 0x9E37_79B9_7F4A_7C15;
    const STAMP: Stamp = Stamp { flow: 7, sequence: 300, at_ns: 1 << 40 };

    #[test]
    fn reads_what_was_written() {
        for length in [BYTES, 17, 64, 1000] {
            let mut payload = Vec::new();
            STAMP.put_payload(length, RUN, &mut payload);
            assert_eq!((payload.len(), Stamp::of(&payload, RUN)), (length, Some(STAMP)));
            assert!(STAMP.fills(&payload));
        }
        let mut text = STAMP_PREFIX.as_bytes().to_vec();
        push_stamp(&STAMP.to_bytes(RUN), &mut text);
        text.extend_from_slice(b"\"}");
        assert_eq!(Stamp::of(&text, RUN), Some(STAMP));
    }

    #[test]
    fn what_another_run_left_seems_to_come_from_the_future() {
        let mut random = fastrand::Rng::with_seed(1);
        let now_ns = STAMP.at_ns + 1;
        assert!(!Stamp::from_bytes(STAMP.to_bytes(RUN), RUN).unwrap().is_of_another_run(now_ns));
        let taken_for_ours = |other: u64| {
            Stamp::from_bytes(STAMP.to_bytes(other), RUN).is_some_and(|stamp| !stamp.is_of_another_run(now_ns))
        };
        let own = (0..10_000).filter(|_| taken_for_ours(random.u64(..))).count();
        // A run of 18 minutes and the minute that clocks may differ, of 52 days.
        assert!(own < 10, "{own} of 10,000");
    }

    #[test]
    fn a_changed_byte_in_the_filling_or_a_cut_stamp_is_seen() {
        let mut payload = Vec::new();
        STAMP.put_payload(64, RUN, &mut payload);
        assert_eq!(Stamp::of(&payload[..15], RUN), None);
        for at in BYTES..64 {
            payload[at] ^= 1;
            assert!(!STAMP.fills(&payload), "{at}");
            payload[at] ^= 1;
        }
        let mut odd = Vec::new();
        STAMP.put_payload(BYTES + 3, RUN, &mut odd);
        odd[BYTES + 2] ^= 1;
        assert!(!STAMP.fills(&odd));
    }

    #[test]
    fn a_changed_bit_anywhere_in_the_stamp_is_seen() {
        for sequence in 0..50 {
            let stamp = Stamp { flow: 5, sequence, at_ns: 123_456_789 };
            for bit in 0..128 {
                let mut bytes = stamp.to_bytes(RUN);
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Stamp::from_bytes(bytes, RUN), None, "bit {bit}");
            }
        }
    }
}
