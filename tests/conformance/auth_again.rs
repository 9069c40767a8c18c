//! Authenticating again (§4.12.1), and an authentication that is over.

use std::time::Duration;

use ringmq::auth::{Principal, Question, Verdict};
use ringmq::codec::ReasonCode;
use ringmq::sim::wire::{Connect, Packet, Reasoned};

use crate::auth::{auth, with_method};
use crate::broker::*;

const METHOD: &str = "SCRAM-SHA-256";

/// A client of user `anna` that came in by an exchange.
fn authenticated(broker: &Broker) -> Client {
    broker.let_in(with_method("c", b"first"), "anna").0
}

fn lasting_for(user: &str, seconds: u64) -> Verdict {
    let lasts = Some(Duration::from_secs(seconds));
    let principal = Box::new(Principal { user: Some(user.into()), lasts, ..Principal::default() });
    Verdict::Allow { principal, data: Vec::new() }
}

fn on_asking(test: impl Fn(&Broker)) {
    for shards in [1, 3] {
        test(&Broker::asking(shards));
    }
}

#[test]
fn a_client_authenticates_again_while_its_traffic_goes_on() {
    on_asking(|broker| {
        let mut client = authenticated(broker);
        client.subscribe("t", AtMostOnce);
        client.send(auth(0x19, METHOD, b"again"));
        let asked = broker.question();
        let Question::Renew(credentials) = &asked.question else { panic!("{asked:?}") };
        assert_eq!((credentials.user.as_deref(), credentials.method.as_deref()), (Some("anna"), Some(METHOD)));
        assert_eq!((credentials.client_id.as_str(), &credentials.data[..]), ("c", &b"again"[..]));
        client.publish("t", "meanwhile");
        client.expect_message("t", "meanwhile");
        broker.answer(&asked, Verdict::Continue { data: b"step".to_vec() });
        client.expect(auth(0x18, METHOD, b"step"));
        client.ping();
        client.send(auth(0x18, METHOD, b"answer"));
        let asked = broker.question();
        assert!(matches!(&asked.question, Question::Continue { data } if data == b"answer"));
        let principal = Box::new(Principal { user: Some("anna".into()), ..Principal::default() });
        broker.answer(&asked, Verdict::Allow { principal, data: b"done".to_vec() });
        client.expect(auth(0x00, METHOD, b"done"));
        client.ping();
    });
}

#[test]
fn a_failed_attempt_to_authenticate_again_ends_the_connection() {
    on_asking(|broker| {
        let mut client = authenticated(broker);
        client.send(auth(0x19, METHOD, b"again"));
        let asked = broker.question();
        broker.answer(&asked, Verdict::Deny(ReasonCode::NotAuthorized));
        client.expect_dismissal(0x87);
    });
}

#[test]
fn nobody_becomes_another_user_by_authenticating_again() {
    on_asking(|broker| {
        let mut client = authenticated(broker);
        client.send(auth(0x19, METHOD, b"again"));
        broker.allow("mallory");
        client.expect_dismissal(0x87);
    });
}

#[test]
fn auth_of_another_method_ends_the_connection() {
    on_asking(|broker| {
        let mut client = authenticated(broker);
        client.send(auth(0x19, "PLAIN", b"again"));
        client.expect_dismissal(0x8C);
    });
}

#[test]
fn auth_out_of_turn_is_a_protocol_error() {
    on_asking(|broker| {
        // Nothing to go on with.
        let mut client = authenticated(broker);
        client.send(auth(0x18, METHOD, b"x"));
        client.expect_dismissal(0x82);
        // Success is the server's to say.
        let mut client = authenticated(broker);
        client.send(auth(0x00, METHOD, b"x"));
        client.expect_dismissal(0x82);
        // A second question before the first is answered.
        let mut client = authenticated(broker);
        client.send(auth(0x19, METHOD, b"x"));
        let asked = broker.question();
        client.send(auth(0x19, METHOD, b"x"));
        client.expect_dismissal(0x82);
        assert!(broker.desk().is_forgotten(asked.shard, asked.conn));
    });
}

#[test]
fn a_client_that_came_in_without_a_method_has_no_auth() {
    on_asking(|broker| {
        let (mut client, _) = broker.let_in(Connect::new(V5, "c"), "anna");
        client.send(auth(0x19, METHOD, b"x"));
        client.expect_dismissal(0x82);
        let (mut client, _) = broker.let_in(Connect::new(V5, "c"), "anna");
        client.send(Packet::Auth(Reasoned { reason: 0, properties: Properties::new() }));
        client.expect_dismissal(0x82);
    });
}

#[test]
fn too_many_questions_end_an_attempt_to_authenticate_again() {
    on_asking(|broker| {
        let mut client = authenticated(broker);
        broker.desk().set_busy(true);
        client.send(auth(0x19, METHOD, b"x"));
        client.expect_dismissal(0x89);
    });
}

#[test]
fn a_client_whose_authentication_is_over_is_dismissed_and_its_will_published() {
    for version in BOTH {
        for shards in [1, 3] {
            let broker = Broker::asking(shards);
            let (mut watcher, _) = broker.let_in(Connect::new(version, "w"), "w");
            watcher.subscribe("will", AtMostOnce);
            let mut connect = Connect::new(version, "c");
            connect.will = Some(Will { topic: "will".into(), payload: b"gone".to_vec(), ..Will::default() });
            let mut client = broker.dial(version);
            client.send(Packet::Connect(connect));
            let asked = broker.question();
            broker.answer(&asked, lasting_for("anna", 1000));
            assert_eq!(client.next_connack().code, 0);
            broker.seconds(999);
            client.ping();
            broker.seconds(2);
            client.expect_dismissal(0x87);
            watcher.expect_message("will", "gone");
        }
    }
}

#[test]
fn what_a_client_is_told_whose_authentication_is_over_is_the_operators_choice() {
    for version in BOTH {
        let broker = Broker::asking(1);
        broker.shared().set_expired_reason(ReasonCode::AdministrativeAction);
        let mut client = broker.dial(version);
        client.send(Packet::Connect(Connect::new(version, "c")));
        let asked = broker.question();
        broker.answer(&asked, lasting_for("anna", 10));
        assert_eq!(client.next_connack().code, 0);
        broker.seconds(11);
        // 3.1.1 has no DISCONNECT of a server: the connection is closed.
        client.expect_dismissal(0x98);
    }
}

#[test]
fn who_authenticates_again_in_time_stays() {
    on_asking(|broker| {
        let mut client = broker.dial(V5);
        client.send(Packet::Connect(with_method("c", b"1")));
        let mut asked = broker.question();
        broker.answer(&asked, lasting_for("anna", 100));
        assert_eq!(client.next_connack().code, 0);
        for seconds in [100, 10, 400] {
            broker.seconds(9);
            client.send(auth(0x19, METHOD, b"again"));
            asked = broker.question();
            broker.answer(&asked, lasting_for("anna", seconds));
            assert!(matches!(client.next(), Packet::Auth(Reasoned { reason: 0, .. })));
        }
        broker.seconds(399);
        client.ping();
        broker.seconds(2);
        client.expect_dismissal(0x87);
    });
}
