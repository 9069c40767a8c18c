//! The engine must see what a broker does wrong: each test runs a plan against a small forwarder that sins in one way,
//! because a check that can't fail proves nothing.

mod engine_common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use engine_common::{group, lasting, pairs, plan, publication, run, subscription};
use ringmq::codec::{
    ConnAck, Frame, Framed, Packet, PacketType, ProtocolVersion, PublishHead, QoS, SubAck, UserProperties, decode,
    encode, encode_ack, encode_ping_resp, encode_publish_head, frame,
};
use ringmq_loadgen::engine::{Conducted, Error, Outcome};
use ringmq_loadgen::measure::Faults;
use ringmq_loadgen::plan::{Group, Pace, Plan, Presence, Publication, Will};

const VERSION: ProtocolVersion = ProtocolVersion::V311;
const MESSAGES: u64 = 20;

/// What the forwarder does with the PUBLISH of a number that counts from 0: whole packet in, what the subscriber gets out.
type Forward = fn(number: usize, publish: &[u8], subscriber: &mut Vec<u8>);
/// How it acknowledges that PUBLISH.
type Acknowledge = fn(number: usize, kind: PacketType, id: u16, publisher: &mut Vec<u8>);

/// How a forwarder behaves.
#[derive(Clone, Copy)]
struct Manners {
    forward: Forward,
    acknowledge: Acknowledge,
    connack: u8,
    suback: Option<u8>,
    session_present: bool,
    answers_pings: bool,
    /// Ends the publisher's connection at this PUBLISH.
    hangs_up_at: usize,
    /// Sent to the subscriber right after its SUBACK.
    greeting: fn(&mut Vec<u8>),
}

const HONEST: Manners = Manners {
    forward: pass,
    acknowledge: answer,
    connack: 0,
    suback: None,
    session_present: false,
    answers_pings: true,
    hangs_up_at: usize::MAX,
    greeting: |_| {},
};

fn pass(_: usize, publish: &[u8], subscriber: &mut Vec<u8>) {
    subscriber.extend_from_slice(publish);
}

fn answer(_: usize, kind: PacketType, id: u16, publisher: &mut Vec<u8>) {
    encode_ack(publisher, VERSION, kind, id, 0);
}

/// A forwarder between one publisher and whoever subscribed last; ends with the test's process.
struct Forwarder {
    manners: Manners,
    subscriber: Mutex<Option<TcpStream>>,
    published: Mutex<usize>,
}

