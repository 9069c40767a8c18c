//! CONNECT (MQTT 5.0 §3.1).

use super::check_flags;
use crate::codec::property::{PropertyReader, id, property_section};
use crate::codec::topic::TopicError;
use crate::codec::wire::Reader;
use crate::codec::{
    Connect, ConnectProperties, DecodeError, PacketType, ProtocolVersion, PublishProperties, QoS, Will,
};

/// The bit of the protocol level by which bridges of 3.x make themselves known.
const BRIDGE: u8 = 0x80;

/// The connect flags (MQTT 5.0 §3.1.2.3).
struct ConnectFlags(u8);

impl ConnectFlags {
    fn has(&self, bit: u8) -> bool {
        self.0 >> bit & 1 == 1
    }
    fn reserved(&self) -> bool {
        self.has(0)
    }
    fn clean_start(&self) -> bool {
        self.has(1)
    }
    fn will(&self) -> bool {
        self.has(2)
    }
    fn will_qos(&self) -> u8 {
        self.0 >> 3 & 0x03
    }
    fn will_retain(&self) -> bool {
        self.has(5)
    }
    fn password(&self) -> bool {
        self.has(6)
    }
    fn user_name(&self) -> bool {
        self.has(7)
    }
}

/// Decodes the body of a CONNECT. An empty client identifier passes whatever the other fields say, and so does
/// one that is longer than 3.1 allows: the broker answers those.
///
/// # Errors
/// [`DecodeError::ProtocolName`] and [`DecodeError::ProtocolVersion`] come before any other about the body.
pub fn decode_connect(first: u8, body: &[u8]) -> Result<Box<Connect<'_>>, DecodeError> {
    let mut reader = Reader::new(body);
    check_flags(PacketType::Connect, first, ProtocolVersion::V5)?;
    let (version, bridge) = protocol(&mut reader)?;
    let flags = ConnectFlags(reader.u8()?);
    check_connect_flags(&flags, version)?;
    let keep_alive = reader.u16()?;
    let mut properties = ConnectProperties::default();
    if version == ProtocolVersion::V5 {
        properties = connect_properties(PropertyReader::after_length(&mut reader)?)?;
    }
    let client_id = reader.string()?;
    let will = if flags.will() { Some(will(&mut reader, &flags, version)?) } else { None };
    // 3.1 lets the remaining length decide: a flag may announce a string that is not there.
    let is_there = |flag: bool, reader: &Reader<'_>| flag && !(version == ProtocolVersion::V31 && reader.is_empty());
    let user_name = if is_there(flags.user_name(), &reader) { Some(reader.string()?) } else { None };
    let password = if is_there(flags.password(), &reader) { Some(reader.binary()?) } else { None };
    reader.finish()?;
    let clean_start = flags.clean_start();
    Ok(Box::new(Connect { version, bridge, clean_start, keep_alive, client_id, will, user_name, password, properties }))
}

/// The protocol version that the body of a CONNECT names, even if the rest of it is malformed: how to put the
/// refusal. `None` when it names none that is spoken here.
pub fn connect_version(body: &[u8]) -> Option<ProtocolVersion> {
    protocol(&mut Reader::new(body)).ok().map(|(version, _)| version)
}

/// Protocol name and level `[MQTT-3.1.2-1]`, `[MQTT-3.1.2-2]`, and whether the bridge bit is set.
fn protocol(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), DecodeError> {
    let name = reader.binary()?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(DecodeError::ProtocolName);
    }
    let level = reader.u8()?;
    match (name, level & !BRIDGE) {
        (b"MQIsdp", 3) => Ok((ProtocolVersion::V31, level & BRIDGE != 0)),
        (b"MQTT", 4) => Ok((ProtocolVersion::V311, level & BRIDGE != 0)),
        (b"MQTT", _) if level == 5 => Ok((ProtocolVersion::V5, false)),
        _ => Err(DecodeError::ProtocolVersion { level }),
    }
}

/// What the flags may say together. 3.1 reads the will's flags only if there is a will, and ignores the
/// reserved bit.
fn check_connect_flags(flags: &ConnectFlags, version: ProtocolVersion) -> Result<(), DecodeError> {
    if version > ProtocolVersion::V31 {
        if flags.reserved() {
            return Err(DecodeError::ReservedConnectFlag);
        }
        if !flags.will() && (flags.will_qos() != 0 || flags.will_retain()) {
            return Err(DecodeError::WillFlagsWithoutWill);
        }
    }
    if version < ProtocolVersion::V5 && flags.password() && !flags.user_name() {
        return Err(DecodeError::PasswordWithoutUserName);
    }
    Ok(())
}

fn connect_properties(mut reader: PropertyReader<'_>) -> Result<ConnectProperties<'_>, DecodeError> {
    let mut properties = ConnectProperties::default();
    while let Some(identifier) = reader.next()? {
        match identifier {
            id::SESSION_EXPIRY_INTERVAL => properties.session_expiry_interval = Some(reader.u32()?),
            id::RECEIVE_MAXIMUM => properties.receive_maximum = Some(reader.positive_u16(identifier)?),
            id::MAXIMUM_PACKET_SIZE => properties.maximum_packet_size = Some(reader.positive_u32(identifier)?),
            id::TOPIC_ALIAS_MAXIMUM => properties.topic_alias_maximum = Some(reader.u16()?),
            id::REQUEST_RESPONSE_INFORMATION => {
                properties.request_response_information = Some(reader.boolean(identifier)?);
            }
            id::REQUEST_PROBLEM_INFORMATION => {
                properties.request_problem_information = Some(reader.boolean(identifier)?);
            }
            id::USER_PROPERTY => reader.user_property()?,
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

fn will<'a>(reader: &mut Reader<'a>, flags: &ConnectFlags, version: ProtocolVersion) -> Result<Will<'a>, DecodeError> {
    let qos = QoS::from_bits(flags.will_qos()).ok_or(DecodeError::WillQoS)?;
    let (mut properties, mut delay_interval) = (PublishProperties::EMPTY, 0);
    if version == ProtocolVersion::V5 {
        (properties, delay_interval) = PublishProperties::parse_will(property_section(reader)?)?;
    }
    let topic = match reader.topic_name()? {
        Ok("") => return Err(DecodeError::TopicName(TopicError::Empty)),
        topic => topic.map_err(DecodeError::TopicName)?,
    };
    let payload = reader.binary()?;
    Ok(Will { qos, retain: flags.will_retain(), topic, payload, delay_interval, properties })
}

impl<'a> PublishProperties<'a> {
    /// Validates the raw property section of a will (without its length): the properties, and the will delay
    /// interval in seconds.
    pub fn parse_will(raw: &'a [u8]) -> Result<(PublishProperties<'a>, u32), DecodeError> {
        let mut reader = PropertyReader::new(raw);
        let mut properties = PublishProperties { raw, ..PublishProperties::EMPTY };
        let mut delay_interval = 0;
        while let Some(identifier) = reader.next()? {
            if identifier == id::WILL_DELAY_INTERVAL {
                delay_interval = reader.u32()?;
                properties.forwards_as_is = false;
            } else {
                properties.read_message_property(identifier, &mut reader)?;
            }
        }
        Ok((properties, delay_interval))
    }
}
