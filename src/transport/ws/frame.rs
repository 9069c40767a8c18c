//! Frames of WebSocket (RFC 6455 §5.2), read and written where they lie. Both ends' rules are here: the broker reads
//! what clients send, the load generator what servers send.

use smallvec::SmallVec;

/// The longest head of a frame: two bytes, a length of eight, a masking key.
pub const HEAD_BYTES_MAX: usize = 14;
/// The longest payload of a control frame (§5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is (§5.2, §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// The message of the frame before goes on.
    Continuation = 0x0,
    /// A message of text begins.
    Text = 0x1,
    /// A message of bytes begins.
    Binary = 0x2,
    /// The last frame of its sender.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xA,
}

impl Opcode {
    fn of(nibble: u8) -> Option<Opcode> {
        use Opcode::*;
        [Continuation, Text, Binary, Close, Ping, Pong].into_iter().find(|opcode| *opcode as u8 == nibble)
    }

    /// Close, ping and pong: they may come between the fragments of a message.
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Who sent a frame: a client must mask its frames, a server must not (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Frames without a mask are refused.
    Client,
    /// Frames with a mask are refused.
    Server,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub opcode: Opcode,
    /// No fragment of the message follows.
    pub fin: bool,
    /// What the payload is masked with; zeros leave it as it is.
    pub key: [u8; 4],
    /// Length of the payload in bytes.
    pub payload: u64,
}

/// A head that was looked for at the front of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// It is there.
    Complete {
        /// The head.
        head: Head,
        /// Its length in bytes; the payload follows.
        len: usize,
    },
    /// It is not all there.
    Incomplete {
        /// How many bytes must be there, in all, before it is worth another look.
        needed: usize,
    },
}

/// How a peer breaks the rules of WebSocket, or ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A bit that belongs to an extension, such as compression, and none was agreed on.
    #[error("a frame of an extension (compression?) that was not agreed on")]
    ReservedBits,
    /// An opcode that does not exist.
    #[error("a frame with a reserved opcode")]
    ReservedOpcode,
    /// A client's frame is not masked, or a server's is.
    #[error("a frame that a client does not mask, or a server does")]
    Masking,
    /// A control frame in fragments.
    #[error("a control frame in fragments")]
    ControlFragmented,
    /// A control frame longer than [`CONTROL_BYTES_MAX`].
    #[error("a control frame of more than {CONTROL_BYTES_MAX} bytes")]
    ControlTooLong,
    /// A length in more bytes than it needs, or beyond 2⁶³.
    #[error("a frame length that is not written in its shortest form")]
    LengthForm,
    /// A continuation of nothing, or a new message before the last one ended.
    #[error("fragments out of order")]
    FragmentOrder,
    /// A close frame with half a code, or a code that must not be sent (§7.4).
    #[error("a close frame with no valid code")]
    CloseCode,
    /// A close frame whose reason is no UTF-8.
    #[error("a close frame with a reason that is not UTF-8")]
    CloseReason,
    /// MQTT is sent in binary frames. [MQTT-6.0.0-1]
    #[error("a text frame: MQTT is sent in binary frames")]
    Text,
    /// Longer than is allowed here.
    #[error("a frame longer than the limit")]
    TooLong,
}

impl Violation {
    /// The code that the close frame tells the peer (§7.4.1).
    pub fn code(self) -> u16 {
        match self {
            Violation::Text => 1003,
            Violation::CloseReason => 1007,
            Violation::TooLong => 1009,
            _ => 1002,
        }
    }
}

/// Reads the head at the front of `bytes`. `payload_max` bounds the payload of a data frame.
///
/// # Errors
///
/// What is there breaks the rules, whatever follows. What the first two bytes tell is told by the first two.
pub fn parse(bytes: &[u8], sender: Sender, payload_max: u64) -> Result<Parsed, Violation> {
    let &[first, second, ..] = bytes else { return Ok(Parsed::Incomplete { needed: 2 }) };
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let opcode = Opcode::of(first & 0x0F).ok_or(Violation::ReservedOpcode)?;
    let (fin, masked, short) = (first & 0x80 != 0, second & 0x80 != 0, second & 0x7F);
    if masked != (sender == Sender::Client) {
        return Err(Violation::Masking);
    }
    if opcode.is_control() && !fin {
        return Err(Violation::ControlFragmented);
    }
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(Violation::ControlTooLong);
    }
    let key_at = 2 + match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let len = key_at + if masked { 4 } else { 0 };
    if bytes.len() < len {
        return Ok(Parsed::Incomplete { needed: len });
    }
    let payload = match short {
        126 | 127 => long_length(&bytes[2..key_at])?,
        short => u64::from(short),
    };
    if payload > payload_max && !opcode.is_control() {
        return Err(Violation::TooLong);
    }
    let key = bytes[key_at..len].try_into().unwrap_or_default();
    Ok(Parsed::Complete { head: Head { opcode, fin, key, payload }, len })
}

/// A length of two or eight bytes, which must need them (§5.2).
fn long_length(bytes: &[u8]) -> Result<u64, Violation> {
    let length = bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    let valid = if bytes.len() == 2 { 126..=u64::from(u16::MAX) } else { 1 << 16..=i64::MAX as u64 };
    if valid.contains(&length) { Ok(length) } else { Err(Violation::LengthForm) }
}

/// Masks or unmasks bytes in place (§5.3). `key` begins with the byte that belongs to the first of them.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// The head of an unfragmented frame without a mask, as a server sends it.
pub fn head(opcode: Opcode, payload: usize) -> SmallVec<[u8; HEAD_BYTES_MAX]> {
    let mut head = SmallVec::new();
    head.push(0x80 | opcode as u8);
    match payload {
        0..=125 => head.push(payload as u8),
        126..=0xFFFF => {
            head.push(126);
            head.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    head
}

/// Appends a frame as a server sends it.
pub fn put(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&head(opcode, payload.len()));
    out.extend_from_slice(payload);
}

/// Appends a frame as a client sends it: masked.
pub fn put_masked(opcode: Opcode, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    let mut head = head(opcode, payload.len());
    head[1] |= 0x80;
    out.extend_from_slice(&head);
    out.extend_from_slice(&key);
    let at = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[at..], key);
}
