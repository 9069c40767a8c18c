//! Kernel, io_uring, limits of the process, CPUs.

use std::path::Path;

use super::{Finding, proc};
use crate::config::{Config, Placement, size_text};
use crate::net::probe::probe;

/// The oldest kernel with everything the network ring is built on.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Locked memory that the executor insists on before it creates its rings.
pub const MEMLOCK_MIN: u64 = 512 * 1024;

/// Descriptors beside the connections: rings, wake-ups, listeners, files.
const DESCRIPTORS_ASIDE: u64 = 256;

pub(super) fn kernel(root: &Path) -> Finding {
    let Some(release) = proc::text(root, "proc/sys/kernel/osrelease") else {
        return Finding::fail("kernel", "its version cannot be read", "run on Linux 6.1 or newer, with /proc mounted");
    };
    match version(&release) {
        Some(version) if version >= KERNEL_MIN => Finding::ok("kernel", format!("Linux {release}")),
        _ => Finding::fail("kernel", format!("Linux {release}"), "install Linux 6.1 or newer; 6.12 or newer is better"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn io_uring(root: &Path, ring: Result<String, String>) -> Finding {
    let why = match ring {
        Ok(features) => return Finding::ok("io_uring", features),
        Err(why) => why,
    };
    let remedy = match proc::number(root, "proc/sys/kernel/io_uring_disabled") {
        Some(2) => "it is switched off: sysctl -w kernel.io_uring_disabled=0",
        Some(1) => {
            "it is for a group only: sysctl -w kernel.io_uring_disabled=0, or run as a member of \
             kernel.io_uring_group"
        }
        _ => {
            "in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile \
             (docker run --security-opt seccomp=FILE); else use a kernel of 6.1 or newer with CONFIG_IO_URING"
        }
    };
    Finding::fail("io_uring", why, remedy)
}

/// Really sets up a ring and asks it, as the broker does before it starts; tells what is in use, or why it cannot be.
pub fn ring() -> Result<String, String> {
    probe().map(|features| features.to_string()).map_err(|error| error.to_string())
}

pub(super) fn memlock(root: &Path) -> Finding {
    match proc::limits(root, "self", "Max locked memory") {
        None => Finding::warn("memlock", "its limit cannot be read", "mount /proc"),
        Some((_, hard)) if hard < MEMLOCK_MIN => Finding::fail(
            "memlock",
            format!("at most {}", size_text(hard)),
            "allow 512KiB: LimitMEMLOCK=8M in the unit, ulimit -l 8192, docker run --ulimit memlock=8388608",
        ),
        Some((_, u64::MAX)) => Finding::ok("memlock", "unlimited"),
        Some((_, hard)) => Finding::ok("memlock", format!("up to {}", size_text(hard))),
    }
}

/// Open files that the limit must allow: as many as a shard's table has entries.
pub fn descriptors_needed(config: &Config, placement: &Placement) -> u64 {
    descriptors_per_shard(u64::from(config.limits.connections_max), u64::from(placement.shards))
}

/// A shard's connections are descriptors of its own ring, whose table the limit on open files bounds ring by ring;
/// clients are hashed onto shards, which is uneven by a little.
pub(super) fn descriptors_per_shard(connections: u64, shards: u64) -> u64 {
    let each = connections.div_ceil(shards.max(1));
    let uneven = if shards > 1 { each / 10 } else { 0 };
    each.saturating_add(uneven).saturating_add(DESCRIPTORS_ASIDE)
}

pub(super) fn open_files(root: &Path, config: &Config, placement: &Placement) -> Finding {
    let Some((_, hard)) = proc::limits(root, "self", "Max open files") else {
        return Finding::warn("open files", "their limit cannot be read", "mount /proc");
    };
    let needed = descriptors_needed(config, placement);
    let connections = config.limits.connections_max;
    if hard >= needed {
        return Finding::ok("open files", format!("up to {hard}, {needed} are needed for {connections} connections"));
    }
    let found = format!("at most {hard}, {needed} are needed for limits.connections_max = {connections}");
    let nr_open = proc::number(root, "proc/sys/fs/nr_open").filter(|nr_open| *nr_open < needed);
    let first = nr_open.map_or(String::new(), |_| format!("sysctl -w fs.nr_open={needed}, then "));
    Finding::warn("open files", found, format!("{first}LimitNOFILE={needed} in the unit (ulimit -n), or lower the key"))
}

pub(super) fn cpus(root: &Path, placement: &Placement) -> Finding {
    let allowed = proc::allowed_cpus(root);
    let shards = placement.shards;
    if usize::from(shards) > placement.cpus.as_slice().len() {
        let found = format!("{shards} shards on CPUs {}", placement.cpus);
        return Finding::warn("cpus", found, "run one shard a CPU: leave server.shards \"auto\"");
    }
    Finding::ok("cpus", format!("{shards} shards on CPUs {} of {allowed}", placement.cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_as_far_as_its_minor_version() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18-rc3"), Some((6, 18)));
        assert_eq!(version("10.0"), Some((10, 0)));
        assert_eq!(version("unknown"), None);
    }
}
