//! The one send that a connection may have in flight, and the memory the kernel reads for it.

use std::mem;

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use super::ring::Ring;
use crate::engine::Output;

/// `UIO_MAXIOV` of Linux: what one `sendmsg(2)` takes.
const IOVECS_MAX: usize = 1024;

const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// An [`Output`] on its way into the kernel, which reads it, and the header that describes it, where they lie.
pub struct SendState {
    inner: Box<Inner>,
}

struct Inner {
    output: Output,
    /// Bytes of `output` that the kernel has taken.
    done: usize,
    len: usize,
    iovecs: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl SendState {
    /// A state that has nothing to send.
    pub fn new() -> SendState {
        // SAFETY: a message header of zeros is one without address, data and control message.
        let header = unsafe { mem::zeroed() };
        SendState { inner: Box::new(Inner { output: Output::default(), done: 0, len: 0, iovecs: Vec::new(), header }) }
    }

    /// Begins with a new output.
    pub fn load(&mut self, output: Output) {
        debug_assert!(self.is_done());
        self.inner.len = output.len();
        self.inner.done = 0;
        self.inner.output = output;
    }

    /// Takes note of what the kernel took.
    pub fn advance(&mut self, bytes: usize) {
        self.inner.done += bytes;
        assert!(self.inner.done <= self.inner.len, "the kernel cannot have sent more than it was given");
    }

    /// True when all is sent.
    pub fn is_done(&self) -> bool {
        self.inner.done == self.inner.len
    }

    /// Takes the output out, sent or not.
    pub fn unload(&mut self) -> Output {
        self.inner.done = 0;
        self.inner.len = 0;
        self.inner.iovecs.clear();
        mem::take(&mut self.inner.output)
    }

    /// Queues a send of what is left. The caller must not call any other method, nor drop the state, until
    /// the operation has completed; [`super::driver::Driver`] keeps to that by its `sending` mark.
    pub fn submit(&mut self, ring: &mut Ring, file: Fixed, user_data: u64) {
        let inner = &mut *self.inner;
        let entry = if inner.output.large.is_empty() { inner.plain(file) } else { inner.vectored(file) };
        // SAFETY: the entry points into the heap memory of `output` or, for a vectored send, at `header` and
        // `iovecs`, which point there too. All of it is owned by the box, whose content neither moves nor
        // changes until the completion (see above), and which is leaked when the ring goes before that.
        unsafe { ring.push(&entry.user_data(user_data)) };
    }
}

impl Inner {
    fn plain(&self, file: Fixed) -> squeue::Entry {
        let rest = &self.output.bytes[self.done..];
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        opcode::Send::new(file, rest.as_ptr(), len).flags(FLAGS).build()
    }

    fn vectored(&mut self, file: Fixed) -> squeue::Entry {
        self.fill_iovecs();
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len() as _;
        opcode::SendMsg::new(file, &self.header).flags(FLAGS as u32).build()
    }

    /// Points at everything after the first `done` bytes on the wire, as far as the kernel takes it at once.
    fn fill_iovecs(&mut self) {
        self.iovecs.clear();
        let mut skip = self.done;
        let mut from = 0;
        for large in &self.output.large {
            push_rest(&mut self.iovecs, &mut skip, &self.output.bytes[from..large.at]);
            push_rest(&mut self.iovecs, &mut skip, &large.payload);
            from = large.at;
            if self.iovecs.len() >= IOVECS_MAX {
                break;
            }
        }
        push_rest(&mut self.iovecs, &mut skip, &self.output.bytes[from..]);
        self.iovecs.truncate(IOVECS_MAX);
    }
}

fn push_rest(iovecs: &mut Vec<libc::iovec>, skip: &mut usize, part: &[u8]) {
    let rest = &part[part.len().min(*skip)..];
    *skip -= part.len() - rest.len();
    if !rest.is_empty() {
        iovecs.push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::Large;

    fn on_the_wire(state: &SendState) -> Vec<u8> {
        // SAFETY: the vectors were just filled from the state's output, which is borrowed.
        let slices =
            state.inner.iovecs.iter().map(|v| unsafe { std::slice::from_raw_parts(v.iov_base.cast(), v.iov_len) });
        slices.collect::<Vec<&[u8]>>().concat()
    }

    #[test]
    fn a_send_resumed_at_any_byte_continues_exactly_there() {
        let large = |at, payload: &'static [u8]| Large { at, payload: Bytes::from_static(payload) };
        let whole = b"headPAYLOADmidMOREENDING".to_vec();
        for done in 0..whole.len() {
            let mut state = SendState::new();
            state.load(Output {
                bytes: b"headmid".to_vec(),
                large: vec![large(4, b"PAYLOAD"), large(7, b"MORE"), large(7, b"ENDING")],
            });
            state.advance(done);
            state.inner.fill_iovecs();
            assert_eq!(on_the_wire(&state), whole[done..], "resumed after {done} bytes");
        }
    }

    #[test]
    fn more_parts_than_the_kernel_takes_are_cut_at_its_limit() {
        let mut output = Output::default();
        for _ in 0..IOVECS_MAX {
            output.bytes.push(b'h');
            output.large.push(Large { at: output.bytes.len(), payload: Bytes::from_static(b"pp") });
        }
        let mut state = SendState::new();
        state.load(output);
        state.inner.fill_iovecs();
        assert_eq!(state.inner.iovecs.len(), IOVECS_MAX);
        assert_eq!(on_the_wire(&state), b"hpp".repeat(IOVECS_MAX / 2));
    }
}
