//! From a tree to the types of `schema`: serde's deserializer over a [`Node`], whose errors know the key and the place
//! of what they complain about.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Expected, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::node::{Entry, Node, Value};
use super::problem::{Origin, ScenarioError, suggestion};

/// Reads a value of this type.
pub fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, ScenarioError> {
    T::deserialize(node).map_err(|error| error.at(node).into())
}

/// A complaint on its way up; the first node it passes is the one it is about.
#[derive(Debug)]
pub struct DecodeError {
    origin: Option<Origin>,
    /// Innermost first.
    path: Vec<String>,
    what: String,
    remedy: String,
}

impl DecodeError {
    fn new(what: String, remedy: String) -> Self {
        Self { origin: None, path: Vec::new(), what, remedy }
    }

    fn at(mut self, node: &Node) -> Self {
        self.origin.get_or_insert_with(|| node.origin.clone());
        self
    }

    fn below(mut self, key: String) -> Self {
        self.path.push(key);
        self
    }
}

impl From<DecodeError> for ScenarioError {
    fn from(error: DecodeError) -> Self {
        let key = error.path.into_iter().rev().collect::<Vec<_>>().join(".");
        Self { origin: error.origin.unwrap_or_default(), key, what: error.what, remedy: error.remedy }
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (what, remedy) = message.split_once("; ").unwrap_or((&message, "see loadgen/README.md for the keys"));
        Self::new(what.to_owned(), remedy.to_owned())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" => "a whole number from 0 to 255".to_owned(),
            "u16" => "a whole number from 0 to 65535".to_owned(),
            "u32" => "a whole number from 0 to 4294967295".to_owned(),
            "u64" => "a whole number, not below 0".to_owned(),
            "f64" => "a number".to_owned(),
            "a boolean" => "true or false".to_owned(),
            other => other.to_owned(),
        };
        Self::new(format!("{found} is not what belongs here"), format!("write {expected}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new("no such key".to_owned(), suggestion(field, "keys", expected.iter().copied()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key `{field}` is missing"), format!("add {field} = …"))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for DecodeError {}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let visited = match &self.value {
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(list) => visitor.visit_seq(List { rest: list.iter().enumerate() }),
            Value::Table(table) => visitor.visit_map(Entries { rest: table.entries().iter(), current: None }),
        };
        visited.map_err(|error| error.at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &str, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

struct List<'de> {
    rest: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
}

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some((at, node)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| error.at(node).below(at.to_string()))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, Entry>,
    current: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.rest.next();
        let Some(entry) = self.current else { return Ok(None) };
        let unknown = |mut error: DecodeError| {
            error.origin.get_or_insert_with(|| entry.origin.clone());
            error.below(entry.key.clone())
        };
        seed.deserialize(StrDeserializer::new(&entry.key)).map(Some).map_err(unknown)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let entry = self.current.expect("serde asks for a key before its value");
        seed.deserialize(&entry.node).map_err(|error| error.at(&entry.node).below(entry.key.clone()))
    }
}
