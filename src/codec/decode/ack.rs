//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5.0 §3.4–3.7), which have one shape.

use super::check_flags;
use crate::codec::property::{PropertyReader, id};
use crate::codec::wire::Reader;
use crate::codec::{Ack, DecodeError, PacketType, ProtocolVersion};

/// Decodes the body of a PUBACK, PUBREC, PUBREL or PUBCOMP; `first` is the packet's first byte and says which.
///
/// # Errors
/// [`DecodeError::ReservedPacketType`] for any other type, and whatever is wrong with the packet.
#[inline]
pub fn decode_ack(first: u8, body: &[u8], version: ProtocolVersion) -> Result<Ack<'_>, DecodeError> {
    use PacketType::{PubAck, PubComp, PubRec, PubRel};
    let Some(packet_type @ (PubAck | PubRec | PubRel | PubComp)) = PacketType::of(first) else {
        return Err(DecodeError::ReservedPacketType { packet_type: first >> 4 });
    };
    check_flags(packet_type, first, version)?;
    decode(packet_type, body, version)
}

#[inline]
pub(super) fn decode(packet_type: PacketType, body: &[u8], version: ProtocolVersion) -> Result<Ack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    // The short form says reason 0, and is nearly every acknowledgement.
    if reader.is_empty() {
        return Ok(Ack { packet_id, ..Ack::default() });
    }
    if version < ProtocolVersion::V5 {
        return Err(DecodeError::TrailingBytes);
    }
    decode_reason(packet_type, packet_id, reader)
}

fn decode_reason<'a>(packet_type: PacketType, packet_id: u16, mut reader: Reader<'a>) -> Result<Ack<'a>, DecodeError> {
    let code = reader.u8()?;
    if !may_carry(packet_type, code) {
        return Err(DecodeError::ReasonCode { code });
    }
    let mut ack = Ack { packet_id, reason: code, ..Ack::default() };
    if reader.is_empty() {
        return Ok(ack);
    }
    let mut properties = PropertyReader::after_length(&mut reader)?;
    reader.finish()?;
    while let Some(identifier) = properties.next()? {
        match identifier {
            id::REASON_STRING => ack.reason_string = Some(properties.string()?),
            id::USER_PROPERTY => properties.user_property()?,
            _ => return properties.refuse(identifier),
        }
    }
    ack.user_properties = properties.user_properties();
    Ok(ack)
}

/// The reason codes of MQTT 5.0 §3.4.2.1, §3.5.2.1, §3.6.2.1 and §3.7.2.1.
fn may_carry(packet_type: PacketType, code: u8) -> bool {
    match packet_type {
        PacketType::PubAck | PacketType::PubRec => {
            matches!(code, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
        }
        _ => matches!(code, 0x00 | 0x92),
    }
}
