use super::*;
use crate::codec::{Framed, frame as packet};

#[test]
fn the_masked_frame_of_the_rfc_is_read() {
    // §5.7, as a binary frame.
    let mut seen = Seen::open();
    seen.receive(&[0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58]);
    assert_eq!((seen.result, seen.out.as_slice(), seen.reply.as_slice()), (Ok(()), &b"Hello"[..], &[][..]));
}

#[test]
fn packets_are_split_over_frames_and_packed_into_frames() {
    let mut seen = Seen::open();
    let packets = b"\xC0\x00\xE0\x00\x30\x04\x00\x01a!\xC0\x00";
    for split in 0..=packets.len() {
        let (front, back) = packets.split_at(split);
        seen.out.clear();
        seen.receive(&[frame_of(0x82, front), frame_of(0x82, back)].concat());
        assert_eq!((seen.result, seen.out.as_slice()), (Ok(()), &packets[..]));
    }
}

#[test]
fn a_frame_shorter_than_the_packet_it_announces_gives_no_more_than_it_holds() {
    // A PUBLISH of 100 bytes, of which the frame holds the first four.
    let mut seen = Seen::open();
    seen.receive(&frame_of(0x82, b"\x30\x64\x00\x01"));
    assert_eq!(seen.out, b"\x30\x64\x00\x01");
    assert_eq!(packet(&seen.out, u32::MAX), Ok(Framed::Incomplete { needed: Some(102) }));
    // The rest may come in other frames, or never.
    seen.receive(&frame_of(0x82, &[b'a'; 97]));
    assert_eq!(seen.out.len(), 101);
    seen.receive(&frame_of(0x88, &[])).receive(&frame_of(0x82, b"a"));
    assert_eq!((seen.result, seen.out.len(), seen.session.is_over()), (Ok(()), 101, true));
}

#[test]
fn fragments_join_with_control_frames_in_between() {
    let mut seen = Seen::open();
    seen.receive(&frame_of(0x02, b"one"));
    seen.receive(&frame_of(0x89, b"are you there"));
    seen.receive(&frame_of(0x00, b""));
    seen.receive(&frame_of(0x8A, b"unasked"));
    seen.receive(&frame_of(0x80, b"two"));
    seen.receive(&frame_of(0x82, b"three"));
    assert_eq!((seen.result, seen.out.as_slice()), (Ok(()), &b"onetwothree"[..]));
    assert_eq!(seen.reply, [&[0x8A, 13][..], b"are you there"].concat());
}

#[test]
fn fragments_out_of_order_are_refused() {
    for frames in [vec![frame_of(0x80, b"x")], vec![frame_of(0x02, b"x"), frame_of(0x82, b"y")]] {
        let mut seen = Seen::open();
        seen.receive(&frames.concat());
        seen.assert_violation(Violation::FragmentOrder);
    }
}

#[test]
fn wrong_masking_is_refused_with_1002() {
    let mut seen = Seen::open();
    seen.receive(&[0x82, 0x05]);
    seen.assert_violation(Violation::Masking);
    assert_eq!(frame::parse(&[0x82, 0x85], Sender::Server, 10), Err(Violation::Masking));
}

#[test]
fn a_giant_ping_is_refused_with_1002_before_it_arrives() {
    for length in [126, 127] {
        let mut seen = Seen::open();
        seen.receive(&[0x89, 0x80 | length]);
        seen.assert_violation(Violation::ControlTooLong);
    }
    let mut seen = Seen::open();
    seen.receive(&frame_of(0x89, &[7; 125]));
    assert_eq!((seen.result, seen.reply), (Ok(()), [&[0x8A, 125][..], &[7; 125]].concat()));
}

#[test]
fn compressed_and_other_reserved_frames_are_refused_with_1002() {
    for (first, violation) in [
        (0xC2, Violation::ReservedBits),
        (0xA2, Violation::ReservedBits),
        (0x92, Violation::ReservedBits),
        (0x83, Violation::ReservedOpcode),
        (0x8B, Violation::ReservedOpcode),
        (0x09, Violation::ControlFragmented),
        (0x08, Violation::ControlFragmented),
    ] {
        let mut seen = Seen::open();
        seen.receive(&[first, 0x80]);
        seen.assert_violation(violation);
    }
}

#[test]
fn a_text_frame_is_refused_with_1003() {
    let mut seen = Seen::open();
    seen.receive(&frame_of(0x81, b"\xC0\x00"));
    seen.assert_violation(Violation::Text);
    assert_eq!((Violation::Text.code(), seen.out.as_slice()), (1003, &[][..]));
}

