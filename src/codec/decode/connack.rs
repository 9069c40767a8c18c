//! CONNACK (MQTT 5.0 §3.2).

use crate::codec::property::{PropertyReader, id};
use crate::codec::wire::Reader;
use crate::codec::{ConnAck, ConnAckProperties, DecodeError, ProtocolVersion, QoS};

pub(super) fn decode(body: &[u8], version: ProtocolVersion) -> Result<ConnAck<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    // 3.1 does not use this byte.
    if flags & 0xFE != 0 && version > ProtocolVersion::V31 {
        return Err(DecodeError::ReservedConnAckFlags);
    }
    let session_present = flags & 0x01 != 0 && version > ProtocolVersion::V31;
    let code = reader.u8()?;
    if !may_carry(code, version) {
        return Err(DecodeError::ReasonCode { code });
    }
    let mut properties = ConnAckProperties::default();
    if version == ProtocolVersion::V5 {
        properties = connack_properties(PropertyReader::after_length(&mut reader)?)?;
    }
    reader.finish()?;
    Ok(ConnAck { session_present, code, properties })
}

/// The return codes of MQTT 3.1.1 §3.2.2.3 and the reason codes of MQTT 5.0 §3.2.2.2.
fn may_carry(code: u8, version: ProtocolVersion) -> bool {
    if version < ProtocolVersion::V5 {
        return code <= 5;
    }
    matches!(code, 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
}

fn connack_properties(mut reader: PropertyReader<'_>) -> Result<ConnAckProperties<'_>, DecodeError> {
    let mut properties = ConnAckProperties::default();
    while let Some(identifier) = reader.next()? {
        match identifier {
            id::SESSION_EXPIRY_INTERVAL => properties.session_expiry_interval = Some(reader.u32()?),
            id::RECEIVE_MAXIMUM => properties.receive_maximum = Some(reader.positive_u16(identifier)?),
            id::MAXIMUM_QOS => {
                let at_least_once = reader.boolean(identifier)?;
                properties.maximum_qos = Some(if at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce });
            }
            id::RETAIN_AVAILABLE => properties.retain_available = Some(reader.boolean(identifier)?),
            id::MAXIMUM_PACKET_SIZE => properties.maximum_packet_size = Some(reader.positive_u32(identifier)?),
            id::ASSIGNED_CLIENT_IDENTIFIER => properties.assigned_client_identifier = Some(reader.string()?),
            id::TOPIC_ALIAS_MAXIMUM => properties.topic_alias_maximum = Some(reader.u16()?),
            id::REASON_STRING => properties.reason_string = Some(reader.string()?),
            id::USER_PROPERTY => reader.user_property()?,
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                properties.wildcard_subscription_available = Some(reader.boolean(identifier)?);
            }
            id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE => {
                properties.subscription_identifiers_available = Some(reader.boolean(identifier)?);
            }
            id::SHARED_SUBSCRIPTION_AVAILABLE => {
                properties.shared_subscription_available = Some(reader.boolean(identifier)?);
            }
            id::SERVER_KEEP_ALIVE => properties.server_keep_alive = Some(reader.u16()?),
            id::RESPONSE_INFORMATION => properties.response_information = Some(reader.string()?),
            id::SERVER_REFERENCE => properties.server_reference = Some(reader.string()?),
            id::AUTHENTICATION_METHOD => properties.authentication_method = Some(reader.string()?),
            id::AUTHENTICATION_DATA => properties.authentication_data = Some(reader.binary()?),
            _ => return reader.refuse(identifier),
        }
    }
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(DecodeError::AuthenticationDataWithoutMethod);
    }
    properties.user_properties = reader.user_properties();
    Ok(properties)
}
