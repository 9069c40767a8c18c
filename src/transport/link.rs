//! One connection's stack: bytes of the wire to bytes of MQTT and back.
//!
//! What goes out is wrapped a bounded piece at a time, when the driver is ready to send it: a large payload stays the
//! one reference that all its receivers share until then.

use crate::engine::{HandOver, Output, ShardId};

use super::Stack;
use super::tls::{self, RECORD_BYTES_MAX, Session};

/// The most content that is wrapped for one send.
const SEND_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;

/// Memory that all links of a shard work in.
#[derive(Default)]
pub struct Scratch {
    /// Ciphertext while it is opened.
    pub wire: Vec<u8>,
    /// What was received, without what the stack added.
    pub content: Vec<u8>,
    /// Buffers for output.
    pub spare: Vec<Vec<u8>>,
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] tls::Failure),
}

/// See the module's description.
pub struct Link {
    pub tls: Session,
    /// What a step of the handshake may cost.
    pub step_units: u32,
    /// What the stack itself has to say to the peer, ahead of the engine's output.
    reply: Vec<u8>,
    /// Output of the engine of which a part is still to be wrapped.
    outgoing: Outgoing,
    /// Bytes that the driver was given and the kernel has not taken yet.
    wire_in_flight: usize,
    /// Bytes of the engine's output that are in these.
    content_in_flight: usize,
    /// The engine was told who the peer is.
    pub identified: bool,
    /// A step of the handshake waits for its turn.
    pub waiting: bool,
    /// The peer's stream ended while a step was waiting.
    pub ended: bool,
    /// The engine was told that the stream ended.
    pub end_told: bool,
    /// The engine is done with the connection.
    pub closing: bool,
    /// The stack is broken: nothing more is said.
    pub failed: bool,
    farewell_said: bool,
    /// Where it goes once the kernel has taken what is in flight.
    pub leaving: Option<Box<(ShardId, HandOver)>>,
}

impl Link {
    /// The link of a connection that was just accepted; `None` where there is nothing between socket and MQTT.
    ///
    /// # Errors
    /// The TLS settings do not fit together.
    pub fn new(stack: &Stack) -> Result<Option<Link>, Failure> {
        let Some(settings) = &stack.tls else { return Ok(None) };
        let tls = Session::new(settings.current()).map_err(tls::Failure::from)?;
        Ok(Some(Link {
            tls,
            step_units: settings.step_units(),
            reply: Vec::new(),
            outgoing: Outgoing::default(),
            wire_in_flight: 0,
            content_in_flight: 0,
            identified: false,
            waiting: false,
            ended: false,
            end_told: false,
            closing: false,
            failed: false,
            farewell_said: false,
            leaving: None,
        }))
    }

    /// Takes bytes of the wire; what they hold for the engine is left in `scratch.content`, also when this fails.
    ///
    /// # Errors
    /// The connection is to be closed, once what [`take`](Self::take) gives was sent.
    pub fn receive(&mut self, bytes: &[u8], scratch: &mut Scratch) -> Result<(), Failure> {
        scratch.content.clear();
        self.tls.receive(bytes, &mut scratch.wire, &mut scratch.content, &mut self.reply)?;
        Ok(())
    }

    /// True when the stack has something to say by itself.
    pub fn has_reply(&self) -> bool {
        !self.reply.is_empty()
    }

    /// True when the kernel has not taken all that the driver was given.
    pub fn is_sending(&self) -> bool {
        self.wire_in_flight > 0
    }

    /// The kernel took bytes of the wire; returns how many bytes of the engine's output are out with them.
    pub fn sent(&mut self, bytes: usize) -> usize {
        self.wire_in_flight = self.wire_in_flight.saturating_sub(bytes);
        if self.wire_in_flight == 0 { std::mem::take(&mut self.content_in_flight) } else { 0 }
    }

