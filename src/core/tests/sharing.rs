//! Many subscriptions for one message: overlapping ones, shared ones.

use super::*;
use crate::config::SharedStrategy;

#[test]
fn a_message_may_match_more_shared_subscriptions_than_fit_a_small_number() {
    let limits = Limits { subscriptions_per_client_max: 100_000, packet_bytes_max: 10_000_000, ..Limits::default() };
    let mut broker = Broker::with(2, limits);
    let member = broker.connect(&client_on(&broker, 1, "m"), ProtocolVersion::V5);
    let mut payload = Vec::new();
    let levels = |wildcards: u32| (0..16).map(move |level| if wildcards >> level & 1 == 1 { "/+" } else { "/a" });
    for number in 0..65_536 {
        let filter = format!("$share/g/t{}", levels(number).collect::<String>());
        crate::codec::FilterRequest { filter: &filter, options: SubscriptionOptions::default() }.put(&mut payload);
    }
    let subscribe = crate::codec::Subscribe {
        packet_id: 1,
        subscription_identifier: None,
        user_properties: Default::default(),
        filters: crate::codec::Filters { payload: &payload, with_options: true },
    };
    broker.send(member, &Packet::Subscribe(subscribe));
    let publisher = broker.connect(&client_on(&broker, 0, "p"), ProtocolVersion::V5);
    broker.read(publisher);
    let topic = format!("t{}", levels(0).collect::<String>());
    let head = PublishHead { topic: &topic, qos: QoS::AtLeastOnce, packet_id: 1, ..PublishHead::default() };
    let bytes = publish_bytes(ProtocolVersion::V5, head, b"");
    broker.cores[0].receive(broker.now, publisher.conn, &bytes);
    assert!(broker.read(publisher).is_empty(), "no member has it yet");
    broker.settle();
    assert_eq!(broker.read(publisher), ["PUBACK 1 0"]);
}

#[test]
fn what_expired_meanwhile_is_not_given_to_another_member() {
    let mut broker = Broker::new(1);
    let members = ["a", "b"].map(|id| broker.connect(id, ProtocolVersion::V5));
    members.iter().for_each(|&member| broker.subscribe(member, "$share/g/t", QoS::AtLeastOnce));
    let publisher = broker.connect("p", ProtocolVersion::V5);
    let head = PublishHead {
        topic: "t",
        qos: QoS::AtLeastOnce,
        packet_id: 1,
        message_expiry_interval: Some(5),
        ..PublishHead::default()
    };
    broker.publish_head(publisher, head, b"x");
    let received = members.map(|member| broker.read(member).len());
    let (has, other) = if received[0] > received[1] { (members[0], members[1]) } else { (members[1], members[0]) };
    broker.pass(Duration::from_secs(6));
    let disconnect = crate::codec::Disconnect { session_expiry_interval: Some(0), ..Default::default() };
    broker.send(has, &Packet::Disconnect(disconnect));
    assert!(broker.read(other).is_empty());
    assert_eq!(broker.cores[0].counters().dropped[counters::DropReason::Expired as usize].load(), 1);
    broker.check();
}

#[test]
fn each_receiver_gets_the_identifiers_of_its_own_overlapping_subscriptions() {
    let mut broker = Broker::new(1);
    let mut clients = Vec::new();
    for number in 0..50 {
        let client = broker.connect(&format!("c{number}"), ProtocolVersion::V5);
        clients.push(client);
    }
    // Joined in different orders, so that each filter lists the clients in another one.
    for (filter, id) in [("a/b", 1), ("a/+", 2), ("a/#", 3)] {
        clients.rotate_left(17);
        for client in &clients {
            let id = client.conn.slot * 10 + id;
            broker.subscribe_as(*client, filter, SubscriptionOptions::default(), Some(id));
        }
    }
    let publisher = broker.connect("p", ProtocolVersion::V5);
    clients.iter().for_each(|&client| drop(broker.read(client)));
    broker.publish(publisher, "a/b", QoS::AtMostOnce, 0, b"");
    for client in clients {
        let output = broker.cores[0].take_output(client.conn);
        let Ok(Framed::Complete { frame, .. }) = frame(&output.bytes, u32::MAX) else { panic!("a whole packet") };
        let Ok(Packet::Publish(publish)) = decode(frame, ProtocolVersion::V5) else { panic!("a PUBLISH") };
        let mut ids: Vec<u32> = publish.properties.subscription_identifiers().collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3].map(|id| client.conn.slot * 10 + id));
    }
}

#[test]
fn sticky_members_are_the_same_from_whichever_shard_the_message_comes() {
    let mqtt = MqttOptions { shared_strategy: SharedStrategy::Sticky, ..MqttOptions::default() };
    let mut broker = Broker::built(4, Limits::default(), mqtt);
    let members: Vec<Client> = (0..4)
        .map(|shard| {
            let member = broker.connect(&client_on(&broker, shard, "m"), ProtocolVersion::V5);
            broker.subscribe(member, "$share/g/t", QoS::AtMostOnce);
            broker.read(member);
            member
        })
        .collect();
    let publishers: Vec<Client> =
        (0..4).map(|shard| broker.connect(&client_on(&broker, shard, "p"), ProtocolVersion::V5)).collect();
    let mut gone = None;
    for _ in 0..3 {
        for (number, &publisher) in publishers.iter().enumerate() {
            // Not all publish as much: that is no reason to choose another.
            (0..=number).for_each(|_| broker.publish(publisher, "t", QoS::AtMostOnce, 0, b""));
        }
        let received: Vec<usize> = members.iter().map(|&member| broker.read(member).len()).collect();
        let chosen: Vec<usize> = (0..4).filter(|&member| received[member] > 0).collect();
        assert!(chosen.len() == 1 && chosen.first() != gone.as_ref(), "{received:?}");
        gone = chosen.first().copied();
        broker.unsubscribe(members[chosen[0]], "$share/g/t");
        broker.read(members[chosen[0]]);
    }
}
