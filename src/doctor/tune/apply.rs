//! Changing a host to what the table wants, and back.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::knob::{Knob, Place};
use super::reading::{Reading, contents, read};
use super::state::{Change, State, StateError};
use super::target::Target;
use super::want::{Want, WantError};

/// Which knobs are applied, and whether really.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Names of knobs; empty for all that `apply` is for. One that only advises has to be named.
    pub only: Vec<String>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What was done about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The knob.
    pub knob: String,
    /// The file, below the root.
    pub path: PathBuf,
    /// What came of it.
    pub what: Outcome,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as wanted already.
    Kept(String),
    /// It was, or with a dry run would be, changed.
    Changed {
        /// From this.
        from: String,
        /// To this.
        to: String,
    },
    /// This host has no such knob.
    Absent,
    /// Its value is of a form that the table does not know: left alone.
    Unlike(String),
    /// Somebody has set it to this since: left alone.
    ChangedSince(String),
    /// It was written, and is not what was written.
    NotTaken(String),
    /// It cannot be written.
    Refused(String),
}

impl Outcome {
    /// True when what was asked for was not done.
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Unlike(_) | Outcome::ChangedSince(_) | Outcome::NotTaken(_) | Outcome::Refused(_))
    }
}

/// Why nothing, or nothing more, was done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Former values cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// The table has no value for such a host.
    #[error(transparent)]
    Want(#[from] WantError),
    /// There is no knob of that name that can be applied.
    #[error("\"{0}\" is no sysctl or /sys knob of the table that matters to this role (ringmq tune check lists them)")]
    Unknown(String),
}

/// Sets every selected knob to the value nearest to its present one that is as wanted.
///
/// # Errors
/// When the selection is wrong, or former values cannot be kept; what was changed until then can be reverted.
pub fn apply(root: &Path, table: &[Knob], target: &Target, selection: &Selection) -> Result<Vec<Done>, ApplyError> {
    let knobs = selected(table, target, selection)?;
    let mut state = State::load(root)?;
    let mut done = Vec::new();
    for knob in knobs {
        let want = knob.want(target)?;
        let set = knob.to_set(target)?;
        match read(root, knob, None) {
            Reading::Values(values) => {
                for value in values {
                    let step = Step { root, knob: &knob.name, path: value.path, former: value.text };
                    let what = step.take(&want, &set, &mut state, selection.dry_run)?;
                    done.push(Done { knob: step.knob.to_owned(), path: step.path, what });
                }
            }
            Reading::Absent | Reading::Elsewhere => {
                done.push(Done { knob: knob.name.clone(), path: PathBuf::new(), what: Outcome::Absent });
            }
        }
    }
    Ok(done)
}

fn selected<'a>(table: &'a [Knob], target: &Target, selection: &Selection) -> Result<Vec<&'a Knob>, ApplyError> {
    let can = |knob: &Knob| {
        let is_file = matches!(knob.place, Place::Sysctl(_) | Place::Sysfs(_));
        is_file && !knob.wanted.is_empty() && target.role.includes(knob.role)
    };
    if selection.only.is_empty() {
        return Ok(table.iter().filter(|knob| can(knob) && knob.is_applied()).collect());
    }
    let named = |name: &String| {
        let knob = table.iter().find(|knob| knob.name == *name && can(knob));
        knob.ok_or_else(|| ApplyError::Unknown(name.clone()))
    };
    selection.only.iter().map(named).collect()
}

/// One file on its way to another value.
struct Step<'a> {
    root: &'a Path,
    knob: &'a str,
    path: PathBuf,
    former: String,
}

