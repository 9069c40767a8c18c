//! The password file: `user:hash` lines, ours and mosquitto's.
//!
//! A line that cannot be read is a mistake of the whole file, never a user: with one mistake nothing of it is used.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::hash::{Cost, Hash};
use crate::auth::error::Mistake;
use crate::auth::files::{self, UserLine, check_name, user_lines};

/// The users of a file and their hashes.
pub(crate) struct Users {
    by_name: HashMap<Box<str>, Hash>,
    /// What unknown users' passwords are held against: one for each cost in the file, never right, and up to which user it
    /// is the one, counted by cost.
    decoys: Vec<(usize, Hash)>,
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
            true => Ok(Users { decoys: decoys(&by_name), by_name }),
            false => Err(mistakes),
        }
    }

    /// The hash that a user's password is held against, and whether there is such a user at all.
    pub(super) fn find(&self, user: &str) -> (bool, &Hash) {
        match self.by_name.get(user) {
            Some(hash) => (true, hash),
            None => (false, self.decoy(user)),
        }
    }

    /// The decoy of a name: always the same one, and over all names as often of each cost as users of the file are. So what
    /// a name costs does not tell whether it is a user's.
    fn decoy(&self, user: &str) -> &Hash {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let users = self.decoys.last().map_or(0, |(up_to, _)| *up_to);
        // A fraction of the users, so that a few more or fewer of them leave most names where they are.
        let at = (u128::from(KEY.hash_one(user)) * users as u128) >> 64;
        let index = self.decoys.partition_point(|(up_to, _)| *up_to as u128 <= at);
        &self.decoys[index].1
    }
}

fn read(line: &UserLine<'_>) -> Result<Hash, Mistake> {
    let mistake = |what| Mistake::new(line.line, what);
    check_name(line.name).map_err(mistake)?;
    Hash::parse(line.rest).map_err(mistake)
}

/// A decoy for each cost; the default one if there are no users.
fn decoys(users: &HashMap<Box<str>, Hash>) -> Vec<(usize, Hash)> {
    let mut counts: BTreeMap<Cost, usize> = BTreeMap::new();
    for hash in users.values() {
        *counts.entry(hash.cost()).or_default() += 1;
    }
    if counts.is_empty() {
        counts.insert(Cost::DEFAULT, 1);
    }
    let mut up_to = 0;
    let decoy = |(cost, count): (Cost, usize)| {
        up_to += count;
        (up_to, Hash::decoy(cost))
    };
    counts.into_iter().map(decoy).collect()
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
    fn what_a_name_costs_does_not_tell_whether_it_is_a_users() {
        let ours = Hash::of(b"x", Cost::CHEAP).unwrap();
        let text = format!("a:{ours}\nb:{}\nc:{ours}\n", Hash::of(b"x", Cost::Sha512).unwrap());
        let users = Users::parse(text.as_bytes()).unwrap();
        let mut quick = 0;
        for name in (0..3000).map(|n| format!("nobody {n}")) {
            let (known, decoy) = users.find(&name);
            assert!(!known && !decoy.verify(b"x", &mut Scratch::default()));
            assert_eq!(users.find(&name).1.cost(), decoy.cost(), "each time");
            quick += usize::from(decoy.cost() == Cost::Sha512);
        }
        // A third of the users have it; for 3000 names one standard deviation is 26.
        assert!((850..1150).contains(&quick), "{quick}");
        assert_eq!(Users::parse(b"").unwrap().find("nobody").1.cost(), Cost::DEFAULT);
    }
}
