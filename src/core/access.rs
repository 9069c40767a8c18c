//! What clients may do: the rules of the moment, and what they grant to each session.
//!
//! Rules change while clients are connected. A shard takes new ones at the beginning of a turn; from then on no session
//! gets, publishes or subscribes to anything by the old ones: grants say by which rules they were made, and old ones
//! are made anew where they are asked. What that means for subscriptions is in `renew`. What waits in a queue, or is
//! retained, is held against the rules when it is sent.
//!
//! Without an authenticator nobody has a user name for the rules, whatever CONNECT says.

use super::Core;
use super::Time;
use super::counters::DropReason;
use super::gate::Admission;
use super::source::Source;
use super::withheld::Withheld;
use crate::acl::{Decisions, Grants, Policy, Room, Subscribing, Who};
use crate::auth::{Credentials, Principal};
use crate::codec::{Connect, QoS};
use crate::engine::{ConnId, Peer};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The rules that all shards go by.
#[derive(Default)]
pub struct SharedRules {
    policy: ArcSwapOption<Policy>,
    /// Raised behind each change.
    generation: AtomicU64,
}

impl SharedRules {
    /// Sets the rules; `None`: everybody may do everything.
    pub fn set(&self, policy: Option<Arc<Policy>>) {
        self.policy.store(policy);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The rules, if they have changed since this generation, and theirs.
    fn newer_than(&self, generation: u64) -> Option<(Option<Arc<Policy>>, u64)> {
        let now = self.generation.load(Ordering::Acquire);
        (now != generation).then(|| (self.policy.load_full(), now))
    }
}

/// The rules as one shard knows them.
#[derive(Default)]
pub struct Rules {
    pub policy: Option<Arc<Policy>>,
    pub generation: u64,
    pub decisions: Decisions,
}

impl Rules {
    /// True where rules are set.
    #[inline]
    pub fn in_force(&self) -> bool {
        self.policy.is_some()
    }
}

/// Who a session's client is: kept only where clients are authenticated or rules are set.
#[derive(Debug)]
pub struct Access {
    /// Who it is. A session belongs to this user until it ends.
    pub principal: Principal,
    /// Who was at the other end of its last connection.
    pub peer: Peer,
    /// What that connection's CONNECT said of its user, where nobody checked it.
    pub said: Said,
    /// Authentication method of that connection's CONNECT.
    pub method: Option<Box<str>>,
    /// Where authenticating again stands.
    pub renewal: Renewal,
    /// When the authentication is over; `None` never.
    pub lapses: Option<Time>,
    /// When the timer that counts for that fires; `u64::MAX` when there is none.
    pub looked_at: Time,
    /// Who is behind what it has published to be retained.
    pub source: Option<Arc<Source>>,
    /// What it may, where rules are set.
    grants: Option<Grants>,
    /// The rules that these were made by.
    generation: u64,
    /// Deliveries are to be held against them: of one subscription at least, a part is denied.
    pub checked: bool,
    /// Its subscriptions are what they say. Until then, each delivery is held against them.
    pub settled: bool,
    /// Subscriptions that rules keep from it.
    pub withheld: Withheld,
}

/// What is known of what a client said itself of its user.
#[derive(Debug)]
pub enum Said {
    /// Nothing: it connected when neither rules nor an authentication asked.
    Unknown,
    /// Its user name, if it gave one.
    User(Option<Box<str>>),
}

/// How far a client that authenticates again has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It does not.
    None,
    /// A question is open.
    Asked,
    /// It was sent AUTH and has to answer.
    AwaitsClient,
}

impl Access {
    /// A client of whom nothing is known but where it comes from and its certificate.
    fn of_peer(peer: Peer) -> Access {
        Access::new(Principal::default(), peer)
    }

    /// Whatever let it in, rules may ask for the common name of its certificate.
    fn new(mut principal: Principal, peer: Peer) -> Access {
        principal.common_name = common_name(&peer);
        Access {
            principal,
            peer,
            said: Said::Unknown,
            method: None,
            renewal: Renewal::None,
            lapses: None,
            looked_at: Time(u64::MAX),
            source: None,
            grants: None,
            generation: 0,
            checked: true,
            settled: false,
            withheld: Withheld::default(),
        }
    }

