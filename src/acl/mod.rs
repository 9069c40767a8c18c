//! What a client may do: authorization of publications and subscriptions.
//!
//! Files of rules become a [`Policy`] (`read`, `policy`), which says for each client, once, what it may ([`Grants`]):
//! every condition about the client decided. Rules are compiled once (`table`, `trie`) and shared by all clients that
//! they are about; a grant holds a client's own values besides. It is asked about topics and filters;
//! [`Decisions`] remembers the answers for topics that come again. Nothing here knows a session or a socket, and nothing
//! but [`Policy::load`] reads a file.
//!
//! What keeps a client from widening what it was granted: a value of a placeholder is one level of a topic or it is
//! not used (`template`), and whether a filter may be subscribed to is a question about every topic that it matches
//! (`filter`).

mod decisions;
mod explain;
mod filter;
mod grants;
mod line;
mod load;
mod name;
mod policy;
mod read;
mod rule;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod trie;
#[cfg(test)]
mod twin;
mod who;

pub use self::decisions::Decisions;
pub use self::explain::Explanation;
pub use self::grants::{Grants, Subscribing};
pub use self::load::{FILE_BYTES_MAX, PolicyError};
pub use self::policy::Policy;
pub use self::read::{Format, Mistake};
pub use self::rule::{Access, Action, Network, NetworkError, Rule, RuleError, Rules};
pub use self::trie::Room;
pub use self::who::Who;
