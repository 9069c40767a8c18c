//! Which sessions of this shard want a topic. Private to a shard.
//!
//! A filter lives once, in a slab, with its text and its subscribers. Filters without wildcards are found by the
//! topic's hash, which the caller computed already; those with wildcards by the trie.

use super::recent::{Recalled, Recent};
use super::subscribers::{Subscriber, SubscriberSet};
use super::table::IdTable;
use super::trie::WildcardTrie;
use super::{HashSeed, has_wildcard, topic_hash};
use crate::slab::Slab;

/// Names a filter of one [`LocalIndex`] as long as it has a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub u32);

/// What a subscribe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The filter.
    pub filter: FilterId,
    /// The session was subscribed to this filter before.
    pub replaced: bool,
    /// The filter had no subscriber before: other shards have to learn of it.
    pub first: bool,
}

/// What an unsubscribe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The filter; with `last` it names nothing any more.
    pub filter: FilterId,
    /// The filter has no subscriber left.
    pub last: bool,
    /// With `last`: no other filter here has the same hash in the [`Interest`](super::Interest), so this
    /// shard's interest must be taken back. (Two filters of the same hash share one cell there.)
    pub hash_gone: bool,
}

/// The subscriptions of a shard's sessions, shared subscriptions apart.
#[derive(Debug)]
pub struct LocalIndex {
    seed: HashSeed,
    filters: Slab<Filter>,
    exact: IdTable,
    wildcards: WildcardTrie,
    recent: Recent,
    subscriptions: usize,
}

#[derive(Debug)]
struct Filter {
    text: Box<str>,
    subscribers: SubscriberSet,
}

impl LocalIndex {
    /// An empty index. The seed is the one [`topic_hash`] is called with.
    pub fn new(seed: HashSeed) -> LocalIndex {
        let wildcards = WildcardTrie::new(seed.clone());
        LocalIndex {
            seed,
            filters: Slab::new(),
            exact: IdTable::default(),
            wildcards,
            recent: Recent::default(),
            subscriptions: 0,
        }
    }

    /// Adds a session's subscription to a filter, or replaces it.
    pub fn subscribe(&mut self, filter: &str, subscriber: Subscriber) -> Subscribed {
        let id = self.find(filter).unwrap_or_else(|| self.add_filter(filter));
        let subscribers = &mut self.filter_mut(id).subscribers;
        let first = subscribers.is_empty();
        let replaced = subscribers.insert(subscriber).is_some();
        self.subscriptions += usize::from(!replaced);
        self.recent.forget();
        Subscribed { filter: id, replaced, first }
    }

    /// Removes a session's subscription to a filter; `None` when there is none.
    pub fn unsubscribe(&mut self, filter: &str, session: u32) -> Option<Unsubscribed> {
        self.unsubscribe_id(self.find(filter)?, session)
    }

    /// Removes a session's subscription to a filter; `None` when there is none.
    pub fn unsubscribe_id(&mut self, filter: FilterId, session: u32) -> Option<Unsubscribed> {
        let subscribers = &mut self.filters.get_mut(filter.0)?.subscribers;
        subscribers.remove(session)?;
        let last = subscribers.is_empty();
        self.subscriptions -= 1;
        self.recent.forget();
        let hash_gone = last && self.remove_filter(filter);
        Some(Unsubscribed { filter, last, hash_gone })
    }

    /// Appends the subscribers of every filter that matches a topic, whose [`topic_hash`] is given, and returns
    /// how many filters matched: with one, no session appears twice.
    pub fn matches(&self, topic: &str, topic_hash: u64, out: &mut Vec<Subscriber>) -> usize {
        let mut matched = 0;
        let mut found = |id| {
            matched += 1;
            self.filter(FilterId(id)).subscribers.append_to(out);
        };
        if let Some(id) = self.find_exact(topic, topic_hash) {
            found(id.0);
        }
        self.wildcards.matches(topic, found);
        matched
    }

    /// The same as [`matches`](Self::matches), faster for a topic that was asked for recently. `out` is empty.
    #[inline]
    pub fn matches_again(&mut self, topic: &str, topic_hash: u64, out: &mut Vec<Subscriber>) -> usize {
        if let Some(recalled) = self.recent.recall(topic_hash) {
            out.extend_from_slice(recalled.subscribers());
            return recalled.filters();
        }
        let filters = self.matches(topic, topic_hash, out);
        self.recent.remember(topic_hash, filters, out);
        filters
    }

    /// The subscribers of a topic that was asked for recently and has few.
    #[inline]
    pub fn recall(&self, topic_hash: u64) -> Option<Recalled> {
        self.recent.recall(topic_hash)
    }

