//! What was before: the file that `apply` keeps and `revert` restores from.
//!
//! An entry is on disk before its knob is touched, so that whatever ends the program, nothing is changed that cannot be
//! undone. An entry's former value never changes while it is there: to apply twice is to apply once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The form of the file.
const VERSION: u32 = 1;

/// Where it is, below the root.
pub const STATE_FILE: &str = "var/lib/ringmq/tuning.json";

/// One file that was written to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The knob.
    pub knob: String,
    /// The file, below the root.
    pub path: PathBuf,
    /// What was in it.
    pub former: String,
    /// What it said after it was last written.
    pub set: String,
}

/// All that is to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// In the order in which they were made.
    pub changes: Vec<Change>,
}

impl FromIterator<Change> for State {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> State {
        State { version: VERSION, changes: changes.into_iter().collect() }
    }
}

/// Why former values cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file or its directory cannot be read or written.
    #[error("former values are kept in {path}: {error}{}", hint(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is not ours, or of a newer program.
    #[error("{path} is not a record of former values that this program can read: {what}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied { " (run as root)" } else { "" }
}

impl State {
    /// Reads it; empty where there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn load(root: &Path) -> Result<State, StateError> {
        let path = root.join(STATE_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::from_iter([])),
            Err(error) => return Err(StateError::Io { path, error }),
        };
        let state: State = serde_json::from_str(&text)
            .map_err(|error| StateError::Form { path: path.clone(), what: error.to_string() })?;
        if state.version != VERSION {
            let what = format!("its version is {}, not {VERSION}", state.version);
            return Err(StateError::Form { path, what });
        }
        Ok(state)
    }

    /// Writes it, all or nothing; an empty one is no file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, root: &Path) -> Result<(), StateError> {
        let path = root.join(STATE_FILE);
        self.replace(&path).map_err(|error| StateError::Io { path, error })
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        if self.changes.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    }

    /// The entry of a file, if it was written to before.
    pub fn of(&mut self, path: &Path) -> Option<&mut Change> {
        self.changes.iter_mut().find(|change| change.path == path)
    }
}
