//! Data representation and the format of control packets (§1.5, §2), and what a packet that breaks it costs (§4.13).

use ringmq::sim::wire::{Ack, Codes, ConnAck, Packet, Publish, Reasoned, encode, frame};

use crate::broker::*;

/// A PUBLISH of QoS 0 with these bytes for a topic.
fn publish_to(topic: &[u8], version: ProtocolVersion) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic);
    if version == V5 {
        body.push(0);
    }
    frame(0x30, &body)
}

/// Sends bytes that no client may send, and expects the end with this reason.
#[track_caller]
fn assert_dismissed(broker: &Broker, version: ProtocolVersion, bytes: &[u8], reason: u8) {
    let mut client = broker.client(version, "culprit");
    client.send_bytes(bytes);
    client.expect_dismissal(reason);
}

#[test]
fn strings_that_are_not_utf8_end_the_connection() {
    for_both(|broker, version| {
        // A lone continuation, an overlong form, a cut sequence, both ends of the surrogates, above U+10FFFF.
        for bad in [&b"\x80"[..], b"\xC0\xAF", b"a\xE2\x82", b"\xED\xA0\x80", b"\xED\xBF\xBF", b"\xF4\x90\x80\x80"] {
            assert_dismissed(broker, version, &publish_to(bad, version), 0x81);
        }
    });
}

#[test]
fn strings_with_a_null_character_end_the_connection() {
    for_both(|broker, version| assert_dismissed(broker, version, &publish_to(b"a\0b", version), 0x81));
}

#[test]
fn user_properties_obey_the_rules_of_strings_in_both_halves() {
    on_any_shards(|broker| {
        for (name, value) in [(&b"\xFF"[..], &b"v"[..]), (b"n", b"\xFF"), (b"n\0", b"v"), (b"n", b"\0")] {
            let mut property = vec![id::USER_PROPERTY];
            for part in [name, value] {
                property.extend((part.len() as u16).to_be_bytes());
                property.extend(part);
            }
            let mut body = vec![0, 1, b't', property.len() as u8];
            body.extend(property);
            assert_dismissed(broker, V5, &frame(0x30, &body), 0x81);
        }
    });
}

#[test]
fn content_type_and_response_topic_obey_the_rules_of_strings() {
    on_any_shards(|broker| {
        for identifier in [id::CONTENT_TYPE, id::RESPONSE_TOPIC] {
            for bad in [b'\xFF', b'\0'] {
                let body = [0, 1, b't', 4, identifier, 0, 1, bad];
                assert_dismissed(broker, V5, &frame(0x30, &body), 0x81);
            }
        }
    });
}

#[test]
fn a_zero_width_no_break_space_is_a_character_like_any_other() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        client.subscribe("\u{FEFF}t", AtMostOnce);
        client.subscribe("plain/\u{FEFF}", AtMostOnce);
        client.publish("t", "without");
        client.publish("\u{FEFF}t", "with");
        client.publish("plain/\u{FEFF}", "behind");
        client.expect_message("\u{FEFF}t", "with");
        client.expect_message("plain/\u{FEFF}", "behind");
        client.expect_nothing();
    });
}

#[test]
fn strings_of_65_535_bytes_are_read() {
    let broker = Broker::new(1);
    let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
    subscriber.subscribe("t", AtMostOnce);
    let long = "x".repeat(65_535);
    let publish = Publish { properties: Properties::new().user(&long, &long), ..message("t", "") };
    publisher.send(Packet::Publish(publish.clone()));
    subscriber.expect(Packet::Publish(publish));
}

#[test]
fn a_variable_byte_integer_takes_as_few_bytes_as_it_can() {
    on_any_shards(|broker| {
        assert_dismissed(broker, V5, &[0xC0, 0x80, 0x00], 0x81);
        // A property length of 0 in two bytes.
        assert_dismissed(broker, V5, &frame(0x30, &[0, 1, b't', 0x80, 0x00]), 0x81);
    });
}

#[test]
fn a_remaining_length_of_five_bytes_is_malformed() {
    for_both(|broker, version| assert_dismissed(broker, version, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], 0x81));
}

