//! One run: clients that do things at random in a [`World`], a [`Model`] beside it, and the checks at the end.

mod act;
mod exchange;
mod guard;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check;
use super::client::{Client, Phase, Seen};
use super::model::{ClientIndex, Model, PendingWill};
use super::plan::{Habits, Plan};
use super::rng::Rng;
use super::subject::Audit;
use super::wire::{Packet, ProtocolVersion, Publish};
use super::world::{LinkId, Notice, World};
use crate::engine::{ConnId, Engine, Time};

pub use self::guard::Guard;

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
    /// The connection that the present one takes over from.
    overtaken: Option<LinkId>,
    /// The connection that was asked about last, and its shard.
    asked: Option<(usize, ConnId)>,
    /// When the authentication of its connection is over.
    lapses: Option<Time>,
    /// Authentication method of its CONNECT.
    method: Option<&'static str>,
    /// Where its exchange stands.
    exchange: exchange::Exchange,
}

/// A run. See the module's description.
pub struct Simulation<E: Audit> {
    plan: Plan,
    world: World<E>,
    model: Model,
    rng: Rng,
    actors: Vec<Actor>,
    guard: Guard,
    links: BTreeMap<LinkId, ClientIndex>,
    /// Connections that the server has to close.
    doomed: Vec<LinkId>,
    /// What is retained as the inspector sees it.
    retained: BTreeMap<String, u64>,
    acting: bool,
    stopping: bool,
    steps: u64,
}

impl<E: Audit> Simulation<E> {
    /// A run of this plan with these engines.
    pub fn new(plan: Plan, engines: Vec<E>, guard: Guard, trace: bool) -> Simulation<E> {
        let mut rng = Rng::new(plan.seed ^ 0x5EED);
        let mut world = World::new(engines, plan.conditions.clone(), rng.draw(), START);
        if trace {
            world.trace();
        }
        let habits = [Habits::watcher(), Habits { resumes: false, expiry: 0, ..Habits::watcher() }];
        let mut actors: Vec<Actor> =
            habits.into_iter().chain(plan.habits.iter().cloned()).enumerate().map(Actor::new).collect();
        let some = |(index, actor): &(usize, &mut Actor)| *index > INSPECTOR && index % 3 != 0 && actor.is_v5();
        for (_, actor) in actors.iter_mut().enumerate().filter(some).filter(|_| plan.exchanges) {
            actor.method = Some(exchange::METHOD);
        }
        let model = Model::new(actors.len(), !plan.roomy || plan.rule_changes > 0);
        let (links, doomed, retained) = Default::default();
        Simulation {
            plan,
            world,
            model,
            rng,
            actors,
            guard,
            links,
            doomed,
            retained,
            acting: true,
            stopping: false,
            steps: 0,
        }
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
        for _ in 0..self.plan.rule_changes {
            self.pass(self.plan.length / (self.plan.rule_changes + 1));
            self.change_rules();
        }
        self.pass(self.plan.length / (self.plan.rule_changes + 1));
        self.settle();
        self.look();
        if self.rng.chance(20) {
            self.stop()
        } else {
            self.farewell()
        }
        self.report()
    }

    /// Everybody comes back, reads and acknowledges; then what is owed must be there.
    fn settle(&mut self) {
        self.acting = false;
        for index in 0..self.actors.len() {
            self.actors[index].client.lazy = false;
            self.actors[index].client.refuses = false;
            self.actors[index].client.acknowledge(usize::MAX);
            self.flush(index);
            if let Some(link) = self.actors[index].client.link {
                self.world.set_stalled(link, false);
            }
        }
        self.rest();
        for index in 2..self.actors.len() {
            // Nobody will ever say whether it may come in: it asks anew.
            if self.actors[index].client.phase == Phase::Connecting {
                self.turned_away(index);
            }
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
        if self.plan.roomy {
            check::retained(&self.model, &self.retained);
        }
        // Also what is not replayed, because its publisher may not publish it any more.
        let written = self.model.messages.values().filter(|message| message.retain);
        let topics: BTreeSet<String> = written.map(|message| message.topic.clone()).collect();
        for topic in topics {
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

    /// The broker stops: it takes leave of everybody, and no connection is left.
    fn stop(&mut self) {
        self.stopping = true;
        self.world.stop();
        self.rest();
        self.pass(PATIENCE);
        assert!(self.links.is_empty(), "not closed by a broker that stopped: {:?}", self.links);
        let slots: usize = self.world.engines().map(Engine::connections).sum();
        assert_eq!(slots, 0, "connections left in a broker that stopped");
        self.audit();
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
                self.nobody_outstays();
                return self.audit();
            }
        }
    }

    fn step(&mut self, until: Time) -> bool {
        let more = self.world.step(until);
        while let Some(notice) = self.world.notice() {
            self.notice(notice);
        }
        self.take_questions();
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
            Notice::Wake(token) if token >= guard::ANSWERS => self.give_answer(token),
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
        // An exchange that takes too long ends without a word.
        let waits = self.actors[index].client.phase == Phase::Connecting && !self.stopping;
        if waits && self.actors[index].exchanges() && !self.actors[index].habits.steady {
            return self.turned_away(index);
        }
        let now = self.world.now();
        let lapsed = self.lapsed(index, now);
        if let Some(lapsed) = lapsed {
            let (expiry, delay) = (self.actors[index].expiry, self.actors[index].will_delay);
            self.model.parted(index, false, expiry, delay, lapsed);
        }
        let actor = &mut self.actors[index];
        let expected = self.stopping || actor.client.phase == Phase::Leaving || lapsed.is_some();
        assert!(expected, "the broker closed client {index}'s connection for no reason");
        actor.client.connection_over();
        actor.subscribing.clear();
        actor.unsubscribing.clear();
        self.model.noticed(index, now);
    }

    fn seen(&mut self, index: ClientIndex, seen: Seen) {
        let now = self.world.now();
        match seen {
            Seen::Accepted { session_present } => self.accepted(index, session_present),
            Seen::Message(publish) => {
                self.release_wills_of_lapsed(now);
                self.model.received(index, &publish, now);
                if index == INSPECTOR && publish.retain && !publish.payload.is_empty() {
                    let number = u64::from_be_bytes(publish.payload[..8].try_into().expect("8 bytes"));
                    let twice = self.retained.insert(publish.topic, number);
                    assert_eq!(twice, None, "a retained message came twice");
                }
            }
            Seen::Acknowledged(number, reason) => {
                let denied = reason == 0x87 && self.plan.rule_changes > 0;
                assert!(reason < 0x80 || !self.plan.roomy || denied, "message {number} refused with {reason:#04x}");
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
            Seen::Dismissed(0x8B) if self.stopping => {}
            // The close follows.
            Seen::Dismissed(0x87) if self.actors[index].lapses.is_some_and(|lapses| lapses <= now) => {}
            Seen::Dismissed(reason)
                if self.actors[index].lapses.is_some_and(|lapses| lapses <= now)
                    && self.plan.exchanges
                    && exchange::DISMISSALS.contains(&reason) => {}
            Seen::Challenged(packet) => self.challenged(index, &packet),
            Seen::Refused(code) => self.refused(index, code),
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
}

impl Actor {
    fn is_v5(&self) -> bool {
        self.habits.version == ProtocolVersion::V5
    }

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
            overtaken: None,
            asked: None,
            lapses: None,
            method: None,
            exchange: exchange::Exchange::default(),
        }
    }
}
