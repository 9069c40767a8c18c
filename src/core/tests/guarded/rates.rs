//! Rates of messages and bytes: who is above them waits and loses nothing.

use super::*;
use crate::core::timers::DEBT_LOOK;

#[test]
fn a_client_above_its_rate_is_read_no_further_and_loses_nothing() {
    let (mut broker, _) = guarded(1, |config| config.limits.messages_in_rate = rate(10, 10));
    let client = broker.connect("c", V5);
    let bytes = |ids: std::ops::Range<u16>| -> Vec<u8> {
        ids.flat_map(|packet_id| {
            let head = PublishHead { topic: "t", qos: QoS::AtLeastOnce, packet_id, ..PublishHead::default() };
            publish_bytes(V5, head, b"x")
        })
        .collect()
    };
    broker.cores[0].receive(broker.now, client.conn, &bytes(1..31));
    assert!(effects(&mut broker).iter().any(is_pause));
    broker.cores[0].receive(broker.now, client.conn, &bytes(31..36));
    let received = |broker: &Broker| broker.cores[0].counters().publish_received.load();
    assert_eq!(received(&broker), 30, "what comes meanwhile waits");
    broker.pass(Duration::from_millis(2000));
    assert_eq!(received(&broker), 30, "21 messages are 2.1 s at 10 a second");
    broker.pass(Duration::from_millis(200));
    assert_eq!(received(&broker), 35);
    assert_eq!(broker.read(client).len(), 1 + 35, "every one of them is acknowledged");
    broker.pass(Duration::from_secs(2));
    assert!(effects(&mut broker).iter().any(|effect| matches!(effect, Effect::ResumeReceive(_))));
}

#[test]
fn a_client_gets_messages_no_faster_than_its_rate() {
    let (mut broker, _) = guarded(1, |config| {
        let limits = ClientLimits { messages_out_rate: Some(rate(10, 2)), ..ClientLimits::default() };
        config.guard.profiles =
            vec![Profile { client_id: Some(Glob::new("s*").unwrap()), limits, ..Profile::default() }];
    });
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.read(subscriber);
    let publisher = broker.connect("p", V5);
    for packet_id in 1..=5 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b"x");
    }
    let mut got = vec![broker.read(subscriber).len()];
    for _ in 0..4 {
        effects(&mut broker);
        broker.pass(Duration::from_millis(151));
        got.push(broker.read(subscriber).len());
    }
    assert_eq!(got[0], 2, "the burst");
    assert_eq!(got.iter().sum::<usize>(), 5, "nothing of QoS 1 is dropped: {got:?}");
    assert!(got[1..].iter().all(|got| *got <= 2), "{got:?}");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"x");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"x");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"x");
    let dropped = broker.cores[0].counters().dropped[counters::DropReason::OutRate as usize].load();
    assert!(dropped >= 1, "QoS 0 above the rate is dropped, by its own reason");
    broker.check();
}

#[test]
fn bytes_are_held_to_their_rates_like_messages() {
    let (mut broker, _) = guarded(1, |config| {
        config.limits.bytes_in_rate = rate(10_000, 10_000);
        config.limits.bytes_out_rate = rate(1000, 1000);
    });
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.read(subscriber);
    let publisher = broker.connect("p", V5);
    effects(&mut broker);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, &[b'x'; 1000]);
    assert!(!effects(&mut broker).iter().any(is_pause));
    assert_eq!(broker.read(subscriber).len(), 1);
    for packet_id in 2..=10 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, &[b'x'; 1000]);
    }
    assert!(effects(&mut broker).iter().any(is_pause), "10 kB and some were taken, and no more is read");
    assert_eq!(broker.read(subscriber).len(), 0, "it had its thousand of this second");
    let mut got = 0;
    for _ in 0..12 {
        broker.pass(Duration::from_millis(1050));
        effects(&mut broker);
        let now = broker.read(subscriber).len();
        assert!(now <= 1);
        got += now;
    }
    assert_eq!(got, 9, "all of it comes");
    assert_eq!(broker.read(publisher).len(), 1 + 10);
    broker.check();
}

