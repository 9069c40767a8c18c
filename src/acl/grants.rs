//! What one client may: lists of rules with everything filled in, the first of which that is about a question decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::filter::Filter;
use super::rule::{Access, Action};
use crate::codec::QoS;
use crate::codec::topic::parse_shared;

/// What one client may do. Cloning shares it; lists of rules that name nothing of a client are shared by all clients.
#[derive(Clone, Debug)]
pub struct Grants(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Never that of other grants, in this process: answers are remembered under it.
    id: u64,
    tables: Box<[Arc<Table>]>,
    default: Access,
    is_admin: bool,
    /// Nothing is denied or granted in part, as far as topics do not begin with `$`.
    is_open: bool,
    /// Nothing at all is.
    is_everything: bool,
}

/// Rules in the order they are asked in.
#[derive(Debug)]
pub(super) struct Table {
    lines: Box<[Line]>,
    /// Whether the first rule that opens all or withholds something opens all; `None` if there is none.
    opens: Option<bool>,
    /// Some rule withholds something.
    withholds: bool,
}

/// A rule whose conditions on the client hold.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub access: Access,
    pub action: Action,
    pub filter: Filter,
    pub qos_max: Option<QoS>,
    pub retain: Option<bool>,
    pub source: Source,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The policy's rule of this number.
    Policy(u32),
    /// The client's own rule of this number.
    Own(u32),
}

/// What decided a question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decided<'a> {
    /// This rule.
    By(&'a Line),
    /// No rule was about it.
    Default(Access),
    /// No rule was about it, and it begins with `$`: open to admins only.
    System(Access),
}

