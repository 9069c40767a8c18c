//! A run of several processes or hosts: one coordinator leads it, workers join and do it.
//!
//! The coordinator listens (on loopback, unless told otherwise) and the workers connect to it: a worker can be led
//! only by whom its operator named, and nobody can commandeer a host from the network. To the conductor
//! ([`crate::engine::conduct`]) the joined [`Workers`] are a crew like the threads of one process; each worker has such
//! threads and obeys. Samples come whole, so that histograms are merged and no percentile is averaged.

mod clock;
mod frame;
mod gather;
mod message;
mod peer;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

pub use clock::Offset;
pub use gather::{Gathering, gather};
pub use message::Host;
pub use worker::{Worker, work};
pub use workers::{Joined, Workers};

use std::io;

/// Why a joined run could not be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator can't listen.
    #[error("can't listen for workers on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A worker can't reach its coordinator.
    #[error(
        "no coordinator at {address}: {source} (start it first: ringmq-loadgen run SCENARIO --workers N --join-listen {address})"
    )]
    Connect {
        /// Where it should be.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The coordinator would not have this worker.
    #[error("the coordinator refused this worker: {0}")]
    Refused(String),
    /// The coordinator ended the connection in the middle of a run.
    #[error("the coordinator went away: {0}")]
    Gone(String),
    /// The coordinator gave the run up; it has no result.
    #[error("the run was given up: {0}")]
    GivenUp(String),
    /// A worker failed, or went away.
    #[error("worker {name}: {what}")]
    Worker {
        /// Its name and address.
        name: String,
        /// What was wrong.
        what: String,
    },
    /// The engine of this process.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// The operator ended it before all workers had come.
    #[error("interrupted while {} still to come", if *missing == 1 { "a worker was".to_owned() } else { format!("{missing} workers were") })]
    Interrupted {
        /// How many.
        missing: usize,
    },
}
