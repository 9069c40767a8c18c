//! The kernel's side of listening and of holding many connections.

use std::path::Path;

use super::{Finding, proc};
use crate::config::Config;

pub(super) fn backlog(root: &Path, config: &Config) -> Finding {
    let wanted = config.listeners.iter().map(|listener| u64::from(listener.backlog)).max().unwrap_or(0);
    match proc::number(root, "proc/sys/net/core/somaxconn") {
        None => Finding::warn("backlog", "net.core.somaxconn cannot be read", "mount /proc"),
        Some(allowed) if allowed < wanted => Finding::warn(
            "backlog",
            format!("net.core.somaxconn cuts listener.backlog = {wanted} to {allowed}"),
            format!("sysctl -w net.core.somaxconn={wanted}"),
        ),
        Some(allowed) => Finding::ok("backlog", format!("{wanted} of net.core.somaxconn = {allowed}")),
    }
}

/// A listener's port must not be one that the kernel gives to outgoing connections: at a restart it may be taken.
pub(super) fn port_range(root: &Path, config: &Config) -> Finding {
    let Some((first, last)) = local_ports(root) else {
        return Finding::warn("ports", "net.ipv4.ip_local_port_range cannot be read", "mount /proc");
    };
    let ports = config.listeners.iter().map(|listener| listener.address.port());
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

/// A firewall that tracks connections drops those beyond its table. Nothing is said where there is none.
pub(super) fn connection_tracking(root: &Path, config: &Config) -> Option<Finding> {
    let tracked = proc::number(root, "proc/sys/net/netfilter/nf_conntrack_max")?;
    let connections = u64::from(config.limits.connections_max);
    let found = format!("the firewall tracks {tracked} connections");
    if tracked >= connections {
        return Some(Finding::ok("conntrack", found));
    }
    let found = format!("{found}, limits.connections_max is {connections}");
    let remedy = format!("sysctl -w net.netfilter.nf_conntrack_max={}, or do not track MQTT's ports", connections * 2);
    Some(Finding::warn("conntrack", found, remedy))
}
