//! One run against one broker: started fresh, driven, watched, and boiled down to the figures that are compared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::Error;
use super::brokers::Spec;
use super::bystanders::Bystanders;
use super::figures::Figures;
use super::process::{Placement, start};
use crate::engine::{Clock, Engine, Setup, Slice, conduct, tick_for};
use crate::measure::broker::Broker;
use crate::measure::quantiles::Times;
use crate::plan::Plan;
use crate::report::{self, Progress, Report, Summary, Watch};

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
    /// What a reader must know before believing them.
    pub warnings: Vec<String>,
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
        Load::Start => Ok(Trial { figures: at_rest(subject)?, warnings: Vec::new(), complaint: None }),
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
    let mut broker = Broker::watch(running.pid())?;
    let (bystanders, before) = (Bystanders::watch(), broker.read()?.cpu_ns);
    let engine = Engine::start(setup(plan, running.address, subject, tick, clock))?;
    let mut watch = Watch::new(tick, Some(broker), Progress::none(plan));
    let conducted = conduct(Box::new(engine), plan, tick, clock, stop, &mut watch)?;
    let about = report::Subject { plan, target: Vec::new(), command: Vec::new(), workers: Vec::new(), strict: true };
    let report = Report::new(&about, watch.finish(), &conducted);
    let used = Broker::watch(running.pid())?.read()?.cpu_ns.saturating_sub(before);
    let others_busy_percent = Some(bystanders.busy_percent(used as f64));
    let figures = Figures { others_busy_percent, ..figures(&report.summary, subject.broker_cpus.len()) };
    Ok(Trial { figures, complaint: complaint(&report), warnings: report.warnings })
}

fn setup(plan: &Arc<Plan>, address: SocketAddr, subject: &Subject, tick: Duration, clock: Clock) -> Setup {
    Setup {
        plan: Arc::clone(plan),
        hosts: vec![address],
        transport: Default::default(),
        source_addresses: Vec::new(),
        cpus: subject.generator_cpus.iter().copied().map(Some).collect(),
        slice: Slice::WHOLE,
        tick,
        clock,
        run: fastrand::u64(..),
    }
}

/// What keeps a run from counting: here a message lost at QoS 0 does too.
fn complaint(report: &Report) -> Option<String> {
    if report.summary.time.interrupted {
        return Some("interrupted".to_owned());
    }
    let failed = report.verdict().failed;
    let findings = failed.iter().map(|finding| format!("{} {}", finding.count, finding.what));
    let words: Vec<String> = findings.chain(report.failures.iter().cloned()).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn figures(summary: &Summary, shards: usize) -> Figures {
    let broker = summary.broker.as_ref();
    let latency = |of: fn(&Times) -> f64| summary.latency.as_ref().map(of);
    let cpu_us_per_message = broker.and_then(|cost| cost.cpu_us_per_message);
    let threads = summary.generator.busy_percent.iter().map(|(_, percent)| *percent);
    Figures {
        cpu_us_per_message,
        cpu_us_per_client: broker.and_then(|cost| cost.connect_cpu_us),
        delivered_per_second: Some(summary.messages.delivered.per_second),
        capacity_per_second: cpu_us_per_message.map(|us| shards as f64 * 1e6 / us),
        p50_us: latency(|times| times.p50_us),
        p99_us: latency(|times| times.p99_us),
        p999_us: latency(|times| times.p999_us),
        switches_per_message: broker.and_then(|cost| cost.switches_per_message),
        broker_busy_percent: broker.map(|cost| cost.busy_percent),
        rss_at_start: broker.map(|cost| cost.rss_before_bytes as f64),
        rss_per_connection: broker.and_then(|cost| cost.rss_per_connection_bytes),
        generator_busy_percent: threads.reduce(f64::max),
        others_busy_percent: None,
    }
}
