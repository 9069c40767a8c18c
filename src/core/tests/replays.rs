//! Replays of retained messages: what they answer, how often, and at whose cost.

use super::*;

fn retain(broker: &mut Broker, publisher: Client, topic: &str) {
    broker.publish_head(publisher, PublishHead { topic, retain: true, ..PublishHead::default() }, b"x");
}

/// Topics `{name}/0`, `{name}/1` … whose retained messages live on one shard.
fn topics_on(broker: &Broker, shard: u16, name: &str) -> impl Iterator<Item = String> {
    let shared = broker.cores[0].shared.clone();
    let shards = broker.cores.len() as u64;
    (0..)
        .map(move |number| format!("{name}/{number}"))
        .filter(move |topic| (crate::index::topic_hash(&shared.seed, topic) >> 32) % shards == u64::from(shard))
}

#[test]
fn an_answer_to_the_replay_of_an_earlier_connection_is_not_taken_for_that_of_a_later_one() {
    let mut broker = Broker::new(2);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    let (old, new) = (topics_on(&broker, 1, "old").next().unwrap(), topics_on(&broker, 1, "new").next().unwrap());
    retain(&mut broker, publisher, &old);
    retain(&mut broker, publisher, &new);
    let id = client_on(&broker, 0, "s");
    let options = SubscriptionOptions::default();
    let version = ProtocolVersion::V5;
    // Filters that exist already need no announcement: only the replays' notes are under way below.
    let other = broker.connect(&client_on(&broker, 0, "o"), version);
    broker.subscribe(other, &old, QoS::AtMostOnce);
    broker.subscribe(other, &new, QoS::AtMostOnce);
    let first = broker.connect(&id, version);
    broker.cores[0].receive(broker.now, first.conn, &subscribe_bytes(version, &old, options, None));
    broker.cores[0].disconnected(broker.now, first.conn, TransportEnd::EndOfStream);
    let second = broker.cores[0].open(broker.now, 0, None).expect("accepted");
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect_packet(&id, version))), version, &mut bytes);
    bytes.extend(subscribe_bytes(version, &new, options, None));
    broker.cores[0].receive(broker.now, second, &bytes);
    broker.settle();
    let received = broker.read(Client { shard: 0, conn: second, version });
    // What the first one was not sent any more is sent to the second.
    let [old, new] = [old, new].map(|topic| format!("PUBLISH {topic} q0 id0 dup0 r1 x"));
    assert_eq!(received, ["CONNACK 0 true", "SUBACK [0]", &old, &new]);
}

#[test]
fn unsubscribing_from_something_else_does_not_start_a_replay_anew() {
    let mut broker = Broker::new(2);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    let topics: Vec<String> = topics_on(&broker, 1, "r").take(300).collect();
    topics.iter().for_each(|topic| retain(&mut broker, publisher, topic));
    let client = broker.connect(&client_on(&broker, 0, "s"), ProtocolVersion::V5);
    broker.subscribe(client, "other", QoS::AtMostOnce);
    let version = client.version;
    broker.cores[0].receive(broker.now, client.conn, &subscribe_bytes(version, "r/+", Default::default(), None));
    let payload = filter_payload("other");
    let mut unsubscribe = Vec::new();
    encode(&unsubscribe_packet(&payload), version, &mut unsubscribe);
    // One note at a time, so that the UNSUBSCRIBE finds the replay in its midst, a batch under way.
    for step in 0.. {
        if step == 3 {
            broker.cores[0].receive(broker.now, client.conn, &unsubscribe);
        }
        let mut moved = false;
        for (from, to) in [(0, 1), (1, 0)] {
            if let Some(note) = broker.cores[from].outbox(ShardId(to)).pop_front() {
                moved = true;
                broker.cores[usize::from(to)].mesh(broker.now, ShardId(from as u16), note);
            }
        }
        if !moved {
            assert!(step > 3, "the replay takes longer than this");
            break;
        }
    }
    let received = broker.read(client);
    let retained: Vec<&String> = received.iter().filter(|packet| packet.starts_with("PUBLISH")).collect();
    assert_eq!(retained.len(), 300, "each once");
}

#[test]
fn subscribing_again_and_again_does_not_pile_up_replays() {
    let limits = Limits { output_bytes_max: 10, ..Limits::default() };
    let mut broker = Broker::with(1, limits);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    retain(&mut broker, publisher, "r/1");
    retain(&mut broker, publisher, "r/2");
    let client = broker.connect("s", ProtocolVersion::V5);
    // It reads nothing; its packets are handled as they would be with room in the sockets.
    for _ in 0..1000 {
        broker.subscribe(client, "r/+", QoS::AtMostOnce);
        broker.cores[0].wire.conns[client.conn.slot].stalled = false;
    }
    let session = broker.cores[0].wire.conns[client.conn.slot].session;
    let waiting = broker.cores[0].sessions[session].replays.as_ref().map_or(0, |replays| replays.waiting.len());
    assert!(waiting <= 4, "{waiting} replays wait");
    let received: Vec<String> =
        std::iter::repeat_with(|| broker.read(client)).take_while(|r| !r.is_empty()).flatten().collect();
    let last_suback = received.iter().rposition(|packet| packet.starts_with("SUBACK"));
    let after = &received[last_suback.expect("each is answered")..];
    assert!(after.iter().any(|packet| packet.contains("r/2")), "the last one is replayed in full");
}

