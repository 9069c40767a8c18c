//! TLS by rustls, between two vectors.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// One connection.
pub struct Tls(Box<ClientConnection>);

impl Tls {
    /// To a broker of that name.
    pub fn new(config: Arc<ClientConfig>, name: &str) -> Result<Tls, Error> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Error::General(format!("\"{name}\" is no name for a server: give one by --sni")))?;
        let mut connection = ClientConnection::new(config, name)?;
        // What the engine writes in one turn goes out as one; `UNSENT_MAX` of the engine bounds it.
        connection.set_buffer_limit(None);
        Ok(Tls(Box::new(connection)))
    }

    /// True when the handshake is done.
    pub fn is_ready(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// Takes bytes of the socket, appends what they hold to `plain`, and what has to be answered to `wire`.
    pub fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<(), Error> {
        while !bytes.is_empty() {
            // Fails only when received plaintext is not fetched, and that is done below.
            let read = self.0.read_tls(&mut bytes).map_err(|error| Error::General(error.to_string()))?;
            let state = self.0.process_new_packets();
            self.flush(wire);
            let at = plain.len();
            plain.resize(at + state?.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[at..]).map_err(|error| Error::General(error.to_string()))?;
            // Nothing is read any more after the peer's close_notify.
            if read == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Encrypts.
    pub fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        // Neither fails: the buffer has no limit, and a vector takes everything.
        let _ = self.0.writer().write_all(plain);
        self.flush(wire);
    }

    /// Appends whatever TLS itself has to say.
    pub fn flush(&mut self, wire: &mut Vec<u8>) {
        while self.0.wants_write() {
            let _ = self.0.write_tls(wire);
        }
    }
}

/// How TLS is to be spoken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// The certificates that the broker's must come from, in PEM form; `None`: any certificate will do.
    pub ca: Option<&'a Path>,
    /// The clients' certificate with its chain, and its key, in PEM form.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// Sessions are resumed: a ticket that one connection was given opens the next. Otherwise each handshake is full,
    /// as if each client were another device.
    pub resume: bool,
    /// What is spoken inside (ALPN).
    pub alpn: &'static [u8],
}

/// Reads the files.
///
/// # Errors
///
/// A file that can't be read or does not hold what it should, with the option that named it and what to do.
pub fn configure(settings: &Settings<'_>) -> Result<ClientConfig, (&'static str, String)> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| ("--transport", error.to_string()))?;
    let builder = match settings.ca {
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        Some(path) => builder.with_root_certificates(roots(path).map_err(|what| ("--ca", what))?),
    };
    let mut config = match settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|what| ("--cert", what))?;
            let private = PrivateKeyDer::from_pem_file(key);
            let private = private.map_err(|error| ("--key", format!("{}: {error}", key.display())))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| ("--cert", error.to_string()))?
        }
    };
    config.alpn_protocols = vec![settings.alpn.to_vec()];
    if !settings.resume {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |error| format!("{}: {error}", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)?;
    if all.is_empty() { Err(format!("{}: there is no certificate in it", path.display())) } else { Ok(all) }
}

/// What an operator can do about it.
pub fn remedy(error: &Error) -> &'static str {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            ": is --ca what the broker's certificate comes from? (--insecure takes any)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ": name the broker as its certificate does, by --host or --sni",
        Error::InvalidCertificate(_) => ": the broker needs another certificate (--insecure takes any)",
        Error::InvalidMessage(_) => ": is it a TLS listener?",
        Error::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure) => {
            ": does the broker want a client certificate? (--cert and --key)"
        }
        Error::AlertReceived(Alert::NoApplicationProtocol) => {
            ": something else is spoken inside TLS there (--transport tls or wss?)"
        }
        Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::DecryptError,
        ) => ": the broker does not take the certificate of --cert",
        _ => "",
    }
}

/// Takes any certificate, but only from whoever has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
