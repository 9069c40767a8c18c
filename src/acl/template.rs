//! Topic filters with placeholders, and how a client's values get into them.
//!
//! A value is put in as a literal, and only where it is one whole piece of one level: a value that is missing or empty, or
//! holds `+`, `#`, `/` or U+0000, is *unusable*, and so is one that begins with `$` where it would begin the topic. An
//! allow rule with an unusable value matches nothing. A deny rule must not become an opening by that: it denies
//! everything from the level with the placeholder on. So what a client sends as its identifier can cost it rights,
//! never give it any.

use std::fmt;

use super::filter::Filter;
use super::rule::{Access, RuleError};
use super::who::Who;
use crate::codec::topic::{parse_shared, validate_filter};

/// A rule's filter as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// None in what matches every topic there is, which no filter does.
    pieces: Box<[Piece]>,
}

/// One level of a filter as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Text(Box<str>),
    /// `+`.
    Any,
    /// `#`.
    All,
    /// It holds placeholders.
    Value(Slot),
}

/// A level that holds placeholders. Those of one text take one value of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pieces: Box<[Piece]>,
    begins_topic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    Text(Box<str>),
    Value(Placeholder),
}

/// What stands for a value of the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Placeholder {
    /// `${clientid}`.
    ClientId,
    /// `${username}`.
    UserName,
    /// `${cert.cn}`.
    CommonName,
    /// `${jwt.CLAIM}`.
    Claim(Box<str>),
}

impl Placeholder {
    fn named(name: &str) -> Option<Placeholder> {
        Some(match name {
            "clientid" => Placeholder::ClientId,
            "username" => Placeholder::UserName,
            "cert.cn" => Placeholder::CommonName,
            _ => Placeholder::Claim(name.strip_prefix("jwt.").filter(|claim| !claim.is_empty())?.into()),
        })
    }

    fn value<'a>(&self, who: &Who<'a>) -> Option<&'a str> {
        match self {
            Placeholder::ClientId => Some(who.client_id),
            Placeholder::UserName => who.user,
            Placeholder::CommonName => who.common_name,
            Placeholder::Claim(name) => who.claims.get(&**name).map(|value| &**value),
        }
    }
}

impl Template {
    /// Reads a filter with placeholders written `${name}`.
    pub fn parse(text: &str) -> Result<Template, RuleError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').ok_or(RuleError::Unclosed)?;
            pieces.push(Piece::Text(before.into()));
            let placeholder = Placeholder::named(name).ok_or_else(|| RuleError::Placeholder(name.to_owned()))?;
            pieces.push(Piece::Value(placeholder));
            rest = behind;
        }
        pieces.push(Piece::Text(rest.into()));
        Template::new(pieces)
    }

    /// Reads a filter of mosquitto's `pattern` lines: `%c` is the client identifier, `%u` the user name.
    pub fn parse_percent(text: &str) -> Result<Template, RuleError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((at, placeholder)) = first_percent(rest) {
            pieces.push(Piece::Text(rest[..at].into()));
            pieces.push(Piece::Value(placeholder));
            rest = &rest[at + 2..];
        }
        pieces.push(Piece::Text(rest.into()));
        Template::new(pieces)
    }

    /// A filter in which nothing is a placeholder.
    pub fn literal(text: &str) -> Result<Template, RuleError> {
        Template::new(vec![Piece::Text(text.into())])
    }

    /// Matches every topic, also those that begin with `$`.
    pub fn everything() -> Template {
        Template { pieces: Box::default() }
    }

    pub fn is_everything(&self) -> bool {
        self.pieces.is_empty()
    }

    fn new(mut pieces: Vec<Piece>) -> Result<Template, RuleError> {
        pieces.retain(|piece| *piece != Piece::Text(Box::default()));
        // Any value will do: what is put in later is always a literal within one level.
        let example: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Value(_) => "x",
            })
            .collect();
        validate_filter(&example).map_err(RuleError::Filter)?;
        match parse_shared(&example) {
            Some(_) => Err(RuleError::Shared),
            None => Ok(Template { pieces: pieces.into() }),
        }
    }

    /// Its levels. What is put in for a placeholder never makes another of them.
    pub fn levels(&self) -> Vec<Level> {
        let (mut levels, mut level) = (Vec::new(), Vec::new());
        for piece in &self.pieces {
            let Piece::Text(text) = piece else {
                level.push(piece.clone());
                continue;
            };
            for (number, part) in text.split('/').enumerate() {
                if number > 0 {
                    levels.push(std::mem::take(&mut level));
                }
                level.extend((!part.is_empty()).then(|| Piece::Text(part.into())));
            }
        }
        levels.push(level);
        levels.into_iter().enumerate().map(|(number, pieces)| Level::of(pieces, number == 0)).collect()
    }

    /// The filter for one client; `None` if it matches nothing.
    pub fn fill(&self, access: Access, who: &Who<'_>) -> Option<Filter> {
        if self.is_everything() {
            return Some(Filter::everything());
        }
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Value(placeholder) => match placeholder.value(who).filter(|value| is_usable(value, &text)) {
                    Some(value) => text.push_str(value),
                    None if access == Access::Allow => return None,
                    None => return Some(everything_from_the_level(&text)),
                },
            }
        }
        Some(Filter::new(&text))
    }
}

