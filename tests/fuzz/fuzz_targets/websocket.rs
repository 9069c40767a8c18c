//! Any bytes from a client, before or after the handshake, give the same whole and cut into pieces: the same MQTT, the
//! same answer, the same end. And they give no more than they are.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ringmq_fuzz::ws::{Error, Limits, Session};

const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";
/// The longest answer to a request.
const ANSWER_BYTES_MAX: usize = 512;

// The first byte says how to cut, and whether the handshake is done already.
fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let limits = Limits { head_bytes_max: 1024, frame_bytes_max: 4096, ..Limits::default() };
    let limits = Arc::new(limits);
    let whole = receive(&limits, how & 0x80 != 0, bytes, bytes.len());
    let cut = receive(&limits, how & 0x80 != 0, bytes, usize::from(how & 0x7F));
    assert_eq!(whole, cut);
    assert!(whole.out.len() <= bytes.len());
    assert!(whole.reply.len() <= bytes.len() + ANSWER_BYTES_MAX);
    assert!(whole.end.is_none() || whole.is_over);
});

#[derive(Debug, PartialEq)]
struct Seen {
    out: Vec<u8>,
    reply: Vec<u8>,
    end: Option<Error>,
    is_open: bool,
    is_over: bool,
}

fn receive(limits: &Arc<Limits>, open: bool, bytes: &[u8], piece: usize) -> Seen {
    let mut session = Session::new(Arc::clone(limits));
    let (mut out, mut reply, mut end) = (Vec::new(), Vec::new(), None);
    if open {
        session.receive(REQUEST, &mut out, &mut reply).expect("a valid request");
        reply.clear();
    }
    for piece in bytes.chunks(piece.max(1)) {
        let received = session.receive(piece, &mut out, &mut reply);
        end = end.or(received.err());
    }
    Seen { out, reply, end, is_open: session.is_open(), is_over: session.is_over() }
}
