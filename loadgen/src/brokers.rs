//! The brokers that `compare` starts: named presets or anybody's command line.

use std::env;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::error::Error;
use crate::run::pin;

/// How long a broker may take to answer on its port.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Debian's mosquitto with its defaults, apart from:
/// - `allow_anonymous`: the generator brings no password.
/// - `max_queued_messages 0` (no limit; default 1000): 200 publishers with 10 QoS 0 messages each outstanding
///   overrun the default, and mosquitto would drop the rest.
/// - `max_inflight_messages 0` (no limit; default 20): 32 outstanding QoS 1 or 2 messages would otherwise go
///   through its queue, which costs it more.
/// - `log_type error`: no line per connection.
const MOSQUITTO: &str = "\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 0
log_type error
";

/// A broker to start: its name and a shell command in which `{port}`, `{cpu}` and `{dir}` (a fresh directory)
/// are replaced. Without a command, the name is a preset's.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The name in tables.
    pub name: String,
    command: String,
}

/// Reads `NAME=COMMAND` or a preset's name.
///
/// # Errors
///
/// An unknown preset.
pub fn spec(text: &str) -> Result<Spec, String> {
    if let Some((name, command)) = text.split_once('=') {
        return Ok(Spec { name: name.to_owned(), command: command.to_owned() });
    }
    let command = match text {
        "mosquitto" => "mosquitto -c {dir}/mosquitto.conf".to_owned(),
        "ringmq" => {
            let own = env::current_exe().map_err(|error| error.to_string())?;
            let binary = own.with_file_name("ringmq");
            format!("'{}' --listen 127.0.0.1:{{port}} --shards 1 --cpus {{cpu}}", binary.display())
        }
        _ => return Err("neither NAME=COMMAND nor a preset (ringmq, mosquitto)".to_owned()),
    };
    Ok(Spec { name: text.to_owned(), command })
}

/// A running broker; dropped, it is stopped.
pub struct Running {
    child: Child,
    name: String,
    directory: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Spec {
    /// Starts the broker on a free port, pinned, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it can't be started, ends, or does not answer in time; with the end of what it wrote.
    pub fn start(&self, cpu: usize) -> Result<Running, Error> {
        let failed = |error: io::Error| Error::Broker { name: self.name.clone(), what: error.to_string() };
        let address = free_address().map_err(failed)?;
        let directory = env::temp_dir().join(format!("ringmq-loadgen-{}-{}", std::process::id(), address.port()));
        fs::create_dir(&directory).map_err(failed)?;
        let fill = |template: &str| {
            let template = template.replace("{port}", &address.port().to_string());
            template.replace("{cpu}", &cpu.to_string()).replace("{dir}", &directory.display().to_string())
        };
        fs::write(directory.join("mosquitto.conf"), fill(MOSQUITTO)).map_err(failed)?;
        let log = File::create(directory.join("log")).map_err(failed)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec {}", fill(&self.command))).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let child = spawn_pinned(command, cpu)?.map_err(failed)?;
        let mut running = Running { child, name: self.name.clone(), directory, address };
        running.wait_until_it_answers()?;
        Ok(running)
    }
}

/// A child inherits the CPUs of the thread that starts it.
fn spawn_pinned(mut command: Command, cpu: usize) -> Result<io::Result<Child>, Error> {
    let spawn = move || pin(Some(cpu)).map(|()| command.spawn());
    thread::spawn(spawn).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

impl Running {
    /// Its process.
    pub fn process(&self) -> Broker {
        Broker { pid: self.child.id() }
    }

    fn wait_until_it_answers(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(self.failed(&format!("ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("does not answer on {} after {START_LIMIT:?}", self.address)));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn failed(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let tail: String = lines.iter().rev().map(|line| format!("\n  | {line}")).collect();
        Error::Broker { name: self.name.clone(), what: format!("{what}{tail}") }
    }

    fn stop(&mut self) -> io::Result<()> {
        let pid = libc::pid_t::try_from(self.child.id()).map_err(io::Error::other)?;
        // SAFETY: no memory is involved, and the child is not waited for yet, so that the pid is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
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
    use super::*;

    #[test]
    fn a_command_keeps_its_own_equals_signs() {
        let spec = spec("x=run --a=b").unwrap();
        assert_eq!((spec.name.as_str(), spec.command.as_str()), ("x", "run --a=b"));
    }

    #[test]
    fn an_unknown_preset_is_refused() {
        assert!(spec("nosuch").is_err());
    }

    #[test]
    fn a_broker_that_ends_at_once_is_told_with_its_last_words() {
        let error = spec("x=sh -c 'echo no license; exit 3'").unwrap().start(0).err().unwrap().to_string();
        assert!(error.contains("no license") && error.contains('3'), "{error}");
    }
}
