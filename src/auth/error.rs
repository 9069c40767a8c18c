//! Why a method cannot be used: told at start, by `check-config`, and when files are loaded anew.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The most mistakes of one file that are told.
const MISTAKES_MAX: usize = 20;

/// What is wrong with the methods, each by the configuration's key.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(AuthError::to_string).collect::<Vec<_>>().join("\n"))]
pub struct AuthErrors(pub Vec<AuthError>);

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file cannot be read.
    #[error("{key}: {}: {source}\n  remedy: give the path of a file that the broker's user can read", file.display())]
    Unreadable {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file has mistakes; nothing of it is used.
    #[error("{key}: {}\n  remedy: correct the file; nothing of it is used until then", mistakes_text(file, mistakes))]
    Malformed {
        /// The key that names the file.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong.
        mistakes: Vec<Mistake>,
    },
    /// A value cannot be used.
    #[error("{key}: {what}\n  remedy: {remedy}")]
    Unusable {
        /// The key.
        key: &'static str,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The system has no thread left, or no random numbers.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl AuthError {
    /// The system gave no random numbers.
    pub(super) fn no_random(source: impl Into<io::Error>) -> AuthError {
        AuthError::System { what: "random numbers cannot be had", source: source.into() }
    }
}

/// A mistake in a file. It never repeats what stands there: that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Mistake {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Mistake {
        Mistake { line, what: what.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

/// The file, and below it a line for each mistake.
pub(crate) fn mistakes_text(file: &Path, mistakes: &[Mistake]) -> String {
    let mut text = file.display().to_string();
    for mistake in mistakes.iter().take(MISTAKES_MAX) {
        text.push_str(&format!("\n  {mistake}"));
    }
    if mistakes.len() > MISTAKES_MAX {
        text.push_str(&format!("\n  and {} more", mistakes.len() - MISTAKES_MAX));
    }
    text
}