#[test]
fn a_replay_that_finds_little_does_not_hold_up_its_shard() {
    let mut broker = Broker::new(1);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    (0..20_000).for_each(|number| retain(&mut broker, publisher, &format!("r/{number}/a")));
    retain(&mut broker, publisher, "r/zzz/b");
    let client = broker.connect("s", ProtocolVersion::V5);
    broker.subscribe(client, "r/+/b", QoS::AtMostOnce);
    assert_eq!(broker.read(client), ["CONNACK 0 false", "SUBACK [0]"], "not all topics are looked at in one go");
    assert_eq!(broker.cores[0].next_deadline(), Some(broker.now), "it goes on at once");
    broker.pass(Duration::ZERO);
    assert_eq!(broker.read(client), ["PUBLISH r/zzz/b q0 id0 dup0 r1 x"]);
    assert_ne!(broker.cores[0].next_deadline(), Some(broker.now));
}

#[test]
fn what_came_live_before_the_suback_is_newer_than_what_is_replayed_after_it() {
    let mut broker = Broker::new(3);
    let version = ProtocolVersion::V5;
    let interest_owner = |broker: &Broker, topic: &str| broker.cores[0].shared.interest.owner(topic);
    let topic = topics_on(&broker, 1, "r").find(|topic| interest_owner(&broker, topic) == 1).unwrap();
    let publisher = broker.connect(&client_on(&broker, 2, "p"), version);
    let retained = |payload| {
        publish_bytes(version, PublishHead { topic: &topic, retain: true, ..PublishHead::default() }, payload)
    };
    broker.cores[2].receive(broker.now, publisher.conn, &retained(b"old"));
    broker.settle();
    let client = broker.connect(&client_on(&broker, 0, "s"), version);
    let options =
        SubscriptionOptions { retain_handling: crate::codec::RetainHandling::DoNotSend, ..Default::default() };
    broker.subscribe_as(client, "r/#", options, None);
    broker.read(client);
    broker.cores[0].receive(broker.now, client.conn, &subscribe_bytes(version, &topic, Default::default(), None));
    broker.cores[2].receive(broker.now, publisher.conn, &retained(b"new"));
    // The way from the publisher to the client is short, that to the store is long.
    let live = broker.cores[2].outbox(ShardId(0)).pop_front().expect("the client's other filter matches");
    broker.cores[0].mesh(broker.now, ShardId(2), live);
    let store = std::mem::take(broker.cores[2].outbox(ShardId(1)));
    broker.settle();
    assert_eq!(broker.read(client), [format!("PUBLISH {topic} q0 id0 dup0 r0 new"), "SUBACK [0]".into()]);
    broker.cores[2].outbox(ShardId(1)).extend(store);
    broker.cores[2].noted.push(ShardId(1));
    broker.settle();
    let session = broker.cores[0].wire.conns[client.conn.slot].session;
    assert!(broker.read(client).is_empty() && broker.cores[0].sessions[session].replays.is_none());
}

#[test]
fn a_retained_message_that_overtakes_neither_the_interest_nor_the_replay_is_not_missed() {
    let mut broker = Broker::new(3);
    let publisher = broker.connect(&client_on(&broker, 0, "p"), ProtocolVersion::V311);
    broker.read(publisher);
    // The subscription and what is retained are on shards of their own, apart from the publisher's.
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), ProtocolVersion::V5);
    broker.read(subscriber);
    let topic = topics_on(&broker, 2, "r").next().unwrap();
    let mut publish = Vec::new();
    let head = PublishHead { topic: &topic, retain: true, ..PublishHead::default() };
    encode_publish_head(&mut publish, ProtocolVersion::V311, &head, 1);
    publish.extend(b"x");
    // Nobody is interested when it is published; it is still on its way when the replay begins.
    broker.cores[0].receive(broker.now, publisher.conn, &publish);
    let late = std::mem::take(broker.cores[0].outbox(ShardId(2)));
    assert_eq!(late.len(), 1);
    let bytes = subscribe_bytes(ProtocolVersion::V5, &topic, SubscriptionOptions::default(), None);
    broker.cores[1].receive(broker.now, subscriber.conn, &bytes);
    broker.settle();
    assert_eq!(broker.read(subscriber), ["SUBACK [0]"]);
    for note in late {
        broker.cores[2].mesh(broker.now, ShardId(0), note);
    }
    broker.settle();
    assert_eq!(broker.read(subscriber), [format!("PUBLISH {topic} q0 id0 dup0 r1 x")]);
}
