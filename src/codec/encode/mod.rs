//! From packets to bytes, appended to a `Vec<u8>`. What a protocol version does not have is left out.
//!
//! Packets are trusted: their maker keeps strings below 64 KiB and free of what decoding refuses.

mod ack;
mod connack;
mod connect;
mod publish;
mod subscribe;

use super::property::{id, put_user_property};
use super::wire::{put_binary, put_varint, put_with_length};
use super::{Auth, Disconnect, Packet, PacketType, ProtocolVersion, UserProperties};

pub use ack::encode_ack;
pub use publish::{PublishHead, encode_publish_body, encode_publish_head, packet_len, publish_len};

/// Appends a packet as `version` puts it. A CONNECT is put as the version in it says.
///
/// # Panics
/// When a field is longer than its length can say: 65,535 bytes, or 268,435,455 for the whole packet.
pub fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => connect::put(connect, out),
        Packet::ConnAck(connack) => connack::put(connack, version, out),
        Packet::Publish(publish) => publish::put(publish, version, out),
        Packet::PubAck(ack) => ack::put(PacketType::PubAck, ack, version, out),
        Packet::PubRec(ack) => ack::put(PacketType::PubRec, ack, version, out),
        Packet::PubRel(ack) => ack::put(PacketType::PubRel, ack, version, out),
        Packet::PubComp(ack) => ack::put(PacketType::PubComp, ack, version, out),
        Packet::Subscribe(subscribe) => subscribe::put_subscribe(subscribe, version, out),
        Packet::SubAck(suback) => subscribe::put_suback(suback, version, out),
        Packet::Unsubscribe(unsubscribe) => subscribe::put_unsubscribe(unsubscribe, version, out),
        Packet::UnsubAck(unsuback) => subscribe::put_unsuback(unsuback, version, out),
        Packet::PingReq => out.extend_from_slice(&[first(PacketType::PingReq), 0]),
        Packet::PingResp => encode_ping_resp(out),
        Packet::Disconnect(disconnect) => put_disconnect(disconnect, version, out),
        Packet::Auth(auth) => put_auth(auth, version, out),
    }
}

/// Appends a PINGRESP, the same in every version.
#[inline]
pub fn encode_ping_resp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first(PacketType::PingResp), 0]);
}

/// The first byte of a packet that has no flags of its own (MQTT 5.0 §2.1.3).
const fn first(packet_type: PacketType) -> u8 {
    let flags = match packet_type {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0x02,
        _ => 0x00,
    };
    (packet_type as u8) << 4 | flags
}

/// Appends a packet: its first byte, its length, and the body that `write` appends.
fn put_packet(packet_type: PacketType, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(first(packet_type));
    put_with_length(out, write);
}

/// DISCONNECT (MQTT 5.0 §3.14), in the shortest form that says everything.
fn put_disconnect(disconnect: &Disconnect<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let Disconnect { reason, session_expiry_interval, reason_string, user_properties, server_reference } = disconnect;
    let has_properties = session_expiry_interval.is_some()
        || reason_string.is_some()
        || server_reference.is_some()
        || !user_properties.is_empty();
    put_packet(PacketType::Disconnect, out, |out| {
        if version < ProtocolVersion::V5 || (*reason == 0 && !has_properties) {
            return;
        }
        out.push(*reason);
        if !has_properties {
            return;
        }
        put_with_length(out, |out| {
            put_u32_property(out, id::SESSION_EXPIRY_INTERVAL, *session_expiry_interval);
            put_string_property(out, id::REASON_STRING, *reason_string);
            put_user_properties(out, user_properties);
            put_string_property(out, id::SERVER_REFERENCE, *server_reference);
        });
    });
}

/// AUTH (MQTT 5.0 §3.15).
///
/// # Panics
/// In 3.x, which has no such packet.
fn put_auth(auth: &Auth<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    assert_eq!(version, ProtocolVersion::V5, "only MQTT 5.0 has AUTH");
    put_packet(PacketType::Auth, out, |out| {
        if *auth == Auth::default() {
            return;
        }
        out.push(auth.reason);
        put_with_length(out, |out| {
            put_string_property(out, id::AUTHENTICATION_METHOD, auth.authentication_method);
            put_binary_property(out, id::AUTHENTICATION_DATA, auth.authentication_data);
            put_string_property(out, id::REASON_STRING, auth.reason_string);
            put_user_properties(out, &auth.user_properties);
        });
    });
}

fn put_boolean_property(out: &mut Vec<u8>, identifier: u8, value: Option<bool>) {
    if let Some(value) = value {
        out.extend_from_slice(&[identifier, u8::from(value)]);
    }
}

fn put_u16_property(out: &mut Vec<u8>, identifier: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.push(identifier);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn put_u32_property(out: &mut Vec<u8>, identifier: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(identifier);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn put_varint_property(out: &mut Vec<u8>, identifier: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.push(identifier);
        put_varint(out, value);
    }
}

fn put_string_property(out: &mut Vec<u8>, identifier: u8, value: Option<&str>) {
    put_binary_property(out, identifier, value.map(str::as_bytes));
}

fn put_binary_property(out: &mut Vec<u8>, identifier: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        out.push(identifier);
        put_binary(out, value);
    }
}

fn put_user_properties(out: &mut Vec<u8>, user_properties: &UserProperties<'_>) {
    for (name, value) in user_properties.iter() {
        put_user_property(out, name, value);
    }
}
