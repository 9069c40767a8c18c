//! What the session is held to: requests and frames written out by hand, an independent client, any segmentation.

mod frames;
mod handshake;
mod twin;

use super::*;

/// The request of RFC 6455 §1.3, with our path and sub-protocol.
pub(super) const REQUEST: &str = "GET /mqtt HTTP/1.1\r\n\
    Host: broker.example\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\
    Sec-WebSocket-Version: 13\r\n\
    \r\n";

/// The answer to it.
pub(super) const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\
    \r\n";

pub(super) const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

pub(super) fn limits() -> Limits {
    Limits { frame_bytes_max: 70_000, ..Limits::default() }
}

/// A session with all it has given.
#[derive(Debug)]
pub(super) struct Seen {
    pub session: Session,
    pub out: Vec<u8>,
    pub reply: Vec<u8>,
    pub result: Result<(), Error>,
}

impl Seen {
    pub fn new(limits: Limits) -> Seen {
        Seen { session: Session::new(Arc::new(limits)), out: Vec::new(), reply: Vec::new(), result: Ok(()) }
    }

    /// One whose handshake is done.
    pub fn open() -> Seen {
        let mut seen = Seen::new(limits());
        seen.receive(REQUEST.as_bytes());
        assert_eq!(seen.take_reply(), ANSWER.as_bytes());
        seen
    }

    /// The first error stays.
    pub fn receive(&mut self, bytes: &[u8]) -> &mut Seen {
        let result = self.session.receive(bytes, &mut self.out, &mut self.reply);
        self.result = self.result.and(result);
        self
    }

    pub fn take_reply(&mut self) -> Vec<u8> {
        mem::take(&mut self.reply)
    }

    /// Asserts that it was refused with a violation and that the reply is a close frame with its code, and nothing else.
    #[track_caller]
    pub fn assert_violation(&self, violation: Violation) {
        assert_eq!(self.result, Err(Error::Frame(violation)));
        let [high, low] = violation.code().to_be_bytes();
        assert_eq!(self.reply, [0x88, 2, high, low]);
        assert!(self.session.is_over() && !self.session.is_open());
    }
}

/// A frame of a client, written down from RFC 6455 §5.2: `first` holds FIN, reserved bits and opcode.
pub(super) fn frame_of(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        medium @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(KEY);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ KEY[at % 4]));
    bytes
}
