//! The memory budget: what counts, and what is refused as it runs out.

use super::*;

#[test]
fn a_connect_that_waits_for_its_answer_counts_as_memory_until_then() {
    for leaves in [false, true] {
        let mut broker = Broker::new(1);
        let core = broker.cores.remove(0).with_authenticator(Box::new(Role("r", Vec::new())));
        broker.cores.push(core);
        let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
        let client = Client { shard: 0, conn, version: V5 };
        let password = [b'x'; 60_000];
        let packet = Connect { user_name: Some("u"), password: Some(&password), ..connect_packet("c", V5) };
        broker.send(client, &Packet::Connect(Box::new(packet)));
        assert!(broker.cores[0].counters().reassembly_bytes.load() > 120_000, "and what is asked about has a copy");
        match leaves {
            true => broker.cores[0].disconnected(broker.now, conn, TransportEnd::Error(libc::ECONNRESET)),
            false => broker.cores[0].attend(broker.now),
        }
        assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
    }
}

#[test]
fn short_memory_refuses_connections_then_slows_then_refuses_and_lets_go_again() {
    let (mut broker, guard) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.hang_up(subscriber);
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    let (mut refused_from, mut slowed_from, mut denied_from) = (0, 0, 0);
    for packet_id in 1..=120 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, &[b'x'; 1000]);
        slowed_from =
            if slowed_from == 0 && effects(&mut broker).iter().any(is_pause) { packet_id } else { slowed_from };
        let code = broker.read(publisher).pop().unwrap();
        denied_from = if denied_from == 0 && code.ends_with("151") { packet_id } else { denied_from };
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
        let refuses = guard.gauge().level() >= Pressure::RefuseConnections;
        refused_from = if refused_from == 0 && refuses { packet_id } else { refused_from };
    }
    assert!(
        0 < refused_from && refused_from < slowed_from && slowed_from < denied_from,
        "{refused_from} {slowed_from} {denied_from}"
    );
    assert!(broker.cores[0].counters().queued_bytes.load() <= 100_000, "the budget is kept");
    assert_eq!(broker.cores[0].counters().pressure.load(), 4);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 137 false"]);
    // The session ends, and everything in it.
    broker.pass(Duration::from_secs(101));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].counters().pressure.load(), 0);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 0 false"]);
    broker.check();
}

/// A broker whose memory is full of what waits for a client that is away.
fn filled_by(subscriber: &str, shards: u16) -> Broker {
    let (mut broker, _) = guarded(shards, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let client = broker.connect(subscriber, V5);
    broker.subscribe(client, "t", QoS::AtLeastOnce);
    broker.read(client);
    broker.hang_up(client);
    let publisher = broker.connect(&client_on(&broker, 0, "p"), V5);
    for packet_id in 1..=100 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, &[b'x'; 1000]);
        broker.read(publisher);
        broker.pass(Duration::from_millis(200));
        broker.cores.iter_mut().for_each(|core| core.attend(broker.now));
    }
    assert_eq!(broker.cores[0].counters().pressure.load(), Pressure::RefuseQos as u64);
    broker
}

#[test]
fn a_client_whose_queue_fills_the_memory_comes_back_to_take_it_and_nobody_else_comes_in() {
    let mut broker = filled_by("s", 1);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 137 false"]);
    let anew = Connect { clean_start: true, ..connect_packet("s", V5) };
    assert_eq!(connect_told(&mut broker, anew), ["CONNACK 137 false"], "nor does it begin anew");
    assert_eq!(broker.cores[0].counters().refused_at_door[Refused::Memory as usize].load(), 2);
    let client = broker.connect("s", V5);
    let told = broker.read(client);
    assert_eq!(told[0], "CONNACK 0 true");
    for packet_id in 1..told.len() as u16 {
        broker.send(client, &Packet::PubAck(Ack { packet_id, ..Ack::default() }));
    }
    broker.read(client);
    broker.pass(Duration::from_secs(2));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].counters().pressure.load(), 0);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 0 false"]);
    broker.check();
}

#[test]
fn who_is_turned_away_for_want_of_memory_takes_no_place_from_who_comes_after_him() {
    let ids = ["new", "s"].map(|name| client_on(&Broker::new(2), 1, name));
    let mut broker = filled_by(&ids[1], 2);
    for _ in 0..TRIALS_MAX + 10 {
        let refused = broker.connect(&ids[0], V5);
        assert_eq!(broker.read(refused), ["CONNACK 137 false"]);
        broker.cores[1].release(refused.conn);
    }
    // Those who say nothing hold a place, until they have had time enough.
    (0..TRIALS_MAX).for_each(|_| assert!(broker.cores[0].open(broker.now, 0, None).is_some()));
    assert!(broker.cores[0].open(broker.now, 0, None).is_none());
    broker.pass(Duration::from_secs(6));
    while let Some(effect) = broker.cores[0].poll_effect() {
        if let Effect::Close(conn) = effect {
            broker.cores[0].release(conn);
        }
    }
    let client = broker.connect(&ids[1], V5);
    assert_eq!(broker.read(client)[0], "CONNACK 0 true");
}

