//! Shared subscriptions (§4.8.2), in every strategy, with members on one shard and on several.

use std::collections::BTreeSet;

use ringmq::config::SharedStrategy;
use ringmq::sim::wire::{Ack, Packet, Publish};

use crate::broker::*;

pub const STRATEGIES: [SharedStrategy; 6] = [
    SharedStrategy::RoundRobin,
    SharedStrategy::Random,
    SharedStrategy::Sticky,
    SharedStrategy::HashClient,
    SharedStrategy::HashTopic,
    SharedStrategy::Local,
];

fn for_strategies(strategies: &[SharedStrategy], test: impl Fn(&Broker, SharedStrategy)) {
    for &strategy in strategies {
        on_any_shards_with(|_, mqtt| mqtt.shared_strategy = strategy, |broker| test(broker, strategy));
    }
}

/// So many connected members of a group, on every shard.
fn members(broker: &Broker, version: ProtocolVersion, count: usize, filter: &str, qos: QoS) -> Vec<Client> {
    let mut members: Vec<_> = (0..count).map(|at| broker.client(version, &format!("m{at}"))).collect();
    members.iter_mut().for_each(|member| member.subscribe(filter, qos));
    assert!(count < 6 || broker.counts("shared_subscriptions").iter().all(|&count| count > 0), "name them otherwise");
    members
}

/// Everything a client got, acknowledged.
fn drain(client: &mut Client) -> Vec<Publish> {
    let mut got = Vec::new();
    while let Some(packet) = client.next_or_none() {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        if publish.qos == AtLeastOnce {
            client.send(puback(publish.packet_id));
        }
        got.push(publish);
    }
    got
}

fn payloads(got: &[Publish]) -> Vec<String> {
    got.iter().map(|publish| String::from_utf8(publish.payload.clone()).expect("text")).collect()
}

#[test]
fn each_message_goes_to_exactly_one_member_in_every_strategy() {
    for_strategies(&STRATEGIES, |broker, strategy| {
        for version in BOTH {
            for (filter, topic) in [("$share/g/a/b", "a/b"), ("$share/g/a/+", "a/c"), ("$share/g/#", "x")] {
                let mut members = members(broker, version, 6, filter, AtLeastOnce);
                let mut publishers: Vec<_> = (0..3).map(|at| broker.client(version, &format!("p{at}"))).collect();
                for number in 0..60 {
                    publishers[number % 3].publish_acknowledged(topic, &number.to_string());
                }
                let got: Vec<_> = members.iter_mut().flat_map(|member| payloads(&drain(member))).collect();
                assert_eq!(got.len(), 60, "{strategy:?}");
                assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 60, "{strategy:?}");
                members.into_iter().for_each(Client::disconnect);
                assert_eq!(broker.count("shared_subscriptions"), 0);
            }
        }
    });
}

#[test]
fn round_robin_gives_everybody_the_same_share() {
    for_strategies(&[SharedStrategy::RoundRobin], |broker, _| {
        let mut members = members(broker, V5, 6, "$share/g/t", AtMostOnce);
        let mut publisher = broker.client(V5, "p");
        (0..60).for_each(|number| publisher.publish("t", &number.to_string()));
        for member in &mut members {
            assert_eq!(drain(member).len(), 10);
        }
    });
}

#[test]
fn random_leaves_nobody_out() {
    for_strategies(&[SharedStrategy::Random], |broker, _| {
        let mut members = members(broker, V5, 6, "$share/g/t", AtMostOnce);
        let mut publisher = broker.client(V5, "p");
        (0..300).for_each(|number| publisher.publish("t", &number.to_string()));
        for member in &mut members {
            assert!(drain(member).len() > 10);
        }
    });
}

#[test]
fn sticky_stays_with_one_member_until_it_goes() {
    for_strategies(&[SharedStrategy::Sticky], |broker, _| {
        let mut members = members(broker, V5, 6, "$share/g/#", AtMostOnce);
        let mut publisher = broker.client(V5, "p");
        while !members.is_empty() {
            for number in 0..10 {
                publisher.publish(&format!("t/{number}"), "x");
            }
            let counts: Vec<_> = members.iter_mut().map(|member| drain(member).len()).collect();
            let chosen = counts.iter().position(|&count| count > 0).expect("somebody got them");
            assert_eq!((counts[chosen], counts.iter().sum::<usize>()), (10, 10));
            members.remove(chosen).disconnect();
        }
    });
}

