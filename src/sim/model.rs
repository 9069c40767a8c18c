//! What must be true of a broker, kept beside it: who published what, who subscribed to what and when, what
//! each session got.
//!
//! The model knows only what clients can know, so it is exact where a client can be sure and lenient where
//! it cannot: a message is *owed* when its publisher saw it acknowledged and the subscriber had seen its
//! SUBACK before the message was sent. What is wrong at once (a duplicate, a message out of order, a session
//! present that cannot be) panics here; what can be told only at the end is in [`super::check`].

use std::collections::BTreeMap;

use super::rules::Ruleset;
use super::wire::{Publish, QoS};
use crate::engine::Time;

/// A client of the model, by its index.
pub type ClientIndex = usize;

/// An application message somebody published, or a will somebody left.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who published it.
    pub publisher: ClientIndex,
    /// Topic name.
    pub topic: String,
    /// QoS it was published with.
    pub qos: QoS,
    /// RETAIN it was published with.
    pub retain: bool,
    /// Payload bytes, the number included.
    pub size: usize,
    /// When it was first sent.
    pub sent: Time,
    /// On which of the publisher's connections it was first sent.
    pub connection: u32,
    /// How often it was sent.
    pub attempts: u32,
    /// When its publisher saw PUBACK or PUBREC.
    pub acknowledged: Option<Time>,
    /// When it expires, counted from when it was first sent.
    pub expires: Option<Time>,
    /// What becomes of a will; `None` for what was published.
    pub will: Option<Fate>,
}

/// Whether a will is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The connection that left it lives.
    Armed,
    /// It must be.
    Published,
    /// It must not be.
    Dropped,
    /// Nobody outside the broker can say.
    Open,
}

/// A subscription of a session over its time.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Topic filter, `$share/group/` included.
    pub filter: String,
    /// Maximum QoS asked for and granted.
    pub qos: QoS,
    /// When SUBSCRIBE was first sent.
    pub asked: Time,
    /// When the first SUBACK was seen.
    pub granted: Option<Time>,
    /// When UNSUBSCRIBE was sent.
    pub given_up: Option<Time>,
    /// When UNSUBACK was seen.
    pub gone: Option<Time>,
}

/// What a session got of one message.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// On which of the client's connections it came first.
    pub connection: u32,
    /// QoS it came with.
    pub qos: QoS,
}

/// A session as the server's CONNACKs tell of it.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Over: a later connection of the client found no session, or the last check ended it.
    pub ended: bool,
    /// Its subscriptions, past ones included.
    pub subscriptions: Vec<Subscription>,
    /// Messages it got because of a subscription.
    pub live: BTreeMap<u64, Receipt>,
    /// The highest message number got, by publisher, topic, QoS published with and QoS received with.
    order: BTreeMap<(ClientIndex, String, u8, u8), u64>,
}

/// What a client knows of its session on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There is none.
    No,
    /// There is one.
    Yes,
    /// There is one until this time, and some time later there is none.
    Until(Time),
    /// It depends on what the server saw.
    Unknown,
}

/// What the model knows of a client.
#[derive(Clone, Debug)]
pub struct Party {
    /// Its sessions; the last one is the present one.
    pub sessions: Vec<Session>,
    /// How many connections it has begun.
    pub connections: u32,
    /// Its session on the server.
    pub presence: Presence,
    /// The will of the last connection, if its fate is not sealed.
    pub will: Option<PendingWill>,
    /// Its present connection took what came without a break.
    pub steady: bool,
    /// It has a connection that was accepted.
    pub online: bool,
    /// When it let go of its last connection.
    parted: Time,
    /// How much later the server may have noticed, in nanoseconds.
    lag: u64,
}

/// A will whose fate depends on what comes.
#[derive(Clone, Copy, Debug)]
pub struct PendingWill {
    /// Number of the message.
    pub number: u64,
    /// When it is due, once the connection is gone; `None` while the connection lives.
    pub due: Option<Time>,
    /// The will delay interval, cut to the session's, is 0.
    pub at_once: bool,
}

