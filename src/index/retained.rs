//! One value for each topic, found by a topic filter: the retained messages of a shard.
//!
//! Setting a topic again, which is what publishers do all day, is one probe of a hash table. A replay walks the
//! topics in the order of their levels and leaps over what cannot match: it costs what matches, and what has to
//! be looked at for that (for `+/a`, the first levels). It can stop anywhere and go on later, whatever was set or
//! removed in between.
//!
//! The order is that of a B-tree over the topics with `/` replaced by NUL, which no topic contains
//! [MQTT-1.5.4-2] and which sorts before all else: so a topic comes right before all those below it. That does
//! what a trie would, at a third of its memory.

use super::table::IdTable;
use super::{HashSeed, split_rest, topic_hash};
use crate::slab::Slab;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Separates levels in keys.
const SEPARATOR: char = '\0';
/// Sorts after the separator and not after any other character: ends everything below a topic.
const AFTER_SEPARATOR: char = '\u{1}';
/// So many topics are stepped over one by one before a search from the top of the tree pays.
const STEPS_MAX: usize = 8;

/// Values by topic. See the module's description.
#[derive(Debug)]
pub struct RetainedStore<V> {
    seed: HashSeed,
    entries: Slab<Entry<V>>,
    by_topic: IdTable,
    /// The same keys in order.
    by_level: BTreeMap<Arc<str>, u32>,
}

#[derive(Debug)]
struct Entry<V> {
    /// The topic with separators for slashes.
    key: Arc<str>,
    value: V,
}

/// Where a scan stands. One that starts has `ScanCursor::default()`; it belongs to one filter.
#[derive(Clone, Debug, Default)]
pub struct ScanCursor {
    /// The first key that was not looked at, whether or not it still exists.
    next: String,
}

impl ScanCursor {
    /// True when nothing was looked at yet.
    pub fn is_start(&self) -> bool {
        self.next.is_empty()
    }
}

/// How a part of a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// There is nothing more.
    Done,
    /// The budget was used up: scan again with the same cursor.
    More,
}

impl<V> RetainedStore<V> {
    /// An empty store. The seed is the process's.
    pub fn new(seed: HashSeed) -> RetainedStore<V> {
        RetainedStore { seed, entries: Slab::new(), by_topic: IdTable::default(), by_level: BTreeMap::new() }
    }

    /// Number of topics with a value.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when no topic has a value.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a topic.
    pub fn get(&self, topic: &str) -> Option<&V> {
        let slot = self.find(topic, topic_hash(&self.seed, topic))?;
        self.entries.get(slot).map(|entry| &entry.value)
    }

    /// Gives a topic a value; returns the one it had.
    pub fn set(&mut self, topic: &str, value: V) -> Option<V> {
        let hash = topic_hash(&self.seed, topic);
        if let Some(slot) = self.find(topic, hash) {
            let entry = self.entries.get_mut(slot)?;
            return Some(std::mem::replace(&mut entry.value, value));
        }
        let key: Arc<str> = topic.replace('/', "\0").into();
        let slot = self.entries.insert(Entry { key: key.clone(), value }).slot;
        self.by_topic.insert(hash, slot);
        self.by_level.insert(key, slot);
        None
    }

    /// Takes a topic's value out.
    pub fn remove(&mut self, topic: &str) -> Option<V> {
        let hash = topic_hash(&self.seed, topic);
        let slot = self.find(topic, hash)?;
        let entry = self.entries.remove(slot)?;
        self.by_topic.remove(hash, slot);
        self.by_level.remove(&entry.key);
        Some(entry.value)
    }

    /// Looks at the next values in no order, at most `budget` places from the one that `place` names, and removes
    /// those that `goes` says yes to. `place` moves on, and from the end to the start.
    pub fn sweep(&mut self, place: &mut u32, budget: u32, goes: impl Fn(&V) -> bool) -> Vec<V> {
        let end = place.saturating_add(budget).min(self.entries.slots());
        let gone = (*place..end).filter(|slot| self.entries.get(*slot).is_some_and(|entry| goes(&entry.value)));
        let topics: Vec<String> =
            gone.filter_map(|slot| self.entries.get(slot)).map(|entry| topic_of(&entry.key)).collect();
        *place = if end == self.entries.slots() { 0 } else { end };
        topics.iter().filter_map(|topic| self.remove(topic)).collect()
    }

    /// Number of places that values lie in, empty ones included.
    pub fn places(&self) -> u32 {
        self.entries.slots()
    }

    /// Every topic with its value, in the order of levels.
    pub fn iter(&self) -> impl Iterator<Item = (String, &V)> {
        self.by_level.iter().filter_map(|(key, slot)| Some((topic_of(key), &self.entries.get(*slot)?.value)))
    }

