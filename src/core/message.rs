//! An application message on its way through the broker.
//!
//! A PUBLISH is looked at in place, as a [`Publication`] that borrows from the receive buffer. Only when it has
//! to outlive that buffer (a session must keep it, another shard wants it) does it become a [`Message`]: one
//! allocation, shared by everybody who holds it.

use crate::codec::QoS;
use crate::engine::Time;
use bytes::Bytes;
use triomphe::ThinArc;

/// What is known of a message besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Keyed hash of the topic name.
    pub topic_hash: u64,
    /// When the message expires; [`NEVER`] without a message expiry interval.
    pub expires: Time,
    topic_at: u32,
    properties_at: u32,
    payload_at: u32,
    topic_len: u16,
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN flag it was published with.
    pub retain: bool,
    /// Whose packet the body is, if it is one.
    form: Form,
    properties_len: u32,
}

/// Whether the body of a publication is that of a PUBLISH packet as it came, and of which version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Topic, properties and payload, put together for this publication.
    Parts,
    /// The variable header and payload of a 3.x PUBLISH of the publication's QoS.
    Packet3,
    /// The same of a 5.0 PUBLISH whose properties are forwarded as they are.
    Packet5,
}

/// Where a PUBLISH packet's body has its topic: behind two bytes of length.
const TOPIC_AT: usize = 2;

/// What a message counts for besides its bytes, in byte limits and in the memory budget: the head of its allocation, the
/// record of who holds it, and what an allocator gives away. A queue of empty messages is not empty.
pub const OVERHEAD: usize = 128;

/// The end of time: this message does not expire.
pub const NEVER: Time = Time(u64::MAX);

/// A message that is being routed, borrowed from wherever its bytes are.
#[derive(Clone, Copy)]
pub struct Publication<'a> {
    head: Head,
    /// `None`: it is looked for in the body, which most receivers never ask for.
    topic: Option<&'a str>,
    body: &'a [u8],
}

/// A message that is kept: reference-counted, immutable, one allocation.
#[derive(Clone)]
pub struct Message(ThinArc<Head, u8>);

/// The parts of a publication, each a slice of one body.
pub struct Parts<'a> {
    /// The bytes that hold all the others.
    pub body: &'a [u8],
    /// What these bytes are as a whole.
    pub form: Form,
    /// Topic name.
    pub topic: &'a str,
    /// Forwardable properties, as on the wire without their length.
    pub properties: &'a [u8],
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Publication<'a> {
    /// Puts a publication together. The parts lie within `parts.body`, in order, and the payload ends it.
    #[inline]
    pub fn new(parts: &Parts<'a>, topic_hash: u64, qos: QoS, retain: bool, expires: Time) -> Publication<'a> {
        // A body ends with the payload, before which the properties are; what a packet has between those and its
        // topic differs.
        let payload_at = parts.body.len() - parts.payload.len();
        let properties_at = payload_at - parts.properties.len();
        let topic_at = if parts.form == Form::Parts { properties_at - parts.topic.len() } else { TOPIC_AT };
        debug_assert!(parts.lie_at(topic_at, properties_at, payload_at));
        Publication {
            head: Head {
                topic_hash,
                expires,
                topic_at: topic_at as u32,
                properties_at: properties_at as u32,
                payload_at: payload_at as u32,
                topic_len: parts.topic.len() as u16,
                qos,
                retain,
                form: parts.form,
                properties_len: parts.properties.len() as u32,
            },
            topic: Some(parts.topic),
            body: parts.body,
        }
    }

    /// Hash, expiry, QoS and RETAIN flag.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Topic name.
    pub fn topic(&self) -> &'a str {
        self.topic.unwrap_or_else(|| self.head.topic(self.body))
    }

    /// Forwardable properties, as on the wire without their length.
    pub fn properties(&self) -> &'a [u8] {
        self.head.properties(self.body)
    }

    /// Application message.
    pub fn payload(&self) -> &'a [u8] {
        self.head.payload(self.body)
    }

    /// The publication that [`body`](Self::body) and [`head`](Self::head) were taken from.
    pub fn of_body(head: Head, body: &'a [u8]) -> Publication<'a> {
        Publication { head, topic: None, body }
    }

    /// All of its bytes: topic, properties, payload.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body of a PUBLISH that a receiver of this version and QoS can be sent as it is, but for the packet
    /// identifier, which lies at the offset that is returned with it (QoS 1 and 2).
    pub fn packet_body(&self, v5: bool, qos: QoS) -> Option<(&'a [u8], usize)> {
        let form = if v5 { Form::Packet5 } else { Form::Packet3 };
        let same = self.head.form == form && self.head.qos == qos && self.head.expires == NEVER;
        same.then_some((self.body, TOPIC_AT + usize::from(self.head.topic_len)))
    }

    /// The same publication with another expiry.
    pub fn expiring(mut self, expires: Time) -> Publication<'a> {
        self.head.expires = expires;
        self
    }

    /// The same content in an allocation of its own.
    pub fn to_message(&self) -> Message {
        Message(ThinArc::from_header_and_slice(self.head, self.body))
    }
}

