//! One run against one broker: connect, warm up, measure, drain, take leave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::{Broker, Usage};
use crate::error::Error;
use crate::fleet::{Fleet, Tally};
use crate::net::Net;
use crate::os::{Clock, thread_cpu};
use crate::report::{BrokerCost, Connect, Generator, Latency, Report};
use crate::scenario::Scenario;

/// The longest the generator sleeps before it looks at the clock.
const WAIT: Duration = Duration::from_millis(20);

/// How to run a scenario.
#[derive(Clone)]
pub struct Options {
    /// The broker.
    pub address: SocketAddr,
    /// The CPU that the generator thread is pinned to.
    pub cpu: Option<usize>,
    /// The broker's process, to account for its costs.
    pub broker: Option<Broker>,
    /// Traffic (or silence, when idle) before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// How many clients may be on their way in at once.
    pub connecting: usize,
    /// How long nothing may arrive while something is due.
    pub patience: Duration,
    /// Set by a signal: end in order, with the results so far.
    pub stop: Arc<AtomicBool>,
}

/// Runs a scenario on a thread of its own, pinned if asked.
///
/// # Errors
///
/// Whatever made a result impossible.
pub fn run(scenario: &Scenario, options: &Options) -> Result<Report, Error> {
    let lasts = options.warm_up + options.window;
    if scenario.keep_alive > 0 && lasts >= Duration::from_secs(u64::from(scenario.keep_alive)) {
        return Err(Error::Usage(format!("--keep-alive must be 0 or longer than the run ({lasts:?})")));
    }
    let body = || {
        pin(options.cpu)?;
        Run::new(scenario, options)?.whole(scenario)
    };
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Pins the calling thread, and with it the children that it starts.
///
/// # Errors
///
/// When the CPU does not exist or is forbidden.
pub fn pin(cpu: Option<usize>) -> Result<(), Error> {
    match cpu {
        Some(id) if !core_affinity::set_for_current(core_affinity::CoreId { id }) => {
            Err(Error::Usage(format!("can't run on CPU {id}: is it online, and allowed by taskset or a cgroup?")))
        }
        _ => Ok(()),
    }
}

struct Run<'a> {
    options: &'a Options,
    fleet: Fleet,
    net: Net,
    /// The time after the last turn.
    now: Instant,
    /// When something last arrived, and the count of arrivals then.
    progress: (Instant, u64),
}

/// Readings at one end of a window.
struct Reading {
    at: Instant,
    own: Duration,
    broker: Option<Usage>,
}

impl<'a> Run<'a> {
    fn new(scenario: &Scenario, options: &'a Options) -> Result<Self, Error> {
        let fleet = Fleet::new(scenario, Clock::start());
        let net = Net::new().map_err(Error::Ring)?;
        let now = Instant::now();
        Ok(Self { options, fleet, net, now, progress: (now, 0) })
    }

    fn whole(mut self, scenario: &Scenario) -> Result<Report, Error> {
        let rss_before = self.rss()?;
        let start = self.reading()?;
        self.establish()?;
        let connect = self.connect(&Span::between(&start, &self.reading()?));
        self.fleet.start(self.net.links());
        self.pass(self.options.warm_up)?;
        if self.interrupted() {
            return Err(Error::Interrupted);
        }
        self.fleet.take_tally();
        let from = self.reading()?;
        self.pass(self.options.window)?;
        let span = Span::between(&from, &self.reading()?);
        let tally = self.fleet.take_tally();
        let rss = rss_before.zip(self.rss()?);
        self.settle()?;
        Ok(Report {
            scenario: scenario.clone(),
            seconds: span.seconds,
            delivered: tally.delivered,
            delivered_per_second: tally.delivered as f64 / span.seconds,
            latency_us: latency(&tally),
            connect,
            generator: generator(&span, tally.delivered),
            broker: span.broker.zip(rss).map(|(usage, rss)| self.broker(&span, usage, rss, tally.delivered)),
            faults: self.fleet.faults(),
            interrupted: self.interrupted(),
        })
    }

