//! Bytes that nobody meant: random ones, damaged packets, and packets cut off. None may panic, none may be read
//! past its end, and whatever passes must encode to bytes that mean the same.

use proptest::prelude::*;

use super::ingredients::{ingredients, packet_types};
use super::*;

/// Decodes whatever this is under every version. What passes has to be as well-formed as the types promise.
fn survive(bytes: &[u8]) {
    let Ok(Framed::Complete { frame, .. }) = frame(bytes, u32::MAX) else { return };
    for version in VERSIONS {
        let Ok(packet) = decode(frame, version) else { continue };
        let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
        check_strings(&packet);
        let mut out = Vec::new();
        encode(&packet, version, &mut out);
        assert_eq!(decode_one(&out, version).as_ref(), Ok(&packet), "{bytes:x?}");
    }
}

fn check_strings(packet: &Packet<'_>) {
    match packet {
        Packet::Publish(publish) if !publish.topic.is_empty() => {
            topic::validate_topic_name(publish.topic).unwrap();
        }
        Packet::Subscribe(Subscribe { filters, .. }) | Packet::Unsubscribe(Unsubscribe { filters, .. }) => {
            assert!(filters.iter().count() > 0);
            let walked: usize = filters.iter().map(|request| 2 + request.filter.len()).sum();
            let options = if filters.with_options { filters.iter().count() } else { 0 };
            assert_eq!(walked + options, filters.payload.len(), "every byte belongs to a filter");
            filters.iter().for_each(|request| topic::validate_filter(request.filter).unwrap());
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        survive(&bytes);
    }

    #[test]
    fn random_bodies_of_every_type_are_survived(
        packet_type in 1..16_u8,
        body in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..48),
    ) {
        let flags = if matches!(packet_type, 6 | 8 | 10) { 2 } else { 0 };
        survive(&packet(packet_type << 4 | flags, &body));
        survive(&packet(0x32, &body));
    }

    #[test]
    fn random_properties_are_survived(section in prop::collection::vec(prop_oneof![0..0x2B_u8, 0..3_u8], 0..32)) {
        let publish = [&[0, 1, b't', section.len() as u8], &section[..]].concat();
        survive(&packet(0x30, &publish));
        let connect = [&[0, 4], &b"MQTT"[..], &[5, 2, 0, 0, section.len() as u8], &section[..], &[0, 0]].concat();
        survive(&packet(0x10, &connect));
        // Sections that no decoder has seen: the walks end, wherever that is.
        let properties = PublishProperties { raw: &section, forwards_as_is: false, ..PublishProperties::EMPTY };
        let mut out = Vec::new();
        properties.forwardable(&mut out);
        prop_assert!(out.len() <= section.len());
        prop_assert!(properties.user_properties().iter().count() <= section.len());
        let filters = Filters { payload: &section, with_options: true };
        prop_assert!(filters.iter().count() <= section.len());
    }

    #[test]
    fn the_fast_path_to_a_frame_says_what_the_general_one_says(
        bytes in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..20),
        maximum in prop_oneof![0..20_u32, Just(u32::MAX)],
    ) {
        prop_assert_eq!(frame(&bytes, maximum), frame::any_frame(&bytes, maximum));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_packets_are_survived(
        ingredients in ingredients(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for version in VERSIONS {
            for packet_type in packet_types(version) {
                let mut bytes = Vec::new();
                encode(&ingredients.packet(packet_type, version), version, &mut bytes);
                for (index, byte) in &damage {
                    let at = index.index(bytes.len());
                    bytes[at] = *byte;
                    survive(&bytes);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_packet_cut_off_is_incomplete_and_a_body_cut_off_never_means_more(ingredients in ingredients()) {
        for version in VERSIONS {
            for packet_type in packet_types(version) {
                let mut bytes = Vec::new();
                encode(&ingredients.packet(packet_type, version), version, &mut bytes);
                let Ok(Framed::Complete { frame: whole, .. }) = frame(&bytes, u32::MAX) else { panic!() };
                let header = bytes.len() - whole.body.len();
                for cut in 0..bytes.len() {
                    let needed = (cut >= header).then_some(bytes.len());
                    prop_assert_eq!(frame(&bytes[..cut], u32::MAX), Ok(Framed::Incomplete { needed }));
                }
                for cut in 0..whole.body.len() {
                    survive(&packet(whole.first, &whole.body[..cut]));
                }
            }
        }
    }
}
