//! What the whole host did: the kernel's memory for sockets, and CPU time that went to others, by a hypervisor or by
//! other processes.

use std::fs;

use serde::{Deserialize, Serialize};

use super::proc::{field, page_bytes, waited_ns, word};

/// A reading of the host's own accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Kernel objects, sockets among them, in bytes: those that can't be given back at once.
    pub slab_bytes: u64,
    /// Data in TCP buffers, in bytes.
    pub tcp_bytes: u64,
    /// Time that CPUs wanted to run but the hypervisor did not let them, all CPUs together, in nanoseconds.
    pub stolen_ns: u64,
    /// How long this process's threads could have run but others had the CPU, in nanoseconds.
    pub waited_ns: u64,
}

impl Reading {
    /// Reads them now.
    pub fn now() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let reading = Self::of(&text("/proc/meminfo"), &text("/proc/net/sockstat"), &text("/proc/stat"));
        Self { waited_ns: waited_ns("self"), ..reading }
    }

    fn of(meminfo: &str, sockstat: &str, stat: &str) -> Self {
        // user nice system idle iowait irq softirq steal, in ticks of 10 ms.
        let steal = stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse::<u64>().ok());
        Self {
            slab_bytes: field(meminfo, "SUnreclaim:").unwrap_or(0) * 1024,
            tcp_bytes: word(sockstat, "TCP:", "mem").unwrap_or(0) * page_bytes(),
            stolen_ns: steal.unwrap_or(0) * 10_000_000,
            waited_ns: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_is_read_in_its_own_unit() {
        let meminfo = "Slab:  797920 kB\nSReclaimable: 1 kB\nSUnreclaim:        95752 kB\n";
        let sockstat = "sockets: used 24\nTCP: inuse 4 orphan 0 tw 2 alloc 4 mem 178\nUDP: inuse 0 mem 9\n";
        let stat = "cpu  703609 759151 184266 897915 25717 0 27649 922 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        let reading = Reading::of(meminfo, sockstat, stat);
        assert_eq!(reading.slab_bytes, 95_752 * 1024);
        assert_eq!(reading.tcp_bytes, 178 * page_bytes());
        assert_eq!(reading.stolen_ns, 9_220_000_000);
    }

    #[test]
    fn this_host_has_kernel_objects() {
        assert!(Reading::now().slab_bytes > 100_000);
    }
}