impl Forwarder {
    fn start(manners: Manners) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let forwarder = Arc::new(Self { manners, subscriber: Mutex::default(), published: Mutex::default() });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let forwarder = Arc::clone(&forwarder);
                thread::spawn(move || forwarder.serve(stream.unwrap()));
            }
        });
        address
    }

    /// One client, until it goes.
    fn serve(&self, mut stream: TcpStream) {
        let (mut received, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut chunk) {
            received.extend_from_slice(&chunk[..length]);
            let (mut own, mut forward) = (Vec::new(), Vec::new());
            while let Framed::Complete { frame: Frame { first, body }, len } = frame(&received, u32::MAX).unwrap() {
                let packet = decode(Frame { first, body }, VERSION).unwrap();
                if !self.handle(&packet, &received[..len], &stream, &mut own, &mut forward) {
                    stream.shutdown(Shutdown::Both).unwrap();
                    return;
                }
                received.drain(..len);
            }
            // The generator may be gone already.
            let _ = stream.write_all(&own);
            if !forward.is_empty() {
                let _ = self.subscriber.lock().unwrap().as_mut().unwrap().write_all(&forward);
            }
        }
    }

    /// Handles a packet; false ends the connection.
    fn handle(
        &self,
        packet: &Packet<'_>,
        bytes: &[u8],
        stream: &TcpStream,
        own: &mut Vec<u8>,
        forward: &mut Vec<u8>,
    ) -> bool {
        match packet {
            Packet::Connect(connect) => {
                let session_present = self.manners.session_present && !connect.clean_start;
                let connack = ConnAck { code: self.manners.connack, session_present, ..ConnAck::default() };
                encode(&Packet::ConnAck(connack), VERSION, own);
            }
            Packet::Subscribe(subscribe) => {
                *self.subscriber.lock().unwrap() = Some(stream.try_clone().unwrap());
                let granted = subscribe.filters.iter().map(|filter| filter.options.qos as u8);
                let codes = &granted.map(|granted| self.manners.suback.unwrap_or(granted)).collect::<Vec<_>>();
                let user_properties = UserProperties::default();
                let suback = SubAck { packet_id: subscribe.packet_id, reason_string: None, user_properties, codes };
                encode(&Packet::SubAck(suback), VERSION, own);
                (self.manners.greeting)(own);
            }
            Packet::Publish(publish) => {
                let mut published = self.published.lock().unwrap();
                if *published == self.manners.hangs_up_at {
                    *published += 1;
                    return false;
                }
                let kind = if publish.qos == QoS::ExactlyOnce { PacketType::PubRec } else { PacketType::PubAck };
                if publish.qos > QoS::AtMostOnce {
                    (self.manners.acknowledge)(*published, kind, publish.packet_id, own);
                }
                (self.manners.forward)(*published, bytes, forward);
                *published += 1;
            }
            Packet::PubRec(ack) => encode_ack(own, VERSION, PacketType::PubRel, ack.packet_id, 0),
            Packet::PubRel(ack) => encode_ack(own, VERSION, PacketType::PubComp, ack.packet_id, 0),
            Packet::PingReq if self.manners.answers_pings => encode_ping_resp(own),
            Packet::Disconnect(_) => return false,
            _ => {}
        }
        true
    }
}

/// One pair and a limited number of messages at a QoS.
fn limited(qos: u8) -> Plan {
    let mut plan = plan(pairs(1, qos, Pace::Rate { per_second: 1000.0, poisson: false }));
    plan.groups[1].publish[0].limit = Some(MESSAGES);
    plan.timing.warm_up = Duration::from_millis(50);
    plan.timing.window = Duration::from_millis(50);
    plan.timing.patience = Duration::from_millis(400);
    plan
}

fn conduct(manners: Manners, plan: &Plan) -> Result<Conducted, Error> {
    run(plan, Forwarder::start(manners), 1).map(|(conducted, _)| conducted)
}

fn outcome(manners: Manners, plan: &Plan) -> Outcome {
    conduct(manners, plan).unwrap().outcome
}

/// What the ledgers say about a forwarder at a QoS.
fn faults(manners: Manners, qos: u8) -> Faults {
    let outcome = outcome(manners, &limited(qos));
    assert_eq!((outcome.dropped, &outcome.failures[..]), (0, &[][..]));
    assert_eq!(outcome.is_clean(), outcome.faults == Faults::default());
    outcome.faults
}

#[test]
fn an_honest_broker_passes_at_every_qos() {
    for qos in 0..=2 {
        assert_eq!(faults(HONEST, qos), Faults::default());
    }
}

#[test]
fn a_message_delivered_twice_is_duplicated() {
    let twice: Forward = |number, publish, subscriber| {
        (0..1 + usize::from(number == 5)).for_each(|_| pass(0, publish, subscriber));
    };
    for qos in 0..=2 {
        assert_eq!(faults(Manners { forward: twice, ..HONEST }, qos), Faults { duplicated: 1, ..Faults::default() });
    }
}

#[test]
fn a_lost_message_is_lost_at_its_qos() {
    let lose: Forward = |number, publish, subscriber| {
        if number != 3 {
            pass(0, publish, subscriber);
        }
    };
    let manners = Manners { forward: lose, ..HONEST };
    assert_eq!(faults(manners, 0), Faults { lost_qos0: 1, ..Faults::default() });
    assert_eq!(faults(manners, 1), Faults { lost_qos1: 1, ..Faults::default() });
    assert_eq!(faults(manners, 2), Faults { lost_qos2: 1, ..Faults::default() });
}

