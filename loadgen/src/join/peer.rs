//! One worker as its coordinator sees it: orders go out, and a thread of its own reads what comes.

use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::clock::{self, Offset};
use super::frame::{self, Frame, HELLO_LENGTH_MAX, LENGTH_MAX};
use super::message::{Answer, Greeting, Host, Order, PROGRAM, PROTOCOL};
use crate::engine::{Outcome, Status};
use crate::measure::{Sample, wire};

/// How long a worker may take to answer before it counts as gone: its host may be, and say nothing.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long whoever connects may take to say who it is; meanwhile others wait.
const GREETING_LIMIT: Duration = Duration::from_secs(3);

/// A worker.
pub(super) struct Peer {
    /// Its name and address.
    pub name: String,
    /// What it said of itself.
    pub host: Host,
    /// How far its clock is from ours.
    pub offset: Offset,
    stream: TcpStream,
    heard: Arc<Heard>,
    /// How many orders it was given since it was loaded.
    orders: u32,
}

/// What a worker has said so far.
#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pong: Option<Offset>,
    loaded: bool,
    status: Option<(u32, Status)>,
    sent: Option<Vec<u32>>,
    interrupted: bool,
    finished: Option<Outcome>,
    failed: Option<String>,
}

impl Peer {
    /// Receives a worker: hears who it is, and measures its clock.
    ///
    /// # Errors
    ///
    /// Those of the connection, and whoever is no worker of this version; it is told so.
    pub fn receive(stream: TcpStream, address: SocketAddr, samples: Sender<Sample>) -> io::Result<Peer> {
        frame::prepare(&stream)?;
        stream.set_read_timeout(Some(GREETING_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let host = greet(&stream)?;
        // Whoever falls silent from here on is missed when it is asked something.
        stream.set_read_timeout(None)?;
        let heard = Arc::new(Heard::default());
        let reader = Reader { stream: stream.try_clone()?, heard: Arc::clone(&heard), samples };
        thread::Builder::new().name(format!("worker {address}")).spawn(move || reader.run())?;
        let name = format!("{} ({address})", host.name);
        let mut peer = Peer { name, host, offset: Offset::default(), stream, heard, orders: 0 };
        let offset = peer.measure_clock().map_err(io::Error::other)?;
        let one_boot = peer.host.boot_id.is_some() && peer.host.boot_id == clock::boot_id();
        // Of one boot and yet apart: in a time namespace of its own.
        peer.offset = if one_boot && offset.may_be_none() { Offset::default() } else { offset };
        Ok(peer)
    }

    /// Several round trips, of which the shortest counts.
    ///
    /// # Errors
    ///
    /// What became of the worker, in words.
    pub fn measure_clock(&mut self) -> Result<Offset, String> {
        let mut best: Option<Offset> = None;
        for _ in 0..clock::ROUND_TRIPS {
            self.heard.lock().pong = None;
            self.say(&Order::Ping { asked_ns: clock::monotonic_ns() })?;
            let offset = self.wait(|state| state.pong.take())?;
            best = Some(best.map_or(offset, |best| best.better(offset)));
        }
        Ok(best.unwrap_or_default())
    }

    /// Says something that is no order.
    ///
    /// # Errors
    ///
    /// What became of the worker, in words.
    pub fn say(&mut self, order: &Order) -> Result<(), String> {
        frame::say(&mut self.stream, order).map_err(|error| {
            // What it said before it went is nearer to the cause.
            self.heard.lock().failed.clone().unwrap_or_else(|| format!("went away: {error}"))
        })
    }

    /// Gives an order. A worker that is gone is noticed by [`Self::status`].
    pub fn order(&mut self, order: &Order) {
        self.orders += 1;
        if let Err(why) = self.say(order) {
            self.heard.lock().failed.get_or_insert(why);
        }
    }

    /// Waits until its threads run.
    pub fn loaded(&self) -> Result<(), String> {
        self.wait(|state| state.loaded.then_some(()))
    }

    /// How far it is, all orders carried out.
    pub fn status(&self) -> Result<Status, String> {
        // The last status of a worker that is gone says nothing any more.
        self.failure().map_or(Ok(()), Err)?;
        self.wait(|state| state.status.filter(|(orders, _)| *orders == self.orders).map(|(_, status)| status))
    }

    /// What it sent, in answer to the order.
    pub fn sent(&self) -> Result<Vec<u32>, String> {
        self.wait(|state| state.sent.take())
    }

    /// Its last word.
    pub fn finished(&self) -> Result<Outcome, String> {
        self.wait(|state| state.finished.take())
    }

    /// Whether its operator wants the run to end.
    pub fn interrupted(&self) -> bool {
        self.heard.lock().interrupted
    }

    /// It can't go on, or is gone; it may not have said why yet.
    pub fn has_failed(&self) -> bool {
        let state = self.heard.lock();
        state.failed.is_some() || state.status.is_some_and(|(_, status)| status.failed)
    }

    /// What went wrong, if something did.
    pub fn failure(&self) -> Option<String> {
        self.heard.lock().failed.clone()
    }

    fn wait<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> Result<T, String> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut state = self.heard.lock();
        loop {
            if let Some(value) = ready(&mut state) {
                return Ok(value);
            }
            if let Some(why) = &state.failed {
                return Err(why.clone());
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                // Once is enough: it isn't waited for again.
                let why = format!("does not answer for {ANSWER_LIMIT:?}");
                return Err(state.failed.insert(why).clone());
            };
            let waited = self.heard.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ends the reader too; a connection that is gone already needs no end.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Hears who it is and says whether it may stay.
fn greet(mut stream: &TcpStream) -> io::Result<Host> {
    let greeting = match frame::read(&mut stream, HELLO_LENGTH_MAX)? {
        Some(Frame::Said(greeting)) => greeting,
        Some(Frame::Sample(_)) => return Err(io::ErrorKind::InvalidData.into()),
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    let Greeting { protocol, program, host } = greeting;
    if let (PROTOCOL, PROGRAM, Some(host)) = (protocol, program.as_str(), host) {
        frame::say(&mut stream, &Order::Welcome)?;
        return Ok(host);
    }
    let why = format!(
        "it is version {program} (protocol {protocol}), the coordinator {PROGRAM} (protocol {PROTOCOL}): use the same \
         version everywhere"
    );
    frame::say(&mut stream, &Order::Refused { why: why.clone() })?;
    Err(io::Error::other(why))
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with it left plain values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that reads.
struct Reader {
    stream: TcpStream,
    heard: Arc<Heard>,
    samples: Sender<Sample>,
}

impl Reader {
    fn run(self) {
        let mut from = BufReader::with_capacity(1 << 16, &self.stream);
        let why = loop {
            match frame::read(&mut from, LENGTH_MAX) {
                Ok(Some(Frame::Said(answer))) => self.heard(answer),
                Ok(Some(Frame::Sample(bytes))) => match wire::decode(&bytes) {
                    // Nobody wants samples any more when the run is over.
                    Ok(sample) => drop(self.samples.send(sample)),
                    Err(error) => break error.to_string(),
                },
                Ok(None) => break "went away: it closed the connection".to_owned(),
                Err(error) => break format!("went away: {error}"),
            }
        };
        let mut state = self.heard.lock();
        if state.finished.is_none() {
            state.failed.get_or_insert(why);
        }
        self.heard.changed.notify_all();
    }

    fn heard(&self, answer: Answer) {
        let now = clock::monotonic_ns();
        let mut state = self.heard.lock();
        match answer {
            Answer::Pong { asked_ns, answer_ns } => state.pong = Some(Offset::of_round_trip(asked_ns, answer_ns, now)),
            Answer::Loaded => state.loaded = true,
            Answer::Status { orders, status } => state.status = Some((orders, status)),
            Answer::Sent(sent) => state.sent = Some(sent),
            Answer::Interrupted => state.interrupted = true,
            Answer::Finished(outcome) => state.finished = Some(outcome),
            Answer::Failed { why } => {
                state.failed.get_or_insert(why);
            }
        }
        self.heard.changed.notify_all();
    }
}
