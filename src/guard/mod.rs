//! Protection: nobody can hurt the others, by malice or by mistake.
//!
//! Everything here is arithmetic: time, addresses and counters are arguments, and the answers are carried out by whoever
//! asked. The rooms:
//!
//! - `entry`: who may come in now; it has `bans`, connect rates (`rate`), and counts by address and user (`sketch`);
//! - `bans`, `ban_file`, `glob`: who is kept out, and the file that keeps it;
//! - `flapping`: clients that come and go too often;
//! - `budget`, `lag`: what is given up first when memory or time runs short;
//! - `profile`, `meter`, `debts`: which limits a client has, how far it has used its rates up, and had when it left;
//! - `policy`, `slow`: what an operator should hear of;
//! - `complaints`: how many lines a minute a place in the code may log.

pub mod ban_file;
pub mod bans;
pub mod budget;
pub mod complaints;
pub mod debts;
pub mod entry;
pub mod flapping;
pub mod glob;
pub mod lag;
pub mod meter;
pub mod policy;
pub mod profile;
pub mod rate;
pub mod sketch;
pub mod slow;
