//! What makes a CONNECT unacceptable.

use super::*;
use topic::TopicError;

const FIRST: u8 = 0x10;

/// Protocol name, level, flags and keep alive, then whatever follows.
fn body(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    [&[0, name.len() as u8], name, &[level, flags, 0, 60], rest].concat()
}

fn v311(flags: u8, rest: &[u8]) -> Vec<u8> {
    body(b"MQTT", 4, flags, rest)
}

fn v31(flags: u8, rest: &[u8]) -> Vec<u8> {
    body(b"MQIsdp", 3, flags, rest)
}

/// A CONNECT of 5.0 with these properties and an empty client identifier.
fn v5_properties(section: &[u8]) -> Vec<u8> {
    body(b"MQTT", 5, 0x02, &[&[section.len() as u8], section, &[0, 0]].concat())
}

/// A CONNECT of 5.0 whose will has these properties.
fn v5_will_properties(section: &[u8]) -> Vec<u8> {
    body(b"MQTT", 5, 0x06, &[&[0, 0, 0, section.len() as u8], section, &[0, 1, b'w', 0, 0]].concat())
}

fn decoded(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    decode_connect(FIRST, body).map(|connect| *connect)
}

#[test]
fn another_protocol_name_and_another_level_are_told_apart() {
    for name in [&b"mqtt"[..], b"MQTT5", b"", b"HTTP", b"MQISDP"] {
        assert_refused(V5, FIRST, &body(name, 4, 2, &[0, 0]), DecodeError::ProtocolName, 0x84);
    }
    let levels: [(&[u8], u8); 8] = [
        (b"MQTT", 0),
        (b"MQTT", 3),
        (b"MQTT", 6),
        (b"MQTT", 0x80),
        (b"MQTT", 0x85),
        (b"MQIsdp", 4),
        (b"MQIsdp", 5),
        (b"MQIsdp", 0x84),
    ];
    for (name, level) in levels {
        assert_refused(V5, FIRST, &body(name, level, 2, &[0, 0]), DecodeError::ProtocolVersion { level }, 0x84);
    }
}

#[test]
fn the_protocol_level_is_judged_before_what_it_would_change() {
    let error = Err(DecodeError::ProtocolVersion { level: 9 });
    assert_eq!(decoded(&body(b"MQTT", 9, 0xFF, &[])), error);
    assert_eq!(decoded(&[0, 4, b'M', b'Q', b'T', b'T', 9]), error, "even if nothing follows");
}

#[test]
fn each_version_is_recognised_and_so_is_a_bridge() {
    let table: [(&[u8], u8, ProtocolVersion, bool); 5] = [
        (b"MQIsdp", 3, V31, false),
        (b"MQIsdp", 0x83, V31, true),
        (b"MQTT", 4, V311, false),
        (b"MQTT", 0x84, V311, true),
        (b"MQTT", 5, V5, false),
    ];
    for (name, level, version, bridge) in table {
        let rest: &[u8] = if version == V5 { &[0, 0, 0] } else { &[0, 0] };
        let body = body(name, level, 2, rest);
        let connect = decoded(&body).unwrap();
        assert_eq!((connect.version, connect.bridge), (version, bridge), "{level:#x}");
        assert_eq!(connect_version(&body), Some(version));
    }
}

#[test]
fn the_version_of_a_malformed_connect_is_still_known() {
    assert_eq!(connect_version(&body(b"MQTT", 5, 0xFF, &[])), Some(V5));
    assert_eq!(connect_version(&[0, 4, b'M', b'Q', b'T', b'T', 4]), Some(V311));
    assert_eq!(connect_version(&[0, 4, b'M', b'Q', b'T', b'T', 9]), None);
    assert_eq!(connect_version(b"GET / HTTP/1.1"), None);
}

#[test]
fn the_reserved_connect_flag_is_refused_except_in_3_1() {
    assert_refused(V5, FIRST, &v311(0x03, &[0, 0]), DecodeError::ReservedConnectFlag, 0x81);
    assert_refused(V5, FIRST, &body(b"MQTT", 5, 0x03, &[0, 0, 0]), DecodeError::ReservedConnectFlag, 0x81);
    assert_accepted(V5, FIRST, &v31(0x03, &[0, 1, b'c']));
}

#[test]
fn will_flags_without_a_will_are_refused_except_in_3_1() {
    for flags in [0x0A, 0x12, 0x22, 0x3A] {
        assert_refused(V5, FIRST, &v311(flags, &[0, 0]), DecodeError::WillFlagsWithoutWill, 0x81);
        assert_refused(V5, FIRST, &body(b"MQTT", 5, flags, &[0, 0, 0]), DecodeError::WillFlagsWithoutWill, 0x81);
        assert_accepted(V5, FIRST, &v31(flags, &[0, 1, b'c']));
    }
}

