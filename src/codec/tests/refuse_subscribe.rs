//! What makes SUBSCRIBE, UNSUBSCRIBE and their acknowledgements unacceptable.

use super::*;
use topic::TopicError;

/// A SUBSCRIBE of one filter.
fn subscribe(version: ProtocolVersion, filter: &[u8], options: u8) -> Vec<u8> {
    [&unsubscribe(version, filter)[..], &[options]].concat()
}

fn unsubscribe(version: ProtocolVersion, filter: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == V5 { &[0] } else { &[] };
    [&[0, 1], properties, &[0, filter.len() as u8], filter].concat()
}

fn v5(section: &[u8]) -> Vec<u8> {
    [&[0, 1, section.len() as u8], section, &[0, 1, b'f', 0]].concat()
}

#[test]
fn a_packet_without_filters_is_refused() {
    for version in VERSIONS {
        let body: &[u8] = if version == V5 { &[0, 1, 0] } else { &[0, 1] };
        assert_refused(version, 0x82, body, DecodeError::NoFilters, 0x82);
        assert_refused(version, 0xA2, body, DecodeError::NoFilters, 0x82);
    }
}

#[test]
fn packet_identifier_0_is_refused() {
    for version in VERSIONS {
        for first in [0x82, 0xA2, 0x90, 0xB0] {
            assert_refused(version, first, &[0, 0, 0, 1, b'f', 0], DecodeError::PacketIdentifierZero, 0x82);
        }
    }
}

#[test]
fn filters_obey_the_wildcard_rules() {
    let table: [(&[u8], TopicError); 7] = [
        (b"", TopicError::Empty),
        (b"a+", TopicError::SingleLevelWildcard),
        (b"#/a", TopicError::MultiLevelWildcard),
        (b"a#", TopicError::MultiLevelWildcard),
        (b"$share/g", TopicError::Shared),
        (b"$share//f", TopicError::Shared),
        (b"$share/g+/f", TopicError::Shared),
    ];
    for version in VERSIONS {
        for (filter, error) in table {
            let error = DecodeError::TopicFilter(error);
            assert_refused(version, 0x82, &subscribe(version, filter, 0), error, 0x8F);
            assert_refused(version, 0xA2, &unsubscribe(version, filter), error, 0x8F);
        }
        assert_refused(version, 0x82, &subscribe(version, b"a\0", 0), DecodeError::NullCharacter, 0x81);
        assert_refused(version, 0xA2, &unsubscribe(version, &[0xFF]), DecodeError::InvalidUtf8, 0x81);
    }
}

#[test]
fn every_filter_is_checked() {
    let body = [&subscribe(V311, b"a", 0)[..], &[0, 1, b'b', 1, 0, 2, b'c', b'#', 0]].concat();
    let error = DecodeError::TopicFilter(TopicError::MultiLevelWildcard);
    assert_refused(V311, 0x82, &body, error, 0x8F);
    let body = [&subscribe(V311, b"a", 0)[..], &[0, 1, b'b']].concat();
    assert_refused(V311, 0x82, &body, DecodeError::Truncated, 0x81);
    let body = [&unsubscribe(V311, b"a")[..], &[0]].concat();
    assert_refused(V311, 0xA2, &body, DecodeError::Truncated, 0x81);
}

#[test]
fn every_options_byte_is_judged_as_the_specification_says() {
    for options in 0..=u8::MAX {
        let v5_body = subscribe(V5, b"f", options);
        if options & 0x03 == 3 {
            assert_refused(V5, 0x82, &v5_body, DecodeError::SubscriptionQoS, 0x82);
        } else if options & 0xC0 != 0 {
            assert_refused(V5, 0x82, &v5_body, DecodeError::ReservedSubscriptionOptions, 0x81);
        } else if options & 0x30 == 0x30 {
            assert_refused(V5, 0x82, &v5_body, DecodeError::RetainHandling, 0x82);
        } else {
            assert_accepted(V5, 0x82, &v5_body);
            assert_eq!(SubscriptionOptions::from_byte(options, V5).map(SubscriptionOptions::to_byte), Ok(options));
        }
        for version in [V31, V311] {
            let decoded = decode_one(&packet(0x82, &subscribe(version, b"f", options)), version).is_ok();
            assert_eq!(decoded, options < 3, "{version:?} {options:#x}");
        }
    }
}

