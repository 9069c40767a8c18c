//! Hosts that only exist as files below a directory, and running programs on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the host of every test starts with: nothing of it is as wanted for a million connections.
const UNTUNED: [(&str, &str); 20] = [
    ("proc/meminfo", "MemTotal:       33554432 kB\n"),
    ("proc/self/status", "Cpus_allowed_list:\t0-3\n"),
    ("proc/self/cgroup", "0::/system.slice/ringmq.service\n"),
    ("proc/sys/fs/file-max", "100000\n"),
    ("proc/sys/fs/nr_open", "65536\n"),
    ("proc/sys/net/core/somaxconn", "128\n"),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "0\n"),
    ("proc/sys/net/ipv4/tcp_mem", "1000\t2000\t9000000\n"),
    ("proc/sys/net/ipv4/tcp_max_orphans", "4096\n"),
    ("proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/ip_local_reserved_ports", "\n"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "2\n"),
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
    ("proc/sys/vm/overcommit_memory", "2\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu11/cpufreq/scaling_governor", "performance\n"),
    ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
];

/// A root directory with some files in it.
pub struct Host {
    pub root: PathBuf,
}

impl Host {
    pub fn untuned(test: &str) -> Host {
        let host = Host::empty(test);
        for (path, text) in UNTUNED {
            host.set(path, text);
        }
        host.limits("1024", "65536");
        host
    }

    pub fn empty(test: &str) -> Host {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tuning").join(test);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        Host { root }
    }

    pub fn limits(&self, files: &str, memlock: &str) {
        let text = format!(
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            1024                 {files}              files\n\
             Max locked memory         65536                {memlock}            bytes\n"
        );
        self.set("proc/self/limits", &text);
    }

    pub fn set(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every file with its text, the record of former values apart.
    pub fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.insert(path.clone(), fs::read_to_string(&path).unwrap());
                }
            }
        }
        files.retain(|path, _| !path.starts_with(self.root.join("var")));
        files
    }

    /// Runs `ringmq tune` on it: its exit code, and what it said, errors included.
    pub fn tune(&self, arguments: &str) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.arg("tune").args(arguments.split_whitespace());
        run(command.arg("--root").arg(&self.root))
    }

    /// Runs a script of `tuning/` on it, with the programs in its `bin` before all others.
    pub fn script(&self, name: &str, arguments: &str) -> (i32, String) {
        let path = format!("{}:{}", self.root.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("sh");
        command.arg(tuning(name)).args(arguments.split_whitespace()).env("PATH", path);
        run(command.arg("--root").arg(&self.root).env("FAKE", self.root.join("fake")))
    }
}

/// A file of `tuning/`.
pub fn tuning(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name)
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    (status.code().unwrap_or_else(|| panic!("{said}")), said)
}
