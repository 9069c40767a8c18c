//! Takes frames apart as they arrive, cut in any way: payloads of data frames go to whoever wants them, control frames
//! are handed over whole.

use std::mem;

use smallvec::SmallVec;

use super::frame::{self, CONTROL_BYTES_MAX, Head, Opcode, Parsed, Sender, Violation};

/// One direction of a connection.
#[derive(Debug)]
pub struct Deframer {
    payload_max: u64,
    /// Bytes of a data frame's payload that are still to come.
    remaining: u64,
    /// The beginning of something that can only be handled whole. The head of a frame fits without an allocation.
    partial: SmallVec<[u8; 16]>,
    /// What the next byte of the payload is masked with, and those after it.
    key: [u8; 4],
    sender: Sender,
    /// A frame other than the last of its message was received.
    fragmented: bool,
}

/// A control frame.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Which.
    pub opcode: Opcode,
    payload: [u8; CONTROL_BYTES_MAX],
    len: u8,
}

impl Control {
    /// What it carries.
    pub fn payload(&self) -> &[u8] {
        &self.payload[..usize::from(self.len)]
    }

    /// The code of a close frame as it is sent back; empty if there is none (RFC 6455 §5.5.1).
    ///
    /// # Errors
    ///
    /// A code that must not be in a frame (§7.4), a reason that is not UTF-8.
    pub fn close_code(&self) -> Result<&[u8], Violation> {
        let payload = self.payload();
        if payload.is_empty() {
            return Ok(payload);
        }
        let (code, reason) = payload.split_at_checked(2).ok_or(Violation::CloseCode)?;
        // Those that are defined for use in a frame, and those of libraries and applications.
        if !matches!(u16::from_be_bytes([code[0], code[1]]), 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Violation::CloseCode);
        }
        std::str::from_utf8(reason).map_err(|_| Violation::CloseReason)?;
        Ok(code)
    }
}

/// How far the front of some bytes was handled.
enum Progress {
    Used(usize, Option<Control>),
    /// Nothing was; this many bytes are needed in all.
    Needs(usize),
}

impl Deframer {
    /// For what `sender` sends, with data frames of at most `payload_max` bytes.
    pub fn new(sender: Sender, payload_max: u64) -> Deframer {
        let (partial, key) = (SmallVec::new(), [0; 4]);
        Deframer { payload_max, remaining: 0, partial, key, sender, fragmented: false }
    }

    /// Handles `input`, of at least one byte, up to its end or the end of the first control frame: how many bytes, and
    /// that frame. Payloads of binary messages are appended to `out`.
    ///
    /// # Errors
    ///
    /// The sender breaks the rules. What came before is in `out`; nothing more may be handed in.
    pub fn next(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Option<Control>), Violation> {
        let mut at = 0;
        while at < input.len() {
            if self.remaining > 0 {
                at += self.payload(&input[at..], out);
                continue;
            }
            let (used, control) = self.frame(&input[at..])?;
            at += used;
            if control.is_some() {
                return Ok((at, control));
            }
        }
        Ok((at, None))
    }

    /// Takes what is there of a data frame's payload.
    fn payload(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let length = usize::try_from(self.remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        let at = out.len();
        out.extend_from_slice(&input[..length]);
        if self.sender == Sender::Client {
            frame::mask(&mut out[at..], self.key);
            self.key.rotate_left(length % 4);
        }
        self.remaining -= length as u64;
        length
    }

    /// Takes the head of a data frame, or a control frame, or as much of it as there is.
    fn frame(&mut self, input: &[u8]) -> Result<(usize, Option<Control>), Violation> {
        if self.partial.is_empty() {
            if let Progress::Used(used, control) = self.begin(input)? {
                return Ok((used, control));
            }
            self.partial.extend_from_slice(input);
            return Ok((input.len(), None));
        }
        let mut partial = mem::take(&mut self.partial);
        let mut used = 0;
        loop {
            match self.begin(&partial)? {
                Progress::Used(_, control) => return Ok((used, control)),
                Progress::Needs(_) if used == input.len() => break,
                Progress::Needs(needed) => {
                    let missing = (needed - partial.len()).min(input.len() - used);
                    partial.extend_from_slice(&input[used..used + missing]);
                    used += missing;
                }
            }
        }
        self.partial = partial;
        Ok((used, None))
    }

    /// Handles what is at the front of `bytes`: the head of a data frame, or a whole control frame.
    fn begin(&mut self, bytes: &[u8]) -> Result<Progress, Violation> {
        let (head, len) = match frame::parse(bytes, self.sender, self.payload_max)? {
            Parsed::Complete { head, len } => (head, len),
            Parsed::Incomplete { needed } => return Ok(Progress::Needs(needed)),
        };
        if !head.opcode.is_control() {
            self.begin_data(head)?;
            return Ok(Progress::Used(len, None));
        }
        let whole = len + head.payload as usize;
        let Some(masked) = bytes.get(len..whole) else { return Ok(Progress::Needs(whole)) };
        let mut payload = [0; CONTROL_BYTES_MAX];
        payload[..masked.len()].copy_from_slice(masked);
        frame::mask(&mut payload[..masked.len()], head.key);
        Ok(Progress::Used(whole, Some(Control { opcode: head.opcode, payload, len: masked.len() as u8 })))
    }

    fn begin_data(&mut self, head: Head) -> Result<(), Violation> {
        if (head.opcode == Opcode::Continuation) != self.fragmented {
            return Err(Violation::FragmentOrder);
        }
        if head.opcode == Opcode::Text {
            return Err(Violation::Text);
        }
        (self.fragmented, self.key, self.remaining) = (!head.fin, head.key, head.payload);
        Ok(())
    }
}
