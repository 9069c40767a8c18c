//! Leads a crew through the phases of a run, and calls an observer at each boundary.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use serde::{Deserialize, Serialize};

use super::crew::FAILURES_MAX;
use super::{Clock, Crew, Error, Outcome, Status};
use crate::measure::Sample;
use crate::plan::{Pace, Plan, Timing};

/// How long the conductor sleeps at most before it looks at the crew and at the operator's wish to stop.
const LOOK: Duration = Duration::from_millis(20);
/// A broker that nobody is connected to against the plan is given so long to come back: a restart may be what is tested.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// What somebody who connects waits for.
const WAY_IN: &str = "CONNACK or SUBACK packets";
/// The same, when nobody has ever got in.
const FIRST: &str = "CONNACK or SUBACK packets (the very first: is it an MQTT listener, without TLS or WebSocket?)";
/// Orders take so long to reach everybody, joined workers included.
const LEAD: Duration = Duration::from_millis(30);
/// The longest tick.
const TICK_MAX_MS: u64 = 1000;
/// The shortest.
const TICK_MIN_MS: u64 = 10;

/// The boundaries of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The first client is about to connect.
    Connecting,
    /// All clients are in.
    Connected,
    /// Traffic starts.
    Warm,
    /// The measured window begins.
    WindowBegins,
    /// The measured window ends.
    WindowEnds,
    /// What was due has arrived, or patience is over.
    Drained,
    /// Everybody has gone.
    Left,
}

impl Phase {
    /// What lasts from this boundary to the next, for people.
    fn name(self) -> &'static str {
        match self {
            Phase::Connecting | Phase::Connected => "connecting",
            Phase::Warm => "the warm-up",
            Phase::WindowBegins => "the measured window",
            Phase::WindowEnds => "draining",
            Phase::Drained | Phase::Left => "leaving",
        }
    }
}

/// Who watches a run.
pub trait Observer {
    /// What a thread saw in a tick. Samples of one thread come in order.
    fn sample(&mut self, sample: Sample);
    /// A boundary, and its time by the run's clock, which those of the window keep to the nanosecond. It is told a little
    /// after that; when it is, is the time for readings of the broker's process.
    fn phase(&mut self, phase: Phase, at_ns: u64);
    /// How far the crew is, some dozens of times a second.
    fn status(&mut self, _status: &Status) {}
}

/// What a run came to, besides the samples.
#[derive(Clone, Debug)]
pub struct Conducted {
    /// The ticks of the measured window.
    pub window: Range<u32>,
    /// When each phase began, in nanoseconds of the run's clock.
    pub phases: Vec<(Phase, u64)>,
    /// What went wrong.
    pub outcome: Outcome,
    /// True when the operator ended it early; then the window is shorter, or empty. (It is, too, when the broker went.)
    pub interrupted: bool,
}

