//! One run against one broker: started fresh, driven, watched, and boiled down to the figures that are compared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::Error;
use super::brokers::Spec;
use super::figures::Figures;
use super::process::{Placement, start};
use crate::engine::{Clock, Conducted, Engine, Observer, Outcome, Phase, Setup, Slice, conduct, tick_for};
use crate::measure::Sample;
use crate::measure::broker::{Broker, Reading};
use crate::measure::recorder::{Recorder, Recording};
use crate::plan::Plan;

/// A broker that has just begun to answer may still be setting itself up.
const SETTLED_AFTER: Duration = Duration::from_millis(500);

/// Who is measured, and where.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The name in tables.
    pub name: String,
    /// What is started.
    pub spec: Spec,
    /// The CPUs of the broker: one shard for each.
    pub broker_cpus: Vec<usize>,
    /// The CPUs of the generator: one thread for each.
    pub generator_cpus: Vec<usize>,
}

/// What a subject has to do.
#[derive(Clone, Debug)]
pub enum Load {
    /// To stand a plan.
    Plan(Arc<Plan>),
    /// Nothing: how much memory it takes then.
    Start,
}

/// What came of it.
pub struct Trial {
    /// The figures.
    pub figures: Figures,
    /// What went wrong, in words; none when all went well.
    pub complaint: Option<String>,
}

impl Load {
    /// Whether a subject can do that at all.
    pub fn suits(&self, subject: &Subject) -> bool {
        match self {
            Load::Plan(plan) => subject.spec.suits(plan),
            Load::Start => true,
        }
    }
}

/// Measures.
///
/// # Errors
///
/// A broker that doesn't start, a run that gives no result.
pub fn measure(load: &Load, subject: &Subject, stop: &AtomicBool) -> Result<Trial, Error> {
    match load {
        Load::Plan(plan) => drive(plan, subject, stop),
        Load::Start => Ok(Trial { figures: at_rest(subject)?, complaint: None }),
    }
}

fn at_rest(subject: &Subject) -> Result<Figures, Error> {
    let running = start(&subject.spec, &Placement::on(&subject.broker_cpus))?;
    thread::sleep(SETTLED_AFTER);
    let rss = Broker::watch(running.pid())?.read_exact()?.rss_bytes;
    Ok(Figures { rss_at_start: Some(rss as f64), ..Figures::default() })
}

fn drive(plan: &Arc<Plan>, subject: &Subject, stop: &AtomicBool) -> Result<Trial, Error> {
    let level = plan.groups.iter().map(|group| group.version).max().unwrap_or(4);
    let running = start(&subject.spec, &Placement { level, ..Placement::on(&subject.broker_cpus) })?;
    let (tick, clock) = (tick_for(&plan.timing), Clock::start());
    let mut watch = Watch::new(running.pid(), tick)?;
    let engine = Engine::start(setup(plan, running.address, subject, tick, clock))?;
    let conducted = conduct(Box::new(engine), plan, tick, clock, stop, &mut watch)?;
    let complaint = complaint(&conducted);
    let shards = subject.broker_cpus.len() as f64;
    Ok(Trial { figures: watch.figures(&conducted, clients(plan), shards)?, complaint })
}

fn setup(plan: &Arc<Plan>, address: SocketAddr, subject: &Subject, tick: Duration, clock: Clock) -> Setup {
    Setup {
        plan: Arc::clone(plan),
        hosts: vec![address],
        source_addresses: Vec::new(),
        cpus: subject.generator_cpus.iter().copied().map(Some).collect(),
        slice: Slice::WHOLE,
        tick,
        clock,
    }
}

fn clients(plan: &Plan) -> f64 {
    plan.groups.iter().map(|group| f64::from(group.count)).sum()
}

fn complaint(Conducted { outcome, interrupted, .. }: &Conducted) -> Option<String> {
    let Outcome { faults, dropped, failures } = outcome;
    match (interrupted, outcome.is_clean()) {
        (true, _) => Some("interrupted".to_owned()),
        (false, true) => None,
        (false, false) if failures.is_empty() => Some(format!("{faults:?}, {dropped} connections dropped")),
        (false, false) => Some(format!("{}; {faults:?}, {dropped} connections dropped", failures.join("; "))),
    }
}

/// Collects samples, and reads the broker's accounts at the edges of phases.
struct Watch {
    broker: Broker,
    recorder: Recorder,
    readings: Vec<(Phase, u64, Result<Reading, crate::measure::broker::Error>)>,
    tick: Duration,
}

