//! The packets that clients of the benches send, made by the codec.

use ringmq::codec::{
    Connect, ConnectProperties, FilterRequest, Filters, Packet, ProtocolVersion, PublishHead, QoS, Subscribe,
    SubscriptionOptions, UserProperties, encode, encode_publish_head,
};

/// What clients speak unless a bench says otherwise.
pub const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// Content type and a user property, as 5.0 puts them into a PUBLISH.
pub const PROPERTIES: &[u8] = b"\x03\x00\x10application/json\x26\x00\x04unit\x00\x01C";

/// Whether a session outlives its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Session {
    Clean,
    Kept,
}

/// A CONNECT without keep alive.
pub fn connect(version: ProtocolVersion, client_id: &str, session: Session) -> Vec<u8> {
    let kept = session == Session::Kept;
    let expiry = (kept && version == ProtocolVersion::V5).then_some(u32::MAX);
    let connect = Connect {
        version,
        bridge: false,
        clean_start: !kept,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties { session_expiry_interval: expiry, ..ConnectProperties::default() },
    };
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect)), version, &mut bytes);
    bytes
}

/// Appends a SUBSCRIBE to one filter.
pub fn subscribe(version: ProtocolVersion, filter: &str, qos: QoS, bytes: &mut Vec<u8>) {
    let mut payload = Vec::new();
    FilterRequest { filter, options: SubscriptionOptions { qos, ..SubscriptionOptions::default() } }.put(&mut payload);
    let subscribe = Subscribe {
        packet_id: 1,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: Filters { payload: &payload, with_options: true },
    };
    encode(&Packet::Subscribe(subscribe), version, bytes);
}

/// A PUBLISH; above QoS 0 with the packet identifier given.
pub fn publish(topic: &str, qos: QoS, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    publish_with(VERSION, &PublishHead { qos, topic, packet_id, ..PublishHead::default() }, payload)
}

/// A PUBLISH with anything that its head can say.
pub fn publish_with(version: ProtocolVersion, head: &PublishHead<'_>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_publish_head(&mut bytes, version, head, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}
