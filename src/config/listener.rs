//! `[[listener]]`: one address that clients connect to, and what stands between its sockets and MQTT.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::guard::{ClientLimits, RateLimit};
use super::tls::Tls;
use super::websocket::WebSocket;
use super::{units, words};
use crate::acl::Network;
use crate::net::address::Address;

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// IP address and port, or the path of a Unix domain socket; port 0 lets the kernel choose.
    #[serde(with = "words::address")]
    pub address: Address,
    /// What stands between its sockets and MQTT.
    pub transport: Transport,
    /// How many connections may wait in the kernel for each shard to accept them (`listen(2)`).
    #[serde(deserialize_with = "units::count")]
    pub backlog: u32,
    /// Connections of this listener, of the whole process; 0 leaves it to `limits.connections_max`.
    #[serde(deserialize_with = "units::count")]
    pub connections_max: u32,
    /// Connects on this listener, of the whole process.
    pub connect_rate: RateLimit,
    /// What holds for its clients instead of `[limits]`.
    #[serde(skip_serializing_if = "ClientLimits::is_empty")]
    pub limits: ClientLimits,
    /// Whether the engine is told each peer's address; `None` ("auto") where something needs it.
    #[serde(with = "words::auto")]
    pub peer_address: Option<bool>,
    /// Who owns the file of a Unix domain socket: a name in /etc/passwd, or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its group: a name in /etc/group, or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its mode.
    #[serde(with = "words::mode", skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// `[listener.tls]`: for a transport with TLS in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// `[listener.websocket]`: for a transport with WebSocket in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocket>,
    /// `[listener.proxy]`: a load balancer stands before the clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 1883)).into(),
            transport: Transport::Tcp,
            backlog: 4096,
            connections_max: 0,
            connect_rate: RateLimit(None),
            limits: ClientLimits::default(),
            peer_address: None,
            owner: None,
            group: None,
            mode: None,
            tls: None,
            websocket: None,
            proxy: None,
        }
    }
}

/// What stands between a socket and MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Nothing.
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// True where clients speak TLS.
    pub fn has_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// True where clients speak WebSocket.
    pub fn has_websocket(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }

    /// The name that the file uses.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }
}

/// `[listener.proxy]`: every connection begins with a PROXY header, of version 1 or 2.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// Where the load balancers are: connections from elsewhere are refused.
    pub trusted: Vec<Network>,
}
