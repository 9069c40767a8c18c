//! The parts of a document: values of one kind each, checked where they stand, so that a mistake has a place.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{Error, MapAccess, SeqAccess, Visitor, value};
use serde::{Deserialize, Deserializer};

use crate::acl::name::Name;
use crate::acl::rule::Action;
use crate::acl::template::Template;
use crate::codec::QoS;

/// A topic filter with placeholders.
pub(super) struct Topic(pub Template);

/// The name of a user or a client, or a pattern of names.
pub(super) struct Named(pub Name);

/// The name of a role.
pub(super) struct Role(pub Arc<str>);

/// A QoS, written as its number.
pub(super) struct Level(pub QoS);

/// Values, or one alone without brackets; never none.
pub(super) struct Many<T>(pub Vec<T>);

/// Values by name, in their order, each name once.
pub(super) struct ByName<T>(pub Vec<(String, T)>);

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName(Vec::new())
    }
}

/// Reads a text by a function; `expecting` completes the sentence "expected …".
struct Text<F> {
    expecting: &'static str,
    read: F,
}

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Topic, D::Error> {
        let read = |text: &str| Template::parse(text).map(Topic).map_err(|error| format!("\"{text}\": {error}"));
        d.deserialize_str(Text { expecting: "a topic filter", read })
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Named, D::Error> {
        let read = |text: &str| not_empty(text).map(|text| Named(Name::new(text)));
        d.deserialize_str(Text { expecting: "a name, or a pattern like \"sensor*\"", read })
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Role, D::Error> {
        let read = |text: &str| not_empty(text).map(|text| Role(text.into()));
        d.deserialize_str(Text { expecting: "the name of a role", read })
    }
}

fn not_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("the name is empty".to_owned()) } else { Ok(text) }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Level, D::Error> {
        match u8::deserialize(d)? {
            0 => Ok(Level(QoS::AtMostOnce)),
            1 => Ok(Level(QoS::AtLeastOnce)),
            2 => Ok(Level(QoS::ExactlyOnce)),
            other => Err(D::Error::custom(format!("there is no QoS {other}: write 0, 1 or 2"))),
        }
    }
}

/// What a rule is about; both, where nothing is said.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Doing {
    Publish,
    Subscribe,
    #[default]
    Both,
}

impl From<Doing> for Action {
    fn from(doing: Doing) -> Action {
        match doing {
            Doing::Publish => Action::Publish,
            Doing::Subscribe => Action::Subscribe,
            Doing::Both => Action::Both,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Many<T>, D::Error> {
        d.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = Many<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Many<T>, E> {
        Ok(Many(vec![T::deserialize(value::StrDeserializer::new(text))?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Many<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        match values.is_empty() {
            // It would be a rule about nobody, or about nothing, that looks like one about everybody.
            true => Err(A::Error::custom("the list is empty: name at least one, or leave the key out")),
            false => Ok(Many(values)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ByName<T>, D::Error> {
        d.deserialize_map(ByNameVisitor(PhantomData))
    }
}

struct ByNameVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ByNameVisitor<T> {
    type Value = ByName<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of names")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ByName<T>, A::Error> {
        by_name(map)
    }
}

/// Reads the entries of a table. JSON lets a name stand twice, and most readers take the last; rules must not vanish so.
pub(super) fn by_name<'de, T: Deserialize<'de>, A: MapAccess<'de>>(mut map: A) -> Result<ByName<T>, A::Error> {
    let mut values = Vec::new();
    let mut names = std::collections::HashSet::new();
    while let Some(name) = map.next_key::<String>()? {
        if name.is_empty() {
            return Err(A::Error::custom("the name is empty"));
        }
        if !names.insert(name.clone()) {
            return Err(A::Error::custom(format!("\"{name}\" stands here twice")));
        }
        values.push((name, map.next_value()?));
    }
    Ok(ByName(values))
}
