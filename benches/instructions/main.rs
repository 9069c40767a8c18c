//! Counts the instructions of a shard's work under callgrind, and fails when a piece of it costs over 5 % more than
//! the committed record says. Instructions are the same on a busy machine and on a quiet one, so this can judge where
//! a time cannot: in continuous integration. What it does not see is the kernel, waiting for memory, and other CPUs.
//!
//! Run it by `benches/instructions.sh [--record] [SCENARIO...]`. Each scenario is a process of its own under valgrind,
//! so that none depends on what ran before it; all seeds are fixed. An example and no bench, because examples are
//! built by the profile of the broker itself, aborting panics included.

mod record;
mod scenarios;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;

use record::{RISE_MAX_PERCENT, Record, Verdict};

/// Steps before counting: memory is allocated, tables have grown.
const STEPS_BEFORE: u32 = 200;
/// Steps that are counted.
const STEPS: u32 = 200;

/// Counts instructions per operation and compares them with the record
#[derive(Parser)]
struct Arguments {
    /// Scenarios whose name contains one of these; all when none is given
    names: Vec<String>,
    /// Write the counts to the record
    #[arg(long)]
    record: bool,
    /// The record
    #[arg(long, default_value = "benches/records/instructions.tsv")]
    file: PathBuf,
    /// Where callgrind's own files go, for callgrind_annotate
    #[arg(long, default_value = "target/instructions")]
    profiles: PathBuf,
    /// The surroundings that decide whether counts can be compared: compiler, C library, valgrind
    #[arg(long, default_value = "")]
    surroundings: String,
    /// Today, for the record
    #[arg(long, default_value = "")]
    day: String,
    /// Do the work of one scenario, under valgrind
    #[arg(long, hide = true)]
    inside: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.inside {
        work(name);
        return ExitCode::SUCCESS;
    }
    let counted = count_all(&arguments).and_then(|counts| {
        let record = Record { surroundings: surroundings(&arguments), counts: counts.into_iter().collect() };
        if arguments.record { write(&arguments, record) } else { judge(&arguments, &record) }
    });
    counted.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}

fn work(name: &str) {
    let mut all = scenarios::all().into_iter();
    let scenario = all.find(|scenario| scenario.name == name).expect("named by the process that counts");
    let mut step = (scenario.prepare)();
    (0..STEPS_BEFORE).for_each(|_| step());
    counted_by_callgrind(&mut step);
    // A scenario's memory goes with the process.
    std::mem::forget(step);
}

/// Callgrind counts what happens below this function, which it knows by name.
#[inline(never)]
fn counted_by_callgrind(step: &mut scenarios::Step) {
    for _ in 0..STEPS {
        step();
    }
}

/// Counts the chosen scenarios, as many at a time as there are CPUs.
fn count_all(arguments: &Arguments) -> Result<Vec<(String, f64)>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", arguments.profiles.display());
    fs::create_dir_all(&arguments.profiles).map_err(failed)?;
    let chosen = |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|part| name.contains(part));
    let all: Vec<_> = scenarios::all().into_iter().filter(|scenario| chosen(&scenario.name)).collect();
    let all: Vec<_> = all.into_iter().map(|scenario| (scenario.name, scenario.operations)).collect();
    if all.is_empty() {
        return Err(format!("no scenario is named like {}", arguments.names.join(" or ")));
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let take = || {
        while let Some((name, operations)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let counted = count(&arguments.profiles, name);
            let per_operation = |total| (name.clone(), total as f64 / f64::from(STEPS * operations));
            results.lock().expect("no thread panics while it holds it").push(counted.map(per_operation));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(take))));
    results.into_inner().expect("the threads are done").into_iter().collect()
}

/// The instructions of one scenario's counted steps.
fn count(profiles: &Path, name: &str) -> Result<u64, String> {
    let profile = profiles.join(format!("{}.callgrind", name.replace('/', "-")));
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--toggle-collect=*counted_by_callgrind*"]);
    command.arg(format!("--callgrind-out-file={}", profile.display())).arg(own).args(["--inside", name]);
    let run = command.output().map_err(|error| format!("valgrind: {error} (Debian package: valgrind)"))?;
    if !run.status.success() {
        return Err(format!("{name}: {}\n{}", run.status, String::from_utf8_lossy(&run.stderr)));
    }
    let text = fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.filter(|total| *total > 0).ok_or_else(|| format!("{}: nothing was counted", profile.display()))
}

/// Everything that moves the counts and is no part of this repository.
fn surroundings(arguments: &Arguments) -> String {
    // Valgrind shows its guest one of a few CPUs, by what the host has; code that asks for features goes by it.
    let vectors = if std::arch::is_x86_feature_detected!("avx2") { "AVX2" } else { "no AVX2" };
    format!("{}, {vectors}", arguments.surroundings)
}

fn write(arguments: &Arguments, new: Record) -> Result<ExitCode, String> {
    let told = |error: std::io::Error| format!("{}: {error}", arguments.file.display());
    if !arguments.names.is_empty() {
        return Err("a record holds all scenarios: --record takes no names".to_owned());
    }
    fs::write(&arguments.file, new.text(&arguments.day)).map_err(told)?;
    println!("{} scenarios recorded in {}", new.counts.len(), arguments.file.display());
    Ok(ExitCode::SUCCESS)
}

/// Prints a line for each scenario and the sum that tests/run.sh reads.
fn judge(arguments: &Arguments, new: &Record) -> Result<ExitCode, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", arguments.file.display());
    let text = fs::read_to_string(&arguments.file).map_err(|error| told(&error))?;
    let record = Record::parse(&text).map_err(|line| told(&format!("not a count: {line}")))?;
    let comparable = record.surroundings == new.surroundings;
    let mut failed = 0;
    for (name, count) in &new.counts {
        let verdict = record.judge(name, *count);
        let bad = comparable && matches!(verdict, Verdict::Rose(_) | Verdict::Unknown);
        failed += usize::from(bad);
        println!("{} {name:<40} {count:>10.1} {}", if bad { "FAIL" } else { "ok  " }, remark(verdict));
    }
    let passed = new.counts.len() - failed;
    if comparable {
        println!("{passed} passed, {failed} failed");
    } else {
        println!("the record was counted with {}", record.surroundings);
        println!("these were counted with   {}: told, not judged", new.surroundings);
        println!("0 passed, 0 failed, {passed} skipped");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn remark(verdict: Verdict) -> String {
    match verdict {
        Verdict::Held(change) => format!("{change:+.1} %"),
        Verdict::Fell(change) => format!("{change:+.1} %: renew the record to keep the gain"),
        Verdict::Rose(change) => format!("{change:+.1} %, at most +{RISE_MAX_PERCENT} % is allowed"),
        Verdict::Unknown => "not in the record".to_owned(),
    }
}
