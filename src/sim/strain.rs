//! A broker under strain: a client that stops reading, and memory that runs short.
//!
//! A run of its own beside that of [`simulation`](super::simulation), from the same seed: what a limit does, and in which
//! order, is said exactly only where nobody else acts at random. The network is as unkind as there.
//!
//! The slow reader must cost the others nothing, hold no more bytes than its limit, be listed, and get what was kept
//! for it. Of memory, each level must bring its measure and not before: no new connections, slower publishers, no QoS 0
//! for who reads slowly, no QoS 1 and 2. Afterwards everything is as before, and what was acknowledged was delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Phase, Seen};
use super::model::payload;
use super::rng::Rng;
use super::subject;
use super::wire::{Connect, Packet, ProtocolVersion, Publish, QoS, Subscribe, SubscriptionOptions};
use super::world::{Conditions, LinkId, Notice, World};
use crate::config::{Config, Limits, MemoryBudget, MqttOptions};
use crate::core::counters::{Counters, DropReason};
use crate::core::{Core, Shared};
use crate::engine::Time;
use crate::guard::bans::UnixTime;
use crate::guard::budget::{Pressure, STAY};
use crate::guard::entry::{Guard, Refused};

/// What may wait for one connection, in bytes.
const OUTPUT_BYTES_MAX: usize = 8_000;
/// Beyond it: the message that was being written when it was reached, and answers.
const OUTPUT_SLACK: usize = 2_000;
const MEMORY_BUDGET: u64 = 400_000;
/// How long anything may take that is to happen at all, in virtual time.
const PATIENCE: Duration = Duration::from_secs(120);
const FAR: Duration = Duration::from_secs(3600);

/// Reads nothing, when it is told to.
const SLOTH: usize = 0;
/// Acknowledges nothing, so that its queue grows.
const HOARDER: usize = 1;
const READERS: std::ops::Range<usize> = 2..5;
const PUBLISHERS: std::ops::Range<usize> = 5..8;

/// What a run was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages published.
    pub messages: usize,
    /// Messages that arrived.
    pub deliveries: usize,
    /// Messages refused for lack of memory.
    pub refused: usize,
}

struct Peer {
    client: Client,
    /// How often each message came, by number.
    got: BTreeMap<u64, u32>,
    /// Reason of each acknowledgement, by number.
    acknowledged: BTreeMap<u64, u8>,
    subscribed: usize,
    closed: bool,
}

struct Strain {
    world: World<Core>,
    rng: Rng,
    peers: Vec<Peer>,
    links: BTreeMap<LinkId, usize>,
    next: u64,
    trace: bool,
}

/// Runs what a seed stands for; panics when something is wrong.
pub fn run(seed: u64, trace: bool) -> Report {
    let mut strain = Strain::new(seed, trace);
    strain.assemble();
    strain.one_reads_nothing();
    let refused = strain.memory_runs_short();
    strain.audit();
    Report { messages: strain.next as usize, deliveries: strain.peers.iter().map(|peer| peer.got.len()).sum(), refused }
}

impl Strain {
    fn new(seed: u64, trace: bool) -> Strain {
        let mut rng = Rng::new(seed ^ 0x57_4A_1D);
        let shards = *rng.pick(&[1, 2, 3, 5]);
        let limits = Limits {
            output_bytes_max: OUTPUT_BYTES_MAX,
            memory_budget: MemoryBudget::Bytes(MEMORY_BUDGET),
            queue_messages_max: 1_000_000,
            queue_bytes_max: 1 << 30,
            inflight_max: *rng.pick(&[2, 8]),
            ..Limits::default()
        };
        let shared = Arc::new(Shared::new(shards, seed));
        let config = Config { limits: limits.clone(), ..Config::default() };
        shared.set_guard(Arc::new(Guard::new(&config, seed, UnixTime(0))));
        let start = Time(1_000_000_000_000);
        let cores = subject::guarded_cores(shared, limits, MqttOptions::default(), None, seed, start, None);
        let mut world = World::new(cores, Conditions::unkind(&mut rng), rng.draw(), start);
        if trace {
            world.trace();
        }
        world.tell(|| format!("strain of seed {seed}: {shards} shards"));
        Strain { world, rng, peers: Vec::new(), links: BTreeMap::new(), next: 0, trace }
    }

