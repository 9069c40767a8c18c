//! Properties (MQTT 5.0 §2.2.2): identifiers, reading a section once with every check, and walking a
//! section that was checked before.

use super::wire::{self, Reader, put_string};
use super::{DecodeError, PublishProperties, UserProperties};

/// Property identifiers (MQTT 5.0 table 2-4).
pub mod id {
    #![expect(missing_docs, reason = "the specification's names say it")]

    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// Reads a property section: names one identifier after the other, and the caller reads its value. What a
/// packet may not hold, the caller refuses with [`PropertyReader::refuse`].
pub(super) struct PropertyReader<'a> {
    section: &'a [u8],
    reader: Reader<'a>,
    /// One bit for each identifier that was there. All are below 64.
    seen: u64,
    /// Identifiers that may be there more than once.
    repeatable: u64,
}

/// Takes a property section and the length before it.
#[inline]
pub(super) fn property_section<'a>(body: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = body.varint()?;
    body.take(length as usize)
}

const fn bit(identifier: u8) -> u64 {
    1 << identifier
}

impl<'a> PropertyReader<'a> {
    /// Reads the section that a length precedes.
    #[inline]
    pub fn after_length(body: &mut Reader<'a>) -> Result<Self, DecodeError> {
        property_section(body).map(Self::new)
    }

    /// Reads a section without its length.
    #[inline]
    pub fn new(section: &'a [u8]) -> Self {
        Self { section, reader: Reader::new(section), seen: 0, repeatable: bit(id::USER_PROPERTY) }
    }

    /// Lets a property other than the user property be there more than once.
    pub fn repeating(mut self, identifier: u8) -> Self {
        self.repeatable |= bit(identifier);
        self
    }

    /// The next property's identifier; its value has to be read before the next call.
    pub fn next(&mut self) -> Result<Option<u8>, DecodeError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let identifier = self.reader.u8()?;
        if identifier >= 64 {
            return self.refuse(identifier);
        }
        if self.seen & bit(identifier) & !self.repeatable != 0 {
            return Err(DecodeError::DuplicateProperty { identifier });
        }
        self.seen |= bit(identifier);
        Ok(Some(identifier))
    }

    /// The answer to a property that is unknown or does not belong here.
    pub fn refuse<T>(&self, identifier: u8) -> Result<T, DecodeError> {
        Err(DecodeError::PropertyNotAllowed { identifier })
    }

    pub fn contains(&self, identifier: u8) -> bool {
        self.seen & bit(identifier) != 0
    }

    /// All user properties, after the whole section was read.
    pub fn user_properties(&self) -> UserProperties<'a> {
        let section = if self.contains(id::USER_PROPERTY) { self.section } else { &[] };
        UserProperties { section }
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.reader.u16()
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.reader.u32()
    }

    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        self.reader.string()
    }

    pub fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        self.reader.binary()
    }

    /// A two-byte value that may not be 0.
    pub fn positive_u16(&mut self, identifier: u8) -> Result<u16, DecodeError> {
        self.u16().and_then(|value| if value == 0 { Err(DecodeError::PropertyValue { identifier }) } else { Ok(value) })
    }

    /// A four-byte value that may not be 0.
    pub fn positive_u32(&mut self, identifier: u8) -> Result<u32, DecodeError> {
        self.u32().and_then(|value| if value == 0 { Err(DecodeError::PropertyValue { identifier }) } else { Ok(value) })
    }

    /// A byte that is 0 or 1.
    pub fn boolean(&mut self, identifier: u8) -> Result<bool, DecodeError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::PropertyValue { identifier }),
        }
    }

    /// A subscription identifier, 1..=268,435,455.
    pub fn subscription_identifier(&mut self) -> Result<u32, DecodeError> {
        match self.reader.varint()? {
            0 => Err(DecodeError::PropertyValue { identifier: id::SUBSCRIPTION_IDENTIFIER }),
            value => Ok(value),
        }
    }

    pub fn response_topic(&mut self) -> Result<(), DecodeError> {
        match self.reader.topic_name()? {
            Ok("") => Err(DecodeError::ResponseTopic(super::topic::TopicError::Empty)),
            Ok(_) => Ok(()),
            Err(error) => Err(DecodeError::ResponseTopic(error)),
        }
    }

    pub fn user_property(&mut self) -> Result<(), DecodeError> {
        self.reader.string()?;
        self.reader.string()?;
        Ok(())
    }
}

/// One property of a section that was validated before.
struct RawProperty<'a> {
    identifier: u8,
    /// Identifier and value as on the wire.
    whole: &'a [u8],
}

impl<'a> RawProperty<'a> {
    fn value(&self) -> Reader<'a> {
        Reader::new(&self.whole[1..])
    }
}

