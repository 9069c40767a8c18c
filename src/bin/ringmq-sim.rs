//! `ringmq-sim`: runs the simulator. One seed replays one run, on any machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use ringmq::sim::plan::Plan;
use ringmq::sim::rng::Rng;
use ringmq::sim::simulation::Report;
use ringmq::sim::{strain, subject};

/// How many seeds the fixed list holds.
const FIXED: u64 = 60;

/// Simulates whole brokers with hundreds of clients on virtual time and checks what they do.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Replay the run of one seed.
    #[arg(long, conflicts_with_all = ["fixed", "seconds"])]
    seed: Option<u64>,
    /// With --seed: tell every event on standard error.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run the fixed list of seeds.
    #[arg(long)]
    fixed: bool,
    /// Run random seeds for so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut tally = Tally::default();
    if let Some(seed) = arguments.seed {
        tally.run(seed, arguments.trace);
    }
    if arguments.fixed || (arguments.seed.is_none() && arguments.seconds.is_none()) {
        (0..FIXED).for_each(|seed| tally.run(seed, false));
    }
    if let Some(seconds) = arguments.seconds {
        let end = Instant::now() + Duration::from_secs(seconds);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let mut seeds = Rng::new(now);
        while Instant::now() < end {
            tally.run(seeds.draw() >> 16, false);
        }
    }
    println!("{} messages published, {} deliveries", tally.messages, tally.deliveries);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    messages: usize,
    deliveries: usize,
}

impl Tally {
    fn run(&mut self, seed: u64, trace: bool) {
        match catch_unwind(AssertUnwindSafe(|| simulate(seed, trace))) {
            Ok(report) => {
                self.passed += 1;
                self.messages += report.messages;
                self.deliveries += report.deliveries;
            }
            Err(_) => {
                self.failed += 1;
                println!("seed {seed} failed; replay it with: cargo run --bin ringmq-sim -- --seed {seed} --trace");
            }
        }
    }
}

fn simulate(seed: u64, trace: bool) -> Report {
    let strained = strain::run(seed, trace);
    let report = subject::simulation(Plan::new(seed), trace).run();
    Report {
        messages: report.messages + strained.messages,
        deliveries: report.deliveries + strained.deliveries,
        ..report
    }
}
