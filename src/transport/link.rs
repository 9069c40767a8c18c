//! One connection's stack: bytes of the wire to bytes of MQTT and back.
//!
//! What goes out is wrapped a bounded piece at a time, when the driver is ready to send it: a large payload stays the
//! one reference that all its receivers share until then.

use std::borrow::Cow;
use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;

use super::proxy::{self, ProxyError};
use super::tls::{self, RECORD_BYTES_MAX, Session};
use super::{Stack, ws};
use crate::engine::{Certificate, HandOver, Output, Peer, ShardId};

/// The most content that is wrapped for one send.
const SEND_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;

/// The most content that is wrapped as one: with the head of a frame it still fits in one record.
const PIECE_BYTES_MAX: usize = RECORD_BYTES_MAX - ws::frame::HEAD_BYTES_MAX;

/// Memory that all links of a shard work in.
#[derive(Default)]
pub struct Scratch {
    /// Ciphertext while it is opened.
    wire: Vec<u8>,
    /// What TLS held for WebSocket, or WebSocket has for TLS.
    frames: Vec<u8>,
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
    /// WebSocket.
    #[error(transparent)]
    WebSocket(#[from] ws::Error),
    /// The PROXY header.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// See the module's description.
pub struct Link {
    /// Index of the listener it came by.
    pub listener: u16,
    /// The version of the TLS settings by which its certificate was verified, if it has one.
    pub verified_by: u64,
    /// Of the connection: what was noted of one that had its slot before is not about this one.
    pub generation: u32,
    /// The beginning of the PROXY header, until it is there.
    proxy: Option<Vec<u8>>,
    tls: Option<Session>,
    websocket: Option<ws::Session>,
    /// What a step of the handshake may cost.
    pub step_units: u32,
    /// Who is at the other end, as far as it is known.
    peer: Peer,
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
    /// The engine does not want it read.
    pub unread: bool,
    /// It is not read: it does not take the stack's replies.
    pub choked: bool,
    /// Some of the handshake has come.
    pub has_spoken: bool,
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
    /// The link of a connection that was just accepted.
    ///
    /// # Errors
    /// The TLS settings do not fit together.
    pub fn new(stack: &Stack, address: Option<SocketAddr>) -> Result<Link, Failure> {
        // Before the settings: newer ones than it says do no harm.
        let verified_by = stack.tls.as_ref().map_or(0, |settings| settings.version());
        let tls = stack.tls.as_ref().map(|settings| Session::new(settings.current())).transpose();
        Ok(Link {
            listener: 0,
            verified_by,
            generation: 0,
            proxy: stack.proxy.as_ref().map(|_| Vec::new()),
            tls: tls.map_err(tls::Failure::from)?,
            websocket: stack.websocket.as_ref().map(|limits| ws::Session::new(limits.clone())),
            step_units: stack.tls.as_ref().map_or(0, |settings| settings.step_units()),
            peer: Peer { address, certificate: None },
            reply: Vec::new(),
            outgoing: Outgoing::default(),
            wire_in_flight: 0,
            content_in_flight: 0,
            identified: false,
            unread: false,
            choked: false,
            has_spoken: false,
            waiting: false,
            ended: false,
            end_told: false,
            closing: false,
            failed: false,
            farewell_said: false,
            leaving: None,
        })
    }

    /// Reads the PROXY header where one is awaited; returns what comes behind it. Nothing, until it is there.
    ///
    /// # Errors
    /// It is no such header.
    pub fn behind_proxy_header<'b>(&mut self, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, Failure> {
        let Some(head) = &mut self.proxy else { return Ok(Cow::Borrowed(bytes)) };
        head.extend_from_slice(bytes);
        let Some((len, header)) = proxy::parse(head)? else { return Ok(Cow::Borrowed(&[])) };
        let rest = head.split_off(len);
        self.proxy = None;
        if !header.local {
            self.peer.address = header.source.or(self.peer.address);
            self.peer.certificate = header
                .common_name
                .map(|name| Box::new(Certificate { common_name: Some(name), ..Certificate::default() }));
        }
        Ok(Cow::Owned(rest))
    }

    /// Where it comes from, as far as that was asked or told.
    pub fn address(&self) -> Option<SocketAddr> {
        self.peer.address
    }

    /// True while the TLS handshake lasts.
    pub fn is_shaking_hands(&self) -> bool {
        self.tls.as_ref().is_some_and(Session::is_handshaking)
    }

    /// The certificates that the peer was verified by, once it was.
    pub fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.as_ref().filter(|tls| !tls.is_handshaking())?.peer_certificates()
    }

    /// TLS, where it is part of the stack.
    pub fn tls(&mut self) -> Option<&mut Session> {
        self.tls.as_mut()
    }

    /// True when nobody minds that it is read.
    pub fn may_be_read(&self) -> bool {
        !self.unread && !self.choked && !self.waiting && self.leaving.is_none() && !self.closing
    }