#[test]
fn reserved_flags_of_the_fixed_header_end_the_connection() {
    for_both(|broker, version| {
        let subscribe = encode(&subscribe(1, &[("t", at(AtMostOnce))]), version);
        let unsubscribe = encode(&unsubscribe(1, &["t"]), version);
        for (whole, right) in [
            (encode(&puback(1), version), 0x40),
            (encode(&pubrec(1), version), 0x50),
            (encode(&pubrel(1), version), 0x62),
            (encode(&pubcomp(1), version), 0x70),
            (subscribe, 0x82),
            (unsubscribe, 0xA2),
            (vec![0xC0, 0], 0xC0),
            (vec![0xE0, 0], 0xE0),
        ] {
            for flags in (0..16).map(|flags| right & 0xF0 | flags).filter(|first| *first != right) {
                let mut bytes = whole.clone();
                bytes[0] = flags;
                assert_dismissed(broker, version, &bytes, 0x81);
            }
        }
    });
}

#[test]
fn packet_types_that_do_not_exist_end_the_connection() {
    on_any_shards(|broker| {
        for version in BOTH {
            assert_dismissed(broker, version, &[0x00, 0x00], 0x81);
        }
        // AUTH came with 5.0.
        assert_dismissed(broker, V311, &[0xF0, 0x00], 0x81);
    });
}

#[test]
fn packets_that_only_a_server_sends_are_a_protocol_error() {
    for_both(|broker, version| {
        let codes = |codes: &[u8]| Codes { packet_id: 1, codes: codes.to_vec(), ..Codes::default() };
        for packet in [
            Packet::ConnAck(ConnAck::default()),
            Packet::SubAck(codes(&[0])),
            Packet::UnsubAck(codes(if version == V5 { &[0] } else { &[] })),
            Packet::PingResp,
        ] {
            assert_dismissed(broker, version, &encode(&packet, version), 0x82);
        }
    });
}

#[test]
fn packet_identifier_0_ends_the_connection() {
    for_both(|broker, version| {
        for packet in [
            publish(Publish { qos: AtLeastOnce, ..message("t", "x") }),
            publish(Publish { qos: ExactlyOnce, ..message("t", "x") }),
            puback(0),
            pubrec(0),
            pubrel(0),
            pubcomp(0),
            subscribe(0, &[("t", at(AtMostOnce))]),
            unsubscribe(0, &["t"]),
        ] {
            assert_dismissed(broker, version, &encode(&packet, version), 0x82);
        }
    });
}

#[test]
fn a_packet_that_ends_too_soon_or_too_late_is_malformed() {
    for_both(|broker, version| {
        for packet in [puback(1), pubrel(1), subscribe(1, &[("t", at(AtMostOnce))]), unsubscribe(1, &["t"])] {
            let whole = encode(&packet, version);
            let body = &whole[2..];
            assert_dismissed(broker, version, &frame(whole[0], &body[..1]), 0x81);
            let mut client = broker.client(version, "c");
            client.send_bytes(&frame(whole[0], &[body, &[0x26]].concat()));
            if version == V5 {
                // What follows the identifier of an acknowledgement is a reason code, and this is none.
                assert!(matches!(client.next(), Packet::Disconnect(Reasoned { reason: 0x81 | 0x82, .. })));
            }
            client.expect_closed();
        }
    });
}

#[test]
fn properties_may_be_left_out_only_where_the_specification_says_so() {
    on_any_shards(|broker| {
        // PUBLISH without a property length: the payload is read as one.
        assert_dismissed(broker, V5, &frame(0x30, &[0, 1, b't']), 0x81);
        // SUBSCRIBE without one.
        assert_dismissed(broker, V5, &frame(0x82, &[0, 1]), 0x81);
        // An acknowledgement may end after its identifier, or after its reason code.
        let mut client = broker.client(V5, "c");
        client.send_bytes(&frame(0x62, &[0, 7]));
        client.expect(Packet::PubComp(Ack { reason: 0x92, ..Ack::new(7) }));
        client.send_bytes(&frame(0x62, &[0, 7, 0x92]));
        client.expect(Packet::PubComp(Ack { reason: 0x92, ..Ack::new(7) }));
        client.send_bytes(&frame(0x62, &[0, 7, 0x00, 0x00]));
        client.expect(Packet::PubComp(Ack { reason: 0x92, ..Ack::new(7) }));
    });
}

#[test]
fn unknown_misplaced_and_repeated_properties_end_the_connection() {
    on_any_shards(|broker| {
        for (properties, reason) in [
            (Properties::new().byte(0x7E, 0), 0x81),
            (Properties::new().four(id::SESSION_EXPIRY_INTERVAL, 1), 0x81),
            (Properties::new().four(id::WILL_DELAY_INTERVAL, 1), 0x81),
            (Properties::new().text(id::REASON_STRING, "why"), 0x81),
            (Properties::new().text(id::CONTENT_TYPE, "a").text(id::CONTENT_TYPE, "a"), 0x82),
            (Properties::new().two(id::TOPIC_ALIAS, 1).two(id::TOPIC_ALIAS, 1), 0x82),
            (Properties::new().byte(id::PAYLOAD_FORMAT_INDICATOR, 2), 0x82),
        ] {
            let bytes = encode(&publish(Publish { properties, ..message("t", "x") }), V5);
            assert_dismissed(broker, V5, &bytes, reason);
        }
    });
}

