//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (MQTT 5.0 §3.8–3.11).

use super::{put_packet, put_string_property, put_user_properties, put_varint_property};
use crate::codec::property::id;
use crate::codec::wire::{put_string, put_with_length};
use crate::codec::{PacketType, ProtocolVersion, SubAck, Subscribe, Unsubscribe};

/// The code of a failed subscription in 3.x, which knows no reasons (MQTT 3.1.1 §3.9.3).
const FAILURE: u8 = 0x80;

pub(super) fn put_subscribe(subscribe: &Subscribe<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    put_packet(PacketType::Subscribe, out, |out| {
        out.extend_from_slice(&subscribe.packet_id.to_be_bytes());
        if version == ProtocolVersion::V5 {
            put_with_length(out, |out| {
                put_varint_property(out, id::SUBSCRIPTION_IDENTIFIER, subscribe.subscription_identifier);
                put_user_properties(out, &subscribe.user_properties);
            });
        }
        for request in subscribe.filters.iter() {
            put_string(out, request.filter);
            let options = request.options;
            out.push(if version == ProtocolVersion::V5 { options.to_byte() } else { options.qos as u8 });
        }
    });
}

pub(super) fn put_unsubscribe(unsubscribe: &Unsubscribe<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    put_packet(PacketType::Unsubscribe, out, |out| {
        out.extend_from_slice(&unsubscribe.packet_id.to_be_bytes());
        if version == ProtocolVersion::V5 {
            put_with_length(out, |out| put_user_properties(out, &unsubscribe.user_properties));
        }
        for request in unsubscribe.filters.iter() {
            put_string(out, request.filter);
        }
    });
}

pub(super) fn put_suback(suback: &SubAck<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    put_packet(PacketType::SubAck, out, |out| {
        put_acknowledgement(suback, version, out);
        if version == ProtocolVersion::V5 {
            out.extend_from_slice(suback.codes);
        } else {
            out.extend(suback.codes.iter().map(|code| (*code).min(FAILURE)));
        }
    });
}

pub(super) fn put_unsuback(unsuback: &SubAck<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    put_packet(PacketType::UnsubAck, out, |out| {
        put_acknowledgement(unsuback, version, out);
        if version == ProtocolVersion::V5 {
            out.extend_from_slice(unsuback.codes);
        }
    });
}

/// What SUBACK and UNSUBACK have in common: everything before the codes.
fn put_acknowledgement(suback: &SubAck<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    out.extend_from_slice(&suback.packet_id.to_be_bytes());
    if version == ProtocolVersion::V5 {
        put_with_length(out, |out| {
            put_string_property(out, id::REASON_STRING, suback.reason_string);
            put_user_properties(out, &suback.user_properties);
        });
    }
}
