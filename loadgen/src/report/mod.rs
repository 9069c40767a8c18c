//! What a run came to, for people and for programs.
//!
//! [`Watch`] observes a run and [`Report::new`] sums it up; everything told later (the closing summary, the files of
//! `--out`, the side-by-side table) is made from a [`Report`] alone, so that a stored one tells no less. Nothing here
//! opens a socket or runs on an engine thread.

mod csv;
mod figures;
mod files;
mod hgrm;
mod host;
mod html;
mod progress;
mod secrets;
mod side_by_side;
mod text;
mod units;
mod verdict;
mod warnings;
mod watch;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use figures::Subject;
pub use files::{Error, read, read_all};
pub use host::{Host, Knob};
pub use html::overlay;
pub use progress::Progress;
pub use side_by_side::{Labelled, side_by_side};
pub use verdict::{Finding, Verdict};
pub use watch::{BrokerPoint, Mark, Observed, Watch};

use crate::measure::quantiles::{Point, Times};
use crate::measure::recorder::Row;
use crate::measure::{Counts, Faults};
use crate::plan::Plan;

/// The layout of a stored report. A change that an old reader would misread raises it.
pub const FORMAT: u32 = 1;

/// A run and all that is needed to judge it or to repeat it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`] when it was written.
    pub format: u32,
    /// What was run, by what, when.
    pub about: About,
    /// On which machine the generator ran.
    pub host: Host,
    /// What was asked for, passwords blanked.
    pub plan: Plan,
    /// Whether loss at QoS 0, which MQTT allows, makes it a failure.
    pub strict: bool,
    /// The figures.
    pub summary: Summary,
    /// What a reader must know before believing them.
    pub warnings: Vec<String>,
    /// The first few things that went wrong, in words.
    pub failures: Vec<String>,
    /// How times were distributed.
    pub distributions: Distributions,
    /// A second each, from the start of the run.
    pub series: Vec<Row>,
    /// The broker's process, about once a second.
    pub broker_series: Vec<BrokerPoint>,
}

/// What was run, by what, when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Where the broker was.
    pub target: Vec<String>,
    /// The command line, secrets blanked, words quoted where a shell needs it.
    pub command: String,
    /// When it ended (RFC 3339, UTC).
    pub ended: String,
    /// Version of the generator.
    pub version: String,
    /// The commit that it was built from, if it was built in a repository.
    pub commit: Option<String>,
    /// Processes that took part besides the first.
    pub workers: Vec<String>,
}

/// The figures of a run. Rates and costs are those of the window; counts of what went wrong are those of all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How long it took.
    pub time: Time,
    /// The way in.
    pub connect: Connect,
    /// Messages in the window.
    pub messages: Messages,
    /// From when a message was due to its arrival.
    pub latency: Option<Times>,
    /// From the same to its last acknowledgement.
    pub acknowledged: Option<Times>,
    /// Counts over the whole run.
    pub whole: Counts,
    /// What the ledgers found over the whole run.
    pub faults: Faults,
    /// Whether there were ledgers.
    pub verified: bool,
    /// What it cost the broker, when its process was named and lived.
    pub broker: Option<BrokerCost>,
    /// What it cost the generator.
    pub generator: GeneratorCost,
    /// What it cost the host's kernel.
    pub kernel: KernelCost,
}

/// How long the parts of a run took, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// From the first connection to the last that came in.
    pub connect_seconds: f64,
    /// Start and end of the window, since the start of the run.
    pub window_at: (f64, f64),
    /// Length of the window.
    pub window_seconds: f64,
    /// What was asked for.
    pub window_asked_seconds: f64,
    /// From the end of the window until what was due had arrived.
    pub drain_seconds: f64,
    /// Everything.
    pub total_seconds: f64,
    /// Whether the operator ended it.
    pub interrupted: bool,
}

