//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (MQTT 5.0 §3.8–3.11).

use crate::codec::property::{PropertyReader, id};
use crate::codec::subscription::read_filter;
use crate::codec::wire::Reader;
use crate::codec::{DecodeError, Filters, ProtocolVersion, SubAck, Subscribe, Unsubscribe, UserProperties};

pub(super) fn decode_subscribe(body: &[u8], version: ProtocolVersion) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut subscription_identifier = None;
    let mut user_properties = UserProperties::default();
    if version == ProtocolVersion::V5 {
        let mut properties = PropertyReader::after_length(&mut reader)?;
        while let Some(identifier) = properties.next()? {
            match identifier {
                id::SUBSCRIPTION_IDENTIFIER => subscription_identifier = Some(properties.subscription_identifier()?),
                id::USER_PROPERTY => properties.user_property()?,
                _ => return properties.refuse(identifier),
            }
        }
        user_properties = properties.user_properties();
    }
    let filters = filters(reader, true, version)?;
    Ok(Subscribe { packet_id, subscription_identifier, user_properties, filters })
}

pub(super) fn decode_unsubscribe(body: &[u8], version: ProtocolVersion) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut user_properties = UserProperties::default();
    if version == ProtocolVersion::V5 {
        let mut properties = PropertyReader::after_length(&mut reader)?;
        while let Some(identifier) = properties.next()? {
            match identifier {
                id::USER_PROPERTY => properties.user_property()?,
                _ => return properties.refuse(identifier),
            }
        }
        user_properties = properties.user_properties();
    }
    let filters = filters(reader, false, version)?;
    Ok(Unsubscribe { packet_id, user_properties, filters })
}

/// Checks every filter, so that [`Filters::iter`] need not fail.
fn filters(mut reader: Reader<'_>, with_options: bool, version: ProtocolVersion) -> Result<Filters<'_>, DecodeError> {
    let payload = reader.rest;
    if payload.is_empty() {
        return Err(DecodeError::NoFilters);
    }
    while !reader.is_empty() {
        read_filter(&mut reader, with_options, version)?;
    }
    Ok(Filters { payload, with_options })
}

pub(super) fn decode_suback(body: &[u8], version: ProtocolVersion) -> Result<SubAck<'_>, DecodeError> {
    let suback = acknowledgement(body, version)?;
    let may_carry = |code: u8| match version {
        ProtocolVersion::V5 => {
            matches!(code, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
        }
        // 3.1 has no failure code, but servers send that of 3.1.1.
        _ => matches!(code, 0x00..=0x02 | 0x80),
    };
    check_codes(suback, may_carry)
}

pub(super) fn decode_unsuback(body: &[u8], version: ProtocolVersion) -> Result<SubAck<'_>, DecodeError> {
    let unsuback = acknowledgement(body, version)?;
    if version < ProtocolVersion::V5 {
        return if unsuback.codes.is_empty() { Ok(unsuback) } else { Err(DecodeError::TrailingBytes) };
    }
    check_codes(unsuback, |code| matches!(code, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91))
}

fn check_codes<'a>(suback: SubAck<'a>, may_carry: impl Fn(u8) -> bool) -> Result<SubAck<'a>, DecodeError> {
    if suback.codes.is_empty() {
        return Err(DecodeError::NoReasonCodes);
    }
    match suback.codes.iter().find(|code| !may_carry(**code)) {
        Some(code) => Err(DecodeError::ReasonCode { code: *code }),
        None => Ok(suback),
    }
}

/// The common shape of SUBACK and UNSUBACK; the codes are not checked yet.
fn acknowledgement(body: &[u8], version: ProtocolVersion) -> Result<SubAck<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut reason_string = None;
    let mut user_properties = UserProperties::default();
    if version == ProtocolVersion::V5 {
        let mut properties = PropertyReader::after_length(&mut reader)?;
        while let Some(identifier) = properties.next()? {
            match identifier {
                id::REASON_STRING => reason_string = Some(properties.string()?),
                id::USER_PROPERTY => properties.user_property()?,
                _ => return properties.refuse(identifier),
            }
        }
        user_properties = properties.user_properties();
    }
    Ok(SubAck { packet_id, reason_string, user_properties, codes: reader.rest })
}
