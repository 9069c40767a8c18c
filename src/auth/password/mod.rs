//! User name and password, by a file of hashes.
//!
//! Whether a user is unknown or the password wrong makes no difference, neither in what is answered nor in how long it
//! takes: for an unknown user a hash is computed too, of a cost that the file's users have, each as often as they have it.
//! The method vouches for its users or passes on.

mod file;
mod hash;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

pub(crate) use self::file::Users;
pub(crate) use self::hash::{Cost, Hash, Scratch};
use super::chain::{Method, Opinion};
use super::error::AuthError;
use super::files;
use super::recent::{Name, Recent};
use super::{Credentials, Entry, Principal};
use crate::config::PasswordAuth;

const KEY: &str = "auth.password.file";
/// Right passwords that are remembered.
const REMEMBER_MAX: usize = 100_000;

/// The users of a file.
pub(super) struct Password {
    file: PathBuf,
    users: ArcSwap<Users>,
    remembered: Option<(Duration, Recent<()>)>,
}

impl Password {
    pub(super) fn open(config: &PasswordAuth) -> Result<Password, AuthError> {
        // The configuration's check lets no method through without its file.
        let file = config.file.clone().unwrap_or_default();
        let users = ArcSwap::from_pointee(load(&file)?);
        let remembered = match config.remember {
            Some(remember) => Some((remember, Recent::new(REMEMBER_MAX)?)),
            None => None,
        };
        Ok(Password { file, users, remembered })
    }

    /// Whether this password was right a while ago, and the name to remember it by. The stored hash is part of the name:
    /// a password that was changed is another.
    fn remembered(&self, user: &str, password: &[u8], hash: &Hash) -> (bool, Option<Name>) {
        let Some((_, recent)) = &self.remembered else { return (false, None) };
        let name = recent.name(&[Some(user.as_bytes()), Some(password), Some(hash.to_string().as_bytes())]);
        (recent.get(&name, Instant::now()).is_some(), Some(name))
    }

    fn remember(&self, name: Option<Name>) {
        if let (Some((remember, recent)), Some(name)) = (&self.remembered, name) {
            let now = Instant::now();
            recent.put(name, (), now, now + *remember);
        }
    }
}

fn load(file: &Path) -> Result<Users, AuthError> {
    let bytes = files::read_secret(KEY, file)?;
    Users::parse(&bytes).map_err(|mistakes| AuthError::Malformed { key: KEY, file: file.to_owned(), mistakes })
}

impl Method for Password {
    fn judge(&self, client: &Credentials, scratch: &mut Scratch) -> Opinion {
        let (Some(user), Some(password)) = (&client.user, &client.password) else { return Opinion::Pass };
        let users = self.users.load();
        let (known, hash) = users.find(user);
        let (remembered, name) = self.remembered(user, password.bytes(), hash);
        let right = remembered || hash.verify(password.bytes(), scratch);
        if !(right && known) {
            return Opinion::Pass;
        }
        if !remembered {
            self.remember(name);
        }
        let (user, entry) = (Some(Arc::from(user.as_str())), Some(Entry::Password(Entry::fingerprint(hash))));
        Opinion::Allow(Box::new(Principal { user, entry, ..Principal::default() }))
    }

    fn has_entry(&self, user: &str, entry: Entry) -> Option<bool> {
        let Entry::Password(fingerprint) = entry else { return None };
        let users = self.users.load();
        let (known, hash) = users.find(user);
        Some(known && Entry::fingerprint(hash) == fingerprint)
    }

    fn reload(&self) -> Result<(), AuthError> {
        self.users.store(Arc::new(load(&self.file)?));
        if let Some((_, recent)) = &self.remembered {
            recent.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::chain::tests::client;
    use super::*;

    /// Ann's password is "right".
    fn file_text() -> String {
        format!("ann:{}\n", Hash::of(b"right", Cost::CHEAP).unwrap())
    }

    fn password(remember: Option<Duration>) -> (tempfile::NamedTempFile, Password) {
        password_of(&file_text(), remember)
    }

    fn password_of(text: &str, remember: Option<Duration>) -> (tempfile::NamedTempFile, Password) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let config = PasswordAuth { file: Some(file.path().to_owned()), remember };
        let password = Password::open(&config).unwrap();
        (file, password)
    }

    fn user_of(password: &Password, user: Option<&str>, secret: Option<&str>) -> Option<String> {
        match password.judge(&client("c", user, secret), &mut Scratch::default()) {
            Opinion::Allow(principal) => principal.user.map(|user| user.to_string()),
            Opinion::Pass => None,
            other => panic!("a file denies nobody, and waits for nobody: {other:?}"),
        }
    }

    #[test]
    fn only_the_right_password_of_a_known_user_is_vouched_for() {
        let (_file, password) = password(None);
        assert_eq!(user_of(&password, Some("ann"), Some("right")).as_deref(), Some("ann"));
        let others = [
            (Some("ann"), Some("wrong")),
            (Some("ann"), Some("")),
            (Some("ann"), None),
            (None, Some("right")),
            (Some("bob"), Some("right")),
            (Some("Ann"), Some("right")),
            (None, None),
        ];
        for (user, secret) in others {
            assert_eq!(user_of(&password, user, secret), None, "{user:?} {secret:?}");
        }
    }

    /// What is computed, not how long that takes: the same hash, once, whoever is not let in.
    #[test]
    fn an_unknown_user_is_exactly_as_much_work_as_a_wrong_password() {
        let costs = [Cost::CHEAP, Cost::Pbkdf2 { iterations: 1000.try_into().unwrap() }, Cost::Sha512];
        for (cost, remember) in costs.into_iter().flat_map(|cost| [(cost, None), (cost, Some(Duration::from_secs(60)))])
        {
            let text = format!("ann:{}\n", Hash::of(b"right", cost).unwrap());
            let (_file, password) = password_of(&text, remember);
            let work = |user, secret| {
                let mut scratch = Scratch::default();
                let opinion = password.judge(&client("c", Some(user), Some(secret)), &mut scratch);
                assert!(matches!(opinion, Opinion::Pass), "{user} {secret}: {opinion:?}");
                scratch.computed
            };
            for _ in 0..2 {
                for (user, secret) in
                    [("ann", "wrong"), ("nobody", "wrong"), ("nobody", "right"), ("", ""), ("ann", "")]
                {
                    assert_eq!(work(user, secret), [cost], "{user:?} {secret:?}");
                }
            }
        }
    }

    #[test]
    fn a_broken_file_leaves_the_users_as_they_were() {
        let (file, password) = password(None);
        fs::write(file.path(), "ann\n").unwrap();
        assert!(matches!(password.reload(), Err(AuthError::Malformed { .. })));
        assert!(user_of(&password, Some("ann"), Some("right")).is_some());
        fs::write(file.path(), "").unwrap();
        password.reload().unwrap();
        assert_eq!(user_of(&password, Some("ann"), Some("right")), None);
    }

    #[test]
    fn a_remembered_password_is_right_only_as_long_as_its_user_has_it() {
        let (file, password) = password(Some(Duration::from_secs(60)));
        for _ in 0..2 {
            assert!(user_of(&password, Some("ann"), Some("right")).is_some());
            assert_eq!(user_of(&password, Some("ann"), Some("wrong")), None);
        }
        fs::write(file.path(), format!("ann:{}\n", Hash::of(b"new", Cost::CHEAP).unwrap())).unwrap();
        password.reload().unwrap();
        assert_eq!(user_of(&password, Some("ann"), Some("right")), None);
        assert!(user_of(&password, Some("ann"), Some("new")).is_some());
    }
}