/// The way in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connect {
    /// Clients of the plan.
    pub clients: u64,
    /// The most that were in at once.
    pub ready_max: u64,
    /// Those in at the end of the window.
    pub ready: u64,
    /// Clients that came in for their first time, per second of connecting.
    pub per_second: Option<f64>,
    /// From asking for a connection to CONNACK (and SUBACK), reconnects included.
    pub times: Option<Times>,
}

/// A count and what it makes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// Per second of the window.
    pub per_second: f64,
}

/// Messages in the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Messages {
    /// Sent for the first time.
    pub published: Rate,
    /// Arrived for the first time.
    pub delivered: Rate,
    /// Acknowledged for good.
    pub acknowledged: Rate,
    /// Bytes of packets sent.
    pub bytes_out: Rate,
    /// Bytes of packets received.
    pub bytes_in: Rate,
    /// What the plan asked to be published per second; none in closed loop, or where it is not a steady rate.
    pub asked_per_second: Option<f64>,
    /// Share of it that was published, in percent.
    pub published_percent: Option<f64>,
    /// Share of the deliveries it makes that arrived in the window, in percent.
    pub delivered_percent: Option<f64>,
}

/// What a run cost the broker. "Per message" is per delivery, or per publication when nothing was delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerCost {
    /// Its process.
    pub pid: u32,
    /// Its command line, secrets blanked.
    pub command: String,
    /// Share of one core in the window, in percent; several cores make more than 100.
    pub busy_percent: f64,
    /// Share of its CPU that the kernel used for it, in percent.
    pub kernel_percent: Option<f64>,
    /// CPU time.
    pub cpu_us_per_message: Option<f64>,
    /// Context switches.
    pub switches_per_message: Option<f64>,
    /// Context switches.
    pub switches_per_second: f64,
    /// Instructions, user and kernel.
    pub instructions_per_message: Option<f64>,
    /// Why instructions were not counted.
    pub uncounted: Option<String>,
    /// CPU time per client while they came in.
    pub connect_cpu_us: Option<f64>,
    /// Resident memory before the first connection.
    pub rss_before_bytes: u64,
    /// With all clients in, before traffic.
    pub rss_connected_bytes: u64,
    /// At the end of the window.
    pub rss_after_bytes: u64,
    /// Growth from before to after by the clients that were in then.
    pub rss_per_connection_bytes: Option<f64>,
    /// How long its threads could have run in the window but others had the CPU, as a share of the window, in percent.
    pub waited_percent: f64,
    /// How long it waited in the window because its cgroup's quota was used up, in seconds.
    pub throttled_seconds: f64,
}

/// What a run cost the generator in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeneratorCost {
    /// How busy each thread was, in percent of a core, by thread number.
    pub busy_percent: Vec<(u32, f64)>,
    /// How busy the busiest was over the whole seconds of connecting; none when that took less than one.
    pub connecting_busy_percent: Option<f64>,
    /// CPU time of all threads per message.
    pub cpu_us_per_message: Option<f64>,
    /// How long threads of this process could have run in the window but others had the CPU, as a share of the
    /// window, in percent.
    pub waited_percent: f64,
}

/// What a run cost the kernel of the generator's host: of use when the broker is on the same one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelCost {
    /// Kernel objects that can't be given back, before the first connection.
    pub slab_before_bytes: u64,
    /// The same at the end of the window.
    pub slab_after_bytes: u64,
    /// Growth by the clients that were in then; both ends of a connection when the broker is on this host.
    pub slab_per_connection_bytes: Option<f64>,
    /// Data in TCP buffers at the end of the window.
    pub tcp_after_bytes: u64,
    /// Share of all CPUs' time that the hypervisor kept for others in the window, in percent.
    pub stolen_percent: f64,
}

/// How times were distributed over the window (connects: over the whole run).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distributions {
    /// Deliveries.
    pub latency: Vec<Point>,
    /// Acknowledgements.
    pub acknowledged: Vec<Point>,
    /// Connects.
    pub connect: Vec<Point>,
}