#[test]
fn will_qos_3_is_refused() {
    let will = [0, 0, 0, 1, b'w', 0, 0];
    assert_refused(V5, FIRST, &v311(0x1E, &will), DecodeError::WillQoS, 0x81);
    assert_refused(V5, FIRST, &v31(0x1E, &will), DecodeError::WillQoS, 0x81);
    assert_refused(V5, FIRST, &body(b"MQTT", 5, 0x1E, &[&[0], &will[..]].concat()), DecodeError::WillQoS, 0x81);
}

#[test]
fn only_5_0_takes_a_password_without_a_user_name() {
    let password = [0, 0, 0, 1, b'p'];
    assert_refused(V5, FIRST, &v311(0x42, &password), DecodeError::PasswordWithoutUserName, 0x81);
    assert_refused(V5, FIRST, &v31(0x42, &password), DecodeError::PasswordWithoutUserName, 0x81);
    let v5 = body(b"MQTT", 5, 0x42, &[0, 0, 0, 0, 1, b'p']);
    assert_eq!(decoded(&v5).unwrap().password, Some(&b"p"[..]));
}

#[test]
fn in_3_1_a_flag_may_announce_a_user_name_that_is_not_there() {
    let body = v31(0xC2, &[0, 1, b'c']);
    let connect = decoded(&body).unwrap();
    assert_eq!((connect.user_name, connect.password), (None, None));
    assert_refused(V5, FIRST, &v311(0xC2, &[0, 1, b'c']), DecodeError::Truncated, 0x81);
    assert_refused(V5, FIRST, &v31(0xC2, &[0, 1, b'c', 0]), DecodeError::Truncated, 0x81);
}

#[test]
fn a_will_topic_is_a_topic_name() {
    let will = |topic: &[u8]| v311(0x06, &[&[0, 0, 0, topic.len() as u8], topic, &[0, 0]].concat());
    for topic in [&b"a/+"[..], b"#", b"a#"] {
        let error = DecodeError::TopicName(TopicError::WildcardInName);
        assert_refused(V5, FIRST, &will(topic), error, 0x90);
    }
    assert_refused(V5, FIRST, &will(b""), DecodeError::TopicName(TopicError::Empty), 0x90);
    assert_refused(V5, FIRST, &will(b"a\0"), DecodeError::NullCharacter, 0x81);
    assert_refused(V5, FIRST, &will(&[0xFF]), DecodeError::InvalidUtf8, 0x81);
}

#[test]
fn strings_have_to_be_utf8_without_null() {
    assert_refused(V5, FIRST, &v311(0x02, &[0, 1, 0xFF]), DecodeError::InvalidUtf8, 0x81);
    assert_refused(V5, FIRST, &v311(0x02, &[0, 2, b'a', 0]), DecodeError::NullCharacter, 0x81);
    assert_refused(V5, FIRST, &v311(0x82, &[0, 0, 0, 3, 0xED, 0xA0, 0x80]), DecodeError::InvalidUtf8, 0x81);
    assert_accepted(V5, FIRST, &v311(0xC2, &[0, 0, 0, 1, b'u', 0, 2, 0, 0xFF]));
}

#[test]
fn client_identifiers_that_the_broker_has_to_answer_are_decoded() {
    assert_eq!(decoded(&v311(0x00, &[0, 0])).unwrap().client_id, "", "empty without clean session");
    let long = [&[0, 40], &[b'x'; 40][..]].concat();
    assert_eq!(decoded(&v31(0x02, &long)).unwrap().client_id.len(), 40);
}

#[test]
fn connect_properties_have_ranges() {
    let table: [(u8, &[u8]); 8] = [
        (property::id::RECEIVE_MAXIMUM, &[0, 0]),
        (property::id::MAXIMUM_PACKET_SIZE, &[0, 0, 0, 0]),
        (property::id::REQUEST_RESPONSE_INFORMATION, &[2]),
        (property::id::REQUEST_RESPONSE_INFORMATION, &[255]),
        (property::id::REQUEST_PROBLEM_INFORMATION, &[2]),
        (property::id::REQUEST_PROBLEM_INFORMATION, &[255]),
        (property::id::REQUEST_PROBLEM_INFORMATION, &[128]),
        (property::id::REQUEST_RESPONSE_INFORMATION, &[128]),
    ];
    for (identifier, value) in table {
        let section = [&[identifier], value].concat();
        assert_refused(V5, FIRST, &v5_properties(&section), DecodeError::PropertyValue { identifier }, 0x82);
    }
}