impl Step<'_> {
    fn take(&self, want: &Want, set: &Want, state: &mut State, dry_run: bool) -> Result<Outcome, StateError> {
        if want.is_met_by(&self.former) {
            return Ok(Outcome::Kept(self.former.clone()));
        }
        let Some(to) = set.nearest(Some(&self.former)) else { return Ok(Outcome::Unlike(self.former.clone())) };
        let changed = Outcome::Changed { from: self.former.clone(), to: to.clone() };
        if dry_run {
            return Ok(changed);
        }
        let was_known = state.of(&self.path).is_some();
        if !was_known {
            let (knob, path, former) = (self.knob.to_owned(), self.path.clone(), self.former.clone());
            state.changes.push(Change { knob, path, former, set: to.clone() });
            state.save(self.root)?;
        }
        if let Err(error) = fs::write(self.root.join(&self.path), format!("{to}\n")) {
            if !was_known {
                state.changes.pop();
                state.save(self.root)?;
            }
            return Ok(Outcome::Refused(refusal(&error)));
        }
        // The kernel may have rounded it: what it says now is what a revert has to find.
        let now = contents(&self.root.join(&self.path)).unwrap_or_else(|_| to.clone());
        if let Some(change) = state.of(&self.path) {
            change.set.clone_from(&now);
        }
        state.save(self.root)?;
        Ok(if want.is_met_by(&now) { changed } else { Outcome::NotTaken(now) })
    }
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error} (run as root; in a container, set it on the host)"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{error} (in a container, set it on the host)"),
        _ => error.to_string(),
    }
}

/// Restores what was before the first [`apply`], last change first. What somebody else has changed since is left alone
/// and kept on record, unless `force`.
///
/// # Errors
/// When the record cannot be read or written.
pub fn revert(root: &Path, dry_run: bool, force: bool) -> Result<Vec<Done>, StateError> {
    let mut state = State::load(root)?;
    let mut done = Vec::new();
    let mut kept = Vec::new();
    while let Some(change) = state.changes.pop() {
        let what = restore(root, &change, dry_run, force);
        done.push(Done { knob: change.knob.clone(), path: change.path.clone(), what: what.clone() });
        if what.is_failure() {
            kept.insert(0, change);
        }
        if !dry_run {
            let left = state.changes.iter().chain(&kept).cloned();
            State::from_iter(left).save(root)?;
        }
    }
    Ok(done)
}

fn restore(root: &Path, change: &Change, dry_run: bool, force: bool) -> Outcome {
    let path = root.join(&change.path);
    let Ok(now) = contents(&path) else { return Outcome::Absent };
    if now == change.former {
        return Outcome::Kept(now);
    }
    if now != change.set && !force {
        return Outcome::ChangedSince(now);
    }
    if !dry_run && let Err(error) = fs::write(&path, format!("{}\n", change.former)) {
        return Outcome::Refused(refusal(&error));
    }
    match contents(&path) {
        Ok(now) if !dry_run && now != change.former => Outcome::NotTaken(now),
        _ => Outcome::Changed { from: now, to: change.former.clone() },
    }
}

/// The kernel puts tabs between the numbers of a sysctl.
fn one_line(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Outcome::Kept(value) => write!(f, "kept     {}  {}", self.knob, one_line(value))?,
            Outcome::Changed { from, to } => {
                write!(f, "changed  {}  {} -> {}", self.knob, one_line(from), one_line(to))?;
            }
            Outcome::Absent => write!(f, "absent   {}  not on this host", self.knob)?,
            Outcome::Unlike(value) => write!(f, "FAILED   {}  \"{value}\" is of an unknown form", self.knob)?,
            Outcome::ChangedSince(value) => {
                write!(f, "FAILED   {}  was set to {value} by somebody else since (--force restores)", self.knob)?;
            }
            Outcome::NotTaken(value) => write!(f, "FAILED   {}  was written, and is {value}", self.knob)?,
            Outcome::Refused(why) => write!(f, "FAILED   {}  {why}", self.knob)?,
        }
        // Which of several files, where a knob stands for several.
        match self.path.starts_with("sys/devices") {
            true => write!(f, "  (/{})", self.path.display()),
            false => Ok(()),
        }
    }
}
