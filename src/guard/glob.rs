//! Patterns for client identifiers: `*` is any text, `?` is one character, everything else is itself.
//!
//! Not regular expressions: those can be written so that a client chooses how long they take (CVE-2026-44838 is of
//! that kind). Here the time is at most the product of both lengths, and both are bounded.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Box<str>);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It would match nothing but the empty text.
    #[error("the pattern is empty, expected one like \"sensor-*\"")]
    Empty,
    /// It is too long.
    #[error("the pattern has {0} bytes, expected {PATTERN_BYTES_MAX} at most")]
    TooLong(usize),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// It is empty or too long.
    pub fn new(pattern: &str) -> Result<Glob, GlobError> {
        match pattern.len() {
            0 => Err(GlobError::Empty),
            1..=PATTERN_BYTES_MAX => Ok(Glob(pattern.into())),
            len => Err(GlobError::TooLong(len)),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first wildcard: a text that it matches begins with it.
    pub fn literal_prefix(&self) -> &str {
        self.0.split(['*', '?']).next().unwrap_or_default()
    }

    /// True if it matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (&*self.0, text);
        // What follows the last star, and the text that it was tried on last.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut after = pattern.chars();
            match (after.next(), rest.chars().next()) {
                (Some('*'), _) => {
                    pattern = after.as_str();
                    retry = Some((pattern, rest));
                    continue;
                }
                (Some(wanted), Some(there)) if wanted == there || wanted == '?' => {
                    (pattern, rest) = (after.as_str(), &rest[there.len_utf8()..]);
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            // The last star takes one character more. Earlier ones need not: what it can do they could not do better.
            let Some((after_star, tried)) = retry else { return false };
            let Some(skipped) = tried.chars().next() else { return false };
            (pattern, rest) = (after_star, &tried[skipped.len_utf8()..]);
            retry = Some((pattern, rest));
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Glob {
    type Error = GlobError;

    fn try_from(pattern: String) -> Result<Glob, GlobError> {
        Glob::new(&pattern)
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> String {
        glob.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skip| naive(rest, &text[skip..])),
            Some((wanted, rest)) => {
                text.split_first().is_some_and(|(there, text)| (*wanted == '?' || wanted == there) && naive(rest, text))
            }
        }
    }

    proptest! {
        #[test]
        fn it_matches_what_the_definition_matches(pattern in "[ab*?é]{1,7}", text in "[abé]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let glob = Glob::new(&pattern).unwrap();
            prop_assert_eq!(glob.matches(&text), naive(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn what_it_matches_begins_with_its_literal_prefix(pattern in "[ab*?]{1,5}", text in "[ab]{0,6}") {
            let glob = Glob::new(&pattern).unwrap();
            prop_assert!(!glob.matches(&text) || text.starts_with(glob.literal_prefix()));
        }
    }

    #[test]
    fn a_pattern_that_explodes_as_a_regular_expression_takes_no_time() {
        let glob = Glob::new(&"a*".repeat(PATTERN_BYTES_MAX / 2)).unwrap();
        // Exponential backtracking would not end in this universe; the product of the lengths is 2^24.
        assert!(!glob.matches(&"b".repeat(65_535)));
        assert!(!Glob::new(&format!("{}b", "*a".repeat(100))).unwrap().matches(&"a".repeat(65_535)));
    }

    #[test]
    fn characters_that_other_languages_reserve_are_themselves() {
        for text in ["a.b", "[ab]", "(a|b)+", "a\\b", "a+b/#"] {
            assert!(Glob::new(text).unwrap().matches(text));
        }
        assert!(!Glob::new("a.b").unwrap().matches("axb"));
        assert_eq!(Glob::new(""), Err(GlobError::Empty));
        assert_eq!(Glob::new(&"x".repeat(257)), Err(GlobError::TooLong(257)));
    }
}