#[test]
fn the_last_messages_are_missed_too() {
    let stop: Forward = |number, publish, subscriber| {
        if number + 4 < MESSAGES as usize {
            pass(0, publish, subscriber);
        }
    };
    assert_eq!(faults(Manners { forward: stop, ..HONEST }, 1), Faults { lost_qos1: 4, ..Faults::default() });
}

#[test]
fn messages_in_another_order_are_reordered() {
    static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let swap: Forward = |number, publish, subscriber| match number {
        6 => HELD.lock().unwrap().extend_from_slice(publish),
        7 => {
            pass(0, publish, subscriber);
            subscriber.append(&mut HELD.lock().unwrap());
        }
        _ => pass(0, publish, subscriber),
    };
    assert_eq!(faults(Manners { forward: swap, ..HONEST }, 0), Faults { reordered: 1, ..Faults::default() });
}

#[test]
fn a_changed_byte_is_corruption_and_its_message_is_lost() {
    for at in [1, 50] {
        let corrupt: Forward = match at {
            1 => |number, publish, subscriber| {
                pass(0, publish, subscriber);
                if number == 2 {
                    *subscriber.last_mut().unwrap() ^= 1;
                }
            },
            _ => |number, publish, subscriber| {
                pass(0, publish, subscriber);
                if number == 2 {
                    let at = subscriber.len() - 50;
                    subscriber[at] ^= 1;
                }
            },
        };
        let expected = Faults { corrupted: 1, lost_qos0: 1, ..Faults::default() };
        assert_eq!(faults(Manners { forward: corrupt, ..HONEST }, 0), expected, "{at} from the end");
    }
}

#[test]
fn a_message_on_another_topic_is_corruption_and_its_message_is_lost() {
    let astray: Forward = |number, publish, subscriber| {
        pass(0, publish, subscriber);
        if number == 2 {
            let topic = publish.windows(6).position(|bytes| bytes == b"pair/0").unwrap();
            let length = subscriber.len();
            subscriber[length - publish.len() + topic + 5] = b'1';
        }
    };
    let expected = Faults { corrupted: 1, lost_qos0: 1, ..Faults::default() };
    assert_eq!(faults(Manners { forward: astray, ..HONEST }, 0), expected);
}

#[test]
fn a_member_of_a_shared_subscription_gets_each_publishers_messages_in_order() {
    static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let swap: Forward = |number, publish, subscriber| match number {
        6 => HELD.lock().unwrap().extend_from_slice(publish),
        7 => {
            pass(0, publish, subscriber);
            subscriber.append(&mut HELD.lock().unwrap());
        }
        _ => pass(0, publish, subscriber),
    };
    let mut plan = limited(0);
    plan.groups[0].subscribe = vec![subscription("$share/group/pair/0", 0)];
    let faults = |forward| outcome(Manners { forward, ..HONEST }, &plan).faults;
    assert_eq!(faults(pass), Faults::default());
    assert_eq!(faults(swap), Faults { reordered: 1, ..Faults::default() });
}

#[test]
fn a_message_to_who_did_not_ask_is_corruption() {
    // The pair's own topic is 0; the subscriber listens to another one.
    let mut plan = limited(0);
    plan.groups[0].subscribe = vec![subscription("another/topic", 0)];
    let faults = outcome(HONEST, &plan).faults;
    assert_eq!(faults, Faults { corrupted: MESSAGES, ..Faults::default() });
}

