//! What comes in: packets in pieces, connections that had to wait, aliases.

use super::*;

#[test]
fn a_packet_in_many_pieces_is_not_copied_again_with_each() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", ProtocolVersion::V311);
    let bytes = publish_bytes(client.version, PublishHead { topic: "t", ..PublishHead::default() }, &[7; 10_000]);
    let mut places = std::collections::HashSet::new();
    for piece in bytes[..9_000].chunks(10) {
        broker.cores[0].receive(broker.now, client.conn, piece);
        places.insert(broker.cores[0].wire.conns[client.conn.slot].tail.as_ptr());
    }
    assert!(places.len() < 20, "900 pieces lay at {} places", places.len());
    broker.cores[0].receive(broker.now, client.conn, &bytes[9_000..]);
    assert_eq!(broker.cores[0].counters().publish_received.load(), 1);
    assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
}

#[test]
fn what_does_not_begin_like_a_connect_is_not_waited_for() {
    let mut broker = Broker::new(1);
    let conn = broker.cores[0].open(broker.now, 0, None).expect("accepted");
    // The head of a PUBLISH of 100,000 bytes: no byte of it is worth keeping.
    broker.cores[0].receive(broker.now, conn, &[0x30, 0xA0, 0x8D, 0x06]);
    assert!(matches!(broker.cores[0].poll_effect(), Some(Effect::Close(closed)) if closed == conn));
    assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
}

#[test]
fn a_client_that_was_not_listened_to_has_its_keep_alive_counted_anew() {
    let limits = Limits { output_bytes_max: 1000, ..Limits::default() };
    let mut broker = Broker::with(1, limits);
    let client = broker.connect_as(Connect { keep_alive: 10, ..connect_packet("c", ProtocolVersion::V311) });
    // Answers that it does not read: it is read no further.
    for _ in 0..40 {
        let pings: Vec<u8> = [0xC0, 0].repeat(32);
        broker.cores[0].receive(broker.now, client.conn, &pings);
    }
    assert!(broker.cores[0].wire.conns[client.conn.slot].stalled);
    broker.pass(Duration::from_secs(50));
    while !broker.read(client).is_empty() {}
    assert!(!broker.cores[0].wire.conns[client.conn.slot].stalled);
    broker.pass(Duration::from_secs(14));
    assert_eq!(broker.cores[0].counters().ended[EndReason::KeepAliveTimeout as usize].load(), 0);
    broker.pass(Duration::from_secs(2));
    assert_eq!(broker.cores[0].counters().ended[EndReason::KeepAliveTimeout as usize].load(), 1);
}

#[test]
fn a_repeated_publish_sets_its_topic_alias_all_the_same() {
    let mut broker = Broker::new(1);
    let subscriber = broker.connect("s", ProtocolVersion::V5);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    let publisher = broker.connect("p", ProtocolVersion::V5);
    let first =
        PublishHead { topic: "t", qos: QoS::ExactlyOnce, packet_id: 1, topic_alias: Some(3), ..PublishHead::default() };
    broker.publish_head(publisher, first, b"a");
    broker.hang_up(publisher);
    // The PUBREC was lost, so it comes again, on a connection that knows no alias yet.
    let publisher = broker.connect("p", ProtocolVersion::V5);
    broker.publish_head(publisher, PublishHead { dup: true, ..first }, b"a");
    broker.publish_head(publisher, PublishHead { topic_alias: Some(3), ..PublishHead::default() }, b"b");
    assert_eq!(broker.read(publisher), ["CONNACK 0 true", "PUBREC 1 0"]);
    broker.read(subscriber);
    assert_eq!(broker.cores[0].counters().delivered.load(), 2);
}