#[test]
fn what_is_sent_and_not_acknowledged_counts_for_the_budget() {
    let (mut broker, _) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let publisher = broker.connect("p", V5);
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let pressure = |broker: &mut Broker| {
        broker.pass(Duration::from_secs(2));
        broker.cores[0].attend(broker.now);
        broker.cores[0].counters().pressure.load()
    };
    for packet_id in 1..=75 {
        broker.publish(publisher, "t", QoS::ExactlyOnce, packet_id, &[b'x'; 900]);
        broker.read(subscriber);
        broker.read(publisher);
        broker.check();
    }
    assert_eq!(pressure(&mut broker), 1, "75 of 100 kB");
    assert_eq!(broker.cores[0].counters().output_bytes.load() + broker.cores[0].counters().queued_bytes.load(), 0);
    let ack = |packet_id| Ack { packet_id, ..Ack::default() };
    for packet_id in 1..=75 {
        broker.send(subscriber, &Packet::PubRec(ack(packet_id)));
        broker.check();
    }
    assert_eq!(pressure(&mut broker), 0, "only PUBCOMP is awaited, and no message kept for that");
    for packet_id in 1..=75 {
        broker.send(subscriber, &Packet::PubComp(ack(packet_id)));
    }
    assert_eq!(broker.cores[0].counters().inflight_bytes.load(), 0);
    broker.check();
}

#[test]
fn a_large_message_for_many_counts_once_for_the_budget_wherever_it_is_kept() {
    let (mut broker, _) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(1_000_000));
    let readers: Vec<Client> = (0..20)
        .map(|number| {
            let client = broker.connect(&format!("r{number}"), V5);
            broker.subscribe(client, "t", if number % 4 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce });
            broker.read(client);
            client
        })
        .collect();
    readers[10..].iter().for_each(|client| broker.hang_up(*client));
    let publisher = broker.connect("p", V5);
    broker.publish(publisher, "t", QoS::ExactlyOnce, 1, &[b'x'; 100_000]);
    broker.read(publisher);
    let counted = |broker: &mut Broker| {
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
        assert_eq!(broker.cores[0].counters().pressure.load(), 0, "it is a tenth of the budget");
        broker.check();
        broker.cores[0].counters().message_bytes()
    };
    let once = 100_000..110_000;
    assert!(once.contains(&counted(&mut broker)), "in queues, in flight, in output");
    let (first, rest) = readers[..10].split_first().unwrap();
    rest.iter().for_each(|client| drop(broker.read(*client)));
    assert!(once.contains(&counted(&mut broker)), "one has not read it");
    broker.read(*first);
    assert!(once.contains(&counted(&mut broker)), "nobody has acknowledged it");
    for client in &readers[..10] {
        broker.send(*client, &Packet::PubAck(Ack { packet_id: 1, ..Ack::default() }));
        broker.send(*client, &Packet::PubRec(Ack { packet_id: 1, ..Ack::default() }));
    }
    assert!(once.contains(&counted(&mut broker)), "it waits in queues");
    // One comes and is gone again, with the message in its output; the others' sessions end.
    let back = broker.connect("r11", V5);
    assert!(once.contains(&counted(&mut broker)));
    broker.hang_up(back);
    assert!(once.contains(&counted(&mut broker)));
    broker.pass(Duration::from_secs(101));
    readers[..10].iter().for_each(|client| drop(broker.read(*client)));
    broker.read(publisher);
    assert!(counted(&mut broker) < 3000, "{:?}", broker.cores[0].counters());
    assert_eq!(broker.cores[0].counters().shared_bytes.load(), 0);
}

#[test]
fn empty_messages_count_for_the_limits_in_bytes() {
    let (mut broker, _) = guarded(1, |config| {
        config.limits.queue_bytes_max = 10 * (message::OVERHEAD + 6);
        config.limits.memory_budget = MemoryBudget::Bytes(1900);
    });
    let away = broker.connect("away", V5);
    broker.subscribe(away, "t", QoS::AtLeastOnce);
    broker.hang_up(away);
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    // The body of its packet is 6 bytes: a topic, a packet identifier, no properties.
    (1..=20).for_each(|packet_id| broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b""));
    let counters = broker.cores[0].counters();
    assert_eq!(counters.queued.load(), 10);
    let refused = counters.dropped[counters::DropReason::QueueBytes as usize].load();
    assert_eq!(refused, 10);
    broker.read(publisher);
    broker.pass(Duration::from_millis(200));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].counters().pressure.load(), 1, "1340 of 1900 bytes");
}