    /// Whether these are the grants it has.
    pub fn is_by(&self, grants: &Grants) -> bool {
        self.grants.as_ref().is_some_and(|own| own.is(grants))
    }

    /// The client as rules see it.
    fn who<'a>(&'a self, client_id: &'a str) -> Who<'a> {
        let Principal { user, common_name, roles, claims, rules, .. } = &self.principal;
        Who {
            client_id,
            user: user.as_deref(),
            common_name: common_name.as_deref(),
            roles,
            claims,
            address: self.peer.address.map(|address| address.ip()),
            rules: rules.as_deref(),
        }
    }

    /// What it says of itself when it authenticates again.
    pub fn credentials(&self, client_id: String, listener: u16, data: Vec<u8>) -> Credentials {
        Credentials {
            client_id,
            user: self.principal.user.as_deref().map(str::to_owned),
            password: None,
            method: self.method.as_deref().map(str::to_owned),
            data,
            listener,
            peer: self.peer.clone(),
        }
    }
}

fn common_name(peer: &Peer) -> Option<Arc<str>> {
    peer.certificate.as_ref()?.common_name.as_deref().map(Arc::from)
}

impl Core {
    /// Whether a client may have the session of this identifier: it is nobody's yet, or the same user's.
    pub(super) fn may_have_session(&self, client_id: &str, admission: Option<&Admission>) -> bool {
        let Some(admission) = admission else { return true };
        let Some(slot) = self.find_client(client_id) else { return true };
        let owner = self.sessions[slot].access.as_ref().and_then(|access| access.principal.user.as_ref());
        owner == admission.principal.user.as_ref()
    }

    /// Remembers with the session who its client is, where that matters.
    pub(super) fn give_access(&mut self, id: ConnId, slot: u32, connect: &Connect<'_>, admission: Option<Admission>) {
        let peer = self.take_peer(id);
        let mut access = match admission {
            Some(Admission { principal, .. }) => Access {
                method: connect.properties.authentication_method.map(Into::into),
                lapses: principal.lasts.map(|lasts| self.wire.now.after(lasts)),
                said: Said::User(None),
                ..Access::new(*principal, peer)
            },
            None if self.rules.in_force() => {
                Access { said: Said::User(connect.user_name.map(Into::into)), ..Access::of_peer(peer) }
            }
            None => return,
        };
        let session = &mut self.sessions[slot];
        access.withheld = session.access.take().map(|former| former.withheld).unwrap_or_default();
        session.access = Some(Box::new(access));
        self.schedule_lapse(id);
        self.renew_session(slot);
    }

    /// The client has authenticated again.
    pub(super) fn take_principal(&mut self, slot: u32, principal: Principal) {
        let now = self.wire.now;
        let Some(access) = self.sessions[slot].access.as_deref_mut() else { return };
        access.lapses = principal.lasts.map(|lasts| now.after(lasts));
        access.principal = Principal { common_name: common_name(&access.peer), ..principal };
        access.source = None;
        self.guard_roles(slot);
        self.renew_session(slot);
    }

    /// Looks whether there are new rules, and goes on with making the grants of all sessions anew.
    pub(super) fn follow_rules(&mut self) {
        if let Some((policy, generation)) = self.shared.rules.newer_than(self.rules.generation) {
            self.rules.policy = policy;
            self.rules.generation = generation;
            self.renewals.begin();
            self.plain_topic_bytes = self.plain_topic_bytes();
        }
        if !self.renewals.are_done() {
            self.renew_some();
        }
    }

    /// Below how many bytes nothing about a topic name needs to be looked at.
    pub(super) fn plain_topic_bytes(&self) -> usize {
        let (bytes_max, levels_max) = (self.limits.topic_bytes_max, self.guarding.topic_levels_max_least());
        // A topic has fewer levels than bytes, but for one.
        let plain = (usize::from(bytes_max) + 1).min(usize::from(levels_max));
        if self.rules.in_force() { 0 } else { plain }
    }

