//! The kernel's side of listening.

use std::path::Path;

use super::{Finding, proc};
use crate::config::Config;
use crate::transport::tls::KernelTls;

/// A listener's port must not be one that the kernel gives to outgoing connections: at a restart it may be taken.
pub(super) fn port_range(root: &Path, config: &Config) -> Finding {
    let Some((first, last)) = local_ports(root) else {
        return Finding::warn("ports", "net.ipv4.ip_local_port_range cannot be read", "mount /proc");
    };
    let ports = config.listeners.iter().filter_map(|listener| Some(listener.address.ip()?.port()));
    let inside: Vec<u16> = ports.filter(|port| (first..=last).contains(port) && !is_reserved(root, *port)).collect();
    let Some(port) = inside.first() else {
        return Finding::ok("ports", format!("no listener within {first}-{last}, the range of outgoing connections"));
    };
    Finding::warn(
        "ports",
        format!("port {port} is within {first}-{last}: an outgoing connection may hold it when the broker starts"),
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={port}, or listen on another port"),
    )
}

/// Nothing to be done about it either way: the broker encrypts by itself.
pub fn tls(kernel: &KernelTls) -> Finding {
    Finding::ok("TLS", kernel.to_string())
}

fn local_ports(root: &Path) -> Option<(u16, u16)> {
    let range = proc::text(root, "proc/sys/net/ipv4/ip_local_port_range")?;
    let (first, last) = range.split_once(char::is_whitespace)?;
    Some((first.parse().ok()?, last.trim().parse().ok()?))
}

fn is_reserved(root: &Path, port: u16) -> bool {
    let reserved = proc::text(root, "proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    reserved.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}
