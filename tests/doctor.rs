//! `ringmq doctor` on hosts that only exist as a few files.

use std::fs;
use std::path::{Path, PathBuf};

use ringmq::config::{Config, CpuSet, Draft, Placement};
use ringmq::doctor::tune::{Row, State};
use ringmq::doctor::{Finding, Level, allowed_cpus, examine, insist, knob_findings, knobs, target};

/// A root with what the doctor reads, all of it as it should be.
struct Host {
    root: PathBuf,
    ring: Result<String, String>,
}

impl Host {
    fn healthy(test: &str) -> Host {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("doctor").join(test);
        let _ = fs::remove_dir_all(&root);
        let host = Host { root, ring: Ok("multishot".to_owned()) };
        host.set("proc/sys/kernel/osrelease", "6.12.3-amd64\n");
        host.set("proc/sys/kernel/io_uring_disabled", "0\n");
        host.limits("2000000", "8388608");
        host.set("proc/self/status", "Name:\tringmq\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n");
        host.set("proc/sys/fs/nr_open", "1048576\n");
        host.set("proc/sys/net/core/somaxconn", "4096\n");
        host.set("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        host.set("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        host.set("proc/meminfo", "MemTotal:       33554432 kB\nMemFree:         1048576 kB\n");
        host
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn limits(&self, files: &str, memlock: &str) {
        let limits = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 {files}              files     \n\
             Max locked memory         65536                {memlock}            bytes     \n"
        );
        self.set("proc/self/limits", &limits);
    }

    fn examine(&self, config: &str) -> Vec<Finding> {
        let (config, placement): (Config, Placement) =
            Draft::from_text("test.toml", config).unwrap().check(&self.cpus()).unwrap();
        let mut findings = examine(&self.root, self.ring.clone(), &config, &placement);
        let rows = knobs(&self.root, &target(&self.root, &config, &placement)).unwrap();
        findings.extend(knob_findings(&rows, false));
        findings
    }

    /// The table's rows for a broker of a million connections on four shards.
    fn rows(&self) -> Vec<Row> {
        let (config, placement) = Draft::from_text("test.toml", "").unwrap().check(&self.cpus()).unwrap();
        knobs(&self.root, &target(&self.root, &config, &placement)).unwrap()
    }

    fn cpus(&self) -> CpuSet {
        allowed_cpus(&self.root)
    }

    #[track_caller]
    fn assert_only(&self, config: &str, level: Level, name: &str, found: &str, remedy: &str) {
        let mut bad: Vec<Finding> = self.examine(config).into_iter().filter(|f| f.level != Level::Ok).collect();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        let finding = bad.remove(0);
        assert_eq!((finding.level, finding.name), (level, name), "{finding}");
        assert!(finding.found.contains(found), "{finding}");
        assert!(finding.remedy.contains(remedy), "{finding}");
    }
}

#[test]
fn a_healthy_host_has_nothing_to_change() {
    let host = Host::healthy("healthy");
    let findings = host.examine("");
    assert!(findings.iter().all(|finding| finding.level == Level::Ok && finding.remedy.is_empty()), "{findings:#?}");
    assert_eq!(findings[0].to_string(), "OK    kernel        Linux 6.12.3-amd64");
    let last = findings.last().unwrap();
    assert_eq!((last.name, findings.len()), ("knobs", 7));
    assert!(last.found.contains("ask for no change"), "{last}");
}

#[test]
fn a_kernel_before_6_1_fails() {
    let host = Host::healthy("kernel");
    host.set("proc/sys/kernel/osrelease", "6.0.19\n");
    host.assert_only("", Level::Fail, "kernel", "6.0.19", "6.1 or newer");
    host.set("proc/sys/kernel/osrelease", "6.1.0\n");
    assert_eq!(host.examine("")[0].level, Level::Ok);
}

#[test]
fn a_forbidden_ring_fails_with_the_switch_that_forbids_it() {
    let mut host = Host::healthy("ring");
    host.ring = Err("Operation not permitted (os error 1)".to_owned());
    host.assert_only("", Level::Fail, "io_uring", "not permitted", "seccomp");
    host.set("proc/sys/kernel/io_uring_disabled", "1\n");
    host.assert_only("", Level::Fail, "io_uring", "not permitted", "io_uring_group");
    host.set("proc/sys/kernel/io_uring_disabled", "2\n");
    host.assert_only("", Level::Fail, "io_uring", "not permitted", "sysctl -w kernel.io_uring_disabled=0");
}

#[test]
fn too_little_locked_memory_fails() {
    let host = Host::healthy("memlock");
    host.limits("2000000", "65536");
    host.assert_only("", Level::Fail, "memlock", "64KiB", "LimitMEMLOCK");
    host.limits("2000000", "unlimited");
    assert!(host.examine("").iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn open_files_are_compared_with_the_connections_configured() {
    let host = Host::healthy("files");
    host.limits("4096", "8388608");
    let one = "[server]\nshards = 1\n";
    host.assert_only(one, Level::Warn, "open files", "at most 4096, 1000256 are needed", "LimitNOFILE=1000256");
    let fewer = "[server]\nshards = 1\n[limits]\nconnections_max = 3840";
    assert!(host.examine(fewer).iter().all(|finding| finding.level == Level::Ok));
    host.set("proc/sys/fs/nr_open", "10000\n");
    let findings = host.examine(one);
    let told = findings.iter().find(|finding| finding.name == "open files").unwrap();
    assert!(told.remedy.contains("fs.nr_open=1000256"), "{told}");
    assert!(findings.iter().any(|finding| finding.name == "fs.nr_open" && finding.level == Level::Warn));
}

#[test]
fn more_shards_than_cpus_are_a_warning() {
    let host = Host::healthy("cpus");
    assert_eq!(host.cpus(), "0-3".parse().unwrap());
    host.assert_only("[server]\nshards = 5", Level::Warn, "cpus", "5 shards on CPUs 0-3", "auto");
}

#[test]
fn a_backlog_that_the_kernel_cuts_is_a_warning() {
    let host = Host::healthy("backlog");
    host.set("proc/sys/net/core/somaxconn", "128\n");
    host.assert_only("", Level::Warn, "net.core.somaxconn", "128, >=4096", "net.core.somaxconn='4096'");
    let longer = "[[listener]]\naddress = \"127.0.0.1:1883\"\nbacklog = 9000";
    host.assert_only(longer, Level::Warn, "net.core.somaxconn", "128, >=9000", "'9000'");
}

#[test]
fn a_port_that_outgoing_connections_may_take_is_a_warning_unless_reserved() {
    let host = Host::healthy("ports");
    let config = "[[listener]]\naddress = \"127.0.0.1:40000\"";
    host.assert_only(config, Level::Warn, "ports", "port 40000 is within 32768-60999", "ip_local_reserved_ports=40000");
    host.set("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,39999-40001\n");
    assert!(host.examine(config).iter().all(|finding| finding.level == Level::Ok));
}

#[test]
fn huge_pages_that_are_always_on_are_a_warning() {
    let host = Host::healthy("huge");
    host.set("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
    host.assert_only("", Level::Warn, "transparent huge pages", "always, madvise|never", "echo madvise > /sys/kernel");
}

#[test]
fn a_firewall_that_tracks_too_few_connections_is_a_warning() {
    let host = Host::healthy("conntrack");
    host.set("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    host.set("proc/sys/net/netfilter/nf_conntrack_count", "12\n");
    host.assert_only("", Level::Warn, "net.netfilter.nf_conntrack_max", "262144", "nf_conntrack_max='1315536'");
    host.set("proc/sys/net/netfilter/nf_conntrack_count", "0\n");
    assert!(host.examine("").iter().all(|finding| finding.level == Level::Ok), "loaded, and tracking nothing");
}

#[test]
fn what_only_bounds_the_number_of_connections_fails_when_that_number_was_asked_for() {
    let host = Host::healthy("asked");
    host.set("proc/sys/fs/file-max", "100000\n");
    let rows = host.rows();
    let level = |asked| knob_findings(&rows, asked).iter().find(|found| found.name == "fs.file-max").unwrap().level;
    assert_eq!((level(false), level(true)), (Level::Warn, Level::Fail));
    host.limits("1000", "8388608");
    let mut findings = host.examine("");
    insist(&mut findings);
    let fails = findings.iter().filter(|found| found.level == Level::Fail).map(|found| found.name);
    assert_eq!(fails.collect::<Vec<_>>(), ["open files"]);
    let row = rows.iter().find(|row| row.knob == "fs.file-max").unwrap();
    assert_eq!((row.state, row.current.as_deref()), (State::Fail, Some("100000")));
}

#[test]
fn what_the_doctor_examines_itself_is_not_told_twice() {
    let host = Host::healthy("twice");
    host.limits("4096", "65536");
    host.set("proc/sys/kernel/io_uring_disabled", "2\n");
    let named = |name: &str| host.examine("").iter().filter(|finding| finding.name == name).count();
    assert_eq!((named("open files"), named("memlock"), named("locked memory")), (1, 1, 0));
    assert_eq!(named("kernel.io_uring_disabled"), 0);
}

#[test]
fn a_host_without_proc_is_reported_not_a_panic() {
    let host = Host::healthy("empty");
    fs::remove_dir_all(&host.root).unwrap();
    let findings = host.examine("");
    assert_eq!((findings[0].level, findings[0].name), (Level::Fail, "kernel"));
    assert!(!host.cpus().is_empty());
}
