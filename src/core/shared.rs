//! Shared subscriptions (MQTT 5.0 §4.8.2): each message goes to one member of the group.
//!
//! The publishing shard chooses a shard, weighted by its members; that shard chooses the member. Members that
//! are connected are preferred. When a member's session ends, what it had not acknowledged goes to another. A message that
//! rules keep from a member goes to one that may have it, on whichever shard there is one.

use super::Core;
use super::counters::DropReason;
use super::message::Message;
use super::note::{Interested, Note, Ticket};
use super::session::{Delivery, NO_SLOT, Outcome};
use super::subscribe::filter_bytes;
use super::wire::Fan;
use crate::config::SharedStrategy;
use crate::index::{GroupId, Pick, ShardMembers, ShareGroup, Subscriber};
use smallvec::SmallVec;
use std::sync::Arc;

/// How many members are picked in their turn when the rules do not allow the first to have a message. Then all are
/// asked, which costs less than to deliver to all would.
const MEMBERS_PICKED_MAX: usize = 16;

/// How many groups a shard remembers its turn in; beyond, all start anew.
const TURNS_MAX: usize = 65_536;

/// Where this shard stands in a group it publishes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// How many messages it has sent to the group.
    count: u64,
    /// Sticky: the shard that gets them.
    shard: Option<u16>,
}

/// The search for a member that may have a message, over all shards: the connected members of each are asked, then all
/// members of each.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// Whom to answer.
    ticket: Option<Ticket>,
    /// The shard that waits for the answer.
    home: u16,
    /// Shards where nobody was found, a bit each.
    tried: u64,
    /// No connected member was found: now the others are asked too.
    everybody: bool,
    /// The rules kept the message from somebody.
    denied: bool,
}

/// What became of a message for a group.
pub enum Found {
    /// A member of this shard was given it.
    Here(Outcome),
    /// Another shard has it, and answers whoever waits.
    Elsewhere,
    /// There are members, and none may have it.
    Denied,
    /// There is no member.
    Nobody,
}

impl Search {
    /// A search that begins, for a publisher on this shard if it has a ticket.
    pub fn new(ticket: Option<Ticket>, home: u16) -> Search {
        Search { ticket, home, tried: 0, everybody: false, denied: false }
    }

    fn found_nobody_on(&mut self, shard: u16) {
        self.tried |= 1 << shard;
    }

    fn has_tried(&self, shard: u16) -> bool {
        self.tried >> shard & 1 == 1
    }

    fn in_vain(self) -> Found {
        if self.denied { Found::Denied } else { Found::Nobody }
    }
}

impl Core {
    /// Sends a publication to one member of a group, here or on another shard.
    pub(super) fn route_group(
        &mut self,
        fan: &mut Fan<'_>,
        group: &Arc<ShareGroup>,
        publisher: u32,
        mut search: Search,
    ) -> Found {
        while let Some((shard, pick)) = self.choose_shard(fan, group, publisher, &mut search) {
            if shard != self.shard {
                let message = fan.message().clone();
                self.note(shard, Note::PublishShared { message, group: group.clone(), pick, search });
                return Found::Elsewhere;
            }
            if let Some(outcome) = self.deliver_to_member(fan, group, pick, &mut search) {
                return Found::Here(outcome);
            }
            search.found_nobody_on(shard);
        }
        search.in_vain()
    }

