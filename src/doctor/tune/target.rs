//! What a host is to be tuned for: the load it shall carry, and what it has for it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::doctor::proc;
use crate::doctor::system::descriptors_per_shard;

/// What runs on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The broker.
    #[default]
    Broker,
    /// A load generator, or a bridge that opens as many connections.
    Generator,
    /// Both: each connection has its two ends here.
    Both,
}

impl Role {
    /// True when a knob for `knob` matters to a host of this role.
    pub fn includes(self, knob: Role) -> bool {
        self == Role::Both || knob == Role::Both || self == knob
    }
}

/// What the wanted values are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Connections to be held.
    pub connections: u64,
    /// CPUs that run shards (or generator threads).
    pub cores: u64,
    /// Memory of the host in bytes.
    pub memory: u64,
    /// Size of a page in bytes.
    pub page: u64,
    /// The longest `listener.backlog`.
    pub backlog: u64,
    /// What runs here.
    pub role: Role,
}

/// The host that the committed files are made for.
impl Default for Target {
    fn default() -> Target {
        Target { connections: 1_000_000, cores: 8, memory: 32 << 30, page: 4096, backlog: 4096, role: Role::Broker }
    }
}

impl Target {
    /// This host: its memory and page size, and as many cores as given.
    pub fn of_host(root: &Path, cores: u64) -> Target {
        let default = Target::default();
        let memory = proc::memory(root, "MemTotal").unwrap_or(default.memory);
        Target { cores, memory, page: rustix::param::page_size() as u64, ..default }
    }

    /// Ends of connections on this host.
    pub fn sockets(&self) -> u64 {
        self.connections.saturating_mul(if self.role == Role::Both { 2 } else { 1 })
    }

    /// The value of a variable of the table's expressions.
    pub fn variable(&self, name: &str) -> Option<u64> {
        Some(match name {
            "connections" => self.connections,
            "sockets" => self.sockets(),
            "cores" => self.cores,
            "share" => descriptors_per_shard(self.connections, self.cores),
            "memory" => self.memory,
            "page" => self.page,
            "backlog" => self.backlog,
            _ => return None,
        })
    }
}
