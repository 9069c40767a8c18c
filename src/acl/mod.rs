//! What a client may do: authorization of publications and subscriptions.

mod rule;

pub use self::rule::{Access, Action, Network, Rule, Rules};
