//! The system's allocator with a tally: what allocates, and what memory something takes, is told exactly and by any
//! machine. Whoever wants it includes this file and makes [`Counting`] the global allocator.

#![allow(dead_code, reason = "each bench uses a part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// See the module's description. Each thread has a tally of its own.
pub struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// How many allocations this thread has made.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that this thread has allocated and not freed, rounded as glibc does.
pub fn bytes() -> usize {
    BYTES.get()
}

/// glibc's chunks: 8 bytes of its own, a multiple of 16, at least 32.
fn chunk(size: usize) -> usize {
    ((size + 8).next_multiple_of(16)).max(32)
}

fn took(size: usize) {
    // Both are gone while the thread ends; nothing is measured then. What another thread allocated wraps around.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_add(chunk(size))));
}

fn gave(size: usize) {
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get().wrapping_sub(chunk(size))));
}

// SAFETY: every call goes to `System` unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise, here and below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        gave(layout.size());
        took(size);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
