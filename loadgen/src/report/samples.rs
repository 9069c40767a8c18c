//! A report with round figures, for the tests of this room.

use std::time::Duration;

use super::*;
use crate::measure::quantiles::{Quantiles, curve};
use crate::measure::times;
use crate::plan::{Group, Pace, Publication, Subscription, Timing};

/// 100 publishers and 100 subscribers, 100,000 messages a second for 4 s.
pub fn plan() -> Plan {
    let timing = Timing {
        connect_rate: None,
        connecting: 64,
        warm_up: Duration::from_secs(1),
        window: Duration::from_secs(4),
        patience: Duration::from_secs(5),
    };
    let publication = Publication::new("p2p/%i", 1, Pace::Rate { per_second: 100_000.0, poisson: false });
    let subscription = Subscription::new("p2p/%i", 1);
    let (publishers, subscribers) = (
        Group { publish: vec![publication], stage: 1, ..Group::new("publishers", 100) },
        Group { subscribe: vec![subscription], ..Group::new("subscribers", 100) },
    );
    let about = "pairs of one publisher and one subscriber each".to_owned();
    Plan {
        name: "p2p".to_owned(),
        about,
        groups: vec![publishers, subscribers],
        timing,
        verify: true,
        transport: <_>::default(),
    }
}

fn round_times() -> Times {
    Times {
        count: 400_000,
        mean_us: 50.0,
        deviation_us: 28.9,
        p50_us: 50.0,
        p90_us: 90.0,
        p99_us: 99.0,
        p999_us: 1_234.0,
        p9999_us: 5_678.0,
        max_us: 12_345.0,
    }
}

/// A clean run.
pub fn report() -> Report {
    let mut histogram = times();
    (1..=1_000).for_each(|us| histogram.record_n(us * 1_000, 400).expect("in bounds"));
    Report {
        format: FORMAT,
        about: About {
            target: vec!["127.0.0.1:1883".to_owned()],
            command: "ringmq-loadgen run p2p --password ***".to_owned(),
            ended: "2026-01-02T03:04:05Z".to_owned(),
            version: "0.1.0".to_owned(),
            commit: Some("0123456789ab".to_owned()),
            workers: Vec::new(),
        },
        host: Host {
            name: "bench".to_owned(),
            kernel: "Linux 6.18.0 x86_64".to_owned(),
            cpu: "A CPU <at> 2 GHz".to_owned(),
            cpus: 2,
            memory_bytes: 24 << 30,
            is_virtual: true,
            knobs: vec![Knob { name: "net.core.somaxconn".to_owned(), value: "4096".to_owned() }],
        },
        plan: plan(),
        strict: false,
        summary: summary(),
        warnings: Vec::new(),
        failures: Vec::new(),
        distributions: Distributions {
            latency: curve(&histogram),
            acknowledged: curve(&histogram),
            connect: curve(&histogram),
        },
        series: (0..7).map(row).collect(),
        broker_series: (1..7).map(broker_point).collect(),
    }
}

fn summary() -> Summary {
    let rate = |count: u64| Rate { count, per_second: count as f64 / 4.0 };
    Summary {
        time: Time {
            connect_seconds: 0.15,
            window_at: (2.0, 6.0),
            window_seconds: 4.0,
            window_asked_seconds: 4.0,
            drain_seconds: 0.1,
            total_seconds: 6.5,
            interrupted: false,
        },
        connect: Connect {
            clients: 200,
            ready_max: 200,
            ready: 200,
            per_second: Some(1_333.0),
            times: Some(round_times()),
        },
        messages: Messages {
            published: rate(400_000),
            delivered: rate(400_004),
            acknowledged: rate(400_008),
            bytes_out: rate(32_000_000),
            bytes_in: rate(33_000_000),
            asked_per_second: Some(100_000.0),
            published_percent: Some(100.0),
            delivered_percent: Some(100.0),
        },
        latency: Some(round_times()),
        acknowledged: Some(round_times()),
        whole: Counts { connected: 200, published: 500_000, delivered: 500_000, ..Counts::default() },
        faults: Faults::default(),
        verified: true,
        broker: Some(BrokerCost {
            pid: 4321,
            command: "ringmq --config x".to_owned(),
            busy_percent: 85.0,
            kernel_percent: Some(90.0),
            cpu_us_per_message: Some(8.5),
            switches_per_message: Some(0.42),
            switches_per_second: 42_000.0,
            instructions_per_message: None,
            uncounted: Some("this machine has no counter".to_owned()),
            connect_cpu_us: Some(31.0),
            rss_before_bytes: 8 << 20,
            rss_connected_bytes: (8 << 20) + 204_800,
            rss_after_bytes: (8 << 20) + 204_800,
            rss_per_connection_bytes: Some(1_024.0),
            waited_percent: 0.5,
            throttled_seconds: 0.0,
        }),
        generator: GeneratorCost {
            busy_percent: vec![(0, 70.0), (1, 62.0)],
            connecting_busy_percent: Some(41.0),
            cpu_us_per_message: Some(3.1),
            waited_percent: 0.25,
        },
        kernel: KernelCost {
            slab_before_bytes: 90 << 20,
            slab_after_bytes: 91 << 20,
            slab_per_connection_bytes: Some(5_242.0),
            tcp_after_bytes: 1 << 20,
            stolen_percent: 0.1,
        },
    }
}

fn row(second: u32) -> Row {
    let busy = (2..6).contains(&second);
    let quantiles = Quantiles { p50_us: 50.0, p99_us: 99.0, p999_us: 1_234.0 };
    Row {
        at: f64::from(second),
        seconds: if second == 6 { 0.5 } else { 1.0 },
        in_window: busy,
        counts: Counts { published: 100_000, delivered: 100_001, acknowledged: 100_002, ..Counts::default() },
        ready: 200,
        latency: Some(quantiles),
        acknowledged: Some(quantiles),
        connect: (second == 0).then_some(quantiles),
        generator_percent: vec![70.0, 62.0],
    }
}

fn broker_point(second: u32) -> BrokerPoint {
    BrokerPoint {
        at: f64::from(second) + 0.1,
        busy_percent: 85.0,
        switches_per_second: 42_000.0,
        rss_bytes: (8 << 20) + 204_800,
    }
}
