//! Whether the machine was left to the two that are measured: CPU time that went to anybody else.
//!
//! A compiler in the next window halves a rate and multiplies a latency, and no figure of broker or generator shows why.

use std::fs;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// The kernel's ticks in /proc/stat, in nanoseconds (USER_HZ is 100 on every architecture that io_uring runs on).
const TICK_NS: f64 = 1e7;

/// The accounts when a run began.
pub struct Bystanders {
    began: Instant,
    machine_ns: f64,
    own_ns: f64,
}

impl Bystanders {
    /// Begins to watch.
    pub fn watch() -> Self {
        Self { began: Instant::now(), machine_ns: machine_ns(&stat()), own_ns: own_ns() }
    }

    /// CPU time that went neither to this process nor to the broker, which used so much of it meanwhile, in percent of a
    /// core. Other guests of the hypervisor are among them.
    pub fn busy_percent(&self, broker_ns: f64) -> f64 {
        let others = machine_ns(&stat()) - self.machine_ns - (own_ns() - self.own_ns) - broker_ns;
        (others / self.began.elapsed().as_nanos() as f64 * 100.0).max(0.0)
    }
}

fn stat() -> String {
    // Without /proc the broker could not be watched either, which is an error before this.
    fs::read_to_string("/proc/stat").unwrap_or_default()
}

fn own_ns() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal; guests are within user.
fn machine_ns(stat: &str) -> f64 {
    let fields: Vec<f64> = stat.split_whitespace().skip(1).map_while(|field| field.parse().ok()).take(8).collect();
    let is_busy = |at: &usize| !matches!(at, 3 | 4);
    (0..fields.len()).filter(is_busy).map(|at| fields[at]).sum::<f64>() * TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_the_single_cpus_do_not_count() {
        let stat = "cpu  1 2 3 1000 2000 4 5 6 7 8\ncpu0 9 9 9 9 9 9 9 9 9 9\n";
        assert_eq!(machine_ns(stat), 21.0 * TICK_NS);
    }
}
