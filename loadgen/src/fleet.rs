//! The clients of a scenario: their way into the broker, their share of its traffic, and what they saw.

use std::{io, mem};

use hdrhistogram::Histogram;
use ringmq::codec::{
    Ack, Frame, Framed, Packet, PacketType, Publish, QoS, decode, decode_ack, decode_publish, encode_ack, frame,
};

use crate::error::Error;
use crate::flow::{Flow, Window};
use crate::ledger::{Faults, Ledger};
use crate::net::{Handler, Links};
use crate::os::Clock;
use crate::payload;
use crate::scenario::{Scenario, Shape};
use crate::wire::{self, PublishTemplate};

/// The range of latencies that is told apart, in nanoseconds.
const LATENCY_NS: (u64, u64) = (256, 60_000_000_000);

/// Reason codes from here on are failures (MQTT 5.0 §2.4).
const FAILURE: u8 = 0x80;

/// How far a client is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Subscribing,
    Ready,
}

/// What a client is for.
enum Role {
    /// Publishes the flow of this index.
    Publisher(u32),
    /// Follows some publishers.
    Subscriber { filter: String, ledger: Ledger },
}

struct Client {
    stage: Stage,
    role: Role,
    /// The beginning of a packet that has not arrived whole.
    partial: Vec<u8>,
}

/// What arrived within the measured time.
pub struct Tally {
    /// Messages that reached a subscriber for the first time.
    pub delivered: u64,
    /// From the PUBLISH being written to its arrival, in nanoseconds.
    pub latency_ns: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let (lowest, highest) = LATENCY_NS;
        let latency_ns = Histogram::new_with_bounds(lowest, highest, 3).expect("constant bounds in order");
        Self { delivered: 0, latency_ns }
    }
}

/// All clients, addressed by the number of their link.
pub struct Fleet {
    scenario: Scenario,
    clock: Clock,
    now_ns: u64,
    clients: Vec<Client>,
    flows: Vec<Flow>,
    /// The link of each flow's publisher.
    publishers: Vec<usize>,
    ready: usize,
    publishing: bool,
    tally: Tally,
    faults: Faults,
    failure: Option<Error>,
    /// Raised by whatever arrives.
    arrivals: u64,
}

impl Fleet {
    /// The clients of a scenario, subscribers first, none of them connected.
    pub fn new(scenario: &Scenario, clock: Clock) -> Self {
        let mut fleet = Self {
            scenario: scenario.clone(),
            clock,
            now_ns: 0,
            clients: Vec::new(),
            flows: Vec::new(),
            publishers: Vec::new(),
            ready: 0,
            publishing: false,
            tally: Tally::new(),
            faults: Faults::default(),
            failure: None,
            arrivals: 0,
        };
        fleet.populate();
        fleet
    }

    fn populate(&mut self) {
        match self.scenario.shape {
            Shape::Pairs(pairs) => {
                (0..pairs).for_each(|pair| self.subscriber(format!("p2p/{pair}"), Ledger::of(pair, 1)));
                (0..pairs).for_each(|pair| self.publisher(&format!("p2p/{pair}"), 1));
            }
            Shape::FanOut(subscribers) => {
                (0..subscribers).for_each(|_| self.subscriber("fan-out".to_owned(), Ledger::of(0, 1)));
                self.publisher("fan-out", subscribers);
            }
            Shape::FanIn(publishers) => {
                self.subscriber("fan-in/+".to_owned(), Ledger::of(0, publishers as usize));
                (0..publishers).for_each(|publisher| self.publisher(&format!("fan-in/{publisher}"), 1));
            }
            Shape::Idle(clients) => {
                (0..clients).for_each(|client| self.subscriber(format!("idle/{client}"), Ledger::default()));
            }
        }
    }

    fn subscriber(&mut self, filter: String, ledger: Ledger) {
        self.add(Role::Subscriber { filter, ledger });
    }

    fn publisher(&mut self, topic: &str, receivers: u32) {
        let Scenario { qos, payload, outstanding, version, .. } = self.scenario;
        let window = Window { receivers, outstanding, acknowledged: qos != QoS::AtMostOnce };
        let number = self.flows.len() as u32;
        self.flows.push(Flow::new(number, window, PublishTemplate::new(version, topic, qos, payload)));
        self.publishers.push(self.clients.len());
        self.add(Role::Publisher(number));
    }

