//! Makes well-formed packets of every type and version out of arbitrary strings and choices.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What a packet is made of. Packets borrow from it.
#[derive(Clone, Debug)]
pub(super) struct Ingredients {
    /// Small decisions, taken from the front; zeros when used up, so that shrinking makes plain packets.
    choices: Vec<u32>,
    texts: Vec<String>,
    topic: String,
    filters: Vec<String>,
    blob: Vec<u8>,
    /// User properties as a property section.
    user_properties: Vec<u8>,
    /// Properties of a PUBLISH, its will or both.
    publish_section: Vec<u8>,
    will_section: Vec<u8>,
    subscribe_payload: Vec<u8>,
    unsubscribe_payload: Vec<u8>,
    codes: Vec<u8>,
}

/// Text of any length, mostly short, without U+0000.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[^\\x00]{0,12}", 1 => "[a-z]{120,140}"]
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof!["[^\\x00+#]{1,20}", "(/?[a-c]{0,2}){1,4}x", "[a-z]{300}"]
}

fn filter() -> impl Strategy<Value = String> {
    let plain = vec(prop_oneof![Just("+".to_owned()), "[^\\x00+#/$]{0,6}"], 1..4).prop_map(|levels| levels.join("/"));
    let filter = (plain, any::<bool>()).prop_map(|(filter, all)| if all { filter + "/#" } else { filter });
    let filter = filter.prop_map(|filter| if filter.is_empty() { "#".to_owned() } else { filter });
    (filter, any::<bool>()).prop_map(|(filter, share)| if share { format!("$share/g/{filter}") } else { filter })
}

fn user_properties() -> impl Strategy<Value = Vec<u8>> {
    vec((text(), text()), 0..4).prop_map(|pairs| {
        let mut section = Vec::new();
        pairs.iter().for_each(|(name, value)| put_user_property(&mut section, name, value));
        section
    })
}

/// Properties that a PUBLISH and a will have in common, each perhaps, in any order; then `more`.
fn message_section(more: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    fn field(identifier: u8, value: &[u8]) -> Vec<u8> {
        [&[identifier, (value.len() >> 8) as u8, value.len() as u8], value].concat()
    }
    let parts = (
        any::<bool>().prop_map(|utf8| vec![0x01, u8::from(utf8)]),
        any::<u32>().prop_map(|interval| [&[0x02], &interval.to_be_bytes()[..]].concat()),
        topic().prop_map(|topic| field(0x08, topic.as_bytes())),
        vec(any::<u8>(), 0..20).prop_map(|data| field(0x09, &data)),
        text().prop_map(|text| field(0x03, text.as_bytes())),
        user_properties(),
        more,
    );
    let shuffled = parts.prop_map(|(a, b, c, d, e, f, g)| vec![a, b, c, d, e, f, g]).prop_shuffle();
    (shuffled, 0..=7_usize).prop_map(|(parts, count)| parts[..count].concat())
}

fn publish_only() -> impl Strategy<Value = Vec<u8>> {
    (prop::option::of(1..=u16::MAX), vec(1..=wire::VARINT_MAX, 0..3)).prop_map(|(alias, identifiers)| {
        let mut section = Vec::new();
        for identifier in identifiers {
            section.push(0x0B);
            wire::put_varint(&mut section, identifier);
        }
        alias.iter().for_each(|alias| section.extend([0x23, (alias >> 8) as u8, *alias as u8]));
        section
    })
}

fn put_filters(filters: &[(String, u8, u8, bool)]) -> (Vec<u8>, Vec<u8>) {
    let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
    for (filter, qos, retain_handling, flag) in filters {
        let retain_handling =
            [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][usize::from(*retain_handling)];
        let options = SubscriptionOptions {
            qos: QoS::from_bits(*qos).unwrap(),
            no_local: *flag && !filter.starts_with("$share/"),
            retain_as_published: *flag,
            retain_handling,
        };
        FilterRequest { filter, options }.put(&mut subscribe);
        wire::put_string(&mut unsubscribe, filter);
    }
    (subscribe, unsubscribe)
}

pub(super) fn ingredients() -> impl Strategy<Value = Ingredients> {
    let filters = vec((filter(), 0..3_u8, 0..3_u8, any::<bool>()), 1..4);
    let will_delay = any::<u32>().prop_map(|delay| [&[0x18], &delay.to_be_bytes()[..]].concat());
    (
        vec(any::<u32>(), 0..40),
        vec(text(), 5),
        topic(),
        filters,
        vec(any::<u8>(), 0..300),
        user_properties(),
        message_section(publish_only()),
        message_section(will_delay),
        vec(any::<u8>(), 1..9),
    )
        .prop_map(
            |(choices, texts, topic, filters, blob, user_properties, publish_section, will_section, codes)| {
                let (subscribe_payload, unsubscribe_payload) = put_filters(&filters);
                let filters = filters.into_iter().map(|(filter, ..)| filter).collect();
                Ingredients {
                    choices,
                    texts,
                    topic,
                    filters,
                    blob,
                    user_properties,
                    publish_section,
                    will_section,
                    subscribe_payload,
                    unsubscribe_payload,
                    codes,
                }
            },
        )
}

