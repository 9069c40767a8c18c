//! The members of shared subscriptions that live on this shard (MQTT 5.0 §4.8.2). Private to a shard.
//!
//! The publishing shard chooses a shard by the [`Interest`](super::Interest)'s counts; that shard chooses the
//! member here. Members that are connected are preferred. They lie before the others in one vector, so that
//! joining, leaving, coming and going and picking each cost the same however large a group is.

use super::subscribers::Subscriber;
use super::table::IdTable;
use super::{HashSeed, share_hash};
use crate::slab::Slab;

/// Names a shared subscription, the same on every shard: its [`share_hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// How many members a group has on this shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Members that are connected.
    pub online: u32,
    /// All members.
    pub total: u32,
}

/// What a join changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The group.
    pub group: GroupId,
    /// The session was a member before.
    pub replaced: bool,
    /// The group had no member here before.
    pub first: bool,
}

/// What leaving changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The group has no member left here.
    pub last: bool,
}

/// How the member for a message is chosen, among the connected ones if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// One after the other.
    RoundRobin,
    /// By a random number of the caller's.
    Random(u64),
    /// By a number that stands for something (the publisher, the topic): the same member while the group stays
    /// the same.
    Hint(u64),
}

/// The groups with members on this shard.
#[derive(Debug)]
pub struct Groups {
    seed: HashSeed,
    groups: Slab<Group>,
    by_id: IdTable,
}

#[derive(Debug)]
struct Group {
    id: GroupId,
    name: Box<str>,
    filter: Box<str>,
    /// The first `online` of them are connected.
    members: Vec<Subscriber>,
    online: usize,
    /// Where each session's member lies in `members`.
    positions: IdTable,
    /// Raised by each round-robin pick.
    turn: usize,
}

impl Groups {
    /// No groups. The seed is the process's.
    pub fn new(seed: HashSeed) -> Groups {
        Groups { seed, groups: Slab::new(), by_id: IdTable::default() }
    }

    /// Number of groups with a member here.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True when no group has a member here.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Makes a session a member of `$share/{name}/{filter}`, or replaces its subscription there.
    pub fn join(&mut self, name: &str, filter: &str, subscriber: Subscriber, online: bool) -> Joined {
        let id = GroupId(share_hash(&self.seed, name, filter));
        let slot = self.find(id).unwrap_or_else(|| {
            let slot = self.groups.insert(Group::new(id, name, filter)).slot;
            self.by_id.insert(id.0, slot);
            slot
        });
        let group = self.groups.get_mut(slot).expect("the table names only groups that exist");
        debug_assert!(*group.name == *name && *group.filter == *filter, "two groups with one 64-bit hash");
        let first = group.members.is_empty();
        let replaced = group.join(subscriber);
        group.set_online(subscriber.session(), online);
        Joined { group: id, replaced, first }
    }

    /// Ends a session's membership; `None` when it is no member.
    pub fn leave(&mut self, id: GroupId, session: u32) -> Option<Left> {
        let slot = self.find(id)?;
        let group = self.groups.get_mut(slot)?;
        group.leave(session)?;
        let last = group.members.is_empty();
        if last {
            self.groups.remove(slot);
            self.by_id.remove(id.0, slot);
        }
        Some(Left { last })
    }

    /// Notes that a member is connected or not; true when that is news.
    pub fn set_online(&mut self, id: GroupId, session: u32, online: bool) -> bool {
        let Some(slot) = self.find(id) else { return false };
        self.groups.get_mut(slot).is_some_and(|group| group.set_online(session, online))
    }

    /// How many members a group has here.
    pub fn counts(&self, id: GroupId) -> GroupCounts {
        let count = |group: &Group| GroupCounts { online: group.online as u32, total: group.members.len() as u32 };
        self.group(id).map(count).unwrap_or_default()
    }

    /// Chooses the member for a message; `None` when the group has no member here.
    pub fn pick(&mut self, id: GroupId, pick: Pick) -> Option<Subscriber> {
        let slot = self.find(id)?;
        self.groups.get_mut(slot)?.pick(pick)
    }

