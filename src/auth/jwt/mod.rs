//! JSON Web Tokens in the password or the user name: who signs them says who the client is, and for how long.
//!
//! A key is for one algorithm and a token that names another is refused, `none` too. What is no token is passed on; a
//! token that does not hold is denied.

mod jwks;
mod keys;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use crossbeam_channel::{Sender, bounded};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tracing::debug;

use self::jwks::Jwks;
use self::keys::{Key, KeySet};
use super::chain::{Lane, Method, Opinion, Queue};
use super::error::{AuthError, Mistake};
use super::password::Scratch;
use super::{Credentials, Principal, background, claims, files};
use crate::codec::ReasonCode;
use crate::config::{JwtAlgorithm, JwtAuth, TokenField};

const KEY: &str = "auth.jwt.key_file";
/// The longest token that is looked at.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Whom tokens name.
pub(super) struct Jwt {
    config: JwtAuth,
    keys: Keys,
}

enum Keys {
    File {
        file: PathBuf,
        keys: ArcSwap<KeySet>,
    },
    Url {
        jwks: Arc<Jwks>,
        /// Dropped, it ends the thread that keeps the set fresh.
        _fresh: Sender<()>,
    },
}

/// Why a token does not hold, in words that say nothing of what is in it.
type Refusal = (&'static str, ReasonCode);

impl Jwt {
    pub(super) fn open(config: &JwtAuth) -> Result<Jwt, AuthError> {
        verify::install();
        let keys = match (&config.jwks_url, &config.key_file) {
            (Some(url), _) => fetched(url, config)?,
            (None, file) => {
                // The configuration's check lets no method through without one of the two.
                let file = file.clone().unwrap_or_default();
                let keys = ArcSwap::from_pointee(load(config.algorithm, &file)?);
                Keys::File { file, keys }
            }
        };
        Ok(Jwt { config: config.clone(), keys })
    }

    /// Who the bearer of a token is.
    fn principal(&self, token: &str, client: &Credentials) -> Result<Principal, Refusal> {
        let claims = self.claims(token)?;
        let text = |name: &Option<String>| name.as_ref().map(|name| claims.get(name).and_then(Value::as_str));
        let bad = |why| (why, ReasonCode::BadUserNameOrPassword);
        if text(&self.config.client_id_claim).is_some_and(|id| id != Some(client.client_id.as_str())) {
            return Err(("it is for another client identifier", ReasonCode::ClientIdentifierNotValid));
        }
        let user = match text(&self.config.user_claim) {
            None => None,
            Some(user) => Some(user.filter(|user| !user.is_empty()).ok_or(bad("it names no user"))?),
        };
        let value = |name: &Option<String>| name.as_ref().and_then(|name| claims.get(name)).unwrap_or(&Value::Null);
        Ok(Principal {
            entry: None,
            user: user.map(Arc::from),
            common_name: None,
            roles: claims::roles(value(&self.config.roles_claim)).map_err(bad)?,
            rules: claims::rules(value(&self.config.acl_claim)).map_err(bad)?,
            lasts: lasts(&claims, self.config.leeway),
            claims: claims.iter().filter_map(|(name, value)| Some((name.as_str().into(), plain(value)?))).collect(),
        })
    }

    /// What a token says, if one of the keys signed it and its time is now.
    fn claims(&self, token: &str) -> Result<Map<String, Value>, Refusal> {
        let bad = |why| (why, ReasonCode::BadUserNameOrPassword);
        let header = decode_header(token).map_err(|_| bad("its header cannot be read, or names no known algorithm"))?;
        if header.crit.is_some() {
            return Err(bad("it needs extensions (crit)"));
        }
        let keys = self.known();
        let mut refusal = "no key has its name and algorithm";
        for key in keys.candidates(&header) {
            match decode::<Map<String, Value>>(token, &key.key, &self.validation(key)) {
                Ok(token) => return Ok(token.claims),
                Err(error) => refusal = why(error.kind()),
            }
        }
        Err(bad(refusal))
    }

    /// The key set that may hold the token's key once it is fetched anew, if that key is not known.
    fn to_be_asked(&self, token: &str) -> Option<&Jwks> {
        let Keys::Url { jwks, .. } = &self.keys else { return None };
        let header = decode_header(token).ok().filter(|header| header.crit.is_none())?;
        (jwks.keys().candidates(&header).next().is_none() && jwks.is_due()).then_some(jwks)
    }

    /// The token, if what CONNECT holds is one.
    fn token<'c>(&self, client: &'c Credentials) -> Option<&'c str> {
        let said = match self.config.field {
            TokenField::Password => client.password.as_ref().and_then(|said| std::str::from_utf8(said.bytes()).ok()),
            TokenField::UserName => client.user.as_deref(),
        };
        said.filter(|said| looks_like_a_token(said))
    }

    fn opinion(&self, token: &str, client: &Credentials) -> Opinion {
        match self.principal(token, client) {
            Ok(principal) => Opinion::Allow(Box::new(principal)),
            Err((why, reason)) => {
                debug!("auth.jwt: the token of client {:?} is refused: {why}", client.client_id);
                Opinion::Deny(reason)
            }
        }
    }

    fn known(&self) -> Arc<KeySet> {
        match &self.keys {
            Keys::File { keys, .. } => keys.load_full(),
            Keys::Url { jwks, .. } => jwks.keys(),
        }
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = self.config.leeway.as_secs();
        validation.validate_nbf = true;
        // What is to be checked must be there: the library passes over what is not.
        let mut required = Vec::new();
        if self.config.require_expiry {
            required.push("exp");
        }
        match &self.config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn load(algorithm: JwtAlgorithm, file: &Path) -> Result<KeySet, AuthError> {
    let bytes = match algorithm {
        JwtAlgorithm::Hs256 => files::read_secret(KEY, file)?,
        _ => files::read_public(KEY, file)?,
    };
    let malformed =
        |what| AuthError::Malformed { key: KEY, file: file.to_owned(), mistakes: vec![Mistake::new(0, what)] };
    KeySet::of_file(the(algorithm), &bytes).map_err(malformed)
}

fn the(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn fetched(url: &str, config: &JwtAuth) -> Result<Keys, AuthError> {
    let jwks = Arc::new(Jwks::new(url, config)?);
    let (fresh, stop) = bounded(0);
    let (kept, every) = (jwks.clone(), config.jwks_refresh);
    background::start("auth keys".to_owned(), move || kept.keep_fresh(every, &stop))?;
    Ok(Keys::Url { jwks, _fresh: fresh })
}

impl Method for Jwt {
    fn judge(&self, client: &Credentials, _: &mut Scratch) -> Opinion {
        let Some(token) = self.token(client) else { return Opinion::Pass };
        match self.to_be_asked(token) {
            Some(_) => Opinion::Wait,
            None => self.opinion(token, client),
        }
    }

    fn lane(&self) -> Option<Lane> {
        let Keys::Url { .. } = &self.keys else { return None };
        // One fetch serves all who wait.
        Some(Lane { queue: Queue::KeySet, threads: 1, waiting_max: self.config.waiting_max })
    }

    fn ask(&self, client: &Credentials) -> Opinion {
        let Some(token) = self.token(client) else { return Opinion::Pass };
        if let Some(jwks) = self.to_be_asked(token) {
            jwks.refresh();
        }
        self.opinion(token, client)
    }

    fn reload(&self) -> Result<(), AuthError> {
        match &self.keys {
            Keys::File { file, keys } => keys.store(Arc::new(load(self.config.algorithm, file)?)),
            Keys::Url { jwks, .. } => jwks.refresh(),
        }
        Ok(())
    }
}

/// Three parts between dots, the first of them an object of JSON in base64.
fn looks_like_a_token(said: &str) -> bool {
    said.starts_with("ey") && said.matches('.').count() == 2 && said.len() <= TOKEN_BYTES_MAX
}

/// How long a token is good for from now on.
fn lasts(claims: &Map<String, Value>, leeway: Duration) -> Option<Duration> {
    let expires = claims.get("exp")?.as_f64().filter(|at| *at >= 0.0)?;
    let expires = Duration::try_from_secs_f64(expires).unwrap_or(Duration::MAX).saturating_add(leeway);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(expires.saturating_sub(now))
}

/// A claim that rules can use.
fn plain(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::String(text) => Some(Arc::from(text.as_str())),
        Value::Number(_) | Value::Bool(_) => Some(Arc::from(value.to_string())),
        _ => None,
    }
}

fn why(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is not that of the key",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet (nbf)",
        ErrorKind::InvalidIssuer => "iss is not auth.jwt.issuer",
        ErrorKind::InvalidAudience => "aud is not auth.jwt.audience",
        ErrorKind::MissingRequiredClaim(_) => "it lacks exp, iss or aud",
        ErrorKind::InvalidAlgorithm => "its algorithm is not the key's",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests;
