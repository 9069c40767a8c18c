//! The immutable tries in which shards announce their wildcard filters and their shared subscriptions.
//!
//! Filters are spread over stripes by their literal prefix, the levels before the first wildcard, two at most; so
//! a topic can match only filters of three prefixes: its first two levels, its first, and none. A stripe's trie
//! finds each of its prefixes in one step and goes by levels from there. Copies share all that did not change.

use super::hamt::{ARC_HEADER, Hamt, Keyed};
use super::{HashSeed, Purpose, is_reserved, level_at, share_hash, split_rest};
use smallvec::SmallVec;
use std::sync::Arc;
use triomphe::Arc as Shared;

/// A shared subscription and where its members are.
#[derive(Debug, PartialEq, Eq)]
pub struct ShareGroup {
    /// The [`share_hash`] of name and filter.
    pub id: u64,
    /// The share name.
    pub name: Box<str>,
    /// The topic filter.
    pub filter: Box<str>,
    /// The shards with members, in the order of their numbers; at least one.
    pub members: Box<[ShardMembers]>,
}

/// How many members of a shared subscription one shard has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardMembers {
    /// The shard.
    pub shard: u16,
    /// Members that are connected.
    pub online: u32,
    /// All members; at least one.
    pub total: u32,
}

/// The literal beginning of a filter or of a topic, which names a stripe.
#[derive(Clone, Copy, Debug)]
pub struct Prefix<'a> {
    /// The levels; `#`, which is no level, when there are none.
    key: &'a str,
    /// The prefix's own hash, of which the stripe takes the lowest bits.
    pub hash: u64,
    /// Where the next level starts; beyond the end when there is none.
    start: usize,
}

const PREFIX_LEVELS_MAX: usize = 2;
/// Low bits of the hash that are the same in a whole stripe, so that the map of prefixes takes others first.
const STRIPE_BITS: u32 = 16;

impl<'a> Prefix<'a> {
    /// The prefix of a filter.
    pub fn of_filter(seed: &HashSeed, filter: &'a str) -> Prefix<'a> {
        let mut prefix = Prefix::none(seed);
        for _ in 0..PREFIX_LEVELS_MAX {
            match prefix.next(seed, filter) {
                Some(longer) if !matches!(level_at(filter, prefix.start), "+" | "#") => prefix = longer,
                _ => break,
            }
        }
        prefix
    }

    /// The prefixes of all filters that can match a topic.
    pub fn of_topic(seed: &HashSeed, topic: &'a str) -> SmallVec<[Prefix<'a>; PREFIX_LEVELS_MAX + 1]> {
        let none = Prefix::none(seed);
        let first = none.next(seed, topic);
        let second = first.and_then(|first| first.next(seed, topic));
        let none = Some(none).filter(|_| !is_reserved(topic));
        [none, first, second].into_iter().flatten().collect()
    }

    fn none(seed: &HashSeed) -> Prefix<'a> {
        Prefix::new(seed, "#", 0)
    }

    fn new(seed: &HashSeed, key: &'a str, start: usize) -> Prefix<'a> {
        Prefix { key, hash: seed.hash(Purpose::Prefix, key), start }
    }

    /// This prefix of a text and one level more.
    fn next(&self, seed: &HashSeed, text: &'a str) -> Option<Prefix<'a>> {
        let end = (self.start <= text.len()).then(|| self.start + level_at(text, self.start).len())?;
        Some(Prefix::new(seed, &text[..end], end + 1))
    }

    fn map_hash(&self) -> u64 {
        self.hash.rotate_right(STRIPE_BITS)
    }
}

/// One version of a stripe's filters; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct StripeTrie {
    prefixes: Hamt<Node>,
}

/// A level of filters. The key of the topmost nodes is their whole prefix.
#[derive(Clone, Debug)]
struct Node {
    key: Box<str>,
    hash: u64,
    children: Hamt<Node>,
    plus: Option<Shared<Node>>,
    here: End,
    rest: End,
}

/// Who wants what a filter that ends here matches.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// The shards with sessions that subscribe to it.
    pub shards: u64,
    groups: Option<Box<GroupList>>,
}

/// (A struct so that an [`End`] without groups stays small.)
#[derive(Clone, Debug, Default)]
struct GroupList {
    groups: Vec<Arc<ShareGroup>>,
}

