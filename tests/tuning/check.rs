//! `ringmq tune check`: rows, states, exit codes, JSON.

use std::process::Command;

use serde_json::Value;

use crate::host::{Host, run, tuning};

/// State of each knob of a report.
fn states(host: &Host, arguments: &str) -> Vec<(String, String)> {
    let (_, said) = host.tune(&format!("check --json {arguments}"));
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let rows = report["knobs"].as_array().unwrap();
    rows.iter().map(|row| (word(&row["knob"]), word(&row["state"]))).collect()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn state(host: &Host, arguments: &str, knob: &str) -> Option<String> {
    states(host, arguments).into_iter().find(|(name, _)| name == knob).map(|(_, state)| state)
}

#[test]
fn the_exit_code_is_that_of_the_worst_knob_and_3_where_nothing_was_checked() {
    let host = Host::untuned("codes");
    assert_eq!(host.tune("check").0, 2);
    host.set("proc/sys/fs/file-max", "9000000\n");
    host.set("proc/sys/fs/nr_open", "9000000\n");
    host.set("proc/sys/kernel/io_uring_disabled", "0\n");
    host.limits("1000000", "8388608");
    let (code, said) = host.tune("check");
    assert_eq!(code, 1, "{said}");
    assert_eq!(Host::empty("codes-empty").tune("check").0, 0, "what is not there does not count");
    for wrong in ["check --conections 5", "check --cores 0", "check --pid 4194999", "nothing"] {
        assert_eq!(host.tune(wrong).0, 3, "{wrong}");
    }
}

#[test]
fn a_row_tells_knob_current_wanted_and_state_and_why_if_asked() {
    let host = Host::untuned("rows");
    let (_, said) = host.tune("check --connections 5000 --cores 2");
    let row = said.lines().find(|line| line.starts_with("net.core.somaxconn ")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["net.core.somaxconn", "128", ">=4096", "WARN"]);
    assert!(said.lines().next().unwrap().starts_with("knob "), "{said}");
    assert!(said.contains("5000 connections on 2 cores: "), "{said}");
    assert!(!said.contains("why:"));
    let (_, said) = host.tune("check --why");
    for part in [
        "why:   It silently cuts",
        "cost:  ",
        "bites: TcpExtListenOverflows",
        "do:    sysctl -w net.core.somaxconn='4096'",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn what_is_wanted_grows_with_connections_and_shrinks_with_cores() {
    let host = Host::untuned("grows");
    let of =
        |arguments| (state(&host, arguments, "fs.file-max").unwrap(), state(&host, arguments, "fs.nr_open").unwrap());
    assert_eq!(of("--connections 30000 --cores 1"), ("OK".into(), "OK".into()));
    assert_eq!(of("--connections 1000000 --cores 64"), ("FAIL".into(), "OK".into()));
    assert_eq!(of("--connections 1000000 --cores 8"), ("FAIL".into(), "FAIL".into()));
}

#[test]
fn a_role_sees_what_matters_to_it() {
    let host = Host::untuned("roles");
    let ports = "net.ipv4.ip_local_port_range";
    assert_eq!(state(&host, "", ports), None);
    assert_eq!(state(&host, "--role generator", ports).unwrap(), "FAIL");
    assert_eq!(state(&host, "--role generator", "net.core.somaxconn"), None);
    assert_eq!(state(&host, "--role both", "net.core.somaxconn").unwrap(), "WARN");
    host.set("proc/sys/fs/file-max", "1500000\n");
    assert_eq!(state(&host, "--role broker", "fs.file-max").unwrap(), "OK");
    assert_eq!(state(&host, "--role both", "fs.file-max").unwrap(), "FAIL", "both ends of each are here");
}

#[test]
fn of_several_files_the_one_that_is_not_as_wanted_counts() {
    let host = Host::untuned("several");
    assert_eq!(state(&host, "", "frequency governor").unwrap(), "WARN");
    host.set("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
    assert_eq!(state(&host, "", "frequency governor").unwrap(), "OK", "cpufreq/ is no CPU's");
}

#[test]
fn a_choice_is_what_stands_in_brackets() {
    let host = Host::untuned("brackets");
    let pages = "sys/kernel/mm/transparent_hugepage/enabled";
    host.set(pages, "[always] madvise never\n");
    assert_eq!(state(&host, "", "transparent huge pages").unwrap(), "WARN");
    host.set(pages, "always madvise [never]\n");
    assert_eq!(state(&host, "", "transparent huge pages").unwrap(), "OK");
}

#[test]
fn a_control_groups_limit_is_the_least_of_those_above_it() {
    let host = Host::untuned("groups");
    assert_eq!(state(&host, "", "memory").unwrap(), "ABSENT");
    host.set("sys/fs/cgroup/system.slice/ringmq.service/memory.max", "max\n");
    assert_eq!(state(&host, "", "memory").unwrap(), "OK");
    host.set("sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
    assert_eq!(state(&host, "", "memory").unwrap(), "FAIL");
    assert_eq!(state(&host, "--connections 100000", "memory").unwrap(), "OK");
    host.set("sys/fs/cgroup/system.slice/ringmq.service/cpu.max", "300000 100000\n");
    assert_eq!(state(&host, "--cores 3", "cpu quota").unwrap(), "OK");
    assert_eq!(state(&host, "--cores 4", "cpu quota").unwrap(), "WARN");
}

#[test]
fn limits_are_those_of_the_process_named() {
    let host = Host::untuned("pid");
    host.set("proc/77/limits", "Max open files            1024                 unlimited            files\n");
    assert_eq!(state(&host, "", "open files").unwrap(), "FAIL");
    assert_eq!(state(&host, "--pid 77", "open files").unwrap(), "OK");
}

#[test]
fn a_boot_parameter_is_held_by_what_it_came_to() {
    let host = Host::untuned("boot");
    assert_eq!(state(&host, "", "thash_entries").unwrap(), "ABSENT");
    host.set("proc/sys/net/ipv4/tcp_ehash_entries", "262144\n");
    assert_eq!(state(&host, "", "thash_entries").unwrap(), "WARN");
    assert!(host.tune("check --why").1.contains("boot with thash_entries=1048576"));
    assert_eq!(state(&host, "--connections 200000", "thash_entries").unwrap(), "OK");
    // As a container sees it that shares the host's.
    host.set("proc/sys/net/ipv4/tcp_ehash_entries", "-1048576\n");
    assert_eq!(state(&host, "", "thash_entries").unwrap(), "OK");
}

#[test]
fn the_json_report_says_all_that_the_table_knows_of_each_knob() {
    let host = Host::untuned("json");
    let (code, said) = host.tune("check --json --connections 2000 --cores 2");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&report["target"]["connections"], &report["target"]["role"]), (&2000.into(), &"broker".into()));
    let rows = report["knobs"].as_array().unwrap();
    let counts: u64 = report["count"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(rows.len() as u64, counts);
    assert_eq!(code, 2);
    for row in rows {
        for field in ["knob", "where", "wanted", "state", "severity", "why", "cost", "bites"] {
            assert!(row[field].is_string(), "{field}: {row}");
        }
        let is_bad = ["NOTE", "WARN", "FAIL"].contains(&row["state"].as_str().unwrap());
        assert_eq!(row["remedy"].is_string(), is_bad, "{row}");
        assert_eq!(row["current"].is_null(), row["state"] == "ABSENT", "{row}");
    }
}

#[test]
fn the_fronts_run_the_program_that_is_named() {
    let front = |name| {
        let mut command = Command::new(tuning(name));
        run(command.arg("--help").env("RINGMQ", env!("CARGO_BIN_EXE_ringmq")))
    };
    for (name, says) in [("check", "--pid"), ("apply", "--only"), ("revert", "--force")] {
        let (code, said) = front(name);
        assert!(code == 0 && said.contains(says), "{name}: {said}");
    }
}
