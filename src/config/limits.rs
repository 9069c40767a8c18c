//! `[limits]`: one named bound for each thing that can grow.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::guard::{MemoryBudget, RateLimit};
use super::units;

/// What nothing may grow beyond. What happens at each limit is said where it is enforced.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections of the whole process; the bound on open descriptors may be lower.
    #[serde(deserialize_with = "units::count")]
    pub connections_max: u32,
    /// How long a connection may take from being accepted to a complete CONNECT.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// TLS handshakes that may be in progress on one shard; for a further client the oldest that says nothing is given up.
    #[serde(deserialize_with = "units::count")]
    pub tls_handshakes_max: u32,
    /// The largest packet taken from a client: all of it, fixed header included. At most 268,435,460.
    #[serde(with = "units::bytes")]
    pub packet_bytes_max: u32,
    /// The largest packet taken of a client that was not let in yet. By default client identifier, user name, password and
    /// a will of the largest size that MQTT has for them each fit.
    #[serde(with = "units::bytes")]
    pub connect_bytes_max: u32,
    /// The longest topic name or topic filter, in bytes.
    #[serde(with = "units::bytes")]
    pub topic_bytes_max: u16,
    /// The most levels a topic name or topic filter may have.
    #[serde(deserialize_with = "units::count")]
    pub topic_levels_max: u16,
    /// The most user properties in one packet (and in one will).
    #[serde(deserialize_with = "units::count")]
    pub user_properties_max: u16,
    /// The most subscriptions of one session.
    #[serde(deserialize_with = "units::count")]
    pub subscriptions_per_client_max: u32,
    /// The longest client identifier, in bytes.
    #[serde(with = "units::bytes")]
    pub client_id_bytes_max: u16,
    /// Receive maximum announced to 5.0 clients, and held against them: QoS 1 and 2 messages that one client
    /// may have unfinished towards the server; at least 1.
    #[serde(deserialize_with = "units::count")]
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages outstanding towards one client; its own receive maximum may be lower. At least 1.
    #[serde(deserialize_with = "units::count")]
    pub inflight_max: u16,
    /// Messages that wait in one session beyond those in flight.
    #[serde(deserialize_with = "units::count")]
    pub queue_messages_max: u32,
    /// Bytes of those messages, topics, properties and 128 bytes for each included.
    #[serde(with = "units::bytes")]
    pub queue_bytes_max: usize,
    /// Bytes that wait in the queues of all sessions of the process together.
    #[serde(with = "units::bytes")]
    pub queue_bytes_total_max: u64,
    /// Unsent bytes of one connection beyond which QoS 0 messages for it are dropped: it reads too slowly.
    #[serde(with = "units::bytes")]
    pub output_bytes_max: usize,
    /// Retained messages of the whole process.
    #[serde(deserialize_with = "units::count")]
    pub retained_messages_max: u64,
    /// Bytes of those messages, topics, properties and 128 bytes for each included.
    #[serde(with = "units::bytes")]
    pub retained_bytes_max: u64,
    /// Topic alias maximum announced to 5.0 clients, and the most aliases used towards one; 0 uses none.
    #[serde(deserialize_with = "units::count")]
    pub topic_alias_max: u16,
    /// The longest session expiry interval granted, in seconds; `u32::MAX` is never, as on the wire.
    #[serde(with = "units::seconds_or_never")]
    pub session_expiry_max: u32,
    /// The longest keep alive granted to 5.0 clients, in seconds: one that asks for more, or for none, is told this
    /// as the server keep alive. 0 leaves the client its own. (3.x clients cannot be told and keep their own.)
    #[serde(with = "units::seconds")]
    pub keep_alive_max: u16,
    /// The shortest keep alive granted to 5.0 clients, in seconds; at most `keep_alive_max` where there is one.
    #[serde(with = "units::seconds")]
    pub keep_alive_min: u16,
    /// Sessions without a connection of the whole process.
    #[serde(deserialize_with = "units::count")]
    pub sessions_max: u32,
    /// Messages that one client may publish; beyond, it is read more slowly.
    pub messages_in_rate: RateLimit,
    /// Bytes that one client may send, everything counted; beyond, it is read more slowly.
    pub bytes_in_rate: RateLimit,
    /// Messages that one client is sent; beyond, they wait, and QoS 0 is dropped, and counted.
    pub messages_out_rate: RateLimit,
    /// Bytes that one client is sent, everything counted; beyond, the same.
    pub bytes_out_rate: RateLimit,
    /// How many levels of a filter come before its first wildcard, at least; 0 refuses none.
    #[serde(deserialize_with = "units::count")]
    pub wildcard_depth_min: u16,
    /// Bytes of messages in the whole process: in queues, in flight, retained, wills, output, incomplete
    /// packets; and of filters.
    pub memory_budget: MemoryBudget,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 1_000_000,
            connect_timeout: Duration::from_secs(5),
            tls_handshakes_max: 4096,
            packet_bytes_max: 1024 * 1024,
            connect_bytes_max: 320 * 1024,
            topic_bytes_max: 1024,
            topic_levels_max: 128,
            user_properties_max: 64,
            subscriptions_per_client_max: 10_000,
            client_id_bytes_max: 256,
            receive_maximum: 1024,
            inflight_max: 128,
            queue_messages_max: 65_536,
            queue_bytes_max: 16 * 1024 * 1024,
            queue_bytes_total_max: 1024 * 1024 * 1024,
            output_bytes_max: 1024 * 1024,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 256 * 1024 * 1024,
            topic_alias_max: 32,
            session_expiry_max: u32::MAX,
            keep_alive_max: 0,
            keep_alive_min: 0,
            sessions_max: 1_000_000,
            messages_in_rate: RateLimit(None),
            bytes_in_rate: RateLimit(None),
            messages_out_rate: RateLimit(None),
            bytes_out_rate: RateLimit(None),
            wildcard_depth_min: 0,
            memory_budget: MemoryBudget::Auto,
        }
    }
}
