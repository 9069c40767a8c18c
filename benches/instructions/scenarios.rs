//! What is counted: named pieces of a shard's work, each prepared once and then done again and again.

#[path = "../driver/mod.rs"]
mod driver;

use std::hint::black_box;
use std::time::Duration;

use driver::{Client, Driver, PROPERTIES, Session, VERSION, WAYS, Way, connect, far_apart, publish, publish_with};
use ringmq::codec::{
    Frame, Framed, PacketType, ProtocolVersion, PublishHead, QoS, decode, encode, encode_ack, encode_publish_head,
    frame,
};
use ringmq::engine::{ShardId, Time};
use ringmq::index::{Change, HashSeed, Interest, InterestCache, LocalIndex, Route, Subscriber, topic_hash};
use ringmq::mesh::{self, Item};
use ringmq::wheel::Wheel;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const TOPIC: &str = "sensor/7/state";
const PAYLOAD: [u8; 64] = [7; 64];

/// One piece of work.
pub struct Scenario {
    pub name: String,
    /// Operations in one step: the count is told per operation.
    pub operations: u32,
    /// Makes everything ready; the step comes back.
    pub prepare: Box<dyn Fn() -> Step>,
}

/// Does the work once.
pub type Step = Box<dyn FnMut()>;

/// All of them, in the order of the record.
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    codec(&mut all);
    one_shard(&mut all);
    two_shards(&mut all);
    sessions(&mut all);
    index(&mut all);
    interest(&mut all);
    machinery(&mut all);
    all
}

fn add(all: &mut Vec<Scenario>, name: impl Into<String>, operations: u32, prepare: impl Fn() -> Step + 'static) {
    all.push(Scenario { name: name.into(), operations, prepare: Box::new(prepare) });
}

// --- the codec -------------------------------------------------------------------------------------------------------

fn codec(all: &mut Vec<Scenario>) {
    let v5 = ProtocolVersion::V5;
    let head = PublishHead { qos: QoS::AtLeastOnce, topic: TOPIC, packet_id: 513, ..PublishHead::default() };
    add_codec(all, "publish-v311", VERSION, publish_with(VERSION, &head, &PAYLOAD));
    let with_properties = PublishHead { forward: PROPERTIES, ..head };
    add_codec(all, "publish-v5-properties", v5, publish_with(v5, &with_properties, &PAYLOAD));
    add_codec(all, "connect-v311", VERSION, connect(VERSION, "client-12345", Session::Clean));
    let mut subscribe = Vec::new();
    driver::subscribe(VERSION, "building/7/+/state", QoS::AtLeastOnce, &mut subscribe);
    add_codec(all, "subscribe-v311", VERSION, subscribe);
    let mut puback = Vec::new();
    encode_ack(&mut puback, VERSION, PacketType::PubAck, 513, 0);
    add_codec(all, "puback-v311", VERSION, puback);
}

/// Decoding a packet, and encoding what was decoded.
fn add_codec(all: &mut Vec<Scenario>, name: &str, version: ProtocolVersion, bytes: Vec<u8>) {
    let packet = bytes.clone();
    add(all, format!("codec/decode-{name}"), 1, move || {
        let bytes = packet.clone();
        Box::new(move || {
            black_box(decode(whole_frame(black_box(&bytes)), version)).expect("well-formed");
        })
    });
    add(all, format!("codec/encode-{name}"), 1, move || {
        // Decoded packets borrow: the bytes live as long as the process, which ends with this scenario.
        let packet = decode(whole_frame(bytes.clone().leak()), version).expect("well-formed");
        let mut output = Vec::with_capacity(1024);
        Box::new(move || {
            output.clear();
            encode(black_box(&packet), version, &mut output);
        })
    });
}

fn whole_frame(bytes: &[u8]) -> Frame<'_> {
    match frame(bytes, u32::MAX) {
        Ok(Framed::Complete { frame, .. }) => frame,
        other => panic!("{other:?}"),
    }
}

// --- messages through the core ---------------------------------------------------------------------------------------

