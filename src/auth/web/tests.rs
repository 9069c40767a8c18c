//! Web servers for tests, with and without TLS.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// Answers each request's body with a status and a body.
pub(in crate::auth) struct Server {
    pub address: SocketAddr,
    scheme: &'static str,
    /// Connections.
    came: Arc<AtomicUsize>,
}

impl Server {
    pub(in crate::auth) fn new(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Server {
        Server::over(None, answer)
    }

    pub(in crate::auth) fn with_tls(
        vouched: &Vouched,
        answer: impl Fn(&str) -> (u16, String) + Send + 'static,
    ) -> Server {
        Server::over(Some(vouched.config.clone()), answer)
    }

    fn over(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let came = Arc::new(AtomicUsize::new(0));
        let count = came.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let stream = stream.unwrap();
                // The client may have given up.
                let _ = match &tls {
                    None => serve(stream, &answer),
                    Some(config) => {
                        serve(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream), &answer)
                    }
                };
            }
        });
        Server { address, scheme, came }
    }

    pub(in crate::auth) fn url(&self) -> String {
        format!("{}://{}/x", self.scheme, self.address)
    }

    pub(in crate::auth) fn asked(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: impl Read + Write, answer: impl Fn(&str) -> (u16, String)) -> io::Result<()> {
    let mut reader = BufReader::new(&mut stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, body) = answer(std::str::from_utf8(&body).unwrap());
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes())?;
    stream.flush()
}

/// A server's certificate, and the authority that it is from.
pub(in crate::auth) struct Vouched {
    /// The authority's certificate in PEM.
    pub ca: tempfile::NamedTempFile,
    config: Arc<ServerConfig>,
}

impl Vouched {
    /// For a server of this name or address.
    pub(in crate::auth) fn to(name: &str) -> Vouched {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = tempfile::NamedTempFile::new().unwrap();
        fs::write(ca.path(), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = key.serialize_der().try_into().unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Vouched { ca, config: Arc::new(config) }
    }
}

#[test]
fn an_address_is_shown_without_its_secrets() {
    assert_eq!(shown("https://user:pass@host:8443/a/b?token=x#y"), "https://host:8443/a/b");
    assert_eq!(shown("http://host"), "http://host");
}

#[test]
fn an_address_without_a_host_is_refused() {
    for url in ["http://", "http:// host/", "nonsense", ""] {
        assert!(check_url("auth.http.url", url).is_err(), "{url}");
    }
    check_url("auth.http.url", "http://[::1]:80/a?b=c").unwrap();
}
