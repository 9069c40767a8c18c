//! Any stream of bytes is cut into packets and decoded under every version without a panic, and every packet
//! that passes can be walked to its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_fuzz::codec::{Packet, PublishProperties, UserProperties, connect_version, decode, topic};
use ringmq_fuzz::{VERSIONS, frames};

fuzz_target!(|bytes: &[u8]| {
    for maximum_packet_size in [64, u32::MAX] {
        for frame in frames(bytes, maximum_packet_size) {
            connect_version(frame.body);
            for version in VERSIONS {
                match decode(frame, version) {
                    Ok(packet) => walk(&packet),
                    Err(error) => assert!(error.reason().is_error() && !error.label().is_empty()),
                }
            }
        }
    }
});

fn walk(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            walk_user_properties(&connect.properties.user_properties);
            if let Some(will) = &connect.will {
                topic::validate_topic_name(will.topic).expect("a will topic");
                walk_message(&will.properties);
            }
        }
        Packet::Publish(publish) => {
            assert_eq!(publish.topic.is_empty(), topic::validate_topic_name(publish.topic).is_err());
            walk_message(&publish.properties);
        }
        Packet::Subscribe(subscribe) => {
            let mut bytes = 0;
            for request in subscribe.filters.iter() {
                topic::validate_filter(request.filter).expect("a topic filter");
                assert_eq!(topic::levels(request.filter).count(), topic::level_count(request.filter));
                bytes += 3 + request.filter.len();
            }
            assert_eq!(bytes, subscribe.filters.payload.len());
        }
        Packet::Unsubscribe(unsubscribe) => {
            let bytes: usize = unsubscribe.filters.iter().map(|request| 2 + request.filter.len()).sum();
            assert_eq!(bytes, unsubscribe.filters.payload.len());
        }
        _ => {}
    }
}

fn walk_message(properties: &PublishProperties<'_>) {
    let mut forwarded = Vec::new();
    properties.forwardable(&mut forwarded);
    assert_eq!(properties.forwards_as_is, forwarded == properties.raw);
    let forwarded = PublishProperties::parse(&forwarded).expect("what is forwarded is valid");
    assert!(forwarded.forwards_as_is);
    assert_eq!(forwarded.response_topic(), properties.response_topic());
    assert_eq!(forwarded.correlation_data(), properties.correlation_data());
    assert_eq!(forwarded.content_type(), properties.content_type());
    assert_eq!(forwarded.user_properties(), properties.user_properties());
    walk_user_properties(&properties.user_properties());
}

fn walk_user_properties(properties: &UserProperties<'_>) {
    let bytes: usize = properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    assert!(bytes <= properties.section.len());
}
