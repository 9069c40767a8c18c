//! What the operator is told: anti-patterns, slow readers, in lines of bounded length.

use super::*;
use crate::overheard::overheard;

#[test]
fn publications_to_very_deep_topics_are_counted_for_the_operator() {
    let (mut broker, _) = guarded(2, |_| {});
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), V5);
    broker.subscribe(subscriber, "#", QoS::AtMostOnce);
    let before = broker.cores[1].counters().anti_patterns.load();
    let publisher = broker.connect(&client_on(&broker, 0, "p"), V5);
    let deep = "a/".repeat(16);
    for topic in ["a/b/c", &deep[2..], &deep, &deep] {
        broker.publish(publisher, topic, QoS::AtMostOnce, 0, b"x");
    }
    // Once for a topic that is published to again and again; and not again where it is delivered.
    let counted = [0, 1].map(|shard: usize| broker.cores[shard].counters().anti_patterns.load());
    assert_eq!(counted, [1, before]);
}

#[test]
fn subscriptions_to_everything_are_counted_for_the_operator() {
    let (mut broker, _) = guarded(1, |_| {});
    let client = broker.connect("c", V5);
    broker.subscribe(client, "#", QoS::AtMostOnce);
    broker.subscribe(client, &"/".repeat(20), QoS::AtMostOnce);
    broker.subscribe(client, "a/b", QoS::AtMostOnce);
    assert_eq!(broker.cores[0].counters().anti_patterns.load(), 2);
}

/// The lines that are logged meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    overheard(work).lines().map(str::to_owned).collect()
}

#[test]
fn the_operator_reads_of_anti_patterns_and_slow_readers_in_lines_of_bounded_length() {
    let long = "x".repeat(250);
    let lines = logged(|| {
        let (mut broker, _) = guarded(1, |_| {});
        let client = broker.connect(&long, V5);
        broker.subscribe(client, "#", QoS::AtMostOnce);
        broker.publish(client, &"deep/".repeat(150), QoS::AtMostOnce, 0, b"");
        broker.publish(client, &"deep/".repeat(100), QoS::AtMostOnce, 0, b"");
        for _ in 0..1100 {
            broker.publish(client, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
        }
        broker.pass(Duration::from_secs(12));
        broker.read(client);
    });
    let of = |what: &str| lines.iter().filter(|line| line.contains(what) && line.contains("xxx")).count();
    assert_eq!(of("subscribes to everything"), 1, "{lines:?}");
    assert_eq!(of("very deep topics"), 1, "the one of 151 levels is refused: {lines:?}");
    let slow = lines.iter().find(|line| line.contains("reads too slowly")).expect("told");
    assert!(slow.contains("bytes=10") && slow.contains("waiting=10") && slow.contains("client_id="), "{slow}");
    assert_eq!(of("has caught up"), 1, "{lines:?}");
    assert!(lines.iter().all(|line| line.len() < 400), "{lines:?}");
}
