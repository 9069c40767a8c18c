//! All clients of one thread: a state machine that is given bytes and the time, and writes packets.
//!
//! `connection` is a client's way in and out, `packet` what it makes of what arrives, `publish` what it sends,
//! `delivery` what the ledger makes of a message, `member` what
//! a member of shared subscriptions remembers, `timers` keep alive and presence.

mod connection;
mod delivery;
mod member;
mod packet;
mod publish;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ringmq::codec::QoS;
use ringmq::engine::Time;
use ringmq::wheel::Wheel;

use super::client::{Client, Progress, State, Stream};
use super::crew::FAILURES_MAX;
use super::expect::Expectations;
use super::gauges::Figures;
use super::ledger::{Account, Ledger};
use super::pace::{Agenda, Rhythm, nanoseconds};
use super::packets::Composer;
use super::script::Script;
use super::tally::Tally;
use super::window::Window;
use super::{Clock, Error, Outcome};
use crate::net::{Close, Closed, Handler, LinkId, Links, Transport};
use member::Member;
use timers::Timer;

/// No window: the stream is no closed loop.
const NONE: u32 = u32::MAX;

/// What the threads of a process have in common.
pub struct Shared {
    /// The plan, compiled.
    pub script: Script,
    /// For each publication that is a closed loop: the thread and stream of each client of its group.
    pub seats: Vec<Vec<(u16, u32)>>,
    /// How many subscribers are owed each message of a flow.
    pub receivers: Vec<u32>,
    /// What each flow's topic is known by; empty when deliveries are not held to it.
    pub topics: Vec<u32>,
    /// See [`wills`](crate::engine::wills::wills).
    pub wills: HashMap<u64, u32>,
    /// How many messages were sent in each flow, once the thread of its publisher has stopped.
    pub sent: Vec<AtomicU32>,
    /// Where the broker is.
    pub hosts: Vec<SocketAddr>,
    /// What lies between TCP and MQTT.
    pub transport: Transport,
    /// Where connections come from.
    pub sources: Vec<IpAddr>,
    /// Deliveries are entered in ledgers.
    pub checks: bool,
    /// Unix time when the run's clock said 0.
    pub unix_origin_ns: u64,
    /// The run's number.
    pub run: u64,
}

/// How fast the clients of a stage come in, on this thread.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Between two connections; `None`: as fast as `connecting` lets.
    pub interval_ns: Option<u64>,
    /// How many may be on their way in.
    pub connecting: u64,
}

/// The clients of one thread.
pub struct Fleet {
    shared: Arc<Shared>,
    thread: u16,
    clock: Clock,
    now_ns: u64,
    /// The same in milliseconds.
    now_ms: u32,
    clients: Vec<Client>,
    streams: Vec<Stream>,
    windows: Vec<Window>,
    ledger: Ledger,
    /// The accounts of shared subscriptions whose members are here, and whether a member has come back.
    shares: Vec<(Account, bool)>,
    /// The clients that have shares.
    memberships: HashMap<u32, Member>,
    composer: Composer,
    agenda: Agenda,
    wheel: Wheel<Timer>,
    fired: Vec<Timer>,
    random: fastrand::Rng,
    tally: Tally,
    figures: Figures,
    /// Clients that wait for their turn to connect.
    queue: VecDeque<u32>,
    admission: Admission,
    next_connect_ns: u64,
    connects: u64,
    /// What happened to messages of closed loops on other threads: stream and number.
    reached: Vec<Vec<(u32, u32)>>,
    begun_ns: Option<u64>,
    stopped: bool,
    leaving: bool,
    settled: bool,
    failure: Option<Error>,
    failures: Vec<String>,
    dropped: u64,
}

impl Fleet {
    /// The clients of a thread, none of them connected.
    pub fn new(
        shared: Arc<Shared>,
        thread: u16,
        seating: &[Vec<(u16, u32)>],
        expectations: &Expectations,
        clock: Clock,
        tally: Tally,
    ) -> Self {
        let now_ns = clock.now_ns();
        let mut fleet = Self {
            thread,
            clock,
            now_ns,
            now_ms: 0,
            clients: Vec::with_capacity(seating[usize::from(thread)].len()),
            streams: Vec::new(),
            windows: Vec::new(),
            ledger: Ledger::default(),
            shares: Vec::new(),
            memberships: HashMap::new(),
            composer: Composer::new(shared.unix_origin_ns, shared.run),
            agenda: Agenda::default(),
            wheel: Wheel::new(timers::TICK, Time(now_ns)),
            fired: Vec::new(),
            random: fastrand::Rng::with_seed(u64::from(thread) + 1),
            tally,
            figures: Figures::default(),
            queue: VecDeque::new(),
            admission: Admission { interval_ns: None, connecting: 1 },
            next_connect_ns: 0,
            connects: 0,
            reached: vec![Vec::new(); seating.len()],
            begun_ns: None,
            stopped: false,
            leaving: false,
            settled: false,
            failure: None,
            failures: Vec::new(),
            dropped: 0,
            shared,
        };
        fleet.populate(&seating[usize::from(thread)]);
        if fleet.shared.checks {
            fleet.open_accounts(expectations);
        }
        fleet
    }

