//! The named scenarios: each a documented preset whose parameters can be overridden.

use clap::{Args, ValueEnum};
use ringmq::codec::{ProtocolVersion, QoS};
use serde::Serialize;

use crate::error::Error;
use crate::payload;

/// The presets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// 100 publishers, each to one subscriber on a topic of their own, 32 messages outstanding each, QoS 0.
    P2p,
    /// The same at QoS 1.
    P2pQos1,
    /// The same at QoS 2.
    P2pQos2,
    /// 100 pairs with 1 message outstanding each: nothing to batch. QoS 0.
    Unbatched,
    /// The same at QoS 1.
    UnbatchedQos1,
    /// 1 publisher to 1,000 subscribers of its topic, 10 messages outstanding. QoS 0.
    FanOut,
    /// 200 publishers to 1 subscriber with a wildcard, 10 messages outstanding each. QoS 0.
    FanIn,
    /// 10,000 MQTT 5 clients with a subscription each and nothing to do.
    Idle,
}

/// Who publishes to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Publisher i → topic `p2p/i` → subscriber i.
    Pairs(u32),
    /// One publisher → topic `fan-out` → this many subscribers.
    FanOut(u32),
    /// This many publishers → topics `fan-in/i` → one subscriber of `fan-in/+`.
    FanIn(u32),
    /// This many clients, subscribed to `idle/i`.
    Idle(u32),
}

/// A scenario with all its parameters.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// The preset it started from.
    pub name: String,
    /// Who publishes to whom.
    pub shape: Shape,
    /// Messages under way per publisher.
    pub outstanding: u32,
    /// QoS of publishing and subscribing.
    #[serde(serialize_with = "as_number")]
    pub qos: QoS,
    /// Payload size in bytes.
    pub payload: usize,
    /// Protocol level: 4 (3.1.1) or 5.
    #[serde(serialize_with = "as_level")]
    pub version: ProtocolVersion,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
}

/// What ringmq is held to, for [`Name::bar`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// Broker CPU per delivered message, as a ratio to the baseline's.
    CpuRatio(f64),
    /// Bytes of RSS per connection and share of one CPU.
    Idle {
        /// RSS in bytes.
        bytes_per_connection: f64,
        /// CPU in percent of one core.
        cpu_percent: f64,
    },
}

/// Overrides of a preset's parameters.
#[derive(Args, Clone, Debug, Default)]
pub struct Overrides {
    /// Publishers with a subscriber each (p2p, unbatched)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,
    /// Subscribers of the one publisher (fan-out)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: Option<u32>,
    /// Publishers to the one subscriber (fan-in)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    publishers: Option<u32>,
    /// Clients (idle)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,
    /// Messages that a publisher may have under way
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    outstanding: Option<u32>,
    /// QoS of publishing and subscribing
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,
    /// Payload size in bytes, at least 16
    #[arg(long, value_name = "BYTES")]
    payload: Option<usize>,
    /// Keep alive in seconds; 0 turns it off. No PINGREQ is sent, so it must outlast the run
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<u16>,
}

impl Name {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P2p => "p2p",
            Self::P2pQos1 => "p2p-qos1",
            Self::P2pQos2 => "p2p-qos2",
            Self::Unbatched => "unbatched",
            Self::UnbatchedQos1 => "unbatched-qos1",
            Self::FanOut => "fan-out",
            Self::FanIn => "fan-in",
            Self::Idle => "idle",
        }
    }

    /// The preset.
    pub fn scenario(self) -> Scenario {
        use {ProtocolVersion::*, QoS::*, Shape::*};
        let (shape, outstanding, qos, version) = match self {
            Self::P2p => (Pairs(100), 32, AtMostOnce, V311),
            Self::P2pQos1 => (Pairs(100), 32, AtLeastOnce, V311),
            Self::P2pQos2 => (Pairs(100), 32, ExactlyOnce, V311),
            Self::Unbatched => (Pairs(100), 1, AtMostOnce, V311),
            Self::UnbatchedQos1 => (Pairs(100), 1, AtLeastOnce, V311),
            Self::FanOut => (FanOut(1000), 10, AtMostOnce, V311),
            Self::FanIn => (FanIn(200), 10, AtMostOnce, V311),
            Self::Idle => (Idle(10_000), 1, AtMostOnce, V5),
        };
        Scenario { name: self.as_str().to_owned(), shape, outstanding, qos, payload: 64, version, keep_alive: 300 }
    }

    /// What the broker is held to with the preset's parameters.
    pub fn bar(self) -> Bar {
        match self {
            Self::P2p => Bar::CpuRatio(0.10),
            Self::P2pQos1 => Bar::CpuRatio(0.06),
            Self::P2pQos2 => Bar::CpuRatio(0.07),
            Self::Unbatched | Self::UnbatchedQos1 => Bar::CpuRatio(0.7),
            Self::FanOut => Bar::CpuRatio(0.14),
            Self::FanIn => Bar::CpuRatio(0.07),
            Self::Idle => Bar::Idle { bytes_per_connection: 1536.0, cpu_percent: 1.0 },
        }
    }
}

