//! `ringmq doctor`: can this host run the broker as configured, and what should be changed?
//!
//! Everything that is read comes from `/proc` and `/sys` below a root that tests replace; only the ring is really
//! tried. A FAIL is something the broker cannot run with; a WARN is something it would run worse with than configured.
//! What needs the configuration or a trial is examined here; all else is the table's ([`tune`]).

mod memory;
mod network;
mod proc;
mod system;
pub mod tune;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use self::tune::{Row, Severity, State, Target, WantError};
use crate::config::{Config, Placement};

pub use self::memory::memory;
pub use self::network::tls;
pub use self::proc::allowed_cpus;
pub use self::system::{MEMLOCK_MIN, descriptors_needed, ring};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It runs, but not as well or not as far as configured.
    Warn,
    /// It does not run.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing needs doing.
    pub remedy: String,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, name, found: found.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, name, found: found.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { level: Level::Fail, name, found: found.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    /// Its name takes as much room as the formatter's width says, so that the lines of a report can be aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "OK  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        let width = f.width().unwrap_or(12);
        write!(f, "{level}  {:<width$}  {}", self.name, self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "  ->  {}", self.remedy) }
    }
}

/// Looks at what needs the configuration or a trial. `ring` is what [`ring()`] found, or what a test pretends it did.
pub fn examine(root: &Path, ring: Result<String, String>, config: &Config, placement: &Placement) -> Vec<Finding> {
    vec![
        system::kernel(root),
        system::io_uring(root, ring),
        system::memlock(root),
        system::open_files(root, config, placement),
        system::cpus(root, placement),
        network::port_range(root, config),
    ]
}

/// A host that cannot hold as many connections as were asked for fails; what they are configured to is only a bound.
pub fn insist(findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| finding.name == "open files" && finding.level == Level::Warn) {
        finding.level = Level::Fail;
    }
}

/// What the table of knobs wants for a broker of this configuration.
pub fn target(root: &Path, config: &Config, placement: &Placement) -> Target {
    let backlog = config.listeners.iter().map(|listener| u64::from(listener.backlog)).max();
    let target = Target::of_host(root, u64::from(placement.shards));
    Target { connections: u64::from(config.limits.connections_max), backlog: backlog.unwrap_or(0), ..target }
}

/// Holds the host against the table; without what [`examine`] looks at itself.
///
/// # Errors
/// When the table has no value for such a host.
pub fn knobs(root: &Path, target: &Target) -> Result<Vec<Row>, WantError> {
    let rows = tune::check(root, tune::table(), target, None)?;
    Ok(rows.into_iter().filter(|row| !EXAMINED.contains(&row.knob)).collect())
}

/// Knobs that [`examine`] looks at more closely.
const EXAMINED: [&str; 3] = ["open files", "locked memory", "kernel.io_uring_disabled"];

/// A line for each knob that is not as wanted, and one for the rest. The default configuration asks for a million
/// connections, and a host that holds fewer can run it: what only bounds their number is a warning, unless it was
/// `asked` for.
pub fn knob_findings(rows: &[Row], asked: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for row in rows {
        let level = match row.state {
            State::Ok | State::Absent | State::Note => continue,
            State::Fail if asked || row.severity == Severity::Required => Level::Fail,
            State::Fail | State::Warn => Level::Warn,
        };
        let found = format!("{}, {} is wanted", row.current.as_deref().unwrap_or("?"), row.wanted);
        findings.push(Finding { level, name: row.knob, found, remedy: row.remedy.clone().unwrap_or_default() });
    }
    let rest = rows.len() - findings.len();
    let found = format!("{rest} of {} ask for no change; ringmq tune check lists them all", rows.len());
    findings.push(Finding::ok("knobs", found));
    findings
}