    /// Bytes of memory held, the values' own and the allocator's rounding apart. Visits every topic.
    pub fn memory_bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full on average; a shared text has two counts before it.
        let text = |entry: &Entry<V>| entry.key.len() + 2 * size_of::<usize>();
        self.entries.memory_bytes()
            + self.by_topic.memory_bytes()
            + self.by_level.len() * size_of::<(Arc<str>, u32)>() * 3 / 2
            + self.entries.iter().map(|(_, entry)| text(entry)).sum::<usize>()
    }

    fn find(&self, topic: &str, hash: u64) -> Option<u32> {
        self.by_topic.find(hash, |slot| self.entries.get(slot).is_some_and(|entry| is_key_of(&entry.key, topic)))
    }
}

impl<V: Clone> RetainedStore<V> {
    /// Appends the topics that a filter matches with their values, in the order of levels, from where the cursor
    /// stands. Looks at no more than `budget` topics, matching or not.
    pub fn scan(
        &self,
        filter: &str,
        cursor: &mut ScanCursor,
        mut budget: usize,
        out: &mut Vec<(String, V)>,
    ) -> ScanEnd {
        let pattern = Pattern::of(filter);
        let mut seek = std::mem::take(&mut cursor.next);
        loop {
            let from = (Bound::Included(seek.as_str()), Bound::Unbounded);
            let mut steps = 0;
            for (key, slot) in self.by_level.range::<str, _>(from) {
                if budget == 0 {
                    cursor.next = seek.max(key.to_string());
                    return ScanEnd::More;
                }
                budget -= 1;
                if **key < *seek {
                    steps += 1;
                    if steps == STEPS_MAX {
                        break;
                    }
                    continue;
                }
                steps = 0;
                match pattern.check(key, &mut seek) {
                    Verdict::Matches => {
                        let entry = self.entries.get(*slot).expect("the two orders hold the same entries");
                        out.push((topic_of(key), entry.value.clone()));
                    }
                    Verdict::Seek => {}
                    Verdict::Done => return ScanEnd::Done,
                }
            }
            if steps < STEPS_MAX {
                return ScanEnd::Done;
            }
        }
    }
}

/// A filter in the terms of keys.
struct Pattern<'a> {
    levels: Vec<&'a str>,
    /// The filter ends with `#`.
    rest: bool,
}

enum Verdict {
    Matches,
    /// Nothing matches before the key that was put into `seek`.
    Seek,
    /// Nothing matches any more.
    Done,
}

impl Pattern<'_> {
    fn of(filter: &str) -> Pattern<'_> {
        let (levels, rest) = split_rest(filter);
        Pattern { levels: levels.collect(), rest }
    }

    /// Compares the pattern with a key; if it does not match, tells where the search goes on.
    fn check(&self, key: &str, seek: &mut String) -> Verdict {
        if key.starts_with('$') && self.levels.first().is_none_or(|first| *first == "+") {
            return seek_to(seek, ["%", "", ""]);
        }
        let mut start = 0;
        // The end of the last level that could be another one.
        let mut variable = None;
        for wanted in &self.levels {
            let literal = Some(*wanted).filter(|wanted| *wanted != "+");
            let Some(level) = key.get(start..).and_then(|rest| rest.split(SEPARATOR).next()) else {
                return seek_to(seek, [key, "\0", literal.unwrap_or("")]);
            };
            let end = start + level.len();
            match literal.map(|literal| level.cmp(literal)) {
                None => variable = Some(end),
                Some(Ordering::Equal) => {}
                Some(Ordering::Less) => return seek_to(seek, [&key[..start], wanted, ""]),
                Some(Ordering::Greater) => return skip(key, variable, seek),
            }
            start = end + 1;
        }
        if self.rest || start > key.len() { Verdict::Matches } else { skip(key, variable, seek) }
    }
}

/// Goes on after everything below the key's first `end` bytes.
fn skip(key: &str, end: Option<usize>, seek: &mut String) -> Verdict {
    let Some(end) = end else { return Verdict::Done };
    seek_to(seek, [&key[..end], AFTER_SEPARATOR.encode_utf8(&mut [0; 4]), ""])
}

fn seek_to(seek: &mut String, parts: [&str; 3]) -> Verdict {
    seek.clear();
    seek.extend(parts);
    Verdict::Seek
}

fn topic_of(key: &str) -> String {
    key.replace(SEPARATOR, "/")
}

fn is_key_of(key: &str, topic: &str) -> bool {
    let same = |(key, topic): (u8, u8)| key == if topic == b'/' { 0 } else { topic };
    key.len() == topic.len() && key.bytes().zip(topic.bytes()).all(same)
}

#[cfg(test)]
mod tests {
    use super::super::naive::{filter_matches, strategies};
    use super::*;
    use proptest::prelude::*;

    fn store(topics: impl IntoIterator<Item = impl AsRef<str>>) -> RetainedStore<u32> {
        let mut store = RetainedStore::new(HashSeed::from_u64(1));
        for (value, topic) in (0..).zip(topics) {
            store.set(topic.as_ref(), value);
        }
        store
    }

