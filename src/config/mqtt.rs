//! `[mqtt]`: which of the protocol's optional parts are offered, and the choices it leaves to a server.

use serde::{Deserialize, Serialize};

use super::words;
use crate::codec::{ProtocolVersion, QoS};

/// What of MQTT is offered, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttOptions {
    /// What happens to a QoS 1 or 2 message for a session whose queue is full.
    pub queue_full: QueueFull,
    /// Whether QoS 0 messages are queued for a session without a connection.
    pub queue_qos0_offline: bool,
    /// The highest QoS of messages taken from clients, and of subscriptions granted.
    #[serde(with = "words::qos")]
    pub max_qos: QoS,
    /// Whether messages can be retained.
    pub retain_available: bool,
    /// Whether topic filters may hold `+` and `#`.
    pub wildcard_subscriptions: bool,
    /// Whether `$share/group/filter` can be subscribed to.
    pub shared_subscriptions: bool,
    /// Whether subscriptions may carry an identifier.
    pub subscription_identifiers: bool,
    /// Which member of a shared subscription gets a message.
    pub shared_strategy: SharedStrategy,
    /// Whether a payload said to be UTF-8 is checked to be.
    pub check_payload_format: bool,
    /// The protocol versions that clients may speak, ascending; at least one.
    #[serde(with = "words::versions")]
    pub versions: Vec<ProtocolVersion>,
    /// Response information for 5.0 clients that ask for it; `None` (written "") gives none.
    #[serde(with = "words::text_or_none")]
    pub response_information: Option<String>,
}

impl MqttOptions {
    /// The names of the protocol versions that clients may speak, ascending.
    pub fn version_names(&self) -> impl Iterator<Item = &'static str> {
        words::versions::NAMES.iter().filter(|(_, version)| self.versions.contains(version)).map(|(name, _)| *name)
    }
}

impl Default for MqttOptions {
    fn default() -> MqttOptions {
        MqttOptions {
            queue_full: QueueFull::Refuse,
            queue_qos0_offline: false,
            max_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscriptions: true,
            shared_subscriptions: true,
            subscription_identifiers: true,
            shared_strategy: SharedStrategy::RoundRobin,
            check_payload_format: false,
            versions: vec![ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5],
            response_information: None,
        }
    }
}

/// What happens to a QoS 1 or 2 message for a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueFull {
    /// The message is not taken: a 5.0 publisher is told 0x97 (quota exceeded).
    Refuse,
    /// The oldest queued message makes room, and is counted as dropped.
    DropOldest,
}

/// Which member of a shared subscription gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedStrategy {
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
    /// The same one for as long as it is there.
    Sticky,
    /// Chosen by the publisher's client identifier.
    HashClient,
    /// Chosen by the topic name.
    HashTopic,
    /// Those on the publisher's shard in turn, others only when there is none.
    Local,
}