#[test]
fn acknowledgements_out_of_turn_or_of_nothing_are_told() {
    static HELD: Mutex<Option<u16>> = Mutex::new(None);
    let swap: Acknowledge = |number, kind, id, publisher| match number {
        2 => *HELD.lock().unwrap() = Some(id),
        3 => {
            answer(0, kind, id, publisher);
            answer(0, kind, HELD.lock().unwrap().take().unwrap(), publisher);
        }
        _ => answer(0, kind, id, publisher),
    };
    let strange: Acknowledge = |number, kind, id, publisher| {
        answer(0, kind, id, publisher);
        if number == 4 {
            answer(0, kind, 999, publisher);
        }
    };
    for acknowledge in [swap, strange] {
        let manners = Manners { acknowledge, ..HONEST };
        assert_eq!(faults(manners, 1), Faults { misacknowledged: 1, ..Faults::default() });
    }
    assert_eq!(faults(Manners { acknowledge: swap, ..HONEST }, 2).misacknowledged, 1);
}

/// A retained PUBLISH of what the publisher sent as its message of a number (all of them before the subscriber came).
fn retained_plan() -> Plan {
    let mut plan = limited(1);
    plan.groups[1].publish[0] = Publication { retain: true, ..plan.groups[1].publish[0].clone() };
    plan.groups[0].stage = 1;
    plan
}

static LAST: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn remember(number: usize, publish: &[u8], _: &mut Vec<u8>) {
    // Tests of this file that use it run one after the other, in one test function.
    if number + 1 == MESSAGES as usize {
        *LAST.lock().unwrap() = publish.to_vec();
    }
}

fn remember_one_but_last(number: usize, publish: &[u8], _: &mut Vec<u8>) {
    if number + 2 == MESSAGES as usize {
        *LAST.lock().unwrap() = publish.to_vec();
    }
}

#[test]
fn a_retained_message_that_is_missing_old_or_there_twice_is_told() {
    let once = |out: &mut Vec<u8>| out.extend_from_slice(&LAST.lock().unwrap());
    let twice = |out: &mut Vec<u8>| (0..2).for_each(|_| out.extend_from_slice(&LAST.lock().unwrap()));
    for (forward, greeting, expected) in [
        (remember as Forward, once as fn(&mut Vec<u8>), Faults::default()),
        (remember, |_: &mut Vec<u8>| {}, Faults { lost_qos1: 1, ..Faults::default() }),
        (remember, twice, Faults { duplicated: 1, ..Faults::default() }),
        (remember_one_but_last, once, Faults { lost_qos1: 1, ..Faults::default() }),
    ] {
        let outcome = outcome(Manners { forward, greeting, ..HONEST }, &retained_plan());
        assert_eq!(outcome.faults, expected);
    }
}

#[test]
fn at_qos_1_a_redelivery_after_coming_back_is_no_fault() {
    static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let keep: Forward = |number, publish, subscriber| {
        pass(0, publish, subscriber);
        let mut held = HELD.lock().unwrap();
        if number == 0 {
            *held = publish.to_vec();
        } else if number + 1 == MESSAGES as usize {
            held[0] |= 0x08;
            subscriber.append(&mut held);
        }
    };
    let mut plan = limited(1);
    let presence =
        Presence::Cycle { online: Duration::from_millis(40), offline: Duration::from_millis(1), abrupt: false };
    plan.groups[0] = Group { presence, version: 4, clean: false, ..plan.groups[0].clone() };
    plan.groups[1].publish[0].pace = Pace::Rate { per_second: 100.0, poisson: false };
    plan.timing.window = Duration::from_millis(300);
    // The forwarder knows its subscriber by SUBSCRIBE: it says that there is no session, so that one comes.
    let outcome = outcome(Manners { forward: keep, ..HONEST }, &plan);
    assert_eq!(outcome.faults.redelivered, 1, "{:?}", outcome.faults);
    assert_eq!(outcome.faults.duplicated, 0);
    assert!(outcome.failures.iter().any(|what| what.contains("session") && what.contains("gone")), "{outcome:?}");
}

