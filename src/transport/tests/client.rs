//! A client that speaks TLS by rustls over a [`Host`]'s wire, and certificates for both.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::host::Host;
use crate::config::{ClientCertificate, Tls};

/// An authority whose files lie in a directory of their own.
pub struct Authority {
    pub directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    serial: u64,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let directory = std::env::temp_dir().join(format!("ringmq-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name} CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        fs::write(directory.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Authority { directory, issuer: Issuer::new(params, key), serial: 0 }
    }

    /// Issues a certificate for a host or client name; writes `NAME.pem` and `NAME.key`, returns its serial number.
    pub fn issue(&mut self, name: &str) -> u64 {
        self.issue_until(name, 2099)
    }

    /// The same, good until that year.
    pub fn issue_until(&mut self, name: &str, year: i32) -> u64 {
        self.serial += 1;
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(self.serial));
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(name, &certificate.pem(), &key);
        self.serial
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        fs::write(self.file(&format!("{name}.pem")), certificate).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// Issues a certificate whose common name is these bytes, which need not be UTF-8, as an authority that takes
    /// anything would; writes `NAME.pem` and `NAME.key`.
    pub fn issue_to(&self, name: &str, common_name: &[u8]) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let stand_in = "#".repeat(common_name.len());
        params.distinguished_name.push(DnType::CommonName, stand_in.clone());
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        let mut signed = parsed.tbs_certificate.as_ref().to_vec();
        let at = signed.windows(stand_in.len()).position(|bytes| bytes == stand_in.as_bytes()).unwrap();
        signed[at..at + common_name.len()].copy_from_slice(common_name);
        // AlgorithmIdentifier of ecdsa-with-SHA256, and the signature as a BIT STRING.
        let algorithm = [0x30, 10, 6, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
        let signature = self.issuer.key().sign(&signed).unwrap();
        let parts = [&signed[..], &algorithm, &[3, signature.len() as u8 + 1, 0], &signature].concat();
        let der = [&[0x30, 0x82][..], &(parts.len() as u16).to_be_bytes(), &parts].concat();
        let text = STANDARD.encode(der);
        self.write(name, &format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"), &key);
    }

    /// Writes `crl.pem` with these serial numbers.
    pub fn revoke(&self, serials: &[u64]) {
        self.revoke_until(serials, 2099);
    }

    /// The same, good from 2024 to that year.
    pub fn revoke_until(&self, serials: &[u64], year: i32) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(self.directory.join("crl.pem"), params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The settings of a listener that shows the certificate of a name.
    pub fn tls(&self, name: &str) -> Tls {
        let (certificate, key) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        Tls { certificate, key, ..Tls::default() }
    }

    /// The same, of one that wants a certificate which this authority has issued and not revoked.
    pub fn mutual_tls(&self, name: &str) -> Tls {
        Tls {
            client_ca: Some(self.file("ca.pem")),
            client_crl: Some(self.file("crl.pem")),
            client_certificate: ClientCertificate::Required,
            ..self.tls(name)
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.file("ca.pem")).unwrap()).unwrap();
        roots
    }

    /// How a client is set up that trusts this authority, and shows the certificate of a name if it has one.
    pub fn client(&self, name: Option<&str>) -> ClientConfig {
        self.client_of(name, rustls::DEFAULT_VERSIONS)
    }

    /// The same, of these versions of TLS.
    pub fn client_of(&self, name: Option<&str>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        let Some(name) = name else { return builder.with_no_client_auth() };
        let certificate = CertificateDer::from_pem_file(self.file(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
        builder.with_client_auth_cert(vec![certificate], key).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.directory));
    }
}

pub struct Client {
    pub tls: ClientConnection,
    pub wire: usize,
    /// How many bytes come in at a time.
    pub piece: usize,
    pub got: Vec<u8>,
    pub error: Option<rustls::Error>,
    /// The server has said that nothing more will come.
    pub is_closed: bool,
}

impl Client {
    pub fn new(host: &mut Host, config: &Arc<ClientConfig>, server: &'static str) -> Client {
        let wire = host.accept().expect("it is let in");
        Client::on(wire, config, server)
    }

    /// One that is let in under an identifier.
    pub fn let_in(host: &mut Host, config: &Arc<ClientConfig>, id: &str) -> Client {
        let mut client = Client::new(host, config, "server");
        client.talk(host);
        client.send(host, &connect(id));
        assert_eq!(client.got, CONNACK);
        client
    }

    pub fn on(wire: usize, config: &Arc<ClientConfig>, server: &'static str) -> Client {
        let tls = ClientConnection::new(config.clone(), server.try_into().unwrap()).unwrap();
        Client { tls, wire, piece: usize::MAX, got: Vec::new(), error: None, is_closed: false }
    }

    /// What it has to send now.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Reads what is there.
    pub fn read(&mut self, host: &mut Host) {
        let bytes = std::mem::take(&mut host.wires[self.wire].to_client);
        let mut rest = &bytes[..];
        while !rest.is_empty() && self.error.is_none() {
            self.tls.read_tls(&mut rest).unwrap();
            match self.tls.process_new_packets() {
                Ok(state) => self.is_closed |= state.peer_has_closed(),
                Err(error) => self.error = Some(error),
            }
            let mut plain = [0; 4096];
            while let Ok(len) = self.tls.reader().read(&mut plain)
                && len > 0
            {
                self.got.extend_from_slice(&plain[..len]);
            }
        }
    }

    /// Lets both sides talk until nothing happens any more.
    pub fn talk(&mut self, host: &mut Host) {
        for _ in 0..50 {
            let bytes = self.bytes();
            for piece in bytes.chunks(self.piece.min(bytes.len().max(1))) {
                host.receive(self.wire, piece);
                host.turn();
            }
            host.settle();
            self.read(host);
            if !self.tls.wants_write() && host.wires[self.wire].to_client.is_empty() {
                return;
            }
        }
    }

    pub fn send(&mut self, host: &mut Host, mqtt: &[u8]) {
        for piece in mqtt.chunks(16 * 1024) {
            if self.error.is_some() {
                return;
            }
            self.tls.writer().write_all(piece).unwrap();
            self.talk(host);
        }
    }
}

/// CONNECT of MQTT 3.1.1, with a clean session.
pub fn connect(client_id: &str) -> Vec<u8> {
    let len = 12 + client_id.len();
    let head = [0x10, len as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, client_id.len() as u8];
    [&head[..], client_id.as_bytes()].concat()
}

/// SUBSCRIBE to "t" at QoS 0.
pub const SUBSCRIBE: [u8; 8] = [0x82, 6, 0, 1, 0, 1, b't', 0];

/// PUBLISH to "t" at QoS 0.
pub fn publish(payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x30];
    let mut rest = payload.len() + 3;
    while rest > 127 {
        packet.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    packet.push(rest as u8);
    packet.extend_from_slice(&[0, 1, b't']);
    packet.extend_from_slice(payload);
    packet
}

pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 0];
