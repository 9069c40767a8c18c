//! Several brokers side by side: interleaved rounds on fresh processes, so that a drift of the machine meets
//! all of them, then medians.
//!
//! Each round takes the brokers of a scenario in another order, and a ratio is taken within a round. What is
//! compared are a few figures of each run ([`figures`]); what ringmq is held to stands in one table ([`bars`]).

pub mod bars;
pub mod brokers;
mod bystanders;
mod cases;
pub mod figures;
pub mod process;
mod scaling;
pub mod summary;
mod trial;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::brokers::Spec;
use self::cases::{Case, Choice};
use self::summary::{Or, Round, Row, Verdict};
use self::trial::{Subject, Trial, measure};
use crate::plan::Overrides;

/// From here on others on the machine spoil what is measured, in percent of a core.
const OTHERS_PERCENT_LIMIT: f64 = 10.0;

/// The options of `compare`.
#[derive(Args, Clone, Debug)]
pub struct Compare {
    /// A scenario to run: a preset or a file, `start` (memory without clients), or `scaling-local` and `scaling-cross`
    /// (2 shards of ringmq against 1, whatever the brokers are); may be repeated [default: those that two brokers are
    /// compared by]
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// A broker: a preset (mosquitto, ringmq, rumqttd, nats-server), `forwarder` (the limit: forwards with next to no MQTT, where it can take part),
    /// or NAME=COMMAND, run by sh with {port}, {cpus}, {shards} (as many as CPUs) and {dir} (a fresh directory) replaced; may be
    /// repeated. Ratios are to the first
    #[arg(long = "broker", value_name = "NAME[=COMMAND]", value_parser = brokers::spec)]
    #[arg(default_values = ["mosquitto", "ringmq"])]
    brokers: Vec<Spec>,
    /// Runs of each scenario against each broker
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// CPUs that brokers are pinned to
    #[arg(long, default_value = "0", value_name = "LIST", value_delimiter = ',', value_parser = cpu)]
    broker_cpus: Vec<usize>,
    /// CPUs that the generator is pinned to, one thread on each
    #[arg(long, default_value = "1", value_name = "LIST", value_delimiter = ',', value_parser = cpu)]
    generator_cpus: Vec<usize>,
    /// Length of the measured window, instead of the scenario's
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Traffic before it, instead of the scenario's
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    warm_up: Option<Duration>,
    /// Changes a parameter or a key in every scenario; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Write all runs, the medians and what became of the bars here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn cpu(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|cpu| *cpu < rustix::thread::CpuSet::MAX_CPU).ok_or_else(|| "no CPU's number".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let known = (0.05..=86_400.0).contains(&value).then(|| Duration::from_secs_f64(value));
    known.ok_or_else(|| "must be 0.05 to 86400".to_owned())
}

/// Everything, for `--json`.
#[derive(Serialize)]
struct Document<'a> {
    generator: &'static str,
    command: Vec<String>,
    medians: &'a [Row],
    bars: &'a [Verdict],
    failures: &'a [String],
    rounds: &'a [Round],
}

