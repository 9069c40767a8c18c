//! A broker without sockets and clients that say exactly what a test tells them to.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringmq::acl::Policy;
use ringmq::auth::{Principal, Verdict};
use ringmq::config::{Config, Limits, MqttOptions};
use ringmq::core::counters::DropReason;
use ringmq::core::{Core, Shared};
use ringmq::engine::Time;
use ringmq::guard::bans::UnixTime;
use ringmq::guard::entry;
use ringmq::sim::desk::{Asked, Desk};
use ringmq::sim::subject;
use ringmq::sim::wire::{self, Ack, Codes, ConnAck, Connect, Packet, Publish, Reasoned, Subscribe};
use ringmq::sim::world::{Chunks, Conditions, LinkId, World};

pub use ringmq::sim::wire::QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
pub use ringmq::sim::wire::{
    Properties, ProtocolVersion, QoS, RetainHandling, SubscriptionOptions, Unsubscribe, Value, Will, id,
};
pub use ringmq::sim::wire::{ProtocolVersion::V5, ProtocolVersion::V31, ProtocolVersion::V311};

/// Every version that most statements bind.
pub const BOTH: [ProtocolVersion; 2] = [V311, V5];

/// A broker on virtual time.
#[derive(Clone)]
pub struct Broker(Rc<RefCell<World<Core>>>, Guard);

/// Who may come in, and what clients may do.
#[derive(Clone)]
struct Guard {
    desk: Desk,
    shared: Arc<Shared>,
}

/// Runs a test on one shard and on three.
pub fn on_any_shards(test: impl Fn(&Broker)) {
    for shards in [1, 3] {
        test(&Broker::new(shards));
    }
}

/// Runs a test on one shard and on three, with limits and options of its own.
pub fn on_any_shards_with(change: impl Fn(&mut Limits, &mut MqttOptions), test: impl Fn(&Broker)) {
    for shards in [1, 3] {
        test(&Broker::with(shards, &change));
    }
}

/// Runs a test for 3.1.1 and 5.0, on one shard and on three.
pub fn for_both(test: impl Fn(&Broker, ProtocolVersion)) {
    for version in BOTH {
        on_any_shards(|broker| test(broker, version));
    }
}

impl Broker {
    pub fn new(shards: u16) -> Broker {
        Broker::with(shards, |_, _| {})
    }

    /// A broker whose limits and options a test changes.
    pub fn with(shards: u16, change: impl Fn(&mut Limits, &mut MqttOptions)) -> Broker {
        let (mut limits, mut mqtt) = (Limits::default(), MqttOptions::default());
        change(&mut limits, &mut mqtt);
        Broker::made_of(shards, limits, mqtt, None)
    }

    /// A broker that publishes its `$SYS` topics.
    pub fn with_sys(shards: u16, interval: Duration) -> Broker {
        Broker::made_of(shards, Limits::default(), MqttOptions::default(), Some(interval))
    }

    /// A broker whose whole configuration a test changes; its clients come by the first listener.
    pub fn configured(shards: u16, asks: bool, change: impl Fn(&mut Config)) -> Broker {
        let mut config = Config::default();
        change(&mut config);
        let guard = Guard { desk: Desk::new(), shared: Arc::new(Shared::new(shards, 1)) };
        guard.shared.set_guard(Arc::new(entry::Guard::new(&config, 1, UnixTime(0))));
        Broker::guarded_by(guard, config.limits, config.mqtt, None, asks)
    }

    fn made_of(shards: u16, limits: Limits, mqtt: MqttOptions, sys: Option<Duration>) -> Broker {
        let guard = Guard { desk: Desk::new(), shared: Arc::new(Shared::new(shards, 1)) };
        Broker::guarded_by(guard, limits, mqtt, sys, false)
    }

    fn guarded_by(guard: Guard, limits: Limits, mqtt: MqttOptions, sys: Option<Duration>, asks: bool) -> Broker {
        let start = Time(1_000_000_000);
        let desk = asks.then_some(&guard.desk);
        let cores = subject::guarded_cores(guard.shared.clone(), limits, mqtt, sys, 1, start, desk);
        Broker(Rc::new(RefCell::new(World::new(cores, Conditions::kind(), 1, start))), guard)
    }

    /// A broker that asks the test whether a client may come in.
    pub fn asking(shards: u16) -> Broker {
        Broker::asking_with(shards, |_| {})
    }

