//! Which values and combinations are possible. Every key whose type allows more than makes sense is named here.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::cpus::CpuSet;
use super::placement::placement;
use super::problem::Finding;
use super::tls::Tls;
use super::units::{duration_text, size_text};
use super::{
    Auth, AuthMethod, ClientLimits, Config, Limits, Listener, MemoryBudget, MqttOptions, Profile, Ring, Server,
    Transport, WebSocket, log,
};

/// The largest packet MQTT can describe: the largest remaining length and its header (MQTT 5.0, 2.1.4).
const PACKET_BYTES_LARGEST: u64 = 268_435_455 + 5;
/// What one shard's receive buffers may take.
const RECV_BYTES_LARGEST: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Everything that is wrong with a configuration on a host that allows these CPUs.
pub(super) fn check(config: &Config, allowed: &CpuSet) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    server(&config.server, allowed, &mut findings);
    listeners(config, &mut findings);
    ring(&config.ring, &mut findings);
    let before = findings.0.len();
    limits(&config.limits, &mut findings);
    if findings.0.len() == before {
        limits_together(config, &mut findings);
    }
    mqtt(&config.mqtt, &mut findings);
    if let Some(index) = config.acl.admins.iter().position(String::is_empty) {
        let what = format!("name {} of the list is empty", index + 1);
        findings.add(&["acl.admins"], what, "remove it: a client without a user name is nobody's administrator");
    }
    auth(&config.auth, &mut findings);
    certificates_are_asked_for(config, &mut findings);
    guard(config, &mut findings);
    if let Some(interval) = config.sys.interval {
        findings.time("sys.interval", interval, Duration::from_secs(1)..=DAY);
    }
    findings.0
}

fn server(server: &Server, allowed: &CpuSet, findings: &mut Findings) {
    findings.time("server.stop_timeout", server.stop_timeout, Duration::ZERO..=HOUR);
    if let Some(shards) = server.shards {
        findings.count("server.shards", u64::from(shards), 1..=u64::from(super::SHARDS_MAX));
    }
    if let Err(part) = log::parse(&server.log) {
        let remedy = "write off, error, warn, info, debug or trace, or such levels by module: info,ringmq::net=debug";
        findings.add(&["server.log"], format!("\"{part}\" is no log level"), remedy);
    }
    if let Err(finding) = placement(server, allowed) {
        findings.0.push(finding);
    }
}

fn listeners(config: &Config, findings: &mut Findings) {
    let listeners: &[Listener] = &config.listeners;
    let strangers_get_in = config.auth.methods.is_empty() && !config.server.allow_anonymous;
    if listeners.is_empty() {
        findings.add(&["listener"], "no listener".to_owned(), "name at least one, or leave the key out");
    }
    for (index, listener) in listeners.iter().enumerate() {
        let key = format!("listener[{index}].address");
        findings.count(&format!("listener[{index}].backlog"), u64::from(listener.backlog), 1..=1 << 20);
        let is_free = listener.address.ip().is_some_and(|address| address.port() == 0);
        if !is_free && listeners[..index].iter().any(|other| other.address == listener.address) {
            findings.add(&[&key], format!("{} is listed twice", listener.address), "remove one of them");
        }
        transport(index, listener, findings);
        unix(index, listener, findings);
        if !listener.address.is_local() && strangers_get_in {
            let what = format!("other hosts can reach {}, and clients are not authenticated", listener.address);
            let remedy = "name a method in auth.methods, or listen on 127.0.0.1 or [::1], or accept it: \
                server.allow_anonymous = true (--allow-anonymous)";
            findings.add(&[&key, "server.allow_anonymous", "auth.methods"], what, remedy);
        }
    }
}

