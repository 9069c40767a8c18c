//! The worker's side: join a coordinator, and obey until it says that the run is over.

use std::io::{self, BufReader};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use super::Error;
use super::clock;
use super::frame::{self, Frame, LENGTH_MAX};
use super::message::{Answer, Greeting, Host, Load, Order, PROGRAM, PROTOCOL};
use crate::engine::{self, Clock, Crew, Engine, Outcome, Setup};
use crate::measure::{Sample, wire};
use crate::{net, plan};

/// How often a worker says how far it is.
const STATUS_EVERY: Duration = Duration::from_millis(20);

/// Reads what a transport of the plan needs of this host, for brokers at these addresses.
pub type LoadTransport = dyn Fn(plan::Transport, &[SocketAddr]) -> Result<net::Transport, String> + Send;

/// What a worker's operator chooses; everything else comes from the coordinator.
pub struct Worker {
    /// Whom to join, as `HOST:PORT`.
    pub coordinator: String,
    /// What to be called in messages; the host's name if `None`.
    pub name: Option<String>,
    /// One engine thread for each, pinned if a CPU is given. At least one.
    pub cpus: Vec<Option<usize>>,
    /// Local addresses that connections are made from, in turn; empty: the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
    /// Where the broker is as seen from here; empty: where the coordinator says.
    pub hosts: Vec<SocketAddr>,
    /// How TLS and WebSocket are spoken from here.
    pub transport: Box<LoadTransport>,
}

/// Joins a coordinator, obeys it, and returns what was left of this worker's share. When `stop` is raised the
/// coordinator is asked to end the run in order. `tell` is called with what an operator wants to know.
///
/// # Errors
///
/// No coordinator there, one of another version, one that went away; a share that can't be run.
pub fn work(worker: &Worker, stop: &AtomicBool, tell: impl FnMut(&str)) -> Result<Outcome, Error> {
    work_by(worker, stop, tell, |setup| Ok(Box::new(Engine::start(setup)?)))
}

/// The same, with whatever crew does it.
pub(super) fn work_by(
    worker: &Worker,
    stop: &AtomicBool,
    mut tell: impl FnMut(&str),
    start: impl FnOnce(Setup) -> Result<Box<dyn Crew>, engine::Error>,
) -> Result<Outcome, Error> {
    let link = Link::join(worker)?;
    tell(&format!("joined {}; waiting for the others and for the plan", worker.coordinator));
    let load = link.await_load(stop)?;
    let Load { plan, slice, .. } = &load;
    tell(&format!("share {} of {} of {}", slice.index + 1, slice.of, plan.name));
    let crew = match setup(worker, load).and_then(start) {
        Ok(crew) => crew,
        Err(error) => return link.close(Err(error.into())),
    };
    let shift = Shift { link: &link, crew, orders: 0, stopped: false, told: Instant::now() };
    let outcome = link.say(&Answer::Loaded).and_then(|()| shift.run(stop));
    link.close(outcome)
}

fn setup(worker: &Worker, load: Load) -> Result<Setup, engine::Error> {
    let hosts = if worker.hosts.is_empty() { load.hosts } else { worker.hosts.clone() };
    Ok(Setup {
        transport: (worker.transport)(load.plan.transport, &hosts).map_err(engine::Error::Plan)?,
        plan: Arc::new(load.plan),
        hosts,
        source_addresses: worker.source_addresses.clone(),
        cpus: worker.cpus.clone(),
        slice: load.slice,
        tick: Duration::from_nanos(load.tick_ns),
        clock: Clock::with_origin(load.origin_ns),
        run: load.run,
    })
}

fn host(worker: &Worker) -> Host {
    let system = rustix::system::uname();
    let name = || system.nodename().to_string_lossy().into_owned();
    Host {
        name: worker.name.clone().unwrap_or_else(name),
        kernel: system.release().to_string_lossy().into_owned(),
        cores: thread::available_parallelism().map_or(1, NonZero::get),
        threads: worker.cpus.len() as u32,
        boot_id: clock::boot_id(),
    }
}

/// The connection to the coordinator.
struct Link {
    stream: Arc<Mutex<TcpStream>>,
    orders: Receiver<Result<Order, String>>,
    reader: thread::JoinHandle<()>,
}

impl Link {
    fn join(worker: &Worker) -> Result<Link, Error> {
        let failed = |source| Error::Connect { address: worker.coordinator.clone(), source };
        let addresses: Vec<SocketAddr> = worker.coordinator.to_socket_addrs().map_err(failed)?.collect();
        let mut stream = TcpStream::connect(addresses.as_slice()).map_err(failed)?;
        frame::prepare(&stream).map_err(failed)?;
        let greeting = Greeting { protocol: PROTOCOL, program: PROGRAM.to_owned(), host: Some(host(worker)) };
        frame::say(&mut stream, &greeting).map_err(failed)?;
        match frame::read(&mut stream, LENGTH_MAX).map_err(failed)? {
            Some(Frame::Said(Order::Welcome)) => {}
            Some(Frame::Said(Order::Refused { why })) => return Err(Error::Refused(why)),
            _ => return Err(Error::Refused("it is no coordinator of a run".to_owned())),
        }
        let (sender, orders) = unbounded();
        let from = stream.try_clone().map_err(failed)?;
        let stream = Arc::new(Mutex::new(stream));
        let to = Arc::clone(&stream);
        let reader = thread::Builder::new().name("coordinator".to_owned()).spawn(move || listen(&from, &to, &sender));
        Ok(Link { stream, orders, reader: reader.map_err(failed)? })
    }