fn one_shard(all: &mut Vec<Scenario>) {
    for qos in QOS {
        for batch in [1, 32] {
            add(all, format!("core/p2p-qos{}-batch-{batch}", qos as u8), u32::from(batch), move || {
                let mut driver = Driver::new();
                driver.client("subscriber", Some((TOPIC, qos)));
                let publisher = driver.client("publisher", None);
                publishing(driver, publisher, (1..=batch).flat_map(|id| publish(TOPIC, qos, id, &PAYLOAD)).collect())
            });
        }
    }
    for (name, qos) in [("qos0", QoS::AtMostOnce), ("qos1", QoS::AtLeastOnce)] {
        add(all, format!("core/fan-out-100-{name}"), 100, move || fan_out(qos));
    }
    add(all, "core/p2p-qos0-new-topics", 1, || {
        let mut driver = Driver::new();
        driver.client("subscriber", Some(("sensor/+/state", QoS::AtMostOnce)));
        let publisher = driver.client("publisher", None);
        let topics = (0..10_000).map(|number| format!("sensor/{number:05}/state"));
        let mut packets =
            topics.map(|topic| publish(&topic, QoS::AtMostOnce, 0, &PAYLOAD)).collect::<Vec<_>>().into_iter();
        Box::new(move || driver.receive(publisher, &packets.next().expect("more topics than steps")))
    });
    add(all, "core/v5-properties-qos1", 1, versions_5);
    add(all, "core/shared-of-8", 1, || {
        let mut driver = Driver::new();
        (0..8).for_each(|member| {
            driver.client(&format!("member-{member}"), Some(("$share/group/sensor/#", QoS::AtMostOnce)));
        });
        let publisher = driver.client("publisher", None);
        publishing(driver, publisher, publish(TOPIC, QoS::AtMostOnce, 0, &PAYLOAD))
    });
    add(all, "core/retain", 1, || {
        let mut driver = Driver::new();
        let publisher = driver.client("publisher", None);
        let head = PublishHead { retain: true, topic: TOPIC, ..PublishHead::default() };
        publishing(driver, publisher, publish_with(VERSION, &head, &PAYLOAD))
    });
}

fn publishing(mut driver: Driver, publisher: Client, packets: Vec<u8>) -> Step {
    Box::new(move || driver.receive(publisher, black_box(&packets)))
}

fn fan_out(qos: QoS) -> Step {
    let mut driver = Driver::new();
    (0..100).for_each(|subscriber| {
        driver.client(&format!("subscriber-{subscriber}"), Some((TOPIC, qos)));
    });
    let publisher = driver.client("publisher", None);
    publishing(driver, publisher, publish(TOPIC, qos, 1, &PAYLOAD))
}

fn versions_5() -> Step {
    let (version, qos) = (ProtocolVersion::V5, QoS::AtLeastOnce);
    let mut driver = Driver::new();
    driver.client_of(version, "subscriber", Session::Clean, Some((TOPIC, qos)));
    let publisher = driver.client_of(version, "publisher", Session::Clean, None);
    let head = PublishHead { qos, topic: TOPIC, packet_id: 1, forward: PROPERTIES, ..PublishHead::default() };
    publishing(driver, publisher, publish_with(version, &head, &PAYLOAD))
}

/// The subscriber lives on another shard than the publisher.
fn two_shards(all: &mut Vec<Scenario>) {
    for qos in QOS {
        add(all, format!("core/cross-shard-qos{}", qos as u8), 1, move || {
            let mut driver = Driver::with_shards(2);
            let (here, there) = (driver.client_id_on(0, "publisher"), driver.client_id_on(1, "subscriber"));
            driver.client(&there, Some((TOPIC, qos)));
            let publisher = driver.client(&here, None);
            publishing(driver, publisher, publish(TOPIC, qos, 1, &PAYLOAD))
        });
    }
}

// --- sessions --------------------------------------------------------------------------------------------------------

fn sessions(all: &mut Vec<Scenario>) {
    add(all, "core/connect-subscribe-leave", 1, || {
        let mut driver = Driver::new();
        let mut number = 0;
        Box::new(move || {
            number = (number + 1) % 1000;
            let client_id = format!("client-{number:04}");
            let client = driver.client(&client_id, Some((&format!("command/{number:04}"), QoS::AtLeastOnce)));
            driver.disconnect(client);
        })
    });
    add(all, "core/ping", 1, || {
        let mut driver = Driver::new();
        let client = driver.client("client", None);
        Box::new(move || driver.receive(client, black_box(&[0xC0, 0])))
    });
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        add(all, format!("core/offline-queue-qos{}", qos as u8), 100, move || offline(qos));
    }
}

/// Messages queue for a session without a connection, which then comes and takes and acknowledges them.
fn offline(qos: QoS) -> Step {
    let mut driver = Driver::new();
    let come = move |driver: &mut Driver| driver.client_of(VERSION, "subscriber", Session::Kept, Some((TOPIC, qos)));
    let mut subscriber = come(&mut driver);
    let publisher = driver.client("publisher", None);
    let packets: Vec<u8> = (1..=100).flat_map(|id| publish(TOPIC, qos, id, &PAYLOAD)).collect();
    Box::new(move || {
        driver.disconnect(subscriber);
        driver.receive(publisher, &packets);
        let before = driver.delivered;
        subscriber = come(&mut driver);
        assert_eq!(driver.delivered - before, 100);
    })
}

// --- who wants a topic -----------------------------------------------------------------------------------------------

