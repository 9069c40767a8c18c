//! Fixed headers, and what makes CONNACK, DISCONNECT, AUTH and the pings unacceptable.

use super::*;

#[test]
fn reserved_flags_of_the_fixed_header_are_refused() {
    for version in VERSIONS {
        for first in 0..=u8::MAX {
            let (packet_type, flags) = (first >> 4, first & 0x0F);
            if packet_type == 3 {
                continue;
            }
            let error = decode(Frame { first, body: &[] }, version).err();
            let is_reserved_type = packet_type == 0 || (packet_type == 15 && version < V5 && flags == 0);
            let asked = if matches!(packet_type, 6 | 8 | 10) { 0x02 } else { 0x00 };
            let may_dup = version == V31 && asked == 0x02 && flags == 0x0A;
            if is_reserved_type {
                assert_eq!(error, Some(DecodeError::ReservedPacketType { packet_type }));
            } else if flags == asked || may_dup {
                assert_ne!(error, Some(DecodeError::ReservedFlags { first }));
            } else {
                assert_eq!(error, Some(DecodeError::ReservedFlags { first }), "{version:?}");
            }
        }
    }
    assert_eq!(DecodeError::ReservedFlags { first: 0x11 }.reason(), ReasonCode::MalformedPacket);
    assert_eq!(DecodeError::ReservedPacketType { packet_type: 0 }.reason(), ReasonCode::MalformedPacket);
}

#[test]
fn in_3_1_what_is_sent_again_may_say_so() {
    assert_accepted(V31, 0x6A, &[0, 1]);
    assert_accepted(V31, 0x8A, &[0, 1, 0, 1, b'f', 0]);
    assert_accepted(V31, 0xAA, &[0, 1, 0, 1, b'f']);
}

#[test]
fn pings_have_no_body() {
    for version in VERSIONS {
        for first in [0xC0, 0xD0] {
            assert_accepted(version, first, &[]);
            assert_refused(version, first, &[0], DecodeError::TrailingBytes, 0x81);
        }
    }
}

#[test]
fn connack_flags_are_reserved_but_for_session_present() {
    assert_refused(V311, 0x20, &[2, 0], DecodeError::ReservedConnAckFlags, 0x81);
    assert_refused(V5, 0x20, &[0x80, 0, 0], DecodeError::ReservedConnAckFlags, 0x81);
    let bytes = packet(0x20, &[0xFF, 0]);
    assert_eq!(decode_one(&bytes, V31), Ok(Packet::ConnAck(ConnAck::default())), "3.1 does not use them");
}

#[test]
fn connacks_carry_only_their_codes() {
    for code in 0..=u8::MAX {
        let v5 = matches!(code, 0 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F);
        assert_eq!(decode_one(&packet(0x20, &[0, code, 0]), V5).is_ok(), v5, "{code:#x}");
        assert_eq!(decode_one(&packet(0x20, &[0, code]), V311).is_ok(), code <= 5, "{code:#x}");
    }
    assert_refused(V311, 0x20, &[0, 6], DecodeError::ReasonCode { code: 6 }, 0x82);
    assert_refused(V311, 0x20, &[0, 0, 0], DecodeError::TrailingBytes, 0x81);
    assert_refused(V5, 0x20, &[0, 0], DecodeError::Truncated, 0x81);
    assert_refused(V5, 0x20, &[0, 0, 0, 0], DecodeError::TrailingBytes, 0x81);
}

#[test]
fn connack_properties_have_ranges_and_come_once() {
    let connack = |section: &[u8]| [&[0, 0, section.len() as u8], section].concat();
    for section in [&[0x21, 0, 0][..], &[0x27, 0, 0, 0, 0], &[0x24, 2], &[0x25, 2], &[0x28, 2], &[0x29, 2], &[0x2A, 2]]
    {
        let error = DecodeError::PropertyValue { identifier: section[0] };
        assert_refused(V5, 0x20, &connack(section), error, 0x82);
    }
    let all: [&[u8]; 16] = [
        &[0x11, 0, 0, 0, 1],
        &[0x21, 0, 1],
        &[0x24, 1],
        &[0x25, 1],
        &[0x27, 0, 0, 0, 1],
        &[0x12, 0, 0],
        &[0x22, 0, 1],
        &[0x1F, 0, 0],
        &[0x28, 1],
        &[0x29, 1],
        &[0x2A, 1],
        &[0x13, 0, 1],
        &[0x1A, 0, 0],
        &[0x1C, 0, 0],
        &[0x15, 0, 0],
        &[0x16, 0, 0],
    ];
    assert_accepted(V5, 0x20, &connack(&all.concat()));
    for property in all {
        let error = DecodeError::DuplicateProperty { identifier: property[0] };
        assert_refused(V5, 0x20, &connack(&property.repeat(2)), error, 0x82);
    }
    assert_refused(V5, 0x20, &connack(&[0x16, 0, 0]), DecodeError::AuthenticationDataWithoutMethod, 0x82);
    let error = DecodeError::PropertyNotAllowed { identifier: 0x23 };
    assert_refused(V5, 0x20, &connack(&[0x23, 0, 1]), error, 0x81);
}

#[test]
fn a_disconnect_carries_reasons_and_properties_in_5_0_only() {
    for version in [V31, V311] {
        assert_accepted(version, 0xE0, &[]);
        assert_refused(version, 0xE0, &[0], DecodeError::TrailingBytes, 0x81);
    }
    for code in 0..=u8::MAX {
        let known = matches!(code, 0 | 4 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2);
        assert_eq!(decode_one(&packet(0xE0, &[code]), V5).is_ok(), known, "{code:#x}");
    }
    assert_refused(V5, 0xE0, &[1], DecodeError::ReasonCode { code: 1 }, 0x82);
    assert_accepted(V5, 0xE0, &[4, 11, 0x11, 0, 0, 0, 1, 0x1F, 0, 0, 0x1C, 0, 0]);
    let error = DecodeError::DuplicateProperty { identifier: 0x11 };
    assert_refused(V5, 0xE0, &[0, 10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], error, 0x82);
    let error = DecodeError::PropertyNotAllowed { identifier: 0x21 };
    assert_refused(V5, 0xE0, &[0, 3, 0x21, 0, 1], error, 0x81);
    assert_refused(V5, 0xE0, &[0, 0, 0], DecodeError::TrailingBytes, 0x81);
}

#[test]
fn an_auth_names_its_method_unless_it_says_nothing() {
    assert_accepted(V5, 0xF0, &[]);
    assert_accepted(V5, 0xF0, &[0x18, 8, 0x15, 0, 1, b'm', 0x16, 0, 1, b'd']);
    assert_refused(V5, 0xF0, &[0x18, 4, 0x16, 0, 1, b'd'], DecodeError::NoAuthenticationMethod, 0x82);
    assert_refused(V5, 0xF0, &[0x18, 0], DecodeError::NoAuthenticationMethod, 0x82);
    assert_refused(V5, 0xF0, &[0x18], DecodeError::Truncated, 0x81);
    assert_refused(V5, 0xF0, &[0x01, 0], DecodeError::ReasonCode { code: 1 }, 0x82);
    assert_refused(V5, 0xF0, &[0x18, 4, 0x15, 0, 1, b'm', 0], DecodeError::TrailingBytes, 0x81);
    let error = DecodeError::DuplicateProperty { identifier: 0x15 };
    assert_refused(V5, 0xF0, &[0x18, 6, 0x15, 0, 0, 0x15, 0, 0], error, 0x82);
}