    /// The same with limits that a test changes.
    pub fn asking_with(shards: u16, change: impl Fn(&mut Limits)) -> Broker {
        let mut limits = Limits::default();
        change(&mut limits);
        let guard = Guard { desk: Desk::new(), shared: Arc::new(Shared::new(shards, 1)) };
        Broker::guarded_by(guard, limits, MqttOptions::default(), None, true)
    }

    /// What its shards share.
    pub fn shared(&self) -> &Shared {
        &self.1.shared
    }

    /// Who answers.
    pub fn desk(&self) -> &Desk {
        &self.1.desk
    }

    /// The question that the broker has when everything has arrived.
    #[track_caller]
    pub fn question(&self) -> Asked {
        self.rest();
        self.desk().next().expect("the broker asks nothing")
    }

    /// Answers, and lets the broker act on it.
    pub fn answer(&self, asked: &Asked, verdict: Verdict) {
        self.desk().answer(asked.shard, asked.conn, verdict);
        self.0.borrow_mut().wake_shards();
        self.rest();
    }

    /// Lets in whoever asks next, as this user.
    #[track_caller]
    pub fn allow(&self, user: &str) {
        let asked = self.question();
        self.answer(&asked, allow(user));
    }

    /// A client that was let in as a user of its own name, which says whether its session was present.
    #[track_caller]
    pub fn let_in(&self, connect: Connect, user: &str) -> (Client, bool) {
        let mut client = self.dial(connect.version);
        client.send(Packet::Connect(connect));
        self.allow(user);
        let ack = client.next_connack();
        assert_eq!(ack.code, 0, "CONNACK says no: {ack:?}");
        (client, ack.session_present)
    }

    /// Sets what clients may do. All shards know it when this returns.
    pub fn set_policy(&self, policy: Policy) {
        self.1.shared.set_policy(Some(Arc::new(policy)));
        self.0.borrow_mut().wake_shards();
        self.rest();
    }

    /// Lets so much time pass.
    pub fn advance(&self, duration: Duration) {
        self.0.borrow_mut().run_for(duration);
    }

    /// Lets so many seconds pass.
    pub fn seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// Lets everything that is on its way arrive.
    pub fn rest(&self) {
        let mut world = self.0.borrow_mut();
        while !world.is_quiet() {
            world.step(Time(u64::MAX));
        }
    }

    /// Keeps the shards from hearing each other, or lets them again.
    pub fn hold_mesh(&self, held: bool) {
        self.0.borrow_mut().hold_mesh(held);
    }

    pub fn stop(&self) {
        self.0.borrow_mut().stop();
    }

    /// Adds up a gauge or counter over the shards.
    pub fn count(&self, name: &str) -> u64 {
        self.counts(name).iter().sum()
    }

    /// How many deliveries were dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.0.borrow().engines().map(|core| core.counters().dropped[reason as usize].load()).sum()
    }

    /// A gauge or counter of each shard.
    pub fn counts(&self, name: &str) -> Vec<u64> {
        let world = self.0.borrow();
        let of = |core: &Core| core.counters().named().find(|(other, _)| *other == name).map(|(_, count)| count);
        world.engines().map(|core| of(core).unwrap_or_else(|| panic!("no counter {name}"))).collect()
    }

    /// A connection on which nothing has been said.
    pub fn dial(&self, version: ProtocolVersion) -> Client {
        let link = self.0.borrow_mut().connect();
        Client { broker: self.clone(), link, version, inbox: Vec::new() }
    }

    /// A connection whose CONNECT was accepted: a clean start without anything special.
    pub fn client(&self, version: ProtocolVersion, client_id: &str) -> Client {
        self.connect(Connect::new(version, client_id)).0
    }

    /// A connection whose CONNECT, this one, was accepted; and the CONNACK.
    pub fn connect(&self, connect: Connect) -> (Client, ConnAck) {
        let mut client = self.dial(connect.version);
        client.send(Packet::Connect(connect));
        let ack = client.next_connack();
        assert_eq!(ack.code, 0, "CONNACK says no: {ack:?}");
        (client, ack)
    }

    /// A connection that keeps its session (for ever), and whether there was one.
    pub fn resume(&self, version: ProtocolVersion, client_id: &str) -> (Client, bool) {
        let (client, ack) = self.connect(lasting(version, client_id));
        (client, ack.session_present)
    }
}

/// Yes, as this user.
pub fn allow(user: &str) -> Verdict {
    let principal = Box::new(Principal { user: Some(user.into()), ..Principal::default() });
    Verdict::Allow { principal, data: Vec::new() }
}

