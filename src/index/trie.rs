//! The wildcard filters of one shard: a flat trie whose matching costs what the topic's depth costs.
//!
//! Nodes lie in an arena and name each other by number. Literal children are found in one table for all nodes,
//! by parent and level text; the child `+` and the filter `#` below a node are fields of the node. A walk goes
//! depth first and finds its way back by the nodes' parents: it needs no stack and no allocation, however deep
//! a topic is.

use super::table::IdTable;
use super::{HashSeed, Purpose, is_reserved, level_at, split_rest};
use crate::slab::Slab;

/// No node, no filter.
const NONE: u32 = u32::MAX;
/// The node above the first level. It is never removed.
const ROOT: u32 = 0;

/// Filters with a wildcard, each with a number of the caller's.
#[derive(Debug)]
pub struct WildcardTrie {
    seed: HashSeed,
    nodes: Slab<Node>,
    edges: IdTable,
    filters: usize,
}

#[derive(Debug)]
struct Node {
    /// Text of the level; `+` for a node that is its parent's `plus`.
    level: Box<str>,
    parent: u32,
    /// Number of literal children.
    children: u32,
    /// The child for the single-level wildcard.
    plus: u32,
    /// The filter that ends here.
    filter: u32,
    /// The filter that ends with `#` below this node.
    rest: u32,
}

impl Node {
    fn new(level: &str, parent: u32) -> Node {
        Node { level: level.into(), parent, children: 0, plus: NONE, filter: NONE, rest: NONE }
    }

    fn is_unused(&self) -> bool {
        self.children == 0 && self.plus == NONE && self.filter == NONE && self.rest == NONE
    }
}

impl WildcardTrie {
    pub fn new(seed: HashSeed) -> WildcardTrie {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new("", NONE));
        debug_assert_eq!(root.slot, ROOT);
        WildcardTrie { seed, nodes, edges: IdTable::default(), filters: 0 }
    }

    /// Adds a filter that is not in the trie.
    pub fn insert(&mut self, filter: &str, id: u32) {
        let (levels, rest) = split_rest(filter);
        let mut node = ROOT;
        for level in levels {
            node = self.child(node, level).unwrap_or_else(|| self.add_child(node, level));
        }
        let place = self.place_mut(node, rest);
        debug_assert_eq!(*place, NONE);
        *place = id;
        self.filters += 1;
    }

    /// The number of a filter.
    pub fn find(&self, filter: &str) -> Option<u32> {
        let (node, rest) = self.node_of(filter)?;
        let node = self.node(node);
        Some(if rest { node.rest } else { node.filter }).filter(|id| *id != NONE)
    }

    /// Takes a filter out, and every node that only it needed.
    pub fn remove(&mut self, filter: &str) -> Option<u32> {
        let (mut node, rest) = self.node_of(filter)?;
        let id = std::mem::replace(self.place_mut(node, rest), NONE);
        if id == NONE {
            return None;
        }
        self.filters -= 1;
        while node != ROOT && self.node(node).is_unused() {
            node = self.remove_child(node);
        }
        Some(id)
    }

    /// Calls `found` with the number of every filter that matches a topic, each once.
    pub fn matches(&self, topic: &str, mut found: impl FnMut(u32)) {
        if self.filters == 0 {
            return;
        }
        let mut walk = Walk { trie: self, topic, node: ROOT, start: 0 };
        loop {
            walk.visit(&mut found);
            if !walk.descend() && !walk.go_back() {
                return;
            }
        }
    }

    pub fn memory_bytes(&self) -> usize {
        let texts: usize = self.nodes.iter().map(|(_, node)| node.level.len()).sum();
        self.nodes.memory_bytes() + self.edges.memory_bytes() + texts
    }

    fn node(&self, node: u32) -> &Node {
        self.nodes.get(node).expect("nodes name only nodes that exist")
    }

    fn node_mut(&mut self, node: u32) -> &mut Node {
        self.nodes.get_mut(node).expect("nodes name only nodes that exist")
    }

    fn place_mut(&mut self, node: u32, rest: bool) -> &mut u32 {
        let node = self.node_mut(node);
        if rest { &mut node.rest } else { &mut node.filter }
    }

    fn node_of(&self, filter: &str) -> Option<(u32, bool)> {
        let (mut levels, rest) = split_rest(filter);
        let node = levels.try_fold(ROOT, |node, level| self.child(node, level))?;
        Some((node, rest))
    }

    /// The child of a node by a level of a filter.
    fn child(&self, node: u32, level: &str) -> Option<u32> {
        match level {
            "+" => Some(self.node(node).plus).filter(|plus| *plus != NONE),
            literal => self.literal(node, literal),
        }
    }

    /// The child of a node by a level of a topic.
    fn literal(&self, parent: u32, level: &str) -> Option<u32> {
        if self.node(parent).children == 0 {
            return None;
        }
        self.edges.find(self.edge_hash(parent, level), |child| {
            let child = self.node(child);
            child.parent == parent && *child.level == *level
        })
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        let child = self.nodes.insert(Node::new(level, parent)).slot;
        if level == "+" {
            self.node_mut(parent).plus = child;
        } else {
            self.node_mut(parent).children += 1;
            self.edges.insert(self.edge_hash(parent, level), child);
        }
        child
    }

    /// Removes an unused node and returns its parent.
    fn remove_child(&mut self, child: u32) -> u32 {
        let node = self.nodes.remove(child).expect("nodes name only nodes that exist");
        let parent = node.parent;
        if self.node(parent).plus == child {
            self.node_mut(parent).plus = NONE;
        } else {
            self.node_mut(parent).children -= 1;
            self.edges.remove(self.edge_hash(parent, &node.level), child);
        }
        parent
    }

    fn edge_hash(&self, parent: u32, level: &str) -> u64 {
        let hash = self.seed.hash(Purpose::Level, level);
        (hash ^ u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }
}

