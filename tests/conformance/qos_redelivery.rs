//! Message delivery retry (§4.4) and ordering (§4.6).

use ringmq::sim::wire::{Packet, Publish};

use crate::broker::*;

fn sent(qos: QoS, packet_id: u16, payload: &str) -> Publish {
    Publish { qos, packet_id, ..message("t", payload) }
}

fn again(qos: QoS, packet_id: u16, payload: &str) -> Packet {
    publish(Publish { dup: true, ..sent(qos, packet_id, payload) })
}

/// Publishes at this QoS and completes the exchange.
#[track_caller]
fn complete(publisher: &mut Client, qos: QoS, payload: &str) {
    publisher.send(publish(sent(qos, 50, payload)));
    match publisher.next() {
        Packet::PubAck(ack) => assert_eq!(ack.packet_id, 50),
        Packet::PubRec(_) => {
            publisher.send(pubrel(50));
            publisher.expect(pubcomp(50));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn unacknowledged_messages_come_again_in_order_with_dup_and_their_identifiers() {
    for_both(|broker, version| {
        let (mut subscriber, _) = broker.resume(version, "s");
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(version, "p");
        let qos = [AtLeastOnce, ExactlyOnce, AtLeastOnce, ExactlyOnce, ExactlyOnce, AtLeastOnce];
        for (at, qos) in qos.into_iter().enumerate() {
            complete(&mut publisher, qos, &(at + 1).to_string());
            subscriber.expect(publish(sent(qos, at as u16 + 1, &(at + 1).to_string())));
        }
        // 3 is finished, 4 is released, 5 was received by a client that then broke off.
        subscriber.send(puback(3));
        subscriber.send(pubrec(4));
        subscriber.expect(pubrel(4));
        for _ in 0..2 {
            subscriber.close();
            subscriber = broker.resume(version, "s").0;
            subscriber.expect(again(AtLeastOnce, 1, "1"));
            subscriber.expect(again(ExactlyOnce, 2, "2"));
            subscriber.expect(pubrel(4));
            subscriber.expect(again(ExactlyOnce, 5, "5"));
            subscriber.expect(again(AtLeastOnce, 6, "6"));
            subscriber.expect_nothing();
        }
        // What is new goes on behind.
        complete(&mut publisher, AtLeastOnce, "7");
        subscriber.expect(publish(sent(AtLeastOnce, 7, "7")));
    });
}

#[test]
fn nothing_is_sent_again_on_a_connection_that_lasts() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        complete(&mut publisher, AtLeastOnce, "1");
        complete(&mut publisher, ExactlyOnce, "2");
        complete(&mut publisher, ExactlyOnce, "3");
        for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2), (ExactlyOnce, 3)] {
            subscriber.expect(publish(sent(qos, packet_id, &packet_id.to_string())));
        }
        subscriber.send(pubrec(3));
        subscriber.expect(pubrel(3));
        broker.seconds(100_000);
        subscriber.expect_nothing();
    });
}

#[test]
fn a_publish_is_not_sent_again_once_its_pubrel_was() {
    for_both(|broker, version| {
        let (mut subscriber, _) = broker.resume(version, "s");
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(version, "p");
        complete(&mut publisher, ExactlyOnce, "x");
        subscriber.expect(publish(sent(ExactlyOnce, 1, "x")));
        subscriber.send(pubrec(1));
        subscriber.expect(pubrel(1));
        subscriber.close();
        let (mut subscriber, _) = broker.resume(version, "s");
        subscriber.expect(pubrel(1));
        subscriber.send(pubcomp(1));
        subscriber.expect_nothing();
        subscriber.close();
        broker.resume(version, "s").0.expect_nothing();
    });
}

#[test]
fn a_takeover_is_a_reconnect_too() {
    for_both(|broker, version| {
        let (mut old, _) = broker.resume(version, "s");
        old.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(version, "p");
        complete(&mut publisher, AtLeastOnce, "1");
        old.expect(publish(sent(AtLeastOnce, 1, "1")));
        let (mut new, present) = broker.resume(version, "s");
        assert!(present);
        new.expect(again(AtLeastOnce, 1, "1"));
        old.expect_dismissal(0x8E);
    });
}

#[test]
fn a_message_that_was_sent_does_not_expire() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        let properties = Properties::new().four(id::MESSAGE_EXPIRY_INTERVAL, 2);
        publisher.send(publish(Publish { properties, ..sent(ExactlyOnce, 9, "x") }));
        publisher.expect(pubrec(9));
        assert_eq!(subscriber.next_publish().packet_id, 1);
        subscriber.close();
        broker.seconds(10);
        // Nor does the publisher's exchange.
        publisher.send(pubrel(9));
        publisher.expect(pubcomp(9));
        let (mut subscriber, _) = broker.resume(V5, "s");
        let got = subscriber.next_publish();
        assert_eq!((got.packet_id, got.dup, got.payload.as_slice()), (1, true, &b"x"[..]));
        subscriber.send(pubrec(1));
        subscriber.expect(pubrel(1));
    });
}