    /// Brings every client in, a bounded number at once.
    fn establish(&mut self) -> Result<(), Error> {
        let (mut started, all) = (0, self.fleet.len());
        while self.fleet.ready() < all {
            if self.interrupted() {
                return Err(Error::Interrupted);
            }
            while started < all && started - self.fleet.ready() < self.options.connecting {
                let address = self.options.address;
                let failed = |source| Error::Connect { address, count: started + 1, source };
                let link = self.net.connect(address).map_err(failed)?;
                self.fleet.greet(self.net.links(), link);
                started += 1;
            }
            self.turn()?;
            self.patience("CONNACK or SUBACK packets", |fleet| (all - fleet.ready()) as u64)?;
        }
        Ok(())
    }

    /// Lets traffic flow for a while, or until interrupted.
    fn pass(&mut self, duration: Duration) -> Result<(), Error> {
        let end = Instant::now() + duration;
        self.progress.0 = Instant::now();
        while self.now < end && !self.interrupted() {
            self.turn()?;
            self.patience("deliveries or acknowledgements", Fleet::under_way)?;
        }
        Ok(())
    }

    /// Waits for what is under way, then takes leave.
    fn settle(&mut self) -> Result<(), Error> {
        self.fleet.stop();
        let deadline = Instant::now() + self.options.patience;
        while self.fleet.under_way() > 0 && self.now < deadline {
            self.turn()?;
        }
        self.fleet.disconnect(self.net.links());
        self.net.turn(&mut self.fleet, Duration::ZERO).map_err(Error::Ring)
    }

    fn turn(&mut self) -> Result<(), Error> {
        self.net.turn(&mut self.fleet, WAIT).map_err(Error::Ring)?;
        self.now = Instant::now();
        if self.progress.1 != self.fleet.arrivals() {
            self.progress = (self.now, self.fleet.arrivals());
        }
        self.fleet.failure().map_or(Ok(()), Err)
    }

    fn patience(&self, what: &'static str, due: impl Fn(&Fleet) -> u64) -> Result<(), Error> {
        let waited = self.now.saturating_duration_since(self.progress.0);
        if waited < self.options.patience {
            return Ok(());
        }
        match due(&self.fleet) {
            0 => Ok(()),
            missing => Err(Error::Stalled { waited, missing, what }),
        }
    }

    fn interrupted(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    fn reading(&self) -> Result<Reading, Error> {
        let broker = self.options.broker.map(Broker::usage).transpose()?;
        Ok(Reading { at: Instant::now(), own: thread_cpu(), broker })
    }

    fn rss(&self) -> Result<Option<u64>, Error> {
        self.options.broker.map(Broker::rss).transpose()
    }

    fn connect(&self, span: &Span) -> Connect {
        let clients = self.fleet.len();
        let per_client = |usage: Usage| usage.cpu_ns as f64 / 1e3 / clients as f64;
        Connect { clients, seconds: span.seconds, broker_cpu_us_per_client: span.broker.map(per_client) }
    }

    fn broker(&self, span: &Span, usage: Usage, (rss_before, rss_after): (u64, u64), delivered: u64) -> BrokerCost {
        BrokerCost {
            busy_percent: usage.cpu_ns as f64 / 1e7 / span.seconds,
            cpu_us_per_message: per_message(usage.cpu_ns as f64 / 1e3, delivered),
            switches_per_message: per_message(usage.switches as f64, delivered),
            switches_per_second: usage.switches as f64 / span.seconds,
            rss_before,
            rss_after,
            rss_per_connection: (rss_after as f64 - rss_before as f64) / self.fleet.len() as f64,
        }
    }
}

/// What passed and was used between two readings.
struct Span {
    seconds: f64,
    own: Duration,
    broker: Option<Usage>,
}

impl Span {
    fn between(from: &Reading, to: &Reading) -> Self {
        Self {
            seconds: (to.at - from.at).as_secs_f64(),
            own: to.own - from.own,
            broker: from.broker.zip(to.broker).map(|(from, to)| to - from),
        }
    }
}

fn generator(span: &Span, delivered: u64) -> Generator {
    let own = span.own.as_secs_f64();
    Generator { busy_percent: own / span.seconds * 100.0, cpu_us_per_message: per_message(own * 1e6, delivered) }
}

fn latency(tally: &Tally) -> Option<Latency> {
    let at = |quantile| tally.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    let max = tally.latency_ns.max() as f64 / 1e3;
    (tally.delivered > 0).then(|| Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max })
}

fn per_message(total: f64, delivered: u64) -> Option<f64> {
    (delivered > 0).then(|| total / delivered as f64)
}
