//! The session against tungstenite, which knows nothing of it, and against itself with its input cut differently.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

use super::*;

/// A client's socket whose other end is a session. The session gets what is written in pieces.
#[derive(Debug)]
struct Wire {
    seen: Seen,
    piece: usize,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.seen.reply.len());
        buffer[..length].copy_from_slice(&self.seen.reply[..length]);
        self.seen.reply.drain(..length);
        if length == 0 && !self.seen.session.is_over() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.piece);
        self.seen.receive(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn connect(piece: usize) -> WebSocket<Wire> {
    let mut request = "ws://broker.example/mqtt".into_client_request().expect("a valid address");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().expect("a valid value"));
    let wire = Wire { seen: Seen::new(limits()), piece };
    tungstenite::client(request, wire).expect("the handshake is answered").0
}

#[test]
fn an_independent_client_connects_talks_and_closes() {
    for piece in [1, 2, 3, 7, 100, usize::MAX] {
        let mut client = connect(piece);
        for length in [1, 125, 126, 4096, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
            client.send(Message::binary(payload.clone())).expect("sent");
            let seen = &mut client.get_mut().seen;
            let got = mem::take(&mut seen.out);
            assert_eq!(got, payload);
            seen.session.wrap(&got, &mut seen.reply);
            assert_eq!(client.read().expect("an answer"), Message::binary(payload));
        }
        client.send(Message::Ping("hello".into())).expect("sent");
        assert_eq!(client.read().expect("an answer"), Message::Pong("hello".into()));
        client.close(None).expect("sent");
        assert!(client.get_ref().seen.session.is_over());
        assert!(matches!(client.read().expect("an answer"), Message::Close(_)));
        assert!(matches!(client.read(), Err(tungstenite::Error::ConnectionClosed)));
    }
}

#[test]
fn an_independent_client_understands_our_close() {
    let mut client = connect(usize::MAX);
    let seen = &mut client.get_mut().seen;
    seen.session.close(code::GOING_AWAY, &mut seen.reply);
    let Message::Close(Some(close)) = client.read().expect("a close frame") else { panic!("no close frame") };
    assert_eq!(u16::from(close.code), code::GOING_AWAY);
    assert!(matches!(client.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert!(client.get_ref().seen.session.is_over());
}

#[derive(Clone, Debug)]
enum Item {
    Fragments(Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn item() -> impl Strategy<Value = Item> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    prop_oneof![
        3 => prop::collection::vec(bytes(300), 1..4).prop_map(Item::Fragments),
        1 => bytes(126).prop_map(Item::Ping),
        1 => bytes(126).prop_map(Item::Pong),
    ]
}

/// A frame as tungstenite writes it.
fn encode(mut frame: Frame, mask: [u8; 4], bytes: &mut Vec<u8>) {
    frame.header_mut().mask = Some(mask);
    frame.format(bytes).expect("a vector takes it");
}

/// What a client sends, and what must come of it.
fn stream(items: &[Item], mask: [u8; 4]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (mut bytes, mut out, mut reply) = (REQUEST.as_bytes().to_vec(), Vec::new(), ANSWER.as_bytes().to_vec());
    for item in items {
        match item {
            Item::Fragments(fragments) => {
                for (at, payload) in fragments.iter().enumerate() {
                    let opcode = OpCode::Data(if at == 0 { Data::Binary } else { Data::Continue });
                    let last = at + 1 == fragments.len();
                    encode(Frame::message(payload.clone(), opcode, last), mask, &mut bytes);
                    out.extend(payload);
                }
            }
            Item::Ping(payload) => {
                encode(Frame::ping(payload.clone()), mask, &mut bytes);
                reply.extend([0x8A, payload.len() as u8]);
                reply.extend(payload);
            }
            Item::Pong(payload) => {
                encode(Frame::pong(payload.clone()), mask, &mut bytes);
            }
        }
    }
    (bytes, out, reply)
}

fn cut_and_receive(bytes: &[u8], cuts: &[usize]) -> Seen {
    let mut seen = Seen::new(limits());
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        seen.receive(piece);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    seen
}

proptest! {
    #[test]
    fn any_segmentation_of_a_valid_stream_gives_the_same(
        items in prop::collection::vec(item(), 0..8),
        mask in any::<[u8; 4]>(),
        cuts in prop::collection::vec(1usize..200, 1..20),
    ) {
        let (bytes, out, reply) = stream(&items, mask);
        let seen = cut_and_receive(&bytes, &cuts);
        prop_assert_eq!(seen.result, Ok(()));
        prop_assert!(seen.session.is_open());
        prop_assert_eq!(seen.out, out);
        prop_assert_eq!(String::from_utf8_lossy(&seen.reply), String::from_utf8_lossy(&reply));
    }

    #[test]
    fn any_segmentation_of_a_broken_stream_gives_the_same(
        items in prop::collection::vec(item(), 0..4),
        breaks in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4),
        cuts in prop::collection::vec(1usize..60, 1..20),
    ) {
        let (mut bytes, ..) = stream(&items, KEY);
        let length = bytes.len();
        breaks.iter().for_each(|(at, value)| bytes[at.index(length)] = *value);
        let (whole, cut) = (cut_and_receive(&bytes, &[bytes.len()]), cut_and_receive(&bytes, &cuts));
        prop_assert_eq!(whole.result, cut.result);
        prop_assert_eq!(whole.out, cut.out);
        prop_assert_eq!(whole.reply, cut.reply);
        prop_assert_eq!(whole.session.is_over(), cut.session.is_over());
    }

    #[test]
    fn a_mask_is_that_of_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..100), key in any::<[u8; 4]>()) {
        let naive: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        let mut masked = bytes;
        frame::mask(&mut masked, key);
        prop_assert_eq!(masked, naive);
    }

    #[test]
    fn a_frame_of_ours_as_a_client_is_read_back(
        payload in prop::collection::vec(any::<u8>(), 1..1000),
        key in any::<[u8; 4]>(),
    ) {
        let mut bytes = Vec::new();
        frame::put_masked(Opcode::Binary, &payload, key, &mut bytes);
        let mut twin = Vec::new();
        encode(Frame::message(payload, OpCode::Data(Data::Binary), true), key, &mut twin);
        prop_assert_eq!(bytes, twin);
    }
}
