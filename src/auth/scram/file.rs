//! The file of SCRAM: `user:SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as PostgreSQL writes a user's keys.
//!
//! One line has no user name, `:secret:…`: from that secret the salts of unknown users are made, so that they stay the same
//! over a restart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

use crate::auth::error::Mistake;
use crate::auth::files::{self, UserLine, check_name, user_lines};

/// What `ringmq passwd` uses unless told otherwise. The client computes them, at each connect.
pub(crate) const ITERATIONS: u32 = 10_000;
/// RFC 7677 §4.
pub(crate) const ITERATIONS_MIN: u32 = 4096;
/// More no client could be asked to compute.
pub(crate) const ITERATIONS_MAX: u32 = 10_000_000;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const SECRET: &str = "secret:";

/// What the server knows of a user's password.
#[derive(Clone)]
pub(crate) struct ScramKeys {
    pub iterations: NonZeroU32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; HASH_BYTES],
    pub server_key: [u8; HASH_BYTES],
}

impl ScramKeys {
    /// Those of a password, under a new salt.
    pub(crate) fn of(password: &str, iterations: NonZeroU32) -> io::Result<ScramKeys> {
        let mut salt = vec![0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        ScramKeys::derive(password, salt, iterations)
    }

    pub(super) fn derive(password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> io::Result<ScramKeys> {
        let prepared = stringprep::saslprep(password).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "a password holds characters that SCRAM forbids")
        })?;
        let mut salted = Zeroizing::new([0; HASH_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, prepared.as_bytes(), &mut salted[..]);
        let client_key = mac(&salted[..], b"Client Key");
        Ok(ScramKeys { iterations, salt, stored_key: hash(&client_key), server_key: mac(&salted[..], b"Server Key") })
    }

    fn parse(text: &str) -> Option<ScramKeys> {
        let (cost, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (cost.split_once(':')?, keys.split_once(':')?);
        let iterations: NonZeroU32 = iterations.parse().ok()?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let fits = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get());
        fits.then_some(ScramKeys { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }
}

/// As it stands in the file.
impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScramKeys { iterations, salt, stored_key, server_key } = self;
        let [salt, stored, server] = [&salt[..], stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{METHOD}${iterations}:{salt}${stored}:{server}", METHOD = super::METHOD)
    }
}

/// The users of a file and their keys.
pub(crate) struct ScramUsers {
    by_name: HashMap<Box<str>, ScramKeys>,
    secret: Zeroizing<Vec<u8>>,
    /// The users' iterations, and up to which user each is the one, counted by iterations.
    iterations: Vec<(u64, NonZeroU32)>,
}

impl ScramUsers {
    /// Reads a file's content.
    ///
    /// # Errors
    ///
    /// Each line that is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<ScramUsers, Vec<Mistake>> {
        let (mut by_name, mut secret, mut mistakes) = (HashMap::new(), Zeroizing::default(), Vec::new());
        for line in user_lines(files::text(bytes)?) {
            let known = match line.and_then(|line| read(&line).map(|read| (line, read))) {
                Ok((UserLine { line, .. }, Line::Secret(bytes))) => {
                    let again = !std::mem::replace(&mut secret, bytes).is_empty();
                    again.then(|| Mistake::new(line, "a second secret"))
                }
                Ok((UserLine { line, name, .. }, Line::User(keys))) => {
                    let again = by_name.insert(Box::from(name), keys).is_some();
                    again.then(|| Mistake::new(line, "this user was listed before"))
                }
                Err(mistake) => Some(mistake),
            };
            mistakes.extend(known);
        }
        if secret.is_empty() {
            mistakes.push(Mistake::new(0, "the line :secret:… is missing; `ringmq passwd --scram` adds it"));
        }
        match mistakes.is_empty() {
            true => Ok(ScramUsers { iterations: iterations(&by_name), by_name, secret }),
            false => Err(mistakes),
        }
    }

    /// A user's keys, and whether there is such a user. One that is not has keys that nobody has the password of.
    pub(super) fn find(&self, user: &str) -> (bool, ScramKeys) {
        let decoy = self.decoy(user);
        match self.by_name.get(user) {
            Some(keys) => (true, keys.clone()),
            None => (false, decoy),
        }
    }

    /// Both salt and iterations are made from the name and the secret, so that they are the same each time, over a restart too.
    /// Over all names each number of iterations comes as often as users have it: one that only users had would tell them.
    fn decoy(&self, user: &str) -> ScramKeys {
        let salt = mac(&self.secret, user.as_bytes())[..SALT_BYTES].to_vec();
        let drawn = mac(&self.secret, &[b"iterations:", user.as_bytes()].concat());
        let drawn = drawn.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let users = self.iterations.last().map_or(0, |(up_to, _)| *up_to);
        let at = ((u128::from(drawn) * u128::from(users)) >> 64) as u64;
        let index = self.iterations.partition_point(|(up_to, _)| *up_to <= at);
        let iterations = self.iterations[index].1;
        ScramKeys { iterations, salt, stored_key: [0; HASH_BYTES], server_key: [0; HASH_BYTES] }
    }
}

enum Line {
    Secret(Zeroizing<Vec<u8>>),
    User(ScramKeys),
}

