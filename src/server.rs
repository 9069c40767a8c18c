//! Starting and stopping all shards of a process as one.
//!
//! Every listener of every shard is bound, and every ring set up, before any shard accepts; when anything
//! fails nothing is left running.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;
use tracing::warn;

use crate::engine::{Engine, ShardId};
use crate::mesh::{self, Remote};
use crate::net::address::Address;
use crate::net::driver::DriverConfig;
use crate::net::listen::{self, Listener};
use crate::net::listen_unix::{self, Permissions, SocketFile};
use crate::net::probe::{Features, ProbeError, probe};
use crate::net::ring_ask::name_bytes;
use crate::net::stats::DriverStats;
use crate::shard::{Setup, Shard, Wait};

/// The most direct descriptors a ring can have (`IORING_MAX_FIXED_FILES`).
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// How to run the shards.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; a listener's index is the engine's name for it.
    pub listeners: Vec<Listen>,
    /// How many shards.
    pub shards: u16,
    /// The CPUs that shards may run on; empty leaves them to the kernel.
    pub cpus: Vec<usize>,
    /// Whether each shard stays on one of these CPUs, in turn.
    pub pin: bool,
    /// Where a shard sleeps.
    pub wait: Wait,
    /// The most connections per shard; also bounded by the hard limit on open files and by 1,048,576.
    pub connections_per_shard: u32,
    /// Messages that fit between each two shards.
    pub mesh_capacity: usize,
    /// Sizes and times of each driver; `descriptors` is set from `connections_per_shard`.
    pub driver: DriverConfig,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            listeners: Vec::new(),
            shards: 1,
            cpus: Vec::new(),
            pin: true,
            wait: Wait::Ring,
            connections_per_shard: 1 << 20,
            mesh_capacity: 8192,
            driver: DriverConfig::default(),
        }
    }
}

/// Where to listen, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: Address,
    /// How many connections may wait to be accepted, per shard.
    pub backlog: i32,
    /// Whether the engine is told each peer's address.
    pub peer_address: PeerAddress,
    /// Who may connect to a Unix domain socket.
    pub permissions: Permissions,
}

/// Whether the engine is told each peer's address; it costs an operation of the ring for each connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerAddress {
    /// No.
    #[default]
    Unasked,
    /// Where the kernel can say it.
    IfPossible,
    /// Yes: without it the broker must not run.
    Required,
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen {
            address: address.into(),
            backlog: 4096,
            peer_address: PeerAddress::default(),
            permissions: Permissions::default(),
        }
    }
}

impl ServerConfig {
    fn cpus_of(&self, shard: ShardId) -> Vec<usize> {
        if !self.pin || self.cpus.is_empty() {
            return self.cpus.clone();
        }
        vec![self.cpus[usize::from(shard.0) % self.cpus.len()]]
    }
}

/// Why nothing runs.
#[derive(Debug, Error)]
pub enum StartError {
    /// The kernel cannot do it.
    #[error(transparent)]
    Kernel(#[from] ProbeError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(error))]
    Listen {
        /// The address as configured.
        address: Address,
        /// What `bind(2)` or `listen(2)` said.
        error: io::Error,
    },
    /// Who connects must be known, and cannot be.
    #[error(
        "{address}: this kernel cannot tell who connects (Linux 6.7 can), so no proxy can be trusted by its address"
    )]
    PeerAddress {
        /// The address as configured.
        address: Address,
    },
    /// A CPU of the list is not there, or not for this process.
    #[error("CPU {cpu} does not exist or is not allowed to this process (allowed: {allowed})")]
    Cpu {
        /// The CPU as configured.
        cpu: usize,
        /// Those there are.
        allowed: String,
    },
    /// A shard could not be set up.
    #[error("shard {}: {reason}", shard.0)]
    Shard {
        /// Which.
        shard: ShardId,
        /// What, and why.
        reason: String,
    },
    /// The process lacks something.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => " (is another broker running?)",
        io::ErrorKind::PermissionDenied => " (ports below 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AlreadyExists => " (there is something else than a socket)",
        io::ErrorKind::AddrNotAvailable => " (no interface of this host has that address)",
        _ => "",
    }
}