    fn populate(&mut self, seats: &[(u16, u32)]) {
        let shared = Arc::clone(&self.shared);
        for &(group, index) in seats {
            let cast = &shared.script.groups[usize::from(group)];
            let of_plan = &shared.script.plan.groups[usize::from(group)];
            let number = self.clients.len() as u32;
            let mut client = Client::new(group, index, cast.version, of_plan.keep_alive, self.streams.len() as u32);
            client.flags.keeps = [QoS::AtMostOnce, QoS::AtLeastOnce].map(|qos| cast.keeps(of_plan.presence, qos));
            self.clients.push(client);
            for publication in cast.publications.clone() {
                let part = &shared.script.publications[publication];
                let mut window = NONE;
                if let Rhythm::Closed { outstanding } = part.rhythm {
                    window = self.windows.len() as u32;
                    self.windows.push(Window::new(outstanding));
                }
                self.streams.push(Stream {
                    client: number,
                    publication: publication as u16,
                    progress: Progress::Idle,
                    flow: part.first_flow + index * part.topics,
                    window,
                    sent: 0,
                    acknowledged: 0,
                    due_ns: 0,
                    head: None,
                });
            }
        }
    }

    fn open_accounts(&mut self, expectations: &Expectations) {
        let mut numbers = HashMap::new();
        for (number, client) in self.clients.iter_mut().enumerate() {
            let name = (client.group, client.index);
            if let Some(ranges) = expectations.clients.get(&name) {
                client.account = self.ledger.open(ranges);
            }
            if !expectations.shares.is_empty() {
                numbers.insert(name, number as u32);
            }
        }
        for share in &expectations.shares {
            let members: Vec<u32> = share.members.iter().filter_map(|name| numbers.get(name).copied()).collect();
            if members.is_empty() {
                continue;
            }
            let number = self.shares.len() as u32;
            let flows = share.ranges.iter().map(|range| range.count as usize).sum();
            self.shares.push((self.ledger.open(&share.ranges), false));
            for member in members {
                self.clients[member as usize].flags.shares = true;
                self.memberships.entry(member).or_default().join(number, flows, self.shared.script.plan.verify);
            }
        }
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// How far they are.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What ended the run, once.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Lets the clients of a stage connect.
    pub fn stage(&mut self, stage: u8, admission: Admission) {
        self.admission = admission;
        self.next_connect_ns = self.clock.now_ns();
        let groups = &self.shared.script.groups;
        let called = (0..).zip(&self.clients).filter(|(_, client)| groups[usize::from(client.group)].stage == stage);
        self.queue.extend(called.map(|(number, _)| number));
    }

    /// Starts the limited publications of a stage.
    pub fn publish_stage(&mut self, stage: u8) {
        let now_ns = self.clock.now_ns();
        let shared = Arc::clone(&self.shared);
        for stream in 0..self.streams.len() as u32 {
            let part = &shared.script.publications[usize::from(self.streams[stream as usize].publication)];
            if part.early && shared.script.groups[usize::from(part.group)].stage == stage {
                self.start_stream(stream, now_ns);
            }
        }
    }

    /// Starts all other publications, and coming and going, at a time.
    pub fn begin(&mut self, at_ns: u64) {
        self.begun_ns = Some(at_ns);
        for stream in 0..self.streams.len() as u32 {
            if self.streams[stream as usize].progress == Progress::Idle {
                self.start_stream(stream, at_ns);
            }
        }
        self.begin_presence(at_ns);
    }

    fn start_stream(&mut self, number: u32, at_ns: u64) {
        let shared = Arc::clone(&self.shared);
        let stream = &mut self.streams[number as usize];
        let part = &shared.script.publications[usize::from(stream.publication)];
        let count = shared.script.groups[usize::from(part.group)].count;
        let index = self.clients[stream.client as usize].index;
        stream.due_ns = part.rhythm.first(at_ns, index, count, &mut self.random);
        stream.progress = Progress::Queued;
        self.agenda.push(stream.due_ns, number);
    }

    /// Publishes nothing new from now on, tells how much was sent, and brings back who is owed something; before traffic,
    /// lets nobody else come.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.agenda.clear();
        let shared = Arc::clone(&self.shared);
        for stream in &self.streams {
            let topics = u64::from(shared.script.publications[usize::from(stream.publication)].topics);
            for topic in 0..topics {
                let sent = (stream.sent + topics - 1 - topic) / topics;
                shared.sent[(u64::from(stream.flow) + topic) as usize].store(sent as u32, Ordering::Release);
            }
        }
        if self.begun_ns.is_some() {
            self.call_back();
        } else {
            // The run ends before its traffic: nobody else needs to come.
            self.queue.clear();
        }
    }

