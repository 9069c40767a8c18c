//! The machine that the generator ran on, with the settings that decide how far it gets.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::measure::proc::field;

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Kernel name, release and architecture.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs that are online.
    pub cpus: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Whether a hypervisor is under it: then figures vary with its other guests.
    pub is_virtual: bool,
    /// Settings.
    pub knobs: Vec<Knob>,
}

/// A setting of a machine, as it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knob {
    /// Its name.
    pub name: String,
    /// What it was set to.
    pub value: String,
}

/// Settings under /proc/sys that limit connections, ports, buffers, descriptors or measuring.
const SYSCTLS: [&str; 14] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_congestion_control",
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "fs.file-max",
    "fs.nr_open",
    "vm.max_map_count",
    "kernel.io_uring_disabled",
    "kernel.perf_event_paranoid",
];

/// Other settings, by the file that says them.
const FILES: [(&str, &str); 3] = [
    ("cpu governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("transparent huge pages", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("clock source", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
];

impl Host {
    /// This one, and what limits the broker's process there when it is named.
    pub fn of(broker_pid: Option<u32>) -> Self {
        let (cpuinfo, meminfo) = (text("/proc/cpuinfo"), text("/proc/meminfo"));
        let kernel = nix::sys::utsname::uname().ok();
        let part = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        Self {
            name: kernel.as_ref().map(|name| part(name.nodename())).unwrap_or_default(),
            kernel: kernel
                .as_ref()
                .map(|name| [name.sysname(), name.release(), name.machine()].map(part).join(" "))
                .unwrap_or_default(),
            cpu: colon_field(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u64,
            memory_bytes: field(&meminfo, "MemTotal:").unwrap_or(0) * 1024,
            is_virtual: colon_field(&cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            knobs: knobs(broker_pid),
        }
    }
}

fn knobs(broker_pid: Option<u32>) -> Vec<Knob> {
    let sysctls = SYSCTLS.iter().map(|name| (*name, format!("/proc/sys/{}", name.replace('.', "/"))));
    let files = FILES.iter().map(|(name, path)| (*name, (*path).to_owned()));
    let told = sysctls.chain(files).filter_map(|(name, path)| Some((name.to_owned(), value(&path)?)));
    let limit =
        |who: &str, pid: &str| Some((format!("{who} open files"), open_files(&text(&format!("/proc/{pid}/limits")))?));
    let own = limit("generator", "self");
    let broker = broker_pid.and_then(|pid| limit("broker", &pid.to_string()));
    told.chain(own).chain(broker).map(|(name, value)| Knob { name, value }).collect()
}

/// A setting's value on one line; none where the kernel doesn't have it.
fn value(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// RLIMIT_NOFILE, soft and hard.
fn open_files(limits: &str) -> Option<String> {
    let mut values = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace();
    Some(format!("{} (hard limit {})", values.next()?, values.next()?))
}

/// The value of a `name<tab>: value` line.
fn colon_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let host = Host::of(Some(std::process::id()));
        assert!(host.kernel.starts_with("Linux "), "{host:?}");
        assert!(host.cpus > 0 && host.memory_bytes > 1 << 20 && !host.cpu.is_empty(), "{host:?}");
        let knob = |name: &str| host.knobs.iter().find(|knob| knob.name == name).map(|knob| knob.value.as_str());
        let range = knob("net.ipv4.ip_local_port_range").unwrap();
        assert_eq!(range.split(' ').filter(|port| port.parse::<u16>().is_ok()).count(), 2, "{range}");
        assert_eq!(knob("generator open files"), knob("broker open files"));
    }

    #[test]
    fn limits_are_told_soft_and_hard() {
        let limits =
            "Limit   Soft   Hard   Units\nMax open files            1024                 20000                files\n";
        assert_eq!(open_files(limits).as_deref(), Some("1024 (hard limit 20000)"));
    }
}