#[test]
fn hash_client_gives_all_messages_of_one_publisher_to_one_member() {
    for_strategies(&[SharedStrategy::HashClient], |broker, _| {
        let mut members = members(broker, V5, 6, "$share/g/#", AtMostOnce);
        let mut chosen = BTreeSet::new();
        for publisher in 0..12 {
            let mut publisher = broker.client(V5, &format!("p{publisher}"));
            for number in 0..10 {
                publisher.publish(&format!("t/{number}"), "x");
            }
            let counts: Vec<_> = members.iter_mut().map(|member| drain(member).len()).collect();
            assert!(counts.contains(&10) && counts.iter().sum::<usize>() == 10, "{counts:?}");
            chosen.insert(counts.iter().position(|&count| count == 10));
        }
        assert!(chosen.len() > 1, "all publishers have the same member");
    });
}

#[test]
fn hash_topic_gives_all_messages_of_one_topic_to_one_member() {
    for_strategies(&[SharedStrategy::HashTopic], |broker, _| {
        let mut members = members(broker, V5, 6, "$share/g/#", AtMostOnce);
        let mut publishers: Vec<_> = (0..5).map(|at| broker.client(V5, &format!("p{at}"))).collect();
        let mut chosen = BTreeSet::new();
        for topic in 0..12 {
            for publisher in &mut publishers {
                publisher.publish(&format!("t/{topic}"), "x");
                publisher.publish(&format!("t/{topic}"), "y");
            }
            let counts: Vec<_> = members.iter_mut().map(|member| drain(member).len()).collect();
            assert!(counts.contains(&10) && counts.iter().sum::<usize>() == 10, "{counts:?}");
            chosen.insert(counts.iter().position(|&count| count == 10));
        }
        assert!(chosen.len() > 1, "all topics have the same member");
    });
}

#[test]
fn local_prefers_members_on_the_publishers_shard_and_falls_back_to_others() {
    for_strategies(&[SharedStrategy::Local], |broker, _| {
        let mut members = members(broker, V5, 6, "$share/g/t", AtMostOnce);
        for publisher in 0..6 {
            let before = broker.counts("publish_sent");
            let received = broker.counts("publish_received");
            let mut publisher = broker.client(V5, &format!("p{publisher}"));
            (0..12).for_each(|_| publisher.publish("t", "x"));
            publisher.ping();
            broker.rest();
            let sent: Vec<_> = broker.counts("publish_sent").iter().zip(before).map(|(now, then)| now - then).collect();
            let got: Vec<_> =
                broker.counts("publish_received").iter().zip(received).map(|(now, then)| now - then).collect();
            assert_eq!(sent, got, "messages left the shard they came to");
        }
        members.iter_mut().for_each(|member| _ = drain(member));
        // One member is left, and is on one shard only.
        members.drain(1..).for_each(Client::disconnect);
        for publisher in 0..6 {
            broker.client(V5, &format!("p{publisher}")).publish("t", "x");
            members[0].expect(publish(message("t", "x")));
        }
    });
}

#[test]
fn groups_and_plain_subscribers_each_get_their_copy() {
    for_both(|broker, version| {
        let mut client = broker.client(version, "c");
        let filters = ["$share/a/t", "$share/b/t", "$share/a/#", "t", "#"];
        client.send(subscribe(1, &filters.map(|filter| (filter, at(AtMostOnce)))));
        client.expect(suback(1, &[0; 5]));
        let mut plain = broker.client(version, "plain");
        plain.subscribe("t", AtMostOnce);
        broker.client(version, "p").publish("t", "x");
        // Three shared subscriptions, and one copy for all the others.
        (0..4).for_each(|_| client.expect(publish(message("t", "x"))));
        client.expect_nothing();
        plain.expect(publish(message("t", "x")));
        plain.expect_nothing();
    });
}

