//! Joined runs over real connections, with crews that only pretend to drive clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::frame;
use super::message::{Greeting, Host, PROGRAM, PROTOCOL};
use super::worker::work_by;
use super::{Error, Gathering, Worker, Workers, gather};
use crate::engine::{self, Clock, Crew, Outcome, Setup, Status, conduct};
use crate::measure::{Counts, Faults, Sample, times};
use crate::plan::{Plan, Timing};

const TICK: Duration = Duration::from_millis(10);

fn plan() -> Plan {
    let timing = Timing {
        connect_rate: None,
        connecting: 1,
        warm_up: Duration::from_millis(20),
        window: Duration::from_millis(50),
        patience: Duration::from_secs(5),
    };
    Plan {
        name: "pretended".to_owned(),
        about: String::new(),
        groups: Vec::new(),
        timing,
        verify: true,
        transport: <_>::default(),
    }
}

/// A crew that has ten clients, sends in one flow per worker, and notes what it was ordered.
struct Pretender {
    setup: Setup,
    samples: (Option<Sender<Sample>>, Receiver<Sample>),
    orders: Arc<Mutex<Vec<String>>>,
    fails: bool,
}

impl Pretender {
    fn note(&self, order: impl Into<String>) {
        self.orders.lock().unwrap().push(order.into());
    }

    fn share(&self) -> u32 {
        self.setup.slice.index + 1
    }
}

impl Crew for Pretender {
    fn samples(&self) -> &Receiver<Sample> {
        &self.samples.1
    }

    fn status(&mut self) -> Status {
        Status { of: 10, arrived: 10, ready: 0, failed: self.fails, ..Status::default() }
    }

    fn stage(&mut self, stage: u8) {
        self.note(format!("stage {stage}"));
    }

    fn publish(&mut self, stage: u8) {
        self.note(format!("publish {stage}"));
    }

    fn begin(&mut self, at_ns: u64) {
        let late = self.setup.clock.now_ns() > at_ns;
        self.note(if late { "begin, too late" } else { "begin" });
        let mut sample = Sample {
            thread: self.setup.slice.first_thread,
            tick: (at_ns / self.setup.tick.as_nanos() as u64) as u32,
            counts: Counts { delivered: u64::from(self.share()), ..Counts::default() },
            ready: 10,
            cpu_ns: 0,
            latency_ns: times(),
            acknowledged_ns: times(),
            connect_ns: times(),
        };
        sample.latency_ns.record(1_000_000 * u64::from(self.share())).unwrap();
        self.samples.0.as_ref().unwrap().send(sample).unwrap();
    }

    fn stop(&mut self) {
        self.note("stop");
    }

    fn sent(&mut self) -> Result<Vec<u32>, engine::Error> {
        let mut sent = vec![0; 2];
        sent[self.setup.slice.index as usize] = 100 * self.share();
        Ok(sent)
    }

    fn settle(&mut self, sent: &[u32]) {
        self.note(format!("settle {sent:?}"));
    }

    fn leave(&mut self) {
        self.note("leave");
        self.samples.0 = None;
    }

    fn finish(self: Box<Self>) -> Result<Outcome, engine::Error> {
        if self.fails {
            return Err(engine::Error::Plan("out of paint".to_owned()));
        }
        let faults = Faults { reordered: u64::from(self.share()), ..Faults::default() };
        Ok(Outcome { faults, ..Outcome::default() })
    }
}

struct Hand {
    thread: JoinHandle<Result<Outcome, Error>>,
    orders: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

/// A worker on a thread of its own.
fn hand(coordinator: SocketAddr, fails: bool) -> Hand {
    let (orders, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (noted, stopped) = (Arc::clone(&orders), Arc::clone(&stop));
    let worker = Worker {
        coordinator: coordinator.to_string(),
        name: Some("hand".to_owned()),
        cpus: vec![None, None],
        source_addresses: Vec::new(),
        hosts: Vec::new(),
        transport: Box::new(|_, _| Ok(Default::default())),
    };
    let start = move |setup| {
        let (sender, samples) = unbounded();
        let pretender = Pretender { setup, samples: (Some(sender), samples), orders: noted, fails };
        Ok(Box::new(pretender) as Box<dyn Crew>)
    };
    let thread = thread::spawn(move || work_by(&worker, &stopped, |_| {}, start));
    Hand { thread, orders, stop }
}

type Gatherer = JoinHandle<Result<Gathering, Error>>;

/// Gathers on a thread of its own; returns where it listens once it does.
fn gathering(wanted: usize) -> (SocketAddr, Receiver<String>, Gatherer, Arc<AtomicBool>) {
    let (tell, told) = unbounded();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        gather(([127, 0, 0, 1], 0).into(), wanted, stopped, |line| drop(tell.send(line.to_owned())))
    });
    let first = told.recv().unwrap();
    let address = first.rsplit(' ').next().unwrap().parse().unwrap();
    (address, told, thread, stop)
}

