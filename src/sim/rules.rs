//! Rules of a simulated broker, twice: as the text that the broker reads, and as what the model holds it to.

use std::fmt::Write;

use super::model::{ClientIndex, split_shared};
use crate::acl::{Access, Format, Policy};

/// Clients that everything is allowed to: the watcher and the inspector.
const TRUSTED: ClientIndex = 2;

/// One of many sets of rules, named by its number; 0 allows everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ruleset(pub u64);

impl Ruleset {
    /// Whether a client may receive what is published to a topic.
    pub fn lets_receive(self, client: ClientIndex, topic: &str) -> bool {
        !self.denies(client, topic, 1)
    }

    /// Whether a client may publish to a topic.
    pub fn lets_publish(self, client: ClientIndex, topic: &str) -> bool {
        !self.denies(client, topic, 2)
    }

    /// Whether a client may hold a subscription: the rules deny topics, never filters with wildcards.
    pub fn lets_subscribe(self, client: ClientIndex, filter: &str) -> bool {
        self.lets_receive(client, split_shared(filter).1)
    }

    fn denies(self, client: ClientIndex, topic: &str, action: u64) -> bool {
        if self.0 == 0 || client < TRUSTED || !topics().any(|other| other == topic) {
            return false;
        }
        let seed = self.0.wrapping_mul(0x9E37_79B9).wrapping_add(client as u64 * 4 + action);
        let sum = topic.bytes().fold(seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        (sum >> 20).is_multiple_of(6)
    }

    /// The rules for so many clients, as the broker takes them.
    pub fn policy(self, clients: usize) -> Policy {
        let mut text = "default = \"allow\"\n".to_owned();
        for client in 0..clients {
            for topic in topics() {
                let denied =
                    [("subscribe", self.lets_receive(client, &topic)), ("publish", self.lets_publish(client, &topic))];
                for (action, _) in denied.into_iter().filter(|(_, allowed)| !allowed) {
                    let rule = format!("access = \"deny\"\naction = \"{action}\"\ntopic = \"{topic}\"");
                    let _ = writeln!(text, "[[rules]]\n{rule}\nclient = \"client-{client}\"");
                }
            }
        }
        let read = Policy::from_text("rules.toml", &text, Format::Toml, Access::Deny, &[]);
        read.expect("the rules are written as the broker reads them")
    }
}

/// The topics that rules speak of.
fn topics() -> impl Iterator<Item = String> {
    let plain = (0..8).map(|number| format!("t/{number}"));
    let deep = (0..8).map(|number| format!("t/{number}/x"));
    let shared = (0..3).map(|number| format!("s/{number}"));
    let retained = (0..50).map(|number| format!("r/{number}"));
    plain.chain(deep).chain(shared).chain(retained)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Subscribing, Who};
    use crate::codec::QoS;
    use std::collections::BTreeMap;

    #[test]
    fn the_broker_and_the_model_read_the_same_from_a_set_of_rules() {
        let rules = Ruleset(7);
        let policy = rules.policy(12);
        let claims = BTreeMap::new();
        let mut denied = 0;
        for client in 0..12 {
            let client_id = format!("client-{client}");
            let who = Who {
                client_id: &client_id,
                user: None,
                common_name: None,
                roles: &[],
                claims: &claims,
                address: None,
                rules: None,
            };
            let grants = policy.grants(&who);
            for topic in topics() {
                let receive = grants.receive(&topic);
                assert_eq!(receive, rules.lets_receive(client, &topic), "{client} {topic}");
                let publish = grants.publish(&topic, QoS::AtLeastOnce, false);
                assert_eq!(publish, rules.lets_publish(client, &topic), "{client} {topic}");
                let subscribe = grants.subscribe(&topic, QoS::AtLeastOnce) != Subscribing::Denied;
                assert_eq!(subscribe, rules.lets_subscribe(client, &topic), "{client} {topic}");
                denied += u64::from(!receive) + u64::from(!publish);
            }
        }
        assert!(denied > 50, "{denied} denials are hardly any");
    }
}
