//! Large messages that several hold: their payload is there once on a shard, and the memory budget counts it once.
//!
//! Queues, what is in flight and output each count all of what they hold, since any of them may be the last. Of a large
//! payload it is remembered how many hold it; all but one of them count something that isn't there, and that sum is taken
//! off. Small messages are not followed: each holder's own record is of their size, and they are the many.

use super::conn::LARGE_PAYLOAD_MIN;
use super::message::Message;
use crate::slab::BySlot;
use std::collections::{HashMap, VecDeque};

/// A shard's large messages.
#[derive(Default)]
pub struct Shares {
    held: Holders,
    /// Large payloads that connections are still to send, by slot.
    sending: BySlot<Sending>,
    /// Lists that are empty, for whoever needs one next: a message costs no allocation for being counted.
    spare: Vec<VecDeque<(u64, Message)>>,
}

/// Who holds what.
#[derive(Default)]
struct Holders {
    /// How many hold each, by where it is: whoever is counted here keeps it there.
    counts: HashMap<usize, u32>,
    /// What holders count beyond what there is.
    excess: u64,
}

/// A connection's large payloads, oldest first.
struct Sending {
    /// How many bytes were sent since the list began.
    sent: u64,
    /// Where each payload begins, counted likewise.
    waiting: VecDeque<(u64, Message)>,
}

/// The most lists that are kept for the next.
const SPARE_MAX: usize = 256;

impl Holders {
    #[cold]
    fn hold(&mut self, message: &Message) {
        let count = self.counts.entry(place(message)).or_insert(0);
        if *count > 0 {
            self.excess += message.payload_len() as u64;
        }
        *count += 1;
    }

    #[cold]
    fn let_go(&mut self, message: &Message) {
        let place = place(message);
        let Some(count) = self.counts.get_mut(&place) else { return debug_assert!(false, "nobody held it") };
        *count -= 1;
        if *count > 0 {
            self.excess -= message.payload_len() as u64;
        } else {
            self.counts.remove(&place);
        }
    }
}

fn place(message: &Message) -> usize {
    message.payload().as_ptr() as usize
}

impl Shares {
    /// Somebody who counts all of a message holds it from now on.
    #[inline]
    pub fn hold(&mut self, message: &Message) {
        if message.payload_len() >= LARGE_PAYLOAD_MIN {
            self.held.hold(message);
        }
    }

    /// One of them does no more.
    #[inline]
    pub fn let_go(&mut self, message: &Message) {
        if message.payload_len() >= LARGE_PAYLOAD_MIN {
            self.held.let_go(message);
        }
    }

    /// A large payload was written to a connection behind so many bytes that are not sent yet.
    pub fn written(&mut self, slot: u32, behind: usize, message: Message) {
        self.held.hold(&message);
        let spare = &mut self.spare;
        let anew = || Sending { sent: 0, waiting: spare.pop().unwrap_or_default() };
        let sending = self.sending.entry(slot).or_insert_with(anew);
        sending.waiting.push_back((sending.sent + behind as u64, message));
    }

    /// So many bytes of a connection were sent. Where a payload has begun to leave, what is left of it counts in full: its
    /// receiver holds no whole one any more.
    #[inline]
    pub fn sent(&mut self, slot: u32, bytes: usize) {
        if !self.sending.is_empty() {
            self.sent_large(slot, bytes);
        }
    }

    #[cold]
    fn sent_large(&mut self, slot: u32, bytes: usize) {
        let Some(sending) = self.sending.get_mut(&slot) else { return };
        sending.sent += bytes as u64;
        while let Some((begins, message)) = sending.waiting.front() {
            if *begins >= sending.sent {
                return;
            }
            self.held.let_go(message);
            sending.waiting.pop_front();
        }
        let empty = self.sending.remove(&slot).map(|sending| sending.waiting);
        if self.spare.len() < SPARE_MAX {
            self.spare.extend(empty);
        }
    }

    /// Nothing of a connection is sent any more.
    #[inline]
    pub fn gone(&mut self, slot: u32) {
        if !self.sending.is_empty()
            && let Some(sending) = self.sending.remove(&slot)
        {
            sending.waiting.iter().for_each(|(_, message)| self.held.let_go(message));
        }
    }

    /// How much less there is than holders count.
    pub fn excess(&self) -> u64 {
        self.held.excess
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Form, NEVER, Parts, Publication};
    use super::*;
    use crate::codec::QoS;
    use proptest::prelude::*;

    fn message(len: usize) -> Message {
        let body = vec![b't'; len + 1];
        let topic = std::str::from_utf8(&body[..1]).unwrap();
        let parts = Parts { body: &body, form: Form::Parts, topic, properties: b"", payload: &body[1..] };
        Publication::new(&parts, 0, QoS::AtLeastOnce, false, NEVER).to_message()
    }

    #[test]
    fn small_messages_are_not_followed() {
        let (mut shares, small) = (Shares::default(), message(LARGE_PAYLOAD_MIN - 1));
        shares.hold(&small);
        shares.hold(&small);
        assert_eq!((shares.excess(), shares.held.counts.len()), (0, 0));
    }

    proptest! {
        /// What holders count, less the excess, is never less than what there is; and no more where nothing is half sent.
        #[test]
        fn what_is_shared_counts_once_and_never_less(
            steps in prop::collection::vec((0..4u8, 0..3usize, 0..4u32, 1..40_000usize), 1..200),
        ) {
            let messages = [20_000, 30_000, 40_000].map(message);
            let mut shares = Shares::default();
            // What is held by sessions, and by connections as it is to be sent, with the bytes that are left of it.
            let (mut kept, mut output) = (Vec::new(), vec![VecDeque::<(usize, usize)>::new(); 4]);
            for (what, which, slot, bytes) in steps {
                let unsent: usize = output[slot as usize].iter().map(|(_, left)| left).sum();
                match what {
                    0 => { shares.hold(&messages[which]); kept.push(which); }
                    1 => if let Some(which) = kept.pop() { shares.let_go(&messages[which]) },
                    2 => {
                        shares.written(slot, unsent, messages[which].clone());
                        output[slot as usize].push_back((which, messages[which].payload_len()));
                    }
                    _ => {
                        let mut bytes = bytes.min(unsent);
                        shares.sent(slot, bytes);
                        while bytes > 0 && let Some((_, left)) = output[slot as usize].front_mut() {
                            let taken = bytes.min(*left);
                            (bytes, *left) = (bytes - taken, *left - taken);
                            if *left == 0 { output[slot as usize].pop_front(); }
                        }
                    }
                }
                let whole = |which: usize, left: usize| left == messages[which].payload_len();
                let sent: Vec<_> = output.iter().flatten().copied().collect();
                let counted = kept.iter().map(|which| messages[*which].payload_len()).sum::<usize>()
                    + sent.iter().map(|(_, left)| left).sum::<usize>();
                let there = |which: &usize| kept.contains(which) || sent.iter().any(|&(w, left)| w == *which && whole(w, left));
                let once: usize = (0..3).filter(there).map(|which| messages[which].payload_len()).sum();
                let partly: usize = sent.iter().filter(|(w, left)| !whole(*w, *left)).map(|(_, left)| left).sum();
                prop_assert_eq!(counted - shares.excess() as usize, once + partly);
            }
            (0..4).for_each(|slot| shares.gone(slot));
            kept.iter().for_each(|which| shares.let_go(&messages[*which]));
            prop_assert_eq!((shares.excess(), shares.held.counts.len(), shares.sending.len()), (0, 0, 0));
        }
    }
}