/// Two workers that have joined and wait for the plan.
fn joined(fails: bool) -> (Vec<Hand>, Gathering, Arc<AtomicBool>) {
    let (address, _told, thread, stop) = gathering(2);
    let hands = vec![hand(address, false), hand(address, fails)];
    (hands, thread.join().unwrap().unwrap(), stop)
}

fn load(gathering: Gathering, clock: Clock) -> Box<Workers> {
    Box::new(gathering.load(&plan(), &[([127, 0, 0, 1], 1883).into()], TICK, clock).unwrap())
}

#[derive(Default)]
struct Seen(Vec<Sample>);

impl engine::Observer for Seen {
    fn sample(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    fn phase(&mut self, _: engine::Phase, _: u64) {}
}

fn lead(workers: Box<Workers>, clock: Clock, stop: &AtomicBool) -> (Result<engine::Conducted, engine::Error>, Seen) {
    let mut seen = Seen::default();
    (conduct(workers, &plan(), TICK, clock, stop, &mut seen), seen)
}

#[test]
fn a_joined_run_is_ordered_like_one_of_a_single_process_and_its_sums_are_those_of_all() {
    let (hands, gathering, stop) = joined(false);
    let clock = Clock::start();
    let workers = load(gathering, clock);
    let roster = workers.roster();
    let (conducted, seen) = lead(workers, clock, &stop);
    let conducted = conducted.unwrap();
    assert_eq!(conducted.outcome.faults.reordered, 1 + 2);
    assert!(!conducted.interrupted);
    for hand in hands {
        hand.thread.join().unwrap().unwrap();
        assert_eq!(*hand.orders.lock().unwrap(), ["begin", "stop", "settle [100, 200]", "leave"]);
    }
    let mut threads: Vec<u32> = seen.0.iter().map(|sample| sample.thread).collect();
    threads.sort_unstable();
    assert_eq!(threads, [0, 2]);
    assert_eq!(seen.0.iter().map(|sample| sample.counts.delivered).sum::<u64>(), 1 + 2);
    let mut latency = times();
    seen.0.iter().for_each(|sample| latency.add(&sample.latency_ns).unwrap());
    assert_eq!((latency.len(), latency.min() / 100_000, latency.max() / 100_000), (2, 9, 20));
    let roster = roster.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(roster.len(), 2);
    assert!(roster.iter().all(|joined| (joined.clock_offset_ns, joined.clock_error_ns) == (0, 0)));
}

#[test]
fn a_worker_that_fails_ends_the_run_with_its_own_words() {
    let (hands, gathering, stop) = joined(true);
    let clock = Clock::start();
    let (conducted, _) = lead(load(gathering, clock), clock, &stop);
    let why = conducted.unwrap_err().to_string();
    assert!(why.contains("worker hand (127.0.0.1:") && why.contains("out of paint"), "{why}");
    let [other, failed] = hands.try_into().ok().unwrap();
    assert!(matches!(failed.thread.join().unwrap(), Err(Error::Engine(_))));
    let why = other.thread.join().unwrap().unwrap_err().to_string();
    assert!(why.starts_with("the run was given up: worker hand") && why.contains("out of paint"), "{why}");
}

#[test]
fn a_worker_that_cannot_start_its_share_fails_the_loading() {
    let (address, _told, thread, _stop) = gathering(1);
    let worker = Worker {
        coordinator: address.to_string(),
        name: None,
        cpus: vec![None],
        source_addresses: Vec::new(),
        hosts: Vec::new(),
        transport: Box::new(|_, _| Ok(Default::default())),
    };
    let refuses = |_| Err(engine::Error::Cpu(77));
    let hand = thread::spawn(move || work_by(&worker, &AtomicBool::new(false), |_| {}, refuses));
    let gathering = thread.join().unwrap().unwrap();
    let loaded = gathering.load(&plan(), &[], TICK, Clock::start());
    let why = loaded.err().unwrap().to_string();
    assert!(why.contains("can't run on CPU 77"), "{why}");
    assert!(matches!(hand.join().unwrap(), Err(Error::Engine(engine::Error::Cpu(77)))));
}

#[test]
fn a_worker_that_vanishes_ends_the_run_and_is_named() {
    let (address, _told, thread, stop) = gathering(2);
    let staying = hand(address, false);
    let mut vanishing = TcpStream::connect(address).unwrap();
    let (gone, is_gone) = bounded(0);
    let impostor = thread::spawn(move || {
        let host = Some(Host { name: "ghost".to_owned(), threads: 1, ..Host::default() });
        frame::say(&mut vanishing, &Greeting { protocol: PROTOCOL, program: PROGRAM.to_owned(), host }).unwrap();
        answer_pings_until_loaded(&mut vanishing);
        drop(vanishing);
        gone.send(()).unwrap();
    });
    let gathering = thread.join().unwrap().unwrap();
    let clock = Clock::start();
    let workers = load(gathering, clock);
    is_gone.recv().unwrap();
    let (conducted, _) = lead(workers, clock, &stop);
    let why = conducted.unwrap_err().to_string();
    assert!(why.contains("worker ghost") && why.contains("went away"), "{why}");
    impostor.join().unwrap();
    let why = staying.thread.join().unwrap().unwrap_err().to_string();
    assert!(why.starts_with("the run was given up: worker ghost"), "{why}");
    assert_eq!(staying.orders.lock().unwrap().last().unwrap(), "leave", "its clients take leave all the same");
}

#[test]
fn who_has_come_is_told_that_the_others_are_waited_for_no_more() {
    let (address, told, thread, stop) = gathering(2);
    let hand = hand(address, false);
    assert!(told.recv().unwrap().contains("worker 1 of 2: hand"));
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(thread.join().unwrap(), Err(Error::Interrupted { missing: 1 })));
    let why = hand.thread.join().unwrap().unwrap_err().to_string();
    assert_eq!(why, "the run was given up: interrupted while a worker was still to come");
}

