//! The deterministic simulator: the broker core, all shards of it, driven in one thread from one seed.
//!
//! - `world`: virtual time, the network, the mesh; the driver of the engines and the watch over them;
//! - `wire`, `client`: MQTT from the other side, written a second time and plainly;
//! - `plan`: what a seed stands for; `simulation`: the run; `vandal`: those who do not play by the rules;
//! - `model`, `check`: what must be true;
//! - `strain`: a run of its own about slow readers and memory that runs short;
//! - `desk`: who says who may come in;
//! - `rules`: what clients may do;
//! - `subject`: how the core under test is made.
//!
//! `ringmq-sim --seed N` replays a run; the conformance tests use `world` and `wire` with a script.

pub mod check;
pub mod client;
pub mod desk;
pub mod model;
pub mod plan;
pub mod rng;
pub mod rules;
pub mod simulation;
pub mod strain;
pub mod subject;
pub mod wire;
pub mod world;

mod vandal;
