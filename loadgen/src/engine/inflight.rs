//! A client's messages on their way at QoS 1 and 2, both directions, by packet identifier.

use std::collections::VecDeque;

use ringmq::codec::QoS;

/// A PUBLISH that was sent and is not acknowledged for good: enough to make the same bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Of which publication of the thread.
    pub stream: u32,
    /// Packet identifier.
    pub packet_id: u16,
    /// QoS that it was sent with.
    pub qos: QoS,
    /// Which of the stream's messages.
    pub number: u64,
    /// The time in its stamp.
    pub at_ns: u64,
}

/// What an acknowledgement acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The message.
    pub message: Sent,
    /// It was that message's turn `[MQTT-4.6.0-2]`.
    pub in_turn: bool,
}

/// In-flight messages of a client's session.
#[derive(Debug)]
pub struct Inflight {
    /// The broker's receive maximum.
    limit: u16,
    /// The packet identifier given out last.
    last_id: u16,
    /// Sent at QoS 1, oldest first.
    at_least_once: VecDeque<Sent>,
    /// Sent at QoS 2, oldest first, except that those with a PUBREL come first.
    exactly_once: VecDeque<Sent>,
    /// How many of `exactly_once` have a PUBREL.
    released: usize,
    /// Received at QoS 2 and not released yet, oldest first.
    received: VecDeque<u16>,
}

impl Default for Inflight {
    fn default() -> Self {
        let (at_least_once, exactly_once, received) = Default::default();
        Self { limit: u16::MAX, last_id: 0, at_least_once, exactly_once, released: 0, received }
    }
}

impl Inflight {
    /// The broker says how many messages it takes at a time.
    pub fn set_limit(&mut self, receive_maximum: u16) {
        self.limit = receive_maximum;
    }

    /// How many messages are not acknowledged for good.
    pub fn len(&self) -> usize {
        self.at_least_once.len() + self.exactly_once.len()
    }

    /// True when every message is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A packet identifier for another message; `None` when the broker's receive maximum, or the space of
    /// identifiers, is used up.
    #[inline]
    pub fn next_id(&self) -> Option<u16> {
        let id = if self.last_id == u16::MAX { 1 } else { self.last_id + 1 };
        // They are given out in turn, so the oldest of each kind would be met first.
        let taken = |messages: &VecDeque<Sent>| messages.iter().take(1).any(|oldest| oldest.packet_id == id);
        let free = self.len() < usize::from(self.limit) && !taken(&self.at_least_once) && !taken(&self.exactly_once);
        free.then_some(id)
    }

    /// A message was sent, with the identifier of [`Inflight::next_id`].
    #[inline]
    pub fn push(&mut self, message: Sent) {
        self.last_id = message.packet_id;
        match message.qos {
            QoS::ExactlyOnce => self.exactly_once.push_back(message),
            _ => self.at_least_once.push_back(message),
        }
    }

    /// PUBACK.
    #[inline]
    pub fn puback(&mut self, packet_id: u16) -> Option<Acknowledged> {
        take(&mut self.at_least_once, 0, packet_id)
    }

    /// PUBREC of success: PUBREL has to follow.
    pub fn pubrec(&mut self, packet_id: u16) -> Option<Acknowledged> {
        let acknowledged = take(&mut self.exactly_once, self.released, packet_id)?;
        self.exactly_once.insert(self.released, acknowledged.message);
        self.released += 1;
        Some(acknowledged)
    }

    /// PUBREC of failure: that is the end of it.
    pub fn pubrec_failed(&mut self, packet_id: u16) -> Option<Acknowledged> {
        take(&mut self.exactly_once, self.released, packet_id)
    }

    /// PUBCOMP.
    pub fn pubcomp(&mut self, packet_id: u16) -> Option<Acknowledged> {
        let at = self.exactly_once.iter().take(self.released).position(|message| message.packet_id == packet_id)?;
        self.released -= 1;
        let message = self.exactly_once.remove(at)?;
        Some(Acknowledged { message, in_turn: at == 0 })
    }

