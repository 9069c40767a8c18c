//! The engine threads of this process, led as one crew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::expect::Expectations;
use super::fleet::{Admission, Shared};
use super::gauges::Gauges;
use super::pace::{Rhythm, nanoseconds};
use super::script::Script;
use super::thread::{Order, Peer, Post};
use super::wills::wills;
use super::{Clock, Crew, Error, Outcome, Setup, Slice, Status};
use crate::measure::Sample;

/// The engine threads of this process.
pub struct Engine {
    shared: Arc<Shared>,
    slice: Slice,
    samples: Receiver<Sample>,
    threads: Vec<Thread>,
    /// Told once by each thread that has stopped publishing.
    stopped: Receiver<()>,
    /// Clients of each group on each thread.
    crowd: Vec<Vec<u32>>,
    /// Clients called so far.
    of: u64,
    /// Limited publications started so far.
    limited: u64,
}

struct Thread {
    peer: Peer,
    gauges: Arc<Gauges>,
    handle: JoinHandle<Result<Outcome, Error>>,
}

impl Engine {
    /// Starts the threads; they connect when a stage is called.
    ///
    /// # Errors
    ///
    /// A plan that can't be driven or checked, CPUs that can't be used, io_uring refused.
    pub fn start(setup: Setup) -> Result<Self, Error> {
        if setup.hosts.is_empty() || setup.cpus.is_empty() || setup.tick.is_zero() {
            return Err(Error::Plan("an engine needs at least one host and one thread, and a tick".to_owned()));
        }
        let script = Script::compile(Arc::clone(&setup.plan), setup.slice, setup.cpus.len())?;
        let seating = Arc::new(script.seating());
        let mut expectations = Expectations::of(&script)?;
        let (crowd, unix_origin_ns) = (crowd(&script, &seating), unix_origin_ns(setup.clock));
        let shared = Arc::new(Shared {
            seats: seats(&script, &seating),
            receivers: std::mem::take(&mut expectations.receivers),
            topics: std::mem::take(&mut expectations.topics),
            wills: wills(&script, unix_origin_ns),
            sent: (0..script.flows).map(|_| AtomicU32::new(0)).collect(),
            hosts: setup.hosts.clone(),
            transport: setup.transport.clone(),
            sources: setup.source_addresses.clone(),
            checks: script.checks,
            unix_origin_ns,
            run: setup.run,
            script,
        });
        let (stopped_sender, stopped) = bounded(2 * setup.cpus.len());
        let (sample_sender, samples) = unbounded();
        let (expectations, mut starting) = (Arc::new(expectations), Vec::new());
        for (number, cpu) in setup.cpus.iter().enumerate() {
            let (orders, order_receiver) = unbounded();
            let gauges = Arc::new(Gauges::default());
            let post = Post {
                number: number as u16,
                number_of_all: setup.slice.first_thread + number as u32,
                cpu: *cpu,
                shared: Arc::clone(&shared),
                seating: Arc::clone(&seating),
                expectations: Arc::clone(&expectations),
                clock: setup.clock,
                tick_ns: nanoseconds(setup.tick),
                samples: sample_sender.clone(),
                orders: order_receiver,
                gauges: Arc::clone(&gauges),
                stopped: stopped_sender.clone(),
            };
            let (started_sender, started) = bounded(1);
            let name = format!("engine-{number}");
            let handle = Builder::new()
                .name(name)
                .spawn(move || post.serve(started_sender))
                .map_err(|source| Error::Ring { source })?;
            starting.push((orders, gauges, handle, started));
        }
        let mut threads = Vec::new();
        let mut failure = None;
        for (orders, gauges, handle, started) in starting {
            match started.recv() {
                Ok(Ok(waker)) => threads.push(Thread { peer: Peer { orders, waker }, gauges, handle }),
                Ok(Err(error)) => failure = Some(error),
                Err(_) => _ = handle.join().map_err(|panic| std::panic::resume_unwind(panic)),
            }
        }
        let engine = Self { shared, slice: setup.slice, samples, threads, stopped, crowd, of: 0, limited: 0 };
        if let Some(error) = failure {
            return Err(error);
        }
        engine.meet();
        Ok(engine)
    }

    fn meet(&self) {
        let peers: Vec<Peer> = self.threads.iter().map(|thread| thread.peer.clone()).collect();
        self.threads.iter().for_each(|thread| thread.peer.order(Order::Meet(peers.clone())));
    }

    fn order_all(&self, order: impl Fn() -> Order) {
        self.threads.iter().for_each(|thread| thread.peer.order(order()));
    }

