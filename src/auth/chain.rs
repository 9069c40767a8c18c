//! The methods in the order they are asked in.
//!
//! Each allows, denies, or passes on. Whom none allows is not let in. A method passes on what it does not vouch for; it
//! denies only what it can tell to be false, so that who is asked afterwards never depends on whether a user is known.
//!
//! SCRAM is a method that the client chooses, and speaks for itself. What stands ahead of it in the order is asked about a
//! client that has proved who it is, as it is about any other: it may deny, or allow it under conditions (roles, rules, an end),
//! but only as the user who was proved. What stands behind is not asked, as behind any method that allows.

use super::error::AuthError;
use super::password::Scratch;
use std::sync::Arc;

use super::{Credentials, Entry, Principal, Verdict};
use crate::codec::ReasonCode;

/// What a method says of a client.
#[derive(Debug)]
pub(crate) enum Opinion {
    /// It is this.
    Allow(Box<Principal>),
    /// It is not what it says.
    Deny(ReasonCode),
    /// The next method is to say.
    Pass,
    /// It has to wait for somebody first: [`Method::ask`] says what it thinks.
    Wait,
}

/// One way to authenticate. It runs on threads beside the shards.
pub(crate) trait Method: Send + Sync {
    /// Says what it thinks of a client. It may compute, but waits for nobody.
    fn judge(&self, client: &Credentials, scratch: &mut Scratch) -> Opinion;

    /// What a method that says [`Opinion::Wait`] waits on; `None` if it never does.
    fn lane(&self) -> Option<Lane> {
        None
    }

    /// Asks whom it has to wait for, and then says what it thinks.
    fn ask(&self, client: &Credentials) -> Opinion {
        self.judge(client, &mut Scratch::default())
    }

    /// Whether a user may still come in by the line that let a client in. `None`: that line is none of this method's.
    fn has_entry(&self, user: &str, entry: Entry) -> Option<bool> {
        let _ = (user, entry);
        None
    }

    /// Loads its files anew; what was loaded before stays in use when that fails.
    fn reload(&self) -> Result<(), AuthError>;
}

/// The threads and the queue of a method that waits for others.
pub(crate) struct Lane {
    pub queue: Queue,
    /// How many clients can be waited for at once.
    pub threads: u16,
    /// Clients that may wait for one of them.
    pub waiting_max: u32,
}

/// Where a question waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// For a thread that computes.
    Workers,
    /// For the HTTP hook.
    Http,
    /// For the key set of tokens.
    KeySet,
}

impl Queue {
    /// What its threads are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Queue::Workers => "worker",
            Queue::Http => "http",
            Queue::KeySet => "keys",
        }
    }
}

/// How far the chain came.
pub(crate) enum Outcome {
    Decided(Verdict),
    /// The method of this number has to wait for somebody.
    Waits(usize),
}

/// Methods in their order.
pub(crate) struct Chain {
    pub methods: Vec<Box<dyn Method>>,
    /// Whether clients that say nothing of themselves come in when no method minds.
    pub allow_anonymous: bool,
    /// How many of the methods are ahead of SCRAM.
    pub ahead_of_scram: usize,
}

/// Who a client is by an exchange of SCRAM that has succeeded.
pub(crate) struct Proven {
    pub user: Arc<str>,
    /// By what.
    pub entry: Entry,
    /// The server's last word in the exchange.
    pub data: Vec<u8>,
}

impl Chain {
    /// Asks one after the other, beginning with the method of this number; for a client that has proved who it is, those
    /// ahead of SCRAM.
    pub(crate) fn judge(
        &self,
        client: &Credentials,
        proven: Option<&Proven>,
        first: usize,
        scratch: &mut Scratch,
    ) -> Outcome {
        let end = if proven.is_some() { self.ahead_of_scram } else { self.methods.len() };
        for (index, method) in self.methods.iter().enumerate().take(end).skip(first) {
            match method.judge(client, scratch) {
                Opinion::Wait => return Outcome::Waits(index),
                opinion => {
                    if let Some(verdict) = decided(opinion, client, proven) {
                        return Outcome::Decided(verdict);
                    }
                }
            }
        }
        if proven.is_some() {
            return Outcome::Decided(allow(Box::default(), client, proven));
        }
        Outcome::Decided(match client.user.is_none() && client.password.is_none() {
            true if self.allow_anonymous => allow(Box::default(), client, None),
            true => Verdict::Deny(ReasonCode::NotAuthorized),
            false => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
        })
    }

    /// Has the method of this number wait for whom it has to; nothing if it passes on.
    pub(crate) fn wait(&self, client: &Credentials, proven: Option<&Proven>, index: usize) -> Option<Verdict> {
        decided(self.methods[index].ask(client), client, proven)
    }
}

