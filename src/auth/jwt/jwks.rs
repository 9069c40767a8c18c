//! The issuer's key set: fetched in the background, and once more when a token names a key that is not in it.
//!
//! While its server cannot be reached, the last set is used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use ureq::Agent;

use super::keys::KeySet;
use crate::auth::error::AuthError;
use crate::auth::web::{self, Outage};
use crate::config::JwtAuth;

const KEY: &str = "auth.jwt.jwks_url";
/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After how long it is asked again: because it failed, or because a token names an unknown key.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The set, and where it comes from.
pub(super) struct Jwks {
    url: String,
    agent: Agent,
    keys: ArcSwap<KeySet>,
    /// When it was last asked for. Whoever holds this fetches; the others who need it wait for what comes.
    pub(super) asked: Mutex<Option<Instant>>,
    outage: Outage,
}

impl Jwks {
    pub(super) fn new(url: &str, config: &JwtAuth) -> Result<Jwks, AuthError> {
        web::check_url(KEY, url)?;
        let agent = web::agent(TIMEOUT, config.ca_file.as_deref().map(|file| ("auth.jwt.ca_file", file)))?;
        let outage = Outage::new(KEY, url);
        Ok(Jwks { url: url.to_owned(), agent, keys: ArcSwap::default(), asked: Mutex::new(None), outage })
    }

    /// The keys as they are known.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        self.keys.load_full()
    }

    /// Fetches the set anew, unless that was done a moment ago; either way what is known afterwards is the newest.
    pub(super) fn refresh(&self) {
        self.fetch(AGAIN_AFTER);
    }

    /// Whether fetching it anew could bring something new: one fetch is under way, or the last is a moment ago.
    pub(super) fn is_due(&self) -> bool {
        match self.asked.try_lock() {
            Ok(asked) => asked.is_none_or(|asked| asked.elapsed() >= AGAIN_AFTER),
            Err(_) => true,
        }
    }

    /// Returns false when that failed.
    fn fetch(&self, not_within: Duration) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|asked| asked.elapsed() < not_within) {
            return true;
        }
        let fetched = self.get();
        // Counted from the answer: an attempt that took its time is not followed by the next at once.
        *asked = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                self.outage.worked();
                true
            }
            Err(why) => {
                self.outage.failed(&why, "the keys known so far are used");
                false
            }
        }
    }

    fn get(&self) -> Result<KeySet, String> {
        let response = self.agent.get(&self.url).call().map_err(|error| web::why(&error))?;
        if response.status() != 200 {
            return Err(format!("it answers with status {}", response.status().as_u16()));
        }
        Ok(KeySet::of_jwks(&web::body(response)?)?)
    }

    /// Keeps the set fresh until the other end of `stop` is gone.
    pub(super) fn keep_fresh(&self, every: Duration, stop: &Receiver<()>) {
        loop {
            let next = if self.fetch(Duration::ZERO) { every } else { AGAIN_AFTER.min(every) };
            if stop.recv_timeout(next) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}
