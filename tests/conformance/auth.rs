//! Who may come in (§3.1.4, §3.15, §4.12): a question for each CONNECT, and what the client may do meanwhile.

use std::time::Duration;

use ringmq::auth::{Principal, Question, Verdict};
use ringmq::codec::ReasonCode;
use ringmq::sim::wire::{Connect, Packet, Publish, Reasoned, encode};

use crate::broker::*;

const METHOD: &str = "SCRAM-SHA-256";

/// Runs a test for 3.1.1 and 5.0, on one shard and on three, with a broker that asks.
fn for_both_asking(test: impl Fn(&Broker, ProtocolVersion)) {
    for version in BOTH {
        for shards in [1, 3] {
            test(&Broker::asking(shards), version);
        }
    }
}

/// A CONNECT that begins an exchange.
pub fn with_method(client_id: &str, data: &[u8]) -> Connect {
    let mut connect = lasting(V5, client_id);
    connect
        .properties
        .0
        .extend(Properties::new().text(id::AUTHENTICATION_METHOD, METHOD).binary(id::AUTHENTICATION_DATA, data).0);
    connect
}

/// A client that has sent CONNECT and waits for its answer.
fn knock(broker: &Broker, version: ProtocolVersion) -> Client {
    let mut client = broker.dial(version);
    client.send(Packet::Connect(Connect::new(version, "c")));
    client
}

/// An AUTH packet.
pub fn auth(reason: u8, method: &str, data: &[u8]) -> Packet {
    let properties = Properties::new().text(id::AUTHENTICATION_METHOD, method).binary(id::AUTHENTICATION_DATA, data);
    Packet::Auth(Reasoned { reason, properties })
}

fn challenge(data: &[u8]) -> Verdict {
    Verdict::Continue { data: data.to_vec() }
}

fn yes(user: &str, data: &[u8]) -> Verdict {
    let principal = Box::new(Principal { user: Some(user.into()), ..Principal::default() });
    Verdict::Allow { principal, data: data.to_vec() }
}

#[track_caller]
fn data_of(question: &Question) -> &[u8] {
    match question {
        Question::Continue { data } => data,
        Question::Connect(credentials) | Question::Renew(credentials) => &credentials.data,
    }
}

#[test]
fn what_a_client_says_of_itself_is_asked_about_and_connack_waits_for_the_answer() {
    for_both_asking(|broker, version| {
        let mut connect = Connect::new(version, "c");
        connect.user_name = Some("anna".into());
        connect.password = Some(b"secret".to_vec());
        let mut client = broker.dial(version);
        client.send(Packet::Connect(connect));
        let asked = broker.question();
        let Question::Connect(credentials) = &asked.question else { panic!("{asked:?}") };
        assert_eq!((credentials.client_id.as_str(), credentials.user.as_deref()), ("c", Some("anna")));
        assert_eq!(credentials.password.as_ref().map(|password| password.bytes()), Some(&b"secret"[..]));
        assert!(!format!("{asked:?}").contains("secret"), "a password is not to be seen in a log");
        client.expect_nothing();
        broker.answer(&asked, allow("anna"));
        assert_eq!(client.next_connack().code, 0);
        client.ping();
    });
}

#[test]
fn whoever_is_denied_is_told_the_reason_and_cut_off() {
    for_both_asking(|broker, version| {
        for (code, v3) in [(ReasonCode::BadUserNameOrPassword, 4), (ReasonCode::NotAuthorized, 5)] {
            let mut client = knock(broker, version);
            let asked = broker.question();
            broker.answer(&asked, Verdict::Deny(code));
            assert_eq!(client.next_connack().code, if version == V5 { code as u8 } else { v3 });
            client.expect_closed();
        }
        assert_eq!((broker.count("connects_refused"), broker.count("sessions")), (2, 0));
    });
}

#[test]
fn packets_behind_connect_are_handled_when_the_client_was_let_in() {
    for_both_asking(|broker, version| {
        let (mut subscriber, _) = broker.let_in(Connect::new(version, "s"), "s");
        subscriber.subscribe("t", AtMostOnce);
        let mut client = knock(broker, version);
        client.publish("t", "early");
        let asked = broker.question();
        client.publish("t", "later");
        subscriber.expect_nothing();
        broker.answer(&asked, allow("c"));
        subscriber.expect_message("t", "early");
        subscriber.expect_message("t", "later");
        client.publish("t", "afterwards");
        subscriber.expect_message("t", "afterwards");
    });
}

