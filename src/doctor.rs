//! `ringmq doctor`: can this host run the broker as configured, and what should be changed?
//!
//! Everything that is read comes from `/proc` and `/sys` below a root that tests replace; only the ring is really
//! tried. A FAIL is something the broker cannot run with; a WARN is something it would run worse with than configured.

mod network;
mod proc;
mod system;

use std::fmt;
use std::path::Path;

use crate::config::{Config, Placement};

pub use self::proc::allowed_cpus;
pub use self::system::{MEMLOCK_MIN, descriptors_needed, ring};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It runs, but not as well or not as far as configured.
    Warn,
    /// It does not run.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "OK  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        write!(f, "{level}  {:<12}  {}", self.name, self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "  ->  {}", self.remedy) }
    }
}

/// Looks at everything. `ring` is what [`ring`] found, or what a test pretends it did.
pub fn examine(root: &Path, ring: Result<String, String>, config: &Config, placement: &Placement) -> Vec<Finding> {
    let mut findings = vec![
        system::kernel(root),
        system::io_uring(root, ring),
        system::memlock(root),
        system::open_files(root, config, placement),
        system::cpus(root, placement),
        system::huge_pages(root),
        network::backlog(root, config),
        network::port_range(root, config),
    ];
    findings.extend(network::connection_tracking(root, config));
    findings
}
