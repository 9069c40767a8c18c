//! The subscribers of one filter: 8 bytes each, from one to a million.
//!
//! Most filters have one subscriber, a few have very many, so the set changes its shape with its size: up to
//! two in place, then a vector sorted by session, then many such vectors, so that a change in a set of a
//! million moves at most a few kilobytes.

/// One session's subscription to one filter, as the index holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    session: u32,
    packed: u32,
}

const _: () = assert!(size_of::<Subscriber>() == 8);

const QOS_SHIFT: u32 = 28;
const NO_LOCAL: u32 = 1 << 30;
const RETAIN_AS_PUBLISHED: u32 = 1 << 31;

impl Subscriber {
    /// The largest subscription identifier, 268,435,455 (MQTT 5.0 §3.8.2.1.2).
    pub const IDENTIFIER_MAX: u32 = (1 << QOS_SHIFT) - 1;

    /// A subscription of a session: QoS 0 to 2, no options, no subscription identifier.
    pub fn new(session: u32, qos: u8) -> Subscriber {
        assert!(qos <= 2, "QoS is 0, 1 or 2");
        Subscriber { session, packed: u32::from(qos) << QOS_SHIFT }
    }

    /// With a subscription identifier; 0 stands for none.
    pub fn with_identifier(mut self, identifier: u32) -> Subscriber {
        assert!(identifier <= Self::IDENTIFIER_MAX, "a subscription identifier has 28 bits");
        self.packed = self.packed & !Self::IDENTIFIER_MAX | identifier;
        self
    }

    /// With another QoS, 0 to 2.
    pub fn with_qos(mut self, qos: u8) -> Subscriber {
        assert!(qos <= 2, "QoS is 0, 1 or 2");
        self.packed = self.packed & !(3 << QOS_SHIFT) | u32::from(qos) << QOS_SHIFT;
        self
    }

    /// With the No Local option.
    pub fn with_no_local(mut self, no_local: bool) -> Subscriber {
        self.packed = self.packed & !NO_LOCAL | if no_local { NO_LOCAL } else { 0 };
        self
    }

    /// With the Retain As Published option.
    pub fn with_retain_as_published(mut self, retain_as_published: bool) -> Subscriber {
        self.packed = self.packed & !RETAIN_AS_PUBLISHED | if retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        self
    }

    /// The session's slot on its shard.
    pub fn session(self) -> u32 {
        self.session
    }

    /// The maximum QoS granted.
    pub fn qos(self) -> u8 {
        (self.packed >> QOS_SHIFT & 3) as u8
    }

    /// The subscription identifier; 0 stands for none.
    pub fn identifier(self) -> u32 {
        self.packed & Self::IDENTIFIER_MAX
    }

    /// Messages this session publishes itself are not sent to it.
    pub fn no_local(self) -> bool {
        self.packed & NO_LOCAL != 0
    }

    /// Messages keep the RETAIN flag they were published with.
    pub fn retain_as_published(self) -> bool {
        self.packed & RETAIN_AS_PUBLISHED != 0
    }
}

/// Subscribers in the order of their sessions; a session is in a set at most once.
#[derive(Debug, Default)]
pub enum SubscriberSet {
    #[default]
    Empty,
    One(Subscriber),
    Two([Subscriber; 2]),
    /// 3 to [`CHUNK`] subscribers.
    Sorted(Vec<Subscriber>),
    /// Vectors of 1 to [`CHUNK`]. (Twice boxed, so that the set itself stays small.)
    Chunked(Box<Chunked>),
}

const _: () = assert!(size_of::<SubscriberSet>() <= 24);

/// Subscribers per chunk: 4 KiB.
const CHUNK: usize = 512;

#[derive(Debug)]
pub struct Chunked {
    len: usize,
    /// Sorted by their first session; never empty.
    chunks: Vec<Vec<Subscriber>>,
}

impl SubscriberSet {
    pub fn len(&self) -> usize {
        match self {
            SubscriberSet::Empty => 0,
            SubscriberSet::One(_) => 1,
            SubscriberSet::Two(_) => 2,
            SubscriberSet::Sorted(all) => all.len(),
            SubscriberSet::Chunked(chunked) => chunked.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, SubscriberSet::Empty)
    }

    pub fn get(&self, session: u32) -> Option<Subscriber> {
        let part = match self {
            SubscriberSet::Chunked(chunked) => &chunked.chunks[chunked.chunk_of(session)],
            small => small.as_slice(),
        };
        position(part, session).ok().map(|index| part[index])
    }

    /// Puts a subscriber in; returns the one of the same session that it replaces.
    pub fn insert(&mut self, new: Subscriber) -> Option<Subscriber> {
        match self {
            SubscriberSet::Chunked(chunked) => return chunked.insert(new),
            SubscriberSet::Sorted(all) if all.len() >= CHUNK && position(all, new.session).is_err() => {
                let chunks = vec![std::mem::take(all)];
                *self = SubscriberSet::Chunked(Box::new(Chunked { len: CHUNK, chunks }));
                return self.insert(new);
            }
            _ => {}
        }
        match position(self.as_slice(), new.session) {
            Ok(index) => Some(std::mem::replace(&mut self.as_mut_slice()[index], new)),
            Err(index) => {
                self.insert_small(index, new);
                None
            }
        }
    }

