//! Small messages for another shard, many in one note.
//!
//! A message of its own allocation is made by one thread and freed by another, and the allocator pays for that with a
//! lock which both then fight for; the queue between the shards pays for each item too. So what a turn has for one
//! shard travels together: the bodies copied one behind the other, and the answers that went the same way. The
//! receiver delivers from the parcel as it would from a receive buffer, and uses its memory for a parcel of its own.

use super::message::{Head, Publication};
use super::note::Ticket;
use super::session::Outcome;

/// The largest body that is copied, in bytes. Of a larger one a reference is cheaper.
pub const BODY_MAX: usize = 2048;
/// The most publications and answers in a parcel: the mesh counts them one by one, and may hold one parcel too much.
const CONTENT_MAX: usize = 256;
/// Bytes of bodies in a parcel.
const BYTES_MAX: usize = 16 << 10;
/// Parcels that a shard keeps to use again, with 52 KiB of memory each at most.
const SPARE_MAX: usize = 16;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Parcel {
    entries: Vec<Entry>,
    bodies: Vec<u8>,
    answers: Vec<(Ticket, Outcome)>,
}

#[derive(Debug)]
struct Entry {
    head: Head,
    body_len: usize,
    ticket: Option<Ticket>,
}

impl Parcel {
    /// True when it takes one more publication with a body of that length, or with 0 an answer.
    pub fn takes(&self, body_len: usize) -> bool {
        self.len() < CONTENT_MAX && self.bodies.len() + body_len <= BYTES_MAX
    }

    /// How much it holds.
    pub fn len(&self) -> usize {
        self.entries.len() + self.answers.len()
    }

    /// Adds a publication, and whom to tell what became of it.
    pub fn put(&mut self, publication: &Publication<'_>, ticket: Option<Ticket>) {
        let body = publication.body();
        self.entries.push(Entry { head: *publication.head(), body_len: body.len(), ticket });
        self.bodies.extend_from_slice(body);
    }

    /// Adds an answer.
    pub fn put_answer(&mut self, ticket: Ticket, outcome: Outcome) {
        self.answers.push((ticket, outcome));
    }

    /// The publications, in the order they were put in.
    pub fn publications(&self) -> impl Iterator<Item = (Publication<'_>, Option<Ticket>)> {
        let mut rest = &self.bodies[..];
        self.entries.iter().map(move |entry| {
            let (body, behind) = rest.split_at(entry.body_len);
            rest = behind;
            (Publication::of_body(entry.head, body), entry.ticket)
        })
    }

    /// The answers, in the order they were put in.
    pub fn answers(&self) -> impl Iterator<Item = (Ticket, Outcome)> {
        self.answers.iter().copied()
    }
}

/// Empty parcels whose memory is used again.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "a parcel travels in its box, and the box is used again with it")]
pub struct Spares(Vec<Box<Parcel>>);

impl Spares {
    /// An empty parcel.
    pub fn take(&mut self) -> Box<Parcel> {
        self.0.pop().unwrap_or_default()
    }

    /// Keeps a parcel that was unpacked.
    pub fn give(&mut self, mut parcel: Box<Parcel>) {
        if self.0.len() < SPARE_MAX {
            let Parcel { entries, bodies, answers } = &mut *parcel;
            entries.clear();
            bodies.clear();
            answers.clear();
            self.0.push(parcel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::QoS;
    use crate::core::message::{Form, NEVER, Parts};

    fn publication(body: &str) -> Publication<'_> {
        let (topic, payload) = (&body[..1], &body.as_bytes()[1..]);
        let parts = Parts { body: body.as_bytes(), form: Form::Parts, topic, properties: b"", payload };
        Publication::new(&parts, body.len() as u64, QoS::AtLeastOnce, false, NEVER)
    }

    fn ticket(number: u32) -> Ticket {
        Ticket { session: 1, generation: 2, number }
    }

    fn content(parcel: &Parcel) -> Vec<(String, Vec<u8>, Option<Ticket>)> {
        let each = parcel.publications();
        each.map(|(one, ticket)| (one.topic().to_owned(), one.payload().to_owned(), ticket)).collect()
    }

    #[test]
    fn what_is_put_in_comes_out_in_order() {
        let mut parcel = Parcel::default();
        parcel.put(&publication("a1"), None);
        parcel.put(&publication("b"), Some(ticket(7)));
        parcel.put(&publication("c333"), None);
        let outcome = Outcome { matched: true, refused: false };
        parcel.put_answer(ticket(8), outcome);
        let (a, b, c) = (("a", &b"1"[..]), ("b", &b""[..]), ("c", &b"333"[..]));
        let wanted: Vec<_> = [(a, None), (b, Some(ticket(7))), (c, None)]
            .map(|((topic, payload), ticket)| (topic.to_owned(), payload.to_owned(), ticket))
            .into();
        assert_eq!(content(&parcel), wanted);
        assert_eq!(parcel.answers().collect::<Vec<_>>(), [(ticket(8), outcome)]);
        assert_eq!(parcel.publications().map(|(one, _)| one.head().topic_hash).collect::<Vec<_>>(), [2, 1, 4]);
        assert_eq!(parcel.len(), 4);
    }

    #[test]
    fn a_parcel_is_full_by_bytes_or_by_number() {
        let mut by_bytes = Parcel::default();
        let body = "x".repeat(BODY_MAX);
        while by_bytes.takes(BODY_MAX) {
            by_bytes.put(&publication(&body), None);
        }
        assert_eq!(by_bytes.len(), BYTES_MAX / BODY_MAX);
        assert!(by_bytes.takes(0) && !by_bytes.takes(1), "there is room for answers");
        let mut by_number = Parcel::default();
        while by_number.takes(0) {
            by_number.put_answer(ticket(0), Outcome::default());
        }
        assert_eq!(by_number.len(), CONTENT_MAX);
    }

    #[test]
    fn a_spare_is_empty_and_only_a_few_are_kept() {
        let mut spares = Spares::default();
        for _ in 0..2 * SPARE_MAX {
            let mut parcel = Box::<Parcel>::default();
            parcel.put(&publication("t"), None);
            parcel.put_answer(ticket(0), Outcome::default());
            spares.give(parcel);
        }
        assert_eq!(spares.0.len(), SPARE_MAX);
        let spare = spares.take();
        assert!(spare.len() == 0 && content(&spare).is_empty() && spare.bodies.capacity() > 0);
    }
}
