//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once. SIGHUP asks for files to
//! be read again.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// What a shell reports for a process that a signal ended is the signal's number above this.
const EXIT_BY_SIGNAL: i32 = 128;

/// The signal that asked for an orderly stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal(i32);

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == SIGINT { "SIGINT" } else { "SIGTERM" })
    }
}

/// What signals have asked for.
pub(super) struct Asked {
    /// To stop.
    pub stop: Receiver<StopSignal>,
    /// To read files again.
    pub reload: Receiver<()>,
}

/// From now on the first signal arrives here. The second is answered inside its handler, so that it ends even a
/// process whose orderly stop hangs.
pub(super) fn install() -> io::Result<Asked> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Handlers run in the order they are registered: the first signal finds the flag down, then raises it.
        flag::register_conditional_shutdown(signal, EXIT_BY_SIGNAL + signal, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (to_stop, stop) = bounded(1);
    let (to_reload, reload) = bounded(1);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                // One that waits already asks for the same.
                let _ = to_reload.try_send(());
                continue;
            }
            // No receiver: the process is on its way out already.
            let _ = to_stop.send(StopSignal(signal));
            return;
        }
    })?;
    Ok(Asked { stop, reload })
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use signal_hook::low_level::raise;

    use super::*;

    const ROLE: &str = "RINGMQ_TEST_SIGNALS";

    /// Runs one test of this binary alone, in a process of its own that knows it is the child.
    fn child(test: &str, signals: &str) -> (Option<i32>, String) {
        let name = format!("cli::signals::tests::{test}");
        let mut command = Command::new(env::current_exe().unwrap());
        let output = command.args(["--exact", &name, "--nocapture"]).env(ROLE, signals).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn the_first_signal_is_told_and_the_second_ends_the_process() {
        let Ok(signals) = env::var(ROLE) else {
            let test = "the_first_signal_is_told_and_the_second_ends_the_process";
            for (signals, told, code) in [("15 2", "SIGTERM", 130), ("2 15", "SIGINT", 143), ("15 15", "SIGTERM", 143)]
            {
                let (exit, output) = child(test, signals);
                assert_eq!(exit, Some(code), "{signals}: {output}");
                assert!(output.contains(&format!("asked to stop by {told}")), "{signals}: {output}");
                assert!(!output.contains("still there"), "{signals}: {output}");
            }
            return;
        };
        let (first, second) = signals.split_once(' ').unwrap();
        let Asked { stop, .. } = install().unwrap();
        raise(first.parse().unwrap()).unwrap();
        println!("asked to stop by {}", stop.recv().unwrap());
        raise(second.parse().unwrap()).unwrap();
        println!("still there");
    }
}
