//! What clients do: connect, take over, part, break off, publish, subscribe, stand still.

use std::time::Duration;

use super::exchange::Exchange;
use super::{Actor, Simulation, VANDALS};
use crate::engine::Time;
use crate::sim::client::Phase;
use crate::sim::model::{ClientIndex, Fate, Message, Presence, payload};
use crate::sim::plan::{FILTERS, SHARED, qos_of};
use crate::sim::subject::Audit;
use crate::sim::vandal;
use crate::sim::wire::{
    Connect, Packet, Properties, ProtocolVersion, Publish, QoS, Reasoned, Subscribe, SubscriptionOptions, Unsubscribe,
    Will, id,
};
use crate::sim::world::Chunks;

impl<E: Audit> Simulation<E> {
    pub(super) fn wake(&mut self, index: ClientIndex) {
        let pace = self.actors[index].habits.pace_ms;
        let delay = Duration::from_millis(self.rng.range(1, 2 * pace));
        self.world.wake_in(delay, index as u64);
    }

    /// Whatever occurs to a client.
    pub(super) fn act(&mut self, index: ClientIndex) {
        let steady = self.actors[index].habits.steady;
        let exchanges = self.actors[index].exchanges() && self.actors[index].client.phase == Phase::Online;
        if exchanges && self.rng.chance(5) {
            return self.authenticate_again(index);
        }
        match self.actors[index].client.phase {
            // A CONNECT that is still on its way would take over from the next one.
            Phase::Offline if self.actors[index].lost.is_some_and(|link| !self.world.is_closed(link)) => {}
            Phase::Offline => {
                let clean = !self.actors[index].habits.resumes || self.rng.chance(10);
                self.dial(index, clean);
            }
            Phase::Connecting if !steady && self.rng.chance(10) => self.break_off(index),
            Phase::Connecting | Phase::Leaving => {}
            Phase::Online => match self.rng.below(100) {
                0..55 => self.publish_some(index),
                55..70 => self.subscribe_some(index),
                70..74 => self.unsubscribe_one(index),
                74..78 => {
                    self.actors[index].client.push(&Packet::PingReq);
                    self.flush(index);
                }
                78..84 => {
                    let client = &mut self.actors[index].client;
                    client.lazy = !client.lazy;
                    client.refuses = self.rng.chance(10);
                }
                84..90 => {
                    let most = self.rng.below(5);
                    self.actors[index].client.acknowledge(most);
                    self.flush(index);
                }
                _ if steady => {}
                90..93 => self.break_off(index),
                93..95 => {
                    let clean = !self.actors[index].habits.resumes || self.rng.chance(20);
                    self.dial(index, clean);
                }
                95..97 => {
                    let reason = if self.rng.chance(70) { 0 } else { 4 };
                    self.part(index, reason);
                }
                _ => self.stall(index),
            },
        }
    }