impl StripeTrie {
    pub const fn new() -> StripeTrie {
        StripeTrie { prefixes: Hamt::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Notes whether the shards of a set want what a filter matches.
    pub fn set_shards(&mut self, seed: &HashSeed, filter: &str, shards: u64, wanted: bool) {
        let path = Path::of(seed, filter);
        if wanted {
            self.end_mut(&path).shards |= shards;
        } else if path.nodes(self).is_some() {
            self.end_mut(&path).shards &= !shards;
            self.prune(&path);
        }
    }

    /// Notes a shard's members of a shared subscription; returns by how much the number of groups changed.
    pub fn set_group(&mut self, seed: &HashSeed, name: &str, filter: &str, members: ShardMembers) -> isize {
        let path = Path::of(seed, filter);
        if members.total == 0 && path.nodes(self).is_none() {
            return 0;
        }
        let end = self.end_mut(&path);
        let before = end.groups().len() as isize;
        end.set_group(seed, name, filter, members);
        let change = end.groups().len() as isize - before;
        self.prune(&path);
        change
    }

    /// Calls `found` for every filter with one of a topic's prefixes that matches the topic.
    pub fn matches<'a>(&'a self, seed: &HashSeed, prefix: &Prefix<'_>, topic: &str, mut found: impl FnMut(&'a End)) {
        let top = self.prefixes.get(prefix.map_hash(), prefix.key);
        // What is still to be visited: a node and where the level after it starts. At most one for each level.
        let mut pending: SmallVec<[(&Node, usize); 16]> = top.into_iter().map(|top| (top, prefix.start)).collect();
        while let Some((node, start)) = pending.pop() {
            found(&node.rest);
            if start > topic.len() {
                found(&node.here);
                continue;
            }
            let level = level_at(topic, start);
            let after = start + level.len() + 1;
            pending.extend(node.plus.as_deref().map(|plus| (plus, after)));
            if !node.children.is_empty() {
                let literal = node.children.get(seed.hash(Purpose::Level, level), level);
                pending.extend(literal.map(|literal| (literal, after)));
            }
        }
    }

    /// Bytes of memory held, that shared with other versions included.
    pub fn memory_bytes(&self) -> usize {
        let mut bytes = self.prefixes.memory_bytes();
        let mut pending: Vec<&Node> = self.prefixes.iter().collect();
        while let Some(node) = pending.pop() {
            bytes += node.key.len() + node.children.memory_bytes();
            bytes += node.plus.as_ref().map_or(0, |_| size_of::<Node>() + ARC_HEADER);
            pending.extend(node.children.iter());
            pending.extend(node.plus.as_deref());
        }
        bytes
    }

    /// The end of a filter, with all nodes on the way to it.
    fn end_mut(&mut self, path: &Path<'_>) -> &mut End {
        let node = path.levels().fold(self.top_mut(path), |node, level| node.child_mut(path.seed, level));
        if path.is_rest() { &mut node.rest } else { &mut node.here }
    }

    fn top_mut(&mut self, path: &Path<'_>) -> &mut Node {
        let Prefix { key, .. } = path.prefix;
        let hash = path.prefix.map_hash();
        self.prefixes.get_or_insert(hash, key, || Node::new(key, hash))
    }

    /// Removes the nodes of a filter that nothing needs any more.
    fn prune(&mut self, path: &Path<'_>) {
        let Some(nodes) = path.nodes(self) else { return };
        let Some((last, above)) = nodes.split_last() else { return };
        if !last.is_unused() {
            return;
        }
        // The lowest node that is needed for more than the way down to this filter.
        let kept = above.iter().rposition(|node| !node.has_only_one_child());
        let Some(kept) = kept else {
            self.prefixes.remove(path.prefix.map_hash(), path.prefix.key);
            return;
        };
        let mut levels = path.levels();
        let top = self.top_mut(path);
        let node = levels.by_ref().take(kept).fold(top, |node, level| node.child_mut(path.seed, level));
        if let Some(level) = levels.next() {
            node.remove_child(path.seed, level);
        }
    }
}

/// The way from a stripe's root to a filter's end.
struct Path<'a> {
    seed: &'a HashSeed,
    prefix: Prefix<'a>,
    /// What comes after the prefix.
    after: Option<&'a str>,
}