    /// All topics a filter matches, and how many calls with this budget it took.
    fn scan(store: &RetainedStore<u32>, filter: &str, budget: usize) -> (Vec<String>, usize) {
        let (mut cursor, mut out) = (ScanCursor::default(), Vec::new());
        let calls = (1..).find(|_| store.scan(filter, &mut cursor, budget, &mut out) == ScanEnd::Done);
        (out.into_iter().map(|(topic, _)| topic).collect(), calls.unwrap())
    }

    #[test]
    fn a_topic_comes_before_those_below_it_and_these_before_its_neighbours() {
        let store = store(["a!", "b", "a/b", "a", "a/", "/a", "a\u{1}", "a/b/c"]);
        assert_eq!(scan(&store, "#", 100).0, ["/a", "a", "a/", "a/b", "a/b/c", "a\u{1}", "a!", "b"]);
    }

    #[test]
    fn a_replay_looks_at_little_more_than_what_it_matches() {
        let topic = |device: u32, value: u32| format!("site/{device:04}/{value:02}");
        let store = store((0..1000).flat_map(|device| (0..50).map(move |value| topic(device, value))));
        for (filter, matching, looks_max) in [
            ("site/0500/07", 1, 10),
            ("site/0500/+", 50, 70),
            ("site/0500/#", 50, 70),
            ("site/+/07", 1000, 1000 * (STEPS_MAX + 3)),
            ("nowhere/#", 0, 3),
            ("site/+/none", 0, 1000 * (STEPS_MAX + 3)),
            ("site/+/+/+", 0, 50_000),
        ] {
            let (topics, looks) = scan(&store, filter, 1);
            assert_eq!(topics.len(), matching, "{filter}");
            assert!(looks <= looks_max, "{filter}: {looks} looks");
        }
    }

    #[test]
    fn a_topic_takes_at_most_150_bytes_without_its_value() {
        let store = store((0..100_000).map(|device| format!("devices/{device:012}")));
        let bytes = store.memory_bytes() / store.len();
        println!("{bytes} bytes for each retained topic");
        assert!(bytes <= 150);
    }

    #[test]
    fn a_scan_goes_on_after_the_topic_it_stopped_at_was_removed() {
        let mut store = store(["a/1", "a/2", "a/3", "a/4"]);
        let (mut cursor, mut out) = (ScanCursor::default(), Vec::new());
        while out.len() < 2 {
            assert_eq!(store.scan("a/+", &mut cursor, 1, &mut out), ScanEnd::More);
        }
        ["a/2", "a/3"].iter().for_each(|topic| assert!(store.remove(topic).is_some()));
        store.set("a/35", 9);
        store.set("a/0", 9);
        assert_eq!(store.scan("a/+", &mut cursor, 100, &mut out), ScanEnd::Done);
        assert_eq!(out.iter().map(|(topic, _)| &**topic).collect::<Vec<_>>(), ["a/1", "a/2", "a/35", "a/4"]);
    }

    #[test]
    fn the_deepest_topic_is_found() {
        let deep = "/".repeat(65_535);
        let mut store = store([&deep, &deep[1..]]);
        assert_eq!(scan(&store, "#", 100).0.len(), 2);
        assert_eq!(scan(&store, &deep, 100).0, [&*deep]);
        assert_eq!(store.remove(&deep), Some(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn a_scan_finds_what_a_linear_search_finds(
            topics in prop::collection::vec((strategies::topic(), any::<bool>()), 0..60),
            filters in prop::collection::vec((strategies::filter(), 1..20usize), 1..10),
        ) {
            let mut store = RetainedStore::new(HashSeed::from_u64(2));
            let mut twin = BTreeMap::new();
            for (value, (topic, set)) in topics.iter().enumerate() {
                if *set {
                    prop_assert_eq!(store.set(topic, value), twin.insert(topic.clone(), value));
                } else {
                    let (removed, _) = topics.get(value / 2).unwrap();
                    prop_assert_eq!(store.remove(removed), twin.remove(removed));
                }
                prop_assert_eq!(store.get(topic), twin.get(topic));
                prop_assert_eq!(store.len(), twin.len());
            }
            let mut ordered: Vec<_> = twin.into_iter().collect();
            ordered.sort_by_key(|(topic, _)| topic.split('/').map(str::to_string).collect::<Vec<_>>());
            prop_assert!(store.iter().map(|(topic, value)| (topic, *value)).eq(ordered.iter().cloned()));
            for (filter, budget) in &filters {
                let (mut cursor, mut out) = (ScanCursor::default(), Vec::new());
                while store.scan(filter, &mut cursor, *budget, &mut out) == ScanEnd::More {}
                let expected: Vec<_> =
                    ordered.iter().filter(|(topic, _)| filter_matches(filter, topic)).cloned().collect();
                prop_assert_eq!(out, expected);
            }
        }
    }
}
