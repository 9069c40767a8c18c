//! Answers with their reasons, for people.

use std::fmt;

use super::grants::Decided;
use super::line::{Line, Source};
use super::policy::Policy;
use super::rule::Access;
use super::trie::PLACES_MAX;
use super::who::Who;
use super::{Grants, Subscribing};
use crate::codec::QoS;

/// An answer, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it may be done.
    pub is_allowed: bool,
    /// What is granted, and why or why not; some lines.
    pub text: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_allowed { "allowed" } else { "denied" })?;
        self.text.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Policy {
    /// Says whether and why a client may publish.
    pub fn explain_publish(&self, who: &Who<'_>, topic: &str, qos: QoS, retain: bool) -> Explanation {
        let grants = self.grants(who);
        let decided = grants.decide_publish(topic, qos, retain);
        let mut text = self.reason(who, &grants, decided);
        if decided.access() == Access::Allow && !decided.allows(qos) {
            text += &format!("\nat QoS {} at most", decided.qos_max() as u8);
        }
        Explanation { is_allowed: decided.allows(qos), text }
    }

    /// Says whether and why a client may subscribe.
    pub fn explain_subscribe(&self, who: &Who<'_>, filter: &str, qos: QoS) -> Explanation {
        let grants = self.grants(who);
        let Some(asked) = Grants::asked_filter(filter) else {
            return Explanation { is_allowed: false, text: "this is no shared subscription".to_owned() };
        };
        let (decided, taken) = grants.decide_subscribe(asked);
        let mut text = self.reason(who, &grants, decided);
        let subscribing = grants.subscribe(filter, qos);
        if let Subscribing::Granted { qos: granted, checked } = subscribing {
            if granted < qos {
                text += &format!("\ngranted at QoS {} at most", granted as u8);
            }
            if taken.is_rough {
                text += &format!(
                    "\nmore than {PLACES_MAX} places of the rules are a part of it: beyond those it is held to the strictest rule, \
                     whomever that is about"
                );
            }
            if checked {
                text += "\na deny rule before it may be about some of these topics: what it denies is not delivered";
            }
        } else if decided.access() == Access::Deny {
            text += &self.part_of_it(who, asked);
        }
        Explanation { is_allowed: subscribing != Subscribing::Denied, text }
    }

    /// A rule that allows a part of what was asked for: the usual surprise.
    fn part_of_it(&self, who: &Who<'_>, filter: &str) -> String {
        let is_part =
            |line: &&Line| line.access == Access::Allow && line.is_about_subscription() && line.filter.overlaps(filter);
        match self.lines(who).iter().find(is_part) {
            Some(line) => format!("\nonly a part of it is allowed, by {}", self.named(line)),
            None => String::new(),
        }
    }

    fn reason(&self, who: &Who<'_>, grants: &Grants, decided: Decided) -> String {
        match decided {
            Decided::By(ruling) => {
                let lines = self.lines(who);
                let decides = lines.iter().find(|line| line.source == ruling.source);
                decides.map(|line| format!("by {}", self.named(line))).unwrap_or_default()
            }
            Decided::Default(access) => format!("no rule is about it, and the default is {access}"),
            Decided::System(_) if grants.is_admin() => {
                "it begins with $, no rule is about it, and this is an administrator".to_owned()
            }
            Decided::System(_) => {
                "it begins with $: that is for administrators, and where a rule names it by $ itself".to_owned()
            }
        }
    }

    fn named(&self, line: &Line) -> String {
        let Line { access, action, filter, .. } = line;
        let (place, written) = match line.source {
            Source::Own(number) => (format!("rule {number} of its own"), String::new()),
            Source::Policy(number) => self.source(number),
        };
        let filled = if written == filter.text() || written.is_empty() {
            filter.text().to_owned()
        } else {
            format!("{written} (here {})", filter.text())
        };
        format!("{place}: {access} {action} {filled}")
    }
}
