//! Packets beside their bytes, written out by hand from the specification: what keeps encoder and decoder
//! from agreeing on a mistake.

use super::*;

/// Asserts that bytes decode to a packet, and that the packet encodes to those bytes.
#[track_caller]
fn assert_same(version: ProtocolVersion, bytes: &[u8], packet: &Packet<'_>) {
    assert_eq!(decode_one(bytes, version).as_ref(), Ok(packet));
    let mut out = Vec::new();
    encode(packet, version, &mut out);
    assert_eq!(out, bytes, "{packet:?}");
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn connect_of_3_1_1() {
    // The example of MQTT 3.1.1 §3.1.2.9, with a payload.
    let bytes = bytes(&[
        &[0x10, 35, 0, 4],
        b"MQTT",
        &[4, 0xCE, 0, 10],
        &[0, 4],
        b"id-1",
        &[0, 4],
        b"will",
        &[0, 3],
        b"bye",
        &[0, 2],
        b"me",
        &[0, 2, 0xFF, 0x00],
    ]);
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "will",
        payload: b"bye",
        delay_interval: 0,
        properties: PublishProperties::EMPTY,
    };
    let connect = Connect {
        version: V311,
        bridge: false,
        clean_start: true,
        keep_alive: 10,
        client_id: "id-1",
        will: Some(will),
        user_name: Some("me"),
        password: Some(&[0xFF, 0x00]),
        properties: ConnectProperties::default(),
    };
    assert_same(V311, &bytes, &Packet::Connect(Box::new(connect)));
}