/// The model. See the module's description.
#[derive(Debug, Default)]
pub struct Model {
    /// Every message by its number.
    pub messages: BTreeMap<u64, Message>,
    /// Every client.
    pub parties: Vec<Party>,
    /// The broker may refuse a message for a limit: then sending it again is a new publication even at QoS 2.
    pub refusals: bool,
    /// Rules by when they were set; before, everything was allowed.
    rules: Vec<(Time, Ruleset)>,
    /// Since the last rules were set not everything has come to rest: a client may still get what was sent before.
    rules_are_new: bool,
    next: u64,
}

/// How long after a client let go of a connection the server may not have noticed, in the worst case.
pub const NOTICE_MAX_NS: u64 = 10_000_000_000;

impl Model {
    /// A model of so many clients.
    pub fn new(clients: usize, refusals: bool) -> Model {
        let party = Party {
            sessions: Vec::new(),
            connections: 0,
            presence: Presence::No,
            will: None,
            steady: false,
            online: false,
            parted: Time(0),
            lag: NOTICE_MAX_NS,
        };
        Model { parties: vec![party; clients], refusals, ..Model::default() }
    }

    /// Registers a message and gives its number.
    pub fn message(&mut self, message: Message) -> u64 {
        self.next += 1;
        self.messages.insert(self.next, message);
        self.next
    }

    /// A message by its number.
    pub fn known(&mut self, number: u64) -> &mut Message {
        self.messages.get_mut(&number).expect("numbers are given by the model")
    }

    /// New rules are set: from when each shard has taken its next turn on, they are what counts.
    pub fn rules_change(&mut self, rules: Ruleset, now: Time) {
        self.rules.push((now, rules));
        self.rules_are_new = true;
    }

    /// Everything that was sent by older rules has arrived.
    pub fn rules_hold(&mut self) {
        self.rules_are_new = false;
    }

