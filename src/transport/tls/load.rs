//! From files to what rustls works with. Errors name the file and what is wrong with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm, SupportedProtocolVersion, version};
use tracing::warn;

use super::names::names;
use super::resolver::Resolver;
use super::revocation::{Lists, Term};
use super::verifier::Verifier;
use crate::config::{ClientCertificate, CrlExpired, KeyPair, Tls, TlsVersion};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", file.display())]
pub struct LoadError {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong, and what to do where that is not plain.
    pub what: String,
}

pub(super) fn wrong(file: &Path, what: impl std::fmt::Display) -> LoadError {
    LoadError { file: file.to_owned(), what: what.to_string() }
}

/// A listener's settings as rustls takes them.
pub struct Loaded {
    /// For the sessions.
    pub config: ServerConfig,
    /// Who says whose certificate is taken.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// True when a handshake may be signed by an RSA key, which costs ten times as much.
    pub signs_by_rsa: bool,
    /// Until when the revocation lists are good.
    pub revocation: Option<Term>,
}

/// Reads every file that the settings name. `ticketer` is that of former settings, if their tickets may still be used.
///
/// # Errors
/// The first file that cannot be used.
pub fn load(tls: &Tls, alpn: &[&str], ticketer: Option<Arc<dyn ProducesTickets>>) -> Result<Loaded, LoadError> {
    let provider = Arc::new(ring::default_provider());
    let first = KeyPair { certificate: tls.certificate.clone(), key: tls.key.clone() };
    let pairs = std::iter::once(&first).chain(&tls.sni);
    let certificates = pairs.map(|pair| certificate(pair, &provider)).collect::<Result<Vec<_>, _>>()?;
    let signs_by_rsa = certificates.iter().any(|(certified, _)| certified.key.algorithm() == SignatureAlgorithm::RSA);
    let (verifier, revocation) = verifier(tls, provider.clone())?;
    let versions: Vec<_> = tls.versions.iter().map(|version| supported(*version)).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| wrong(&tls.certificate, error))?
        .with_client_cert_verifier(verifier.clone())
        .with_cert_resolver(Arc::new(Resolver::new(certificates)));
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // A client of MQTT has one connection: one ticket is what it can use.
    config.send_tls13_tickets = 1;
    config.ticketer = match ticketer {
        Some(ticketer) => ticketer,
        None => ring::Ticketer::new().map_err(|error| wrong(&tls.certificate, error))?,
    };
    Ok(Loaded { config, verifier, signs_by_rsa, revocation })
}

fn supported(version: TlsVersion) -> &'static SupportedProtocolVersion {
    match version {
        TlsVersion::V12 => &version::TLS12,
        TlsVersion::V13 => &version::TLS13,
    }
}

/// A certificate with its key and the DNS names in it.
fn certificate(pair: &KeyPair, provider: &CryptoProvider) -> Result<(CertifiedKey, Vec<String>), LoadError> {
    let chain = certificates(&pair.certificate)?;
    let names = names(&chain[0]).map_err(|error| wrong(&pair.certificate, error))?;
    let key =
        PrivateKeyDer::from_pem_file(&pair.key).map_err(|error| wrong(&pair.key, unreadable("private key", &error)))?;
    warn_of_mode(&pair.key);
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            wrong(&pair.key, format!("this is not the key of the certificate in {}", pair.certificate.display()))
        }
        error => wrong(&pair.key, error),
    })?;
    Ok((certified, names.dns))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|error| wrong(file, unreadable("certificate", &error)))?;
    if chain.is_empty() { Err(wrong(file, "there is no certificate in it (PEM is expected)")) } else { Ok(chain) }
}

pub(super) fn unreadable(what: &str, error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => format!("there is no {what} in it (PEM is expected, without a pass phrase)"),
        error => format!("it holds no readable {what}: {error}"),
    }
}

/// Whoever may read the key can pretend to be the broker.
fn warn_of_mode(file: &Path) {
    let Ok(metadata) = fs::metadata(file) else { return };
    if metadata.mode() & 0o077 != 0 {
        let (mode, file) = (metadata.mode() & 0o7777, file.display());
        warn!("{file}: mode {mode:04o} lets others than its owner at the private key: chmod 600 {file}");
    }
}

/// Who says whose certificate is taken, and until when the revocation lists for it are good.
fn verifier(
    tls: &Tls,
    provider: Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Option<Term>), LoadError> {
    let ca = match (tls.client_certificate, &tls.client_ca) {
        (ClientCertificate::None, _) | (_, None) => return Ok((WebPkiClientVerifier::no_client_auth(), None)),
        (_, Some(ca)) => ca,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| wrong(ca, error))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if tls.client_certificate == ClientCertificate::Optional {
        builder = builder.allow_unauthenticated();
    }
    let mut term = None;
    if let Some(file) = &tls.client_crl {
        let lists = Lists::read(file)?;
        term = Some(lists.term);
        // A certificate whose issuer has no list is refused: the list may just have been forgotten.
        builder = builder.with_crls(lists.der).only_check_end_entity_revocation();
        if tls.client_crl_expired == CrlExpired::Refuse {
            builder = builder.enforce_revocation_expiration();
        }
    }
    let verifier = builder.build().map_err(|error| wrong(tls.client_crl.as_deref().unwrap_or(ca), error))?;
    Ok((Arc::new(Verifier(verifier)), term))
}
