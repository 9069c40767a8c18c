//! A session: what the broker remembers of a client, connected or not (MQTT 5.0 §4.1).
//!
//! The record is hot and small. Whatever most clients do not have (a will, a queue, QoS 2 identifiers,
//! shared subscriptions, a retained replay in progress) is boxed when it comes up and freed when it is empty.

use super::access::Access;
use super::message::{Head, Message, OVERHEAD};
use super::source::Kept;
use crate::codec::{QoS, ReasonCode};
use crate::engine::{Time, TransportEnd};
use crate::guard::profile::Class;
use crate::index::{FilterId, ScanCursor};
use smallvec::SmallVec;
use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU64;

/// No slot: a session without connection, a connection without session.
pub const NO_SLOT: u32 = u32::MAX;

/// A session expiry interval that never ends [MQTT-3.1.2-23].
pub const EXPIRES_NEVER: u32 = u32::MAX;

/// One client's state on its home shard.
pub struct Session {
    /// Client identifier.
    pub client_id: Box<str>,
    /// Slot of its connection, or [`NO_SLOT`].
    pub conn: u32,
    /// Session expiry interval in seconds, as last agreed.
    pub expiry_interval: u32,
    /// How many QoS > 0 deliveries may be unacknowledged: the client's receive maximum or our own limit.
    pub window: u16,
    /// How many messages of QoS > 0 the client may have unfinished towards the server.
    pub receive_maximum: u16,
    /// How many are.
    pub unacked: u16,
    /// How many of them have not been sent again on the present connection.
    pub to_resend: u16,
    /// Which limits its client has, or had when it was here last.
    pub class: Class,
    /// The packet identifier given out last.
    pub last_packet_id: u16,
    /// Where this session stands in the list of receivers that is being put together.
    pub mark: Mark,
    /// When an offline session ends; meaningless while connected.
    pub expires: Time,
    /// When the timer that counts for this session fires; `u64::MAX` when there is none.
    pub looked_at: Time,
    /// Exact and wildcard subscriptions.
    pub filters: Vec<FilterId>,
    /// Deliveries sent and not finished, in the order they were sent.
    pub inflight: VecDeque<Inflight>,
    /// Deliveries that wait for the window, the connection or the client.
    pub queue: Option<Box<Queue>>,
    /// Shared subscriptions, by group.
    pub groups: Option<Box<SmallVec<[u64; 4]>>>,
    /// Packet identifiers received at QoS 2 whose PUBREL has not arrived.
    pub receiving: Option<Box<PacketIds>>,
    /// Acknowledgements that wait for other shards, in the order of their packets.
    pub acks: Option<Box<Acks>>,
    /// The will of the present connection, or of the last one while its delay runs.
    pub will: Option<Box<Will>>,
    /// Retained messages still to be sent for new subscriptions.
    pub replays: Option<Box<Replays>>,
    /// Who the client is, where that is asked.
    pub access: Option<Box<Access>>,
}

// What an allocation has besides the head: a count of its holders, and its length.
const _: () = assert!(size_of::<Head>() + 2 * size_of::<usize>() + size_of::<Inflight>() <= OVERHEAD);
const _: () = assert!(size_of::<Session>() <= 256, "the session's hot record is part of the memory contract");

/// Remembers in which round a session was seen and where, so that overlapping subscriptions of one client
/// become one delivery.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// Number of the round.
    pub round: u32,
    /// Index into that round's list.
    pub at: u32,
}

/// One delivery: a message and how this receiver gets it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// What few deliveries have.
    pub extra: Option<Box<Extra>>,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN flag of the delivery.
    pub retain: bool,
}

/// Parts of a delivery that most do not have.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Identifiers of the subscriptions that matched.
    pub subscription_identifiers: Vec<u32>,
    /// The shared subscription it was chosen for.
    pub group: Option<NonZeroU64>,
}

impl Delivery {
    /// Identifiers of the subscriptions that matched.
    pub fn subscription_identifiers(&self) -> &[u32] {
        self.extra.as_ref().map_or(&[], |extra| &extra.subscription_identifiers)
    }

    /// The shared subscription it was chosen for.
    pub fn group(&self) -> Option<u64> {
        self.extra.as_ref()?.group.map(NonZeroU64::get)
    }
}

