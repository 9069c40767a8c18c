//! What becomes of a message that reached a subscriber: counted, timed, entered in the ledger, told to its publisher.

use ringmq::codec::{Publish, QoS};

use super::{Fleet, Shared};
use crate::engine::ledger::{Delivery, Entry};
use crate::engine::script::hash;
use crate::engine::stamp::Stamp;
use crate::engine::wills::hash_will;
use crate::net::Links;
use crate::plan::Presence;

impl Fleet {
    /// A PUBLISH that is here for the first time, as far as packet identifiers tell.
    #[inline]
    pub(super) fn deliver(&mut self, links: &mut Links, number: u32, publish: &Publish<'_>) {
        let Some(stamp) = Stamp::of(publish.payload, self.shared.run) else {
            return self.deliver_unstamped(number, publish);
        };
        if stamp.is_of_another_run(self.now_ns) {
            return self.deliver_to_stranger(publish);
        }
        if !self.shared.checks {
            return self.deliver_unchecked(number, stamp, publish);
        }
        let client = &self.clients[number as usize];
        let (came_back, shares) = (client.flags.came_back, client.flags.shares);
        // The way of nearly all: what is found stays in registers, as nobody else looks at it.
        let own = if shares { None } else { self.ledger.find(client.account, stamp.flow) };
        let (entry, receiver_came_back) = match own {
            Some(entry) => (entry, came_back),
            None => match self.find_shared(number, stamp) {
                Some((entry, share_came_back)) => (entry, came_back || share_came_back),
                None => return self.deliver_to_stranger(publish),
            },
        };
        if publish.retain && !entry.retained && !self.keeps_flag(number) {
            return self.deliver_to_stranger(publish);
        }
        let part = &self.shared.script.publications[usize::from(entry.publication)];
        let is_of_flow = self.shared.is_topic(stamp.flow, publish.topic.as_bytes())
            && self.composer.is_payload(&self.shared.script, part, stamp, publish.payload);
        if !is_of_flow {
            return self.count_corrupted();
        }
        if self.settled {
            return;
        }
        let delivery = Delivery { dup: publish.dup, receiver_came_back };
        if publish.retain && entry.retained {
            return self.deliver_retained(entry, stamp, delivery);
        }
        if self.ledger.enter(entry, stamp.sequence, delivery) {
            self.tally.counts.delivered += 1;
            self.tally.latency(self.now_ns.saturating_sub(stamp.at_ns));
            if entry.owed {
                self.figures.paid += 1;
                self.tell_publisher(links, entry, stamp);
            }
            if shares {
                self.check_order_of_member(number, entry, stamp, delivery);
            }
        }
    }

    /// What is handed on because a member has gone may be older than what the next one has.
    #[inline(never)]
    fn check_order_of_member(&mut self, number: u32, entry: Entry, stamp: Stamp, delivery: Delivery) {
        if delivery.receiver_came_back || delivery.dup || self.ledger.is_ordered(entry) {
            return;
        }
        if let Some(member) = self.memberships.get_mut(&number)
            && !member.hears(entry.number(), stamp.sequence)
        {
            self.ledger.faults.reordered += 1;
        }
    }

    /// A closed loop goes on when its message is everywhere.
    #[inline]
    fn tell_publisher(&mut self, links: &mut Links, entry: Entry, stamp: Stamp) {
        let part = &self.shared.script.publications[usize::from(entry.publication)];
        if !part.is_closed() {
            return;
        }
        let (index, _) = part.at(stamp.flow);
        let (thread, stream) = self.shared.seats[usize::from(entry.publication)][index as usize];
        let number = part.number(stamp.flow, stamp.sequence);
        if thread == self.thread {
            self.reached_here(links, stream, number);
        } else {
            self.reached[usize::from(thread)].push((stream, number));
        }
    }

    /// Live messages have the RETAIN flag too, if the subscription asked to keep it as published.
    fn keeps_flag(&self, number: u32) -> bool {
        let group = usize::from(self.clients[number as usize].group);
        let subscriptions = &self.shared.script.plan.groups[group].subscribe;
        subscriptions.iter().any(|subscription| subscription.retain_as_published)
    }

