//! The load generator: what a run does (`plan`), who does it (`engine` on `net`), what was seen (`measure`),
//! and how it is told (`report`). The binary is a thin command line over this.

pub mod cli;
pub mod compare;
pub mod engine;
pub mod join;
pub mod measure;
pub mod net;
pub mod plan;
pub mod report;
