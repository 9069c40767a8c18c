//! What coordinator and workers say to each other.
//!
//! ```text
//!     worker                                   coordinator
//!       Greeting                       →                           who it is; read before anything else is agreed
//!                                      ←         Welcome, or Refused
//!       Pong                           ↔         Ping              some dozen round trips: how far apart the clocks are
//!                                      ←         Load              the plan and this worker's share of it
//!       Loaded, or Failed              →
//!                                      ←         Stage, Publish, Begin, Stop, Sent, Settle, Leave, Finish: the orders of a `Crew`
//!       Status, samples, Sent          →                           all along; a Status says which order it knows of
//!       Finished, or Failed            →                           the last word
//!                                      ←         GiveUp           at any time since Welcome: there will be no result
//! ```

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::engine::{Outcome, Slice, Status};
use crate::plan::Plan;

/// Of all that is below. Raised by every change of it.
pub const PROTOCOL: u32 = 2;

/// The program's own version: plans and samples of another one may mean something else.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// The first frame of a worker. Its two fields stay what they are in every version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// [`PROGRAM`].
    pub program: String,
    /// What else there is to know.
    pub host: Option<Host>,
}

/// Where a worker runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// What the worker is called in messages: the host's name, unless its operator chose another.
    pub name: String,
    /// Kernel release.
    pub kernel: String,
    /// CPUs that it may use.
    pub cores: usize,
    /// Engine threads that it will run.
    pub threads: u32,
    /// This boot of this kernel: its processes share a clock.
    pub boot_id: Option<String>,
}

/// What a coordinator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The greeting was understood.
    Welcome,
    /// It was not; the connection ends.
    Refused {
        /// Why.
        why: String,
    },
    /// Say what your clock says.
    Ping {
        /// The coordinator's clock.
        asked_ns: i64,
    },
    /// What to run.
    Load(Box<Load>),
    /// [`Crew::stage`](crate::engine::Crew::stage).
    Stage(u8),
    /// [`Crew::publish`](crate::engine::Crew::publish).
    Publish(u8),
    /// [`Crew::begin`](crate::engine::Crew::begin).
    Begin {
        /// The run's clock.
        at_ns: u64,
    },
    /// [`Crew::stop`](crate::engine::Crew::stop).
    Stop,
    /// [`Crew::sent`](crate::engine::Crew::sent).
    Sent,
    /// [`Crew::settle`](crate::engine::Crew::settle).
    Settle {
        /// What all crews sent in each flow.
        sent: Vec<u32>,
    },
    /// [`Crew::leave`](crate::engine::Crew::leave).
    Leave,
    /// [`Crew::finish`](crate::engine::Crew::finish).
    Finish,
    /// End in order: the run comes to nothing.
    GiveUp {
        /// Why.
        why: String,
    },
}

/// What a worker is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// What to do.
    pub plan: Plan,
    /// This worker's share.
    pub slice: Slice,
    /// Where the broker is, unless the worker's operator knows better.
    pub hosts: Vec<SocketAddr>,
    /// How much time a sample covers, in nanoseconds.
    pub tick_ns: u64,
    /// What the worker's monotonic clock says when the run's clock says 0.
    pub origin_ns: i64,
    /// The run's number.
    pub run: u64,
}

/// What a worker says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To a [`Order::Ping`].
    Pong {
        /// As asked.
        asked_ns: i64,
        /// The worker's clock.
        answer_ns: i64,
    },
    /// The threads run.
    Loaded,
    /// How far it is.
    Status {
        /// How many of the orders since [`Order::Load`] it had carried out by then.
        orders: u32,
        /// How far.
        status: Status,
    },
    /// To [`Order::Sent`].
    Sent(Vec<u32>),
    /// Its operator wants the run to end in order.
    Interrupted,
    /// The last word: what is left.
    Finished(Outcome),
    /// The last word: it can't go on.
    Failed {
        /// Why.
        why: String,
    },
}
