//! `[[listener]]`: one address that clients connect to, and what stands between its sockets and MQTT.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::tls::Tls;
use super::{units, words};

/// One address that clients connect to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// IP address and port; port 0 lets the kernel choose.
    #[serde(with = "words::address")]
    pub address: SocketAddr,
    /// What stands between its sockets and MQTT.
    pub transport: Transport,
    /// How many connections may wait in the kernel for each shard to accept them (`listen(2)`).
    #[serde(deserialize_with = "units::count")]
    pub backlog: u32,
    /// `[listener.tls]`: for a transport with TLS in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            address: SocketAddr::from(([127, 0, 0, 1], 1883)),
            transport: Transport::Tcp,
            backlog: 4096,
            tls: None,
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
}

impl Transport {
    /// True where clients speak TLS.
    pub fn has_tls(self) -> bool {
        self == Transport::Tls
    }

    /// The name that the file uses.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }
}
