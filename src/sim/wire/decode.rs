//! Bytes to packets. What the broker sends must be well-formed, so every deviation is an error that names it.

use super::{
    Ack, Codes, ConnAck, Connect, Packet, Properties, Property, ProtocolVersion, Publish, QoS, Reasoned, Subscribe,
    SubscriptionOptions, Unsubscribe, Value, Will, id,
};
use crate::codec::RetainHandling;

/// What is wrong with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

type Decoded<T> = Result<T, Malformed>;

/// The length of the packet at the start of `bytes` (fixed header included) once all of it is there.
pub fn deframe(bytes: &[u8]) -> Decoded<Option<usize>> {
    let mut length = 0usize;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let total = 2 + index + length;
            return Ok((bytes.len() >= total).then_some(total));
        }
    }
    if bytes.len() > 4 { Err(Malformed("remaining length of five bytes".into())) } else { Ok(None) }
}

/// One whole packet. `version` is what the connection speaks; a CONNECT says it itself.
pub fn decode(bytes: &[u8], version: ProtocolVersion) -> Decoded<Packet> {
    let total = deframe(bytes)?.ok_or(Malformed("not a whole packet".into()))?;
    let first = bytes[0];
    let header = bytes.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap_or(0) + 2;
    let mut reader = Reader { rest: &bytes[header..total], v5: version == ProtocolVersion::V5 };
    let packet = decode_body(first, &mut reader)?;
    if reader.rest.is_empty() { Ok(packet) } else { Err(Malformed(format!("{} bytes too many", reader.rest.len()))) }
}

fn decode_body(first: u8, reader: &mut Reader) -> Decoded<Packet> {
    Ok(match first {
        0x10 => Packet::Connect(reader.connect()?),
        0x20 => {
            let flags = reader.byte()?;
            if flags > 1 {
                return Err(Malformed(format!("CONNACK flags {flags:#x}")));
            }
            let code = reader.byte()?;
            Packet::ConnAck(ConnAck { session_present: flags == 1, code, properties: reader.properties()? })
        }
        0x30..=0x3F => Packet::Publish(reader.publish(first)?),
        0x40 => Packet::PubAck(reader.ack()?),
        0x50 => Packet::PubRec(reader.ack()?),
        0x62 => Packet::PubRel(reader.ack()?),
        0x70 => Packet::PubComp(reader.ack()?),
        0x82 => Packet::Subscribe(reader.subscribe()?),
        0x90 => Packet::SubAck(reader.codes()?),
        0xA2 => {
            let mut unsubscribe =
                Unsubscribe { packet_id: reader.two()?, properties: reader.properties()?, filters: Vec::new() };
            while !reader.rest.is_empty() {
                unsubscribe.filters.push(reader.text()?);
            }
            Packet::Unsubscribe(unsubscribe)
        }
        0xB0 => Packet::UnsubAck(reader.codes()?),
        0xC0 => Packet::PingReq,
        0xD0 => Packet::PingResp,
        0xE0 => Packet::Disconnect(reader.reasoned()?),
        0xF0 => Packet::Auth(reader.reasoned()?),
        other => return Err(Malformed(format!("first byte {other:#04x}"))),
    })
}

