//! Rules one by one, with everything filled in: the few that a client brings itself, and what compiled rules are told
//! to people by and held against.

use std::sync::Arc;

use super::filter::Filter;
use super::policy::Statement;
use super::rule::{Access, Action};
use super::table::{Opening, Part, TableBuilder, is_about_publication};
use super::trie::{Entry, NONE, Room, Taken};
use super::who::Who;
use crate::codec::QoS;

/// From how many rules on those of one client are worth a trie. Below, a list takes less memory, and no more time.
const FEW: usize = 16;

/// A rule whose conditions on the client hold.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub access: Access,
    pub action: Action,
    pub filter: Filter,
    pub qos_max: Option<QoS>,
    pub retain: Option<bool>,
    pub source: Source,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The policy's rule of this number.
    Policy(u32),
    /// The client's own rule of this number.
    Own(u32),
}

/// What is said by the rule that decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ruling {
    pub access: Access,
    pub qos_max: Option<QoS>,
    pub source: Source,
}

/// Rules of one client's own.
#[derive(Debug)]
pub(super) enum Own {
    Few(Box<[Line]>),
    Many(Part),
}

impl Default for Own {
    fn default() -> Own {
        Own::Few(Box::default())
    }
}

impl Line {
    pub fn is_about_publication(&self, qos: QoS, retain: bool) -> bool {
        is_about_publication(self.access, self.action, self.qos_max, self.retain, qos, retain)
    }

    pub fn is_about_subscription(&self) -> bool {
        self.action != Action::Publish
    }

    fn ruling(&self) -> Ruling {
        Ruling { access: self.access, qos_max: self.qos_max, source: self.source }
    }
}

impl Entry {
    pub fn ruling(&self, source: fn(u32) -> Source) -> Ruling {
        Ruling { access: self.access, qos_max: self.qos_max, source: source(self.number) }
    }
}

impl Own {
    /// Rules by their numbers.
    pub fn new(statements: Vec<(u32, Statement)>, who: &Who<'_>) -> Own {
        if statements.len() <= FEW {
            let fill = |(number, statement): &(u32, Statement)| statement.fill(who, Source::Own(*number));
            return Own::Few(statements.iter().filter_map(fill).collect());
        }
        let mut table = TableBuilder::default();
        statements.iter().for_each(|(number, statement)| table.insert(*number, statement, None));
        Own::Many(Part::new(&Arc::new(table.finish()), who, &[]))
    }

    pub fn opening(&self) -> Opening {
        match self {
            // They hardly ever open all; then questions are asked that need not be.
            Own::Few(lines) => {
                let withholds = lines.iter().any(|line| line.access == Access::Deny || line.qos_max.is_some());
                Opening { first: withholds.then_some((0, false)), withholds }
            }
            Own::Many(part) => part.opening(),
        }
    }

    pub fn publish(&self, topic: &str, qos: QoS, retain: bool) -> Option<Ruling> {
        match self {
            Own::Few(lines) => {
                let decides = |line: &&Line| line.is_about_publication(qos, retain) && line.filter.matches(topic);
                lines.iter().find(decides).map(Line::ruling)
            }
            Own::Many(part) => part.publish(topic, qos, retain, None).map(|entry| entry.ruling(Source::Own)),
        }
    }

    pub fn receive(&self, topic: &str) -> Option<Ruling> {
        match self {
            Own::Few(lines) => {
                let decides = |line: &&Line| line.is_about_subscription() && line.filter.matches(topic);
                lines.iter().find(decides).map(Line::ruling)
            }
            Own::Many(part) => part.receive(topic, None).map(|entry| entry.ruling(Source::Own)),
        }
    }

    /// The rule that decides about a subscription to a filter (spelled out), and what those before it take from it; of many,
    /// as far as there is room.
    pub fn subscribe(&self, asked: &str, room: &mut Room, taken: &mut Taken) -> Option<Ruling> {
        match self {
            Own::Few(lines) => {
                for line in lines.iter().filter(|line| line.is_about_subscription()) {
                    if line.filter.covers(asked) {
                        return Some(line.ruling());
                    }
                    if line.filter.overlaps(asked) {
                        taken.take(line.access, line.qos_max);
                    }
                }
                None
            }
            Own::Many(part) => {
                let decides = part.receive(asked, None);
                part.take(asked, decides.map_or(NONE, |entry| entry.number), room, taken);
                decides.map(|entry| entry.ruling(Source::Own))
            }
        }
    }
}