fn decided(opinion: Opinion, client: &Credentials, proven: Option<&Proven>) -> Option<Verdict> {
    match opinion {
        Opinion::Allow(principal) => Some(allow(principal, client, proven)),
        Opinion::Deny(reason) => Some(Verdict::Deny(reason)),
        Opinion::Pass => None,
        // It was waited for, and says that it still has to: as good as no answer.
        Opinion::Wait => Some(Verdict::Deny(ReasonCode::ServerUnavailable)),
    }
}

/// Lets a client in; whatever method did, rules may ask for the common name of its certificate.
fn allow(mut principal: Box<Principal>, client: &Credentials, proven: Option<&Proven>) -> Verdict {
    principal.common_name = common_name(client).map(Into::into);
    let Some(Proven { user, entry, data }) = proven else { return Verdict::Allow { principal, data: Vec::new() } };
    if principal.user.get_or_insert_with(|| user.clone()) != user {
        // It has proved to be somebody, and another method says that it is somebody else.
        return Verdict::Deny(ReasonCode::NotAuthorized);
    }
    principal.entry = Some(*entry);
    Verdict::Allow { principal, data: data.clone() }
}

/// The common name of a client's certificate.
pub(super) fn common_name(client: &Credentials) -> Option<&str> {
    client.peer.certificate.as_ref()?.common_name.as_deref()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::auth::Secret;
    use crate::engine::{Certificate, Peer};

    /// A client that says this of itself.
    pub(in crate::auth) fn client(id: &str, user: Option<&str>, password: Option<&str>) -> Credentials {
        Credentials {
            client_id: id.to_owned(),
            user: user.map(str::to_owned),
            password: password.map(|password| Secret::new(password.as_bytes().to_vec())),
            method: None,
            data: Vec::new(),
            listener: 0,
            peer: Peer::default(),
        }
    }

    struct Says(fn() -> Opinion);

    impl Method for Says {
        fn judge(&self, _: &Credentials, _: &mut Scratch) -> Opinion {
            (self.0)()
        }
        fn reload(&self) -> Result<(), AuthError> {
            Ok(())
        }
    }

    fn chain(methods: &[fn() -> Opinion], allow_anonymous: bool) -> Chain {
        let methods: Vec<_> = methods.iter().map(|says| Box::new(Says(*says)) as Box<dyn Method>).collect();
        Chain { ahead_of_scram: methods.len(), methods, allow_anonymous }
    }

    /// What a method says in the end.
    pub(in crate::auth) fn opinion(method: &dyn Method, client: &Credentials) -> Opinion {
        match method.judge(client, &mut Scratch::default()) {
            Opinion::Wait => method.ask(client),
            opinion => opinion,
        }
    }

    fn judge(chain: &Chain, client: &Credentials) -> Verdict {
        match chain.judge(client, None, 0, &mut Scratch::default()) {
            Outcome::Decided(verdict) => verdict,
            Outcome::Waits(index) => panic!("method {index} waits"),
        }
    }

    fn reason(verdict: &Verdict) -> Option<ReasonCode> {
        match verdict {
            Verdict::Deny(reason) => Some(*reason),
            _ => None,
        }
    }

    #[test]
    fn the_first_method_that_does_not_pass_decides() {
        let pass: fn() -> Opinion = || Opinion::Pass;
        let allow: fn() -> Opinion = || Opinion::Allow(Box::default());
        let deny: fn() -> Opinion = || Opinion::Deny(ReasonCode::ServerUnavailable);
        let judge = |methods: &[fn() -> Opinion]| reason(&judge(&chain(methods, false), &client("c", Some("u"), None)));
        assert_eq!(judge(&[pass, allow, deny]), None);
        assert_eq!(judge(&[pass, deny, allow]), Some(ReasonCode::ServerUnavailable));
        assert_eq!(judge(&[pass, pass]), Some(ReasonCode::BadUserNameOrPassword));
    }

    #[test]
    fn only_who_says_nothing_of_itself_is_anonymous() {
        let judge = |allow_anonymous, user, password| {
            let client = client("c", user, password);
            reason(&judge(&chain(&[|| Opinion::Pass], allow_anonymous), &client))
        };
        assert_eq!(judge(true, None, None), None);
        assert_eq!(judge(false, None, None), Some(ReasonCode::NotAuthorized));
        assert_eq!(judge(true, Some("u"), None), Some(ReasonCode::BadUserNameOrPassword));
        assert_eq!(judge(true, None, Some("p")), Some(ReasonCode::BadUserNameOrPassword));
    }

    #[test]
    fn whoever_has_a_certificate_brings_its_common_name() {
        let mut client = client("c", None, None);
        let certificate = Certificate { common_name: Some("device-1".to_owned()), ..Certificate::default() };
        client.peer.certificate = Some(Box::new(certificate));
        let Verdict::Allow { principal, .. } = judge(&chain(&[], true), &client) else { panic!("refused") };
        assert_eq!(principal.common_name.as_deref(), Some("device-1"));
    }
}
