//! Rules that many clients are asked about by: compiled once and shared, whatever placeholders and conditions they hold.
//! A client has nothing of its own but the values that it puts in, and which conditions hold of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::policy::{Statement, Whom};
use super::rule::{Access, Action, Network, is_where};
use super::template::{Level, Slot};
use super::trie::{Builder, Client, Entry, NONE, Room, Step, Taken, Trie};
use super::who::Who;
use crate::codec::QoS;

/// See the module's description.
#[derive(Debug)]
pub(super) struct Table {
    trie: Trie,
    /// The placeholders in it, by their numbers.
    slots: Box<[Slot]>,
    /// What rules ask of a client, by number.
    conditions: Box<[Condition]>,
    /// Those rules that open all, or withhold something.
    turning: Box<[Turning]>,
}

/// What a rule asks of a client besides its values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Condition {
    whom: Option<Arc<Whom>>,
    addresses: Box<[Network]>,
    /// What the rule says of it, where the address is unknown.
    access: Access,
}

#[derive(Debug)]
struct Turning {
    entry: Entry,
    opens: bool,
}

/// What is one client's own.
#[derive(Debug)]
pub(super) struct Values {
    levels: Box<[Option<Box<str>>]>,
    /// A bit for each condition.
    holds: Box<[u64]>,
}

/// A table as one client has it.
#[derive(Debug)]
pub(super) struct Part {
    table: Arc<Table>,
    /// `None` where the table asks nothing of a client.
    values: Option<Box<Values>>,
}

/// The first of a client's rules that opens all or withholds something, and whether any withholds something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// Its number, and whether it opens all.
    pub first: Option<(u32, bool)>,
    pub withholds: bool,
}

/// A table that is being made.
#[derive(Default)]
pub(super) struct TableBuilder {
    trie: Builder,
    slots: Numbered<Slot>,
    conditions: Numbered<Condition>,
    turning: Vec<Turning>,
}

/// Different things, each with a number.
struct Numbered<T> {
    by_thing: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Numbered<T> {
        Numbered { by_thing: HashMap::new() }
    }
}

impl<T: Eq + Hash> Numbered<T> {
    fn number(&mut self, thing: T) -> u32 {
        let next = self.by_thing.len() as u32;
        *self.by_thing.entry(thing).or_insert(next)
    }

    fn in_order(self) -> Box<[T]> {
        let mut things: Vec<(T, u32)> = self.by_thing.into_iter().collect();
        things.sort_unstable_by_key(|(_, number)| *number);
        things.into_iter().map(|(thing, _)| thing).collect()
    }
}

impl TableBuilder {
    /// Adds a rule; rules come in the order they are asked in. `whom`: it is asked of these clients, where the table is
    /// also that of others.
    pub fn insert(&mut self, number: u32, statement: &Statement, whom: Option<&Arc<Whom>>) {
        let Statement { access, action, qos_max, retain, .. } = *statement;
        let when = match (whom, &*statement.addresses) {
            (None, []) => NONE,
            (whom, addresses) => {
                let access = if addresses.is_empty() { Access::Allow } else { access };
                self.conditions.number(Condition { whom: whom.cloned(), addresses: addresses.into(), access })
            }
        };
        let entry = Entry { number, when, without: NONE, access, action, qos_max, retain };
        if entry.may_withhold() {
            self.turning.push(Turning { entry, opens: false });
        } else if statement.opens_all() {
            self.turning.push(Turning { entry, opens: true });
        }
        match statement.filter.is_everything() {
            true => self.trie.insert_everywhere(entry),
            false => self.insert_levels(&statement.filter.levels(), entry),
        }
    }

    fn insert_levels(&mut self, levels: &[Level], entry: Entry) {
        let mut steps = Vec::new();
        for level in levels {
            steps.push(match level {
                Level::Text(text) => Step::Text(text),
                Level::Any => Step::Any,
                Level::All => return self.trie.insert(&steps, true, entry),
                Level::Value(slot) => {
                    let number = self.slots.number(slot.clone());
                    if entry.access == Access::Deny {
                        self.deny_without(number, &steps, entry);
                    }
                    Step::Value(number)
                }
            });
        }
        self.trie.insert(&steps, false, entry);
    }

