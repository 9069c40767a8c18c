//! What the model can say only when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{ClientIndex, Fate, Message, Model, Session, Subscription, matches, split_shared};
use super::wire::QoS;
use crate::engine::Time;

/// Everything owed was delivered; call it when all sessions that exist are connected and nothing moves.
pub fn deliveries(model: &Model) {
    for client in 0..model.parties.len() {
        let Some(session) = model.live_session(client) else { continue };
        for subscription in held_to_the_end(session).filter(|held| split_shared(&held.filter).0.is_none()) {
            for (number, message) in owed(model, subscription) {
                let kept_away =
                    model.may_be_withheld(client, message) || was_mute(model, client, subscription, message);
                if !kept_away && is_due(model, client, subscription, message) {
                    assert!(
                        session.live.contains_key(&number),
                        "client {client} did not get message {number} {message:?} owed to {subscription:?}"
                    );
                }
            }
        }
    }
}

/// Rules that were in force since the message was sent are against the subscription: with earlier ones it was taken
/// away, and given back before.
fn was_mute(model: &Model, client: ClientIndex, subscription: &Subscription, message: &Message) -> bool {
    model.rules_since(message.sent).any(|rules| !rules.lets_subscribe(client, &subscription.filter))
}

fn held_to_the_end(session: &Session) -> impl Iterator<Item = &Subscription> {
    session.subscriptions.iter().filter(|subscription| subscription.given_up.is_none())
}

/// Messages sent after this subscription's SUBACK was seen and acknowledged since, or sent at QoS 0.
fn owed<'a>(model: &'a Model, subscription: &Subscription) -> impl Iterator<Item = (u64, &'a Message)> {
    let granted = subscription.granted.unwrap_or(Time(u64::MAX));
    let filter = subscription.filter.clone();
    model
        .messages
        .iter()
        .filter(move |(_, message)| {
            message.will.is_none()
                && message.expires.is_none()
                && message.sent >= granted
                && matches(&filter, &message.topic)
        })
        .map(|(number, message)| (*number, message))
}

/// At QoS 1 and 2 what was acknowledged is due; at QoS 0 only what nothing can have got lost of.
fn is_due(model: &Model, client: ClientIndex, subscription: &Subscription, message: &Message) -> bool {
    if message.qos.min(subscription.qos) > QoS::AtMostOnce {
        return message.acknowledged.is_some();
    }
    let (publisher, receiver) = (&model.parties[message.publisher], &model.parties[client]);
    let arrived = message.acknowledged.is_some()
        || (message.qos == QoS::AtMostOnce && publisher.steady && publisher.connections == message.connection);
    arrived && receiver.steady && receiver.connections == 1
}

/// Of each shared subscription exactly one member has each message.
pub fn shared(model: &Model) {
    let mut groups: BTreeMap<&str, Vec<ClientIndex>> = BTreeMap::new();
    for (client, party) in model.parties.iter().enumerate() {
        for subscription in party.sessions.iter().flat_map(|session| &session.subscriptions) {
            if split_shared(&subscription.filter).0.is_some() {
                let members = groups.entry(&subscription.filter).or_default();
                if members.last() != Some(&client) {
                    members.push(client);
                }
            }
        }
    }
    for (filter, members) in groups {
        for (number, message) in model.messages.iter().filter(|(_, message)| matches(filter, &message.topic)) {
            shared_message(model, filter, &members, *number, message);
        }
    }
}

fn shared_message(model: &Model, filter: &str, members: &[ClientIndex], number: u64, message: &Message) {
    if message.qos == QoS::AtMostOnce {
        return;
    }
    let present =
        |client: &&ClientIndex| model.live_session(**client).is_some_and(|session| session.live.contains_key(&number));
    let receivers: Vec<_> = members.iter().filter(present).collect();
    let sent_twice = message.qos == QoS::AtLeastOnce && message.attempts > 1;
    assert!(receivers.len() <= 1 || sent_twice, "message {number} {message:?} went to {receivers:?}, all of {filter}");
    let owed = members.iter().any(|client| {
        let held = model.live_session(*client).into_iter().flat_map(held_to_the_end);
        let mut ready = held.filter(|held| {
            held.filter == filter
                && held.qos > QoS::AtMostOnce
                && held.granted.is_some_and(|time| time <= message.sent)
                && !was_mute(model, *client, held, message)
        });
        // Whoever else may not have it: this one may.
        ready.next().is_some() && !model.may_be_withheld(*client, message)
    });
    // What was on its way to a member at QoS 2 when its session ended goes to nobody else [MQTT-4.8.2-5].
    let died = message.qos == QoS::ExactlyOnce
        && members.iter().any(|client| {
            let sessions = &model.parties[*client].sessions;
            sessions.len() > 1 || (!sessions.is_empty() && model.live_session(*client).is_none())
        });
    let ever = members
        .iter()
        .any(|client| model.parties[*client].sessions.iter().any(|session| session.live.contains_key(&number)));
    // It may have waited for a member that was allowed to have it, and then was not.
    let changed = model.rules_since(message.sent).count() > 1;
    let kept_away = changed && members.iter().any(|client| model.may_be_withheld(*client, message));
    let lost = owed && !kept_away && message.acknowledged.is_some() && message.expires.is_none() && !ever && !died;
    assert!(!lost, "no member of {filter} got message {number} {message:?}");
}

/// Every will was published, or not, as the rules say; `watcher` had subscribed to all of them from the start.
pub fn wills(model: &Model, watcher: ClientIndex) {
    let heard: BTreeSet<u64> =
        model.parties[watcher].sessions.iter().flat_map(|session| session.live.keys().copied()).collect();
    for (number, message) in &model.messages {
        let published = heard.contains(number);
        match message.will {
            Some(Fate::Published) => assert!(published, "will {number} {message:?} was not published"),
            Some(Fate::Dropped | Fate::Armed) => assert!(!published, "will {number} {message:?} was published"),
            Some(Fate::Open) | None => {}
        }
    }
}

/// What is retained, by topic, is the last write of the topic's one writer, as long as that one may write.
pub fn retained(model: &Model, found: &BTreeMap<String, u64>) {
    let mut writes: BTreeMap<&str, Vec<(u64, &Message)>> = BTreeMap::new();
    for (number, message) in model.messages.iter().filter(|(_, message)| message.retain && message.will.is_none()) {
        writes.entry(&message.topic).or_default().push((*number, message));
    }
    for (topic, list) in writes {
        if list.iter().any(|(_, message)| !model.may_publish_now(message.publisher, topic)) {
            assert!(!found.contains_key(topic), "{topic} is replayed, and its publisher may not publish it");
            continue;
        }
        let last_sure = list.iter().rposition(|(_, message)| model.is_surely_published(message));
        let possible: Vec<u64> = list[last_sure.unwrap_or(0)..].iter().map(|(number, _)| *number).collect();
        match found.get(topic) {
            Some(number) => {
                assert!(possible.contains(number), "{number} is retained for {topic}, not one of {possible:?}")
            }
            None => assert!(last_sure.is_none(), "nothing is retained for {topic}, {possible:?} should be"),
        }
    }
}