/// A CONNECT that goes on with a session and leaves one behind.
pub fn lasting(version: ProtocolVersion, client_id: &str) -> Connect {
    let mut connect = Connect::new(version, client_id);
    connect.clean_start = false;
    if version == V5 {
        connect.properties = Properties::new().four(id::SESSION_EXPIRY_INTERVAL, u32::MAX);
    }
    connect
}

/// A client that does only what it is told.
pub struct Client {
    broker: Broker,
    link: LinkId,
    pub version: ProtocolVersion,
    inbox: Vec<u8>,
}

impl Client {
    pub fn send(&mut self, packet: Packet) {
        let bytes = wire::encode(&packet, self.version);
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.broker.0.borrow_mut().send(self.link, bytes);
    }

    /// The client reads no more, or again.
    pub fn stall(&mut self, stalled: bool) {
        self.broker.0.borrow_mut().set_stalled(self.link, stalled);
    }

    /// Sends byte by byte from now on.
    pub fn one_by_one(&mut self) {
        self.broker.0.borrow_mut().set_chunks(self.link, Chunks::One);
    }

    /// Breaks the connection; the broker has noticed when this returns.
    pub fn reset(self) {
        self.broker.rest();
        self.broker.0.borrow_mut().reset(self.link);
        self.broker.rest();
    }

    /// Closes the transport without DISCONNECT.
    pub fn close(self) {
        self.broker.0.borrow_mut().close(self.link);
        self.broker.rest();
    }

    /// Says goodbye and waits for the broker to close.
    pub fn disconnect(mut self) {
        self.send(Packet::Disconnect(Reasoned::default()));
        self.expect_closed();
    }

    fn poll(&mut self) -> Option<Packet> {
        loop {
            self.inbox.extend(self.broker.0.borrow_mut().take(self.link));
            let framed = wire::deframe(&self.inbox).expect("the broker sends well-formed packets");
            if let Some(length) = framed {
                let bytes: Vec<u8> = self.inbox.drain(..length).collect();
                return Some(wire::decode(&bytes, self.version).expect("the broker sends well-formed packets"));
            }
            let mut world = self.broker.0.borrow_mut();
            if world.is_quiet() {
                return None;
            }
            world.step(Time(u64::MAX));
        }
    }

    /// The next packet; nothing but the network's own time passes.
    #[track_caller]
    pub fn next(&mut self) -> Packet {
        match self.poll() {
            Some(packet) => packet,
            None if self.is_closed() => panic!("the broker closed the connection"),
            None => panic!("nothing came"),
        }
    }

    /// The next packet, if one comes before anything but the network has to happen.
    pub fn next_or_none(&mut self) -> Option<Packet> {
        self.poll()
    }

    #[track_caller]
    pub fn expect(&mut self, packet: Packet) {
        assert_eq!(self.next(), packet);
    }