    /// Takes a session's subscriber out.
    pub fn remove(&mut self, session: u32) -> Option<Subscriber> {
        let removed = match self {
            SubscriberSet::Chunked(chunked) => chunked.remove(session)?,
            SubscriberSet::Sorted(all) => {
                let removed = all.remove(position(all, session).ok()?);
                shrink(all);
                removed
            }
            small => return small.remove_inline(session),
        };
        self.settle();
        Some(removed)
    }

    /// Appends every subscriber.
    pub fn append_to(&self, out: &mut Vec<Subscriber>) {
        match self {
            SubscriberSet::Chunked(chunked) => chunked.chunks.iter().for_each(|chunk| out.extend_from_slice(chunk)),
            small => out.extend_from_slice(small.as_slice()),
        }
    }

    /// Bytes of memory outside the set itself.
    pub fn memory_bytes(&self) -> usize {
        match self {
            SubscriberSet::Empty | SubscriberSet::One(_) | SubscriberSet::Two(_) => 0,
            SubscriberSet::Sorted(all) => all.capacity() * size_of::<Subscriber>(),
            SubscriberSet::Chunked(chunked) => {
                let entries: usize = chunked.chunks.iter().map(Vec::capacity).sum();
                size_of::<Chunked>()
                    + chunked.chunks.capacity() * size_of::<Vec<Subscriber>>()
                    + entries * size_of::<Subscriber>()
            }
        }
    }

    fn as_slice(&self) -> &[Subscriber] {
        match self {
            SubscriberSet::Empty => &[],
            SubscriberSet::One(one) => std::slice::from_ref(one),
            SubscriberSet::Two(two) => two,
            SubscriberSet::Sorted(all) => all,
            SubscriberSet::Chunked(_) => unreachable!("a chunked set is not one slice"),
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Subscriber] {
        match self {
            SubscriberSet::Empty => &mut [],
            SubscriberSet::One(one) => std::slice::from_mut(one),
            SubscriberSet::Two(two) => two,
            SubscriberSet::Sorted(all) => all,
            SubscriberSet::Chunked(_) => unreachable!("a chunked set is not one slice"),
        }
    }

    fn insert_small(&mut self, index: usize, new: Subscriber) {
        match self {
            SubscriberSet::Empty => *self = SubscriberSet::One(new),
            SubscriberSet::One(one) => {
                *self = SubscriberSet::Two(if index == 0 { [new, *one] } else { [*one, new] });
            }
            SubscriberSet::Two(two) => {
                let mut all = Vec::with_capacity(4);
                all.extend_from_slice(two);
                all.insert(index, new);
                *self = SubscriberSet::Sorted(all);
            }
            SubscriberSet::Sorted(all) => {
                // A quarter at a time: doubling would cost up to 8 bytes more for each subscriber.
                if all.len() == all.capacity() {
                    all.reserve_exact(all.len() / 4 + 2);
                }
                all.insert(index, new);
            }
            SubscriberSet::Chunked(_) => unreachable!("a chunked set inserts into its chunks"),
        }
    }

    fn remove_inline(&mut self, session: u32) -> Option<Subscriber> {
        let index = position(self.as_slice(), session).ok()?;
        let removed = self.as_slice()[index];
        *self = match self {
            SubscriberSet::Two(two) => SubscriberSet::One(two[1 - index]),
            _ => SubscriberSet::Empty,
        };
        Some(removed)
    }

    /// Takes on the shape of a smaller set where that is due.
    fn settle(&mut self) {
        match self {
            SubscriberSet::Sorted(all) if all.len() == 2 => *self = SubscriberSet::Two([all[0], all[1]]),
            SubscriberSet::Chunked(chunked) if chunked.len <= CHUNK / 2 => {
                *self = SubscriberSet::Sorted(chunked.chunks.concat());
            }
            _ => {}
        }
    }
}

impl Chunked {
    /// The only chunk that can hold a session.
    fn chunk_of(&self, session: u32) -> usize {
        self.chunks.partition_point(|chunk| chunk[0].session <= session).saturating_sub(1)
    }

    fn insert(&mut self, new: Subscriber) -> Option<Subscriber> {
        let at = self.chunk_of(new.session);
        match position(&self.chunks[at], new.session) {
            Ok(index) => return Some(std::mem::replace(&mut self.chunks[at][index], new)),
            Err(index) if self.chunks[at].len() < CHUNK => self.chunks[at].insert(index, new),
            // Sessions that rise leave full chunks behind, not half-full ones.
            Err(CHUNK) if at + 1 == self.chunks.len() => self.chunks.push(vec![new]),
            Err(index) => {
                let mut upper = self.chunks[at].split_off(CHUNK / 2);
                self.chunks[at].shrink_to(CHUNK * 5 / 8);
                match index.checked_sub(CHUNK / 2) {
                    Some(index) => upper.insert(index, new),
                    None => self.chunks[at].insert(index, new),
                }
                self.chunks.insert(at + 1, upper);
            }
        }
        self.len += 1;
        None
    }

