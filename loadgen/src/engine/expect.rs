//! Who expects what: for every flow of the plan the subscribers that it must reach, worked out from the topic filters.
//!
//! Each process does this for the whole plan, because a publisher here may have its subscribers elsewhere. Exact filters
//! are found by their hash; those with wildcards by the hash of what comes before the first wildcard, then matched.

use std::collections::HashMap;

use ringmq::codec::QoS;
use ringmq::codec::topic::{filter_matches, parse_shared};

use super::Error;
use super::ledger::{Expectation, Range};
use super::script::{Desk, Part, Scene, Script, hash, text};
use crate::plan::Presence;

/// What the ledgers of a process are opened with.
#[derive(Debug, Default)]
pub struct Expectations {
    /// How many subscribers are owed each message of a flow, anywhere.
    pub receivers: Vec<u32>,
    /// What each flow's topic is known by, if deliveries are to be held to it.
    pub topics: Vec<u32>,
    /// What single clients of this process expect.
    pub clients: HashMap<(u16, u32), Vec<Range>>,
    /// The shared subscriptions of this process, by their whole filter.
    pub shares: Vec<Share>,
}

/// A shared subscription.
#[derive(Debug)]
pub struct Share {
    /// Its members.
    pub members: Vec<(u16, u32)>,
    /// What they expect together.
    pub ranges: Vec<Range>,
}

/// Who subscribed with which of the group's subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subscriber {
    pub group: u16,
    pub index: u32,
    pub subscription: u16,
    /// The number of the shared subscription, or [`ALONE`].
    pub share: u32,
}

const ALONE: u32 = u32::MAX;

/// The filters of all subscribers of a plan.
#[derive(Default)]
pub(super) struct Filters {
    /// By the hash of the filter.
    exact: Vec<(u64, Subscriber)>,
    /// By the hash of what precedes the first level with a wildcard.
    wild: HashMap<u64, Vec<usize>>,
    /// Filters with wildcards, and who has them.
    wild_filters: Vec<(String, Vec<Subscriber>)>,
    shares: Vec<Share>,
}

impl Expectations {
    /// Works them out.
    ///
    /// # Errors
    ///
    /// A closed loop that could never turn.
    pub fn of(script: &Script) -> Result<Self, Error> {
        if script.flows == 0 {
            return Ok(Self::default());
        }
        let mut filters = Filters::of(script);
        let mut found = Self { receivers: vec![0; script.flows as usize], ..Self::default() };
        let (mut desk, mut topic, mut previous) = (Desk::default(), Vec::new(), Vec::new());
        let mut matching = Vec::new();
        for (number, part) in script.publications.iter().enumerate() {
            let cast = &script.groups[usize::from(part.group)];
            for flow in part.first_flow..part.first_flow + cast.count * part.topics {
                let (index, topic_number) = part.at(flow);
                topic.clear();
                let scene = Scene { index, topic: topic_number, ..Scene::default() };
                part.topic.render(cast, &scene, &mut desk, &mut topic);
                if topic != previous {
                    filters.matching(text(&topic), &mut matching);
                    previous.clone_from(&topic);
                }
                if script.plan.verify {
                    found.topics.push(hash(&topic) as u32);
                }
                found.enter(script, number as u16, part, flow, &matching, &mut filters.shares, &mut desk);
            }
        }
        found.shares = filters.shares;
        if script.checks {
            found.check_shares(script, &mut desk)?;
        }
        found.check_loops(script)?;
        Ok(found)
    }

