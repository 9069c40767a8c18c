//! What is told about a scenario that can't be run: where, what is wrong, what to do.

use std::fmt;
use std::sync::Arc;

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}\n  remedy: {remedy}", prefix(.origin, .key))]
pub struct ScenarioError {
    /// Where the value was given.
    pub origin: Origin,
    /// The key, with all that it lies in: `groups.sensors.publish.0.qos`. Empty when it is about no one key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody wrote it.
    #[default]
    Nowhere,
    /// A place in a file; both counted from 1.
    File {
        /// The file, as it was named.
        file: Arc<str>,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// An option of the command line, as it was given.
    Option(Arc<str>),
}

/// How alike (0 to 1) a known name must be to an unknown one to be suggested for it.
const SIMILARITY_MIN: f64 = 0.65;

/// "did you mean …?" for a name that is nearly a known one, else the list of those.
pub(super) fn suggestion<'a>(name: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let alike = known.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known));
    match alike.filter(|(alike, _)| *alike >= SIMILARITY_MIN).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, nearest)) => format!("did you mean {nearest}?"),
        None if known.is_empty() => format!("there are no {what}"),
        None => format!("the {what} are {}", known.join(", ")),
    }
}

fn prefix(origin: &Origin, key: &str) -> String {
    let parts = [origin.to_string(), key.to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).map(|part| part + ": ").collect()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Option(option) => f.write_str(option),
        }
    }
}
