//! The packets that a client of a scenario sends: ready-made bytes for the one that is hot, and the codec for
//! the others.

use ringmq::codec::{
    Connect, ConnectProperties, Disconnect, FilterRequest, Filters, Packet, ProtocolVersion, PublishHead, QoS,
    Subscribe, SubscriptionOptions, UserProperties, encode, encode_publish_head,
};

use crate::payload::{self, Stamp};

/// A PUBLISH that is complete but for packet identifier and payload.
pub struct PublishTemplate {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl PublishTemplate {
    /// For one topic, QoS and payload size in bytes (at least [`payload::HEADER`]).
    pub fn new(version: ProtocolVersion, topic: &str, qos: QoS, payload: usize) -> Self {
        let mut bytes = Vec::new();
        let head = PublishHead { qos, topic, packet_id: 1, ..PublishHead::default() };
        let packet_id_at = encode_publish_head(&mut bytes, version, &head, payload);
        let payload_at = bytes.len();
        bytes.resize(payload_at + payload, 0);
        Self { bytes, packet_id_at, payload_at }
    }

    /// Appends the packet.
    pub fn write(&self, packet_id: u16, stamp: Stamp, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(&self.bytes);
        let packet = &mut output[start..];
        if let Some(at) = self.packet_id_at {
            packet[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        payload::write(stamp, &mut packet[self.payload_at..]);
    }
}

/// Appends the CONNECT of a session that ends with its connection.
pub fn connect(version: ProtocolVersion, client_id: &str, keep_alive: u16, output: &mut Vec<u8>) {
    let connect = Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    encode(&Packet::Connect(Box::new(connect)), version, output);
}

/// Appends a SUBSCRIBE to one filter.
pub fn subscribe(version: ProtocolVersion, filter: &str, qos: QoS, output: &mut Vec<u8>) {
    let mut payload = Vec::new();
    FilterRequest { filter, options: SubscriptionOptions { qos, ..SubscriptionOptions::default() } }.put(&mut payload);
    let subscribe = Subscribe {
        packet_id: 1,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: Filters { payload: &payload, with_options: true },
    };
    encode(&Packet::Subscribe(subscribe), version, output);
}

/// Appends a DISCONNECT.
pub fn disconnect(version: ProtocolVersion, output: &mut Vec<u8>) {
    encode(&Packet::Disconnect(Disconnect::default()), version, output);
}

#[cfg(test)]
mod tests {
    use ringmq::codec::{Frame, Framed, decode_publish, frame};

    use super::*;

    #[test]
    fn a_template_makes_whole_packets_with_their_own_identifier_and_payload() {
        let version = ProtocolVersion::V311;
        let template = PublishTemplate::new(version, "a/b", QoS::AtLeastOnce, 200);
        let stamp = Stamp { publisher: 5, sequence: 6, sent_ns: 7 };
        let mut bytes = vec![];
        template.write(513, stamp, &mut bytes);
        let Ok(Framed::Complete { frame: Frame { first, body }, len }) = frame(&bytes, u32::MAX) else { panic!() };
        assert_eq!(len, bytes.len());
        let publish = decode_publish(first, body, version).unwrap();
        assert_eq!((publish.topic, publish.packet_id, publish.qos), ("a/b", 513, QoS::AtLeastOnce));
        assert_eq!(payload::read(publish.payload), Some(stamp));
    }
}