    /// Enters what the subscribers (sorted) of a flow expect of it.
    #[expect(clippy::too_many_arguments, reason = "one call, from the loop that it was taken out of")]
    fn enter(
        &mut self,
        script: &Script,
        number: u16,
        part: &Part,
        flow: u32,
        matching: &[Subscriber],
        shares: &mut [Share],
        desk: &mut Desk,
    ) {
        let publisher = (part.group, part.at(flow).0);
        for same in matching.chunk_by(|a, b| (a.group, a.index, a.share) == (b.group, b.index, b.share)) {
            let Some((expectation, subscription)) = expectation(script, part, publisher, same) else { continue };
            let receivers = &mut self.receivers[flow as usize];
            *receivers += u32::from(expectation.owed && !expectation.retained);
            let Subscriber { group, index, share, .. } = same[0];
            if script.seat(usize::from(group), index, desk).is_none() {
                continue;
            }
            let ranges = match shares.get_mut(share as usize) {
                Some(share) => &mut share.ranges,
                None => self.clients.entry((group, index)).or_default(),
            };
            extend(ranges, Range { first: flow, count: 1, publication: number, subscription, expectation });
        }
    }

    /// The members of a shared subscription have one ledger, and so must have one thread.
    fn check_shares(&self, script: &Script, desk: &mut Desk) -> Result<(), Error> {
        for share in &self.shares {
            let mut seats = share.members.iter().map(|(group, index)| script.seat(usize::from(*group), *index, desk));
            let first = seats.next().flatten();
            if let Some(at) = seats.position(|seat| seat != first) {
                let [one, other] =
                    [share.members[0], share.members[at + 1]].map(|(group, index)| script.name_of(group, index));
                return Err(Error::Plan(format!(
                    "{one} and {other} are members of one shared subscription, but their first shared subscriptions \
                     differ: name the one that they have in common first"
                )));
            }
        }
        Ok(())
    }

    /// A closed loop at QoS 0 without a subscriber would send without end, and one with subscribers in another process
    /// would not hear of them.
    fn check_loops(&self, script: &Script) -> Result<(), Error> {
        for part in script.publications.iter().filter(|part| part.is_closed()) {
            let cast = &script.groups[usize::from(part.group)];
            let flows = part.first_flow as usize..(part.first_flow + cast.count * part.topics) as usize;
            let receivers = &self.receivers[flows];
            if part.qos == QoS::AtMostOnce && receivers.contains(&0) {
                let name = &cast.name;
                return Err(Error::Plan(format!(
                    "group {name} publishes in a closed loop (outstanding) at QoS 0 to a topic that no client subscribes \
                     to for good: give it a subscriber, a rate, or a higher QoS"
                )));
            }
            if script.is_divided() && !self.reaches_only_own(script, part) {
                return Err(Error::Plan(format!(
                    "group {} publishes in a closed loop (outstanding) to subscribers of another worker: use a rate, or \
                     one worker",
                    cast.name
                )));
            }
        }
        Ok(())
    }

    /// Whether all subscribers of this process's publishers are in this process.
    fn reaches_only_own(&self, script: &Script, part: &Part) -> bool {
        let mut own = vec![0_u32; (script.groups[usize::from(part.group)].count * part.topics) as usize];
        let ranges = self.clients.values().chain(self.shares.iter().map(|share| &share.ranges)).flatten();
        for range in ranges.filter(|range| range.expectation.owed && !range.expectation.retained) {
            if script.publication_of(range.first).is_some_and(|of| of.first_flow == part.first_flow) {
                let first = (range.first - part.first_flow) as usize;
                own[first..first + range.count as usize].iter_mut().for_each(|count| *count += 1);
            }
        }
        let mut desk = Desk::default();
        (part.first_flow..).zip(own).all(|(flow, own)| {
            let here = script.seat(usize::from(part.group), part.at(flow).0, &mut desk).is_some();
            !here || own == self.receivers[flow as usize]
        })
    }
}

