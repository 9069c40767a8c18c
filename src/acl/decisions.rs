//! Answers that are remembered: a client publishes to the same few topics again and again.
//!
//! One for each shard, direct-mapped. An entry names the grants that gave the answer by their number, which no other
//! grants ever get: new rules, or another client in the same slot, never see an old answer, and nothing has to be
//! thrown away.

use super::Grants;
use crate::codec::QoS;

/// How many answers are remembered; 24 bytes each, taken when the first is.
const ANSWERS: usize = 4096;
const _: () = assert!(size_of::<Entry>() == 24);

/// See the module's description.
#[derive(Debug, Default)]
pub struct Decisions {
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Two topics of one length with one keyed 64-bit hash are taken not to occur.
    hash: u64,
    /// Number of the grants; 0 if nothing is remembered here.
    grants: u64,
    /// Length of the topic.
    len: u16,
    /// What was asked: [`RECEIVE`], or the QoS and the retain flag of a publication.
    question: u8,
    answer: bool,
}

const RECEIVE: u8 = 8;

impl Decisions {
    /// As [`Grants::publish`]; `hash` is the topic's, by [`topic_hash`](crate::index::topic_hash).
    #[inline]
    pub fn publish(&mut self, grants: &Grants, topic: &str, hash: u64, qos: QoS, retain: bool) -> bool {
        grants.is_open_to(topic)
            || self
                .answer(grants, topic, hash, qos as u8 | u8::from(retain) << 2, || grants.publish(topic, qos, retain))
    }

    /// As [`Grants::receive`]; `hash` is the topic's.
    #[inline]
    pub fn receive(&mut self, grants: &Grants, topic: &str, hash: u64) -> bool {
        grants.is_open_to(topic) || self.answer(grants, topic, hash, RECEIVE, || grants.receive(topic))
    }

    fn answer(&mut self, grants: &Grants, topic: &str, hash: u64, question: u8, ask: impl FnOnce() -> bool) -> bool {
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); ANSWERS].into();
        }
        // Clients that receive one topic each get a place of their own.
        let place = hash.wrapping_add((grants.id() << 4 | u64::from(question)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let entry = &mut self.entries[(place >> 32) as usize % ANSWERS];
        // A topic name is at most 65,535 bytes long.
        let len = topic.len() as u16;
        if (entry.hash, entry.grants, entry.len, entry.question) != (hash, grants.id(), len, question) {
            *entry = Entry { hash, grants: grants.id(), len, question, answer: ask() };
        }
        entry.answer
    }
}