fn transport(index: usize, listener: &Listener, findings: &mut Findings) {
    let section = format!("listener[{index}].tls");
    let key = format!("listener[{index}].transport");
    let name = listener.transport.name();
    match &listener.tls {
        Some(settings) if listener.transport.has_tls() => tls(&section, settings, findings),
        None if listener.transport.has_tls() => {
            let remedy = "add [listener.tls] with certificate and key below this [[listener]]";
            findings.add(&[&key], format!("\"{name}\" needs a certificate"), remedy);
        }
        Some(_) => {
            let remedy = "write transport = \"tls\" or \"wss\", or remove [listener.tls]";
            findings.add(&[&section, &key], format!("a listener of transport \"{name}\" has no TLS"), remedy);
        }
        None => {}
    }
    if let Some(settings) = &listener.websocket {
        websocket(index, settings, listener.transport, findings);
    }
    let Some(proxy) = &listener.proxy else { return };
    if listener.address.ip().is_none() && !proxy.trusted.is_empty() {
        let what = "who connects to a Unix domain socket has no address that could be trusted".to_owned();
        let remedy = "remove it: whoever the file's mode lets in is trusted";
        findings.add(&[&format!("listener[{index}].proxy.trusted")], what, remedy);
    }
    if listener.peer_address == Some(false) && listener.address.ip().is_some() {
        let what = "a proxy is trusted by its address".to_owned();
        findings.add(&[&format!("listener[{index}].peer_address")], what, "leave it \"auto\"");
    }
    if listener.address.ip().is_some() && proxy.trusted.is_empty() {
        let remedy =
            "name the networks of the load balancers, like [\"10.0.0.0/8\"]; anybody is \"0.0.0.0/0\" and \"::/0\"";
        let keys = [&format!("listener[{index}].proxy.trusted"), &format!("listener[{index}].proxy")];
        findings.add(&keys.map(String::as_str), "nobody is trusted to say who a client is".to_owned(), remedy);
    }
}

fn websocket(index: usize, settings: &WebSocket, transport: Transport, findings: &mut Findings) {
    let key = |name: &str| format!("listener[{index}].websocket.{name}");
    if !transport.has_websocket() {
        let keys = [&format!("listener[{index}].websocket"), &format!("listener[{index}].transport")];
        let what = format!("a listener of transport \"{}\" has no WebSocket", transport.name());
        let remedy = "write transport = \"ws\" or \"wss\", or remove [listener.websocket]";
        findings.add(&keys.map(String::as_str), what, remedy);
    }
    if !settings.path.starts_with('/') {
        let what = format!("\"{}\" is no path", settings.path);
        findings.add(&[&key("path")], what, "begin it with a slash: \"/mqtt\"");
    }
    findings.size(&key("request_bytes_max"), u64::from(settings.request_bytes_max), 256..=64 * 1024);
    findings.size(&key("frame_bytes_max"), u64::from(settings.frame_bytes_max), 128..=u64::from(u32::MAX));
}

fn tls(section: &str, tls: &Tls, findings: &mut Findings) {
    let key = |name: &str| format!("{section}.{name}");
    for (name, file) in [("certificate", &tls.certificate), ("key", &tls.key)] {
        if file.as_os_str().is_empty() {
            findings.add(&[&key(name), section], format!("there is no {name}"), "name a PEM file");
        }
    }
    if tls.versions.is_empty() {
        findings.add(&[&key("versions")], "no version".to_owned(), "write \"1.2\", \"1.3\" or both");
    }
    let asks = tls.asks_for_certificate();
    if asks && tls.client_ca.is_none() {
        let what = "there is no authority that a client's certificate could come from".to_owned();
        findings.add(&[&key("client_certificate")], what, "name a PEM file as client_ca");
    }
    for (name, file) in [("client_ca", &tls.client_ca), ("client_crl", &tls.client_crl)] {
        if !asks && file.is_some() {
            let remedy = "write client_certificate = \"required\" or \"optional\", or remove it";
            findings.add(&[&key(name)], "clients are not asked for a certificate".to_owned(), remedy);
        }
    }
}

