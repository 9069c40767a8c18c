//! Subscriptions and rules that change: of what SUBACK granted it, a client has at each moment what the rules of that
//! moment grant.
//!
//! New rules are held against all sessions, so many filters in each turn, and a session with more than that a piece in
//! each; until it is through, each of its deliveries is held against them. A subscription that is not granted any more is
//! taken out of the index, so that it costs nothing, and remembered; one that is granted at less than its QoS is served at
//! that, from when the session is through (until then perhaps at the QoS of SUBACK). When rules grant it again
//! it is as it was, without a replay of retained messages: the client is told neither, since no version of MQTT has a
//! packet for that, and would be deaf for ever after a slip in a file of rules that was put right a minute later.
//!
//! What a client is told counts: a SUBSCRIBE that is refused, like an UNSUBSCRIBE, ends the subscription for good.

use super::Core;
use super::note::Interested;
use super::withheld::Kept;
use crate::acl::{Grants, Subscribing};
use crate::codec::{QoS, topic::parse_shared};
use crate::index::{FilterId, GroupId, Subscriber};
use std::collections::BTreeSet;

/// How many filters are held against new rules in one turn; a session counts as one besides.
pub(super) const RENEWED_PER_TURN: usize = 1024;

/// What is to be held against the rules of now.
#[derive(Debug, Default)]
pub struct Renewals {
    /// The slot of the session that the rules have come to, until they have come to all.
    sweep: Option<u32>,
    /// Slots of sessions with many subscriptions whose clients are others than they were, or came back.
    waiting: BTreeSet<u32>,
    /// Where among them it goes on: a client that comes back again and again does not go before others each time.
    next_waiting: u32,
    /// Which of the two goes first in the next turn.
    turn: Lane,
    /// The session of each that is not through yet.
    midway: [Option<Midway>; 2],
}

/// Two queues, of which each goes first in every second turn: clients that come back again and again do not hold up the
/// sweep.
#[derive(Clone, Copy, Debug, Default)]
enum Lane {
    #[default]
    Sweep,
    Waiting,
}

impl Lane {
    fn other(self) -> Lane {
        match self {
            Lane::Sweep => Lane::Waiting,
            Lane::Waiting => Lane::Sweep,
        }
    }
}

/// A session that is being held against its grants.
#[derive(Debug)]
struct Midway {
    slot: u32,
    /// Those that it has. If it got others meanwhile, that began anew.
    grants: Grants,
    /// The filter of the withheld subscription that was looked at last: they are taken in their order.
    withheld: Option<Box<str>>,
    /// The subscriptions that are to be looked at, once the withheld ones were. What the client does about them meanwhile
    /// it does by the same grants, and to look at one again changes nothing.
    held: Option<Vec<Held>>,
}

/// A subscription that is served.
#[derive(Clone, Copy, Debug)]
enum Held {
    Alone(FilterId),
    Shared(GroupId),
}

impl Renewals {
    /// There are new rules: all begins again.
    pub fn begin(&mut self) {
        *self = Renewals { sweep: Some(0), ..Renewals::default() };
    }

    /// Nothing is left to do.
    pub fn are_done(&self) -> bool {
        self.sweep.is_none() && self.waiting.is_empty() && self.midway.iter().all(Option::is_none)
    }

    /// The slot that comes next in a lane, of so many.
    fn next_slot(&mut self, lane: Lane, slots: u32) -> Option<u32> {
        match lane {
            Lane::Sweep => {
                let slot = self.sweep?;
                self.sweep = Some(slot + 1).filter(|next| *next < slots);
                Some(slot)
            }
            Lane::Waiting => {
                let slot = *self.waiting.range(self.next_waiting..).next().or_else(|| self.waiting.first())?;
                self.waiting.remove(&slot);
                self.next_waiting = slot + 1;
                Some(slot)
            }
        }
    }
}

