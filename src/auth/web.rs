//! Asking web servers: what a request may take, whom TLS trusts, and one log line an outage.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http};

use super::error::{AuthError, Mistake};
use super::files;
use crate::config::duration_text;

/// The longest answer that is read.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// A client for one server.
pub(super) fn agent(timeout: Duration, ca: Option<(&'static str, &Path)>) -> Result<Agent, AuthError> {
    let mut tls = TlsConfig::builder();
    if let Some((key, file)) = ca {
        tls = tls.root_certs(RootCerts::new_with_certs(&authorities(key, file)?));
    }
    // What is not said in the configuration does not count: no proxy of the environment, no other server.
    let config =
        Agent::config_builder().timeout_global(Some(timeout)).max_redirects(0).proxy(None).tls_config(tls.build());
    Ok(config.build().new_agent())
}

fn authorities(key: &'static str, file: &Path) -> Result<Vec<Certificate<'static>>, AuthError> {
    let bytes = files::read_public(key, file)?;
    let items: Result<Vec<PemItem<'static>>, _> = parse_pem(&bytes).collect();
    let certificate = |item| if let PemItem::Certificate(certificate) = item { Some(certificate) } else { None };
    let certificates: Vec<_> = items.unwrap_or_default().into_iter().filter_map(certificate).collect();
    match certificates.is_empty() {
        false => Ok(certificates),
        true => {
            let mistakes = vec![Mistake::new(0, "no certificate in PEM")];
            Err(AuthError::Malformed { key, file: file.to_owned(), mistakes })
        }
    }
}

/// Whether an address can be asked at all.
pub(super) fn check_url(key: &'static str, url: &str) -> Result<(), AuthError> {
    match http::Uri::try_from(url).is_ok_and(|uri| uri.host().is_some() && uri.scheme().is_some()) {
        true => Ok(()),
        false => {
            let what = "not an address: http://host:port/path".to_owned();
            Err(AuthError::Unusable { key, what, remedy: "write the whole address, without spaces" })
        }
    }
}

/// The body of an answer.
pub(super) fn body(mut response: http::Response<Body>) -> Result<Vec<u8>, String> {
    response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(|error| why(&error))
}

/// What went wrong, without the address: it may hold secrets.
pub(super) fn why(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "the address cannot be read".to_owned(),
        error => error.to_string(),
    }
}

/// An address as it may be shown: without user, password and query.
pub(super) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Tells once that a server does not answer as it should, and once that it does again.
pub(super) struct Outage {
    who: String,
    /// Since when, and how many failed.
    since: Mutex<Option<(Instant, u64)>>,
}

impl Outage {
    pub(super) fn new(key: &str, url: &str) -> Outage {
        Outage { who: format!("{key}: {}", shown(url)), since: Mutex::new(None) }
    }

    /// It did not; `consequence` says what that means.
    pub(super) fn failed(&self, why: &str, consequence: &str) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match since.as_mut() {
            Some((_, failed)) => *failed += 1,
            None => {
                *since = Some((Instant::now(), 1));
                warn!("{}: {why}; until it answers, {consequence}", self.who);
            }
        }
    }

    /// It did.
    pub(super) fn worked(&self) {
        let over = self.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((since, failed)) = over {
            let whole_seconds = Duration::from_secs(since.elapsed().as_secs());
            info!("{}: answers again, after {} and {failed} failures", self.who, duration_text(whole_seconds));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
