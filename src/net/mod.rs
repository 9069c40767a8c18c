//! The network driver: one `io_uring` per shard, and everything between it and an [`Engine`](crate::engine::Engine).
//!
//! Start at [`driver`]. `unsafe` is only in the files whose name begins with `ring`.

pub mod address;
mod arrive;
mod close;
mod conn;
pub mod driver;
pub mod listen;
pub mod listen_unix;
mod op;
pub mod probe;
mod receive;
pub mod ring;
pub(crate) mod ring_ask;
pub mod ring_buffers;
mod ring_ops;
pub(crate) mod ring_poll;
mod ring_send;
mod send;
pub mod stats;
