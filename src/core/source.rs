//! Who published what is retained.
//!
//! A right to publish may be taken away while a message of before is still retained: whoever subscribes then must not
//! get it (CVE-2018-12546 was that). So where rules are in force each retained message keeps who published it, and the
//! rules of the moment are asked about that client when the message is replayed, not only about the one who gets it. What
//! they deny is passed over and counted; it stays in the store, so that a slip in the rules destroys nothing, until
//! somebody who may publish there replaces or clears it.
//!
//! A client is asked about as it was when it published: its user name, roles, claims and address of then. Whatever was
//! retained before there were any rules, and what the broker publishes itself, has nobody behind it and is replayed.
//!
//! Without rules nothing is kept, and the messages of a store without sources are not looked up.

use super::Core;
use super::counters::DropReason;
use super::message::Message;
use super::session::NO_SLOT;
use crate::acl::{Grants, Policy, Who};
use crate::auth::Principal;
use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A client that publishes retained messages, as rules see it. All its messages share it.
#[derive(Debug)]
pub struct Source {
    client_id: Box<str>,
    principal: Principal,
    address: Option<IpAddr>,
    /// What it may, by the rules that were asked last.
    granted: ArcSwapOption<Granted>,
}

#[derive(Debug)]
struct Granted {
    /// The rules that these were made by.
    generation: u64,
    grants: Grants,
}

/// Who stands behind a message that is to be replayed.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Nobody that rules could be asked about.
    Unknown,
    /// This client.
    Client(Arc<Source>),
    /// It came live, when the rules of this generation allowed it.
    Live(u64),
}

/// A retained message on its way to a new subscription.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// Who stands behind it.
    pub origin: Origin,
}

/// The clients behind a shard's retained messages, by the hash of the topic.
#[derive(Default)]
pub struct Sources(HashMap<u64, Arc<Source>>);

impl Source {
    /// A client as it is now.
    pub fn new(client_id: &str, principal: &Principal, address: Option<IpAddr>) -> Source {
        Source { client_id: client_id.into(), principal: principal.clone(), address, granted: ArcSwapOption::empty() }
    }

    /// What it counts for in byte limits, with each message that it stands behind.
    pub fn size(&self) -> usize {
        let Principal { user, common_name, roles, claims, rules, .. } = &self.principal;
        let names = [user, common_name].into_iter().flatten().chain(roles);
        let claims = claims.iter().map(|(name, value)| name.len() + value.len());
        let rules = rules.iter().flat_map(|rules| &rules.0).map(|rule| size_of_val(rule) + rule.filter.len());
        self.client_id.len()
            + names.map(|name| name.len()).sum::<usize>()
            + claims.sum::<usize>()
            + rules.sum::<usize>()
    }

    fn grants(&self, policy: &Policy, generation: u64) -> Grants {
        if let Some(known) = self.granted.load().as_ref().filter(|known| known.generation == generation) {
            return known.grants.clone();
        }
        let Principal { user, common_name, roles, claims, rules, .. } = &self.principal;
        let grants = policy.grants(&Who {
            client_id: &self.client_id,
            user: user.as_deref(),
            common_name: common_name.as_deref(),
            roles,
            claims,
            address: self.address,
            rules: rules.as_deref(),
        });
        self.granted.store(Some(Arc::new(Granted { generation, grants: grants.clone() })));
        grants
    }
}

impl Sources {
    /// Says who is behind the message of a topic from now on; returns who was before.
    pub fn set(&mut self, topic_hash: u64, source: Option<Arc<Source>>) -> Option<Arc<Source>> {
        match source {
            Some(source) => self.0.insert(topic_hash, source),
            None if self.0.is_empty() => None,
            None => self.0.remove(&topic_hash),
        }
    }

    /// What the source of a topic's message counts for in byte limits.
    pub fn size(&self, topic_hash: u64) -> usize {
        if self.0.is_empty() { 0 } else { self.0.get(&topic_hash).map_or(0, |source| source.size()) }
    }

    /// A message of the store with who is behind it.
    pub fn kept(&self, message: Message) -> Kept {
        let source = if self.0.is_empty() { None } else { self.0.get(&message.head().topic_hash) };
        let origin = source.map_or(Origin::Unknown, |source| Origin::Client(source.clone()));
        Kept { message, origin }
    }
}

impl Core {
    /// Who is behind what a session publishes, where that matters.
    pub(super) fn source_of(&mut self, slot: u32) -> Option<Arc<Source>> {
        if !self.rules.in_force() || slot == NO_SLOT {
            return None;
        }
        let session = &mut self.sessions[slot];
        let access = session.access.as_deref_mut()?;
        let address = access.peer.address.map(|address| address.ip());
        let make = || Arc::new(Source::new(&session.client_id, &access.principal, address));
        Some(access.source.get_or_insert_with(make).clone())
    }

    /// Whether whoever published a retained message may publish it by the rules of now; counts it if not.
    pub(super) fn is_still_published(&mut self, kept: &Kept) -> bool {
        let generation = self.rules.generation;
        let allowed = match (&kept.origin, self.rules.policy.as_deref()) {
            (_, None) | (Origin::Unknown, _) => true,
            // Who it was did not come along.
            (Origin::Live(allowed), _) => *allowed == generation,
            (Origin::Client(source), Some(policy)) => {
                let grants = source.grants(policy, generation);
                let head = kept.message.head();
                self.rules.decisions.publish(&grants, kept.message.topic(), head.topic_hash, head.qos, true)
            }
        };
        if !allowed {
            self.counters.matched.add(1);
            self.counters.drop_delivery(DropReason::PublisherNotAuthorized);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Access, Format};

    fn denies(client: &str) -> Policy {
        let text = format!("default = \"allow\"\n[[rules]]\naccess = \"deny\"\ntopic = \"t\"\nclient = \"{client}\"\n");
        Policy::from_text("rules.toml", &text, Format::Toml, Access::Deny, &[]).expect("rules")
    }

    #[test]
    fn what_a_source_may_is_worked_out_once_for_each_set_of_rules() {
        let source = Source::new("p", &Principal::default(), None);
        let may = |policy: &Policy, generation| {
            source.grants(policy, generation).publish("t", crate::codec::QoS::AtMostOnce, true)
        };
        assert!(!may(&denies("p"), 1));
        assert!(!may(&denies("q"), 1), "the rules of one number are the same rules");
        assert!(may(&denies("q"), 2));
        assert!(!may(&denies("p"), 3));
    }

    #[test]
    fn a_source_counts_for_all_that_it_keeps() {
        let claims = [("team".into(), "north".into())].into();
        let principal =
            Principal { user: Some("anna".into()), roles: vec!["r".into()], claims, ..Principal::default() };
        assert_eq!(Source::new("id", &principal, None).size(), 2 + 4 + 1 + 4 + 5);
    }
}
