//! The heart of the generator: MQTT clients that do what a [`Plan`] says, and see what the broker makes of it.
//!
//! [`Engine::start`] makes the threads; each drives its share of every group's clients on a ring of its own and
//! hands over a [`Sample`](crate::measure::Sample) per tick. [`conduct`] leads a [`Crew`] (this process's threads, or
//! those of joined workers) through the phases of a run and calls an [`Observer`] at each boundary. No socket call is
//! made in this room (`net` makes them), and nothing is said to people (`report` does).

mod clock;
mod conduct;
mod crew;
mod error;

pub use clock::Clock;
pub use conduct::{Conducted, Observer, Phase, conduct, tick_for};
pub use crew::{Crew, Engine, Outcome, Setup, Slice, Status};
pub use error::Error;
