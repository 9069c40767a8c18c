//! WebSocket, the server's side (RFC 6455), as MQTT uses it (MQTT 5.0 §6): bytes of the socket in, bytes of MQTT out.
//!
//! MQTT is a stream, so nothing here waits for a whole frame, let alone a whole message: a payload is unmasked as it
//! arrives. What is kept between two calls is at most the head of a frame, or a control frame, which has at most 125
//! bytes. Before the handshake is done, it is the request, up to a limit.

pub mod frame;
pub mod upgrade;

use std::mem;
use std::sync::Arc;

use smallvec::SmallVec;

use frame::{CONTROL_BYTES_MAX, Opcode, Parsed, Sender, Violation};
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
    /// Origins whose web pages may connect, such as `https://example.org`; empty: all. A client that names no origin is
    /// no web page, and not held back: whoever can leave it out can also make it up.
    pub origins: Vec<String>,
    /// The longest request, in bytes, up to the empty line at its end.
    pub head_bytes_max: usize,
    /// The longest payload of a frame, in bytes.
    pub frame_bytes_max: u64,
}

impl Limits {
    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.is_empty() || self.origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { path: "/mqtt".into(), origins: Vec::new(), head_bytes_max: 8 << 10, frame_bytes_max: 16 << 20 }
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
    /// A frame other than the last of its message was received.
    fragmented: bool,
    /// What the next byte of the payload is masked with, and those after it.
    key: [u8; 4],
    /// Bytes of a data frame's payload that are still to come.
    remaining: u64,
    /// The beginning of something that can only be handled whole. The head of a frame fits without an allocation.
    partial: SmallVec<[u8; 16]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    /// We have sent a close frame; the peer's is to come.
    Closing,
    Closed,
}

/// How far the front of some bytes was handled.
enum Progress {
    Used(usize),
    /// Nothing was; this many bytes are needed in all.
    Needs(usize),
}

impl Session {
    /// A connection that has received nothing yet.
    pub fn new(limits: Arc<Limits>) -> Session {
        let partial = SmallVec::new();
        Session { limits, phase: Phase::Handshake, fragmented: false, key: [0; 4], remaining: 0, partial }
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
        if self.phase == Phase::Handshake {
            let used = self.handshake(input, reply).inspect_err(|refusal| {
                refusal.put(reply);
                self.end();
            })?;
            input = &input[used..];
        }
        self.frames(input, out, reply).inspect_err(|violation| {
            self.close(violation.code(), reply);
            self.end();
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
            Phase::Handshake => self.end(),
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

    fn end(&mut self) {
        self.phase = Phase::Closed;
        self.partial = SmallVec::new();
    }

    /// How much of the input belongs to the request.
    fn handshake(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<usize, Refusal> {
        let seen = self.partial.len();
        let room = self.limits.head_bytes_max.saturating_sub(seen);
        self.partial.extend_from_slice(&input[..input.len().min(room)]);
        let Some(end) = upgrade::end_of_head(&self.partial, seen, self.limits.head_bytes_max)? else {
            return Ok(input.len());
        };
        let head = mem::take(&mut self.partial);
        upgrade::accept(&head[..end], &self.limits, reply)?;
        self.phase = Phase::Open;
        Ok(end - seen)
    }

    fn frames(&mut self, mut input: &[u8], out: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), Violation> {
        while !input.is_empty() && matches!(self.phase, Phase::Open | Phase::Closing) {
            let used = if self.remaining > 0 { self.payload(input, out) } else { self.next_frame(input, reply)? };
            input = &input[used..];
        }
        Ok(())
    }

    /// Takes what is there of a data frame's payload.
    fn payload(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let length = usize::try_from(self.remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        if self.phase == Phase::Open {
            let at = out.len();
            out.extend_from_slice(&input[..length]);
            frame::mask(&mut out[at..], self.key);
        }
        self.key.rotate_left(length % 4);
        self.remaining -= length as u64;
        length
    }

    /// Takes the head of a data frame, or a control frame, or as much of it as there is.
    fn next_frame(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<usize, Violation> {
        if self.partial.is_empty() {
            if let Progress::Used(used) = self.begin(input, reply)? {
                return Ok(used);
            }
            self.partial.extend_from_slice(input);
            return Ok(input.len());
        }
        let mut partial = mem::take(&mut self.partial);
        let mut used = 0;
        while let Progress::Needs(needed) = self.begin(&partial, reply)? {
            let missing = &input[used..];
            if missing.is_empty() {
                self.partial = partial;
                break;
            }
            let missing = &missing[..missing.len().min(needed - partial.len())];
            partial.extend_from_slice(missing);
            used += missing.len();
        }
        Ok(used)
    }

    /// Handles what is at the front of `bytes`: the head of a data frame, or a whole control frame.
    fn begin(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Result<Progress, Violation> {
        let (head, len) = match frame::parse(bytes, Sender::Client, self.limits.frame_bytes_max)? {
            Parsed::Complete { head, len } => (head, len),
            Parsed::Incomplete { needed } => return Ok(Progress::Needs(needed)),
        };
        if !head.opcode.is_control() {
            self.begin_data(head)?;
            return Ok(Progress::Used(len));
        }
        let whole = len + head.payload as usize;
        let Some(masked) = bytes.get(len..whole) else { return Ok(Progress::Needs(whole)) };
        let mut payload = [0; CONTROL_BYTES_MAX];
        let payload = &mut payload[..masked.len()];
        payload.copy_from_slice(masked);
        frame::mask(payload, head.key);
        self.control(head.opcode, payload, reply)?;
        Ok(Progress::Used(whole))
    }

    fn begin_data(&mut self, head: frame::Head) -> Result<(), Violation> {
        if (head.opcode == Opcode::Continuation) != self.fragmented {
            return Err(Violation::FragmentOrder);
        }
        if head.opcode == Opcode::Text {
            return Err(Violation::Text);
        }
        (self.fragmented, self.key, self.remaining) = (!head.fin, head.key, head.payload);
        Ok(())
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8], reply: &mut Vec<u8>) -> Result<(), Violation> {
        match opcode {
            // After a close frame nothing may be sent.
            Opcode::Ping if self.phase == Phase::Open => frame::put(Opcode::Pong, payload, reply),
            Opcode::Close => {
                let code = close_code(payload)?;
                if self.phase == Phase::Open {
                    frame::put(Opcode::Close, code, reply);
                }
                self.end();
            }
            _ => {}
        }
        Ok(())
    }
}

/// The code of a close frame as it is sent back; empty if there is none (§5.5.1).
fn close_code(payload: &[u8]) -> Result<&[u8], Violation> {
    if payload.is_empty() {
        return Ok(payload);
    }
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(Violation::CloseCode)?;
    // Those that are defined for use in a frame, and those of libraries and applications (§7.4).
    if !matches!(u16::from_be_bytes(*code), 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    std::str::from_utf8(reason).map_err(|_| Violation::CloseReason)?;
    Ok(code)
}

#[cfg(test)]
mod tests;
