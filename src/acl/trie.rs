//! Many rules, found by the levels of their filters: what a question costs goes by the depth of the topic, not by how
//! many rules there are. The first rule that is about a question decides, so the walks look for the least number, and
//! leave out what holds none less than the best so far.
//!
//! A level is a text, `+`, or a placeholder: an edge that is followed where the client's value is the topic's level. So
//! one trie serves all clients, and a client brings its values. The naive twin is [`Filter`](super::filter::Filter), rule
//! by rule.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::rule::{Access, Action};
use crate::codec::QoS;

/// Stands for no condition and no placeholder.
pub(super) const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;
/// Places that the wildcards of one filter lead to, one by one. Behind more of them rules count as a whole, at their
/// strictest, whichever client or topic they are about: `+/x` would go to as many places as there are rules.
pub(super) const PLACES_MAX: usize = 256;
/// The same of all filters of a packet together: a SUBSCRIBE holds thousands of them, and 256 places take 3 µs.
const PLACES_OF_A_PACKET: usize = 65_536;

/// How many more places the filters of a packet may lead to, one by one.
#[derive(Clone, Copy, Debug)]
pub struct Room(usize);

impl Room {
    /// For all filters of a packet.
    pub fn of_a_packet() -> Room {
        Room(PLACES_OF_A_PACKET)
    }

    /// For a filter alone: what one may have.
    pub(super) fn of_a_filter() -> Room {
        Room(usize::MAX)
    }

    #[cfg(test)]
    pub(super) fn of(places: usize) -> Room {
        Room(places)
    }
}

/// A rule at the end of its filter. Which client it is about, [`Values`](super::table::Values) says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Rules are asked in the order of their numbers.
    pub number: u32,
    /// It is there for clients of whom this condition holds.
    pub when: u32,
    /// It is there for clients that have no usable value for this placeholder.
    pub without: u32,
    pub access: Access,
    pub action: Action,
    pub qos_max: Option<QoS>,
    pub retain: Option<bool>,
}

/// A level of a rule's filter; what ends in `#` is told apart by [`Builder::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Text(&'a str),
    /// `+`.
    Any,
    /// The placeholder of this number.
    Value(u32),
}

/// What a client puts into the trie.
pub(super) trait Client {
    /// Its value for a placeholder; `None` if it has none that is usable.
    fn value(&self, placeholder: u32) -> Option<&str>;
    /// Whether a rule is about it.
    fn is_meant(&self, entry: &Entry) -> bool;
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Box<[Node]>,
    /// By the node they leave.
    edges: Box<[Edge]>,
    /// Numbers of edges, by node and text.
    by_text: HashTable<u32>,
    /// About every topic there is, also those that begin with `$`.
    everywhere: Box<[Entry]>,
}

#[derive(Debug)]
struct Node {
    /// Rules whose filter ends here, and those that end with `#` behind this level.
    here: Box<[Entry]>,
    all: Box<[Entry]>,
    /// Placeholders, and where they lead.
    values: Box<[(u32, u32)]>,
    /// Its edges.
    texts: (u32, u32),
    /// Where `+` leads; [`ROOT`] if nowhere.
    any: u32,
    least: Least,
}

#[derive(Debug)]
struct Edge {
    from: u32,
    to: u32,
    text: Box<str>,
}

/// The least numbers of rules at a node and behind it.
#[derive(Clone, Copy, Debug)]
struct Least {
    /// Of all rules; what follows is about those on subscriptions.
    of_all: u32,
    of_denials: u32,
    of_limits: u32,
    /// The lowest QoS of those that limit subscriptions.
    qos: QoS,
}

/// What rules before the one that decides about a subscription take from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Some of the topics are denied.
    pub denies: bool,
    /// Some are granted at most at this QoS.
    pub qos_max: QoS,
    /// The wildcards led to more places than are looked at one by one: it may be less than this.
    pub is_rough: bool,
}

/// What is left of the topic or filter that is asked about.
#[derive(Clone, Copy)]
enum Rest {
    From(usize),
    Nothing,
    /// `#`.
    Anything,
}

impl Taken {
    pub const NOTHING: Taken = Taken { denies: false, qos_max: QoS::ExactlyOnce, is_rough: false };