#[test]
fn topic_aliases_count_for_the_budget_both_ways_and_until_their_connection_ends() {
    let (mut broker, _) = guarded(1, |_| {});
    let properties = ConnectProperties { topic_alias_maximum: Some(10), ..ConnectProperties::default() };
    let subscriber = broker.connect_as(Connect { properties, ..connect_packet("s", V5) });
    broker.subscribe(subscriber, "#", QoS::AtMostOnce);
    let publisher = broker.connect("p", V5);
    let counted = |broker: &Broker| broker.cores[0].counters().alias_bytes.load();
    let topic = "x".repeat(1000);
    for (topic, least) in [(&*topic, 2000), ("y", 1000), (&*topic, 2000)] {
        let head = PublishHead { topic, topic_alias: Some(3), ..PublishHead::default() };
        broker.publish_head(publisher, head, b"");
        broker.read(subscriber);
        assert!((least..least + 300).contains(&counted(&broker)), "{}", counted(&broker));
    }
    broker.hang_up(subscriber);
    assert!((1000..1100).contains(&counted(&broker)));
    broker.hang_up(publisher);
    assert_eq!(counted(&broker), 0);
}

#[test]
fn what_is_published_at_qos_0_keeps_to_the_memory_budget_too() {
    for retain in [true, false] {
        let (mut broker, _) = guarded(1, |config| {
            config.limits.memory_budget = MemoryBudget::Bytes(100_000);
            config.mqtt.queue_qos0_offline = true;
        });
        let away = broker.connect("away", V5);
        if !retain {
            broker.subscribe(away, "#", QoS::AtMostOnce);
        }
        broker.hang_up(away);
        let publisher = broker.connect("p", V5);
        for number in 0..200 {
            let topic = format!("t/{number}");
            let head = PublishHead { topic: &topic, retain, ..PublishHead::default() };
            broker.publish_head(publisher, head, &[b'x'; 1000]);
            broker.pass(Duration::from_millis(200));
            broker.cores[0].attend(broker.now);
        }
        let counters = broker.cores[0].counters();
        assert!((90_000..=100_000).contains(&counters.message_bytes()), "{retain}: {}", counters.message_bytes());
        let dropped = counters.dropped[counters::DropReason::Memory as usize].load();
        let refused = if retain { counters.retained_refused.load() } else { dropped };
        assert!(refused > 90, "{retain}: what was not taken is counted, {refused}");
        broker.check();
    }
}

#[test]
fn wills_count_against_the_memory_budget() {
    let (mut broker, guard) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(1_000_000));
    let payload = vec![b'x'; 60_000];
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "w",
        payload: &payload,
        delay_interval: 50,
        properties: Default::default(),
    };
    let packet = |id| Connect { will: Some(will.clone()), ..connect_packet(id, V5) };
    let ids: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    let mut clients = Vec::new();
    for id in &ids {
        if guard.gauge().level() >= Pressure::RefuseConnections {
            break;
        }
        clients.push(broker.connect_as(packet(id)));
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
    }
    assert_eq!(clients.len(), 12, "12 of them are 70 % of the budget");
    // One leaves in peace, the others' are published when their delay has passed.
    broker.send(clients[0], &Packet::Disconnect(Default::default()));
    broker.check();
    clients[1..].iter().for_each(|client| broker.hang_up(*client));
    broker.check();
    broker.pass(Duration::from_secs(51));
    assert_eq!(broker.cores[0].counters().will_bytes.load(), 0);
    broker.check();
}

#[test]
fn filters_count_against_the_memory_budget_once_and_are_refused_at_its_end() {
    let (mut broker, guard) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let [client, other] = ["c", "o"].map(|id| broker.connect(id, V5));
    broker.read(client);
    let filters: Vec<String> = (0..200).map(|number| format!("{}/{number}", "x".repeat(900))).collect();
    let mut told = Vec::new();
    for filter in &filters {
        broker.subscribe(client, filter, QoS::AtMostOnce);
        told.extend(broker.read(client));
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
    }
    let granted = told.iter().filter(|told| *told == "SUBACK [0]").count();
    assert!((80..100).contains(&granted) && told.last().is_some_and(|told| told == "SUBACK [151]"), "{granted}");
    assert_eq!(guard.gauge().level(), Pressure::RefuseQos);
    // Again, and with other options: it costs nothing.
    broker.subscribe(client, &filters[0], QoS::AtLeastOnce);
    assert_eq!(broker.read(client), ["SUBACK [1]"]);
    for filter in &filters[..20] {
        broker.unsubscribe(client, filter);
    }
    broker.pass(Duration::from_secs(2));
    broker.cores[0].attend(broker.now);
    let before = broker.cores[0].counters().filter_bytes.load();
    broker.subscribe(other, &filters[50], QoS::AtMostOnce);
    assert_eq!(broker.cores[0].counters().filter_bytes.load(), before, "one filter is kept once");
    broker.subscribe(other, "$share/g/a", QoS::AtMostOnce);
    assert!(broker.cores[0].counters().filter_bytes.load() > before);
    [client, other].into_iter().for_each(|client| broker.hang_up(client));
    broker.pass(Duration::from_secs(101));
    assert_eq!(broker.cores[0].counters().filter_bytes.load(), 0);
}
