//! `ringmq tune apply` and `revert` on hosts that are a few files.

use std::fs;
use std::os::unix::fs::symlink;

use crate::host::Host;

const RECORD: &str = "var/lib/ringmq/tuning.json";

fn count(said: &str, word: &str) -> usize {
    said.lines().filter(|line| line.starts_with(word)).count()
}

#[test]
fn what_is_applied_is_as_wanted_and_reverting_leaves_every_file_as_it_was() {
    let host = Host::untuned("round");
    host.limits("9000000", "8388608");
    let before = host.files();
    let (code, said) = host.tune("apply --role both");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("net.ipv4.ip_local_port_range  32768 60999 -> 1024 65535\n"), "one space, no tab: {said}");
    let (code, checked) = host.tune("check --role both");
    assert_eq!(code, 0, "{checked}");
    assert_eq!(host.text("proc/sys/net/ipv4/ip_local_port_range"), "1024 65535\n");
    assert_eq!(host.text("proc/sys/net/ipv4/ip_local_reserved_ports"), "1883,8883\n");
    let (code, said) = host.tune("revert");
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.files(), before);
    assert!(!host.root.join(RECORD).exists());
    assert!(host.tune("revert").1.contains("nothing to do: nothing has been applied"));
}

#[test]
fn what_is_better_than_wanted_or_only_advised_is_not_touched() {
    let host = Host::untuned("better");
    host.tune("apply");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_mem"), "500000 750000 9000000\n", "the third was more than wanted");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_notsent_lowat"), "4294967295\n");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_tw_reuse"), "2\n", "that is for generators");
    let (code, said) = host.tune("apply --only net.ipv4.tcp_notsent_lowat");
    assert_eq!((code, count(&said, "changed")), (0, 1), "{said}");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_notsent_lowat"), "131072\n");
}

#[test]
fn applying_twice_changes_nothing_more_and_keeps_what_was_first() {
    let host = Host::untuned("twice");
    let before = host.files();
    host.tune("apply --connections 200000");
    let (once, record) = (host.files(), host.text(RECORD));
    let (code, said) = host.tune("apply --connections 200000");
    assert_eq!((code, count(&said, "changed")), (0, 0), "{said}");
    assert_eq!((host.files(), host.text(RECORD)), (once, record));
    host.tune("apply --connections 3000000");
    assert_eq!(host.text("proc/sys/fs/file-max"), "3065536\n");
    let (code, said) = host.tune("revert");
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.files(), before);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let host = Host::untuned("dry");
    let before = host.files();
    let (code, said) = host.tune("apply --dry-run");
    assert_eq!(code, 0);
    assert!(said.contains("net.core.somaxconn  128 -> 4096") && said.contains("(dry run)"), "{said}");
    assert!(host.files() == before && !host.root.join("var").exists());
    host.tune("apply");
    let applied = (host.files(), host.text(RECORD));
    let (_, said) = host.tune("revert --dry-run");
    assert!(said.contains("net.core.somaxconn  4096 -> 128"), "{said}");
    assert_eq!((host.files(), host.text(RECORD)), applied);
}

#[test]
fn what_somebody_else_has_set_since_is_left_alone_and_told_unless_forced() {
    let host = Host::untuned("since");
    let before = host.files();
    host.tune("apply");
    host.set("proc/sys/net/core/somaxconn", "9999\n");
    let (code, said) = host.tune("revert");
    assert_eq!((code, count(&said, "FAILED")), (1, 1), "{said}");
    assert!(said.contains("9999") && said.contains("--force"), "{said}");
    assert_eq!(host.text("proc/sys/net/core/somaxconn"), "9999\n");
    let (code, said) = host.tune("revert --force");
    assert_eq!((code, count(&said, "changed")), (0, 1), "{said}");
    assert_eq!(host.files(), before);
}

#[test]
fn a_knob_that_cannot_be_set_is_named_and_the_rest_is_done() {
    let host = Host::untuned("refused");
    let path = host.root.join("proc/sys/fs/file-max");
    fs::remove_file(&path).unwrap();
    // A real sysctl that nobody may write, root neither.
    symlink("/proc/sys/kernel/ngroups_max", &path).unwrap();
    let (code, said) = host.tune("apply");
    assert_eq!((code, count(&said, "FAILED")), (1, 1), "{said}");
    assert!(said.contains("FAILED   fs.file-max  Permission denied"), "{said}");
    assert!(!host.text(RECORD).contains("file-max"), "there is nothing to undo");
    assert_eq!(host.text("proc/sys/net/core/somaxconn"), "4096\n");
}

#[test]
fn a_value_that_is_not_taken_as_written_is_a_failure_that_can_be_reverted() {
    let host = Host::untuned("null");
    let path = host.root.join("proc/sys/net/core/somaxconn");
    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    let (code, said) = host.tune("apply --only net.core.somaxconn");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("FAILED   net.core.somaxconn"), "{said}");
}

#[test]
fn without_a_place_for_former_values_nothing_is_touched() {
    let host = Host::untuned("place");
    host.set("var", "a file, no directory\n");
    let before = host.files();
    let (code, said) = host.tune("apply");
    assert_eq!(code, 3);
    assert!(said.contains("former values are kept in") && said.contains("tuning.json"), "{said}");
    assert_eq!(host.files(), before);
}

#[test]
fn a_record_that_cannot_be_read_is_not_written_over() {
    for record in ["{", "{\"version\": 2, \"changes\": []}", "{\"version\": 1, \"changes\": [], \"more\": 1}"] {
        let host = Host::untuned("record");
        host.set(RECORD, record);
        let before = host.files();
        for command in ["apply", "revert"] {
            let (code, said) = host.tune(command);
            assert_eq!(code, 3, "{said}");
            assert!(said.contains("not a record of former values"), "{said}");
        }
        assert_eq!((host.files(), host.text(RECORD)), (before, record.to_owned()));
    }
}

#[test]
fn only_what_can_be_applied_can_be_named() {
    let host = Host::untuned("names");
    for name in ["net.core.somaxcon", "open_files", "isolcpus", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_tw_reuse"]
    {
        let (code, said) = host.tune(&format!("apply --only {name}"));
        assert_eq!(code, 3, "{said}");
        assert!(said.contains(name), "{said}");
    }
    let (code, said) = host.tune("apply --only net.core.somaxconn,fs.nr_open");
    assert_eq!((code, count(&said, "changed")), (0, 2), "{said}");
}

#[test]
fn each_file_of_a_knob_is_restored_to_its_own_value() {
    let host = Host::untuned("governors");
    let cpu = |cpu| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
    host.set(&cpu(2), "schedutil\n");
    let (_, said) = host.tune("apply");
    assert!(said.contains("(/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor)"), "{said}");
    assert_eq!((host.text(&cpu(0)), host.text(&cpu(2))), ("performance\n".into(), "performance\n".into()));
    host.tune("revert");
    assert_eq!((host.text(&cpu(0)), host.text(&cpu(2))), ("powersave\n".into(), "schedutil\n".into()));
    assert_eq!(host.text("sys/devices/system/cpu/cpufreq/policy0/scaling_governor"), "powersave\n");
}