/// A delivery that was sent at QoS 1 or 2.
#[derive(Debug)]
pub struct Inflight {
    /// What was sent; the message is let go when only PUBCOMP is awaited.
    pub delivery: Option<Delivery>,
    /// Its packet identifier.
    pub packet_id: u16,
    /// What is awaited.
    pub state: InflightState,
    /// It was sent on the present connection.
    pub sent: bool,
}

impl Inflight {
    /// Lets go of the message.
    pub fn let_go(&mut self) -> Option<Message> {
        self.delivery.take().map(|delivery| delivery.message)
    }
}

/// Where a delivery's handshake stands (MQTT 5.0 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflightState {
    /// PUBLISH sent at QoS 1.
    AwaitsPubAck,
    /// PUBLISH sent at QoS 2.
    AwaitsPubRec,
    /// PUBREL sent.
    AwaitsPubComp,
    /// Finished before an older one was.
    Done,
}

/// Deliveries that wait, oldest first.
#[derive(Debug, Default)]
pub struct Queue {
    /// The deliveries.
    pub deliveries: VecDeque<Delivery>,
    /// Bytes of their messages.
    pub bytes: usize,
}

/// A set of packet identifiers: a short list, a bit map when it gets long.
#[derive(Debug)]
pub enum PacketIds {
    /// Few, unordered.
    Few(Vec<u16>),
    /// Many: 65,536 bits and how many are set.
    Many(Box<[u64; 1024]>, u32),
}

impl Default for PacketIds {
    fn default() -> Self {
        PacketIds::Few(Vec::new())
    }
}

impl PacketIds {
    /// Up to here the list is searched; beyond, the bit map (8 KiB) is made.
    const FEW_MAX: usize = 64;

    /// True if the identifier is in the set.
    pub fn contains(&self, id: u16) -> bool {
        match self {
            PacketIds::Few(ids) => ids.contains(&id),
            PacketIds::Many(bits, _) => bits[usize::from(id >> 6)] & (1 << (id & 63)) != 0,
        }
    }

    /// Adds an identifier that is not in the set.
    pub fn insert(&mut self, id: u16) {
        match self {
            PacketIds::Few(ids) if ids.len() < Self::FEW_MAX => ids.push(id),
            PacketIds::Few(ids) => {
                let mut bits = Box::new([0u64; 1024]);
                let count = ids.len() as u32 + 1;
                for &id in ids.iter().chain([&id]) {
                    bits[usize::from(id >> 6)] |= 1 << (id & 63);
                }
                *self = PacketIds::Many(bits, count);
            }
            PacketIds::Many(bits, count) => {
                bits[usize::from(id >> 6)] |= 1 << (id & 63);
                *count += 1;
            }
        }
    }

    /// Removes an identifier; false if it was not in the set.
    pub fn remove(&mut self, id: u16) -> bool {
        if !self.contains(id) {
            return false;
        }
        match self {
            PacketIds::Few(ids) => ids.retain(|&other| other != id),
            PacketIds::Many(bits, count) => {
                bits[usize::from(id >> 6)] &= !(1 << (id & 63));
                *count -= 1;
            }
        }
        true
    }

    /// How many identifiers are in the set.
    pub fn len(&self) -> usize {
        match self {
            PacketIds::Few(ids) => ids.len(),
            PacketIds::Many(_, count) => *count as usize,
        }
    }

    /// True when it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Acknowledgements in the order of the packets they answer [MQTT-4.6.0-2] [MQTT-4.6.0-3].
#[derive(Debug, Default)]
pub struct Acks {
    /// Number of the first waiting acknowledgement.
    pub first: u32,
    /// Those that wait, and those ready behind one that waits.
    pub waiting: VecDeque<Ack>,
}

/// One acknowledgement that cannot be sent yet.
#[derive(Debug)]
pub struct Ack {
    /// Packet identifier of the PUBLISH.
    pub packet_id: u16,
    /// QoS of the PUBLISH.
    pub qos: QoS,
    /// How many answers of other shards are to come: one for each, and one for each shared subscription.
    pub waits: u32,
    /// The PUBLISH came, or came again, on the present connection: only then is it answered there.
    pub owed: bool,
    /// What came together so far.
    pub outcome: Outcome,
    /// Why the message was refused, if it was before anybody got it.
    pub refusal: Option<ReasonCode>,
}

/// What became of a publication, put together over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// At least one session should get it.
    pub matched: bool,
    /// At least one session should have got it and had no room.
    pub refused: bool,
}