#[test]
fn connect_properties_come_once_but_user_properties_often() {
    let table: [&[u8]; 8] = [
        &[0x11, 0, 0, 0, 1],
        &[0x21, 0, 1],
        &[0x27, 0, 0, 0, 1],
        &[0x22, 0, 1],
        &[0x19, 1],
        &[0x17, 1],
        &[0x15, 0, 1, b'm'],
        &[0x16, 0, 1, b'd'],
    ];
    for property in table {
        let error = DecodeError::DuplicateProperty { identifier: property[0] };
        assert_refused(V5, FIRST, &v5_properties(&property.repeat(2)), error, 0x82);
    }
    assert_accepted(V5, FIRST, &v5_properties(&[0x26, 0, 1, b'n', 0, 1, b'v'].repeat(3)));
}

#[test]
fn properties_of_other_packets_are_refused() {
    let table: [&[u8]; 7] =
        [&[0x01, 1], &[0x02, 0, 0, 0, 1], &[0x0B, 1], &[0x23, 0, 1], &[0x18, 0, 0, 0, 1], &[0x00], &[0x7F]];
    for property in table {
        let error = DecodeError::PropertyNotAllowed { identifier: property[0] };
        assert_refused(V5, FIRST, &v5_properties(property), error, 0x81);
    }
    for identifier in [0x80, 0xFF, 0x2B, 0x3F] {
        let error = DecodeError::PropertyNotAllowed { identifier };
        assert_refused(V5, FIRST, &v5_properties(&[identifier, 1]), error, 0x81);
    }
}

#[test]
fn will_properties_are_those_of_a_message_and_the_delay() {
    assert_accepted(V5, FIRST, &v5_will_properties(&[0x18, 0, 0, 0, 9, 0x01, 1, 0x02, 0, 0, 0, 1]));
    for property in [&[0x23, 0, 1][..], &[0x0B, 1], &[0x11, 0, 0, 0, 1], &[0x1F, 0, 0]] {
        let error = DecodeError::PropertyNotAllowed { identifier: property[0] };
        assert_refused(V5, FIRST, &v5_will_properties(property), error, 0x81);
    }
    for property in [&[0x18, 0, 0, 0, 1][..], &[0x01, 1], &[0x02, 0, 0, 0, 1], &[0x03, 0, 0], &[0x09, 0, 0]] {
        let error = DecodeError::DuplicateProperty { identifier: property[0] };
        assert_refused(V5, FIRST, &v5_will_properties(&property.repeat(2)), error, 0x82);
    }
    let error = DecodeError::PropertyValue { identifier: 0x01 };
    assert_refused(V5, FIRST, &v5_will_properties(&[0x01, 2]), error, 0x82);
    let error = DecodeError::ResponseTopic(TopicError::WildcardInName);
    assert_refused(V5, FIRST, &v5_will_properties(&[0x08, 0, 1, b'#']), error, 0x82);
}

#[test]
fn a_will_forwards_as_it_is_only_without_delay_and_expiry() {
    for (section, forwards_as_is) in
        [(&[][..], true), (&[0x01, 1], true), (&[0x18, 0, 0, 0, 0], false), (&[0x02, 0, 0, 0, 1], false)]
    {
        let body = v5_will_properties(section);
        let will = decoded(&body).unwrap().will.unwrap();
        assert_eq!(will.properties.forwards_as_is, forwards_as_is, "{section:x?}");
        assert_eq!(will.properties.raw, section);
    }
}

#[test]
fn authentication_data_need_a_method() {
    let data = [0x16, 0, 1, b'd'];
    assert_refused(V5, FIRST, &v5_properties(&data), DecodeError::AuthenticationDataWithoutMethod, 0x82);
    assert_accepted(V5, FIRST, &v5_properties(&[&data[..], &[0x15, 0, 1, b'm']].concat()));
}

#[test]
fn a_connect_ends_where_its_last_field_ends() {
    assert_refused(V5, FIRST, &v311(0x02, &[0, 0, 9]), DecodeError::TrailingBytes, 0x81);
    assert_refused(V5, FIRST, &v5_properties(&[0x26, 0, 9, b'n']), DecodeError::Truncated, 0x81);
    let full = body(b"MQTT", 5, 0xC6, &[0, 0, 1, b'c', 0, 0, 1, b'w', 0, 1, b'p', 0, 1, b'u', 0, 1, b'p']);
    assert_accepted(V5, FIRST, &full);
    for cut in 0..full.len() {
        assert_refused(V5, FIRST, &full[..cut], DecodeError::Truncated, 0x81);
    }
}