    /// The filter with this text, if it has a subscriber.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if has_wildcard(filter) {
            return self.wildcards.find(filter).map(FilterId);
        }
        self.find_exact(filter, topic_hash(&self.seed, filter))
    }

    /// The text of a filter that has a subscriber. Panics when it has none.
    pub fn filter_text(&self, filter: FilterId) -> &str {
        &self.filter(filter).text
    }

    /// A session's subscription to a filter.
    pub fn subscriber(&self, filter: FilterId, session: u32) -> Option<Subscriber> {
        self.filters.get(filter.0)?.subscribers.get(session)
    }

    /// How many sessions subscribe to a filter.
    pub fn subscribers(&self, filter: FilterId) -> usize {
        self.filters.get(filter.0).map_or(0, |filter| filter.subscribers.len())
    }

    /// Number of filters that have a subscriber.
    pub fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Number of subscriptions: pairs of a session and a filter.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// True when nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }

    /// Bytes of memory held, the allocator's rounding apart. Visits every filter.
    pub fn memory_bytes(&self) -> usize {
        let outside = |filter: &Filter| filter.text.len() + filter.subscribers.memory_bytes();
        self.filters.memory_bytes()
            + self.filters.iter().map(|(_, filter)| outside(filter)).sum::<usize>()
            + self.exact.memory_bytes()
            + self.wildcards.memory_bytes()
    }

    fn filter(&self, id: FilterId) -> &Filter {
        self.filters.get(id.0).expect("a filter is in the slab while something names it")
    }

    fn filter_mut(&mut self, id: FilterId) -> &mut Filter {
        self.filters.get_mut(id.0).expect("a filter is in the slab while something names it")
    }

    fn find_exact(&self, text: &str, hash: u64) -> Option<FilterId> {
        self.exact.find(hash, |id| *self.filter(FilterId(id)).text == *text).map(FilterId)
    }

    fn add_filter(&mut self, text: &str) -> FilterId {
        let id = self.filters.insert(Filter { text: text.into(), subscribers: SubscriberSet::Empty }).slot;
        if has_wildcard(text) {
            self.wildcards.insert(text, id);
        } else {
            self.exact.insert(topic_hash(&self.seed, text), id);
        }
        FilterId(id)
    }

    /// Removes a filter without subscribers; true when no other filter has its hash in the interest.
    fn remove_filter(&mut self, id: FilterId) -> bool {
        let Some(filter) = self.filters.remove(id.0) else { return false };
        if has_wildcard(&filter.text) {
            self.wildcards.remove(&filter.text);
            return true;
        }
        let hash = topic_hash(&self.seed, &filter.text);
        self.exact.remove(hash, id.0);
        let same_hash = |other| topic_hash(&self.seed, &self.filter(FilterId(other)).text) == hash;
        self.exact.find(hash, same_hash).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::super::naive::{filter_matches, strategies};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// With so few hashes that most filters share theirs with another.
    fn seed() -> HashSeed {
        HashSeed::with_bits(3, 4)
    }

    fn matches(index: &LocalIndex, topic: &str) -> (usize, Vec<Subscriber>) {
        let mut out = Vec::new();
        let filters = index.matches(topic, topic_hash(&seed(), topic), &mut out);
        (filters, out)
    }

    /// What the memory contract leaves for a client's only subscription.
    #[test]
    fn a_subscription_to_a_filter_of_its_own_takes_at_most_130_bytes() {
        let mut index = LocalIndex::new(HashSeed::from_u64(3));
        for session in 0..100_000 {
            index.subscribe(&format!("devices/{session:012}"), Subscriber::new(session, 1));
            if session % 5_000 == 4_999 {
                // The allocator rounds the text's 20 bytes to 32.
                let bytes = index.memory_bytes() / index.subscriptions() + 12;
                assert!(bytes <= 130, "{bytes} bytes for each of {}", index.subscriptions());
            }
        }
        println!("{} bytes for each exact subscription", index.memory_bytes() / index.subscriptions() + 12);
    }

    #[test]
    fn a_subscription_with_a_wildcard_of_its_own_takes_at_most_300_bytes() {
        for end in ["/#", "/+"] {
            let mut index = LocalIndex::new(HashSeed::from_u64(3));
            for session in 0..100_000 {
                index.subscribe(&format!("devices/{session:012}{end}"), Subscriber::new(session, 1));
            }
            // The allocator rounds the texts of filter and level to 48 bytes in all.
            let bytes = index.memory_bytes() / index.subscriptions() + 14;
            println!("{bytes} bytes for each subscription \"devices/…{end}\"");
            assert!(bytes <= 300);
        }
    }

    #[test]
    fn all_memory_of_filters_is_used_again_after_they_are_gone() {
        let mut index = LocalIndex::new(HashSeed::from_u64(3));
        let mut bytes = [0; 3];
        for (number, round) in bytes.iter_mut().enumerate() {
            let filter = |session: u32| format!("a/{number}.{session}/+/{session}/#");
            for session in 0..2000 {
                assert!(index.subscribe(&filter(session), Subscriber::new(session, 0)).first);
            }
            *round = index.memory_bytes();
            for session in 0..2000 {
                let gone = index.unsubscribe(&filter(session), session).unwrap();
                assert!(gone.last && gone.hash_gone);
            }
            assert!(index.is_empty() && index.filters() == 0);
        }
        assert_eq!(bytes[1], bytes[2]);
    }

    #[test]
    fn the_deepest_topic_meets_the_deepest_filters() {
        let mut index = LocalIndex::new(HashSeed::from_u64(3));
        let deep = "/".repeat(65_000);
        let filters = [deep.clone(), format!("{}#", &deep[1..]), format!("{}+", &deep[1..]), "+/".repeat(1000) + "#"];
        for (session, filter) in (0..).zip(&filters) {
            assert!(index.subscribe(filter, Subscriber::new(session, 0)).first);
        }
        for topic in [&*deep, &deep[1..]] {
            let hash = topic_hash(&HashSeed::from_u64(3), topic);
            assert_eq!(index.matches(topic, hash, &mut Vec::new()), 3);
        }
    }

    #[test]
    fn a_filter_is_found_by_its_number_while_it_has_a_subscriber() {
        let mut index = LocalIndex::new(seed());
        let filter = index.subscribe("a/+", Subscriber::new(1, 1).with_identifier(7)).filter;
        assert_eq!((index.filter_text(filter), index.find("a/+")), ("a/+", Some(filter)));
        assert_eq!(index.subscriber(filter, 1).unwrap().identifier(), 7);
        assert!(index.subscribe("a/+", Subscriber::new(1, 2)).replaced);
        assert_eq!(index.subscriber(filter, 1).unwrap().qos(), 2);
        assert!(index.unsubscribe_id(filter, 2).is_none());
        assert!(index.unsubscribe_id(filter, 1).unwrap().last);
        assert_eq!((index.find("a/+"), index.subscriber(filter, 1), index.subscribers(filter)), (None, None, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn the_index_matches_what_a_linear_search_matches(
            steps in prop::collection::vec((0u32..3, strategies::filter(), 0u32..4), 0..100),
            topics in prop::collection::vec(strategies::topic(), 1..20),
        ) {
            let mut index = LocalIndex::new(seed());
            let mut twin: BTreeMap<(String, u32), Subscriber> = BTreeMap::new();
            let mut filters: Vec<String> = Vec::new();
            for (identifier, (kind, filter, session)) in (0u32..).zip(steps) {
                let subscribers = |twin: &BTreeMap<(String, u32), Subscriber>, filter: &String| {
                    twin.keys().filter(|(other, _)| other == filter).count()
                };
                if kind > 0 {
                    let new = Subscriber::new(session, 0).with_identifier(identifier);
                    let first = subscribers(&twin, &filter) == 0;
                    let replaced = twin.insert((filter.clone(), session), new).is_some();
                    let subscribed = index.subscribe(&filter, new);
                    prop_assert_eq!((subscribed.replaced, subscribed.first), (replaced, first));
                    prop_assert_eq!(index.filter_text(subscribed.filter), &*filter);
                    filters.push(filter);
                } else if !filters.is_empty() {
                    let filter = filters[identifier as usize * 7 % filters.len()].clone();
                    let removed = twin.remove(&(filter.clone(), session));
                    let gone = index.unsubscribe(&filter, session);
                    prop_assert_eq!(gone.is_some(), removed.is_some());
                    let last = subscribers(&twin, &filter) == 0;
                    let hash = |filter: &str| topic_hash(&seed(), filter);
                    let exact = |filter: &str| !filter.contains(['+', '#']);
                    let shared = |other: &str| exact(&filter) && exact(other) && hash(other) == hash(&filter);
                    let hash_gone = last && !twin.keys().any(|(other, _)| shared(other));
                    prop_assert!(gone.is_none_or(|gone| (gone.last, gone.hash_gone) == (last, hash_gone)));
                }
                prop_assert_eq!(index.subscriptions(), twin.len());
            }
            for topic in &topics {
                let (filters, mut found) = matches(&index, topic);
                let matching: Vec<_> = twin.iter().filter(|((filter, _), _)| filter_matches(filter, topic)).collect();
                let mut expected: Vec<_> = matching.iter().map(|(_, subscriber)| **subscriber).collect();
                let key = |subscriber: &Subscriber| (subscriber.session(), subscriber.identifier());
                found.sort_by_key(key);
                expected.sort_by_key(key);
                prop_assert_eq!(found, expected);
                let mut texts: Vec<_> = matching.iter().map(|((filter, _), _)| filter).collect();
                texts.dedup();
                prop_assert_eq!(filters, texts.len());
            }
        }
    }
}
