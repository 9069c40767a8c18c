//! The driver's operations as they are named in `user_data`: kind, generation and slot.

use crate::engine::ConnId;

/// Bits of a generation that travel in `user_data`.
const GENERATION_BITS: u32 = 24;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Multishot accept; the slot is the listener's index.
    Accept = 1,
    /// Receive on a connection, single or multishot.
    Receive,
    /// The send of a connection.
    Send,
    /// The cancellation of a connection's operation.
    Cancel,
    /// `shutdown(SHUT_WR)` of a connection.
    Shutdown,
    /// Close of a connection's descriptor.
    Close,
    /// `MSG_RING` that gives the descriptor to another shard, at the giver.
    GiveAway,
    /// The descriptor that another shard gave; generation and slot hold the token and the giver.
    Arrived,
    /// Close of a descriptor that never became a connection.
    CloseUnowned,
    /// The wake-up from another thread (eventfd).
    EventFd,
    /// A watched descriptor is readable.
    Watch,
    /// Cancellation of an accept.
    CancelAccept,
    /// Who is at the other end of a socket that is no connection yet.
    PeerName,
}

const KINDS: [Kind; 13] = [
    Kind::Accept,
    Kind::Receive,
    Kind::Send,
    Kind::Cancel,
    Kind::Shutdown,
    Kind::Close,
    Kind::GiveAway,
    Kind::Arrived,
    Kind::CloseUnowned,
    Kind::EventFd,
    Kind::Watch,
    Kind::CancelAccept,
    Kind::PeerName,
];

/// `user_data` in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// The kind of operation.
    pub kind: Kind,
    /// The low bits of the connection's generation, which tell a stale completion.
    pub generation: u32,
    /// The connection's slot, or what [`Kind`] says.
    pub slot: u32,
}

impl Op {
    /// The operation of a connection.
    pub fn of(kind: Kind, conn: ConnId) -> Op {
        Op { kind, generation: conn.generation & GENERATION_MASK, slot: conn.slot }
    }

    /// An operation that belongs to no connection.
    pub fn bare(kind: Kind, slot: u32) -> Op {
        Op { kind, generation: 0, slot }
    }

    /// A descriptor's arrival under a token of its giver.
    pub fn arrived(from: u16, token: u32) -> Op {
        Op { kind: Kind::Arrived, generation: u32::from(from), slot: token }
    }

    /// True when the completion is of this incarnation of its slot.
    pub fn is_of(self, conn: ConnId) -> bool {
        self.slot == conn.slot && self.generation == conn.generation & GENERATION_MASK
    }

    /// As `user_data`.
    pub fn encode(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation & GENERATION_MASK) << 32 | u64::from(self.slot)
    }

    /// From `user_data`; `None` for what this driver never queued.
    pub fn decode(user_data: u64) -> Option<Op> {
        let kind = *KINDS.get(usize::from((user_data >> 56) as u8).wrapping_sub(1))?;
        Some(Op { kind, generation: (user_data >> 32) as u32 & GENERATION_MASK, slot: user_data as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_comes_back_as_it_was_encoded() {
        for kind in KINDS {
            let op = Op { kind, generation: GENERATION_MASK, slot: u32::MAX };
            assert_eq!(Op::decode(op.encode()), Some(op));
        }
        assert_eq!(Op::decode(0), None);
        assert_eq!(Op::decode(u64::MAX), None);
    }

    #[test]
    fn an_earlier_incarnation_of_the_slot_is_told_apart() {
        let earlier = Op::of(Kind::Send, ConnId { slot: 7, generation: 3 });
        assert!(earlier.is_of(ConnId { slot: 7, generation: 3 }));
        assert!(!earlier.is_of(ConnId { slot: 7, generation: 4 }));
        assert!(!earlier.is_of(ConnId { slot: 8, generation: 3 }));
    }
}