/// The shards of a process, at work.
pub struct Running {
    threads: Vec<JoinHandle<()>>,
    remote: Remote,
    addresses: Vec<Address>,
    /// Removed with this.
    socket_files: Vec<SocketFile>,
    stats: Vec<Arc<DriverStats>>,
    features: Features,
    connections_per_shard: u32,
}

/// Starts all shards; returns when all of them accept. `make_engine` is called on each shard's thread.
///
/// # Errors
/// When anything of it fails; then nothing runs.
pub fn start<E, F>(config: ServerConfig, make_engine: F) -> Result<Running, StartError>
where
    E: Engine + 'static,
    F: Fn(ShardId) -> E + Send + Sync + Clone + 'static,
{
    let features = probe()?;
    let nofile = raise_open_files();
    check_cpus(&config.cpus)?;
    let Bound { mut per_shard, addresses, socket_files } = bind_all(&config, &features)?;
    let (ports, remote) = mesh::build(config.shards, config.mesh_capacity)
        .map_err(|error| StartError::Process { what: "an eventfd cannot be made", error })?;
    let mut driver = config.driver;
    driver.descriptors = u64::from(config.connections_per_shard).min(nofile).min(DESCRIPTORS_MAX) as u32;
    let origin = Instant::now();
    let mut starting = Starting::new(config.shards, remote);
    for port in ports {
        let shard = port.me();
        let stats = Arc::clone(&starting.stats[usize::from(shard.0)]);
        let setup = Setup { cpus: config.cpus_of(shard), wait: config.wait, driver, features, port, origin, stats };
        let listeners = per_shard.remove(0);
        let make_engine = make_engine.clone();
        starting.spawn(shard, setup, listeners, move || make_engine(shard))?;
    }
    starting.finish(addresses, socket_files, features, driver.descriptors)
}

/// A shard was set up, or why not.
type Ready = (ShardId, Result<(), String>);

/// Threads that were begun, until all of them are ready.
struct Starting {
    threads: Vec<JoinHandle<()>>,
    remote: Remote,
    stats: Vec<Arc<DriverStats>>,
    ready: (Sender<Ready>, Receiver<Ready>),
    /// Sends each shard its leave to run; dropped without it, the shard ends.
    go: Vec<Sender<()>>,
}

impl Starting {
    fn new(shards: u16, remote: Remote) -> Starting {
        let stats = (0..shards).map(|_| Arc::default()).collect();
        Starting { threads: Vec::new(), remote, stats, ready: channel(), go: Vec::new() }
    }

    fn spawn<E: Engine + 'static>(
        &mut self,
        shard: ShardId,
        setup: Setup<E::Message>,
        listeners: Vec<Listener>,
        make_engine: impl FnOnce() -> E + Send + 'static,
    ) -> Result<(), StartError> {
        let (go, leave_to_run) = channel();
        let ready = self.ready.0.clone();
        let body = move || {
            let _whole = NoShardMissing;
            let made = Shard::new(setup, make_engine);
            let (outcome, made) = match made {
                Ok(made) => (Ok(()), Some(made)),
                Err(reason) => (Err(reason), None),
            };
            // Both fail only when the start was given up.
            let told = ready.send((shard, outcome)).is_ok();
            drop(ready);
            if let (Some(mut made), true, Ok(())) = (made, told, leave_to_run.recv()) {
                made.driver().listen(listeners);
                made.run();
            }
        };
        let thread = std::thread::Builder::new().name(format!("shard {}", shard.0)).spawn(body);
        self.threads.push(thread.map_err(|error| StartError::Process { what: "a thread cannot be made", error })?);
        self.go.push(go);
        Ok(())
    }

    fn finish(
        mut self,
        addresses: Vec<Address>,
        socket_files: Vec<SocketFile>,
        features: Features,
        connections_per_shard: u32,
    ) -> Result<Running, StartError> {
        for _ in 0..self.threads.len() {
            let (shard, outcome) = self.ready.1.recv().expect("this struct holds a sender too");
            if let Err(reason) = outcome {
                return Err(StartError::Shard { shard, reason });
            }
        }
        let threads = std::mem::take(&mut self.threads);
        // Never fails: no shard ends before it has run.
        for go in &self.go {
            let _ = go.send(());
        }
        Ok(Running {
            threads,
            remote: self.remote.clone(),
            addresses,
            socket_files,
            stats: std::mem::take(&mut self.stats),
            features,
            connections_per_shard,
        })
    }
}