    fn add(&mut self, role: Role) {
        self.clients.push(Client { stage: Stage::Connecting, role, partial: Vec::new() });
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// How many are connected and subscribed.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// How much has arrived; whoever sees it unchanged for long may call it a stall.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Messages sent and not yet everywhere.
    pub fn under_way(&self) -> u64 {
        self.flows.iter().map(|flow| u64::from(flow.under_way())).sum()
    }

    /// What ended the run, once.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Sends the CONNECT of a client whose link is open.
    pub fn greet(&mut self, links: &mut Links, link: usize) {
        let id = format!("loadgen-{}-{link}", std::process::id());
        let Scenario { version, keep_alive, .. } = self.scenario;
        wire::connect(version, &id, keep_alive, links.output(link));
    }

    /// Every publisher fills its window.
    pub fn start(&mut self, links: &mut Links) {
        self.publishing = true;
        self.now_ns = self.clock.now_ns();
        (0..self.flows.len()).for_each(|flow| self.top_up(links, flow));
    }

    /// Nobody publishes any more; what is under way may still arrive.
    pub fn stop(&mut self) {
        self.publishing = false;
    }

    /// Every client takes leave.
    pub fn disconnect(&mut self, links: &mut Links) {
        let version = self.scenario.version;
        (0..self.clients.len()).for_each(|link| wire::disconnect(version, links.output(link)));
    }

    /// The tally since the last call.
    pub fn take_tally(&mut self) -> Tally {
        mem::replace(&mut self.tally, Tally::new())
    }

    /// Everything that went wrong, counting what is still missing now as lost.
    pub fn faults(&self) -> Faults {
        let sent = |publisher: u32| self.flows[publisher as usize].sent();
        let lost = self.clients.iter().map(|client| match &client.role {
            Role::Subscriber { ledger, .. } => ledger.lost(sent),
            Role::Publisher(_) => 0,
        });
        Faults { lost: lost.sum(), ..self.faults }
    }

    fn top_up(&mut self, links: &mut Links, flow: usize) {
        while self.publishing && self.flows[flow].has_credit() {
            self.flows[flow].publish(self.now_ns, links.output(self.publishers[flow]));
        }
    }

    /// Handles the whole packets in `bytes` and tells how many bytes they were.
    fn packets(&mut self, links: &mut Links, link: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.failure.is_none() {
            match frame(&bytes[used..], u32::MAX) {
                Ok(Framed::Complete { frame, len }) => {
                    self.packet(links, link, frame);
                    used += len;
                }
                Ok(Framed::Incomplete { .. }) => return used,
                Err(error) => self.fail_protocol(link, error.to_string()),
            }
        }
        bytes.len()
    }

    fn packet(&mut self, links: &mut Links, link: usize, frame: Frame<'_>) {
        let (version, Frame { first, body }) = (self.scenario.version, frame);
        let handled = match PacketType::of(first) {
            Some(PacketType::Publish) => {
                decode_publish(first, body, version).map(|publish| self.on_publish(links, link, &publish))
            }
            Some(kind @ (PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp)) => {
                decode_ack(first, body, version).map(|ack| self.on_ack(links, link, kind, &ack))
            }
            _ => decode(frame, version).map(|packet| self.on_rare(links, link, &packet)),
        };
        if let Err(error) = handled {
            self.fail_protocol(link, format!("a malformed packet that starts with {first:#04x}: {error}"));
        }
    }

    fn on_publish(&mut self, links: &mut Links, link: usize, publish: &Publish<'_>) {
        let Role::Subscriber { ledger, .. } = &mut self.clients[link].role else {
            return self.fail_protocol(link, "a PUBLISH although it never subscribed".to_owned());
        };
        let answer = match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(PacketType::PubAck),
            QoS::ExactlyOnce => Some(PacketType::PubRec),
        };
        if let Some(kind) = answer {
            encode_ack(links.output(link), self.scenario.version, kind, publish.packet_id, 0);
        }
        let stamp = payload::read(publish.payload).filter(|stamp| (stamp.publisher as usize) < self.flows.len());
        let Some(stamp) = stamp.filter(|_| publish.payload.len() == self.scenario.payload) else {
            self.faults.corrupted += 1;
            return;
        };
        let flow = stamp.publisher as usize;
        if ledger.enter(stamp.publisher, stamp.sequence, self.flows[flow].sent(), &mut self.faults) {
            self.tally.delivered += 1;
            self.tally.latency_ns.saturating_record(self.now_ns.saturating_sub(stamp.sent_ns));
            self.flows[flow].reached(stamp.sequence);
            self.top_up(links, flow);
        }
    }

