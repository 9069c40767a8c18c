//! WebSocket, the client's side (RFC 6455), between two vectors. Frames are read and written by the broker's own code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ringmq::transport::ws::code;
use ringmq::transport::ws::deframe::Deframer;
use ringmq::transport::ws::frame::{Opcode, Sender, put_masked};
use ringmq::transport::ws::upgrade::accept_of;

use super::LayerError;

/// The longest answer to a handshake.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// Header lines that an answer may have.
const HEADERS_MAX: usize = 64;

/// One connection.
pub struct WebSocket {
    phase: Phase,
    frames: Deframer,
}

enum Phase {
    /// The request is to be sent.
    Fresh {
        request: Vec<u8>,
        accept: String,
    },
    /// The answer is to come.
    Waiting {
        accept: String,
        head: Vec<u8>,
    },
    Open,
    /// One side has said that it closes.
    Closed,
}

impl WebSocket {
    pub fn new(host: &str, path: &str) -> WebSocket {
        let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        let phase = Phase::Fresh { request: request.into_bytes(), accept: accept_of(key.as_bytes()) };
        WebSocket { phase, frames: Deframer::new(Sender::Server, u64::MAX) }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// The request, once.
    pub fn take_request(&mut self) -> Option<Vec<u8>> {
        let Phase::Fresh { request, accept } = &mut self.phase else { return None };
        let (request, accept) = (std::mem::take(request), std::mem::take(accept));
        self.phase = Phase::Waiting { accept, head: Vec::new() };
        Some(request)
    }

    /// Takes bytes, appends what they hold of MQTT to `plain`, and what has to be answered to `reply`.
    pub fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), LayerError> {
        let mut bytes = bytes;
        if let Phase::Waiting { accept, head } = &mut self.phase {
            let seen = head.len();
            head.extend_from_slice(bytes);
            let Some(end) = check_answer(head, accept)? else { return Ok(()) };
            bytes = &bytes[end - seen..];
            self.phase = Phase::Open;
        }
        while !bytes.is_empty() && self.is_open() {
            let (used, control) = self.frames.next(bytes, plain)?;
            bytes = &bytes[used..];
            let Some(control) = control else { continue };
            match control.opcode {
                Opcode::Ping => put_masked(Opcode::Pong, control.payload(), key(), reply),
                Opcode::Close => {
                    put_masked(Opcode::Close, control.close_code()?, key(), reply);
                    self.phase = Phase::Closed;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Says that nothing more will come.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            put_masked(Opcode::Close, &code::NORMAL.to_be_bytes(), key(), out);
            self.phase = Phase::Closed;
        }
    }

    /// Wraps MQTT into one frame.
    pub fn wrap(&self, plain: &[u8], out: &mut Vec<u8>) {
        put_masked(Opcode::Binary, plain, key(), out);
    }
}

fn key() -> [u8; 4] {
    fastrand::u32(..).to_ne_bytes()
}

/// Where the answer ends, if it is all there and says that we may.
fn check_answer(head: &[u8], accept: &str) -> Result<Option<usize>, LayerError> {
    if !head.iter().zip(b"HTTP/1.1 ").all(|(is, should)| is == should) {
        return Err(LayerError::NotWebSocket("it is not HTTP"));
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let end = match answer.parse(head) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) if head.len() <= ANSWER_BYTES_MAX => return Ok(None),
        _ => return Err(LayerError::NotWebSocket("its HTTP is malformed")),
    };
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        return Err(LayerError::Refused { status });
    }
    let value = |name: &str| answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if value("Sec-WebSocket-Accept").is_none_or(|header| header.value != accept.as_bytes()) {
        return Err(LayerError::NotWebSocket("it does not fit the key"));
    }
    if value("Sec-WebSocket-Protocol").is_none_or(|header| header.value != b"mqtt") {
        return Err(LayerError::NotWebSocket("it does not choose the sub-protocol mqtt"));
    }
    Ok(Some(end))
}

/// What an operator can do about a status.
pub fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => ": the listener does not let these clients in",
        404 => ": is the path right? (--ws-path)",
        400 | 426 => ": is it a WebSocket listener for MQTT?",
        _ => "",
    }
}