impl Outcome {
    /// Both.
    pub fn and(self, other: Outcome) -> Outcome {
        Outcome { matched: self.matched || other.matched, refused: self.refused || other.refused }
    }
}

/// A will, ready to be published.
#[derive(Debug)]
pub struct Will {
    /// The message; its expiry is counted from when it is published.
    pub message: Message,
    /// Message expiry interval, if any, in seconds.
    pub message_expiry: Option<u32>,
    /// Will delay interval in seconds.
    pub delay: u32,
    /// When it is due, once the connection is gone.
    pub due: Option<Time>,
}

/// Retained messages on their way to a session, one subscription after the other.
#[derive(Debug, Default)]
pub struct Replays {
    /// The subscriptions, in the order of their SUBSCRIBE.
    pub waiting: VecDeque<Replay>,
    /// Retained messages that were also delivered live meanwhile: what the store still sends of those topics is old.
    pub live: HashSet<u64>,
    /// Number of the batch that was asked for and has not come; 0 for none.
    pub awaited: u32,
    /// It waits for its turn to search this shard.
    pub scans_later: bool,
}

/// The replay of one subscription: asks one shard after the other, a batch at a time.
#[derive(Debug)]
pub struct Replay {
    /// Topic filter.
    pub filter: Box<str>,
    /// QoS of the subscription.
    pub qos: QoS,
    /// Subscription identifier, 0 for none.
    pub identifier: u32,
    /// The shard that is asked now.
    pub shard: u16,
    /// The shard after the last one to ask.
    pub shard_end: u16,
    /// Where that shard goes on.
    pub cursor: ScanCursor,
    /// What arrived and waits for room.
    pub batch: VecDeque<Kept>,
}

/// How a connection ended, as far as its session is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The client said goodbye and wants no will.
    Clean,
    /// Anything else: the will is due.
    WithWill,
    /// A new connection of the same client takes over.
    TakenOver {
        /// It wants a session of its own.
        clean_start: bool,
    },
    /// The broker stops: nobody is left to hear a will.
    Stopping,
}

impl From<TransportEnd> for Leave {
    fn from(_: TransportEnd) -> Self {
        Leave::WithWill
    }
}

impl Session {
    /// A new session without connection.
    pub fn new(client_id: Box<str>) -> Session {
        Session {
            client_id,
            conn: NO_SLOT,
            expiry_interval: 0,
            window: 0,
            receive_maximum: 0,
            unacked: 0,
            to_resend: 0,
            class: Class::default(),
            last_packet_id: 0,
            mark: Mark::default(),
            expires: Time(0),
            looked_at: Time(u64::MAX),
            filters: Vec::new(),
            inflight: VecDeque::new(),
            queue: None,
            groups: None,
            receiving: None,
            acks: None,
            will: None,
            replays: None,
            access: None,
        }
    }

    /// True while a connection is attached.
    pub fn is_connected(&self) -> bool {
        self.conn != NO_SLOT
    }

    /// How far the sent deliveries may spread from the oldest unfinished one, in packet identifiers.
    const SPAN_MAX: usize = 4096;

    /// True when another QoS > 0 delivery may be sent [MQTT-3.3.4-9]; what is to be sent again goes first.
    pub fn has_window(&self) -> bool {
        self.unacked < self.window && self.inflight.len() < Self::SPAN_MAX && self.to_resend == 0
    }

