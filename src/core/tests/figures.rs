//! The `$SYS` topics.

use super::*;

#[test]
fn the_load_of_dropped_messages_counts_every_reason() {
    let mut broker = Broker::new(1);
    broker.cores[0].sys = Some(Box::new(sys::Sys::new(Duration::from_secs(10), broker.now)));
    broker.cores[0].schedule_sys(broker.now);
    let subscriber = broker.connect("s", ProtocolVersion::V311);
    broker.subscribe(subscriber, "t", QoS::AtMostOnce);
    broker.hang_up(subscriber);
    let publisher = broker.connect("p", ProtocolVersion::V311);
    broker.pass(Duration::from_secs(1));
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"nobody is there");
    broker.pass(Duration::from_secs(20));
    broker.subscribe(publisher, "$SYS/broker/load/publish/dropped/1min", QoS::AtMostOnce);
    let figure = broker.read(publisher).pop().expect("it is retained");
    assert!(figure.starts_with("PUBLISH") && !figure.ends_with(" 0.00"), "{figure}");
}