#[test]
fn packets_behind_connect_are_dropped_when_the_client_was_not_let_in() {
    for_both_asking(|broker, version| {
        let (mut subscriber, _) = broker.let_in(Connect::new(version, "s"), "s");
        subscriber.subscribe("t", AtMostOnce);
        let mut client = knock(broker, version);
        client.publish("t", "x");
        let asked = broker.question();
        broker.answer(&asked, Verdict::Deny(ReasonCode::NotAuthorized));
        client.next_connack();
        client.expect_closed();
        subscriber.expect_nothing();
        assert_eq!((broker.count("publish_received"), broker.count("reassembly_bytes")), (0, 0));
    });
}

#[test]
fn an_answer_that_never_comes_ends_with_the_connect_timeout() {
    for_both_asking(|broker, version| {
        let mut client = knock(broker, version);
        let asked = broker.question();
        broker.seconds(6);
        assert_eq!(client.next_connack().code, if version == V5 { 0x88 } else { 3 });
        client.expect_closed();
        assert!(broker.desk().is_forgotten(asked.shard, asked.conn));
        // Too late.
        broker.answer(&asked, allow("c"));
        assert_eq!((broker.count("connects"), broker.count("sessions")), (0, 0));
    });
}

#[test]
fn an_answer_for_a_connection_that_is_gone_is_ignored_even_if_its_slot_is_used_again() {
    for_both_asking(|broker, version| {
        let client = knock(broker, version);
        let first = broker.question();
        client.reset();
        let mut client = knock(broker, version);
        let second = broker.question();
        broker.answer(&first, allow("somebody"));
        client.expect_nothing();
        broker.answer(&second, allow("c"));
        assert_eq!(client.next_connack().code, 0);
    });
}

#[test]
fn too_many_questions_refuse_with_server_busy() {
    for_both_asking(|broker, version| {
        broker.desk().set_busy(true);
        let mut client = knock(broker, version);
        assert_eq!(client.next_connack().code, if version == V5 { 0x89 } else { 3 });
        client.expect_closed();
    });
}

#[test]
fn a_session_is_taken_over_only_by_a_client_that_was_let_in() {
    for_both_asking(|broker, version| {
        let (mut first, _) = broker.let_in(lasting(version, "c"), "anna");
        first.subscribe("t", AtMostOnce);
        for clean_start in [false, true] {
            let mut second = broker.dial(version);
            second.send(Packet::Connect(Connect { clean_start, ..lasting(version, "c") }));
            let asked = broker.question();
            first.ping();
            broker.answer(&asked, Verdict::Deny(ReasonCode::BadUserNameOrPassword));
            second.next_connack();
            second.expect_closed();
            first.ping();
        }
        let (_, present) = broker.let_in(lasting(version, "c"), "anna");
        assert!(present);
        first.expect_ended();
    });
}

#[test]
fn a_session_belongs_to_the_user_that_made_it() {
    for_both_asking(|broker, version| {
        for (clean_start, away) in [(false, false), (true, false), (true, true), (false, true)] {
            let (anna, _) = broker.let_in(lasting(version, "c"), "anna");
            let anna = if away {
                anna.close();
                None
            } else {
                Some(anna)
            };
            let mut mallory = broker.dial(version);
            mallory.send(Packet::Connect(Connect { clean_start, ..lasting(version, "c") }));
            broker.allow("mallory");
            assert_eq!(mallory.next_connack().code, if version == V5 { 0x85 } else { 2 });
            mallory.expect_closed();
            // Hers it is still, and her connection is what it was.
            anna.into_iter().for_each(|mut anna| anna.ping());
            assert!(broker.let_in(lasting(version, "c"), "anna").1);
        }
    });
}

