//! One listener's TLS settings: what all shards use now, replaced as a whole when its files have changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, ServerConfig};

use super::load::{LoadError, Loaded, load};
use super::revocation::{Age, Term};
use crate::config::{CrlExpired, Tls};
#[cfg(test)]
use {rustls::pki_types::UnixTime, rustls::time_provider::TimeProvider, std::time::Duration};

/// A step of a handshake that is signed by an elliptic curve key, and by an RSA key.
const EC_UNITS: u32 = 1;
const RSA_UNITS: u32 = 4;

/// What tells that a file has changed: modification time, size, inode. `None`: it cannot be looked at.
type Stamp = Option<(i64, i64, u64, u64)>;

/// See the module's description.
pub struct Settings {
    tls: Tls,
    alpn: Vec<&'static str>,
    current: ArcSwap<Current>,
    /// Raised behind each change of `current`.
    version: AtomicU64,
    step_units: AtomicU32,
    /// The files as they were when they were last read.
    stamps: Mutex<BTreeMap<PathBuf, Stamp>>,
    revocation: Mutex<Revocation>,
}

/// The settings of a moment.
pub struct Current {
    /// For new sessions.
    pub config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Current {
    fn new(config: ServerConfig, verifier: Arc<dyn ClientCertVerifier>) -> Current {
        Current { config: Arc::new(config), verifier }
    }

    /// Whether a certificate, with those between it and its authority behind it, is good now.
    ///
    /// # Errors
    /// What a handshake in which it is shown would fail with.
    pub fn vouch_for(&self, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        let Some((end_entity, intermediates)) = chain.split_first() else { return Ok(()) };
        if !self.verifier.offer_client_auth() {
            return Ok(());
        }
        let now = self.config.time_provider.current_time().ok_or(Error::FailedToGetCurrentTime)?;
        self.verifier.verify_client_cert(end_entity, intermediates, now).map(drop)
    }
}

/// What is known of the revocation lists, and how they stood when that was told.
#[derive(Clone, Copy)]
struct Revocation {
    term: Option<Term>,
    told: Age,
}

impl Settings {
    /// Reads the files that the settings name. `alpn` are the protocols that a client may ask for.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(tls: &Tls, alpn: &[&'static str]) -> Result<Settings, LoadError> {
        let stamps = stamps(tls);
        let Loaded { config, verifier, signs_by_rsa, revocation } = load(tls, alpn, None)?;
        Ok(Settings {
            tls: tls.clone(),
            alpn: alpn.to_vec(),
            current: ArcSwap::from_pointee(Current::new(config, verifier)),
            version: AtomicU64::new(0),
            step_units: AtomicU32::new(units(signs_by_rsa)),
            stamps: Mutex::new(stamps),
            revocation: Mutex::new(Revocation { term: revocation, told: Age::Fresh }),
        })
    }

    /// For the next session.
    pub fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    /// Which settings these are: raised at each reload.
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// What a step of a handshake costs, as [`crate::transport::HANDSHAKE_UNITS_PER_TURN`] counts it.
    pub fn step_units(&self) -> u32 {
        self.step_units.load(Relaxed)
    }

    /// The file of the certificate, by which people know which settings are meant.
    pub fn name(&self) -> String {
        self.tls.certificate.display().to_string()
    }

    /// Reads the files again, if one of them has changed, or all the same where that is insisted on. Sessions that
    /// exist go on as they are; returns whether new ones get something new.
    ///
    /// # Errors
    /// A file that cannot be used: everything stays as it was.
    pub fn reload(&self, insist: bool) -> Result<bool, LoadError> {
        let now = stamps(&self.tls);
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now && !insist {
            return Ok(false);
        }
        // Told once: not again until a file has changed again.
        *known = now;
        // A ticket stands for a client certificate that was verified by the former authorities and revocation lists.
        let keeps_tickets = !self.tls.asks_for_certificate();
        let ticketer = keeps_tickets.then(|| self.current.load().config.ticketer.clone());
        let Loaded { config, verifier, signs_by_rsa, revocation } = load(&self.tls, &self.alpn, ticketer)?;
        *self.revocation() = Revocation { term: revocation, told: Age::Fresh };
        self.current.store(Arc::new(Current::new(config, verifier)));
        self.version.fetch_add(1, Release);
        self.step_units.store(units(signs_by_rsa), Relaxed);
        Ok(true)
    }
}

impl Settings {
    /// What is to be told of the revocation lists at this time, in seconds since 1970: that they are to be renewed soon, or
    /// are out of date. Each is told once for a file as it is.
    pub fn revocation_warning(&self, now: i64) -> Option<String> {
        let mut revocation = self.revocation();
        let term = revocation.term?;
        let age = term.age(now);
        if age == std::mem::replace(&mut revocation.told, age) {
            return None;
        }
        let file = self.tls.client_crl.as_deref().unwrap_or(Path::new("")).display();
        let (until, refuses) = (term.until, self.tls.client_crl_expired == CrlExpired::Refuse);
        match (age, refuses) {
            (Age::Fresh, _) => None,
            (Age::Old, true) => Some(format!(
                "{file}: the revocation list is good until {until}: renew it before, or clients that show a certificate \
                will be refused (client_crl_expired)"
            )),
            (Age::Old, false) => Some(format!("{file}: the revocation list is good until {until}: renew it")),
            (Age::OutOfDate, true) => Some(format!(
                "{file}: the revocation list was good until {until}: clients that show a certificate are refused until it \
                is renewed; client_crl_expired = \"accept\" would let them in"
            )),
            (Age::OutOfDate, false) => Some(format!(
                "{file}: the revocation list was good until {until}: renew it; whoever was revoked since gets in \
                (client_crl_expired = \"accept\")"
            )),
        }
    }

    fn revocation(&self) -> MutexGuard<'_, Revocation> {
        self.revocation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Settings {
    /// From now on it is so many seconds after 1970.
    pub fn set_time(&self, seconds: u64) {
        #[derive(Debug)]
        struct At(UnixTime);
        impl TimeProvider for At {
            fn current_time(&self) -> Option<UnixTime> {
                Some(self.0)
            }
        }
        let current = self.current();
        let mut config = ServerConfig::clone(&current.config);
        config.time_provider = Arc::new(At(UnixTime::since_unix_epoch(Duration::from_secs(seconds))));
        self.current.store(Arc::new(Current::new(config, current.verifier.clone())));
    }
}

fn units(signs_by_rsa: bool) -> u32 {
    if signs_by_rsa { RSA_UNITS } else { EC_UNITS }
}

fn stamps(tls: &Tls) -> BTreeMap<PathBuf, Stamp> {
    let more = tls.sni.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    let files = [&tls.certificate, &tls.key].into_iter().chain(more).chain(&tls.client_ca).chain(&tls.client_crl);
    let stamp = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino()))
    };
    files.map(|file| (file.clone(), stamp(file))).collect()
}
