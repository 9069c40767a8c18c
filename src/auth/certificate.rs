//! X.509: the client is who its verified certificate says.
//!
//! The transport has verified the certificate; here is only decided whom it names, and whether CONNECT says the same.

use std::sync::Arc;

use super::chain::{Method, Opinion};
use super::error::AuthError;
use super::password::Scratch;
use super::{Credentials, Principal};
use crate::codec::ReasonCode;
use crate::config::{CertificateAuth, CertificateIdentity, CertificateNames};
use crate::engine::Certificate;

/// Whom certificates name.
pub(super) struct ByCertificate {
    config: CertificateAuth,
}

impl ByCertificate {
    pub(super) fn new(config: &CertificateAuth) -> ByCertificate {
        ByCertificate { config: config.clone() }
    }
}

impl Method for ByCertificate {
    fn judge(&self, client: &Credentials, _: &mut Scratch) -> Opinion {
        let Some(certificate) = &client.peer.certificate else { return Opinion::Pass };
        let identities = identities(certificate, self.config.identity);
        let (said, mismatch) = match self.config.names {
            CertificateNames::User => (client.user.as_deref(), ReasonCode::NotAuthorized),
            CertificateNames::ClientId => (Some(client.client_id.as_str()), ReasonCode::ClientIdentifierNotValid),
        };
        let identity = match said {
            Some(said) => identities.iter().find(|identity| **identity == said),
            None => identities.first(),
        };
        match identity {
            // It holds for this connection; who the user is, an exchange has proved.
            Some(_) if client.method.is_some() && self.config.names == CertificateNames::ClientId => Opinion::Pass,
            Some(identity) => {
                let user = Some(Arc::from(*identity));
                Opinion::Allow(Box::new(Principal { user, ..Principal::default() }))
            }
            None if identities.is_empty() => Opinion::Pass,
            None => Opinion::Deny(mismatch),
        }
    }

    fn reload(&self) -> Result<(), AuthError> {
        Ok(())
    }
}

/// The names of this kind, none of them empty.
fn identities(certificate: &Certificate, kind: CertificateIdentity) -> Vec<&str> {
    let names: Vec<&str> = match kind {
        CertificateIdentity::CommonName => certificate.common_name.iter().map(String::as_str).collect(),
        CertificateIdentity::Subject => vec![&certificate.subject],
        CertificateIdentity::Dns => certificate.dns.iter().map(String::as_str).collect(),
        CertificateIdentity::Email => certificate.emails.iter().map(String::as_str).collect(),
        CertificateIdentity::Uri => certificate.uris.iter().map(String::as_str).collect(),
    };
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::chain::tests::client;
    use super::*;

    fn certificate() -> Certificate {
        Certificate {
            common_name: Some("device-1".to_owned()),
            subject: "CN=device-1,O=Acme".to_owned(),
            dns: vec!["a.example".to_owned(), "b.example".to_owned()],
            emails: vec!["d@example".to_owned()],
            uris: Vec::new(),
        }
    }

    /// The user name that is allowed, the reason it is denied for, or neither.
    fn judge(
        identity: CertificateIdentity,
        names: CertificateNames,
        client: &Credentials,
    ) -> (Option<String>, Option<ReasonCode>) {
        let method = ByCertificate::new(&CertificateAuth { identity, names });
        match method.judge(client, &mut Scratch::default()) {
            Opinion::Allow(principal) => (principal.user.map(|user| user.to_string()), None),
            Opinion::Deny(reason) => (None, Some(reason)),
            Opinion::Pass | Opinion::Wait => (None, None),
        }
    }

    fn with_certificate(id: &str, user: Option<&str>) -> Credentials {
        let mut client = client(id, user, None);
        client.peer.certificate = Some(Box::new(certificate()));
        client
    }

    #[test]
    fn each_name_of_a_certificate_can_be_the_users() {
        let cases = [
            (CertificateIdentity::CommonName, Some("device-1")),
            (CertificateIdentity::Subject, Some("CN=device-1,O=Acme")),
            (CertificateIdentity::Dns, Some("a.example")),
            (CertificateIdentity::Email, Some("d@example")),
            (CertificateIdentity::Uri, None),
        ];
        for (identity, user) in cases {
            let (allowed, denied) = judge(identity, CertificateNames::User, &with_certificate("c", None));
            assert_eq!((allowed.as_deref(), denied), (user, None), "{identity:?}");
        }
    }

    #[test]
    fn a_user_name_that_is_said_must_be_the_certificates() {
        let judge = |user| judge(CertificateIdentity::Dns, CertificateNames::User, &with_certificate("c", Some(user)));
        assert_eq!(judge("b.example"), (Some("b.example".to_owned()), None));
        assert_eq!(judge("c.example"), (None, Some(ReasonCode::NotAuthorized)));
    }

    #[test]
    fn a_client_identifier_must_be_the_certificates_where_that_is_what_it_names() {
        let names = CertificateNames::ClientId;
        let judge = |id| judge(CertificateIdentity::CommonName, names, &with_certificate(id, Some("other")));
        assert_eq!(judge("device-1"), (Some("device-1".to_owned()), None));
        assert_eq!(judge("device-2"), (None, Some(ReasonCode::ClientIdentifierNotValid)));
    }

    #[test]
    fn without_a_certificate_the_next_method_is_asked() {
        let client = client("device-1", Some("device-1"), None);
        let verdict = judge(CertificateIdentity::CommonName, CertificateNames::ClientId, &client);
        assert_eq!(verdict, (None, None));
    }
}
