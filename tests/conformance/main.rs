//! The specification, statement by statement, against the core of the broker: packets in, packets out, on
//! virtual time, over one shard and over three. `tests/conformance.md` says which test holds which statement.

mod broker;

mod connect;
mod disconnect;
mod limits;
mod retained;
mod shared;
mod subscribe;
mod sys;
mod topics;
mod unsubscribe;
mod will;
