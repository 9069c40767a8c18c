//! The generator must see what a broker does wrong: each test runs the binary against a small forwarder that
//! sins in one way, because a check that can't fail proves nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use ringmq::codec::{
    ConnAck, Frame, Framed, Packet, PacketType, ProtocolVersion, SubAck, UserProperties, decode, encode, encode_ack,
    frame,
};

const VERSION: ProtocolVersion = ProtocolVersion::V311;

/// What the forwarder does with the PUBLISH of a number that counts from 0, whole packet in and out.
type Sin = fn(number: usize, publish: &[u8], subscriber: &mut Vec<u8>);

fn honest(_: usize, publish: &[u8], subscriber: &mut Vec<u8>) {
    subscriber.extend_from_slice(publish);
}

/// Runs the generator with one pair against the forwarder.
fn run(sin: Sin, code: u8, options: &[&str]) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let subscriber = Arc::new(Mutex::new(None));
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let subscriber = Arc::clone(&subscriber);
            thread::spawn(move || serve(stream.unwrap(), sin, code, &subscriber));
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq-loadgen"));
    command.args(["run", "p2p", "--pairs", "1", "--outstanding", "4", "--seconds", "0.1", "--warm-up", "0.05"]);
    command.args(["--patience", "0.3", "--host", &host]).args(options).output().unwrap()
}

/// One client, until it goes.
fn serve(mut stream: TcpStream, sin: Sin, code: u8, subscriber: &Mutex<Option<TcpStream>>) {
    let (mut received, mut published, mut chunk) = (Vec::new(), 0, [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        received.extend_from_slice(&chunk[..length]);
        let (mut own, mut forward) = (Vec::new(), Vec::new());
        while let Framed::Complete { frame: Frame { first, body }, len } = frame(&received, u32::MAX).unwrap() {
            match decode(Frame { first, body }, VERSION).unwrap() {
                Packet::Connect(_) => {
                    encode(&Packet::ConnAck(ConnAck { code, ..ConnAck::default() }), VERSION, &mut own);
                }
                Packet::Subscribe(subscribe) => {
                    *subscriber.lock().unwrap() = Some(stream.try_clone().unwrap());
                    let codes = &[subscribe.filters.iter().next().unwrap().options.qos as u8];
                    let user_properties = UserProperties::default();
                    let suback = SubAck { packet_id: subscribe.packet_id, reason_string: None, user_properties, codes };
                    encode(&Packet::SubAck(suback), VERSION, &mut own);
                }
                Packet::Publish(publish) => {
                    if publish.packet_id > 0 {
                        encode_ack(&mut own, VERSION, PacketType::PubAck, publish.packet_id, 0);
                    }
                    sin(published, &received[..len], &mut forward);
                    published += 1;
                }
                _ => {}
            }
            received.drain(..len);
        }
        // The generator may be gone already.
        let _ = stream.write_all(&own);
        if !forward.is_empty() {
            let _ = subscriber.lock().unwrap().as_mut().unwrap().write_all(&forward);
        }
    }
}

fn faults(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.trim_start().starts_with("faults"));
    line.unwrap_or_else(|| panic!("no result: {text}{}", String::from_utf8_lossy(&output.stderr))).trim().to_owned()
}

#[test]
fn an_honest_broker_passes_at_qos_0_and_1() {
    for qos in ["0", "1"] {
        let output = run(honest, 0, &["--qos", qos]);
        assert!(faults(&output).contains("0 lost, 0 duplicated, 0 reordered, 0 corrupted, 0 misacknowledged"));
        assert!(output.status.success());
    }
}

#[test]
fn a_message_delivered_twice_is_counted_and_fails_the_run() {
    let output = run(
        |number, publish, subscriber| (0..1 + usize::from(number == 5)).for_each(|_| honest(0, publish, subscriber)),
        0,
        &[],
    );
    assert!(faults(&output).contains("0 lost, 1 duplicated"), "{}", faults(&output));
    assert!(!output.status.success());
}

#[test]
fn a_corrupted_payload_is_counted_and_its_message_is_lost() {
    let corrupt: Sin = |number, publish, subscriber| {
        honest(0, publish, subscriber);
        if number == 2 {
            *subscriber.last_mut().unwrap() ^= 1;
        }
    };
    let output = run(corrupt, 0, &["--warm-up", "0.1", "--seconds", "0.1", "--patience", "2"]);
    assert!(faults(&output).contains("1 corrupted"), "{}", faults(&output));
    assert!(!output.status.success());
}

#[test]
fn a_lost_message_is_counted_and_fails_the_run() {
    let lose: Sin = |number, publish, subscriber| {
        if number != 3 {
            honest(0, publish, subscriber);
        }
    };
    // The window closes behind the lost message, so that nothing moves any more: patience outlasts the run.
    let output = run(lose, 0, &["--patience", "2"]);
    assert!(faults(&output).contains("1 lost, 0 duplicated, 0 reordered"), "{}", faults(&output));
    assert!(!output.status.success());
}

#[test]
fn a_broker_that_goes_silent_is_a_stall_and_not_a_result() {
    let mute: Sin = |number, publish, subscriber| {
        if number < 8 {
            honest(0, publish, subscriber);
        }
    };
    let output = run(mute, 0, &["--seconds", "60"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("while 4 deliveries"), "{error}");
    assert!(!output.status.success());
}

#[test]
fn a_refused_connect_is_told_with_its_code() {
    let output = run(honest, 5, &[]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("CONNACK code 0x05"), "{error}");
    assert!(!output.status.success());
}
