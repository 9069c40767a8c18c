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
            wills.insert(if elsewhere { hash(&topic) } else { hash_will(&topic, &payload) }, owed);
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