#[test]
fn packets_cut_in_two_anywhere_mean_the_same() {
    for version in BOTH {
        let broker = Broker::new(1);
        let mut stream = encode(&subscribe(1, &[("t/#", at(ExactlyOnce)), ("other", at(AtMostOnce))]), version);
        let long = "x".repeat(200);
        let properties = if version == V5 { Properties::new().user("k", "v") } else { Properties::new() };
        for packet in [
            publish(Publish { qos: ExactlyOnce, packet_id: 5, properties, ..message("t/1", &long) }),
            pubrel(5),
            unsubscribe(2, &["other"]),
            Packet::PingReq,
        ] {
            stream.extend(encode(&packet, version));
        }
        let mut expected = None;
        for cut in 0..=stream.len() {
            let mut client = broker.client(version, "c");
            client.send_bytes(&stream[..cut]);
            broker.rest();
            client.send_bytes(&stream[cut..]);
            let answers = [client.next(), client.next(), client.next(), client.next(), client.next(), client.next()];
            client.expect_nothing();
            let expected = expected.get_or_insert_with(|| answers.clone());
            assert_eq!(&answers, expected, "cut at {cut}");
        }
        assert_eq!(broker.count("reassembly_bytes"), 0);
    }
}

#[test]
fn a_whole_conversation_works_byte_by_byte() {
    for_both(|broker, version| {
        let mut client = broker.dial(version);
        client.one_by_one();
        client.send(Packet::Connect(ringmq::sim::wire::Connect::new(version, "slow")));
        assert_eq!(client.next_connack().code, 0);
        client.subscribe("t", ExactlyOnce);
        for packet_id in 1..4 {
            client.send(publish(Publish { qos: ExactlyOnce, packet_id, ..message("t", "drop by drop") }));
            let mut came = [client.next(), client.next()];
            came.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
            let delivered = Publish { qos: ExactlyOnce, packet_id, ..message("t", "drop by drop") };
            assert_eq!(came, [pubrec(packet_id), publish(delivered)]);
            client.send(pubrel(packet_id));
            client.expect(pubcomp(packet_id));
            client.send(pubrec(packet_id));
            client.expect(pubrel(packet_id));
            client.send(pubcomp(packet_id));
        }
        client.ping();
    });
}

#[test]
fn a_protocol_error_costs_the_connection_and_nothing_else() {
    for_both(|broker, version| {
        let mut connect = lasting(version, "culprit");
        connect.will = Some(Will { topic: "w".into(), payload: b"ended badly".to_vec(), ..Will::default() });
        let mut bystander = broker.client(version, "bystander");
        bystander.subscribe("w", AtMostOnce);
        let (mut culprit, _) = broker.connect(connect);
        culprit.subscribe("t", AtLeastOnce);
        culprit.send_bytes(&[0x00, 0x00]);
        culprit.expect_dismissal(0x81);
        bystander.expect_message("w", "ended badly");
        bystander.publish_acknowledged("t", "kept");
        let (mut culprit, present) = broker.resume(version, "culprit");
        assert!(present);
        culprit.expect_message("t", "kept");
    });
}

#[test]
fn nothing_behind_a_broken_packet_is_processed() {
    for_both(|broker, version| {
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribe("#", AtMostOnce);
        let mut bytes = encode(&publish(message("t", "before")), version);
        bytes.extend([0x00, 0x00]);
        bytes.extend(encode(&publish(message("t", "behind")), version));
        assert_dismissed(broker, version, &bytes, 0x81);
        watcher.expect_message("t", "before");
        watcher.expect_nothing();
    });
}

#[test]
fn what_a_client_sent_before_the_stream_ended_is_processed() {
    for_both(|broker, version| {
        let mut watcher = broker.client(version, "watcher");
        watcher.subscribe("#", AtMostOnce);
        let mut client = broker.client(version, "c");
        client.publish("t", "last words");
        // The beginning of another packet, whose end never comes.
        client.send_bytes(&[0x30, 10, 0, 1, b't']);
        client.close();
        watcher.expect_message("t", "last words");
        watcher.expect_nothing();
        assert_eq!(broker.count("reassembly_bytes"), 0);
    });
}
