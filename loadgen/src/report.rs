//! The result of a run, for people and for programs.

use std::fmt;

use serde::Serialize;

use crate::ledger::Faults;
use crate::scenario::Scenario;

/// Above this share of its core the generator may have been what limited the run.
const BUSY_PERCENT_LIMIT: f64 = 90.0;

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was run.
    pub scenario: Scenario,
    /// How long the measured window was.
    pub seconds: f64,
    /// Messages delivered to subscribers in it.
    pub delivered: u64,
    /// The same per second.
    pub delivered_per_second: f64,
    /// Absent when nothing was delivered.
    pub latency_us: Option<Latency>,
    /// The way in.
    pub connect: Connect,
    /// The generator's own costs.
    pub generator: Generator,
    /// The broker's, when its process was named.
    pub broker: Option<BrokerCost>,
    /// What went wrong in the whole run.
    pub faults: Faults,
    /// True when a signal ended it early.
    pub interrupted: bool,
}

/// Closed-loop latency in microseconds, from writing the PUBLISH to reading it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// From the first connection to the last CONNACK or SUBACK.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Connect {
    /// How many clients.
    pub clients: usize,
    /// How long it took all of them.
    pub seconds: f64,
    /// Broker CPU per client, when its process was named.
    pub broker_cpu_us_per_client: Option<f64>,
}

/// What the generator itself used in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Generator {
    /// Share of one core in percent.
    pub busy_percent: f64,
    /// User and system time per delivered message; absent when nothing was delivered.
    pub cpu_us_per_message: Option<f64>,
}

/// What the broker used in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BrokerCost {
    /// Share of one core in percent (several cores: above 100).
    pub busy_percent: f64,
    /// User and system time per delivered message; absent when nothing was delivered.
    pub cpu_us_per_message: Option<f64>,
    /// Context switches per delivered message; absent when nothing was delivered.
    pub switches_per_message: Option<f64>,
    /// Context switches per second.
    pub switches_per_second: f64,
    /// Resident memory before the first connection, in bytes.
    pub rss_before: u64,
    /// Resident memory at the end of the window, in bytes.
    pub rss_after: u64,
    /// Their difference by the number of connections.
    pub rss_per_connection: f64,
}

impl Report {
    /// What a reader must know before believing the figures.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let busy = self.generator.busy_percent;
        if busy >= BUSY_PERCENT_LIMIT {
            warnings.push(format!("the generator's core was {busy:.0} % busy: rate and latency may be its own limit"));
        }
        if self.interrupted {
            warnings.push("interrupted: the window is shorter than asked for".to_owned());
        }
        warnings
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, shape, outstanding, qos, payload, .. } = &self.scenario;
        writeln!(f, "{name}: {shape:?}, {outstanding} outstanding, QoS {}, {payload} byte payload", *qos as u8)?;
        self.fmt_connect(f)?;
        writeln!(f, "  delivered   {} in {:.2} s: {:.0}/s", self.delivered, self.seconds, self.delivered_per_second)?;
        if let Some(Latency { p50, p99, p999, max }) = self.latency_us {
            writeln!(f, "  latency µs  p50 {p50:.0}  p99 {p99:.0}  p99.9 {p999:.0}  max {max:.0}")?;
        }
        self.fmt_broker(f)?;
        let Generator { busy_percent, cpu_us_per_message } = self.generator;
        writeln!(f, "  generator   {} µs CPU per message, {busy_percent:.1} % of a core", Or(cpu_us_per_message))?;
        let Faults { lost, duplicated, reordered, corrupted, misacknowledged } = self.faults;
        write!(f, "  faults      {lost} lost, {duplicated} duplicated, {reordered} reordered, {corrupted} corrupted")?;
        writeln!(f, ", {misacknowledged} misacknowledged")?;
        self.warnings().iter().try_for_each(|warning| writeln!(f, "  WARNING     {warning}"))
    }
}

impl Report {
    fn fmt_connect(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connect { clients, seconds, broker_cpu_us_per_client } = self.connect;
        write!(f, "  connected   {clients} in {seconds:.2} s: {:.0}/s", clients as f64 / seconds)?;
        match broker_cpu_us_per_client {
            Some(cost) => writeln!(f, ", broker {cost:.1} µs CPU each"),
            None => writeln!(f),
        }
    }

    fn fmt_broker(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cost) = &self.broker else { return Ok(()) };
        let (cpu, switches) = (Or(cost.cpu_us_per_message), Or(cost.switches_per_message));
        writeln!(f, "  broker      {cpu} µs CPU and {switches} context switches per message")?;
        let BrokerCost { busy_percent, switches_per_second, .. } = cost;
        writeln!(f, "              {busy_percent:.2} % of a core, {switches_per_second:.0} context switches/s")?;
        let (before, after, each) = (cost.rss_before >> 10, cost.rss_after >> 10, cost.rss_per_connection);
        writeln!(f, "              RSS {before} KiB before, {after} KiB after: {each:.0} bytes per connection")
    }
}

/// A figure with three decimals (or the precision asked for), or a dash where there is none.
pub struct Or(pub Option<f64>);

impl fmt::Display for Or {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (precision, width) = (f.precision().unwrap_or(3), f.width().unwrap_or(0));
        match self.0 {
            Some(value) => write!(f, "{value:>width$.precision$}"),
            None => write!(f, "{:>width$}", "–"),
        }
    }
}