    #[inline(never)]
    fn deliver_retained(&mut self, entry: Entry, stamp: Stamp, delivery: Delivery) {
        if self.ledger.enter_retained(entry, stamp.sequence, delivery) {
            self.tally.counts.delivered += 1;
            self.tally.counts.retained += 1;
            self.figures.paid += u64::from(entry.owed);
        }
    }

    /// The account of a shared subscription that this client is a member of, unless the delivery is its own.
    #[inline(never)]
    fn find_shared(&self, number: u32, stamp: Stamp) -> Option<(Entry, bool)> {
        let own = self.ledger.find(self.clients[number as usize].account, stamp.flow).map(|entry| (entry, false));
        let is_new = |entry: &Entry| !self.ledger.holds(*entry, stamp.sequence);
        if let Some((entry, _)) = &own
            && is_new(entry)
        {
            return own;
        }
        let shares = self.memberships.get(&number).into_iter().flat_map(|member| &member.shares);
        let entries = shares.filter_map(|share| {
            let (account, came_back) = self.shares[*share as usize];
            self.ledger.find(account, stamp.flow).map(|entry| (entry, came_back))
        });
        let mut last = own;
        for found in entries {
            if is_new(&found.0) {
                return Some(found);
            }
            last = last.or(Some(found));
        }
        last
    }

    /// Nobody keeps a ledger: every delivery counts, and pays if one like it is owed.
    fn deliver_unchecked(&mut self, number: u32, stamp: Stamp, publish: &Publish<'_>) {
        let Some(part) = self.shared.script.publication_of(stamp.flow) else { return self.count_corrupted() };
        let keeps = self.clients[number as usize].flags.keeps[usize::from(publish.qos > QoS::AtMostOnce)];
        let is_owed = part.delivers && keeps && (!publish.retain || self.keeps_flag(number));
        self.figures.paid += u64::from(is_owed);
        self.tally.counts.delivered += 1;
        if publish.retain {
            self.tally.counts.retained += 1;
        } else {
            self.tally.latency(self.now_ns.saturating_sub(stamp.at_ns));
        }
    }

    /// Nothing of the kind is expected. But what is retained may be older than the run, or come again to who has come
    /// back: it is counted, and nothing is said about it.
    #[inline(never)]
    fn deliver_to_stranger(&mut self, publish: &Publish<'_>) {
        if publish.retain {
            self.tally.counts.delivered += 1;
            self.tally.counts.retained += 1;
        } else {
            self.count_corrupted();
        }
    }

    #[inline(never)]
    fn deliver_unstamped(&mut self, number: u32, publish: &Publish<'_>) {
        if let Some(owed) = self.find_will(publish) {
            self.tally.counts.wills += 1;
            let group = usize::from(self.clients[number as usize].group);
            let stays = self.shared.script.plan.groups[group].presence == Presence::Always;
            // One with the flag is older than the subscription.
            self.figures.wills_came += u64::from(owed > 0 && stays && !publish.retain);
        } else if publish.retain {
            self.deliver_to_stranger(publish);
        } else {
            self.count_corrupted();
        }
    }

    /// How many are owed the will that this is.
    fn find_will(&self, publish: &Publish<'_>) -> Option<u32> {
        let wills = &self.shared.wills;
        let topic = publish.topic.as_bytes();
        let known = || wills.get(&hash_will(topic, publish.payload)).or_else(|| wills.get(&hash(topic)));
        if wills.is_empty() { None } else { known().copied() }
    }

    /// The plan breaks a client's connection: its will goes out.
    #[inline(never)]
    pub(super) fn owe_will(&mut self, number: u32) {
        let client = &self.clients[number as usize];
        let cast = &self.shared.script.groups[usize::from(client.group)];
        let Some(will) = &cast.will else { return };
        let (topic, payload) = self.composer.will(cast, will, client.index);
        let wills = &self.shared.wills;
        let known = wills.get(&hash_will(&topic, &payload)).or_else(|| wills.get(&hash(&topic)));
        self.figures.wills_owed += u64::from(known.copied().unwrap_or(0));
    }

    #[inline(never)]
    fn count_corrupted(&mut self) {
        self.ledger.faults.corrupted += u64::from(!self.settled);
    }
}

impl Shared {
    /// Whether a flow's messages go to this topic.
    #[inline]
    fn is_topic(&self, flow: u32, topic: &[u8]) -> bool {
        self.topics.get(flow as usize).is_none_or(|known| *known == hash(topic) as u32)
    }
}