/// Where a match stands: at a node that matches the topic's levels before byte `start`.
struct Walk<'a> {
    trie: &'a WildcardTrie,
    topic: &'a str,
    node: u32,
    /// Where the next level starts; beyond the topic's end when no level is left.
    start: usize,
}

impl Walk<'_> {
    fn visit(&self, found: &mut impl FnMut(u32)) {
        let node = self.trie.node(self.node);
        // `#` stands for any number of levels, none included [MQTT-4.7.1-2].
        if node.rest != NONE && self.wildcard_allowed() {
            found(node.rest);
        }
        if node.filter != NONE && self.start > self.topic.len() {
            found(node.filter);
        }
    }

    /// Goes to the literal child, else to the child `+`; false when there is neither.
    fn descend(&mut self) -> bool {
        if self.start > self.topic.len() {
            return false;
        }
        let level = level_at(self.topic, self.start);
        let Some(child) = self.trie.literal(self.node, level).or_else(|| self.plus()) else {
            return false;
        };
        self.node = child;
        self.start += level.len() + 1;
        true
    }

    /// Goes up until a node has a child `+` that was not visited yet, and to that child; false at the end.
    fn go_back(&mut self) -> bool {
        while self.node != ROOT {
            let (child, after) = (self.node, self.start);
            self.node = self.trie.node(child).parent;
            self.start = memchr::memrchr(b'/', &self.topic.as_bytes()[..after - 1]).map_or(0, |slash| slash + 1);
            if let Some(plus) = self.plus().filter(|plus| *plus != child) {
                (self.node, self.start) = (plus, after);
                return true;
            }
        }
        false
    }

    fn plus(&self) -> Option<u32> {
        let plus = self.trie.node(self.node).plus;
        (plus != NONE && self.wildcard_allowed()).then_some(plus)
    }

    fn wildcard_allowed(&self) -> bool {
        self.node != ROOT || !is_reserved(self.topic)
    }
}
