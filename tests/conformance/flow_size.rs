//! Maximum packet size in both directions (§3.1.2.11.4, §3.2.2.3.6).

use ringmq::sim::wire::{Connect, Packet, Publish, encode};

use crate::broker::*;

/// A CONNECT that goes on with a session and takes packets of so many bytes.
fn taking(client_id: &str, maximum_packet_size: usize) -> Connect {
    let mut connect = lasting(V5, client_id);
    connect.properties = connect.properties.four(id::MAXIMUM_PACKET_SIZE, maximum_packet_size as u32);
    connect
}

fn sized(packet_id: u16, payload_len: usize) -> Publish {
    Publish { qos: AtLeastOnce, packet_id, payload: vec![b'x'; payload_len], ..message("t", "") }
}

fn size_of(publish: &Publish) -> usize {
    encode(&Packet::Publish(publish.clone()), V5).len()
}

#[test]
fn a_message_of_just_the_maximum_arrives_and_one_byte_more_does_not() {
    on_any_shards(|broker| {
        for payload_len in [40, 118, 119, 120, 121, 200, 17_000] {
            for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                let fits = Publish { qos, packet_id: u16::from(qos != AtMostOnce), ..sized(1, payload_len) };
                let mut connect = taking("s", size_of(&fits));
                connect.clean_start = true;
                let (mut subscriber, _) = broker.connect(connect);
                subscriber.subscribe("t", ExactlyOnce);
                let mut publisher = broker.client(V5, "p");
                publisher.send(publish(Publish { payload: vec![b'x'; payload_len + 1], ..fits.clone() }));
                publisher.send(publish(Publish { packet_id: fits.packet_id * 2, ..fits.clone() }));
                // The one that was too large took no packet identifier and no place in the window.
                subscriber.expect(publish(fits));
                subscriber.expect_nothing();
            }
        }
    });
}

#[test]
fn a_message_too_large_for_one_is_delivered_to_the_others_and_acknowledged() {
    on_any_shards(|broker| {
        let (mut small, _) = broker.connect(taking("small", 60));
        let mut large = broker.client(V5, "large");
        let mut old = broker.client(V311, "old");
        for subscriber in [&mut small, &mut large, &mut old] {
            subscriber.subscribe("t", AtLeastOnce);
        }
        let mut publisher = broker.client(V5, "p");
        publisher.send(publish(sized(1, 200)));
        publisher.expect(puback(1));
        large.expect(publish(sized(1, 200)));
        old.expect(publish(sized(1, 200)));
        small.expect_nothing();
        publisher.publish_acknowledged("t", "small enough");
        small.expect_message("t", "small enough");
    });
}

#[test]
fn what_waits_is_measured_when_it_is_sent() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.connect(taking("s", 1000));
        subscriber.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.send(publish(sized(1, 200)));
        publisher.expect(puback(1));
        publisher.send(publish(sized(2, 10)));
        publisher.expect(puback(2));
        subscriber.expect(publish(sized(1, 200)));
        subscriber.expect(publish(sized(2, 10)));
        subscriber.close();
        publisher.send(publish(sized(3, 200)));
        publisher.expect(puback(3));
        publisher.send(publish(sized(4, 10)));
        publisher.expect(puback(4));
        // Both the one in flight and the one in the queue are now too large: they count as sent.
        let (mut subscriber, _) = broker.connect(taking("s", 100));
        subscriber.expect(publish(Publish { dup: true, ..sized(2, 10) }));
        let queued = subscriber.next_publish();
        assert_eq!((queued.dup, queued.payload.len()), (false, 10));
        subscriber.expect_nothing();
        subscriber.send(puback(2));
        subscriber.send(puback(queued.packet_id));
        subscriber.ping();
        assert_eq!((broker.count("inflight"), broker.count("queued")), (0, 0));
    });
}

#[test]
fn an_alias_is_left_out_where_it_would_make_the_packet_too_large() {
    on_any_shards(|broker| {
        let fits = Publish { payload: vec![b'x'; 60], ..message("some/topic", "") };
        let mut connect = taking("s", size_of(&fits));
        connect.properties = connect.properties.two(id::TOPIC_ALIAS_MAXIMUM, 5);
        let (mut subscriber, _) = broker.connect(connect);
        subscriber.subscribe("#", AtMostOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.send(publish(fits.clone()));
        subscriber.expect(publish(fits));
        // A shorter one sets the alias, and with it the long one is shorter too.
        publisher.publish("some/topic", "short");
        let set = Properties::new().two(id::TOPIC_ALIAS, 1);
        subscriber.expect(publish(Publish { properties: set.clone(), ..message("some/topic", "short") }));
        let longer = "y".repeat(66);
        publisher.publish("some/topic", &longer);
        subscriber.expect(publish(Publish { properties: set, ..message("", &longer) }));
    });
}

#[test]
fn a_packet_above_the_servers_maximum_ends_the_connection_before_it_has_arrived() {
    for version in BOTH {
        for shards in [1, 3] {
            let broker = Broker::with(shards, |limits, _| limits.packet_bytes_max = 300);
            let mut subscriber = broker.client(version, "s");
            subscriber.subscribe("t", AtMostOnce);
            let room = 300 - encode(&publish(message("t", &"x".repeat(200))), version).len() + 200;
            let mut client = broker.client(version, "p");
            client.publish("t", &"x".repeat(room));
            assert_eq!(subscriber.next_publish().payload.len(), room);
            let too_large = encode(&publish(message("t", &"x".repeat(room + 1))), version);
            assert_eq!(too_large.len(), 301);
            // The fixed header is enough to tell.
            client.send_bytes(&too_large[..3]);
            client.expect_dismissal(0x95);
            subscriber.expect_nothing();
        }
    }
}

#[test]
fn a_connect_above_the_servers_maximum_is_closed() {
    let broker = Broker::with(3, |limits, _| limits.packet_bytes_max = 100);
    for version in BOTH {
        let mut client = broker.dial(version);
        client.send(Packet::Connect(Connect::new(version, &"x".repeat(100))));
        client.expect_closed();
    }
}