impl Core {
    /// Holds some subscriptions against new rules.
    pub(super) fn renew_some(&mut self) {
        let mut work = RENEWED_PER_TURN;
        let first = self.renewals.turn;
        self.renewals.turn = first.other();
        for lane in [first, first.other()] {
            while work > 0 {
                let midway = self.renewals.midway[lane as usize].take();
                let Some(midway) = midway.or_else(|| self.next_renewal(lane, &mut work)) else { break };
                self.renewals.midway[lane as usize] = self.go_on(midway, &mut work);
            }
        }
    }

    /// The session that comes next in a lane.
    fn next_renewal(&mut self, lane: Lane, work: &mut usize) -> Option<Midway> {
        while *work > 0 {
            let slot = self.renewals.next_slot(lane, self.sessions.slots())?;
            *work -= 1;
            if self.sessions.get(slot).is_none() {
                continue;
            }
            self.guard_roles(slot);
            if let Some(midway) = self.begin_renewal(slot) {
                return Some(midway);
            }
        }
        None
    }

    /// Makes a session's grants anew, and its subscriptions what these say: now, or if they are many, in the turns to come.
    pub(super) fn renew_session(&mut self, slot: u32) {
        let session = &self.sessions[slot];
        let withheld = session.access.as_ref().map_or(0, |access| access.withheld.len());
        let shared = session.groups.as_ref().map_or(0, |groups| groups.len());
        let Some(midway) = self.begin_renewal(slot) else { return };
        let mut work = RENEWED_PER_TURN;
        if self.sessions[slot].filters.len() + shared + 2 * withheld >= work {
            self.renewals.waiting.insert(slot);
            return;
        }
        let left = self.go_on(midway, &mut work);
        debug_assert!(left.is_none(), "less than the work of a turn");
    }

    /// Makes a session's grants anew; `None` if none of its subscriptions can be other than it is.
    fn begin_renewal(&mut self, slot: u32) -> Option<Midway> {
        let grants = match self.renew_grants(slot) {
            Some(grants) => grants,
            // There are no rules any more.
            None => self.open_grants(slot)?,
        };
        let access = self.sessions[slot].access.as_deref_mut()?;
        access.checked = false;
        Some(Midway { slot, grants, withheld: None, held: None })
    }

    /// Looks at more of a session's subscriptions; returns what is left.
    fn go_on(&mut self, mut midway: Midway, work: &mut usize) -> Option<Midway> {
        let access = self.sessions.get_mut(midway.slot)?.access.as_deref_mut()?;
        if !access.is_by(&midway.grants) {
            return None;
        }
        let mut changes = Vec::new();
        // What is withheld while the others are looked at was looked at.
        let is_given_back = midway.held.is_some() || self.give_back(&mut midway, work, &mut changes);
        let is_through = is_given_back && self.hold_some(&mut midway, work, &mut changes);
        self.announce_for_nobody(changes);
        if !is_through {
            return Some(midway);
        }
        self.sessions[midway.slot].access.as_deref_mut()?.settled = true;
        None
    }

    /// Makes subscriptions that were withheld what SUBACK made them, as far as they are granted; true if all were looked at.
    fn give_back(&mut self, midway: &mut Midway, work: &mut usize, changes: &mut Vec<Interested>) -> bool {
        let slot = midway.slot;
        loop {
            let Some(access) = &mut self.sessions[slot].access else { return true };
            let withheld = &mut access.withheld;
            let Some((filter, kept)) = withheld.next_behind(midway.withheld.as_deref()) else { return true };
            if *work == 0 {
                return false;
            }
            *work -= 1;
            midway.withheld = Some(filter.clone());
            let Kept { granted, is_mute } = kept;
            match midway.grants.subscribe(&filter, qos_of(granted)) {
                Subscribing::Denied if is_mute => {}
                Subscribing::Denied => {
                    withheld.keep(filter.clone(), Kept { granted, is_mute: true });
                    self.counters.subscriptions_revoked.add(1);
                    self.take_out(slot, &filter, changes);
                }
                Subscribing::Granted { qos, .. } => {
                    match qos < qos_of(granted) {
                        true => withheld.keep(filter.clone(), Kept { granted, is_mute: false }),
                        false => drop(withheld.release(&filter)),
                    }
                    self.counters.subscriptions_restored.add(u64::from(is_mute));
                    self.enter(slot, &filter, granted.with_qos(qos as u8), changes);
                }
            }
        }
    }

