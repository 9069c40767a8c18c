//! The password file: `user:hash` lines, ours and mosquitto's.
//!
//! A line that cannot be read is a mistake of the whole file, never a user: with one mistake nothing of it is used.

use std::collections::HashMap;

use super::hash::{Cost, Hash};
use crate::auth::error::Mistake;
use crate::auth::files::{self, UserLine, check_name, user_lines};

/// The users of a file and their hashes.
pub(crate) struct Users {
    by_name: HashMap<Box<str>, Hash>,
    /// What an unknown user's password is held against: as costly as those of the file, and never right.
    decoy: Hash,
}

impl Users {
    /// Reads a file's content.
    ///
    /// # Errors
    ///
    /// Each line that is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Users, Vec<Mistake>> {
        let (mut by_name, mut mistakes) = (HashMap::new(), Vec::new());
        for line in user_lines(files::text(bytes)?) {
            match line.and_then(|line| Ok((line, read(&line)?))) {
                Ok((UserLine { line, name, .. }, hash)) => {
                    if by_name.insert(Box::from(name), hash).is_some() {
                        mistakes.push(Mistake::new(line, "this user was listed before"));
                    }
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        match mistakes.is_empty() {
            true => Ok(Users { decoy: decoy(&by_name), by_name }),
            false => Err(mistakes),
        }
    }

    /// The hash that a user's password is held against, and whether there is such a user at all.
    pub(super) fn find(&self, user: &str) -> (bool, &Hash) {
        match self.by_name.get(user) {
            Some(hash) => (true, hash),
            None => (false, &self.decoy),
        }
    }
}

fn read(line: &UserLine<'_>) -> Result<Hash, Mistake> {
    let mistake = |what| Mistake::new(line.line, what);
    check_name(line.name).map_err(mistake)?;
    Hash::parse(line.rest).map_err(mistake)
}

/// As costly as most of them.
fn decoy(users: &HashMap<Box<str>, Hash>) -> Hash {
    let mut counts: HashMap<Cost, usize> = HashMap::new();
    for hash in users.values() {
        *counts.entry(hash.cost()).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map_or(Cost::DEFAULT, |(cost, _)| cost);
    Hash::decoy(most)
}

#[cfg(test)]
mod tests {
    use super::super::Scratch;
    use super::*;

    fn lines_of(text: &str) -> Vec<usize> {
        match Users::parse(text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.into_iter().map(|mistake| mistake.line).collect(),
        }
    }

    #[test]
    fn each_malformed_line_is_told_by_its_number_and_none_becomes_a_user() {
        let good = Hash::of(b"x", Cost::CHEAP).unwrap();
        let cases = [
            "ann",
            "ann:",
            ":x",
            "ann:plain",
            "ann:$5$a$b",
            "ann:$7$0$AAAA$AAAA",
            "ann:$7$x$AAAA$AAAA",
            "ann:$6$AAAA",
            "ann:$6$AAAA$",
            "ann:$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAA",
            "ann:$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            " ann:$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        ];
        for case in cases {
            assert_eq!(lines_of(&format!("# comment\nbob:{good}\n{case}\n")), [3], "{case}");
        }
        assert_eq!(lines_of(&format!("a\nbob:{good}\nb\nbob:{good}\n")), [1, 3, 4]);
        assert!(lines_of("# only\n\n").is_empty());
    }

    #[test]
    fn a_mistake_never_repeats_what_stands_in_the_file() {
        let Err(mistakes) = Users::parse(b"ann:swordfish\nswordfish\n") else { panic!("accepted") };
        assert!(!format!("{mistakes:?}").contains("swordfish"));
    }

    #[test]
    fn bytes_that_are_no_text_are_told_by_their_line() {
        let Err(mistakes) = Users::parse(b"# a\n# b\nann:\xFF\n") else { panic!("accepted") };
        assert_eq!(mistakes[0].line, 3);
    }

    #[test]
    fn an_unknown_user_costs_what_most_known_ones_do() {
        let ours = Hash::of(b"x", Cost::CHEAP).unwrap();
        let text = format!("a:{ours}\nb:{}\nc:{ours}\n", Hash::of(b"x", Cost::Sha512).unwrap());
        let users = Users::parse(text.as_bytes()).unwrap();
        let (known, decoy) = users.find("nobody");
        assert!(!known);
        assert_eq!(decoy.cost(), ours.cost());
        assert!(!decoy.verify(b"x", &mut Scratch::default()));
        assert_eq!(Users::parse(b"").unwrap().find("nobody").1.cost(), Cost::DEFAULT);
    }
}