impl Scenario {
    /// Applies overrides.
    ///
    /// # Errors
    ///
    /// Those that this scenario has no use for, and values that can't be.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, Error> {
        let counts = [
            ("--pairs", overrides.pairs),
            ("--subscribers", overrides.subscribers),
            ("--publishers", overrides.publishers),
            ("--connections", overrides.connections),
        ];
        for (option, count) in counts.into_iter().filter_map(|(option, count)| Some((option, count?))) {
            self.shape = self.reshaped(option, count)?;
        }
        let publishes = overrides.outstanding.is_some() || overrides.qos.is_some() || overrides.payload.is_some();
        if publishes && matches!(self.shape, Shape::Idle(_)) {
            return Err(Error::Usage("idle publishes nothing: --outstanding, --qos and --payload mean nothing".into()));
        }
        self.outstanding = overrides.outstanding.unwrap_or(self.outstanding);
        self.payload = overrides.payload.unwrap_or(self.payload);
        self.keep_alive = overrides.keep_alive.unwrap_or(self.keep_alive);
        self.qos = overrides.qos.map_or(self.qos, |qos| match qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        });
        if !(payload::HEADER..=1 << 20).contains(&self.payload) {
            let least = payload::HEADER;
            return Err(Error::Usage(format!("--payload must be {least} (sequence and time) to 1048576")));
        }
        Ok(self)
    }

    fn reshaped(&self, option: &str, count: u32) -> Result<Shape, Error> {
        match (option, self.shape) {
            ("--pairs", Shape::Pairs(_)) => Ok(Shape::Pairs(count)),
            ("--subscribers", Shape::FanOut(_)) => Ok(Shape::FanOut(count)),
            ("--publishers", Shape::FanIn(_)) => Ok(Shape::FanIn(count)),
            ("--connections", Shape::Idle(_)) => Ok(Shape::Idle(count)),
            _ => Err(Error::Usage(format!("{option} means nothing to the scenario {}", self.name))),
        }
    }
}

fn as_number<S: serde::Serializer>(qos: &QoS, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*qos as u8)
}

fn as_level<S: serde::Serializer>(version: &ProtocolVersion, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*version as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_one_of_the_command_line() {
        for name in Name::value_variants() {
            let value = name.to_possible_value().unwrap();
            assert_eq!(value.get_name(), name.as_str());
        }
    }

    #[test]
    fn an_override_that_the_scenario_has_no_use_for_is_refused() {
        let pairs = Overrides { pairs: Some(3), ..Overrides::default() };
        assert_eq!(Name::P2p.scenario().with(&pairs).unwrap().shape, Shape::Pairs(3));
        assert!(Name::FanIn.scenario().with(&pairs).is_err());
        let qos = Overrides { qos: Some(1), ..Overrides::default() };
        assert_eq!(Name::FanIn.scenario().with(&qos).unwrap().qos, QoS::AtLeastOnce);
        assert!(Name::Idle.scenario().with(&qos).is_err());
        let payload = Overrides { payload: Some(15), ..Overrides::default() };
        assert!(Name::P2p.scenario().with(&payload).is_err());
    }
}
