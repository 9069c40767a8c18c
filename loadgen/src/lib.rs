//! The load generator: what a run does (`plan`), who does it (`engine` on `net`), what was seen (`measure`),
//! and how it is told (`report`). The binary is a thin command line over this.

pub mod cli;
// Beside compare.rs until the binary is switched over.
#[path = "compare/mod.rs"]
pub mod compare;
pub mod engine;
pub mod join;
pub mod measure;
#[path = "net/mod.rs"]
pub mod net;
pub mod plan;