fn unix(index: usize, listener: &Listener, findings: &mut Findings) {
    let given =
        [("owner", listener.owner.is_some()), ("group", listener.group.is_some()), ("mode", listener.mode.is_some())];
    let is_unix = listener.address.ip().is_none();
    for (name, _) in given.into_iter().filter(|(_, is_given)| *is_given && !is_unix) {
        let what = format!("{} is no file", listener.address);
        findings.add(&[&format!("listener[{index}].{name}")], what, "give it to a listener with a \"unix:\" address");
    }
    if is_unix && listener.peer_address == Some(true) {
        let what = "who connects to a Unix domain socket has no address".to_owned();
        findings.add(&[&format!("listener[{index}].peer_address")], what, "leave it \"auto\"");
    }
}

fn ring(ring: &Ring, findings: &mut Findings) {
    findings.count("ring.entries", u64::from(ring.entries), 8..=32_768);
    findings.count("ring.completion_entries", u64::from(ring.completion_entries), 16..=65_536);
    findings.count("ring.recv_buffers", u64::from(ring.recv_buffers), 8..=32_768);
    findings.size("ring.recv_buffer_bytes", u64::from(ring.recv_buffer_bytes), 256..=1 << 20);
    findings.count("ring.mesh_capacity", u64::from(ring.mesh_capacity), 16..=1 << 20);
    if ring.completion_entries < ring.entries {
        let what = format!("completion_entries, {}, are fewer than entries, {}", ring.completion_entries, ring.entries);
        let remedy = "give it at least as many entries; eight times as many is a good start";
        findings.add(&["ring.completion_entries", "ring.entries"], what, remedy);
    }
    if !ring.recv_buffers.is_power_of_two() {
        let what = format!("{} is not a power of two", ring.recv_buffers);
        let next = ring.recv_buffers.checked_next_power_of_two().unwrap_or(32_768).max(8);
        findings.add(&["ring.recv_buffers"], what, &format!("write {next}"));
    }
    let recv_bytes = u64::from(ring.recv_buffers) * u64::from(ring.recv_buffer_bytes);
    if recv_bytes > RECV_BYTES_LARGEST {
        let what = format!("the receive buffers of one shard would take {}", size_text(recv_bytes));
        let remedy = format!("make them fewer or smaller: {} at most", size_text(RECV_BYTES_LARGEST));
        findings.add(&["ring.recv_buffer_bytes", "ring.recv_buffers"], what, &remedy);
    }
}

fn limits(limits: &Limits, findings: &mut Findings) {
    let counts = [
        ("connections_max", u64::from(limits.connections_max), 1),
        ("tls_handshakes_max", u64::from(limits.tls_handshakes_max), 1),
        ("topic_levels_max", u64::from(limits.topic_levels_max), 1),
        ("subscriptions_per_client_max", u64::from(limits.subscriptions_per_client_max), 1),
        ("receive_maximum", u64::from(limits.receive_maximum), 1),
        ("inflight_max", u64::from(limits.inflight_max), 1),
    ];
    for (key, value, least) in counts {
        findings.count(&format!("limits.{key}"), value, least..=u64::MAX);
    }
    findings.time("limits.connect_timeout", limits.connect_timeout, Duration::from_millis(100)..=HOUR);
    findings.size("limits.packet_bytes_max", u64::from(limits.packet_bytes_max), 128..=PACKET_BYTES_LARGEST);
    findings.size("limits.connect_bytes_max", u64::from(limits.connect_bytes_max), 128..=PACKET_BYTES_LARGEST);
    findings.size("limits.topic_bytes_max", u64::from(limits.topic_bytes_max), 1..=65_535);
    // A server must take client identifiers of 1 to 23 bytes [MQTT-3.1.3-5].
    findings.size("limits.client_id_bytes_max", u64::from(limits.client_id_bytes_max), 23..=65_535);
}