    pub fn take(&mut self, access: Access, qos_max: Option<QoS>) {
        match access {
            Access::Deny => self.denies = true,
            Access::Allow => self.qos_max = qos_max.map_or(self.qos_max, |most| most.min(self.qos_max)),
        }
    }
}

impl Least {
    const OF_NOTHING: Least = Least { of_all: NONE, of_denials: NONE, of_limits: NONE, qos: QoS::ExactlyOnce };

    fn add(&mut self, entry: &Entry) {
        self.of_all = self.of_all.min(entry.number);
        match (entry.access, entry.qos_max) {
            // It takes nothing from a subscription.
            _ if entry.action == Action::Publish => {}
            (Access::Deny, _) => self.of_denials = self.of_denials.min(entry.number),
            (Access::Allow, Some(most)) => {
                self.of_limits = self.of_limits.min(entry.number);
                self.qos = self.qos.min(most);
            }
            (Access::Allow, None) => {}
        }
    }

    fn add_all(&mut self, other: Least) {
        self.of_all = self.of_all.min(other.of_all);
        self.of_denials = self.of_denials.min(other.of_denials);
        self.of_limits = self.of_limits.min(other.of_limits);
        self.qos = self.qos.min(other.qos);
    }

    /// What all of it could take, of rules before this number.
    fn take_from(self, taken: &mut Taken, before: u32) {
        taken.is_rough = true;
        taken.denies |= self.of_denials < before;
        if self.of_limits < before {
            taken.qos_max = taken.qos_max.min(self.qos);
        }
    }

    /// Nothing before this number can take more than what is taken.
    fn has_no_more(self, taken: Taken, before: u32) -> bool {
        (taken.denies || self.of_denials >= before) && (taken.qos_max == QoS::AtMostOnce || self.of_limits >= before)
    }
}

impl Trie {
    /// Whether there is no rule in it.
    pub fn is_empty(&self) -> bool {
        self.everywhere.is_empty() && self.nodes[ROOT as usize].least.of_all == NONE
    }

