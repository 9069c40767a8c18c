//! SCRAM-SHA-256 (RFC 5802, RFC 7677) by enhanced authentication of MQTT 5.0: the password itself is never sent, and the
//! client learns that the server knows it too.
//!
//! Without channel binding. An unknown user gets an exchange like everybody, with a salt that stays the same, and fails
//! at its end.

mod exchange;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

pub(crate) use self::exchange::{Exchange, Step};
pub(crate) use self::file::{ITERATIONS, ITERATIONS_MAX, ITERATIONS_MIN, ScramKeys, ScramUsers, new_secret_line};
use super::error::AuthError;
use super::{Entry, files};
use crate::config::ScramAuth;

/// The name of the method in CONNECT and AUTH.
pub(super) const METHOD: &str = "SCRAM-SHA-256";
const KEY: &str = "auth.scram.file";

/// The users of a file.
pub(super) struct Scram {
    file: PathBuf,
    users: ArcSwap<ScramUsers>,
}

impl Scram {
    pub(super) fn open(config: &ScramAuth) -> Result<Scram, AuthError> {
        // The configuration's check lets no method through without its file.
        let file = config.file.clone().unwrap_or_default();
        let users = ArcSwap::from_pointee(load(&file)?);
        Ok(Scram { file, users })
    }

    pub(super) fn users(&self) -> Arc<ScramUsers> {
        self.users.load_full()
    }

    /// Whether a user still has these keys.
    pub(super) fn has_entry(&self, user: &str, entry: Entry) -> Option<bool> {
        let Entry::Scram(fingerprint) = entry else { return None };
        let (known, keys) = self.users().find(user);
        Some(known && Entry::fingerprint(&keys) == fingerprint)
    }

    pub(super) fn reload(&self) -> Result<(), AuthError> {
        self.users.store(Arc::new(load(&self.file)?));
        Ok(())
    }
}

fn load(file: &Path) -> Result<ScramUsers, AuthError> {
    let bytes = files::read_secret(KEY, file)?;
    let users = ScramUsers::parse(&bytes);
    users.map_err(|mistakes| AuthError::Malformed { key: KEY, file: file.to_owned(), mistakes })
}