/// Ends the process when its thread panics, also where panics unwind: the other shards would wait for ever for
/// answers of the one that is missing, and for its part of a stop.
struct NoShardMissing;

impl Drop for NoShardMissing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.go.clear();
        // Only a start that failed has threads left here; they end as they get no leave to run.
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Running {
    /// Where the shards listen, in the order of the configuration, with ports that were 0 filled in.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Those of them that are IP addresses.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.iter().filter_map(Address::ip).collect()
    }

    /// What the kernel can do.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// How many connections each shard can hold: what was asked for, or what the limit on open files leaves of it.
    pub fn connections_per_shard(&self) -> u32 {
        self.connections_per_shard
    }

    /// Each shard's driver counters.
    pub fn stats(&self) -> &[Arc<DriverStats>] {
        &self.stats
    }

    /// Wakes and stops shards from any thread.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Asks all shards to take leave of their connections; [`join`](Self::join) waits for it.
    pub fn stop(&self) {
        self.remote.stop();
    }

    /// Waits until all shards have ended in order; a panic of one ends the process.
    pub fn join(self) {
        self.threads.into_iter().for_each(|thread| drop(thread.join()));
        drop(self.socket_files);
    }
}

/// Every listener, bound.
struct Bound {
    per_shard: Vec<Vec<Listener>>,
    addresses: Vec<Address>,
    socket_files: Vec<SocketFile>,
}

fn bind_all(config: &ServerConfig, features: &Features) -> Result<Bound, StartError> {
    let per_shard = (0..config.shards).map(|_| Vec::new()).collect();
    let mut bound = Bound { per_shard, addresses: Vec::new(), socket_files: Vec::new() };
    for listen in &config.listeners {
        let sockets = bind_one(listen, usize::from(config.shards), features, &mut bound)?;
        bound.per_shard.iter_mut().zip(sockets).for_each(|(listeners, socket)| listeners.push(socket));
    }
    Ok(bound)
}

fn bind_one(
    listen: &Listen,
    shards: usize,
    features: &Features,
    bound: &mut Bound,
) -> Result<Vec<Listener>, StartError> {
    let Listen { address, backlog, peer_address, permissions } = listen;
    let failed = |error| StartError::Listen { address: address.clone(), error };
    match address {
        Address::Tcp(tcp) => {
            let asks = match peer_address {
                PeerAddress::Required if !features.peer_names => {
                    return Err(StartError::PeerAddress { address: address.clone() });
                }
                PeerAddress::Unasked => false,
                PeerAddress::IfPossible | PeerAddress::Required => features.peer_names,
            };
            if !asks && *peer_address == PeerAddress::IfPossible {
                // Whatever is about addresses does not find one: that must not be so unnoticed.
                warn!(
                    "{address}: this kernel does not tell who connects (Linux 6.7 does): \
                    bans, limits and rules by address hold for nobody here"
                );
            }
            let sockets = listen::bind(*tcp, shards, *backlog).map_err(failed)?;
            let local = sockets[0].local_addr().map_err(failed)?;
            bound.addresses.push(local.into());
            let peer_name_bytes = asks.then(|| name_bytes(local));
            Ok(sockets.into_iter().map(|socket| Listener { socket: socket.into(), peer_name_bytes }).collect())
        }
        Address::Unix(path) => {
            let (sockets, file) = listen_unix::bind(path, shards, *backlog, *permissions).map_err(failed)?;
            bound.addresses.push(address.clone());
            bound.socket_files.push(file);
            Ok(sockets.into_iter().map(|socket| Listener { socket, peer_name_bytes: None }).collect())
        }
    }
}

fn check_cpus(cpus: &[usize]) -> Result<(), StartError> {
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        None => Ok(()),
        Some(&cpu) => {
            let names: Vec<String> = allowed.iter().map(usize::to_string).collect();
            Err(StartError::Cpu { cpu, allowed: names.join(", ") })
        }
    }
}

/// Raises the soft limit on open files to the hard one; returns the limit that holds now, which also bounds the table
/// of descriptors of each ring.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused where the hard limit is above a fs.nr_open that was lowered since: then the soft one has to do.
    let reached = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    reached.unwrap_or(u64::MAX)
}