/// The types of all packets of a version.
pub(super) fn packet_types(version: ProtocolVersion) -> impl Iterator<Item = PacketType> {
    (1..=if version == V5 { 15 } else { 14 }).map(|packet_type: u8| PacketType::of(packet_type << 4).unwrap())
}

/// Takes choices one after the other.
struct Choices<'a>(std::slice::Iter<'a, u32>);

impl Choices<'_> {
    fn next(&mut self) -> u32 {
        self.0.next().copied().unwrap_or(0)
    }
    fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }
    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }
    fn positive_u16(&mut self) -> u16 {
        (self.next() as u16).max(1)
    }
    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.next() as usize % all.len()]
    }
    fn qos(&mut self) -> QoS {
        self.of(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }
}

impl Ingredients {
    /// The filters that a SUBSCRIBE or UNSUBSCRIBE made of this has.
    pub fn filters(&self) -> &[String] {
        &self.filters
    }

    fn user(&self) -> UserProperties<'_> {
        UserProperties { section: &self.user_properties }
    }

    pub fn packet(&self, packet_type: PacketType, version: ProtocolVersion) -> Packet<'_> {
        let mut choices = Choices(self.choices.iter());
        let packet_id = choices.positive_u16();
        let is_v5 = version == V5;
        let user_properties = if is_v5 { self.user() } else { UserProperties::default() };
        match packet_type {
            PacketType::Connect => Packet::Connect(Box::new(self.connect(&mut choices, version))),
            PacketType::ConnAck => Packet::ConnAck(self.connack(&mut choices, version)),
            PacketType::Publish => Packet::Publish(self.publish(&mut choices, version)),
            PacketType::PubAck => Packet::PubAck(self.ack(&mut choices, packet_id, &[0, 0x10, 0x97], is_v5)),
            PacketType::PubRec => Packet::PubRec(self.ack(&mut choices, packet_id, &[0, 0x10, 0x97], is_v5)),
            PacketType::PubRel => Packet::PubRel(self.ack(&mut choices, packet_id, &[0, 0x92], is_v5)),
            PacketType::PubComp => Packet::PubComp(self.ack(&mut choices, packet_id, &[0, 0x92], is_v5)),
            PacketType::Subscribe => {
                let identifier = choices.maybe(|choices| (choices.next() & wire::VARINT_MAX).max(1));
                let subscription_identifier = identifier.filter(|_| is_v5);
                let payload = if is_v5 { &self.subscribe_payload[..] } else { &[0, 1, b'f', 2, 0, 1, b'+', 0] };
                let filters = Filters { payload, with_options: true };
                Packet::Subscribe(Subscribe { packet_id, subscription_identifier, user_properties, filters })
            }
            PacketType::Unsubscribe => {
                let filters = Filters { payload: &self.unsubscribe_payload, with_options: false };
                Packet::Unsubscribe(Unsubscribe { packet_id, user_properties, filters })
            }
            PacketType::SubAck => Packet::SubAck(self.suback(&mut choices, packet_id, is_v5, &[0, 1, 2, 0x80])),
            PacketType::UnsubAck => {
                let codes: &[u8] = if is_v5 { &[0, 0x11, 0x87] } else { &[] };
                Packet::UnsubAck(self.suback(&mut choices, packet_id, is_v5, codes))
            }
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect if !is_v5 => Packet::Disconnect(Disconnect::default()),
            PacketType::Disconnect => Packet::Disconnect(Disconnect {
                reason: choices.of(&[0, 4, 0x8E, 0x9D]),
                session_expiry_interval: choices.maybe(Choices::next),
                reason_string: choices.maybe(|_| self.texts[0].as_str()),
                user_properties,
                server_reference: choices.maybe(|_| self.texts[1].as_str()),
            }),
            PacketType::Auth => Packet::Auth(Auth {
                reason: choices.of(&[0, 0x18, 0x19]),
                authentication_method: Some(&self.texts[0]),
                authentication_data: choices.maybe(|_| &self.blob[..]),
                reason_string: choices.maybe(|_| self.texts[1].as_str()),
                user_properties,
            }),
        }
    }

    fn connect(&self, choices: &mut Choices<'_>, version: ProtocolVersion) -> Connect<'_> {
        let is_v5 = version == V5;
        let user_name = choices.maybe(|_| self.texts[1].as_str());
        let password = choices.maybe(|_| &self.blob[..]).filter(|_| is_v5 || user_name.is_some());
        let mut properties = ConnectProperties::default();
        if is_v5 {
            let authentication_method = choices.maybe(|_| self.texts[2].as_str());
            properties = ConnectProperties {
                session_expiry_interval: choices.maybe(Choices::next),
                receive_maximum: choices.maybe(Choices::positive_u16),
                maximum_packet_size: choices.maybe(|choices| choices.next().max(1)),
                topic_alias_maximum: choices.maybe(|choices| choices.next() as u16),
                request_response_information: choices.maybe(Choices::flag),
                request_problem_information: choices.maybe(Choices::flag),
                user_properties: self.user(),
                authentication_method,
                authentication_data: choices.maybe(|_| &self.blob[..]).filter(|_| authentication_method.is_some()),
            };
        }
        Connect {
            version,
            bridge: choices.flag() && !is_v5,
            clean_start: choices.flag(),
            keep_alive: choices.next() as u16,
            client_id: &self.texts[0],
            will: choices.maybe(|choices| self.will(choices, is_v5)),
            user_name,
            password,
            properties,
        }
    }

    fn will(&self, choices: &mut Choices<'_>, is_v5: bool) -> Will<'_> {
        let section: &[u8] = if is_v5 { &self.will_section } else { &[] };
        let (properties, delay_interval) = PublishProperties::parse_will(section).unwrap();
        Will {
            qos: choices.qos(),
            retain: choices.flag(),
            topic: &self.topic,
            payload: &self.blob,
            delay_interval,
            properties,
        }
    }

    fn connack(&self, choices: &mut Choices<'_>, version: ProtocolVersion) -> ConnAck<'_> {
        let session_present = choices.flag() && version > V31;
        if version < V5 {
            return ConnAck { session_present, code: choices.of(&[0, 1, 2, 3, 4, 5]), ..ConnAck::default() };
        }
        let authentication_method = choices.maybe(|_| self.texts[4].as_str());
        let properties = ConnAckProperties {
            session_expiry_interval: choices.maybe(Choices::next),
            receive_maximum: choices.maybe(Choices::positive_u16),
            maximum_qos: choices.maybe(|choices| choices.of(&[QoS::AtMostOnce, QoS::AtLeastOnce])),
            retain_available: choices.maybe(Choices::flag),
            maximum_packet_size: choices.maybe(|choices| choices.next().max(1)),
            assigned_client_identifier: choices.maybe(|_| self.texts[0].as_str()),
            topic_alias_maximum: choices.maybe(|choices| choices.next() as u16),
            reason_string: choices.maybe(|_| self.texts[1].as_str()),
            user_properties: self.user(),
            wildcard_subscription_available: choices.maybe(Choices::flag),
            subscription_identifiers_available: choices.maybe(Choices::flag),
            shared_subscription_available: choices.maybe(Choices::flag),
            server_keep_alive: choices.maybe(|choices| choices.next() as u16),
            response_information: choices.maybe(|_| self.texts[2].as_str()),
            server_reference: choices.maybe(|_| self.texts[3].as_str()),
            authentication_method,
            authentication_data: choices.maybe(|_| &self.blob[..]).filter(|_| authentication_method.is_some()),
        };
        ConnAck { session_present, code: choices.of(&[0, 0x84, 0x9D]), properties }
    }

    fn publish(&self, choices: &mut Choices<'_>, version: ProtocolVersion) -> Publish<'_> {
        let qos = choices.qos();
        let raw: &[u8] = if version == V5 { &self.publish_section } else { &[] };
        let properties = PublishProperties::parse(raw).unwrap();
        let by_alias = properties.topic_alias.is_some() && choices.flag();
        Publish {
            dup: qos != QoS::AtMostOnce && choices.flag(),
            qos,
            retain: choices.flag(),
            topic: if by_alias { "" } else { &self.topic },
            packet_id: if qos == QoS::AtMostOnce { 0 } else { choices.positive_u16() },
            properties,
            payload: &self.blob,
        }
    }

    fn ack(&self, choices: &mut Choices<'_>, packet_id: u16, reasons: &[u8], is_v5: bool) -> Ack<'_> {
        if !is_v5 {
            return Ack { packet_id, ..Ack::default() };
        }
        Ack {
            packet_id,
            reason: choices.of(reasons),
            reason_string: choices.maybe(|_| self.texts[0].as_str()),
            user_properties: if choices.flag() { self.user() } else { UserProperties::default() },
        }
    }

    /// `codes` are those to choose from; the choice is made of `self.codes`, where they differ enough.
    fn suback<'a>(&'a self, choices: &mut Choices<'_>, packet_id: u16, is_v5: bool, codes: &'a [u8]) -> SubAck<'a> {
        let count = codes.len().min(self.codes.len());
        SubAck {
            packet_id,
            reason_string: choices.maybe(|_| self.texts[0].as_str()).filter(|_| is_v5),
            user_properties: if is_v5 { self.user() } else { UserProperties::default() },
            codes: &codes[..count],
        }
    }
}