    /// The groups of a stage.
    fn groups_of(&self, stage: u8) -> impl Iterator<Item = usize> {
        let groups = self.shared.script.groups.iter().enumerate();
        groups.filter(move |(_, cast)| cast.stage == stage).map(|(group, _)| group)
    }

    /// Ends the threads: what they saw, and why any of them failed.
    fn end(&mut self) -> Result<Outcome, Error> {
        self.order_all(|| Order::End);
        let (mut outcome, mut failure) = (Outcome::default(), None);
        for thread in self.threads.drain(..) {
            match thread.handle.join() {
                Ok(Ok(of_thread)) => outcome += of_thread,
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failure.map_or(Ok(outcome), Err)
    }
}

impl Crew for Engine {
    fn samples(&self) -> &Receiver<Sample> {
        &self.samples
    }

    fn status(&mut self) -> Status {
        let mut status = Status::default();
        self.threads.iter().for_each(|thread| status += thread.gauges.read());
        status.of = self.of;
        // Later publications may be limited too: those are not asked for.
        status.unfinished = self.limited.saturating_sub(status.unfinished);
        status
    }

    fn stage(&mut self, stage: u8) {
        let groups: Vec<usize> = self.groups_of(stage).collect();
        let timing = &self.shared.script.plan.timing;
        let all: u64 = groups.iter().map(|group| u64::from(self.shared.script.groups[*group].count)).sum();
        let parts = self.threads.len() as u64 * u64::from(self.slice.of);
        let connecting = (u64::from(timing.connecting) / parts).max(1);
        for (thread, crowd) in self.threads.iter().zip(&self.crowd) {
            let own: u64 = groups.iter().map(|group| u64::from(crowd[*group])).sum();
            self.of += own;
            let share = own.max(1) as f64 / all.max(1) as f64;
            let interval_ns = timing.connect_rate.map(|rate| (1e9 / (rate * share)) as u64);
            thread.peer.order(Order::Stage(stage, Admission { interval_ns, connecting }));
        }
    }

    fn publish(&mut self, stage: u8) {
        let script = &self.shared.script;
        for part in script.publications.iter().filter(|part| part.early) {
            let group = usize::from(part.group);
            if script.groups[group].stage == stage {
                self.limited += self.crowd.iter().map(|crowd| u64::from(crowd[group])).sum::<u64>();
            }
        }
        self.order_all(|| Order::Publish(stage));
    }

    fn begin(&mut self, at_ns: u64) {
        self.order_all(|| Order::Begin(at_ns));
    }

    fn stop(&mut self) {
        self.order_all(|| Order::Stop);
    }

    fn sent(&mut self) -> Result<Vec<u32>, Error> {
        for _ in &self.threads {
            self.stopped.recv().map_err(|_| Error::Interrupted)?;
        }
        if self.status().failed {
            return Err(Error::Interrupted);
        }
        Ok(self.shared.sent.iter().map(|sent| sent.load(Ordering::Acquire)).collect())
    }

    fn settle(&mut self, sent: &[u32]) {
        let sent: Arc<[u32]> = sent.into();
        self.order_all(|| Order::Settle(Arc::clone(&sent)));
    }

    fn leave(&mut self) {
        self.order_all(|| Order::Leave);
    }

    fn finish(mut self: Box<Self>) -> Result<Outcome, Error> {
        self.end()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `finish`.
        let _ = self.end();
    }
}

/// How many clients of each group each thread has.
fn crowd(script: &Script, seating: &[Vec<(u16, u32)>]) -> Vec<Vec<u32>> {
    let count = |seats: &Vec<(u16, u32)>| {
        let mut counts = vec![0; script.groups.len()];
        seats.iter().for_each(|(group, _)| counts[usize::from(*group)] += 1);
        counts
    };
    seating.iter().map(count).collect()
}

/// Where the publishers of closed loops are: thread and stream, by publication and client.
fn seats(script: &Script, seating: &[Vec<(u16, u32)>]) -> Vec<Vec<(u16, u32)>> {
    let count = |closed: bool, group: u16| if closed { script.groups[usize::from(group)].count as usize } else { 0 };
    let parts = script.publications.iter();
    let mut seats: Vec<Vec<(u16, u32)>> =
        parts.map(|part| vec![(0, 0); count(matches!(part.rhythm, Rhythm::Closed { .. }), part.group)]).collect();
    for (thread, clients) in seating.iter().enumerate() {
        let mut stream = 0;
        for (group, index) in clients {
            for publication in script.groups[usize::from(*group)].publications.clone() {
                if let Some(seat) = seats[publication].get_mut(*index as usize) {
                    *seat = (thread as u16, stream);
                }
                stream += 1;
            }
        }
    }
    seats
}

fn unix_origin_ns(clock: Clock) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    nanoseconds(now).saturating_sub(clock.now_ns())
}
