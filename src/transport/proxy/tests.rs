use proptest::prelude::*;

use super::*;

const PROXY: u8 = 0x21;
const LOCAL: u8 = 0x20;
const TCP4: u8 = 0x11;
const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 7, 0x30, 0x39, 0x07, 0x5B];

fn v2(command: u8, family: u8, variable: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend((variable.len() as u16).to_be_bytes());
    bytes.extend(variable);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes
}

fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    v2(PROXY, TCP4, &[&IPV4, tlvs].concat())
}

fn ssl(client: u8, verify: u32, inner: &[u8]) -> Vec<u8> {
    tlv(PP2_TYPE_SSL, &[&[client][..], &verify.to_be_bytes(), inner].concat())
}

fn header_of(bytes: &[u8]) -> Header {
    let (length, header) = parse(bytes).expect("a valid header").expect("a whole header");
    assert_eq!(length, bytes.len());
    header
}

fn from(source: &str) -> Header {
    Header { source: Some(source.parse().unwrap()), ..Header::default() }
}

#[test]
fn version_1_tells_the_source_of_either_family() {
    assert_eq!(header_of(b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 1883\r\n"), from("192.0.2.1:12345"));
    assert_eq!(header_of(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n"), from("[2001:db8::1]:1"));
}

#[test]
fn version_1_unknown_is_taken_whatever_else_it_says() {
    assert_eq!(header_of(b"PROXY UNKNOWN\r\n"), Header::default());
    assert_eq!(header_of(b"PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n"), Header::default());
}

#[test]
fn version_1_is_read_strictly() {
    let lines = [
        "TCP4 192.0.2.1 198.51.100.7 12345",
        "TCP4 192.0.2.1 198.51.100.7 12345 1883 7",
        "TCP4  192.0.2.1 198.51.100.7 12345 1883",
        "TCP4 192.0.2.1 198.51.100.7 12345 1883 ",
        "TCP4 192.0.2.01 198.51.100.7 12345 1883",
        "TCP4 2001:db8::1 198.51.100.7 12345 1883",
        "TCP4 192.0.2.1 2001:db8::1 12345 1883",
        "TCP6 192.0.2.1 198.51.100.7 12345 1883",
        "TCP4 192.0.2.1 198.51.100.7 65536 1883",
        "TCP4 192.0.2.1 198.51.100.7 12345 -1",
        "TCP4 192.0.2.1 198.51.100.7 +12345 1883",
        "TCP4 192.0.2.1 198.51.100.7 012345 1883",
        "TCP4 192.0.2.1 198.51.100.7 12345 ",
        "UDP4 192.0.2.1 198.51.100.7 12345 1883",
        "UNKNOWNS",
        "tcp4 192.0.2.1 198.51.100.7 12345 1883",
        "",
    ];
    for line in lines {
        let bytes = format!("PROXY {line}\r\n");
        assert!(matches!(parse(bytes.as_bytes()), Err(ProxyError::V1Malformed(_))), "{line}");
    }
    let not_text = b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 1883\xFF\r\n";
    assert!(matches!(parse(not_text), Err(ProxyError::V1Malformed(_))));
}

#[test]
fn version_1_ends_within_107_bytes_or_is_refused() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
    assert_eq!(longest.len(), V1_BYTES_MAX);
    assert_eq!(header_of(longest.as_bytes()), Header::default());
    let longer = longest.replace('\r', "x\r");
    assert_eq!(parse(longer.as_bytes()), Err(ProxyError::V1TooLong));
    assert_eq!(parse(&longer.as_bytes()[..V1_BYTES_MAX - 1]), Ok(None));
    assert_eq!(parse(&longer.as_bytes()[..V1_BYTES_MAX]), Err(ProxyError::V1TooLong));
}

#[test]
fn what_is_no_proxy_header_is_refused_at_its_first_wrong_byte() {
    assert_eq!(parse(b""), Ok(None));
    for (bytes, wrong_at) in [(&b"\x10\x0C\0\x04MQTT"[..], 0), (b"PROXIES", 4), (b"\r\n\r\n\0\r\nQUIT\r", 11)] {
        assert_eq!(parse(&bytes[..wrong_at]), Ok(None), "{bytes:?}");
        assert_eq!(parse(&bytes[..=wrong_at]), Err(ProxyError::Signature), "{bytes:?}");
    }
}

#[test]
fn version_2_tells_the_source_of_either_family() {
    assert_eq!(header_of(&v2(PROXY, TCP4, &IPV4)), from("192.0.2.1:12345"));
    let mut ipv6 = [0; 36];
    ipv6[..2].copy_from_slice(&[0x20, 0x01]);
    ipv6[32..].copy_from_slice(&[0x30, 0x39, 0x07, 0x5B]);
    assert_eq!(header_of(&v2(PROXY, 0x21, &ipv6)), from("[2001::]:12345"));
}

#[test]
fn version_2_without_an_ip_address_is_taken() {
    assert_eq!(header_of(&v2(PROXY, 0x31, &[b'/'; 216])), Header::default());
    assert_eq!(header_of(&v2(PROXY, 0x00, &[])), Header::default());
}

#[test]
fn version_2_local_is_taken_and_its_content_discarded() {
    let local = Header { local: true, ..Header::default() };
    assert_eq!(header_of(&v2(LOCAL, 0x00, &[])), local);
    assert_eq!(header_of(&v2(LOCAL, TCP4, &IPV4)), local);
    assert_eq!(header_of(&v2(LOCAL, 0x77, b"not even a TLV")), local);
}

#[test]
fn version_2_with_an_unknown_command_version_or_family_is_refused() {
    for command in [0x22, 0x11, 0x31, 0x2F] {
        assert_eq!(parse(&v2(command, TCP4, &IPV4)), Err(ProxyError::Command(command)));
    }
    // The datagram kinds among them: no client of a stream can have come by UDP.
    for family in [0x01, 0x10, 0x12, 0x13, 0x22, 0x32, 0x41] {
        assert_eq!(parse(&v2(PROXY, family, &[0; 216])), Err(ProxyError::Family(family)));
    }
}

#[test]
fn version_2_shorter_than_its_addresses_is_refused() {
    for (family, needed) in [(TCP4, 12), (0x21, 36), (0x31, 216)] {
        assert!(parse(&v2(PROXY, family, &vec![0; needed])).unwrap().is_some());
        assert_eq!(parse(&v2(PROXY, family, &vec![0; needed - 1])), Err(ProxyError::Addresses));
    }
}

#[test]
fn version_2_announcing_too_much_is_refused_before_it_arrives() {
    let mut bytes = v2(PROXY, TCP4, &[]);
    bytes[14..16].copy_from_slice(&(V2_VARIABLE_BYTES_MAX as u16 + 1).to_be_bytes());
    assert_eq!(parse(&bytes), Err(ProxyError::V2TooLong(V2_VARIABLE_BYTES_MAX as u16 + 1)));
    let largest = tlv(0x28, &vec![0; V2_VARIABLE_BYTES_MAX - IPV4.len() - 3]);
    assert_eq!(header_of(&with_tlvs(&largest)), from("192.0.2.1:12345"));
}

#[test]
fn the_common_name_of_a_verified_certificate_is_told() {
    let name = tlv(PP2_SUBTYPE_SSL_CN, "sensor-ü".as_bytes());
    let others = [tlv(0x21, b"TLSv1.3"), name, tlv(0x23, b"TLS_AES_128_GCM_SHA256")].concat();
    for client in [PP2_CLIENT_SSL | PP2_CLIENT_CERT_CONN, PP2_CLIENT_SSL | PP2_CLIENT_CERT_SESS, 0x07] {
        let bytes = with_tlvs(&[tlv(0x01, b"mqtt"), ssl(client, 0, &others), tlv(0xEA, b"\x01vpce")].concat());
        let expected = Header { common_name: Some("sensor-ü".into()), tls: true, ..from("192.0.2.1:12345") };
        assert_eq!(header_of(&bytes), expected);
    }
}

#[test]
fn the_common_name_of_a_certificate_that_was_not_verified_is_left_out() {
    let name = tlv(PP2_SUBTYPE_SSL_CN, b"admin");
    for (client, verify) in [(0x07, 1), (0x07, u32::MAX), (PP2_CLIENT_SSL, 0), (0x02, 0), (0, 0)] {
        let header = header_of(&with_tlvs(&ssl(client, verify, &name)));
        assert_eq!((header.common_name, header.tls), (None, client & PP2_CLIENT_SSL != 0), "{client} {verify}");
    }
}

#[test]
fn truncated_proxy_v2_tlvs_are_refused() {
    for tlvs in [&[0x04][..], &[0x04, 0], &[0x04, 0, 1], &[0x04, 0, 2, 7], &[0x04, 0xFF, 0xFF, 7]] {
        assert_eq!(parse(&with_tlvs(tlvs)), Err(ProxyError::TlvTruncated(0x04)), "{tlvs:?}");
    }
    // One that reaches out of the TLV that it is in, into bytes that are there.
    let reaching_out = [ssl(0x07, 0, &[PP2_SUBTYPE_SSL_CN, 0, 5, b'a']), tlv(0x04, b"padding")].concat();
    assert_eq!(parse(&with_tlvs(&reaching_out)), Err(ProxyError::TlvTruncated(PP2_SUBTYPE_SSL_CN)));
}

#[test]
fn absurd_proxy_v2_tlvs_are_refused() {
    let name = |value: &[u8]| ssl(0x07, 0, &tlv(PP2_SUBTYPE_SSL_CN, value));
    let twice = [tlv(PP2_SUBTYPE_SSL_CN, b"one"), tlv(PP2_SUBTYPE_SSL_CN, b"two")].concat();
    let absurd = [
        (tlv(PP2_TYPE_SSL, &[0x07, 0, 0, 0]), PP2_TYPE_SSL),
        ([name(b"one"), name(b"two")].concat(), PP2_TYPE_SSL),
        (ssl(0x07, 0, &twice), PP2_SUBTYPE_SSL_CN),
        (name(b""), PP2_SUBTYPE_SSL_CN),
        (name(b"admin\0.example"), PP2_SUBTYPE_SSL_CN),
        (name(b"admin\n2026 client let in"), PP2_SUBTYPE_SSL_CN),
        (name(b"sensor-\xFF"), PP2_SUBTYPE_SSL_CN),
        (name(&[b'x'; COMMON_NAME_BYTES_MAX + 1]), PP2_SUBTYPE_SSL_CN),
        (tlv(PP2_TYPE_CRC32C, &[0; 3]), PP2_TYPE_CRC32C),
    ];
    for (tlvs, kind) in absurd {
        assert_eq!(parse(&with_tlvs(&tlvs)), Err(ProxyError::TlvMalformed(kind)), "{tlvs:x?}");
    }
    // Not only where the name would count.
    let unverified = ssl(PP2_CLIENT_SSL, 1, &tlv(PP2_SUBTYPE_SSL_CN, b"\xFF"));
    assert_eq!(parse(&with_tlvs(&unverified)), Err(ProxyError::TlvMalformed(PP2_SUBTYPE_SSL_CN)));
}

#[test]
fn a_checksum_is_held_to() {
    // The check value of CRC-32C, from the catalogue of CRC algorithms: of "123456789".
    let sum = !b"123456789".iter().fold(!0, |sum, byte| step(sum, *byte));
    assert_eq!(sum, 0xE306_9283);

    let mut bytes = with_tlvs(&[tlv(PP2_TYPE_CRC32C, &[0; 4]), tlv(0x04, b"more")].concat());
    let sum = !bytes.iter().fold(!0, |sum, byte| step(sum, *byte));
    let at = V2_FIXED_BYTES + IPV4.len() + 3;
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(header_of(&bytes), from("192.0.2.1:12345"));
    // The addresses, the checksum itself, the value behind it.
    let (addresses, last) = (V2_FIXED_BYTES..V2_FIXED_BYTES + IPV4.len(), bytes.len() - 1);
    for wrong in addresses.chain(at..at + 4).chain([last]) {
        let mut bytes = bytes.clone();
        bytes[wrong] ^= 1;
        assert_eq!(parse(&bytes), Err(ProxyError::Checksum), "byte {wrong}");
    }
}

proptest! {
    #[test]
    fn a_header_is_the_same_however_it_arrives(
        address in any::<([u8; 4], [u8; 4], u16, u16)>(),
        tlvs in prop::collection::vec((0x30u8.., prop::collection::vec(any::<u8>(), 0..40)), 0..4),
        name in prop::option::of("[a-z0-9 ü.-]{1,64}"),
        behind in prop::collection::vec(any::<u8>(), 0..20),
        is_v1 in any::<bool>(),
    ) {
        let (source, destination, source_port, destination_port) = address;
        let mut header = Header { source: Some((source, source_port).into()), ..Header::default() };
        let mut bytes = if is_v1 {
            let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
            format!("PROXY TCP4 {source} {destination} {source_port} {destination_port}\r\n").into_bytes()
        } else {
            let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
            let mut variable = [&source[..], &destination, &ports].concat();
            tlvs.iter().for_each(|(kind, value)| variable.extend(tlv(*kind, value)));
            if let Some(name) = name {
                variable.extend(ssl(0x07, 0, &tlv(PP2_SUBTYPE_SSL_CN, name.as_bytes())));
                (header.tls, header.common_name) = (true, Some(name));
            }
            v2(PROXY, TCP4, &variable)
        };
        let whole = bytes.len();
        bytes.extend(behind);
        for end in 0..=bytes.len() {
            let expected = (end >= whole).then(|| (whole, header.clone()));
            prop_assert_eq!(parse(&bytes[..end]), Ok(expected));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_beyond_its_bound(
        version in 0u8..3,
        variable in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = match version {
            0 => variable,
            1 => [V1_SIGNATURE, &variable[..]].concat(),
            _ => with_tlvs(&variable),
        };
        if let Ok(Some((length, _))) = parse(&bytes) {
            prop_assert!(length <= bytes.len() && length <= V2_FIXED_BYTES + V2_VARIABLE_BYTES_MAX);
        }
    }
}
