//! MQTT 5.0 properties as a list of identifiers and values (§2.2.2).
#![expect(missing_docs, reason = "the specification's names say it")]

/// The property identifiers (MQTT 5.0 table 2-4).
pub mod id {
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
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// A property's value by its type on the wire (MQTT 5.0 §1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// One property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub id: u8,
    pub value: Value,
}

/// A property section. Two are equal when they differ in nothing but the order of different identifiers,
/// which the specification leaves open.
#[derive(Clone, Debug, Default, Eq)]
pub struct Properties(pub Vec<Property>);

impl PartialEq for Properties {
    fn eq(&self, other: &Properties) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Properties {
    fn sorted(&self) -> Vec<&Property> {
        let mut list: Vec<&Property> = self.0.iter().collect();
        list.sort_by_key(|property| property.id);
        list
    }

    /// No properties, to add to.
    pub fn new() -> Properties {
        Properties::default()
    }

    /// These and one more of any type.
    pub fn with(mut self, id: u8, value: Value) -> Properties {
        self.0.push(Property { id, value });
        self
    }

    pub fn byte(self, id: u8, value: u8) -> Properties {
        self.with(id, Value::Byte(value))
    }

    pub fn two(self, id: u8, value: u16) -> Properties {
        self.with(id, Value::Two(value))
    }

    pub fn four(self, id: u8, value: u32) -> Properties {
        self.with(id, Value::Four(value))
    }

    pub fn variable(self, id: u8, value: u32) -> Properties {
        self.with(id, Value::Variable(value))
    }

    pub fn text(self, id: u8, value: &str) -> Properties {
        self.with(id, Value::Text(value.to_owned()))
    }

    pub fn binary(self, id: u8, value: &[u8]) -> Properties {
        self.with(id, Value::Binary(value.to_owned()))
    }

    pub fn user(self, name: &str, value: &str) -> Properties {
        self.with(id::USER_PROPERTY, Value::Pair(name.to_owned(), value.to_owned()))
    }

    /// The first value of an identifier.
    pub fn find(&self, id: u8) -> Option<&Value> {
        self.0.iter().find(|property| property.id == id).map(|property| &property.value)
    }

    /// The first value of an identifier, if it is an integer of any width.
    pub fn number(&self, id: u8) -> Option<u32> {
        match self.find(id)? {
            Value::Byte(value) => Some(u32::from(*value)),
            Value::Two(value) => Some(u32::from(*value)),
            Value::Four(value) | Value::Variable(value) => Some(*value),
            Value::Text(_) | Value::Binary(_) | Value::Pair(..) => None,
        }
    }

    /// The first value of an identifier, if it is a string.
    pub fn string(&self, id: u8) -> Option<&str> {
        match self.find(id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