#[test]
fn connect_of_a_3_1_bridge() {
    let bytes = bytes(&[&[0x10, 15, 0, 6], b"MQIsdp", &[0x83, 0x00, 0x01, 0x2C, 0, 1], b"b"]);
    let connect = Connect {
        version: V31,
        bridge: true,
        clean_start: false,
        keep_alive: 300,
        client_id: "b",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    assert_same(V31, &bytes, &Packet::Connect(Box::new(connect)));
}

#[test]
fn connect_of_5_0_with_every_property() {
    let properties = bytes(&[
        &[0x11, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x21, 0x00, 0x14],
        &[0x27, 0x00, 0x01, 0x00, 0x00],
        &[0x22, 0x00, 0x0A],
        &[0x19, 1],
        &[0x17, 0],
        &[0x26, 0, 1, b'n', 0, 1, b'v'],
        &[0x15, 0, 1, b'm'],
        &[0x16, 0, 2, 0xDE, 0xAD],
    ]);
    let will_properties = bytes(&[&[0x18, 0, 0, 0, 30], &[0x01, 1], &[0x02, 0, 0, 0, 60]]);
    let bytes = bytes(&[
        &[0x10, 70, 0, 4],
        b"MQTT",
        &[5, 0x36, 0, 10],
        &[properties.len() as u8],
        &properties,
        &[0, 1, b'c'],
        &[will_properties.len() as u8],
        &will_properties,
        &[0, 1, b't', 0, 2, b'p', b'q'],
    ]);
    let will = Will {
        qos: QoS::ExactlyOnce,
        retain: true,
        topic: "t",
        payload: b"pq",
        delay_interval: 30,
        properties: PublishProperties {
            raw: &will_properties,
            payload_is_utf8: true,
            message_expiry_interval: Some(60),
            topic_alias: None,
            forwards_as_is: false,
        },
    };
    let connect = Connect {
        version: V5,
        bridge: false,
        clean_start: true,
        keep_alive: 10,
        client_id: "c",
        will: Some(will),
        user_name: None,
        password: None,
        properties: ConnectProperties {
            session_expiry_interval: Some(u32::MAX),
            receive_maximum: Some(20),
            maximum_packet_size: Some(65_536),
            topic_alias_maximum: Some(10),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            user_properties: UserProperties { section: &[0x26, 0, 1, b'n', 0, 1, b'v'] },
            authentication_method: Some("m"),
            authentication_data: Some(&[0xDE, 0xAD]),
        },
    };
    assert_same(V5, &bytes, &Packet::Connect(Box::new(connect)));
}

#[test]
fn connack() {
    let refused = ConnAck { code: 5, ..ConnAck::default() };
    assert_same(V31, &[0x20, 2, 0, 5], &Packet::ConnAck(refused));
    let resumed = ConnAck { session_present: true, ..ConnAck::default() };
    assert_same(V311, &[0x20, 2, 1, 0], &Packet::ConnAck(resumed.clone()));
    assert_same(V5, &[0x20, 3, 1, 0, 0], &Packet::ConnAck(resumed));
}

#[test]
fn connack_with_every_property() {
    let section = bytes(&[
        &[0x11, 0, 0, 0, 9],
        &[0x21, 0, 8],
        &[0x24, 1],
        &[0x25, 0],
        &[0x27, 0, 0, 1, 0],
        &[0x12, 0, 1, b'i'],
        &[0x22, 0, 7],
        &[0x1F, 0, 1, b'r'],
        &[0x26, 0, 1, b'n', 0, 1, b'v'],
        &[0x28, 1],
        &[0x29, 0],
        &[0x2A, 1],
        &[0x13, 0, 6],
        &[0x1A, 0, 1, b'x'],
        &[0x1C, 0, 1, b's'],
        &[0x15, 0, 1, b'm'],
        &[0x16, 0, 1, b'd'],
    ]);
    let bytes = bytes(&[&[0x20, section.len() as u8 + 3, 0, 0, section.len() as u8], &section]);
    let properties = ConnAckProperties {
        session_expiry_interval: Some(9),
        receive_maximum: Some(8),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(256),
        assigned_client_identifier: Some("i"),
        topic_alias_maximum: Some(7),
        reason_string: Some("r"),
        user_properties: UserProperties { section: &[0x26, 0, 1, b'n', 0, 1, b'v'] },
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(true),
        server_keep_alive: Some(6),
        response_information: Some("x"),
        server_reference: Some("s"),
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
    };
    assert_same(V5, &bytes, &Packet::ConnAck(ConnAck { session_present: false, code: 0, properties }));
}

#[test]
fn a_maximum_qos_of_2_is_said_by_its_absence() {
    let mut connack = ConnAck::default();
    connack.properties.maximum_qos = Some(QoS::ExactlyOnce);
    let mut out = Vec::new();
    encode(&Packet::ConnAck(connack), V5, &mut out);
    assert_eq!(out, [0x20, 3, 0, 0, 0]);
}

#[test]
fn publish() {
    // The example of MQTT 5.0 §3.3.2.2, with a payload.
    let mut publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "a/b",
        packet_id: 10,
        properties: PublishProperties::EMPTY,
        payload: b"!",
    };
    for version in [V31, V311] {
        assert_same(version, &[0x32, 8, 0, 3, b'a', b'/', b'b', 0, 10, b'!'], &Packet::Publish(publish));
    }
    assert_same(V5, &[0x32, 9, 0, 3, b'a', b'/', b'b', 0, 10, 0, b'!'], &Packet::Publish(publish));
    publish = Publish { dup: true, qos: QoS::ExactlyOnce, retain: true, payload: b"", ..publish };
    assert_same(V311, &[0x3D, 7, 0, 3, b'a', b'/', b'b', 0, 10], &Packet::Publish(publish));
    publish = Publish { dup: false, qos: QoS::AtMostOnce, packet_id: 0, ..publish };
    assert_same(V311, &[0x31, 5, 0, 3, b'a', b'/', b'b'], &Packet::Publish(publish));
}

