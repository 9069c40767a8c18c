//! The specification, statement by statement, against the core of the broker: packets in, packets out, on
//! virtual time, over one shard and over three. `tests/conformance.md` says which test holds which statement.

mod broker;

mod auth;
mod auth_again;
mod connack;
mod connect;
mod disconnect;
mod flow;
mod flow_size;
mod format;
mod limits;
mod named;
mod protection;
mod publish;
mod publish_properties;
mod qos;
mod qos_redelivery;
mod retained;
mod retained_replay;
mod rules;
mod rules_retained;
mod rules_shared;
mod rules_withheld;
mod session;
mod session_will;
mod shared;
mod subscribe;
mod sys;
mod topics;
mod unsubscribe;
mod will;