    /// Chooses among the shards by how many members each has, connected ones if there are any.
    fn choose_shard(
        &mut self,
        fan: &Fan<'_>,
        group: &ShareGroup,
        publisher: u32,
        search: &mut Search,
    ) -> Option<(u16, u64)> {
        // What is published of this shard's own members may be a moment behind.
        let own = self.groups.counts(GroupId(group.id));
        let counts = |members: &ShardMembers| {
            if members.shard == self.shard { (own.online, own.total) } else { (members.online, members.total) }
        };
        let weigh = |search: &Search| -> SmallVec<[(u16, u64); 8]> {
            let left = group.members.iter().filter(|members| !search.has_tried(members.shard));
            let weight = |(online, total): (u32, u32)| if search.everybody { total } else { online };
            left.map(|members| (members.shard, weight(counts(members)).into())).collect()
        };
        let sum = |weights: &[(u16, u64)]| -> u64 { weights.iter().map(|&(_, weight)| weight).sum() };
        let mut weights = weigh(search);
        if sum(&weights) == 0 && !search.everybody {
            (search.everybody, search.tried) = (true, 0);
            weights = weigh(search);
        }
        let total = sum(&weights);
        if total == 0 {
            return None;
        }
        if self.turns.len() >= TURNS_MAX && !self.turns.contains_key(&group.id) {
            self.turns.clear();
        }
        let turn = self.turns.entry(group.id).or_default();
        turn.count = turn.count.wrapping_add(1);
        let has_members = |shard: u16| weights.iter().any(|&(known, weight)| known == shard && weight > 0);
        let number = match self.mqtt.shared_strategy {
            SharedStrategy::Local if has_members(self.shard) => return Some((self.shard, turn.count)),
            SharedStrategy::Sticky => match turn.shard.filter(|&shard| has_members(shard)) {
                Some(shard) => return Some((shard, 0)),
                // Every publishing shard chooses the same, each group another.
                None => group.id,
            },
            SharedStrategy::RoundRobin | SharedStrategy::Local => turn.count,
            SharedStrategy::Random => self.random.u64(..),
            SharedStrategy::HashTopic => fan.publication.head().topic_hash >> 7,
            SharedStrategy::HashClient => self.publisher_hash(publisher),
        };
        let mut at = number % total;
        for (shard, weight) in weights {
            if at < weight {
                // A shard that was only asked because another had nobody is not the one to stay with.
                if let Some(turn) = self.turns.get_mut(&group.id).filter(|_| search.tried == 0) {
                    turn.shard = Some(shard);
                }
                return Some((shard, number));
            }
            at -= weight;
        }
        None
    }

    fn publisher_hash(&self, publisher: u32) -> u64 {
        if publisher == NO_SLOT {
            return 0;
        }
        crate::index::topic_hash(&self.shared.seed, &self.sessions[publisher].client_id) >> 7
    }

    /// Delivers to one of this shard's members; `None` if it has none that may have the message.
    fn deliver_to_member(
        &mut self,
        fan: &mut Fan<'_>,
        group: &ShareGroup,
        pick: u64,
        search: &mut Search,
    ) -> Option<Outcome> {
        let id = GroupId(group.id);
        let how = match self.mqtt.shared_strategy {
            SharedStrategy::RoundRobin | SharedStrategy::Local => Pick::RoundRobin,
            SharedStrategy::Random => Pick::Random(self.random.u64(..)),
            SharedStrategy::Sticky => Pick::Hint(0),
            SharedStrategy::HashClient | SharedStrategy::HashTopic => Pick::Hint(pick),
        };
        let member = self.groups.pick(id, how)?;
        let member = if self.rules.in_force() { self.allowed_member(fan, id, member, search)? } else { member };
        Some(self.deliver_to(fan, member, Some(id.0)))
    }

    /// The member that was picked, or another one that may have the message.
    fn allowed_member(
        &mut self,
        fan: &Fan<'_>,
        id: GroupId,
        picked: Subscriber,
        search: &mut Search,
    ) -> Option<Subscriber> {
        let (topic, hash) = (fan.publication.topic(), fan.publication.head().topic_hash);
        if self.may_receive(picked.session(), topic, hash) {
            return Some(picked);
        }
        search.denied = true;
        for _ in 0..MEMBERS_PICKED_MAX {
            let member = self.groups.pick(id, Pick::RoundRobin)?;
            if self.may_receive(member.session(), topic, hash) {
                return Some(member);
            }
        }
        let asked = |(_, online): &(Subscriber, bool)| *online || search.everybody;
        let members: Vec<Subscriber> = self.groups.members(id).filter(asked).map(|(member, _)| member).collect();
        members.into_iter().find(|member| self.may_receive(member.session(), topic, hash))
    }

    /// A message that another shard chose this one for. If nobody here takes it (the last member may have left
    /// meanwhile), it is passed on, and whoever gets it answers.
    pub(super) fn receive_shared(&mut self, message: &Message, group: &ShareGroup, pick: u64, mut search: Search) {
        let publication = message.publication();
        let mut fan = Fan::of(message, &publication, self.next_round());
        let mut found = match self.deliver_to_member(&mut fan, group, pick, &mut search) {
            Some(outcome) => Found::Here(outcome),
            None => search.in_vain(),
        };
        if !matches!(found, Found::Here(_))
            && let Some(group) = self.find_group(message, group.id)
        {
            search.found_nobody_on(self.shard);
            found = self.route_group(&mut fan, &group, NO_SLOT, search);
        }
        let outcome = match found {
            Found::Here(outcome) => outcome,
            Found::Elsewhere => return,
            Found::Denied => {
                self.withhold();
                Outcome::default()
            }
            Found::Nobody => Outcome::default(),
        };
        self.answer(search.home, search.ticket, outcome);
    }

