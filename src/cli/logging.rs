//! Where log lines go: by way of a bounded queue to a thread that writes them to standard error, so that a shard never
//! waits for whoever reads them. What the queue has no room for is counted, and told at the end; what a place in the code
//! logs too often is left out, and told each minute.

use std::io::{self, IsTerminal};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::config::{LogFormat, Server, log};
use crate::guard::complaints::{Complaints, MINUTE};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;

/// Logging, for as long as this lives; dropping it writes what still waits.
pub(super) struct Logging {
    dropped: ErrorCounter,
    complaints: Complaints,
    /// Tells each minute what was left out; `None` when it has ended.
    teller: Option<(Sender<()>, JoinHandle<()>)>,
    _writer: WorkerGuard,
}

/// Starts logging as configured. The levels were checked with the configuration.
pub(super) fn start(server: &Server, lines_per_minute: u32) -> Result<Logging, LoggingError> {
    let levels = log::parse(&server.log).unwrap_or_default();
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("log").finish(io::stderr());
    let dropped = writer.error_counter();
    let complaints = Complaints::new(lines_per_minute);
    let lines = complaints.before(lines(writer, server.log_format));
    registry().with(lines.with_filter(levels)).try_init()?;
    let teller = teller(complaints.clone())?;
    Ok(Logging { dropped, complaints, teller: Some(teller), _writer: guard })
}

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Another logger is in place.
    #[error(transparent)]
    Taken(#[from] tracing_subscriber::util::TryInitError),
    /// No thread.
    #[error(transparent)]
    Thread(#[from] io::Error),
}

/// A thread that ends each minute of the log, until its sender is dropped.
fn teller(complaints: Complaints) -> io::Result<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = bounded(0);
    let thread = thread::Builder::new().name("log minutes".to_owned()).spawn(move || {
        while stopped.recv_timeout(MINUTE) == Err(RecvTimeoutError::Timeout) {
            Complaints::tell(&complaints.turn_over());
        }
    })?;
    Ok((stop, thread))
}

fn lines(writer: NonBlocking, format: LogFormat) -> Box<dyn Layer<registry::Registry> + Send + Sync> {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = fmt::layer().with_writer(writer).with_ansi(color);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.teller.take() {
            drop(stop);
            // Ends at once, and never in a panic of its own.
            let _ = thread.join();
        }
        Complaints::tell(&self.complaints.turn_over());
        let lines = self.dropped.dropped_lines();
        if lines > 0 {
            eprintln!("ringmq: {lines} log lines were dropped: standard error was read too slowly");
        }
    }
}