impl Compare {
    /// Runs everything and prints the tables. False when a run failed or was interrupted, or a message went astray.
    ///
    /// # Errors
    ///
    /// A scenario that can't be read, results that can't be written; a failed run is told and counted instead.
    pub fn run(&self, stop: &AtomicBool) -> Result<bool, Error> {
        let cases = self.cases()?;
        let (mut rounds, mut failures) = (Vec::new(), Vec::new());
        for (round, case, subject) in order(&cases, self.rounds) {
            if stop.load(Ordering::Relaxed) {
                failures.push("interrupted: some runs are missing".to_owned());
                break;
            }
            let told = format!("round {round}/{} {} {}", self.rounds, case.name, subject.name);
            let complaint = match measure(&case.load, subject, stop) {
                Ok(Trial { figures, warnings, complaint }) => {
                    eprintln!("{told}: {}", brief(&figures));
                    warnings.iter().for_each(|warning| eprintln!("  WARNING {warning}"));
                    rounds.push(Round { round, scenario: case.name.clone(), broker: subject.name.clone(), figures });
                    complaint
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(complaint) = complaint {
                eprintln!("{told}: FAILED: {complaint}");
                failures.push(format!("{told}: {complaint}"));
            }
        }
        self.conclude(&cases, &rounds, &failures)
    }

    fn cases(&self) -> Result<Vec<Case>, Error> {
        let mut overrides = Overrides::default();
        self.set.iter().try_for_each(|text| overrides.set(text))?;
        let choice = Choice {
            brokers: &self.brokers,
            broker_cpus: &self.broker_cpus,
            generator_cpus: &self.generator_cpus,
            overrides: &overrides,
            window: self.seconds,
            warm_up: self.warm_up,
        };
        match self.scenarios.as_slice() {
            [] => cases::DEFAULT.iter().map(|name| choice.case(name)).collect(),
            names => names.iter().map(|name| choice.case(name)).collect(),
        }
    }

    fn conclude(&self, cases: &[Case], rounds: &[Round], failures: &[String]) -> Result<bool, Error> {
        let names = |case: &Case| case.subjects.iter().map(|subject| subject.name.clone()).collect();
        let order: Vec<_> = cases.iter().map(|case| (case.name.clone(), names(case))).collect();
        let (rows, verdicts) = (summary::rows(rounds, &order), summary::verdicts(rounds));
        print!("{}", summary::tables(&rows, &spared(cases), &verdicts));
        failures.iter().for_each(|failure| println!("FAILED {failure}"));
        if let Some(path) = &self.json {
            let command = std::env::args().collect();
            let generator = env!("CARGO_PKG_VERSION");
            write_json(path, &Document { generator, command, medians: &rows, bars: &verdicts, failures, rounds })?;
        }
        Ok(failures.is_empty())
    }
}

/// All runs: round by round, scenario by scenario, the subjects in another order each round.
fn order(cases: &[Case], rounds: u32) -> impl Iterator<Item = (u32, &Case, &Subject)> {
    (1..=rounds).flat_map(move |round| {
        cases.iter().flat_map(move |case| {
            let subjects: Vec<&Subject> = case.subjects.iter().filter(|subject| case.load.suits(subject)).collect();
            let count = subjects.len();
            (0..count).map(move |turn| (round, case, subjects[(turn + round as usize - 1) % count]))
        })
    })
}

/// Which scenarios are not run on whom.
fn spared(cases: &[Case]) -> Vec<(String, String)> {
    let of_case = |case: &Case| -> Vec<_> {
        let unsuited = case.subjects.iter().filter(|subject| !case.load.suits(subject));
        unsuited.map(|subject| (case.name.clone(), subject.name.clone())).collect()
    };
    cases.iter().flat_map(of_case).collect()
}

fn brief(figures: &figures::Figures) -> String {
    if let figures::Figures { delivered_per_second: None, rss_at_start: Some(bytes), .. } = figures {
        return format!("{bytes:.0} bytes of RSS");
    }
    let (cpu, rate) = (Or(figures.cpu_us_per_message), Or(figures.delivered_per_second));
    let (busy, own) = (Or(figures.broker_busy_percent), Or(figures.generator_busy_percent));
    let others = figures.others_busy_percent.filter(|percent| *percent >= OTHERS_PERCENT_LIMIT);
    let told = others.map(|percent| format!("\n  WARNING others used {percent:.0} % of a core: is the machine idle?"));
    let told = told.unwrap_or_default();
    format!("{cpu} µs CPU per message, {rate:.0}/s, broker {busy:.1} %, generator {own:.1} %{told}")
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.display().to_string(), source };
    let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
    fs::write(path, text + "\n").map_err(failed)
}

/// Why a comparison, or one run of it, gave no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A broker that should be started did not.
    #[error("broker {name}: {what}")]
    Broker {
        /// Its name on the command line.
        name: String,
        /// What went wrong.
        what: String,
    },
    /// The run against it.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// Its process can't be watched.
    #[error(transparent)]
    Watch(#[from] crate::measure::broker::Error),
    /// What is to be run can't be read.
    #[error(transparent)]
    Scenario(#[from] crate::plan::ScenarioError),
    /// An option that can't be followed.
    #[error("{0}")]
    Usage(String),
    /// A file of results.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
}