    fn find_group(&mut self, message: &Message, id: u64) -> Option<Arc<ShareGroup>> {
        let mut route = std::mem::take(&mut self.scratch.route);
        self.shared.interest.lookup_groups(message.topic(), &mut route);
        let found = route.groups.iter().find(|group| group.id == id).cloned();
        route.groups.clear();
        self.scratch.route = route;
        found
    }

    /// A session ended with this delivery unfinished: another member of its group gets it, if it had one.
    pub(super) fn redispatch(&mut self, delivery: Delivery) {
        if delivery.message.is_expired(self.wire.now) {
            return self.counters.drop_delivery(DropReason::Expired); // [MQTT-3.3.2-5]
        }
        let group = delivery.group().and_then(|id| self.find_group(&delivery.message, id));
        let publication = delivery.message.publication();
        let mut fan = Fan::of(&delivery.message, &publication, self.next_round());
        let search = Search::new(None, self.shard);
        match group.map_or(Found::Nobody, |group| self.route_group(&mut fan, &group, NO_SLOT, search)) {
            Found::Here(_) | Found::Elsewhere => self.counters.redispatched.add(1),
            Found::Denied => self.counters.drop_delivery(DropReason::NotAuthorized),
            Found::Nobody => self.counters.drop_delivery(DropReason::SessionEnded),
        }
    }

    /// Makes a session a member; true if it was one.
    pub(super) fn join_group(
        &mut self,
        slot: u32,
        name: &str,
        filter: &str,
        subscriber: Subscriber,
        changes: &mut Vec<Interested>,
    ) -> bool {
        let online = self.sessions[slot].is_connected();
        let joined = self.groups.join(name, filter, subscriber, online);
        if joined.replaced {
            return true;
        }
        if joined.first {
            self.counters.filter_bytes.add(name.len() as u64 + filter_bytes(filter));
        }
        self.sessions[slot].groups.get_or_insert_default().push(joined.group.0);
        self.counters.subscriptions.add(1);
        self.counters.shared_subscriptions.add(1);
        changes.push(self.group_change(joined.group, name, filter));
        false
    }

    /// Ends a session's membership; false if it was no member.
    pub(super) fn leave_group(&mut self, slot: u32, group: GroupId, changes: &mut Vec<Interested>) -> bool {
        let Some((name, filter)) = self.groups.texts(group) else { return false };
        let (name, filter): (Box<str>, Box<str>) = (name.into(), filter.into());
        let Some(left) = self.groups.leave(group, slot) else { return false };
        if left.last {
            self.counters.filter_bytes.sub(name.len() as u64 + filter_bytes(&filter));
        }
        if let Some(groups) = &mut self.sessions[slot].groups {
            if let Some(at) = groups.iter().rposition(|known| *known == group.0) {
                groups.swap_remove(at);
            }
            if groups.is_empty() {
                self.sessions[slot].groups = None;
            }
        }
        self.counters.subscriptions.sub(1);
        self.counters.shared_subscriptions.sub(1);
        changes.push(self.group_change(group, &name, &filter));
        true
    }

    /// A session's connection came or went: its groups prefer members that are connected.
    pub(super) fn set_group_members_online(&mut self, slot: u32, online: bool) {
        let Some(groups) = self.sessions[slot].groups.as_deref().cloned() else { return };
        let mut changes = Vec::new();
        for group in groups.into_iter().map(GroupId) {
            if self.groups.set_online(group, slot, online)
                && let Some((name, filter)) = self.groups.texts(group)
            {
                changes.push(self.group_change(group, name, filter));
            }
        }
        self.announce(changes, None);
    }

    pub(super) fn group_id(&self, name: &str, filter: &str) -> GroupId {
        GroupId(crate::index::share_hash(&self.shared.seed, name, filter))
    }

    fn group_change(&self, group: GroupId, name: &str, filter: &str) -> Interested {
        let counts = self.groups.counts(group);
        Interested::Group { name: name.into(), filter: filter.into(), online: counts.online, total: counts.total }
    }
}
