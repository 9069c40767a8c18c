//! The will: when it is published, when it is not, and as what (§3.1.2.5, §3.1.3.2, §3.14.4).

use ringmq::sim::wire::{Connect, Packet, Publish, Reasoned};

use crate::broker::*;

/// A CONNECT with a will for `w`.
fn with_will(version: ProtocolVersion, client_id: &str) -> Connect {
    let mut connect = Connect::new(version, client_id);
    connect.will = Some(Will { topic: "w".into(), payload: b"gone".into(), ..Will::default() });
    connect
}

/// The same with a will delay and a session that outlives its connection, both in seconds.
fn delayed(delay: u32, expiry: u32) -> Connect {
    let mut connect = with_will(V5, "c");
    connect.clean_start = false;
    connect.properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, expiry);
    connect.will.as_mut().expect("made above").properties = Properties::new().four(id::WILL_DELAY_INTERVAL, delay);
    connect
}

/// The client comes back without a will.
fn again(clean_start: bool) -> Connect {
    Connect { clean_start, ..lasting(V5, "c") }
}

fn watcher(broker: &Broker) -> Client {
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe_with("w", SubscriptionOptions { retain_as_published: true, ..at(ExactlyOnce) });
    watcher
}

#[track_caller]
fn expect_will(watcher: &mut Client) {
    watcher.expect(publish(message("w", "gone")));
    watcher.expect_nothing();
}

fn disconnect(reason: u8) -> Packet {
    Packet::Disconnect(Reasoned { reason, properties: Properties::new() })
}

#[test]
fn a_normal_disconnection_discards_the_will() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        let (client, _) = broker.connect(with_will(version, "c"));
        client.disconnect();
        broker.seconds(1000);
        watcher.expect_nothing();
        assert_eq!(broker.count("wills_published"), 0);
    });
}

#[test]
fn a_discarded_will_does_not_come_back_with_the_session() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        let mut connect = lasting(version, "c");
        connect.will = with_will(version, "c").will;
        broker.connect(connect).0.disconnect();
        let (client, present) = broker.resume(version, "c");
        assert!(present);
        client.reset();
        watcher.expect_nothing();
    });
}

#[test]
fn any_other_reason_of_a_client_has_the_will_published() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        for reason in [0x04, 0x80, 0x81, 0x93, 0x98] {
            let (mut client, _) = broker.connect(with_will(V5, "c"));
            client.send(disconnect(reason));
            client.expect_closed();
            expect_will(&mut watcher);
        }
    });
}

#[test]
fn a_broken_or_closed_transport_has_the_will_published() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        broker.connect(with_will(version, "c")).0.reset();
        expect_will(&mut watcher);
        broker.connect(with_will(version, "c")).0.close();
        expect_will(&mut watcher);
    });
}

#[test]
fn a_silent_client_has_its_will_published() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        let (mut client, _) = broker.connect(Connect { keep_alive: 10, ..with_will(version, "c") });
        broker.seconds(14);
        watcher.expect_nothing();
        broker.seconds(2);
        client.expect_dismissal(0x8D);
        expect_will(&mut watcher);
    });
}

#[test]
fn a_client_that_is_dismissed_for_an_error_has_its_will_published() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        let malformed: &[u8] = &[0xC1, 0];
        let second_connect = ringmq::sim::wire::encode(&Packet::Connect(Connect::new(version, "c")), version);
        for (bytes, reason) in [(malformed, 0x81), (&second_connect, 0x82)] {
            let (mut client, _) = broker.connect(with_will(version, "c"));
            client.send_bytes(bytes);
            client.expect_dismissal(reason);
            expect_will(&mut watcher);
        }
    });
}

#[test]
fn a_disconnect_that_is_itself_an_error_has_the_will_published() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        let (mut client, _) = broker.connect(with_will(V5, "c"));
        let properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, 5);
        client.send(Packet::Disconnect(Reasoned { reason: 0, properties }));
        client.expect_dismissal(0x82);
        expect_will(&mut watcher);
    });
}

#[test]
fn a_client_without_a_will_leaves_none() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        broker.client(version, "c").reset();
        assert_eq!(broker.count("wills_published"), 0);
        watcher.expect_nothing();
    });
}

#[test]
fn a_refused_connect_leaves_no_will() {
    for version in BOTH {
        on_any_shards_with(
            |limits, _| limits.client_id_bytes_max = 10,
            |broker| {
                let mut watcher = watcher(broker);
                let mut client = broker.dial(version);
                client.send(Packet::Connect(with_will(version, "far too long a name")));
                client.expect_closed_or_refused();
                watcher.expect_nothing();
            },
        );
    }
}