    fn assemble(&mut self) {
        for _ in 0..PUBLISHERS.end {
            let peer = self.dial();
            self.rest();
            assert_eq!(self.peers[peer].client.phase, Phase::Online, "client {peer} was not let in");
        }
        self.peers[HOARDER].client.lazy = true;
        self.subscribe(SLOTH, "fast/#", QoS::AtMostOnce);
        self.subscribe(SLOTH, "kept/#", QoS::AtLeastOnce);
        self.subscribe(HOARDER, "fill/#", QoS::ExactlyOnce);
        for reader in READERS {
            self.subscribe(reader, "fast/#", QoS::AtMostOnce);
            self.subscribe(reader, "kept/#", QoS::ExactlyOnce);
        }
        self.rest();
        assert!(self.peers[..READERS.end].iter().all(|peer| peer.subscribed > 0), "a SUBSCRIBE was not answered");
    }

    /// A client that stops reading: the others must not feel it, and it must not hold more than its limit.
    fn one_reads_nothing(&mut self) {
        self.set_stalled(SLOTH, true);
        let mut kept = Vec::new();
        let mut fast = Vec::new();
        for _ in 0..20 {
            for publisher in PUBLISHERS {
                fast.push(self.publish(publisher, "fast/a", QoS::AtMostOnce, 500));
                kept.push(self.publish(publisher, "kept/a", QoS::AtLeastOnce, 500));
            }
            self.rest();
            self.readers_have(fast.iter().chain(&kept));
            let held = self.world.engines().map(Core::unsent_max).max().unwrap_or(0);
            assert!(held <= OUTPUT_BYTES_MAX + OUTPUT_SLACK, "{held} bytes wait for one connection");
        }
        let (acknowledged, dropped) = (self.all_acknowledged(&kept), self.dropped(DropReason::SlowReader));
        assert!(acknowledged, "a publisher waits for an acknowledgement because somebody does not read");
        assert!(dropped > 0, "nothing was too much for the slow reader");
        self.it_is_listed();
        self.set_stalled(SLOTH, false);
        self.rest();
        self.look_at_memory();
        assert_eq!(self.sum(|counters| counters.slow_readers.load()), 0, "it reads again, and is listed still");
        assert_eq!(self.sum(|counters| counters.output_bytes.load()), 0, "bytes wait and nobody is slow");
        for number in &kept {
            assert_eq!(self.peers[SLOTH].got.get(number), Some(&1), "message {number} was kept for the slow reader");
        }
        let again = self.publish(PUBLISHERS.start, "fast/a", QoS::AtMostOnce, 20);
        self.rest();
        assert!(self.peers[SLOTH].got.contains_key(&again), "it reads again, and gets nothing");
    }

    fn it_is_listed(&mut self) {
        let listed =
            |strain: &Strain| strain.world.engines().flat_map(|engine| engine.slow_readers(10)).collect::<Vec<_>>();
        let patience = Duration::from_secs(11);
        self.pass(patience);
        self.everybody_pings();
        let slow = listed(self);
        assert_eq!(slow.len(), 1, "one client reads nothing: {slow:?}");
        assert!(slow[0].bytes >= OUTPUT_BYTES_MAX as u64 && slow[0].waiting >= patience, "{slow:?}");
        let counted = self.sum(|counters| counters.output_bytes.load() + counters.queued_bytes.load());
        assert!(counted >= slow[0].bytes, "{counted} bytes are counted, {slow:?}");
    }

    /// Memory runs short, level by level, and is free again. Returns how many messages were refused.
    fn memory_runs_short(&mut self) -> usize {
        self.set_stalled(SLOTH, true);
        // Enough to be slow when memory is short, and far from the limit.
        for _ in 0..3 {
            self.publish(PUBLISHERS.start, "fast/a", QoS::AtMostOnce, 500);
        }
        self.rest();
        let mut sent = Vec::new();
        let mut reached = BTreeSet::new();
        while !reached.contains(&Pressure::RefuseQos) {
            self.look_at_memory();
            let before = self.pressure();
            if reached.insert(before) {
                self.measures_are_those_of(before);
            }
            let publisher = self.rng.range(PUBLISHERS.start as u64, PUBLISHERS.end as u64 - 1) as usize;
            let qos = *self.rng.pick(&[QoS::AtLeastOnce, QoS::ExactlyOnce]);
            let size = self.rng.range(500, 3_000) as usize;
            sent.push(self.publish_and_wait(publisher, "fill/a", qos, size));
            assert!(sent.len() < 2_000, "memory never runs short: {:?}", self.pressure());
        }
        assert_eq!(reached.len(), Pressure::ALL.len(), "a level was leapt over: {reached:?}");
        let (used, budget) = (self.used(), MEMORY_BUDGET);
        assert!(used <= budget, "{used} bytes are used of {budget}");
        self.memory_is_free_again(&sent)
    }