    /// A session's subscription as a member of a group.
    pub fn member(&self, id: GroupId, session: u32) -> Option<Subscriber> {
        let group = self.group(id)?;
        group.position(session).map(|position| group.members[position])
    }

    /// The members of a group, each with whether it is connected; these come first.
    pub fn members(&self, id: GroupId) -> impl Iterator<Item = (Subscriber, bool)> {
        let group = self.group(id);
        group.into_iter().flat_map(|group| {
            group.members.iter().enumerate().map(|(position, member)| (*member, position < group.online))
        })
    }

    /// Group name and filter.
    pub fn texts(&self, id: GroupId) -> Option<(&str, &str)> {
        self.group(id).map(|group| (&*group.name, &*group.filter))
    }

    /// Every group with a member here.
    pub fn iter(&self) -> impl Iterator<Item = GroupId> {
        self.groups.iter().map(|(_, group)| group.id)
    }

    fn find(&self, id: GroupId) -> Option<u32> {
        self.by_id.find(id.0, |slot| self.groups.get(slot).is_some_and(|group| group.id == id))
    }

    fn group(&self, id: GroupId) -> Option<&Group> {
        self.find(id).and_then(|slot| self.groups.get(slot))
    }
}

impl Group {
    fn new(id: GroupId, name: &str, filter: &str) -> Group {
        let (name, filter) = (name.into(), filter.into());
        Group { id, name, filter, members: Vec::new(), online: 0, positions: IdTable::default(), turn: 0 }
    }

    fn position(&self, session: u32) -> Option<usize> {
        let found = self.positions.find(spread(session), |at| self.members[at as usize].session() == session);
        found.map(|at| at as usize)
    }

    /// Adds a member, not connected, or replaces its subscription; true when it was there.
    fn join(&mut self, subscriber: Subscriber) -> bool {
        if let Some(position) = self.position(subscriber.session()) {
            self.members[position] = subscriber;
            return true;
        }
        self.positions.insert(spread(subscriber.session()), self.members.len() as u32);
        self.members.push(subscriber);
        false
    }

    fn leave(&mut self, session: u32) -> Option<()> {
        self.position(session)?;
        self.set_online(session, false);
        let position = self.position(session)?;
        self.swap(position, self.members.len() - 1);
        self.members.pop();
        self.positions.remove(spread(session), self.members.len() as u32);
        Some(())
    }

    /// Moves a member over the border between the connected and the others.
    fn set_online(&mut self, session: u32, online: bool) -> bool {
        let Some(position) = self.position(session).filter(|position| (*position < self.online) != online) else {
            return false;
        };
        if online {
            self.swap(position, self.online);
            self.online += 1;
        } else {
            self.online -= 1;
            self.swap(position, self.online);
        }
        true
    }

    fn swap(&mut self, left: usize, right: usize) {
        if left == right {
            return;
        }
        for (from, to) in [(left, right), (right, left)] {
            let hash = spread(self.members[from].session());
            self.positions.remove(hash, from as u32);
            self.positions.insert(hash, to as u32);
        }
        self.members.swap(left, right);
    }

    fn pick(&mut self, pick: Pick) -> Option<Subscriber> {
        let choice = if self.online > 0 { &self.members[..self.online] } else { &self.members[..] };
        if choice.is_empty() {
            return None;
        }
        let index = match pick {
            Pick::RoundRobin => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % choice.len()
            }
            Pick::Random(number) => ((u128::from(number) * choice.len() as u128) >> 64) as usize,
            Pick::Hint(number) => (number % choice.len() as u64) as usize,
        };
        Some(choice[index])
    }
}

