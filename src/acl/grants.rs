//! What one client may: the first rule that is about a question decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::filter::spelled_out;
use super::line::{Own, Ruling, Source};
use super::rule::Access;
use super::table::Part;
use super::trie::{NONE, Room, Taken};
use crate::codec::QoS;
use crate::codec::topic::parse_shared;

/// What one client may. Cloning shares it; rules of a policy are shared by all clients that they are about.
#[derive(Clone, Debug)]
pub struct Grants(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Never that of other grants, in this process: answers are remembered under it.
    id: u64,
    /// They are asked first.
    own: Own,
    /// Rules of the policy. Of all that are about a question, in whichever part, the one with the least number decides.
    parts: Box<[Part]>,
    default: Access,
    is_admin: bool,
    /// Nothing is denied or granted in part, as far as topics do not begin with `$`.
    is_open: bool,
    /// Nothing at all is.
    is_everything: bool,
}

/// What decided a question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decided {
    /// This rule.
    By(Ruling),
    /// No rule was about it.
    Default(Access),
    /// No rule was about it, and it begins with `$`: open to admins only.
    System(Access),
}

impl Decided {
    /// Whether it may be done at all.
    pub fn access(self) -> Access {
        match self {
            Decided::By(ruling) => ruling.access,
            Decided::Default(access) | Decided::System(access) => access,
        }
    }

    /// Up to which QoS it may be done.
    pub fn qos_max(self) -> QoS {
        match self {
            Decided::By(Ruling { qos_max: Some(most), .. }) => most,
            _ => QoS::ExactlyOnce,
        }
    }

    /// Whether it may be published at this QoS.
    pub fn allows(self, qos: QoS) -> bool {
        self.access() == Access::Allow && qos <= self.qos_max()
    }
}

/// What becomes of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribing {
    /// Not allowed.
    Denied,
    /// Allowed.
    Granted {
        /// At most at this QoS.
        qos: QoS,
        /// Some of the topics that the filter matches are denied: ask [`Grants::receive`] about each delivery.
        checked: bool,
    },
}

impl Grants {
    pub(super) fn new(own: Own, parts: Box<[Part]>, default: Access, is_admin: bool) -> Grants {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let openings: Vec<_> = parts.iter().map(Part::opening).collect();
        // What stands behind a rule that opens all is never asked, but for topics that begin with `$`.
        let first = own.opening().first.or(openings.iter().filter_map(|part| part.first).min());
        let is_open = first.map_or(default == Access::Allow, |(_, opens)| opens);
        let withholds = own.opening().withholds || openings.iter().any(|part| part.withholds);
        let is_everything = is_admin && is_open && !withholds;
        Grants(Arc::new(Inner { id, own, parts, default, is_admin, is_open, is_everything }))
    }

    /// Everything, to everybody: what a test or a tool without rules wants.
    pub fn everything() -> Grants {
        Grants::new(Own::default(), Box::default(), Access::Allow, true)
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    /// Whether these are the same, and not only alike.
    pub fn is(&self, other: &Grants) -> bool {
        self.id() == other.id()
    }

    /// Whether this client is an administrator.
    pub fn is_admin(&self) -> bool {
        self.0.is_admin
    }

    /// Whether no question about any topic or filter is ever answered with no, nor with less than was asked for.
    #[inline]
    pub fn grants_everything(&self) -> bool {
        self.0.is_everything
    }

    /// Whether everything is granted about this topic or filter, known without asking rules: it does not begin with
    /// `$`, and nothing denies such.
    #[inline]
    pub fn is_open_to(&self, topic: &str) -> bool {
        self.0.is_open && !topic.starts_with('$')
    }

    /// Whether a message may be published to a topic name.
    pub fn publish(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        self.is_open_to(topic) || self.decide_publish(topic, qos, retain).allows(qos)
    }

    pub(super) fn decide_publish(&self, topic: &str, qos: QoS, retain: bool) -> Decided {
        let by_policy = || {
            let first = self.0.parts.iter().fold(None, |best, part| part.publish(topic, qos, retain, best));
            first.map_or_else(|| self.fallback(topic), |entry| Decided::By(entry.ruling(Source::Policy)))
        };
        self.0.own.publish(topic, qos, retain).map_or_else(by_policy, Decided::By)
    }

    /// Whether messages to a topic name may be received: it is covered by a right to subscribe.
    pub fn receive(&self, topic: &str) -> bool {
        self.is_open_to(topic) || self.decide_receive(topic).access() == Access::Allow
    }

    pub(super) fn decide_receive(&self, topic: &str) -> Decided {
        let by_policy = || {
            let first = self.0.parts.iter().fold(None, |best, part| part.receive(topic, best));
            first.map_or_else(|| self.fallback(topic), |entry| Decided::By(entry.ruling(Source::Policy)))
        };
        self.0.own.receive(topic).map_or_else(by_policy, Decided::By)
    }

    /// Whether a topic filter may be subscribed to: all that it matches is allowed by one rule (or by default), and
    /// no deny rule before that covers it. `$share/group/filter` is asked about as `filter`. What it is granted at is
    /// the least QoS of that rule and of those before it that allow a part.
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Subscribing {
        self.subscribe_within(filter, qos, &mut Room::of_a_filter())
    }

    /// The same for one of many filters: when their wildcards have led to so many places of the rules that there is no room any
    /// more, it is granted what the strictest rule behind them grants to anybody.
    pub fn subscribe_within(&self, filter: &str, qos: QoS, room: &mut Room) -> Subscribing {
        let Some(filter) = Grants::asked_filter(filter) else { return Subscribing::Denied };
        if self.is_open_to(filter) {
            return Subscribing::Granted { qos, checked: false };
        }
        let (decided, taken) = self.decide_subscribe_within(filter, room);
        match decided.access() {
            Access::Deny => Subscribing::Denied,
            Access::Allow => {
                Subscribing::Granted { qos: qos.min(decided.qos_max()).min(taken.qos_max), checked: taken.denies }
            }
        }
    }

    /// The filter that rules are asked about; `None` for what only begins like a shared subscription.
    pub(super) fn asked_filter(filter: &str) -> Option<&str> {
        match parse_shared(filter) {
            Some((_, shared)) => Some(shared),
            None => (!filter.starts_with("$share/")).then_some(filter),
        }
    }

    /// What decides, and what rules before that take from it which are about a part of what the filter matches.
    pub(super) fn decide_subscribe(&self, filter: &str) -> (Decided, Taken) {
        self.decide_subscribe_within(filter, &mut Room::of_a_filter())
    }

    /// The same, as far as there is room.
    pub(super) fn decide_subscribe_within(&self, filter: &str, room: &mut Room) -> (Decided, Taken) {
        let (asked, mut taken) = (spelled_out(filter), Taken::NOTHING);
        if let Some(ruling) = self.0.own.subscribe(asked, room, &mut taken) {
            return (Decided::By(ruling), taken);
        }
        let first = self.0.parts.iter().fold(None, |best, part| part.receive(asked, best));
        let before = first.map_or(NONE, |entry| entry.number);
        if first.is_none_or(|entry| entry.access == Access::Allow) {
            self.0.parts.iter().for_each(|part| part.take(asked, before, room, &mut taken));
        }
        (first.map_or_else(|| self.fallback(filter), |entry| Decided::By(entry.ruling(Source::Policy))), taken)
    }

    fn fallback(&self, topic: &str) -> Decided {
        match (topic.starts_with('$'), self.0.is_admin) {
            (true, true) => Decided::System(Access::Allow),
            (true, false) => Decided::System(Access::Deny),
            (false, _) => Decided::Default(self.0.default),
        }
    }
}
