//! An eventfd as a file that glommio reads.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use glommio::io::BufferedFile;

/// Gives an eventfd to glommio.
pub fn from_eventfd(eventfd: OwnedFd) -> BufferedFile {
    // SAFETY: the descriptor is open and owned, and its ownership goes into the file.
    unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) }
}