/// Session numbers are no secret and no choice of a client's, so that a fixed mixing is enough.
fn spread(session: u32) -> u64 {
    u64::from(session).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn groups_with(online: &[u32], offline: &[u32]) -> (Groups, GroupId) {
        let mut groups = Groups::new(HashSeed::from_u64(1));
        for (sessions, online) in [(offline, false), (online, true)] {
            for session in sessions {
                groups.join("g", "a/+", Subscriber::new(*session, 1), online);
            }
        }
        let id = groups.iter().next().unwrap();
        (groups, id)
    }

    fn picks(groups: &mut Groups, id: GroupId, how: impl Fn(u64) -> Pick) -> Vec<u32> {
        (0..60).map(|number| groups.pick(id, how(number)).unwrap().session()).collect()
    }

    #[test]
    fn round_robin_gives_every_connected_member_the_same_share() {
        let (mut groups, id) = groups_with(&[1, 2, 3], &[4, 5]);
        let picked = picks(&mut groups, id, |_| Pick::RoundRobin);
        assert!([1, 2, 3].iter().all(|session| picked.iter().filter(|picked| *picked == session).count() == 20));
    }

    #[test]
    fn a_group_without_connected_members_picks_among_the_others() {
        let (mut groups, id) = groups_with(&[1], &[4, 5]);
        assert!(picks(&mut groups, id, |number| Pick::Random(number << 58)).iter().all(|session| *session == 1));
        assert!(groups.set_online(id, 1, false) && !groups.set_online(id, 1, false));
        let picked: BTreeSet<u32> = picks(&mut groups, id, |number| Pick::Random(number << 58)).into_iter().collect();
        assert_eq!(picked, [1, 4, 5].into());
    }

    #[test]
    fn a_hint_names_the_same_member_each_time() {
        let (mut groups, id) = groups_with(&[1, 2, 3], &[]);
        let first = picks(&mut groups, id, Pick::Hint);
        assert_eq!(first, picks(&mut groups, id, Pick::Hint));
        assert_eq!(first.into_iter().collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn a_group_of_nobody_picks_nobody() {
        let (mut groups, id) = groups_with(&[1], &[]);
        assert_eq!(groups.texts(id), Some(("g", "a/+")));
        assert_eq!(groups.leave(id, 2), None);
        assert_eq!(groups.leave(id, 1), Some(Left { last: true }));
        assert_eq!((groups.pick(id, Pick::RoundRobin), groups.texts(id), groups.is_empty()), (None, None, true));
    }

    proptest! {
        #[test]
        fn groups_do_what_maps_do(steps in prop::collection::vec((0u8..6, 0u32..12, any::<bool>(), 0u8..4), 0..300)) {
            let mut groups = Groups::new(HashSeed::with_bits(1, 8));
            let mut twin: BTreeMap<GroupId, BTreeMap<u32, (Subscriber, bool)>> = BTreeMap::new();
            for (kind, session, online, which) in steps {
                let name = if which % 2 == 0 { "even" } else { "odd" };
                let id = GroupId(share_hash(&HashSeed::with_bits(1, 8), name, "a"));
                let members = twin.entry(id).or_default();
                match kind {
                    0..3 => {
                        let new = Subscriber::new(session, which % 3);
                        let joined = groups.join(name, "a", new, online);
                        let first = members.is_empty();
                        let replaced = members.insert(session, (new, online)).is_some();
                        prop_assert_eq!(joined, Joined { group: id, replaced, first });
                    }
                    3 => {
                        let left = members.remove(&session).map(|_| Left { last: members.is_empty() });
                        prop_assert_eq!(groups.leave(id, session), left);
                    }
                    _ => {
                        let before = members.get_mut(&session).map(|member| std::mem::replace(&mut member.1, online));
                        let news = before.is_some_and(|before| before != online);
                        prop_assert_eq!(groups.set_online(id, session, online), news);
                    }
                }
                let found: BTreeMap<u32, (Subscriber, bool)> =
                    groups.members(id).map(|(member, online)| (member.session(), (member, online))).collect();
                prop_assert_eq!(&found, &*members);
                let online = members.values().filter(|(_, online)| *online).count() as u32;
                prop_assert_eq!(groups.counts(id), GroupCounts { online, total: members.len() as u32 });
                prop_assert_eq!(groups.member(id, session), members.get(&session).map(|(member, _)| *member));
                if let Some(picked) = groups.pick(id, Pick::RoundRobin) {
                    prop_assert!(members[&picked.session()].1 || online == 0);
                }
            }
        }
    }
}
