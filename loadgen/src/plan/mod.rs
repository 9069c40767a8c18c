//! What a run does, as plain data: groups of clients, what they subscribe to and publish, and when.
//!
//! A scenario is a TOML document (the presets are such documents too). What comes out of reading one is a
//! [`Plan`]: every parameter is resolved, every template parsed, every value checked. The engine, the reports and
//! the workers of a joined run all read this and nothing else. No socket and no clock here.

mod check;
mod decode;
mod node;
mod overrides;
mod parameters;
mod presets;
mod problem;
mod scenario;
mod schema;
pub mod template;
#[cfg(test)]
mod tests;
pub mod units;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use check::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
pub use node::Value;
pub use overrides::{Overrides, Target};
pub use problem::{Origin, ScenarioError};
pub use scenario::Scenario;

/// Everything about a run but where the broker is and which host's CPUs drive it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// Who takes part. A group's clients are numbered from 0.
    pub groups: Vec<Group>,
    /// How fast and how long.
    pub timing: Timing,
    /// Whether each delivery is entered in a ledger, so that loss, duplicates, reordering and corruption show.
    pub verify: bool,
    /// What MQTT is carried by.
    #[serde(default)]
    pub transport: Transport,
}

/// What MQTT is carried by. Where certificates are is no part of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP itself.
    #[default]
    Tcp,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 4] = [Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// Its name in documents and options.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// Whether there is TLS in it.
    pub fn has_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Whether there is WebSocket in it.
    pub fn has_websocket(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }
}

/// How fast clients come in, and how long the parts of a run take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// New connections per second, all threads and workers together; `None`: as fast as `connecting` lets.
    pub connect_rate: Option<f64>,
    /// Connections that may be on their way in at once, all threads together.
    pub connecting: u32,
    /// Traffic (or silence) after all are in, before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// How long nothing may arrive while something is due, before the run is given up; also the longest drain.
    pub patience: Duration,
}

/// Clients that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name in reports.
    pub name: String,
    /// How many clients.
    pub count: u32,
    /// A group connects when every group of an earlier stage is in and has published what it is limited to,
    /// acknowledged where its QoS asks for that.
    pub stage: u8,
    /// Protocol level: 3 (3.1), 4 (3.1.1) or 5.
    pub version: u8,
    /// Template of the client identifier.
    pub client_id: String,
    /// Template of the user name.
    pub user: Option<String>,
    /// Template of the password.
    pub password: Option<String>,
    /// Keep alive in seconds, 0 to 65535; 0 turns it off. PINGREQ is sent in time.
    pub keep_alive: u16,
    /// Clean session (3.x) or clean start (5.0) at the first connect. Later ones of the same run resume
    /// if the session lasts (3.x: `clean` is false; 5.0: `session_expiry` is above 0).
    pub clean: bool,
    /// Session expiry interval in seconds (5.0 only).
    pub session_expiry: Option<u32>,
    /// Receive maximum told to the broker (5.0 only).
    pub receive_maximum: Option<u16>,
    /// User properties of CONNECT (5.0 only), as templates.
    pub user_properties: Vec<(String, String)>,
    /// What else CONNECT tells the broker (5.0 only).
    pub properties: ConnectProperties,
    /// The will.
    pub will: Option<Will>,
    /// Subscribed to right after CONNACK, in one SUBSCRIBE.
    pub subscribe: Vec<Subscription>,
    /// What each client publishes.
    pub publish: Vec<Publication>,
    /// When its clients are connected.
    pub presence: Presence,
}

/// Properties of CONNECT that ask something of the broker (5.0 only).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectProperties {
    /// The largest packet that the client takes, in bytes. The broker leaves out what is larger, which the ledger counts
    /// as lost.
    pub maximum_packet_size: Option<u32>,
    /// Whether CONNACK may bring response information.
    pub request_response_information: Option<bool>,
    /// Whether the broker may tell reasons in words.
    pub request_problem_information: Option<bool>,
}

/// Properties of a message beside its expiry and its user properties (5.0 only), as templates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageProperties {
    /// Payload format indicator: 0 unspecified bytes, 1 UTF-8.
    pub payload_format_indicator: Option<u8>,
    /// Content type.
    pub content_type: Option<String>,
    /// Response topic, which makes the message a request.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<String>,
}

impl MessageProperties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A will message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Will {
    /// Template of the topic.
    pub topic: String,
    /// Template of the payload. It carries no stamp: a delivery of it is counted apart, in no ledger.
    pub payload: String,
    /// 0 to 2.
    pub qos: u8,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// Will delay interval in seconds (5.0 only).
    pub delay: Option<u32>,
    /// Message expiry interval in seconds (5.0 only).
    pub message_expiry: Option<u32>,
    /// Other properties (5.0 only).
    pub properties: MessageProperties,
    /// User properties (5.0 only), as templates.
    pub user_properties: Vec<(String, String)>,
}