#[test]
fn no_local_does_not_go_with_a_shared_subscription() {
    assert_refused(V5, 0x82, &subscribe(V5, b"$share/g/f", 0x04), DecodeError::NoLocalOnShared, 0x82);
    assert_accepted(V5, 0x82, &subscribe(V5, b"$share/g/f", 0x08));
    assert_accepted(V5, 0x82, &subscribe(V5, b"$shared/g/f", 0x04));
}

#[test]
fn a_subscription_identifier_comes_once_and_is_not_0() {
    assert_accepted(V5, 0x82, &v5(&[0x0B, 1]));
    assert_accepted(V5, 0x82, &v5(&[0x0B, 0xFF, 0xFF, 0xFF, 0x7F]));
    assert_refused(V5, 0x82, &v5(&[0x0B, 0]), DecodeError::PropertyValue { identifier: 0x0B }, 0x82);
    assert_refused(V5, 0x82, &v5(&[0x0B, 1, 0x0B, 2]), DecodeError::DuplicateProperty { identifier: 0x0B }, 0x82);
    assert_refused(V5, 0x82, &v5(&[0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), DecodeError::VariableByteInteger, 0x81);
}

#[test]
fn properties_of_other_packets_are_refused() {
    let error = DecodeError::PropertyNotAllowed { identifier: 0x1F };
    assert_refused(V5, 0x82, &v5(&[0x1F, 0, 0]), error, 0x81);
    let error = DecodeError::PropertyNotAllowed { identifier: 0x0B };
    assert_refused(V5, 0xA2, &[0, 1, 2, 0x0B, 1, 0, 1, b'f'], error, 0x81);
    assert_refused(V5, 0x90, &[0, 1, 2, 0x0B, 1, 0], error, 0x81);
    assert_refused(V5, 0xB0, &[0, 1, 2, 0x0B, 1, 0], error, 0x81);
}

#[test]
fn subacks_have_codes_and_only_those_of_the_specification() {
    let v5_codes = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
    for code in 0..=u8::MAX {
        let refused = DecodeError::ReasonCode { code };
        if v5_codes.contains(&code) {
            assert_accepted(V5, 0x90, &[0, 1, 0, 0, code]);
        } else {
            assert_refused(V5, 0x90, &[0, 1, 0, 0, code], refused, 0x82);
        }
        for version in [V31, V311] {
            if matches!(code, 0 | 1 | 2 | 0x80) {
                assert_accepted(version, 0x90, &[0, 1, 0, code]);
            } else {
                assert_refused(version, 0x90, &[0, 1, 0, code], refused, 0x82);
            }
        }
    }
    assert_refused(V5, 0x90, &[0, 1, 0], DecodeError::NoReasonCodes, 0x82);
    assert_refused(V311, 0x90, &[0, 1], DecodeError::NoReasonCodes, 0x82);
}

#[test]
fn unsubacks_have_codes_in_5_0_only() {
    for code in 0..=u8::MAX {
        if [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91].contains(&code) {
            assert_accepted(V5, 0xB0, &[0, 1, 0, code]);
        } else {
            assert_refused(V5, 0xB0, &[0, 1, 0, code], DecodeError::ReasonCode { code }, 0x82);
        }
    }
    assert_refused(V5, 0xB0, &[0, 1, 0], DecodeError::NoReasonCodes, 0x82);
    for version in [V31, V311] {
        assert_accepted(version, 0xB0, &[0, 1]);
        assert_refused(version, 0xB0, &[0, 1, 0], DecodeError::TrailingBytes, 0x81);
    }
}