    fn remove(&mut self, session: u32) -> Option<Subscriber> {
        let at = self.chunk_of(session);
        let index = position(&self.chunks[at], session).ok()?;
        let removed = self.chunks[at].remove(index);
        self.len -= 1;
        if self.chunks[at].is_empty() {
            self.chunks.remove(at);
        } else if self.chunks[at].len() < CHUNK / 4 {
            self.merge(at);
        }
        Some(removed)
    }

    /// Joins a chunk with a neighbour if the two leave room to grow.
    fn merge(&mut self, at: usize) {
        let fits = |left: usize| {
            let right = self.chunks.get(left + 1)?;
            (self.chunks[left].len() + right.len() <= CHUNK * 3 / 4).then_some(left)
        };
        if let Some(left) = fits(at).or_else(|| fits(at.checked_sub(1)?)) {
            let right = self.chunks.remove(left + 1);
            self.chunks[left].extend_from_slice(&right);
        } else {
            shrink(&mut self.chunks[at]);
        }
    }
}

fn position(sorted: &[Subscriber], session: u32) -> Result<usize, usize> {
    sorted.binary_search_by_key(&session, |subscriber| subscriber.session)
}

/// Gives memory back once most of it is unused.
fn shrink(all: &mut Vec<Subscriber>) {
    if all.len() < all.capacity() / 4 {
        all.shrink_to(all.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn content(set: &SubscriberSet) -> Vec<Subscriber> {
        let mut out = Vec::new();
        set.append_to(&mut out);
        out
    }

    #[test]
    fn options_and_identifier_do_not_disturb_each_other() {
        for (qos, no_local, as_published) in [(0, true, false), (1, false, true), (2, true, true)] {
            let subscriber = Subscriber::new(7, qos)
                .with_identifier(Subscriber::IDENTIFIER_MAX)
                .with_no_local(no_local)
                .with_retain_as_published(as_published);
            assert_eq!((subscriber.session(), subscriber.qos()), (7, qos));
            assert_eq!((subscriber.no_local(), subscriber.retain_as_published()), (no_local, as_published));
            assert_eq!(subscriber.identifier(), Subscriber::IDENTIFIER_MAX);
            assert_eq!(subscriber.with_identifier(0).with_no_local(false).identifier(), 0);
        }
    }

    #[test]
    fn a_hundred_thousand_rising_sessions_take_little_more_than_eight_bytes_each() {
        let mut set = SubscriberSet::Empty;
        (0..100_000).for_each(|session| assert!(set.insert(Subscriber::new(session, 0)).is_none()));
        assert!(set.memory_bytes() < 900_000, "{} bytes", set.memory_bytes());
        (0..99_998).for_each(|session| assert!(set.remove(session).is_some()));
        assert_eq!(set.memory_bytes(), 0);
    }

    #[test]
    fn a_session_between_two_full_chunks_keeps_the_order() {
        let mut set = SubscriberSet::Empty;
        (0..2 * CHUNK as u32).for_each(|number| assert!(set.insert(Subscriber::new(number * 2, 0)).is_none()));
        let between = CHUNK as u32 * 2 - 1;
        assert_eq!(set.insert(Subscriber::new(between, 1)), None);
        assert_eq!(set.get(between), Some(Subscriber::new(between, 1)));
        assert!(content(&set).is_sorted_by_key(|subscriber| subscriber.session()));
    }

    #[test]
    fn sessions_in_random_order_take_at_most_sixteen_bytes_each() {
        let mut set = SubscriberSet::Empty;
        for number in 0..100_000u32 {
            assert!(set.insert(Subscriber::new(number.wrapping_mul(2_654_435_761), 0)).is_none());
        }
        assert!(set.memory_bytes() < 1_600_000, "{} bytes", set.memory_bytes());
    }

    /// Sessions in any order, or rising from somewhere.
    fn sessions() -> impl Strategy<Value = Vec<u32>> {
        let rising = (0u32..3000, 1usize..4, 1usize..1500)
            .prop_map(|(first, step, count)| (first..3000).step_by(step).take(count).collect());
        prop_oneof![prop::collection::vec(0u32..3000, 0..1500), rising]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_set_does_what_a_map_does(
            phases in prop::collection::vec((0u8..8, sessions()), 1..8)
        ) {
            let mut set = SubscriberSet::default();
            let mut twin = BTreeMap::new();
            for (kind, sessions) in phases {
                for session in sessions {
                    if kind < 5 {
                        let new = Subscriber::new(session, kind % 3).with_identifier(session);
                        prop_assert_eq!(set.insert(new), twin.insert(session, new));
                    } else {
                        prop_assert_eq!(set.remove(session), twin.remove(&session));
                    }
                    prop_assert_eq!(set.len(), twin.len());
                    prop_assert_eq!(set.is_empty(), twin.is_empty());
                    prop_assert_eq!(set.get(session), twin.get(&session).copied());
                }
                prop_assert_eq!(content(&set), twin.values().copied().collect::<Vec<_>>());
            }
        }
    }
}
