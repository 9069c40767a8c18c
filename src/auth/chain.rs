//! The methods in the order they are asked in.
//!
//! Each allows, denies, or passes on. Whom none allows is not let in. A method passes on what it does not vouch for; it
//! denies only what it can tell to be false, so that who is asked afterwards never depends on whether a user is known.

use super::error::AuthError;
use super::password::Scratch;
use super::{Credentials, Principal, Verdict};
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
}

/// One way to authenticate. It may take its time: it runs on a thread beside the shards.
pub(crate) trait Method: Send + Sync {
    /// Says what it thinks of a client.
    fn judge(&self, client: &Credentials, scratch: &mut Scratch) -> Opinion;

    /// Loads its files anew; what was loaded before stays in use when that fails.
    fn reload(&self) -> Result<(), AuthError>;
}

/// Methods in their order.
pub(crate) struct Chain {
    pub methods: Vec<Box<dyn Method>>,
    /// Whether clients that say nothing of themselves come in when no method minds.
    pub allow_anonymous: bool,
}

impl Chain {
    /// Asks one after the other.
    pub(crate) fn judge(&self, client: &Credentials, scratch: &mut Scratch) -> Verdict {
        for method in &self.methods {
            match method.judge(client, scratch) {
                Opinion::Allow(principal) => return allow(principal, client),
                Opinion::Deny(reason) => return Verdict::Deny(reason),
                Opinion::Pass => {}
            }
        }
        match client.user.is_none() && client.password.is_none() {
            true if self.allow_anonymous => allow(Box::default(), client),
            true => Verdict::Deny(ReasonCode::NotAuthorized),
            false => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
        }
    }
}

/// Lets a client in; whatever method did, rules may ask for the common name of its certificate.
fn allow(mut principal: Box<Principal>, client: &Credentials) -> Verdict {
    principal.common_name = common_name(client).map(Into::into);
    Verdict::Allow { principal, data: Vec::new() }
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
        let methods = methods.iter().map(|says| Box::new(Says(*says)) as Box<dyn Method>).collect();
        Chain { methods, allow_anonymous }
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
        let judge = |methods: &[fn() -> Opinion]| {
            reason(&chain(methods, false).judge(&client("c", Some("u"), None), &mut Scratch::default()))
        };
        assert_eq!(judge(&[pass, allow, deny]), None);
        assert_eq!(judge(&[pass, deny, allow]), Some(ReasonCode::ServerUnavailable));
        assert_eq!(judge(&[pass, pass]), Some(ReasonCode::BadUserNameOrPassword));
    }

    #[test]
    fn only_who_says_nothing_of_itself_is_anonymous() {
        let judge = |allow_anonymous, user, password| {
            let client = client("c", user, password);
            reason(&chain(&[|| Opinion::Pass], allow_anonymous).judge(&client, &mut Scratch::default()))
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
        let Verdict::Allow { principal, .. } = chain(&[], true).judge(&client, &mut Scratch::default()) else {
            panic!("refused")
        };
        assert_eq!(principal.common_name.as_deref(), Some("device-1"));
    }
}
