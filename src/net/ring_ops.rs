//! The operations that point at no memory of ours, so that queueing them is safe.

use std::os::fd::RawFd;

use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{opcode, squeue};

use super::op::Op;
use super::ring::Ring;
use super::ring_buffers::GROUP;

impl Ring {
    fn queue(&mut self, entry: squeue::Entry, op: Op) {
        // SAFETY: none of the entries built in this file holds an address.
        unsafe { self.push(&entry.user_data(op.encode())) };
    }

    /// Accepts connections into free direct descriptors until cancelled.
    pub fn accept_multishot(&mut self, listener: RawFd, op: Op) {
        self.queue(opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(true).build(), op);
    }

    /// Receives once into a provided buffer.
    pub fn receive_once(&mut self, file: u32, op: Op) {
        let entry = opcode::Recv::new(Fixed(file), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        self.queue(entry.flags(squeue::Flags::BUFFER_SELECT), op);
    }

    /// Receives into provided buffers until the end, an error, a lack of buffers or a cancellation.
    pub fn receive_multishot(&mut self, file: u32, op: Op) {
        self.queue(opcode::RecvMulti::new(Fixed(file), GROUP).build(), op);
    }

    /// Cancels the operation of that `user_data`. It is found by a hash; by descriptor, the kernel would have
    /// to walk over every operation of the ring.
    pub fn cancel(&mut self, target: Op, op: Op) {
        self.queue(opcode::AsyncCancel::new(target.encode()).build(), op);
    }

    /// Shuts our side of a connection.
    pub fn shutdown_write(&mut self, file: u32, op: Op) {
        self.queue(opcode::Shutdown::new(Fixed(file), libc::SHUT_WR).build(), op);
    }

    /// Closes a direct descriptor.
    pub fn close(&mut self, file: u32, op: Op) {
        self.queue(opcode::Close::new(Fixed(file)).build(), op);
    }

    /// Puts a descriptor into another ring's table, where a completion with `there` and its index appears.
    pub fn give_away(&mut self, file: u32, ring: RawFd, there: Op, op: Op) {
        let slot = DestinationSlot::auto_target();
        self.queue(opcode::MsgRingSendFd::new(Fd(ring), Fixed(file), slot, there.encode()).build(), op);
    }

    /// Completes each time the descriptor becomes readable.
    pub fn poll_multishot(&mut self, fd: RawFd, op: Op) {
        self.queue(opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build(), op);
    }
}