/// What a client, or a shared subscription, expects of a flow, given all its subscriptions that match; and which of
/// them has the highest QoS.
fn expectation(script: &Script, part: &Part, publisher: (u16, u32), same: &[Subscriber]) -> Option<(Expectation, u16)> {
    let Subscriber { group, index, share, .. } = same[0];
    let plan = &script.plan.groups[usize::from(group)];
    let cast = &script.groups[usize::from(group)];
    let wanted =
        |of: &&Subscriber| !(plan.subscribe[usize::from(of.subscription)].no_local && publisher == (group, index));
    let subscriptions = same.iter().filter(wanted).map(|of| &plan.subscribe[usize::from(of.subscription)]);
    let qos_of = |of: &&Subscriber| plan.subscribe[usize::from(of.subscription)].qos;
    let highest = same.iter().filter(wanted).max_by_key(qos_of)?;
    let qos = QoS::from_bits(qos_of(&highest)).unwrap_or(QoS::ExactlyOnce).min(part.qos);
    let sender = &script.groups[usize::from(part.group)];
    let came_after = part.early && cast.stage > sender.stage;
    let retained = came_after
        && part.retain
        && share == ALONE
        && (part.is_topic_of_its_own() || sender.count == 1)
        && subscriptions.clone().any(|subscription| subscription.retain_handling < 2);
    if came_after && !retained {
        return None;
    }
    let presence = script.plan.groups[usize::from(part.group)].presence;
    // A shared subscription's message may be with a member that is away.
    let kept = if share == ALONE { cast.keeps(plan.presence, qos) } else { plan.presence == Presence::Always };
    let expectation = Expectation {
        qos,
        owed: kept && part.delivers,
        retained,
        copies: subscriptions.count() as u16,
        excused: false,
        sender_repeats: part.qos == QoS::AtLeastOnce && presence != Presence::Always,
        ordered: share == ALONE,
    };
    Some((expectation, highest.subscription))
}

/// Adds a flow to ranges that end before it.
fn extend(ranges: &mut Vec<Range>, next: Range) {
    match ranges.last_mut() {
        Some(last) if *last == (Range { first: last.first, count: last.count, ..next }) && last.end() == next.first => {
            last.count += 1;
        }
        _ => ranges.push(next),
    }
}

impl Filters {
    pub fn of(script: &Script) -> Self {
        let mut filters = Self::default();
        let (mut shares, mut wild) = (HashMap::new(), HashMap::new());
        let (mut desk, mut bytes) = (Desk::default(), Vec::new());
        for (group, cast) in script.groups.iter().enumerate().filter(|(_, cast)| !cast.filters.is_empty()) {
            for index in 0..cast.count {
                for (subscription, filter) in cast.filters.iter().enumerate() {
                    bytes.clear();
                    filter.render(cast, &Scene { index, ..Scene::default() }, &mut desk, &mut bytes);
                    let (group, subscription) = (group as u16, subscription as u16);
                    let subscriber = Subscriber { group, index, subscription, share: ALONE };
                    filters.add(text(&bytes), subscriber, &mut shares, &mut wild);
                }
            }
        }
        filters.exact.sort_unstable();
        filters
    }

    fn add(
        &mut self,
        filter: &str,
        mut subscriber: Subscriber,
        shares: &mut HashMap<String, u32>,
        wild: &mut HashMap<String, usize>,
    ) {
        let mut inner = filter;
        if let Some((_, shared)) = parse_shared(filter) {
            inner = shared;
            let member = (subscriber.group, subscriber.index);
            if let Some(share) = shares.get(filter) {
                return self.shares[*share as usize].members.push(member);
            }
            subscriber.share = self.shares.len() as u32;
            shares.insert(filter.to_owned(), subscriber.share);
            self.shares.push(Share { members: vec![member], ranges: Vec::new() });
        }
        let Some(wildcard) = inner.find(['+', '#']) else {
            return self.exact.push((hash(inner.as_bytes()), subscriber));
        };
        let number = *wild.entry(inner.to_owned()).or_insert_with(|| {
            self.wild.entry(hash(&inner.as_bytes()[..wildcard])).or_default().push(self.wild_filters.len());
            self.wild_filters.push((inner.to_owned(), Vec::new()));
            self.wild_filters.len() - 1
        });
        self.wild_filters[number].1.push(subscriber);
    }

