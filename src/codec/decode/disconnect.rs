//! DISCONNECT and AUTH (MQTT 5.0 §3.14, §3.15): a reason code and properties, all of which may be left out.

use crate::codec::property::{PropertyReader, id};
use crate::codec::wire::Reader;
use crate::codec::{Auth, DecodeError, Disconnect, ProtocolVersion};

pub(super) fn decode_disconnect(body: &[u8], version: ProtocolVersion) -> Result<Disconnect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut disconnect = Disconnect::default();
    if reader.is_empty() {
        return Ok(disconnect);
    }
    if version < ProtocolVersion::V5 {
        return Err(DecodeError::TrailingBytes);
    }
    disconnect.reason = reader.u8()?;
    if !may_end_a_connection(disconnect.reason) {
        return Err(DecodeError::ReasonCode { code: disconnect.reason });
    }
    if reader.is_empty() {
        return Ok(disconnect);
    }
    let mut properties = PropertyReader::after_length(&mut reader)?;
    reader.finish()?;
    while let Some(identifier) = properties.next()? {
        match identifier {
            id::SESSION_EXPIRY_INTERVAL => disconnect.session_expiry_interval = Some(properties.u32()?),
            id::REASON_STRING => disconnect.reason_string = Some(properties.string()?),
            id::USER_PROPERTY => properties.user_property()?,
            id::SERVER_REFERENCE => disconnect.server_reference = Some(properties.string()?),
            _ => return properties.refuse(identifier),
        }
    }
    disconnect.user_properties = properties.user_properties();
    Ok(disconnect)
}

/// The reason codes of MQTT 5.0 §3.14.2.1, either side's.
fn may_end_a_connection(code: u8) -> bool {
    matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2)
}

pub(super) fn decode_auth(body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut auth = Auth::default();
    // Success without properties may leave everything out (§3.15.2.1).
    if reader.is_empty() {
        return Ok(auth);
    }
    auth.reason = reader.u8()?;
    if !matches!(auth.reason, 0x00 | 0x18 | 0x19) {
        return Err(DecodeError::ReasonCode { code: auth.reason });
    }
    let mut properties = PropertyReader::after_length(&mut reader)?;
    reader.finish()?;
    while let Some(identifier) = properties.next()? {
        match identifier {
            id::AUTHENTICATION_METHOD => auth.authentication_method = Some(properties.string()?),
            id::AUTHENTICATION_DATA => auth.authentication_data = Some(properties.binary()?),
            id::REASON_STRING => auth.reason_string = Some(properties.string()?),
            id::USER_PROPERTY => properties.user_property()?,
            _ => return properties.refuse(identifier),
        }
    }
    if auth.authentication_method.is_none() {
        return Err(DecodeError::NoAuthenticationMethod);
    }
    auth.user_properties = properties.user_properties();
    Ok(auth)
}
