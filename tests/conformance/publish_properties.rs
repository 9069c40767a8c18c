//! The properties of PUBLISH (§3.3.2.3): what is forwarded unaltered, what the server changes or adds.

use ringmq::sim::wire::{Connect, Packet, Publish, Subscribe};

use crate::broker::*;

/// Everything that a server forwards as it is.
fn forwarded() -> Properties {
    Properties::new()
        .byte(id::PAYLOAD_FORMAT_INDICATOR, 1)
        .text(id::CONTENT_TYPE, "text/plain; ä")
        .text(id::RESPONSE_TOPIC, "answers/to me")
        .binary(id::CORRELATION_DATA, &[0, 255, 0])
        .user("b", "2")
        .user("a", "1")
        .user("b", "2")
        .user("", "")
}

fn users(publish: &Publish) -> Vec<&Value> {
    publish.properties.0.iter().filter(|property| property.id == id::USER_PROPERTY).map(|one| &one.value).collect()
}

fn expiring(payload: &str, seconds: u32) -> Publish {
    let properties = Properties::new().four(id::MESSAGE_EXPIRY_INTERVAL, seconds);
    Publish { qos: AtLeastOnce, packet_id: 1, properties, ..message("t", payload) }
}

/// A client that takes so many topic aliases.
fn with_aliases(broker: &Broker, client_id: &str, maximum: u16) -> Client {
    let mut connect = lasting(V5, client_id);
    connect.properties = connect.properties.two(id::TOPIC_ALIAS_MAXIMUM, maximum);
    broker.connect(connect).0
}

fn aliased(topic: &str, alias: u16, payload: &str) -> Publish {
    Publish { properties: Properties::new().two(id::TOPIC_ALIAS, alias), ..message(topic, payload) }
}

#[test]
fn properties_are_forwarded_unaltered_and_user_properties_in_order() {
    on_any_shards(|broker| {
        let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
        subscriber.subscribe("t", ExactlyOnce);
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let sent = Publish { qos, packet_id: qos as u16, properties: forwarded(), ..message("t", "x") };
            publisher.send(publish(sent.clone()));
            let got = subscriber.next_publish();
            assert_eq!(got, sent);
            assert_eq!(users(&got), users(&sent));
        }
    });
}

#[test]
fn properties_survive_the_queue_the_retained_store_and_the_will() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", AtLeastOnce);
        subscriber.close();
        let mut publisher = broker.client(V5, "p");
        let sent = Publish { qos: AtLeastOnce, packet_id: 1, properties: forwarded(), ..message("t", "x") };
        publisher.send(publish(Publish { retain: true, ..sent.clone() }));
        let mut connect = Connect::new(V5, "w");
        connect.will = Some(Will {
            qos: AtLeastOnce,
            topic: "t".into(),
            payload: b"w".to_vec(),
            properties: forwarded(),
            ..Will::default()
        });
        broker.connect(connect).0.close();
        let (mut subscriber, _) = broker.resume(V5, "s");
        let queued = subscriber.next_publish();
        assert_eq!((&queued, users(&queued)), (&sent, users(&sent)));
        let will = subscriber.next_publish();
        assert_eq!((&will.properties, users(&will)), (&sent.properties, users(&sent)));
        let mut late = broker.client(V5, "late");
        late.subscribe("t", AtLeastOnce);
        let retained = late.next_publish();
        assert_eq!((&retained, users(&retained)), (&Publish { retain: true, ..sent.clone() }, users(&sent)));
    });
}

#[test]
fn a_3_1_1_client_gets_the_message_without_its_properties() {
    on_any_shards(|broker| {
        let (mut old, mut new) = (broker.client(V311, "old"), broker.client(V5, "new"));
        old.subscribe("t", AtMostOnce);
        new.subscribe("t", AtMostOnce);
        new.send(publish(Publish { properties: forwarded(), ..message("t", "from 5.0") }));
        old.expect(publish(message("t", "from 5.0")));
        new.expect(publish(Publish { properties: forwarded(), ..message("t", "from 5.0") }));
        old.publish("t", "from 3.1.1");
        old.expect(publish(message("t", "from 3.1.1")));
        new.expect(publish(message("t", "from 3.1.1")));
    });
}

#[test]
fn a_response_topic_with_a_wildcard_ends_the_connection() {
    on_any_shards(|broker| {
        for topic in ["a/#", "+", ""] {
            let mut client = broker.client(V5, "c");
            let properties = Properties::new().text(id::RESPONSE_TOPIC, topic);
            client.send(publish(Publish { properties, ..message("t", "x") }));
            client.expect_dismissal(0x82);
        }
    });
}

