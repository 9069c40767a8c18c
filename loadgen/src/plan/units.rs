//! How times and protocol versions are written in documents and on the command line.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::Transport;

/// The longest time that makes sense anywhere: a session that never expires aside, a year.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A time: `"10s"`, `"250ms"`, `"1h 30m"`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Time(pub Duration);

/// A time in whole seconds, or `"never"` for one that does not end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(pub u32);

/// A protocol level, written as people name the version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Version(pub u8);

/// What MQTT is carried by, as options and documents name it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Carrier(pub Transport);

/// Reads a time.
///
/// # Errors
///
/// What is no time, or longer than a year.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let number = text.trim().parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = number.or_else(|| humantime::parse_duration(text.trim()).ok());
    time.filter(|time| *time <= LONGEST).ok_or_else(|| format!("\"{text}\" is no time like 10s, 250ms or 30m"))
}

/// The protocol level that a version's name stands for.
///
/// # Errors
///
/// Any other name.
pub fn parse_version(text: &str) -> Result<u8, String> {
    match text {
        "3.1" => Ok(3),
        "3.1.1" => Ok(4),
        "5" | "5.0" => Ok(5),
        _ => Err(format!("\"{text}\" is none of the versions 3.1, 3.1.1 and 5")),
    }
}

/// The name of a protocol level's version.
pub fn version_name(level: u8) -> &'static str {
    match level {
        3 => "3.1",
        4 => "3.1.1",
        _ => "5",
    }
}

struct Written<T> {
    expecting: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        (self.read)(&value.to_string()).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        (self.read)(&value.to_string()).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a time like \"10s\", \"250ms\" or \"30m\", or a number of seconds";
        deserializer.deserialize_any(Written { expecting, read: |text| parse_time(text).ok().map(Time) })
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "whole seconds: a number, a time like \"60s\" or \"1h\", or \"never\"";
        deserializer.deserialize_any(Written { expecting, read: whole_seconds })
    }
}

fn whole_seconds(text: &str) -> Option<Seconds> {
    if text == "never" {
        return Some(Seconds(u32::MAX));
    }
    let time = parse_time(text).ok()?;
    (time.subsec_nanos() == 0).then(|| u32::try_from(time.as_secs()).ok().map(Seconds)).flatten()
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "\"3.1\", \"3.1.1\" or \"5\"";
        deserializer.deserialize_any(Written { expecting, read: |text| parse_version(text).ok().map(Version) })
    }
}

impl<'de> Deserialize<'de> for Carrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "\"tcp\", \"tls\", \"ws\" or \"wss\"";
        let read = |text: &str| Transport::ALL.into_iter().find(|transport| transport.name() == text).map(Carrier);
        deserializer.deserialize_any(Written { expecting, read })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        for (text, ms) in [("10s", 10_000), ("250ms", 250), ("0.5", 500), ("3", 3_000), ("1h 30m", 5_400_000)] {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "ten", "-1", "10x", "NaN", "inf", "1e30", "400d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_seconds_may_never_end_but_not_be_broken() {
        assert_eq!(whole_seconds("1h"), Some(Seconds(3600)));
        assert_eq!(whole_seconds("never"), Some(Seconds(u32::MAX)));
        assert_eq!(whole_seconds("1500ms"), None);
    }

    #[test]
    fn a_version_and_its_name_are_one_to_one() {
        for level in 3..=5 {
            assert_eq!(parse_version(version_name(level)), Ok(level));
        }
        assert!(parse_version("4").is_err());
    }
}