/// The longest tick (a whole number of milliseconds, at most a second) that divides warm-up and window, so that the
/// window's edges are edges of ticks. At least 10 ms: then [`conduct`] rounds the edges up.
pub fn tick_for(timing: &Timing) -> Duration {
    let ms = |duration: Duration| duration.as_millis() as u64;
    let tick = gcd(gcd(ms(timing.warm_up), ms(timing.window)), TICK_MAX_MS);
    Duration::from_millis(tick.max(TICK_MIN_MS))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Runs all phases: connect (stage by stage), warm up, measure, stop and drain, exchange what was sent, leave.
///
/// When `stop` is raised, or the broker has gone, the phases that are left are cut short, and what was measured until
/// then is the result.
/// `tick` is that of the crew's [`Setup`](super::Setup).
///
/// # Errors
///
/// Whatever made a result impossible.
pub fn conduct(
    crew: Box<dyn Crew>,
    plan: &Plan,
    tick: Duration,
    clock: Clock,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Conducted, Error> {
    let tick_ns = tick.as_nanos() as u64;
    let mut run =
        Run { crew, plan, tick_ns, clock, stop, observer, phases: Vec::new(), progress: (0, 0), gone: Gone::default() };
    let window = match run.traffic() {
        Ok(window) => window,
        Err(error) => return Err(run.abandon(error)),
    };
    match run.wind_up() {
        Ok(()) => run.conclude(window),
        Err(error) => Err(run.abandon(error)),
    }
}

struct Run<'a> {
    crew: Box<dyn Crew>,
    plan: &'a Plan,
    tick_ns: u64,
    clock: Clock,
    stop: &'a AtomicBool,
    observer: &'a mut dyn Observer,
    phases: Vec<(Phase, u64)>,
    /// When something that was due last arrived, and the count of arrivals then.
    progress: (u64, u64),
    gone: Gone,
}

/// Whether the broker has gone: everybody was dropped, and nobody gets in again.
#[derive(Default)]
struct Gone {
    since_ns: Option<u64>,
    /// In words, once it is certain.
    told: Option<String>,
}

impl Gone {
    /// Looks at how the crew is now, in a phase that began at some time.
    fn look(&mut self, status: &Status, now_ns: u64, (phase, began_ns): (Phase, u64)) {
        let nobody = status.ready == 0 && status.of > 0;
        // Who is away by the plan proves nothing, but who tries to come back and can't does.
        if !nobody || (status.lost < status.of && status.rebuffed == 0) {
            self.since_ns = None;
            return;
        }
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        let waited = Duration::from_nanos(now_ns.saturating_sub(since_ns));
        if waited >= GONE_AFTER && self.told.is_none() {
            let (of, lost, rebuffed) = (status.of, status.lost, status.rebuffed);
            let into = since_ns.saturating_sub(began_ns) as f64 / 1e9;
            let phase = phase.name();
            self.told = Some(format!(
                "the broker has gone, {into:.1} s into {phase}: none of {of} clients is in, {lost} were dropped, {rebuffed} \
                 tried in vain to come back within {waited:.0?}; the run ended there. Does it still run? See its log"
            ));
        }
    }
}

/// Something that should become less: the least there was of it, and since when.
struct Dwindling {
    least: u64,
    since_ns: u64,
}

impl Dwindling {
    fn from(now_ns: u64) -> Self {
        Self { least: u64::MAX, since_ns: now_ns }
    }

    /// How long it has not become less, now that so much is left.
    fn waited(&mut self, left: u64, now_ns: u64) -> Duration {
        if left < self.least {
            *self = Self { least: left, since_ns: now_ns };
        }
        Duration::from_nanos(now_ns.saturating_sub(self.since_ns))
    }
}

/// What the conductor waits for.
enum Wait {
    /// The crew came this far.
    Done,
    /// The operator wants to stop, or the broker has gone.
    CutShort,
}

impl Run<'_> {
    /// Everything up to the end of the window, whose ticks it returns.
    fn traffic(&mut self) -> Result<Range<u32>, Error> {
        self.pass(Phase::Connecting);
        let mut stages: Vec<u8> = self.plan.groups.iter().map(|group| group.stage).collect();
        stages.sort_unstable();
        stages.dedup();
        for (index, &stage) in stages.iter().enumerate() {
            self.crew.stage(stage);
            if let Wait::CutShort = self.gather()? {
                return Ok(0..0);
            }
            if index + 1 == stages.len() {
                break;
            }
            self.crew.publish(stage);
            if let Wait::CutShort = self.gather()? {
                return Ok(0..0);
            }
        }
        self.pass(Phase::Connected);
        let begins = self.edge_after(self.clock.now_ns() + LEAD.as_nanos() as u64);
        self.crew.begin(begins);
        let opens = self.edge_after(begins + self.plan.timing.warm_up.as_nanos() as u64);
        let closes = self.edge_after(opens + self.plan.timing.window.as_nanos() as u64);
        for (phase, at_ns) in [(Phase::Warm, begins), (Phase::WindowBegins, opens)] {
            if let Wait::CutShort = self.until(at_ns)? {
                return Ok(0..0);
            }
            self.pass_at(phase, at_ns);
        }
        self.until(closes)?;
        // Ticks that are over: all of the window, or what there was of it.
        let ended = self.clock.now_ns().min(closes);
        self.pass_at(Phase::WindowEnds, ended);
        Ok((opens / self.tick_ns) as u32..(ended / self.tick_ns) as u32)
    }

    /// Waits until everybody called so far is in and has published what it is limited to.
    ///
    /// That others who are in receive something (answers to pings, at least) does not bring in who is not.
    fn gather(&mut self) -> Result<Wait, Error> {
        self.progress.0 = self.clock.now_ns();
        let mut absence = Dwindling::from(self.clock.now_ns());
        loop {
            let status = self.look(self.clock.now_ns() + LOOK.as_nanos() as u64)?;
            let absent = status.of.saturating_sub(status.arrived);
            if absent == 0 && status.unfinished == 0 {
                return Ok(Wait::Done);
            }
            if self.is_cut_short() {
                return Ok(Wait::CutShort);
            }
            let now_ns = self.clock.now_ns();
            if status.connecting > 0 {
                self.bear(absence.waited(absent, now_ns), absent, if status.arrived == 0 { FIRST } else { WAY_IN })?;
            } else if absent > 0 {
                // Nobody is on the way, as the plan's rate wants it.
                absence = Dwindling::from(now_ns);
            } else {
                self.patience(status.unacknowledged, "acknowledgements")?;
            }
        }
    }

    /// Lets traffic flow until this time.
    ///
    /// A closed loop whose messages are lost stands still, and nothing that follows means anything. An open loop goes
    /// on: what it misses is counted when the ledgers are closed.
    fn until(&mut self, at_ns: u64) -> Result<Wait, Error> {
        self.progress.0 = self.clock.now_ns();
        let mut publications = self.plan.groups.iter().flat_map(|group| &group.publish);
        let can_stall = publications.any(|of| matches!(of.pace, Pace::Outstanding(_)) && of.limit.is_none());
        while self.clock.now_ns() < at_ns {
            let status = self.look(at_ns)?;
            if self.is_cut_short() {
                return Ok(Wait::CutShort);
            }
            // What waits for somebody who is away may wait long.
            if can_stall && status.away == 0 {
                self.patience(status.due(), "deliveries or acknowledgements")?;
            }
        }
        Ok(Wait::Done)
    }

    /// Stops, drains, exchanges what was sent, takes leave.
    fn wind_up(&mut self) -> Result<(), Error> {
        self.crew.stop();
        self.dwindle(Status::due)?;
        self.pass(Phase::Drained);
        let sent = self.crew.sent()?;
        self.crew.settle(&sent);
        self.crew.leave();
        self.dwindle(|status| status.ready)?;
        self.pass(Phase::Left);
        Ok(())
    }

    fn conclude(self, window: Range<u32>) -> Result<Conducted, Error> {
        let interrupted = self.interrupted();
        let Run { crew, phases, observer, gone, .. } = self;
        let samples = crew.samples().clone();
        let mut outcome = crew.finish()?;
        let (owed, came) = (outcome.wills_owed, outcome.wills_came);
        if came < owed {
            outcome.failures.insert(0, format!("{} of {owed} wills that were owed did not come", owed - came));
        }
        if let Some(told) = gone.told {
            outcome.failures.insert(0, told);
        }
        outcome.failures.truncate(FAILURES_MAX);
        samples.try_iter().for_each(|sample| observer.sample(sample));
        Ok(Conducted { window, phases, outcome, interrupted })
    }

    /// Waits until none is left of something, or it has not become less for long. A backlog may take its time.
    fn dwindle(&mut self, left: fn(&Status) -> u64) -> Result<(), Error> {
        let began_ns = self.clock.now_ns();
        let mut dwindling = Dwindling::from(began_ns);
        loop {
            let left = left(&self.look(self.clock.now_ns() + LOOK.as_nanos() as u64)?);
            let now_ns = self.clock.now_ns();
            // Who interrupts does not want to wait for a backlog.
            let in_all = Duration::from_nanos(now_ns - began_ns);
            let waited = if self.interrupted() { in_all } else { dwindling.waited(left, now_ns) };
            // Nothing more comes from a broker that has gone.
            if left == 0 || waited >= self.plan.timing.patience || self.gone.told.is_some() {
                return Ok(());
            }
        }
    }

    /// Ends a run that failed, and says why: what the crew knows is nearer to the cause.
    fn abandon(self, error: Error) -> Error {
        self.crew.finish().err().unwrap_or(error)
    }

    /// Hands on what the threads saw, until something is worth a look, at the latest at `until_ns`.
    fn look(&mut self, until_ns: u64) -> Result<Status, Error> {
        let deadline = Instant::now() + self.clock.until(until_ns).min(LOOK);
        loop {
            match self.crew.samples().recv_deadline(deadline) {
                Ok(sample) => self.observer.sample(sample),
                Err(RecvTimeoutError::Timeout) => break,
                // Nobody is there any more: the status says so.
                Err(RecvTimeoutError::Disconnected) => {
                    thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    break;
                }
            }
        }
        let status = self.crew.status();
        self.observer.status(&status);
        if let Some(phase) = self.phases.last() {
            self.gone.look(&status, self.clock.now_ns(), *phase);
        }
        if self.progress.1 != status.arrivals {
            self.progress = (self.clock.now_ns(), status.arrivals);
        }
        // The crew tells what it was when it finishes.
        if status.failed { Err(Error::Interrupted) } else { Ok(status) }
    }

    fn patience(&self, missing: u64, what: &'static str) -> Result<(), Error> {
        self.bear(Duration::from_nanos(self.clock.now_ns().saturating_sub(self.progress.0)), missing, what)
    }

    fn bear(&self, waited: Duration, missing: u64, what: &'static str) -> Result<(), Error> {
        if missing == 0 || waited < self.plan.timing.patience {
            return Ok(());
        }
        Err(Error::Stalled { waited, missing, what })
    }

    /// What is left of the run makes no sense any more, or is not wanted.
    fn is_cut_short(&self) -> bool {
        self.interrupted() || self.gone.told.is_some()
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pass(&mut self, phase: Phase) {
        self.pass_at(phase, self.clock.now_ns());
    }

    /// Passes a boundary that was set for a time.
    fn pass_at(&mut self, phase: Phase, at_ns: u64) {
        self.phases.push((phase, at_ns));
        self.observer.phase(phase, at_ns);
    }

    /// The first edge of a tick at or after a time.
    fn edge_after(&self, at_ns: u64) -> u64 {
        at_ns.div_ceil(self.tick_ns) * self.tick_ns
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use crossbeam_channel::Receiver;

    use super::*;
    use crate::plan::Group;

    fn timing(warm_up_ms: u64, window_ms: u64) -> Timing {
        Timing {
            connect_rate: None,
            connecting: 1,
            warm_up: Duration::from_millis(warm_up_ms),
            window: Duration::from_millis(window_ms),
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_tick_divides_warm_up_and_window() {
        for (warm_up, window, tick) in
            [(1000, 4000, 1000), (0, 2500, 500), (50, 100, 50), (1000, 200, 200), (0, 0, 1000), (333, 1000, 10)]
        {
            assert_eq!(tick_for(&timing(warm_up, window)), Duration::from_millis(tick));
        }
    }

    /// A crew that is as far as a function of the time says.
    struct Actor {
        clock: Clock,
        at: fn(u64) -> Status,
        settled: Arc<Mutex<Option<Status>>>,
        samples: Receiver<Sample>,
    }

    impl Crew for Actor {
        fn samples(&self) -> &Receiver<Sample> {
            &self.samples
        }
        fn status(&mut self) -> Status {
            (self.at)(self.clock.now_ns() / 1_000_000)
        }
        fn stage(&mut self, _: u8) {}
        fn publish(&mut self, _: u8) {}
        fn begin(&mut self, _: u64) {}
        fn stop(&mut self) {}
        fn sent(&mut self) -> Result<Vec<u32>, Error> {
            Ok(Vec::new())
        }
        fn settle(&mut self, _: &[u32]) {
            *self.settled.lock().unwrap() = Some(self.status());
        }
        fn leave(&mut self) {}
        fn finish(self: Box<Self>) -> Result<Outcome, Error> {
            Ok(Outcome::default())
        }
    }

    fn group() -> Group {
        Group { keep_alive: 0, ..Group::new("actors", 2) }
    }

    struct Nobody;

    impl Observer for Nobody {
        fn sample(&mut self, _: Sample) {}
        fn phase(&mut self, _: Phase, _: u64) {}
    }

    /// Conducts it with a patience of 150 ms; what was the case when the ledgers were closed.
    fn act(window_ms: u64, stop: bool, at: fn(u64) -> Status) -> (Result<Conducted, Error>, Option<Status>) {
        let (clock, settled) = (Clock::start(), Arc::default());
        let crew = Actor { clock, at, settled: Arc::clone(&settled), samples: crossbeam_channel::never() };
        let timing = Timing { patience: Duration::from_millis(150), ..timing(0, window_ms) };
        let plan = Plan {
            name: String::new(),
            about: String::new(),
            groups: vec![group()],
            timing,
            verify: true,
            transport: <_>::default(),
        };
        let (tick, stop) = (tick_for(&plan.timing), AtomicBool::new(stop));
        let conducted = conduct(Box::new(crew), &plan, tick, clock, &stop, &mut Nobody);
        let settled = *settled.lock().unwrap();
        (conducted, settled)
    }

    #[test]
    fn a_backlog_is_waited_for_as_long_as_it_shrinks() {
        // A delivery every 20 ms: half a second, which is far more than the patience with one of them.
        let (conducted, settled) =
            act(20, false, |ms| Status { owed: 30, paid: (ms / 20).min(30), ..Status::default() });
        assert!(conducted.is_ok());
        assert_eq!(settled.unwrap().due(), 0);
    }

    #[test]
    fn what_is_lost_is_not_waited_for_because_something_else_arrives() {
        let (conducted, settled) = act(20, false, |ms| Status { owed: 1, arrivals: ms, ..Status::default() });
        let phases = conducted.unwrap().phases;
        let at = |wanted| phases.iter().find(|(phase, _)| *phase == wanted).unwrap().1;
        let drained_ms = (at(Phase::Drained) - at(Phase::WindowEnds)) / 1_000_000;
        assert!((150..2000).contains(&drained_ms), "{drained_ms} ms");
        assert_eq!(settled.unwrap().due(), 1);
    }

    #[test]
    fn who_interrupts_does_not_wait_for_a_backlog() {
        let (conducted, settled) = act(20, true, |ms| Status { owed: 10_000, paid: ms, ..Status::default() });
        assert!(conducted.unwrap().interrupted);
        assert!(settled.unwrap().due() > 5000);
    }

    #[test]
    fn a_client_that_never_gets_in_ends_the_run_although_others_are_sent_something() {
        let (conducted, _) =
            act(20, false, |ms| Status { of: 2, arrived: 1, connecting: 1, arrivals: ms, ..Status::default() });
        let error = conducted.unwrap_err().to_string();
        assert!(error.contains("while 1 CONNACK or SUBACK"), "{error}");
    }

    #[test]
    fn a_peer_that_says_nothing_to_anybody_is_asked_whether_it_speaks_mqtt() {
        let mute = |_| Status { of: 2, connecting: 2, ..Status::default() };
        let error = act(20, false, mute).0.unwrap_err().to_string();
        assert!(error.contains("is it an MQTT listener"), "{error}");
    }

    #[test]
    fn the_edges_of_the_window_are_edges_of_ticks() {
        let phases = act(30, false, |_| Status::default()).0.unwrap().phases;
        let at = |wanted| phases.iter().find(|(phase, _)| *phase == wanted).unwrap().1;
        let (begins, ends) = (at(Phase::WindowBegins), at(Phase::WindowEnds));
        assert_eq!((begins % 10_000_000, ends - begins), (0, 30_000_000));
    }

    #[test]
    fn a_slow_rate_of_connecting_is_no_stall() {
        // The second one sets out after twice the patience, and takes 50 ms.
        let late = |ms| {
            let (connecting, arrived) = (u64::from((300..350).contains(&ms)), 1 + u64::from(ms >= 350));
            Status { of: 2, arrived, connecting, ..Status::default() }
        };
        assert!(act(20, false, late).0.is_ok());
    }

    #[test]
    fn a_broker_that_has_gone_ends_the_run_although_its_window_is_long() {
        // One tries to come back and can't; of the other, who is away by the plan, nothing is known.
        let gone = |ms| match ms {
            0..1200 => Status { of: 2, arrived: 2, ready: 2, ..Status::default() },
            _ => Status { of: 2, arrived: 2, away: 2, lost: 1, rebuffed: 1, owed: 9, ..Status::default() },
        };
        let conducted = act(60_000, false, gone).0.unwrap();
        assert!(!conducted.interrupted && conducted.window.len() < 10, "{conducted:?}");
        let told = &conducted.outcome.failures[0];
        assert!(told.contains("the broker has gone, 0.2 s into the measured window: none of 2 clients"), "{told}");
    }

    #[test]
    fn clients_that_are_all_away_by_the_plan_are_no_sign_of_a_broker_that_has_gone() {
        let away = |ms| Status { of: 2, arrived: 2, ready: u64::from(ms < 100), away: 1, lost: 1, ..Status::default() };
        let conducted = act(GONE_AFTER.as_millis() as u64 + 500, false, away).0.unwrap();
        assert_eq!(conducted.outcome, Outcome::default());
    }

    #[test]
    fn loss_in_an_open_loop_is_no_stall() {
        let (conducted, settled) = act(500, false, |_| Status { owed: 1, ..Status::default() });
        assert!(conducted.is_ok());
        assert_eq!(settled.unwrap().due(), 1);
    }
}
