//! What makes a PUBLISH or its acknowledgements unacceptable.

use super::*;
use topic::TopicError;

fn v5(section: &[u8]) -> Vec<u8> {
    [&[0, 1, b't', section.len() as u8], section, b"payload"].concat()
}

#[test]
fn qos_3_is_refused() {
    for version in VERSIONS {
        for first in [0x36, 0x37, 0x3E] {
            assert_refused(version, first, &[0, 1, b't', 0, 1, 0], DecodeError::PublishQoS, 0x81);
        }
    }
}

#[test]
fn dup_needs_a_qos() {
    for version in VERSIONS {
        assert_refused(version, 0x38, &[0, 1, b't', 0], DecodeError::DupAtQoS0, 0x82);
        assert_accepted(version, 0x3A, &[0, 1, b't', 0, 1, 0]);
        assert_accepted(version, 0x3D, &[0, 1, b't', 0, 1, 0]);
    }
}

#[test]
fn packet_identifier_0_is_refused() {
    for version in VERSIONS {
        assert_refused(version, 0x32, &[0, 1, b't', 0, 0, 0], DecodeError::PacketIdentifierZero, 0x82);
        assert_refused(version, 0x34, &[0, 1, b't', 0, 0, 0], DecodeError::PacketIdentifierZero, 0x82);
        for first in [0x40, 0x50, 0x62, 0x70] {
            assert_refused(version, first, &[0, 0], DecodeError::PacketIdentifierZero, 0x82);
        }
    }
}

#[test]
fn a_topic_name_has_no_wildcards() {
    for version in VERSIONS {
        for topic in [b"a/+", b"#/a", b"a+b"] {
            let body = [&[0, 3], &topic[..], &[0]].concat();
            assert_refused(version, 0x30, &body, DecodeError::TopicName(TopicError::WildcardInName), 0x90);
        }
        assert_refused(version, 0x30, &[0, 2, b'a', 0, 0], DecodeError::NullCharacter, 0x81);
        assert_refused(version, 0x30, &[0, 2, 0xC3, 0x28, 0], DecodeError::InvalidUtf8, 0x81);
        assert_refused(version, 0x30, &[0, 5, b'a'], DecodeError::Truncated, 0x81);
        assert_refused(version, 0x30, &[], DecodeError::Truncated, 0x81);
    }
}

#[test]
fn an_empty_topic_name_needs_an_alias() {
    assert_refused(V31, 0x30, &[0, 0], DecodeError::TopicName(TopicError::Empty), 0x90);
    assert_refused(V311, 0x30, &[0, 0], DecodeError::TopicName(TopicError::Empty), 0x90);
    assert_refused(V5, 0x30, &[0, 0, 0], DecodeError::NoTopic, 0x82);
    assert_refused(V5, 0x30, &[0, 0, 2, 0x01, 1], DecodeError::NoTopic, 0x82);
    assert_accepted(V5, 0x30, &[0, 0, 3, 0x23, 0, 1]);
}

#[test]
fn topic_alias_0_is_refused() {
    assert_refused(V5, 0x30, &v5(&[0x23, 0, 0]), DecodeError::TopicAliasZero, 0x94);
}

#[test]
fn publish_properties_have_ranges() {
    let value = |identifier| DecodeError::PropertyValue { identifier };
    assert_refused(V5, 0x30, &v5(&[0x01, 2]), value(0x01), 0x82);
    assert_refused(V5, 0x30, &v5(&[0x0B, 0]), value(0x0B), 0x82);
    assert_refused(V5, 0x30, &v5(&[0x0B, 0x80, 0x80, 0x80, 0x80, 1]), DecodeError::VariableByteInteger, 0x81);
    assert_refused(V5, 0x30, &v5(&[0x03, 0, 1, 0xFF]), DecodeError::InvalidUtf8, 0x81);
    assert_refused(V5, 0x30, &v5(&[0x26, 0, 1, 0, 0, 0]), DecodeError::NullCharacter, 0x81);
}

#[test]
fn a_response_topic_is_a_topic_name() {
    let wildcard = DecodeError::ResponseTopic(TopicError::WildcardInName);
    assert_refused(V5, 0x30, &v5(&[0x08, 0, 3, b'a', b'/', b'+']), wildcard, 0x82);
    assert_refused(V5, 0x30, &v5(&[0x08, 0, 0]), DecodeError::ResponseTopic(TopicError::Empty), 0x82);
    assert_refused(V5, 0x30, &v5(&[0x08, 0, 1, 0]), DecodeError::NullCharacter, 0x81);
    assert_accepted(V5, 0x30, &v5(&[0x08, 0, 1, b'a']));
}

#[test]
fn publish_properties_come_once_but_user_properties_and_subscription_identifiers_often() {
    let table: [&[u8]; 6] =
        [&[0x01, 1], &[0x02, 0, 0, 0, 1], &[0x23, 0, 1], &[0x08, 0, 1, b'r'], &[0x09, 0, 0], &[0x03, 0, 0]];
    for property in table {
        let error = DecodeError::DuplicateProperty { identifier: property[0] };
        assert_refused(V5, 0x30, &v5(&property.repeat(2)), error, 0x82);
    }
    assert_accepted(V5, 0x30, &v5(&[0x0B, 7].repeat(3)));
    assert_accepted(V5, 0x30, &v5(&[0x26, 0, 0, 0, 0].repeat(3)));
}

