//! `poll(2)` on descriptors that belong to somebody else.

use std::os::fd::RawFd;

/// How many descriptors can be asked about at once.
const FDS_MAX: usize = 8;

/// True when one of the descriptors, at most 8, is readable now.
pub fn any_readable(fds: &[RawFd]) -> bool {
    assert!(fds.len() <= FDS_MAX, "an executor has three rings");
    let mut polls = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; FDS_MAX];
    polls.iter_mut().zip(fds).for_each(|(poll, fd)| poll.fd = *fd);
    // SAFETY: the array lives through the call, and its length is what is said. A descriptor that is not open
    // is reported as such in its `revents`.
    let ready = unsafe { libc::poll(polls.as_mut_ptr(), fds.len() as libc::nfds_t, 0) };
    ready > 0
}
