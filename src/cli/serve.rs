//! `ringmq serve`: from a checked configuration to a running broker, and back.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use tracing::info;

use super::signals::{self, StopSignal};
use super::{logging, rlimits, summary};
use crate::acl::{Policy, PolicyError};
use crate::config::{Acl, Config, Limits, Listener, MqttOptions, Placement, WaitIn, duration_text};
use crate::core::{Core, CoreConfig, Shared};
use crate::doctor;
use crate::engine::{ShardId, Time};
use crate::net::driver::DriverConfig;
use crate::net::ring::QueueSizes;
use crate::server::{self, Listen, ServerConfig, StartError};
use crate::shard::Wait;

/// Why the broker did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another logger is in place.
    #[error("logging cannot be started: {0}")]
    Logging(#[from] tracing_subscriber::util::TryInitError),
    /// The system refused a handler or a thread for signals.
    #[error("signals cannot be handled: {0}")]
    Signals(#[source] io::Error),
    /// The rules cannot be used.
    #[error(transparent)]
    Rules(#[from] PolicyError),
    /// The shards did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the broker until a signal stops it.
pub fn serve(config: Config, placement: Placement) -> Result<(), ServeError> {
    let _logging = logging::start(&config.server)?;
    let stop = signals::install().map_err(ServeError::Signals)?;
    info!("ringmq {}", env!("CARGO_PKG_VERSION"));
    for (name, text) in summary::summary(&config, &placement) {
        info!("{name}: {text}");
    }
    rlimits::raise_locked_memory();
    run(&config, &placement, &stop)
}

/// Starts the shards and waits until a signal has stopped them.
fn run(config: &Config, placement: &Placement, stop: &Receiver<StopSignal>) -> Result<(), ServeError> {
    let cores = Cores::new(config, placement.shards);
    let server = server_config(config, placement);
    let wanted = server.connections_per_shard;
    let shared = cores.shared.clone();
    // Where nothing is said of what clients may do, nothing is asked: it costs nothing.
    if config.acl != Acl::default() {
        shared.set_policy(Some(Arc::new(Policy::load(&config.acl)?)));
    }
    let running = server::start(server, move |shard| cores.make(shard))?;
    let stats = running.stats().to_vec();
    shared.tell_driver_figures(Box::new(move |shard| stats[shard].named().collect()));
    info!("ring features: {}", running.features());
    let held = running.connections_per_shard();
    if held < wanted {
        // Not a warning: the default configuration asks for a million connections, and `ringmq doctor` tells beforehand.
        info!("a shard can hold {held} connections (ulimit -n, LimitNOFILE=), the configured limits ask for {wanted}");
    }
    for address in running.local_addrs() {
        info!("listening on {address}");
    }
    // The signal thread lives as long as the process: it cannot hang up.
    if let Ok(signal) = stop.recv() {
        info!("{signal}: stopping, for at most {}", duration_text(config.server.stop_timeout));
    }
    running.stop();
    running.join();
    info!("stopped");
    Ok(())
}

fn server_config(config: &Config, placement: &Placement) -> ServerConfig {
    let Config { server, listeners, ring, .. } = config;
    ServerConfig {
        listeners: listeners.iter().map(listen).collect(),
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
    }
}

/// A shard's share, and what it may have more than that by chance: the kernel keeps a table of this size for each.
fn connections_per_shard(config: &Config, placement: &Placement) -> u32 {
    let share = doctor::descriptors_needed(config, placement);
    u32::try_from(share).unwrap_or(u32::MAX)
}

fn listen(listener: &Listener) -> Listen {
    // The kernel cuts it to net.core.somaxconn.
    Listen { address: listener.address, backlog: listener.backlog.try_into().unwrap_or(i32::MAX) }
}

/// What the cores of all shards are made from.
#[derive(Clone)]
struct Cores {
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    mqtt: Arc<MqttOptions>,
    sys_interval: Option<Duration>,
    seed: u64,
}

impl Cores {
    fn new(config: &Config, shards: u16) -> Cores {
        // The standard library's hasher is keyed by the operating system's random numbers.
        let seed = config.server.hash_seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Cores {
            shared: Arc::new(Shared::new(shards, seed)),
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
            server_config(&config, &placement).connections_per_shard
        };
        assert!(per_shard(5_000, 1) > 5_000, "beyond the limit the engine refuses, before the kernel does");
        assert!(per_shard(100, 4) > 100, "by chance, all of a few may meet on one shard");
        assert!((16_000..18_000).contains(&per_shard(1_000_000, 64)));
    }

    #[test]
    fn each_listener_keeps_its_own_backlog() {
        let file = "[[listener]]\naddress = \"127.0.0.1:1\"\nbacklog = 7\n[[listener]]\naddress = \"127.0.0.1:2\"\n";
        let (config, placement) = Draft::from_text("a.toml", file).unwrap().check(&(0..1).collect()).unwrap();
        let backlogs =
            server_config(&config, &placement).listeners.iter().map(|listen| listen.backlog).collect::<Vec<_>>();
        assert_eq!(backlogs, [7, 4096]);
    }
}