    /// The first rule that matches a topic, or covers a filter (spelled out), and is accepted; `best` if none is before
    /// it.
    pub fn first<'a>(
        &'a self,
        asked: &str,
        client: &impl Client,
        accepts: impl Fn(&Entry) -> bool,
        mut best: Option<&'a Entry>,
    ) -> Option<&'a Entry> {
        let mut consider = |entries: &'a [Entry]| {
            let before = best.map_or(NONE, |best| best.number);
            let earlier = entries.iter().take_while(|entry| entry.number < before);
            best = earlier.filter(|entry| accepts(entry)).find(|entry| client.is_meant(entry)).or(best);
            best.map_or(NONE, |best| best.number)
        };
        let mut before = consider(&self.everywhere);
        let mut open: SmallVec<[(u32, Rest); 16]> = SmallVec::from_buf_and_len([(ROOT, Rest::From(0)); 16], 1);
        while let Some((at, rest)) = open.pop() {
            let node = &self.nodes[at as usize];
            if node.least.of_all >= before {
                continue;
            }
            before = consider(&node.all);
            match rest {
                Rest::Nothing => before = consider(&node.here),
                Rest::Anything => {}
                Rest::From(start) => match next_level(asked, start) {
                    ("#", _) => {}
                    (level, rest) => self.follow(at, level, client, |child| open.push((child, rest))),
                },
            }
        }
        best
    }

    /// What rules about a part of a filter (spelled out) take from a subscription to it, of those before this number. Its
    /// wildcards are followed as far as there is room.
    pub fn take(&self, asked: &str, client: &impl Client, before: u32, room: &mut Room, taken: &mut Taken) {
        let consider = |entries: &[Entry], taken: &mut Taken| {
            let earlier = entries.iter().take_while(|entry| entry.number < before);
            let about = earlier.filter(|entry| entry.action != Action::Publish && client.is_meant(entry));
            about.for_each(|entry| taken.take(entry.access, entry.qos_max));
        };
        consider(&self.everywhere, taken);
        let mut open: SmallVec<[(u32, Rest); 16]> = SmallVec::new();
        open.push((ROOT, Rest::From(0)));
        let mut left = room.0.min(PLACES_MAX);
        while let Some((at, rest)) = open.pop() {
            let node = &self.nodes[at as usize];
            if node.least.has_no_more(*taken, before) {
                continue;
            }
            consider(&node.all, taken);
            let (level, rest) = match rest {
                Rest::Nothing => {
                    consider(&node.here, taken);
                    continue;
                }
                Rest::Anything => ("#", rest),
                Rest::From(start) => next_level(asked, start),
            };
            let behind = match level {
                "#" => {
                    consider(&node.here, taken);
                    Rest::Anything
                }
                "+" => rest,
                level => {
                    self.follow(at, level, client, |child| open.push((child, rest)));
                    continue;
                }
            };
            match left.checked_sub(node.children()) {
                None => node.least.take_from(taken, before),
                Some(still) => {
                    room.0 -= left - still;
                    left = still;
                    self.follow_all(at, client, |child| open.push((child, behind)));
                }
            }
        }
    }

    /// Goes on with one level of a topic, or of a filter of which every topic is meant.
    #[inline]
    fn follow(&self, at: u32, level: &str, client: &impl Client, mut go: impl FnMut(u32)) {
        let node = &self.nodes[at as usize];
        // [MQTT-4.7.2-1]: no wildcard stands for the beginning of a topic that begins with `$`.
        if node.any != ROOT && !(at == ROOT && level.starts_with('$')) {
            go(node.any);
        }
        let is_the_value = |(placeholder, _): &&(u32, u32)| client.value(*placeholder) == Some(level);
        node.values.iter().filter(is_the_value).for_each(|(_, child)| go(*child));
        if node.texts.0 < node.texts.1
            && let Some(edge) = self.by_text.find(hash(at, level), |edge| self.edges[*edge as usize].is(at, level))
        {
            go(self.edges[*edge as usize].to);
        }
    }

    /// Goes on with whatever one level may be.
    fn follow_all(&self, at: u32, client: &impl Client, mut go: impl FnMut(u32)) {
        let node = &self.nodes[at as usize];
        let is_apart = |level: &str| at == ROOT && level.starts_with('$');
        if node.any != ROOT {
            go(node.any);
        }
        let edges = &self.edges[node.texts.0 as usize..node.texts.1 as usize];
        edges.iter().filter(|edge| !is_apart(&edge.text)).for_each(|edge| go(edge.to));
        let is_usable = |placeholder| client.value(placeholder).is_some_and(|value| !is_apart(value));
        node.values.iter().filter(|(placeholder, _)| is_usable(*placeholder)).for_each(|(_, child)| go(*child));
    }
}

impl Edge {
    fn is(&self, from: u32, text: &str) -> bool {
        self.from == from && *self.text == *text
    }
}

/// The level that begins here, and what comes behind it.
#[inline]
fn next_level(asked: &str, start: usize) -> (&str, Rest) {
    match memchr::memchr(b'/', &asked.as_bytes()[start..]) {
        Some(len) => (&asked[start..start + len], Rest::From(start + len + 1)),
        None => (&asked[start..], Rest::Nothing),
    }
}

/// What is hashed are rules, and whoever writes those has no need of collisions.
fn hash(from: u32, text: &str) -> u64 {
    FixedState::with_seed(u64::from(from)).hash_one(text)
}

/// A trie that is being made. Rules go in by the order of their numbers.
#[derive(Default)]
pub(super) struct Builder {
    nodes: Vec<Growing>,
    edges: Vec<Edge>,
    by_text: HashTable<u32>,
    everywhere: Vec<Entry>,
}

#[derive(Default)]
struct Growing {
    here: Vec<Entry>,
    all: Vec<Entry>,
    values: Vec<(u32, u32)>,
    any: u32,
}

impl Builder {
    /// Adds a rule about every topic there is.
    pub fn insert_everywhere(&mut self, entry: Entry) {
        self.everywhere.push(entry);
    }

