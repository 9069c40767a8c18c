//! The bans on disk: one JSON file, replaced as a whole, so that a power cut leaves the old list or the new one.
//!
//! ```text
//! {"bans": [{"client_id": "x", "until": 1798761600, "reason": "…"}, {"address": "192.0.2.0/24"}]}
//! ```
//!
//! Each entry names exactly one of `client_id`, `user`, `address`, `pattern`; `until` is in seconds since 1970 and is left
//! out by bans without end. A file that cannot be read is an error and never an empty list.

use super::bans::{Ban, BanError, Bans, Target, UnixTime};
use super::glob::Glob;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Why bans could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum BanFileError {
    /// The system refuses.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// It is not JSON of this form.
    #[error("{}: {source}\n  remedy: correct the file, or move it away to begin with no bans", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// One of the bans is wrong.
    #[error("{}: ban {number}: {source}\n  remedy: correct that entry of the file", file.display())]
    Ban {
        /// The file.
        file: PathBuf,
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        source: BanError,
    },
    /// All of them together are.
    #[error("{}: {source}", file.display())]
    List {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: BanError,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    bans: Vec<Entry>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<UnixTime>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Entry {
    fn ban(self) -> Result<Ban, BanError> {
        let target = match (self.client_id, self.user, self.address, self.pattern) {
            (Some(id), None, None, None) => Target::ClientId(id.into()),
            (None, Some(user), None, None) => Target::User(user.into()),
            (None, None, Some(address), None) => Target::address(&address)?,
            (None, None, None, Some(pattern)) => Target::Pattern(Glob::new(&pattern)?),
            _ => return Err(BanError::Empty),
        };
        Ban::new(target, self.until, self.reason)
    }

    fn of(ban: &Ban) -> Entry {
        let mut entry = Entry { until: ban.until, reason: ban.reason.clone(), ..Entry::default() };
        match &ban.target {
            Target::ClientId(name) => entry.client_id = Some(name.to_string()),
            Target::User(name) => entry.user = Some(name.to_string()),
            Target::Address(network) => entry.address = Some(format!("{}/{}", network.address, network.prefix)),
            Target::Pattern(glob) => entry.pattern = Some(glob.to_string()),
        }
        entry
    }
}

/// Reads the file. One that is not there is a list with nobody on it.
///
/// # Errors
///
/// It cannot be read, or something in it is wrong: then no part of it is used.
pub fn load(file: &Path) -> Result<Bans, BanFileError> {
    let failed = |source| BanFileError::Io { file: file.to_owned(), source };
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Bans::default()),
        Err(error) => return Err(failed(error)),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "is larger than 256MiB")));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    let document: Document =
        serde_json::from_str(&text).map_err(|source| BanFileError::Malformed { file: file.to_owned(), source })?;
    let mut list = Vec::with_capacity(document.bans.len());
    for (index, entry) in document.bans.into_iter().enumerate() {
        let number = index + 1;
        list.push(entry.ban().map_err(|source| BanFileError::Ban { file: file.to_owned(), number, source })?);
    }
    Bans::new(list).map_err(|source| BanFileError::List { file: file.to_owned(), source })
}

/// Changes the file's list: reads it, lets `change` work on it, replaces it. Others who do the same wait meanwhile.
///
/// # Errors
///
/// It cannot be read or written, or the new list is too long: then the file is as it was.
pub fn update<T>(file: &Path, change: impl FnOnce(&mut Vec<Ban>) -> T) -> Result<T, BanFileError> {
    let failed = |source| BanFileError::Io { file: file.to_owned(), source };
    // Of its own, since the list itself is replaced.
    let lock = create(&beside(file, ".lock")).map_err(failed)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    let mut list = load(file)?.list().to_vec();
    let result = change(&mut list);
    let bans = Bans::new(list).map_err(|source| BanFileError::List { file: file.to_owned(), source })?;
    replace(file, bans.list()).map_err(failed)?;
    Ok(result)
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Names and reasons are nobody else's business.
fn create(file: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)
}

fn replace(file: &Path, list: &[Ban]) -> io::Result<()> {
    let document = Document { bans: list.iter().map(Entry::of).collect() };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    let new = beside(file, ".new");
    let mut written = create(&new)?;
    if let Ok(old) = fs::metadata(file) {
        // The broker's user must still be able to read it when root has written it.
        fchown(&written, Some(old.uid()), Some(old.gid()))?;
    }
    written.write_all(&text)?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    // The new name has to reach the disk too.
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ringmq-bans-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn all_kinds() -> Vec<Ban> {
        let targets = [
            Target::ClientId("a \"b\"".into()),
            Target::User("ü".into()),
            Target::address("192.0.2.0/24").unwrap(),
            Target::Pattern(Glob::new("s-*").unwrap()),
        ];
        let ban = |(i, target)| Ban::new(target, (i > 1).then_some(UnixTime(i as u64)), "why".repeat(i)).unwrap();
        targets.into_iter().enumerate().map(ban).collect()
    }

    #[test]
    fn bans_are_as_they_were_after_a_restart_and_nobody_else_reads_them() {
        let file = directory("kept").join("bans.json");
        let _ = fs::remove_file(&file);
        assert!(load(&file).unwrap().list().is_empty(), "no file is no bans");
        update(&file, |list| list.extend(all_kinds())).unwrap();
        assert_eq!(load(&file).unwrap().list(), all_kinds());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(update(&file, |list| list.pop()).unwrap(), all_kinds().pop());
        assert_eq!(load(&file).unwrap().list(), &all_kinds()[..3]);
        assert!(!beside(&file, ".new").exists());
    }

    #[test]
    fn a_list_still_belongs_to_whom_it_belonged_to_when_root_has_changed_it() {
        if !rustix::process::geteuid().is_root() {
            return; // nobody else may give files away
        }
        let file = directory("owned").join("bans.json");
        let _ = fs::remove_file(&file);
        update(&file, |list| list.extend(all_kinds())).unwrap();
        std::os::unix::fs::chown(&file, Some(12_345), Some(54_321)).unwrap();
        update(&file, |list| list.pop()).unwrap();
        let found = fs::metadata(&file).unwrap();
        assert_eq!((found.uid(), found.gid()), (12_345, 54_321));
    }

    #[test]
    fn a_file_that_is_wrong_is_an_error_and_not_an_empty_list() {
        let file = directory("wrong").join("bans.json");
        let cases = [
            ("", "line 1"),
            ("[]", "line 1"),
            ("{\"bans\": [{\"user\": \"u\", \"untill\": 1}]}", "unknown field `untill`"),
            ("{\"bans\": [{\"user\": \"u\"}, {\"address\": \"192.0.2.0/40\"}]}", "ban 2: \"192.0.2.0/40\""),
            ("{\"bans\": [{\"reason\": \"x\"}]}", "ban 1: names nobody"),
            ("{\"bans\": [{\"user\": \"u\", \"client_id\": \"c\"}]}", "ban 1"),
            ("{\"bans\": [{\"pattern\": \"\"}]}", "the pattern is empty"),
            ("{\"bans\": [{\"user\": \"u\", \"until\": -1}]}", "invalid value"),
        ];
        for (text, what) in cases {
            fs::write(&file, text).unwrap();
            let told = load(&file).unwrap_err().to_string();
            assert!(told.contains(what) && told.contains("bans.json"), "{text}: {told}");
            assert!(update(&file, |list| list.clear()).is_err());
            assert_eq!(fs::read_to_string(&file).unwrap(), text, "it is left as it is");
        }
    }
}