fn index(all: &mut Vec<Scenario>) {
    for way in WAYS {
        for subscriptions in [1_000, 50_000] {
            add(all, format!("index/match-{}-{subscriptions}", way.name), 64, move || matching(way, subscriptions));
        }
    }
    add(all, "index/match-again", 1, || {
        let (seed, mut index) = filled(WAYS[1], 1_000);
        let (topic, mut out) = ((WAYS[1].topic)(7), Vec::new());
        Box::new(move || {
            out.clear();
            assert_eq!(index.matches_again(&topic, topic_hash(&seed, black_box(&topic)), &mut out), 1);
        })
    });
    for way in [WAYS[0], WAYS[1]] {
        add(all, format!("index/subscribe-unsubscribe-{}", way.name), 1, move || {
            let (_, mut index) = filled(way, 1_000);
            let filter = (way.filter)(1_000_000);
            Box::new(move || {
                index.subscribe(black_box(&filter), Subscriber::new(1_000_000, 0));
                index.unsubscribe(&filter, 1_000_000).expect("it was subscribed to");
            })
        });
    }
}

fn filled(way: Way, subscriptions: u32) -> (HashSeed, LocalIndex) {
    let seed = HashSeed::from_u64(1);
    let mut index = LocalIndex::new(seed.clone());
    for number in 0..subscriptions {
        index.subscribe(&(way.filter)(number), Subscriber::new(number, 0));
    }
    (seed, index)
}

fn matching(way: Way, subscriptions: u32) -> Step {
    let (seed, index) = filled(way, subscriptions);
    // As many digits in each, whatever the size: a longer topic is no dearer index.
    let numbers = far_apart(64, 900).map(|number| number + 100);
    let topics: Vec<_> = numbers.map(way.topic).collect();
    let mut out = Vec::new();
    Box::new(move || {
        for topic in &topics {
            out.clear();
            assert_eq!(index.matches(topic, topic_hash(&seed, topic), &mut out), 1);
        }
    })
}

fn interest(all: &mut Vec<Scenario>) {
    // With room for all topics, and with room for one.
    for (name, topics_cached) in [("cached", 1024), ("uncached", 1)] {
        add(all, format!("interest/lookup-{name}"), 64, move || {
            let seed = HashSeed::from_u64(1);
            let interest = Interest::new(2, seed.clone());
            let filters: Vec<_> = (0..1_000).map(WAYS[1].filter).collect();
            interest.apply(filters.iter().map(|filter| Change::Interested { filter, shard: 1 }));
            let topics: Vec<_> = far_apart(64, 1_000).map(WAYS[1].topic).collect();
            let (mut cache, mut route) = (InterestCache::new(topics_cached), Route::default());
            Box::new(move || {
                for topic in &topics {
                    interest.lookup(topic, topic_hash(&seed, topic), &mut cache, &mut route);
                    assert_eq!(route.shards, 1 << 1);
                }
            })
        });
    }
}

// --- what carries it -------------------------------------------------------------------------------------------------

fn machinery(all: &mut Vec<Scenario>) {
    for batch in [1, 32] {
        add(all, format!("mesh/send-and-receive-batch-{batch}"), batch, move || {
            let (mut ports, _) = mesh::build::<u64>(2, 1024).expect("two eventfds");
            let (mut target, mut source) = (ports.remove(1), ports.remove(0));
            let mut sum = 0;
            Box::new(move || {
                for number in 0..u64::from(batch) {
                    assert!(source.has_room(ShardId(1)));
                    source.send(ShardId(1), Item::Engine(number));
                }
                source.announce();
                target.drain(1024, |_, item| sum += if let Item::Engine(number) = item { number } else { 0 });
                black_box(sum);
            })
        });
    }
    add(all, "wheel/fire-and-insert-again", 10, || {
        // A tick finds 10 due: 60,000 entries that come round every 300 s, in ticks of 50 ms.
        let (tick, round) = (Duration::from_millis(50), Duration::from_secs(300));
        let mut wheel = Wheel::new(tick, Time(0));
        (0..60_000_u64).for_each(|entry| wheel.insert(Time(entry * 5_000_000), entry));
        let (mut now, mut due) = (Time(0), Vec::new());
        Box::new(move || {
            now = now.after(tick);
            wheel.advance(now, &mut due);
            due.drain(..).for_each(|entry| wheel.insert(now.after(round), entry));
        })
    });
    add(all, "codec/encode-publish-head", 1, || {
        let head = PublishHead { qos: QoS::AtLeastOnce, topic: TOPIC, packet_id: 513, ..PublishHead::default() };
        let mut output = Vec::with_capacity(1024);
        Box::new(move || {
            output.clear();
            encode_publish_head(&mut output, VERSION, black_box(&head), PAYLOAD.len());
        })
    });
}