    /// Adds a rule by the levels of its filter, without the `#` that it may end with.
    pub fn insert(&mut self, steps: &[Step<'_>], ends_with_all: bool, entry: Entry) {
        if self.nodes.is_empty() {
            self.nodes.push(Growing::default());
        }
        // `#` cannot do without a level here since no topic is empty; `+` in its stead is what `$` is looked at for.
        let spelled: &[Step<'_>] = match steps {
            [] | [Step::Text("")] if ends_with_all => &[Step::Any],
            _ => &[],
        };
        let end = steps.iter().chain(spelled).fold(ROOT, |from, step| self.step(from, *step));
        let node = &mut self.nodes[end as usize];
        if ends_with_all { node.all.push(entry) } else { node.here.push(entry) }
    }

    /// Where a step leads; makes the node if there is none.
    fn step(&mut self, from: u32, step: Step<'_>) -> u32 {
        let new = self.nodes.len() as u32;
        let node = &mut self.nodes[from as usize];
        let to = match step {
            Step::Any if node.any == ROOT => {
                node.any = new;
                new
            }
            Step::Any => node.any,
            Step::Value(placeholder) => match node.values.iter().find(|(known, _)| *known == placeholder) {
                Some((_, child)) => *child,
                None => {
                    node.values.push((placeholder, new));
                    new
                }
            },
            Step::Text(text) => self.edge(from, text, new),
        };
        if to == new {
            self.nodes.push(Growing::default());
        }
        to
    }

    fn edge(&mut self, from: u32, text: &str, new: u32) -> u32 {
        let Builder { edges, by_text, .. } = self;
        if let Some(edge) = by_text.find(hash(from, text), |edge| edges[*edge as usize].is(from, text)) {
            return edges[*edge as usize].to;
        }
        let number = edges.len() as u32;
        edges.push(Edge { from, to: new, text: text.into() });
        by_text.insert_unique(hash(from, text), number, |edge| {
            let Edge { from, text, .. } = &edges[*edge as usize];
            hash(*from, text)
        });
        new
    }

    /// Nothing is added any more.
    pub fn finish(mut self) -> Trie {
        self.edges.sort_by_key(|edge| edge.from);
        let mut by_text = HashTable::with_capacity(self.edges.len());
        for (number, edge) in self.edges.iter().enumerate() {
            by_text.insert_unique(hash(edge.from, &edge.text), number as u32, |edge| {
                let Edge { from, text, .. } = &self.edges[*edge as usize];
                hash(*from, text)
            });
        }
        if self.nodes.is_empty() {
            self.nodes.push(Growing::default());
        }
        let mut nodes: Box<[Node]> = self.nodes.into_iter().map(Node::grown).collect();
        for (number, edge) in (0..).zip(&self.edges) {
            let texts = &mut nodes[edge.from as usize].texts;
            *texts = if texts.0 == texts.1 { (number, number + 1) } else { (texts.0, number + 1) };
        }
        let mut trie = Trie { nodes, edges: self.edges.into(), by_text, everywhere: self.everywhere.into() };
        trie.find_least();
        trie
    }
}

impl Node {
    fn children(&self) -> usize {
        (self.texts.1 - self.texts.0) as usize + self.values.len() + usize::from(self.any != ROOT)
    }

    fn grown(node: Growing) -> Node {
        let mut least = Least::OF_NOTHING;
        node.here.iter().chain(&node.all).for_each(|entry| least.add(entry));
        let Growing { here, all, values, any } = node;
        Node { here: here.into(), all: all.into(), values: values.into(), texts: (0, 0), any, least }
    }
}

impl Trie {
    /// Tells each node what stands behind it. A node was made after the one that leads to it.
    fn find_least(&mut self) {
        let mut parents = vec![ROOT; self.nodes.len()];
        for (number, node) in (0..).zip(&self.nodes) {
            let texts = &self.edges[node.texts.0 as usize..node.texts.1 as usize];
            let children = texts.iter().map(|edge| edge.to).chain(node.values.iter().map(|(_, child)| *child));
            children.chain((node.any != ROOT).then_some(node.any)).for_each(|child| parents[child as usize] = number);
        }
        for child in (1..self.nodes.len()).rev() {
            let theirs = self.nodes[child].least;
            self.nodes[parents[child] as usize].least.add_all(theirs);
        }
    }
}
