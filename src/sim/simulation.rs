//! One run: clients that do things at random in a [`World`], a [`Model`] beside it, and the checks at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check;
use super::client::{Client, Phase, Seen};
use super::model::{ClientIndex, Fate, Message, Model, PendingWill, Presence, payload};
use super::plan::{FILTERS, Habits, Plan, SHARED, qos_of};
use super::rng::Rng;
use super::subject::Audit;
use super::vandal;
use super::wire::{
    Connect, Packet, Properties, ProtocolVersion, Publish, QoS, Reasoned, Subscribe, SubscriptionOptions, Unsubscribe,
    Will, id,
};
use super::world::{Chunks, LinkId, Notice, World};
use crate::engine::Time;

/// Index of the client that hears the wills.
const WATCHER: ClientIndex = 0;
/// Index of the client that looks at what is retained.
const INSPECTOR: ClientIndex = 1;
/// The token of the vandals' wakes.
const VANDALS: u64 = u64::MAX;
/// Longer than any will delay or session expiry that is awaited, and the connect timeout.
const PATIENCE: Duration = Duration::from_secs(40);
/// When a run begins: not 0, so that nothing works by accident.
pub const START: Time = Time(1_000_000_000_000);

/// What a run was like, for the curious.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages published, wills included.
    pub messages: usize,
    /// Messages that arrived, at all clients.
    pub deliveries: usize,
    /// Connections begun.
    pub connections: u32,
}

/// A client and what it is about.
struct Actor {
    client: Client,
    habits: Habits,
    clean: bool,
    expiry: u32,
    will_delay: u32,
    will: Option<u64>,
    subscribing: BTreeMap<u16, Vec<String>>,
    unsubscribing: BTreeMap<u16, String>,
    /// The last connection, if it broke before CONNACK.
    lost: Option<LinkId>,
}

/// A run. See the module's description.
pub struct Simulation<E: Audit> {
    plan: Plan,
    world: World<E>,
    model: Model,
    rng: Rng,
    actors: Vec<Actor>,
    links: BTreeMap<LinkId, ClientIndex>,
    /// Connections that the server has to close.
    doomed: Vec<LinkId>,
    /// What is retained as the inspector sees it.
    retained: BTreeMap<String, u64>,
    acting: bool,
    steps: u64,
}

impl<E: Audit> Simulation<E> {
    /// A run of this plan with these engines.
    pub fn new(plan: Plan, engines: Vec<E>, trace: bool) -> Simulation<E> {
        let mut rng = Rng::new(plan.seed ^ 0x5EED);
        let mut world = World::new(engines, plan.conditions.clone(), rng.next(), START);
        if trace {
            world.trace();
        }
        let habits = [Habits::watcher(), Habits { resumes: false, expiry: 0, ..Habits::watcher() }];
        let actors: Vec<Actor> =
            habits.into_iter().chain(plan.habits.iter().cloned()).enumerate().map(Actor::new).collect();
        let model = Model::new(actors.len(), !plan.roomy);
        let (links, doomed, retained) = Default::default();
        Simulation { plan, world, model, rng, actors, links, doomed, retained, acting: true, steps: 0 }
    }

    /// Runs it to the end; panics when something is wrong.
    pub fn run(mut self) -> Report {
        let Plan { seed, shards, roomy, .. } = self.plan;
        self.world.tell(|| format!("seed {seed}: {shards} shards, {} clients, roomy {roomy}", self.actors.len()));
        self.dial(WATCHER, false);
        self.rest();
        self.subscribe(WATCHER, &["w/#"]);
        self.rest();
        for index in 2..self.actors.len() {
            self.wake(index);
        }
        if self.plan.vandals > 0 {
            self.world.wake_in(Duration::from_millis(50), VANDALS);
        }
        self.pass(self.plan.length);
        self.settle();
        self.look();
        self.farewell();
        self.report()
    }