    /// Waits for the plan.
    fn await_load(&self, stop: &AtomicBool) -> Result<Load, Error> {
        loop {
            match self.orders.recv_timeout(STATUS_EVERY) {
                Ok(Ok(Order::Load(load))) => return Ok(*load),
                Ok(Ok(Order::GiveUp { why })) => return Err(Error::GivenUp(why)),
                Ok(Ok(order)) => return Err(Error::Gone(format!("it ordered {order:?} before it said what to run"))),
                Ok(Err(why)) => return Err(Error::Gone(why)),
                Err(_) if stop.load(Ordering::Relaxed) => return Err(Error::Engine(engine::Error::Interrupted)),
                Err(_) => {}
            }
        }
    }

    fn say(&self, answer: &Answer) -> Result<(), Error> {
        frame::say(&mut *lock(&self.stream), answer).map_err(|error| self.gone(&error))
    }

    fn send_sample(&self, sample: &Sample) -> Result<(), Error> {
        frame::send_sample(&mut *lock(&self.stream), &wire::encode(sample)).map_err(|error| self.gone(&error))
    }

    fn gone(&self, error: &io::Error) -> Error {
        Error::Gone(error.to_string())
    }

    /// Says the last word and waits until the coordinator has read it: bytes that come for a closed socket would
    /// take it back.
    fn close(self, outcome: Result<Outcome, Error>) -> Result<Outcome, Error> {
        let last_word = match &outcome {
            Ok(outcome) => Answer::Finished(outcome.clone()),
            Err(error) => Answer::Failed { why: error.to_string() },
        };
        // When the coordinator is gone there is nobody to tell and nobody to wait for.
        let _ = self.say(&last_word);
        let _ = lock(&self.stream).shutdown(Shutdown::Write);
        let _ = self.reader.join();
        outcome
    }
}

fn lock(stream: &Mutex<TcpStream>) -> std::sync::MutexGuard<'_, TcpStream> {
    // Whoever panicked with it left a connection that breaks.
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads orders until the coordinator goes, and answers at once when asked for the time.
fn listen(from: &TcpStream, to: &Mutex<TcpStream>, orders: &Sender<Result<Order, String>>) {
    let mut from = BufReader::new(from);
    let why = loop {
        match frame::read(&mut from, LENGTH_MAX) {
            Ok(Some(Frame::Said(Order::Ping { asked_ns }))) => {
                let answer_ns = clock::monotonic_ns();
                if let Err(error) = frame::say(&mut *lock(to), &Answer::Pong { asked_ns, answer_ns }) {
                    break error.to_string();
                }
            }
            // Whoever doesn't want orders any more closes the connection next.
            Ok(Some(Frame::Said(order))) => drop(orders.send(Ok(order))),
            Ok(Some(Frame::Sample(_))) => break "it sent a sample".to_owned(),
            Ok(None) => break "it closed the connection".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let _ = orders.send(Err(why));
}

/// The time from being loaded to the last word.
struct Shift<'a> {
    link: &'a Link,
    crew: Box<dyn Crew>,
    /// How many orders were carried out.
    orders: u32,
    /// One of them was to stop.
    stopped: bool,
    /// When the coordinator was last told how far this worker is.
    told: Instant,
}

impl Shift<'_> {
    fn run(mut self, stop: &AtomicBool) -> Result<Outcome, Error> {
        let mut samples = self.crew.samples().clone();
        let mut asked_to_end = false;
        loop {
            let mut obeyed = false;
            select! {
                recv(self.link.orders) -> order => match order.unwrap_or_else(|_| Err("its reader ended".to_owned())) {
                    Ok(Order::Finish) => return self.finish(),
                    Ok(Order::GiveUp { why }) => return Err(self.abandon(Error::GivenUp(why))),
                    Ok(order) => {
                        self.obey(order)?;
                        obeyed = true;
                    }
                    Err(why) => return Err(self.abandon(Error::Gone(why))),
                },
                recv(samples) -> sample => match sample {
                    Ok(sample) => self.link.send_sample(&sample)?,
                    // The threads have ended; there is still something to be ordered.
                    Err(_) => samples = never(),
                },
                default(STATUS_EVERY) => {}
            }
            if stop.load(Ordering::Relaxed) && !asked_to_end {
                asked_to_end = true;
                self.link.say(&Answer::Interrupted)?;
            }
            if obeyed || self.told.elapsed() >= STATUS_EVERY {
                self.told = Instant::now();
                let status = self.crew.status();
                self.link.say(&Answer::Status { orders: self.orders, status })?;
            }
        }
    }

    fn obey(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Stage(stage) => self.crew.stage(stage),
            Order::Publish(stage) => self.crew.publish(stage),
            Order::Begin { at_ns } => self.crew.begin(at_ns),
            Order::Stop => {
                self.stopped = true;
                self.crew.stop();
            }
            Order::Sent => {
                let sent = self.crew.sent()?;
                self.link.say(&Answer::Sent(sent))?;
            }
            Order::Settle { sent } => self.crew.settle(&sent),
            Order::Leave => self.crew.leave(),
            order => return Err(Error::Gone(format!("it ordered {order:?} in the middle of a run"))),
        }
        self.orders += 1;
        Ok(())
    }

    /// What is left, and the last samples.
    fn finish(self) -> Result<Outcome, Error> {
        let samples = self.crew.samples().clone();
        let outcome = self.crew.finish();
        samples.try_iter().try_for_each(|sample| self.link.send_sample(&sample))?;
        Ok(outcome?)
    }

    /// Nobody leads any more: the clients take leave.
    fn abandon(mut self, why: Error) -> Error {
        // A crew stops once: its threads have no room to say twice that they did.
        if !self.stopped {
            self.crew.stop();
        }
        self.crew.leave();
        // Whatever is left of a run without a result interests nobody.
        let _ = self.crew.finish();
        why
    }
}