    /// Closes the ledger: what has not arrived by now is lost.
    pub fn settle(&mut self, sent: &[u32]) {
        self.settled = true;
        self.ledger.close(sent);
    }

    /// What subscribers of this thread tell a publisher on another.
    pub fn take_reached(&mut self) -> impl Iterator<Item = (usize, Vec<(u32, u32)>)> {
        let all = self.reached.iter_mut().enumerate().filter(|(_, reached)| !reached.is_empty());
        all.map(|(thread, reached)| (thread, std::mem::take(reached)))
    }

    /// What subscribers of another thread told.
    pub fn reached(&mut self, links: &mut Links, reached: &[(u32, u32)]) {
        self.look_at_clock();
        for (stream, number) in reached {
            self.reached_here(links, *stream, *number);
        }
    }

    /// Does what is due by now.
    pub fn work(&mut self, links: &mut Links) {
        self.look_at_clock();
        self.fire(links);
        self.admit(links);
        while let Some(stream) = self.agenda.pop(self.now_ns) {
            self.run_stream(links, stream);
        }
    }

    /// When [`Fleet::work`] is wanted next, in nanoseconds of the run's clock.
    pub fn next_ns(&self) -> u64 {
        let mut next_ns = self.tally.edge_ns();
        next_ns = next_ns.min(self.agenda.next_ns().unwrap_or(u64::MAX));
        next_ns = next_ns.min(self.wheel.next_deadline().map_or(u64::MAX, |Time(at_ns)| at_ns));
        if !self.queue.is_empty() && self.figures.connecting < self.admission.connecting {
            next_ns = next_ns.min(self.next_connect_ns);
        }
        next_ns
    }

    /// The last sample, and what is left.
    pub fn finish(mut self) -> Outcome {
        self.tally.finish(self.clock.now_ns(), self.figures.ready);
        let Figures { wills_owed, wills_came, .. } = self.figures;
        let (faults, dropped, failures) = (self.ledger.faults, self.dropped, self.failures);
        Outcome { faults, dropped, failures, wills_owed, wills_came }
    }

    #[inline]
    fn look_at_clock(&mut self) {
        self.now_ns = self.clock.now_ns();
        self.now_ms = timers::milliseconds(self.now_ns);
        if self.now_ns >= self.tally.edge_ns() {
            self.tally.cut(self.now_ns, self.figures.ready);
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Something went wrong that does not end the run.
    fn note(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.failures.len() < FAILURES_MAX {
            let what = what(self);
            self.failures.push(what);
        }
    }

    fn name_of(&self, client: u32) -> String {
        let Client { group, index, .. } = self.clients[client as usize];
        self.shared.script.name_of(group, index)
    }

    fn host_of(&self, client: u32) -> SocketAddr {
        self.shared.hosts[self.clients[client as usize].index as usize % self.shared.hosts.len()]
    }

    fn patience_ns(&self) -> u64 {
        nanoseconds(self.shared.script.plan.timing.patience)
    }
}

impl Handler for Fleet {
    fn connected(&mut self, _: &mut Links, _: LinkId) {}

    #[inline]
    fn received(&mut self, links: &mut Links, link: LinkId, bytes: &[u8]) {
        self.look_at_clock();
        self.tally.counts.bytes_in += bytes.len() as u64;
        let client = links.tag(link);
        if self.failure.is_none() && self.clients[client as usize].link == Some(link) {
            self.receive(links, client, link, bytes);
        }
    }

    fn closed(&mut self, links: &mut Links, link: LinkId, reason: Closed) {
        self.look_at_clock();
        self.on_closed(links.tag(link), &reason);
    }
}

/// Ends a connection without a word.
fn reset(links: &mut Links, client: &Client) {
    if let Some(link) = client.link {
        links.close(link, Close::Reset);
    }
}

/// True while a client can be sent messages for the broker to hand on.
fn takes_messages(client: &Client) -> bool {
    client.state == State::Ready
}
