//! What it costs to ask whether a client may: with 1, 10 and 1,000 rules, of which the last is the one that allows.
//!
//! *cached*: the topic was asked about before; *uncached*: every rule is looked at. *open* is a broker without rules.

#[path = "driver/sampling.rs"]
mod sampling;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringmq::acl::{Access, Decisions, Format, Grants, Policy, Who};
use ringmq::codec::QoS;
use ringmq::index::{HashSeed, topic_hash};
use sampling::sampling;

const RULES: [usize; 3] = [1, 10, 1_000];
/// Topics that are asked about in turn.
const TOPICS: usize = 16;
const QOS: QoS = QoS::AtLeastOnce;

static NO_CLAIMS: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();

fn client(client_id: &str) -> Who<'_> {
    Who { client_id, user: None, common_name: None, roles: &[], claims: &NO_CLAIMS, address: None, rules: None }
}

/// Rules about other parts of the plant, then the client's own.
fn policy(rules: usize) -> Policy {
    let others = (1..rules).map(|number| format!("topic readwrite plant/line{number}/+/state\n"));
    let text: String = others.chain(["pattern readwrite plant/devices/%c/#\n".to_owned()]).collect();
    Policy::from_text("rules", &text, Format::Mosquitto, Access::Deny, &[]).expect("rules")
}

fn topics() -> Vec<(String, u64)> {
    let seed = HashSeed::from_u64(1);
    let topic = |number| {
        let topic = format!("plant/devices/device-000417/sensors/{number}");
        let hash = topic_hash(&seed, &topic);
        (topic, hash)
    };
    (0..TOPICS).map(topic).collect()
}

/// Times one question about each topic in turn.
fn ask(bencher: &mut criterion::Bencher<'_>, mut question: impl FnMut(&str, u64) -> bool) {
    let topics = topics();
    let mut next = 0;
    bencher.iter(|| {
        next = (next + 1) % TOPICS;
        let (topic, hash) = &topics[next];
        question(black_box(topic), *hash)
    });
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acl/publish");
    for rules in RULES {
        let grants = policy(rules).grants(&client("device-000417"));
        assert!(topics().iter().all(|(topic, _)| grants.publish(topic, QOS, false)));
        let mut decisions = Decisions::default();
        group.bench_function(BenchmarkId::new("cached", rules), |bencher| {
            ask(bencher, |topic, hash| decisions.publish(&grants, topic, hash, QOS, false));
        });
        group.bench_function(BenchmarkId::new("uncached", rules), |bencher| {
            ask(bencher, |topic, _| grants.publish(topic, QOS, false));
        });
    }
    let open = Policy::without_rules(Access::Allow, &[]).grants(&client("device-000417"));
    let mut decisions = Decisions::default();
    group.bench_function("open", |bencher| {
        ask(bencher, |topic, hash| decisions.publish(&open, topic, hash, QOS, false));
    });
    group.finish();
}

/// Once for each SUBSCRIBE.
fn subscribe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acl/subscribe");
    for rules in RULES {
        let grants = policy(rules).grants(&client("device-000417"));
        group.bench_function(BenchmarkId::from_parameter(rules), |bencher| {
            bencher.iter(|| grants.subscribe(black_box("plant/devices/device-000417/commands/+"), QOS));
        });
    }
    group.finish();
}

/// Once for each CONNECT.
fn fill_in(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acl/grants");
    for rules in RULES {
        let policy = policy(rules);
        group.bench_function(BenchmarkId::from_parameter(rules), |bencher| {
            bencher.iter(|| -> Grants { policy.grants(&client(black_box("device-000417"))) });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = sampling(); targets = publish, subscribe, fill_in }
criterion_main!(benches);