    /// True when deliveries are queued.
    pub fn has_queue(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.deliveries.is_empty())
    }

    /// True when anything waits to be sent.
    pub fn has_waiting(&self) -> bool {
        self.has_queue() || self.to_resend > 0 || self.replays.is_some()
    }

    /// The next packet identifier. Identifiers follow one another without a hole, so that an acknowledgement
    /// finds its delivery by subtraction; whoever uses one stores it as the last [MQTT-2.2.1-3].
    pub fn next_packet_id(&self) -> u16 {
        if self.last_packet_id == u16::MAX { 1 } else { self.last_packet_id + 1 }
    }

    /// Index of the delivery that carries this packet identifier, if one is in flight.
    pub fn find_inflight(&self, packet_id: u16) -> Option<usize> {
        let first = self.inflight.front()?.packet_id;
        // Identifiers run 1..=65,535 without a hole: the distance skips 0 when the run passed it.
        let at = usize::from(packet_id.wrapping_sub(first)) - usize::from(packet_id < first);
        let found = self.inflight.get(at)?;
        (packet_id != 0 && found.packet_id == packet_id && found.state != InflightState::Done).then_some(at)
    }

    /// Marks a delivery finished and lets go of all finished ones at the front. Returns its message if that was still kept.
    #[must_use]
    pub fn finish_inflight(&mut self, at: usize) -> Option<Message> {
        self.unacked -= 1;
        if at > 0 {
            self.inflight[at].state = InflightState::Done;
            return self.inflight[at].let_go();
        }
        let kept = self.inflight.pop_front().and_then(|mut front| front.let_go());
        while self.inflight.front().is_some_and(|front| front.state == InflightState::Done) {
            self.inflight.pop_front();
        }
        kept
    }

    /// True when the client has no fewer than `maximum` PUBLISH packets unfinished (receive maximum, §3.3.4).
    pub fn receives_at_least(&self, maximum: usize) -> bool {
        let qos2 = self.receiving.as_ref().map_or(0, |ids| ids.len());
        let Some(acks) = &self.acks else { return qos2 >= maximum };
        let unfinished = |ack: &&Ack| ack.qos == QoS::AtLeastOnce && ack.owed;
        // Counting is left out where even all of them would be too few.
        qos2 + acks.waiting.len() >= maximum && qos2 + acks.waiting.iter().filter(unfinished).count() >= maximum
    }

    /// Gives memory back that traffic left behind.
    pub fn trim(&mut self) {
        if self.inflight.is_empty() {
            self.inflight.shrink_to_fit();
        }
        // Nobody who is still to answer knows a number, so that the numbers may begin anew.
        if self.acks.as_ref().is_some_and(|acks| acks.waiting.is_empty()) {
            self.acks = None;
        }
        if self.receiving.as_ref().is_some_and(|ids| ids.is_empty()) {
            self.receiving = None;
        }
        if !self.has_queue() {
            self.queue = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_with(ids: &[u16]) -> Session {
        let mut session = Session::new("c".into());
        for &packet_id in ids {
            session.inflight.push_back(Inflight {
                delivery: None,
                packet_id,
                state: InflightState::AwaitsPubAck,
                sent: true,
            });
            session.unacked += 1;
        }
        session
    }

    #[test]
    fn an_acknowledgement_finds_its_delivery_across_the_wrap_of_identifiers() {
        let session = session_with(&[65_534, 65_535, 1, 2]);
        assert_eq!(session.find_inflight(65_534), Some(0));
        assert_eq!(session.find_inflight(65_535), Some(1));
        assert_eq!(session.find_inflight(1), Some(2));
        assert_eq!(session.find_inflight(2), Some(3));
        for unknown in [0, 3, 65_533] {
            assert_eq!(session.find_inflight(unknown), None);
        }
    }

    #[test]
    fn packet_identifiers_never_are_zero() {
        let mut session = Session::new("c".into());
        session.last_packet_id = u16::MAX;
        assert_eq!(session.next_packet_id(), 1);
    }

    #[test]
    fn deliveries_acknowledged_out_of_order_leave_in_order() {
        let mut session = session_with(&[1, 2, 3]);
        let _ = session.finish_inflight(1);
        assert_eq!((session.inflight.len(), session.unacked), (3, 2));
        assert_eq!(session.find_inflight(2), None, "an identifier is acknowledged once");
        let _ = session.finish_inflight(0);
        assert_eq!((session.inflight.len(), session.unacked), (1, 1));
    }

    #[test]
    fn the_set_of_identifiers_is_the_same_as_list_and_as_bit_map() {
        let mut ids = PacketIds::default();
        for id in 1..=200 {
            ids.insert(id * 3);
        }
        assert!(matches!(ids, PacketIds::Many(..)));
        assert_eq!(ids.len(), 200);
        assert!(ids.contains(600) && !ids.contains(601));
        for id in 1..=200 {
            assert!(ids.remove(id * 3));
            assert!(!ids.remove(id * 3));
        }
        assert!(ids.is_empty());
    }
}
