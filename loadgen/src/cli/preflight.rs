//! Whether a run can succeed on this host, before it begins: descriptors, ports, source addresses, CPUs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::host::HostFacts;
use crate::engine::crowding;
use crate::plan::Plan;

/// How many numbers of threads are tried for a remedy, from the fewest that could do.
const THREADS_TRIED: u64 = 32;

/// What a run gets to work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// Brokers; clients take them in turn.
    pub hosts: Vec<SocketAddr>,
    /// Source addresses, in turn; empty: the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// One thread for each, pinned if a CPU is given.
    pub cpus: Vec<Option<usize>>,
}

/// Everything that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Missing(pub Vec<Shortage>);

/// One thing that is missing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What.
    pub what: String,
    /// The remedy.
    pub remedy: String,
}

/// Says whether the clients of a plan fit what there is.
///
/// # Errors
///
/// Everything that does not fit, each with its remedy.
pub fn preflight(plan: &Plan, means: &Means, host: &HostFacts) -> Result<(), Missing> {
    let findings =
        [descriptors(plan, means, host), families(means), addresses(host), ports(plan, means, host), cpus(means, host)];
    let missing: Vec<Shortage> = findings.into_iter().flatten().collect();
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
}

fn connections(plan: &Plan) -> u64 {
    plan.groups.iter().map(|group| u64::from(group.count)).sum()
}

/// The fullest thread must have a descriptor for each of its clients.
fn descriptors(plan: &Plan, means: &Means, host: &HostFacts) -> Option<Shortage> {
    // A plan that can't be driven at all is refused with its own words when the engine starts.
    let fullest = |threads: u64| crowding(plan, threads as usize).ok()?.into_iter().max();
    let needed = fullest(means.cpus.len() as u64)?;
    if needed <= host.descriptors {
        return None;
    }
    let what = format!(
        "{} connections on {}: {needed} on one of them, but its descriptor table holds {} (RLIMIT_NOFILE)",
        connections(plan),
        plural(means.cpus.len() as u64, "thread"),
        host.descriptors
    );
    let at_least = connections(plan).div_ceil(host.descriptors.max(1));
    let fits = |threads: &u64| fullest(*threads).is_some_and(|needed| needed <= host.descriptors);
    let remedy = match (at_least..at_least + THREADS_TRIED).find(fits) {
        Some(threads) => format!("--threads {threads} (each has a table of its own), or a higher limit: ulimit -Hn"),
        None => "raise the limit (ulimit -Hn, fs.nr_open): members of a shared subscription must be on one thread, \
                 unless --no-verify and an open loop spare them their ledger"
            .to_owned(),
    };
    Some(Shortage { what, remedy })
}

fn families(means: &Means) -> Option<Shortage> {
    let mismatch = means.sources.iter().find_map(|source| {
        means.hosts.iter().find(|host| host.is_ipv4() != source.is_ipv4()).map(|host| (source, host))
    });
    mismatch.map(|(source, host)| Shortage {
        what: format!("no connection leads from {source} to {host}: one is IPv4, the other IPv6"),
        remedy: "give --source-ips of the broker's kind".to_owned(),
    })
}

fn addresses(host: &HostFacts) -> Option<Shortage> {
    let first = host.foreign_sources.first()?;
    let count = host.foreign_sources.len() as u64;
    Some(Shortage {
        what: format!("this host does not have {}, {first} first", plural(count, "source address")),
        remedy: format!("add them (ip address add {first}/32 dev …), or give others: all of 127.0.0.0/8 is there"),
    })
}

