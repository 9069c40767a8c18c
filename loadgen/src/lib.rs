//! The load generator: what a run does (`plan`), who does it (`engine` on `net`), what was seen (`measure`),
//! and how it is told (`report`). The binary is a thin command line over this.

pub mod engine;
pub mod measure;
#[path = "net/mod.rs"]
pub mod net;
pub mod plan;
