//! Files that hold secrets: how they are read, and what lines of users look like.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tracing::warn;
use zeroize::Zeroizing;

use super::error::{AuthError, Mistake};

/// The largest file that is read: about a million users.
const BYTES_MAX: u64 = 256 << 20;
/// Permission bits that let others than the owner in.
const OTHERS: u32 = 0o077;

/// Reads a file that holds secrets; warns when others may read or write it.
pub(super) fn read_secret(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    read(path, true).map_err(|source| AuthError::Unreadable { key, file: path.to_owned(), source })
}

/// Reads a file that everybody may read: public keys, certificates.
pub(super) fn read_public(key: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, AuthError> {
    read(path, false).map_err(|source| AuthError::Unreadable { key, file: path.to_owned(), source })
}

fn read(path: &Path, secret: bool) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.permissions().mode();
    if secret && is_open_to_others(mode) {
        warn!("{}: mode {:04o} lets others at its secrets; chmod 600 it", path.display(), mode & 0o7777);
    }
    // Reserved at once: a buffer that grows leaves copies of its content behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(BYTES_MAX) as usize + 1));
    let read = (&mut file).take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match read as u64 > BYTES_MAX {
        true => Err(io::Error::other(format!("more than {BYTES_MAX} bytes"))),
        false => Ok(bytes),
    }
}

fn is_open_to_others(mode: u32) -> bool {
    mode & OTHERS != 0
}

/// A line of a file of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserLine<'a> {
    /// Counted from 1.
    pub line: usize,
    /// What stands before the first colon.
    pub name: &'a str,
    /// What stands behind it.
    pub rest: &'a str,
}

/// The lines of a file of users, `name:…`. Empty lines and those that begin with `#` say nothing.
pub(crate) fn user_lines(text: &str) -> impl Iterator<Item = Result<UserLine<'_>, Mistake>> {
    let told = text.lines().enumerate().filter(|(_, line)| says_something(line));
    told.map(|(index, line)| {
        let (name, rest) =
            line.split_once(':').ok_or_else(|| Mistake::new(index + 1, "no colon behind the user name"))?;
        Ok(UserLine { line: index + 1, name, rest })
    })
}

fn says_something(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#')
}

/// The text of a file of users.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Vec<Mistake>> {
    std::str::from_utf8(bytes).map_err(|error| {
        let newlines = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        vec![Mistake::new(newlines + 1, "not UTF-8")]
    })
}

/// Whether a name can stand in a file of users.
///
/// # Errors
///
/// Says what is wrong with it.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("the user name is empty"),
        _ if name.starts_with('#') => Err("the user name begins with #, as comments do"),
        _ if name.contains(':') => Err("the user name holds a colon"),
        _ if name.trim() != name => Err("the user name begins or ends with a space"),
        _ if name.chars().any(char::is_control) => Err("the user name holds a control character"),
        _ if name.len() > usize::from(u16::MAX) => Err("the user name is longer than MQTT allows"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_nothing_are_passed_over_and_still_counted() {
        let lines: Vec<_> = user_lines("# a comment\n\nann:x:y\r\nbob\n").collect();
        assert_eq!(lines[0], Ok(UserLine { line: 3, name: "ann", rest: "x:y" }));
        assert_eq!(lines[1].as_ref().unwrap_err().line, 4);
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn names_that_would_read_otherwise_than_they_were_written_are_refused() {
        for name in ["", "#ann", "a:b", " ann", "ann\n", "a\0b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(check_name("Änn o'Neill #1"), Ok(()));
    }

    #[test]
    fn modes_wider_than_the_owners_are_noticed() {
        assert!([0o640, 0o604, 0o660, 0o100_644].into_iter().all(is_open_to_others));
        assert!(![0o600, 0o400, 0o100_700].into_iter().any(is_open_to_others));
    }
}
