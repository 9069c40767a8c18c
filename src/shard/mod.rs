//! A shard's thread: pinned to its CPU, with a glommio executor and the network driver on it.
//!
//! The driver's turns are the executor's main task. What else runs on the shard (file I/O of a store) is
//! spawned by [`spawn`], waits by [`delay`], and gets its share between turns; see [`sleep`].

mod ring_file;
pub mod sleep;
mod tasks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::{CpuSet, LocalExecutor, LocalExecutorBuilder, Placement};

pub use self::sleep::Wait;
pub use self::tasks::{delay, spawn};

use crate::engine::Engine;
use crate::mesh::Port;
use crate::net::driver::{Driver, DriverConfig};
use crate::net::probe::Features;
use crate::net::ring;
use crate::net::stats::DriverStats;

/// Memory for glommio's own direct I/O buffers; it takes more from the allocator when this is used up.
const IO_MEMORY: usize = 64 << 10;

/// glommio's rings: main, latency and poll.
const IO_RINGS: usize = 3;

/// Entries of each of glommio's rings.
const IO_RING_DEPTH: usize = 32;

/// glommio's timer that interrupts long tasks. Where it never sleeps itself, the timer of its last pass would only
/// wake an idle shard.
fn preempt_timer(wait: Wait) -> Duration {
    match wait {
        Wait::Ring => Duration::from_secs(60),
        Wait::Glommio => Duration::from_millis(10),
    }
}

/// What a shard is made of, apart from its engine.
pub struct Setup<M> {
    /// The CPUs the thread may run on: one pins it, none leaves it to the kernel.
    pub cpus: Vec<usize>,
    /// Where the thread sleeps.
    pub wait: Wait,
    /// Sizes and times of the driver.
    pub driver: DriverConfig,
    /// What the kernel can do.
    pub features: Features,
    /// The place in the mesh.
    pub port: Port<M>,
    /// The origin of all shards' clocks.
    pub origin: Instant,
    /// The driver's counters.
    pub stats: Arc<DriverStats>,
}

/// A shard on its thread, ready to run.
pub struct Shard<E: Engine> {
    executor: LocalExecutor,
    driver: Driver<E>,
    wait: Wait,
    io_rings: Vec<i32>,
}

impl<E: Engine + 'static> Shard<E> {
    /// Makes executor, ring and engine. To be called on the shard's thread.
    ///
    /// # Errors
    /// A sentence that says what could not be made, and why.
    pub fn new(setup: Setup<E::Message>, make_engine: impl FnOnce() -> E) -> Result<Shard<E>, String> {
        let Setup { cpus, wait, driver, features, port, origin, stats } = setup;
        let (executor, io_rings) = executor(&cpus, wait)?;
        // On the executor, so that an engine can spawn what it needs.
        let engine = executor.run(async { make_engine() });
        let driver = Driver::new(driver, &features, engine, port, origin, stats)
            .map_err(|error| format!("the network ring cannot be set up: {error}"))?;
        Ok(Shard { executor, driver, wait, io_rings })
    }

    /// The network driver.
    pub fn driver(&mut self) -> &mut Driver<E> {
        &mut self.driver
    }

    /// Runs until a stop is complete.
    pub fn run(mut self) {
        let Shard { executor, driver, wait, io_rings } = &mut self;
        executor.run(sleep::run(driver, *wait, io_rings));
        let Shard { executor, driver, .. } = self;
        drop(driver);
        let _no_other_ring_is_made = ring::setup_lock();
        drop(executor);
    }
}

fn placement(cpus: &[usize]) -> Result<Placement, String> {
    Ok(match cpus {
        [] => Placement::Unbound,
        [cpu] => Placement::Fixed(*cpu),
        several => {
            let online = CpuSet::online().map_err(|error| format!("the CPUs cannot be listed: {error}"))?;
            Placement::Fenced(online.filter(|location| several.contains(&location.cpu)))
        }
    })
}

/// An executor on the calling thread, with the descriptors of its rings, which glommio does not tell.
fn executor(cpus: &[usize], wait: Wait) -> Result<(LocalExecutor, Vec<i32>), String> {
    let _no_other_ring_is_made = ring::setup_lock();
    let before = sleep::io_uring_descriptors().map_err(|error| format!("/proc/self/fd cannot be read: {error}"))?;
    let executor = LocalExecutorBuilder::new(placement(cpus)?)
        .io_memory(IO_MEMORY)
        .ring_depth(IO_RING_DEPTH)
        .preempt_timer(preempt_timer(wait))
        .make()
        .map_err(|error| format!("glommio's executor cannot be made: {error}"))?;
    let mut rings = sleep::io_uring_descriptors().map_err(|error| format!("/proc/self/fd cannot be read: {error}"))?;
    rings.retain(|fd| !before.contains(fd));
    if rings.len() != IO_RINGS {
        return Err(format!("glommio made {} rings instead of {IO_RINGS}", rings.len()));
    }
    Ok((executor, rings))
}
