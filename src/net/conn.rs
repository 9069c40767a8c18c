//! The driver's record of each connection, at the index of the engine's slot.

use crate::engine::ConnId;
use crate::net::ring_send::SendState;

/// A connection as the driver sees it: which descriptor, and which operations the kernel holds.
#[derive(Default)]
pub struct Record {
    /// The send in flight, or the output that waits for its next send.
    pub send: Option<SendState>,
    /// The engine's generation of the slot.
    pub generation: u32,
    /// The direct descriptor: index into the ring's file table.
    pub file: u32,
    /// Bytes thrown away since the engine was done with it.
    pub discarded: u32,
    /// Operations of this connection whose last completion has not come yet.
    pub in_flight: u8,
    /// Where the connection is in its life.
    pub phase: Phase,
    /// What is true of it, as [`Marks`].
    pub marks: Marks,
}

const _: () = assert!(size_of::<Record>() <= 32);

/// A connection's life in the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// No connection in this slot.
    #[default]
    Free,
    /// Received one read at a time: its home shard is not known.
    Opening,
    /// Received persistently.
    Settled,
    /// On its way to another shard.
    GivenAway,
    /// The engine is done with it; its last output goes out.
    Flushing,
    /// All output is out and our side is shut; waits for the peer to close, so that no reset overtakes it.
    Lingering,
    /// The descriptor is being closed; waits for the last completion.
    Closing,
}

/// A few booleans in two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u16);

impl Marks {
    /// A receive is armed.
    pub const RECEIVING: Marks = Marks(1);
    /// A send is in flight.
    pub const SENDING: Marks = Marks(1 << 1);
    /// The engine asked not to read.
    pub const PAUSED: Marks = Marks(1 << 2);
    /// The peer's side ended, or the socket failed: nothing will be received any more.
    pub const ENDED: Marks = Marks(1 << 3);
    /// The socket failed: nothing can be sent any more.
    pub const BROKEN: Marks = Marks(1 << 4);
    /// A cancellation of the armed receive is in flight.
    pub const CANCELLING: Marks = Marks(1 << 5);
    /// Queued for this turn's flush.
    pub const DIRTY: Marks = Marks(1 << 6);
    /// Queued for a decision on its next receive, after this turn's effects.
    pub const REARM: Marks = Marks(1 << 7);
    /// Its last output must reach the peer: close by shutting down and lingering.
    pub const POLITE: Marks = Marks(1 << 8);
    /// A shutdown is in flight: the kernel looks its descriptor up only when a worker gets to it.
    pub const SHUTTING: Marks = Marks(1 << 9);

    /// True when all of these are set.
    pub fn has(self, marks: Marks) -> bool {
        self.0 & marks.0 == marks.0
    }

    /// Sets them.
    pub fn set(&mut self, marks: Marks) {
        self.0 |= marks.0;
    }

    /// Clears them.
    pub fn clear(&mut self, marks: Marks) {
        self.0 &= !marks.0;
    }
}

/// All records of a shard.
#[derive(Default)]
pub struct Records {
    records: Vec<Record>,
    live: usize,
}

impl Records {
    /// Begins a connection in a slot that must be free.
    pub fn begin(&mut self, conn: ConnId, file: u32, phase: Phase) {
        let slot = conn.slot as usize;
        if slot >= self.records.len() {
            self.records.resize_with(slot + 1, Record::default);
        }
        let record = &mut self.records[slot];
        assert!(record.phase == Phase::Free, "the engine reused slot {slot} before it was released");
        self.live += 1;
        *record = Record { generation: conn.generation, file, phase, ..Record::default() };
    }

    /// The record of a connection that has not been released.
    pub fn of(&mut self, conn: ConnId) -> Option<&mut Record> {
        let record = self.records.get_mut(conn.slot as usize)?;
        (record.generation == conn.generation && record.phase != Phase::Free).then_some(record)
    }

    /// The connection that is in a slot now.
    pub fn at(&self, slot: u32) -> Option<ConnId> {
        let record = self.records.get(slot as usize)?;
        (record.phase != Phase::Free).then_some(ConnId { slot, generation: record.generation })
    }

    /// Ends a connection: the slot is free.
    pub fn end(&mut self, conn: ConnId) {
        if let Some(record) = self.of(conn) {
            *record = Record::default();
            self.live -= 1;
        }
    }

    /// True when every slot is free.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Every connection there is.
    pub fn live(&self) -> impl Iterator<Item = ConnId> + '_ {
        (0..self.records.len() as u32).filter_map(|slot| self.at(slot))
    }

    /// Takes all unfinished sends out, wherever they are.
    pub fn take_sends(&mut self) -> Vec<SendState> {
        self.records.iter_mut().filter_map(|record| record.send.take()).collect()
    }
}