#[test]
fn a_client_that_closes_while_it_is_asked_about_is_heard_to_the_end_or_not_at_all() {
    for_both_asking(|broker, version| {
        let (mut subscriber, _) = broker.let_in(Connect::new(version, "s"), "s");
        subscriber.subscribe("t", AtMostOnce);
        for let_in in [true, false] {
            let mut client = knock(broker, version);
            client.publish("t", "last");
            client.send(Packet::Disconnect(Reasoned::default()));
            let asked = broker.question();
            client.close();
            let verdict = if let_in { allow("c") } else { Verdict::Deny(ReasonCode::NotAuthorized) };
            broker.answer(&asked, verdict);
            if let_in {
                subscriber.expect_message("t", "last");
            }
            subscriber.expect_nothing();
            assert_eq!(broker.count("connections"), 1);
        }
    });
}

#[test]
fn a_broker_that_stops_waits_for_no_answer() {
    for_both_asking(|broker, version| {
        let mut client = knock(broker, version);
        let asked = broker.question();
        broker.stop();
        client.expect_closed();
        broker.answer(&asked, allow("c"));
        assert_eq!(broker.count("sessions"), 0);
    });
}

/// The first packet is a CONNECT, and what comes before CONNACK is AUTH or DISCONNECT [MQTT-3.1.2-30].
#[test]
fn a_packet_that_is_not_auth_ends_the_exchange() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        for packet in [
            Packet::Connect(Connect::new(V5, "c")),
            Packet::Publish(message("t", "x")),
            Packet::PingReq,
            auth(0x19, METHOD, b""),
            Packet::Auth(Reasoned { reason: 0, properties: Properties::new() }),
        ] {
            let mut client = broker.dial(V5);
            client.send(Packet::Connect(with_method("c", b"1")));
            let asked = broker.question();
            broker.answer(&asked, challenge(b"2"));
            client.expect(auth(0x18, METHOD, b"2"));
            client.send(packet.clone());
            assert_eq!(client.next_connack().code, 0x82, "{packet:?}");
            client.expect_closed();
            assert!(broker.desk().is_forgotten(asked.shard, asked.conn));
        }
    }
}

#[test]
fn an_unfinished_packet_that_is_not_auth_is_not_waited_for() {
    let broker = Broker::asking(1);
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(with_method("c", b"1")));
    let asked = broker.question();
    broker.answer(&asked, challenge(b"2"));
    client.expect(auth(0x18, METHOD, b"2"));
    let publish = encode(&Packet::Publish(Publish { payload: vec![0; 1000], ..message("t", "") }), V5);
    client.send_bytes(&publish[..500]);
    assert_eq!(client.next_connack().code, 0x82);
    client.expect_closed();
}

#[test]
fn an_exchange_of_several_steps_ends_with_a_connack_that_names_the_method() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(with_method("c", b"first")));
        let mut asked = broker.question();
        assert_eq!(data_of(&asked.question), b"first");
        for step in [&b"one"[..], b"two", b"three"] {
            broker.answer(&asked, challenge(step));
            client.expect(auth(0x18, METHOD, step));
            client.send(auth(0x18, METHOD, step));
            asked = broker.question();
            assert!(matches!(asked.question, Question::Continue { .. }));
            assert_eq!(data_of(&asked.question), step);
        }
        broker.answer(&asked, yes("anna", b"last"));
        let ack = client.next_connack();
        assert_eq!(ack.code, 0);
        assert_eq!(ack.properties.find(id::AUTHENTICATION_METHOD), Some(&Value::Text(METHOD.into())));
        assert_eq!(ack.properties.find(id::AUTHENTICATION_DATA), Some(&Value::Binary(b"last".to_vec())));
        client.ping();
    }
}

/// Packets that come in pieces, and the client identifier that was assigned, survive the exchange.
#[test]
fn an_exchange_works_byte_by_byte_and_for_a_nameless_client() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = broker.dial(V5);
        client.one_by_one();
        client.send(Packet::Connect(with_method("", b"1")));
        let asked = broker.question();
        let Question::Connect(credentials) = &asked.question else { panic!("{asked:?}") };
        let name = credentials.client_id.clone();
        broker.answer(&asked, challenge(b"2"));
        client.expect(auth(0x18, METHOD, b"2"));
        client.send(auth(0x18, METHOD, b"3"));
        broker.allow("anna");
        let ack = client.next_connack();
        assert_eq!(ack.properties.find(id::ASSIGNED_CLIENT_IDENTIFIER), Some(&Value::Text(name)));
    }
}