impl Decided<'_> {
    pub fn access(self) -> Access {
        match self {
            Decided::By(line) => line.access,
            Decided::Default(access) | Decided::System(access) => access,
        }
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

impl Line {
    fn is_about_publication(&self, qos: QoS, retain: bool) -> bool {
        self.action != Action::Subscribe
            && self.qos_max.is_none_or(|most| qos <= most)
            && self.retain.is_none_or(|wanted| wanted == retain)
    }

    fn is_about_subscription(&self) -> bool {
        self.action != Action::Publish
    }

    /// Whether it denies something, or grants subscriptions at less than the QoS they ask for.
    fn may_withhold(&self) -> bool {
        self.access == Access::Deny || self.is_about_subscription() && self.qos_max.is_some()
    }

    /// Whether it grants all of MQTT, as far as topics do not begin with `$`.
    fn opens_all(&self) -> bool {
        let is_unconditional = self.qos_max.is_none() && self.retain.is_none();
        is_unconditional && self.access == Access::Allow && self.action == Action::Both && self.filter.covers("#")
    }
}

impl Table {
    pub fn new(lines: Vec<Line>) -> Table {
        let opens = lines.iter().find(|line| line.opens_all() || line.may_withhold()).map(Line::opens_all);
        let withholds = lines.iter().any(Line::may_withhold);
        Table { lines: lines.into(), opens, withholds }
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Grants {
    pub(super) fn new(tables: Vec<Arc<Table>>, default: Access, is_admin: bool) -> Grants {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        // What stands behind a rule that opens all is never asked, but for topics that begin with `$`.
        let is_open = tables.iter().find_map(|table| table.opens).unwrap_or(default == Access::Allow);
        let withholds = tables.iter().any(|table| table.withholds);
        let is_everything = is_admin && is_open && !withholds;
        Grants(Arc::new(Inner { id, tables: tables.into(), default, is_admin, is_open, is_everything }))
    }

    /// Everything, to everybody: what a test or a tool without rules wants.
    pub fn everything() -> Grants {
        Grants::new(Vec::new(), Access::Allow, true)
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
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
        self.is_open_to(topic) || self.decide_publish(topic, qos, retain).access() == Access::Allow
    }

    pub(super) fn decide_publish(&self, topic: &str, qos: QoS, retain: bool) -> Decided<'_> {
        let decides = |line: &&Line| line.is_about_publication(qos, retain) && line.filter.matches(topic);
        self.lines().find(decides).map_or_else(|| self.fallback(topic), Decided::By)
    }

    /// Whether messages to a topic name may be received: it is covered by a right to subscribe.
    pub fn receive(&self, topic: &str) -> bool {
        self.is_open_to(topic) || self.decide_receive(topic).access() == Access::Allow
    }

    pub(super) fn decide_receive(&self, topic: &str) -> Decided<'_> {
        let decides = |line: &&Line| line.is_about_subscription() && line.filter.matches(topic);
        self.lines().find(decides).map_or_else(|| self.fallback(topic), Decided::By)
    }

    /// Whether a topic filter may be subscribed to: all that it matches is allowed by one rule (or by default), and
    /// no deny rule before that covers it. `$share/group/filter` is asked about as `filter`.
    pub fn subscribe(&self, filter: &str, qos: QoS) -> Subscribing {
        let Some(filter) = Grants::asked_filter(filter) else { return Subscribing::Denied };
        if self.is_open_to(filter) {
            return Subscribing::Granted { qos, checked: false };
        }
        let (decided, checked) = self.decide_subscribe(filter);
        match decided {
            _ if decided.access() == Access::Deny => Subscribing::Denied,
            Decided::By(line) => Subscribing::Granted { qos: line.qos_max.map_or(qos, |most| most.min(qos)), checked },
            _ => Subscribing::Granted { qos, checked },
        }
    }

    /// The filter that rules are asked about; `None` for what only begins like a shared subscription.
    pub(super) fn asked_filter(filter: &str) -> Option<&str> {
        match parse_shared(filter) {
            Some((_, shared)) => Some(shared),
            None => (!filter.starts_with("$share/")).then_some(filter),
        }
    }

    /// A rule that allows to subscribe to some of the topics that a filter matches.
    pub(super) fn allows_part_of(&self, filter: &str) -> Option<&Line> {
        let is_part = |line: &&Line| line.access == Access::Allow && line.filter.overlaps(filter);
        self.lines().filter(|line| line.is_about_subscription()).find(is_part)
    }

    /// What decides, and whether a deny rule before that is about a part of what the filter matches.
    pub(super) fn decide_subscribe(&self, filter: &str) -> (Decided<'_>, bool) {
        let mut checked = false;
        for line in self.lines().filter(|line| line.is_about_subscription()) {
            if line.filter.covers(filter) {
                return (Decided::By(line), checked);
            }
            checked |= line.access == Access::Deny && line.filter.overlaps(filter);
        }
        (self.fallback(filter), checked)
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.0.tables.iter().flat_map(|table| &table.lines)
    }

    fn fallback(&self, topic: &str) -> Decided<'_> {
        match (topic.starts_with('$'), self.0.is_admin) {
            (true, true) => Decided::System(Access::Allow),
            (true, false) => Decided::System(Access::Deny),
            (false, _) => Decided::Default(self.0.default),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::topic::filter_matches;

    /// Every topic of up to three levels; one level more than any filter has.
    fn topics() -> Vec<String> {
        let levels = ["", "a", "b", "$x"];
        let join = |topics: &[String]| -> Vec<String> {
            topics.iter().flat_map(|topic| levels.iter().map(move |level| format!("{topic}/{level}"))).collect()
        };
        let one = levels.map(str::to_owned).to_vec();
        let two = join(&one);
        let three = join(&two);
        one.into_iter().filter(|topic| !topic.is_empty()).chain(two).chain(three).collect()
    }

    fn filter() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "#", "+", "a", "b", "$x", "+/#", "a/#", "a/+", "a/b", "+/a", "+/+", "/#", "/a", "$x/#", "$x/a", "a/",
        ])
        .prop_map(str::to_owned)
    }

    fn line() -> impl Strategy<Value = Line> {
        let access = prop::sample::select(vec![Access::Allow, Access::Deny]);
        let action = prop::sample::select(vec![Action::Publish, Action::Subscribe, Action::Both]);
        let conditions = (prop::option::of(Just(QoS::AtMostOnce)), prop::option::of(any::<bool>()));
        (access, action, filter(), conditions).prop_map(|(access, action, filter, (qos_max, retain))| Line {
            access,
            action,
            filter: Filter::new(&filter),
            qos_max,
            retain,
            source: Source::Own(0),
        })
    }

    /// The definition: the first rule that is about it, then the default.
    fn plainly(lines: &[Line], topic: &str, is_about: impl Fn(&Line) -> bool, default: Access, admin: bool) -> bool {
        let decides = |line: &&Line| is_about(line) && filter_matches(line.filter.text(), topic);
        let fallback = if topic.starts_with('$') { admin } else { default == Access::Allow };
        lines.iter().find(decides).map_or(fallback, |line| line.access == Access::Allow)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_subscription_brings_nothing_that_is_denied_and_misses_nothing_that_one_rule_allows(
            lines in prop::collection::vec(line(), 0..6),
            split in 0_usize..6,
            asked in filter(),
            is_open: bool,
            admin: bool,
        ) {
            thread_local!(static TOPICS: Vec<String> = topics());
            let default = if is_open { Access::Allow } else { Access::Deny };
            let (first, second) = lines.split_at(split.min(lines.len()));
            let tables = [first, second].map(|part| Arc::new(Table::new(part.to_vec()))).to_vec();
            let grants = Grants::new(tables, default, admin);
            TOPICS.with(|topics| {
                let mut of_asked = Vec::new();
                for topic in topics {
                    let receives = plainly(&lines, topic, |line| line.action != Action::Publish, default, admin);
                    prop_assert_eq!(grants.receive(topic), receives, "{}", topic);
                    for (qos, retain) in [(QoS::AtMostOnce, false), (QoS::AtMostOnce, true), (QoS::ExactlyOnce, false)] {
                        let is_about = |line: &Line| {
                            line.action != Action::Subscribe
                                && line.qos_max.is_none_or(|most| qos <= most)
                                && line.retain.is_none_or(|wanted| wanted == retain)
                        };
                        let publishes = plainly(&lines, topic, is_about, default, admin);
                        prop_assert_eq!(grants.publish(topic, qos, retain), publishes, "{} {:?}", topic, qos);
                        prop_assert!(publishes || !grants.grants_everything() && !grants.is_open_to(topic));
                    }
                    if filter_matches(&asked, topic) {
                        of_asked.push(receives);
                    }
                }
                match grants.subscribe(&asked, QoS::ExactlyOnce) {
                    Subscribing::Granted { checked: false, .. } => prop_assert!(of_asked.iter().all(|granted| *granted)),
                    Subscribing::Granted { checked: true, .. } => {}
                    Subscribing::Denied if grants.is_open_to(&asked) => prop_assert!(false, "open, and denied"),
                    // More than one rule may be needed to allow it all; then it is denied all the same.
                    Subscribing::Denied => prop_assert!(!of_asked.iter().all(|granted| *granted) || lines.len() > 1),
                }
                Ok(())
            })?;
        }
    }
}
