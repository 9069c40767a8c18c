//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! A filter is in this shard's index at once. If it is the shard's first of that filter, the filter's owner has to
//! publish the interest before SUBACK is sent: whatever is published after a SUBACK was seen is delivered, on
//! whichever shard it arrives.

use super::Core;
use super::inbound::Flow;
use super::note::{Interested, Note};
use super::session::{NO_SLOT, Replay};
use crate::acl::{Room, Subscribing};
use crate::codec::{
    FilterRequest, Filters, Packet, ReasonCode, RetainHandling, SubAck, Subscribe, SubscriptionOptions, Unsubscribe,
    topic::{level_count, parse_shared},
};
use crate::engine::ConnId;
use crate::guard::budget::Pressure;
use crate::guard::policy;
use crate::index::{GroupId, Subscriber};
use crate::slab::Key;

/// What the tables around a filter take of memory, about.
const FILTER_TABLES_BYTES: usize = 128;

/// A SUBSCRIBE whose filters are not published everywhere yet.
pub struct Announcing {
    conn: ConnId,
    packet_id: u16,
    codes: Vec<u8>,
    replays: Vec<Replay>,
    waits: u16,
}

/// So many filters of a SUBSCRIBE are looked at, however few its client may have: some may be refused.
const FILTERS_LOOKED_AT_LEAST: usize = 64;

impl Core {
    pub(super) fn on_subscribe(&mut self, id: ConnId, subscribe: &Subscribe<'_>) -> Flow {
        if subscribe.subscription_identifier.is_some() && !self.mqtt.subscription_identifiers {
            let code = ReasonCode::SubscriptionIdentifiersNotSupported;
            return self.protocol_error(id, code, "subscription identifiers are not available");
        }
        let slot = self.wire.conns[id.slot].session;
        let v5 = self.wire.conns[id.slot].is_v5();
        let identifier = subscribe.subscription_identifier.unwrap_or(0);
        let mut codes = Vec::new();
        let mut replays = Vec::new();
        let mut changes = Vec::new();
        let mut room = Room::of_a_packet();
        let most = (self.limits_of(self.sessions[slot].class).subscriptions_max as usize).max(FILTERS_LOOKED_AT_LEAST);
        for (number, request) in subscribe.filters.iter().enumerate() {
            // Nothing is asked about more than it may ever have, for a packet holds very many, and rules are many.
            let few = if number < most { Ok(()) } else { Err(ReasonCode::QuotaExceeded) };
            let checked = few.and_then(|()| self.check_filter(slot, request.filter));
            let code = match checked.and_then(|()| self.grant(slot, request, &mut room, &mut changes)) {
                Ok(request) => self.subscribe_one(slot, request, identifier, &mut changes, &mut replays),
                Err(code) if v5 => code as u8,
                Err(_) => 0x80, // the only failure that 3.1.1 knows (§3.9.3)
            };
            codes.push(code);
        }
        let packet_id = subscribe.packet_id;
        let owners = if self.announcing.is_empty() { Vec::new() } else { self.owners_of(subscribe.filters) };
        let announcing = Announcing { conn: id, packet_id, codes, replays, waits: 0 };
        self.announce_for(announcing, changes, owners);
        Flow::Continue
    }

