//! Sending: at most one operation in flight per connection, and one flush a turn.
//!
//! What becomes ready while a send is in flight stays with the engine, is gathered there, and goes out with
//! the next one: under load many packets share a send without anybody having planned it.

use super::conn::{Marks, Phase};
use super::driver::Driver;
use super::op::{Kind, Op};
use super::ring_send::SendState;
use crate::engine::{ConnId, Engine, Output, TransportEnd};

/// Send states kept for the next send; more are only needed when more connections send at once.
const IDLE_SENDS_MAX: usize = 256;

impl<E: Engine> Driver<E> {
    /// Queues a connection for this turn's flush.
    pub(super) fn dirty_later(&mut self, conn: ConnId) {
        if let Some(record) = self.records.of(conn)
            && !record.marks.has(Marks::DIRTY)
        {
            record.marks.set(Marks::DIRTY);
            self.dirty.push(conn);
        }
    }

    /// One send for each connection that has output and no send in flight.
    pub(super) fn flush(&mut self) {
        while let Some(conn) = self.engine.poll_dirty() {
            self.dirty_later(conn);
        }
        let mut list = std::mem::take(&mut self.dirty);
        for conn in list.drain(..) {
            self.flush_one(conn);
        }
        self.dirty = list;
    }

    fn flush_one(&mut self, conn: ConnId) {
        let Some(record) = self.records.of(conn) else { return };
        record.marks.clear(Marks::DIRTY);
        if record.marks.has(Marks::SENDING) || matches!(record.phase, Phase::GivenAway | Phase::Closing) {
            return;
        }
        if record.marks.has(Marks::BROKEN) {
            self.throw_output_away(conn);
        } else if record.send.is_some() || self.load_output(conn) {
            self.submit_send(conn);
            return;
        }
        self.all_sent(conn);
    }

    /// Takes new output from the engine; false when there is none.
    fn load_output(&mut self, conn: ConnId) -> bool {
        let output = self.engine.take_output(conn);
        if output.is_empty() {
            self.recycle(output);
            return false;
        }
        let mut send = self.idle_sends.pop().unwrap_or_else(SendState::new);
        send.load(output);
        self.record(conn).send = Some(send);
        true
    }

    fn submit_send(&mut self, conn: ConnId) {
        let Driver { records, ring, .. } = self;
        let record = records.of(conn).expect("the caller looked it up");
        let send = record.send.as_mut().expect("the caller loaded it");
        record.marks.set(Marks::SENDING);
        let last_words = record.phase == Phase::Flushing;
        send.submit(ring, io_uring::types::Fixed(record.file), Op::of(Kind::Send, conn).encode());
        self.begin_op(conn);
        if last_words {
            self.close_politely(conn);
        }
    }

    pub(super) fn sent(&mut self, conn: ConnId, result: i32) {
        self.record(conn).marks.clear(Marks::SENDING);
        match result {
            bytes if bytes > 0 => self.kernel_took(conn, bytes as usize),
            // Tried again by the flush: nothing was lost.
            error if matches!(-error, libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => {}
            // A closing connection's last output did not get out in time.
            error if -error == libc::ECANCELED => self.record(conn).marks.set(Marks::BROKEN),
            error => self.transport_ended(conn, TransportEnd::Error(if error == 0 { libc::EPIPE } else { -error })),
        }
        self.dirty_later(conn);
    }

    fn kernel_took(&mut self, conn: ConnId, bytes: usize) {
        self.stats.sends.add(1);
        self.stats.bytes_out.add(bytes as u64);
        let record = self.record(conn);
        let send = record.send.as_mut().expect("it was in flight");
        send.advance(bytes);
        let (is_done, phase) = (send.is_done(), record.phase);
        if is_done {
            self.retire_send(conn);
        }
        if matches!(phase, Phase::Opening | Phase::Settled | Phase::Flushing) {
            self.engine.sent(self.now, conn, bytes);
        }
    }

    /// Gives the memory of a connection's send back: the output to the engine, the state to the next send.
    pub(super) fn retire_send(&mut self, conn: ConnId) {
        if let Some(mut send) = self.record(conn).send.take() {
            let output = send.unload();
            self.recycle(output);
            if self.idle_sends.len() < IDLE_SENDS_MAX {
                self.idle_sends.push(send);
            }
        }
    }

    /// Nobody will read it any more; the engine is not to hold on to it.
    fn throw_output_away(&mut self, conn: ConnId) {
        self.retire_send(conn);
        let output = self.engine.take_output(conn);
        self.recycle(output);
    }

    fn recycle(&mut self, output: Output) {
        if output.bytes.capacity() > 0 || output.large.capacity() > 0 {
            self.engine.recycle(output);
        }
    }
}