#[test]
fn publish_with_every_property() {
    let section = bytes(&[
        &[0x01, 1],
        &[0x02, 0, 0, 1, 0],
        &[0x23, 0, 5],
        &[0x08, 0, 1, b'r'],
        &[0x09, 0, 2, 0, 0xFF],
        &[0x26, 0, 1, b'n', 0, 1, b'v'],
        &[0x0B, 0x80, 0x01],
        &[0x03, 0, 1, b'c'],
        &[0x0B, 7],
        &[0x26, 0, 1, b'n', 0, 0],
    ]);
    let bytes = bytes(&[&[0x30, section.len() as u8 + 6, 0, 0, section.len() as u8], &section, b"xyz"]);
    let properties = PublishProperties {
        raw: &section,
        payload_is_utf8: true,
        message_expiry_interval: Some(256),
        topic_alias: Some(5),
        forwards_as_is: false,
    };
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "",
        packet_id: 0,
        properties,
        payload: b"xyz",
    };
    assert_same(V5, &bytes, &Packet::Publish(publish));
    assert_eq!(properties.response_topic(), Some("r"));
    assert_eq!(properties.correlation_data(), Some(&[0, 0xFF][..]));
    assert_eq!(properties.content_type(), Some("c"));
    assert_eq!(properties.subscription_identifiers().collect::<Vec<_>>(), [128, 7]);
    assert_eq!(properties.user_properties().iter().collect::<Vec<_>>(), [("n", "v"), ("n", "")]);
    let mut forwarded = vec![0xAA];
    properties.forwardable(&mut forwarded);
    let expected: [&[u8]; 7] = [
        &[0xAA],
        &[0x01, 1],
        &[0x08, 0, 1, b'r'],
        &[0x09, 0, 2, 0, 0xFF],
        &[0x26, 0, 1, b'n', 0, 1, b'v'],
        &[0x03, 0, 1, b'c'],
        &[0x26, 0, 1, b'n', 0, 0],
    ];
    assert_eq!(forwarded, expected.concat(), "the order is kept");
}

#[test]
fn a_publish_head_puts_what_the_server_adds_before_what_it_forwards() {
    let forward = [0x26, 0, 1, b'n', 0, 1, b'v'];
    let head = PublishHead {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "t",
        packet_id: 0x1234,
        topic_alias: Some(3),
        message_expiry_interval: Some(5),
        subscription_identifiers: &[1, 128],
        forward: &forward,
    };
    let mut out = vec![0xEE];
    let offset = encode_publish_head(&mut out, V5, &head, 4);
    let expected: [&[u8]; 6] = [
        &[0xEE, 0x3B, 30, 0, 1, b't', 0x12, 0x34, 20],
        &[0x23, 0, 3],
        &[0x02, 0, 0, 0, 5],
        &[0x0B, 1],
        &[0x0B, 0x80, 0x01],
        &forward,
    ];
    assert_eq!(out, expected.concat());
    assert_eq!(offset, Some(6));
    assert_eq!(publish_len(V5, &head, 4), 32);

    out.clear();
    assert_eq!(encode_publish_head(&mut out, V311, &head, 4), Some(5));
    assert_eq!(out, [0x3B, 9, 0, 1, b't', 0x12, 0x34], "3.1.1 has no properties");
    assert_eq!(publish_len(V311, &head, 4), 11);

    out.clear();
    let head = PublishHead { dup: false, qos: QoS::AtMostOnce, ..head };
    assert_eq!(encode_publish_head(&mut out, V311, &head, 0), None, "QoS 0 has no packet identifier");
    assert_eq!(out, [0x31, 3, 0, 1, b't']);
}

#[test]
fn acknowledgements() {
    let ack = Ack { packet_id: 0x0102, ..Ack::default() };
    let failed = Ack { reason: 0x92, ..ack };
    for version in VERSIONS {
        assert_same(version, &[0x40, 2, 1, 2], &Packet::PubAck(ack));
        assert_same(version, &[0x50, 2, 1, 2], &Packet::PubRec(ack));
        assert_same(version, &[0x62, 2, 1, 2], &Packet::PubRel(ack));
        assert_same(version, &[0x70, 2, 1, 2], &Packet::PubComp(ack));
    }
    assert_same(V5, &[0x40, 3, 1, 2, 0x10], &Packet::PubAck(Ack { reason: 0x10, ..ack }));
    assert_same(V5, &[0x50, 3, 1, 2, 0x97], &Packet::PubRec(Ack { reason: 0x97, ..ack }));
    assert_same(V5, &[0x62, 3, 1, 2, 0x92], &Packet::PubRel(failed));
    assert_same(V5, &[0x70, 3, 1, 2, 0x92], &Packet::PubComp(failed));
    let told = Ack {
        reason_string: Some("no"),
        user_properties: UserProperties { section: &[0x26, 0, 1, b'n', 0, 1, b'v'] },
        ..ack
    };
    let bytes = [0x40, 16, 1, 2, 0, 12, 0x1F, 0, 2, b'n', b'o', 0x26, 0, 1, b'n', 0, 1, b'v'];
    assert_same(V5, &bytes, &Packet::PubAck(told));
    let mut out = Vec::new();
    encode(&Packet::PubAck(Ack { reason: 0x97, ..told }), V311, &mut out);
    assert_eq!(out, [0x40, 2, 1, 2], "3.1.1 has neither reasons nor properties");
}