    fn memory_is_free_again(&mut self, sent: &[u64]) -> usize {
        self.peers[HOARDER].client.lazy = false;
        self.peers[HOARDER].client.acknowledge(usize::MAX);
        self.flush(HOARDER);
        self.set_stalled(SLOTH, false);
        self.rest();
        self.look_at_memory();
        let (used, level) = (self.used(), self.pressure());
        assert_eq!(level, Pressure::None, "{used} bytes are used");
        assert!(used < MEMORY_BUDGET / 10, "{used} bytes are used when everything was delivered");
        self.measures_are_those_of(Pressure::None);
        for number in sent {
            let reason = self.reason_of(*number).expect("each was waited for");
            let times = self.peers[HOARDER].got.get(number).copied().unwrap_or(0);
            let wanted = u32::from(reason < 0x80);
            assert_eq!(times, wanted, "message {number} was acknowledged with {reason:#04x}");
        }
        sent.iter().filter(|number| self.reason_of(**number) == Some(0x97)).count()
    }

    /// What is done at this level is done, and what belongs to higher ones is not.
    fn measures_are_those_of(&mut self, level: Pressure) {
        self.world.tell(|| format!("at level {level:?}"));
        self.newcomers(level < Pressure::RefuseConnections);
        let throttled = self.sum(|counters| counters.throttled.load());
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let number = self.publish_and_wait(PUBLISHERS.start, "nobody/a", qos, 20);
            let refused = self.reason_of(number) == Some(0x97);
            assert_eq!(refused, level >= Pressure::RefuseQos, "a message of {qos:?} at level {level:?}");
        }
        let slowed = self.sum(|counters| counters.throttled.load()) > throttled;
        assert_eq!(slowed, level >= Pressure::SlowPublishers, "a publisher is slowed at level {level:?}");
        let dropped = self.dropped(DropReason::Memory);
        let number = self.publish(PUBLISHERS.start + 1, "fast/a", QoS::AtMostOnce, 20);
        self.until("QoS 0 for who reads", |strain| {
            READERS.into_iter().all(|reader| strain.peers[reader].got.contains_key(&number))
        });
        self.rest();
        let withheld = self.dropped(DropReason::Memory) > dropped;
        assert_eq!(withheld, level >= Pressure::DropQos0, "QoS 0 for who reads slowly at level {level:?}");
        self.everybody_pings();
    }

    fn newcomers(&mut self, let_in: bool) {
        let refused = self.sum(|counters| counters.refused_at_door[Refused::Memory as usize].load());
        let peer = self.dial();
        let settled = |strain: &Strain| strain.peers[peer].closed || strain.peers[peer].client.phase == Phase::Online;
        self.until("an answer to a newcomer", settled);
        assert_eq!(!self.peers[peer].closed, let_in, "a newcomer at level {:?}", self.pressure());
        let counted = self.sum(|counters| counters.refused_at_door[Refused::Memory as usize].load());
        assert_eq!(counted - refused, u64::from(!let_in), "who is refused is counted");
        if let_in {
            self.peers[peer].client.push(&Packet::Disconnect(Default::default()));
            self.peers[peer].client.phase = Phase::Leaving;
            self.flush(peer);
            self.until("the end of a newcomer", |strain| strain.peers[peer].closed);
        }
    }

    fn readers_have<'a>(&self, numbers: impl Iterator<Item = &'a u64> + Clone) {
        for reader in READERS {
            for number in numbers.clone() {
                let got = self.peers[reader].got.get(number);
                assert_eq!(got, Some(&1), "message {number} to client {reader}, while another one reads nothing");
            }
        }
    }
}

// What everybody does.
impl Strain {
    fn dial(&mut self) -> usize {
        let peer = self.peers.len();
        let name = format!("client-{peer}-{}", self.rng.below(1000));
        let link = self.world.connect();
        self.links.insert(link, peer);
        let mut client = Client::new(&name, ProtocolVersion::V5);
        client.connect(link, Connect::new(ProtocolVersion::V5, &name));
        let (got, acknowledged) = Default::default();
        self.peers.push(Peer { client, got, acknowledged, subscribed: 0, closed: false });
        self.flush(peer);
        peer
    }

    fn subscribe(&mut self, peer: usize, filter: &str, qos: QoS) {
        let client = &mut self.peers[peer].client;
        let packet_id = client.fresh_id();
        let filters = vec![(filter.to_owned(), SubscriptionOptions { qos, ..SubscriptionOptions::default() })];
        client.push(&Packet::Subscribe(Subscribe { packet_id, filters, ..Subscribe::default() }));
        self.flush(peer);
    }

    fn publish(&mut self, peer: usize, topic: &str, qos: QoS, size: usize) -> u64 {
        self.next += 1;
        let publish = Publish { qos, topic: topic.into(), payload: payload(self.next, size), ..Publish::default() };
        self.peers[peer].client.publish(self.next, publish, false);
        self.flush(peer);
        self.next
    }