#[test]
fn each_member_gets_messages_at_its_own_granted_qos_and_options() {
    on_any_shards(|broker| {
        for qos in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut member = broker.client(V5, "m");
            let options = SubscriptionOptions { retain_as_published: qos == AtLeastOnce, ..at(qos) };
            member.send(crate::subscribe::identified("$share/g/t", options, 5));
            member.expect(suback(77, &[qos as u8]));
            let mut publisher = broker.client(V5, "p");
            publisher.retain("t", "x");
            let got = member.next_publish();
            let granted = qos.min(AtLeastOnce);
            let properties = Properties::new().variable(id::SUBSCRIPTION_IDENTIFIER, 5);
            let retain = qos == AtLeastOnce;
            let expected = Publish { qos: granted, retain, packet_id: got.packet_id, properties, ..message("t", "x") };
            assert_eq!(got, expected);
        }
    });
}

#[test]
fn joining_again_replaces_the_membership() {
    for_both(|broker, version| {
        let mut member = broker.client(version, "m");
        for qos in [AtMostOnce, AtLeastOnce] {
            member.subscribe("$share/g/t", qos);
            broker.client(version, "p").publish_acknowledged("t", "x");
            let got = drain(&mut member);
            assert_eq!((got.len(), got[0].qos), (1, qos));
        }
        assert_eq!(broker.count("shared_subscriptions"), 1);
    });
}

#[test]
fn a_member_that_unsubscribes_gets_nothing_and_the_others_everything() {
    for_strategies(&STRATEGIES, |broker, strategy| {
        let mut members = members(broker, V5, 6, "$share/g/t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        while members.len() > 1 {
            let mut gone = members.remove(0);
            gone.send(unsubscribe(1, &["$share/g/t"]));
            gone.expect(unsuback(V5, 1, &[0]));
            (0..10).for_each(|number| publisher.publish_acknowledged("t", &number.to_string()));
            gone.expect_nothing();
            let got: usize = members.iter_mut().map(|member| drain(member).len()).sum();
            assert_eq!(got, 10, "{strategy:?}");
        }
        let mut last = members.remove(0);
        last.send(unsubscribe(1, &["$share/g/t", "$share/g/t"]));
        last.expect(unsuback(V5, 1, &[0, 0x11]));
        publisher.send(Packet::Publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "nobody") }));
        publisher.expect(puback_with(1, 0x10));
        last.expect_nothing();
    });
}

#[test]
fn unsubscribing_needs_the_same_name_and_filter() {
    for_both(|broker, version| {
        let mut member = broker.client(version, "m");
        member.subscribe("$share/g/t", AtMostOnce);
        member.send(unsubscribe(1, &["t", "$share/G/t", "$share/g/t/", "$share/h/t", "$share/g/+"]));
        member.expect(unsuback(version, 1, &[0x11; 5]));
        broker.client(version, "p").publish("t", "x");
        member.expect_message("t", "x");
    });
}

#[test]
fn members_that_are_connected_are_preferred_to_those_that_are_away() {
    for_strategies(&STRATEGIES, |broker, strategy| {
        let mut away = Vec::new();
        for at in 0..5 {
            let (mut client, _) = broker.resume(V5, &format!("away{at}"));
            client.subscribe("$share/g/t", AtLeastOnce);
            away.push(client);
        }
        away.into_iter().for_each(Client::disconnect);
        let mut here = broker.client(V5, "here");
        here.subscribe("$share/g/t", AtLeastOnce);
        let mut publishers: Vec<_> = (0..4).map(|at| broker.client(V5, &format!("p{at}"))).collect();
        for number in 0..20 {
            publishers[number % 4].publish_acknowledged("t", &number.to_string());
        }
        assert_eq!(drain(&mut here).len(), 20, "{strategy:?}");
        // Nobody is connected: it waits for those who are away, once.
        here.disconnect();
        for number in 0..20 {
            publishers[number % 4].publish_acknowledged("t", &number.to_string());
        }
        let mut got = Vec::new();
        for at in 0..5 {
            let (mut client, present) = broker.resume(V5, &format!("away{at}"));
            assert!(present);
            got.extend(payloads(&drain(&mut client)));
        }
        got.sort_unstable();
        let mut expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
        expected.sort_unstable();
        assert_eq!(got, expected, "{strategy:?}");
    });
}