#[test]
fn who_has_come_is_told_that_another_cannot_run_its_share() {
    let (address, told, thread, _stop) = gathering(2);
    let hand = hand(address, false);
    assert!(told.recv().unwrap().contains("worker 1 of 2: hand"));
    let worker = Worker {
        coordinator: address.to_string(),
        name: None,
        cpus: vec![None],
        source_addresses: Vec::new(),
        hosts: Vec::new(),
        transport: Box::new(|_, _| Ok(Default::default())),
    };
    let refuses = |_| Err(engine::Error::Cpu(77));
    let other = thread::spawn(move || work_by(&worker, &AtomicBool::new(false), |_| {}, refuses));
    assert!(thread.join().unwrap().unwrap().load(&plan(), &[], TICK, Clock::start()).is_err());
    assert!(other.join().unwrap().is_err());
    let why = hand.thread.join().unwrap().unwrap_err().to_string();
    assert!(why.starts_with("the run was given up: worker ") && why.contains("CPU 77"), "{why}");
}

#[test]
fn a_connection_notices_that_the_other_host_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    frame::prepare(&stream).unwrap();
    let socket = socket2::SockRef::from(&stream);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(frame::SILENCE_LIMIT));
    assert!(socket.keepalive().unwrap() && socket.tcp_keepalive_time().unwrap() < frame::SILENCE_LIMIT);
}

#[test]
fn a_run_given_up_while_it_drains_ends_too() {
    let (address, _told, thread, stop) = gathering(2);
    let staying = hand(address, false);
    let vanishing = TcpStream::connect(address).unwrap();
    let ghost = thread::spawn(move || obey_until_stopped(vanishing));
    let gathering = thread.join().unwrap().unwrap();
    let clock = Clock::start();
    let (conducted, _) = lead(load(gathering, clock), clock, &stop);
    assert!(conducted.unwrap_err().to_string().contains("worker ghost"));
    ghost.join().unwrap();
    assert!(matches!(staying.thread.join().unwrap(), Err(Error::GivenUp(_))));
    assert_eq!(*staying.orders.lock().unwrap(), ["begin", "stop", "leave"], "it is stopped once");
}

