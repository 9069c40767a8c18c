//! Writes the seeds that the fuzzer starts from: each packet in each version, plain and with everything it may
//! carry. A file is named for its version and packet, and holds that packet only. Then PROXY headers, and what a client
//! of WebSocket sends, behind the byte that the target wants in front.

use std::fs;
use std::path::Path;

use ringmq_fuzz::VERSIONS;
use ringmq_fuzz::codec::*;

const USER: UserProperties<'static> = UserProperties { section: &[0x26, 0, 3, b'k', b'e', b'y', 0, 1, b'v'] };

/// Everything that a PUBLISH may carry.
const PUBLISH_SECTION: &[u8] = &[
    0x01, 1, 0x02, 0, 0, 0, 60, 0x23, 0, 5, 0x08, 0, 3, b'r', b'/', b't', 0x09, 0, 2, 0, 0xFF, 0x26, 0, 1, b'n', 0, 1,
    b'v', 0x0B, 0x80, 0x01, 0x03, 0, 4, b't', b'e', b'x', b't', 0x0B, 7,
];

/// Everything that a will may carry.
const WILL_SECTION: &[u8] = &[0x18, 0, 0, 0, 30, 0x01, 1, 0x02, 0, 0, 0, 60, 0x08, 0, 1, b'r', 0x09, 0, 1, 0];

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    fs::create_dir_all(&folder)?;
    for version in VERSIONS {
        let mut packets = plain(version);
        if version == ProtocolVersion::V5 {
            packets.extend(full());
        }
        for (name, packet) in packets {
            let mut bytes = Vec::new();
            encode(&packet, version, &mut bytes);
            fs::write(folder.join(format!("{version:?}-{name}").to_lowercase()), bytes)?;
        }
    }
    for (name, bytes) in proxy_headers().into_iter().chain(websocket()) {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn proxy_headers() -> Vec<(&'static str, Vec<u8>)> {
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, 0, rest.len() as u8][..], rest].concat()
    };
    let ipv4 = [192, 0, 2, 1, 198, 51, 100, 7, 0x30, 0x39, 0x07, 0x5B];
    let tlvs = b"\x20\0\x0D\x07\0\0\0\0\x22\0\x05admin\x01\0\x04mqtt\x03\0\x04\0\0\0\0";
    vec![
        ("proxy-v1-tcp4", b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 1883\r\n".to_vec()),
        ("proxy-v1-tcp6", b"PROXY TCP6 2001:db8::1 ::1 12345 1883\r\n".to_vec()),
        ("proxy-v1-unknown", b"PROXY UNKNOWN\r\n".to_vec()),
        ("proxy-v2-local", v2(0x20, 0, &[])),
        ("proxy-v2-tcp4", v2(0x21, 0x11, &ipv4)),
        ("proxy-v2-tcp6", v2(0x21, 0x21, &[1; 36])),
        ("proxy-v2-unix", v2(0x21, 0x31, &[b'/'; 216])),
        ("proxy-v2-tlvs", v2(0x21, 0x11, &[&ipv4[..], tlvs].concat())),
    ]
}

fn websocket() -> Vec<(&'static str, Vec<u8>)> {
    let request = b"GET /mqtt?x HTTP/1.1\r\nHost: h\r\nOrigin: https://o\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let frame = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], payload].concat();
    let long = [&b"\x82\xFE\x01\0\x11\x22\x33\x44"[..], &[0x55; 256]].concat();
    let parts = [frame(0x02, b"\xC0"), frame(0x89, b"ping"), frame(0x00, b""), frame(0x80, b"\0")].concat();
    vec![
        ("ws-request", [&[7][..], request, &frame(0x82, b"\xC0\0")].concat()),
        ("ws-fragments", [&[0x83][..], &parts].concat()),
        ("ws-long", [&[0x90][..], &long, &frame(0x88, b"\x03\xE8")].concat()),
    ]
}

/// What every version has.
fn plain(version: ProtocolVersion) -> Vec<(&'static str, Packet<'static>)> {
    let ack = Ack { packet_id: 258, ..Ack::default() };
    let user_properties = UserProperties::default();
    let subscribe = Filters { payload: b"\0\x03a/+\x01\0\x0c$share/g/f/#\x02", with_options: true };
    let unsubscribe = Filters { payload: b"\0\x03a/+\0\x01#", with_options: false };
    let suback = |codes| SubAck { packet_id: 7, reason_string: None, user_properties, codes };
    let unsuback_codes: &[u8] = if version == ProtocolVersion::V5 { &[0, 0x11] } else { &[] };
    let publish = |qos, dup, packet_id| Publish {
        dup,
        qos,
        retain: dup,
        topic: "sensors/kitchen/température",
        packet_id,
        properties: PublishProperties::EMPTY,
        payload: b"21.5",
    };
    vec![
        ("connect", Packet::Connect(Box::new(connect(version, None)))),
        ("connect-will", Packet::Connect(Box::new(connect(version, Some(will(PublishProperties::EMPTY, 0)))))),
        ("connack", Packet::ConnAck(ConnAck::default())),
        ("publish-0", Packet::Publish(publish(QoS::AtMostOnce, false, 0))),
        ("publish-1", Packet::Publish(publish(QoS::AtLeastOnce, false, 1))),
        ("publish-2", Packet::Publish(publish(QoS::ExactlyOnce, true, u16::MAX))),
        ("puback", Packet::PubAck(ack)),
        ("pubrec", Packet::PubRec(ack)),
        ("pubrel", Packet::PubRel(ack)),
        ("pubcomp", Packet::PubComp(ack)),
        (
            "subscribe",
            Packet::Subscribe(Subscribe {
                packet_id: 7,
                subscription_identifier: None,
                user_properties,
                filters: subscribe,
            }),
        ),
        ("suback", Packet::SubAck(suback(&[1, 0x80]))),
        ("unsubscribe", Packet::Unsubscribe(Unsubscribe { packet_id: 7, user_properties, filters: unsubscribe })),
        ("unsuback", Packet::UnsubAck(suback(unsuback_codes))),
        ("pingreq", Packet::PingReq),
        ("pingresp", Packet::PingResp),
        ("disconnect", Packet::Disconnect(Disconnect::default())),
    ]
}

