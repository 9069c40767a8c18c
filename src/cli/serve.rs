//! `ringmq serve`: from a checked configuration to a running broker, and back.

use std::io;

use crossbeam_channel::Receiver;
use tracing::info;

use super::signals::{self, StopSignal};
use super::{logging, rlimits, summary};
use crate::config::{Config, Placement};

/// Why the broker did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another logger is in place.
    #[error("logging cannot be started: {0}")]
    Logging(#[from] tracing_subscriber::util::TryInitError),
    /// The system refused a handler or a thread for signals.
    #[error("signals cannot be handled: {0}")]
    Signals(#[source] io::Error),
    /// The library was built without what moves the bytes.
    #[error("this build has no network driver")]
    NoDriver,
}

/// Runs the broker until a signal stops it.
pub fn serve(config: Config, placement: Placement) -> Result<(), ServeError> {
    let _logging = logging::start(&config.server)?;
    let stop = signals::install().map_err(ServeError::Signals)?;
    info!("ringmq {}", env!("CARGO_PKG_VERSION"));
    for (name, text) in summary::summary(&config, &placement) {
        info!("{name}: {text}");
    }
    rlimits::raise(&config, &placement);
    run(&config, &placement, &stop)
}

/// Starts the shards and waits until they ended: of themselves, or because `stop` asked for it.
fn run(_config: &Config, _placement: &Placement, _stop: &Receiver<StopSignal>) -> Result<(), ServeError> {
    Err(ServeError::NoDriver)
}