#[test]
fn a_takeover_publishes_the_will_of_the_connection_it_ends() {
    for_both(|broker, version| {
        for clean_start in [true, false] {
            let mut watcher = watcher(broker);
            let mut connect = lasting(version, "c");
            connect.will = with_will(version, "c").will;
            let (mut old, _) = broker.connect(connect);
            let (mut new, _) = broker.connect(Connect { clean_start, ..lasting(version, "c") });
            old.expect_dismissal(0x8E);
            expect_will(&mut watcher);
            new.ping();
            new.disconnect();
            watcher.expect_nothing();
        }
    });
}

#[test]
fn a_takeover_before_the_delay_publishes_the_will_only_if_the_session_ends() {
    on_any_shards(|broker| {
        for (clean_start, delay, expiry, published) in [
            (false, 0, 100, true),
            (false, 10, 100, false),
            (false, 10, 0, true),
            (false, 0, 0, true),
            (true, 0, 100, true),
            (true, 10, 100, true),
            (true, 10, 0, true),
        ] {
            let case = format!("clean start {clean_start}, delay {delay}, expiry {expiry}");
            let before = broker.count("wills_published");
            let mut watcher = watcher(broker);
            let (mut old, _) = broker.connect(delayed(delay, expiry));
            let (client, ack) = broker.connect(again(clean_start));
            assert_eq!(ack.session_present, !clean_start && expiry > 0, "{case}");
            old.expect_dismissal(0x8E);
            if published {
                expect_will(&mut watcher);
            }
            // Whatever was not published now never is.
            broker.seconds(1000);
            watcher.expect_nothing();
            assert_eq!(broker.count("wills_published") - before, u64::from(published), "{case}");
            client.disconnect();
            broker.client(V5, "c").disconnect();
        }
    });
}

#[test]
fn a_will_waits_for_its_delay() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        for end in [0, 1, 2] {
            let (mut client, _) = broker.connect(Connect { keep_alive: 2, ..delayed(10, 100) });
            match end {
                0 => client.reset(),
                1 => {
                    client.send(disconnect(0x04));
                    client.expect_closed();
                }
                _ => {
                    broker.advance(std::time::Duration::from_millis(3_100));
                    client.expect_dismissal(0x8D);
                }
            }
            broker.seconds(9);
            watcher.expect_nothing();
            broker.seconds(2);
            expect_will(&mut watcher);
            // Once; and the session is still there.
            broker.seconds(50);
            watcher.expect_nothing();
            let (client, ack) = broker.connect(again(false));
            assert!(ack.session_present);
            client.disconnect();
        }
    });
}

#[test]
fn a_will_does_not_wait_longer_than_the_session() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        broker.connect(delayed(100, 5)).0.reset();
        broker.seconds(4);
        watcher.expect_nothing();
        broker.seconds(2);
        expect_will(&mut watcher);
        broker.seconds(200);
        watcher.expect_nothing();
        // A session that ends with its connection: at once.
        broker.connect(delayed(100, 0)).0.reset();
        expect_will(&mut watcher);
        // One whose end comes with DISCONNECT.
        let (mut client, _) = broker.connect(delayed(100, 50));
        let properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, 0);
        client.send(Packet::Disconnect(Reasoned { reason: 0x04, properties }));
        client.expect_closed();
        expect_will(&mut watcher);
    });
}

#[test]
fn a_client_that_is_back_before_the_delay_has_no_will_published() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        broker.connect(delayed(10, 100)).0.reset();
        broker.seconds(9);
        let (client, ack) = broker.connect(again(false));
        assert!(ack.session_present);
        broker.seconds(100);
        watcher.expect_nothing();
        client.reset();
        broker.seconds(100);
        watcher.expect_nothing();
        assert_eq!(broker.count("wills_published"), 0);
    });
}

#[test]
fn a_client_that_begins_anew_before_the_delay_has_its_will_published() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        broker.connect(delayed(10, 100)).0.reset();
        broker.seconds(9);
        watcher.expect_nothing();
        let _client = broker.connect(again(true));
        expect_will(&mut watcher);
        broker.seconds(100);
        watcher.expect_nothing();
    });
}

#[test]
fn each_connection_has_the_will_of_its_own_connect() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        broker.connect(delayed(10, 100)).0.reset();
        broker.seconds(5);
        let mut connect = delayed(20, 100);
        connect.will.as_mut().expect("it has one").payload = b"second".into();
        broker.connect(connect).0.reset();
        // The first one's time passes.
        broker.seconds(19);
        watcher.expect_nothing();
        broker.seconds(2);
        watcher.expect(publish(message("w", "second")));
        broker.seconds(100);
        watcher.expect_nothing();
    });
}

#[test]
fn a_will_has_the_qos_and_retain_of_its_flags() {
    for_both(|broker, version| {
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            for retain in [false, true] {
                let mut watcher = watcher(broker);
                let mut connect = with_will(version, "c");
                connect.will = Some(Will { qos, retain, ..connect.will.expect("it has one") });
                broker.connect(connect).0.reset();
                let packet_id = u16::from(qos != AtMostOnce);
                watcher.expect(publish(Publish { qos, retain, packet_id, ..message("w", "gone") }));
                let mut late = broker.client(version, "late");
                late.subscribe("w", ExactlyOnce);
                if retain {
                    late.expect(publish(Publish { qos, retain, packet_id, ..message("w", "gone") }));
                }
                late.expect_nothing();
                broker.client(version, "cleaner").retain("w", "");
            }
        }
    });
}

