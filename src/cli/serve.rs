//! `ringmq serve`: from a checked configuration to a running broker, and back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use tracing::{error, info, warn};

use super::addresses::{AddressUnknown, BansError, Sight};
use super::ban::unix_now;
use super::logging::LoggingError;
use super::signals::{self, Asked};
use super::{access, accounts, logging, reload, rlimits, summary};
use crate::acl::{Policy, PolicyError};
use crate::auth::{AuthErrors, Office, OfficeCounters};
use crate::config::{Config, Limits, Listener, MemoryBudget, MqttOptions, Placement, WaitIn, WebSocket, duration_text};
use crate::core::{Core, CoreConfig, Shared};
use crate::doctor;
use crate::engine::{ShardId, Time};
use crate::guard::ban_file;
use crate::guard::bans::UnixTime;
use crate::guard::entry::Guard;
use crate::net::driver::DriverConfig;
use crate::net::listen_unix::Permissions;
use crate::net::probe::probe;
use crate::net::ring::QueueSizes;
use crate::server::{self, Listen, PeerAddress, ServerConfig, StartError};
use crate::shard::Wait;
use crate::transport::tls::{KernelTls, LoadError, Settings};
use crate::transport::ws::Origins;
use crate::transport::{Stack, TransportCounters, Transports, ws};

