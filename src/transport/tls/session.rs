//! One connection's TLS, from bytes to bytes: a handshake, then records both ways.
//!
//! rustls is used without buffers of its own. A record that arrived whole is opened in the shard's scratch memory; only
//! one whose end has not arrived is kept here. So a connection that says nothing holds its keys and no buffer.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{AlertDescription, Error, HandshakeKind};

use super::hello;
use super::settings::Current;

/// Bytes of one record's header (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;

/// The most bytes that may wait for the rest of a handshake message; rustls joins messages of up to 64 KiB.
const HANDSHAKE_BYTES_MAX: usize = 80 * 1024;

/// What a record adds to its content: header, explicit nonce, content type, authentication tag; and a key update.
const OVERHEAD_BYTES: usize = 128;

/// The most content of one record (RFC 8446 §5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What rustls says; the peer is told by an alert.
    #[error("{0}")]
    Tls(#[from] Error),
    /// It relies on a key that is none of ours.
    #[error(
        "the client wants a pre-shared key (TLS-PSK): only certificates are spoken here, give it the authority instead"
    )]
    PreSharedKey,
    /// A handshake message that never ends.
    #[error("more than {HANDSHAKE_BYTES_MAX} bytes of an unfinished handshake")]
    TooLong,
    /// The keys are used up (TLS 1.2), or the connection is closed both ways.
    #[error("nothing can be sent any more")]
    CannotSend,
}

/// The server's side of one TLS connection.
pub struct Session {
    connection: UnbufferedServerConnection,
    /// By what the client is verified, until it is: settings that are replaced go with the last handshake by them.
    settings: Option<Arc<Current>>,
    /// The beginning of a record, or of a handshake message, whose end has not arrived.
    incoming: Vec<u8>,
    /// rustls has looked at `incoming`, and may have changed it.
    looked_at: bool,
    /// Some of the client's hello was looked at.
    greeted: bool,
    handshaking: bool,
    peer_closed: bool,
}

impl Session {
    /// Waits for a client's hello.
    ///
    /// # Errors
    /// The settings do not fit together.
    pub fn new(settings: Arc<Current>) -> Result<Session, Error> {
        let connection = UnbufferedServerConnection::new(settings.config.clone())?;
        Ok(Session {
            connection,
            settings: Some(settings),
            incoming: Vec::new(),
            looked_at: false,
            greeted: false,
            handshaking: true,
            peer_closed: false,
        })
    }

    /// True until both sides have finished the handshake.
    pub fn is_handshaking(&self) -> bool {
        self.handshaking
    }

    /// True when the peer has said that nothing more will come.
    pub fn is_closed_by_peer(&self) -> bool {
        self.peer_closed
    }