    /// Makes a session's grants by the rules of now. Until its subscriptions have been held against them, each of
    /// its deliveries is.
    pub(super) fn renew_grants(&mut self, slot: u32) -> Option<Grants> {
        let policy = self.rules.policy.as_deref()?;
        let session = &mut self.sessions[slot];
        // Its CONNECT came before there were any rules.
        let access = session.access.get_or_insert_with(|| Box::new(Access::of_peer(Peer::default())));
        let grants = policy.grants(&access.who(&session.client_id));
        access.grants = Some(grants.clone());
        access.generation = self.rules.generation;
        access.settled = false;
        Some(grants)
    }

    /// Gives a session that something is withheld from what everybody has where no rules are set.
    pub(super) fn open_grants(&mut self, slot: u32) -> Option<Grants> {
        let access = self.sessions[slot].access.as_deref_mut().filter(|access| !access.withheld.is_empty())?;
        let grants = Grants::everything();
        access.grants = Some(grants.clone());
        access.generation = self.rules.generation;
        access.settled = false;
        Some(grants)
    }

    /// Makes a session's grants anew if they are not by the rules of now.
    fn renew_stale_grants(&mut self, slot: u32) {
        let stale = |access: &Access| access.generation != self.rules.generation;
        if self.sessions[slot].access.as_deref().is_none_or(stale) {
            self.renew_grants(slot);
        }
    }

    /// What a session may by the rules of now; `None` where no rules are set.
    fn grants(&mut self, slot: u32) -> Option<Grants> {
        match self.sessions[slot].access.as_deref() {
            Some(access) if access.generation == self.rules.generation => access.grants.clone(),
            _ => self.renew_grants(slot),
        }
    }

    /// Whether a session's client may publish this.
    pub(super) fn may_publish(&mut self, slot: u32, topic: &str, hash: u64, qos: QoS, retain: bool) -> bool {
        if !self.rules.in_force() {
            return true;
        }
        self.renew_stale_grants(slot);
        let grants = self.sessions[slot].access.as_deref().and_then(|access| access.grants.as_ref());
        grants.is_none_or(|grants| self.rules.decisions.publish(grants, topic, hash, qos, retain))
    }

    /// What becomes of a subscription.
    pub(super) fn may_subscribe(&mut self, slot: u32, filter: &str, qos: QoS, room: &mut Room) -> Subscribing {
        let Some(grants) = self.grants(slot) else { return Subscribing::Granted { qos, checked: false } };
        let subscribing = grants.subscribe_within(filter, qos, room);
        if let (Subscribing::Granted { checked, .. }, Some(access)) = (subscribing, &mut self.sessions[slot].access) {
            access.checked |= checked;
        }
        subscribing
    }

    /// Whether a message that one of a session's subscriptions matches now may be delivered.
    #[inline]
    pub(super) fn may_receive(&mut self, slot: u32, topic: &str, hash: u64) -> bool {
        let generation = self.rules.generation;
        let access = self.sessions[slot].access.as_deref();
        access.is_some_and(|access| access.generation == generation && access.settled && !access.checked)
            || self.may_have(slot, topic, hash)
    }

    /// Whether a message that was matched earlier may be delivered now.
    pub(super) fn may_have(&mut self, slot: u32, topic: &str, hash: u64) -> bool {
        if !self.rules.in_force() {
            return true;
        }
        self.renew_stale_grants(slot);
        let grants = self.sessions[slot].access.as_deref().and_then(|access| access.grants.as_ref());
        grants.is_none_or(|grants| self.rules.decisions.receive(grants, topic, hash))
    }

    /// Counts a delivery that rules withheld.
    pub(super) fn withhold(&self) {
        self.counters.matched.add(1);
        self.counters.drop_delivery(DropReason::NotAuthorized);
    }
}
