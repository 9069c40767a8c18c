//! The broker's costs as /proc shows them.

use std::fs;
use std::io;
use std::ops::Sub;

use crate::error::Error;

/// What a process has used so far, all of its threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time in nanoseconds.
    pub cpu_ns: u64,
    /// Voluntary and involuntary context switches.
    pub switches: u64,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            switches: self.switches.saturating_sub(earlier.switches),
        }
    }
}

/// A process to watch.
#[derive(Clone, Copy, Debug)]
pub struct Broker {
    /// Its process identifier.
    pub pid: u32,
}

impl Broker {
    /// Sums the threads that live now. A thread that ended takes its share along, so take both readings of a
    /// window while the broker is in its steady state.
    ///
    /// # Errors
    ///
    /// When the process is gone or may not be looked at.
    pub fn usage(self) -> Result<Usage, Error> {
        let tasks = format!("/proc/{}/task", self.pid);
        let entries = fs::read_dir(&tasks).map_err(|source| Error::File { path: tasks, source })?;
        let mut total = Usage::default();
        for entry in entries.flatten() {
            let thread = entry.path();
            let read = |name: &str| fs::read_to_string(thread.join(name)).unwrap_or_default();
            // Empty when the thread ended in between.
            total.cpu_ns += cpu_ns(&read("schedstat"));
            total.switches += switches(&read("status"));
        }
        Ok(total)
    }

    /// The resident memory in bytes, exact from `smaps_rollup` (`VmRSS` is counted per thread in batches).
    ///
    /// # Errors
    ///
    /// When the process is gone or belongs to somebody else.
    pub fn rss(self) -> Result<u64, Error> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let failed = |source| Error::File { path: path.clone(), source };
        let text = fs::read_to_string(&path).map_err(failed)?;
        let kibibytes = field(&text, "Rss:").ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
        Ok(kibibytes * 1024)
    }
}

/// The first number of `schedstat`: nanoseconds on a CPU.
fn cpu_ns(schedstat: &str) -> u64 {
    schedstat.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn switches(status: &str) -> u64 {
    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].iter().filter_map(|name| field(status, name)).sum()
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_the_start_of_their_line_only() {
        let status = "Threads:\t1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(switches(status), 15);
        assert_eq!(field("x Rss: 1 kB\nRss:     5476 kB\n", "Rss:"), Some(5476));
    }

    #[test]
    fn the_cpu_of_a_busy_process_rises() {
        let own = Broker { pid: std::process::id() };
        let before = own.usage().unwrap();
        let start = crate::os::thread_cpu();
        // schedstat is brought up to date at scheduler ticks: several of them.
        while (crate::os::thread_cpu() - start).as_millis() < 50 {}
        assert!((own.usage().unwrap() - before).cpu_ns > 20_000_000);
        assert!(own.rss().unwrap() > 100_000);
    }
}