    /// Holds subscriptions that are served against the grants; true if all were looked at.
    fn hold_some(&mut self, midway: &mut Midway, work: &mut usize, changes: &mut Vec<Interested>) -> bool {
        let Midway { slot, grants, held, .. } = midway;
        let held = held.get_or_insert_with(|| {
            let session = &self.sessions[*slot];
            let shared =
                session.groups.iter().flat_map(|groups| groups.iter().map(|group| Held::Shared(GroupId(*group))));
            session.filters.iter().map(|filter| Held::Alone(*filter)).chain(shared).collect()
        });
        while *work > 0 {
            let Some(next) = held.pop() else { return true };
            *work -= 1;
            let checked = match next {
                Held::Alone(filter) => self.hold_filter(*slot, filter, grants, changes),
                Held::Shared(group) => self.hold_group(*slot, group, grants, changes),
            };
            if let Some(access) = &mut self.sessions[*slot].access {
                access.checked |= checked;
            }
        }
        held.is_empty()
    }

    /// Ends a subscription, shared or not; true if there was one.
    pub(super) fn take_out(&mut self, slot: u32, filter: &str, changes: &mut Vec<Interested>) -> bool {
        match parse_shared(filter) {
            Some((name, filter)) => self.leave_group(slot, self.group_id(name, filter), changes),
            None => self.unsubscribe_one(slot, filter, changes),
        }
    }

    fn withhold_subscription(&mut self, slot: u32, filter: Box<str>, kept: Kept) {
        if let Some(access) = &mut self.sessions[slot].access {
            access.withheld.keep(filter, kept);
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
        #[cfg(test)]
        if is_left_out() {
            return false;
        }
        match grants.subscribe(&filter, qos_of(held)) {
            Subscribing::Denied => {
                self.counters.subscriptions_revoked.add(1);
                self.take_out(slot, &filter, changes);
                self.withhold_subscription(slot, filter, Kept { granted: held, is_mute: true });
                false
            }
            Subscribing::Granted { qos, checked } => {
                if qos < qos_of(held) {
                    self.enter(slot, &filter, held.with_qos(qos as u8), changes);
                    self.withhold_subscription(slot, filter, Kept { granted: held, is_mute: false });
                }
                checked
            }
        }
    }

    /// The client says itself what becomes of a subscription: true if it is one that is mute.
    pub(super) fn forget_withheld(&mut self, slot: u32, filter: &str) -> bool {
        let access = self.sessions[slot].access.as_deref_mut();
        access.and_then(|access| access.withheld.release(filter)).is_some_and(|kept| kept.is_mute)
    }

    /// The subscriptions of a session that are mute, and whether this filter is among them.
    pub(super) fn mute_subscriptions(&self, slot: u32, filter: &str) -> (usize, bool) {
        let access = self.sessions[slot].access.as_deref();
        access.map_or((0, false), |access| (access.withheld.mute(), access.withheld.is_mute(filter)))
    }
}

fn qos_of(subscriber: Subscriber) -> QoS {
    QoS::from_bits(subscriber.qos()).unwrap_or_default()
}

#[cfg(test)]
thread_local! {
    /// A fault on purpose, by which the simulator shows that it sees such: one in so many subscriptions is not held against
    /// new rules. 0 is no fault.
    pub static LEAVES_OUT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn is_left_out() -> bool {
    thread_local!(static HELD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    let held = HELD.get() + 1;
    HELD.set(held);
    LEAVES_OUT.get() > 0 && held.is_multiple_of(LEAVES_OUT.get())
}