    /// Everybody comes back, reads and acknowledges; then what is owed must be there.
    fn settle(&mut self) {
        self.acting = false;
        for index in 0..self.actors.len() {
            self.actors[index].client.lazy = false;
            self.actors[index].client.acknowledge(usize::MAX);
            self.flush(index);
            if let Some(link) = self.actors[index].client.link {
                self.world.set_stalled(link, false);
            }
        }
        self.rest();
        for index in 2..self.actors.len() {
            let resumes = self.actors[index].habits.resumes;
            if resumes && self.actors[index].client.phase == Phase::Offline {
                self.dial(index, false);
            }
        }
        self.rest();
        self.pass(PATIENCE);
        self.rest();
        for (index, actor) in self.actors.iter().enumerate() {
            if actor.client.phase == Phase::Online {
                assert_eq!(actor.client.unacknowledged(), 0, "client {index} waits for acknowledgements for ever");
                assert!(actor.subscribing.is_empty(), "client {index} waits for a SUBACK for ever");
            }
        }
        for link in &self.doomed {
            assert!(self.world.is_closed(*link), "{link:?} is still open");
        }
        self.model.wills_are_due(self.world.now());
        self.audit();
        let dropped: u64 = self.world.engines().map(Audit::dropped_for_limits).sum();
        if self.plan.roomy {
            assert_eq!(dropped, 0, "dropped for a limit that is out of reach");
            check::deliveries(&self.model);
            check::shared(&self.model);
            check::wills(&self.model, WATCHER);
        }
    }

    /// A fresh client looks at what is retained, somebody clears it, a fresh client sees nothing.
    fn look(&mut self) {
        self.inspect();
        check::retained(&self.model, &self.retained);
        for topic in std::mem::take(&mut self.retained).into_keys() {
            let publish = Publish { topic, retain: true, ..Publish::default() };
            self.actors[INSPECTOR].client.push(&Packet::Publish(publish));
        }
        self.flush(INSPECTOR);
        self.rest();
        self.inspect();
        assert!(self.retained.is_empty(), "cleared and still retained: {:?}", self.retained);
    }

    fn inspect(&mut self) {
        self.retained.clear();
        self.dial(INSPECTOR, true);
        self.rest();
        self.subscribe(INSPECTOR, &["r/#"]);
        self.rest();
    }

    /// All sessions end; nothing may be left.
    fn farewell(&mut self) {
        for index in 0..self.actors.len() {
            self.actors[index].habits.expiry = 0;
            self.dial(index, true);
        }
        self.rest();
        for index in 0..self.actors.len() {
            self.part(index, 0);
        }
        self.rest();
        self.pass(PATIENCE);
        self.rest();
        for (shard, engine) in self.world.engines().enumerate() {
            for (name, count) in engine.holdings() {
                assert_eq!(count, 0, "{name} left on shard {shard} when everybody has gone");
            }
        }
    }

    fn report(&self) -> Report {
        let sessions = || self.model.parties.iter().flat_map(|party| &party.sessions);
        Report {
            messages: self.model.messages.len(),
            deliveries: sessions().map(|session| session.live.len()).sum(),
            connections: self.model.parties.iter().map(|party| party.connections).sum(),
        }
    }

    /// Lets time pass.
    fn pass(&mut self, duration: Duration) {
        let until = self.world.now().after(duration);
        while self.step(until) {}
    }

    /// Lets everything come to rest: nothing moves, and nothing more comes of itself within a second.
    fn rest(&mut self) {
        loop {
            let far = self.world.now().after(Duration::from_secs(3600));
            while !self.world.is_quiet() {
                self.step(far);
            }
            let until = self.world.now().after(Duration::from_secs(1));
            let mut moved = false;
            while self.step(until) {
                moved |= !self.world.is_quiet();
            }
            if !moved {
                return self.audit();
            }
        }
    }