    /// Whether the handshake was a full one, once that is known.
    pub fn kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// The certificate that the peer was verified by.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    /// All of the certificates that the peer has shown.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.connection.peer_certificates()
    }

    /// Keeps bytes for a later [`receive`](Self::receive). Returns whether a whole record is there, so that it would
    /// get anywhere.
    pub fn keep(&mut self, bytes: &[u8]) -> bool {
        self.incoming.extend_from_slice(bytes);
        if self.looked_at {
            return true;
        }
        let Some(header) = self.incoming.first_chunk::<HEADER_BYTES>() else { return false };
        // What is no record at all is for rustls to refuse.
        let is_record = (20..=24).contains(&header[0]);
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        !is_record || len > RECORD_BYTES_MAX + 256 || self.incoming.len() >= HEADER_BYTES + len
    }

    /// Takes bytes in. Content is appended to `plain`; what the peer must be sent is appended to `reply`, also when
    /// this fails. `scratch` is memory to work in.
    ///
    /// # Errors
    /// The connection is to be closed once `reply` is sent.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        scratch: &mut Vec<u8>,
        plain: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let in_scratch = self.incoming.is_empty();
        let mut kept = std::mem::take(&mut self.incoming);
        let buffer = if in_scratch { scratch } else { &mut kept };
        if in_scratch {
            buffer.clear();
        }
        buffer.extend_from_slice(bytes);
        if !std::mem::replace(&mut self.greeted, true) && hello::wants_pre_shared_key(buffer) {
            reply.extend_from_slice(&hello::UNKNOWN_PSK_IDENTITY);
            return Err(Failure::PreSharedKey);
        }
        let at = reply.len();
        let (done, outcome) = self.process(buffer, plain, reply);
        let outcome = outcome.and_then(|()| self.verify_resumed(at, reply));
        let rest = buffer.len() - done;
        if rest > 0 && in_scratch {
            self.incoming = buffer[done..].to_vec();
        } else if rest > 0 {
            kept.drain(..done);
            self.incoming = kept;
        }
        self.looked_at = rest > 0;
        self.handshaking = self.connection.is_handshaking();
        if !self.handshaking {
            self.settings = None;
        }
        outcome?;
        if self.incoming.len() > HANDSHAKE_BYTES_MAX { Err(Failure::TooLong) } else { Ok(()) }
    }

    /// Holds the certificate of a session that is resumed against authorities, dates and revocation lists of now: the ticket
    /// only says that it was good once. What rustls would say to the client is not said then.
    fn verify_resumed(&mut self, at: usize, reply: &mut Vec<u8>) -> Result<(), Error> {
        if self.connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let Some(settings) = self.settings.take() else { return Ok(()) };
        let chain = self.connection.peer_certificates().unwrap_or_default();
        settings.vouch_for(chain).inspect_err(|error| {
            reply.truncate(at);
            reply.extend_from_slice(&[21, 3, 3, 0, 2, 2, alert_of(error).into()]);
        })
    }

    /// Handles every record that is whole; returns how many bytes are done with.
    fn process(&mut self, buffer: &mut [u8], plain: &mut Vec<u8>, reply: &mut Vec<u8>) -> (usize, Result<(), Error>) {
        let mut done = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut buffer[done..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, reply),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(_) => return (done + discard, Ok(())),
                Err(error) => {
                    self.fetch_alert(reply);
                    return (done + discard, Err(error));
                }
            }
            done += discard;
        }
    }

    /// What rustls wants the peer to be told of an error. It gives that out before it looks at any further byte, and must
    /// not be shown one again.
    fn fetch_alert(&mut self, reply: &mut Vec<u8>) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, reply),
                _ => return,
            }
        }
    }

    /// Appends the record or records that carry `plain` to `out`.
    ///
    /// # Errors
    /// Nothing can be sent any more.
    pub fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let room = plain.len() + OVERHEAD_BYTES * plain.len().div_ceil(RECORD_BYTES_MAX).max(1);
        self.write(out, room, |traffic, into| traffic.encrypt(plain, into))
    }

    /// Appends the alert that says that nothing more will come, if the handshake has come far enough for it.
    pub fn send_close_notify(&mut self, out: &mut Vec<u8>) {
        // Where there are no keys yet, or none any more, a closed socket has to say it.
        let _ = self.write(out, OVERHEAD_BYTES, |traffic, into| traffic.queue_close_notify(into));
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), Failure> {
        loop {
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(&mut self.incoming);
            let written = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    Some(append(out, room, |into| match write(&mut traffic, into) {
                        Ok(written) => Ok(Some(written)),
                        Err(EncryptError::InsufficientSize(size)) => Err(size),
                        Err(EncryptError::EncryptExhausted) => Ok(None),
                    }))
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, out);
                    None
                }
                ConnectionState::TransmitTlsData(sent) => {
                    sent.done();
                    None
                }
                _ => return Err(Failure::CannotSend),
            };
            self.incoming.drain(..discard);
            if let Some(written) = written {
                return if written { Ok(()) } else { Err(Failure::CannotSend) };
            }
        }
    }
}

/// What a client is told whose certificate is refused.
fn alert_of(error: &Error) -> AlertDescription {
    match error {
        Error::InvalidCertificate(error) => error.clone().into(),
        _ => AlertDescription::InternalError,
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    append(out, 0, |into| match data.encode(into) {
        Ok(written) => Ok(Some(written)),
        Err(EncodeError::InsufficientSize(size)) => Err(size),
        Err(EncodeError::AlreadyEncoded) => Ok(None),
    });
}

/// Lets `write` write behind what is in `out`, with as much room as it asks for. False if it has nothing to write.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<Option<usize>, InsufficientSizeError>,
) -> bool {
    let at = out.len();
    loop {
        out.resize(at + room, 0);
        match write(&mut out[at..]) {
            Ok(written) => {
                out.truncate(at + written.unwrap_or(0));
                return written.is_some();
            }
            Err(InsufficientSizeError { required_size }) => room = required_size,
        }
    }
}
