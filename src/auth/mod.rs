//! Who may come in: authentication of clients.
//!
//! A shard asks its [`Authenticator`] about each CONNECT and goes on with other work; the verdict comes back later,
//! through [`Engine::attend`](crate::engine::Engine::attend). So a password hash or a web server that takes its time
//! costs the client that waits for it, and nobody else. The core knows this trait alone: the tests and the simulator
//! answer as they like, late or never.
//!
//! The [`Office`] is what answers in the broker: threads beside the shards (`office`), the methods in their order
//! (`chain`), and a room for each: `password`, `jwt`, `certificate`, `http`, `scram`.

mod background;
mod certificate;
mod chain;
mod claims;
pub(crate) mod edit;
mod error;
mod files;
mod http;
mod jwt;
mod office;
mod password;
mod recent;
mod scram;
mod web;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use self::error::{AuthError, AuthErrors, Mistake};
pub use self::office::{Office, OfficeCounters, check};
use crate::acl::Rules;
use crate::codec::ReasonCode;
use crate::engine::{ConnId, Peer};

/// Answers a shard's questions. Nothing here waits.
pub trait Authenticator: Send {
    /// Asks about a client. One question a connection is open at a time.
    ///
    /// # Errors
    ///
    /// So many questions are open that this one is not taken: the client is told 0x89 (Server busy).
    fn ask(&mut self, conn: ConnId, question: Question) -> Result<(), Busy>;

    /// An answer that has come.
    fn poll(&mut self) -> Option<(ConnId, Verdict)>;

    /// Raised when files that clients are let in by have changed.
    fn version(&self) -> u64 {
        0
    }

    /// Whether what a client was let in by holds by the files of now.
    fn vouches_for(&self, principal: &Principal) -> bool {
        let _ = principal;
        true
    }

    /// The connection is gone: what was kept for it is not needed any more. An answer under way may still come.
    fn forget(&mut self, conn: ConnId);
}

/// What is asked.
pub enum Question {
    /// May it come in?
    Connect(Box<Credentials>),
    /// AUTH packet: the next step of an exchange that a `Connect` or a `Renew` began (MQTT 5.0 §4.12).
    Continue {
        /// Authentication data.
        data: Vec<u8>,
    },
    /// AUTH packet: a client that is connected authenticates again (MQTT 5.0 §4.12.1). The method is that of its CONNECT.
    Renew(Box<Credentials>),
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Connect(client) => f.debug_tuple("Connect").field(client).finish(),
            Question::Continue { .. } => f.write_str("Continue"),
            Question::Renew(client) => f.debug_tuple("Renew").field(client).finish(),
        }
    }
}

/// What a client says of itself, and what its transport knows.
pub struct Credentials {
    /// Client identifier; the one that was assigned if it sent none.
    pub client_id: String,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Authentication method of enhanced authentication.
    pub method: Option<String>,
    /// Authentication data that came with it.
    pub data: Vec<u8>,
    /// Index of the listener.
    pub listener: u16,
    /// Who is at the other end.
    pub peer: Peer,
}

/// Without what may be a secret; a user name may be a token.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Credentials { client_id, method, listener, peer, .. } = self;
        let mut shown = f.debug_struct("Credentials");
        shown.field("client_id", client_id).field("method", method).field("listener", listener).field("peer", peer);
        shown.finish_non_exhaustive()
    }
}

/// Too many questions are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The answer.
#[derive(Debug)]
pub enum Verdict {
    /// It may come in, as this.
    Allow {
        /// Who it is from now on.
        principal: Box<Principal>,
        /// Authentication data for CONNACK or the last AUTH, if the method has any.
        data: Vec<u8>,
    },
    /// It has to answer this first: AUTH with 0x18 (Continue authentication).
    Continue {
        /// Authentication data.
        data: Vec<u8>,
    },
    /// It may not. What the client is told never says which of name and password was wrong.
    Deny(ReasonCode),
}

/// Who a client is, once it was let in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Principal {
    /// User name; the one that counts for rules, whatever CONNECT said.
    pub user: Option<Arc<str>>,
    /// Common name of its certificate.
    pub common_name: Option<Arc<str>>,
    /// Roles that its authentication gave it, besides those that the rules give to its user name.
    pub roles: Vec<Arc<str>>,
    /// Claims of its token, those that are strings, numbers or booleans.
    pub claims: BTreeMap<Arc<str>, Arc<str>>,
    /// Rules of its own, that its authentication brought along; they come before all others.
    pub rules: Option<Arc<Rules>>,
    /// How long that is good for; afterwards the client has to authenticate again.
    pub lasts: Option<Duration>,
    /// What it was let in by, if that is a line in a file of users.
    pub entry: Option<Entry>,
}

/// Which line of a file of users a client was let in by, without what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Of the password file.
    Password(u64),
    /// Of SCRAM's.
    Scram(u64),
}

impl Entry {
    /// A keyed hash of what stands behind the user name. (The key is the process's own: it tells nothing to others.)
    fn fingerprint(line: &impl fmt::Display) -> u64 {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        KEY.hash_one(zeroize::Zeroizing::new(line.to_string()).as_str())
    }
}

/// Bytes that nobody is to read by chance: not shown in logs, overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(zeroize::Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
