//! The specification, statement by statement, against the core of the broker: packets in, packets out, on
//! virtual time, over one shard and over three. `tests/conformance.md` says which test holds which statement.

mod broker;

mod connect;
mod errors;
mod flow;
mod listing;
mod publish;
mod qos;
mod retained;
mod session;
mod shared;
mod subscribe;
mod topics;
mod will;