#[test]
fn a_subscription_identifier_from_a_client_is_a_protocol_error() {
    on_any_shards(|broker| {
        let mut client = broker.client(V5, "c");
        let properties = Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 1);
        client.send(publish(Publish { properties, ..message("t", "x") }));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn the_identifiers_of_all_matching_subscriptions_come_with_the_one_copy() {
    on_any_shards(|broker| {
        let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
        for (filter, identifier) in [("a/#", Some(268_435_455)), ("a/+", Some(1)), ("a/b", None), ("c", Some(7))] {
            let properties = match identifier {
                Some(identifier) => Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, identifier),
                None => Properties::new(),
            };
            let filters = vec![(filter.to_owned(), at(AtLeastOnce))];
            subscriber.send(Packet::Subscribe(Subscribe { packet_id: 1, properties, filters }));
            subscriber.expect(suback(1, &[1]));
        }
        publisher.publish_acknowledged("a/b", "x");
        let got = subscriber.next_publish();
        let mut identifiers: Vec<Value> = got.properties.0.iter().map(|property| property.value.clone()).collect();
        identifiers.sort_by_key(|value| format!("{value:?}"));
        assert_eq!(identifiers, [Value::Variable(1), Value::Variable(268_435_455)]);
        publisher.publish("c", "x");
        let only = Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 7);
        subscriber.expect(publish(Publish { properties: only, ..message("c", "x") }));
        subscriber.expect_nothing();
    });
}

#[test]
fn an_immediate_delivery_has_the_whole_message_expiry_interval() {
    on_any_shards(|broker| {
        let mut publisher = broker.client(V5, "p");
        for number in 0..6 {
            let mut subscriber = broker.client(V5, &format!("s{number}"));
            subscriber.subscribe("t", AtMostOnce);
            publisher.send(publish(expiring("x", 1)));
            let got = subscriber.next_publish();
            assert_eq!(got.properties.number(id::MESSAGE_EXPIRY_INTERVAL), Some(1));
            subscriber.disconnect();
            publisher.expect(puback(1));
        }
    });
}

#[test]
fn a_message_that_waited_says_how_long_it_is_still_good() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", AtLeastOnce);
        subscriber.close();
        let mut publisher = broker.client(V5, "p");
        publisher.send(publish(Publish { retain: true, ..expiring("x", 10) }));
        publisher.expect(puback(1));
        // What is left counts in whole seconds; the next one begins between these two.
        broker.advance(std::time::Duration::from_millis(3_900));
        let left = |publish: Publish| publish.properties.number(id::MESSAGE_EXPIRY_INTERVAL);
        let (mut subscriber, _) = broker.resume(V5, "s");
        assert_eq!(left(subscriber.next_publish()), Some(7));
        let mut late = broker.client(V5, "late");
        late.subscribe("t", AtMostOnce);
        assert_eq!(left(late.next_publish()), Some(7));
    });
}

#[test]
fn a_message_that_waited_too_long_is_not_delivered() {
    on_any_shards(|broker| {
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.subscribe("t", AtLeastOnce);
        subscriber.close();
        let mut publisher = broker.client(V5, "p");
        for (payload, seconds) in [("short", 5), ("long", 100), ("shorter", 4)] {
            publisher.send(publish(expiring(payload, seconds)));
            publisher.expect(puback(1));
        }
        publisher.publish_acknowledged("t", "for ever");
        publisher.send(publish(Publish { retain: true, ..expiring("retained", 5) }));
        publisher.expect(puback(1));
        broker.seconds(6);
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.expect_message("t", "long");
        subscriber.expect_message("t", "for ever");
        subscriber.expect_nothing();
        let mut late = broker.client(V5, "late");
        late.subscribe("t", AtMostOnce);
        late.expect_nothing();
    });
}

#[test]
fn a_message_waiting_for_the_window_expires_too() {
    on_any_shards(|broker| {
        let mut connect = Connect::new(V5, "s");
        connect.properties = Properties::new().two(id::RECEIVE_MAXIMUM, 1);
        let (mut subscriber, _) = broker.connect(connect);
        subscriber.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        for (payload, seconds) in [("sent", 5), ("expires", 5), ("lasts", 50)] {
            publisher.send(publish(expiring(payload, seconds)));
            publisher.expect(puback(1));
        }
        subscriber.expect_message("t", "sent");
        broker.seconds(10);
        subscriber.send(puback(1));
        subscriber.expect_message("t", "lasts");
    });
}

