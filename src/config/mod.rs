//! The one configuration file, as plain typed data.
//!
//! This room says what can be set ([`Config`] and its sections), what each setting is when nothing is said
//! (`Default`), how it is written (`units`, `words`, `cpus`), where in the file each key is (`document`), which values
//! and combinations are possible (`check`, `placement`). [`Draft`] takes a file and the command line's overrides through
//! all of it. Nothing here opens a port or reads anything but the file.
//!
//! Every key is documented for its users in `tuning/ringmq.example.toml`, which a test holds against these types.

mod acl;
mod auth;
mod check;
mod cpus;
mod document;
mod draft;
mod fields;
mod guard;
mod limits;
mod listener;
pub(crate) mod log;
mod mqtt;
mod placement;
mod problem;
mod tls;
mod units;
mod websocket;
mod words;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::acl::Acl;
pub use self::auth::{
    Auth, AuthMethod, CertificateAuth, CertificateIdentity, CertificateNames, HttpAuth, JwtAlgorithm, JwtAuth,
    PasswordAuth, ScramAuth, TokenField,
};
pub use self::cpus::{CpuSet, CpuSetError};
pub use self::draft::Draft;
pub use self::guard::{ClientLimits, GuardOptions, MemoryBudget, Profile, RateLimit};
pub use self::limits::Limits;
pub use self::listener::{Listener, Proxy, Transport};
pub use self::mqtt::{MqttOptions, QueueFull, SharedStrategy};
pub use self::placement::{Placement, SHARDS_MAX};
pub use self::problem::{ConfigError, Origin, Problem};
pub use self::tls::{ClientCertificate, CrlExpired, KeyPair, Tls, TlsVersion};
pub(crate) use self::units::{duration_text, parse_duration, size_text};
pub use self::websocket::WebSocket;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[server]`: shards, their CPUs, stopping, logging.
    pub server: Server,
    /// `[[listener]]`: where clients connect; at least one.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// `[ring]`: the io_uring of each shard and the mesh between shards.
    pub ring: Ring,
    /// `[limits]`: what nothing may grow beyond.
    pub limits: Limits,
    /// `[mqtt]`: what of MQTT is offered, and how.
    pub mqtt: MqttOptions,
    /// `[acl]`: what clients may do.
    pub acl: Acl,
    /// `[auth]`: how clients are authenticated.
    pub auth: Auth,
    /// `[sys]`: the `$SYS` topics.
    pub sys: Sys,
    /// `[guard]`: who is kept out, and when nobody new comes in.
    pub guard: GuardOptions,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            server: Server::default(),
            listeners: vec![Listener::default()],
            ring: Ring::default(),
            limits: Limits::default(),
            mqtt: MqttOptions::default(),
            acl: Acl::default(),
            auth: Auth::default(),
            sys: Sys::default(),
            guard: GuardOptions::default(),
        }
    }
}

impl Config {
    /// Whether clients are held to rules. Where all are on this host, are not told apart, and nothing is said of what
    /// they may do, nothing is asked: topics that begin with `$` are open to them as well.
    pub fn has_rules(&self) -> bool {
        let is_reachable = self.listeners.iter().any(|listener| !listener.address.is_local());
        self.acl != Acl::default() || !self.auth.methods.is_empty() || is_reachable
    }

    /// Whether whoever gets in by a listener has shown a password or a token in CONNECT. A browser adds neither by itself to
    /// what a web page sends, as it does with a certificate, or with where it is in the network.
    pub fn needs_credentials(&self, listener: &Listener) -> bool {
        let in_connect =
            |method: &AuthMethod| matches!(method, AuthMethod::Password | AuthMethod::Jwt | AuthMethod::Scram);
        let methods = &self.auth.methods;
        !methods.is_empty()
            && methods.iter().all(in_connect)
            && !self.server.allow_anonymous
            && !listener.tls.as_ref().is_some_and(Tls::asks_for_certificate)
    }
}

/// `[server]`: the process as a whole.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// How many shards run, 1..=64; `None` ("auto") is one for each CPU of `cpus`.
    #[serde(with = "words::auto")]
    pub shards: Option<u16>,
    /// The CPUs that shards may run on; empty is every CPU the process is allowed.
    pub cpus: CpuSet,
    /// Whether each shard stays on one CPU; `None` ("auto") when there are no more shards than CPUs.
    #[serde(with = "words::auto")]
    pub pin: Option<bool>,
    /// How long an orderly stop may take before what is left is cut off.
    #[serde(with = "units::duration")]
    pub stop_timeout: Duration,
    /// Whether a listener that other hosts can reach may serve clients that nobody authenticated.
    pub allow_anonymous: bool,
    /// Whether a core dump may be written, and a debugger of the same user may look at the process: both see secrets.
    pub core_dumps: bool,
    /// Makes the hash tables of two runs alike. `None` (the key is left out) draws a seed, which is what a
    /// server that strangers can reach wants.
    #[serde(deserialize_with = "units::some_count", skip_serializing_if = "Option::is_none")]
    pub hash_seed: Option<u64>,
    /// What is logged: a level, or levels by module (`info,ringmq::net=debug`).
    pub log: String,
    /// How a log line looks.
    pub log_format: LogFormat,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            shards: None,
            cpus: CpuSet::default(),
            pin: None,
            stop_timeout: Duration::from_secs(5),
            allow_anonymous: false,
            core_dumps: false,
            hash_seed: None,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// `[ring]`: each shard's io_uring, its receive buffers, and the mesh.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ring {
    /// Submission queue entries of a shard.
    #[serde(deserialize_with = "units::count")]
    pub entries: u32,
    /// Completion queue entries of a shard, at least `entries`.
    #[serde(deserialize_with = "units::count")]
    pub completion_entries: u32,
    /// Provided receive buffers of a shard, shared by all its connections: a power of two, at most 32,768.
    #[serde(deserialize_with = "units::count")]
    pub recv_buffers: u16,
    /// Size of one such buffer.
    #[serde(with = "units::bytes")]
    pub recv_buffer_bytes: u32,
    /// Where an idle shard sleeps.
    pub wait: WaitIn,
    /// Messages that may wait in the mesh from one shard to another (and the rest of the parcel that reaches it).
    #[serde(deserialize_with = "units::count")]
    pub mesh_capacity: u32,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring {
            entries: 1024,
            completion_entries: 8192,
            recv_buffers: 1024,
            recv_buffer_bytes: 4 * 1024,
            wait: WaitIn::Ring,
            mesh_capacity: 4096,
        }
    }
}

/// Where an idle shard sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitIn {
    /// In its network ring, which watches glommio's rings.
    Ring,
    /// In glommio, which is woken when the network ring completes.
    Glommio,
}

/// `[sys]`: the `$SYS` topics.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sys {
    /// How often they are published; `None` is never.
    #[serde(with = "units::duration_or_zero")]
    pub interval: Option<Duration>,
}

impl Default for Sys {
    fn default() -> Sys {
        Sys { interval: Some(Duration::from_secs(10)) }
    }
}
