//! Ending connections, and the whole shard: in order, and for sure.
//!
//! The engine is done with a connection: its last output goes out, then our side is shut, then the peer
//! closes; reading goes on so that no reset of ours can overtake what the peer has still to read. Each of
//! these may take as long as `close_timeout` allows, all of them together. Then the descriptor is closed, and
//! when the kernel holds no operation any more, and only then, the engine may use the slot again.

use super::arrive::Arrival;
use super::conn::{Marks, Phase};
use super::driver::{Driver, Stopping};
use super::op::{Kind, Op};
use crate::engine::{ConnId, Engine, Time};

/// How long a stop waits for peers to close their side once they have been told.
const STOP_LINGER: std::time::Duration = std::time::Duration::from_millis(250);

/// How long closing by force may take before a stop leaves the rest to the kernel.
const FORCED_STOP: std::time::Duration = std::time::Duration::from_secs(1);

impl<E: Engine> Driver<E> {
    /// The engine is done with a connection.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(record) = self.records.of(conn) else { return };
        if matches!(record.phase, Phase::Opening | Phase::Settled) {
            record.phase = Phase::Flushing;
            if record.marks.has(Marks::SENDING) {
                self.close_politely(conn);
            }
            self.dirty_later(conn);
        }
    }

    /// Something is on its way to the peer that it should get to read.
    pub(super) fn close_politely(&mut self, conn: ConnId) {
        let deadline = self.now.after(self.config.close_timeout);
        let record = self.record(conn);
        if !record.marks.has(Marks::POLITE) {
            record.marks.set(Marks::POLITE);
            self.deadlines.push_back((deadline, conn));
        }
    }

    /// The flush found nothing left to send, or nobody to send it to.
    pub(super) fn all_sent(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if record.phase != Phase::Flushing {
            return;
        }
        let hurried = matches!(self.stopping, Stopping::Until(_) | Stopping::Forced(_));
        let record = self.record(conn);
        if hurried || record.marks.has(Marks::ENDED) || !record.marks.has(Marks::POLITE) {
            self.begin_closing(conn);
            return;
        }
        record.phase = Phase::Lingering;
        record.marks.set(Marks::SHUTTING);
        let file = record.file;
        self.ring.shutdown_write(file, Op::of(Kind::Shutdown, conn));
        self.begin_op(conn);
        self.receive_next(conn);
    }

    /// Ends the patience with connections that were closed long ago.
    pub(super) fn end_patience(&mut self) {
        while let Some((deadline, conn)) = self.deadlines.front().copied() {
            if deadline > self.now {
                break;
            }
            self.deadlines.pop_front();
            if let Some(record) = self.records.of(conn) {
                if record.phase == Phase::Flushing {
                    self.stats.flush_timeouts.add(1);
                }
                self.begin_closing(conn);
            }
        }
    }

    /// Closes the descriptor, whatever is in flight.
    pub(super) fn begin_closing(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if record.phase == Phase::Closing {
            return;
        }
        record.phase = Phase::Closing;
        let (sending, shutting) = (record.marks.has(Marks::SENDING), record.marks.has(Marks::SHUTTING));
        self.cancel_receive(conn);
        if sending {
            self.ring.cancel(Op::of(Kind::Send, conn), Op::of(Kind::Cancel, conn));
            self.begin_op(conn);
        }
        if !shutting {
            self.close_descriptor(conn);
        }
    }

    /// A shutdown runs in a worker thread of the kernel, which looks the descriptor up when it gets to it. Closed
    /// before, its number may be another connection's by then, and that one would be shut down: so it is closed after.
    pub(super) fn shut(&mut self, conn: ConnId) {
        let record = self.record(conn);
        record.marks.clear(Marks::SHUTTING);
        if record.phase == Phase::Closing {
            self.close_descriptor(conn);
        }
    }

    fn close_descriptor(&mut self, conn: ConnId) {
        let file = self.record(conn).file;
        self.ring.close(file, Op::of(Kind::Close, conn));
        self.begin_op(conn);
    }

    /// Lets the engine have the slot back when the kernel holds nothing of the connection any more.
    pub(super) fn release_if_done(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if record.phase == Phase::Closing && record.in_flight == 0 {
            self.retire_send(conn);
            self.records.end(conn);
            self.stats.closed.add(1);
            self.engine.release(conn);
        }
    }

    /// Goes on with a stop that was asked for.
    pub(super) fn follow_stop(&mut self) {
        match self.stopping {
            Stopping::No if self.port.stop_requested() => {
                self.cancel_accepts();
                self.engine.stop(self.now);
                self.stopping = Stopping::Polite(self.now.after(STOP_LINGER.min(self.config.stop_timeout)));
            }
            Stopping::Polite(_) | Stopping::Until(_) | Stopping::Forced(_) if self.all_gone() => self.drained(),
            Stopping::Polite(deadline) if deadline <= self.now => self.end_politeness(),
            Stopping::Until(deadline) if deadline <= self.now => self.force_all(),
            Stopping::Forced(deadline) if deadline <= self.now => self.drained(),
            _ => {}
        }
    }

    /// Whoever has been told everything has had the time to read it; the others are flushed a while longer.
    fn end_politeness(&mut self) {
        let left = self.config.stop_timeout.saturating_sub(STOP_LINGER);
        self.stopping = Stopping::Until(self.now.after(left));
        let live: Vec<ConnId> = self.records.live().collect();
        for conn in live {
            if self.record(conn).phase == Phase::Lingering {
                self.begin_closing(conn);
            }
        }
    }

    fn all_gone(&self) -> bool {
        self.accepts_ended()
            && self.asking.is_empty()
            && self.records.is_empty()
            && self.arrivals.is_empty()
            && self.engine.connections() == 0
    }

    fn drained(&mut self) {
        self.stopping = Stopping::Drained;
        self.port.drained();
    }

    fn force_all(&mut self) {
        let live: Vec<ConnId> = self.records.live().collect();
        live.into_iter().for_each(|conn| self.begin_closing(conn));
        for (_, arrival) in std::mem::take(&mut self.arrivals) {
            if let Arrival::File(file) = arrival {
                self.ring.close(file, Op::bare(Kind::CloseUnowned, 0));
            }
        }
        let deadline: Time = self.now.after(FORCED_STOP);
        self.stopping = Stopping::Forced(deadline);
    }
}