/// Limits that would make another one meaningless: what one key lets in, another would never let out.
fn limits_together(config: &Config, findings: &mut Findings) {
    let limits = &config.limits;
    let packet = u64::from(limits.packet_bytes_max);
    let must_hold_a_packet = [
        ("queue_bytes_max", limits.queue_bytes_max as u64, limits.queue_messages_max > 0),
        ("output_bytes_max", limits.output_bytes_max as u64, true),
        ("retained_bytes_max", limits.retained_bytes_max, config.mqtt.retain_available),
    ];
    for (key, bytes, counts) in must_hold_a_packet {
        if counts && bytes < packet {
            let (bytes, packet) = (size_text(bytes), size_text(packet));
            let what = format!("{key}, {bytes}, cannot hold one packet of packet_bytes_max, {packet}");
            let remedy = format!("raise {key} to at least {packet}, or lower packet_bytes_max");
            findings.add(&[&format!("limits.{key}"), "limits.packet_bytes_max"], what, &remedy);
        }
    }
    let must_fit_in_a_packet =
        [("topic_bytes_max", limits.topic_bytes_max), ("client_id_bytes_max", limits.client_id_bytes_max)];
    for (key, bytes) in must_fit_in_a_packet {
        if u64::from(bytes) >= packet {
            let (bytes, packet) = (size_text(u64::from(bytes)), size_text(packet));
            let what = format!("{key}, {bytes}, does not fit in a packet of packet_bytes_max, {packet}");
            let remedy = format!("lower {key}, or raise packet_bytes_max");
            findings.add(&[&format!("limits.{key}"), "limits.packet_bytes_max"], what, &remedy);
        }
    }
}

fn guard(config: &Config, findings: &mut Findings) {
    let guard = &config.guard;
    let window = Duration::from_secs(1)..=DAY;
    findings.time("guard.flapping_window", guard.flapping_window, window.clone());
    findings.time("guard.flapping_ban", guard.flapping_ban, window);
    findings.time("guard.slow_after", guard.slow_after, Duration::from_millis(100)..=DAY);
    if let Some(turn_max) = guard.turn_max {
        findings.time("guard.turn_max", turn_max, Duration::from_millis(1)..=HOUR);
    }
    let classes = config.listeners.len() as u64 * (guard.profiles.len() as u64 + 1);
    if classes > 1 << 16 {
        let what = format!("listeners and profiles together make {classes} combinations");
        findings.add(&["guard.profile"], what, "leave some out: 65536 are the most there may be");
    }
    if let MemoryBudget::Bytes(bytes @ 1..) = config.limits.memory_budget {
        findings.size("limits.memory_budget", bytes, 1 << 20..=u64::MAX);
    }
    let everybody = |profile: &Profile| profile.user.is_none() && profile.role.is_none() && profile.client_id.is_none();
    if let Some(index) = guard.profiles.iter().position(everybody).filter(|index| index + 1 < guard.profiles.len()) {
        let what = "it is for everybody, so that those behind it are for nobody".to_owned();
        let remedy = "name its user, role or client_id, or put it last";
        findings.add(&[&format!("guard.profile[{index}]")], what, remedy);
    }
    let listeners = config.listeners.iter().enumerate();
    let own = listeners.map(|(index, listener)| (format!("listener[{index}].limits"), &listener.limits));
    let profiles = guard.profiles.iter().enumerate();
    let own = own.chain(profiles.map(|(index, profile)| (format!("guard.profile[{index}].limits"), &profile.limits)));
    for (section, limits) in own {
        client_limits(&section, limits, config, findings);
    }
    let Limits { keep_alive_min, keep_alive_max, .. } = config.limits;
    keep_alive_bounds("limits", keep_alive_min, keep_alive_max, findings);
}

