//! What ringmq is held to, in one table: the figure, against whom, and the bar with its source.
//!
//! A ratio is the median of the rounds' own ratios, so that a drift of the machine meets both sides of it.

use serde::Serialize;

use super::figures::Figure;

/// Whom a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Against {
    /// The figure itself.
    Itself,
    /// Its ratio to that of the broker of this name in the same round.
    Other(&'static str),
}

/// Which side of the bar is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// One thing that ringmq is held to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bar {
    /// The scenario.
    pub scenario: &'static str,
    /// The broker that is held to it.
    pub broker: &'static str,
    /// What is measured in it.
    pub figure: Figure,
    /// Against whom.
    pub against: Against,
    /// How far it may go.
    pub bound: Bound,
}

const MOSQUITTO: Against = Against::Other("mosquitto");
const FORWARDER: Against = Against::Other("forwarder");
const ONE_SHARD: Against = Against::Other("ringmq-1");

const fn at_most(scenario: &'static str, figure: Figure, against: Against, most: f64) -> Bar {
    Bar { scenario, broker: "ringmq", figure, against, bound: Bound::AtMost(most) }
}

/// Two shards of ringmq against one.
const fn scaling(scenario: &'static str, least: f64) -> Bar {
    let bound = Bound::AtLeast(least);
    Bar { scenario, broker: "ringmq-2", figure: Figure::Capacity, against: ONE_SHARD, bound }
}

use Figure::{BrokerBusy, CpuPerClient, CpuPerMessage, P50, P99, P999, RssAtStart};

/// All of them. Those against mosquitto are half of what the best of its peers reached against Debian's mosquitto
/// 2.0.11 (FlashMQ 1.26; connecting: mosquitto 2.1), set before ringmq was measured; those against the forwarder
/// say how much MQTT may cost on top of moving the bytes.
pub const BARS: &[Bar] = &[
    at_most("p2p", CpuPerMessage, MOSQUITTO, 0.055),
    at_most("p2p-qos1", CpuPerMessage, MOSQUITTO, 0.032),
    at_most("p2p-qos2", CpuPerMessage, MOSQUITTO, 0.038),
    at_most("unbatched", CpuPerMessage, MOSQUITTO, 0.55),
    at_most("unbatched-qos1", CpuPerMessage, MOSQUITTO, 0.45),
    at_most("fan-out", CpuPerMessage, MOSQUITTO, 0.075),
    at_most("fan-in", CpuPerMessage, MOSQUITTO, 0.037),
    at_most("connect-subscribe", CpuPerClient, MOSQUITTO, 0.5),
    at_most("unbatched", CpuPerMessage, FORWARDER, 1.3),
    at_most("p2p", CpuPerMessage, FORWARDER, 2.2),
    at_most("open-20k-8000", P50, MOSQUITTO, 1.0),
    at_most("open-20k-8000", P99, MOSQUITTO, 1.0),
    at_most("open-20k-8000", P999, MOSQUITTO, 1.0),
    at_most("open-20k-8000", BrokerBusy, MOSQUITTO, 0.6),
    at_most("open-50k-1000", P50, MOSQUITTO, 1.0),
    at_most("open-50k-1000", P99, MOSQUITTO, 1.0),
    at_most("open-50k-1000", P999, MOSQUITTO, 1.0),
    at_most("open-50k-1000", BrokerBusy, MOSQUITTO, 0.6),
    // mosquitto 2.1.2 takes 4.7 MB, 2.0.11 8 MB.
    at_most("start", RssAtStart, Against::Itself, 8e6),
    scaling("scaling-local", 1.7),
    scaling("scaling-cross", 1.4),
];

impl Bound {
    /// Whether a value is on the good side.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_the_bar_holds_on_either_side() {
        assert!(Bound::AtMost(0.5).holds(0.5) && !Bound::AtMost(0.5).holds(0.51));
        assert!(Bound::AtLeast(1.7).holds(1.7) && !Bound::AtLeast(1.7).holds(1.69));
    }

    #[test]
    fn nothing_is_held_to_two_bars() {
        for (index, bar) in BARS.iter().enumerate() {
            let same =
                |other: &&Bar| (other.scenario, other.figure, other.against) == (bar.scenario, bar.figure, bar.against);
            assert_eq!(BARS[index..].iter().filter(same).count(), 1, "{bar:?}");
        }
    }
}