#[test]
fn a_will_that_is_not_retained_leaves_the_retained_message() {
    for_both(|broker, version| {
        broker.client(version, "p").retain("w", "kept");
        broker.connect(with_will(version, "c")).0.reset();
        let mut late = broker.client(version, "late");
        late.subscribe("w", AtMostOnce);
        late.expect(publish(Publish { retain: true, ..message("w", "kept") }));
    });
}

#[test]
fn an_empty_retained_will_clears_and_a_will_may_be_empty() {
    for_both(|broker, version| {
        let mut watcher = watcher(broker);
        let mut publisher = broker.client(version, "p");
        publisher.retain("w", "kept");
        watcher.expect_message("w", "kept");
        let mut connect = with_will(version, "c");
        connect.will = Some(Will { retain: true, topic: "w".into(), ..Will::default() });
        broker.connect(connect).0.reset();
        watcher.expect(publish(Publish { retain: true, ..message("w", "") }));
        assert_eq!(broker.count("retained_messages"), 0);
    });
}

#[test]
fn a_will_is_published_with_its_properties_and_an_expiry_that_begins_then() {
    on_any_shards(|broker| {
        let mut watcher = watcher(broker);
        let message_properties = || {
            Properties::new()
                .byte(id::PAYLOAD_FORMAT_INDICATOR, 1)
                .four(id::MESSAGE_EXPIRY_INTERVAL, 60)
                .text(id::CONTENT_TYPE, "text/plain")
                .text(id::RESPONSE_TOPIC, "answers")
                .binary(id::CORRELATION_DATA, &[0, 255])
                .user("z", "1")
                .user("a", "2")
                .user("z", "1")
        };
        let mut connect = delayed(10, 1000);
        let properties = message_properties().four(id::WILL_DELAY_INTERVAL, 10);
        connect.will.as_mut().expect("it has one").properties = properties;
        let (client, _) = broker.connect(connect);
        broker.seconds(500);
        client.reset();
        broker.seconds(11);
        let got = watcher.next_publish();
        // Nothing but the delay is left out, and the order of user properties is kept.
        assert_eq!(got, Publish { properties: message_properties(), ..message("w", "gone") });
    });
}

#[test]
fn a_will_that_waits_in_a_queue_expires_there() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.resume(V5, "reader");
        client.subscribe("w", AtLeastOnce);
        client.disconnect();
        for (away, left) in [(20, Some(40)), (70, None)] {
            let mut connect = with_will(V5, "c");
            let will = connect.will.as_mut().expect("it has one");
            will.qos = AtLeastOnce;
            will.properties = Properties::new().four(id::MESSAGE_EXPIRY_INTERVAL, 60);
            broker.connect(connect).0.reset();
            broker.seconds(away);
            let (mut client, _) = broker.resume(V5, "reader");
            if let Some(left) = left {
                let got = client.next_publish();
                let left_now = got.properties.number(id::MESSAGE_EXPIRY_INTERVAL).expect("it had one");
                assert!(left_now == left || left_now == left - 1, "{left_now} s left");
                client.send(puback(got.packet_id));
            }
            client.expect_nothing();
            client.disconnect();
        }
    });
}

#[test]
fn a_clients_own_session_gets_its_will_like_any_other() {
    for_both(|broker, version| {
        let mut connect = lasting(version, "c");
        connect.will = Some(Will { qos: AtLeastOnce, topic: "w".into(), payload: b"gone".into(), ..Will::default() });
        let (mut client, _) = broker.connect(connect);
        client.subscribe("w", AtLeastOnce);
        client.reset();
        let (mut client, _) = broker.resume(version, "c");
        client.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("w", "gone") }));
    });
}

#[test]
fn a_will_reaches_shared_subscriptions_once() {
    for_both(|broker, version| {
        let mut members: Vec<_> = (0..4).map(|at| broker.client(version, &format!("m{at}"))).collect();
        members.iter_mut().for_each(|member| member.subscribe("$share/g/w", AtMostOnce));
        broker.connect(with_will(version, "c")).0.reset();
        let got: Vec<_> = members.iter_mut().filter_map(Client::next_or_none).collect();
        assert_eq!(got, [publish(message("w", "gone"))]);
    });
}

#[test]
fn a_will_topic_with_wildcards_is_not_accepted() {
    for_both(|broker, version| {
        for topic in ["w/#", "+", ""] {
            let mut connect = with_will(version, "c");
            connect.will.as_mut().expect("it has one").topic = topic.into();
            let mut client = broker.dial(version);
            client.send(Packet::Connect(connect));
            client.expect_closed_or_refused();
        }
    });
}
