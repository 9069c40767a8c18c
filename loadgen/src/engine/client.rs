//! What is kept of one client. There may be a million: what only few of them need is in a box.

use ringmq::codec::{ProtocolVersion, QoS};

use super::inflight::Inflight;
use super::ledger::Account;
use super::packets::Head;
use crate::net::LinkId;

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was not asked to come yet.
    Out,
    /// Its TCP connection or its CONNACK is to come.
    Connecting,
    /// Its SUBACK is to come.
    Subscribing,
    /// It is in.
    Ready,
    /// It is in, finishes what is in flight, then takes leave.
    Departing,
    /// It has taken leave; its connection is about to end.
    Leaving,
    /// It is away, by the plan or to try again, and will come back.
    Away,
    /// It is gone for good.
    Gone,
}

/// Facts about a client that are true or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// It was in before.
    pub came: bool,
    /// It was counted as arrived.
    pub arrived: bool,
    /// Its last connection ended by the plan.
    pub left_by_plan: bool,
    /// A connection of its ended after it was in.
    pub came_back: bool,
    /// A PINGREQ is unanswered.
    pub pinging: bool,
    /// Its keep alive is on the wheel.
    pub keep_alive_armed: bool,
    /// Some of its publications wait for an acknowledgement to make room.
    pub blocked: bool,
    /// It is a member of shared subscriptions.
    pub shares: bool,
    /// What is owed to it survives its absence, at QoS 0 and above QoS 0.
    pub keeps: [bool; 2],
    /// It was dropped, and is not in again.
    pub lost: bool,
    /// An attempt to come back failed since.
    pub rebuffed: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its connection.
    pub link: Option<LinkId>,
    /// Its number in its group.
    pub index: u32,
    /// Its group.
    pub group: u16,
    /// What it speaks.
    pub version: ProtocolVersion,
    /// How far it is.
    pub state: State,
    /// More about that.
    pub flags: Flags,
    /// The broker's maximum QoS.
    pub maximum_qos: QoS,
    /// Failed attempts since it was last in.
    pub attempts: u8,
    /// Keep alive in seconds: the group's, or what the server said.
    pub keep_alive: u16,
    /// The first of its publications among the thread's streams.
    pub first_stream: u32,
    /// What it expects.
    pub account: Account,
    /// When it last sent something, in milliseconds of the run's clock.
    pub last_sent_ms: u32,
    /// When it is to come or to go, in milliseconds of the run's clock, rounded down; `u32::MAX`: not by the clock. A timer
    /// that fires before is of an earlier life.
    pub presence_ms: u32,
    /// When it last asked for a connection, or wanted to leave.
    pub since_ns: u64,
    /// What most clients do without.
    pub more: Option<Box<More>>,
}

const _: () = assert!(size_of::<Client>() <= 72);

/// What a client needs that has messages above QoS 0 on their way, or half a packet.
#[derive(Debug, Default)]
pub struct More {
    /// The beginning of a packet that has not arrived whole.
    pub partial: Vec<u8>,
    /// Messages on their way.
    pub inflight: Inflight,
}

impl Client {
    /// One that was not asked to come yet.
    pub fn new(group: u16, index: u32, version: ProtocolVersion, keep_alive: u16, first_stream: u32) -> Self {
        Self {
            link: None,
            index,
            group,
            version,
            state: State::Out,
            flags: Flags::default(),
            maximum_qos: QoS::ExactlyOnce,
            attempts: 0,
            keep_alive,
            first_stream,
            account: Account::default(),
            last_sent_ms: 0,
            presence_ms: u32::MAX,
            since_ns: 0,
            more: None,
        }
    }

    /// Messages on their way.
    #[inline]
    pub fn inflight(&mut self) -> &mut Inflight {
        &mut self.more.get_or_insert_default().inflight
    }

    /// True when nothing that it sent waits for an acknowledgement.
    pub fn has_settled(&self) -> bool {
        self.more.as_ref().is_none_or(|more| more.inflight.is_empty())
    }
}

/// How far a publication of a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It was not started.
    Idle,
    /// It is on the agenda.
    Queued,
    /// Its next message is due and waits for an acknowledgement to make room.
    Blocked,
    /// Its client is not in.
    Parked,
    /// It is a closed loop, which goes on when a message is through.
    Looping,
    /// It has published all it should.
    Done,
}

/// One publication of a client.
#[derive(Debug)]
pub struct Stream {
    /// The thread's number of the client.
    pub client: u32,
    /// The plan's number of the publication.
    pub publication: u16,
    /// How far it is.
    pub progress: Progress,
    /// The client's first flow of it.
    pub flow: u32,
    /// Its window, if it is a closed loop.
    pub window: u32,
    /// Messages sent.
    pub sent: u64,
    /// Of them, those that are acknowledged, or need no acknowledgement.
    pub acknowledged: u64,
    /// When the next message is due.
    pub due_ns: u64,
    /// The PUBLISH up to its payload.
    pub head: Option<Box<Head>>,
}

const _: () = assert!(size_of::<Stream>() <= 56);