impl Observer for Watch {
    fn sample(&mut self, sample: Sample) {
        self.recorder.add(&sample);
    }

    fn phase(&mut self, phase: Phase, at_ns: u64) {
        let tick = (at_ns / self.tick.as_nanos() as u64) as u32;
        match phase {
            Phase::WindowBegins => self.recorder.open_window(tick),
            Phase::WindowEnds => self.recorder.close_window(tick),
            Phase::Connecting | Phase::Connected => {}
            Phase::Warm | Phase::Drained | Phase::Left => return,
        }
        // Memory takes a walk over all pages: not while messages are timed, but when the window is over.
        let reading = match phase {
            Phase::Connecting | Phase::WindowEnds => self.broker.read_exact(),
            _ => self.broker.read(),
        };
        self.readings.push((phase, at_ns, reading));
    }
}

/// What passed between two readings.
struct Span {
    ns: f64,
    cpu_ns: f64,
    switches: f64,
}

impl Watch {
    fn new(pid: u32, tick: Duration) -> Result<Self, Error> {
        Ok(Self { broker: Broker::watch(pid)?, recorder: Recorder::new(tick), readings: Vec::new(), tick })
    }

    fn reading(&self, phase: Phase) -> Result<Option<(u64, Reading)>, Error> {
        match self.readings.iter().find(|(at, ..)| *at == phase) {
            Some((_, at_ns, Ok(reading))) => Ok(Some((*at_ns, *reading))),
            Some((_, _, Err(error))) => {
                Err(Error::Usage(format!("the broker ended in the middle of the run: {error}")))
            }
            None => Ok(None),
        }
    }

    fn span(&self, from: Phase, to: Phase) -> Result<Option<Span>, Error> {
        let (Some((began, from)), Some((ended, to))) = (self.reading(from)?, self.reading(to)?) else {
            return Ok(None);
        };
        let less = |to: u64, from: u64| to.saturating_sub(from) as f64;
        let (cpu_ns, switches) = (less(to.cpu_ns, from.cpu_ns), less(to.switches, from.switches));
        Ok(Some(Span { ns: less(ended, began), cpu_ns, switches }))
    }

    fn figures(self, conducted: &Conducted, clients: f64, shards: f64) -> Result<Figures, Error> {
        let in_window = self.span(Phase::WindowBegins, Phase::WindowEnds)?;
        let coming_in = self.span(Phase::Connecting, Phase::Connected)?;
        let rss = |phase| Ok::<_, Error>(self.reading(phase)?.map(|(_, reading)| reading.rss_bytes as f64));
        let (before, after) = (rss(Phase::Connecting)?, rss(Phase::WindowEnds)?);
        let window = self.tick * conducted.window.len() as u32;
        let mut figures = of_recording(&self.recorder.finish(), window);
        figures.rss_at_start = before;
        figures.rss_per_connection = before.zip(after).map(|(before, after)| (after - before) / clients);
        figures.cpu_us_per_client = coming_in.map(|span| span.cpu_ns / 1e3 / clients);
        if let Some(Span { ns, cpu_ns, switches }) = in_window {
            let delivered = figures.delivered_per_second.filter(|rate| *rate > 0.0).map(|rate| rate * ns / 1e9);
            figures.broker_busy_percent = Some(cpu_ns / ns * 100.0);
            figures.cpu_us_per_message = delivered.map(|delivered| cpu_ns / 1e3 / delivered);
            figures.switches_per_message = delivered.map(|delivered| switches / delivered);
            figures.capacity_per_second = delivered.map(|delivered| delivered * 1e9 / cpu_ns * shards);
        }
        Ok(figures)
    }
}

/// What the generator saw.
fn of_recording(recording: &Recording, window: Duration) -> Figures {
    let seconds = window.as_secs_f64();
    let totals = &recording.window;
    let latency = |quantile| {
        let measured = !totals.latency_ns.is_empty();
        measured.then(|| totals.latency_ns.value_at_quantile(quantile) as f64 / 1e3)
    };
    let busiest = totals.cpu_ns.values().max().map(|ns| *ns as f64 / 1e7 / seconds);
    Figures {
        delivered_per_second: (seconds > 0.0).then(|| totals.counts.delivered as f64 / seconds),
        p50_us: latency(0.5),
        p99_us: latency(0.99),
        p999_us: latency(0.999),
        generator_busy_percent: busiest.filter(|percent| percent.is_finite()),
        ..Figures::default()
    }
}
