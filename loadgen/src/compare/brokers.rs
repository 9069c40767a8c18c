//! Which brokers `compare` knows: presets, each with its configuration, or anybody's command line.
//!
//! Nothing is started here (see [`super::process`]); this room says what would be.

use std::env;
use std::path::{Path, PathBuf};

use crate::plan::Plan;

/// Debian's mosquitto with its defaults, apart from:
/// - `allow_anonymous`: the generator brings no password.
/// - `max_queued_messages 0` (no limit; default 1000): 200 publishers with 10 QoS 0 messages each outstanding
///   overrun the default, and mosquitto would drop the rest.
/// - `max_inflight_messages 0` (no limit; default 20): 32 outstanding QoS 1 or 2 messages would otherwise go
///   through its queue, which costs it more.
/// - `log_type error`: no line per connection.
const MOSQUITTO: &str = "\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 0
log_type error
";

/// rumqttd's own example, with one listener (it has one per protocol version), room for the connections of every
/// scenario (`max_connections` 10,010 there), and no console, bridge or exporter.
/// `next_connection_delay_ms` is 1 in the example, which holds it to 1,000 connections a second whatever it can do; so 0.
const RUMQTTD: &str = "\
id = 0

[router]
id = 0
max_connections = 60010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[{v4_or_v5}.1]
name = \"compare\"
listen = \"127.0.0.1:{port}\"
next_connection_delay_ms = 0

[{v4_or_v5}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 268435455
max_inflight_count = 500
dynamic_filters = true
";

/// NATS serves MQTT 3.1.1 only with JetStream, which keeps its sessions; `max_ack_pending` is raised as mosquitto's
/// limit is.
const NATS: &str = "\
listen: \"127.0.0.1:-1\"
server_name: compare
jetstream { store_dir: \"{dir}/jetstream\" }
mqtt { listen: \"127.0.0.1:{port}\", max_ack_pending: 65535 }
";

/// A ringmq with a fixed hash seed, so that a comparison can choose client identifiers by the shard they live on.
const RINGMQ: &str = "\
[server]
hash_seed = {seed}
";

/// The hash seed of a ringmq that was started for a comparison.
pub const SEED: u64 = 1;

/// A named broker.
struct Preset {
    name: &'static str,
    command: &'static str,
    /// Name and template of its configuration file.
    file: Option<(&'static str, &'static str)>,
    /// Protocol levels that it speaks.
    levels: &'static [u8],
    /// How one gets it.
    install: &'static str,
}

/// MQTT 3.1, 3.1.1 and 5.0.
const ALL: &[u8] = &[3, 4, 5];

const PRESETS: &[Preset] = &[
    Preset {
        name: "mosquitto",
        command: "mosquitto -c {dir}/mosquitto.conf",
        file: Some(("mosquitto.conf", MOSQUITTO)),
        levels: ALL,
        install: "on Debian: apt-get install --no-install-recommends mosquitto",
    },
    Preset {
        name: "ringmq",
        command: "'{own}/ringmq' --config {dir}/ringmq.toml --listen 127.0.0.1:{port} --shards {shards} --cpus {cpus}",
        file: Some(("ringmq.toml", RINGMQ)),
        levels: ALL,
        install: "cargo build --release --workspace puts it beside ringmq-loadgen",
    },
    Preset {
        name: "rumqttd",
        command: "rumqttd --quiet --config {dir}/rumqttd.toml",
        file: Some(("rumqttd.toml", RUMQTTD)),
        levels: &[4, 5],
        // With --locked it takes a version of `metrics` that Rust 1.95 doesn't compile.
        install: "cargo install rumqttd (with --root DIR, add DIR/bin to PATH)",
    },
    Preset {
        name: "nats-server",
        command: "nats-server --config {dir}/nats.conf",
        file: Some(("nats.conf", NATS)),
        levels: &[4],
        install: "on Debian: apt-get install --no-install-recommends nats-server",
    },
    Preset {
        name: FORWARDER,
        command: "'{own}/examples/forwarder' --serve 127.0.0.1:{port} --cpus {cpus}",
        file: None,
        levels: &[4],
        install: "cargo build --release --example forwarder",
    },
];

/// The name of the forwarder with next to no MQTT in it, the limit of what a broker can do.
const FORWARDER: &str = "forwarder";

/// A broker to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The name in tables.
    pub name: String,
    /// A shell command, with `{port}`, `{cpus}`, `{shards}`, `{dir}` (a fresh directory) and `{own}` (where
    /// `ringmq-loadgen` is) to be filled in.
    pub command: String,
    /// Name and template of a file to write first.
    pub file: Option<(&'static str, &'static str)>,
    /// Protocol levels that it speaks.
    pub levels: &'static [u8],
    /// How one gets it, when it isn't there.
    pub install: &'static str,
}

/// Reads `NAME=COMMAND` or a preset's name.
///
/// # Errors
///
/// An unknown preset.
pub fn spec(text: &str) -> Result<Spec, String> {
    if let Some((name, command)) = text.split_once('=') {
        return Ok(Spec { name: name.to_owned(), command: command.to_owned(), file: None, levels: ALL, install: "" });
    }
    let known = || PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ");
    let preset = PRESETS.iter().find(|preset| preset.name == text);
    let Preset { name, command, file, levels, install } =
        preset.ok_or_else(|| format!("neither NAME=COMMAND nor a preset ({})", known()))?;
    Ok(Spec { name: (*name).to_owned(), command: (*command).to_owned(), file: *file, levels, install })
}

impl Spec {
    /// Whether it can do at all what a plan asks for: speak the protocol of every group. The forwarder knows no more than
    /// QoS 0, no wildcard, and one topic for each publishing connection; everybody else is asked, and fails if need be.
    pub fn suits(&self, plan: &Plan) -> bool {
        if plan.groups.iter().any(|group| !self.levels.contains(&group.version)) {
            return false;
        }
        let plain = |filter: &str| !filter.contains(['+', '#']) && !filter.starts_with("$share/");
        let publishes = plan.groups.iter().any(|group| !group.publish.is_empty());
        let within = plan.groups.iter().all(|group| {
            let published = match group.publish.as_slice() {
                [] => true,
                [one] => one.qos == 0 && one.topics == 1 && !one.retain,
                _ => false,
            };
            let subscribed = group.subscribe.iter().all(|one| one.qos == 0 && plain(&one.filter));
            group.will.is_none() && published && subscribed
        });
        self.name != FORWARDER || (publishes && within)
    }
}

/// Where this program is; the broker is built beside it.
fn own_directory() -> PathBuf {
    // Without /proc nothing here works, and a relative path fails with a clear message.
    env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned)).unwrap_or_default()
}

