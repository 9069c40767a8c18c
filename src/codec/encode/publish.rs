//! PUBLISH (MQTT 5.0 §3.3), put in two parts so that a payload is written, shared or referenced as suits.

use crate::codec::property::id;
use crate::codec::wire::{VARINT_MAX, put_binary, put_varint, varint_bytes, varint_len};
use crate::codec::{PacketType, ProtocolVersion, Publish, QoS};

/// Everything in a PUBLISH but its payload. 3.x leaves out what comes after the packet identifier.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublishHead<'a> {
    /// DUP flag.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name, or empty when a topic alias stands for it.
    pub topic: &'a str,
    /// Packet identifier; not written at QoS 0.
    pub packet_id: u16,
    /// Topic alias of the receiver.
    pub topic_alias: Option<u16>,
    /// What is left of the message expiry interval, in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Identifiers of the subscriptions that matched, each 1..=268,435,455.
    pub subscription_identifiers: &'a [u32],
    /// Other properties as on the wire, such as
    /// [`PublishProperties::forwardable`](crate::codec::PublishProperties::forwardable) gives.
    pub forward: &'a [u8],
}

/// The total size in bytes of the PUBLISH that this head and a payload of `payload_len` bytes make: what a
/// receiver's maximum packet size is compared with.
#[inline]
pub fn publish_len(version: ProtocolVersion, head: &PublishHead<'_>, payload_len: usize) -> usize {
    let remaining = body_len(version, head, properties_len(version, head)) + payload_len;
    1 + varint_len(u32::try_from(remaining).unwrap_or(u32::MAX)) + remaining
}

/// Appends everything of a PUBLISH that comes before its payload, of which `payload_len` bytes have to follow.
/// Returns where in `out` the two bytes of the packet identifier are, so that copies can be given another.
///
/// # Panics
/// When the topic is longer than 65,535 bytes or the packet than MQTT allows.
#[inline]
pub fn encode_publish_head(
    out: &mut Vec<u8>,
    version: ProtocolVersion,
    head: &PublishHead<'_>,
    payload_len: usize,
) -> Option<usize> {
    let properties_len = properties_len(version, head);
    let body_len = body_len(version, head, properties_len);
    let remaining = body_len + payload_len;
    assert!(remaining <= VARINT_MAX as usize, "a PUBLISH of {remaining} bytes");

    let flags = u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain);
    let (length, length_len) = varint_bytes(remaining as u32);
    out.reserve(5 + body_len);
    out.push((PacketType::Publish as u8) << 4 | flags);
    out.extend_from_slice(&length[..length_len]);
    put_binary(out, head.topic.as_bytes());
    let packet_id_offset = (head.qos != QoS::AtMostOnce).then_some(out.len());
    if packet_id_offset.is_some() {
        out.extend_from_slice(&head.packet_id.to_be_bytes());
    }
    if version == ProtocolVersion::V5 {
        put_properties(out, head, properties_len);
    }
    packet_id_offset
}

/// A PUBLISH as it was decoded: its raw properties unaltered.
pub(super) fn put(publish: &Publish<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let Publish { dup, qos, retain, topic, packet_id, properties, payload } = *publish;
    let head = PublishHead { dup, qos, retain, topic, packet_id, forward: properties.raw, ..PublishHead::default() };
    encode_publish_head(out, version, &head, payload.len());
    out.extend_from_slice(payload);
}

/// The length of the head after the remaining length.
#[inline]
fn body_len(version: ProtocolVersion, head: &PublishHead<'_>, properties_len: usize) -> usize {
    let packet_id_len = if head.qos == QoS::AtMostOnce { 0 } else { 2 };
    let section_len = if version == ProtocolVersion::V5 {
        varint_len(u32::try_from(properties_len).unwrap_or(u32::MAX)) + properties_len
    } else {
        0
    };
    2 + head.topic.len() + packet_id_len + section_len
}

/// The length of the properties, without that of their length.
#[inline]
fn properties_len(version: ProtocolVersion, head: &PublishHead<'_>) -> usize {
    if version < ProtocolVersion::V5 {
        return 0;
    }
    let topic_alias_len = if head.topic_alias.is_some() { 3 } else { 0 };
    let expiry_len = if head.message_expiry_interval.is_some() { 5 } else { 0 };
    let identifiers_len: usize = head.subscription_identifiers.iter().map(|value| 1 + varint_len(*value)).sum();
    topic_alias_len + expiry_len + identifiers_len + head.forward.len()
}

#[inline]
fn put_properties(out: &mut Vec<u8>, head: &PublishHead<'_>, properties_len: usize) {
    // Not above `VARINT_MAX`, as the whole packet is not.
    put_varint(out, properties_len as u32);
    if let Some(alias) = head.topic_alias {
        let [high, low] = alias.to_be_bytes();
        out.extend_from_slice(&[id::TOPIC_ALIAS, high, low]);
    }
    if let Some(interval) = head.message_expiry_interval {
        out.push(id::MESSAGE_EXPIRY_INTERVAL);
        out.extend_from_slice(&interval.to_be_bytes());
    }
    for identifier in head.subscription_identifiers {
        out.push(id::SUBSCRIPTION_IDENTIFIER);
        put_varint(out, *identifier);
    }
    out.extend_from_slice(head.forward);
}

/// The total length in bytes of a packet with a body of this length.
pub fn packet_len(body_len: usize) -> usize {
    1 + varint_len(body_len as u32) + body_len
}

/// Appends a PUBLISH whose variable header and payload are those of another one, of the same protocol version
/// and QoS; returns the offset of that body in `out`, where the caller may change the packet identifier.
#[inline]
pub fn encode_publish_body(out: &mut Vec<u8>, dup: bool, qos: QoS, retain: bool, body: &[u8]) -> usize {
    out.push(0x30 | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain));
    put_varint(out, body.len() as u32);
    let at = out.len();
    out.extend_from_slice(body);
    at
}
