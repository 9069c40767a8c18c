//! What every payload carries so that its subscriber can tell what became of it: who published it as which
//! of its messages, when, and a filling that shows corruption.

/// Bytes before the filling; the smallest payload.
pub const HEADER: usize = 16;

/// The identity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the publisher.
    pub publisher: u32,
    /// 0 for its first message, then rising by 1.
    pub sequence: u32,
    /// When it was handed to the network, in nanoseconds of the generator's clock.
    pub sent_ns: u64,
}

/// Fills a payload of at least [`HEADER`] bytes.
pub fn write(stamp: Stamp, payload: &mut [u8]) {
    payload[0..4].copy_from_slice(&stamp.publisher.to_le_bytes());
    payload[4..8].copy_from_slice(&stamp.sequence.to_le_bytes());
    payload[8..16].copy_from_slice(&stamp.sent_ns.to_le_bytes());
    payload[HEADER..].fill(filling(stamp));
}

/// Reads a payload; `None` if it is not as [`write()`] left it, as far as that can be told.
pub fn read(payload: &[u8]) -> Option<Stamp> {
    let (header, rest) = payload.split_first_chunk::<HEADER>()?;
    let (publisher, header) = header.split_first_chunk::<4>()?;
    let (sequence, sent_ns) = header.split_first_chunk::<4>()?;
    let stamp = Stamp {
        publisher: u32::from_le_bytes(*publisher),
        sequence: u32::from_le_bytes(*sequence),
        sent_ns: u64::from_le_bytes(sent_ns.try_into().ok()?),
    };
    let filling = filling(stamp);
    // Folding instead of stopping early lets the compiler compare many bytes at once.
    (rest.iter().fold(0, |differences, byte| differences | (byte ^ filling)) == 0).then_some(stamp)
}

fn filling(stamp: Stamp) -> u8 {
    (stamp.publisher.wrapping_mul(31) ^ stamp.sequence) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 7, sequence: 300, sent_ns: 1 << 40 };

    #[test]
    fn reads_what_was_written() {
        for length in [HEADER, 17, 64, 1000] {
            let mut payload = vec![0xEE; length];
            write(STAMP, &mut payload);
            assert_eq!(read(&payload), Some(STAMP));
        }
    }

    #[test]
    fn a_changed_byte_in_the_filling_or_a_cut_header_is_seen() {
        let mut payload = [0; 64];
        write(STAMP, &mut payload);
        assert_eq!(read(&payload[..15]), None);
        payload[63] ^= 1;
        assert_eq!(read(&payload), None);
    }
}
