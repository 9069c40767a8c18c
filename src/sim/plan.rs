//! What a seed stands for: how many shards and clients, how kind the network is, what each client is like.

use std::time::Duration;

use super::rng::Rng;
use super::wire::{ProtocolVersion, QoS};
use super::world::Conditions;
use crate::config::{Limits, MqttOptions, SharedStrategy};

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed it came from.
    pub seed: u64,
    /// Shards of the broker.
    pub shards: u16,
    /// For how long clients do things, in virtual time.
    pub length: Duration,
    /// How kind the network is.
    pub conditions: Conditions,
    /// Limits of the broker.
    pub limits: Limits,
    /// Options of the broker.
    pub mqtt: MqttOptions,
    /// Nothing is dropped for a limit, so everything owed can be asked for.
    pub roomy: bool,
    /// Each client.
    pub habits: Vec<Habits>,
    /// How many connections are made by somebody who does not speak MQTT, or badly.
    pub vandals: usize,
    /// Clients are authenticated: late, never, for a while, or not at all.
    pub asks: bool,
    /// Some of them by exchanges of several steps.
    pub exchanges: bool,
    /// How often rules change.
    pub rule_changes: u32,
}

/// What a client is like.
#[derive(Clone, Debug)]
pub struct Habits {
    /// What it speaks.
    pub version: ProtocolVersion,
    /// It keeps its one connection and reads what comes.
    pub steady: bool,
    /// It asks for its old session when it connects.
    pub resumes: bool,
    /// Session expiry interval in seconds; what Clean Session means for 3.1.1.
    pub expiry: u32,
    /// Receive maximum.
    pub receive_maximum: u16,
    /// Topic alias maximum.
    pub topic_alias_maximum: u16,
    /// Milliseconds between two things it does, on average.
    pub pace_ms: u64,
}

impl Plan {
    /// The run that a seed stands for.
    pub fn new(seed: u64) -> Plan {
        let mut rng = Rng::new(seed);
        // Of its own: what else a seed stands for stays the same.
        let mut guards = Rng::new(seed ^ 0x6A4D);
        let roomy = rng.chance(80);
        let clients = rng.range(4, 40) as usize;
        let asks = guards.chance(50);
        Plan {
            seed,
            shards: *rng.pick(&[1, 2, 3, 3, 5, 8]),
            length: Duration::from_secs(rng.range(5, 40)),
            conditions: Conditions::unkind(&mut rng),
            limits: limits(roomy, &mut rng),
            mqtt: MqttOptions { shared_strategy: *rng.pick(STRATEGIES), ..MqttOptions::default() },
            roomy,
            habits: (0..clients).map(|_| Habits::new(&mut rng)).collect(),
            vandals: rng.below(30),
            asks,
            rule_changes: *guards.pick(&[0, 0, 1, 2, 4]),
            exchanges: asks && guards.chance(70),
        }
    }
}

const STRATEGIES: &[SharedStrategy] = &[
    SharedStrategy::RoundRobin,
    SharedStrategy::Random,
    SharedStrategy::Sticky,
    SharedStrategy::HashClient,
    SharedStrategy::HashTopic,
    SharedStrategy::Local,
];

fn limits(roomy: bool, rng: &mut Rng) -> Limits {
    let inflight_max = *rng.pick(&[1, 4, 128]);
    let receive_maximum = *rng.pick(&[1, 3, 1024]);
    let limits = Limits { inflight_max, receive_maximum, ..Limits::default() };
    if roomy {
        Limits { queue_messages_max: 1_000_000, queue_bytes_max: 1 << 30, output_bytes_max: 1 << 30, ..limits }
    } else {
        Limits { queue_messages_max: 5, queue_bytes_max: 20_000, output_bytes_max: 2_000, ..limits }
    }
}

impl Habits {
    fn new(rng: &mut Rng) -> Habits {
        let version = *rng.pick(&[
            ProtocolVersion::V5,
            ProtocolVersion::V5,
            ProtocolVersion::V5,
            ProtocolVersion::V311,
            ProtocolVersion::V311,
            ProtocolVersion::V31,
        ]);
        // CONNACK of 3.1 does not say whether a session is present, so such a client cannot keep one with care.
        let resumes = version != ProtocolVersion::V31 && rng.chance(65);
        let expiry = match version {
            ProtocolVersion::V5 if resumes => *rng.pick(&[0, 3, 15, u32::MAX, u32::MAX]),
            _ if resumes => u32::MAX,
            _ => 0,
        };
        Habits {
            version,
            steady: rng.chance(30),
            resumes,
            expiry,
            receive_maximum: *rng.pick(&[1, 2, 7, u16::MAX, u16::MAX]),
            topic_alias_maximum: *rng.pick(&[0, 0, 3]),
            pace_ms: *rng.pick(&[20, 100, 500]),
        }
    }

    /// The one that hears the wills: it must miss nothing.
    pub fn watcher() -> Habits {
        Habits {
            version: ProtocolVersion::V5,
            steady: true,
            resumes: true,
            expiry: u32::MAX,
            receive_maximum: u16::MAX,
            topic_alias_maximum: 0,
            pace_ms: 1000,
        }
    }
}

/// The filters that clients choose from; the QoS of each is the client's own.
pub const FILTERS: &[&str] = &["t/#", "t/+", "+/3", "t/0/x", "t/+/x", "t/1", "t/2", "r/#", "r/+", "+/+/x", "t/4/#"];

/// The shared subscriptions; a client is a member of one at most.
pub const SHARED: &[&str] = &["$share/g0/s/#", "$share/g1/s/+"];

/// The QoS that a client always asks for this filter with: a subscription that is replaced stays what it was.
pub fn qos_of(client: usize, filter: &str) -> QoS {
    let sum = filter.bytes().fold(client as u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    if filter.starts_with("$share") { qos[1 + filter.len() % 2] } else { qos[(sum % 3) as usize] }
}
