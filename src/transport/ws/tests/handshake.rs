use super::*;

const LINES: [&str; 6] = [
    "Host: broker.example\r\n",
    "Upgrade: websocket\r\n",
    "Connection: Upgrade\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Protocol: mqtt\r\n",
    "Sec-WebSocket-Version: 13\r\n",
];

fn answer(request: &str, limits: Limits) -> (Result<(), Error>, String) {
    let mut seen = Seen::new(limits);
    seen.receive(request.as_bytes());
    assert!(seen.out.is_empty());
    assert_eq!(seen.session.is_open(), seen.reply.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(seen.session.is_over(), seen.result.is_err());
    (seen.result, String::from_utf8(seen.reply).expect("text"))
}

#[track_caller]
fn assert_accepted(request: &str) {
    let (result, text) = answer(request, limits());
    assert_eq!((result, text.as_str()), (Ok(()), ANSWER), "{request}");
}

#[track_caller]
fn assert_refused(request: &str, refusal: Refusal) {
    let (result, text) = answer(request, limits());
    assert_eq!(result, Err(Error::Handshake(refusal)), "{request}");
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.starts_with(&format!("HTTP/1.1 {} ", refusal.status())), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    assert!(head.contains("close"), "{head}");
    assert_eq!(body, format!("{refusal}\n"));
}

fn assert_malformed(request: &str) {
    let (result, text) = answer(request, limits());
    assert!(matches!(result, Err(Error::Handshake(Refusal::Malformed(_)))), "{request}: {result:?}");
    assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
}

#[test]
fn the_handshake_of_the_rfc_is_answered_with_101() {
    assert_accepted(REQUEST);
}

#[test]
fn names_and_tokens_are_read_in_any_case_and_order() {
    assert_accepted(&REQUEST.replace("Upgrade: websocket", "UPGRADE: h2c,\tWebSocket"));
    assert_accepted(&REQUEST.replace("Connection: Upgrade", "connection: keep-alive, upgrade"));
    assert_accepted(&REQUEST.replace("/mqtt ", "/mqtt?token=1 "));
    let reversed: String = LINES.into_iter().rev().collect();
    assert_accepted(&format!("GET /mqtt HTTP/1.1\r\n{reversed}\r\n"));
}

#[test]
fn the_sub_protocol_of_mqtt_is_preferred_and_that_of_3_1_taken() {
    let offer = |lines: &str| REQUEST.replace("Sec-WebSocket-Protocol: mqtt", lines);
    assert_accepted(&offer("Sec-WebSocket-Protocol: mqttv3.1, mqtt"));
    assert_accepted(&offer("Sec-WebSocket-Protocol: mqttv3.1\r\nSec-WebSocket-Protocol: x, mqtt"));
    let (result, text) = answer(&offer("Sec-WebSocket-Protocol: mqttv3.1"), limits());
    assert_eq!((result, text), (Ok(()), ANSWER.replace("Protocol: mqtt\r", "Protocol: mqttv3.1\r")));
    for refused in ["Sec-WebSocket-Protocol: amqp", "Sec-WebSocket-Protocol: MQTT", "X: y"] {
        assert_malformed(&offer(refused));
    }
}

#[test]
fn compression_offered_is_not_accepted() {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    assert_accepted(&REQUEST.replace("\r\n\r\n", &format!("\r\n{offer}")));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let without = |line: &str| REQUEST.replace(line, "");
    assert_refused(&REQUEST.replace("/mqtt ", "/ "), Refusal::Path);
    assert_refused(&REQUEST.replace("/mqtt ", "/mqtt/ "), Refusal::Path);
    assert_refused(&without(LINES[1]), Refusal::NoUpgrade);
    assert_refused(&without(LINES[2]), Refusal::NoUpgrade);
    assert_refused(&without(LINES[5]), Refusal::Version);
    assert_refused(&REQUEST.replace("Version: 13", "Version: 8"), Refusal::Version);
    assert_refused(&without(LINES[0]), Refusal::Malformed("a Host line is missing"));
    [3, 4].into_iter().for_each(|line| assert_malformed(&without(LINES[line])));
    for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZQ==="] {
        assert_malformed(&REQUEST.replace("dGhlIHNhbXBsZSBub25jZQ==", key));
    }
    assert_malformed(&REQUEST.replace("HTTP/1.1", "HTTP/1.0"));
    assert_malformed(&REQUEST.replace("Host:", "Content-Length: 4\r\nHost:"));
    assert_malformed(&REQUEST.replace("Host:", "Transfer-Encoding: chunked\r\nHost:"));
}

