//! The scripts for a network interface and for a generator's host, on hosts that are a few files. `ethtool` and `ip` are
//! small scripts here, which keep what they are told in files of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::host::Host;

/// Knows combined queues, rings, adaptive coalescing and GRO of one device with 8 queues and rings of 4096.
const ETHTOOL: &str = r#"#!/bin/sh
set -e
cd "$FAKE"
case $1 in
    -l) echo "Channel parameters for $2:
Pre-set maximums:
RX:		n/a
Combined:	8
Current hardware settings:
RX:		n/a
Combined:	$(cat combined)" ;;
    -g) echo "Ring parameters for $2:
Pre-set maximums:
RX:		4096
TX:		1024
Current hardware settings:
RX:		$(cat rx)
TX:		$(cat tx)" ;;
    -c) echo "Coalesce parameters for $2:
Adaptive RX: $(cat adaptive-rx)  TX: off" ;;
    -k) echo "Features for $2:
generic-receive-offload: $(cat gro)" ;;
    -L | -G | -C | -K) [ "$2" = eth0 ]; echo "$4" >"$3" ;;
    *) exit 1 ;;
esac
"#;

const IP: &str = r#"#!/bin/sh
set -e
case "$*" in
    "-o addr show dev eth1") sed 's/^/2: eth1    inet /' "$FAKE" ;;
    "addr add "*" dev eth1") echo "$3 scope global eth1" >>"$FAKE" ;;
    "addr del "*" dev eth1") grep -vF "$3 " "$FAKE" >"$FAKE.new" || true; mv "$FAKE.new" "$FAKE" ;;
    *) exit 1 ;;
esac
"#;

fn program(host: &Host, name: &str, text: &str) {
    host.set(&format!("bin/{name}"), text);
    fs::set_permissions(host.root.join("bin").join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

/// A host with an interface of four queues.
fn with_interface(test: &str) -> Host {
    let host = Host::empty(test);
    program(&host, "ethtool", ETHTOOL);
    for (name, value) in [("combined", "4"), ("rx", "256"), ("tx", "4096"), ("adaptive-rx", "off"), ("gro", "on")] {
        host.set(&format!("fake/{name}"), &format!("{value}\n"));
    }
    let mut interrupts = "            CPU0       CPU1\n  9:  0  0  IO-APIC  acpi\n".to_owned();
    for queue in 0..4 {
        interrupts.push_str(&format!(" {}:  10  0  PCI-MSI-0000:00:03.0  eth0-TxRx-{queue}\n", 30 + queue));
        host.set(&format!("proc/irq/{}/smp_affinity_list", 30 + queue), "0-3\n");
        host.set(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "0\n");
        host.set(&format!("sys/class/net/eth0/queues/rx-{queue}/rps_flow_cnt"), "0\n");
        host.set(&format!("sys/class/net/eth0/queues/tx-{queue}/xps_cpus"), "00000000,00000000\n");
    }
    host.set("proc/irq/9/smp_affinity_list", "0-3\n");
    host.set("proc/interrupts", &interrupts);
    host.set("proc/sys/net/core/rps_sock_flow_entries", "0\n");
    host
}

#[test]
fn an_interface_is_spread_over_the_cores_and_restored() {
    let host = with_interface("nic");
    let before = host.files();
    let (code, said) = host.script("nic", "--cores 4 eth0");
    assert_eq!(code, 0, "{said}");
    assert_eq!((host.text("fake/rx"), host.text("fake/tx")), ("2048\n".into(), "4096\n".into()));
    assert_eq!(host.text("fake/adaptive-rx"), "on\n");
    assert_eq!(host.text("proc/irq/32/smp_affinity_list"), "2\n");
    assert_eq!(host.text("proc/irq/9/smp_affinity_list"), "0-3\n", "that is another's");
    assert_eq!(host.text("sys/class/net/eth0/queues/tx-3/xps_cpus"), "8\n");
    assert_eq!(host.text("sys/class/net/eth0/queues/rx-0/rps_cpus"), "0\n", "not asked for");

    let (code, said) = host.script("nic", "--cores 4 --check eth0");
    assert_eq!(code, 0, "{said}");
    let applied = host.files();
    let (_, said) = host.script("nic", "--cores 4 eth0");
    assert!(!said.contains("changed"), "{said}");
    assert_eq!(host.files(), applied);

    let (code, said) = host.script("nic", "--revert");
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.files(), before);
    assert!(host.script("nic", "--revert").1.contains("nothing to revert"));
}

#[test]
fn a_dry_run_of_the_interface_does_nothing_and_a_check_tells_by_its_exit_code() {
    let host = with_interface("nic-dry");
    let before = host.files();
    let (code, said) = host.script("nic", "--cores 8 --rps --dry-run eth0");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("changed  eth0 queues  4 -> 8"), "{said}");
    assert_eq!(host.script("nic", "--cores 8 --check eth0").0, 1);
    assert!(host.files() == before && !host.root.join("var").exists());
}

