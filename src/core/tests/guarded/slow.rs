//! Readers that stop: what they cost the others, and where they are listed.

use super::*;

#[test]
fn one_reader_that_stops_costs_the_others_nothing() {
    let (mut broker, _) = guarded(1, |config| config.guard.slow_after = Duration::from_secs(10));
    let [reads, stops] = ["reads", "stops"].map(|id| {
        let client = broker.connect(id, V5);
        broker.subscribe(client, "t", QoS::AtMostOnce);
        broker.read(client);
        client
    });
    let publisher = broker.connect("p", V5);
    let mut got = 0;
    for _ in 0..3000 {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
        got += broker.read(reads).len();
    }
    let counters = broker.cores[0].shared.counters[0].clone();
    assert_eq!(got, 3000, "the other reader gets everything");
    assert_eq!(counters.pauses.load(), 0, "and the publisher never waits");
    let dropped = counters.dropped[counters::DropReason::SlowReader as usize].load();
    assert!((1900..2000).contains(&dropped), "what the slow one cannot hold is its own loss: {dropped}");
    assert_eq!(counters.slow_readers.load(), 1);
    broker.pass(Duration::from_secs(12));
    let listed = broker.cores[0].slow_readers(10);
    assert_eq!(listed.iter().map(|slow| &*slow.client_id).collect::<Vec<_>>(), ["stops"]);
    assert!(listed[0].bytes >= 1 << 20 && listed[0].waiting >= Duration::from_secs(10), "{listed:?}");
    broker.read(stops);
    assert_eq!(counters.slow_readers.load(), 0);
    broker.check();
}

/// What the driver has to do for one round of publications to many readers.
fn work_for_readers(with_one_that_stops: bool) -> (Vec<usize>, usize, [u64; 4]) {
    let (mut broker, _) = guarded(1, |_| {});
    let readers: Vec<Client> = (0..50)
        .map(|number| {
            let client = broker.connect(&format!("r{number}"), V5);
            broker.subscribe(client, "t", QoS::AtMostOnce);
            broker.read(client);
            client
        })
        .collect();
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    if with_one_that_stops {
        let stops = broker.connect("stops", V5);
        broker.subscribe(stops, "t", QoS::AtMostOnce);
        let mut sent = 0;
        while broker.cores[0].wire.has_room(stops.conn.slot) {
            broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
            sent += 1;
        }
        // The kernel has what fits into its socket, and is asked to send no more: nothing is dirty.
        broker.cores[0].take_output(stops.conn);
        assert!(sent > 1000);
        readers.iter().for_each(|reader| drop(broker.read(*reader)));
    }
    effects(&mut broker);
    while broker.cores[0].poll_dirty().is_some() {}
    let counters = broker.cores[0].shared.counters[0].clone();
    let figures = || {
        [&counters.packets_sent, &counters.publish_sent, &counters.pauses, &counters.delivered]
            .map(|counter| counter.load())
    };
    let before = figures();
    let (mut dirty, mut asked) = (Vec::new(), 0);
    for _ in 0..100 {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
        dirty.push(std::iter::from_fn(|| broker.cores[0].poll_dirty()).count());
        readers.iter().for_each(|reader| assert_eq!(broker.read(*reader).len(), 1));
        asked += effects(&mut broker).len();
    }
    let after = figures();
    (dirty, asked, std::array::from_fn(|at| after[at] - before[at]))
}

#[test]
fn one_reader_that_stops_gives_the_driver_nothing_more_to_do() {
    let (without, with) = (work_for_readers(false), work_for_readers(true));
    assert_eq!(without, (vec![50; 100], 0, [5000, 5000, 0, 5000]));
    assert_eq!(with, without);
}

#[test]
fn the_slowest_readers_of_all_shards_are_listed_among_the_figures_and_taken_off() {
    let mut broker = guarded_with_sys(2, |_| {});
    let ids = [0, 1].map(|shard| client_on(&broker, shard, "slow"));
    let slow = ids.each_ref().map(|id| broker.connect(id, V5));
    slow.iter().for_each(|client| broker.subscribe(*client, "t", QoS::AtMostOnce));
    broker.subscribe(slow[1], "u", QoS::AtMostOnce);
    let publisher = broker.connect("p", V5);
    for _ in 0..1100 {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
    }
    let watcher = broker.connect(&client_on(&broker, 0, "w"), V5);
    broker.subscribe(watcher, "$SYS/broker/clients/slow/+", QoS::AtMostOnce);
    let told = |broker: &mut Broker| {
        broker.pass(Duration::from_secs(20));
        let told = broker.read(watcher);
        told.into_iter().filter(|line| line.starts_with("PUBLISH")).collect::<Vec<_>>()
    };
    let listed = told(&mut broker);
    let of = |id: &str, rank| {
        let line = |told: &&String| told.contains(id) && told.contains(&format!("clients/slow/{rank} "));
        listed.iter().rfind(line).is_some_and(|line| line.contains("\"bytes\":10") && line.contains("\"seconds\":"))
    };
    assert!(ids.iter().all(|id| of(id, 1) || of(id, 2)), "{listed:?}");
    assert!(!listed.iter().any(|line| line.contains("slow/3")), "{listed:?}");
    slow.iter().for_each(|client| drop(broker.read(*client)));
    let gone = told(&mut broker);
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert!(gone.iter().all(|line| line.ends_with("r0 ")), "an empty message takes one away: {gone:?}");
    assert!(broker.cores[0].slowest_of_all().is_empty());
}

#[test]
fn a_client_that_takes_messages_and_never_acknowledges_them_is_a_slow_reader_too() {
    let (mut broker, _) = guarded(1, |config| config.limits.queue_messages_max = 100);
    let silent = broker.connect("silent", V5);
    broker.subscribe(silent, "t", QoS::AtLeastOnce);
    let publisher = broker.connect("p", V5);
    let counters = broker.cores[0].shared.counters[0].clone();
    for packet_id in 1..=128 + 50 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b"x");
        broker.read(silent);
    }
    assert_eq!(counters.slow_readers.load(), 0, "the queue is for such moments");
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1000, b"x");
    assert_eq!(counters.slow_readers.load(), 1);
    assert_eq!(&*broker.cores[0].slow_readers(1)[0].client_id, "silent");
    for packet_id in 1..=100 {
        broker.send(silent, &Packet::PubAck(crate::codec::Ack { packet_id, ..Default::default() }));
        broker.read(silent);
    }
    assert_eq!(counters.slow_readers.load(), 0);
    broker.check();
}