#[test]
fn a_frame_beyond_the_limit_is_refused_with_1009_before_it_arrives() {
    let longest = limits().frame_bytes_max;
    let mut seen = Seen::open();
    let head = |length: u64| [&[0x82, 0xFF][..], &length.to_be_bytes(), &KEY].concat();
    seen.receive(&head(longest)).receive(&vec![0; longest as usize]);
    assert_eq!((seen.result, seen.out.len() as u64), (Ok(()), longest));
    for length in [longest + 1, i64::MAX as u64] {
        let mut seen = Seen::open();
        seen.receive(&head(length));
        seen.assert_violation(Violation::TooLong);
        assert_eq!(Violation::TooLong.code(), 1009);
    }
}

#[test]
fn a_length_must_have_its_shortest_form() {
    let medium = |length: u16| [&[0x82, 0xFE][..], &length.to_be_bytes(), &KEY].concat();
    let long = |length: u64| [&[0x82, 0xFF][..], &length.to_be_bytes(), &KEY].concat();
    for refused in [medium(0), medium(125), long(0), long(0xFFFF), long(1 << 63)] {
        let mut seen = Seen::open();
        seen.receive(&refused);
        seen.assert_violation(Violation::LengthForm);
    }
    for accepted in [medium(126), medium(0xFFFF), long(0x10000)] {
        assert_eq!(Seen::open().receive(&accepted).result, Ok(()));
    }
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_ends_the_session() {
    for (payload, answer) in
        [(&b""[..], &[0x88, 0][..]), (b"\x03\xE8", b"\x88\x02\x03\xE8"), (b"\x0F\xA0bye \xC3\xBC", b"\x88\x02\x0F\xA0")]
    {
        let mut seen = Seen::open();
        seen.receive(&[frame_of(0x88, payload), frame_of(0x82, b"late")].concat());
        assert_eq!((seen.result, seen.reply.as_slice(), seen.out.as_slice()), (Ok(()), answer, &[][..]));
        assert!(seen.session.is_over() && !seen.session.is_open());
    }
}

#[test]
fn a_close_frame_that_says_nonsense_is_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let mut seen = Seen::open();
        seen.receive(&frame_of(0x88, &u16::to_be_bytes(code)));
        seen.assert_violation(Violation::CloseCode);
    }
    let mut seen = Seen::open();
    seen.receive(&frame_of(0x88, b"\x03"));
    seen.assert_violation(Violation::CloseCode);
    let mut seen = Seen::open();
    seen.receive(&frame_of(0x88, b"\x03\xE8\xFF"));
    seen.assert_violation(Violation::CloseReason);
}

#[test]
fn after_our_close_data_is_ignored_until_the_peer_answers() {
    let mut seen = Seen::open();
    seen.session.close(code::GOING_AWAY, &mut seen.reply);
    seen.session.close(code::NORMAL, &mut seen.reply);
    assert_eq!(seen.take_reply(), b"\x88\x02\x03\xE9");
    assert!(!seen.session.is_open() && !seen.session.is_over());
    seen.receive(&[frame_of(0x82, b"late"), frame_of(0x89, b"?"), frame_of(0x02, &[0; 9])].concat());
    assert!(!seen.session.is_over());
    seen.receive(&frame_of(0x88, b"\x03\xE9"));
    assert!(seen.session.is_over());
    assert_eq!((seen.result, seen.out.as_slice(), seen.reply.as_slice()), (Ok(()), &[][..], &[][..]));
}

#[test]
fn what_came_before_a_violation_is_given_and_nothing_after_it() {
    let mut seen = Seen::open();
    seen.receive(&[frame_of(0x82, b"before"), frame_of(0x81, b"x"), frame_of(0x82, b"after")].concat());
    seen.receive(&frame_of(0x82, b"later"));
    assert_eq!(seen.out, b"before");
    seen.assert_violation(Violation::Text);
}

#[test]
fn what_is_wrapped_has_the_shortest_head() {
    let mut session = Seen::open().session;
    for (length, head) in [
        (1, &[0x82, 1][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xFF, 0xFF]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut out = b"before".to_vec();
        session.wrap(&vec![7; length], &mut out);
        assert_eq!(out, [&b"before"[..], head, &vec![7; length]].concat());
        assert_eq!(session.head(length).as_slice(), head);
    }
}
