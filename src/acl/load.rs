//! Policies from files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::policy::Policy;
use super::read::Mistake;
use super::rule::Access;
use crate::config::Acl;

/// The largest file of rules.
pub const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why there are no rules to go by.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("{}: {source}\n  remedy: name a file that the broker may read: acl.file", file.display())]
    Unreadable {
        /// The file, as it was named.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than [`FILE_BYTES_MAX`].
    #[error("{}: larger than 64 MiB\n  remedy: bind users to roles, instead of listing what each may", file.display())]
    TooLarge {
        /// The file, as it was named.
        file: PathBuf,
    },
    /// Something in it is no rule.
    #[error(
        "{}:{mistake}\n  remedy: correct the file; until then nobody comes in, or the rules stay that are in force",
        file.display()
    )]
    Malformed {
        /// The file, as it was named.
        file: PathBuf,
        /// Where and what.
        mistake: Mistake,
    },
}

impl Policy {
    /// Reads what `[acl]` names.
    ///
    /// # Errors
    ///
    /// The file cannot be read or has a mistake: a broker that starts refuses to, one that runs keeps the policy it has.
    pub fn load(acl: &Acl) -> Result<Policy, PolicyError> {
        let Some(file) = &acl.file else {
            return Ok(Policy::without_rules(acl.default.unwrap_or(Access::Allow), &acl.admins));
        };
        let text = read_text(file)?;
        let default = acl.default.unwrap_or(Access::Deny);
        Policy::from_text(&file.to_string_lossy(), &text, acl.format, default, &acl.admins)
            .map_err(|mistake| PolicyError::Malformed { file: file.clone(), mistake })
    }
}

fn read_text(file: &Path) -> Result<String, PolicyError> {
    let unreadable = |source| PolicyError::Unreadable { file: file.to_owned(), source };
    let mut text = String::new();
    let limited = File::open(file).map_err(unreadable)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    match limited.map_err(unreadable)? as u64 {
        0..=FILE_BYTES_MAX => Ok(text),
        _ => Err(PolicyError::TooLarge { file: file.to_owned() }),
    }
}
