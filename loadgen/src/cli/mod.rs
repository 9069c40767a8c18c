//! The command line: what can be asked for, and what it comes to. Nothing is connected here.
//!
//! [`Run::prepare`] turns arguments into a [`Prepared`] run: a plan, addresses, threads, all checked against what
//! this host allows. The options come in parts ([`LoadOptions`], [`GeneratorOptions`], …) that other commands can
//! flatten too.

mod execute;
pub mod host;
mod load;
pub mod preflight;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod values;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::execute::execute;
use self::host::HostFacts;
pub use self::load::LoadOptions;
use self::preflight::{Means, Missing, preflight};
use self::transport::TransportOptions;
use self::values::{Broker, Cpus, Sources, broker, cpus, sources};
use crate::compare::Compare;
use crate::net;
use crate::plan::{Plan, Scenario, ScenarioError, Target, Transport};

/// Load generator for MQTT brokers
#[derive(Parser, Debug)]
#[command(name = "ringmq-loadgen", version, about, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads a command line, program first. A preset's name where a command belongs means to run it: `connect` is
    /// `run connect`.
    ///
    /// # Errors
    ///
    /// Words that can't be followed, and requests for help, in clap's own form.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        let preset = |word: &OsString| Scenario::presets().any(|scenario| *word == *scenario.name());
        if words.get(1).is_some_and(preset) {
            words.insert(1, "run".into());
        }
        Self::try_parse_from(words)
    }
}

/// What the generator can do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a scenario against a broker that is running
    Run(Box<Run>),
    /// Start brokers one after another, run scenarios against each in interleaved rounds, print medians and ratios
    Compare(Box<Compare>),
    /// Lay the results of runs side by side (--json, or result.json of --out); ratios are to the first
    Report(ReportFiles),
    /// Be a part of a run that is led from elsewhere (run --workers)
    Worker(Box<WorkerOptions>),
    /// List the scenarios that come with the generator
    List,
    /// Print a scenario's document with its comments: a start for one of your own
    Show {
        /// The scenario
        scenario: String,
    },
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// A scenario's name (see `list`), or a document's file, whose name ends in .toml
    pub scenario: String,
    /// All options.
    #[command(flatten)]
    pub options: RunOptions,
}

/// The options of `run`, in their parts.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Where to.
    #[command(flatten)]
    pub target: TargetOptions,
    /// Through what.
    #[command(flatten)]
    pub transport: TransportOptions,
    /// What of.
    #[command(flatten)]
    pub generator: GeneratorOptions,
    /// What.
    #[command(flatten)]
    pub load: LoadOptions,
    /// Who does it.
    #[command(flatten)]
    pub join: JoinOptions,
    /// What for.
    #[command(flatten)]
    pub output: OutputOptions,
}

/// A run that other processes do.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Several processes or hosts")]
pub struct JoinOptions {
    /// Wait for so many workers (`ringmq-loadgen worker --join ADDRESS`), who share the clients among them; this process
    /// only leads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), conflicts_with_all = ["source_ips", "cpus", "threads"])]
    pub workers: Option<u16>,
    /// Where workers can join. Whoever reaches it can take part: open it to a network you trust only
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1882", requires = "workers")]
    pub join_listen: SocketAddr,
}

/// The arguments of `worker`.
#[derive(Args, Clone, Debug)]
pub struct WorkerOptions {
    /// Who leads
    #[arg(long, value_name = "HOST:PORT")]
    pub join: String,
    /// What to be called in messages [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the broker is as seen from this host [default: where whoever leads says]
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = broker)]
    pub host: Vec<Broker>,
    /// How TLS and WebSocket are spoken from here.
    #[command(flatten)]
    pub transport: TransportOptions,
    /// What this process may use of its host.
    #[command(flatten)]
    pub generator: GeneratorOptions,
}

/// The arguments of `report`.
#[derive(Args, Clone, Debug)]
pub struct ReportFiles {
    /// Results, or directories of --out
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write their curves, laid over each other, here too: one page for the browser
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The broker.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Broker")]
pub struct TargetOptions {
    /// Where the broker listens; clients take the addresses of a list in turn
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', default_value = "127.0.0.1:1883", value_parser = broker)]
    pub host: Vec<Broker>,
    /// What MQTT is carried by [default: what the scenario says, else tcp]
    #[arg(long, value_enum)]
    pub transport: Option<Transport>,
    /// Process identifier of the broker on this host, to report its CPU, memory and context switches
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
}

/// What the generator may use of this host.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Generator")]
pub struct GeneratorOptions {
    /// Addresses that connections are made from, in turn: 127.0.0.2-127.0.0.40,10.0.0.7
    ///
    /// Two connections to the same address and port of a broker must differ in their source address or source port.
    /// Linux gives out about 28,000 ports per source address and destination (net.ipv4.ip_local_port_range = 32768
    /// 60999), and up to 64,512 when that is widened to "1024 65535". A million connections to one destination
    /// therefore take 36 source addresses, or 16. All of 127.0.0.0/8 is there for a broker on this host; else add
    /// addresses with `ip address add`. The port is chosen when the connection is made (IP_BIND_ADDRESS_NO_PORT), so
    /// that naming an address costs no ports.
    #[arg(long, value_name = "ADDRESS[-ADDRESS],…", value_delimiter = ',', value_parser = sources)]
    pub source_ips: Vec<Sources>,
    /// CPUs to run on, one pinned thread on each (1,2-3); keep them apart from the broker's
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = cpus)]
    pub cpus: Vec<Cpus>,
    /// Threads [default: one for each of --cpus, else 1]. Each has a descriptor table of its own, as large as the
    /// limit on open files allows: many connections need several threads, also on few CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// Where results go.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Results")]
