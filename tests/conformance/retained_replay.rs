//! Many retained messages, slow readers and live traffic at once: what a replay sends, and in the end nothing old.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ringmq::sim::wire::{Connect, Packet, Publish};

use crate::broker::*;
use crate::retained::retained;

#[test]
fn thousands_of_retained_messages_reach_a_slow_reader_while_live_traffic_flows() {
    const TOPICS: usize = 3000;
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..TOPICS {
            publisher.send(Packet::Publish(Publish {
                qos: AtLeastOnce,
                packet_id: 1,
                ..retained(&format!("r/{topic}"), "")
            }));
            publisher.next();
            publisher.retain(&format!("r/{topic}"), "kept");
        }
        let mut connect = Connect::new(version, "c");
        if version == V5 {
            connect.properties = Properties::new().two(id::RECEIVE_MAXIMUM, 7);
        }
        let (mut client, _) = broker.connect(connect);
        client.subscribe("live", AtLeastOnce);
        client.send(subscribe(5, &[("r/#", at(AtLeastOnce))]));
        let (mut kept, mut live, mut unacked) = (HashSet::new(), Vec::new(), Vec::new());
        let mut published = 0;
        while kept.len() < TOPICS || live.len() < published {
            if client.is_closed() {
                panic!("closed after {} of {TOPICS}", kept.len());
            }
            match client.next_or_none() {
                Some(Packet::Publish(publish)) => {
                    unacked.push(publish.packet_id);
                    assert!(version != V5 || unacked.len() <= 7, "more than the receive maximum");
                    if publish.retain {
                        assert_eq!(publish.payload, b"kept");
                        assert!(kept.insert(publish.topic), "twice");
                    } else {
                        live.push(String::from_utf8(publish.payload).expect("a number"));
                    }
                }
                Some(Packet::SubAck(codes)) => assert_eq!(codes.codes, [1]),
                Some(other) => panic!("{other:?}"),
                // Nothing more comes before the client acknowledges.
                None => {
                    unacked.drain(..).for_each(|packet_id| client.send(puback(packet_id)));
                    if published < 200 {
                        publisher.publish_acknowledged("live", &published.to_string());
                        published += 1;
                    }
                }
            }
        }
        assert_eq!(live, (0..published).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(published > 10);
        unacked.drain(..).for_each(|packet_id| client.send(puback(packet_id)));
        client.expect_nothing();
        assert_eq!((broker.count("inflight"), broker.count("queued")), (0, 0));
    });
}

#[test]
fn a_replay_never_ends_with_an_older_message_than_was_delivered_live() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..300 {
            publisher.retain(&format!("r/{topic}"), "0");
        }
        let mut client = broker.client(version, "c");
        client.send(subscribe(5, &[("r/#", at(AtMostOnce))]));
        for topic in (0..300).rev() {
            publisher.retain(&format!("r/{topic}"), "1");
        }
        let mut last = BTreeMap::new();
        while let Some(packet) = client.next_or_none() {
            if let Packet::Publish(publish) = packet {
                last.insert(publish.topic, publish.payload);
            }
        }
        assert_eq!(last.len(), 300);
        for (topic, payload) in last {
            assert_eq!(payload, b"1", "{topic}");
        }
    });
}

#[test]
fn the_newest_retained_message_is_the_last_one_for_whoever_subscribed_before_it() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for moment in 0..60 {
            let old = format!("{moment} old");
            (0..20).for_each(|topic| publisher.retain(&format!("r/{topic}"), &old));
            let mut client = broker.client(version, &format!("c{}", moment % 5));
            let new = format!("{moment} new");
            client.send(subscribe(1, &[("r/+", at(AtMostOnce))]));
            client.expect(suback(1, &[0]));
            broker.advance(Duration::from_micros(moment));
            (0..20).for_each(|topic| publisher.send(Packet::Publish(retained(&format!("r/{topic}"), &new))));
            let mut last = BTreeMap::new();
            while let Some(packet) = client.next_or_none() {
                if let Packet::Publish(publish) = packet {
                    last.insert(publish.topic, publish.payload);
                }
            }
            assert_eq!(last.len(), 20);
            for (topic, payload) in last {
                assert_eq!(payload, new.as_bytes(), "{topic}");
            }
        }
    });
}

