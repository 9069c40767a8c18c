//! Subscriptions and rules that change: of what SUBACK granted it, a client has at each moment what the rules of that
//! moment grant.
//!
//! New rules are held against all sessions, a piece in each turn; until a session's turn has come, each of its
//! deliveries is held against them. A subscription that is not granted any more is taken out of the index, so that it
//! costs nothing, and remembered; one that is granted at less than its QoS is served at that. When rules grant it again
//! it is as it was, without a replay of retained messages: the client is told neither, since no version of MQTT has a
//! packet for that, and would be deaf for ever after a slip in a file of rules that was put right a minute later.
//!
//! What a client is told counts: a SUBSCRIBE that is refused, like an UNSUBSCRIBE, ends the subscription for good.

use super::Core;
use super::note::Interested;
use crate::acl::{Grants, Subscribing};
use crate::codec::{QoS, topic::parse_shared};
use crate::index::{FilterId, GroupId, Subscriber};

/// How many sessions, and subscriptions of sessions, are held against new rules in one turn.
const RENEWED_PER_TURN: usize = 1024;

/// A subscription that was granted, and now is not, or not at its QoS.
#[derive(Debug)]
pub struct Withheld {
    /// Topic filter; `$share/` and the group before it for a shared subscription.
    filter: Box<str>,
    /// As it was granted.
    granted: Subscriber,
    /// It is out of the index; else it is served at a lower QoS.
    is_mute: bool,
}

impl Core {
    /// Holds some sessions against new rules.
    pub(super) fn renew_some(&mut self, from: u32) {
        let end = self.sessions.slots();
        let mut looked_at = 0;
        for slot in from..end {
            if looked_at >= RENEWED_PER_TURN {
                self.rules.renewing = Some(slot);
                return;
            }
            looked_at += 1;
            if let Some(session) = self.sessions.get(slot) {
                looked_at += session.filters.len() + session.access.as_ref().map_or(0, |access| access.withheld.len());
                self.renew_session(slot);
            }
        }
        self.rules.renewing = None;
    }

    /// Makes a session's grants anew, and its subscriptions what these say.
    pub(super) fn renew_session(&mut self, slot: u32) {
        let grants = match self.renew_grants(slot) {
            Some(grants) => grants,
            None if self.sessions[slot].access.as_ref().is_some_and(|access| !access.withheld.is_empty()) => {
                Grants::everything()
            }
            None => return,
        };
        let mut changes = Vec::new();
        self.give_back(slot, &grants, &mut changes);
        let mut checked = false;
        for filter in self.sessions[slot].filters.clone() {
            checked |= self.hold_filter(slot, filter, &grants, &mut changes);
        }
        for group in self.sessions[slot].groups.as_deref().cloned().unwrap_or_default() {
            checked |= self.hold_group(slot, GroupId(group), &grants, &mut changes);
        }
        if let Some(access) = &mut self.sessions[slot].access {
            access.checked = checked;
        }
        self.announce_for_nobody(changes);
    }

    /// Makes subscriptions that were withheld what SUBACK made them, if they are granted at all.
    fn give_back(&mut self, slot: u32, grants: &Grants, changes: &mut Vec<Interested>) {
        let Some(access) = &mut self.sessions[slot].access else { return };
        for mut withheld in std::mem::take(&mut access.withheld) {
            let granted = grants.subscribe(&withheld.filter, qos_of(withheld.granted)) != Subscribing::Denied;
            if granted {
                self.counters.subscriptions_restored.add(u64::from(withheld.is_mute));
                self.enter(slot, &withheld.filter, withheld.granted, changes);
                continue;
            }
            if !std::mem::replace(&mut withheld.is_mute, true) {
                self.counters.subscriptions_revoked.add(1);
                self.take_out(slot, &withheld.filter, changes);
            }
            self.withhold_subscription(slot, withheld);
        }
    }

    /// Ends a subscription, shared or not; true if there was one.
    pub(super) fn take_out(&mut self, slot: u32, filter: &str, changes: &mut Vec<Interested>) -> bool {
        match parse_shared(filter) {
            Some((name, filter)) => self.leave_group(slot, self.group_id(name, filter), changes),
            None => self.unsubscribe_one(slot, filter, changes),
        }
    }

    fn withhold_subscription(&mut self, slot: u32, withheld: Withheld) {
        if let Some(access) = &mut self.sessions[slot].access {
            access.withheld.push(withheld);
        }
    }

    /// Holds a subscription against the rules; true if its deliveries have to be, each.
    fn hold_filter(&mut self, slot: u32, id: FilterId, grants: &Grants, changes: &mut Vec<Interested>) -> bool {
        let Some(held) = self.index.subscriber(id, slot) else { return false };
        let filter: Box<str> = self.index.filter_text(id).into();
        self.hold(slot, filter, held, grants, changes)
    }

    /// The same for a shared subscription.
    fn hold_group(&mut self, slot: u32, id: GroupId, grants: &Grants, changes: &mut Vec<Interested>) -> bool {
        let (Some(held), Some((name, filter))) = (self.groups.member(id, slot), self.groups.texts(id)) else {
            return false;
        };
        let filter = format!("$share/{name}/{filter}").into();
        self.hold(slot, filter, held, grants, changes)
    }

    fn hold(
        &mut self,
        slot: u32,
        filter: Box<str>,
        held: Subscriber,
        grants: &Grants,
        changes: &mut Vec<Interested>,
    ) -> bool {
        match grants.subscribe(&filter, qos_of(held)) {
            Subscribing::Denied => {
                self.counters.subscriptions_revoked.add(1);
                self.take_out(slot, &filter, changes);
                self.withhold_subscription(slot, Withheld { filter, granted: held, is_mute: true });
                false
            }
            Subscribing::Granted { qos, checked } => {
                if qos < qos_of(held) {
                    self.enter(slot, &filter, held.with_qos(qos as u8), changes);
                    self.withhold_subscription(slot, Withheld { filter, granted: held, is_mute: false });
                }
                checked
            }
        }
    }

    /// The client says itself what becomes of a subscription: true if it is one that is mute.
    pub(super) fn forget_withheld(&mut self, slot: u32, filter: &str) -> bool {
        let Some(access) = &mut self.sessions[slot].access else { return false };
        let at = access.withheld.iter().position(|withheld| *withheld.filter == *filter);
        at.is_some_and(|at| access.withheld.swap_remove(at).is_mute)
    }

    /// The subscriptions of a session that are mute, and whether this filter is among them.
    pub(super) fn mute_subscriptions(&self, slot: u32, filter: &str) -> (usize, bool) {
        let Some(access) = &self.sessions[slot].access else { return (0, false) };
        let mute = || access.withheld.iter().filter(|withheld| withheld.is_mute);
        (mute().count(), mute().any(|withheld| *withheld.filter == *filter))
    }
}

fn qos_of(subscriber: Subscriber) -> QoS {
    QoS::from_bits(subscriber.qos()).unwrap_or_default()
}