impl<'a> Path<'a> {
    fn of(seed: &'a HashSeed, filter: &'a str) -> Path<'a> {
        let prefix = Prefix::of_filter(seed, filter);
        Path { seed, prefix, after: filter.get(prefix.start..) }
    }

    fn levels(&self) -> impl Iterator<Item = &'a str> {
        self.after.into_iter().flat_map(|after| split_rest(after).0)
    }

    fn is_rest(&self) -> bool {
        self.after.is_some_and(|after| split_rest(after).1)
    }

    /// The nodes on the way, from the topmost; `None` when the last is not there.
    fn nodes<'t>(&self, trie: &'t StripeTrie) -> Option<Vec<&'t Node>> {
        let top = trie.prefixes.get(self.prefix.map_hash(), self.prefix.key)?;
        let mut nodes = vec![top];
        for level in self.levels() {
            nodes.push(nodes.last()?.child(self.seed, level)?);
        }
        Some(nodes)
    }
}

impl Node {
    fn new(key: &str, hash: u64) -> Node {
        let (here, rest) = Default::default();
        Node { key: key.into(), hash, children: Hamt::new(), plus: None, here, rest }
    }

    fn child(&self, seed: &HashSeed, level: &str) -> Option<&Node> {
        match level {
            "+" => self.plus.as_deref(),
            literal => self.children.get(seed.hash(Purpose::Level, literal), literal),
        }
    }

    fn child_mut(&mut self, seed: &HashSeed, level: &str) -> &mut Node {
        if level == "+" {
            return Shared::make_mut(self.plus.get_or_insert_with(|| Shared::new(Node::new(level, 0))));
        }
        let hash = seed.hash(Purpose::Level, level);
        self.children.get_or_insert(hash, level, || Node::new(level, hash))
    }

    fn remove_child(&mut self, seed: &HashSeed, level: &str) {
        if level == "+" {
            self.plus = None;
        } else {
            self.children.remove(seed.hash(Purpose::Level, level), level);
        }
    }

    fn take_children(&mut self, out: &mut Vec<Shared<Node>>) {
        out.extend(self.plus.take());
        self.children.drain_into(out);
    }

    fn is_unused(&self) -> bool {
        self.ends_nothing() && self.children.is_empty() && self.plus.is_none()
    }

    /// True when it is there only for the sake of a single child.
    fn has_only_one_child(&self) -> bool {
        self.ends_nothing() && if self.plus.is_some() { self.children.is_empty() } else { self.children.is_single() }
    }

    fn ends_nothing(&self) -> bool {
        [&self.here, &self.rest].iter().all(|end| end.shards == 0 && end.groups.is_none())
    }
}

/// Left to itself, dropping would take a stack frame for each level of a filter.
impl Drop for Node {
    fn drop(&mut self) {
        let mut pending = Vec::new();
        self.take_children(&mut pending);
        while let Some(node) = pending.pop() {
            if let Ok(mut node) = Shared::try_unwrap(node) {
                node.take_children(&mut pending);
            }
        }
    }
}

impl Keyed for Node {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn key(&self) -> &str {
        &self.key
    }
}

impl End {
    /// The shared subscriptions to it.
    pub fn groups(&self) -> &[Arc<ShareGroup>] {
        self.groups.as_ref().map_or(&[], |list| &list.groups)
    }

    fn set_group(&mut self, seed: &HashSeed, name: &str, filter: &str, members: ShardMembers) {
        let groups = &mut self.groups.get_or_insert_default().groups;
        let index = groups.iter().position(|group| *group.name == *name);
        let mut shards = index.map_or(Vec::new(), |index| groups[index].members.to_vec());
        shards.retain(|other| other.shard != members.shard);
        if members.total > 0 {
            shards.insert(shards.partition_point(|other| other.shard < members.shard), members);
        }
        if shards.is_empty() {
            index.map(|index| groups.remove(index));
        } else {
            let (id, members) = (share_hash(seed, name, filter), shards.into());
            let group = Arc::new(ShareGroup { id, name: name.into(), filter: filter.into(), members });
            match index {
                Some(index) => groups[index] = group,
                None => groups.push(group),
            }
        }
        if groups.is_empty() {
            self.groups = None;
        }
    }
}