#[test]
fn retained_messages_that_could_not_be_sent_yet_wait_with_the_session() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for topic in 0..300 {
            publisher.retain(&format!("r/{topic}"), "kept");
        }
        let mut got = HashSet::new();
        let (mut client, _) = broker.resume(version, "c");
        client.send(subscribe(1, &[("r/#", at(AtLeastOnce))]));
        client.expect(suback(1, &[1]));
        for _ in 0..3 {
            for _ in 0..50 {
                let publish = client.next_publish();
                assert!(publish.retain);
                client.send(puback(publish.packet_id));
                got.insert(publish.topic);
            }
            client.reset();
            (client, _) = broker.resume(version, "c");
        }
        while let Some(packet) = client.next_or_none() {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            client.send(puback(publish.packet_id));
            got.insert(publish.topic);
        }
        assert_eq!(got.len(), 300);
    });
}

#[test]
fn a_reader_that_stops_is_sent_what_fits_and_everything_later() {
    on_any_shards_with(
        |limits, _| limits.output_bytes_max = 16 * 1024,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            let payload = "x".repeat(1000);
            for topic in 0..500 {
                publisher.retain(&format!("r/{topic}"), &payload);
            }
            let mut client = broker.client(V5, "c");
            client.subscribe("live", AtMostOnce);
            client.stall(true);
            let sent = broker.count("publish_sent");
            client.send(subscribe(1, &[("r/#", at(AtMostOnce))]));
            broker.rest();
            assert!((10..40).contains(&(broker.count("publish_sent") - sent)), "unsent output is bounded");
            publisher.publish("live", "QoS 0 is not kept for it");
            broker.rest();
            client.stall(false);
            client.expect(suback(1, &[0]));
            let got: HashSet<_> = (0..500).map(|_| client.next_publish().topic).collect();
            assert_eq!(got.len(), 500);
            client.expect_nothing();
        },
    );
}

#[test]
fn what_a_slow_reader_misses_live_is_what_its_replay_sends() {
    on_any_shards_with(
        |limits, _| limits.output_bytes_max = 16 * 1024,
        |broker| {
            let mut publisher = broker.client(V5, "p");
            let filler = "x".repeat(1000);
            for topic in 0..500 {
                publisher.retain(&format!("r/{topic}"), &filler);
            }
            let mut client = broker.client(V5, "c");
            client.subscribe("other", AtMostOnce);
            client.stall(true);
            client.send(subscribe(1, &[("r/#", at(AtMostOnce))]));
            broker.rest();
            // It takes nothing now: these QoS 0 messages are dropped for it, and retained.
            (0..400).for_each(|topic| publisher.retain(&format!("r/{topic}"), "new"));
            (400..500).for_each(|topic| publisher.retain(&format!("r/{topic}"), ""));
            client.stall(false);
            client.expect(suback(1, &[0]));
            let mut last = BTreeMap::new();
            let mut old = 0;
            while let Some(packet) = client.next_or_none() {
                let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
                old += usize::from(publish.payload.len() == 1000);
                last.insert(publish.topic, publish.payload);
            }
            // What was on its way before stays old, as QoS 0 may; nothing else does.
            assert!(old < 40, "{old} old ones");
            for topic in 0..500 {
                match last.get(&format!("r/{topic}")).map(Vec::len) {
                    None => assert!(topic >= 400, "{topic} is missing"),
                    Some(3) => assert!(topic < 400, "{topic} was cleared"),
                    Some(length) => assert_eq!(length, 1000),
                }
            }
        },
    );
}