/// Is as far as it should be all along, and gone when it is told to stop.
fn obey_until_stopped(mut stream: TcpStream) {
    use super::message::{Answer, Order};
    let host = Some(Host { name: "ghost".to_owned(), threads: 1, ..Host::default() });
    frame::say(&mut stream, &Greeting { protocol: PROTOCOL, program: PROGRAM.to_owned(), host }).unwrap();
    let (mut orders, status) = (0, Status { of: 10, arrived: 10, ..Status::default() });
    loop {
        let answer = match frame::read(&mut stream, frame::LENGTH_MAX).unwrap() {
            Some(frame::Frame::Said(Order::Welcome)) => continue,
            Some(frame::Frame::Said(Order::Ping { asked_ns })) => Answer::Pong { asked_ns, answer_ns: asked_ns },
            Some(frame::Frame::Said(Order::Load(_))) => {
                frame::say(&mut stream, &Answer::Loaded).unwrap();
                Answer::Status { orders, status }
            }
            Some(frame::Frame::Said(Order::Stop)) | None => return,
            Some(_) => {
                orders += 1;
                Answer::Status { orders, status }
            }
        };
        frame::say(&mut stream, &answer).unwrap();
    }
}

fn answer_pings_until_loaded(stream: &mut TcpStream) {
    use super::message::{Answer, Order};
    loop {
        match frame::read(&mut &*stream, frame::LENGTH_MAX).unwrap() {
            Some(frame::Frame::Said(Order::Ping { asked_ns })) => {
                frame::say(stream, &Answer::Pong { asked_ns, answer_ns: asked_ns + 1_000_000_000 }).unwrap();
            }
            Some(frame::Frame::Said(Order::Load(_))) => return frame::say(stream, &Answer::Loaded).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn a_worker_of_another_version_is_refused_and_the_others_are_waited_for() {
    let (address, told, thread, _stop) = gathering(1);
    let mut other = TcpStream::connect(address).unwrap();
    let greeting = Greeting { protocol: PROTOCOL + 1, program: "9.9.9".to_owned(), host: None };
    frame::say(&mut other, &greeting).unwrap();
    let refusal = frame::read(&mut other, frame::LENGTH_MAX).unwrap();
    let Some(frame::Frame::Said(super::message::Order::Refused { why })) = refusal else { panic!("{refusal:?}") };
    assert!(why.contains("9.9.9") && why.contains(PROGRAM), "{why}");
    assert!(told.recv().unwrap().contains("did not join: it is version 9.9.9"));
    let right = hand(address, false);
    drop(thread.join().unwrap().unwrap());
    assert!(matches!(right.thread.join().unwrap(), Err(Error::Gone(_))));
}

#[test]
fn a_peer_that_speaks_something_else_is_sent_away() {
    let (address, told, thread, stop) = gathering(1);
    let mut other = TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut other, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(told.recv().unwrap().contains("did not join"));
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(thread.join().unwrap(), Err(Error::Interrupted { missing: 1 })));
}

#[test]
fn a_worker_whose_operator_interrupts_it_ends_the_run_in_order_for_all() {
    let (hands, gathering, stop) = joined(false);
    let clock = Clock::start();
    let workers = load(gathering, clock);
    hands[1].stop.store(true, Ordering::Relaxed);
    let mut long = plan();
    long.timing.window = Duration::from_secs(60);
    let conducted = conduct(workers, &long, TICK, clock, &stop, &mut Seen::default()).unwrap();
    assert!(conducted.interrupted);
    assert_eq!(conducted.outcome.faults.reordered, 1 + 2);
    hands.into_iter().for_each(|hand| drop(hand.thread.join().unwrap().unwrap()));
}

#[test]
fn nobody_to_join_is_one_clear_message() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = hand(unused, false).thread.join().unwrap();
    let why = ended.unwrap_err().to_string();
    assert!(why.contains("no coordinator at") && why.contains("--join-listen"), "{why}");
}