    /// Connects; when there is a connection already, the new one takes over.
    pub(super) fn dial(&mut self, index: ClientIndex, clean: bool) {
        let now = self.world.now();
        // The broker may have let go of it first.
        let parted = self.lapsed(index, now).unwrap_or(now);
        self.let_go(index, parted);
        self.actors[index].lapses = None;
        self.actors[index].asked = None;
        self.actors[index].exchange = Exchange::default();
        let link = self.world.connect();
        self.links.insert(link, index);
        if self.rng.chance(10) {
            self.world.set_chunks(link, Chunks::One);
        }
        self.model.parties[index].connections += 1;
        let (expiry, version) = (self.actors[index].habits.expiry, self.actors[index].habits.version);
        let mut connect = Connect::new(version, &self.actors[index].client.name);
        // Whether a session present would be the old one or that of a CONNECT without an answer nobody knows.
        let clean = clean || self.model.parties[index].presence == Presence::Unknown;
        connect.clean_start = if version == ProtocolVersion::V5 { clean } else { clean || expiry == 0 };
        if version == ProtocolVersion::V5 && expiry > 0 {
            connect.properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, expiry);
        }
        if let Some(method) = self.actors[index].method {
            let properties = std::mem::take(&mut connect.properties);
            connect.properties =
                properties.text(id::AUTHENTICATION_METHOD, method).binary(id::AUTHENTICATION_DATA, b"first");
        }
        connect.will = self.choose_will(index);
        let actor = &mut self.actors[index];
        actor.clean = connect.clean_start;
        // Clean Session of 3.1.1 is a clean start and a session that ends with the connection.
        actor.expiry = if version != ProtocolVersion::V5 && connect.clean_start { 0 } else { expiry };
        actor.client.connect(link, connect);
        self.flush(index);
    }

    /// Forgets the connection a client has, if any: it will be taken over, or it broke.
    fn let_go(&mut self, index: ClientIndex, now: Time) {
        let actor = &mut self.actors[index];
        let (phase, link) = (actor.client.phase, actor.client.link);
        actor.client.connection_over();
        actor.subscribing.clear();
        actor.unsubscribing.clear();
        if let Some(link) = link {
            actor.lost = (phase == Phase::Connecting).then_some(link);
            actor.overtaken = (phase == Phase::Online).then_some(link);
            self.links.remove(&link);
            self.world.set_stalled(link, false);
            self.doomed.push(link);
        }
        let (expiry, delay, will, actor_clean) = (actor.expiry, actor.will_delay, actor.will, actor.clean);
        match phase {
            Phase::Online => self.model.parted(index, false, expiry, delay, now),
            Phase::Connecting => self.model.parted_unanswered(index, actor_clean, will),
            Phase::Offline | Phase::Leaving => {}
        }
    }

    fn break_off(&mut self, index: ClientIndex) {
        let Some(link) = self.actors[index].client.link else { return };
        let now = self.world.now();
        let now = self.lapsed(index, now).unwrap_or(now);
        let overtaken = self.actors[index].overtaken.take();
        self.let_go(index, now);
        if let Some(overtaken) = overtaken {
            // The CONNECT that should take over may never arrive.
            self.world.reset(overtaken);
        }
        // A close is noticed only behind everything that was written.
        if self.rng.chance(70) || self.world.unsent(link) > 1000 {
            self.world.reset(link);
        } else {
            self.world.close(link);
        }
    }

    /// DISCONNECT; the broker closes.
    pub(super) fn part(&mut self, index: ClientIndex, reason: u8) {
        let actor = &mut self.actors[index];
        if actor.client.phase != Phase::Online {
            return;
        }
        actor.client.acknowledge(usize::MAX);
        let reason = if actor.habits.version == ProtocolVersion::V5 { reason } else { 0 };
        actor.client.push(&Packet::Disconnect(Reasoned { reason, ..Reasoned::default() }));
        actor.client.phase = Phase::Leaving;
        let (expiry, delay) = (actor.expiry, actor.will_delay);
        if let Some(link) = actor.client.link {
            self.world.set_stalled(link, false);
        }
        let will = self.model.parties[index].will.filter(|_| self.actors[index].lapses.is_some());
        self.model.parted(index, reason == 0, expiry, delay, self.world.now());
        if let Some(pending) = will {
            // The authentication may be over before DISCONNECT arrives.
            self.model.known(pending.number).will = Some(Fate::Open);
        }
        self.flush(index);
    }

    fn stall(&mut self, index: ClientIndex) {
        if let Some(link) = self.actors[index].client.link {
            self.model.parties[index].steady = false;
            let stalled = self.rng.chance(50);
            self.world.set_stalled(link, stalled);
        }
    }

    fn choose_will(&mut self, index: ClientIndex) -> Option<Will> {
        self.actors[index].will = None;
        if index < 2 || !self.acting || !self.rng.chance(50) {
            return None;
        }
        let qos = self.some_qos();
        let v5 = self.actors[index].habits.version == ProtocolVersion::V5;
        let delay = if v5 { *self.rng.pick(&[0, 0, 2, 5]) } else { 0 };
        let topic = format!("w/{index}");
        let number = self.register(index, &topic, qos, false, 8, Some(Fate::Armed));
        self.actors[index].will = Some(number);
        self.actors[index].will_delay = delay;
        let properties =
            if delay > 0 { Properties::new().four(id::WILL_DELAY_INTERVAL, delay) } else { Properties::new() };
        Some(Will { qos, retain: false, topic, payload: payload(number, 8), properties })
    }

    fn register(
        &mut self,
        index: ClientIndex,
        topic: &str,
        qos: QoS,
        retain: bool,
        size: usize,
        will: Option<Fate>,
    ) -> u64 {
        self.model.message(Message {
            publisher: index,
            topic: topic.to_owned(),
            qos,
            retain,
            size,
            sent: self.world.now(),
            connection: self.model.parties[index].connections,
            attempts: 1,
            acknowledged: None,
            expires: None,
            will,
        })
    }

    fn publish_some(&mut self, index: ClientIndex) {
        for _ in 0..1 + self.rng.below(6) {
            let topic = self.some_topic(index);
            let retain = topic.starts_with("r/");
            // At QoS 1 an older message that is sent again may replace a newer one of QoS 2, which is not.
            let qos = if retain { [QoS::AtLeastOnce, QoS::ExactlyOnce][index % 2] } else { self.some_qos() };
            if qos != QoS::AtMostOnce && !self.actors[index].client.has_quota() {
                continue;
            }
            let fine = self.plan.conditions.chunks == Chunks::Random(7);
            let size = match self.rng.below(100) {
                0 if !fine => 70_000,
                1..6 if !fine => self.rng.range(200, 5_000) as usize,
                _ => self.rng.range(8, 64) as usize,
            };
            let number = self.register(index, &topic, qos, retain, size, None);
            let mut publish = Publish { qos, retain, topic, payload: payload(number, size), ..Publish::default() };
            let v5 = self.actors[index].habits.version == ProtocolVersion::V5;
            if v5 && !retain && self.rng.chance(10) {
                let seconds = self.rng.range(1, 5) as u32;
                publish.properties = Properties::new().four(id::MESSAGE_EXPIRY_INTERVAL, seconds);
                self.model.known(number).expires = Some(self.world.now().after(Duration::from_secs(seconds.into())));
            }
            let alias = self.rng.chance(50);
            self.actors[index].client.publish(number, publish, alias);
        }
        self.flush(index);
    }

    fn some_topic(&mut self, index: ClientIndex) -> String {
        match self.rng.below(10) {
            0..5 => format!("t/{}", self.rng.below(8)),
            5..7 => format!("t/{}/x", self.rng.below(8)),
            7..9 => format!("s/{}", self.rng.below(3)),
            _ => format!("r/{index}"),
        }
    }

    fn some_qos(&mut self) -> QoS {
        *self.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    fn subscribe_some(&mut self, index: ClientIndex) {
        let mut filters = Vec::new();
        for _ in 0..1 + self.rng.below(3) {
            let shared = self.actors[index].habits.version == ProtocolVersion::V5 && self.rng.chance(30);
            let filter = if shared { SHARED[index % SHARED.len()] } else { *self.rng.pick(FILTERS) };
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        self.subscribe(index, &filters);
    }

    pub(super) fn subscribe(&mut self, index: ClientIndex, filters: &[&str]) {
        let now = self.world.now();
        let packet_id = self.unused_id(index);
        let mut subscribe = Subscribe { packet_id, ..Subscribe::default() };
        for filter in filters {
            let qos = if index < 2 { QoS::ExactlyOnce } else { qos_of(index, filter) };
            subscribe.filters.push(((*filter).to_owned(), SubscriptionOptions { qos, ..Default::default() }));
            self.model.asked(index, filter, qos, now);
        }
        let actor = &mut self.actors[index];
        actor.subscribing.insert(packet_id, filters.iter().map(|filter| (*filter).to_owned()).collect());
        actor.client.push(&Packet::Subscribe(subscribe));
        self.flush(index);
    }

    fn unsubscribe_one(&mut self, index: ClientIndex) {
        let held: Vec<String> = self
            .model
            .session(index)
            .subscriptions
            .iter()
            .filter(|subscription| subscription.given_up.is_none())
            .map(|subscription| subscription.filter.clone())
            .collect();
        let awaited = |actor: &Actor, filter: &String| {
            actor.subscribing.values().flatten().chain(actor.unsubscribing.values()).any(|other| other == filter)
        };
        if held.is_empty() {
            return;
        }
        let filter = self.rng.pick(&held).clone();
        if awaited(&self.actors[index], &filter) {
            return;
        }
        self.model.gave_up(index, &filter, self.world.now());
        let packet_id = self.unused_id(index);
        let actor = &mut self.actors[index];
        actor.unsubscribing.insert(packet_id, filter.clone());
        actor.client.push(&Packet::Unsubscribe(Unsubscribe { packet_id, filters: vec![filter], ..Default::default() }));
        self.flush(index);
    }

    fn unused_id(&mut self, index: ClientIndex) -> u16 {
        let actor = &mut self.actors[index];
        loop {
            let id = actor.client.fresh_id();
            if !actor.subscribing.contains_key(&id) && !actor.unsubscribing.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn flush(&mut self, index: ClientIndex) {
        let client = &mut self.actors[index].client;
        let bytes = client.take_output();
        if let (Some(link), false) = (client.link, bytes.is_empty()) {
            self.world.send(link, &bytes);
        }
    }

    /// Somebody connects who does not speak MQTT, or badly; the broker must be rid of it in time.
    pub(super) fn vandalise(&mut self) {
        if !self.acting {
            return;
        }
        let link = self.world.connect();
        let bytes = vandal::bytes(&mut self.rng);
        self.world.send(link, &bytes);
        if self.rng.chance(30) {
            self.world.reset(link);
        }
        self.doomed.push(link);
        let pause = self.plan.length / (self.plan.vandals as u32 + 1);
        self.world.wake_in(pause, VANDALS);
    }
}
