//! Who wants a topic: the subscription indexes, and the retained messages found by a filter.
//!
//! Two questions are kept apart. *Which shards want this topic* is asked by the publishing shard for every
//! message and answered by [`Interest`], shared by all and read without a lock. *Which sessions here want it*
//! is asked by each of those shards and answered by its own [`LocalIndex`] (and [`Groups`] for the members of
//! shared subscriptions). [`RetainedStore`] answers the opposite question: which topics a new filter matches.
//!
//! Nothing here performs I/O, knows the time, or sees an invalid topic name or topic filter: the codec checked
//! them. How many levels a filter may have is limited by the caller; nothing here recurses by level.

mod exact;
mod groups;
mod hamt;
mod interest;
mod local;
#[cfg(test)]
mod naive;
mod recent;
mod retained;
mod stripe;
mod subscribers;
mod table;
mod trie;

pub use groups::{GroupCounts, GroupId, Groups, Joined, Left, Pick};
pub use interest::{Change, Interest, InterestCache, Route, SHARDS_MAX, STRIPES};
pub use local::{FilterId, LocalIndex, Subscribed, Unsubscribed};
pub use recent::Recalled;
pub use retained::{RetainedStore, ScanCursor, ScanEnd};
pub use stripe::{ShardMembers, ShareGroup};
pub use subscribers::Subscriber;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher;

/// Keys every hash of a process, so that no client can choose topics which collide.
#[derive(Clone)]
pub struct HashSeed {
    seed: u64,
    shared: SharedSeed,
    /// Which bits of a hash are kept: few, to test what happens when hashes collide.
    #[cfg(test)]
    mask: u64,
}

impl HashSeed {
    /// A seed for a whole process: every shard must use the same. Take it from the system's randomness.
    pub fn from_u64(seed: u64) -> HashSeed {
        HashSeed {
            seed,
            shared: SharedSeed::from_u64(!seed),
            #[cfg(test)]
            mask: u64::MAX,
        }
    }

    /// A seed for hashes that often collide: of `bits` bits.
    #[cfg(test)]
    fn with_bits(seed: u64, bits: u32) -> HashSeed {
        HashSeed { mask: (1 << bits) - 1, ..HashSeed::from_u64(seed) }
    }

    /// Hashes a text for one of several purposes.
    fn hash(&self, purpose: Purpose, text: &str) -> u64 {
        self.hash_after(purpose as u64, text)
    }

    fn hash_after(&self, before: u64, text: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed ^ before.wrapping_mul(0x9E37_79B9_7F4A_7C15), &self.shared);
        hasher.write(text.as_bytes());
        #[cfg(test)]
        return hasher.finish() & self.mask;
        #[cfg(not(test))]
        hasher.finish()
    }
}

impl std::fmt::Debug for HashSeed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("HashSeed(..)")
    }
}

/// Keeps the hashes of different kinds of text apart.
#[derive(Clone, Copy)]
enum Purpose {
    Topic = 1,
    Level,
    Prefix,
    ShareName,
}

/// Hash of a topic name or of a filter without wildcards; never 0. Computed once per published message.
pub fn topic_hash(seed: &HashSeed, text: &str) -> u64 {
    seed.hash(Purpose::Topic, text).max(1)
}

/// Hash that names the shared subscription `$share/{name}/{filter}` on every shard.
pub fn share_hash(seed: &HashSeed, name: &str, filter: &str) -> u64 {
    seed.hash_after(seed.hash(Purpose::ShareName, name), filter)
}

/// True when a valid filter has a wildcard; a literal level never contains these characters [MQTT-4.7.1-1].
fn has_wildcard(filter: &str) -> bool {
    memchr::memchr2(b'+', b'#', filter.as_bytes()).is_some()
}

/// True for topics that filters starting with a wildcard must not match [MQTT-4.7.2-1].
fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

/// The level of a topic that starts at byte `start`; `start <= topic.len()`.
fn level_at(topic: &str, start: usize) -> &str {
    let rest = &topic[start..];
    memchr::memchr(b'/', rest.as_bytes()).map_or(rest, |end| &rest[..end])
}

/// The levels of a filter without a `#` at the end, and whether there was one.
fn split_rest(filter: &str) -> (impl Iterator<Item = &str>, bool) {
    let (before, rest) = match filter.strip_suffix('#') {
        Some("") => (None, true),
        Some(before) => (before.strip_suffix('/'), true),
        None => (Some(filter), false),
    };
    (before.into_iter().flat_map(|levels| levels.split('/')), rest)
}