pub struct OutputOptions {
    /// Write everything here: JSON, CSV, histograms and a report for the browser
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write the result here, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Loss at QoS 0, which MQTT allows, fails the run too
    #[arg(long)]
    pub strict: bool,
    /// Show no progress, only the summary
    #[arg(long)]
    pub quiet: bool,
}

/// A run that can begin.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What to do.
    pub plan: Plan,
    /// Where, from where, on which threads.
    pub means: Means,
    /// Through what; nothing where workers do the run, who have files of their own.
    pub transport: net::Transport,
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A scenario that can't be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// An option that can't be followed.
    #[error("{option}: {what}\n  remedy: {remedy}")]
    Option {
        /// The option, as it was given.
        option: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// This host can't do it.
    #[error(transparent)]
    Preflight(#[from] Missing),
}

impl Run {
    /// Reads the scenario, applies the options, and checks that this host can do it.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way, with its remedy.
    pub fn prepare(&self) -> Result<Prepared, CliError> {
        let mut overrides = self.options.load.overrides(|variable| std::env::var(variable).ok())?;
        if let Some(transport) = self.options.target.transport {
            overrides.option("--transport", Target::Top("transport"), transport.name());
        }
        let plan = Scenario::find(&self.scenario)?.read(&overrides)?;
        let generator = &self.options.generator;
        let (hosts, sources) = (self.options.target.resolve()?, generator.sources());
        let facts = HostFacts::gather(&sources);
        let means = Means { hosts, sources, cpus: generator.threads()? };
        preflight(&plan, &means, &facts)?;
        let transport = match self.options.join.workers {
            None => self.options.transport.load(plan.transport, self.options.target.names(&means.hosts))?,
            Some(_) => net::Transport::default(),
        };
        Ok(Prepared { plan, means, transport })
    }
}

impl TargetOptions {
    /// What the brokers are called, by their addresses.
    fn names(&self, addresses: &[SocketAddr]) -> Vec<(SocketAddr, String)> {
        addresses.iter().copied().zip(self.host.iter().map(|host| host.name().to_owned())).collect()
    }

    /// The brokers' addresses.
    ///
    /// # Errors
    ///
    /// A name that stands for no address.
    pub fn resolve(&self) -> Result<Vec<std::net::SocketAddr>, CliError> {
        let unknown = |what| CliError::Option {
            option: "--host".to_owned(),
            what,
            remedy: "give the broker's name or address, and its port: HOST:PORT".to_owned(),
        };
        self.host.iter().map(|host| host.resolve().map_err(unknown)).collect()
    }
}

impl GeneratorOptions {
    /// The source addresses, each once.
    pub fn sources(&self) -> Vec<std::net::IpAddr> {
        let mut seen = std::collections::HashSet::new();
        self.source_ips.iter().flat_map(|range| &range.0).copied().filter(|source| seen.insert(*source)).collect()
    }

    /// The threads, each with its CPU if there is one; more threads than CPUs share them in turn.
    ///
    /// # Errors
    ///
    /// Fewer threads than CPUs, or a CPU named twice.
    pub fn threads(&self) -> Result<Vec<Option<usize>>, CliError> {
        let cpus: Vec<usize> = self.cpus.iter().flat_map(|range| &range.0).copied().collect();
        let threads = self.threads.map_or(cpus.len().max(1), usize::from);
        let wrong = |what: String, remedy: &str| {
            Err(CliError::Option { option: "--cpus".to_owned(), what, remedy: remedy.to_owned() })
        };
        if let Some((_, twice)) = cpus.iter().enumerate().find(|(at, cpu)| cpus[..*at].contains(cpu)) {
            return wrong(format!("CPU {twice} is named twice"), "name each once; --threads sets how many threads run");
        }
        if threads < cpus.len() {
            return wrong(
                format!("{} CPUs for {threads} threads", cpus.len()),
                "give as many --threads, or fewer CPUs",
            );
        }
        match &cpus[..] {
            [] => Ok(vec![None; threads]),
            cpus => Ok(cpus.iter().copied().map(Some).cycle().take(threads).collect()),
        }
    }
}

/// Prints the names of the presets with a sentence about each.
///
/// # Errors
///
/// An output that can't be written to.
pub fn list(output: &mut impl Write) -> io::Result<()> {
    let width = Scenario::presets().map(|scenario| scenario.name().len()).max().unwrap_or_default();
    for scenario in Scenario::presets() {
        let about = scenario.about().map_err(io::Error::other)?;
        writeln!(output, "{:width$}  {about}", scenario.name())?;
    }
    Ok(())
}

/// Prints a scenario's document as it was written.
///
/// # Errors
///
/// No such scenario, an output that can't be written to.
pub fn show(scenario: &str, output: &mut impl Write) -> Result<(), CliError> {
    let scenario = Scenario::find(scenario)?;
    output.write_all(scenario.text().as_bytes()).map_err(|error| CliError::Option {
        option: "show".to_owned(),
        what: error.to_string(),
        remedy: "give it an output that can be written to".to_owned(),
    })
}