/// Limits of a listener or profile: each in its range, and with those of `[limits]` where it does not say itself.
fn client_limits(section: &str, own: &ClientLimits, config: &Config, findings: &mut Findings) {
    let key = |name: &str| format!("{section}.{name}");
    let counts = [
        ("topic_levels_max", own.topic_levels_max),
        ("receive_maximum", own.receive_maximum),
        ("inflight_max", own.inflight_max),
    ];
    for (name, value) in counts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        findings.count(&key(name), u64::from(value), 1..=u64::MAX);
    }
    if let Some(bytes) = own.packet_bytes_max {
        findings.size(&key("packet_bytes_max"), u64::from(bytes), 128..=PACKET_BYTES_LARGEST);
    }
    let limits = &config.limits;
    if own.keep_alive_min.is_some() || own.keep_alive_max.is_some() {
        let least = own.keep_alive_min.unwrap_or(limits.keep_alive_min);
        keep_alive_bounds(section, least, own.keep_alive_max.unwrap_or(limits.keep_alive_max), findings);
    }
    if own.packet_bytes_max.is_none() && own.queue_bytes_max.is_none() {
        return;
    }
    let packet = u64::from(own.packet_bytes_max.unwrap_or(limits.packet_bytes_max));
    let messages = own.queue_messages_max.unwrap_or(limits.queue_messages_max);
    let must_hold_a_packet = [
        ("queue_bytes_max", own.queue_bytes_max.unwrap_or(limits.queue_bytes_max) as u64, messages > 0),
        ("output_bytes_max", limits.output_bytes_max as u64, true),
        ("retained_bytes_max", limits.retained_bytes_max, config.mqtt.retain_available),
    ];
    for (name, bytes, counts) in must_hold_a_packet {
        if counts && bytes < packet {
            let (bytes, packet) = (size_text(bytes), size_text(packet));
            let what = format!("{name}, {bytes}, cannot hold one packet of packet_bytes_max, {packet}");
            let remedy = format!("raise {name} to at least {packet}, or lower packet_bytes_max");
            let to_blame = if own.packet_bytes_max.is_some() { "packet_bytes_max" } else { "queue_bytes_max" };
            findings.add(&[&key(to_blame)], what, &remedy);
        }
    }
}

/// A shortest keep alive above the longest one would leave none to grant.
fn keep_alive_bounds(section: &str, least: u16, most: u16, findings: &mut Findings) {
    if most > 0 && least > most {
        let [least, most] = [least, most].map(|seconds| duration_text(Duration::from_secs(u64::from(seconds))));
        let what = format!("the shortest keep alive, {least}, is longer than the longest, {most}");
        let keys = ["keep_alive_min", "keep_alive_max"].map(|name| format!("{section}.{name}"));
        findings.add(&keys.each_ref().map(String::as_str), what, "lower keep_alive_min, or raise keep_alive_max");
    }
}

fn mqtt(mqtt: &MqttOptions, findings: &mut Findings) {
    if mqtt.versions.is_empty() {
        let remedy = "name at least one of \"3.1\", \"3.1.1\", \"5.0\"";
        findings.add(&["mqtt.versions"], "no client could connect".to_owned(), remedy);
    }
    if let Some(information) = &mqtt.response_information {
        findings.size("mqtt.response_information", information.len() as u64, 0..=65_535);
        if information.contains('\0') {
            let remedy = "remove it: MQTT strings cannot carry it [MQTT-1.5.4-2]";
            findings.add(&["mqtt.response_information"], "holds U+0000".to_owned(), remedy);
        }
    }
}