fn connect(version: ProtocolVersion, will: Option<Will<'static>>) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: will.is_none(),
        keep_alive: 60,
        client_id: "client-1",
        user_name: will.as_ref().map(|_| "user"),
        password: will.as_ref().map(|_| &b"secret"[..]),
        will,
        properties: ConnectProperties::default(),
    }
}

fn will(properties: PublishProperties<'static>, delay_interval: u32) -> Will<'static> {
    Will { qos: QoS::AtLeastOnce, retain: true, topic: "last/will", payload: b"gone", delay_interval, properties }
}

/// What only 5.0 has.
fn full() -> Vec<(&'static str, Packet<'static>)> {
    let ack = Ack { packet_id: 9, reason: 0x97, reason_string: Some("quota"), user_properties: USER };
    let release = Ack { reason: 0x92, ..ack };
    let (will_properties, delay) = PublishProperties::parse_will(WILL_SECTION).expect("the section above");
    let mut connect = connect(ProtocolVersion::V5, Some(will(will_properties, delay)));
    connect.properties = connect_properties();
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "",
        packet_id: 3,
        properties: PublishProperties::parse(PUBLISH_SECTION).expect("the section above"),
        payload: &[0; 200],
    };
    let suback = SubAck { packet_id: 7, reason_string: Some("why"), user_properties: USER, codes: &[2, 0x87, 0x9E] };
    let filters = Filters { payload: b"\0\x01#\x2d\0\x03a//\x1a", with_options: true };
    let disconnect = Disconnect {
        reason: 0x9D,
        session_expiry_interval: Some(5),
        reason_string: Some("moved"),
        user_properties: USER,
        server_reference: Some("other:1883"),
    };
    let auth = Auth {
        reason: 0x18,
        authentication_method: Some("SCRAM-SHA-256"),
        authentication_data: Some(&[1, 2, 3]),
        reason_string: Some("go on"),
        user_properties: USER,
    };
    let unsubscribe = Filters { payload: b"\0\x01#", with_options: false };
    vec![
        ("connect-full", Packet::Connect(Box::new(connect))),
        ("connack-full", Packet::ConnAck(ConnAck { session_present: true, code: 0, properties: connack_properties() })),
        ("publish-full", Packet::Publish(publish)),
        ("puback-full", Packet::PubAck(ack)),
        ("pubrec-full", Packet::PubRec(ack)),
        ("pubrel-full", Packet::PubRel(release)),
        ("pubcomp-full", Packet::PubComp(release)),
        (
            "subscribe-full",
            Packet::Subscribe(Subscribe {
                packet_id: 7,
                subscription_identifier: Some(300),
                user_properties: USER,
                filters,
            }),
        ),
        ("suback-full", Packet::SubAck(suback)),
        (
            "unsubscribe-full",
            Packet::Unsubscribe(Unsubscribe { packet_id: 7, user_properties: USER, filters: unsubscribe }),
        ),
        ("unsuback-full", Packet::UnsubAck(SubAck { codes: &[0, 0x11, 0x8F], ..suback })),
        ("disconnect-full", Packet::Disconnect(disconnect)),
        ("auth", Packet::Auth(Auth::default())),
        ("auth-full", Packet::Auth(auth)),
    ]
}

fn connect_properties() -> ConnectProperties<'static> {
    ConnectProperties {
        session_expiry_interval: Some(3600),
        receive_maximum: Some(20),
        maximum_packet_size: Some(65_536),
        topic_alias_maximum: Some(10),
        request_response_information: Some(true),
        request_problem_information: Some(false),
        user_properties: USER,
        authentication_method: Some("m"),
        authentication_data: Some(&[0xDE, 0xAD]),
    }
}

fn connack_properties() -> ConnAckProperties<'static> {
    ConnAckProperties {
        session_expiry_interval: Some(9),
        receive_maximum: Some(8),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(256),
        assigned_client_identifier: Some("assigned"),
        topic_alias_maximum: Some(7),
        reason_string: Some("r"),
        user_properties: USER,
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(true),
        server_keep_alive: Some(6),
        response_information: Some("x"),
        server_reference: Some("s"),
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
    }
}