#[test]
fn an_exchange_goes_on_where_its_message_has_expired_unsent() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", ExactlyOnce);
        subscriber.close();
        let mut publisher = broker.client(V5, "p");
        let properties = Properties::new().four(id::MESSAGE_EXPIRY_INTERVAL, 2);
        publisher.send(publish(Publish { properties, ..sent(ExactlyOnce, 9, "x") }));
        publisher.expect(pubrec(9));
        broker.seconds(10);
        broker.resume(V5, "s").0.expect_nothing();
        publisher.send(again(ExactlyOnce, 9, "x"));
        publisher.expect(pubrec(9));
        publisher.send(pubrel(9));
        publisher.expect(pubcomp(9));
    });
}

#[test]
fn what_is_in_flight_is_sent_in_the_version_of_the_next_connection() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        let properties = Properties::new().user("k", "v");
        publisher.send(publish(Publish { properties: properties.clone(), ..sent(AtLeastOnce, 1, "x") }));
        subscriber.expect(publish(Publish { properties: properties.clone(), ..sent(AtLeastOnce, 1, "x") }));
        subscriber.close();
        let (mut subscriber, present) = broker.resume(V311, "s");
        assert!(present);
        subscriber.expect(again(AtLeastOnce, 1, "x"));
        subscriber.close();
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.expect(publish(Publish { dup: true, properties, ..sent(AtLeastOnce, 1, "x") }));
    });
}

#[test]
fn messages_of_a_publisher_arrive_in_order_at_every_qos() {
    for_both(|broker, version| {
        let mut publisher = broker.client(version, "p");
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut subscribers: Vec<Client> =
                (0..5).map(|number| broker.client(version, &format!("s{number}"))).collect();
            subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe("t", ExactlyOnce));
            for number in 1..=60 {
                let packet_id = if qos == AtMostOnce { 0 } else { 1000 + number };
                publisher.send(publish(sent(qos, packet_id, &number.to_string())));
            }
            for subscriber in &mut subscribers {
                for number in 1..=60 {
                    let packet_id = if qos == AtMostOnce { 0 } else { number };
                    subscriber.expect(publish(sent(qos, packet_id, &number.to_string())));
                }
            }
            for number in (1..=60).filter(|_| qos != AtMostOnce) {
                match (publisher.next(), qos) {
                    (Packet::PubAck(ack), AtLeastOnce) => assert_eq!(ack.packet_id, 1000 + number),
                    (Packet::PubRec(ack), ExactlyOnce) => assert_eq!(ack.packet_id, 1000 + number),
                    (other, _) => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn queued_messages_go_out_before_later_ones() {
    for version in BOTH {
        for shards in [1, 3] {
            let broker = Broker::with(shards, |limits, _| limits.inflight_max = 2);
            let (mut subscriber, _) = broker.resume(version, "s");
            subscriber.subscribe("t", AtLeastOnce);
            let mut publisher = broker.client(version, "p");
            for number in 1..=3 {
                complete(&mut publisher, AtLeastOnce, &number.to_string());
            }
            subscriber.expect(publish(sent(AtLeastOnce, 1, "1")));
            subscriber.expect(publish(sent(AtLeastOnce, 2, "2")));
            subscriber.close();
            complete(&mut publisher, AtLeastOnce, "4");
            let (mut subscriber, _) = broker.resume(version, "s");
            complete(&mut publisher, AtLeastOnce, "5");
            subscriber.expect(again(AtLeastOnce, 1, "1"));
            subscriber.expect(again(AtLeastOnce, 2, "2"));
            subscriber.expect_nothing();
            for number in 1..=3 {
                subscriber.send(puback(number));
                subscriber.expect(publish(sent(AtLeastOnce, number + 2, &(number + 2).to_string())));
            }
        }
    }
}

#[test]
fn pubrels_keep_the_order_of_the_pubrecs() {
    for_both(|broker, version| {
        let (mut subscriber, mut publisher) = (broker.client(version, "s"), broker.client(version, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        for number in 1..=4 {
            complete(&mut publisher, ExactlyOnce, &number.to_string());
            subscriber.expect(publish(sent(ExactlyOnce, number, &number.to_string())));
        }
        for packet_id in [3, 1, 4, 2] {
            subscriber.send(pubrec(packet_id));
        }
        for packet_id in [3, 1, 4, 2] {
            subscriber.expect(pubrel(packet_id));
        }
    });
}
