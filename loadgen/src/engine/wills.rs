//! Wills: which there are, and who must get them when the plan breaks a connection.
//!
//! A will carries no stamp, so it is known by its text, and no ledger says which one is missing: as many have to come as
//! are owed, over the whole run. That is known only where the plan decides it, see [`receivers`]. All others are counted
//! as they come.

use std::collections::HashMap;

use ringmq::codec::QoS;

use super::expect::{Filters, Subscriber};
use super::packets::Composer;
use super::script::{Script, hash, text};
use crate::plan::template::Variable;
use crate::plan::{Group, Presence, Will};

/// What the wills of all clients are known by, and how many clients are owed each of them, once per broken connection.
pub fn wills(script: &Script, unix_origin_ns: u64) -> HashMap<u64, u32> {
    let mut composer = Composer::new(unix_origin_ns, 0);
    let filters = script.plan.groups.iter().any(|group| decided(group).is_some()).then(|| Filters::of(script));
    let (mut wills, mut matching) = (HashMap::new(), Vec::new());
    for (cast, group) in script.groups.iter().zip(&script.plan.groups) {
        let Some(will) = &cast.will else { continue };
        for index in 0..cast.count {
            let (topic, payload) = composer.will(cast, will, index);
            let owed = decided(group).zip(filters.as_ref()).map_or(0, |(will, filters)| {
                filters.matching(text(&topic), &mut matching);
                receivers(script, filters, will, &matching).unwrap_or(0)
            });
            // Another host's clock makes another text of it: then its topic must do.
            let elsewhere = will.payload.depends_on(Variable::Time) && script.is_divided();
            let known_by = if elsewhere { hash(&topic) } else { hash_will(&topic, &payload) };
            // Of two that look alike nobody can tell which one came, so that what is owed must be the same.
            wills.entry(known_by).and_modify(|of_both| *of_both *= u32::from(*of_both == owed)).or_insert(owed);
        }
    }
    wills
}

/// What a will is known by.
pub fn hash_will(topic: &[u8], payload: &[u8]) -> u64 {
    // U+0000 is in no topic.
    hash(&[topic, b"\0", payload].concat())
}

/// A group's will, if the plan breaks connections and the broker must send it then: at once, not after a delay, in which
/// its client may come back.
fn decided(group: &Group) -> Option<&Will> {
    let breaks = matches!(group.presence, Presence::Cycle { abrupt: true, .. });
    group.will.as_ref().filter(|will| breaks && will.delay.unwrap_or(0) == 0)
}

/// How many clients get a will, given its subscribers (sorted); `None` where that is not for the plan to say: at QoS 0,
/// for filters that overlap, for who keeps the flag of a retained will (another subscriber gets it as an old one), and
/// for shared subscriptions whose members come and go.
fn receivers(script: &Script, filters: &Filters, will: &Will, matching: &[Subscriber]) -> Option<u32> {
    let stays = |group: u16| script.plan.groups[usize::from(group)].presence == Presence::Always;
    let mut count = 0;
    for same in matching.chunk_by(|a, b| (a.group, a.index, a.share) == (b.group, b.index, b.share)) {
        let [one] = same else { return None };
        let subscription = &script.plan.groups[usize::from(one.group)].subscribe[usize::from(one.subscription)];
        let members = filters.share(one).map_or(&[][..], |share| &share.members);
        let ambiguous = (will.retain && subscription.retain_as_published)
            || QoS::from_bits(subscription.qos.min(will.qos)) == Some(QoS::AtMostOnce)
            || !members.iter().all(|(group, _)| stays(*group));
        if ambiguous {
            return None;
        }
        count += u32::from(stays(one.group));
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::Slice;
    use crate::plan::{MessageProperties, Plan, Subscription, Timing};

    /// Clients whose connections the plan breaks, and their will.
    fn broken(name: &str, topic: &str, delay: Option<u32>) -> Group {
        let (online, offline) = (Duration::from_secs(1), Duration::from_secs(1));
        let will = Will {
            topic: topic.to_owned(),
            payload: "gone".to_owned(),
            qos: 1,
            retain: false,
            delay,
            message_expiry: None,
            properties: MessageProperties::default(),
            user_properties: Vec::new(),
        };
        let presence = Presence::Cycle { online, offline, abrupt: true };
        Group { version: 5, will: Some(will), presence, ..Group::new(name, 2) }
    }

    /// How many get each of the wills of these groups, when two clients subscribe to all of them.
    fn owed(mut groups: Vec<Group>) -> Vec<u32> {
        groups.push(Group { subscribe: vec![Subscription::new("wills/#", 1)], ..Group::new("watchers", 2) });
        let zero = Duration::ZERO;
        let timing = Timing { connect_rate: None, connecting: 1, warm_up: zero, window: zero, patience: zero };
        let plan = Plan {
            name: String::new(),
            about: String::new(),
            groups,
            timing,
            verify: true,
            transport: Default::default(),
        };
        wills(&Script::compile(Arc::new(plan), Slice::WHOLE, 1).unwrap(), 0).into_values().collect()
    }

    #[test]
    fn a_will_is_owed_to_each_subscriber_that_stays_unless_it_may_be_cancelled() {
        assert_eq!(owed(vec![broken("a", "wills/%i", None)]), [2, 2]);
        assert_eq!(owed(vec![broken("a", "wills/%i", Some(9))]), [0, 0]);
    }

    #[test]
    fn wills_that_look_alike_are_owed_if_all_of_them_are() {
        let (at_once, late) = (broken("a", "wills/same", None), broken("b", "wills/same", Some(9)));
        assert_eq!(owed(vec![at_once.clone()]), [2]);
        assert_eq!(owed(vec![at_once.clone(), late.clone()]), [0]);
        assert_eq!(owed(vec![late, at_once]), [0], "whose connection breaks is owed nothing that may never come");
    }
}