#[test]
fn fewer_queues_than_cores_are_shared_and_rps_and_rfs_make_up_for_them_if_asked() {
    let host = with_interface("nic-rps");
    // 40 CPUs: masks of two words. The device's queues do not become more by the fake ethtool's leave.
    let (code, said) = host.script("nic", "--cores 40 --rps eth0");
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.text("fake/combined"), "8\n", "as many as it has");
    assert_eq!(host.text("sys/class/net/eth0/queues/tx-1/xps_cpus"), "22,22222222\n");
    assert_eq!(host.text("sys/class/net/eth0/queues/rx-2/rps_cpus"), "ff,ffffffff\n");
    assert_eq!(host.text("proc/sys/net/core/rps_sock_flow_entries"), "131072\n");
    assert_eq!(host.text("sys/class/net/eth0/queues/rx-2/rps_flow_cnt"), "32768\n");
    let (_, said) = host.script("nic", "--cores 40 --rps eth0");
    assert!(!said.contains("changed"), "{said}");
    assert_eq!(host.script("nic", "--revert").0, 0);
    assert_eq!(host.text("sys/class/net/eth0/queues/rx-2/rps_cpus"), "0\n");
}

#[test]
fn an_interface_that_is_not_there_fails_and_a_device_that_cannot_is_left() {
    let host = with_interface("nic-none");
    let (code, said) = host.script("nic", "--cores 2 eth7");
    assert!(code == 1 && said.contains("eth7: no such interface"), "{said}");
    program(&host, "ethtool", "#!/bin/sh\necho 'netlink error: Operation not supported' >&2\nexit 1\n");
    let (code, said) = host.script("nic", "--cores 4 eth0");
    assert!(code == 0 && said.contains("absent   eth0 queues") && said.contains("absent   eth0 rx ring"), "{said}");
    assert_eq!(host.text("proc/irq/31/smp_affinity_list"), "1\n", "what needs no ethtool is done");
    assert_eq!(host.script("nic", "--cores x eth0").0, 2);
    assert_eq!(host.script("nic", "--cores 4").0, 2);
}

/// A generator's host with an interface that has one address.
fn generator(test: &str) -> Host {
    let host = Host::untuned(test);
    program(&host, "ip", IP);
    host.set("fake", "10.0.8.10/16 scope global eth1\n");
    host
}

#[test]
fn a_generators_host_gets_ports_and_as_many_addresses_as_its_connections_need() {
    let host = generator("generator");
    let before = host.files();
    let (code, said) = host.script("loadgen-host", "--interface eth1 --base 10.0.8.254 --prefix 16 174000");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("--source-ips 10.0.8.254-10.0.9.0\n"), "{said}");
    assert_eq!(host.text("fake").lines().count(), 4);
    assert_eq!(host.text("proc/sys/net/ipv4/ip_local_port_range"), "1024 65535\n");
    assert_eq!(host.text("proc/sys/net/ipv4/ip_local_reserved_ports"), "1883,8883\n");
    assert_eq!(host.text("proc/sys/net/ipv4/tcp_tw_reuse"), "1\n");
    let applied = host.files();
    let (_, said) = host.script("loadgen-host", "--interface eth1 --base 10.0.8.254 --prefix 16 174000");
    assert!(!said.contains("changed"), "{said}");
    assert_eq!(host.files(), applied);
    let (code, said) = host.script("loadgen-host", "--revert");
    assert_eq!(code, 0, "{said}");
    let tabs = |text: String| text.replace('\t', " ");
    for (path, text) in before {
        assert_eq!(tabs(fs::read_to_string(&path).unwrap()), tabs(text), "{}", path.display());
    }
}

#[test]
fn on_loopback_the_addresses_are_there_already() {
    let host = generator("loopback");
    let (code, said) = host.script("loadgen-host", "1000000");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("--source-ips 127.0.0.2-127.0.0.19\n"), "{said}");
    assert_eq!(host.text("fake").lines().count(), 1);
}

#[test]
fn a_dry_run_of_the_generators_host_does_nothing() {
    let host = generator("generator-dry");
    let before = host.files();
    let (code, said) = host.script("loadgen-host", "--dry-run --interface eth1 --base 10.0.8.11 60000");
    assert!(code == 0 && said.contains("changed  10.0.8.11/32 added to eth1"), "{said}");
    assert!(host.files() == before && !host.root.join("var").exists());
    for wrong in ["", "many", "0", "--base 10.0 5", "--wrong 5"] {
        assert_eq!(host.script("loadgen-host", wrong).0, 2, "{wrong}");
    }
}
