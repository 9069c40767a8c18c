//! The MQTT of the forwarder: what is said before frames flow, and how long a frame is. The codec makes and reads the
//! packets of the handshakes; the frames never meet it.

use ringmq::codec::{
    ConnAck, ConnAckProperties, Connect, ConnectProperties, FilterRequest, Filters, Packet, ProtocolVersion,
    PublishHead, QoS, SubAck, Subscribe, SubscriptionOptions, UserProperties, encode, encode_publish_head,
};

/// What the own clients speak.
const VERSION: ProtocolVersion = ProtocolVersion::V311;
/// First byte of a PUBLISH at QoS 0, whatever DUP and RETAIN are.
const PUBLISH: u8 = 0x30;
const PUBLISH_MASK: u8 = 0xF6;
/// Unspecified error, "failure" in 3.1.1.
const REFUSED: u8 = 0x80;

/// How many bytes whole PUBLISH packets at QoS 0 fill at the front of `bytes`.
pub fn frames(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = frame(&bytes[end..]) {
        end += length;
    }
    end
}

/// Length of the frame at the front, if it is one and whole.
fn frame(bytes: &[u8]) -> Option<usize> {
    let [first, length, ..] = *bytes else { return None };
    if first & PUBLISH_MASK != PUBLISH {
        return None;
    }
    let mut total = 2 + usize::from(length & 0x7F);
    let mut continued = length & 0x80 != 0;
    for at in 2..5 {
        if !continued {
            break;
        }
        let byte = *bytes.get(at)?;
        // One byte of the header more, and seven bits of the length.
        total += 1 + (usize::from(byte & 0x7F) << (7 * (at - 1)));
        continued = byte & 0x80 != 0;
    }
    (total <= bytes.len()).then_some(total)
}

/// The topic of the frame at the front, as its bytes are.
pub fn topic(frame: &[u8]) -> Option<&[u8]> {
    let header = 1 + frame.iter().skip(1).position(|byte| byte & 0x80 == 0)? + 1;
    let (length, rest) = frame.get(header..)?.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// Appends the CONNACK of a client that is taken as it is.
pub fn connack(version: ProtocolVersion, output: &mut Vec<u8>) {
    let properties = ConnAckProperties { maximum_qos: Some(QoS::AtMostOnce), ..ConnAckProperties::default() };
    encode(&Packet::ConnAck(ConnAck { session_present: false, code: 0, properties }), version, output);
}

/// Appends the SUBACK; refused is what frames cannot be forwarded by: wildcards, shared subscriptions, a QoS above 0.
pub fn suback(version: ProtocolVersion, subscribe: &Subscribe<'_>, output: &mut Vec<u8>) {
    let code = |request: FilterRequest<'_>| if forwards(&request) { 0 } else { REFUSED };
    let codes: Vec<u8> = subscribe.filters.iter().map(code).collect();
    let suback = SubAck {
        packet_id: subscribe.packet_id,
        reason_string: None,
        user_properties: UserProperties::default(),
        codes: &codes,
    };
    encode(&Packet::SubAck(suback), version, output);
}

/// Whether the forwarder can do what a subscription asks for.
pub fn forwards(request: &FilterRequest<'_>) -> bool {
    request.options.qos == QoS::AtMostOnce && !request.filter.contains(['+', '#', '$'])
}

/// CONNECT of an own client.
pub fn connect(client_id: &str) -> Vec<u8> {
    let connect = Connect {
        version: VERSION,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect)), VERSION, &mut bytes);
    bytes
}

/// SUBSCRIBE of an own client.
pub fn subscribe(filter: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    FilterRequest { filter, options: SubscriptionOptions::default() }.put(&mut payload);
    let subscribe = Subscribe {
        packet_id: 1,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: Filters { payload: &payload, with_options: true },
    };
    let mut bytes = Vec::new();
    encode(&Packet::Subscribe(subscribe), VERSION, &mut bytes);
    bytes
}

/// PUBLISH of an own client.
pub fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_publish_head(&mut bytes, VERSION, &PublishHead { topic, ..PublishHead::default() }, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_publish_packets_end_whatever_their_length() {
        for size in [0, 64, 119, 120, 16_373, 16_374, 2_097_142, 2_097_143] {
            let packet = publish("a/b/c/d", &vec![7; size]);
            let two = packet.repeat(2);
            assert_eq!(frames(&two), two.len(), "{size}");
            assert_eq!(frames(&two[..two.len() - 1]), packet.len(), "{size}");
            assert_eq!(topic(&two), Some(&b"a/b/c/d"[..]), "{size}");
        }
    }

    #[test]
    fn anything_else_ends_the_frames() {
        let mut bytes = publish("t", b"x");
        let length = bytes.len();
        bytes.extend([0xC0, 0]);
        assert_eq!(frames(&bytes), length);
        assert_eq!(frames(&[0x32, 0]), 0, "QoS 1");
        assert_eq!(frames(&[]), 0);
    }
}