#[test]
fn subscribe() {
    // The example of MQTT 3.1.1 §3.8.3.1.
    let filters = Filters { payload: &[0, 3, b'a', b'/', b'b', 1, 0, 3, b'c', b'/', b'd', 2], with_options: true };
    let subscribe =
        Subscribe { packet_id: 10, subscription_identifier: None, user_properties: UserProperties::default(), filters };
    let packet = Packet::Subscribe(subscribe);
    let bytes = [0x82, 14, 0, 10, 0, 3, b'a', b'/', b'b', 1, 0, 3, b'c', b'/', b'd', 2];
    assert_same(V31, &bytes, &packet);
    assert_same(V311, &bytes, &packet);
    let requests: Vec<_> = filters.iter().map(|request| (request.filter, request.options.qos)).collect();
    assert_eq!(requests, [("a/b", QoS::AtLeastOnce), ("c/d", QoS::ExactlyOnce)]);
}

#[test]
fn subscribe_with_options_and_properties() {
    let bytes = [0x82, 17, 0, 10, 10, 0x0B, 0x80, 0x01, 0x26, 0, 1, b'n', 0, 1, b'v', 0, 1, b'f', 0x2E];
    let request = FilterRequest {
        filter: "f",
        options: SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        },
    };
    let mut payload = Vec::new();
    request.put(&mut payload);
    let filters = Filters { payload: &payload, with_options: true };
    let subscribe = Subscribe {
        packet_id: 10,
        subscription_identifier: Some(128),
        user_properties: UserProperties { section: &[0x26, 0, 1, b'n', 0, 1, b'v'] },
        filters,
    };
    assert_same(V5, &bytes, &Packet::Subscribe(subscribe));
    assert_eq!(filters.iter().collect::<Vec<_>>(), [request]);
    let mut out = Vec::new();
    encode(&Packet::Subscribe(subscribe), V311, &mut out);
    assert_eq!(out, [0x82, 6, 0, 10, 0, 1, b'f', 2], "3.1.1 has only the QoS");
}

#[test]
fn unsubscribe() {
    let filters = Filters { payload: &[0, 1, b'a', 0, 1, b'#'], with_options: false };
    let packet = Packet::Unsubscribe(Unsubscribe { packet_id: 7, user_properties: UserProperties::default(), filters });
    assert_same(V311, &[0xA2, 8, 0, 7, 0, 1, b'a', 0, 1, b'#'], &packet);
    assert_same(V5, &[0xA2, 9, 0, 7, 0, 0, 1, b'a', 0, 1, b'#'], &packet);
    assert_eq!(filters.iter().map(|request| request.filter).collect::<Vec<_>>(), ["a", "#"]);
}

#[test]
fn suback_and_unsuback() {
    let suback =
        |codes| SubAck { packet_id: 7, reason_string: None, user_properties: UserProperties::default(), codes };
    assert_same(V311, &[0x90, 5, 0, 7, 0, 2, 0x80], &Packet::SubAck(suback(&[0, 2, 0x80])));
    assert_same(V5, &[0x90, 6, 0, 7, 0, 0, 2, 0x87], &Packet::SubAck(suback(&[0, 2, 0x87])));
    assert_same(V311, &[0xB0, 2, 0, 7], &Packet::UnsubAck(suback(&[])));
    assert_same(V5, &[0xB0, 5, 0, 7, 0, 0, 0x11], &Packet::UnsubAck(suback(&[0, 0x11])));
    let told = SubAck { reason_string: Some("why"), ..suback(&[1]) };
    assert_same(V5, &[0x90, 10, 0, 7, 6, 0x1F, 0, 3, b'w', b'h', b'y', 1], &Packet::SubAck(told));

    let mut out = Vec::new();
    encode(&Packet::SubAck(suback(&[1, 0x87, 0x9E])), V311, &mut out);
    assert_eq!(out, [0x90, 5, 0, 7, 1, 0x80, 0x80], "3.1.1 has one code for every failure");
    out.clear();
    encode(&Packet::UnsubAck(suback(&[0, 0x11])), V311, &mut out);
    assert_eq!(out, [0xB0, 2, 0, 7], "3.1.1 has no codes");
}

