//! Doing what was asked for: each command from its arguments to its exit code.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::{Cli, Command, JoinOptions, Prepared, ReportFiles, Run, WorkerOptions, list, show};
use crate::engine::{Clock, Conducted, Crew, Engine, Error, Setup, Slice, conduct, tick_for};
use crate::measure::broker::Broker;
use crate::net;
use crate::plan::Plan;
use crate::report::{self, Progress, Report, Subject, Watch};
use crate::{compare, join};

/// The exit code of a run that was done, but in which a check failed.
const CHECK_FAILED: u8 = 1;
/// The exit code when there is no result: nothing was begun, or it could not be ended.
const NO_RESULT: u8 = 2;

/// Whatever stands in the way of a result; each says what to do.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Who joined a run.
type Roster = Arc<Mutex<Vec<join::Joined>>>;

/// Does what the command line asks for. Exit codes: 0 all is well, 1 a check failed (loss, duplicates, a dropped
/// connection…), 2 there is no result.
pub fn execute(cli: Cli) -> ExitCode {
    raise_open_files_limit();
    let done = match cli.command {
        Command::Run(run) => stop_flag().and_then(|stop| one_run(&run, &stop)),
        Command::Compare(compare) => stop_flag().and_then(|stop| Ok(compare_brokers(&compare, &stop)?)),
        Command::Worker(worker) => stop_flag().and_then(|stop| work(&worker, &stop)),
        Command::Report(files) => lay_side_by_side(&files).map(|()| true),
        Command::List => list(&mut io::stdout().lock()).map(|()| true).map_err(Failure::from),
        Command::Show { scenario } => show(&scenario, &mut io::stdout().lock()).map(|()| true).map_err(Failure::from),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => CHECK_FAILED.into(),
        Err(error) => {
            eprintln!("ringmq-loadgen: {error}");
            NO_RESULT.into()
        }
    }
}

/// Each thread's descriptor table may be as large as the limit on open files. A failure leaves the limit as it was:
/// then the check before a run says what does not fit.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// A flag that Ctrl-C and SIGTERM raise: the run ends in order. A second signal ends the process at once.
fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, NO_RESULT.into(), Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn compare_brokers(compare: &compare::Compare, stop: &AtomicBool) -> Result<bool, compare::Error> {
    compare.run(stop)
}

fn one_run(run: &Run, stop: &Arc<AtomicBool>) -> Result<bool, Failure> {
    let Prepared { plan, means, transport } = run.prepare()?;
    let options = &run.options;
    check_output(options.output.json.as_ref(), options.output.out.as_ref())?;
    let broker = options.target.broker_pid.map(Broker::watch).transpose()?;
    let progress = if options.output.quiet { Progress::none(&plan) } else { Progress::new(&plan) };
    let (tick, clock) = (tick_for(&plan.timing), Clock::start());
    let target = means.hosts.iter().map(SocketAddr::to_string).collect();
    let (crew, roster): (Box<dyn Crew>, _) = match options.join.workers {
        None => (engine(&plan, means, transport, tick, clock)?, Roster::default()),
        Some(_) => joined(&options.join, &plan, &means.hosts, (tick, clock), stop)?,
    };
    let mut watch = Watch::new(tick, broker, progress);
    let conducted = conduct(crew, &plan, tick, clock, stop, &mut watch)?;
    // Only now is known how far the workers' clocks drifted.
    let workers = roster.lock().iter().flat_map(|joined| joined.iter()).map(join::Joined::to_string).collect();
    let strict = options.output.strict;
    let subject = Subject { plan: &plan, target, command: std::env::args().collect(), workers, strict };
    let report = Report::new(&subject, watch.finish(), &conducted);
    tell(&report, options.output.json.as_ref(), options.output.out.as_ref())?;
    measured(&conducted)?;
    Ok(report.verdict().passed())
}

/// Whether there is a result at all: a run that ended before its window began proves nothing, whatever its checks say.
fn measured(conducted: &Conducted) -> Result<(), Failure> {
    match (conducted.window.is_empty(), conducted.interrupted) {
        (false, _) => Ok(()),
        (true, true) => Err(Error::Interrupted.into()),
        (true, false) => Err("nothing was measured: the run ended before the first tick of its window was over".into()),
    }
}

fn engine(
    plan: &Plan,
    means: super::preflight::Means,
    transport: net::Transport,
    tick: std::time::Duration,
    clock: Clock,
) -> Result<Box<dyn Crew>, Failure> {
    let setup = Setup {
        plan: Arc::new(plan.clone()),
        hosts: means.hosts,
        transport,
        source_addresses: means.sources,
        cpus: means.cpus,
        slice: Slice::WHOLE,
        tick,
        clock,
        run: fastrand::u64(..),
    };
    Ok(Box::new(Engine::start(setup)?))
}

