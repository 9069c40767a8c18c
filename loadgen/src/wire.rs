//! MQTT as the generator speaks it: the codec for what is rare, ready-made bytes for what is hot.

use ringmq::codec::{ProtocolVersion, QoS};

use crate::payload::{self, Stamp};

/// A PUBLISH that is complete but for packet identifier and payload.
pub struct PublishTemplate {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl PublishTemplate {
    /// For one topic, QoS and payload size in bytes (at least [`payload::HEADER`]).
    pub fn new(topic: &str, qos: QoS, payload: usize) -> Self {
        let id = if qos == QoS::AtMostOnce { 0 } else { 2 };
        let mut bytes = vec![0x30 | (qos as u8) << 1];
        remaining_length(2 + topic.len() + id + payload, &mut bytes);
        string(topic, &mut bytes);
        let packet_id_at = (id > 0).then_some(bytes.len());
        bytes.resize(bytes.len() + id, 0);
        let payload_at = bytes.len();
        bytes.resize(bytes.len() + payload, 0);
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

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn remaining_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

/// Appends a CONNECT.
pub fn connect(version: ProtocolVersion, client_id: &str, keep_alive: u16, out: &mut Vec<u8>) {
    let properties = usize::from(version == ProtocolVersion::V5);
    out.push(0x10);
    remaining_length(10 + properties + 2 + client_id.len(), out);
    string("MQTT", out);
    out.extend_from_slice(&[version as u8, 0x02]);
    out.extend_from_slice(&keep_alive.to_be_bytes());
    out.resize(out.len() + properties, 0);
    string(client_id, out);
}

/// Appends a SUBSCRIBE to one filter.
pub fn subscribe(version: ProtocolVersion, filter: &str, qos: QoS, out: &mut Vec<u8>) {
    let properties = usize::from(version == ProtocolVersion::V5);
    out.push(0x82);
    remaining_length(2 + properties + 2 + filter.len() + 1, out);
    out.extend_from_slice(&[0, 1]);
    out.resize(out.len() + properties, 0);
    string(filter, out);
    out.push(qos as u8);
}

/// The types of the packets that a client receives or answers with, as the first byte's upper half.
pub mod kind {
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBACK: u8 = 9;
}

/// Appends an acknowledgement with reason 0, which in every version may be two bytes long.
pub fn ack(kind: u8, packet_id: u16, out: &mut Vec<u8>) {
    let flags = if kind == kind::PUBREL { 2 } else { 0 };
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind << 4 | flags, 2, high, low]);
}

/// DISCONNECT with reason 0 in every version.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A complete packet at the start of `bytes`: first byte, body, and the length of all.
pub fn frame(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>, &'static str> {
    let mut length = 0;
    for index in 0..4 {
        let Some(&byte) = bytes.get(1 + index) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let start = 2 + index;
            return Ok(bytes.get(start..start + length).map(|body| (bytes[0], body, start + length)));
        }
    }
    Err("a remaining length of more than four bytes")
}

/// What a subscriber needs of a PUBLISH.
pub struct Received<'a> {
    /// The QoS that it was delivered with.
    pub qos: QoS,
    /// Packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// Application message.
    pub payload: &'a [u8],
}

/// Takes a PUBLISH apart; `None` if it is malformed.
pub fn publish(version: ProtocolVersion, first: u8, body: &[u8]) -> Option<Received<'_>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().nth(usize::from(first >> 1 & 3))?;
    let mut packet_id = 0;
    if qos != QoS::AtMostOnce {
        let (id, after) = rest.split_first_chunk::<2>()?;
        (packet_id, rest) = (u16::from_be_bytes(*id), after);
    }
    if version == ProtocolVersion::V5 {
        rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    }
    Some(Received { qos, packet_id, payload: rest })
}