/// One filter of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Template of the topic filter; `$share/GROUP/FILTER` is a shared subscription. All members of a share
    /// group are driven by one thread (of one worker), so that its ledger needs no second one.
    pub filter: String,
    /// 0 to 2.
    pub qos: u8,
    /// No local (5.0 only).
    pub no_local: bool,
    /// Retain as published (5.0 only).
    pub retain_as_published: bool,
    /// Retain handling, 0 to 2 (5.0 only).
    pub retain_handling: u8,
}

/// One stream of messages of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Template of the topic. `%t` in it is the topic's number, 0 to `topics` - 1, taken in turn.
    pub topic: String,
    /// How many topics one client goes round, at least 1. Order is checked for each apart.
    pub topics: u32,
    /// 0 to 2.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// What is in it.
    pub payload: Payload,
    /// When messages are due.
    pub pace: Pace,
    /// Messages per client, then it falls silent.
    pub limit: Option<u64>,
    /// Message expiry interval in seconds (5.0 only).
    pub message_expiry: Option<u32>,
    /// Other properties (5.0 only).
    pub properties: MessageProperties,
    /// User properties (5.0 only), as templates.
    pub user_properties: Vec<(String, String)>,
}

/// The payload of a publication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// So many bytes, at least 16: the binary stamp (publisher, sequence, intended time) and a filling.
    Bytes(u32),
    /// A text template; it starts with `{"stamp":"%s"`, 32 hexadecimal digits, which say the same.
    Text(String),
}

/// When the messages of a publication are due.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Open loop: each client publishes once per interval, the clients spread evenly over it; latency counts from
    /// the time a message was due, also when it could not be sent then.
    Every(Duration),
    /// Open loop: the group's clients together publish so many per second, at exponentially distributed
    /// (Poisson) or even distances.
    Rate {
        /// Messages per second of the whole group.
        per_second: f64,
        /// Poisson arrivals instead of even ones.
        poisson: bool,
    },
    /// Closed loop: each client keeps so many messages under way. One is under way until every subscriber that
    /// matches has it (QoS 0) or until it is acknowledged and every subscriber has it (QoS 1 and 2).
    Outstanding(u32),
    /// One message each time a client comes in, the first when traffic starts.
    Arrival,
}

/// When the clients of a group are connected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// From their stage to the end.
    Always,
    /// Over and over: connected for about `online`, away for about `offline` (each client draws between half and
    /// one and a half of it), starting when traffic starts.
    Cycle {
        /// Connected for about so long.
        online: Duration,
        /// Away for about so long.
        offline: Duration,
        /// Ends by resetting the connection, as a bad link does, instead of by DISCONNECT.
        abrupt: bool,
    },
    /// Connects, subscribes, leaves before traffic starts, comes back `back_after` the start of traffic.
    Away {
        /// Since the start of traffic.
        back_after: Duration,
    },
}

impl Group {
    /// So many clients that do nothing, with what a scenario's group has unless it says otherwise.
    pub fn new(name: &str, count: u32) -> Self {
        Self {
            name: name.to_owned(),
            count,
            stage: 0,
            version: schema::VERSION,
            client_id: schema::CLIENT_ID.to_owned(),
            user: None,
            password: None,
            keep_alive: schema::KEEP_ALIVE_SECONDS,
            clean: true,
            session_expiry: None,
            receive_maximum: None,
            user_properties: Vec::new(),
            properties: ConnectProperties::default(),
            will: None,
            subscribe: Vec::new(),
            publish: Vec::new(),
            presence: Presence::Always,
        }
    }
}

impl Subscription {
    /// To a filter at a QoS, without further wishes.
    pub fn new(filter: &str, qos: u8) -> Self {
        Self { filter: filter.to_owned(), qos, no_local: false, retain_as_published: false, retain_handling: 0 }
    }
}

impl Publication {
    /// 64 bytes at a time to a topic at a QoS, for ever, with nothing beside them.
    pub fn new(topic: &str, qos: u8, pace: Pace) -> Self {
        Self {
            topic: topic.to_owned(),
            topics: 1,
            qos,
            retain: false,
            payload: Payload::Bytes(schema::PAYLOAD_BYTES),
            pace,
            limit: None,
            message_expiry: None,
            properties: MessageProperties::default(),
            user_properties: Vec::new(),
        }
    }
}
