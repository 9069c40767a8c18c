//! Asking the kernel about a socket that has no descriptor outside the ring: a socket command, instead of
//! `getpeername(2)`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use io_uring::types::{Fd, Fixed};
use io_uring::{IoUring, opcode, squeue};
use socket2::{Domain, Socket, Type};

use super::op::Op;
use super::ring::Ring;

/// `SOCKET_URING_OP_GETSOCKOPT` (Linux 6.7).
const GETSOCKOPT: u32 = 2;

/// Where `cmd_op` lies in a submission queue entry, in bytes (`struct io_uring_sqe`).
const CMD_OP_AT: usize = 8;

/// Bytes of `struct sockaddr_in` and `struct sockaddr_in6`.
const NAME4_BYTES: u32 = 16;
const NAME6_BYTES: u32 = 28;

#[derive(Default)]
#[repr(C, align(8))]
struct Name([u8; NAME6_BYTES as usize]);

/// The peer's name of one socket, while the kernel writes it.
#[derive(Default)]
pub struct PeerName(Box<Name>);

/// How many bytes the names of a listener's peers have; the kernel takes no other number.
pub fn name_bytes(local: SocketAddr) -> u32 {
    if local.is_ipv4() { NAME4_BYTES } else { NAME6_BYTES }
}

impl PeerName {
    /// Queues the question. The caller keeps this until the operation has completed, and leaks it should the ring go
    /// before that.
    pub fn ask(&mut self, ring: &mut Ring, file: u32, bytes: u32, op: Op) {
        let name: *mut Name = &mut *self.0;
        let entry =
            get_option(opcode::SetSockOpt::new(Fixed(file), SOL_SOCKET, SO_PEERNAME, name.cast_const().cast(), bytes));
        // SAFETY: the entry points at the content of the box, which is large enough for the longer of the two names and
        // stays where it is until the completion (see above); nobody else looks at it meanwhile.
        unsafe { ring.push(&entry.user_data(op.encode())) };
    }

    /// What the kernel has written.
    pub fn address(&self) -> Option<SocketAddr> {
        let bytes = &self.0.0;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ip = match i32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
            libc::AF_INET => IpAddr::from(Ipv4Addr::from(*bytes[4..].first_chunk::<4>()?)),
            libc::AF_INET6 => IpAddr::from(Ipv6Addr::from(*bytes[8..].first_chunk::<16>()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }
}

const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
const SO_PEERNAME: u32 = libc::SO_PEERNAME as u32;
const SO_TYPE: u32 = libc::SO_TYPE as u32;

/// The crate knows how to set an option only; to get one is the same entry under another number.
fn get_option(set: opcode::SetSockOpt) -> squeue::Entry {
    const _: () = assert!(size_of::<squeue::Entry>() == 64);
    let mut entry = set.build();
    let at: *mut squeue::Entry = &mut entry;
    // SAFETY: an entry is `repr(C)` around the kernel's struct of 64 bytes, in which the command's number is a `u32` at
    // that offset, so the write is inside of it and aligned.
    unsafe { at.cast::<u8>().add(CMD_OP_AT).cast::<u32>().write(GETSOCKOPT) };
    entry
}

/// Whether this kernel answers.
pub fn is_answered(ring: &mut IoUring) -> bool {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::STREAM, None) else { return false };
    let mut kind = 0i32;
    let at: *mut i32 = &mut kind;
    let fd = Fd(std::os::fd::AsRawFd::as_raw_fd(&socket));
    let entry = get_option(opcode::SetSockOpt::new(fd, SOL_SOCKET, SO_TYPE, at.cast_const().cast(), 4));
    // SAFETY: `kind` lives until the operation has completed, which is waited for right here.
    let queued = unsafe { ring.submission().push(&entry) }.is_ok();
    queued
        && ring.submit_and_wait(1).is_ok()
        && ring.completion().next().is_some_and(|answer| answer.result() == 4)
        && kind == libc::SOCK_STREAM
}