#[test]
fn wills_that_never_come_are_told() {
    let will = Will {
        topic: "pair/will".to_owned(),
        payload: "gone".to_owned(),
        qos: 1,
        retain: false,
        delay: None,
        message_expiry: None,
        properties: Default::default(),
        user_properties: Vec::new(),
    };
    let some = Duration::from_millis(100);
    let mut plan = limited(1);
    plan.groups[0].subscribe.push(subscription("pair/will", 1));
    let presence = Presence::Cycle { online: some, offline: some, abrupt: true };
    plan.groups.push(Group { will: Some(will), presence, ..group("mortals", 2) });
    plan.timing.window = Duration::from_millis(400);
    // The forwarder knows nothing of wills.
    let told = outcome(HONEST, &plan).failures;
    assert!(told[0].contains("wills that were owed did not come"), "{told:?}");
}

#[test]
fn a_broker_that_hangs_up_is_a_dropped_connection_and_the_run_goes_on() {
    let outcome = outcome(Manners { hangs_up_at: 7, ..HONEST }, &limited(0));
    assert_eq!(outcome.dropped, 1);
    assert!(outcome.failures[0].contains("publishers-0") && outcome.failures[0].contains("dropped"), "{outcome:?}");
    assert!(!outcome.is_clean());
}

#[test]
fn who_was_dropped_and_came_back_stays_as_long_as_the_plan_says() {
    let some = Duration::from_millis(300);
    let mut plan = limited(0);
    plan.groups[1] = Group {
        presence: Presence::Cycle { online: some, offline: some, abrupt: false },
        publish: vec![publication("pair/%i", 0, Pace::Rate { per_second: 500.0, poisson: false })],
        ..plan.groups[1].clone()
    };
    plan.timing.window = Duration::from_secs(4);
    // Dropped once, at its first message: the timer of that stay must not cut later ones short.
    let address = Forwarder::start(Manners { hangs_up_at: 1, ..HONEST });
    let (conducted, seen) = run(&plan, address, 1).unwrap();
    assert_eq!(conducted.outcome.dropped, 1);
    let connects = seen.all(|counts| counts.connected) - 1;
    // 6.8 on average, and 13 when two timers run.
    assert!((5..=9).contains(&connects), "{connects}");
}

#[test]
fn a_ping_without_an_answer_is_a_dropped_connection() {
    let mut plan = plan(vec![Group { keep_alive: 1, ..group("idle", 1) }]);
    plan.timing.patience = Duration::from_millis(300);
    plan.timing.window = Duration::from_millis(1400);
    let outcome = outcome(Manners { answers_pings: false, ..HONEST }, &plan);
    assert_eq!(outcome.dropped, 1);
    assert!(outcome.failures[0].contains("PINGREQ"), "{outcome:?}");
}

#[test]
fn a_broker_that_goes_silent_is_a_stall_and_not_a_result() {
    let mute: Forward = |number, publish, subscriber| {
        if number < 8 {
            pass(0, publish, subscriber);
        }
    };
    let mut plan = plan(pairs(1, 0, Pace::Outstanding(4)));
    plan.timing.window = Duration::from_secs(60);
    plan.timing.patience = Duration::from_millis(300);
    let error = conduct(Manners { forward: mute, ..HONEST }, &plan).unwrap_err().to_string();
    assert!(error.contains("while 4 deliveries"), "{error}");
}

#[test]
fn answers_to_pings_do_not_hide_a_stall() {
    let mute: Forward = |_, _, _| {};
    let mut groups = pairs(1, 0, Pace::Outstanding(4));
    groups.push(Group { keep_alive: 1, ..group("idle", 3) });
    let mut plan = plan(groups);
    plan.timing.window = Duration::from_secs(5);
    // Longer than three quarters of the keep alive.
    plan.timing.patience = Duration::from_secs(1);
    let error = conduct(Manners { forward: mute, ..HONEST }, &plan).unwrap_err().to_string();
    assert!(error.contains("while 4 deliveries"), "{error}");
}

#[test]
fn refusals_are_told_with_their_codes_and_whom_they_met() {
    let error = conduct(Manners { connack: 5, ..HONEST }, &limited(0)).unwrap_err().to_string();
    assert!(error.contains("CONNACK code 0x05") && error.contains("not authorized"), "{error}");
    let error = conduct(Manners { suback: Some(0x80), ..HONEST }, &limited(0)).unwrap_err().to_string();
    assert!(error.contains("subscribers-0") && error.contains("pair/0") && error.contains("0x80"), "{error}");
}

