//! Packets to bytes, field by field.

use super::{Ack, Codes, Connect, Packet, Properties, ProtocolVersion, Publish, QoS, Reasoned, Value, Will};

/// A packet as bytes of one protocol version.
pub fn encode(packet: &Packet, version: ProtocolVersion) -> Vec<u8> {
    let v5 = version == ProtocolVersion::V5;
    let mut body = Vec::new();
    let first = match packet {
        Packet::Connect(connect) => {
            put_connect(&mut body, connect);
            0x10
        }
        Packet::ConnAck(ack) => {
            body.extend([u8::from(ack.session_present), ack.code]);
            put_properties(&mut body, &ack.properties, v5);
            0x20
        }
        Packet::Publish(publish) => put_publish(&mut body, publish, v5),
        Packet::PubAck(ack) => put_ack(&mut body, ack, v5, 0x40),
        Packet::PubRec(ack) => put_ack(&mut body, ack, v5, 0x50),
        Packet::PubRel(ack) => put_ack(&mut body, ack, v5, 0x62),
        Packet::PubComp(ack) => put_ack(&mut body, ack, v5, 0x70),
        Packet::Subscribe(subscribe) => {
            body.extend(subscribe.packet_id.to_be_bytes());
            put_properties(&mut body, &subscribe.properties, v5);
            for (filter, options) in &subscribe.filters {
                put_bytes(&mut body, filter.as_bytes());
                body.push(
                    options.qos as u8
                        | u8::from(options.no_local) << 2
                        | u8::from(options.retain_as_published) << 3
                        | (options.retain_handling as u8) << 4,
                );
            }
            0x82
        }
        Packet::SubAck(codes) => put_codes(&mut body, codes, v5, true, 0x90),
        Packet::Unsubscribe(unsubscribe) => {
            body.extend(unsubscribe.packet_id.to_be_bytes());
            put_properties(&mut body, &unsubscribe.properties, v5);
            for filter in &unsubscribe.filters {
                put_bytes(&mut body, filter.as_bytes());
            }
            0xA2
        }
        Packet::UnsubAck(codes) => put_codes(&mut body, codes, v5, v5, 0xB0),
        Packet::PingReq => 0xC0,
        Packet::PingResp => 0xD0,
        Packet::Disconnect(reasoned) => put_reasoned(&mut body, reasoned, v5, 0xE0),
        Packet::Auth(reasoned) => {
            // Unlike the others, its property length may be left out only together with the reason.
            if reasoned.reason != 0 || !reasoned.properties.0.is_empty() {
                body.push(reasoned.reason);
                put_properties(&mut body, &reasoned.properties, v5);
            }
            0xF0
        }
    };
    frame(first, &body)
}

/// A fixed header with the body's length, and the body: for packets that no type can say.
pub fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    put_variable(&mut out, body.len() as u32);
    out.extend_from_slice(body);
    out
}

fn put_connect(body: &mut Vec<u8>, connect: &Connect) {
    let v5 = connect.version == ProtocolVersion::V5;
    put_bytes(body, if connect.version == ProtocolVersion::V31 { b"MQIsdp" } else { b"MQTT" });
    let mut flags = u8::from(connect.clean_start) << 1;
    if let Some(will) = &connect.will {
        flags |= 0x04 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.user_name.is_some()) << 7 | u8::from(connect.password.is_some()) << 6;
    body.extend([connect.version as u8, flags]);
    body.extend(connect.keep_alive.to_be_bytes());
    put_properties(body, &connect.properties, v5);
    put_bytes(body, connect.client_id.as_bytes());
    if let Some(Will { topic, payload, properties, .. }) = &connect.will {
        put_properties(body, properties, v5);
        put_bytes(body, topic.as_bytes());
        put_bytes(body, payload);
    }
    if let Some(name) = &connect.user_name {
        put_bytes(body, name.as_bytes());
    }
    if let Some(password) = &connect.password {
        put_bytes(body, password);
    }
}

fn put_publish(body: &mut Vec<u8>, publish: &Publish, v5: bool) -> u8 {
    put_bytes(body, publish.topic.as_bytes());
    if publish.qos != QoS::AtMostOnce {
        body.extend(publish.packet_id.to_be_bytes());
    }
    put_properties(body, &publish.properties, v5);
    body.extend_from_slice(&publish.payload);
    0x30 | u8::from(publish.dup) << 3 | (publish.qos as u8) << 1 | u8::from(publish.retain)
}

fn put_ack(body: &mut Vec<u8>, ack: &Ack, v5: bool, first: u8) -> u8 {
    body.extend(ack.packet_id.to_be_bytes());
    put_reasoned(body, &Reasoned { reason: ack.reason, properties: ack.properties.clone() }, v5, first)
}

/// Reason code and properties, left away from the end where they say nothing.
fn put_reasoned(body: &mut Vec<u8>, reasoned: &Reasoned, v5: bool, first: u8) -> u8 {
    let plain = reasoned.properties.0.is_empty();
    if v5 && (reasoned.reason != 0 || !plain) {
        body.push(reasoned.reason);
        if !plain {
            put_properties(body, &reasoned.properties, v5);
        }
    }
    first
}

fn put_codes(body: &mut Vec<u8>, codes: &Codes, v5: bool, with_codes: bool, first: u8) -> u8 {
    body.extend(codes.packet_id.to_be_bytes());
    put_properties(body, &codes.properties, v5);
    if with_codes {
        body.extend_from_slice(&codes.codes);
    }
    first
}

fn put_properties(body: &mut Vec<u8>, properties: &Properties, v5: bool) {
    if !v5 {
        return;
    }
    let mut section = Vec::new();
    for property in &properties.0 {
        section.push(property.id);
        match &property.value {
            Value::Byte(value) => section.push(*value),
            Value::Two(value) => section.extend(value.to_be_bytes()),
            Value::Four(value) => section.extend(value.to_be_bytes()),
            Value::Variable(value) => put_variable(&mut section, *value),
            Value::Text(text) => put_bytes(&mut section, text.as_bytes()),
            Value::Binary(bytes) => put_bytes(&mut section, bytes),
            Value::Pair(name, value) => {
                put_bytes(&mut section, name.as_bytes());
                put_bytes(&mut section, value.as_bytes());
            }
        }
    }
    put_variable(body, section.len() as u32);
    body.extend(section);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("a test's string fits its length field");
    out.extend(len.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_variable(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return;
        }
    }
}
