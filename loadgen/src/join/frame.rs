//! How messages of a joined run lie on a TCP connection: a length, a kind, the bytes.
//!
//! Four bytes of length (big-endian, of what follows), one byte of kind, then JSON for what is said and the binary form of
//! `measure::wire` for samples, which are most of the traffic. Blocking; each side reads on a thread of its own.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{SockRef, TcpKeepalive};

/// The largest frame from a peer that has said who it is. The largest there is tells what each of a million
/// publishers sent.
pub const LENGTH_MAX: u32 = 256 << 20;
/// The largest first frame: whoever connects has said nothing yet.
pub const HELLO_LENGTH_MAX: u32 = 16 << 10;

/// How long the other host may acknowledge nothing before the connection counts as broken. Without it a cut cable shows
/// after a quarter of an hour to whoever sends, and never to whoever waits.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(20);

const SAID: u8 = 0;
const SAMPLE: u8 = 1;

/// What a frame holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<M> {
    /// A message.
    Said(M),
    /// A sample in its binary form.
    Sample(Vec<u8>),
}

/// Makes a connection fit for frames: nothing waits to be sent, and a host that is gone is noticed.
///
/// # Errors
///
/// A connection that is over.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(SILENCE_LIMIT / 4).with_interval(SILENCE_LIMIT / 4);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(SILENCE_LIMIT))
}

/// Writes a message.
///
/// # Errors
///
/// Those of the connection.
pub fn say(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    write(to, SAID, &body)
}

/// Writes a sample.
///
/// # Errors
///
/// Those of the connection.
pub fn send_sample(to: &mut impl Write, sample: &[u8]) -> io::Result<()> {
    write(to, SAMPLE, sample)
}

fn write(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 1).ok().filter(|length| *length <= LENGTH_MAX);
    let length = length.ok_or_else(|| io::Error::other(format!("a message of {} bytes is too long", body.len())))?;
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.extend(length.to_be_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    // One write, one segment where it fits: round trips that measure clocks must not wait for a second one.
    to.write_all(&frame)
}

/// Reads one frame of at most `length_max` bytes; `None` at an orderly end.
///
/// # Errors
///
/// Those of the connection, a frame that is too long, and bytes that mean nothing (`InvalidData`).
pub fn read<M: DeserializeOwned>(from: &mut impl Read, length_max: u32) -> io::Result<Option<Frame<M>>> {
    let mut head = [0; 4];
    match from.read(&mut head)? {
        0 => return Ok(None),
        got => from.read_exact(&mut head[got..])?,
    }
    let length = u32::from_be_bytes(head);
    if !(1..=length_max).contains(&length) {
        return Err(invalid(format!("a message of {length} bytes (at most {length_max} are expected)")));
    }
    // Grows as bytes come: a length alone must not take memory.
    let mut body = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut body)?;
    if body.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match body[0] {
        SAID => Ok(Some(Frame::Said(serde_json::from_slice(&body[1..])?))),
        SAMPLE => Ok(Some(Frame::Sample(body.split_off(1)))),
        kind => Err(invalid(format!("a message of the unknown kind {kind}"))),
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(mut bytes: &[u8]) -> io::Result<Option<Frame<String>>> {
        read(&mut bytes, LENGTH_MAX)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        say(&mut bytes, &"hello").unwrap();
        send_sample(&mut bytes, &[7, 0, 9]).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from, 100).unwrap(), Some(Frame::Said("hello".to_owned())));
        assert_eq!(read::<String>(&mut from, 100).unwrap(), Some(Frame::Sample(vec![7, 0, 9])));
        assert_eq!(read::<String>(&mut from, 100).unwrap(), None);
    }

    #[test]
    fn a_frame_that_breaks_off_is_an_error_and_not_an_end() {
        let mut bytes = Vec::new();
        say(&mut bytes, &"hello").unwrap();
        for length in 1..bytes.len() {
            assert!(read_all(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
        let mut from = [0xff, 0xff, 0xff, 0xff].as_slice();
        let refusal = read::<String>(&mut from, HELLO_LENGTH_MAX).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_peer_of_another_trade_is_refused() {
        assert!(read_all(b"GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(read_all(&[0, 0, 0, 1, 9]).is_err());
    }
}
