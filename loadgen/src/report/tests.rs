//! From samples to a report, over the whole way that a run takes.

use std::time::Duration;

use super::watch::{Mark, Observed};
use super::*;
use crate::engine::{Conducted, Observer, Outcome, Phase, Status};
use crate::measure::broker::{Broker, Reading};
use crate::measure::recorder::Recorder;
use crate::measure::{Sample, host, times};

const TICK: Duration = Duration::from_millis(500);

fn sample(thread: u32, tick: u32, counts: Counts) -> Sample {
    let (latency_ns, acknowledged_ns, connect_ns) = (times(), times(), times());
    let cpu_ns = 100_000_000 * u64::from(1 + thread);
    Sample { thread, tick, counts, ready: 100, cpu_ns, latency_ns, acknowledged_ns, connect_ns }
}

/// A run with ticks of half a second: a second of connecting, a second of warm-up, a window of four, one of drain;
/// two threads with 25,000 publications a tick each from the warm-up to the window's end.
fn run(broker: Option<Broker>, change: impl Fn(&mut Sample)) -> Report {
    let plan = samples::plan();
    let mut watch = Watch::new(TICK, broker, Progress::none(&plan));
    for tick in 0..14 {
        let phase = match tick {
            0 => Some(Phase::Connecting),
            2 => Some(Phase::Connected),
            4 => Some(Phase::WindowBegins),
            12 => Some(Phase::WindowEnds),
            13 => Some(Phase::Drained),
            _ => None,
        };
        if let Some(phase) = phase {
            // As the conductor does: a little after the edge.
            watch.phase(phase, (TICK * tick).as_nanos() as u64 + 300_000);
        }
        for thread in 0..2 {
            let mut sample = sample(thread, tick, Counts::default());
            match tick {
                0..2 => sample.counts = Counts { connecting: 50, connected: 50, ..Counts::default() },
                2..12 => {
                    sample.counts = Counts { published: 25_000, delivered: 25_000, ..Counts::default() };
                    let us = if tick < 4 { 900_000 } else { 100 * u64::from(thread + 1) };
                    sample.latency_ns.record_n(us * 1_000, 25_000).unwrap();
                }
                _ => {}
            }
            change(&mut sample);
            watch.sample(sample);
        }
        watch.status(&Status::default());
    }
    watch.phase(Phase::Left, 7_000_000_000);
    let conducted = Conducted { window: 4..12, phases: Vec::new(), outcome: Outcome::default(), interrupted: false };
    let command = ["ringmq-loadgen", "run", "p2p", "--password", "s3cret"].map(str::to_owned).to_vec();
    let subject =
        Subject { plan: &plan, target: vec!["127.0.0.1:1883".to_owned()], command, workers: Vec::new(), strict: false };
    Report::new(&subject, watch.finish(), &conducted)
}

#[test]
fn rates_and_latency_are_those_of_the_window() {
    let report = run(None, |_| {});
    let Summary { time, messages, latency, connect, generator, .. } = &report.summary;
    assert_eq!((time.window_seconds, time.connect_seconds.round()), (4.0, 1.0));
    assert_eq!(messages.published, Rate { count: 400_000, per_second: 100_000.0 });
    assert_eq!((messages.asked_per_second, messages.published_percent), (Some(100_000.0), Some(100.0)));
    assert_eq!(messages.delivered_percent, Some(100.0));
    let latency = latency.unwrap();
    assert!((latency.p50_us - 100.0).abs() < 1.0 && (latency.max_us - 200.0).abs() < 1.0, "{latency:?}");
    assert_eq!(report.summary.whole.published, 500_000);
    assert_eq!((connect.clients, connect.ready, connect.per_second), (200, 200, Some(200.0)));
    assert_eq!(generator.busy_percent, [(0, 20.0), (1, 40.0)]);
    assert_eq!((generator.cpu_us_per_message, generator.connecting_busy_percent), (Some(6.0), Some(40.0)));
    assert_eq!(report.warnings, [""; 0]);
    assert!(!report.json().contains("s3cret"));
}

