//! WebSocket, the server's side (RFC 6455), as MQTT uses it (MQTT 5.0 §6): bytes of the socket in, bytes of MQTT out.
//!
//! MQTT is a stream, so nothing here waits for a whole frame, let alone a whole message: a payload is unmasked as it
//! arrives. What is kept between two calls is at most the head of a frame, or a control frame, which has at most 125
//! bytes. Before the handshake is done, it is the request, up to a limit.

pub mod deframe;
pub mod frame;
pub mod upgrade;

use std::mem;
use std::sync::Arc;

use smallvec::SmallVec;

use deframe::{Control, Deframer};
use frame::{Opcode, Sender, Violation};
use upgrade::Refusal;

/// Codes of close frames that a broker sends of its own accord (RFC 6455 §7.4.1).
pub mod code {
    /// The connection has served its purpose.
    pub const NORMAL: u16 = 1000;
    /// The server goes down.
    pub const GOING_AWAY: u16 = 1001;
    /// The client broke the rules of what is spoken inside.
    pub const POLICY: u16 = 1008;
}

/// What a listener lets in. All its connections share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The one path that a request may name, without its query.
    pub path: String,
    /// Whose web pages may connect.
    pub origins: Origins,
    /// The longest request, in bytes, up to the empty line at its end.
    pub head_bytes_max: usize,
    /// The longest payload of a frame, in bytes.
    pub frame_bytes_max: u64,
}

/// Whose web pages may connect. A client that names no origin is no web page, and not held back: whoever can leave it
/// out can also make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's. A page that a browser happens to have open is as any stranger then, and reaches what the browser reaches.
    Any,
    /// Those that come from the host that is asked for, whatever their port.
    SameHost,
    /// Those of these origins, such as `https://example.org`.
    These(Vec<String>),
}

impl Origins {
    fn allow(&self, origin: &[u8], host: &[u8]) -> bool {
        match self {
            Origins::Any => true,
            Origins::SameHost => is_of_host(origin, host),
            Origins::These(known) => known.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin)),
        }
    }
}

/// Whether an origin (RFC 6454 §6.2) names the host of a Host line.
fn is_of_host(origin: &[u8], host: &[u8]) -> bool {
    let Some(at) = memchr::memmem::find(origin, b"://") else { return false };
    let (from, to) = (without_port(&origin[at + 3..]), without_port(host));
    !from.is_empty() && from.eq_ignore_ascii_case(to)
}

fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        // The colons of an IPv6 address stand in brackets.
        Some(at) if !authority[at..].contains(&b']') => &authority[..at],
        _ => authority,
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { path: "/mqtt".into(), origins: Origins::SameHost, head_bytes_max: 8 << 10, frame_bytes_max: 16 << 20 }
    }
}

/// Why a connection came to its end. The peer is told by what is in the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The handshake was refused.
    #[error("the WebSocket handshake was refused with {status}: {0}", status = .0.status())]
    Handshake(#[from] Refusal),
    /// A frame was refused.
    #[error("WebSocket, close code {code}: {0}", code = .0.code())]
    Frame(#[from] Violation),
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    limits: Arc<Limits>,
    phase: Phase,
    frames: Deframer,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// What is there of the request.
    Handshake(Vec<u8>),
    Open,
    /// We have sent a close frame; the peer's is to come.
    Closing,
    Closed,
}

impl Session {
    /// A connection that has received nothing yet.
    pub fn new(limits: Arc<Limits>) -> Session {
        let frames = Deframer::new(Sender::Client, limits.frame_bytes_max);
        Session { limits, phase: Phase::Handshake(Vec::new()), frames }
    }

    /// Handles bytes of the socket, cut in any way. Appends what they hold of MQTT to `out`, and what is to be sent at
    /// once to `reply`: it goes ahead of what is wrapped later. Neither grows by more than the input and a constant.
    ///
    /// # Errors
    ///
    /// The connection is over: it is to be closed when `reply` has been sent. What came before the error is in `out`.
    /// When the peer closes in order, there is no error, but [`is_over`](Self::is_over) tells. Bytes that are
    /// received after the end are ignored.
    pub fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), Error> {
        let mut input = input;
        if let Phase::Handshake(head) = &mut self.phase {
            let head = mem::take(head);
            let used = self.handshake(head, input, reply).inspect_err(|refusal| {
                refusal.put(reply);
                self.phase = Phase::Closed;
            })?;
            input = &input[used..];
        }
        self.frames(input, out, reply).inspect_err(|violation| {
            self.close(violation.code(), reply);
            self.phase = Phase::Closed;
        })?;
        Ok(())
    }

    /// Appends bytes of MQTT as one frame. There must be some, and the session must be [open](Self::is_open).
    pub fn wrap(&mut self, mqtt: &[u8], out: &mut Vec<u8>) {
        debug_assert!(self.is_open() && !mqtt.is_empty());
        frame::put(Opcode::Binary, mqtt, out);
    }

    /// What [`wrap`](Self::wrap) puts ahead of so many bytes, for those who send the bytes from where they lie.
    pub fn head(&self, mqtt: usize) -> SmallVec<[u8; frame::HEAD_BYTES_MAX]> {
        frame::head(Opcode::Binary, mqtt)
    }

    /// Appends a close frame, if the connection is open. Then nothing more may be wrapped, what the peer still sends is
    /// ignored, and its answer makes the connection [over](Self::is_over). One that is not open yet is over at once.
    pub fn close(&mut self, code: u16, out: &mut Vec<u8>) {
        match self.phase {
            Phase::Handshake(_) => self.phase = Phase::Closed,
            Phase::Open => {
                frame::put(Opcode::Close, &code.to_be_bytes(), out);
                self.phase = Phase::Closing;
            }
            Phase::Closing | Phase::Closed => {}
        }
    }

    /// True from the end of the handshake until either side has said that it closes.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// True when nothing is to be expected of the peer any more: the transport can be closed.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How much of the input belongs to the request, of which `head` came before.
    fn handshake(&mut self, mut head: Vec<u8>, input: &[u8], reply: &mut Vec<u8>) -> Result<usize, Refusal> {
        let (seen, limit) = (head.len(), self.limits.head_bytes_max);
        head.extend_from_slice(&input[..input.len().min(limit.saturating_sub(seen))]);
        let Some(end) = upgrade::end_of_head(&head, seen, limit)? else {
            self.phase = Phase::Handshake(head);
            return Ok(input.len());
        };
        upgrade::accept(&head[..end], &self.limits, reply)?;
        self.phase = Phase::Open;
        Ok(end - seen)
    }

    fn frames(&mut self, mut input: &[u8], out: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), Violation> {
        while !input.is_empty() && matches!(self.phase, Phase::Open | Phase::Closing) {
            let before = out.len();
            let taken = self.frames.next(input, out);
            if self.phase == Phase::Closing {
                out.truncate(before);
            }
            let (used, control) = taken?;
            if let Some(control) = control {
                self.control(&control, reply)?;
            }
            input = &input[used..];
        }
        Ok(())
    }

    fn control(&mut self, control: &Control, reply: &mut Vec<u8>) -> Result<(), Violation> {
        match control.opcode {
            // After a close frame nothing may be sent.
            Opcode::Ping if self.phase == Phase::Open => frame::put(Opcode::Pong, control.payload(), reply),
            Opcode::Close => {
                let code = control.close_code()?;
                if self.phase == Phase::Open {
                    frame::put(Opcode::Close, code, reply);
                }
                self.phase = Phase::Closed;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
