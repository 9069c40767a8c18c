//! PUBLISH (MQTT 5.0 §3.3), the packet that everything is about.

use crate::codec::property::{PropertyReader, id, property_section};
use crate::codec::topic::TopicError;
use crate::codec::wire::Reader;
use crate::codec::{DecodeError, ProtocolVersion, Publish, PublishProperties, QoS};

/// Decodes the body of a PUBLISH; `first` is the packet's first byte, of which only the flags matter.
// Always: what it returns is then used from registers. Read back from memory, slices are loaded in one piece that
// was written in two, which costs more than all of the decoding.
#[inline(always)]
pub fn decode_publish(first: u8, body: &[u8], version: ProtocolVersion) -> Result<Publish<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let qos = QoS::from_bits(first >> 1 & 0x03).ok_or(DecodeError::PublishQoS)?;
    let dup = first & 0x08 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::DupAtQoS0);
    }
    let topic = reader.topic_name()?.map_err(DecodeError::TopicName)?;
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
    let mut properties = PublishProperties::EMPTY;
    if version == ProtocolVersion::V5 {
        let section = property_section(&mut reader)?;
        if !section.is_empty() {
            properties = PublishProperties::parse(section)?;
        }
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(DecodeError::NoTopic);
        }
    } else if topic.is_empty() {
        return Err(DecodeError::TopicName(TopicError::Empty));
    }
    Ok(Publish { dup, qos, retain: first & 0x01 != 0, topic, packet_id, properties, payload: reader.rest })
}

impl<'a> PublishProperties<'a> {
    /// Validates the raw property section of a PUBLISH (without its length) and picks out what has a field,
    /// as decoding does: how whoever publishes builds properties.
    pub fn parse(raw: &'a [u8]) -> Result<PublishProperties<'a>, DecodeError> {
        let mut reader = PropertyReader::new(raw).repeating(id::SUBSCRIPTION_IDENTIFIER);
        let mut properties = PublishProperties { raw, ..PublishProperties::EMPTY };
        while let Some(identifier) = reader.next()? {
            match identifier {
                id::TOPIC_ALIAS => {
                    let alias = reader.u16()?;
                    if alias == 0 {
                        return Err(DecodeError::TopicAliasZero);
                    }
                    properties.topic_alias = Some(alias);
                    properties.forwards_as_is = false;
                }
                id::SUBSCRIPTION_IDENTIFIER => {
                    reader.subscription_identifier()?;
                    properties.forwards_as_is = false;
                }
                _ => properties.read_message_property(identifier, &mut reader)?,
            }
        }
        Ok(properties)
    }

    /// Reads a property that a PUBLISH and a will have in common.
    pub(super) fn read_message_property(
        &mut self,
        identifier: u8,
        reader: &mut PropertyReader<'a>,
    ) -> Result<(), DecodeError> {
        match identifier {
            id::PAYLOAD_FORMAT_INDICATOR => self.payload_is_utf8 = reader.boolean(identifier)?,
            id::MESSAGE_EXPIRY_INTERVAL => {
                self.message_expiry_interval = Some(reader.u32()?);
                self.forwards_as_is = false;
            }
            id::CONTENT_TYPE => _ = reader.string()?,
            id::RESPONSE_TOPIC => reader.response_topic()?,
            id::CORRELATION_DATA => _ = reader.binary()?,
            id::USER_PROPERTY => reader.user_property()?,
            _ => return reader.refuse(identifier),
        }
        Ok(())
    }
}
