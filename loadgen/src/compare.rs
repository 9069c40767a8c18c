//! Several brokers side by side: interleaved rounds on fresh processes, so that a drift of the machine meets
//! all of them, then medians.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::brokers::{self, Spec};
use crate::error::Error;
use crate::report::{Or, Report};
use crate::scenario::Name;
use crate::summary::{Row, summarize};
use crate::{Timing, run, write_json};

/// The options of `compare`.
#[derive(Args)]
pub struct Compare {
    /// A scenario to run; may be repeated. All of them when absent
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<Name>,
    /// A broker: a preset (mosquitto, ringmq) or NAME=COMMAND, run by sh with {port}, {cpu} and {dir} replaced;
    /// may be repeated. Ratios are to the first
    #[arg(long = "broker", value_name = "NAME[=COMMAND]", value_parser = brokers::spec)]
    #[arg(default_values = ["mosquitto", "ringmq"])]
    brokers: Vec<Spec>,
    /// Runs of each scenario against each broker
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// CPU that brokers are pinned to
    #[arg(long, default_value_t = 0, value_name = "N")]
    broker_cpu: usize,
    /// CPU that the generator is pinned to
    #[arg(long, default_value_t = 1, value_name = "N")]
    generator_cpu: usize,
    #[command(flatten)]
    timing: Timing,
    /// Write all runs and the summary here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One run that gave a result.
#[derive(Serialize)]
pub struct Round {
    /// Counted from 1.
    pub round: u32,
    /// The broker's name.
    pub broker: String,
    /// The scenario.
    #[serde(skip)]
    pub scenario: Name,
    /// What came out.
    pub report: Report,
}

/// Everything, for `--json`.
#[derive(Serialize)]
struct Document<'a> {
    summary: &'a [Row],
    failures: &'a [String],
    rounds: &'a [Round],
}

impl Compare {
    /// Runs everything and prints the table. Fails when a run did, or a message went astray.
    ///
    /// # Errors
    ///
    /// Those of writing the results; a failed run is told and counted instead.
    pub fn run(&self, stop: Arc<AtomicBool>) -> Result<ExitCode, Error> {
        let (mut rounds, mut failures) = (Vec::new(), Vec::new());
        for (round, scenario, spec) in self.plan() {
            if stop.load(Ordering::Relaxed) {
                failures.push("interrupted: some runs are missing".to_owned());
                break;
            }
            let told = format!("round {round}/{} {} {}", self.rounds, scenario.as_str(), spec.name);
            match self.one(scenario, spec, &stop) {
                Ok(report) => {
                    eprintln!("{told}: {}", brief(&report));
                    if !report.faults.is_empty() {
                        failures.push(format!("{told}: {:?}", report.faults));
                    }
                    rounds.push(Round { round, broker: spec.name.clone(), scenario, report });
                }
                Err(error) => {
                    eprintln!("{told}: {error}");
                    failures.push(format!("{told}: {error}"));
                }
            }
        }
        self.conclude(&rounds, &failures)
    }

    /// Each round takes the brokers in another order.
    fn plan(&self) -> impl Iterator<Item = (u32, Name, &Spec)> {
        let scenarios = if self.scenarios.is_empty() { Name::value_variants() } else { &self.scenarios };
        let brokers = self.brokers.len();
        (1..=self.rounds).flat_map(move |round| {
            scenarios.iter().flat_map(move |&scenario| {
                let order = (0..brokers).map(move |turn| (turn + round as usize - 1) % brokers);
                order.map(move |broker| (round, scenario, &self.brokers[broker]))
            })
        })
    }

    fn one(&self, scenario: Name, spec: &Spec, stop: &Arc<AtomicBool>) -> Result<Report, Error> {
        let broker = spec.start(self.broker_cpu)?;
        let mut options = self.timing.options(broker.address, Arc::clone(stop));
        options.cpu = Some(self.generator_cpu);
        options.broker = Some(broker.process());
        run::run(&scenario.scenario(), &options)
    }

    fn conclude(&self, rounds: &[Round], failures: &[String]) -> Result<ExitCode, Error> {
        let rows = summarize(rounds, &self.brokers[0].name);
        print!("{}", crate::summary::table(&rows));
        for failure in failures {
            println!("FAILED {failure}");
        }
        if let Some(path) = &self.json {
            write_json(path, &Document { summary: &rows, failures, rounds })?;
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn brief(report: &Report) -> String {
    let broker = report.broker.as_ref();
    let cost = broker.and_then(|cost| cost.cpu_us_per_message);
    let busy = broker.map_or(0.0, |cost| cost.busy_percent);
    let warnings: String = report.warnings().iter().map(|warning| format!(" (WARNING {warning})")).collect();
    let (rate, own) = (report.delivered_per_second, report.generator.busy_percent);
    format!("{} µs CPU per message, {rate:.0}/s, broker {busy:.1} %, generator {own:.1} %{warnings}", Or(cost))
}