fn read(line: &UserLine<'_>) -> Result<Line, Mistake> {
    let mistake = |what| Mistake::new(line.line, what);
    if let ("", Some(secret)) = (line.name, line.rest.strip_prefix(SECRET)) {
        let secret = STANDARD.decode(secret).ok().filter(|secret| secret.len() == HASH_BYTES);
        return secret
            .map(|secret| Line::Secret(Zeroizing::new(secret)))
            .ok_or(mistake("a secret that is not 32 bytes"));
    }
    check_name(line.name).map_err(mistake)?;
    let what = "not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey with 4096 to 10000000 iterations";
    ScramKeys::parse(line.rest).map(Line::User).ok_or(mistake(what))
}

/// How often each number of iterations is there, added up; never nothing.
fn iterations(users: &HashMap<Box<str>, ScramKeys>) -> Vec<(u64, NonZeroU32)> {
    let mut counts: BTreeMap<NonZeroU32, u64> = BTreeMap::new();
    for keys in users.values() {
        *counts.entry(keys.iterations).or_default() += 1;
    }
    if counts.is_empty() {
        counts.insert(NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN), 1);
    }
    let mut up_to = 0;
    let add = |(iterations, count)| {
        up_to += count;
        (up_to, iterations)
    };
    counts.into_iter().map(add).collect()
}

/// The line that a new file begins with.
pub(crate) fn new_secret_line() -> io::Result<String> {
    let mut secret = Zeroizing::new([0; HASH_BYTES]);
    getrandom::fill(&mut secret[..])?;
    Ok(format!(":{SECRET}{}", STANDARD.encode(&secret[..])))
}

/// HMAC-SHA-256.
pub(super) fn mac(key: &[u8], message: &[u8]) -> [u8; HASH_BYTES] {
    let mut out = [0; HASH_BYTES];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref());
    out
}

/// SHA-256.
pub(super) fn hash(bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut out = [0; HASH_BYTES];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(password: &str) -> ScramKeys {
        ScramKeys::of(password, NonZeroU32::new(ITERATIONS_MIN).unwrap()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let text = format!("{}\nann:{}\n", new_secret_line().unwrap(), keys("pencil"));
        let users = ScramUsers::parse(text.as_bytes()).unwrap();
        let (known, found) = users.find("ann");
        assert!(known && text.contains(&found.to_string()));
    }

    #[test]
    fn an_unknown_user_has_the_same_salt_each_time_and_another_than_the_next() {
        let text = format!("{}\nann:{}\n", new_secret_line().unwrap(), keys("pencil"));
        let found = |name| ScramUsers::parse(text.as_bytes()).unwrap().find(name);
        let ((known, eve), (_, again), (_, mallory)) = (found("eve"), found("eve"), found("mallory"));
        assert!(!known);
        assert_eq!((&eve.salt, eve.salt.len()), (&again.salt, SALT_BYTES));
        assert_ne!(eve.salt, mallory.salt);
        assert_eq!(eve.iterations.get(), ITERATIONS_MIN, "as those of the file");
    }

    #[test]
    fn how_often_a_client_has_to_hash_does_not_tell_whether_it_is_a_user() {
        let often = ScramKeys::of("brush", NonZeroU32::new(ITERATIONS_MIN + 1).unwrap()).unwrap();
        let secret = new_secret_line().unwrap();
        let few = keys("pencil");
        let text = format!("{secret}\nann:{few}\nbob:{often}\ncyd:{few}\n");
        let (users, again) = (ScramUsers::parse(text.as_bytes()).unwrap(), ScramUsers::parse(text.as_bytes()).unwrap());
        let mut rare = 0;
        for name in (0..3000).map(|n| format!("nobody {n}")) {
            let iterations = users.find(&name).1.iterations;
            assert_eq!(again.find(&name).1.iterations, iterations, "after a restart too");
            rare += usize::from(iterations == often.iterations);
        }
        // A third of the users have it; for 3000 names one standard deviation is 26.
        assert!((850..1150).contains(&rare), "{rare}");
    }

    #[test]
    fn each_malformed_line_is_told_by_its_number() {
        let (secret, good) = (new_secret_line().unwrap(), keys("x"));
        let cases = [
            "ann".to_owned(),
            "ann:x".to_owned(),
            format!(":{good}"),
            ":secret:AAAA".to_owned(),
            secret.clone(),
            format!("ann:{good}x"),
            format!("bob:{good}"),
            format!("ann:{}", good.to_string().replace("4096", "4095")),
            format!("ann:{}", good.to_string().replace("4096", "x")),
        ];
        for case in cases {
            let Err(mistakes) = ScramUsers::parse(format!("{secret}\nbob:{good}\n{case}\n").as_bytes()) else {
                panic!("{case} was accepted")
            };
            assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [3], "{case}");
        }
        assert!(ScramUsers::parse(format!("bob:{good}\n").as_bytes()).is_err(), "no secret");
    }

    #[test]
    fn a_password_is_the_same_however_its_characters_are_composed() {
        let iterations = NonZeroU32::new(ITERATIONS_MIN).unwrap();
        let derive = |password| ScramKeys::derive(password, vec![1], iterations).unwrap().stored_key;
        assert_eq!(derive("I\u{AD}X"), derive("IX"));
        assert_eq!(derive("e\u{301}"), derive("é"));
        assert!(ScramKeys::derive("\u{7}", vec![1], iterations).is_err());
    }
}
