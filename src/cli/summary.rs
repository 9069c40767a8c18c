//! What a configuration amounts to, in a few lines: told at start-up and by `check-config`.

use crate::acl::Access;
use crate::config::{Auth, Config, Limits, Listener, MqttOptions, Placement, Ring, duration_text, size_text};

/// Lines of a name and a text.
pub(super) fn summary(config: &Config, placement: &Placement) -> Vec<(&'static str, String)> {
    let listeners: Vec<String> = config.listeners.iter().map(listener).collect();
    vec![
        ("shards", shards(placement)),
        ("listeners", listeners.join(", ")),
        ("ring", ring(&config.ring)),
        ("limits", limits(&config.limits)),
        ("sessions", sessions(&config.limits)),
        ("mqtt", mqtt(&config.mqtt)),
        ("acl", acl(config)),
        ("auth", auth(&config.auth, config.server.allow_anonymous)),
        ("$SYS", config.sys.interval.map_or("never".to_owned(), |every| format!("every {}", duration_text(every)))),
    ]
}

fn listener(listener: &Listener) -> String {
    let proxied = if listener.proxy.is_some() { ", behind a proxy" } else { "" };
    format!("{} ({}{proxied})", listener.address, listener.transport.name())
}

fn shards(placement: &Placement) -> String {
    let pinned = if placement.pin { "pinned" } else { "not pinned" };
    format!("{} on CPUs {}, {pinned}", placement.shards, placement.cpus)
}

fn ring(ring: &Ring) -> String {
    let buffers = format!("{} receive buffers of {}", ring.recv_buffers, size_text(u64::from(ring.recv_buffer_bytes)));
    format!("{} + {} entries, {buffers}, mesh of {} a pair", ring.entries, ring.completion_entries, ring.mesh_capacity)
}

fn limits(limits: &Limits) -> String {
    format!(
        "{} connections, packets of {}, {} retained messages in {}",
        limits.connections_max,
        size_text(u64::from(limits.packet_bytes_max)),
        limits.retained_messages_max,
        size_text(limits.retained_bytes_max),
    )
}

fn sessions(limits: &Limits) -> String {
    format!(
        "{} without a client; each {} in flight, {} queued in {} ({} in all), {} subscriptions",
        limits.sessions_max,
        limits.inflight_max,
        limits.queue_messages_max,
        size_text(limits.queue_bytes_max as u64),
        size_text(limits.queue_bytes_total_max),
        limits.subscriptions_per_client_max,
    )
}

fn acl(config: &Config) -> String {
    let acl = &config.acl;
    match (&acl.file, acl.default) {
        _ if !config.has_rules() => "no rules: everything is allowed to everybody, $SYS too".to_owned(),
        (Some(file), _) => format!("rules of {}", file.display()),
        (None, Some(Access::Deny)) => "everything is denied".to_owned(),
        (None, _) => "everything is allowed, topics that begin with $ to administrators".to_owned(),
    }
}

fn mqtt(mqtt: &MqttOptions) -> String {
    let versions: Vec<&str> = mqtt.version_names().collect();
    let off: Vec<&str> = [
        (mqtt.retain_available, "retained messages"),
        (mqtt.wildcard_subscriptions, "wildcards"),
        (mqtt.shared_subscriptions, "shared subscriptions"),
        (mqtt.subscription_identifiers, "subscription identifiers"),
    ]
    .into_iter()
    .filter_map(|(on, name)| (!on).then_some(name))
    .collect();
    let without = if off.is_empty() { String::new() } else { format!(", without {}", off.join(", ")) };
    format!("{}, QoS up to {}{without}", versions.join(", "), mqtt.max_qos as u8)
}

fn auth(auth: &Auth, allow_anonymous: bool) -> String {
    let anonymous = if allow_anonymous { "; who says nothing is let in" } else { "" };
    match auth.methods.is_empty() {
        true => "none: everybody is let in".to_owned(),
        false => {
            let names: Vec<&str> = auth.methods.iter().map(|method| method.name()).collect();
            format!("{}; {} workers{anonymous}", names.join(", "), auth.workers)
        }
    }
}