    fn publish_and_wait(&mut self, peer: usize, topic: &str, qos: QoS, size: usize) -> u64 {
        let number = self.publish(peer, topic, qos, size);
        self.until("an acknowledgement", |strain| {
            strain.peers[peer].acknowledged.contains_key(&number) && strain.peers[peer].client.unacknowledged() == 0
        });
        number
    }

    fn set_stalled(&mut self, peer: usize, stalled: bool) {
        if let Some(link) = self.peers[peer].client.link {
            self.world.set_stalled(link, stalled);
        }
    }

    fn flush(&mut self, peer: usize) {
        let client = &mut self.peers[peer].client;
        let bytes = client.take_output();
        if let (Some(link), false) = (client.link, bytes.is_empty()) {
            self.world.send(link, &bytes);
        }
    }

    /// Every shard takes a turn, and looks at memory if that is due.
    fn everybody_pings(&mut self) {
        for peer in 0..PUBLISHERS.end {
            self.peers[peer].client.push(&Packet::PingReq);
            self.flush(peer);
        }
        self.world.wake_shards();
        self.rest();
        assert!(self.peers[..PUBLISHERS.end].iter().all(|peer| !peer.closed), "somebody was cut off");
    }

    /// Lets every shard find out how much memory is used by now, and what that means.
    fn look_at_memory(&mut self) {
        // No level is left within a second of when it was entered.
        for _ in 0..2 {
            self.pass(STAY / 2 + Duration::from_millis(200));
            self.world.wake_shards();
            self.rest();
        }
    }
}

// How it goes on.
impl Strain {
    fn step(&mut self, until: Time) -> bool {
        let more = self.world.step(until);
        while let Some(notice) = self.world.notice() {
            match notice {
                Notice::Readable(link) => self.readable(link),
                Notice::Closed(link) => self.closed(link),
                Notice::Wake(_) => {}
            }
        }
        more
    }

    fn readable(&mut self, link: LinkId) {
        let bytes = self.world.take(link);
        let Some(&peer) = self.links.get(&link) else { return };
        let seen = match self.peers[peer].client.receive(&bytes) {
            Ok(seen) => seen,
            Err(what) => panic!("the broker breaks the protocol towards client {peer}: {what}"),
        };
        for seen in seen {
            let Peer { got, acknowledged, subscribed, .. } = &mut self.peers[peer];
            match seen {
                Seen::Message(publish) => {
                    let number = publish.payload[..8].try_into().expect("each has a number");
                    *got.entry(u64::from_be_bytes(number)).or_default() += 1;
                }
                Seen::Acknowledged(number, reason) => {
                    acknowledged.insert(number, reason);
                }
                Seen::Subscribed(_, codes) => *subscribed += codes.len(),
                // Told once more by the end of the connection.
                Seen::Accepted { .. } | Seen::Refused(0x89) => {}
                other => panic!("client {peer} sees {other:?}"),
            }
        }
        self.flush(peer);
    }

    fn closed(&mut self, link: LinkId) {
        if let Some(peer) = self.links.remove(&link) {
            self.peers[peer].closed = true;
            self.peers[peer].client.connection_over();
        }
    }

    fn rest(&mut self) {
        let far = self.world.now().after(FAR);
        while !self.world.is_quiet() {
            self.step(far);
        }
        self.audit();
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.world.now().after(duration);
        while self.step(until) {}
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Strain) -> bool) {
        let end = self.world.now().after(PATIENCE);
        while !is_so(self) {
            assert!(
                self.step(end),
                "waited in vain for {what}{}",
                if self.trace { "" } else { " (--trace tells more)" }
            );
        }
    }

    fn audit(&self) {
        for (shard, engine) in self.world.engines().enumerate() {
            if let Err(what) = engine.conservation() {
                panic!("shard {shard}: {what}");
            }
        }
    }
}

// What is asked about it.
impl Strain {
    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.world.engines().map(|engine| of(engine.counters())).sum()
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.sum(|counters| counters.dropped[reason as usize].load())
    }

    fn used(&self) -> u64 {
        self.sum(Counters::message_bytes)
    }

    fn pressure(&self) -> Pressure {
        let level = self.world.engines().map(|engine| engine.counters().pressure.load()).max().unwrap_or(0);
        Pressure::ALL[level as usize]
    }

    fn all_acknowledged(&self, numbers: &[u64]) -> bool {
        numbers.iter().all(|number| self.reason_of(*number).is_some_and(|reason| reason < 0x80))
    }

    fn reason_of(&self, number: u64) -> Option<u8> {
        self.peers.iter().find_map(|peer| peer.acknowledged.get(&number)).copied()
    }
}
