//! The operations of the ring as they are named in `user_data`: kind, generation and slot.

use std::num::NonZeroU32;

use super::LinkId;

/// Bits of a link's generation that travel in `user_data`.
pub const GENERATION_BITS: u32 = 24;

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// `connect(2)`.
    Connect = 1,
    /// The multishot receive.
    Receive,
    /// The one send in flight.
    Send,
    /// `connect(2)` to nowhere, which resets an established connection.
    Reset,
    /// Cancellation of one of the above.
    Cancel,
    /// Close of the descriptor.
    Close,
    /// The poll of the waker's eventfd; of no link.
    Wake,
}

const KINDS: [Kind; 7] = [Kind::Connect, Kind::Receive, Kind::Send, Kind::Reset, Kind::Cancel, Kind::Close, Kind::Wake];

/// The `user_data` of a link's operation.
pub fn of_link(kind: Kind, link: LinkId) -> u64 {
    (kind as u64) << 56 | u64::from(link.generation.get()) << 32 | u64::from(link.slot)
}

/// The `user_data` of an operation that is no link's.
pub fn bare(kind: Kind) -> u64 {
    (kind as u64) << 56
}

/// What was encoded; no link for what is no link's.
pub fn decode(user_data: u64) -> (Kind, Option<LinkId>) {
    let kind = KINDS[usize::from((user_data >> 56) as u8) - 1];
    let generation = NonZeroU32::new((user_data >> 32) as u32 & ((1 << GENERATION_BITS) - 1));
    (kind, generation.map(|generation| LinkId { slot: user_data as u32, generation }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_comes_back_as_it_was_encoded() {
        let generation = NonZeroU32::new((1 << GENERATION_BITS) - 1).unwrap();
        let link = LinkId { slot: u32::MAX, generation };
        for kind in KINDS {
            assert_eq!(decode(of_link(kind, link)), (kind, Some(link)));
            assert_eq!(decode(bare(kind)), (kind, None));
        }
    }
}
