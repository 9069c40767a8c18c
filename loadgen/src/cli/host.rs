//! What this host and process are allowed, as far as a run depends on it.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};

/// The most direct descriptors of one ring, whatever the limits say (`IORING_MAX_FIXED_FILES`).
const TABLE_MAX: u64 = 1 << 20;
/// What Linux does when nobody set anything.
const PORTS_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Facts about the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// How many connections one thread can have: the hard limit on open files, which bounds a ring's table.
    pub descriptors: u64,
    /// First and last local port that connections are made from (`net.ipv4.ip_local_port_range`).
    pub ports: (u16, u16),
    /// CPUs that this process may run on.
    pub cpus: Vec<usize>,
    /// Source addresses that were asked for and that this host does not have.
    pub foreign_sources: Vec<IpAddr>,
}

impl HostFacts {
    /// Asks the system; `sources` are tried.
    pub fn gather(sources: &[IpAddr]) -> Self {
        let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(TABLE_MAX).min(TABLE_MAX);
        let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
        let allowed = sched_getaffinity(None).ok();
        let is_allowed = |cpu: &usize| allowed.as_ref().is_none_or(|allowed| allowed.is_set(*cpu));
        Self {
            descriptors,
            ports: ports.and_then(|text| port_range(&text)).unwrap_or(PORTS_DEFAULT),
            cpus: (0..CpuSet::MAX_CPU).filter(is_allowed).collect(),
            foreign_sources: sources.iter().copied().filter(|source| UdpSocket::bind((*source, 0)).is_err()).collect(),
        }
    }
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next()?, numbers.next()?) {
        (Ok(first), Ok(last)) if first <= last => Some((first, last)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_cpus_descriptors_ports_and_loopback_addresses() {
        let [loopback, foreign] = ["127.0.0.77", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
        let facts = HostFacts::gather(&[loopback, foreign]);
        assert!(facts.descriptors > 0 && !facts.cpus.is_empty() && facts.ports.0 < facts.ports.1, "{facts:?}");
        assert_eq!(facts.foreign_sources, [foreign]);
    }

    #[test]
    fn the_kernels_range_of_ports_is_two_numbers() {
        assert_eq!(port_range("1024\t65535\n"), Some((1024, 65_535)));
        assert_eq!((port_range("9 1"), port_range("x"), port_range("")), (None, None, None));
    }
}