#[test]
fn a_topic_alias_stands_for_the_topic_it_was_last_given() {
    on_any_shards(|broker| {
        let (mut subscriber, mut publisher) = (broker.client(V5, "s"), broker.client(V5, "p"));
        subscriber.subscribe("#", AtMostOnce);
        let told = broker.connect(Connect::new(V5, "asks")).1.properties.number(id::TOPIC_ALIAS_MAXIMUM);
        let highest = told.expect("aliases are offered") as u16;
        for (topic, alias, payload) in
            [("one", 1, "a"), ("max", highest, "b"), ("", 1, "c"), ("", highest, "d"), ("new", 1, "e"), ("", 1, "f")]
        {
            publisher.send(publish(aliased(topic, alias, payload)));
        }
        // No alias goes to a subscriber that takes none.
        for (topic, payload) in [("one", "a"), ("max", "b"), ("one", "c"), ("max", "d"), ("new", "e"), ("new", "f")] {
            subscriber.expect(publish(message(topic, payload)));
        }
        subscriber.expect_nothing();
    });
}

#[test]
fn a_topic_alias_that_means_nothing_or_is_too_high_ends_the_connection() {
    on_any_shards(|broker| {
        for (topic, alias, reason) in [("", 1, 0x82), ("t", 0, 0x94), ("t", 33, 0x94), ("", 65_535, 0x94)] {
            let mut client = broker.client(V5, "c");
            client.send(publish(aliased(topic, alias, "x")));
            client.expect_dismissal(reason);
        }
    });
}

#[test]
fn a_server_that_offers_no_aliases_takes_none() {
    let broker = Broker::with(1, |limits, _| limits.topic_alias_max = 0);
    let (mut client, ack) = broker.connect(Connect::new(V5, "c"));
    assert_eq!(ack.properties.find(id::TOPIC_ALIAS_MAXIMUM), None);
    client.send(publish(aliased("t", 1, "x")));
    client.expect_dismissal(0x94);
}

#[test]
fn a_clients_aliases_end_with_its_connection() {
    on_any_shards(|broker| {
        let (mut client, _) = broker.resume(V5, "c");
        client.send(publish(aliased("t", 1, "x")));
        client.ping();
        client.close();
        let (mut client, present) = broker.resume(V5, "c");
        assert!(present);
        client.send(publish(aliased("", 1, "x")));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn a_message_sent_again_on_a_new_connection_sets_its_alias_there() {
    on_any_shards(|broker| {
        let mut watcher = broker.client(V5, "watcher");
        watcher.subscribe("t", AtMostOnce);
        let (mut client, _) = broker.resume(V5, "c");
        let sent = Publish { qos: ExactlyOnce, packet_id: 1, ..aliased("t", 1, "once") };
        client.send(publish(sent.clone()));
        client.expect(pubrec(1));
        client.close();
        let (mut client, _) = broker.resume(V5, "c");
        client.send(publish(Publish { dup: true, ..sent }));
        client.expect(pubrec(1));
        client.send(publish(aliased("", 1, "by alias")));
        watcher.expect(publish(message("t", "once")));
        watcher.expect(publish(message("t", "by alias")));
        watcher.expect_nothing();
    });
}

#[test]
fn aliases_to_a_client_stay_within_its_maximum_and_follow_their_topic() {
    on_any_shards(|broker| {
        let mut subscriber = with_aliases(broker, "s", 2);
        subscriber.subscribe("#", AtMostOnce);
        let mut publisher = broker.client(V311, "p");
        for topic in ["a", "b", "c", "a", "b", "c"] {
            publisher.publish(topic, topic);
        }
        let expected = [aliased("a", 1, "a"), aliased("b", 2, "b"), message("c", "c")];
        let again = [aliased("", 1, "a"), aliased("", 2, "b"), message("c", "c")];
        for one in expected.into_iter().chain(again) {
            subscriber.expect(publish(one));
        }
    });
}

#[test]
fn aliases_to_a_client_end_with_its_connection_and_what_is_sent_again_names_its_topic() {
    on_any_shards(|broker| {
        let mut subscriber = with_aliases(broker, "s", 1);
        subscriber.subscribe("t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.publish_acknowledged("t", "1");
        publisher.publish_acknowledged("t", "2");
        let sent = |packet_id, one| publish(Publish { qos: AtLeastOnce, packet_id, ..one });
        subscriber.expect(sent(1, aliased("t", 1, "1")));
        subscriber.expect(sent(2, aliased("", 1, "2")));
        subscriber.close();
        let mut subscriber = with_aliases(broker, "s", 1);
        subscriber.expect(sent(1, Publish { dup: true, ..aliased("t", 1, "1") }));
        subscriber.expect(sent(2, Publish { dup: true, ..aliased("", 1, "2") }));
        subscriber.close();
        // A connection that takes no aliases.
        let (mut subscriber, _) = broker.resume(V5, "s");
        subscriber.expect(sent(1, Publish { dup: true, ..message("t", "1") }));
        subscriber.expect(sent(2, Publish { dup: true, ..message("t", "2") }));
    });
}
