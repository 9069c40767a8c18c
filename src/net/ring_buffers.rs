//! The ring of provided buffers that all connections of a shard receive into.
//!
//! An idle connection owns no buffer: the kernel takes one when bytes arrive, the driver hands it back in the
//! same turn. See `io_uring_register_buf_ring(3)`.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::ring::Ring;

/// The one buffer group of a ring.
pub const GROUP: u16 = 0;

/// Buffers of equal size, and the queue that provides them to the kernel.
///
/// It must not be dropped before the [`Ring`] it is registered with.
pub struct RingBuffers {
    entries: Mapping,
    memory: Mapping,
    size: u32,
    mask: u16,
    /// Buffers provided since the start, in wrapping arithmetic.
    tail: u16,
}

impl RingBuffers {
    /// Maps `count` buffers (a power of two, at most 32,768) of `size` bytes, registers and provides them.
    /// Their memory is only used once bytes arrived in them.
    ///
    /// # Errors
    /// Out of memory, or those of `io_uring_register(2)`.
    pub fn new(ring: &Ring, count: u16, size: u32) -> io::Result<RingBuffers> {
        assert!(count.is_power_of_two() && count <= 1 << 15 && size > 0, "sizes are checked by the configuration");
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * size as usize)?;
        let address = entries.start.as_ptr() as u64;
        // SAFETY: the mapping is page aligned, zeroed, large enough, and lives until the ring is gone.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        let mut buffers = RingBuffers { entries, memory, size, mask: count - 1, tail: 0 };
        (0..count).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer that the kernel filled and that was not given back yet.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id <= self.mask && len <= self.size as usize, "the kernel names a buffer and length of ours");
        let offset = usize::from(id) * self.size as usize;
        // SAFETY: in bounds of the mapping by the assertion; it is initialised (zeroed, then written by the
        // kernel), and the kernel leaves it alone until it is provided again, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.start.as_ptr().add(offset), len) }
    }

    /// Queues a buffer to be provided again by the next [`publish`](Self::publish).
    pub fn give_back(&mut self, id: u16) {
        debug_assert!(id <= self.mask);
        let address = self.memory.start.as_ptr() as u64 + u64::from(id) * u64::from(self.size);
        let index = usize::from(self.tail & self.mask);
        // SAFETY: the index is below the number of entries; the kernel does not look at this entry before
        // the tail passed it, so nobody else has a reference.
        let entry = unsafe { &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(index) };
        entry.set_addr(address);
        entry.set_len(self.size);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes all buffers that were given back visible to the kernel.
    pub fn publish(&mut self) {
        // SAFETY: the start of the mapping is the first entry, whose reserved field is the tail. It is
        // aligned for u16, and from here on only accessed atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.start.as_ptr().cast()).cast::<AtomicU16>() };
        // Release: the kernel sees the entries when it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }
}

/// Anonymous memory, page aligned and zeroed, that takes up room only where it was touched.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh private mapping touches no memory that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: NonNull::new(start.cast()).expect("a mapping is never at address zero"), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped, and nobody refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