    /// What is to be sent next, at most some [`SEND_BYTES_MAX`] bytes. `more` gives the engine's next output, and
    /// `done` takes back what was wrapped.
    ///
    /// # Errors
    /// Nothing can be sent any more.
    pub fn take(
        &mut self,
        scratch: &mut Scratch,
        mut more: impl FnMut() -> Output,
        mut done: impl FnMut(Output),
    ) -> Result<Output, Failure> {
        let mut wire = std::mem::take(&mut self.reply);
        if wire.capacity() == 0 {
            wire = scratch.spare.pop().unwrap_or_default();
            wire.clear();
        }
        let outcome = self.wrap(&mut wire, &mut more, &mut done);
        if self.closing && !self.failed && !self.farewell_said && self.outgoing.is_empty() && outcome.is_ok() {
            self.farewell_said = true;
            self.tls.send_close_notify(&mut wire);
        }
        self.wire_in_flight = wire.len();
        outcome?;
        Ok(Output { bytes: wire, large: Vec::new() })
    }

    fn wrap(
        &mut self,
        wire: &mut Vec<u8>,
        more: &mut impl FnMut() -> Output,
        done: &mut impl FnMut(Output),
    ) -> Result<(), Failure> {
        if self.tls.is_handshaking() || self.failed {
            return Ok(());
        }
        while self.content_in_flight < SEND_BYTES_MAX {
            if self.outgoing.is_empty() {
                done(self.outgoing.replace(more()));
                if self.outgoing.is_empty() {
                    break;
                }
            }
            let piece = self.outgoing.next_piece();
            self.tls.send(piece, wire)?;
            let len = piece.len();
            self.content_in_flight += len;
            self.outgoing.advance(len);
        }
        if self.outgoing.is_empty() {
            done(self.outgoing.replace(Output::default()));
        }
        Ok(())
    }
}

/// An output of the engine while it is wrapped.
#[derive(Default)]
struct Outgoing {
    output: Output,
    /// Bytes of `output.bytes` that are done.
    at: usize,
    /// Payloads that are done.
    large: usize,
    /// Bytes of the next payload that are done.
    within: usize,
}

impl Outgoing {
    fn replace(&mut self, output: Output) -> Output {
        std::mem::replace(self, Outgoing { output, ..Outgoing::default() }).output
    }

    fn is_empty(&self) -> bool {
        self.at == self.output.bytes.len() && self.large == self.output.large.len()
    }

    /// As many bytes as fit in one record; none of them only if a payload is empty.
    fn next_piece(&self) -> &[u8] {
        let rest = match self.output.large.get(self.large) {
            Some(large) if large.at == self.at => &large.payload[self.within..],
            Some(large) => &self.output.bytes[self.at..large.at],
            None => &self.output.bytes[self.at..],
        };
        &rest[..rest.len().min(RECORD_BYTES_MAX)]
    }

    fn advance(&mut self, len: usize) {
        match self.output.large.get(self.large) {
            Some(large) if large.at == self.at => {
                self.within += len;
                if self.within == large.payload.len() {
                    self.large += 1;
                    self.within = 0;
                }
            }
            _ => self.at += len,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::Large;

    #[test]
    fn pieces_are_the_output_in_its_order_each_small_enough_for_a_record() {
        let big: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
        let large = |at, payload: &[u8]| Large { at, payload: Bytes::copy_from_slice(payload) };
        let mut outgoing = Outgoing::default();
        outgoing
            .replace(Output { bytes: b"headmid".to_vec(), large: vec![large(4, &big), large(7, &big), large(7, b"")] });
        let mut seen = Vec::new();
        while !outgoing.is_empty() {
            let piece = outgoing.next_piece();
            assert!(piece.len() <= RECORD_BYTES_MAX);
            seen.extend_from_slice(piece);
            let len = piece.len();
            outgoing.advance(len);
        }
        assert_eq!(seen, [b"head", &big[..], b"mid", &big[..]].concat());
    }
}
