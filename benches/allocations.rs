//! Counts heap allocations of the core per message and fails when the QoS 0 local path makes any beyond what
//! the payload needs: none for a payload small enough to be copied, two for one that is referenced (the message
//! that outlives the receive buffer, and the handle that the output holds on it).
//!
//! And the bytes that rules cost each session: what they say of a client, never a copy of them.
//!
//! Run by `cargo test` too, because a count is as good on a busy machine as on a quiet one.

mod driver;
#[path = "driver/heap.rs"]
mod heap;

use std::collections::BTreeMap;
use std::process::ExitCode;

use ringmq::acl::{Access, Format, Grants, Policy, Who};
use ringmq::codec::QoS;

use driver::{Driver, publish};

const MESSAGES: u32 = 10_000;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// A load, and how many allocations per message it may make; `None` only tells.
struct Case {
    name: &'static str,
    qos: QoS,
    payload: usize,
    filter: &'static str,
    subscribers: u32,
    /// PUBLISH packets that arrive together.
    batch: u16,
    limit: Option<u64>,
}

const fn case(name: &'static str, qos: QoS, payload: usize, limit: Option<u64>) -> Case {
    Case { name, qos, payload, filter: "sensor/7/state", subscribers: 1, batch: 1, limit }
}

const CASES: [Case; 8] = [
    case("QoS 0, 64 bytes", QoS::AtMostOnce, 64, Some(0)),
    Case { batch: 32, ..case("QoS 0, 64 bytes, 32 at once", QoS::AtMostOnce, 64, Some(0)) },
    Case { filter: "sensor/+/state", ..case("QoS 0, 64 bytes, wildcard", QoS::AtMostOnce, 64, Some(0)) },
    Case { subscribers: 100, ..case("QoS 0, 64 bytes, 100 subscribers", QoS::AtMostOnce, 64, Some(0)) },
    case("QoS 0, 100,000 bytes", QoS::AtMostOnce, 100_000, Some(2)),
    Case { subscribers: 100, ..case("QoS 0, 100,000 bytes, 100 subscribers", QoS::AtMostOnce, 100_000, Some(2)) },
    case("QoS 1, 64 bytes", QoS::AtLeastOnce, 64, Some(1)),
    case("QoS 2, 64 bytes", QoS::ExactlyOnce, 64, Some(1)),
];

fn main() -> ExitCode {
    let verdicts = CASES.map(|case| judge(&case, allocations(&case)));
    let is_lean = judge_grants();
    if verdicts.contains(&false) || !is_lean { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Sessions whose grants are weighed, and what those of one may weigh.
const SESSIONS: usize = 10_000;
const GRANTS_BYTES_MAX: usize = 320;

/// What 1,000 rules cost each session, one of which holds a placeholder.
fn judge_grants() -> bool {
    let others = (1..1_000).map(|number| format!("topic readwrite plant/line{number}/+/state\n"));
    let text: String = others.chain(["pattern readwrite plant/devices/%c/#\n".to_owned()]).collect();
    let policy = Policy::from_text("rules", &text, Format::Mosquitto, Access::Deny, &[]).expect("rules");
    let (claims, before) = (BTreeMap::new(), heap::bytes());
    let mut all = Vec::with_capacity(SESSIONS);
    let list = heap::bytes() - before;
    all.extend((0..SESSIONS).map(|number| {
        let client_id = &format!("device-{number:06}");
        let who =
            Who { client_id, user: None, common_name: None, roles: &[], claims: &claims, address: None, rules: None };
        policy.grants(&who)
    }));
    let each = (heap::bytes() - before - list) / SESSIONS;
    let own = |grants: &Grants, number: usize| {
        grants.publish(&format!("plant/devices/device-{number:06}/x"), QoS::AtMostOnce, false)
    };
    assert!((0..SESSIONS).all(|number| own(&all[number], number) && !own(&all[number], number + 1)));
    let passed = each <= GRANTS_BYTES_MAX;
    let verdict = if passed { "ok" } else { "FAILED" };
    println!(
        "{:<38} {each} bytes per session ({verdict}, at most {GRANTS_BYTES_MAX})",
        "1,000 rules, one with a placeholder"
    );
    passed
}

/// How many allocations the core makes for [`MESSAGES`] messages once it is warm.
fn allocations(case: &Case) -> u64 {
    let mut driver = Driver::new();
    for subscriber in 0..case.subscribers {
        driver.client(&format!("subscriber-{subscriber}"), Some((case.filter, case.qos)));
    }
    let publisher = driver.client("publisher", None);
    let payload = vec![7; case.payload];
    let one = |id| publish("sensor/7/state", case.qos, id, &payload);
    let batch: Vec<u8> = (1..=case.batch).flat_map(one).collect();
    let batches = MESSAGES / u32::from(case.batch);
    (0..batches).for_each(|_| driver.receive(publisher, &batch));
    let (allocated, delivered) = (heap::allocations(), driver.delivered);
    (0..batches).for_each(|_| driver.receive(publisher, &batch));
    let made = heap::allocations() - allocated;
    let expected = u64::from(batches) * u64::from(case.batch) * u64::from(case.subscribers);
    assert_eq!(driver.delivered - delivered, expected, "{}: every message was delivered", case.name);
    made
}

fn judge(case: &Case, made: u64) -> bool {
    let passed = case.limit.is_none_or(|limit| made <= limit * u64::from(MESSAGES));
    let per_message = made as f64 / f64::from(MESSAGES);
    let verdict = match case.limit {
        Some(limit) if passed => format!("ok, at most {limit}"),
        Some(limit) => format!("FAILED, at most {limit}"),
        None => "told only".to_owned(),
    };
    println!("{:<38} {per_message:.4} allocations per message ({verdict})", case.name);
    passed
}