    /// What a deny rule cannot name for want of a value, it denies with everything from there on.
    fn deny_without(&mut self, slot: u32, steps: &[Step<'_>], entry: Entry) {
        let entry = Entry { without: slot, ..entry };
        match steps {
            [] => self.trie.insert_everywhere(entry),
            steps => self.trie.insert(steps, true, entry),
        }
    }

    pub fn finish(self) -> Table {
        Table {
            trie: self.trie.finish(),
            slots: self.slots.in_order(),
            conditions: self.conditions.in_order(),
            turning: self.turning.into(),
        }
    }
}

impl Entry {
    pub fn may_withhold(&self) -> bool {
        self.access == Access::Deny || self.qos_max.is_some()
    }
}

impl Table {
    /// Whether it holds no rule.
    pub fn is_empty(&self) -> bool {
        self.trie.is_empty()
    }
}

impl Condition {
    fn holds(&self, who: &Who<'_>, roles: &[&str]) -> bool {
        self.whom.as_ref().is_none_or(|whom| whom.holds(who, roles))
            && is_where(&self.addresses, who.address, self.access)
    }
}

impl Values {
    fn new(table: &Table, who: &Who<'_>, roles: &[&str]) -> Values {
        let mut holds = vec![0; table.conditions.len().div_ceil(64)];
        for (number, condition) in table.conditions.iter().enumerate() {
            holds[number / 64] |= u64::from(condition.holds(who, roles)) << (number % 64);
        }
        Values { levels: table.slots.iter().map(|slot| slot.value(who)).collect(), holds: holds.into() }
    }
}

impl Client for Option<Box<Values>> {
    #[inline]
    fn value(&self, placeholder: u32) -> Option<&str> {
        self.as_ref()?.levels.get(placeholder as usize)?.as_deref()
    }

    #[inline]
    fn is_meant(&self, entry: &Entry) -> bool {
        let has = |condition: u32| {
            let bits = self.as_ref().and_then(|values| values.holds.get(condition as usize / 64));
            bits.is_some_and(|bits| bits >> (condition % 64) & 1 == 1)
        };
        (entry.when == NONE || has(entry.when)) && (entry.without == NONE || self.value(entry.without).is_none())
    }
}

impl Part {
    /// A table as this client has it.
    pub fn new(table: &Arc<Table>, who: &Who<'_>, roles: &[&str]) -> Part {
        let is_plain = table.slots.is_empty() && table.conditions.is_empty();
        let values = (!is_plain).then(|| Box::new(Values::new(table, who, roles)));
        Part { table: table.clone(), values }
    }

    pub fn opening(&self) -> Opening {
        let mut turning = self.table.turning.iter().filter(|turning| self.values.is_meant(&turning.entry)).peekable();
        let first = turning.peek().map(|turning| (turning.entry.number, turning.opens));
        Opening { first, withholds: turning.any(|turning| !turning.opens) }
    }

    /// The rule that decides about a publication, if one here is before the best so far.
    #[inline]
    pub fn publish<'a>(&'a self, topic: &str, qos: QoS, retain: bool, best: Option<&'a Entry>) -> Option<&'a Entry> {
        let is_about =
            |entry: &Entry| is_about_publication(entry.access, entry.action, entry.qos_max, entry.retain, qos, retain);
        self.table.trie.first(topic, &self.values, is_about, best)
    }

    /// The same for a topic that is received, or a filter (spelled out) that is subscribed to.
    #[inline]
    pub fn receive<'a>(&'a self, asked: &str, best: Option<&'a Entry>) -> Option<&'a Entry> {
        self.table.trie.first(asked, &self.values, |entry| entry.action != Action::Publish, best)
    }

    /// What rules before this number take from a subscription.
    pub fn take(&self, asked: &str, before: u32, room: &mut Room, taken: &mut Taken) {
        self.table.trie.take(asked, &self.values, before, room, taken);
    }
}

/// Whether a rule whose filter matches is about a publication. What is allowed up to a QoS is denied beyond; a rule that
/// denies up to one says nothing of more.
#[inline]
pub(super) fn is_about_publication(
    access: Access,
    action: Action,
    qos_max: Option<QoS>,
    wanted: Option<bool>,
    qos: QoS,
    retain: bool,
) -> bool {
    action != Action::Subscribe
        && (access == Access::Allow || qos_max.is_none_or(|most| qos <= most))
        && wanted.is_none_or(|wanted| wanted == retain)
}
