//! How the other values are written in the file: addresses, QoS, versions, and words that stand for a choice.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

use super::units::{NumberOr, Written};

/// A value, or "auto" to let the program choose.
pub(super) mod auto {
    use super::*;

    pub trait Auto: Copy {
        const EXPECTING: &'static str;
        fn from_number(number: u64) -> Option<Self>;
        fn from_bool(value: bool) -> Option<Self>;
        fn write<S: Serializer>(self, s: S) -> Result<S::Ok, S::Error>;
    }

    impl Auto for u16 {
        const EXPECTING: &'static str = "a whole number of at most 65535, or \"auto\"";
        fn from_number(number: u64) -> Option<u16> {
            u16::try_from(number).ok()
        }
        fn from_bool(_: bool) -> Option<u16> {
            None
        }
        fn write<S: Serializer>(self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_u16(self)
        }
    }

    impl Auto for bool {
        const EXPECTING: &'static str = "true, false, or \"auto\"";
        fn from_number(_: u64) -> Option<bool> {
            None
        }
        fn from_bool(value: bool) -> Option<bool> {
            Some(value)
        }
        fn write<S: Serializer>(self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_bool(self)
        }
    }

    struct AutoVisitor<T>(PhantomData<T>);

    impl<T: Auto> Visitor<'_> for AutoVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTING)
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Option<T>, E> {
            T::from_bool(value).map(Some).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Option<T>, E> {
            let read = u64::try_from(value).ok().and_then(T::from_number);
            read.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Option<T>, E> {
            if value == "auto" { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(value), &self)) }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: Auto>(d: D) -> Result<Option<T>, D::Error> {
        d.deserialize_any(AutoVisitor(PhantomData))
    }

    pub fn serialize<S: Serializer, T: Auto>(value: &Option<T>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.write(s),
            None => s.serialize_str("auto"),
        }
    }
}

/// An IP address and port, or a Unix domain socket.
pub(super) mod address {
    use super::*;
    use crate::net::address::Address;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Address, D::Error> {
        let expecting = "an IP address and port, like \"127.0.0.1:1883\" or \"[::1]:1883\", or \"unix:/run/mqtt.sock\"";
        d.deserialize_any(NumberOr::new(expecting, |written| match written {
            Written::Number(_) => None,
            Written::Text(text) => text.parse().ok(),
        }))
    }

    pub fn serialize<S: Serializer>(value: &Address, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(value)
    }
}

/// Permission bits, in octal.
pub(super) mod mode {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
        let expecting = "a mode in octal and in quotes, like \"0660\"";
        d.deserialize_any(NumberOr::new(expecting, |written| match written {
            Written::Number(_) => None,
            Written::Text(text) => u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).map(Some),
        }))
    }

    pub fn serialize<S: Serializer>(value: &Option<u32>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(mode) => s.collect_str(&format_args!("{mode:04o}")),
            None => s.serialize_none(),
        }
    }
}

/// A QoS as its number.
pub(super) mod qos {
    use super::*;
    use crate::codec::QoS;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<QoS, D::Error> {
        d.deserialize_any(NumberOr::new("0, 1 or 2", |written| match written {
            Written::Number(0) => Some(QoS::AtMostOnce),
            Written::Number(1) => Some(QoS::AtLeastOnce),
            Written::Number(2) => Some(QoS::ExactlyOnce),
            _ => None,
        }))
    }

    pub fn serialize<S: Serializer>(value: &QoS, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(*value as u8)
    }
}

/// What a client is told whose authentication is over: of the codes that a server's DISCONNECT may have (MQTT 5.0 table
/// 3-13), those that can be true of it.
pub(super) mod expired_reason {
    use super::*;
    use crate::codec::ReasonCode;

    const NAMES: [(&str, ReasonCode); 5] = [
        ("unspecified_error", ReasonCode::UnspecifiedError),
        ("implementation_specific_error", ReasonCode::ImplementationSpecificError),
        ("not_authorized", ReasonCode::NotAuthorized),
        ("administrative_action", ReasonCode::AdministrativeAction),
        ("maximum_connect_time", ReasonCode::MaximumConnectTime),
    ];

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<ReasonCode, D::Error> {
        let expecting = "\"not_authorized\" (0x87), \"administrative_action\" (0x98), \"maximum_connect_time\" (0xA0), \
            \"unspecified_error\" (0x80) or \"implementation_specific_error\" (0x83)";
        d.deserialize_any(NumberOr::new(expecting, |written| {
            let found = NAMES.iter().find(|(name, code)| match written {
                Written::Number(number) => *code as u64 == number,
                Written::Text(text) => *name == text,
            });
            found.map(|(_, code)| *code)
        }))
    }

    pub fn serialize<S: Serializer>(value: &ReasonCode, s: S) -> Result<S::Ok, S::Error> {
        // What is written can be read; a code that is not in the table was never read.
        let name = NAMES.iter().find(|(_, code)| code == value).map_or("not_authorized", |(name, _)| name);
        s.serialize_str(name)
    }
}

/// Protocol versions by the names people know them by; ascending, each once.
pub(super) mod versions {
    use super::*;
    use crate::codec::ProtocolVersion;
    use serde::Deserialize;

    pub const NAMES: [(&str, ProtocolVersion); 3] =
        [("3.1", ProtocolVersion::V31), ("3.1.1", ProtocolVersion::V311), ("5.0", ProtocolVersion::V5)];

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<ProtocolVersion>, D::Error> {
        let written = Vec::<String>::deserialize(d)?;
        let unknown = written.iter().find(|name| NAMES.iter().all(|(known, _)| known != name));
        if let Some(name) = unknown {
            return Err(D::Error::invalid_value(Unexpected::Str(name), &"\"3.1\", \"3.1.1\" or \"5.0\""));
        }
        let named = NAMES.iter().filter(|(name, _)| written.iter().any(|written| written == name));
        Ok(named.map(|(_, version)| *version).collect())
    }

    pub fn serialize<S: Serializer>(value: &[ProtocolVersion], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(NAMES.iter().filter(|(_, version)| value.contains(version)).map(|(name, _)| name))
    }
}

/// Text, or "" for none.
pub(super) mod text_or_none {
    use super::*;
    use serde::Deserialize;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
        Ok(Some(String::deserialize(d)?).filter(|text| !text.is_empty()))
    }

    pub fn serialize<S: Serializer>(value: &Option<String>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(value.as_deref().unwrap_or_default())
    }
}

/// A path, or "" for none.
pub(super) mod path_or_none {
    use super::*;
    use serde::Deserialize;
    use std::path::PathBuf;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Some(String::deserialize(d)?).filter(|text| !text.is_empty()).map(PathBuf::from))
    }

    pub fn serialize<S: Serializer>(value: &Option<PathBuf>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(path) => s.collect_str(&path.display()),
            None => s.serialize_str(""),
        }
    }
}
