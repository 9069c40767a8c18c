//! `ringmq-loadgen`: drives an MQTT broker with a named scenario, checks every message that comes back, and
//! says what it cost the broker.

mod broker;
mod brokers;
mod buffers;
#[path = "compare.rs"]
mod compare;
mod error;
mod fleet;
mod flow;
mod ledger;
#[path = "net.rs"]
mod net;
mod os;
mod payload;

mod report;
mod run;
mod scenario;
mod summary;
mod wire;

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::broker::Broker;
use crate::error::Error;
use crate::scenario::{Name, Overrides};

/// Load generator for MQTT brokers
#[derive(Parser)]
#[command(version, about, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario against a broker that is running
    Run(RunArgs),
    /// Start brokers one after another, run scenarios against each in interleaved rounds, print medians and ratios
    Compare(compare::Compare),
}

#[derive(Args)]
struct RunArgs {
    /// The preset to start from
    scenario: Name,
    /// Where the broker listens
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    host: String,
    /// Process identifier of the broker, to report its CPU, memory and context switches
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
    /// CPU that the generator is pinned to
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    timing: Timing,
    /// Write the result here too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How long the parts of a run take.
#[derive(Args, Clone, Copy)]
struct Timing {
    /// Length of the measured window
    #[arg(long, default_value_t = 4.0, value_parser = seconds)]
    seconds: f64,
    /// Traffic before it
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    warm_up: f64,
    /// Clients that may be connecting at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connecting: u16,
    /// Give up when nothing arrives for so long although something is due
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = seconds)]
    patience: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    (0.05..=86_400.0).contains(&value).then_some(value).ok_or_else(|| "must be 0.05 to 86400".to_owned())
}

impl Timing {
    fn options(&self, address: SocketAddr, stop: Arc<AtomicBool>) -> run::Options {
        run::Options {
            address,
            cpu: None,
            broker: None,
            warm_up: Duration::from_secs_f64(self.warm_up),
            window: Duration::from_secs_f64(self.seconds),
            connecting: usize::from(self.connecting),
            patience: Duration::from_secs_f64(self.patience),
            stop,
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    os::raise_open_files_limit();
    let outcome = stop_on_signal().and_then(|stop| match command {
        Command::Run(args) => run_one(&args, stop),
        Command::Compare(args) => args.run(stop),
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringmq-loadgen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A flag that Ctrl-C and SIGTERM raise; a second one ends the process at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let failed = |error| Error::Usage(format!("can't handle signal {signal}: {error}"));
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop)).map_err(failed)?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(failed)?;
    }
    Ok(stop)
}

fn run_one(args: &RunArgs, stop: Arc<AtomicBool>) -> Result<ExitCode, Error> {
    let scenario = args.scenario.scenario().with(&args.overrides)?;
    let mut options = args.timing.options(resolve(&args.host)?, stop);
    options.cpu = args.cpu;
    options.broker = args.broker_pid.map(|pid| Broker { pid });
    let report = run::run(&scenario, &options)?;
    print!("{report}");
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn resolve(host: &str) -> Result<SocketAddr, Error> {
    let unusable = |why: String| Error::Usage(format!("--host {host}: {why} (wanted: NAME:PORT or ADDRESS:PORT)"));
    let mut addresses = host.to_socket_addrs().map_err(|error| unusable(error.to_string()))?;
    addresses.next().ok_or_else(|| unusable("no address".to_owned()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.display().to_string(), source };
    let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
    fs::write(path, text + "\n").map_err(failed)
}