    /// Every rules that were in force at some time since then.
    pub fn rules_since(&self, since: Time) -> impl Iterator<Item = Ruleset> + '_ {
        let first = self.rules.partition_point(|(set, _)| *set <= since);
        let before = first.checked_sub(1).map_or(Ruleset::default(), |index| self.rules[index].1);
        std::iter::once(before).chain(self.rules[first..].iter().map(|(_, rules)| *rules))
    }

    /// The rules that were in force when a message was sent, and until its publisher saw it acknowledged.
    fn rules_of(&self, message: &Message) -> impl Iterator<Item = Ruleset> + '_ {
        let acknowledged = message.acknowledged.unwrap_or(Time(u64::MAX));
        let later = self.rules.iter().filter(move |(set, _)| *set <= acknowledged).count();
        let first = self.rules.partition_point(|(set, _)| *set <= message.sent);
        let before = first.checked_sub(1).map_or(Ruleset::default(), |index| self.rules[index].1);
        std::iter::once(before).chain(self.rules[first..later.max(first)].iter().map(|(_, rules)| *rules))
    }

    /// Whether a message was certainly published: acknowledged, and allowed all the while (3.x acknowledges the other).
    pub fn is_surely_published(&self, message: &Message) -> bool {
        let allowed = |rules: Ruleset| rules.lets_publish(message.publisher, &message.topic);
        message.acknowledged.is_some() && self.rules_of(message).all(allowed)
    }

    /// Whether the rules of now let somebody publish to a topic.
    pub fn may_publish_now(&self, client: ClientIndex, topic: &str) -> bool {
        self.rules.last().is_none_or(|(_, rules)| rules.lets_publish(client, topic))
    }

    /// The rules that something which a client gets now may have been sent by.
    fn rules_now(&self) -> impl Iterator<Item = Ruleset> + '_ {
        let count = if self.rules_are_new { 2 } else { 1 };
        let all = std::iter::once(Ruleset::default()).chain(self.rules.iter().map(|(_, rules)| *rules));
        all.skip((self.rules.len() + 1).saturating_sub(count))
    }

    /// Whether rules that were in force since a message was sent kept, or may have kept, a client from getting it.
    pub fn may_be_withheld(&self, client: ClientIndex, message: &Message) -> bool {
        self.rules_since(message.sent).any(|rules| {
            !rules.lets_publish(message.publisher, &message.topic) || !rules.lets_receive(client, &message.topic)
        })
    }

    /// CONNACK: holds session present against what is known, begins a session or goes on with it.
    pub fn accepted(&mut self, client: ClientIndex, clean: bool, session_present: bool, now: Time) {
        let party = &mut self.parties[client];
        let allowed = match party.presence {
            _ if clean => !session_present,
            Presence::No => !session_present,
            Presence::Yes => session_present,
            Presence::Until(time) if now <= time => session_present,
            Presence::Until(time) if now.0 > time.0.saturating_add(party.lag) => !session_present,
            Presence::Until(_) | Presence::Unknown => true,
        };
        assert!(
            allowed,
            "client {client}: session present {session_present}, clean {clean}, known {:?}",
            party.presence
        );
        if !session_present || party.sessions.is_empty() {
            if let Some(session) = party.sessions.last_mut() {
                session.ended = true;
            }
            party.sessions.push(Session::default());
        }
        party.presence = Presence::Yes;
        party.online = true;
        self.seal_will(client, session_present, now);
    }

    /// A new connection decides what becomes of the last one's will [MQTT-3.1.2-8] [MQTT-3.1.3-9].
    fn seal_will(&mut self, client: ClientIndex, resumed: bool, now: Time) {
        let Some(pending) = self.parties[client].will.take() else { return };
        let fate = match pending.due {
            _ if pending.at_once || !resumed => Fate::Published,
            None => Fate::Dropped,
            Some(due) if now < due => Fate::Dropped,
            Some(due) if now.0 > due.0 + self.parties[client].lag => Fate::Published,
            Some(_) => Fate::Open,
        };
        self.known(pending.number).will = Some(fate);
    }

    /// The connection is gone from the client's side, or about to go; `expiry` and `delay` in seconds.
    pub fn parted(&mut self, client: ClientIndex, clean: bool, expiry: u32, delay: u32, now: Time) {
        let party = &mut self.parties[client];
        party.steady = false;
        party.online = false;
        party.parted = now;
        party.lag = NOTICE_MAX_NS;
        party.presence = match expiry {
            0 => Presence::No,
            u32::MAX => Presence::Yes,
            seconds => Presence::Until(seconds_after(now, seconds)),
        };
        let Some(mut pending) = party.will.take() else { return };
        if clean {
            self.known(pending.number).will = Some(Fate::Dropped);
            return;
        }
        let wait = delay.min(expiry);
        pending.at_once = wait == 0;
        pending.due = Some(seconds_after(now, wait));
        party.will = Some(pending);
        self.known(pending.number).will = Some(Fate::Open);
    }

    /// The server closed the connection that the client had taken leave of.
    pub fn noticed(&mut self, client: ClientIndex, now: Time) {
        let party = &mut self.parties[client];
        party.lag = NOTICE_MAX_NS + (now.0 - party.parted.0);
    }

    /// Seals the fate of wills that no connection came for.
    pub fn wills_are_due(&mut self, now: Time) {
        for client in 0..self.parties.len() {
            let Some(PendingWill { number, due: Some(due), .. }) = self.parties[client].will else { continue };
            if now.0 > due.0 + self.parties[client].lag {
                self.parties[client].will = None;
                self.known(number).will = Some(Fate::Published);
            }
        }
    }

    /// The connection broke before CONNACK: whether the server took the CONNECT nobody knows.
    pub fn parted_unanswered(&mut self, client: ClientIndex, clean: bool, will: Option<u64>) {
        let party = &mut self.parties[client];
        if clean || party.presence != Presence::Yes {
            party.presence = Presence::Unknown;
        }
        let earlier = party.will.take();
        for number in will.into_iter().chain(earlier.filter(|pending| !pending.at_once).map(|pending| pending.number)) {
            self.known(number).will = Some(Fate::Open);
        }
        if let Some(pending) = earlier.filter(|pending| pending.at_once) {
            self.known(pending.number).will = Some(Fate::Published);
        }
    }

    /// SUBSCRIBE was sent.
    pub fn asked(&mut self, client: ClientIndex, filter: &str, qos: QoS, now: Time) {
        let session = self.session(client);
        match session.subscription(filter) {
            Some(subscription) if subscription.given_up.is_none() => {}
            _ => session.subscriptions.push(Subscription {
                filter: filter.to_owned(),
                qos,
                asked: now,
                granted: None,
                given_up: None,
                gone: None,
            }),
        }
    }

    /// SUBACK was seen.
    pub fn granted(&mut self, client: ClientIndex, filter: &str, code: u8, now: Time) {
        if code >= 0x80 {
            return self.denied(client, filter, now);
        }
        if let Some(subscription) = self.session(client).subscription(filter) {
            assert_eq!(code, subscription.qos as u8, "granted QoS of {filter}");
            subscription.granted.get_or_insert(now);
        }
    }

    /// SUBACK said no: the rules were against it when SUBSCRIBE arrived.
    fn denied(&mut self, client: ClientIndex, filter: &str, now: Time) {
        let Some(subscription) = self.session(client).subscription(filter) else { return };
        subscription.given_up.get_or_insert(now);
        subscription.gone.get_or_insert(now);
        let asked = subscription.asked;
        let against = self.rules_since(asked).any(|rules| !rules.lets_subscribe(client, filter));
        assert!(against, "client {client} may subscribe to {filter} and was refused");
    }

    /// UNSUBSCRIBE was sent.
    pub fn gave_up(&mut self, client: ClientIndex, filter: &str, now: Time) {
        if let Some(subscription) = self.session(client).subscription(filter) {
            subscription.given_up.get_or_insert(now);
        }
    }

    /// UNSUBACK was seen.
    pub fn gone(&mut self, client: ClientIndex, filter: &str, now: Time) {
        if let Some(subscription) = self.session(client).subscription(filter) {
            subscription.gone.get_or_insert(now);
        }
    }

    /// The present session of a client that is connected.
    pub fn live_session(&self, client: ClientIndex) -> Option<&Session> {
        self.parties[client].sessions.last().filter(|session| self.parties[client].online && !session.ended)
    }

    /// The session a client has now.
    pub fn session(&mut self, client: ClientIndex) -> &mut Session {
        self.parties[client].sessions.last_mut().expect("a session begins with CONNACK")
    }

    /// A message arrived at a client.
    pub fn received(&mut self, client: ClientIndex, publish: &Publish, now: Time) {
        let Some(number) = number_of(&publish.payload) else {
            assert!(publish.payload.is_empty(), "client {client} got a payload nobody sent: {publish:?}");
            return;
        };
        let message = self.messages.get(&number).unwrap_or_else(|| panic!("message {number} was never published"));
        assert_eq!(publish.payload, payload(number, message.size), "payload of message {number}");
        assert_eq!(publish.topic, message.topic, "topic of message {number}");
        let message = message.clone();
        let allowed = self.rules_now().any(|rules| rules.lets_receive(client, &message.topic));
        assert!(allowed, "client {client} got message {number}, which the rules deny: {message:?}");
        let published =
            self.rules_since(message.sent).any(|rules| rules.lets_publish(message.publisher, &message.topic));
        assert!(published, "message {number} was never allowed to be published: {message:?}");
        // What is sent again was sent before, when it was allowed.
        let still = !publish.retain
            || publish.dup
            || self.rules_now().any(|rules| rules.lets_publish(message.publisher, &message.topic));
        assert!(
            still,
            "client {client} got retained message {number}, which its publisher may not publish: {message:?}"
        );
        if publish.retain {
            self.replayed(client, number, &message, now);
        } else {
            self.delivered(client, number, &message, publish);
        }
    }

    /// A message came because of a subscription.
    fn delivered(&mut self, client: ClientIndex, number: u64, message: &Message, publish: &Publish) {
        let connection = self.parties[client].connections;
        let session = self.parties[client].sessions.last_mut().expect("a session begins with CONNACK");
        let who = || format!("client {client}, message {number} {message:?} as {publish:?}");
        let maximum = session
            .subscriptions
            .iter()
            .filter(|subscription| subscription.gone.is_none_or(|gone| message.sent <= gone))
            .filter(|subscription| matches(&subscription.filter, &message.topic))
            .map(|subscription| subscription.qos)
            .max();
        assert!(maximum.is_some(), "nobody subscribed: {}", who());
        assert!(Some(publish.qos) <= maximum && publish.qos <= message.qos, "QoS above what was granted: {}", who());
        assert!(message.will != Some(Fate::Armed) && message.will != Some(Fate::Dropped), "will not due: {}", who());
        if let Some(first) = session.live.get(&number) {
            let new_to_the_broker = message.qos == QoS::AtLeastOnce || self.refusals;
            let again_by_publisher = new_to_the_broker && message.attempts > 1;
            let again_by_server = publish.dup && publish.qos == QoS::AtLeastOnce && first.connection < connection;
            assert!(again_by_publisher || again_by_server, "a duplicate: {}", who());
            return;
        }
        session.live.insert(number, Receipt { connection, qos: publish.qos });
        if message.will.is_some() || message.topic.starts_with("s/") {
            return;
        }
        // What was missed the first time (before the subscription, expired, or at QoS 0 while away) may come late.
        let all_along = session.subscriptions.iter().any(|subscription| {
            subscription.granted.is_some_and(|granted| granted <= message.sent)
                && subscription.given_up.is_none()
                && subscription.qos > QoS::AtMostOnce
                && matches(&subscription.filter, &message.topic)
        });
        let key = (message.publisher, message.topic.clone(), message.qos as u8, publish.qos as u8);
        let last = session.order.entry(key).or_insert(0);
        let late = message.attempts > 1
            && (self.refusals || !all_along || message.expires.is_some() || publish.qos == QoS::AtMostOnce);
        assert!(*last < number || late, "out of order after {last}: {}", who());
        *last = number.max(*last);
    }

    /// A message came because it was retained when the subscription was made.
    fn replayed(&mut self, client: ClientIndex, number: u64, message: &Message, now: Time) {
        assert!(message.retain && message.sent <= now, "message {number} was never retained: {message:?}");
        let asked = self
            .session(client)
            .subscriptions
            .iter()
            .filter(|subscription| matches(&subscription.filter, &message.topic))
            .map(|subscription| subscription.asked)
            .min();
        let Some(asked) = asked else {
            panic!("client {client} never asked for retained message {number} {message:?}")
        };
        let newer = self.messages.range(number + 1..).find(|(_, later)| {
            later.retain && later.topic == message.topic && later.acknowledged.is_some_and(|time| time < asked)
        });
        assert!(
            newer.is_none() || self.refusals,
            "client {client} got retained message {number}, replaced long ago by {newer:?}"
        );
    }
}

impl Session {
    /// The latest subscription with this filter.
    fn subscription(&mut self, filter: &str) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().rev().find(|subscription| subscription.filter == filter)
    }
}

/// The payload of a message: its number, then bytes that follow from it.
pub fn payload(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((bytes.len()..size).map(|index| (number as usize * 31 + index) as u8));
    bytes
}

fn number_of(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(payload.get(..8)?.try_into().ok()?))
}

/// The topic filter of a subscription without `$share/group/`, and the group.
pub fn split_shared(filter: &str) -> (Option<&str>, &str) {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((group, inner)) => (Some(group), inner),
        None => (None, filter),
    }
}

/// Whether a topic filter matches a topic name, as §4.7 says it, level by level.
pub fn matches(filter: &str, topic: &str) -> bool {
    let (_, filter) = split_shared(filter);
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn seconds_after(time: Time, seconds: u32) -> Time {
    time.after(std::time::Duration::from_secs(u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_specification_says() {
        for (filter, topic, expected) in [
            ("sport/#", "sport", true),
            ("sport/#", "sport/a/b", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$share/g/a/+", "a/b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }
}
