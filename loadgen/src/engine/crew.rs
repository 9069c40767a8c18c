//! What a run is led by: the parts of this process (or of several joined ones) that do the work.

use std::net::{IpAddr, SocketAddr};
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use serde::{Deserialize, Serialize};

use super::{Clock, Error};
use crate::measure::{Faults, Sample};
use crate::net::Transport;
use crate::plan::Plan;

/// What the threads of one process need to know besides the plan.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What to do.
    pub plan: Arc<Plan>,
    /// Where the broker is. Clients take the addresses in turn.
    pub hosts: Vec<SocketAddr>,
    /// What lies between TCP and MQTT.
    pub transport: Transport,
    /// Local addresses that connections are made from, in turn; empty: the kernel's choice.
    pub source_addresses: Vec<IpAddr>,
    /// One engine thread for each, pinned if a CPU is given. At least one.
    pub cpus: Vec<Option<usize>>,
    /// Which of the clients are this process's.
    pub slice: Slice,
    /// How much time one sample covers. The run's clock starts with tick 0.
    pub tick: Duration,
    /// The run's clock.
    pub clock: Clock,
    /// The run's number, random and the same for all its processes: by this its messages are told from those that an
    /// earlier run left at the broker.
    pub run: u64,
}

/// A process's share of the clients of every group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Which share, counted from 0.
    pub index: u32,
    /// How many shares there are.
    pub of: u32,
    /// The number of this process's first thread, counted over all processes.
    pub first_thread: u32,
}

impl Slice {
    /// Everything in one process.
    pub const WHOLE: Slice = Slice { index: 0, of: 1, first_thread: 0 };
}

/// How far a crew is. Those of several crews are added; see [`Status::due`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Clients of the stages called so far.
    pub of: u64,
    /// Of them, those that are where they should be before traffic: in, or (`Away`) in and gone again.
    pub arrived: u64,
    /// Clients that are in now.
    pub ready: u64,
    /// Clients whose connection is on its way (TCP, CONNECT or SUBSCRIBE).
    pub connecting: u64,
    /// Clients that are away by the plan, now.
    pub away: u64,
    /// Limited publications that were started before traffic and are not finished (acknowledged, above QoS 0).
    pub unfinished: u64,
    /// Deliveries that publishers of this crew caused, to subscribers that are owed them, anywhere.
    pub owed: u64,
    /// Owed deliveries that came to subscribers of this crew.
    pub paid: u64,
    /// Wills that subscribers are owed, anywhere, since clients of this crew broke off.
    pub wills_owed: u64,
    /// Such wills that came to subscribers of this crew.
    pub wills_came: u64,
    /// Messages of this crew that the broker has not acknowledged yet.
    pub unacknowledged: u64,
    /// Raised by every delivery that was owed and by every acknowledgement. Answers to pings do not count: they come
    /// for ever from a broker that has lost everything else.
    pub arrivals: u64,
    /// Clients that are out against the plan: dropped, and not in again.
    pub lost: u64,
    /// Of them, those that have tried to come back and could not.
    pub rebuffed: u64,
    /// Something ended the run: [`Crew::finish`] tells what.
    pub failed: bool,
}

impl Status {
    /// Deliveries, wills and acknowledgements that are still to come. Of use only over all crews, as a delivery is owed by
    /// the publisher's and paid to the subscriber's.
    pub fn due(&self) -> u64 {
        self.owed.saturating_sub(self.paid) + self.wills_owed.saturating_sub(self.wills_came) + self.unacknowledged
    }
}

impl AddAssign for Status {
    fn add_assign(&mut self, other: Self) {
        self.of += other.of;
        self.arrived += other.arrived;
        self.ready += other.ready;
        self.connecting += other.connecting;
        self.away += other.away;
        self.unfinished += other.unfinished;
        self.owed += other.owed;
        self.paid += other.paid;
        self.wills_owed += other.wills_owed;
        self.wills_came += other.wills_came;
        self.unacknowledged += other.unacknowledged;
        self.arrivals += other.arrivals;
        self.lost += other.lost;
        self.rebuffed += other.rebuffed;
        self.failed |= other.failed;
    }
}

/// What is left when everybody has gone. Those of several crews are added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What the ledgers found.
    pub faults: Faults,
    /// Connections that the peer ended, although the plan wanted them to stay.
    pub dropped: u64,
    /// Wills that subscribers had to get, as their clients broke off without DISCONNECT: only those of which the plan
    /// decides that, see `Counts::wills`.
    pub wills_owed: u64,
    /// Of those wills, how many came.
    pub wills_came: u64,
    /// The first few things that went wrong, in words.
    pub failures: Vec<String>,
}

/// How many failures an [`Outcome`] tells in words.
pub(super) const FAILURES_MAX: usize = 8;

impl Outcome {
    /// True when nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.dropped == 0 && self.failures.is_empty() && Faults { redelivered: 0, ..self.faults } == Faults::default()
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, mut other: Self) {
        let Faults { lost_qos0, lost_qos1, lost_qos2, duplicated, redelivered, reordered, corrupted, misacknowledged } =
            other.faults;
        self.faults.lost_qos0 += lost_qos0;
        self.faults.lost_qos1 += lost_qos1;
        self.faults.lost_qos2 += lost_qos2;
        self.faults.duplicated += duplicated;
        self.faults.redelivered += redelivered;
        self.faults.reordered += reordered;
        self.faults.corrupted += corrupted;
        self.faults.misacknowledged += misacknowledged;
        self.dropped += other.dropped;
        self.wills_owed += other.wills_owed;
        self.wills_came += other.wills_came;
        self.failures.append(&mut other.failures);
        self.failures.truncate(FAILURES_MAX);
    }
}

/// The hands of a run: this process's engine threads, or those of joined workers.
///
/// Orders return at once, unless they give something back.
pub trait Crew {
    /// What the threads hand over, one sample per thread and tick, from tick 0 to the end.
    fn samples(&self) -> &Receiver<Sample>;
    /// How far all are.
    fn status(&mut self) -> Status;
    /// Lets the groups of a stage connect.
    fn stage(&mut self, stage: u8);
    /// Starts the limited publications of a stage that is in: asked for every stage but the last.
    fn publish(&mut self, stage: u8);
    /// Traffic starts at this time of the run's clock.
    fn begin(&mut self, at_ns: u64);
    /// No new messages; clients that are away with a lasting session come back for what they are owed.
    fn stop(&mut self);
    /// How many messages were sent in each flow (a publisher's messages to one topic), after [`Crew::stop`]. Flows of
    /// other crews are 0.
    ///
    /// # Errors
    ///
    /// When a thread or worker is gone.
    fn sent(&mut self) -> Result<Vec<u32>, Error>;
    /// Closes the ledgers, given the sum of what all crews sent: what has not arrived by now is lost.
    fn settle(&mut self, sent: &[u32]);
    /// Everybody takes leave.
    fn leave(&mut self);
    /// Waits for the threads to end.
    ///
    /// # Errors
    ///
    /// What ended the run early.
    fn finish(self: Box<Self>) -> Result<Outcome, Error>;
}
