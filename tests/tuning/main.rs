//! Tuning a host: on hosts that are a few files, in a network namespace, and the files that are made from the table.
//! Nothing of the host that runs these tests is changed.

mod apply;
mod check;
mod files;
mod host;
mod namespace;
mod scripts;