fn auth(auth: &Auth, findings: &mut Findings) {
    findings.count("auth.workers", u64::from(auth.workers), 1..=256);
    findings.count("auth.queue_max", u64::from(auth.queue_max), 1..=1 << 20);
    findings.time("auth.jwt.jwks_refresh", auth.jwt.jwks_refresh, Duration::from_secs(10)..=DAY);
    findings.time("auth.jwt.leeway", auth.jwt.leeway, Duration::ZERO..=Duration::from_secs(600));
    findings.time("auth.http.timeout", auth.http.timeout, Duration::from_millis(50)..=Duration::from_secs(60));
    findings.count("auth.http.remember_max", u64::from(auth.http.remember_max), 1..=1 << 24);
    findings.count("auth.http.requests_max", u64::from(auth.http.requests_max), 1..=256);
    findings.count("auth.http.waiting_max", u64::from(auth.http.waiting_max), 1..=1 << 20);
    findings.count("auth.jwt.waiting_max", u64::from(auth.jwt.waiting_max), 1..=1 << 20);
    let remembered = [("auth.password.remember", auth.password.remember), ("auth.http.remember", auth.http.remember)];
    for (key, remember) in remembered {
        findings.time(key, remember.unwrap_or_default(), Duration::ZERO..=DAY);
    }
    for (index, method) in auth.methods.iter().enumerate() {
        if auth.methods[..index].contains(method) {
            findings.add(&["auth.methods"], "a method is listed twice".to_owned(), "name each once");
        }
        auth_method(*method, auth, findings);
    }
    for (key, url) in [("auth.jwt.jwks_url", &auth.jwt.jwks_url), ("auth.http.url", &auth.http.url)] {
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if url.as_ref().is_some_and(|url| !is_url(url)) {
            findings.add(&[key], "neither http:// nor https://".to_owned(), "write the whole address");
        }
    }
}

/// What a method that is asked for cannot do without.
fn auth_method(method: AuthMethod, auth: &Auth, findings: &mut Findings) {
    let mut needs = |there: bool, key: &str, remedy: &str| {
        if !there {
            findings.add(&[key, "auth.methods"], "not set, and auth.methods names this method".to_owned(), remedy);
        }
    };
    match method {
        AuthMethod::Password => {
            needs(auth.password.file.is_some(), "auth.password.file", "make a file with `ringmq passwd`, and name it");
        }
        AuthMethod::Scram => {
            let remedy = "make a file with `ringmq passwd --scram`, and name it";
            needs(auth.scram.file.is_some(), "auth.scram.file", remedy);
        }
        AuthMethod::Http => needs(auth.http.url.is_some(), "auth.http.url", "name the server that decides"),
        AuthMethod::Jwt => {
            let (file, url) = (auth.jwt.key_file.is_some(), auth.jwt.jwks_url.is_some());
            needs(file || url, "auth.jwt.key_file", "name a file with the key, or a key set by jwks_url");
            if file && url {
                let what = "key_file and jwks_url are both set".to_owned();
                findings.add(&["auth.jwt.jwks_url", "auth.jwt.key_file"], what, "leave one of them out");
            }
        }
        AuthMethod::Certificate => {}
    }
}

/// Where certificates let clients in, some listener has to ask for one, or a proxy to tell of it.
fn certificates_are_asked_for(config: &Config, findings: &mut Findings) {
    let asks =
        |listener: &Listener| listener.tls.as_ref().is_some_and(Tls::asks_for_certificate) || listener.proxy.is_some();
    if config.auth.methods.contains(&AuthMethod::Certificate) && !config.listeners.iter().any(asks) {
        let what = "\"certificate\" lets nobody in: no listener asks for one".to_owned();
        let remedy = "write client_certificate = \"required\" (or \"optional\") and client_ca in a [listener.tls]";
        findings.add(&["auth.methods"], what, remedy);
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, keys: &[&str], what: String, remedy: &str) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.0.push(Finding { keys, what, remedy: remedy.to_owned() });
    }

    fn count(&mut self, key: &str, value: u64, range: RangeInclusive<u64>) {
        self.range(key, value, range, |value| value.to_string());
    }

    fn size(&mut self, key: &str, value: u64, range: RangeInclusive<u64>) {
        self.range(key, value, range, size_text);
    }

    fn time(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        self.range(key, value, range, duration_text);
    }

    fn range<T: PartialOrd + Copy>(&mut self, key: &str, value: T, range: RangeInclusive<T>, text: fn(T) -> String) {
        let (least, most) = range.into_inner();
        if value < least {
            self.add(&[key], format!("{} is too little", text(value)), &format!("write {} or more", text(least)));
        } else if value > most {
            self.add(&[key], format!("{} is too much", text(value)), &format!("write {} or less", text(most)));
        }
    }
}
