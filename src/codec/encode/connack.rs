//! CONNACK (MQTT 5.0 §3.2).

use super::{
    put_binary_property, put_boolean_property, put_packet, put_string_property, put_u16_property, put_u32_property,
    put_user_properties,
};
use crate::codec::property::id;
use crate::codec::wire::put_with_length;
use crate::codec::{ConnAck, ConnAckProperties, PacketType, ProtocolVersion, QoS};

pub(super) fn put(connack: &ConnAck<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    // 3.1 has no session present flag.
    let session_present = connack.session_present && version > ProtocolVersion::V31;
    put_packet(PacketType::ConnAck, out, |out| {
        out.extend_from_slice(&[u8::from(session_present), connack.code]);
        if version == ProtocolVersion::V5 {
            put_with_length(out, |out| put_properties(&connack.properties, out));
        }
    });
}

fn put_properties(properties: &ConnAckProperties<'_>, out: &mut Vec<u8>) {
    let p = properties;
    put_u32_property(out, id::SESSION_EXPIRY_INTERVAL, p.session_expiry_interval);
    put_u16_property(out, id::RECEIVE_MAXIMUM, p.receive_maximum);
    // The property says whether QoS 1 is the maximum or QoS 0. QoS 2 is said by its absence.
    let maximum_qos = p.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce);
    put_boolean_property(out, id::MAXIMUM_QOS, maximum_qos.map(|qos| qos == QoS::AtLeastOnce));
    put_boolean_property(out, id::RETAIN_AVAILABLE, p.retain_available);
    put_u32_property(out, id::MAXIMUM_PACKET_SIZE, p.maximum_packet_size);
    put_string_property(out, id::ASSIGNED_CLIENT_IDENTIFIER, p.assigned_client_identifier);
    put_u16_property(out, id::TOPIC_ALIAS_MAXIMUM, p.topic_alias_maximum);
    put_string_property(out, id::REASON_STRING, p.reason_string);
    put_user_properties(out, &p.user_properties);
    put_boolean_property(out, id::WILDCARD_SUBSCRIPTION_AVAILABLE, p.wildcard_subscription_available);
    put_boolean_property(out, id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE, p.subscription_identifiers_available);
    put_boolean_property(out, id::SHARED_SUBSCRIPTION_AVAILABLE, p.shared_subscription_available);
    put_u16_property(out, id::SERVER_KEEP_ALIVE, p.server_keep_alive);
    put_string_property(out, id::RESPONSE_INFORMATION, p.response_information);
    put_string_property(out, id::SERVER_REFERENCE, p.server_reference);
    put_string_property(out, id::AUTHENTICATION_METHOD, p.authentication_method);
    put_binary_property(out, id::AUTHENTICATION_DATA, p.authentication_data);
}
