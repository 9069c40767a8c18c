//! Packets that come drop by drop, or are made to cost much.

use super::*;

#[test]
fn a_huge_remaining_length_before_connect_gets_no_memory_however_it_is_cut() {
    // All that can be said, and what a client that is known could send.
    for announced in [&[0x10, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0x10, 0xD0, 0x0F]] {
        for cut in 1..announced.len() {
            let (mut broker, _) = guarded(1, |config| config.limits.connect_bytes_max = 1000);
            let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
            broker.cores[0].receive(broker.now, conn, &announced[..cut]);
            broker.cores[0].receive(broker.now, conn, &announced[cut..]);
            assert!(broker.cores[0].live(conn).is_none(), "closed, cut after {cut}");
            assert_eq!(broker.cores[0].reassembly_bytes(), 0);
        }
    }
}

#[test]
fn a_connect_that_comes_drop_by_drop_holds_little_and_not_for_long() {
    let (mut broker, _) = guarded(1, |config| config.limits.connect_bytes_max = 1000);
    let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
    // 900 bytes are announced, which may come.
    broker.cores[0].receive(broker.now, conn, &[0x10, 0x84, 0x07, 0, 4, b'M', b'Q', b'T', b'T', 5]);
    for _ in 0..49 {
        broker.pass(Duration::from_millis(100));
        broker.cores[0].receive(broker.now, conn, &[0]);
        assert!(broker.cores[0].reassembly_bytes() < 1000);
    }
    assert!(broker.cores[0].live(conn).is_some());
    broker.pass(Duration::from_millis(200));
    assert!(broker.cores[0].live(conn).is_none(), "each drop does not begin the time anew");
    assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
}

/// A client in the middle of a large PUBLISH that comes in pieces of so many bytes, one a second.
fn drips(bytes: usize, seconds: u64, keep_alive: u16) -> (Broker, Client) {
    let mut broker = Broker::new(1);
    let client = broker.connect_as(Connect { keep_alive, ..connect_packet("c", V5) });
    let packet = publish_bytes(V5, PublishHead { topic: "t", ..PublishHead::default() }, &[b'x'; 1_000_000]);
    for piece in packet.chunks(bytes).take(seconds as usize) {
        broker.pass(Duration::from_secs(1));
        broker.cores[0].receive(broker.now, client.conn, piece);
    }
    (broker, client)
}

#[test]
fn a_packet_that_comes_drop_by_drop_holds_its_memory_for_two_minutes_at_most() {
    for keep_alive in [0, 10, 600] {
        let (broker, client) = drips(1, 115, keep_alive);
        assert!(broker.cores[0].live(client.conn).is_some(), "it had a full minute after it was looked at first");
        let (broker, client) = drips(1, 125, keep_alive);
        assert!(broker.cores[0].live(client.conn).is_none());
        let counters = broker.cores[0].counters();
        assert_eq!(counters.ended[EndReason::PacketTimeout as usize].load(), 1);
        assert_eq!(counters.reassembly_bytes.load(), 0);
    }
}

#[test]
fn a_large_packet_may_take_longer_than_the_keep_alive_on_a_slow_link() {
    let (mut broker, client) = drips(20, 1000, 10);
    assert!(broker.cores[0].live(client.conn).is_some());
    broker.pass(Duration::from_secs(16));
    assert!(broker.cores[0].live(client.conn).is_none(), "and silence is silence in the midst of it too");
    assert_eq!(broker.cores[0].counters().ended[EndReason::KeepAliveTimeout as usize].load(), 1);
}

#[test]
fn small_packets_that_always_come_in_pieces_are_no_packet_that_stands_still() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let packet = publish_bytes(V5, PublishHead { topic: "t", ..PublishHead::default() }, b"x");
    for _ in 0..100 {
        for piece in packet.chunks(3) {
            broker.cores[0].receive(broker.now, client.conn, piece);
            broker.pass(Duration::from_secs(10));
        }
    }
    assert!(broker.cores[0].live(client.conn).is_some());
    assert!(broker.cores[0].wheel.len() <= 2, "one entry looks at all of them");
}

#[test]
fn thousands_of_user_properties_are_refused() {
    let (mut broker, _) = guarded(1, |_| {});
    let pair = [0x26, 0, 1, b'k', 0, 1, b'v'];
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0];
    let properties = pair.repeat(5000);
    put_varint(&mut body, properties.len());
    body.extend_from_slice(&properties);
    body.extend_from_slice(&[0, 1, b'c']);
    let mut packet = vec![0x10];
    put_varint(&mut packet, body.len());
    packet.extend_from_slice(&body);
    let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
    for piece in packet.chunks(4096) {
        broker.cores[0].receive(broker.now, conn, piece);
    }
    let client = Client { shard: 0, conn, version: V5 };
    assert_eq!(broker.read(client), ["CONNACK 151 false"]);
    assert!(broker.cores[0].live(conn).is_none());
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let more = value > 127;
        out.push((value % 128) as u8 | u8::from(more) << 7);
        value /= 128;
        if !more {
            return;
        }
    }
}