#[test]
fn a_client_that_connects_again_does_not_get_its_burst_again() {
    for named in [true, false] {
        let (mut broker, _) = guarded(1, |config| config.limits.messages_in_rate = rate(10, 10));
        let id = if named { "c" } else { "" };
        let connect = |broker: &mut Broker| broker.connect_from("192.0.2.1:5", id);
        let publish = |broker: &mut Broker, client: Client| {
            (0..10).for_each(|_| broker.publish(client, "t", QoS::AtMostOnce, 0, b"x"));
            broker.cores[0].counters().publish_received.load()
        };
        let client = connect(&mut broker);
        assert_eq!(publish(&mut broker, client), 10);
        // It is not read, and so its end is not seen yet: that is no way round.
        broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::EndOfStream);
        for _ in 0..5 {
            let client = connect(&mut broker);
            assert_eq!(broker.read(client)[0].get(..9), Some("CONNACK 0"), "it is told that it is in");
            assert_eq!(publish(&mut broker, client), 10, "and not read");
            broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::Error(libc::ECONNRESET));
        }
        broker.pass(Duration::from_millis(550));
        let client = connect(&mut broker);
        assert_eq!(publish(&mut broker, client), 15, "half a second is five messages");
        broker.pass(Duration::from_secs(10));
        assert_eq!(broker.cores[0].counters().publish_received.load(), 20);
    }
}

#[test]
fn who_has_been_sent_his_rate_is_sent_no_more_when_he_connects_again() {
    let (mut broker, _) = guarded(1, |config| config.limits.messages_out_rate = rate(10, 10));
    let mut client = broker.connect("c", V5);
    broker.subscribe(client, "t", QoS::AtLeastOnce);
    broker.hang_up(client);
    let publisher = broker.connect("p", V5);
    (1..=40).for_each(|packet_id| broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b"x"));
    let mut got = 0;
    for _ in 0..5 {
        client = broker.connect("c", V5);
        let told = broker.read(client);
        got += told.iter().filter(|told| told.contains("dup0")).count();
        broker.hang_up(client);
    }
    assert!((10..=11).contains(&got), "{got}");
}

#[test]
fn a_debt_is_paid_in_full_however_long_that_takes() {
    // Of each direction: a byte a second.
    let (mut broker, _) = guarded(1, |config| {
        config.limits.bytes_in_rate = rate(1, 200);
        config.limits.bytes_out_rate = rate(1, 1000);
    });
    let subscriber = broker.connect("s", V5);
    let publisher = broker.connect("p", V5);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    broker.read(subscriber);
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 2000]);
    assert_eq!(broker.read(subscriber).len(), 1, "what is begun is written");
    broker.pass(Duration::from_secs(900));
    effects(&mut broker);
    assert!(broker.cores[0].guard_holds(publisher.conn.slot));
    assert!(broker.cores[0].wire.conns[subscriber.conn.slot].is_muted());
    broker.pass(Duration::from_secs(1200));
    assert!(
        effects(&mut broker).iter().any(|effect| matches!(effect, Effect::ResumeReceive(id) if *id == publisher.conn))
    );
    assert!(!broker.cores[0].wire.conns[subscriber.conn.slot].is_muted());
    broker.check();
}

#[test]
fn who_runs_up_a_debt_and_connects_again_leaves_nothing_behind_for_long() {
    let (mut broker, _) = guarded(1, |config| config.limits.bytes_in_rate = rate(1, 1));
    let client = broker.connect("c", V5);
    broker.publish(client, "t", QoS::AtMostOnce, 0, &[b'x'; 2000]);
    for _ in 0..1000 {
        let client = broker.connect("c", V5);
        broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::Error(libc::ECONNRESET));
    }
    assert!(broker.cores[0].wheel.len() > 1000);
    broker.pass(DEBT_LOOK);
    assert!(broker.cores[0].wheel.len() < 10, "{} entries are left", broker.cores[0].wheel.len());
}
