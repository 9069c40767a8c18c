//! One publisher's closed loop: how many messages may be under way, and which of them have arrived everywhere.

use crate::payload::Stamp;
use crate::wire::PublishTemplate;

/// The shape of a [`Flow`].
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// How many subscribers get each message; at least 1.
    pub receivers: u32,
    /// How many messages may be under way; at least 1.
    pub outstanding: u32,
    /// True when the broker acknowledges them to the publisher (QoS 1 and 2).
    pub acknowledged: bool,
}

/// A publisher's messages. One is under way from being sent until every receiver has it and, at QoS 1 and 2,
/// the broker has acknowledged it for good.
pub struct Flow {
    publisher: u32,
    window: Window,
    template: PublishTemplate,
    sent: u32,
    acknowledged: u32,
    /// All messages before this one are at every receiver.
    arrived: u32,
    /// How many receivers have message `s`, at `s & mask`, for `s` from `arrived` on.
    reached: Vec<u32>,
}

impl Flow {
    /// A flow that has sent nothing yet.
    pub fn new(publisher: u32, window: Window, template: PublishTemplate) -> Self {
        let reached = vec![0; window.outstanding.next_power_of_two() as usize];
        Self { publisher, window, template, sent: 0, acknowledged: 0, arrived: 0, reached }
    }

    /// How many messages were sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// How many messages are under way.
    pub fn under_way(&self) -> u32 {
        let acknowledged = if self.window.acknowledged { self.acknowledged } else { self.sent };
        self.sent - acknowledged.min(self.arrived)
    }

    /// True when another message may be sent.
    pub fn has_credit(&self) -> bool {
        self.under_way() < self.window.outstanding
    }

    /// Appends the next PUBLISH.
    pub fn publish(&mut self, now_ns: u64, output: &mut Vec<u8>) {
        let stamp = Stamp { publisher: self.publisher, sequence: self.sent, sent_ns: now_ns };
        self.template.write(packet_id(self.sent), stamp, output);
        self.sent += 1;
    }

    /// A receiver has message `sequence`, for the first time.
    pub fn reached(&mut self, sequence: u32) {
        let mask = self.reached.len() - 1;
        self.reached[sequence as usize & mask] += 1;
        while self.arrived < self.sent && self.reached[self.arrived as usize & mask] == self.window.receivers {
            self.reached[self.arrived as usize & mask] = 0;
            self.arrived += 1;
        }
    }

    /// The broker finished a message towards the publisher. False when it is not the oldest one's turn.
    pub fn acknowledged(&mut self, id: u16) -> bool {
        let in_order = self.acknowledged < self.sent && id == packet_id(self.acknowledged);
        self.acknowledged += u32::from(self.acknowledged < self.sent);
        in_order
    }
}

/// The packet identifier of a publisher's message: 1 to 65,535, round and round.
fn packet_id(sequence: u32) -> u16 {
    (sequence % u32::from(u16::MAX)) as u16 + 1
}

#[cfg(test)]
mod tests {
    use ringmq::codec::{ProtocolVersion, QoS};

    use super::*;

    fn flow(receivers: u32, qos: QoS) -> Flow {
        let window = Window { receivers, outstanding: 2, acknowledged: qos != QoS::AtMostOnce };
        Flow::new(0, window, PublishTemplate::new(ProtocolVersion::V311, "t", qos, 16))
    }

    fn fill(flow: &mut Flow) -> u32 {
        let before = flow.sent();
        while flow.has_credit() {
            flow.publish(0, &mut Vec::new());
        }
        flow.sent() - before
    }

    #[test]
    fn credit_returns_only_when_the_slowest_receiver_has_the_message() {
        let mut flow = flow(2, QoS::AtMostOnce);
        assert_eq!(fill(&mut flow), 2);
        flow.reached(0);
        flow.reached(1);
        assert_eq!(fill(&mut flow), 0);
        flow.reached(0);
        assert_eq!(fill(&mut flow), 1);
        flow.reached(1);
        flow.reached(2);
        assert_eq!(fill(&mut flow), 1);
    }

    #[test]
    fn above_qos_0_credit_waits_for_the_acknowledgement_too() {
        let mut flow = flow(1, QoS::AtLeastOnce);
        assert_eq!(fill(&mut flow), 2);
        flow.reached(0);
        assert_eq!(fill(&mut flow), 0);
        assert!(flow.acknowledged(1));
        assert_eq!(fill(&mut flow), 1);
    }

    #[test]
    fn an_acknowledgement_out_of_turn_or_of_nothing_is_told() {
        let mut flow = flow(1, QoS::AtLeastOnce);
        assert!(!flow.acknowledged(1));
        fill(&mut flow);
        assert!(!flow.acknowledged(2));
    }

    #[test]
    fn packet_identifiers_never_are_zero() {
        assert_eq!([0, 65_534, 65_535].map(packet_id), [1, 65_535, 1]);
    }
}
