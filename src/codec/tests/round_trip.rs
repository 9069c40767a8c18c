//! Every packet of every version comes back from its bytes as it was.

use proptest::prelude::*;

use super::ingredients::{ingredients, packet_types};
use super::*;

proptest! {
    #[test]
    fn every_packet_survives_the_wire(ingredients in ingredients()) {
        for version in VERSIONS {
            for packet_type in packet_types(version) {
                let packet = ingredients.packet(packet_type, version);
                let mut bytes = Vec::new();
                encode(&packet, version, &mut bytes);
                prop_assert_eq!(decode_one(&bytes, version), Ok(packet));
            }
        }
    }

    #[test]
    fn a_packet_is_appended_and_leaves_what_was_there(ingredients in ingredients()) {
        for packet_type in packet_types(V5) {
            let packet = ingredients.packet(packet_type, V5);
            let mut alone = Vec::new();
            encode(&packet, V5, &mut alone);
            let mut appended = vec![1, 2, 3];
            encode(&packet, V5, &mut appended);
            prop_assert_eq!(&appended[..3], &[1, 2, 3]);
            prop_assert_eq!(&appended[3..], &alone[..]);
        }
    }

    #[test]
    fn every_filter_of_a_request_is_walked(ingredients in ingredients()) {
        let Packet::Subscribe(subscribe) = ingredients.packet(PacketType::Subscribe, V5) else { unreachable!() };
        let Packet::Unsubscribe(unsubscribe) = ingredients.packet(PacketType::Unsubscribe, V5) else { unreachable!() };
        for filters in [subscribe.filters, unsubscribe.filters] {
            let walked: Vec<&str> = filters.iter().map(|request| request.filter).collect();
            prop_assert_eq!(&walked, ingredients.filters());
        }
    }

    #[test]
    fn what_is_forwarded_reads_as_the_same_message(ingredients in ingredients()) {
        let Packet::Publish(publish) = ingredients.packet(PacketType::Publish, V5) else { unreachable!() };
        let before = publish.properties;
        let mut raw = Vec::new();
        before.forwardable(&mut raw);
        let after = PublishProperties::parse(&raw).unwrap();
        prop_assert!(after.forwards_as_is);
        prop_assert_eq!(before.forwards_as_is, raw == before.raw);
        prop_assert_eq!(after.payload_is_utf8, before.payload_is_utf8);
        prop_assert_eq!(after.response_topic(), before.response_topic());
        prop_assert_eq!(after.correlation_data(), before.correlation_data());
        prop_assert_eq!(after.content_type(), before.content_type());
        prop_assert_eq!(after.user_properties(), before.user_properties());
    }

    #[test]
    fn a_head_and_a_payload_are_the_publish_of_the_announced_length(
        ingredients in ingredients(),
        topic_alias in prop::option::of(1..=u16::MAX),
        message_expiry_interval: Option<u32>,
        subscription_identifiers in prop::collection::vec(1..=wire::VARINT_MAX, 0..40),
        other_id in 1..=u16::MAX,
    ) {
        for version in VERSIONS {
            let Packet::Publish(publish) = ingredients.packet(PacketType::Publish, version) else { unreachable!() };
            let mut forward = Vec::new();
            publish.properties.forwardable(&mut forward);
            let Publish { dup, qos, retain, packet_id, payload, .. } = publish;
            let subscription_identifiers = &subscription_identifiers[..];
            let head = PublishHead {
                dup, qos, retain, topic: "t/o/p", packet_id, topic_alias, message_expiry_interval,
                subscription_identifiers, forward: &forward,
            };
            let mut bytes = Vec::new();
            let offset = encode_publish_head(&mut bytes, version, &head, payload.len());
            bytes.extend_from_slice(payload);
            prop_assert_eq!(bytes.len(), publish_len(version, &head, payload.len()));

            if let Some(offset) = offset {
                bytes[offset..offset + 2].copy_from_slice(&other_id.to_be_bytes());
            }
            let Ok(Packet::Publish(decoded)) = decode_one(&bytes, version) else { panic!("{bytes:x?}") };
            prop_assert_eq!((decoded.dup, decoded.qos, decoded.retain, decoded.topic), (dup, qos, retain, "t/o/p"));
            prop_assert_eq!(decoded.payload, payload);
            prop_assert_eq!(decoded.packet_id, if qos == QoS::AtMostOnce { 0 } else { other_id });
            if version == V5 {
                prop_assert_eq!(decoded.properties.topic_alias, topic_alias);
                prop_assert_eq!(decoded.properties.message_expiry_interval, message_expiry_interval);
                let identifiers: Vec<u32> = decoded.properties.subscription_identifiers().collect();
                prop_assert_eq!(identifiers, subscription_identifiers);
                let mut forwarded = Vec::new();
                decoded.properties.forwardable(&mut forwarded);
                prop_assert_eq!(forwarded, forward);
            }
        }
    }
}