    /// PUBREC or PUBACK for this identifier, whatever it says.
    #[track_caller]
    pub fn expect_with_id(&mut self, packet_id: u16) {
        match self.next() {
            Packet::PubAck(ack) | Packet::PubRec(ack) => assert_eq!(ack.packet_id, packet_id),
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    #[track_caller]
    pub fn next_connack(&mut self) -> ConnAck {
        match self.next() {
            Packet::ConnAck(ack) => ack,
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    #[track_caller]
    pub fn next_publish(&mut self) -> Publish {
        match self.next() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    #[track_caller]
    pub fn expect_nothing(&mut self) {
        assert_eq!(self.poll(), None);
        assert!(!self.is_closed(), "the broker closed the connection");
    }

    pub fn is_closed(&mut self) -> bool {
        self.broker.0.borrow().is_closed(self.link)
    }

    /// No more packets, and the end.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        assert_eq!(self.poll(), None);
        assert!(self.is_closed(), "the connection is still open");
    }

    /// The end, before which a CONNACK may say no.
    #[track_caller]
    pub fn expect_closed_or_refused(&mut self) {
        match self.poll() {
            Some(Packet::ConnAck(ack)) => assert_ne!(ack.code, 0, "CONNACK says yes"),
            Some(other) => panic!("{other:?} instead of a close"),
            None => {}
        }
        self.expect_closed();
    }

    /// The end, whatever reason a DISCONNECT gives for it.
    #[track_caller]
    pub fn expect_ended(&mut self) {
        match self.poll() {
            Some(Packet::Disconnect(reasoned)) => assert!(self.version == V5 && reasoned.reason >= 0x80),
            Some(other) => panic!("{other:?} instead of the end"),
            None => {}
        }
        self.expect_closed();
    }

    /// The broker says why, if the version has a packet for it, and closes.
    #[track_caller]
    pub fn expect_dismissal(&mut self, reason: u8) {
        if self.version == V5 {
            match self.next() {
                Packet::Disconnect(reasoned) => assert_eq!(reasoned.reason, reason, "{reasoned:02x?}"),
                other => panic!("{other:?} instead of DISCONNECT"),
            }
        }
        self.expect_closed();
    }

    /// Subscribes and expects the QoS to be granted.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.subscribe_with(filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() });
    }

    #[track_caller]
    pub fn subscribe_with(&mut self, filter: &str, options: SubscriptionOptions) {
        self.send(subscribe(1000, &[(filter, options)]));
        self.expect(suback(1000, &[options.qos as u8]));
    }

    /// A round trip: all that was sent before has been handled.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(Packet::PingReq);
        self.expect(Packet::PingResp);
    }

    /// Publishes at QoS 0.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        self.send(Packet::Publish(message(topic, payload)));
    }

    /// Publishes at QoS 1 and waits for PUBACK.
    #[track_caller]
    pub fn publish_acknowledged(&mut self, topic: &str, payload: &str) {
        self.send(Packet::Publish(Publish { qos: AtLeastOnce, packet_id: 999, ..message(topic, payload) }));
        match self.next() {
            Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason & 0x80), (999, 0)),
            other => panic!("{other:?} instead of PUBACK"),
        }
    }

    /// Publishes a retained message at QoS 1 and waits for PUBACK.
    #[track_caller]
    pub fn retain(&mut self, topic: &str, payload: &str) {
        let publish = Publish { qos: AtLeastOnce, packet_id: 998, retain: true, ..message(topic, payload) };
        self.send(Packet::Publish(publish));
        match self.next() {
            Packet::PubAck(ack) => assert_eq!((ack.packet_id, ack.reason & 0x80), (998, 0)),
            other => panic!("{other:?} instead of PUBACK"),
        }
    }

    #[track_caller]
    pub fn expect_message(&mut self, topic: &str, payload: &str) {
        let publish = self.next_publish();
        assert_eq!((publish.topic.as_str(), publish.payload.as_slice()), (topic, payload.as_bytes()));
    }
}

/// A QoS 0 message.
pub fn message(topic: &str, payload: &str) -> Publish {
    Publish { topic: topic.to_owned(), payload: payload.as_bytes().to_vec(), ..Publish::default() }
}

pub fn publish(publish: Publish) -> Packet {
    Packet::Publish(publish)
}

pub fn at(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

pub fn subscribe(packet_id: u16, filters: &[(&str, SubscriptionOptions)]) -> Packet {
    let filters = filters.iter().map(|(filter, options)| ((*filter).to_owned(), *options)).collect();
    Packet::Subscribe(Subscribe { packet_id, properties: Properties::new(), filters })
}

pub fn suback(packet_id: u16, codes: &[u8]) -> Packet {
    Packet::SubAck(Codes { packet_id, properties: Properties::new(), codes: codes.to_vec() })
}

pub fn unsubscribe(packet_id: u16, filters: &[&str]) -> Packet {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::new(), filters })
}

/// UNSUBACK; 3.x has no codes on the wire.
pub fn unsuback(version: ProtocolVersion, packet_id: u16, codes: &[u8]) -> Packet {
    let codes = if version == V5 { codes.to_vec() } else { Vec::new() };
    Packet::UnsubAck(Codes { packet_id, properties: Properties::new(), codes })
}

pub fn puback(packet_id: u16) -> Packet {
    Packet::PubAck(Ack::new(packet_id))
}

pub fn pubrec(packet_id: u16) -> Packet {
    Packet::PubRec(Ack::new(packet_id))
}

pub fn pubrel(packet_id: u16) -> Packet {
    Packet::PubRel(Ack::new(packet_id))
}

pub fn pubcomp(packet_id: u16) -> Packet {
    Packet::PubComp(Ack::new(packet_id))
}

/// PUBACK with a reason code.
pub fn puback_with(packet_id: u16, reason: u8) -> Packet {
    Packet::PubAck(Ack { packet_id, reason, properties: Properties::new() })
}
