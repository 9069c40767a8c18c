//! ringmq: a single-node MQTT broker, one shard per CPU core on io_uring.
//!
//! See ARCHITECTURE.md for the map.

pub mod acl;
pub mod auth;
pub mod cli;
pub mod codec;
pub mod config;
pub mod core;
pub mod counter;
pub mod doctor;
pub mod engine;
pub mod guard;
pub mod index;
pub mod mesh;
pub mod net;
#[cfg(test)]
mod overheard;
pub mod server;
pub mod shard;
pub mod sim;
pub mod slab;
pub mod transport;
pub mod wheel;
