//! What the engine's tests share: plans, a broker in this process, and a run of one against the other.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ringmq::config::{Draft, Limits, MqttOptions};
use ringmq::core::{Core, CoreConfig, Shared};
use ringmq::engine::Time;
use ringmq::server::{self, Running, ServerConfig};
use ringmq_loadgen::engine::{
    Clock, Conducted, Engine, Error, Observer, Phase, Setup, Slice, Status, conduct, tick_for,
};
use ringmq_loadgen::measure::{Counts, Sample};
use ringmq_loadgen::plan::{Group, Pace, Plan, Publication, Subscription, Timing};

/// A broker of two shards, until it is dropped.
pub struct Broker {
    running: Option<Running>,
    pub address: SocketAddr,
}

impl Broker {
    pub fn start() -> Self {
        Self::with("")
    }

    /// With these lines of configuration.
    pub fn with(configuration: &str) -> Self {
        let cpus = (0..2).collect();
        let (config, _) = Draft::from_text("test.toml", configuration).unwrap().check(&cpus).unwrap();
        let shared = Arc::new(Shared::new(2, 7));
        let (limits, mqtt): (Arc<Limits>, Arc<MqttOptions>) = (Arc::new(config.limits), Arc::new(config.mqtt));
        let listener: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = ServerConfig {
            listeners: vec![listener.into()],
            shards: 2,
            connections_per_shard: 4096,
            ..ServerConfig::default()
        };
        let running = server::start(server, move |shard| {
            Core::new(CoreConfig {
                shard,
                shared: Arc::clone(&shared),
                limits: Arc::clone(&limits),
                mqtt: Arc::clone(&mqtt),
                sys_interval: None,
                seed: 7,
                now: Time(0),
            })
        })
        .unwrap();
        let address = running.local_addrs()[0];
        Self { running: Some(running), address }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            running.join();
        }
    }
}

/// A plan of these groups: half a second of traffic, of which 0.3 s are measured.
pub fn plan(groups: Vec<Group>) -> Plan {
    Plan {
        name: "test".to_owned(),
        about: "a test".to_owned(),
        groups,
        timing: Timing {
            connect_rate: None,
            connecting: 16,
            warm_up: Duration::from_millis(100),
            window: Duration::from_millis(300),
            patience: Duration::from_secs(5),
        },
        verify: true,
        transport: <_>::default(),
    }
}

/// Clients that do nothing.
pub fn group(name: &str, count: u32) -> Group {
    Group { keep_alive: 60, ..Group::new(name, count) }
}

/// A group in version 5 whose sessions last.
pub fn lasting(name: &str, count: u32) -> Group {
    Group { version: 5, session_expiry: Some(3600), ..group(name, count) }
}

pub fn subscription(filter: &str, qos: u8) -> Subscription {
    Subscription::new(filter, qos)
}

pub fn publication(topic: &str, qos: u8, pace: Pace) -> Publication {
    Publication::new(topic, qos, pace)
}

/// `count` publishers, each to a subscriber of its own.
pub fn pairs(count: u32, qos: u8, pace: Pace) -> Vec<Group> {
    vec![
        Group { subscribe: vec![subscription("pair/%i", qos)], ..group("subscribers", count) },
        Group { publish: vec![publication("pair/%i", qos, pace)], ..group("publishers", count) },
    ]
}

/// Everything that an observer is told.
#[derive(Default)]
pub struct Seen {
    pub samples: Vec<Sample>,
    pub phases: Vec<Phase>,
    pub status: Status,
}

impl Observer for Seen {
    fn sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    fn phase(&mut self, phase: Phase, _: u64) {
        self.phases.push(phase);
    }

    fn status(&mut self, status: &Status) {
        self.status = *status;
    }
}

impl Seen {
    /// The sum over all samples of some ticks.
    pub fn sum(&self, field: fn(&Counts) -> u64, ticks: std::ops::Range<u32>) -> u64 {
        self.samples.iter().filter(|sample| ticks.contains(&sample.tick)).map(|sample| field(&sample.counts)).sum()
    }

    /// The sum over the whole run.
    pub fn all(&self, field: fn(&Counts) -> u64) -> u64 {
        self.sum(field, 0..u32::MAX)
    }
}

pub fn setup(plan: &Plan, host: SocketAddr, threads: usize) -> Setup {
    Setup {
        plan: Arc::new(plan.clone()),
        hosts: vec![host],
        transport: Default::default(),
        source_addresses: Vec::new(),
        cpus: vec![None; threads],
        slice: Slice::WHOLE,
        tick: tick_for(&plan.timing),
        clock: Clock::start(),
        run: fastrand::u64(..),
    }
}

/// Runs a plan with so many threads.
pub fn run(plan: &Plan, host: SocketAddr, threads: usize) -> Result<(Conducted, Seen), Error> {
    run_as(plan, setup(plan, host, threads))
}

/// The same, set up in another way.
pub fn run_as(plan: &Plan, setup: Setup) -> Result<(Conducted, Seen), Error> {
    let (tick, clock) = (setup.tick, setup.clock);
    let engine = Box::new(Engine::start(setup)?);
    let mut seen = Seen::default();
    let conducted = conduct(engine, plan, tick, clock, &AtomicBool::new(false), &mut seen)?;
    Ok((conducted, seen))
}

/// Runs a plan that has to come out without a fault, on two threads.
pub fn run_clean(plan: &Plan, host: SocketAddr) -> (Conducted, Seen) {
    let (conducted, seen) = run(plan, host, 2).unwrap();
    assert!(conducted.outcome.is_clean(), "{:?}", conducted.outcome);
    (conducted, seen)
}