impl Message {
    /// The borrowed view of this message.
    pub fn publication(&self) -> Publication<'_> {
        Publication::of_body(self.0.header.header, &self.0.slice)
    }

    /// Hash, expiry, QoS and RETAIN flag.
    pub fn head(&self) -> &Head {
        &self.0.header.header
    }

    /// Topic name.
    pub fn topic(&self) -> &str {
        self.head().topic(&self.0.slice)
    }

    /// Application message.
    pub fn payload(&self) -> &[u8] {
        self.head().payload(&self.0.slice)
    }

    /// Length of the application message.
    #[inline]
    pub fn payload_len(&self) -> usize {
        self.0.slice.len() - self.head().payload_at as usize
    }

    /// What the message counts for in byte limits: topic, properties and payload, and the [`OVERHEAD`].
    pub fn size(&self) -> usize {
        self.0.slice.len() + OVERHEAD
    }

    /// The payload as a reference that keeps the whole message alive.
    pub fn payload_bytes(&self) -> Bytes {
        Bytes::from_owner(PayloadOf(self.clone()))
    }

    /// True when the message's expiry has passed.
    pub fn is_expired(&self, now: Time) -> bool {
        self.head().is_expired(now)
    }
}

impl Head {
    fn topic<'a>(&self, body: &'a [u8]) -> &'a str {
        let start = self.topic_at as usize;
        let bytes = &body[start..start + usize::from(self.topic_len)];
        // The topic was a `&str` when the publication was put together; a debug build checks it again.
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        simdutf8::basic::from_utf8(bytes).unwrap_or_default()
    }

    fn properties<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        let start = self.properties_at as usize;
        &body[start..start + self.properties_len as usize]
    }

    fn payload<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        // The payload is what a body ends with, always.
        &body[self.payload_at as usize..]
    }

    /// True when the message's expiry has passed.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires <= now
    }

    /// What is left of the message expiry interval, in seconds; `None` when it never expires
    /// [MQTT-3.3.2-6]. Only whole seconds of waiting are taken off: a message that another shard passed on a
    /// moment ago has all of its interval, and none is sent with 0 before it has expired.
    pub fn expiry_left(&self, now: Time) -> Option<u32> {
        let seconds = || self.expires.since(now).as_nanos().div_ceil(1_000_000_000);
        (self.expires != NEVER).then(|| u32::try_from(seconds()).unwrap_or(u32::MAX))
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({:?}, {} bytes)", self.topic(), self.payload().len())
    }
}

/// Lets `Bytes` own a message and show its payload.
struct PayloadOf(Message);

impl AsRef<[u8]> for PayloadOf {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

impl Parts<'_> {
    /// True when the parts are those pieces of the body.
    fn lie_at(&self, topic_at: usize, properties_at: usize, payload_at: usize) -> bool {
        let is_at = |at: usize, part: &[u8]| self.body.get(at..at + part.len()) == Some(part);
        is_at(topic_at, self.topic.as_bytes())
            && is_at(properties_at, self.properties)
            && is_at(payload_at, self.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_the_parts_of_its_publication() {
        let body = b"xxtopic/aPROPSpayload";
        let publication = Publication::new(
            &Parts {
                body,
                form: Form::Parts,
                topic: std::str::from_utf8(&body[2..9]).unwrap(),
                properties: &body[9..14],
                payload: &body[14..],
            },
            7,
            QoS::AtLeastOnce,
            true,
            NEVER,
        );
        let message = publication.to_message();
        assert_eq!(message.topic(), "topic/a");
        assert_eq!(message.publication().properties(), b"PROPS");
        assert_eq!(message.payload_bytes(), &b"payload"[..]);
        assert_eq!(message.head().topic_hash, 7);
        assert_eq!(message.head().expiry_left(Time(5)), None);
    }

    #[test]
    fn an_empty_payload_and_empty_properties_are_kept_empty() {
        let body = b"t";
        let topic = std::str::from_utf8(body).unwrap();
        let publication = Publication::new(
            &Parts { body, form: Form::Parts, topic, properties: b"", payload: b"" },
            0,
            QoS::AtMostOnce,
            false,
            Time(2_500_000_000),
        );
        assert!(publication.to_message().payload().is_empty());
        assert!(publication.properties().is_empty());
        assert_eq!(publication.head().expiry_left(Time(500_000_000)), Some(2));
        assert_eq!(publication.head().expiry_left(Time(500_000_001)), Some(2));
        assert_eq!(publication.head().expiry_left(Time(1_500_000_000)), Some(1));
        assert!(publication.head().is_expired(Time(2_500_000_000)));
    }
}
