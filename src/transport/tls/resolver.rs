//! Which certificate a client is shown: by the server name it asks for, and the signatures it understands.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificates of one listener. The first is shown to whoever asks for no name, or for one that none has.
#[derive(Debug)]
pub struct Resolver {
    all: Vec<Arc<CertifiedKey>>,
    /// Indexes into `all` by name, in lower case; `*.example` as it stands in the certificate.
    by_name: HashMap<String, Vec<usize>>,
}

impl Resolver {
    /// Certificates, each with the DNS names that are in it.
    pub fn new(certificates: Vec<(CertifiedKey, Vec<String>)>) -> Resolver {
        let mut resolver = Resolver { all: Vec::new(), by_name: HashMap::new() };
        for (index, (certificate, names)) in certificates.into_iter().enumerate() {
            resolver.all.push(Arc::new(certificate));
            for name in names {
                resolver.by_name.entry(name.to_ascii_lowercase()).or_default().push(index);
            }
        }
        resolver
    }

    /// The certificates that a name may be served with, best first.
    fn candidates(&self, name: Option<&str>) -> Vec<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let exact = self.by_name.get(&name).into_iter().flatten();
        let wild = wildcard.and_then(|name| self.by_name.get(&name)).into_iter().flatten();
        exact.chain(wild).map(|index| &self.all[*index]).chain(&self.all).collect()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let understood =
            |certificate: &&Arc<CertifiedKey>| certificate.key.choose_scheme(hello.signature_schemes()).is_some();
        self.candidates(hello.server_name()).into_iter().find(understood).cloned()
    }
}
