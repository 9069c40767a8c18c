//! Owned MQTT packets and an encoder and decoder as plain as the specification's tables.
//!
//! This is the naive twin of [`crate::codec`]: simulated clients speak through it, so that a mistake which
//! the codec makes the same way in both directions still shows. It checks nothing that a test might want to
//! send wrong on purpose.
#![expect(missing_docs, reason = "the specification's names say it")]

mod decode;
mod encode;
mod property;

pub use decode::{Malformed, decode, deframe};
pub use encode::{encode, frame};
pub use property::{Properties, Property, Value, id};

pub use crate::codec::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};

/// Any control packet, either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect(Connect),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(Codes),
    Unsubscribe(Unsubscribe),
    UnsubAck(Codes),
    PingReq,
    PingResp,
    Disconnect(Reasoned),
    Auth(Reasoned),
}

/// CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    pub version: ProtocolVersion,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub client_id: String,
    pub will: Option<Will>,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    pub properties: Properties,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Will {
    pub qos: QoS,
    pub retain: bool,
    pub topic: String,
    pub payload: Vec<u8>,
    pub properties: Properties,
}

/// CONNACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub code: u8,
    pub properties: Properties,
}

/// PUBLISH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub topic: String,
    pub packet_id: u16,
    pub properties: Properties,
    pub payload: Vec<u8>,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    pub packet_id: u16,
    pub reason: u8,
    pub properties: Properties,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    pub packet_id: u16,
    pub properties: Properties,
    pub filters: Vec<(String, SubscriptionOptions)>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsubscribe {
    pub packet_id: u16,
    pub properties: Properties,
    pub filters: Vec<String>,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    pub packet_id: u16,
    pub properties: Properties,
    pub codes: Vec<u8>,
}

/// DISCONNECT and AUTH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoned {
    pub reason: u8,
    pub properties: Properties,
}

impl Connect {
    /// A clean start without keep alive, will, name or properties.
    pub fn new(version: ProtocolVersion, client_id: &str) -> Connect {
        Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id: client_id.to_owned(),
            will: None,
            user_name: None,
            password: None,
            properties: Properties::default(),
        }
    }
}

impl Ack {
    /// Reason 0, no properties.
    pub fn new(packet_id: u16) -> Ack {
        Ack { packet_id, ..Ack::default() }
    }
}
