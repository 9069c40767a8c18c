//! The real kernel, in a network namespace of its own, which goes with its last process.

use std::fs;
use std::process::Command;

use ringmq::doctor::tune::{Place, Severity, table};

use crate::host::{run, tuning};

/// What a network namespace has for itself, by the table.
fn namespaced() -> Vec<(&'static str, &'static str)> {
    let own = table().iter().filter(|knob| knob.namespaced && knob.severity != Severity::Leave);
    own.filter_map(|knob| match &knob.place {
        Place::Sysctl(name) => Some((knob.name.as_str(), name.as_str())),
        _ => None,
    })
    .collect()
}

fn values() -> Vec<Option<String>> {
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    namespaced().iter().map(|(_, name)| fs::read_to_string(path(name)).ok()).collect()
}

/// Runs a script where network and /var/lib are its own; `None` where this may not be done (as anybody but root).
fn isolated(script: &str) -> Option<(i32, String)> {
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        let script = format!("set -e; mount -t tmpfs none /var/lib; ip link set lo up; {script}");
        command.args(["--net", "--mount", "sh", "-c", &script]).env("RINGMQ", env!("CARGO_BIN_EXE_ringmq"));
        command
    };
    match inside("command -v sysctl >/dev/null; echo works").output() {
        Ok(output) if output.stdout == b"works\n" => Some(run(&mut inside(script))),
        _ => {
            println!("skipped: needs root, unshare(1), ip(8) and sysctl(8)");
            None
        }
    }
}

#[test]
fn a_namespaces_own_knobs_are_set_and_restored_and_the_hosts_stay_as_they_are() {
    let before = values();
    let knobs: Vec<&str> = namespaced().iter().map(|(knob, _)| *knob).collect();
    assert!(knobs.len() > 5);
    let names: Vec<&str> = namespaced().iter().map(|(_, name)| *name).collect();
    let (only, names) = (knobs.join(","), names.join(" "));
    let tune = tuning("tune").display().to_string();
    // Values that no kernel starts with, so that there is something to do everywhere.
    let script = format!(
        "sysctl -q -w net.core.somaxconn=77 net.ipv4.tcp_syncookies=0 net.ipv4.tcp_abort_on_overflow=1
         sysctl -q -w net.ipv4.ip_local_reserved_ports=8000-8005 net.ipv4.tcp_tw_reuse=0
         sysctl {names} > /var/lib/before
         {tune} apply --role both --only {only}
         sysctl {names} > /var/lib/applied
         {tune} apply --role both --only {only} | grep changed.*-\\> && exit 9
         {tune} check --role both | grep -E '^({}) .*(WARN|FAIL|note)$' && exit 8
         {tune} revert
         sysctl {names} > /var/lib/after
         cmp /var/lib/before /var/lib/after
         ! cmp -s /var/lib/before /var/lib/applied
         grep 'reserved_ports = 1883,8000-8005,8883' /var/lib/applied
         test ! -e /var/lib/ringmq/tuning.json",
        knobs.join("|").replace('.', "\\."),
    );
    if let Some((code, said)) = isolated(&script) {
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("net.core.somaxconn  77 -> 4096"), "{said}");
    }
    assert_eq!(values(), before);
}

#[test]
fn a_generators_addresses_can_be_connected_from_and_go_again() {
    let before = values();
    let script = format!(
        "{host} --base 10.99.8.1 116000 > /var/lib/options
         grep -x -e '--source-ips 10.99.8.1-10.99.8.2' /var/lib/options
         ip -o addr show dev lo | grep -F 10.99.8.2/32
         sysctl net.ipv4.ip_local_port_range | grep '1024.*65535'
         {host} --revert
         ip -o addr show dev lo | grep -F 10.99.8 && exit 7
         sysctl net.ipv4.ip_local_port_range | grep '32768.*60999'
         sysctl -n net.ipv4.ip_local_reserved_ports | grep -x ''",
        host = tuning("loadgen-host").display(),
    );
    if let Some((code, said)) = isolated(&script) {
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(values(), before);
}
