//! How much memory there is for the process: the host's, or what its control group leaves of it.

use std::path::Path;

use super::proc;

/// In bytes; `None` where the kernel does not say.
pub fn memory(root: &Path) -> Option<u64> {
    let host = proc::memory(root, "MemTotal");
    let group = control_group(root);
    [host, group].into_iter().flatten().min()
}

/// The lowest `memory.max` from the process's control group (version 2) up to the root.
fn control_group(root: &Path) -> Option<u64> {
    let groups = proc::text(root, "proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| proc::number(root, &format!("sys/fs/cgroup/{}/memory.max", group.display()));
    Path::new(own).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_control_group_that_allows_less_than_the_host_has_counts_also_when_it_is_a_parent() {
        let root = std::env::temp_dir().join(format!("ringmq-memory-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(memory(&root), None);
        write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 5 kB\n");
        assert_eq!(memory(&root), Some(1_024_000));
        write("proc/self/cgroup", "0::/system.slice/ringmq.service\n");
        write("sys/fs/cgroup/system.slice/ringmq.service/memory.max", "max\n");
        assert_eq!(memory(&root), Some(1_024_000));
        write("sys/fs/cgroup/system.slice/memory.max", "500000\n");
        assert_eq!(memory(&root), Some(500_000));
        write("sys/fs/cgroup/system.slice/ringmq.service/memory.max", "400000\n");
        assert_eq!(memory(&root), Some(400_000));
        fs::remove_dir_all(&root).unwrap();
    }
}
