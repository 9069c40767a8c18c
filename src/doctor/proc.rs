//! Reading `/proc` and `/sys` below a root.

use std::fs;
use std::path::Path;
use std::thread;

use crate::config::CpuSet;

/// A file's text without the white space around it; `None` when there is none or it cannot be read.
pub(super) fn text(root: &Path, path: &str) -> Option<String> {
    Some(fs::read_to_string(root.join(path)).ok()?.trim().to_owned())
}

/// A file that holds one number.
pub(super) fn number(root: &Path, path: &str) -> Option<u64> {
    text(root, path)?.parse().ok()
}

/// Soft and hard limit of a process (its number, or "self") by its name in `/proc/PID/limits`; `u64::MAX` is unlimited.
pub(super) fn limits(root: &Path, process: &str, name: &str) -> Option<(u64, u64)> {
    let limits = text(root, &format!("proc/{process}/limits"))?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

/// A line of `/proc/meminfo` by its name, in bytes.
pub(super) fn memory(root: &Path, line: &str) -> Option<u64> {
    let info = text(root, "proc/meminfo")?;
    let value = info.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The CPUs that this process may run on. Where the kernel does not say, as many as the standard library knows of.
pub fn allowed_cpus(root: &Path) -> CpuSet {
    let status = text(root, "proc/self/status").unwrap_or_default();
    let listed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus: CpuSet = listed.and_then(|list| list.parse().ok()).unwrap_or_default();
    if cpus.is_empty() { (0..thread::available_parallelism().map_or(1, usize::from)).collect() } else { cpus }
}
