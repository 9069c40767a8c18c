//! `[listener.tls]`: which certificates a listener shows, and whether it asks for the client's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// TLS of one listener. Files are PEM; they are read again when they change, and on SIGHUP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key, without a pass phrase.
    pub key: PathBuf,
    /// Further certificates, each for the names in it; the first one is shown where none fits.
    pub sni: Vec<KeyPair>,
    /// The versions that clients may speak.
    pub versions: Vec<TlsVersion>,
    /// Whether clients show a certificate.
    pub client_certificate: ClientCertificate,
    /// The authorities that a client's certificate may come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Certificates that those authorities have revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_crl: Option<PathBuf>,
    /// What a list is worth whose time is over.
    pub client_crl_expired: CrlExpired,
}

impl Tls {
    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificate(&self) -> bool {
        self.client_certificate != ClientCertificate::None
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            sni: Vec::new(),
            versions: vec![TlsVersion::V12, TlsVersion::V13],
            client_certificate: ClientCertificate::None,
            client_ca: None,
            client_crl: None,
            client_crl_expired: CrlExpired::Refuse,
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// They are not asked.
    None,
    /// They are asked; one that is shown must be valid.
    Optional,
    /// Whoever shows none is refused.
    Required,
}

/// What becomes of certificates whose revocation list says that there should be a newer one (nextUpdate).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrlExpired {
    /// They are refused: one of them may have been revoked since.
    Refuse,
    /// They are held against the old list.
    Accept,
}
