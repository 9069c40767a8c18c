//! How numbers are written in the file: counts, sizes and durations.
//!
//! Each submodule is a `#[serde(with = …)]`. Messages say what was expected, since an operator reads them.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES_MS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Parses "64KiB", "1 MiB", "512B" or "512".
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| *name == unit)?.1 };
    number.checked_mul(factor)
}

/// Writes a size with the largest unit that leaves no fraction.
pub(crate) fn size_text(bytes: u64) -> String {
    let (unit, factor) =
        SIZES.into_iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)).unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Parses "200ms", "5s", "10min", "1h", "7d"; a bare number is refused unless it is 0.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    if unit.is_empty() {
        return (number == 0).then_some(Duration::ZERO);
    }
    let factor = TIMES_MS.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(factor).map(Duration::from_millis)
}

/// Writes a duration with the largest unit that leaves no fraction.
pub(crate) fn duration_text(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = |(_, factor): &(&str, u64)| ms >= *factor && ms.is_multiple_of(*factor);
    match TIMES_MS.into_iter().rev().find(whole) {
        Some((unit, factor)) => format!("{}{unit}", ms / factor),
        None => "0s".to_owned(),
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

/// A visitor for values that are written as a whole number or as text, both read by one function.
pub(super) struct NumberOr<T, F> {
    expecting: &'static str,
    read: F,
    value: PhantomData<T>,
}

/// What stands in the file.
pub(super) enum Written<'a> {
    Number(u64),
    Text(&'a str),
}

impl<T, F: Fn(Written<'_>) -> Option<T>> NumberOr<T, F> {
    /// `expecting` completes the sentence "expected …".
    pub(super) fn new(expecting: &'static str, read: F) -> NumberOr<T, F> {
        NumberOr { expecting, read, value: PhantomData }
    }
}

impl<T, F: Fn(Written<'_>) -> Option<T>> Visitor<'_> for NumberOr<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        let number = u64::try_from(value).ok();
        let read = number.and_then(|number| (self.read)(Written::Number(number)));
        read.ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        (self.read)(Written::Number(value)).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        (self.read)(Written::Text(value)).ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
    }
}

/// Reads a whole number that must fit the field's type; tighter bounds are `check`'s.
pub(super) fn count<'de, D: Deserializer<'de>, T: TryFrom<u64> + Widest>(d: D) -> Result<T, D::Error> {
    d.deserialize_any(NumberOr::new(T::EXPECTING, |written| match written {
        Written::Number(number) => T::try_from(number).ok(),
        Written::Text(_) => None,
    }))
}

/// Reads a count that is absent unless it is written.
pub(super) fn some_count<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    count(d).map(Some)
}

/// The words for the widest value a count's type can hold.
pub(super) trait Widest {
    const EXPECTING: &'static str;
}

impl Widest for u16 {
    const EXPECTING: &'static str = "a whole number of at most 65535";
}

impl Widest for u32 {
    const EXPECTING: &'static str = "a whole number of at most 4294967295";
}

impl Widest for u64 {
    const EXPECTING: &'static str = "a whole number of 0 or more";
}

/// A size in bytes.
pub(super) mod bytes {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(d: D) -> Result<T, D::Error> {
        let expecting = match size_of::<T>() {
            2 => "a size of at most 65535 bytes, like 512 or \"1KiB\"",
            4 => "a size of at most 4294967295 bytes, like 4096, \"64KiB\" or \"1MiB\"",
            _ => "a size, like 4096, \"64KiB\", \"1MiB\" or \"1GiB\"",
        };
        d.deserialize_any(NumberOr::new(expecting, |written| match written {
            Written::Number(number) => T::try_from(number).ok(),
            Written::Text(text) => T::try_from(parse_size(text)?).ok(),
        }))
    }

    pub fn serialize<S: Serializer, T: TryInto<u64> + Copy>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&size_text((*value).try_into().unwrap_or(u64::MAX)))
    }
}

fn read_duration(written: Written<'_>) -> Option<Duration> {
    match written {
        Written::Number(number) => (number == 0).then_some(Duration::ZERO),
        Written::Text(text) => parse_duration(text),
    }
}

/// A duration with its unit.
pub(super) mod duration {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        d.deserialize_any(NumberOr::new("a duration with its unit, like \"200ms\", \"5s\" or \"1h\"", read_duration))
    }

    pub fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&duration_text(*value))
    }
}

/// A duration with its unit, or 0 for none.
pub(super) mod duration_or_zero {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        let expecting = "a duration with its unit, like \"10s\" or \"1min\", or 0";
        d.deserialize_any(NumberOr::new(expecting, |written| {
            read_duration(written).map(|duration| (!duration.is_zero()).then_some(duration))
        }))
    }

    pub fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&duration_text(value.unwrap_or_default()))
    }
}

fn whole_seconds(duration: Duration) -> Option<u64> {
    (duration.subsec_nanos() == 0).then_some(duration.as_secs())
}

/// Whole seconds that MQTT carries in two bytes; 0 for none.
pub(super) mod seconds {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
        let expecting = "whole seconds up to \"65535s\", like \"60s\" or \"5min\", or 0";
        d.deserialize_any(NumberOr::new(expecting, |written| {
            u16::try_from(whole_seconds(read_duration(written)?)?).ok()
        }))
    }

    pub fn serialize<S: Serializer>(value: &u16, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&duration_text(Duration::from_secs(u64::from(*value))))
    }
}

/// Whole seconds that MQTT carries in four bytes; all ones is never.
pub(super) mod seconds_or_never {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
        let expecting = "whole seconds, like \"30s\", \"1h\" or \"7d\" (at most 49710 days), 0, or \"never\"";
        d.deserialize_any(NumberOr::new(expecting, |written| match written {
            Written::Text("never") => Some(u32::MAX),
            written => u32::try_from(whole_seconds(read_duration(written)?)?).ok().filter(|s| *s != u32::MAX),
        }))
    }

    pub fn serialize<S: Serializer>(value: &u32, s: S) -> Result<S::Ok, S::Error> {
        match *value {
            u32::MAX => s.serialize_str("never"),
            seconds => s.serialize_str(&duration_text(Duration::from_secs(u64::from(seconds)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_size_is_read_as_it_was_written(bytes: u64) {
            prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
        }

        #[test]
        fn a_duration_is_read_as_it_was_written(ms: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }

        #[test]
        fn no_text_breaks_the_readers(text: String) {
            let _ = (parse_size(&text), parse_duration(&text));
        }
    }

    #[test]
    fn values_are_written_in_their_largest_whole_unit() {
        assert_eq!([size_text(0), size_text(1536), size_text(2 << 20)], ["0B", "1536B", "2MiB"]);
        let texts = [0, 1500, 90_000, 3_600_000].map(|ms| duration_text(Duration::from_millis(ms)));
        assert_eq!(texts, ["0s", "1500ms", "90s", "1h"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(parse_size("99999999999GiB"), None);
        assert_eq!(parse_duration("999999999999999999d"), None);
        assert_eq!(parse_size("1.5MiB"), None);
    }
}
