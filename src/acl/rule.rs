//! One rule, and a list of them.

use std::net::IpAddr;

use crate::codec::QoS;

/// What is done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish to it, by PUBLISH or as a will.
    Publish,
    /// Subscribe to it, and receive what is published to it.
    Subscribe,
    /// Both.
    Both,
}

/// What a rule says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
}

/// One rule. The first that is about an action and a topic decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub access: Access,
    /// What it is about.
    pub action: Action,
    /// Topic filter, with placeholders: `${clientid}`, `${username}`, `${cert.cn}`, `${jwt.CLAIM}`.
    pub filter: String,
    /// It is about messages up to this QoS only (an allowed subscription is granted at most this).
    pub qos_max: Option<QoS>,
    /// It is about retained publications only, or about others only.
    pub retain: Option<bool>,
    /// It is about clients at these addresses only; any if empty.
    pub addresses: Vec<Network>,
}

/// Addresses with a common prefix (CIDR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// An address in it.
    pub address: IpAddr,
    /// How many leading bits are common.
    pub prefix: u8,
}

/// Rules in the order they are asked in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);