/// Why the broker did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another logger is in place, or there is no thread for it.
    #[error("logging cannot be started: {0}")]
    Logging(#[from] LoggingError),
    /// The system refused a handler or a thread for signals.
    #[error("signals cannot be handled: {0}")]
    Signals(#[source] io::Error),
    /// The bans cannot be read.
    #[error(transparent)]
    Bans(#[from] BansError),
    /// Something asks for addresses that are not known.
    #[error(transparent)]
    Address(#[from] AddressUnknown),
    /// Nobody has this name.
    #[error(transparent)]
    Account(#[from] accounts::NoSuchName),
    /// A file of a listener cannot be used.
    #[error(transparent)]
    Tls(#[from] LoadError),
    /// Clients cannot be authenticated as configured.
    #[error(transparent)]
    Auth(#[from] AuthErrors),
    /// The rules cannot be used.
    #[error(transparent)]
    Rules(#[from] PolicyError),
    /// The shards did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// How often the ends of bans are held against the wall clock anew.
const CLOCK_LOOK: Duration = Duration::from_secs(10);

/// Runs the broker until a signal stops it.
pub fn serve(mut config: Config, placement: Placement) -> Result<(), ServeError> {
    let _logging = logging::start(&config.server, config.guard.log_lines_per_minute)?;
    let asked = signals::install().map_err(ServeError::Signals)?;
    info!("ringmq {}", env!("CARGO_PKG_VERSION"));
    for (name, text) in summary::summary(&config, &placement) {
        info!("{name}: {text}");
    }
    config.limits.memory_budget = MemoryBudget::Bytes(memory_budget(&config));
    rlimits::raise_locked_memory();
    if !config.server.core_dumps {
        rlimits::forbid_core_dumps();
    }
    run(&config, &placement, &asked)
}

/// Whether every file that the listeners and the guard name can be used.
pub(super) fn try_files(config: &Config) -> Result<(), ServeError> {
    config.guard.bans.as_deref().map(ban_file::load).transpose().map_err(BansError::from)?;
    config.listeners.iter().try_for_each(|listener| {
        stack(config, listener)?;
        listen(listener, false).map(drop)
    })
}

/// Starts the shards and waits until a signal has stopped them.
fn run(config: &Config, placement: &Placement, asked: &Asked) -> Result<(), ServeError> {
    let cores = Cores::new(config, placement.shards);
    let features = probe().map_err(StartError::from)?;
    let sight = Sight::new(config, features.peer_names);
    sight.of_limits(config)?;
    let bans = BanList::load(config, cores.guard.clone(), sight.clone())?;
    let office = Office::start(&config.auth, config.server.allow_anonymous)?;
    let transports = Stacks::load(config, placement.shards)?;
    let server = server_config(config, placement)?;
    let wanted = server.connections_per_shard;
    let shared = cores.shared.clone();
    shared.set_expired_reason(config.auth.expired_reason);
    if config.has_rules() {
        let policy = Policy::load(&config.acl)?;
        sight.of_rules(&policy, &config.acl)?;
        shared.set_policy(Some(Arc::new(policy)));
    }
    transports.stacks.iter().filter_map(|stack| stack.tls.as_deref()).for_each(warn_of_old_lists);
    let counters = transports.counters.clone();
    let mut reloads = transports.reloads(&bans.wake);
    reloads.push(bans.clone().reload());
    reloads.push(access::rules(config.acl.clone(), shared.clone(), bans.wake.clone(), sight));
    reloads.extend(office.clone().map(|office| access::users(office, bans.wake.clone())));
    reload::start(reloads, asked.reload.clone()).map_err(ServeError::Signals)?;
    let asked_of: Vec<Arc<OfficeCounters>> = (0..placement.shards).map(|_| Arc::default()).collect();
    let (desks, counted) = (office.clone(), asked_of.clone());
    let core = move |shard: ShardId| match &desks {
        Some(office) => cores.make(shard).with_authenticator(office.desk(shard, counted[usize::from(shard.0)].clone())),
        None => cores.make(shard),
    };
    let running = server::start(server, move |shard| transports.before(shard, core(shard)))?;
    if !config.server.core_dumps {
        rlimits::forbid_looking_in();
    }
    if let Some(office) = &office {
        let remote = running.remote();
        office.wake_by(placement.shards, move |shard| remote.wake(shard));
    }
    let _ = bans.wake.set((running.remote(), placement.shards));
    let stats = running.stats().to_vec();
    shared.tell_driver_figures(Box::new(move |shard| {
        stats[shard].named().chain(counters[shard].named()).chain(asked_of[shard].named()).collect()
    }));
    info!("ring features: {}", running.features());
    if config.listeners.iter().any(|listener| listener.transport.has_tls()) {
        info!("TLS: {}", KernelTls::of_this_host());
    }
    let held = running.connections_per_shard();
    if held < wanted {
        // Not a warning: the default configuration asks for a million connections, and `ringmq doctor` tells beforehand.
        info!("a shard can hold {held} connections (ulimit -n, LimitNOFILE=), the configured limits ask for {wanted}");
    }
    for address in running.addresses() {
        info!("listening on {address}");
    }
    // The signal thread lives as long as the process: it cannot hang up.
    let stop = loop {
        match asked.stop.recv_timeout(CLOCK_LOOK) {
            Err(RecvTimeoutError::Timeout) => bans.follow_clock(),
            answer => break answer,
        }
    };
    if let Ok(signal) = stop {
        info!("{signal}: stopping, for at most {}", duration_text(config.server.stop_timeout));
    }
    running.stop();
    running.join();
    info!("stopped");
    Ok(())
}

/// What messages may take of memory, in bytes; 0 for any.
fn memory_budget(config: &Config) -> u64 {
    let bytes = match config.limits.memory_budget {
        MemoryBudget::Bytes(bytes) => bytes,
        MemoryBudget::Auto => doctor::memory(Path::new("/")).map_or(0, |memory| memory / 2),
    };
    match bytes {
        0 => info!("memory: no budget for messages (limits.memory_budget)"),
        bytes => info!("memory: {} MiB for messages (limits.memory_budget)", bytes >> 20),
    }
    bytes
}

/// The file of bans, and the guard that it is for.
#[derive(Clone)]
struct BanList {
    file: Option<PathBuf>,
    guard: Arc<Guard>,
    sight: Sight,
    /// When the shards' clocks were 0, as nearly as bans need it.
    started: Instant,
    /// Wakes the shards, once they run.
    wake: access::Wake,
}

impl BanList {
    fn load(config: &Config, guard: Arc<Guard>, sight: Sight) -> Result<BanList, BansError> {
        let (started, wake) = (Instant::now(), Arc::default());
        let list = BanList { file: config.guard.bans.clone(), guard, sight, started, wake };
        list.read()?;
        Ok(list)
    }

    fn read(&self) -> Result<(), BansError> {
        let Some(file) = &self.file else { return Ok(()) };
        let bans = ban_file::load(file)?;
        self.sight.of_bans(&bans, file)?;
        info!("bans in {}: {}", file.display(), bans.list().len());
        self.guard.set_bans(bans, self.zero());
        Ok(())
    }

    /// What the wall clock would have said when the shards' clocks were 0, had it been as right as it is now.
    fn zero(&self) -> UnixTime {
        UnixTime(unix_now().0.saturating_sub(self.started.elapsed().as_secs()))
    }

    /// Bans end by the wall clock, which may have been set; and the host may have slept, which only that clock has seen.
    fn follow_clock(&self) {
        self.guard.set_clock(self.zero());
    }

    /// SIGHUP: what is wrong with the file is told, and what it said before holds.
    fn read_again(&self) {
        if let Err(error) = self.read() {
            error!("{error}; the bans stay as they were");
        }
        // Idle shards look at those who are connected in a turn of theirs.
        access::wake_all(&self.wake);
    }

    fn reload(self) -> reload::Reload {
        Box::new(move |insist| {
            if insist {
                self.read_again();
            }
        })
    }
}

fn server_config(config: &Config, placement: &Placement) -> Result<ServerConfig, ServeError> {
    let Config { server, listeners, ring, .. } = config;
    Ok(ServerConfig {
        listeners: listeners.iter().map(|one| listen(one, addresses_matter(config))).collect::<Result<_, _>>()?,
        shards: placement.shards,
        cpus: placement.cpus.as_slice().to_vec(),
        pin: placement.pin,
        wait: match ring.wait {
            WaitIn::Ring => Wait::Ring,
            WaitIn::Glommio => Wait::Glommio,
        },
        connections_per_shard: connections_per_shard(config, placement),
        mesh_capacity: ring.mesh_capacity as usize,
        driver: DriverConfig {
            queues: QueueSizes { submission: ring.entries, completion: ring.completion_entries },
            buffers: ring.recv_buffers,
            buffer_size: ring.recv_buffer_bytes,
            stop_timeout: server.stop_timeout,
            ..DriverConfig::default()
        },
    })
}

/// A shard's share, and what it may have more than that by chance: the kernel keeps a table of this size for each.
fn connections_per_shard(config: &Config, placement: &Placement) -> u32 {
    let share = doctor::descriptors_needed(config, placement);
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// Whether something asks where clients connect from: a rule about addresses must not be passed over.
fn addresses_matter(config: &Config) -> bool {
    Guard::wants_addresses(config) || config.acl.file.is_some() || !config.auth.methods.is_empty()
}

fn listen(listener: &Listener, is_asked_for: bool) -> Result<Listen, ServeError> {
    let peer_address = match (listener.peer_address, &listener.proxy) {
        (_, Some(_)) => PeerAddress::Required,
        (Some(true), None) => PeerAddress::IfPossible,
        (None, None) if is_asked_for => PeerAddress::IfPossible,
        (Some(false) | None, None) => PeerAddress::Unasked,
    };
    Ok(Listen {
        address: listener.address.clone(),
        // The kernel cuts it to net.core.somaxconn.
        backlog: listener.backlog.try_into().unwrap_or(i32::MAX),
        peer_address,
        permissions: Permissions {
            owner: listener.owner.as_deref().map(|name| accounts::number_of("/etc/passwd", name)).transpose()?,
            group: listener.group.as_deref().map(|name| accounts::number_of("/etc/group", name)).transpose()?,
            mode: listener.mode,
        },
    })
}

/// What stands before the cores of all shards.
#[derive(Clone)]
struct Stacks {
    stacks: Vec<Stack>,
    handshakes_max: usize,
    counters: Vec<Arc<TransportCounters>>,
}

impl Stacks {
    fn load(config: &Config, shards: u16) -> Result<Stacks, LoadError> {
        let stacks = config.listeners.iter().map(|listener| stack(config, listener)).collect::<Result<_, _>>()?;
        Ok(Stacks {
            stacks,
            handshakes_max: config.limits.tls_handshakes_max as usize,
            counters: (0..shards).map(|_| Arc::default()).collect(),
        })
    }

    /// What is read again on SIGHUP, and when it has changed.
    fn reloads(&self, wake: &access::Wake) -> Vec<reload::Reload> {
        let settings = self.stacks.iter().filter_map(|stack| stack.tls.clone());
        let one = |settings: Arc<Settings>| {
            let wake = wake.clone();
            Box::new(move |insist| again(&settings, insist, &wake)) as reload::Reload
        };
        settings.map(one).collect()
    }

    fn before(&self, shard: ShardId, core: Core) -> Transports<Core> {
        let counters = self.counters[usize::from(shard.0)].clone();
        Transports::new(core, self.stacks.clone(), self.handshakes_max, counters)
    }
}

/// Reads a listener's certificates and keys again.
fn again(settings: &Settings, insist: bool, wake: &access::Wake) {
    match settings.reload(insist) {
        Ok(true) => {
            info!("{}: new connections get what is in the files now", settings.name());
            // Idle shards verify the certificates of those who are connected in a turn of theirs.
            access::wake_all(wake);
        }
        Ok(false) => {}
        Err(error) => error!("{error}: the listener goes on with the certificates and keys it has"),
    }
    warn_of_old_lists(settings);
}

fn warn_of_old_lists(settings: &Settings) {
    let now = i64::try_from(unix_now().0).unwrap_or(i64::MAX);
    if let Some(warning) = settings.revocation_warning(now) {
        warn!("{warning}");
    }
}

fn stack(config: &Config, listener: &Listener) -> Result<Stack, LoadError> {
    let has_websocket = listener.transport.has_websocket();
    // The protocols a client may name when it names any: a browser asks for HTTP.
    let alpn = if has_websocket { "http/1.1" } else { "mqtt" };
    let tls = listener.tls.as_ref().map(|tls| Settings::load(tls, &[alpn])).transpose()?;
    let websocket = has_websocket.then(|| listener.websocket.clone().unwrap_or_default());
    Ok(Stack {
        proxy: listener.proxy.as_ref().map(|proxy| proxy.trusted.as_slice().into()),
        tls: tls.map(Arc::new),
        websocket: websocket.map(|settings| Arc::new(websocket_limits(settings, config.needs_credentials(listener)))),
    })
}

fn websocket_limits(settings: WebSocket, needs_credentials: bool) -> ws::Limits {
    let WebSocket { path, origins, request_bytes_max, frame_bytes_max } = settings;
    let (head_bytes_max, frame_bytes_max) = (request_bytes_max as usize, u64::from(frame_bytes_max));
    let origins = match &origins[..] {
        // Without a password or a token, which a browser never adds by itself, no page gets anywhere.
        [] if needs_credentials => Origins::Any,
        [] => Origins::SameHost,
        _ if origins.iter().any(|origin| origin == "*") => Origins::Any,
        _ => Origins::These(origins),
    };
    ws::Limits { path, origins, head_bytes_max, frame_bytes_max }
}

/// What the cores of all shards are made from.
#[derive(Clone)]
struct Cores {
    shared: Arc<Shared>,
    guard: Arc<Guard>,
    limits: Arc<Limits>,
    mqtt: Arc<MqttOptions>,
    sys_interval: Option<Duration>,
    seed: u64,
}

impl Cores {
    fn new(config: &Config, shards: u16) -> Cores {
        // The standard library's hasher is keyed by the operating system's random numbers.
        let seed = config.server.hash_seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let guard = Arc::new(Guard::new(config, seed, UnixTime(0)));
        let shared = Arc::new(Shared::new(shards, seed));
        shared.set_guard(guard.clone());
        Cores {
            shared,
            guard,
            limits: Arc::new(config.limits.clone()),
            mqtt: Arc::new(config.mqtt.clone()),
            sys_interval: config.sys.interval,
            seed,
        }
    }

    fn make(&self, shard: ShardId) -> Core {
        Core::new(CoreConfig {
            shard,
            shared: self.shared.clone(),
            limits: self.limits.clone(),
            mqtt: self.mqtt.clone(),
            sys_interval: self.sys_interval,
            seed: self.seed.wrapping_add(u64::from(shard.0)),
            now: Time(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Draft;

    #[test]
    fn the_tables_of_many_shards_are_not_each_as_large_as_the_whole_process_needs() {
        let per_shard = |connections_max, shards| {
            let file = format!("[server]\nshards = {shards}\n[limits]\nconnections_max = {connections_max}\n");
            let (config, placement) = Draft::from_text("a.toml", &file).unwrap().check(&(0..64).collect()).unwrap();
            server_config(&config, &placement).unwrap().connections_per_shard
        };
        assert!(per_shard(5_000, 1) > 5_000, "beyond the limit the engine refuses, before the kernel does");
        assert!(per_shard(100, 4) > 100, "by chance, all of a few may meet on one shard");
        assert!((16_000..18_000).contains(&per_shard(1_000_000, 64)));
    }

    #[test]
    fn pages_of_other_hosts_may_connect_only_where_a_password_or_a_token_is_asked_for() {
        let origins = |methods: &str, server: &str, listener: &str| {
            let file = format!(
                "[server]\n{server}\n[auth]\nmethods = [{methods}]\n[auth.password]\nfile = \"/a\"\n
                [auth.http]\nurl = \"http://127.0.0.1\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n{listener}"
            );
            let (config, _) = Draft::from_text("a.toml", &file).unwrap().check(&(0..1).collect()).unwrap();
            let listener = &config.listeners[0];
            websocket_limits(listener.websocket.clone().unwrap_or_default(), config.needs_credentials(listener)).origins
        };
        let ws = "transport = \"ws\"";
        assert_eq!(origins("", "", ws), Origins::SameHost, "everybody on this host, so every page that is open there");
        assert_eq!(origins("\"password\"", "", ws), Origins::Any);
        assert_eq!(origins("\"password\"", "allow_anonymous = true", ws), Origins::SameHost);
        let behind =
            format!("{ws}\n[[listener]]\naddress = \"127.0.0.1:2\"\n[listener.proxy]\ntrusted = [\"192.0.2.1\"]");
        assert_eq!(origins("\"password\", \"certificate\"", "", &behind), Origins::SameHost);
        assert_eq!(origins("\"http\"", "", ws), Origins::SameHost, "it may decide by the address");
        let tls = "transport = \"wss\"\n[listener.tls]\ncertificate = \"/a\"\nkey = \"/a\"\nclient_ca = \"/a\"\n
            client_certificate = \"optional\"";
        assert_eq!(origins("\"password\"", "", tls), Origins::SameHost, "a browser shows its certificate by itself");
        let named = |names| origins("", "", &format!("{ws}\n[listener.websocket]\norigins = [{names}]"));
        assert_eq!(named("\"https://a.example\""), Origins::These(vec!["https://a.example".to_owned()]));
        assert_eq!(named("\"*\""), Origins::Any);
    }

    #[test]
    fn each_listener_keeps_its_own_backlog() {
        let file = "[[listener]]\naddress = \"127.0.0.1:1\"\nbacklog = 7\n[[listener]]\naddress = \"127.0.0.1:2\"\n";
        let (config, placement) = Draft::from_text("a.toml", file).unwrap().check(&(0..1).collect()).unwrap();
        let backlogs = server_config(&config, &placement)
            .unwrap()
            .listeners
            .iter()
            .map(|listen| listen.backlog)
            .collect::<Vec<_>>();
        assert_eq!(backlogs, [7, 4096]);
    }
}