fn ports(plan: &Plan, means: &Means, host: &HostFacts) -> Option<Shortage> {
    let (first, last) = host.ports;
    let ports = u64::from(last - first) + 1;
    let (sources, hosts) = (means.sources.len().max(1) as u64, means.hosts.len().max(1) as u64);
    let connections = connections(plan);
    // Each thread and each group begins its turn with the first address, so those may get one more from each.
    let uneven = (means.cpus.len() + plan.groups.len()) as u64;
    let fits = |sources: u64| match pairs(sources, hosts) {
        1 => connections <= ports,
        pairs => connections.div_ceil(pairs) + uneven <= ports,
    };
    if fits(sources) {
        return None;
    }
    let what = format!(
        "{connections} connections from {} to {}: there are {ports} ports for each pair of them (ip_local_port_range {first} {last})",
        plural(sources, "source address"),
        plural(hosts, "address of the broker"),
    );
    let Some(wanted) = (sources + 1..=sources + connections).find(|sources| fits(*sources)) else {
        return Some(Shortage { what, remedy: "sysctl net.ipv4.ip_local_port_range=\"1024 65535\"".to_owned() });
    };
    let loopback = means.hosts.iter().all(|host| host.ip().is_loopback() && host.is_ipv4());
    let remedy = if loopback {
        let last = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 1).to_bits() + wanted as u32);
        format!("--source-ips 127.0.0.2-{last}")
    } else {
        format!("give this host {} and name them: --source-ips FIRST-LAST", plural(wanted, "address"))
    };
    let widen = if ports < 60_000 { "; sysctl net.ipv4.ip_local_port_range=\"1024 65535\" makes fewer do" } else { "" };
    Some(Shortage { what, remedy: remedy + widen })
}

/// How many pairs of source and destination are used when each connection takes the next of both.
fn pairs(sources: u64, hosts: u64) -> u64 {
    let (mut a, mut b) = (sources, hosts);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    sources / a * hosts
}

fn cpus(means: &Means, host: &HostFacts) -> Option<Shortage> {
    let wanted = means.cpus.iter().flatten().find(|cpu| !host.cpus.contains(cpu))?;
    let allowed = host.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    Some(Shortage {
        what: format!("CPU {wanted} is not there, or not for this process (taskset, cgroup)"),
        remedy: format!("--cpus with some of {allowed}"),
    })
}