/// What a template's places stand for in one start.
pub struct Places<'a> {
    /// The port to listen on.
    pub port: u16,
    /// The CPUs to run on, as a list like `0,1`.
    pub cpus: &'a str,
    /// How many shards or threads it should have.
    pub shards: usize,
    /// A fresh directory.
    pub directory: &'a Path,
    /// The protocol level of the clients: 3, 4 or 5.
    pub level: u8,
}

impl Places<'_> {
    /// Fills a template in.
    pub fn fill(&self, template: &str) -> String {
        let places = [
            ("{port}", self.port.to_string()),
            ("{cpus}", self.cpus.to_owned()),
            ("{shards}", self.shards.to_string()),
            ("{dir}", self.directory.display().to_string()),
            ("{own}", own_directory().display().to_string()),
            ("{seed}", SEED.to_string()),
            ("{v4_or_v5}", if self.level == 5 { "v5" } else { "v4" }.to_owned()),
        ];
        places.iter().fold(template.to_owned(), |text, (place, value)| text.replace(place, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, Scenario};

    #[test]
    fn a_command_keeps_its_own_equals_signs() {
        let Spec { name, command, .. } = spec("x=run --a=b").unwrap();
        assert_eq!((name.as_str(), command.as_str()), ("x", "run --a=b"));
    }

    #[test]
    fn an_unknown_preset_is_refused_with_the_known_ones() {
        let refusal = spec("nosuch").unwrap_err();
        assert!(refusal.contains("mosquitto, ringmq, rumqttd"), "{refusal}");
    }

    #[test]
    fn every_place_of_every_preset_is_filled() {
        let directory = Path::new("/tmp/x");
        let places = Places { port: 1883, cpus: "0,1", shards: 2, directory, level: 5 };
        for preset in PRESETS {
            for template in preset.file.iter().map(|(_, text)| *text).chain([preset.command]) {
                let filled = places.fill(template);
                let left = filled.split('{').skip(1).find(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
                assert_eq!(left, None, "{filled}");
            }
        }
    }

    #[test]
    fn the_forwarder_is_spared_what_it_does_not_know() {
        let suits = |broker: &str, scenario: &str| {
            let plan = Scenario::preset(scenario).unwrap().read(&Overrides::default()).unwrap();
            spec(broker).unwrap().suits(&plan)
        };
        for scenario in ["p2p", "unbatched", "fan-out", "open-20k-8000"] {
            assert!(suits("forwarder", scenario), "{scenario}");
        }
        for scenario in ["p2p-qos1", "unbatched-qos1", "fan-in", "connect-subscribe", "idle", "shared", "city"] {
            assert!(!suits("forwarder", scenario) && suits("mosquitto", scenario), "{scenario}");
        }
    }

    #[test]
    fn a_broker_is_spared_versions_that_it_does_not_speak() {
        let suits = |broker: &str, scenario: &str| {
            let plan = Scenario::preset(scenario).unwrap().read(&Overrides::default()).unwrap();
            spec(broker).unwrap().suits(&plan)
        };
        assert!(suits("nats-server", "p2p-qos1") && !suits("nats-server", "shared"));
        assert!(suits("mosquitto", "shared") && suits("own=run", "shared"));
    }

    #[test]
    fn rumqttd_gets_a_listener_for_the_protocol_of_the_clients() {
        let directory = Path::new("/tmp/x");
        let of = |level| Places { port: 1, cpus: "0", shards: 1, directory, level }.fill(RUMQTTD);
        assert!(of(4).contains("[v4.1]") && of(5).contains("[v5.1]"));
    }
}
