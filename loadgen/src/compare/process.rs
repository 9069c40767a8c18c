//! A broker's process: started pinned on a free port, waited for, and stopped when dropped.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Error;
use super::brokers::{Places, Spec};

/// How long a broker may take to answer on its port.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// What a shell returns for a command that is not there.
const NOT_FOUND: i32 = 127;

/// Where and for whom a broker is started.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The CPUs it is pinned to.
    pub cpus: Vec<usize>,
    /// How many shards or threads it is told to have.
    pub shards: usize,
    /// The protocol level of the clients: 3, 4 or 5.
    pub level: u8,
}

impl Placement {
    /// One shard for each of these CPUs.
    pub fn on(cpus: &[usize]) -> Self {
        Self { cpus: cpus.to_vec(), shards: cpus.len(), level: 4 }
    }
}

/// A running broker; dropped, it is stopped.
pub struct Running {
    child: Child,
    name: String,
    install: &'static str,
    directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Starts a broker on a free port of 127.0.0.1, pinned, and waits until it answers.
///
/// # Errors
///
/// When it can't be started, ends, or does not answer in time; with the end of what it wrote.
pub fn start(spec: &Spec, placement: &Placement) -> Result<Running, Error> {
    let failed = |error: io::Error| Error::Broker { name: spec.name.clone(), what: error.to_string() };
    let address = free_address().map_err(failed)?;
    let directory = env::temp_dir().join(format!("ringmq-loadgen-{}-{}", std::process::id(), address.port()));
    fs::create_dir(&directory).map_err(failed)?;
    let cpus = list(&placement.cpus);
    let Placement { shards, level, .. } = *placement;
    let places = Places { port: address.port(), cpus: &cpus, shards, directory: &directory, level };
    if let Some((name, template)) = spec.file {
        fs::write(directory.join(name), places.fill(template)).map_err(failed)?;
    }
    let log = File::create(directory.join("log")).map_err(failed)?;
    let mut command = shell(&places.fill(&spec.command));
    command.stdout(log.try_clone().map_err(failed)?).stderr(log);
    let child = spawn_pinned(command, &placement.cpus).map_err(failed)?;
    let mut running = Running { child, name: spec.name.clone(), install: spec.install, directory, address };
    running.wait_until_it_answers()?;
    Ok(running)
}

/// CPUs as a list like `0,1`.
fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// A command line that becomes the shell's own process, so that its identifier is the broker's.
fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("exec {line}")).stdin(Stdio::null());
    // Where Debian puts daemons, and cargo programs, is not in everybody's PATH.
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/usr/local/sbin");
    if let Some(home) = env::var_os("HOME") {
        path.push(":");
        path.push(home);
        path.push("/.cargo/bin");
    }
    command.env("PATH", path);
    command
}

/// A child inherits the CPUs of the thread that starts it.
fn spawn_pinned(mut command: Command, cpus: &[usize]) -> io::Result<Child> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    let pinned = move || {
        sched_setaffinity(None, &set).map_err(|error| {
            let hint = "are they online, and allowed by taskset or a cgroup?";
            io::Error::other(format!("can't run on these CPUs ({error}): {hint}"))
        })?;
        command.spawn()
    };
    thread::spawn(pinned).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

impl Running {
    /// Its process identifier.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_it_answers(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait().ok().flatten() {
                return Err(self.ended(status));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("does not answer on {} after {START_LIMIT:?}", self.address)));
            }
            // A process offers nothing to await before its first byte: look again soon.
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn ended(&self, status: ExitStatus) -> Error {
        match status.code() {
            Some(NOT_FOUND) if !self.install.is_empty() => self.failed(&format!("is not installed: {}", self.install)),
            _ => self.failed(&format!("ended at once ({status})")),
        }
    }

    fn failed(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let tail: String = lines.iter().rev().map(|line| format!("\n  | {line}")).collect();
        Error::Broker { name: self.name.clone(), what: format!("{what}{tail}") }
    }

    fn stop(&mut self) -> io::Result<()> {
        // Not waited for yet, so that the identifier is still its own.
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Waited for already when it ended by itself: then there is nothing to signal.
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.stop()
        {
            eprintln!("broker {} could not be stopped: {error}", self.name);
        }
        // A leftover in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::super::brokers::spec;
    use super::*;

    fn refusal(text: &str) -> String {
        start(&spec(text).unwrap(), &Placement::on(&[0])).err().unwrap().to_string()
    }

    #[test]
    fn a_broker_that_ends_at_once_is_told_with_its_last_words() {
        let refusal = refusal("x=sh -c 'echo no license; exit 3'");
        assert!(refusal.contains("no license") && refusal.contains('3'), "{refusal}");
    }

    #[test]
    fn a_preset_that_is_not_installed_says_how_one_gets_it() {
        let command = "no-such-program-here".to_owned();
        let spec = Spec { name: "x".to_owned(), command, file: None, levels: &[4], install: "get it there" };
        let refusal = start(&spec, &Placement::on(&[0])).err().unwrap().to_string();
        assert!(refusal.contains("not installed: get it there"), "{refusal}");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        let refusal = start(&spec("x=sleep 9").unwrap(), &Placement::on(&[1000])).err().unwrap().to_string();
        assert!(refusal.contains("can't run on these CPUs"), "{refusal}");
    }

    #[test]
    fn a_broker_runs_on_the_cpus_it_was_given_and_is_gone_when_dropped() {
        let listens =
            "x=python3 -c 'import socket,time; s=socket.create_server((\"127.0.0.1\",{port})); time.sleep(60)'";
        let running = start(&spec(listens).unwrap(), &Placement::on(&[0])).unwrap();
        let (pid, directory) = (running.pid(), running.directory.clone());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        drop(running);
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists() && !directory.exists());
    }
}
