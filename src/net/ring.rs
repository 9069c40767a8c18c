//! The `io_uring` of one shard: setting it up, queueing entries, entering the kernel, reaping.
//!
//! Nothing here knows what a connection is. With `ring_buffers` and `ring_send`, which own
//! the memory that the kernel reads and writes, this is the only room of the driver with `unsafe` in it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, squeue};

use super::probe::Features;

/// One reaped completion.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The operation it ends or continues, as queued.
    pub user_data: u64,
    /// The result: as of the system call, or a negative errno.
    pub result: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

/// How large the two queues are.
#[derive(Clone, Copy, Debug)]
pub struct QueueSizes {
    /// Submission queue entries; a power of two.
    pub submission: u32,
    /// Completion queue entries; a power of two, at least as many.
    pub completion: u32,
}

/// A ring that only the thread that made it may use (`IORING_SETUP_SINGLE_ISSUER`).
pub struct Ring {
    /// Borrows `ring` for as long as this struct lives. It carries the registered ring descriptor, which the
    /// crate keeps in the submitter; so one submitter must serve for all enters.
    submitter: Option<Submitter<'static>>,
    /// From `Box::into_raw`; freed in `drop`.
    ring: *mut IoUring,
    enter_flags: EnterFlags,
}

/// Held while a ring is made or unmade in this process: whoever must find the descriptors of rings that a
/// library made compares `/proc/self/fd` before and after.
pub fn setup_lock() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ring {
    /// Sets up a ring with what [`Features`] says this kernel has.
    ///
    /// # Errors
    /// Those of `io_uring_setup(2)`.
    pub fn new(sizes: QueueSizes, features: &Features) -> io::Result<Ring> {
        let _lock = setup_lock();
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(sizes.completion)
            .dontfork();
        if features.no_sqarray {
            builder.setup_no_sqarray();
        }
        let ring = Box::into_raw(Box::new(builder.build(sizes.submission)?));
        // SAFETY: `ring` was just leaked, so it is valid and stays where it is until `drop`, which takes the
        // submitter first; `IoUring::submitter` needs only a shared borrow, and so do all other uses below.
        let mut submitter = unsafe { &*ring }.submitter();
        let registered = features.registered_ring && submitter.register_ring_fd().is_ok();
        let mut enter_flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if features.no_iowait {
            enter_flags |= EnterFlags::NO_IOWAIT;
        }
        tracing::trace!(registered, ?enter_flags, "ring is set up");
        Ok(Ring { submitter: Some(submitter), ring, enter_flags })
    }

    /// Registrations and their like.
    pub fn submitter(&self) -> &Submitter<'static> {
        self.submitter.as_ref().expect("taken only in drop")
    }

    /// Queues an entry; enters the kernel first when the submission queue is full.
    ///
    /// # Safety
    /// Everything that the entry points at must stay valid, and unmoved, until its last completion was reaped
    /// or the ring is gone.
    pub unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the pointer is valid until `drop`; this thread has the only view of the submission queue,
        // as `self` is borrowed exclusively and no queue outlives the statement it was made in.
        while unsafe { (*self.ring).submission_shared().push(entry) }.is_err() {
            // What makes the kernel take nothing for now does not last: what overflows the completion queue is
            // kept by it (IORING_FEAT_NODROP). Any other error means that the ring is unusable.
            self.submit().unwrap_or_else(|error| panic!("io_uring_enter failed: {error}"));
        }
    }

    /// Hands all queued entries to the kernel, and runs what it has deferred, without waiting.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`.
    pub fn submit(&mut self) -> io::Result<()> {
        self.enter(0, None)
    }

    /// Hands all queued entries to the kernel and waits until there is a completion or the time is over.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`, except for `ETIME` and `EINTR`, which are ways to wake up.
    pub fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.enter(1, timeout)
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) -> io::Result<()> {
        // SAFETY: as in `push`.
        let queued = unsafe { (*self.ring).submission_shared().len() } as u32;
        let timespec: Timespec = timeout.unwrap_or_default().into();
        let mut args = SubmitArgs::new();
        if timeout.is_some() {
            args = args.timespec(&timespec);
        }
        let flags = self.enter_flags.bits();
        // SAFETY: `args` is what EXT_ARG asks for, and it and its timespec live through the call; whoever
        // queued the entries promised in `push` that what they point at is valid.
        match unsafe { self.submitter().enter(queued, want, flags, Some(&args)) } {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // EBUSY and EAGAIN: the completion queue must be reaped, or memory is short; the entries
                // that were not taken are still queued and go with the next enter.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Moves every completion there is into `into`. Returns whether the kernel holds back more because the
    /// queue overflowed; it hands those over in the next enter.
    pub fn reap(&mut self, into: &mut Vec<Completion>) -> bool {
        // SAFETY: as in `push`, for the completion queue.
        let queue = unsafe { (*self.ring).completion_shared() };
        into.extend(queue.map(|entry| Completion {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        // SAFETY: as in `push`.
        unsafe { (*self.ring).submission_shared().cq_overflow() }
    }

    /// True when entries wait for the next enter.
    pub fn has_queued(&self) -> bool {
        // SAFETY: as in `push`.
        !unsafe { (*self.ring).submission_shared().is_empty() }
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the pointer is valid until `drop`.
        unsafe { (*self.ring).as_raw_fd() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.submitter = None;
        let _lock = setup_lock();
        // SAFETY: `ring` came from `Box::into_raw`, and its only borrower is gone.
        drop(unsafe { Box::from_raw(self.ring) });
    }
}
