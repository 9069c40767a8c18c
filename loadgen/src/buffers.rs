//! The provided-buffer ring: memory that the kernel picks from when bytes arrive, shared by all connections,
//! so that a connection that is silent owns none.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The one buffer group of a ring.
pub const GROUP: u16 = 0;
/// How many buffers there are; a power of two. One turn of a fan-out to 1,000 subscribers fits twice.
const COUNT: u16 = 2048;
/// Bytes in each: a window of small messages of one publisher.
const SIZE: usize = 4096;
const PAGE: usize = 4096;

/// Buffers and the ring of their descriptions, which the kernel reads.
pub struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

impl Buffers {
    /// Allocates the buffers and registers them with a ring.
    ///
    /// # Safety
    ///
    /// The caller must drop the ring, with no receive left in it, before the result.
    ///
    /// # Errors
    ///
    /// Those of `IORING_REGISTER_PBUF_RING` (Linux 5.19).
    pub unsafe fn register(ring: &IoUring) -> io::Result<Self> {
        let mut buffers =
            Self { entries: allocate(entries_layout()).cast(), memory: allocate(memory_layout()), tail: 0 };
        for id in 0..COUNT {
            buffers.give_back(id);
        }
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: `entries` has room for COUNT entries, is page-aligned, and outlives the ring, as the caller promises.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, COUNT, GROUP, 0) }?;
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer that a completion named.
    pub fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < COUNT && len <= SIZE);
        // SAFETY: in bounds of `memory` by the assertion, initialised (zeroed at first), and the kernel does not
        // write to a buffer between its completion and `give_back`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(usize::from(id) * SIZE), len) }
    }

    /// Lets the kernel fill a buffer again.
    pub fn give_back(&mut self, id: u16) {
        assert!(id < COUNT);
        let base = self.entries.as_ptr();
        // SAFETY: the slot is within the COUNT entries; the kernel reads entries only up to the published tail,
        // and this one is beyond it. `tail` is the field that the ABI lays over the first entry's `resv`.
        unsafe {
            let entry = &mut *base.add(usize::from(self.tail & (COUNT - 1)));
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * SIZE) as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            (*BufRingEntry::tail(base).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: both were allocated with these layouts, and by the contract of `register` the kernel is done.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout());
            dealloc(self.memory.as_ptr(), memory_layout());
        }
    }
}

fn entries_layout() -> Layout {
    layout(usize::from(COUNT) * size_of::<BufRingEntry>())
}

fn memory_layout() -> Layout {
    layout(usize::from(COUNT) * SIZE)
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, PAGE).expect("a constant size and a page's alignment")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: both layouts have a size above zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
