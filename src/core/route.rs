//! Which sessions and shards a message goes to.
//!
//! Two questions are kept apart: the sessions of this shard are found in its own index; which other shards want
//! the message is looked up in the interest table that all share.

use super::Core;
use super::message::{Message, Publication};
use super::note::{Note, Ticket};
use super::parcel::{self, Parcel};
use super::session::{NO_SLOT, Outcome};
use super::shared::{Found, Search};
use super::wire::Fan;
use crate::codec::QoS;
use crate::index::{Recalled, Route, Subscriber};

/// What came of routing a publication.
pub struct Routed {
    /// What became of it on this shard.
    pub outcome: Outcome,
    /// How many answers of other shards will come.
    pub waits: u32,
}

impl Core {
    /// Delivers a publication to whoever should get it, here and on other shards, and stores it if it is to
    /// be retained. `publisher` is the session it came from, or [`NO_SLOT`]; with a ticket, every other
    /// shard that gets the message will answer.
    pub(super) fn route(&mut self, publication: &Publication<'_>, publisher: u32, ticket: Option<Ticket>) -> Routed {
        let mut fan = Fan::new(publication, self.next_round());
        let mut routed = Routed { outcome: Outcome::default(), waits: 0 };
        if publication.head().retain {
            self.route_retained(&mut fan, publisher, ticket, &mut routed);
        }
        let away = self.look_up_others(publication).then(|| std::mem::take(&mut self.scratch.route));
        // What leaves in parcels is copied: nobody else needs the message then.
        fan.goes_on = away.as_ref().is_some_and(|route| !route.groups.is_empty() || !fits_in_parcel(publication));
        routed.outcome = routed.outcome.and(self.deliver_here(&mut fan, publisher));
        if let Some(route) = away {
            self.route_away(&mut fan, route, publisher, ticket, &mut routed);
        }
        routed
    }

    /// Looks up which other shards and which shared subscriptions want a publication; false when none does.
    fn look_up_others(&mut self, publication: &Publication<'_>) -> bool {
        let route = &mut self.scratch.route;
        if self.shards == 1 {
            self.shared.interest.lookup_groups(publication.topic(), route);
        } else {
            let hash = publication.head().topic_hash;
            self.shared.interest.lookup(publication.topic(), hash, &mut self.interest_cache, route);
            route.shards &= !(1 << self.shard);
        }
        route.shards != 0 || !route.groups.is_empty()
    }

    /// Other shards that are interested, and shared subscriptions.
    fn route_away(
        &mut self,
        fan: &mut Fan<'_>,
        mut route: Route,
        publisher: u32,
        ticket: Option<Ticket>,
        routed: &mut Routed,
    ) {
        self.send_to_shards(fan, route.shards, ticket, routed);
        for group in &route.groups {
            match self.route_group(fan, group, publisher, Search::new(ticket, self.shard)) {
                Found::Here(outcome) => routed.outcome = routed.outcome.and(outcome),
                Found::Elsewhere => routed.waits += u32::from(ticket.is_some()),
                Found::Denied => self.withhold(),
                Found::Nobody => {}
            }
        }
        // Groups are reference-counted: the table they came from shall not live on here.
        route.groups.clear();
        self.scratch.route = route;
    }

    fn send_to_shards(&mut self, fan: &mut Fan<'_>, mut shards: u64, ticket: Option<Ticket>, routed: &mut Routed) {
        let in_parcel = fits_in_parcel(fan.publication);
        while shards != 0 {
            let to = shards.trailing_zeros() as u16;
            shards &= shards - 1;
            if in_parcel {
                self.put_in_parcel(to, fan.publication.body().len(), |parcel| parcel.put(fan.publication, ticket));
            } else {
                let message = fan.message().clone();
                self.note(to, Note::Publish { message, ticket });
            }
            routed.waits += u32::from(ticket.is_some());
        }
    }

    /// Delivers to the sessions of this shard whose subscriptions match.
    pub(super) fn deliver_here(&mut self, fan: &mut Fan<'_>, publisher: u32) -> Outcome {
        let recalled = self.index.recall(fan.publication.head().topic_hash);
        let plain = |recalled: &&Recalled| recalled.filters() <= 1 && !self.rules.in_force();
        match recalled.as_ref().filter(plain) {
            Some(recalled) => self.deliver_to_each::<false>(fan, recalled.subscribers(), publisher, false),
            None => {
                if recalled.is_none() {
                    self.guard_topic(publisher, fan.publication.topic());
                }
                self.deliver_to_matching(fan, publisher)
            }
        }
    }

    /// Finds the receivers in the index.
    fn deliver_to_matching(&mut self, fan: &mut Fan<'_>, publisher: u32) -> Outcome {
        let mut receivers = std::mem::take(&mut self.scratch.receivers);
        receivers.clear();
        let topic_hash = fan.publication.head().topic_hash;
        let filters = self.index.matches_again(fan.publication.topic(), topic_hash, &mut receivers);
        if filters > 1 {
            self.merge_overlapping(&mut receivers, fan.round, publisher);
        }
        let several = filters > 1 && !self.scratch.identifiers.is_empty();
        let outcome = if self.rules.in_force() {
            self.deliver_to_each::<true>(fan, &receivers, publisher, several)
        } else {
            self.deliver_to_each::<false>(fan, &receivers, publisher, several)
        };
        self.scratch.receivers = receivers;
        outcome
    }

