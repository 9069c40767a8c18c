//! What a run saw: the counts and histograms that engine threads hand over once per tick, and the sums of them.

pub mod broker;
pub mod host;
mod instructions;
pub(crate) mod proc;
pub mod quantiles;
pub mod recorder;
mod sums;
pub mod wire;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The range of times that is told apart, in nanoseconds: 1 µs to 10 minutes, to three digits.
pub const TIME_NS: (u64, u64) = (1_000, 600_000_000_000);

/// An empty histogram of times in nanoseconds.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(TIME_NS.0, TIME_NS.1, 3).expect("constant bounds in order")
}

/// What happened, as counts. Sums of these are made by adding every field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// TCP connections asked for.
    pub connecting: u64,
    /// CONNACKs with success.
    pub connected: u64,
    /// Clients that came in again after their first time.
    pub reconnected: u64,
    /// Connections that ended, however.
    pub disconnected: u64,
    /// TCP connections that were refused, timed out or reset before CONNACK.
    pub connect_failed: u64,
    /// CONNACKs or SUBACKs with a failure code.
    pub refused: u64,
    /// Connections that the peer ended although the plan did not.
    pub dropped: u64,
    /// PUBLISH packets sent for the first time.
    pub published: u64,
    /// Publications whose last acknowledgement came (PUBACK, PUBCOMP).
    pub acknowledged: u64,
    /// Of them, with a reason code of 0x80 and above.
    pub rejected: u64,
    /// Messages that reached a subscriber for the first time.
    pub delivered: u64,
    /// Of them, those that came because they were retained (RETAIN flag, at subscribing).
    pub retained: u64,
    /// Wills that arrived. How many have to is known only of clients whose connections the plan breaks (`abrupt`), whose
    /// will has no delay and QoS 1 or 2, and whose subscribers stay, each with one filter that matches, at QoS 1 or 2 and
    /// without keeping the flag of a retained will: those that did not come fail the run. Of any other will it is not
    /// for the plan to say, and none is missed.
    pub wills: u64,
    /// Bytes of packets sent.
    pub bytes_out: u64,
    /// Bytes of packets received.
    pub bytes_in: u64,
    /// PINGRESPs received.
    pub pings: u64,
}

/// What the ledgers found wrong, over a whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Deliveries that never came, at QoS 0 (of the publication or the subscription, whichever is lower).
    pub lost_qos0: u64,
    /// The same at QoS 1.
    pub lost_qos1: u64,
    /// The same at QoS 2.
    pub lost_qos2: u64,
    /// Second deliveries at QoS 0 or 2, or at QoS 1 without the sender or receiver having reconnected.
    pub duplicated: u64,
    /// Second deliveries at QoS 1 after a reconnect, which MQTT allows.
    pub redelivered: u64,
    /// Deliveries after a later message of the same publisher to the same topic, redeliveries aside.
    pub reordered: u64,
    /// Deliveries with a payload that nobody sent, or to somebody who did not ask.
    pub corrupted: u64,
    /// Acknowledgements of nothing, or out of turn [MQTT-4.6.0-2].
    pub misacknowledged: u64,
}

/// What one engine thread saw in one tick of the run's clock.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which thread, counted over all workers.
    pub thread: u32,
    /// Which tick, from 0 at the start of the run.
    pub tick: u32,
    /// What happened in it.
    pub counts: Counts,
    /// Clients that are in (CONNACK and SUBACK) at its end.
    pub ready: u64,
    /// CPU that the thread used in it, in nanoseconds.
    pub cpu_ns: u64,
    /// From when a message was due (open loop) or handed to the network (closed loop) to its arrival, in ns.
    pub latency_ns: Histogram<u64>,
    /// From the same to its last acknowledgement, in ns.
    pub acknowledged_ns: Histogram<u64>,
    /// From asking for a TCP connection to CONNACK (and SUBACK, when it subscribes), in ns.
    pub connect_ns: Histogram<u64>,
}
