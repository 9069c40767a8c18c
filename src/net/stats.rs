//! Counters of a shard's driver: written by its thread alone, read by anyone.

use crate::counter::counters;

counters! {
    /// What a driver counts.
    DriverStats {
        /// Sockets accepted.
        accepts,
        /// Accepts that failed, and those of the kernel's refusals that end a multishot accept.
        accept_errors,
        /// Sockets that the engine refused.
        refused,
        /// Sockets closed again, and their slots released.
        closed,
        /// Connections given to another shard.
        handed_over,
        /// Connections taken from another shard.
        adopted,
        /// Connections lost on their way to another shard, because its table of descriptors was full.
        hand_over_errors,
        /// Completed receives that brought bytes.
        receives,
        /// Bytes received.
        bytes_in,
        /// Completed sends.
        sends,
        /// Bytes sent.
        bytes_out,
        /// Receives that found no provided buffer, and were armed again.
        no_buffers,
        /// Turns in which the kernel held back completions because the queue was full.
        overflows,
        /// Connections whose last output did not get out in time.
        flush_timeouts,
        /// Notes sent to other shards: a parcel of many small messages is one.
        mesh_sent,
        /// Notes received from other shards, counted likewise.
        mesh_received,
        /// Wake-ups sent to parked shards.
        wakes,
        /// Completions of an earlier incarnation of a slot: always 0 unless the driver is wrong.
        stale,
        /// Turns of the loop.
        turns,
        /// Operations that the kernel holds for connections now.
        in_flight,
        /// Descriptors of the ring's table in use now.
        descriptors,
    }
}