/// Walks a validated section. Over bytes that no decoder has seen it ends at the first that make no sense.
struct RawProperties<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for RawProperties<'a> {
    type Item = RawProperty<'a>;

    fn next(&mut self) -> Option<RawProperty<'a>> {
        let (identifier, value) = self.rest.split_first()?;
        let (whole, rest) = self.rest.split_at_checked(1 + value_length(*identifier, value)?)?;
        self.rest = rest;
        Some(RawProperty { identifier: *identifier, whole })
    }
}

/// How many bytes the value of a property takes at the front of `bytes` (MQTT 5.0 table 2-4).
fn value_length(identifier: u8, bytes: &[u8]) -> Option<usize> {
    let field_length = |bytes: &[u8]| Some(2 + usize::from(u16::from_be_bytes(*bytes.first_chunk()?)));
    match identifier {
        id::PAYLOAD_FORMAT_INDICATOR
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => Some(1),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => Some(2),
        id::MESSAGE_EXPIRY_INTERVAL
        | id::SESSION_EXPIRY_INTERVAL
        | id::WILL_DELAY_INTERVAL
        | id::MAXIMUM_PACKET_SIZE => Some(4),
        id::SUBSCRIPTION_IDENTIFIER => wire::varint(bytes).ok()?.map(|(_, length)| length),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA
        | id::ASSIGNED_CLIENT_IDENTIFIER
        | id::AUTHENTICATION_METHOD
        | id::AUTHENTICATION_DATA
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => field_length(bytes),
        id::USER_PROPERTY => {
            let name = field_length(bytes)?;
            Some(name + field_length(bytes.get(name..)?)?)
        }
        _ => None,
    }
}

/// True for what a server takes out of a message or puts into it for each receiver itself.
fn stays_here(identifier: u8) -> bool {
    matches!(
        identifier,
        id::TOPIC_ALIAS | id::MESSAGE_EXPIRY_INTERVAL | id::SUBSCRIPTION_IDENTIFIER | id::WILL_DELAY_INTERVAL
    )
}

impl<'a> PublishProperties<'a> {
    /// No properties.
    pub const EMPTY: PublishProperties<'static> = PublishProperties {
        raw: &[],
        payload_is_utf8: false,
        message_expiry_interval: None,
        topic_alias: None,
        forwards_as_is: true,
    };

    /// Appends, in order, what a server forwards unaltered `[MQTT-3.3.2-17]`: everything but topic alias,
    /// message expiry interval, subscription identifiers and will delay interval.
    pub fn forwardable(&self, out: &mut Vec<u8>) {
        if self.forwards_as_is {
            return out.extend_from_slice(self.raw);
        }
        for property in self.walk().filter(|property| !stays_here(property.identifier)) {
            out.extend_from_slice(property.whole);
        }
    }

    /// The response topic of a request.
    pub fn response_topic(&self) -> Option<&'a str> {
        self.find(id::RESPONSE_TOPIC)?.string().ok()
    }

    /// What the requester tells its requests apart with.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.find(id::CORRELATION_DATA)?.binary().ok()
    }

    /// What the payload is.
    pub fn content_type(&self) -> Option<&'a str> {
        self.find(id::CONTENT_TYPE)?.string().ok()
    }

    /// Subscription identifiers, in order; only a server sends them `[MQTT-3.3.4-6]`.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.walk()
            .filter(|property| property.identifier == id::SUBSCRIPTION_IDENTIFIER)
            .filter_map(|property| property.value().varint().ok())
    }

    /// User properties.
    pub fn user_properties(&self) -> UserProperties<'a> {
        UserProperties { section: self.raw }
    }

    /// True when `raw` holds a property that [`PublishProperties`] has no field for.
    pub(super) fn contains(&self, identifier: u8) -> bool {
        self.find(identifier).is_some()
    }

    fn find(&self, identifier: u8) -> Option<Reader<'a>> {
        self.walk().find(|property| property.identifier == identifier).map(|property| property.value())
    }

    fn walk(&self) -> RawProperties<'a> {
        RawProperties { rest: self.raw }
    }
}

impl Default for PublishProperties<'_> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<'a> UserProperties<'a> {
    /// Names and values, in order. A name may be there more than once.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        RawProperties { rest: self.section }
            .filter(|property| property.identifier == id::USER_PROPERTY)
            // A decoder has read both strings already, so nothing is left out here.
            .filter_map(|property| {
                let mut value = property.value();
                Some((value.string().ok()?, value.string().ok()?))
            })
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Equal when the same names and values come in the same order, whatever stands between them.
impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

/// Appends a user property, to build a section for [`UserProperties`] or [`PublishProperties::raw`].
///
/// # Panics
/// When name or value is longer than 65,535 bytes.
pub fn put_user_property(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(id::USER_PROPERTY);
    put_string(out, name);
    put_string(out, value);
}
