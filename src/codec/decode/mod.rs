//! From the bytes of one packet to its type, with every check that one packet alone allows.

mod ack;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod subscribe;

use super::wire::Reader;
use super::{DecodeError, Frame, Packet, PacketType, ProtocolVersion};

pub use ack::decode_ack;
pub use connect::{connect_version, decode_connect};
pub use publish::decode_publish;

/// Decodes a packet, whichever side sent it. `version` is what the connection speaks; a CONNECT carries its own.
///
/// # Errors
/// The first thing that is wrong with the packet.
pub fn decode(frame: Frame<'_>, version: ProtocolVersion) -> Result<Packet<'_>, DecodeError> {
    let Frame { first, body } = frame;
    let reserved = DecodeError::ReservedPacketType { packet_type: first >> 4 };
    let packet_type = PacketType::of(first).ok_or(reserved)?;
    check_flags(packet_type, first, version)?;
    Ok(match packet_type {
        PacketType::Connect => Packet::Connect(decode_connect(first, body)?),
        PacketType::ConnAck => Packet::ConnAck(connack::decode(body, version)?),
        PacketType::Publish => Packet::Publish(decode_publish(first, body, version)?),
        PacketType::PubAck => Packet::PubAck(ack::decode(packet_type, body, version)?),
        PacketType::PubRec => Packet::PubRec(ack::decode(packet_type, body, version)?),
        PacketType::PubRel => Packet::PubRel(ack::decode(packet_type, body, version)?),
        PacketType::PubComp => Packet::PubComp(ack::decode(packet_type, body, version)?),
        PacketType::Subscribe => Packet::Subscribe(subscribe::decode_subscribe(body, version)?),
        PacketType::SubAck => Packet::SubAck(subscribe::decode_suback(body, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(subscribe::decode_unsubscribe(body, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(subscribe::decode_unsuback(body, version)?),
        PacketType::PingReq => Reader::new(body).finish().map(|()| Packet::PingReq)?,
        PacketType::PingResp => Reader::new(body).finish().map(|()| Packet::PingResp)?,
        PacketType::Disconnect => Packet::Disconnect(disconnect::decode_disconnect(body, version)?),
        PacketType::Auth if version < ProtocolVersion::V5 => return Err(reserved),
        PacketType::Auth => Packet::Auth(disconnect::decode_auth(body)?),
    })
}

/// The flags of the fixed header, where they are not a PUBLISH's `[MQTT-2.1.3-1]`. In 3.1 what is sent again
/// may have the DUP flag.
#[inline]
fn check_flags(packet_type: PacketType, first: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    let flags = first & 0x0F;
    let fits = match packet_type {
        PacketType::Publish => true,
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => {
            flags == 0x02 || (flags == 0x0A && version == ProtocolVersion::V31)
        }
        _ => flags == 0,
    };
    if fits { Ok(()) } else { Err(DecodeError::ReservedFlags { first }) }
}
