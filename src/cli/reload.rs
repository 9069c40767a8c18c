//! Files that are read again while the broker runs: on SIGHUP, and when they have changed.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Reads something again if its files have changed; told to insist, in any case. It says itself what came of it.
pub(super) type Reload = Box<dyn Fn(bool) + Send>;

/// Starts the thread that does so, until the process is asked to stop.
pub(super) fn start(reloads: Vec<Reload>, asked: Receiver<()>) -> io::Result<()> {
    let watch = move || {
        loop {
            let insist = match asked.recv_timeout(LOOK_EVERY) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            reloads.iter().for_each(|reload| reload(insist));
        }
    };
    thread::Builder::new().name("reload".to_owned()).spawn(watch).map(drop)
}