fn joined(
    options: &JoinOptions,
    plan: &Plan,
    hosts: &[SocketAddr],
    (tick, clock): (std::time::Duration, Clock),
    stop: &Arc<AtomicBool>,
) -> Result<(Box<dyn Crew>, Roster), Failure> {
    let wanted = usize::from(options.workers.unwrap_or_default());
    let gathering = join::gather(options.join_listen, wanted, Arc::clone(stop), |line| eprintln!("{line}"))?;
    let workers = gathering.load(plan, hosts, tick, clock)?;
    let roster = workers.roster();
    Ok((Box::new(workers), roster))
}

fn tell(report: &Report, json: Option<&PathBuf>, out: Option<&PathBuf>) -> Result<(), Failure> {
    if let Some(path) = json {
        std::fs::write(path, report.json()).map_err(|error| format!("--json {}: {error}", path.display()))?;
    }
    if let Some(directory) = out {
        report.write(directory)?;
    }
    // Last: whoever reads it may have gone (`| head`), and the files are to be there all the same.
    let mut text = report.to_string();
    if let Some(directory) = out {
        text += &format!("written to {}: open report.html in a browser\n", directory.display());
    }
    say(&text)
}

/// Writes to standard output. That nobody reads it (to the end) is no failure.
fn say(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}").into()),
        _ => Ok(()),
    }
}

/// Finds out before the run, not after it, that its results can't be kept.
fn check_output(json: Option<&PathBuf>, out: Option<&PathBuf>) -> Result<(), Failure> {
    if let Some(path) = json {
        probe(path).map_err(|error| {
            format!("--json {}: {error}\n  remedy: name a file that can be written", path.display())
        })?;
    }
    if let Some(directory) = out {
        let remedy = "name a directory that can be made and written to";
        std::fs::create_dir_all(directory)
            .and_then(|()| probe(&directory.join("result.json")))
            .map_err(|error| format!("--out {}: {error}\n  remedy: {remedy}", directory.display()))?;
    }
    Ok(())
}

/// Opens a file for writing, and leaves everything as it was.
fn probe(path: &Path) -> io::Result<()> {
    let was_there = path.exists();
    std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    if was_there { Ok(()) } else { std::fs::remove_file(path) }
}

fn work(options: &WorkerOptions, stop: &AtomicBool) -> Result<bool, Failure> {
    let hosts = options.host.iter().map(|host| host.resolve()).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = hosts.iter().copied().zip(options.host.iter().map(|host| host.name().to_owned())).collect();
    let transport = options.transport.clone();
    let worker = join::Worker {
        coordinator: options.join.clone(),
        name: options.name.clone(),
        cpus: options.generator.threads()?,
        source_addresses: options.generator.sources(),
        hosts,
        transport: Box::new(move |kind, hosts| {
            // What the coordinator calls the broker is not known here, only its address.
            let of_coordinator = hosts.iter().map(|address| (*address, address.ip().to_string()));
            let names = names.iter().cloned().chain(of_coordinator).collect();
            transport.load(kind, names).map_err(|error| error.to_string())
        }),
    };
    let outcome = join::work(&worker, stop, |line| eprintln!("{line}"))?;
    if stop.load(Ordering::Relaxed) {
        eprintln!("ended early");
    }
    Ok(outcome.is_clean())
}

fn lay_side_by_side(files: &ReportFiles) -> Result<(), Failure> {
    let runs = report::read_all(&files.files)?;
    say(&report::side_by_side(&runs))?;
    if let Some(path) = &files.html {
        std::fs::write(path, report::overlay(&runs)).map_err(|error| format!("--html {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_ended_before_its_window_is_no_success() {
        let conducted =
            |window, interrupted| Conducted { window, phases: Vec::new(), outcome: Default::default(), interrupted };
        assert!(measured(&conducted(3..5, true)).is_ok(), "what there is of a window counts");
        assert!(measured(&conducted(0..0, true)).unwrap_err().to_string().contains("before the measurement began"));
        assert!(measured(&conducted(0..0, false)).is_err());
    }

    #[test]
    fn results_that_could_not_be_kept_are_told_before_the_run() {
        let error = |json: Option<&str>, out: Option<&str>| {
            let [json, out] = [json, out].map(|path| path.map(PathBuf::from));
            check_output(json.as_ref(), out.as_ref()).unwrap_err().to_string()
        };
        assert!(error(Some("/no/such/directory/a.json"), None).starts_with("--json /no/such/directory/a.json: "));
        assert!(error(None, Some("/dev/null/x")).starts_with("--out /dev/null/x: "));
        let directory = std::env::temp_dir().join(format!("ringmq-loadgen-out-{}", std::process::id()));
        assert!(check_output(None, Some(&directory)).is_ok());
        std::fs::remove_dir(&directory).unwrap();
    }
}