#[test]
fn what_an_ended_member_had_not_acknowledged_at_qos_1_goes_to_another() {
    for version in BOTH {
        for_strategies(&STRATEGIES, |broker, strategy| {
            let mut members = members(broker, version, 3, "$share/g/t", AtLeastOnce);
            let mut publisher = broker.client(version, "p");
            (0..12).for_each(|number| publisher.publish_acknowledged("t", &number.to_string()));
            // Everybody has what it was given and acknowledges nothing; then all but one end with their sessions.
            let mut got = BTreeSet::new();
            let last = members.pop().expect("three");
            members.into_iter().for_each(Client::reset);
            let mut last = last;
            for publish in drain(&mut last) {
                assert!(!publish.dup, "it is new to this client");
                assert!(got.insert(publish.payload), "{strategy:?}: twice");
            }
            assert_eq!(got.len(), 12, "{strategy:?}");
            assert_eq!(broker.count("inflight") + broker.count("queued"), 0);
        });
    }
}

#[test]
fn what_a_member_that_is_away_had_not_acknowledged_waits_for_it() {
    on_any_shards(|broker| {
        let (mut member, _) = broker.resume(V5, "m");
        member.subscribe("$share/g/t", AtLeastOnce);
        broker.client(V5, "p").publish_acknowledged("t", "x");
        member.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "x") }));
        let mut other = broker.client(V5, "o");
        other.subscribe("$share/g/t", AtLeastOnce);
        member.reset();
        other.expect_nothing();
        let (mut member, _) = broker.resume(V5, "m");
        member.expect(publish(Publish { dup: true, qos: AtLeastOnce, packet_id: 1, ..message("t", "x") }));
        member.send(puback(1));
        member.disconnect();
        broker.client(V5, "m").disconnect();
        other.expect_nothing();
    });
}

#[test]
fn what_waited_for_an_ended_member_goes_to_another() {
    on_any_shards(|broker| {
        let (mut away, _) = broker.connect({
            let mut connect = lasting(V5, "away");
            connect.properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, 60);
            connect
        });
        away.subscribe("$share/g/t", ExactlyOnce);
        away.disconnect();
        let mut publisher = broker.client(V5, "p");
        publisher.publish_acknowledged("t", "1");
        publisher.send(Packet::Publish(Publish { qos: ExactlyOnce, packet_id: 2, ..message("t", "2") }));
        publisher.expect(pubrec(2));
        let mut here = broker.client(V5, "here");
        here.subscribe("$share/g/t", ExactlyOnce);
        here.expect_nothing();
        broker.seconds(61);
        // Nobody has seen either of them: they may go to another whatever their QoS.
        here.expect(publish(Publish { qos: AtLeastOnce, packet_id: 1, ..message("t", "1") }));
        here.expect(publish(Publish { qos: ExactlyOnce, packet_id: 2, ..message("t", "2") }));
        here.expect_nothing();
    });
}

#[test]
fn a_qos_2_delivery_is_completed_with_the_member_it_was_begun_with() {
    on_any_shards(|broker| {
        let (mut member, _) = broker.resume(V5, "m");
        member.subscribe("$share/g/t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        publisher.send(Packet::Publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }));
        member.expect(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }));
        let mut other = broker.client(V5, "o");
        other.subscribe("$share/g/t", ExactlyOnce);
        member.reset();
        other.expect_nothing();
        let (mut member, _) = broker.resume(V5, "m");
        member.expect(publish(Publish { dup: true, qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }));
        member.send(pubrec(1));
        member.expect(pubrel(1));
        member.send(pubcomp(1));
        other.expect_nothing();
        assert_eq!(broker.count("inflight"), 0);
    });
}