fn plural(count: u64, what: &str) -> String {
    let (head, tail) = what.split_once(' ').filter(|(_, tail)| tail.starts_with("of ")).unwrap_or((what, ""));
    let tail = if tail.is_empty() { String::new() } else { format!(" {tail}") };
    match count {
        1 => format!("1 {head}{tail}"),
        _ if head.ends_with('s') => format!("{count} {head}es{tail}"),
        _ => format!("{count} {head}s{tail}"),
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.0.iter().map(|Shortage { what, remedy }| format!("{what}\n  remedy: {remedy}"));
        f.write_str(&told.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, Scenario};

    fn plan(name: &str, connections: u64) -> Plan {
        let mut overrides = Overrides::default();
        let parameter = if name == "connect" { "connections" } else { "pairs" };
        overrides.set(&format!("{parameter}={connections}")).unwrap();
        Scenario::preset(name).unwrap().read(&overrides).unwrap()
    }

    fn means(threads: usize, sources: u8) -> Means {
        let sources = (0..sources).map(|number| Ipv4Addr::new(127, 0, 0, 2 + number).into()).collect();
        Means { hosts: vec!["127.0.0.1:1883".parse().unwrap()], sources, cpus: vec![None; threads] }
    }

    fn host() -> HostFacts {
        HostFacts { descriptors: 20_000, ports: (32_768, 60_999), cpus: vec![0, 1], foreign_sources: Vec::new() }
    }

    fn told(plan: &Plan, means: &Means, host: &HostFacts) -> String {
        preflight(plan, means, host).unwrap_err().to_string()
    }

    #[test]
    fn what_fits_passes_up_to_the_last_descriptor_and_the_last_port() {
        assert_eq!(preflight(&plan("connect", 20_000), &means(1, 0), &host()), Ok(()));
        assert_eq!(preflight(&plan("connect", 28_232), &means(2, 0), &host()), Ok(()));
        assert_eq!(preflight(&plan("connect", 1_000_000), &means(50, 36), &host()), Ok(()));
    }

    #[test]
    fn too_small_a_descriptor_table_asks_for_the_threads_that_do() {
        let told = told(&plan("connect", 1_000_000), &means(1, 36), &host());
        assert!(told.contains("holds 20000") && told.contains("--threads 50 "), "{told}");
        assert_eq!(preflight(&plan("connect", 1_000_000), &means(49, 36), &host()).unwrap_err().0.len(), 1);
        let two_groups = plan("p2p", 10_001);
        assert!(preflight(&two_groups, &means(1, 0), &host()).unwrap_err().to_string().contains("--threads 2 "));
    }

    #[test]
    fn members_of_a_shared_subscription_are_counted_on_one_thread() {
        let mut overrides = Overrides::default();
        overrides.set("workers=21000").unwrap();
        let plan = Scenario::preset("shared").unwrap().read(&overrides).unwrap();
        let told = told(&plan, &means(10, 0), &host());
        assert!(told.contains("must be on one thread"), "{told}");
    }

    #[test]
    fn only_those_members_are_counted_together_that_are_together() {
        let mut overrides = Overrides::default();
        overrides.set("subscribers=21000").unwrap();
        let mut plan = Scenario::preset("sharedsub-1K-5-1K-1K").unwrap().read(&overrides).unwrap();
        let roomy = HostFacts { ports: (1024, 65_535), ..host() };
        assert!(told(&plan, &means(10, 0), &roomy).contains("must be on one thread"));
        plan.verify = false;
        assert_eq!(preflight(&plan, &means(10, 0), &roomy), Ok(()));
        // As many share groups as members: they are spread like any others.
        plan.verify = true;
        for subscription in plan.groups.iter_mut().flat_map(|group| &mut group.subscribe) {
            subscription.filter = subscription.filter.replace("$share/", "$share/%i-");
        }
        assert_eq!(preflight(&plan, &means(10, 0), &roomy), Ok(()));
    }

    #[test]
    fn too_few_ports_ask_for_the_source_addresses_that_do() {
        let shortage = told(&plan("connect", 28_233), &means(2, 0), &host());
        assert!(
            shortage.contains("28232 ports") && shortage.contains("--source-ips 127.0.0.2-127.0.0.3;"),
            "{shortage}"
        );
        let shortage = told(&plan("connect", 1_000_000), &means(50, 0), &host());
        assert!(shortage.contains("--source-ips 127.0.0.2-127.0.0.37;"), "{shortage}");
        let wide = HostFacts { ports: (1024, 65_535), ..host() };
        let shortage = told(&plan("connect", 1_000_000), &means(50, 1), &wide);
        assert!(shortage.ends_with("--source-ips 127.0.0.2-127.0.0.17"), "{shortage}");
        let far = Means { hosts: vec!["192.0.2.1:1883".parse().unwrap()], ..means(2, 0) };
        let shortage = told(&plan("connect", 28_233), &far, &host());
        assert!(shortage.contains("give this host 2 addresses"), "{shortage}");
    }

    #[test]
    fn several_brokers_multiply_ports_only_as_far_as_turns_make_pairs() {
        // 10 threads and 1 group may each begin with the same pair: 11 ports of 28,232 are kept for that.
        let hosts = vec!["127.0.0.1:1883".parse().unwrap(), "127.0.0.1:1884".parse().unwrap()];
        let three = Means { hosts: hosts.clone(), ..means(10, 3) };
        assert_eq!(preflight(&plan("connect", 6 * 28_221), &three, &host()), Ok(()));
        let two = Means { hosts, ..means(10, 2) };
        assert_eq!(preflight(&plan("connect", 2 * 28_221), &two, &host()), Ok(()));
        assert!(preflight(&plan("connect", 2 * 28_221 + 1), &two, &host()).is_err());
    }

    #[test]
    fn source_addresses_must_be_this_hosts_and_of_the_brokers_kind() {
        let foreign = HostFacts { foreign_sources: vec!["192.0.2.7".parse().unwrap()], ..host() };
        let shortage = told(&plan("connect", 10), &means(1, 1), &foreign);
        assert!(shortage.contains("1 source address, 192.0.2.7 first"), "{shortage}");
        let v6 = Means { hosts: vec!["[::1]:1883".parse().unwrap()], ..means(1, 1) };
        assert!(told(&plan("connect", 10), &v6, &host()).contains("IPv6"));
    }

    #[test]
    fn a_cpu_must_be_there_and_everything_missing_is_told_at_once() {
        let pinned = Means { cpus: vec![Some(1), Some(7)], ..means(1, 0) };
        let shortage = told(&plan("connect", 10), &pinned, &host());
        assert!(shortage.contains("CPU 7") && shortage.contains("some of 0,1"), "{shortage}");
        let missing = preflight(&plan("connect", 1_000_000), &pinned, &host()).unwrap_err();
        assert_eq!(missing.0.len(), 3, "{missing}");
    }
}
