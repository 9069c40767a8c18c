//! Counters of a shard's driver: written by its thread alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more. Only the owner's thread may call this: it is a load and a store, not an atomic addition.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a level. Only the owner's thread may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value as last written.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a driver counts.
#[derive(Debug, Default)]
pub struct DriverStats {
    /// Sockets accepted.
    pub accepts: Counter,
    /// Accepts that failed, and those of the kernel's refusals that end a multishot accept.
    pub accept_errors: Counter,
    /// Sockets that the engine refused.
    pub refused: Counter,
    /// Sockets closed again, and their slots released.
    pub closed: Counter,
    /// Connections given to another shard.
    pub handed_over: Counter,
    /// Connections taken from another shard.
    pub adopted: Counter,
    /// Connections lost on their way to another shard, because its table of descriptors was full.
    pub hand_over_errors: Counter,
    /// Completed receives that brought bytes.
    pub receives: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Completed sends.
    pub sends: Counter,
    /// Bytes sent.
    pub bytes_out: Counter,
    /// Receives that found no provided buffer, and were armed again.
    pub no_buffers: Counter,
    /// Turns in which the kernel held back completions because the queue was full.
    pub overflows: Counter,
    /// Connections whose last output did not get out in time.
    pub flush_timeouts: Counter,
    /// Messages sent to other shards.
    pub mesh_sent: Counter,
    /// Messages received from other shards.
    pub mesh_received: Counter,
    /// Wake-ups sent to parked shards.
    pub wakes: Counter,
    /// Completions of an earlier incarnation of a slot: always 0 unless the driver is wrong.
    pub stale: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Operations that the kernel holds for connections now.
    pub in_flight: Counter,
    /// Descriptors of the ring's table in use now.
    pub descriptors: Counter,
}