    fn check_filter(&self, slot: u32, filter: &str) -> Result<(), ReasonCode> {
        let shared = parse_shared(filter);
        let plain = shared.map_or(filter, |(_, filter)| filter);
        let own = self.limits_of(self.sessions[slot].class);
        if filter.len() > usize::from(self.limits.topic_bytes_max)
            || level_count(plain) > usize::from(own.topic_levels_max)
        {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if shared.is_some() && !self.mqtt.shared_subscriptions {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if is_wildcard(plain) && !self.mqtt.wildcard_subscriptions {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        if !policy::is_deep_enough(plain, own.wildcard_depth_min) {
            self.counters.shallow_wildcards.add(1);
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        let session = &self.sessions[slot];
        let (mute, is_mute) = self.mute_subscriptions(slot, filter);
        let held = session.filters.len() + session.groups.as_ref().map_or(0, |groups| groups.len()) + mute;
        if held >= own.subscriptions_max as usize && !is_mute && !self.is_subscribed(slot, filter) {
            return Err(ReasonCode::QuotaExceeded);
        }
        if self.guarding.pressure == Pressure::RefuseQos && !self.is_subscribed(slot, filter) {
            return Err(ReasonCode::QuotaExceeded);
        }
        self.guard_filter(slot, plain);
        Ok(())
    }

    /// The subscription as far as the rules grant it.
    fn grant<'f>(
        &mut self,
        slot: u32,
        request: FilterRequest<'f>,
        room: &mut Room,
        changes: &mut Vec<Interested>,
    ) -> Result<FilterRequest<'f>, ReasonCode> {
        if !self.rules.in_force() {
            return Ok(request);
        }
        self.forget_withheld(slot, request.filter);
        match self.may_subscribe(slot, request.filter, request.options.qos, room) {
            Subscribing::Granted { qos, .. } => {
                Ok(FilterRequest { options: SubscriptionOptions { qos, ..request.options }, ..request })
            }
            Subscribing::Denied => {
                self.counters.subscribe_denied.add(1);
                // It may have been granted by rules of a moment ago.
                self.take_out(slot, request.filter, changes);
                Err(ReasonCode::NotAuthorized)
            }
        }
    }

    fn is_subscribed(&self, slot: u32, filter: &str) -> bool {
        match parse_shared(filter) {
            Some((name, filter)) => self.groups.member(self.group_id(name, filter), slot).is_some(),
            None => self.index.find(filter).is_some_and(|found| self.index.subscriber(found, slot).is_some()),
        }
    }

    /// Enters one subscription; returns the granted QoS as a reason code [MQTT-3.9.3-1].
    fn subscribe_one(
        &mut self,
        slot: u32,
        request: FilterRequest<'_>,
        identifier: u32,
        changes: &mut Vec<Interested>,
        replays: &mut Vec<Replay>,
    ) -> u8 {
        let SubscriptionOptions { qos, no_local, retain_as_published, retain_handling } = request.options;
        let qos = qos.min(self.mqtt.max_qos);
        let subscriber = Subscriber::new(slot, qos as u8)
            .with_identifier(identifier)
            .with_no_local(no_local)
            .with_retain_as_published(retain_as_published);
        let replaced = self.enter(slot, request.filter, subscriber, changes);
        // Retained messages are not sent to shared subscriptions (§4.8.2).
        let wanted = match retain_handling {
            _ if parse_shared(request.filter).is_some() => false,
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => !replaced,
            RetainHandling::DoNotSend => false,
        };
        if wanted && self.mqtt.retain_available {
            replays.push(self.new_replay(request.filter, qos, identifier));
        }
        qos as u8
    }

    /// Makes a session a subscriber to a filter, shared or not; true if it was one.
    pub(super) fn enter(
        &mut self,
        slot: u32,
        filter: &str,
        subscriber: Subscriber,
        changes: &mut Vec<Interested>,
    ) -> bool {
        if let Some((name, filter)) = parse_shared(filter) {
            return self.join_group(slot, name, filter, subscriber, changes);
        }
        let subscribed = self.index.subscribe(filter, subscriber);
        if !subscribed.replaced {
            self.sessions[slot].filters.push(subscribed.filter);
            self.counters.subscriptions.add(1);
        }
        if subscribed.first {
            self.counters.filter_bytes.add(filter_bytes(filter));
        }
        if subscribed.first && self.shards > 1 {
            changes.push(Interested::Yes { filter: filter.into() });
        }
        subscribed.replaced
    }

    /// Publishes changes of interest through their owners, and answers the client when that is done: with what
    /// this SUBSCRIBE changed, and with what an earlier one changed and this one found already done here.
    fn announce_for(&mut self, announcing: Announcing, changes: Vec<Interested>, owners: Vec<u16>) {
        let told: Vec<u16> = changes.iter().map(|change| change.owner(&self.shared.interest)).collect();
        let waiter = self.announcing.insert(announcing);
        let mut waits = self.announce(changes, Some(waiter));
        for owner in owners.into_iter().filter(|owner| !told.contains(owner)) {
            // Its answer comes behind those to all that was announced to it before.
            self.note(owner, Note::Announce { changes: Vec::new(), waiter: Some(to_u64(waiter)) });
            waits += 1;
        }
        let announcing = &mut self.announcing[waiter.slot];
        announcing.waits = waits;
        let conn = &mut self.wire.conns[announcing.conn.slot];
        conn.subacks_held += 1;
        if !announcing.replays.is_empty() {
            // What is delivered live from now on is newer than what will be replayed.
            self.sessions[conn.session].replays.get_or_insert_default();
        }
        if waits == 0 {
            self.finish_subscribe(waiter.slot);
        }
    }

    /// Publishes changes of interest that no SUBSCRIBE made. A later SUBSCRIBE that finds them made here has to wait
    /// for their owners all the same.
    pub(super) fn announce_for_nobody(&mut self, changes: Vec<Interested>) {
        if !changes.iter().any(|change| matches!(change, Interested::Yes { .. })) {
            self.announce(changes, None);
            return;
        }
        let conn = ConnId { slot: NO_SLOT, generation: 0 };
        let waiter =
            self.announcing.insert(Announcing { conn, packet_id: 0, codes: Vec::new(), replays: Vec::new(), waits: 0 });
        let waits = self.announce(changes, Some(waiter));
        self.announcing[waiter.slot].waits = waits;
        if waits == 0 {
            self.announcing.remove(waiter.slot);
        }
    }

    /// The other shards that publish the interest in these filters, each once.
    fn owners_of(&self, filters: Filters<'_>) -> Vec<u16> {
        let interest = &self.shared.interest;
        let mut owners: Vec<u16> = filters
            .iter()
            .map(|request| match parse_shared(request.filter) {
                Some((_, filter)) => interest.shared_owner(filter),
                None => interest.owner(request.filter),
            })
            .filter(|&owner| owner != self.shard)
            .collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// Publishes changes of interest: own ones at once, others by a note to their owner. Returns how many
    /// owners will say when it is done.
    pub(super) fn announce(&mut self, changes: Vec<Interested>, waiter: Option<Key>) -> u16 {
        let mut by_owner: Vec<(u16, Vec<Interested>)> = Vec::new();
        for change in changes {
            let owner = change.owner(&self.shared.interest);
            match by_owner.iter_mut().find(|(known, _)| *known == owner) {
                Some((_, changes)) => changes.push(change),
                None => by_owner.push((owner, vec![change])),
            }
        }
        let mut waits = 0;
        for (owner, changes) in by_owner {
            if owner == self.shard {
                self.shared.interest.apply(changes.iter().map(|change| change.of(self.shard)));
            } else {
                self.note(owner, Note::Announce { changes, waiter: waiter.map(to_u64) });
                waits += u16::from(waiter.is_some());
            }
        }
        waits
    }

    /// An owner has published what was announced.
    pub(super) fn take_announced(&mut self, waiter: u64) {
        let key = to_key(waiter);
        let Some(announcing) = self.announcing.get_key_mut(key) else { return };
        announcing.waits -= 1;
        if announcing.waits == 0 {
            self.finish_subscribe(key.slot);
        }
    }

    fn finish_subscribe(&mut self, slot: u32) {
        let Some(announcing) = self.announcing.remove(slot) else { return };
        let Announcing { conn: id, packet_id, codes, replays, .. } = announcing;
        // A later connection of the same client did not ask.
        if self.live(id).is_none() {
            return;
        }
        let conn = &mut self.wire.conns[id.slot];
        conn.subacks_held -= 1;
        let session = conn.session;
        let suback = SubAck { packet_id, reason_string: None, user_properties: Default::default(), codes: &codes };
        self.wire.packet(id.slot, &Packet::SubAck(suback));
        self.start_replays(session, replays);
    }

    pub(super) fn on_unsubscribe(&mut self, id: ConnId, unsubscribe: &Unsubscribe<'_>) {
        let slot = self.wire.conns[id.slot].session;
        let codes = self.unsubscribe_all(slot, unsubscribe.filters);
        let unsuback = SubAck {
            packet_id: unsubscribe.packet_id,
            reason_string: None,
            user_properties: Default::default(),
            codes: &codes,
        };
        self.wire.packet(id.slot, &Packet::UnsubAck(unsuback));
    }

    fn unsubscribe_all(&mut self, slot: u32, filters: Filters<'_>) -> Vec<u8> {
        let mut changes = Vec::new();
        let codes = filters
            .iter()
            .map(|request| {
                let was_mute = self.forget_withheld(slot, request.filter);
                let existed = self.take_out(slot, request.filter, &mut changes);
                if existed || was_mute { ReasonCode::Success as u8 } else { ReasonCode::NoSubscriptionExisted as u8 }
            })
            .collect();
        self.announce(changes, None);
        codes
    }

    pub(super) fn unsubscribe_one(&mut self, slot: u32, filter: &str, changes: &mut Vec<Interested>) -> bool {
        let Some(removed) = self.index.unsubscribe(filter, slot) else { return false };
        let filters = &mut self.sessions[slot].filters;
        // From the end: rules that take all of many look at the last first.
        if let Some(at) = filters.iter().rposition(|&known| known == removed.filter) {
            filters.swap_remove(at);
        }
        self.counters.subscriptions.sub(1);
        if removed.last {
            self.counters.filter_bytes.sub(filter_bytes(filter));
        }
        self.lost_interest(filter, removed.hash_gone, removed.last, changes);
        self.stop_replay(slot, filter);
        self.forget_replay(slot, filter);
        true
    }

    /// The subscription went before its SUBACK could be sent: no retained message shall follow that.
    fn forget_replay(&mut self, slot: u32, filter: &str) {
        let conn = self.sessions[slot].conn;
        if self.wire.conns.get(conn).is_none_or(|conn| conn.subacks_held == 0) {
            return; // nearly always: not every client's shall be looked through
        }
        for (_, announcing) in self.announcing.iter_mut().filter(|(_, announcing)| announcing.conn.slot == conn) {
            announcing.replays.retain(|replay| *replay.filter != *filter);
        }
    }

    fn lost_interest(&self, filter: &str, hash_gone: bool, last: bool, changes: &mut Vec<Interested>) {
        // Exact filters are announced by their hash alone: it goes when the last filter with it goes.
        let gone = if is_wildcard(filter) { last } else { last && hash_gone };
        if gone && self.shards > 1 {
            changes.push(Interested::No { filter: filter.into() });
        }
    }

    /// The session ends: so do all its subscriptions.
    pub(super) fn drop_all_subscriptions(&mut self, slot: u32) {
        let mut changes = Vec::new();
        for filter in std::mem::take(&mut self.sessions[slot].filters) {
            let text: Box<str> = self.index.filter_text(filter).into();
            if let Some(removed) = self.index.unsubscribe_id(filter, slot) {
                self.counters.subscriptions.sub(1);
                if removed.last {
                    self.counters.filter_bytes.sub(filter_bytes(&text));
                }
                self.lost_interest(&text, removed.hash_gone, removed.last, &mut changes);
            }
        }
        while let Some(&group) = self.sessions[slot].groups.as_ref().and_then(|groups| groups.last()) {
            self.leave_group(slot, GroupId(group), &mut changes);
        }
        self.announce(changes, None);
    }
}

/// About how many bytes a filter takes.
pub(super) fn filter_bytes(filter: &str) -> u64 {
    (filter.len() + FILTER_TABLES_BYTES) as u64
}

fn is_wildcard(filter: &str) -> bool {
    memchr::memchr2(b'+', b'#', filter.as_bytes()).is_some()
}

fn to_u64(key: Key) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.slot)
}

fn to_key(waiter: u64) -> Key {
    Key { slot: waiter as u32, generation: (waiter >> 32) as u32 }
}
