//! mosquitto's `acl_file` (mosquitto.conf(5), `acl_file`).
//!
//! `topic` lines before the first `user` line are for clients without a user name, those behind it for that user, and
//! `pattern` lines, wherever they stand, for everybody. Denials come before what they stand among, as they do there.
//! One thing is stricter here: mosquitto grants every subscription and leaves out what may not be read when it delivers;
//! here a filter that reaches beyond what may be read is refused.

use super::Mistake;
use crate::acl::name::Name;
use crate::acl::policy::{Draft, Statement, Whom};
use crate::acl::rule::{Access, Action, RuleError};
use crate::acl::template::Template;

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Draft, Mistake> {
    let mut reader = Reader { sections: vec![(Some(None), Vec::new())], patterns: Vec::new(), section: 0 };
    let mut start = 0;
    for (number, line) in text.split('\n').enumerate() {
        reader.line(line.trim_end(), number + 1).map_err(|(column, what)| Mistake::at(text, start + column, what))?;
        start += line.len() + 1;
    }
    Ok(reader.draft())
}

struct Reader<'a> {
    /// Rules by whom they are about: the anonymous first, then each user.
    sections: Vec<(Option<Option<&'a str>>, Vec<Statement>)>,
    patterns: Vec<Statement>,
    /// The section that `topic` lines go to.
    section: usize,
}

impl<'a> Reader<'a> {
    /// Reads one line. Errors: where in it the mistake is, in bytes, and what it is.
    fn line(&mut self, line: &'a str, number: usize) -> Result<(), (usize, String)> {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            return Ok(());
        }
        let (keyword, rest) = content.split_once([' ', '\t']).unwrap_or((content, ""));
        let rest = rest.trim_start();
        if rest.is_empty() && matches!(keyword, "user" | "topic" | "pattern") {
            return Err((line.len(), format!("nothing follows \"{keyword}\"")));
        }
        let wrong = |(left, what): (usize, String)| (line.len() - left, what);
        match keyword {
            "user" => self.user(rest),
            "topic" => {
                let statement = statement(rest, number, Template::literal).map_err(wrong)?;
                self.sections[self.section].1.push(statement);
            }
            "pattern" => self.patterns.push(statement(rest, number, Template::parse_percent).map_err(wrong)?),
            unknown => {
                let known = "lines of a mosquitto acl_file begin with user, topic, pattern or #";
                return Err((line.len() - content.len(), format!("\"{unknown}\" is no keyword: {known}")));
            }
        }
        Ok(())
    }

    fn user(&mut self, name: &'a str) {
        let known = self.sections.iter().position(|(whom, _)| *whom == Some(Some(name)));
        self.section = known.unwrap_or_else(|| {
            self.sections.push((Some(Some(name)), Vec::new()));
            self.sections.len() - 1
        });
    }

    fn draft(self) -> Draft {
        let mut draft = Draft::default();
        for (whom, mut statements) in self.sections.into_iter().chain([(None, self.patterns)]) {
            statements.sort_by_key(|statement| statement.access == Access::Allow);
            let whom = match whom {
                None => Whom::default(),
                Some(None) => Whom { anonymous: true, ..Whom::default() },
                Some(Some(user)) => Whom { users: Some(vec![Name::Exact(user.into())]), ..Whom::default() },
            };
            if !statements.is_empty() {
                draft.sections.push((whom, statements));
            }
        }
        draft
    }
}

/// `[read|write|readwrite|deny] filter`. Of two words the first is always such a word, as it is for mosquitto: were it
/// taken for a part of the filter, a misspelt `deny` would deny nothing.
///
/// Errors: how many bytes before the end the mistake is, and what it is.
fn statement(
    text: &str,
    number: usize,
    template: fn(&str) -> Result<Template, RuleError>,
) -> Result<Statement, (usize, String)> {
    let ((access, action), filter) = match text.split_once([' ', '\t']) {
        None => ((Access::Allow, Action::Both), text),
        Some((word, filter)) => (meaning(word).ok_or_else(|| (text.len(), unknown(word)))?, filter.trim_start()),
    };
    let filter = template(filter).map_err(|error| (filter.len(), error.to_string()))?;
    let place = format!("line {number}").into();
    Ok(Statement { access, action, filter, qos_max: None, retain: None, addresses: Vec::new(), place })
}

fn unknown(word: &str) -> String {
    format!("\"{word}\" is no access: write read, write, readwrite or deny (also before a filter that holds spaces)")
}

fn meaning(word: &str) -> Option<(Access, Action)> {
    Some(match word {
        "read" => (Access::Allow, Action::Subscribe),
        "write" => (Access::Allow, Action::Publish),
        "readwrite" => (Access::Allow, Action::Both),
        "deny" => (Access::Deny, Action::Both),
        _ => return None,
    })
}
