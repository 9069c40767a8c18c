//! `benches/million.sh` around a run: what it says when something is missing, that it puts back what it has raised
//! however it ends, and that its bars can fail. Broker and generator are small scripts, /proc is a directory.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const BROKER: &str = "#!/bin/sh
echo 'listening on 127.0.0.1:1'
echo $$ > \"$FAKE/broker\"
trap 'exit 0' TERM
while :; do sleep 0.05; done
";

/// The first call leaves a result, the second is there until it is killed.
const GENERATOR: &str = "#!/bin/sh
while [ $# -gt 0 ]; do
    [ \"$1\" != --json ] || { echo measuring; sleep \"$RUN_SECONDS\" > /dev/null 2>&1; cat \"$FAKE/run.json\" > \"$2\"; exit 0; }
    shift
done
echo '  0.5 s  connected  2,001 of 2,001 in'
exec sleep 60
";

struct Host {
    root: PathBuf,
}

impl Host {
    fn new(test: &str) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("million").join(test);
        let _ = fs::remove_dir_all(&root);
        let host = Self { root };
        host.set("proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n");
        host.set("proc/sys/fs/file-max", "70000\n");
        host.set("proc/sys/net/core/somaxconn", "128\n");
        host.set("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
        host.set("run.json", &run(0, Some(6_000.0), 0.5).to_string());
        host.program("ringmq", BROKER);
        host.program("generator", GENERATOR);
        host
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.set(name, text);
        fs::set_permissions(self.root.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn limits(&self) -> [String; 2] {
        ["proc/sys/fs/file-max", "proc/sys/net/core/somaxconn"].map(|path| self.text(path).trim().to_owned())
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(benches("million.sh"));
        command.arg("--root").arg(&self.root).args(arguments);
        command.env("RINGMQ", self.root.join("ringmq")).env("LOADGEN", self.root.join("generator"));
        command.env("FAKE", &self.root).env("RUN_SECONDS", "0.2");
        command
    }

    fn broker_is_gone(&self) -> bool {
        !Path::new("/proc").join(self.text("broker").trim()).exists()
    }
}

fn benches(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name)
}

fn told(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

/// A result of 2,000 connections with a window of ten seconds: pings in each, slab, CPU of the broker in percent.
fn run(pings: u64, slab: Option<f64>, busy_percent: f64) -> Value {
    let row =
        |at: u64| json!({"at": at, "seconds": 1.0, "in_window": (2..12).contains(&at), "counts": {"pings": pings}});
    let point = |at: u64| json!({"at": at, "busy_percent": busy_percent});
    json!({
        "about": {"ended": "2026-01-02T03:04:05Z", "commit": "0123"}, "host": {"cpu": "a CPU", "memory_bytes": 1},
        "summary": {
            "time": {"connect_seconds": 0.5, "window_at": [2.0, 12.0], "window_seconds": 10.0},
            "connect": {"ready": 2_001, "per_second": 4_000.0},
            "whole": {"dropped": 0, "delivered": 20, "pings": pings * 12},
            "kernel": {"slab_per_connection_bytes": slab},
            "broker": {
                "rss_after_bytes": 2_000_000, "rss_per_connection_bytes": 700.0, "connect_cpu_us": 20.0,
                "busy_percent": busy_percent,
            },
        },
        "series": (0..13).map(row).collect::<Vec<_>>(), "broker_series": (0..13).map(point).collect::<Vec<_>>(),
    })
}

/// The table of a run, and the exit code.
fn table(test: &str, run: &Value) -> (Option<i32>, String) {
    let host = Host::new(test);
    let facts = json!({
        "connections": 2_000, "subscribed": true, "shards": 2, "generator_threads": 1, "source_addresses": 1, "cpus": 2,
        "verdict": 0, "stop_code": 0, "stop_seconds": 0.1, "host_bytes": 1_000_000, "generator_rss_bytes": 1_000_000,
    });
    host.set("run.json", &run.to_string());
    host.set("facts.json", &facts.to_string());
    let files = ["run.json", "facts.json"].map(|name| host.root.join(name));
    told(Command::new("python3").arg(benches("million.py")).args(files))
}

#[test]
fn what_was_raised_is_put_back_after_a_run() {
    let host = Host::new("run");
    let (code, said) = told(&mut host.script(&["2000"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("fs.file-max") && said.contains("somaxconn is raised from 128 to 4096"), "{said}");
    assert!(host.broker_is_gone());
    assert_eq!(host.limits(), ["70000", "128"]);
    let (code, said) = told(&mut host.script(&["20000"]));
    assert_eq!(code, Some(1), "20,000 were asked for and 2,001 came:\n{said}");
    assert!(said.contains("fs.file-max is raised from 70000 to 105536 until the end"), "{said}");
    assert!(said.contains("MISSED  every client was in") && said.contains("fs.file-max is 70000 again"), "{said}");
    assert_eq!(host.limits(), ["70000", "128"]);
}

#[test]
fn what_was_raised_is_put_back_when_the_broker_does_not_start() {
    let host = Host::new("no-start");
    host.program("ringmq", "#!/bin/sh\necho 'no ring for you'\nexit 2\n");
    let (code, said) = told(&mut host.script(&["20000"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no ring for you") && said.contains("the broker does not start"), "{said}");
    assert_eq!(host.limits(), ["70000", "128"]);
}

#[test]
fn what_was_raised_is_put_back_on_ctrl_c() {
    let host = Host::new("interrupted");
    let mut script = host.script(&["20000"]);
    let mut script = script.env("RUN_SECONDS", "20").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "measuring"));
    assert_eq!(host.limits(), ["105536", "4096"]);
    kill_process(Pid::from_child(&script), Signal::INT).unwrap();
    assert_eq!(script.wait().unwrap().code(), Some(2));
    let mut said = String::new();
    script.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("interrupted"), "{said}");
    assert!(host.broker_is_gone());
    assert_eq!(host.limits(), ["70000", "128"]);
}

#[test]
fn what_somebody_else_has_set_meanwhile_stays() {
    let host = Host::new("others");
    host.program("ringmq", "#!/bin/sh\necho 500000 > \"$FAKE/proc/sys/fs/file-max\"\nexit 2\n");
    let (_, said) = told(&mut host.script(&["20000"]));
    assert!(said.contains("is 500000 by another's hand: left alone"), "{said}");
    assert_eq!(host.limits(), ["500000", "128"]);
}

#[test]
fn what_is_missing_is_said_before_anything_is_changed() {
    let missing = |test: &str, change: &dyn Fn(&Host), arguments: &[&str], expected: &str| {
        let host = Host::new(test);
        change(&host);
        let (code, said) = told(&mut host.script(arguments));
        assert!(code == Some(2) && said.contains(expected), "{test}: {code:?} {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(host.text("proc/sys/net/core/somaxconn"), "128\n", "{test}");
    };
    let meminfo = |host: &Host| host.set("proc/meminfo", "MemAvailable: 1048576 kB\n");
    missing("memory", &meminfo, &["20000"], "take 1252 MiB of memory, 1024 MiB are available: end other programs");
    let ports = |host: &Host| host.set("proc/sys/net/ipv4/ip_local_port_range", "50000\t50099\n");
    missing("ports", &ports, &["20000"], "ip_local_port_range leaves 100 ports: widen it");
    let program = |host: &Host| fs::remove_file(host.root.join("ringmq")).unwrap();
    missing("program", &program, &["20000"], "ringmq, named by RINGMQ or LOADGEN, is no program");
    // Read-only for root too.
    let limit = |host: &Host| {
        fs::remove_file(host.root.join("proc/sys/fs/file-max")).unwrap();
        symlink("/proc/sys/kernel/ngroups_max", host.root.join("proc/sys/fs/file-max")).unwrap();
    };
    missing("limit", &limit, &["20000"], "fs.file-max is 65536 and must be 105536: run this as root, or set it");
    missing("few", &|_| {}, &["99"], "with fewer than 100 there is no sample");
    missing("typo", &|_| {}, &["--jsn"], "--jsn: not an option");
}

#[test]
fn idle_cpu_is_judged_with_and_without_pings() {
    let (code, said) = table("quiet", &run(0, Some(6_000.0), 4.9));
    assert!(code == Some(0) && said.contains("4.90 % of a core (10 s without a ping)"), "{said}");
    let (code, said) = table("busy", &run(0, Some(6_000.0), 5.1));
    assert!(code == Some(1) && said.contains("MISSED  at most 5 % of a core while idle"), "{said}");
    // 1,000 pings a second are allowed 2.5 %.
    let (code, said) = table("pings", &run(1_000, Some(6_000.0), 7.0));
    assert!(code == Some(0) && said.contains("4.50 % of a core (pings in every second"), "{said}");
    let (code, said) = table("busy-pings", &run(1_000, Some(6_000.0), 8.0));
    assert!(code == Some(1) && said.contains("MISSED  at most 5 %"), "{said}");
}

#[test]
fn idle_cpu_that_could_not_be_judged_is_a_bar_that_was_missed() {
    let mut short = run(0, Some(6_000.0), 0.1);
    short["broker_series"] = json!([]);
    let (code, said) = table("unjudged", &short);
    assert!(code == Some(1) && said.contains("while idle (not judged: the window had 0 whole seconds"), "{said}");
}

#[test]
fn a_figure_that_is_not_there_is_told_as_such() {
    let mut run = run(0, None, 0.1);
    run["summary"]["connect"]["per_second"] = Value::Null;
    let (code, said) = table("null", &run);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("n/a: the kernel had less slab than before") && said.contains("n/a: not all came in"),
        "{said}"
    );
    run["summary"]["broker"] = Value::Null;
    run["failures"] = json!(["the process is gone"]);
    let (code, said) = table("no-broker", &run);
    assert!(code == Some(2) && said.contains("was not read to the end of the window: the process is gone"), "{said}");
}