    fn on_ack(&mut self, links: &mut Links, link: usize, kind: PacketType, ack: &Ack<'_>) {
        let Scenario { version, qos, .. } = self.scenario;
        if ack.reason >= FAILURE {
            return self.fail_protocol(link, format!("{kind:?} with reason {:#04x}", ack.reason));
        }
        match (kind, &self.clients[link].role, qos) {
            (PacketType::PubRel, Role::Subscriber { .. }, QoS::ExactlyOnce) => {
                encode_ack(links.output(link), version, PacketType::PubComp, ack.packet_id, 0);
            }
            (PacketType::PubRec, Role::Publisher(_), QoS::ExactlyOnce) => {
                encode_ack(links.output(link), version, PacketType::PubRel, ack.packet_id, 0);
            }
            (PacketType::PubAck, &Role::Publisher(flow), QoS::AtLeastOnce)
            | (PacketType::PubComp, &Role::Publisher(flow), QoS::ExactlyOnce) => {
                self.faults.misacknowledged += u64::from(!self.flows[flow as usize].acknowledged(ack.packet_id));
                self.top_up(links, flow as usize);
            }
            _ => self.fail_protocol(link, format!("a {kind:?} that it can't expect")),
        }
    }

    fn on_rare(&mut self, links: &mut Links, link: usize, packet: &Packet<'_>) {
        match (packet, self.clients[link].stage) {
            (Packet::ConnAck(connack), Stage::Connecting) if connack.code == 0 => self.on_welcome(links, link),
            (Packet::ConnAck(connack), Stage::Connecting) => {
                self.fail(Error::Refused { client: link, code: connack.code });
            }
            (Packet::SubAck(suback), Stage::Subscribing) => match suback.codes {
                &[code] if code == self.scenario.qos as u8 => self.now_ready(link),
                &[code] => self.fail(Error::SubscriptionRefused { client: link, code }),
                codes => self.fail_protocol(link, format!("a SUBACK with {} codes for 1 filter", codes.len())),
            },
            _ => self.fail_protocol(link, format!("an unexpected packet: {packet:?}")),
        }
    }

    fn on_welcome(&mut self, links: &mut Links, link: usize) {
        match &self.clients[link].role {
            Role::Subscriber { filter, .. } => {
                wire::subscribe(self.scenario.version, filter, self.scenario.qos, links.output(link));
                self.clients[link].stage = Stage::Subscribing;
            }
            Role::Publisher(_) => self.now_ready(link),
        }
    }

    fn now_ready(&mut self, link: usize) {
        self.clients[link].stage = Stage::Ready;
        self.ready += 1;
    }

    fn fail_protocol(&mut self, client: usize, what: String) {
        self.fail(Error::Protocol { client, what });
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }
}

impl Handler for Fleet {
    fn received(&mut self, links: &mut Links, link: usize, bytes: &[u8]) {
        self.arrivals += 1;
        self.now_ns = self.clock.now_ns();
        let mut partial = mem::take(&mut self.clients[link].partial);
        if partial.is_empty() {
            let used = self.packets(links, link, bytes);
            partial.extend_from_slice(&bytes[used..]);
        } else {
            partial.extend_from_slice(bytes);
            let used = self.packets(links, link, &partial);
            partial.drain(..used);
        }
        self.clients[link].partial = partial;
    }

    fn closed(&mut self, _: &mut Links, link: usize, reason: io::Error) {
        self.fail(Error::Closed { client: link, reason });
    }
}
