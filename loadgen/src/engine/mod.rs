//! The heart of the generator: MQTT clients that do what a [`Plan`](crate::plan::Plan) says, and see what the broker makes of it.
//!
//! [`Engine::start`] makes the threads; each drives its share of every group's clients on a ring of its own and
//! hands over a [`Sample`](crate::measure::Sample) per tick. [`conduct`] leads a [`Crew`] (this process's threads, or
//! those of joined workers) through the phases of a run and calls an [`Observer`] at each boundary. No socket call is
//! made in this room (`net` makes them), and nothing is said to people (`report` does).
//!
//! From the outside in: `threads` starts a `thread` for each CPU, which turns a ring and a `fleet`, its clients. They
//! play the `script`, the compiled plan; `expect` and `wills` say who must receive what of it, and `ledger` what came of that.

mod client;
mod clock;
mod conduct;
mod crew;
mod error;
mod expect;
mod fleet;
mod gauges;
mod inflight;
mod ledger;
mod pace;
mod packets;
mod script;
mod stamp;
mod tally;
mod thread;
mod threads;
mod wills;
mod window;

pub use clock::{Clock, monotonic_ns};
pub use conduct::{Conducted, Observer, Phase, conduct, tick_for};
pub use crew::{Crew, Outcome, Setup, Slice, Status};
pub use error::Error;
pub use script::crowding;
pub use threads::Engine;