#[test]
fn pings_and_disconnects() {
    for version in VERSIONS {
        assert_same(version, &[0xC0, 0], &Packet::PingReq);
        assert_same(version, &[0xD0, 0], &Packet::PingResp);
        assert_same(version, &[0xE0, 0], &Packet::Disconnect(Disconnect::default()));
    }
    let reason = Disconnect { reason: 0x04, ..Disconnect::default() };
    assert_same(V5, &[0xE0, 1, 0x04], &Packet::Disconnect(reason));
    let section =
        bytes(&[&[0x11, 0, 0, 0, 5], &[0x1F, 0, 1, b'r'], &[0x26, 0, 1, b'n', 0, 1, b'v'], &[0x1C, 0, 1, b's']]);
    let bytes = bytes(&[&[0xE0, 22, 0x9D, 20], &section]);
    let disconnect = Disconnect {
        reason: 0x9D,
        session_expiry_interval: Some(5),
        reason_string: Some("r"),
        user_properties: UserProperties { section: &[0x26, 0, 1, b'n', 0, 1, b'v'] },
        server_reference: Some("s"),
    };
    assert_same(V5, &bytes, &Packet::Disconnect(disconnect));
    let mut out = Vec::new();
    encode(&Packet::Disconnect(disconnect), V31, &mut out);
    assert_eq!(out, [0xE0, 0]);
}

#[test]
fn auth() {
    assert_same(V5, &[0xF0, 0], &Packet::Auth(Auth::default()));
    let bytes =
        [0xF0, 21, 0x18, 19, 0x15, 0, 1, b'm', 0x16, 0, 1, b'd', 0x1F, 0, 1, b'r', 0x26, 0, 1, b'n', 0, 1, b'v'];
    let auth = Auth {
        reason: 0x18,
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
        reason_string: Some("r"),
        user_properties: UserProperties { section: &[0x26, 0, 1, b'n', 0, 1, b'v'] },
    };
    assert_same(V5, &bytes, &Packet::Auth(auth));
}

#[test]
fn a_will_delay_that_is_not_among_the_raw_properties_is_put_there() {
    let mut connect = Connect {
        version: V5,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id: "",
        will: Some(Will {
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "t",
            payload: b"",
            delay_interval: 7,
            properties: PublishProperties::parse(&[0x01, 1]).unwrap(),
        }),
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    let encoded = |connect: &Connect<'_>| {
        let mut out = Vec::new();
        encode(&Packet::Connect(Box::new(connect.clone())), V5, &mut out);
        out
    };
    let first = encoded(&connect);
    assert!(first.windows(8).any(|window| window == [7, 0x18, 0, 0, 0, 7, 0x01, 1]), "{first:x?}");
    let Ok(Packet::Connect(decoded)) = decode_one(&first, V5) else { panic!("{first:x?}") };
    assert_eq!(encoded(&decoded), first, "and not a second time");
    connect.will = None;
    assert!(encoded(&connect).len() < first.len());
}

#[test]
fn the_seeds_of_the_fuzzer_still_mean_what_they_meant() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let version = match name.split_once('-') {
            Some(("v31", _)) => V31,
            Some(("v311", _)) => V311,
            Some(("v5", _)) => V5,
            // Seeds of other readers than the decoder.
            _ => continue,
        };
        let bytes = std::fs::read(&path).unwrap();
        let packet = decode_one(&bytes, version).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut out = Vec::new();
        encode(&packet, version, &mut out);
        assert_eq!(out, bytes, "{name}");
        count += 1;
    }
    assert!(count >= 3 * 14, "each packet in each version");
}
