//! rumqttc in 3.1.1 and 5.0 against the broker on port `E2E_PORT`.
//!
//! Prints `ok NAME` or `FAIL NAME reason` for each test and closes with `N passed, N failed`, as every suite here.

mod peer;

use std::future::Future;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peer::{Options, Outcome, Peer, Version};
use tokio::time::timeout;

const TEST: Duration = Duration::from_secs(60);

/// Counts tests and names what they use.
struct Suite {
    port: u16,
    only: Option<String>,
    passed: u32,
    failed: u32,
}

impl Suite {
    async fn run(&mut self, name: &str, version: Version, test: impl Future<Output = Outcome>) {
        let label = if version == Version::V5 { "5.0" } else { "3.1.1" };
        let name = format!("rumqttc/{name}[{label}]");
        if self.only.as_ref().is_some_and(|part| !name.contains(part)) {
            return;
        }
        match timeout(TEST, test).await.unwrap_or_else(|_| Err("hangs".into())) {
            Ok(()) => {
                self.passed += 1;
                println!("ok {name}");
            }
            Err(why) => {
                self.failed += 1;
                println!("FAIL {name} {}", why.replace('\n', " "));
            }
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(port) = std::env::var("E2E_PORT").ok().and_then(|port| port.parse().ok()) else {
        eprintln!("E2E_PORT must name the broker's port");
        return ExitCode::from(2);
    };
    let mut suite = Suite { port, only: std::env::args().nth(1), passed: 0, failed: 0 };
    for version in [Version::V311, Version::V5] {
        let at = (suite.port, version);
        for qos in 0..=2 {
            let name = format!("publish-and-subscribe-QoS{qos}");
            suite.run(&name, version, publish_and_subscribe(at, qos)).await;
            let name = format!("a-burst-arrives-whole-and-in-order-QoS{qos}");
            suite.run(&name, version, a_burst(at, qos)).await;
        }
        suite.run("wildcards", version, wildcards(at)).await;
        suite.run("retained", version, retained(at)).await;
        suite.run("a-dropped-connection-sends-its-will", version, will(at)).await;
        suite.run("unsubscribing-ends-the-flow", version, unsubscribing(at)).await;
        suite.run("unacknowledged-messages-come-again-on-resume", version, manual_acks(at)).await;
        suite.run("a-second-client-takes-over", version, takeover(at)).await;
        suite.run("100-connections", version, hundred_connections(at)).await;
    }
    suite.run("user-properties-in-order", Version::V5, user_properties((suite.port, Version::V5))).await;
    println!("{} passed, {} failed", suite.passed, suite.failed);
    if suite.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type At = (u16, Version);

/// A name nothing else uses; as client identifier it lands on any shard.
fn token(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let mixed = now.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    format!("{prefix}{mixed:012x}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

fn check(condition: bool, why: impl Into<String>) -> Outcome {
    if condition { Ok(()) } else { Err(why.into()) }
}

async fn fresh((port, version): At) -> Outcome<Peer> {
    Peer::connect(port, version, Options { client_id: token("r"), ..Options::default() }).await
}

async fn publish_and_subscribe(at: At, qos: u8) -> Outcome {
    let (mut subscriber, mut publisher, topic) = (fresh(at).await?, fresh(at).await?, token("t/ä/"));
    subscriber.subscribe(&topic, qos).await?;
    for number in 0..20 {
        let payload = format!("{number} – ünïcödé");
        publisher.publish(&topic, &payload, qos, false).await?;
        let got = subscriber.receive().await?;
        check(got.topic == topic && got.payload == payload.as_bytes(), format!("got {} {:?}", got.topic, got.payload))?;
        check(
            (got.qos, got.retain, got.dup) == (qos, false, false),
            format!("flags {} {} {}", got.qos, got.retain, got.dup),
        )?;
    }
    Ok(())
}

async fn a_burst(at: At, qos: u8) -> Outcome {
    // At QoS 0 within what any broker's queue holds: it may drop there.
    let count = [1_000, 10_000, 5_000][usize::from(qos)];
    let (mut subscriber, mut publisher, topic) = (fresh(at).await?, fresh(at).await?, token("burst/"));
    subscriber.subscribe(&topic, qos).await?;
    for number in 0..count {
        publisher.send(&topic, &number.to_string(), qos, false).await?;
    }
    publisher.acknowledged(if qos == 0 { 0 } else { count }).await?;
    for (number, got) in subscriber.payloads(count).await?.into_iter().enumerate() {
        check(got == number.to_string(), format!("message {number} is {got}"))?;
    }
    check(subscriber.is_drained(), "more messages than were sent")
}

async fn wildcards(at: At) -> Outcome {
    let (mut plus, mut hash, mut publisher) = (fresh(at).await?, fresh(at).await?, fresh(at).await?);
    let root = token("w");
    plus.subscribe(&format!("{root}/+/on"), 1).await?;
    hash.subscribe(&format!("{root}/a/#"), 1).await?;
    for topic in ["a/on", "b/on", "a", "a/b/c", "b/off", "x/y/on"] {
        publisher.publish(&format!("{root}/{topic}"), topic, 1, false).await?;
    }
    publisher.publish(&format!("{root}/a/on"), "end", 1, false).await?;
    check(plus.payloads(3).await? == ["a/on", "b/on", "end"], "+/on got something else")?;
    check(hash.payloads(4).await? == ["a/on", "a", "a/b/c", "end"], "a/# got something else")
}

async fn retained(at: At) -> Outcome {
    let (mut publisher, mut late, topic) = (fresh(at).await?, fresh(at).await?, token("kept/"));
    publisher.publish(&topic, "first", 1, true).await?;
    publisher.publish(&topic, "second", 1, true).await?;
    late.subscribe(&topic, 1).await?;
    let got = late.receive().await?;
    check(got.payload == b"second" && got.retain, format!("got {:?}, retain {}", got.payload, got.retain))?;
    publisher.publish(&topic, "", 1, true).await?;
    let cleared = late.receive().await?;
    check(cleared.payload.is_empty() && !cleared.retain, "the clearing message came with the retain flag")?;
    let mut later = fresh(at).await?;
    later.subscribe(&topic, 1).await?;
    publisher.publish(&topic, "live", 1, false).await?;
    check(later.payloads(1).await? == ["live"], "a cleared message came")
}

async fn will((port, version): At) -> Outcome {
    let (mut watcher, topic) = (fresh((port, version)).await?, token("will/"));
    watcher.subscribe(&topic, 1).await?;
    let options = |payload: &str| Options {
        client_id: token("w"),
        will: Some((topic.clone(), payload.to_owned())),
        ..Options::default()
    };
    Peer::connect(port, version, options("never")).await?.disconnect().await?;
    drop(Peer::connect(port, version, options("gone")).await?);
    check(watcher.payloads(1).await? == ["gone"], "another message than the will")
}

async fn unsubscribing(at: At) -> Outcome {
    let (mut subscriber, mut publisher, root) = (fresh(at).await?, fresh(at).await?, token("u"));
    let (out, stays) = (format!("{root}/out"), format!("{root}/stays"));
    subscriber.subscribe(&out, 1).await?;
    subscriber.subscribe(&stays, 1).await?;
    subscriber.unsubscribe(&out).await?;
    publisher.publish(&out, "unwanted", 1, false).await?;
    publisher.publish(&stays, "wanted", 1, false).await?;
    check(subscriber.payloads(1).await? == ["wanted"], "a message of the ended subscription came")
}

async fn manual_acks((port, version): At) -> Outcome {
    let options = Options { client_id: token("m"), persistent: true, manual_acks: true, will: None };
    let (mut publisher, topic) = (fresh((port, version)).await?, token("acks/"));
    let mut first = Peer::connect(port, version, options.clone()).await?;
    check(!first.session_present, "session present at first")?;
    first.subscribe(&topic, 1).await?;
    for number in 0..6 {
        publisher.publish(&topic, &number.to_string(), 1, false).await?;
    }
    for number in 0..6 {
        let message = first.receive().await?;
        if number < 3 {
            first.ack(&message).await?;
        }
    }
    // The SUBACK tells that the acknowledgments before it have arrived.
    first.subscribe(&token("fence/"), 0).await?;
    drop(first);
    let mut again = Peer::connect(port, version, options).await?;
    check(again.session_present, "session not present on resume")?;
    for number in 3..6 {
        let message = again.receive().await?;
        let got = String::from_utf8_lossy(&message.payload).into_owned();
        check(
            got == number.to_string() && message.dup,
            format!("{got} with DUP {}, want {number} again", message.dup),
        )?;
        again.ack(&message).await?;
    }
    publisher.publish(&topic, "after", 1, false).await?;
    check(again.payloads(1).await? == ["after"], "another message came again")
}

async fn takeover((port, version): At) -> Outcome {
    let (options, topic) = (Options { client_id: token("x"), ..Options::default() }, token("take/"));
    let mut old = Peer::connect(port, version, options.clone()).await?;
    let mut new = Peer::connect(port, version, options).await?;
    old.ended().await?;
    new.subscribe(&topic, 2).await?;
    new.publish(&topic, "mine now", 2, false).await?;
    check(new.payloads(1).await? == ["mine now"], "another message")
}

async fn hundred_connections(at: At) -> Outcome {
    let (root, mut peers) = (token("ring"), Vec::new());
    let connecting: Vec<_> = (0..100).map(|_| tokio::spawn(fresh(at))).collect();
    for each in connecting {
        peers.push(each.await.map_err(|error| error.to_string())??);
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.subscribe(&format!("{root}/{number}"), 1).await?;
    }
    // Each speaks to the next: most pairs live on two shards.
    for round in 0..10 {
        for (number, peer) in peers.iter().enumerate() {
            peer.send(&format!("{root}/{}", (number + 1) % 100), &format!("{number}:{round}"), 1, false).await?;
        }
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.acknowledged(10).await?;
        let before = (number + 99) % 100;
        let want: Vec<_> = (0..10).map(|round| format!("{before}:{round}")).collect();
        let got = peer.payloads(10).await?;
        check(got == want, format!("client {number} got {got:?}"))?;
    }
    check(peers.iter().all(Peer::is_drained), "more messages than were sent")
}

async fn user_properties(at: At) -> Outcome {
    let (mut subscriber, mut publisher, topic) = (fresh(at).await?, fresh(at).await?, token("pairs/"));
    let pairs: Vec<_> = [("z", "1"), ("a", "2"), ("z", "1")].map(|(name, value)| (name.into(), value.into())).to_vec();
    subscriber.subscribe(&topic, 1).await?;
    publisher.publish_with_user_properties(&topic, "x", pairs.clone()).await?;
    let got = subscriber.receive().await?;
    check(got.user_properties == pairs, format!("got {:?}", got.user_properties))
}
