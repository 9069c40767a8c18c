//! What it costs to ask whether a client may: with 1, 10 and 1,000 rules, of which the last is the one that allows.
//!
//! *cached*: the topic was asked about before; *uncached*: it was not, and the rules are asked. *open* is a broker without
//! rules. *mixed* are 1,000 rules of every shape: wildcards in all places, deny rules, placeholders, conditions on user,
//! role, address, QoS and retain. *own* are rules that a client brings in its token.

#[path = "driver/sampling.rs"]
mod sampling;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringmq::acl::{Access, Action, Decisions, Format, Grants, Policy, Rule, Rules, Who};
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

/// Rules of all shapes, with the client's own at the end.
fn mixed(rules: usize) -> Policy {
    let rule = |number: usize| match number % 10 {
        0 => format!("access = \"allow\"\ntopic = \"plant/+/cell{number}/state\""),
        1 => format!("access = \"allow\"\ntopic = \"+/line{number}/#\""),
        2 => format!("access = \"deny\"\ntopic = \"plant/devices/+/secret{number}\""),
        3 => format!("access = \"allow\"\ntopic = \"plant/line{number}/${{clientid}}\""),
        4 => format!("access = \"deny\"\ntopic = \"plant/${{username}}/{number}\""),
        5 => format!("access = \"allow\"\ntopic = \"plant/devices/#\"\nuser = \"user{number}*\""),
        6 => format!("access = \"deny\"\ntopic = \"plant/#\"\naddress = \"10.0.{}.0/24\"", number % 256),
        7 => format!("access = \"allow\"\naction = \"publish\"\ntopic = \"plant/line{number}/+\"\nqos_max = 1"),
        8 => format!("access = \"deny\"\naction = \"publish\"\ntopic = \"plant/line{number}/#\"\nretain = true"),
        _ => format!("access = \"allow\"\ntopic = \"plant/line{number}/a/b/c\"\nrole = \"role{number}\""),
    };
    let last = "[[rules]]\naccess = \"allow\"\ntopic = \"plant/devices/${clientid}/#\"\n".to_owned();
    let text: String = (1..rules).map(|number| format!("[[rules]]\n{}\n", rule(number))).chain([last]).collect();
    Policy::from_text("rules", &text, Format::Toml, Access::Deny, &[]).expect("rules")
}

/// What a token may hold.
fn own(rules: usize) -> Rules {
    let rule = |filter| Rule {
        access: Access::Allow,
        action: Action::Both,
        filter,
        qos_max: None,
        retain: None,
        addresses: Vec::new(),
    };
    let others = (1..rules).map(|number| format!("plant/line{number}/+/state"));
    Rules(others.chain(["plant/devices/${clientid}/#".to_owned()]).map(rule).collect())
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
    let device = Who { user: Some("ann"), address: Some([192, 0, 2, 1].into()), ..client("device-000417") };
    let written = RULES.map(|rules| (rules.to_string(), policy(rules).grants(&client("device-000417"))));
    let none = Policy::without_rules(Access::Deny, &[]);
    let brought = [16, 256].map(|rules| {
        let rules = own(rules);
        (format!("own-{}", rules.0.len()), none.grants(&Who { rules: Some(&rules), ..device }))
    });
    let mixed = [("mixed-1000".to_owned(), mixed(1_000).grants(&device))];
    for (rules, grants) in written.into_iter().chain(mixed).chain(brought) {
        assert!(topics().iter().all(|(topic, _)| grants.publish(topic, QOS, false)));
        let mut decisions = Decisions::default();
        group.bench_function(BenchmarkId::new("cached", &rules), |bencher| {
            ask(bencher, |topic, hash| decisions.publish(&grants, topic, hash, QOS, false));
        });
        group.bench_function(BenchmarkId::new("uncached", &rules), |bencher| {
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
