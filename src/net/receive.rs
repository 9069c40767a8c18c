//! Receiving: one read at a time until the connection is at home, persistently from then on.
//!
//! Bytes are handed to the engine where the kernel put them, and the buffer goes back in the same turn. A
//! receive can end in many ways (one shot, no buffers, cancelled, the end, an error); each of them only marks
//! the connection here, and [`Driver::rearm_receives`] decides once, after the turn's effects, what is next.

use super::conn::{Marks, Phase};
use super::driver::Driver;
use super::op::{Kind, Op};
use super::ring::Completion;
use crate::engine::{ConnId, Engine, TransportEnd};

/// Bytes a peer may send after the engine was done with it before it is cut off.
const DISCARD_MAX: u32 = 1 << 20;

impl<E: Engine> Driver<E> {
    /// Arms the receive that the connection's phase asks for, unless one is armed or none is wanted.
    pub(super) fn receive_next(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if record.marks.has(Marks::RECEIVING) || record.marks.has(Marks::ENDED) {
            return;
        }
        let file = record.file;
        let op = Op::of(Kind::Receive, conn);
        match record.phase {
            Phase::Opening if !record.marks.has(Marks::PAUSED) => self.ring.receive_once(file, op),
            Phase::Settled if !record.marks.has(Marks::PAUSED) => self.ring.receive_multishot(file, op),
            Phase::Lingering => self.ring.receive_multishot(file, op),
            _ => return,
        }
        self.record(conn).marks.set(Marks::RECEIVING);
        self.begin_op(conn);
    }

    pub(super) fn received(&mut self, conn: ConnId, completion: Completion) {
        if !io_uring::cqueue::more(completion.flags) {
            self.record(conn).marks.clear(Marks::RECEIVING);
            self.rearm_later(conn);
        }
        match completion.result {
            length if length > 0 => self.bytes_came(conn, completion, length as usize),
            0 => self.transport_ended(conn, TransportEnd::EndOfStream),
            error => self.receive_failed(conn, -error),
        }
        self.drop_buffer(completion);
    }

    fn bytes_came(&mut self, conn: ConnId, completion: Completion, length: usize) {
        let id = io_uring::cqueue::buffer_select(completion.flags).expect("bytes come in a provided buffer");
        self.stats.receives.add(1);
        self.stats.bytes_in.add(length as u64);
        let record = self.records.of(conn).expect("the caller looked it up");
        match record.phase {
            Phase::Opening | Phase::Settled => {
                self.engine.receive(self.now, conn, self.buffers.filled(id, length));
            }
            Phase::Flushing | Phase::Lingering => {
                record.discarded = record.discarded.saturating_add(length as u32);
                if record.discarded > DISCARD_MAX {
                    self.begin_closing(conn);
                }
            }
            Phase::Free | Phase::GivenAway | Phase::Closing => {}
        }
    }

    /// Queues the buffer of a completion, if it has one, to be provided again.
    pub(super) fn drop_buffer(&mut self, completion: Completion) {
        if let Some(id) = io_uring::cqueue::buffer_select(completion.flags) {
            self.buffers.give_back(id);
        }
    }

    fn receive_failed(&mut self, conn: ConnId, errno: i32) {
        match errno {
            // All buffers were filled by this turn's completions. They are provided again before the receive
            // is armed again, so this cannot spin: each round moves what they hold.
            libc::ENOBUFS => self.stats.no_buffers.add(1),
            // Asked for by a pause or a close; when neither holds any more, the receive is armed again.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            _ => self.transport_ended(conn, TransportEnd::Error(errno)),
        }
    }

    /// The peer's side is over, or the whole connection: tells the engine of each once.
    pub(super) fn transport_ended(&mut self, conn: ConnId, end: TransportEnd) {
        let record = self.record(conn);
        let news = if end == TransportEnd::EndOfStream { Marks::ENDED } else { Marks::BROKEN };
        let first = !record.marks.has(news);
        record.marks.set(news);
        record.marks.set(Marks::ENDED);
        match record.phase {
            Phase::Opening | Phase::Settled if first => self.engine.disconnected(self.now, conn, end),
            Phase::Flushing => self.dirty_later(conn),
            Phase::Lingering => self.begin_closing(conn),
            _ => {}
        }
    }

    fn rearm_later(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if !record.marks.has(Marks::REARM) {
            record.marks.set(Marks::REARM);
            self.rearm.push(conn);
        }
    }

    /// Arms what the receives that ended in this turn are followed by.
    pub(super) fn rearm_receives(&mut self) {
        let mut list = std::mem::take(&mut self.rearm);
        for conn in list.drain(..) {
            if let Some(record) = self.records.of(conn) {
                record.marks.clear(Marks::REARM);
                self.receive_next(conn);
            }
        }
        self.rearm = list;
    }

    pub(super) fn settle(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if record.phase == Phase::Opening {
            record.phase = Phase::Settled;
            self.receive_next(conn);
        }
    }

    pub(super) fn pause_receive(&mut self, conn: ConnId) {
        if let Some(record) = self.records.of(conn) {
            record.marks.set(Marks::PAUSED);
            if !record.marks.has(Marks::CANCELLING) {
                self.cancel_receive(conn);
            }
        }
    }

    pub(super) fn resume_receive(&mut self, conn: ConnId) {
        if let Some(record) = self.records.of(conn) {
            record.marks.clear(Marks::PAUSED);
            // A cancelled receive that is still there is followed by another when it ends.
            self.receive_next(conn);
        }
    }

    pub(super) fn cancel_receive(&mut self, conn: ConnId) {
        let record = self.record(conn);
        if record.marks.has(Marks::RECEIVING) {
            record.marks.set(Marks::CANCELLING);
            self.ring.cancel(Op::of(Kind::Receive, conn), Op::of(Kind::Cancel, conn));
            self.begin_op(conn);
        }
    }

    /// Counts an operation whose completion the connection must wait for.
    pub(super) fn begin_op(&mut self, conn: ConnId) {
        self.record(conn).in_flight += 1;
        self.stats.in_flight.add(1);
    }

    /// The last completion of an operation was reaped.
    pub(super) fn end_op(&mut self, conn: ConnId) {
        self.record(conn).in_flight -= 1;
        self.stats.in_flight.sub(1);
    }
}
