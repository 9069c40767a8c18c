//! `ringmq tune`: check, apply, revert, print.
//!
//! The exit codes are those of monitoring plug-ins, so that a check can be one: 0 as wanted, 1 a warning, 2 a failure, 3
//! could not be done (wrong command line, no rights, an unreadable record).

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::doctor::allowed_cpus;
use crate::doctor::tune::{
    Count, Done, Form, Outcome, Role, Row, Selection, State, Target, apply, check, print, revert, table,
};

const WARN: u8 = 1;
const FAIL: u8 = 2;
const UNKNOWN: u8 = 3;

/// The command and its own help.
#[derive(Args)]
#[command(
    after_help = "Exit codes, as monitoring plug-ins have them: 0 as wanted (or done), 1 something is lost under \
    load (or could not be set), 2 it does not run or does not hold that many, 3 it could not be done at all.\n\n\
    The table with the reason for each knob: tuning/README.md."
)]
pub(super) struct Tune {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List every knob: what it is, what is wanted, OK, WARN or FAIL
    Check {
        #[command(flatten)]
        host: Host,
        /// Limits and control groups of this process, a running broker, instead of one's own
        #[arg(long, value_name = "PID")]
        pid: Option<u32>,
        /// Say of each that is not as wanted why it matters, what it costs and how it shows
        #[arg(long)]
        why: bool,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Set the sysctls and /sys knobs that are not as wanted, keeping what they were
    Apply {
        #[command(flatten)]
        host: Host,
        /// Only these, by the names that check tells; also such as are only advised
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        only: Vec<String>,
        /// Say what would be done, do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Restore what was before the first apply
    Revert {
        /// Say what would be done, do nothing
        #[arg(long)]
        dry_run: bool,
        /// Restore also what somebody else has changed since
        #[arg(long)]
        force: bool,
        /// Take /proc, /sys and the record from below this directory (for tests)
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Print a file made from the table, for a host of this size
    Print {
        /// Which
        form: Form,
        #[command(flatten)]
        host: Host,
    },
}

/// The host and its load.
#[derive(Args)]
struct Host {
    /// Connections to be held
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    connections: u64,
    /// Shards, or CPUs that run generator threads [default: the CPUs that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=8192))]
    cores: Option<u64>,
    /// Memory of the host in GiB [default: what it has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    memory_gib: Option<u64>,
    /// What runs on the host
    #[arg(long, value_enum, default_value_t)]
    role: Role,
    /// Take /proc, /sys and the record from below this directory (for tests)
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

impl Host {
    fn target(&self) -> Target {
        let cores = self.cores.unwrap_or_else(|| allowed_cpus(&self.root).as_slice().len() as u64);
        let target = Target::of_host(&self.root, cores);
        let memory = self.memory_gib.map_or(target.memory, |gib| gib << 30);
        Target { connections: self.connections, memory, role: self.role, ..target }
    }
}

/// Ends the process for a command line that cannot be read; `tune`'s own code for that leaves 2 to a failed check.
pub(super) fn refuse(error: &clap::Error) -> ! {
    let is_tune = std::env::args_os().nth(1).is_some_and(|command| command == "tune");
    if !is_tune || error.exit_code() == 0 {
        error.exit();
    }
    // Nothing is to be done about a terminal that is gone.
    let _ = error.print();
    std::process::exit(i32::from(UNKNOWN))
}

impl Tune {
    /// Does it, and says how it went.
    pub(super) fn run(&self) -> ExitCode {
        match &self.command {
            Command::Check { host, pid, why, json } => run_check(host, *pid, *why, *json),
            Command::Apply { host, only, dry_run } => {
                let selection = Selection { only: only.clone(), dry_run: *dry_run };
                report(apply(&host.root, table(), &host.target(), &selection), *dry_run)
            }
            Command::Revert { dry_run, force, root } => report(revert(root, *dry_run, *force), *dry_run),
            Command::Print { form, host } => match print(*form, &host.target()) {
                Ok(text) => {
                    print!("{text}");
                    ExitCode::SUCCESS
                }
                Err(error) => unknown(&error),
            },
        }
    }
}

fn unknown(error: &dyn Display) -> ExitCode {
    eprintln!("ringmq tune: {error}");
    ExitCode::from(UNKNOWN)
}

fn run_check(host: &Host, pid: Option<u32>, why: bool, json: bool) -> ExitCode {
    let target = host.target();
    if let Some(pid) = pid.filter(|pid| !host.root.join(format!("proc/{pid}/limits")).exists()) {
        return unknown(&format!("--pid: there is no process {pid}, or it is not yours to look at"));
    }
    let rows = match check(&host.root, table(), &target, pid) {
        Ok(rows) => rows,
        Err(error) => return unknown(&error),
    };
    let count = Count::of(&rows);
    if json {
        println!("{}", serde_json::json!({ "target": target, "count": count, "knobs": rows }));
    } else {
        list(&rows, why);
        summary(&target, count, host.root == Path::new("/"));
    }
    match (count.fail, count.warn) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(WARN),
        _ => ExitCode::from(FAIL),
    }
}

fn list(rows: &[Row], why: bool) {
    let width = |of: fn(&Row) -> usize, name: &str| rows.iter().map(of).max().unwrap_or(0).max(name.len());
    let knob = width(|row| row.knob.len(), "knob");
    let current = width(|row| row.current.as_ref().map_or(1, String::len), "current");
    let wanted = width(|row| row.wanted.len(), "wanted");
    println!("{:<knob$}  {:<current$}  {:<wanted$}  state", "knob", "current", "wanted");
    for row in rows {
        let value = row.current.as_deref().unwrap_or("-");
        println!("{:<knob$}  {value:<current$}  {:<wanted$}  {}", row.knob, row.wanted, word(row.state));
        if let (true, Some(remedy)) = (why, &row.remedy) {
            println!("    why:   {}\n    cost:  {}\n    bites: {}\n    do:    {remedy}", row.why, row.cost, row.bites);
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "OK",
        State::Absent => "absent",
        State::Note => "note",
        State::Warn => "WARN",
        State::Fail => "FAIL",
    }
}

fn summary(target: &Target, count: Count, is_host: bool) {
    let Target { connections, cores, .. } = target;
    let Count { ok, absent, note, warn, fail } = count;
    println!(
        "\n{connections} connections on {cores} cores: {fail} FAIL, {warn} WARN, {ok} OK, {note} of advice, {absent} not on this host"
    );
    if fail + warn > 0 && is_host {
        println!("ringmq tune check --why says what each is about, ringmq tune apply sets what can be set.");
    }
}

fn report(done: Result<Vec<Done>, impl Display>, dry_run: bool) -> ExitCode {
    let done = match done {
        Ok(done) => done,
        Err(error) => return unknown(&error),
    };
    for each in &done {
        println!("{each}");
    }
    let changed = done.iter().filter(|each| matches!(each.what, Outcome::Changed { .. })).count();
    let failed = done.iter().filter(|each| each.what.is_failure()).count();
    if done.is_empty() {
        println!("nothing to do: nothing has been applied, or it is reverted already");
        return ExitCode::SUCCESS;
    }
    let would = if dry_run { "would be changed (dry run)" } else { "changed" };
    println!("\n{changed} {would}, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(WARN) }
}
