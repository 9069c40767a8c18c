//! ringmq: a single-node MQTT broker, one shard per CPU core on io_uring.
//!
//! See ARCHITECTURE.md for the map.

pub mod codec;
pub mod engine;
pub mod mesh;
pub mod net;
pub mod server;
pub mod shard;