    /// All subscribers of a topic, those of one client side by side.
    pub fn matching(&self, topic: &str, matching: &mut Vec<Subscriber>) {
        matching.clear();
        let wanted = hash(topic.as_bytes());
        let first = self.exact.partition_point(|(hash, _)| *hash < wanted);
        let same = self.exact[first..].iter().take_while(|(hash, _)| *hash == wanted);
        matching.extend(same.map(|(_, subscriber)| *subscriber));
        if !self.wild.is_empty() {
            self.matching_wild(topic, matching);
        }
        matching.sort_unstable_by_key(|of| (of.group, of.index, of.share, of.subscription));
    }

    /// The shared subscription that somebody subscribed as a member of.
    pub fn share(&self, subscriber: &Subscriber) -> Option<&Share> {
        self.shares.get(subscriber.share as usize)
    }

    fn matching_wild(&self, topic: &str, matching: &mut Vec<Subscriber>) {
        let mut look = |prefix: &[u8]| {
            for number in self.wild.get(&hash(prefix)).into_iter().flatten() {
                let (filter, subscribers) = &self.wild_filters[*number];
                if filter_matches(filter, topic) {
                    matching.extend_from_slice(subscribers);
                }
            }
        };
        let bytes = topic.as_bytes();
        look(b"");
        let separators = (0..bytes.len()).filter(|at| bytes[*at] == b'/');
        separators.for_each(|at| look(&bytes[..=at]));
        // `sport/#` matches `sport` too.
        look(&[bytes, b"/"].concat());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::engine::Slice;
    use crate::plan::{Group, Pace, Payload, Plan, Publication, Subscription, Timing};

    fn group(name: &str, count: u32) -> Group {
        Group { version: 5, client_id: "%g%i".to_owned(), keep_alive: 0, ..Group::new(name, count) }
    }

    fn subscriber(filters: &[&str], count: u32) -> Group {
        let subscription = |filter: &&str| Subscription::new(filter, 1);
        Group { subscribe: filters.iter().map(subscription).collect(), ..group("s", count) }
    }

    fn publisher(topic: &str, topics: u32, count: u32) -> Group {
        let every = Pace::Every(Duration::from_secs(1));
        let publication = Publication { topics, payload: Payload::Bytes(16), ..Publication::new(topic, 1, every) };
        Group { publish: vec![publication], ..group("p", count) }
    }

    fn script(groups: Vec<Group>, slice: Slice, threads: usize) -> Script {
        let zero = Duration::ZERO;
        let timing = Timing { connect_rate: None, connecting: 1, warm_up: zero, window: zero, patience: zero };
        let plan =
            Plan { name: String::new(), about: String::new(), groups, timing, verify: true, transport: <_>::default() };
        Script::compile(Arc::new(plan), slice, threads).unwrap()
    }

    fn expectations(groups: Vec<Group>) -> Expectations {
        Expectations::of(&script(groups, Slice::WHOLE, 2)).unwrap()
    }

    /// The flows that a client expects.
    fn flows(found: &Expectations, client: (u16, u32)) -> Vec<u32> {
        let ranges = found.clients.get(&client).into_iter().flatten();
        ranges.flat_map(|range| range.first..range.first + range.count).collect()
    }

    #[test]
    fn pairs_expect_one_flow_each_and_a_wildcard_all_of_them_in_one_range() {
        let found = expectations(vec![publisher("t/%i", 1, 5), subscriber(&["t/%i"], 5), subscriber(&["t/+"], 1)]);
        assert_eq!(flows(&found, (1, 3)), [3]);
        assert_eq!(found.clients[&(2, 0)].len(), 1);
        assert_eq!(flows(&found, (2, 0)), [0, 1, 2, 3, 4]);
        assert_eq!(found.receivers, [2; 5]);
    }

    #[test]
    fn each_topic_of_a_client_is_a_flow_of_its_own() {
        let found =
            expectations(vec![publisher("t/%i/%t", 3, 2), subscriber(&["t/1/#"], 1), subscriber(&["+/+/2"], 1)]);
        assert_eq!(flows(&found, (1, 0)), [3, 4, 5]);
        assert_eq!(flows(&found, (2, 0)), [2, 5]);
        assert_eq!(found.receivers, [0, 0, 1, 1, 1, 2]);
    }

    #[test]
    fn a_share_expects_once_whatever_its_size_and_its_members_sit_together() {
        let groups = vec![publisher("t/%i", 1, 4), subscriber(&["$share/g/t/#"], 10), subscriber(&["t/0"], 1)];
        let script = script(groups, Slice { index: 0, of: 3, first_thread: 0 }, 4);
        let found = Expectations::of(&script).unwrap();
        assert_eq!(found.receivers, [2, 1, 1, 1]);
        assert_eq!((found.shares.len(), found.shares[0].members.len()), (1, 10));
        let mut desk = Desk::default();
        let seats: Vec<_> = (0..10).map(|index| script.seat(1, index, &mut desk)).collect();
        assert!(seats.iter().all(|seat| *seat == seats[0]));
    }

    #[test]
    fn members_of_a_share_without_a_ledger_are_spread_over_the_threads() {
        let groups = vec![publisher("t/%i", 1, 4), subscriber(&["$share/g/t/#"], 10)];
        let crowded = |verify, pace| {
            let mut script = script(groups.clone(), Slice::WHOLE, 5);
            let plan = Arc::make_mut(&mut script.plan);
            plan.verify = verify;
            plan.groups[0].publish[0].pace = pace;
            crate::engine::crowding(plan, 5).unwrap().into_iter().max().unwrap()
        };
        let open = Pace::Every(Duration::from_secs(1));
        assert_eq!(crowded(false, open), 3, "two members and a publisher");
        assert!(crowded(true, open) >= 10 && crowded(false, Pace::Outstanding(1)) >= 10);
    }

    #[test]
    fn members_that_would_sit_apart_are_refused() {
        let groups = vec![
            publisher("t/%i", 1, 4),
            subscriber(&["$share/a/t/#", "$share/c/x"], 1),
            subscriber(&["$share/b%i/t/#", "$share/c/x"], 20),
        ];
        let error = Expectations::of(&script(groups, Slice::WHOLE, 16)).unwrap_err().to_string();
        assert!(error.contains("shared subscription"), "{error}");
    }

    #[test]
    fn who_may_miss_something_is_not_owed_it() {
        let cycle = |abrupt| {
            let time = Duration::from_secs(1);
            Presence::Cycle { online: time, offline: time, abrupt }
        };
        let owed = |subscriber_presence, lasting: bool, publisher_presence, qos: u8| {
            let session_expiry = lasting.then_some(60);
            let mut publisher = Group { presence: publisher_presence, session_expiry, ..publisher("t", 1, 1) };
            publisher.publish[0].qos = qos;
            let subscriber = Group { presence: subscriber_presence, session_expiry, ..subscriber(&["t"], 1) };
            expectations(vec![publisher, subscriber]).receivers[0] == 1
        };
        use Presence::Always;
        assert!(owed(Always, false, Always, 0));
        assert!(!owed(cycle(false), false, Always, 1), "a clean session that is away");
        assert!(owed(cycle(true), true, Always, 1));
        assert!(!owed(cycle(true), true, Always, 0), "QoS 0 to who is away");
        assert!(owed(Always, false, cycle(false), 0));
        assert!(!owed(Always, false, cycle(true), 1), "an aborted connection of a session that ends with it");
        assert!(owed(Always, true, cycle(true), 1), "it is sent again");
        assert!(!owed(Always, true, cycle(true), 0));
    }

    #[test]
    fn who_comes_after_expects_what_is_retained_and_nothing_else() {
        let of = |retain: bool, retain_handling: u8| {
            let mut devices = publisher("t/%i", 1, 3);
            devices.publish[0].limit = Some(1);
            devices.publish[0].retain = retain;
            let mut late = Group { stage: 1, ..subscriber(&["t/#"], 1) };
            late.subscribe[0].retain_handling = retain_handling;
            expectations(vec![devices, late])
        };
        let found = of(true, 0);
        assert!(found.clients[&(1, 0)].iter().all(|range| range.expectation.retained && range.expectation.owed));
        assert_eq!(flows(&found, (1, 0)), [0, 1, 2]);
        assert_eq!(found.receivers, [0; 3], "owed when it subscribes");
        assert!(flows(&of(false, 0), (1, 0)).is_empty());
        assert!(flows(&of(true, 2), (1, 0)).is_empty());
    }

    #[test]
    fn a_closed_loop_over_two_workers_is_refused() {
        let fan_out = || {
            let mut publisher = publisher("t", 1, 1);
            publisher.publish[0].pace = Pace::Outstanding(1);
            vec![publisher, subscriber(&["t"], 4)]
        };
        let slice = Slice { index: 0, of: 2, first_thread: 0 };
        assert!(Expectations::of(&script(fan_out(), slice, 1)).unwrap_err().to_string().contains("another worker"));
        assert!(Expectations::of(&script(fan_out(), Slice::WHOLE, 3)).is_ok());
        let mut pairs = vec![publisher("t/%i", 1, 4), subscriber(&["t/%i"], 4)];
        pairs[0].publish[0].pace = Pace::Outstanding(1);
        assert!(Expectations::of(&script(pairs, slice, 1)).is_ok(), "pairs meet on one worker");
    }

    #[test]
    fn every_client_has_one_seat_over_all_workers() {
        for of in 1..4 {
            let mut seated = Vec::new();
            for index in 0..of {
                let slice = Slice { index, of, first_thread: 0 };
                let groups = vec![publisher("t/%i", 1, 50), subscriber(&["$share/g%{i%7}/x"], 30)];
                seated.extend(script(groups, slice, 3).seating().into_iter().flatten());
            }
            seated.sort_unstable();
            let all = (0..50).map(|index| (0, index)).chain((0..30).map(|index| (1, index)));
            assert_eq!(seated, all.collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn finding_filters_by_their_beginning_finds_what_matching_each_one_does(
            filters in prop::collection::vec("(\\$share/g/)?([ab]{0,1}|\\+)(/([ab]{0,1}|\\+)){0,3}(/#)?", 1..20),
            topics in prop::collection::vec("[ab]?(/[ab]?){0,3}", 1..10),
        ) {
            let valid = |filter: &String| ringmq::codec::topic::validate_filter(filter).is_ok();
            let filters: Vec<String> = filters.into_iter().filter(valid).collect();
            let groups: Vec<Group> = filters.iter().map(|filter| subscriber(&[filter], 1)).collect();
            let found = Filters::of(&script(groups, Slice::WHOLE, 1));
            let mut matching = Vec::new();
            for topic in topics.iter().filter(|topic| !topic.is_empty()) {
                found.matching(topic, &mut matching);
                let inner = |filter: &str| parse_shared(filter).map_or(filter.to_owned(), |(_, inner)| inner.to_owned());
                let mut expected: Vec<u16> = Vec::new();
                for (number, filter) in filters.iter().enumerate() {
                    let first = filters.iter().position(|other| other == filter) == Some(number);
                    let counts = first || parse_shared(filter).is_none();
                    if counts && filter_matches(&inner(filter), topic) {
                        expected.push(number as u16);
                    }
                }
                prop_assert_eq!(matching.iter().map(|of| of.group).collect::<Vec<_>>(), expected, "{}", topic);
            }
        }
    }
}
