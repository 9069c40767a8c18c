//! Connections that are read no further for a while: who goes on, and when.

use super::*;

/// As many PUBLISH packets of QoS 1 as a client may have waiting for other shards, and some more.
fn many_publishes(version: ProtocolVersion) -> Vec<u8> {
    let packet = |packet_id| {
        let head = PublishHead { topic: "t", qos: QoS::AtLeastOnce, packet_id, ..PublishHead::default() };
        publish_bytes(version, head, b"")
    };
    (1..10_000).flat_map(packet).collect()
}

#[test]
fn a_publisher_whose_acknowledgements_wait_goes_on_when_half_have_come() {
    let mut broker = Broker::new(2);
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), ProtocolVersion::V311);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    let publisher = broker.connect(&client_on(&broker, 0, "p"), ProtocolVersion::V311);
    for piece in many_publishes(publisher.version).chunks(9 * 32) {
        broker.cores[0].receive(broker.now, publisher.conn, piece);
        // The other shard gets the messages, but its answers take their time.
        while let Some(note) = broker.cores[0].outbox(ShardId(1)).pop_front() {
            broker.cores[1].mesh(broker.now, ShardId(0), note);
        }
        broker.cores[0].mesh_has_room(broker.now, ShardId(1));
    }
    let (pauses, received) =
        (broker.cores[0].counters().pauses.load(), broker.cores[0].counters().publish_received.load());
    assert!(pauses == 1 && received < 9999, "{pauses} pauses, {received} received");
    for _ in 0..2 {
        let answers = broker.cores[1].outbox(ShardId(0)).pop_front().expect("thousands wait");
        broker.cores[0].mesh(broker.now, ShardId(1), answers);
    }
    assert_eq!(broker.cores[0].counters().publish_received.load(), received, "not for a few answers");
    broker.settle();
    assert_eq!(broker.cores[0].counters().publish_received.load(), 9999);
    assert_eq!(broker.read(publisher).len(), 1 + 9999);
}