    /// True when all there was is behind: from here on the bytes are MQTT as they come.
    pub fn is_spent(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none()
    }

    /// True when the peer has said that nothing more will come.
    pub fn is_closed_by_peer(&self) -> bool {
        self.tls.as_ref().is_some_and(Session::is_closed_by_peer)
            || self.websocket.as_ref().is_some_and(ws::Session::is_over)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        let mut peer = self.peer.clone();
        if let Some(certificate) = self.tls.as_ref().and_then(Session::peer_certificate) {
            // One whose names cannot be read was refused in the handshake. The proxy's word does not stand in for it.
            peer.certificate = tls::names(certificate).ok().map(Box::new);
        }
        peer
    }

    /// Takes bytes of the wire; what they hold for the engine is left in `scratch.content`, also when this fails.
    ///
    /// # Errors
    /// The connection is to be closed, once what [`take`](Self::take) gives was sent.
    pub fn receive(&mut self, bytes: &[u8], scratch: &mut Scratch) -> Result<(), Failure> {
        let Scratch { wire, frames, content, .. } = scratch;
        content.clear();
        match (&mut self.tls, &mut self.websocket) {
            (Some(tls), None) => tls.receive(bytes, wire, content, &mut self.reply)?,
            (None, Some(websocket)) => websocket.receive(bytes, content, &mut self.reply)?,
            (Some(tls), Some(websocket)) => {
                frames.clear();
                let opened = tls.receive(bytes, wire, frames, &mut self.reply);
                let mut answer = Vec::new();
                let outcome = websocket.receive(frames, content, &mut answer);
                if !answer.is_empty() {
                    tls.send(&answer, &mut self.reply)?;
                }
                opened?;
                outcome?;
            }
            (None, None) => content.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// True when the stack has something to say by itself.
    pub fn has_reply(&self) -> bool {
        !self.reply.is_empty()
    }

    /// How many bytes of that wait.
    pub fn reply_bytes(&self) -> usize {
        self.reply.len()
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
        let outcome = self.wrap(&mut wire, &mut scratch.frames, &mut more, &mut done);
        if outcome.is_ok() && self.closing && self.outgoing.is_empty() {
            self.say_farewell(&mut wire);
        }
        self.wire_in_flight = wire.len();
        outcome?;
        Ok(Output { bytes: wire, large: Vec::new() })
    }

    fn wrap(
        &mut self,
        wire: &mut Vec<u8>,
        frames: &mut Vec<u8>,
        more: &mut impl FnMut() -> Output,
        done: &mut impl FnMut(Output),
    ) -> Result<(), Failure> {
        let is_open = self.websocket.as_ref().is_none_or(ws::Session::is_open);
        if self.is_shaking_hands() || self.failed || !is_open {
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
            if !piece.is_empty() {
                put(self.tls.as_mut(), self.websocket.as_mut(), piece, frames, wire)?;
            }
            let len = piece.len();
            self.content_in_flight += len;
            self.outgoing.advance(len);
        }
        if self.outgoing.is_empty() {
            done(self.outgoing.replace(Output::default()));
        }
        Ok(())
    }

    /// Takes leave in the terms of the stack, once.
    fn say_farewell(&mut self, wire: &mut Vec<u8>) {
        // In the midst of a handshake rustls would first take the next step of it, for nobody.
        if self.failed || self.is_shaking_hands() || std::mem::replace(&mut self.farewell_said, true) {
            return;
        }
        let mut close = Vec::new();
        if let Some(websocket) = &mut self.websocket {
            websocket.close(ws::code::NORMAL, &mut close);
        }
        match &mut self.tls {
            Some(tls) => {
                // Where nothing can be sent any more, a closed socket has to say it.
                if close.is_empty() || tls.send(&close, wire).is_ok() {
                    tls.send_close_notify(wire);
                }
            }
            None => wire.append(&mut close),
        }
    }
}

/// Appends one piece of content to what goes out, wrapped.
fn put(
    tls: Option<&mut Session>,
    websocket: Option<&mut ws::Session>,
    piece: &[u8],
    frames: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<(), Failure> {
    match (tls, websocket) {
        (Some(tls), None) => tls.send(piece, wire)?,
        (None, Some(websocket)) => websocket.wrap(piece, wire),
        (Some(tls), Some(websocket)) => {
            frames.clear();
            websocket.wrap(piece, frames);
            tls.send(frames, wire)?;
        }
        (None, None) => wire.extend_from_slice(piece),
    }
    Ok(())
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
        &rest[..rest.len().min(PIECE_BYTES_MAX)]
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
            assert!(piece.len() <= PIECE_BYTES_MAX);
            seen.extend_from_slice(piece);
            let len = piece.len();
            outgoing.advance(len);
        }
        assert_eq!(seen, [b"head", &big[..], b"mid", &big[..]].concat());
    }
}
