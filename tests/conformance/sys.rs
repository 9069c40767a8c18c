//! The `$SYS` topics (§4.7.2): what the server publishes there, and that nobody else does.

use std::collections::BTreeMap;
use std::time::Duration;

use ringmq::sim::wire::{Connect, Packet, Publish, Will};

use crate::broker::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn on_any_shards_with_sys(test: impl Fn(&Broker)) {
    for shards in [1, 3] {
        let broker = Broker::with_sys(shards, INTERVAL);
        broker.advance(Duration::from_secs(1));
        test(&broker);
    }
}

/// What a new subscription to a filter is sent.
fn figures(broker: &Broker, filter: &str) -> BTreeMap<String, String> {
    let mut client = broker.client(V5, "reader");
    client.send(subscribe(1, &[(filter, at(AtMostOnce))]));
    client.expect(suback(1, &[0]));
    let mut figures = BTreeMap::new();
    while let Some(packet) = client.next_or_none() {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        assert!(publish.retain && publish.qos == AtMostOnce, "{publish:?}");
        figures.insert(publish.topic, String::from_utf8(publish.payload).expect("text"));
    }
    client.disconnect();
    figures
}

#[test]
fn the_figures_are_there_from_the_start_and_follow_what_happens() {
    on_any_shards_with_sys(|broker| {
        let first = figures(broker, "$SYS/#");
        assert_eq!(first["$SYS/broker/version"], format!("ringmq version {}", env!("CARGO_PKG_VERSION")));
        assert_eq!(first["$SYS/broker/uptime"], "0 seconds");
        assert_eq!(first["$SYS/broker/clients/connected"], "0");
        let mut clients: Vec<_> = (0..3).map(|at| broker.client(V5, &format!("c{at}"))).collect();
        clients[0].subscribe("t", AtMostOnce);
        clients[1].subscribe("$share/g/t", AtMostOnce);
        clients[2].retain("kept", "12345");
        clients[2].publish("t", "x");
        let (mut away, _) = broker.resume(V5, "away");
        away.subscribe("t", AtLeastOnce);
        away.disconnect();
        clients[2].publish("t", "y");
        broker.rest();
        broker.advance(INTERVAL);
        let then = figures(broker, "$SYS/#");
        for (topic, value) in [
            ("uptime", "10 seconds"),
            ("clients/connected", "3"),
            ("clients/total", "4"),
            ("clients/disconnected", "1"),
            ("clients/maximum", "4"),
            ("subscriptions/count", "3"),
            ("shared_subscriptions/count", "1"),
            ("publish/messages/received", "3"),
            ("publish/messages/dropped", "1"),
            ("publish/messages/dropped/offline_qos0", "1"),
        ] {
            assert_eq!(then[&format!("$SYS/broker/{topic}")], value, "{topic}");
        }
        assert_eq!(
            then.keys().filter(|topic| topic.ends_with("/connected") && topic.contains("/shards/")).count(),
            broker.counts("connected").len()
        );
    });
}

#[test]
fn a_subscriber_is_told_of_changes_as_they_are_published() {
    on_any_shards_with_sys(|broker| {
        let mut reader = broker.client(V5, "r");
        reader.subscribe("$SYS/broker/clients/connected", AtMostOnce);
        reader.expect(publish(Publish { retain: true, ..message("$SYS/broker/clients/connected", "0") }));
        broker.advance(INTERVAL);
        reader.expect(publish(message("$SYS/broker/clients/connected", "1")));
        broker.advance(INTERVAL);
        // What has not changed is not said again.
        reader.expect_nothing();
        let _other = broker.client(V5, "o");
        broker.advance(INTERVAL);
        reader.expect(publish(message("$SYS/broker/clients/connected", "2")));
    });
}

#[test]
fn filters_that_begin_with_a_wildcard_never_match_sys_topics() {
    on_any_shards_with_sys(|broker| {
        let mut clients: Vec<_> = (0..4).map(|at| broker.client(V5, &format!("c{at}"))).collect();
        for (client, filter) in clients.iter_mut().zip(["#", "+/#", "+/broker/uptime", "$share/g/#"]) {
            client.subscribe(filter, AtMostOnce);
        }
        broker.seconds(60);
        clients.iter_mut().for_each(|client| client.expect_nothing());
        assert!(figures(broker, "$SYS/broker/+").len() > 1);
    });
}

#[test]
fn nobody_else_publishes_to_sys() {
    on_any_shards_with_sys(|broker| {
        let mut watcher = broker.client(V5, "w");
        for filter in ["$SYS/broker/clients/total/x", "$SYS", "$SYS/", "$SYS/x"] {
            watcher.subscribe(filter, AtMostOnce);
        }
        for topic in ["$SYS/broker/clients/total/x", "$SYS", "$SYS/", "$SYS/x"] {
            let mut client = broker.client(V5, "c");
            let refused = |qos, retain| Packet::Publish(Publish { qos, packet_id: 5, retain, ..message(topic, "x") });
            client.send(refused(AtLeastOnce, true));
            match client.next() {
                Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason), (5, 0x87)),
                other => panic!("{other:?}"),
            }
            client.send(refused(ExactlyOnce, false));
            match client.next() {
                Packet::PubRec(ack) => assert_eq!((ack.packet_id, ack.reason), (5, 0x87)),
                other => panic!("{other:?}"),
            }
            client.publish(topic, "x");
            client.ping();
            let mut old = broker.client(V311, "old");
            old.send(refused(AtLeastOnce, true));
            old.expect(puback(5));
            let mut connect = Connect::new(V5, "w5");
            connect.will = Some(Will { topic: topic.into(), ..Will::default() });
            let mut client = broker.dial(V5);
            client.send(Packet::Connect(connect));
            assert_eq!(client.next_connack().code, 0x87);
            client.expect_closed();
        }
        watcher.expect_nothing();
    });
}

#[test]
fn other_dollar_topics_belong_to_the_clients() {
    on_any_shards_with_sys(|broker| {
        let mut client = broker.client(V5, "c");
        for topic in ["$SYSTEM", "$x/y", "$", "$sys/x", "$share/x", "a/$SYS"] {
            let filter = if topic.starts_with("$share/") { "$share/g/$share/x" } else { topic };
            client.subscribe(filter, AtMostOnce);
            client.publish(topic, "x");
            client.expect(publish(message(topic, "x")));
        }
    });
}

#[test]
fn a_broker_without_figures_publishes_none() {
    on_any_shards(|broker| {
        broker.seconds(100);
        assert!(figures(broker, "$SYS/#").is_empty());
    });
}
