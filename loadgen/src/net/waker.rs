//! Waking a thread that waits in its ring.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;

/// Ends the wait of [`Net::turn`](super::Net::turn), from any thread: the current one, or else the next.
#[derive(Clone, Debug)]
pub struct Waker {
    eventfd: Arc<File>,
}

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made, and nobody else has it.
        Ok(Self { eventfd: Arc::new(unsafe { File::from_raw_fd(fd) }) })
    }

    /// Wakes the thread.
    pub fn wake(&self) {
        // Fails only when the counter, which nobody reads, is at its limit; no run lasts that long.
        let _ = (&*self.eventfd).write(&1u64.to_ne_bytes());
    }

    pub(super) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }
}