#[test]
fn a_line_that_decides_something_must_not_be_there_twice() {
    for line in [LINES[0], LINES[3], LINES[5], "Origin: https://a.example\r\n"] {
        assert_malformed(&REQUEST.replace("Upgrade: w", &format!("{line}{line}Upgrade: w")));
    }
}

#[test]
fn what_is_no_http_is_refused_at_its_first_wrong_byte() {
    let connect = b"\x10\x0C\0\x04MQTT\x04\x02\0\x3C\0\0";
    for bytes in [&connect[..1], b"\x16\x03\x01", b"POST", b"GEx", b"\r"] {
        let mut seen = Seen::new(limits());
        seen.receive(bytes);
        assert!(matches!(seen.result, Err(Error::Handshake(Refusal::Malformed(_)))), "{bytes:?}");
        assert!(seen.reply.starts_with(b"HTTP/1.1 400 ") && seen.session.is_over());
    }
    // Ends of lines as HTTP has them, so that nobody before us sees another request than we do.
    assert_malformed(&format!("{}\n\n\r\n\r\n", REQUEST.trim_end()));
}

#[test]
fn a_web_page_of_another_origin_is_refused_and_a_client_without_one_is_not() {
    let origins = Origins::These(vec!["https://a.example".into(), "https://b.example:8443".into()]);
    let limits = || Limits { origins: origins.clone(), ..limits() };
    let with = |origin: &str| REQUEST.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
    for allowed in ["https://a.example", "https://B.example:8443"] {
        assert_eq!(answer(&with(allowed), limits()).0, Ok(()), "{allowed}");
    }
    for refused in ["http://a.example", "https://a.example.evil", "https://b.example", "null", ""] {
        let (result, text) = answer(&with(refused), limits());
        assert_eq!(result, Err(Error::Handshake(Refusal::Origin)), "{refused}");
        assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    }
    assert_eq!(answer(REQUEST, limits()).0, Ok(()));
    let any = Limits { origins: Origins::Any, ..limits() };
    assert_eq!(answer(&with("https://anything.example"), any).0, Ok(()));
}

#[test]
fn unless_origins_are_named_a_page_may_connect_only_to_the_host_it_is_from() {
    let with = |origin: &str, host: &str| {
        REQUEST.replace("Host: broker.example", &format!("Origin: {origin}\r\nHost: {host}"))
    };
    for (origin, host) in [
        ("https://broker.example", "broker.example"),
        ("http://Broker.Example:8000", "broker.example:8083"),
        ("http://[::1]:8000", "[::1]"),
        ("http://[::1]", "[::1]:8083"),
    ] {
        assert_accepted(&with(origin, host));
    }
    for (origin, host) in [
        ("https://evil.example", "localhost:8083"),
        ("https://evil.example", "broker.example"),
        ("https://broker.example.evil.example", "broker.example"),
        ("https://evil-broker.example", "broker.example"),
        ("http://[::2]", "[::1]"),
        ("https://", ":8083"),
        ("null", "null"),
        ("broker.example", "broker.example"),
        ("", ""),
    ] {
        assert_refused(&with(origin, host), Refusal::Origin);
    }
    assert_accepted(REQUEST);
}

#[test]
fn a_request_beyond_its_limits_is_refused_before_it_is_complete() {
    let long = |length: usize| REQUEST.replace("Host:", &format!("X: {}\r\nHost:", "x".repeat(length)));
    let longest = limits().head_bytes_max - long(0).len();
    assert_accepted(&long(longest));
    assert_refused(&long(longest + 1), Refusal::TooLarge);
    let endless = format!("GET /{}", "x".repeat(limits().head_bytes_max));
    assert_refused(&endless, Refusal::TooLarge);
    assert_refused(&REQUEST.replace("Host:", &format!("{}Host:", "X: y\r\n".repeat(100))), Refusal::TooLarge);
}

#[test]
fn nothing_is_kept_of_a_request_that_was_answered() {
    let mut seen = Seen::new(limits());
    for byte in REQUEST.as_bytes() {
        seen.receive(&[*byte]);
    }
    assert_eq!(seen.reply, ANSWER.as_bytes());
    assert_eq!(seen.session.phase, Phase::Open);
    assert!(size_of::<Session>() <= 88);
}

#[test]
fn frames_right_behind_the_request_are_taken() {
    let mut seen = Seen::new(limits());
    seen.receive(&[REQUEST.as_bytes(), &frame_of(0x82, b"early")].concat());
    assert_eq!((seen.reply.as_slice(), seen.out.as_slice()), (ANSWER.as_bytes(), &b"early"[..]));
}
