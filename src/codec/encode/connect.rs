//! CONNECT (MQTT 5.0 §3.1).

use super::{
    put_binary_property, put_boolean_property, put_packet, put_string_property, put_u16_property, put_u32_property,
    put_user_properties,
};
use crate::codec::property::id;
use crate::codec::wire::{put_binary, put_string, put_with_length};
use crate::codec::{Connect, ConnectProperties, PacketType, ProtocolVersion, Will};

pub(super) fn put(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let is_v5 = connect.version == ProtocolVersion::V5;
    put_packet(PacketType::Connect, out, |out| {
        put_string(out, if connect.version == ProtocolVersion::V31 { "MQIsdp" } else { "MQTT" });
        let bridge = if connect.bridge && !is_v5 { 0x80 } else { 0 };
        out.push(connect.version as u8 | bridge);
        out.push(flags(connect));
        out.extend_from_slice(&connect.keep_alive.to_be_bytes());
        if is_v5 {
            put_with_length(out, |out| put_properties(&connect.properties, out));
        }
        put_string(out, connect.client_id);
        if let Some(will) = &connect.will {
            if is_v5 {
                put_with_length(out, |out| put_will_properties(will, out));
            }
            put_string(out, will.topic);
            put_binary(out, will.payload);
        }
        if let Some(user_name) = connect.user_name {
            put_string(out, user_name);
        }
        if let Some(password) = connect.password {
            put_binary(out, password);
        }
    });
}

/// The connect flags (MQTT 5.0 §3.1.2.3).
fn flags(connect: &Connect<'_>) -> u8 {
    let will = connect.will.as_ref().map_or(0, |will| 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    u8::from(connect.clean_start) << 1
        | will
        | u8::from(connect.password.is_some()) << 6
        | u8::from(connect.user_name.is_some()) << 7
}

fn put_properties(properties: &ConnectProperties<'_>, out: &mut Vec<u8>) {
    let p = properties;
    put_u32_property(out, id::SESSION_EXPIRY_INTERVAL, p.session_expiry_interval);
    put_u16_property(out, id::RECEIVE_MAXIMUM, p.receive_maximum);
    put_u32_property(out, id::MAXIMUM_PACKET_SIZE, p.maximum_packet_size);
    put_u16_property(out, id::TOPIC_ALIAS_MAXIMUM, p.topic_alias_maximum);
    put_boolean_property(out, id::REQUEST_RESPONSE_INFORMATION, p.request_response_information);
    put_boolean_property(out, id::REQUEST_PROBLEM_INFORMATION, p.request_problem_information);
    put_user_properties(out, &p.user_properties);
    put_string_property(out, id::AUTHENTICATION_METHOD, p.authentication_method);
    put_binary_property(out, id::AUTHENTICATION_DATA, p.authentication_data);
}

/// The raw properties of a decoded will hold its delay already; those that a client builds need not.
fn put_will_properties(will: &Will<'_>, out: &mut Vec<u8>) {
    if will.delay_interval != 0 && !will.properties.contains(id::WILL_DELAY_INTERVAL) {
        put_u32_property(out, id::WILL_DELAY_INTERVAL, Some(will.delay_interval));
    }
    out.extend_from_slice(will.properties.raw);
}
