//! The names in a client's certificate, as the rest of the broker gets to see them.
//!
//! A name decides what a client may do, so it is taken only if it can mean one thing: valid UTF-8, without a NUL or another
//! control character, and a common name only where there is exactly one.

use rustls::pki_types::CertificateDer;
use x509_parser::oid_registry::OID_X509_COMMON_NAME;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Name};

use crate::engine::Certificate;

/// Why the names of a verified certificate are of no use.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It was verified, and still cannot be read here.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// The subject holds what is no text.
    #[error("its {0} is not valid UTF-8, or holds control characters")]
    NotText(&'static str),
    /// Which is it?
    #[error("it has more than one common name")]
    Ambiguous,
}

/// Reads the names of a certificate.
///
/// # Errors
/// A name that could be taken for another one: then none of them is used.
pub fn names(certificate: &CertificateDer<'_>) -> Result<Certificate, NameError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| NameError::Unreadable(error.to_string()))?;
    let mut names = Certificate {
        common_name: common_name(parsed.subject())?,
        subject: rfc4514(parsed.subject())?,
        ..Certificate::default()
    };
    let alternative = parsed.subject_alternative_name().map_err(|error| NameError::Unreadable(error.to_string()))?;
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.dns.push(clean(name, "DNS name")?),
            GeneralName::RFC822Name(name) => names.emails.push(clean(name, "e-mail address")?),
            GeneralName::URI(name) => names.uris.push(clean(name, "URI")?),
            _ => {}
        }
    }
    Ok(names)
}

fn clean(name: &str, what: &'static str) -> Result<String, NameError> {
    if name.is_empty() || name.chars().any(char::is_control) {
        Err(NameError::NotText(what))
    } else {
        Ok(name.to_owned())
    }
}

fn common_name(subject: &X509Name<'_>) -> Result<Option<String>, NameError> {
    let mut names = subject.iter_by_oid(&OID_X509_COMMON_NAME);
    let Some(first) = names.next() else { return Ok(None) };
    if names.next().is_some() {
        return Err(NameError::Ambiguous);
    }
    clean(text(first, "common name")?, "common name").map(Some)
}

/// Text of the types that are UTF-8 or a part of it.
fn text<'a>(attribute: &'a AttributeTypeAndValue<'_>, what: &'static str) -> Result<&'a str, NameError> {
    attribute.as_str().map_err(|_| NameError::NotText(what))
}

/// The subject as text, last component first, with everything escaped that could be taken for a separator (RFC 4514).
fn rfc4514(subject: &X509Name<'_>) -> Result<String, NameError> {
    let components: Vec<_> = subject.iter().collect();
    let mut written = String::new();
    for component in components.into_iter().rev() {
        for (index, attribute) in component.iter().enumerate() {
            let text = text(attribute, "subject")?;
            if text.chars().any(char::is_control) {
                return Err(NameError::NotText("subject"));
            }
            let separator = if index > 0 { "+" } else { "," };
            written.push_str(if written.is_empty() { "" } else { separator });
            written.push_str(&short_name(attribute));
            written.push('=');
            escape(text, &mut written);
        }
    }
    Ok(written)
}

/// The short names of RFC 4514 §3 and a few as common; anything else by its number.
fn short_name(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let short = match number.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    };
    short.to_owned()
}

fn escape(text: &str, into: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (index, c) in text.chars().enumerate() {
        let at_edge = (index == 0 && matches!(c, ' ' | '#')) || (index == last && c == ' ');
        if at_edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn der(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn named(change: impl FnOnce(&mut CertificateParams)) -> Result<Certificate, NameError> {
        names(&CertificateDer::from(der(change)))
    }

    #[test]
    fn every_kind_of_name_is_read() {
        let read = named(|params| {
            params.distinguished_name.push(DnType::CountryName, "FR");
            params.distinguished_name.push(DnType::OrganizationName, "Lamps & Co");
            params.distinguished_name.push(DnType::CommonName, "lampe-é");
            params.subject_alt_names = vec![
                SanType::DnsName("a.example".try_into().unwrap()),
                SanType::Rfc822Name("a@example".try_into().unwrap()),
                SanType::URI("urn:a".try_into().unwrap()),
            ];
        });
        let read = read.unwrap();
        assert_eq!(read.common_name.as_deref(), Some("lampe-é"));
        assert_eq!(read.subject, "CN=lampe-é,O=Lamps & Co,C=FR");
        assert_eq!((&read.dns[0][..], &read.emails[0][..], &read.uris[0][..]), ("a.example", "a@example", "urn:a"));
    }

    #[test]
    fn a_common_name_cannot_pretend_to_be_more_of_the_subject() {
        let read = named(|params| params.distinguished_name.push(DnType::CommonName, "a,O=admins"));
        assert_eq!(read.unwrap().subject, "CN=a\\,O=admins");
    }

    #[test]
    fn a_common_name_with_a_nul_is_not_used() {
        let read = named(|params| params.distinguished_name.push(DnType::CommonName, "admin\0.example"));
        assert!(matches!(read, Err(NameError::NotText("common name"))), "{read:?}");
    }

    #[test]
    fn a_common_name_that_is_not_utf8_is_not_used() {
        let mut der = der(|params| params.distinguished_name.push(DnType::CommonName, "abcdef"));
        let places: Vec<usize> = (0..der.len() - 6).filter(|at| &der[*at..at + 6] == b"abcdef").collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| der[at + 2] = 0xFF);
        let read = names(&CertificateDer::from(der));
        assert!(matches!(read, Err(NameError::NotText("common name"))), "{read:?}");
    }
}