#[test]
fn an_exchange_that_fails_is_answered_with_the_reason() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(with_method("c", b"1")));
        let asked = broker.question();
        broker.answer(&asked, challenge(b"2"));
        client.expect(auth(0x18, METHOD, b"2"));
        client.send(auth(0x18, METHOD, b"wrong"));
        let asked = broker.question();
        broker.answer(&asked, Verdict::Deny(ReasonCode::NotAuthorized));
        let ack = client.next_connack();
        assert_eq!((ack.code, ack.properties.find(id::AUTHENTICATION_METHOD)), (0x87, None));
        client.expect_closed();
    }
}

#[test]
fn a_method_that_nobody_knows_is_refused_with_its_own_reason() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(with_method("c", b"1")));
        let asked = broker.question();
        broker.answer(&asked, Verdict::Deny(ReasonCode::BadAuthenticationMethod));
        assert_eq!(client.next_connack().code, 0x8C);
        client.expect_closed();
    }
}

#[test]
fn auth_of_another_method_than_connects_is_refused() {
    for shards in [1, 3] {
        let broker = Broker::asking(shards);
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(with_method("c", b"1")));
        let asked = broker.question();
        broker.answer(&asked, challenge(b"2"));
        client.expect(auth(0x18, METHOD, b"2"));
        client.send(auth(0x18, "PLAIN", b"3"));
        assert_eq!(client.next_connack().code, 0x8C);
        client.expect_closed();
    }
}

#[test]
fn a_client_may_give_up_in_the_middle_of_an_exchange() {
    let broker = Broker::asking(1);
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(with_method("c", b"1")));
    let asked = broker.question();
    broker.answer(&asked, challenge(b"2"));
    client.expect(auth(0x18, METHOD, b"2"));
    client.send(Packet::Disconnect(Reasoned::default()));
    client.expect_closed();
    assert!(broker.desk().is_forgotten(asked.shard, asked.conn));
}

#[test]
fn a_client_that_does_not_answer_auth_is_cut_off_by_the_connect_timeout() {
    let broker = Broker::asking(1);
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(with_method("c", b"1")));
    let asked = broker.question();
    broker.answer(&asked, challenge(b"2"));
    client.expect(auth(0x18, METHOD, b"2"));
    broker.seconds(6);
    client.expect_closed();
}

/// The keep alive is counted from CONNACK, however long the answer took.
#[test]
fn the_time_that_the_answer_took_is_no_silence_of_the_client() {
    let broker = Broker::asking_with(1, |limits| limits.connect_timeout = Duration::from_secs(60));
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(Connect { keep_alive: 10, ..Connect::new(V5, "c") }));
    let asked = broker.question();
    broker.seconds(30);
    broker.answer(&asked, allow("c"));
    assert_eq!(client.next_connack().code, 0);
    broker.seconds(14);
    client.ping();
}

#[test]
fn what_an_unauthenticated_client_can_have_kept_is_bounded() {
    let broker = Broker::asking_with(1, |limits| limits.packet_bytes_max = 100 << 20);
    // A CONNECT of 50 MB is not even begun to be kept.
    let mut client = broker.dial(V5);
    client.send_bytes(&[0x10, 0x80, 0xE1, 0xEB, 0x17, 0, 4, b'M', b'Q', b'T', b'T', 5]);
    client.expect_closed();
    // Nor an AUTH.
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(with_method("c", b"1")));
    let asked = broker.question();
    broker.answer(&asked, challenge(b"2"));
    client.expect(auth(0x18, METHOD, b"2"));
    client.send_bytes(&[0xF0, 0x80, 0xE1, 0xEB, 0x17, 0x18]);
    assert_eq!(client.next_connack().code, 0x95);
    client.expect_closed();
    // And while the answer is awaited nothing is read.
    let mut client = broker.dial(V5);
    client.send(Packet::Connect(Connect::new(V5, "c")));
    let asked = broker.question();
    client.send_bytes(&vec![0; 10 << 20]);
    broker.rest();
    assert!(broker.count("reassembly_bytes") < 100_000, "{}", broker.count("reassembly_bytes"));
    broker.answer(&asked, Verdict::Deny(ReasonCode::NotAuthorized));
    client.next_connack();
    client.expect_closed();
    assert_eq!(broker.count("reassembly_bytes"), 0);
}
