//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5.0 §3.4–3.7).

use super::{first, put_packet, put_string_property, put_user_properties};
use crate::codec::property::id;
use crate::codec::wire::put_with_length;
use crate::codec::{Ack, PacketType, ProtocolVersion};

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties, in the short form when the reason is 0 or
/// the version has no reasons.
///
/// # Panics
/// For any other packet type.
#[inline]
pub fn encode_ack(out: &mut Vec<u8>, version: ProtocolVersion, kind: PacketType, packet_id: u16, reason: u8) {
    assert!(
        matches!(kind, PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp),
        "{kind:?} is no acknowledgement of a PUBLISH"
    );
    let [high, low] = packet_id.to_be_bytes();
    if reason == 0 || version < ProtocolVersion::V5 {
        out.extend_from_slice(&[first(kind), 2, high, low]);
    } else {
        out.extend_from_slice(&[first(kind), 3, high, low, reason]);
    }
}

pub(super) fn put(kind: PacketType, ack: &Ack<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let has_properties = ack.reason_string.is_some() || !ack.user_properties.is_empty();
    if version < ProtocolVersion::V5 || !has_properties {
        return encode_ack(out, version, kind, ack.packet_id, ack.reason);
    }
    put_packet(kind, out, |out| {
        out.extend_from_slice(&ack.packet_id.to_be_bytes());
        out.push(ack.reason);
        put_with_length(out, |out| {
            put_string_property(out, id::REASON_STRING, ack.reason_string);
            put_user_properties(out, &ack.user_properties);
        });
    });
}