#[test]
fn properties_of_other_packets_are_refused_in_a_publish() {
    for property in [&[0x11, 0, 0, 0, 1][..], &[0x18, 0, 0, 0, 1], &[0x1F, 0, 0], &[0x21, 0, 1], &[0x00], &[0xA6]] {
        let error = DecodeError::PropertyNotAllowed { identifier: property[0] };
        assert_refused(V5, 0x30, &v5(property), error, 0x81);
    }
}

#[test]
fn properties_that_run_past_their_section_or_the_packet_are_refused() {
    assert_refused(V5, 0x30, &[0, 1, b't', 3, 0x02, 0, 0, 0, 0], DecodeError::Truncated, 0x81);
    assert_refused(V5, 0x30, &[0, 1, b't', 9, 0x01, 1], DecodeError::Truncated, 0x81);
    assert_refused(V5, 0x30, &[0, 1, b't'], DecodeError::Truncated, 0x81);
    assert_refused(V5, 0x30, &[0, 1, b't', 0x80], DecodeError::Truncated, 0x81);
    assert_refused(V5, 0x30, &[0, 1, b't', 0x80, 0x00], DecodeError::VariableByteInteger, 0x81);
}

#[test]
fn what_a_server_sends_each_receiver_itself_does_not_forward_as_it_is() {
    let table: [(&[u8], bool); 7] = [
        (&[], true),
        (&[0x01, 1], true),
        (&[0x26, 0, 0, 0, 0, 0x03, 0, 0, 0x08, 0, 1, b'r', 0x09, 0, 0], true),
        (&[0x23, 0, 1], false),
        (&[0x02, 0, 0, 0, 1], false),
        (&[0x0B, 1], false),
        (&[0x01, 1, 0x0B, 1], false),
    ];
    for (section, expected) in table {
        let body = v5(section);
        let publish = decode_publish(0x30, &body, V5).unwrap();
        assert_eq!(publish.properties.forwards_as_is, expected, "{section:x?}");
        assert_eq!(PublishProperties::parse(section), Ok(publish.properties));
    }
}

#[test]
fn the_short_way_to_a_publish_and_to_an_acknowledgement_says_the_same() {
    let body = v5(&[0x23, 0, 7]);
    let publish = decode_publish(0x31, &body, V5).unwrap();
    assert_eq!(decode(Frame { first: 0x31, body: &body }, V5), Ok(Packet::Publish(publish)));
    let body = [0, 9, 0x10];
    let ack = decode_ack(0x40, &body, V5).unwrap();
    assert_eq!(decode(Frame { first: 0x40, body: &body }, V5), Ok(Packet::PubAck(ack)));
    let error = DecodeError::ReservedPacketType { packet_type: 3 };
    assert_eq!(decode_ack(0x32, &[0, 9], V5), Err(error), "a PUBLISH is no acknowledgement");
    assert_eq!(decode_ack(0x60, &[0, 9], V5), Err(DecodeError::ReservedFlags { first: 0x60 }));
}

#[test]
fn acknowledgements_of_3_x_are_two_bytes() {
    for version in [V31, V311] {
        for first in [0x40, 0x50, 0x62, 0x70] {
            assert_accepted(version, first, &[0, 1]);
            assert_refused(version, first, &[0, 1, 0], DecodeError::TrailingBytes, 0x81);
            assert_refused(version, first, &[0], DecodeError::Truncated, 0x81);
        }
    }
}

#[test]
fn acknowledgements_carry_only_their_reason_codes() {
    let publish_codes = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let release_codes = [0x00, 0x92];
    for (first, codes) in
        [(0x40, &publish_codes[..]), (0x50, &publish_codes), (0x62, &release_codes), (0x70, &release_codes)]
    {
        for code in 0..=u8::MAX {
            if codes.contains(&code) {
                assert_accepted(V5, first, &[0, 1, code]);
                assert_accepted(V5, first, &[0, 1, code, 0]);
            } else {
                assert_refused(V5, first, &[0, 1, code], DecodeError::ReasonCode { code }, 0x82);
            }
        }
    }
}

#[test]
fn acknowledgements_have_a_reason_string_and_user_properties_only() {
    for first in [0x40, 0x50, 0x62, 0x70] {
        assert_accepted(V5, first, &[0, 1, 0, 8, 0x1F, 0, 0, 0x26, 0, 0, 0, 0]);
        let error = DecodeError::PropertyNotAllowed { identifier: 0x23 };
        assert_refused(V5, first, &[0, 1, 0, 3, 0x23, 0, 1], error, 0x81);
        let error = DecodeError::DuplicateProperty { identifier: 0x1F };
        assert_refused(V5, first, &[0, 1, 0, 6, 0x1F, 0, 0, 0x1F, 0, 0], error, 0x82);
        assert_refused(V5, first, &[0, 1, 0, 0, 0], DecodeError::TrailingBytes, 0x81);
        assert_refused(V5, first, &[0, 1, 0, 3, 0x1F, 0], DecodeError::Truncated, 0x81);
    }
}
