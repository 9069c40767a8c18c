//! The opening handshake (RFC 6455 §4.2): an HTTP request that becomes a WebSocket, or is refused in words that help.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::Header;
use sha1::{Digest, Sha1};

use super::Limits;

/// Header lines that a request may have.
pub const HEADERS_MAX: usize = 64;

/// The sub-protocols we speak, the preferred one first. MQTT 3.1.1 and 5.0 have one name [MQTT-6.0.0-3]; clients
/// of 3.1, and some later ones, know the other.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What a key is joined with (§1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request does not become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No request of HTTP/1.1 by GET, or a header line that must be there once is not.
    #[error("this is no WebSocket handshake: {0}")]
    Malformed(&'static str),
    /// The origin is none of those whose pages may connect.
    #[error("web pages of this origin may not connect here (listener.websocket.origins)")]
    Origin,
    /// Another path.
    #[error("there is nothing at this path")]
    Path,
    /// A request for a web page.
    #[error("this is an MQTT broker: connect by WebSocket, sub-protocol mqtt")]
    NoUpgrade,
    /// Another version than 13.
    #[error("the version of WebSocket spoken here is 13")]
    Version,
    /// Longer than [`Limits::head_bytes_max`], or more than [`HEADERS_MAX`] lines.
    #[error("the request's head is too large")]
    TooLarge,
}

impl Refusal {
    /// The HTTP status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Malformed(_) => 400,
            Refusal::Origin => 403,
            Refusal::Path => 404,
            Refusal::NoUpgrade | Refusal::Version => 426,
            Refusal::TooLarge => 431,
        }
    }

    /// Appends the answer.
    pub(super) fn put(self, reply: &mut Vec<u8>) {
        let status = match self.status() {
            400 => "400 Bad Request",
            403 => "403 Forbidden",
            404 => "404 Not Found",
            426 => "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
            _ => "431 Request Header Fields Too Large",
        };
        let connection = if self.status() == 426 { "Upgrade, close" } else { "close" };
        let text = self.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\nConnection: {connection}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{text}\n",
            text.len() + 1
        );
        reply.extend_from_slice(answer.as_bytes());
    }
}

/// Where the head of a request ends, looking no further than `limit`, and not again at the first `seen` bytes.
/// `None`: more is needed.
pub(super) fn end_of_head(bytes: &[u8], seen: usize, limit: usize) -> Result<Option<usize>, Refusal> {
    // Whoever speaks something else hears so at once, and not when time is up.
    if !bytes.iter().zip(b"GET ").all(|(is, should)| is == should) {
        return Err(Refusal::Malformed("a GET request is expected"));
    }
    let bytes = &bytes[..bytes.len().min(limit)];
    let from = seen.saturating_sub(3).min(bytes.len());
    match memchr::memmem::find(&bytes[from..], b"\r\n\r\n") {
        Some(at) => Ok(Some(from + at + 4)),
        None if bytes.len() < limit => Ok(None),
        None => Err(Refusal::TooLarge),
    }
}

/// Answers a request whose head is complete: with 101, if it may become a WebSocket.
pub(super) fn accept(head: &[u8], limits: &Limits, reply: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLarge),
        _ => return Err(Refusal::Malformed("it is not HTTP")),
    }
    if (request.method, request.version) != (Some("GET"), Some(1)) {
        return Err(Refusal::Malformed("it must be GET by HTTP/1.1"));
    }
    if path(request.path.unwrap_or_default()) != limits.path {
        return Err(Refusal::Path);
    }
    let (key, protocol) = negotiate(request.headers, limits)?;
    let accept = accept_of(key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    reply.extend_from_slice(answer.as_bytes());
    Ok(())
}

/// What answers a key, in its base64 form (§4.2.2).
pub fn accept_of(key: &[u8]) -> String {
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize())
}

/// A target without its query.
fn path(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The key, and the sub-protocol that is chosen (§4.2.1). Extensions that are offered are not looked at: none is
/// accepted, so none is answered.
fn negotiate<'a>(headers: &'a [Header<'a>], limits: &Limits) -> Result<(&'a [u8], &'static str), Refusal> {
    if !lists(headers, "Upgrade", |token| token.eq_ignore_ascii_case("websocket"))
        || !lists(headers, "Connection", |token| token.eq_ignore_ascii_case("upgrade"))
    {
        return Err(Refusal::NoUpgrade);
    }
    if once(headers, "Sec-WebSocket-Version")? != Some(&b"13"[..]) {
        return Err(Refusal::Version);
    }
    let host = once(headers, "Host")?.ok_or(Refusal::Malformed("a Host line is missing"))?;
    if once(headers, "Content-Length")?.is_some_and(|length| length != b"0")
        || once(headers, "Transfer-Encoding")?.is_some()
    {
        return Err(Refusal::Malformed("it must not have a body"));
    }
    let key = once(headers, "Sec-WebSocket-Key")?.filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    let key = key.ok_or(Refusal::Malformed("Sec-WebSocket-Key must be the base64 form of 16 bytes"))?;
    let origin = once(headers, "Origin")?;
    if origin.is_some_and(|origin| !limits.origins.allow(origin, host)) {
        return Err(Refusal::Origin);
    }
    let mut known = PROTOCOLS.into_iter();
    let protocol = known.find(|known| lists(headers, "Sec-WebSocket-Protocol", |token| token == *known));
    let protocol = protocol.ok_or(Refusal::Malformed("Sec-WebSocket-Protocol must offer mqtt"))?;
    Ok((key, protocol))
}

fn named<'a>(headers: &'a [Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The value of a line that must not be there twice: whoever stands before us may have looked at the other.
fn once<'a>(headers: &'a [Header<'a>], name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let mut values = named(headers, name);
    let value = values.next();
    if values.next().is_some() { Err(Refusal::Malformed("a header line is there twice")) } else { Ok(value) }
}

/// True when one of the tokens of a list, which may go over several lines, is the one that is looked for.
fn lists(headers: &[Header<'_>], name: &str, is_it: impl Fn(&str) -> bool) -> bool {
    named(headers, name)
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .any(|token| is_it(token.trim_matches([' ', '\t'])))
}