impl Level {
    fn of(pieces: Vec<Piece>, begins_topic: bool) -> Level {
        match &pieces[..] {
            [] => Level::Text(Box::default()),
            [Piece::Text(text)] if **text == *"+" => Level::Any,
            [Piece::Text(text)] if **text == *"#" => Level::All,
            [Piece::Text(text)] => Level::Text(text.clone()),
            _ => Level::Value(Slot { pieces: pieces.into(), begins_topic }),
        }
    }
}

impl Slot {
    /// The level for one client; `None` if a value is unusable.
    pub fn value(&self, who: &Who<'_>) -> Option<Box<str>> {
        // What stands before it matters only in that there is something.
        let before = if self.begins_topic { "" } else { "/" };
        let mut level = before.to_owned();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => level.push_str(text),
                Piece::Value(placeholder) => {
                    level += placeholder.value(who).filter(|value| is_usable(value, &level))?
                }
            }
        }
        Some(level[before.len()..].into())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Value(placeholder) => write!(f, "{placeholder}"),
        })
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Placeholder::ClientId => f.write_str("${clientid}"),
            Placeholder::UserName => f.write_str("${username}"),
            Placeholder::CommonName => f.write_str("${cert.cn}"),
            Placeholder::Claim(name) => write!(f, "${{jwt.{name}}}"),
        }
    }
}

fn first_percent(text: &str) -> Option<(usize, Placeholder)> {
    let client = text.find("%c").map(|at| (at, Placeholder::ClientId));
    let user = text.find("%u").map(|at| (at, Placeholder::UserName));
    client.into_iter().chain(user).min_by_key(|(at, _)| *at)
}

fn is_usable(value: &str, before: &str) -> bool {
    let names_system_topics = before.is_empty() && value.starts_with('$');
    !value.is_empty() && !value.contains(['+', '#', '/', '\0']) && !names_system_topics
}

/// Everything that begins with the whole levels of this text.
fn everything_from_the_level(text: &str) -> Filter {
    match text.rfind('/') {
        Some(separator) => Filter::new(&format!("{}/#", &text[..separator])),
        None => Filter::everything(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_one_level_or_nothing_whatever_it_holds(
            id in "[ab+#/$\\x00{}%*]{0,4}",
            topic in "[ab$]{0,2}(/[ab$]{0,3}){0,4}",
        ) {
            let claims = BTreeMap::new();
            let who = Who {
                client_id: &id,
                user: None,
                common_name: None,
                roles: &[],
                claims: &claims,
                address: None,
                rules: None,
            };
            for (written, level) in [("a/${clientid}/+", 1), ("${clientid}/#", 0), ("+/+/${clientid}", 2)] {
                let template = Template::parse(written).unwrap();
                let named = topic.split('/').nth(level) == Some(&id);
                let allows = template.fill(Access::Allow, &who).is_some_and(|filter| filter.matches(&topic));
                prop_assert!(!allows || named, "{:?} is allowed {} by {}", id, topic, written);
                // What the rule names is denied, however little of it can be written as a filter.
                let names_it = named
                    && crate::codec::topic::filter_matches(&written.replace("${clientid}", "+"), &topic)
                    && (!id.is_empty());
                let denies = template.fill(Access::Deny, &who).is_some_and(|filter| filter.matches(&topic));
                prop_assert!(denies || !names_it, "{:?} is not denied {} by {}", id, topic, written);
            }
        }
    }

    #[test]
    fn a_template_is_written_as_it_was_read() {
        for text in ["a/${clientid}/${username}-${cert.cn}/${jwt.a.b}/#", "+/x", "$x/${clientid}"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Template::parse_percent("%u/a%c%%/x").unwrap().to_string(), "${username}/a${clientid}%%/x");
    }
}
