//! The network driver on the real ring and real loopback sockets, with small engines in the broker's place.

mod echo;
mod faults;
mod relay;
mod shards;
mod sleep;
mod support;
