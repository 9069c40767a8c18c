//! Shared subscriptions (MQTT 5.0 §4.8.2): each message goes to one member of the group.
//!
//! The publishing shard chooses a shard, weighted by its members; that shard chooses the member. Members that
//! are connected are preferred. When a member's session ends, what it had not acknowledged goes to another.

use super::Core;
use super::counters::DropReason;
use super::message::Message;
use super::note::{Interested, Note, Ticket};
use super::session::{Delivery, NO_SLOT, Outcome};
use super::wire::Fan;
use crate::config::SharedStrategy;
use crate::index::{GroupId, Pick, ShardMembers, ShareGroup, Subscriber};
use smallvec::SmallVec;
use std::sync::Arc;

/// How often a message is passed on because the shard it was sent to had lost its last member meanwhile.
const HOPS_MAX: u8 = 4;

/// How many members are tried when the rules do not allow the first to have a message.
const MEMBERS_ASKED_MAX: usize = 16;

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

impl Core {
    /// Sends a publication to one member of a group, here or on another shard. Returns what became of it
    /// here and how many shards will answer; `None` if the group has no member.
    pub(super) fn route_group(
        &mut self,
        fan: &mut Fan<'_>,
        group: &Arc<ShareGroup>,
        publisher: u32,
        ticket: Option<Ticket>,
        hops: u8,
    ) -> Option<(Outcome, u32)> {
        let (shard, pick) = self.choose_shard(fan, group, publisher)?;
        if shard != self.shard {
            let message = fan.message().clone();
            self.note(shard, Note::PublishShared { message, group: group.clone(), pick, ticket, hops });
            return Some((Outcome::default(), u32::from(ticket.is_some())));
        }
        Some((self.deliver_to_member(fan, group, pick)?, 0))
    }

    /// Chooses among the shards by how many members each has, connected ones if there are any.
    fn choose_shard(&mut self, fan: &Fan<'_>, group: &ShareGroup, publisher: u32) -> Option<(u16, u64)> {
        // What is published of this shard's own members may be a moment behind.
        let own = self.groups.counts(GroupId(group.id));
        let counts = |members: &ShardMembers| {
            if members.shard == self.shard { (own.online, own.total) } else { (members.online, members.total) }
        };
        let any_online = group.members.iter().any(|members| counts(members).0 > 0);
        let weights: SmallVec<[(u16, u64); 8]> = group
            .members
            .iter()
            .map(|members| (members.shard, if any_online { counts(members).0 } else { counts(members).1 }.into()))
            .collect();
        let total: u64 = weights.iter().map(|&(_, weight)| weight).sum();
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
                if let Some(turn) = self.turns.get_mut(&group.id) {
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

    /// Delivers to one of this shard's members; `None` if it has none.
    fn deliver_to_member(&mut self, fan: &mut Fan<'_>, group: &ShareGroup, pick: u64) -> Option<Outcome> {
        let id = GroupId(group.id);
        let how = match self.mqtt.shared_strategy {
            SharedStrategy::RoundRobin | SharedStrategy::Local => Pick::RoundRobin,
            SharedStrategy::Random => Pick::Random(self.random.u64(..)),
            SharedStrategy::Sticky => Pick::Hint(0),
            SharedStrategy::HashClient | SharedStrategy::HashTopic => Pick::Hint(pick),
        };
        let member = self.groups.pick(id, how)?;
        let member = if self.rules.in_force() { self.allowed_member(fan, id, member) } else { Some(member) };
        Some(match member {
            Some(member) => self.deliver_to(fan, member, Some(id.0)),
            None => {
                self.withhold();
                Outcome::default()
            }
        })
    }

    /// The member that was picked, or the next one that may have the message.
    fn allowed_member(&mut self, fan: &Fan<'_>, id: GroupId, picked: Subscriber) -> Option<Subscriber> {
        let (topic, hash) = (fan.publication.topic(), fan.publication.head().topic_hash);
        let mut member = picked;
        for _ in 0..MEMBERS_ASKED_MAX {
            if self.may_receive(member.session(), topic, hash) {
                return Some(member);
            }
            member = self.groups.pick(id, Pick::RoundRobin)?;
        }
        None
    }

    /// A message that another shard chose this one for.
    pub(super) fn receive_shared(&mut self, from: u16, note: SharedNote) {
        let SharedNote { message, group, pick, ticket, hops } = note;
        let publication = message.publication();
        let mut fan = Fan::of(&message, &publication, self.next_round());
        if let Some(outcome) = self.deliver_to_member(&mut fan, &group, pick) {
            return self.answer(from, ticket, outcome);
        }
        // The last member here left while the message was on its way. The answer goes to the publisher's shard
        // from here, as one for the whole detour: the next shard is not asked for one.
        let group = self.find_group(&message, group.id).filter(|_| hops < HOPS_MAX);
        let passed_on = group.and_then(|group| self.route_group(&mut fan, &group, NO_SLOT, None, hops + 1));
        let outcome = passed_on.map(|(outcome, _)| Outcome { matched: true, ..outcome });
        self.answer(from, ticket, outcome.unwrap_or_default());
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
        match group.and_then(|group| self.route_group(&mut fan, &group, NO_SLOT, None, 0)) {
            Some(_) => self.counters.redispatched.add(1),
            None => self.counters.drop_delivery(DropReason::SessionEnded),
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
        if self.groups.leave(group, slot).is_none() {
            return false;
        }
        if let Some(groups) = &mut self.sessions[slot].groups {
            groups.retain(|known| *known != group.0);
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

/// The parts of [`Note::PublishShared`].
pub struct SharedNote {
    pub message: Message,
    pub group: Arc<ShareGroup>,
    pub pick: u64,
    pub ticket: Option<Ticket>,
    pub hops: u8,
}
