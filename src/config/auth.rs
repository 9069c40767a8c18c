//! `[auth]`: how clients are authenticated.
//!
//! Files and addresses are named here only; the room [`auth`](crate::auth) opens them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{units, words};
use crate::codec::ReasonCode;

/// `[auth]`: the methods, and what they share.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The methods in the order they are asked in, each once.
    pub methods: Vec<AuthMethod>,
    /// Threads that check passwords and tokens.
    #[serde(deserialize_with = "units::count")]
    pub workers: u16,
    /// Clients that may wait for a worker.
    #[serde(deserialize_with = "units::count")]
    pub queue_max: u32,
    /// What 5.0 clients are told when their authentication is over, as a token's time.
    #[serde(with = "words::expired_reason")]
    pub expired_reason: ReasonCode,
    /// `[auth.password]`: a file of users and hashes.
    pub password: PasswordAuth,
    /// `[auth.jwt]`: signed tokens.
    pub jwt: JwtAuth,
    /// `[auth.certificate]`: the client's certificate.
    pub certificate: CertificateAuth,
    /// `[auth.http]`: another server decides.
    pub http: HttpAuth,
    /// `[auth.scram]`: SCRAM-SHA-256, for 5.0 clients.
    pub scram: ScramAuth,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            methods: Vec::new(),
            workers: 4,
            queue_max: 4096,
            expired_reason: ReasonCode::NotAuthorized,
            password: PasswordAuth::default(),
            jwt: JwtAuth::default(),
            certificate: CertificateAuth::default(),
            http: HttpAuth::default(),
            scram: ScramAuth::default(),
        }
    }
}

/// One way to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// User name and password, by a file.
    Password,
    /// A token.
    Jwt,
    /// An X.509 certificate that the transport has verified.
    Certificate,
    /// A server that is asked.
    Http,
    /// SCRAM-SHA-256.
    Scram,
}

impl AuthMethod {
    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            AuthMethod::Password => "password",
            AuthMethod::Jwt => "jwt",
            AuthMethod::Certificate => "certificate",
            AuthMethod::Http => "http",
            AuthMethod::Scram => "scram",
        }
    }
}

/// `[auth.password]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordAuth {
    /// The file, made by `ringmq passwd` or `mosquitto_passwd`.
    #[serde(with = "words::path_or_none")]
    pub file: Option<PathBuf>,
    /// How long a password that was right is known without hashing it again; `None` is not at all.
    #[serde(with = "units::duration_or_zero")]
    pub remember: Option<Duration>,
}

/// `[auth.jwt]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtAuth {
    /// Where in CONNECT the token is.
    pub field: TokenField,
    /// What tokens are signed with when the key is in a file; a token that says otherwise is refused.
    pub algorithm: JwtAlgorithm,
    /// The key: a public key in PEM, or for HS256 the secret, byte by byte.
    #[serde(with = "words::path_or_none")]
    pub key_file: Option<PathBuf>,
    /// The key set of the issuer (JWKS), http or https.
    #[serde(with = "words::text_or_none")]
    pub jwks_url: Option<String>,
    /// How often the key set is fetched anew.
    #[serde(with = "units::duration")]
    pub jwks_refresh: Duration,
    /// Certificate authorities that vouch for the key set's server, in PEM; `None` is those of the Web.
    #[serde(with = "words::path_or_none")]
    pub ca_file: Option<PathBuf>,
    /// Clients with a token of an unknown key that may wait for the key set.
    #[serde(deserialize_with = "units::count")]
    pub waiting_max: u32,
    /// How far clocks may differ.
    #[serde(with = "units::duration")]
    pub leeway: Duration,
    /// `iss` must be this.
    #[serde(with = "words::text_or_none")]
    pub issuer: Option<String>,
    /// `aud` must be or contain this.
    #[serde(with = "words::text_or_none")]
    pub audience: Option<String>,
    /// Whether a token must say when it expires.
    pub require_expiry: bool,
    /// The claim that is the user name.
    #[serde(with = "words::text_or_none")]
    pub user_claim: Option<String>,
    /// The claim that the client identifier must equal.
    #[serde(with = "words::text_or_none")]
    pub client_id_claim: Option<String>,
    /// The claim that lists roles.
    #[serde(with = "words::text_or_none")]
    pub roles_claim: Option<String>,
    /// The claim that holds rules.
    #[serde(with = "words::text_or_none")]
    pub acl_claim: Option<String>,
}

impl Default for JwtAuth {
    fn default() -> JwtAuth {
        JwtAuth {
            field: TokenField::Password,
            algorithm: JwtAlgorithm::Rs256,
            key_file: None,
            jwks_url: None,
            jwks_refresh: Duration::from_secs(300),
            ca_file: None,
            waiting_max: 1024,
            leeway: Duration::from_secs(10),
            issuer: None,
            audience: None,
            require_expiry: true,
            user_claim: Some("sub".to_owned()),
            client_id_claim: None,
            roles_claim: Some("roles".to_owned()),
            acl_claim: Some("acl".to_owned()),
        }
    }
}

/// Where in CONNECT a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenField {
    /// The password.
    Password,
    /// The user name.
    UserName,
}

/// What tokens are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// `[auth.certificate]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateAuth {
    /// What of the certificate names the client.
    pub identity: CertificateIdentity,
    /// What it names.
    pub names: CertificateNames,
}

impl Default for CertificateAuth {
    fn default() -> CertificateAuth {
        CertificateAuth { identity: CertificateIdentity::CommonName, names: CertificateNames::User }
    }
}

/// What of a certificate names its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateIdentity {
    /// The common name of the subject.
    CommonName,
    /// A DNS name of the subject alternative names.
    Dns,
    /// An e-mail address of them.
    Email,
    /// A URI of them.
    Uri,
    /// The whole subject, as RFC 4514 writes it.
    Subject,
}

/// What a certificate's identity is the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateNames {
    /// The user. If CONNECT says a user name, it must be this.
    User,
    /// The client: its identifier must be this. The user name is taken from the certificate as well.
    ClientId,
}

/// `[auth.http]`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpAuth {
    /// Where questions are posted to, http or https.
    #[serde(with = "words::text_or_none")]
    pub url: Option<String>,
    /// How long an answer may take.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// Questions that may be under way at once: each has a thread that waits for its answer.
    #[serde(deserialize_with = "units::count")]
    pub requests_max: u16,
    /// Clients that may wait until theirs is asked.
    #[serde(deserialize_with = "units::count")]
    pub waiting_max: u32,
    /// How long an answer is good for clients that say the same; `None` asks each time.
    #[serde(with = "units::duration_or_zero")]
    pub remember: Option<Duration>,
    /// Answers that are remembered at most.
    #[serde(deserialize_with = "units::count")]
    pub remember_max: u32,
    /// Certificate authorities that vouch for the server, in PEM; `None` is those of the Web.
    #[serde(with = "words::path_or_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for HttpAuth {
    fn default() -> HttpAuth {
        HttpAuth {
            url: None,
            timeout: Duration::from_secs(2),
            requests_max: 8,
            waiting_max: 4096,
            remember: Some(Duration::from_secs(30)),
            remember_max: 10_000,
            ca_file: None,
        }
    }
}

/// `[auth.scram]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScramAuth {
    /// The file, made by `ringmq passwd --scram`.
    #[serde(with = "words::path_or_none")]
    pub file: Option<PathBuf>,
}