    /// Delivers to each receiver, with `CHECKED` if the rules allow it; with `several`, some have more subscription
    /// identifiers in `scratch`.
    fn deliver_to_each<const CHECKED: bool>(
        &mut self,
        fan: &mut Fan<'_>,
        receivers: &[Subscriber],
        publisher: u32,
        several: bool,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for (at, &receiver) in receivers.iter().enumerate() {
            // No Local [MQTT-3.8.3-3]: a client's session lives on one shard, so its slot says who it is.
            if receiver.no_local() && receiver.session() == publisher && publisher != NO_SLOT {
                continue;
            }
            if CHECKED {
                let (topic, hash) = (fan.publication.topic(), fan.publication.head().topic_hash);
                if !self.may_receive(receiver.session(), topic, hash) {
                    self.withhold();
                    continue;
                }
            }
            fan.is_last = !fan.goes_on && at + 1 == receivers.len();
            let one = if several {
                self.deliver_with_identifiers(fan, receiver, at as u32)
            } else {
                self.deliver_to(fan, receiver, None)
            };
            outcome = outcome.and(one);
        }
        outcome
    }

    /// Makes one receiver of each session that several filters found: the highest QoS, and every subscription
    /// identifier [MQTT-3.3.4-2] [MQTT-3.3.4-4].
    fn merge_overlapping(&mut self, receivers: &mut Vec<Subscriber>, round: u32, publisher: u32) {
        self.scratch.identifiers.clear();
        let mut kept = 0;
        for at in 0..receivers.len() {
            let receiver = receivers[at];
            if receiver.no_local() && receiver.session() == publisher {
                continue;
            }
            let session = &mut self.sessions[receiver.session()];
            // Rounds are counted anew after 2^32: an old mark may name anything.
            let marked = Some(session.mark.at).filter(|&at| session.mark.round == round && at < kept);
            if marked.is_some_and(|at| receivers[at as usize].session() == receiver.session()) {
                let first = &mut receivers[session.mark.at as usize];
                *first = merged(*first, receiver);
                if receiver.identifier() != 0 {
                    self.scratch.identifiers.push((session.mark.at, receiver.identifier()));
                }
            } else {
                session.mark = super::session::Mark { round, at: kept };
                receivers[kept as usize] = receiver;
                kept += 1;
            }
        }
        receivers.truncate(kept as usize);
        // Each receiver finds its own together.
        self.scratch.identifiers.sort_unstable();
    }

    fn deliver_with_identifiers(&mut self, fan: &mut Fan<'_>, receiver: Subscriber, at: u32) -> Outcome {
        let mut identifiers = std::mem::take(&mut self.scratch.one_receiver_identifiers);
        identifiers.clear();
        identifiers.extend((receiver.identifier() != 0).then_some(receiver.identifier()));
        let first = self.scratch.identifiers.partition_point(|&(of, _)| of < at);
        let others = self.scratch.identifiers[first..].iter().take_while(|&&(of, _)| of == at);
        identifiers.extend(others.map(|&(_, id)| id));
        let outcome = self.deliver_identified(fan, receiver, &identifiers, None);
        self.scratch.one_receiver_identifiers = identifiers;
        outcome
    }

    /// A message that another shard sent here.
    pub(super) fn receive_publish(&mut self, from: u16, message: Message, ticket: Option<Ticket>) {
        let publication = message.publication();
        let mut fan = Fan::of(&message, &publication, self.next_round());
        let outcome = self.deliver_here(&mut fan, NO_SLOT);
        self.answer(from, ticket, outcome);
    }

    /// What another shard had for this one.
    pub(super) fn unpack(&mut self, from: u16, parcel: Box<Parcel>) {
        for (publication, ticket) in parcel.publications() {
            let mut fan = Fan::new(&publication, self.next_round());
            let outcome = self.deliver_here(&mut fan, NO_SLOT);
            self.answer(from, ticket, outcome);
        }
        for (ticket, outcome) in parcel.answers() {
            self.take_answer(ticket, outcome);
        }
        self.spare_parcels.give(parcel);
    }

    /// Answers the shard that waits, if one does.
    pub(super) fn answer(&mut self, to: u16, ticket: Option<Ticket>, outcome: Outcome) {
        if let Some(ticket) = ticket {
            if to == self.shard {
                self.take_answer(ticket, outcome);
            } else {
                self.put_in_parcel(to, 0, |parcel| parcel.put_answer(ticket, outcome));
            }
        }
    }

    /// The number of a new fan-out; never 0, which marks a session that was in none.
    pub(super) fn next_round(&mut self) -> u32 {
        self.scratch.round = self.scratch.round.wrapping_add(1).max(1);
        self.scratch.round
    }
}

fn fits_in_parcel(publication: &Publication<'_>) -> bool {
    publication.body().len() <= parcel::BODY_MAX
}

/// The QoS of a delivery [MQTT-3.8.4-8].
pub(super) fn granted(published: QoS, maximum: QoS) -> QoS {
    published.min(maximum)
}

/// Two subscriptions of one session as one: the higher QoS, RETAIN kept if either keeps it.
fn merged(a: Subscriber, b: Subscriber) -> Subscriber {
    Subscriber::new(a.session(), a.qos().max(b.qos()))
        .with_identifier(a.identifier())
        .with_retain_as_published(a.retain_as_published() || b.retain_as_published())
}
