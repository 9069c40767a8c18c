//! From the text of a file to the rules in it, or to the place of the first mistake.

mod document;
mod mosquitto;
mod words;

use serde::{Deserialize, Serialize};

use super::policy::{Draft, Policy};
use super::rule::Access;

/// How a file of rules is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the end of its name (`.json`, `.toml`); otherwise JSON if it begins with `{`, else mosquitto's.
    #[default]
    Auto,
    /// JSON.
    Json,
    /// TOML; the same keys as JSON.
    Toml,
    /// mosquitto's `acl_file`.
    Mosquitto,
}

impl Format {
    /// The format of a file with this name and text.
    fn of(self, name: &str, text: &str) -> Format {
        let ends_with =
            |end: &str| name.len() > end.len() && name.as_bytes().to_ascii_lowercase().ends_with(end.as_bytes());
        match self {
            Format::Auto if ends_with(".json") => Format::Json,
            Format::Auto if ends_with(".toml") => Format::Toml,
            Format::Auto if text.trim_start().starts_with('{') => Format::Json,
            Format::Auto => Format::Mosquitto,
            said => said,
        }
    }
}

/// The first mistake of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl Mistake {
    /// A mistake at a byte of the text.
    fn at(text: &str, offset: usize, what: String) -> Mistake {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Mistake { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, what }
    }
}

impl Policy {
    /// Reads the text of a file. `name` is the file's, by the end of which [`Format::Auto`] goes; `default` is for what
    /// no rule is about, if the text doesn't say. A text without any rule, and without a default of its own, denies all.
    ///
    /// # Errors
    ///
    /// The first mistake in the text.
    pub fn from_text(
        name: &str,
        text: &str,
        format: Format,
        default: Access,
        admins: &[String],
    ) -> Result<Policy, Mistake> {
        let draft = read(name, text, format)?;
        let default = if draft.sections.is_empty() { Access::Deny } else { default };
        Ok(Policy::new(draft, default, admins))
    }
}

/// Reads the rules of a file; `name` is its name, for what its end says.
fn read(name: &str, text: &str, format: Format) -> Result<Draft, Mistake> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format.of(name, text) {
        // No document, but no rules either: it was made with `touch`, or the disk was full.
        _ if text.trim().is_empty() => Ok(Draft::default()),
        Format::Json => document::read_json(text),
        Format::Toml => document::read_toml(text),
        Format::Mosquitto | Format::Auto => mosquitto::read(text),
    }
}