    /// Those to send again after resuming: PUBLISH with DUP, in the order they were sent.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &Sent> {
        self.at_least_once.iter().chain(self.exactly_once.iter().skip(self.released))
    }

    /// Those to send PUBREL again for.
    pub fn released(&self) -> impl Iterator<Item = u16> {
        self.exactly_once.iter().take(self.released).map(|message| message.packet_id)
    }

    /// The session is gone: what was on its way, never to be acknowledged.
    pub fn clear(&mut self) -> impl Iterator<Item = Sent> {
        self.received.clear();
        self.released = 0;
        self.at_least_once.drain(..).chain(self.exactly_once.drain(..))
    }

    /// A PUBLISH of QoS 2 arrived. False when it is a copy of one that is here already and waits for its PUBREL.
    ///
    /// Only what has the DUP flag is looked for: without it the broker means another message, and if that is wrong the
    /// ledger tells.
    pub fn receive(&mut self, packet_id: u16, dup: bool) -> bool {
        if dup && self.received.contains(&packet_id) {
            return false;
        }
        self.received.push_back(packet_id);
        true
    }

    /// PUBREL. False when there is no such message.
    pub fn release(&mut self, packet_id: u16) -> bool {
        let at = self.received.iter().position(|received| *received == packet_id);
        at.is_some_and(|at| self.received.remove(at).is_some())
    }
}

/// Takes the message with an identifier out, at `turn` or behind it.
#[inline]
fn take(messages: &mut VecDeque<Sent>, turn: usize, packet_id: u16) -> Option<Acknowledged> {
    let at = messages.iter().skip(turn).position(|message| message.packet_id == packet_id)?;
    let message = messages.remove(turn + at)?;
    Some(Acknowledged { message, in_turn: at == 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(inflight: &mut Inflight, qos: QoS) -> u16 {
        let packet_id = inflight.next_id().unwrap();
        inflight.push(Sent { stream: 0, packet_id, qos, number: u64::from(packet_id), at_ns: 0 });
        packet_id
    }

    #[test]
    fn an_acknowledgement_out_of_turn_is_told_and_one_of_nothing_finds_nothing() {
        let mut inflight = Inflight::default();
        let ids: Vec<u16> = (0..3).map(|_| push(&mut inflight, QoS::AtLeastOnce)).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert!(!inflight.puback(2).unwrap().in_turn);
        assert!(inflight.puback(1).unwrap().in_turn);
        assert_eq!(inflight.puback(1), None);
        assert_eq!(inflight.pubcomp(3), None, "of another QoS");
        assert_eq!(inflight.len(), 1);
    }

    #[test]
    fn qos_2_needs_both_steps_in_order() {
        let mut inflight = Inflight::default();
        let (first, second) = (push(&mut inflight, QoS::ExactlyOnce), push(&mut inflight, QoS::ExactlyOnce));
        assert_eq!(inflight.pubcomp(first), None, "before its PUBREL");
        assert!(inflight.pubrec(first).unwrap().in_turn);
        assert_eq!(inflight.pubrec(first), None, "twice");
        assert!(inflight.pubrec(second).unwrap().in_turn);
        assert!(!inflight.pubcomp(second).unwrap().in_turn);
        assert!(inflight.pubcomp(first).unwrap().in_turn);
        assert!(inflight.is_empty());
    }

    #[test]
    fn the_receive_maximum_holds_back_until_an_acknowledgement() {
        let mut inflight = Inflight::default();
        inflight.set_limit(2);
        let first = push(&mut inflight, QoS::ExactlyOnce);
        push(&mut inflight, QoS::AtLeastOnce);
        assert_eq!(inflight.next_id(), None);
        inflight.pubrec(first);
        assert_eq!(inflight.next_id(), None, "PUBREC alone does not make room");
        inflight.pubcomp(first);
        assert_eq!(inflight.next_id(), Some(3));
    }

    #[test]
    fn identifiers_go_round_without_zero_and_wait_for_the_oldest() {
        let mut inflight = Inflight::default();
        push(&mut inflight, QoS::AtLeastOnce);
        for _ in 2..=u16::MAX {
            let id = push(&mut inflight, QoS::ExactlyOnce);
            inflight.pubrec(id);
            inflight.pubcomp(id);
        }
        assert_eq!(inflight.next_id(), None, "identifier 1 is in use");
        inflight.puback(1);
        assert_eq!(inflight.next_id(), Some(1));
    }

    #[test]
    fn after_resuming_publishes_and_pubrels_are_sent_again() {
        let mut inflight = Inflight::default();
        let first = push(&mut inflight, QoS::ExactlyOnce);
        push(&mut inflight, QoS::ExactlyOnce);
        push(&mut inflight, QoS::AtLeastOnce);
        inflight.pubrec(first);
        assert_eq!(inflight.released().collect::<Vec<_>>(), [1]);
        assert_eq!(inflight.unacknowledged().map(|message| message.packet_id).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(inflight.clear().count(), 3);
        assert!(inflight.is_empty());
    }

    #[test]
    fn a_qos_2_message_is_received_once_until_it_is_released() {
        let mut inflight = Inflight::default();
        assert!(inflight.receive(9, false));
        assert!(!inflight.receive(9, true));
        assert!(inflight.release(9));
        assert!(!inflight.release(9));
        assert!(inflight.receive(9, true));
    }
}