#[test]
fn a_qos_2_delivery_that_was_begun_goes_to_nobody_else_when_its_session_ends() {
    on_any_shards(|broker| {
        for received in [false, true] {
            let mut member = broker.client(V5, "m");
            member.subscribe("$share/g/t", ExactlyOnce);
            let mut publisher = broker.client(V5, "p");
            publisher.send(Packet::Publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }));
            member.expect(publish(Publish { qos: ExactlyOnce, packet_id: 1, ..message("t", "x") }));
            let mut other = broker.client(V5, "o");
            other.subscribe("$share/g/t", ExactlyOnce);
            if received {
                member.send(pubrec(1));
                member.expect(pubrel(1));
            }
            member.reset();
            other.expect_nothing();
            assert_eq!((broker.count("inflight"), broker.count("redispatched")), (0, 0));
            other.disconnect();
        }
    });
}

#[test]
fn a_message_that_a_member_refuses_is_sent_to_nobody_else() {
    on_any_shards(|broker| {
        let mut members = members(broker, V5, 6, "$share/g/t", ExactlyOnce);
        let mut publisher = broker.client(V5, "p");
        for (qos, packet_id) in [(AtLeastOnce, 1), (ExactlyOnce, 2)] {
            publisher.send(Packet::Publish(Publish { qos, packet_id, ..message("t", "x") }));
            publisher.next();
            let refused = |member: &mut Client| {
                let Some(Packet::Publish(publish)) = member.next_or_none() else { return false };
                let ack = Ack { packet_id: publish.packet_id, reason: 0x83, properties: Properties::new() };
                member.send(if qos == AtLeastOnce { Packet::PubAck(ack) } else { Packet::PubRec(ack) });
                true
            };
            let mut refusals = 0;
            for member in &mut members {
                refusals += usize::from(refused(member));
            }
            assert_eq!(refusals, 1);
            members.iter_mut().for_each(Client::expect_nothing);
        }
        assert_eq!((broker.count("inflight"), broker.count("redispatched")), (0, 0));
        // Neither when the session of the one who refused ends.
        let last = members.pop().expect("six");
        members.into_iter().for_each(Client::reset);
        let mut last = last;
        last.expect_nothing();
    });
}

#[test]
fn messages_of_one_publisher_reach_a_lone_member_in_order() {
    for_strategies(&STRATEGIES, |broker, strategy| {
        let mut member = broker.client(V5, "m");
        member.subscribe("$share/g/#", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        for number in 0..100_u16 {
            publisher.send(Packet::Publish(Publish {
                qos: AtLeastOnce,
                packet_id: number + 1,
                ..message("t", &number.to_string())
            }));
        }
        let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(payloads(&drain(&mut member)), expected, "{strategy:?}");
    });
}

#[test]
fn nothing_is_lost_while_members_come_and_go() {
    for_strategies(&STRATEGIES, |broker, strategy| {
        let mut stays = broker.client(V5, "stays");
        stays.subscribe("$share/g/t", AtLeastOnce);
        let mut publisher = broker.client(V5, "p");
        let mut got = BTreeSet::new();
        for number in 0..40_u16 {
            let mut member = broker.client(V5, &format!("m{}", number % 7));
            member.send(subscribe(1, &[("$share/g/t", at(AtLeastOnce))]));
            for half in 0..2 {
                let packet_id = number * 2 + half + 1;
                let payload = packet_id.to_string();
                publisher.send(Packet::Publish(Publish { qos: AtLeastOnce, packet_id, ..message("t", &payload) }));
            }
            broker.advance(std::time::Duration::from_micros(u64::from(number)));
            if number % 2 == 0 {
                member.reset();
            } else {
                member.send(unsubscribe(2, &["$share/g/t"]));
                while let Some(packet) = member.next_or_none() {
                    if let Packet::Publish(publish) = packet {
                        member.send(puback(publish.packet_id));
                        got.insert(publish.payload);
                    }
                }
            }
            got.extend(drain(&mut stays).into_iter().map(|publish| publish.payload));
        }
        got.extend(drain(&mut stays).into_iter().map(|publish| publish.payload));
        assert_eq!(got.len(), 80, "{strategy:?}");
    });
}
