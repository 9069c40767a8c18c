//! SUBACKs held back until other shards know of a filter.

use super::*;

/// A filter without wildcards whose interest another shard publishes.
fn filter_owned_by(broker: &Broker, shard: u16, name: &str) -> String {
    let interest = &broker.cores[0].shared.interest;
    (0..).map(|number| format!("{name}/{number}")).find(|filter| interest.owner(filter) == shard).expect("one does")
}

#[test]
fn a_connection_counts_the_subacks_that_are_held_back_for_it() {
    let mut broker = Broker::new(2);
    let filter = filter_owned_by(&broker, 1, "f");
    let client = broker.connect(&client_on(&broker, 0, "c"), ProtocolVersion::V5);
    let subscribe = subscribe_bytes(client.version, &filter, SubscriptionOptions::default(), None);
    broker.cores[0].receive(broker.now, client.conn, &subscribe);
    broker.cores[0].receive(broker.now, client.conn, &subscribe);
    let held = |broker: &Broker| broker.cores[0].wire.conns[client.conn.slot].subacks_held;
    assert_eq!(held(&broker), 2);
    assert_eq!(broker.read(client), ["CONNACK 0 false"]);
    broker.settle();
    assert_eq!((held(&broker), broker.read(client).len()), (0, 2));
    broker.unsubscribe(client, &filter);
    assert_eq!(broker.read(client), ["UNSUBACK [0]"]);
}