#[test]
fn a_slow_generator_and_a_slow_broker_are_told_apart() {
    let late = run(None, |sample| {
        sample.counts.published -= sample.counts.published / 10;
        sample.counts.delivered = sample.counts.published;
    });
    assert_eq!(late.summary.messages.published_percent, Some(90.0));
    assert!(late.warnings[0].contains("behind its own schedule"), "{:?}", late.warnings);
    // In the window a tenth is missing, which comes while draining: nothing is lost.
    let slow = run(None, |sample| match sample.tick {
        4..12 => sample.counts.delivered = 22_500,
        12 => sample.counts.delivered = 20_000,
        _ => {}
    });
    assert_eq!(slow.summary.messages.delivered_percent, Some(90.0));
    assert!(slow.warnings[0].contains("did not keep up"), "{:?}", slow.warnings);
}

#[test]
fn the_brokers_process_is_read_at_each_boundary() {
    let report = run(Some(Broker::watch(std::process::id()).unwrap()), |_| {});
    let broker = report.summary.broker.as_ref().unwrap();
    assert_eq!(broker.pid, std::process::id());
    assert!(broker.rss_before_bytes > 1 << 20 && broker.rss_after_bytes > 1 << 20, "{broker:?}");
    assert!(broker.cpu_us_per_message.is_some() && broker.connect_cpu_us.is_some(), "{broker:?}");
    assert!(report.host.knobs.iter().any(|knob| knob.name == "broker open files"));
}

#[test]
fn a_broker_that_died_is_told_and_has_no_figures() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let broker = Broker::watch(child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let report = run(Some(broker), |_| {});
    assert_eq!(report.summary.broker, None);
    assert!(report.warnings.iter().any(|warning| warning.contains("no such process")), "{:?}", report.warnings);
}

#[test]
fn a_run_that_was_cut_short_has_the_rates_of_what_there_was() {
    let plan = samples::plan();
    let mut watch = Watch::new(TICK, None, Progress::none(&plan));
    watch.phase(Phase::Connecting, 0);
    watch.phase(Phase::WindowBegins, 0);
    for tick in 0..4 {
        watch.sample(sample(0, tick, Counts { published: 1_000, ..Counts::default() }));
    }
    watch.phase(Phase::WindowEnds, 1_700_000_000);
    let conducted = Conducted { window: 0..3, phases: Vec::new(), outcome: Outcome::default(), interrupted: true };
    let subject = Subject { plan: &plan, target: Vec::new(), command: Vec::new(), workers: Vec::new(), strict: false };
    let report = Report::new(&subject, watch.finish(), &conducted);
    assert_eq!(report.summary.time.window_seconds, 1.5);
    assert_eq!(report.summary.messages.published, Rate { count: 3_000, per_second: 2_000.0 });
    assert!(report.warnings[0].contains("cut short"), "{:?}", report.warnings);
}

#[test]
fn a_cost_per_message_is_of_the_time_in_which_the_messages_were_counted() {
    // Interrupted after a second and a half: of two ticks of a second, one is whole.
    let plan = samples::plan();
    let mut recorder = Recorder::new(Duration::from_secs(1));
    recorder.open_window(0);
    recorder.close_window(1);
    (0..2).for_each(|tick| recorder.add(&sample(0, tick, Counts { delivered: 1_000, ..Counts::default() })));
    let mark = |phase, at_ns: u64| Mark {
        phase,
        at_ns,
        broker: Some(Reading { cpu_ns: at_ns / 2, switches: at_ns / 1_000_000, ..Reading::default() }),
        host: host::Reading::default(),
    };
    let marks = vec![
        mark(Phase::Connecting, 0),
        mark(Phase::Connected, 0),
        mark(Phase::WindowBegins, 0),
        mark(Phase::WindowEnds, 1_500_000_000),
    ];
    let broker = Some(Broker::watch(std::process::id()).unwrap());
    let recording = recorder.finish();
    let tick = Duration::from_secs(1);
    let observed = Observed { recording, tick, marks, points: Vec::new(), broker, lost_sight: None };
    let conducted = Conducted { window: 0..1, phases: Vec::new(), outcome: Outcome::default(), interrupted: true };
    let subject = Subject { plan: &plan, target: Vec::new(), command: Vec::new(), workers: Vec::new(), strict: false };
    let cost = Report::new(&subject, observed, &conducted).summary.broker.unwrap();
    let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 1e-6;
    assert!(near(cost.cpu_us_per_message, 500.0), "{cost:?}");
    assert!(near(cost.switches_per_message, 1.0), "{cost:?}");
}