    fn step(&mut self, until: Time) -> bool {
        let more = self.world.step(until);
        while let Some(notice) = self.world.notice() {
            self.notice(notice);
        }
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            self.audit();
        }
        more
    }

    fn audit(&self) {
        for (shard, engine) in self.world.engines().enumerate() {
            if let Err(what) = engine.conservation() {
                panic!("shard {shard}: {what}");
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Wake(VANDALS) => self.vandalise(),
            Notice::Wake(token) => {
                let index = token as usize;
                if self.acting {
                    self.act(index);
                    self.wake(index);
                }
            }
            Notice::Readable(link) => {
                let bytes = self.world.take(link);
                let Some(&index) = self.links.get(&link) else { return };
                match self.actors[index].client.receive(&bytes) {
                    Ok(seen) => seen.into_iter().for_each(|seen| self.seen(index, seen)),
                    Err(what) => panic!("the broker breaks the protocol towards client {index}: {what}"),
                }
                self.flush(index);
            }
            Notice::Closed(link) => self.closed(link),
        }
    }

    fn closed(&mut self, link: LinkId) {
        let Some(index) = self.links.remove(&link) else { return };
        let actor = &mut self.actors[index];
        assert_eq!(actor.client.phase, Phase::Leaving, "the broker closed client {index}'s connection for no reason");
        actor.client.connection_over();
        actor.subscribing.clear();
        actor.unsubscribing.clear();
    }

    fn seen(&mut self, index: ClientIndex, seen: Seen) {
        let now = self.world.now();
        match seen {
            Seen::Accepted { session_present } => self.accepted(index, session_present),
            Seen::Message(publish) => {
                self.model.received(index, &publish, now);
                if index == INSPECTOR && publish.retain && !publish.payload.is_empty() {
                    let number = u64::from_be_bytes(publish.payload[..8].try_into().expect("8 bytes"));
                    let twice = self.retained.insert(publish.topic, number);
                    assert_eq!(twice, None, "a retained message came twice");
                }
            }
            Seen::Acknowledged(number, reason) => {
                assert!(reason < 0x80 || !self.plan.roomy, "message {number} refused with {reason:#04x}");
                if reason < 0x80 {
                    self.model.known(number).acknowledged.get_or_insert(now);
                }
            }
            Seen::Resent(number) => self.model.known(number).attempts += 1,
            Seen::Abandoned(_) => {}
            Seen::Subscribed(id, codes) => {
                let filters = self.actors[index].subscribing.remove(&id).expect("SUBACK for a SUBSCRIBE");
                assert_eq!(filters.len(), codes.len(), "SUBACK has one code for each filter");
                for (filter, code) in filters.iter().zip(codes) {
                    self.model.granted(index, filter, code, now);
                }
            }
            Seen::Unsubscribed(id) => {
                let filter = self.actors[index].unsubscribing.remove(&id).expect("UNSUBACK for an UNSUBSCRIBE");
                self.model.gone(index, &filter, now);
            }
            Seen::Dismissed(reason) => panic!("the broker dismissed client {index} with {reason:#04x}"),
        }
    }

    fn accepted(&mut self, index: ClientIndex, session_present: bool) {
        let actor = &self.actors[index];
        if let Some(link) = actor.client.link {
            self.world.set_chunks(link, self.plan.conditions.chunks);
        }
        self.model.accepted(index, actor.clean, session_present, self.world.now());
        let will = actor.will.map(|number| PendingWill { number, due: None, at_once: false });
        self.model.parties[index].will = will;
        self.model.parties[index].steady = actor.habits.steady;
    }

    fn wake(&mut self, index: ClientIndex) {
        let pace = self.actors[index].habits.pace_ms;
        let delay = Duration::from_millis(self.rng.range(1, 2 * pace));
        self.world.wake_in(delay, index as u64);
    }

    /// Whatever occurs to a client.
    fn act(&mut self, index: ClientIndex) {
        let steady = self.actors[index].habits.steady;
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
    fn dial(&mut self, index: ClientIndex, clean: bool) {
        let now = self.world.now();
        self.let_go(index, now);
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
        self.let_go(index, now);
        // A close is noticed only behind everything that was written.
        if self.rng.chance(70) || self.world.unsent(link) > 1000 {
            self.world.reset(link);
        } else {
            self.world.close(link);
        }
    }

    /// DISCONNECT; the broker closes.
    fn part(&mut self, index: ClientIndex, reason: u8) {
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
        self.model.parted(index, reason == 0, expiry, delay, self.world.now());
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
            let publish = Publish { qos, retain, topic, payload: payload(number, size), ..Publish::default() };
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

    fn subscribe(&mut self, index: ClientIndex, filters: &[&str]) {
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

    fn flush(&mut self, index: ClientIndex) {
        let client = &mut self.actors[index].client;
        let bytes = client.take_output();
        if let (Some(link), false) = (client.link, bytes.is_empty()) {
            self.world.send(link, &bytes);
        }
    }

    /// Somebody connects who does not speak MQTT, or badly; the broker must be rid of it in time.
    fn vandalise(&mut self) {
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

impl Actor {
    fn new((index, habits): (usize, Habits)) -> Actor {
        let mut client = Client::new(&format!("client-{index}"), habits.version);
        client.receive_maximum = if habits.version == ProtocolVersion::V5 { habits.receive_maximum } else { u16::MAX };
        client.topic_alias_maximum = habits.topic_alias_maximum;
        let (subscribing, unsubscribing) = Default::default();
        Actor {
            client,
            habits,
            clean: true,
            expiry: 0,
            will_delay: 0,
            will: None,
            subscribing,
            unsubscribing,
            lost: None,
        }
    }
}
