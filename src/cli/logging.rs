//! Where log lines go: by way of a bounded queue to a thread that writes them to standard error, so that a shard never
//! waits for whoever reads them. What the queue has no room for is counted, and told at the end.

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::config::{LogFormat, Server, log};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8192;

/// Logging, for as long as this lives; dropping it writes what still waits.
pub(super) struct Logging {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// Starts logging as configured. The levels were checked with the configuration.
pub(super) fn start(server: &Server) -> Result<Logging, tracing_subscriber::util::TryInitError> {
    let levels = log::parse(&server.log).unwrap_or_default();
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("log").finish(io::stderr());
    let dropped = writer.error_counter();
    registry().with(lines(writer, server.log_format).with_filter(levels)).try_init()?;
    Ok(Logging { dropped, _writer: guard })
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
        let lines = self.dropped.dropped_lines();
        if lines > 0 {
            eprintln!("ringmq: {lines} log lines were dropped: standard error was read too slowly");
        }
    }
}