#[test]
fn a_lower_qos_than_asked_for_is_told() {
    let told = outcome(Manners { suback: Some(0), ..HONEST }, &limited(1)).failures;
    assert!(told[0].contains("was granted QoS 0 instead of 1 for pair/0"), "{told:?}");
}

#[test]
fn what_is_lost_is_held_to_the_qos_that_was_granted() {
    let lose: Forward = |number, publish, subscriber| {
        if number != 3 {
            pass(0, publish, subscriber);
        }
    };
    let faults = outcome(Manners { suback: Some(0), forward: lose, ..HONEST }, &limited(1)).faults;
    assert_eq!(faults, Faults { lost_qos0: 1, ..Faults::default() });
}

#[test]
fn a_session_from_an_earlier_run_is_one_clear_error() {
    let mut plan = limited(1);
    plan.groups[0].clean = false;
    let error = conduct(Manners { session_present: true, ..HONEST }, &plan).unwrap_err().to_string();
    assert!(error.contains("subscribers-0") && error.contains("earlier run") && error.contains("--clean"), "{error}");
}

#[test]
fn bytes_that_are_no_mqtt_end_the_run_with_the_name_of_who_got_them() {
    let manners = Manners { greeting: |out| out.extend_from_slice(&[0x00, 0x00]), ..HONEST };
    let error = conduct(manners, &limited(0)).unwrap_err().to_string();
    assert!(error.contains("subscribers-0") && error.contains("malformed"), "{error}");
}

#[test]
fn a_peer_that_speaks_something_else_is_told_with_what_it_may_be() {
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "HTTP"),
        (&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46], "TLS"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH"),
        (b"220 mail.example ESMTP\r\n", "1883"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            // Until the generator goes.
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.read(&mut [0; 4096]));
        });
        let error = run(&plan(vec![group("clients", 1)]), address, 1).err().unwrap().to_string();
        peer.join().unwrap();
        assert!(error.contains("is it an MQTT listener?") && error.contains(words), "{error}");
        assert!(error.contains(&address.to_string()), "{error}");
    }
}

#[test]
fn an_unexpected_payload_is_corruption_and_the_run_goes_on() {
    let manners = Manners {
        greeting: |out| {
            let head = PublishHead { topic: "pair/0", ..PublishHead::default() };
            encode_publish_head(out, VERSION, &head, 2);
            out.extend_from_slice(b"hi");
        },
        ..HONEST
    };
    assert_eq!(faults(manners, 0), Faults { corrupted: 1, ..Faults::default() });
}

#[test]
fn unacknowledged_messages_are_sent_again_when_the_session_resumes() {
    // The acknowledgements of the first connection never come; those of the second say that it saw everything again.
    let late: Acknowledge = |number, kind, id, publisher| {
        if number >= MESSAGES as usize {
            answer(0, kind, id, publisher);
        }
    };
    let first_time: Forward = |number, publish, subscriber| {
        if number < MESSAGES as usize {
            pass(0, publish, subscriber);
        } else {
            assert!(publish[0] & 0x08 != 0, "sent again with DUP");
        }
    };
    let presence =
        Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(1), abrupt: true };
    let mut plan = limited(1);
    plan.groups[1] = Group { publish: vec![publication("pair/%i", 1, Pace::Outstanding(100))], ..lasting("p", 1) };
    plan.groups[1].publish[0].limit = Some(MESSAGES);
    plan.groups[1] = Group { presence, version: 4, session_expiry: None, clean: false, ..plan.groups[1].clone() };
    plan.timing.window = Duration::from_millis(300);
    let outcome = outcome(Manners { acknowledge: late, forward: first_time, session_present: true, ..HONEST }, &plan);
    assert_eq!(outcome.faults, Faults::default(), "{outcome:?}");
}
