//! What stands between a socket and MQTT: TLS, WebSocket, the PROXY header, and stacks of these.
//!
//! [`Transports`] wraps a shard's engine and is an [`Engine`](crate::engine::Engine) itself, so neither the driver nor the
//! core knows of it. A connection that comes in by a listener with a [`Stack`] has a link here, which turns bytes of the
//! wire into bytes of MQTT and back; any other connection passes through after one look at an empty table.
//!
//! - `layer`: the engine around the engine; whose turn it is, hand-over, the end of a connection.
//! - `handshakes`: which TLS handshakes are in progress, and which is given up for another.
//! - `verify`: certificates of connected clients, when authorities or revocation lists have changed.
//! - `link`: one connection's stack, from bytes to bytes.
//! - `tls`: sessions, certificates and keys, the names in clients' certificates, reloading.
//! - `ws`, `proxy`: WebSocket, and the header that a load balancer puts in front.
//!
//! Nothing here has a socket or a clock, so tests drive all of it in memory.

pub mod proxy;
pub mod tls;
pub mod ws;

mod counters;
mod handshakes;
mod layer;
mod link;
mod verify;

use std::sync::Arc;

pub use self::counters::TransportCounters;
pub use self::layer::{HANDSHAKE_UNITS_PER_TURN, Transports};
use crate::acl::Network;

/// What stands between socket and MQTT on one listener, from the outside in.
#[derive(Clone, Default)]
pub struct Stack {
    /// A PROXY header, taken from these networks alone; none are named where peers have no addresses.
    pub proxy: Option<Arc<[Network]>>,
    /// TLS, by these settings.
    pub tls: Option<Arc<tls::Settings>>,
    /// WebSocket, within these limits.
    pub websocket: Option<Arc<ws::Limits>>,
}

impl Stack {
    /// True for a listener whose bytes are MQTT as they come.
    pub fn is_plain(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none()
    }
}

#[cfg(test)]
mod tests;