struct Reader<'a> {
    rest: &'a [u8],
    v5: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        if self.rest.len() < count {
            return Err(Malformed(format!("{count} bytes wanted, {} left", self.rest.len())));
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Decoded<u8> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Decoded<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn four(&mut self) -> Decoded<u32> {
        Ok(u32::from(self.two()?) << 16 | u32::from(self.two()?))
    }

    fn variable(&mut self) -> Decoded<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("variable byte integer of five bytes".into()))
    }

    fn binary(&mut self) -> Decoded<Vec<u8>> {
        let length = self.two()?;
        Ok(self.take(usize::from(length))?.to_vec())
    }

    fn text(&mut self) -> Decoded<String> {
        String::from_utf8(self.binary()?).map_err(|error| Malformed(error.to_string()))
    }

    fn qos(&mut self, bits: u8) -> Decoded<QoS> {
        match bits & 3 {
            0 => Ok(QoS::AtMostOnce),
            1 => Ok(QoS::AtLeastOnce),
            2 => Ok(QoS::ExactlyOnce),
            _ => Err(Malformed("QoS 3".into())),
        }
    }

    fn properties(&mut self) -> Decoded<Properties> {
        let mut properties = Properties::new();
        if !self.v5 {
            return Ok(properties);
        }
        let length = self.variable()? as usize;
        let mut section = Reader { rest: self.take(length)?, v5: true };
        while !section.rest.is_empty() {
            let id = section.byte()?;
            let value = section.value(id)?;
            properties.0.push(Property { id, value });
        }
        Ok(properties)
    }

    fn value(&mut self, id: u8) -> Decoded<Value> {
        Ok(match id {
            id::PAYLOAD_FORMAT_INDICATOR
            | id::REQUEST_PROBLEM_INFORMATION
            | id::REQUEST_RESPONSE_INFORMATION
            | id::MAXIMUM_QOS
            | id::RETAIN_AVAILABLE
            | id::WILDCARD_SUBSCRIPTION_AVAILABLE
            | id::SUBSCRIPTION_IDENTIFIER_AVAILABLE
            | id::SHARED_SUBSCRIPTION_AVAILABLE => Value::Byte(self.byte()?),
            id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
                Value::Two(self.two()?)
            }
            id::MESSAGE_EXPIRY_INTERVAL
            | id::SESSION_EXPIRY_INTERVAL
            | id::WILL_DELAY_INTERVAL
            | id::MAXIMUM_PACKET_SIZE => Value::Four(self.four()?),
            id::SUBSCRIPTION_IDENTIFIER => Value::Variable(self.variable()?),
            id::CORRELATION_DATA | id::AUTHENTICATION_DATA => Value::Binary(self.binary()?),
            id::USER_PROPERTY => Value::Pair(self.text()?, self.text()?),
            id::CONTENT_TYPE
            | id::RESPONSE_TOPIC
            | id::ASSIGNED_CLIENT_IDENTIFIER
            | id::AUTHENTICATION_METHOD
            | id::RESPONSE_INFORMATION
            | id::SERVER_REFERENCE
            | id::REASON_STRING => Value::Text(self.text()?),
            other => return Err(Malformed(format!("property {other:#04x}"))),
        })
    }

    fn connect(&mut self) -> Decoded<Connect> {
        let _name = self.text()?;
        let version = match self.byte()? {
            3 => ProtocolVersion::V31,
            4 => ProtocolVersion::V311,
            5 => ProtocolVersion::V5,
            other => return Err(Malformed(format!("protocol level {other}"))),
        };
        self.v5 = version == ProtocolVersion::V5;
        let flags = self.byte()?;
        let keep_alive = self.two()?;
        let properties = self.properties()?;
        let client_id = self.text()?;
        let mut will = None;
        if flags & 0x04 != 0 {
            let properties = self.properties()?;
            let (topic, payload) = (self.text()?, self.binary()?);
            will = Some(Will { qos: self.qos(flags >> 3)?, retain: flags & 0x20 != 0, topic, payload, properties });
        }
        let user_name = if flags & 0x80 != 0 { Some(self.text()?) } else { None };
        let password = if flags & 0x40 != 0 { Some(self.binary()?) } else { None };
        let clean_start = flags & 0x02 != 0;
        Ok(Connect { version, clean_start, keep_alive, client_id, will, user_name, password, properties })
    }

    fn publish(&mut self, first: u8) -> Decoded<Publish> {
        let qos = self.qos(first >> 1)?;
        let topic = self.text()?;
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.two()? };
        if qos != QoS::AtMostOnce && packet_id == 0 {
            return Err(Malformed("packet identifier 0".into()));
        }
        let properties = self.properties()?;
        let payload = self.take(self.rest.len())?.to_vec();
        Ok(Publish { dup: first & 8 != 0, qos, retain: first & 1 != 0, topic, packet_id, properties, payload })
    }

    fn ack(&mut self) -> Decoded<Ack> {
        let packet_id = self.two()?;
        let Reasoned { reason, properties } = self.reasoned()?;
        Ok(Ack { packet_id, reason, properties })
    }

    fn reasoned(&mut self) -> Decoded<Reasoned> {
        let mut reasoned = Reasoned::default();
        if self.v5 && !self.rest.is_empty() {
            reasoned.reason = self.byte()?;
            if !self.rest.is_empty() {
                reasoned.properties = self.properties()?;
            }
        }
        Ok(reasoned)
    }

    fn subscribe(&mut self) -> Decoded<Subscribe> {
        let mut subscribe = Subscribe { packet_id: self.two()?, properties: self.properties()?, filters: Vec::new() };
        while !self.rest.is_empty() {
            let filter = self.text()?;
            let bits = self.byte()?;
            let retain_handling = match bits >> 4 & 3 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(Malformed("retain handling 3".into())),
            };
            let options = SubscriptionOptions {
                qos: self.qos(bits)?,
                no_local: bits & 4 != 0,
                retain_as_published: bits & 8 != 0,
                retain_handling,
            };
            subscribe.filters.push((filter, options));
        }
        Ok(subscribe)
    }

    fn codes(&mut self) -> Decoded<Codes> {
        let packet_id = self.two()?;
        let properties = self.properties()?;
        Ok(Codes { packet_id, properties, codes: self.take(self.rest.len())?.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;

    #[test]
    fn every_kind_of_packet_comes_back_as_it_was() {
        let properties = Properties::new().text(id::REASON_STRING, "why").user("a", "b").user("a", "c");
        let publish = Publish {
            qos: QoS::AtLeastOnce,
            topic: "a/b".into(),
            packet_id: 7,
            properties: Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 268_435_455),
            payload: vec![0; 300],
            ..Publish::default()
        };
        let mut connect = Connect::new(ProtocolVersion::V5, "c");
        connect.will = Some(Will { topic: "w".into(), qos: QoS::ExactlyOnce, ..Will::default() });
        connect.user_name = Some("u".into());
        for packet in [
            Packet::Connect(connect),
            Packet::ConnAck(ConnAck { session_present: true, code: 0, properties: properties.clone() }),
            Packet::Publish(publish),
            Packet::PubRel(Ack { packet_id: 9, reason: 0x92, properties: properties.clone() }),
            Packet::PubAck(Ack::new(3)),
            Packet::Subscribe(Subscribe {
                packet_id: 1,
                properties: Properties::new(),
                filters: vec![("#".into(), SubscriptionOptions { no_local: true, ..Default::default() })],
            }),
            Packet::SubAck(Codes { packet_id: 1, properties: Properties::new(), codes: vec![0, 0x80] }),
            Packet::Disconnect(Reasoned { reason: 0x8E, properties }),
            Packet::PingResp,
        ] {
            assert_eq!(decode(&encode(&packet, ProtocolVersion::V5), ProtocolVersion::V5), Ok(packet));
        }
    }

    #[test]
    fn a_packet_is_framed_only_when_all_of_it_is_there() {
        let bytes =
            encode(&Packet::Publish(Publish { topic: "t".into(), ..Default::default() }), ProtocolVersion::V311);
        assert_eq!(deframe(&bytes), Ok(Some(bytes.len())));
        assert_eq!(deframe(&bytes[..bytes.len() - 1]), Ok(None));
        assert!(deframe(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }
}
