//! Nobody can hurt the others: what the guard says is carried out, and given back.

use super::*;
use crate::auth::{Authenticator, Busy, Principal, Question, Verdict};
use crate::codec::{Ack, Will};
use crate::config::{ClientLimits, Config, MemoryBudget, Profile, RateLimit};
use crate::engine::{Certificate, Peer};
use crate::guard::bans::{Ban, Bans, Target, UnixTime};
use crate::guard::budget::Pressure;
use crate::guard::entry::{Guard, Refused, TRIALS_MAX};
use crate::guard::glob::Glob;
use crate::guard::rate::Rate;

const V5: ProtocolVersion = ProtocolVersion::V5;

pub(super) fn guarded(shards: u16, set: impl FnOnce(&mut Config)) -> (Broker, Arc<Guard>) {
    let mut config = Config::default();
    set(&mut config);
    let guard = Arc::new(Guard::new(&config, 7, UnixTime(1000)));
    let shared = Arc::new(Shared::new(shards, 7));
    shared.set_guard(guard.clone());
    let (limits, mqtt) = (Arc::new(config.limits), Arc::new(config.mqtt));
    let core = |shard| {
        Core::new(CoreConfig {
            shard: ShardId(shard),
            shared: shared.clone(),
            limits: limits.clone(),
            mqtt: mqtt.clone(),
            sys_interval: None,
            seed: u64::from(shard),
            now: Time(0),
        })
    };
    (Broker { cores: (0..shards).map(core).collect(), now: Time(0) }, guard)
}

/// A broker that publishes its figures every ten seconds.
fn guarded_with_sys(shards: u16, set: impl FnOnce(&mut Config)) -> Broker {
    let mut config = Config::default();
    set(&mut config);
    let shared = Arc::new(Shared::new(shards, 7));
    let guard = Guard::new(&config, 7, UnixTime(1000));
    shared.set_guard(Arc::new(guard));
    let core = |shard| {
        Core::new(CoreConfig {
            shard: ShardId(shard),
            shared: shared.clone(),
            limits: Arc::new(config.limits.clone()),
            mqtt: Arc::new(config.mqtt.clone()),
            sys_interval: Some(Duration::from_secs(10)),
            seed: u64::from(shard),
            now: Time(0),
        })
    };
    Broker { cores: (0..shards).map(core).collect(), now: Time(0) }
}

fn rate(per_second: u64, burst: u64) -> RateLimit {
    RateLimit(Rate::new(per_second, Duration::from_secs(1), burst))
}

fn effects(broker: &mut Broker) -> Vec<Effect> {
    std::iter::from_fn(|| broker.cores[0].poll_effect()).collect()
}

fn is_pause(effect: &Effect) -> bool {
    matches!(effect, Effect::PauseReceive(_))
}

/// A CONNECT to the first shard, of a client that is not handed over; what it is told.
fn connect_told(broker: &mut Broker, packet: Connect<'_>) -> Vec<String> {
    let Some(conn) = broker.cores[0].open(broker.now, 0, None) else { return vec!["refused".to_owned()] };
    let client = Client { shard: 0, conn, version: packet.version };
    broker.send(client, &Packet::Connect(Box::new(packet)));
    let told = broker.read(client);
    effects(broker);
    told
}

#[test]
fn a_client_above_its_rate_is_read_no_further_and_loses_nothing() {
    let (mut broker, _) = guarded(1, |config| config.limits.messages_in_rate = rate(10, 10));
    let client = broker.connect("c", V5);
    let bytes = |ids: std::ops::Range<u16>| -> Vec<u8> {
        ids.flat_map(|packet_id| {
            let head = PublishHead { topic: "t", qos: QoS::AtLeastOnce, packet_id, ..PublishHead::default() };
            publish_bytes(V5, head, b"x")
        })
        .collect()
    };
    broker.cores[0].receive(broker.now, client.conn, &bytes(1..31));
    assert!(effects(&mut broker).iter().any(is_pause));
    broker.cores[0].receive(broker.now, client.conn, &bytes(31..36));
    let received = |broker: &Broker| broker.cores[0].counters().publish_received.load();
    assert_eq!(received(&broker), 30, "what comes meanwhile waits");
    broker.pass(Duration::from_millis(2000));
    assert_eq!(received(&broker), 30, "21 messages are 2.1 s at 10 a second");
    broker.pass(Duration::from_millis(200));
    assert_eq!(received(&broker), 35);
    assert_eq!(broker.read(client).len(), 1 + 35, "every one of them is acknowledged");
    broker.pass(Duration::from_secs(2));
    assert!(effects(&mut broker).iter().any(|effect| matches!(effect, Effect::ResumeReceive(_))));
}

#[test]
fn a_client_gets_messages_no_faster_than_its_rate() {
    let (mut broker, _) = guarded(1, |config| {
        let limits = ClientLimits { messages_out_rate: Some(rate(10, 2)), ..ClientLimits::default() };
        config.guard.profiles =
            vec![Profile { client_id: Some(Glob::new("s*").unwrap()), limits, ..Profile::default() }];
    });
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.read(subscriber);
    let publisher = broker.connect("p", V5);
    for packet_id in 1..=5 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b"x");
    }
    let mut got = vec![broker.read(subscriber).len()];
    for _ in 0..4 {
        effects(&mut broker);
        broker.pass(Duration::from_millis(151));
        got.push(broker.read(subscriber).len());
    }
    assert_eq!(got[0], 2, "the burst");
    assert_eq!(got.iter().sum::<usize>(), 5, "nothing of QoS 1 is dropped: {got:?}");
    assert!(got[1..].iter().all(|got| *got <= 2), "{got:?}");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"x");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"x");
    broker.publish(publisher, "t", QoS::AtMostOnce, 0, b"x");
    let dropped = broker.cores[0].counters().dropped[counters::DropReason::OutRate as usize].load();
    assert!(dropped >= 1, "QoS 0 above the rate is dropped, by its own reason");
    broker.check();
}

#[test]
fn bytes_are_held_to_their_rates_like_messages() {
    let (mut broker, _) = guarded(1, |config| {
        config.limits.bytes_in_rate = rate(10_000, 10_000);
        config.limits.bytes_out_rate = rate(1000, 1000);
    });
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.read(subscriber);
    let publisher = broker.connect("p", V5);
    effects(&mut broker);
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1, &[b'x'; 1000]);
    assert!(!effects(&mut broker).iter().any(is_pause));
    assert_eq!(broker.read(subscriber).len(), 1);
    for packet_id in 2..=10 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, &[b'x'; 1000]);
    }
    assert!(effects(&mut broker).iter().any(is_pause), "10 kB and some were taken, and no more is read");
    assert_eq!(broker.read(subscriber).len(), 0, "it had its thousand of this second");
    let mut got = 0;
    for _ in 0..12 {
        broker.pass(Duration::from_millis(1050));
        effects(&mut broker);
        let now = broker.read(subscriber).len();
        assert!(now <= 1);
        got += now;
    }
    assert_eq!(got, 9, "all of it comes");
    assert_eq!(broker.read(publisher).len(), 1 + 10);
    broker.check();
}

#[test]
fn a_client_that_connects_again_does_not_get_its_burst_again() {
    for named in [true, false] {
        let (mut broker, _) = guarded(1, |config| config.limits.messages_in_rate = rate(10, 10));
        let id = if named { "c" } else { "" };
        let address = Some("192.0.2.1:5".parse().unwrap());
        let connect = |broker: &mut Broker| {
            let conn = broker.cores[0].open(broker.now, 0, address).unwrap();
            let client = Client { shard: 0, conn, version: V5 };
            broker.send(client, &Packet::Connect(Box::new(connect_packet(id, V5))));
            client
        };
        let publish = |broker: &mut Broker, client: Client| {
            (0..10).for_each(|_| broker.publish(client, "t", QoS::AtMostOnce, 0, b"x"));
            broker.cores[0].counters().publish_received.load()
        };
        let client = connect(&mut broker);
        assert_eq!(publish(&mut broker, client), 10);
        // It is not read, and so its end is not seen yet: that is no way round.
        broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::EndOfStream);
        for _ in 0..5 {
            let client = connect(&mut broker);
            assert_eq!(broker.read(client)[0].get(..9), Some("CONNACK 0"), "it is told that it is in");
            assert_eq!(publish(&mut broker, client), 10, "and not read");
            broker.cores[0].disconnected(broker.now, client.conn, TransportEnd::Error(libc::ECONNRESET));
        }
        broker.pass(Duration::from_millis(550));
        let client = connect(&mut broker);
        assert_eq!(publish(&mut broker, client), 15, "half a second is five messages");
        broker.pass(Duration::from_secs(10));
        assert_eq!(broker.cores[0].counters().publish_received.load(), 20);
    }
}

#[test]
fn who_has_been_sent_his_rate_is_sent_no_more_when_he_connects_again() {
    let (mut broker, _) = guarded(1, |config| config.limits.messages_out_rate = rate(10, 10));
    let mut client = broker.connect("c", V5);
    broker.subscribe(client, "t", QoS::AtLeastOnce);
    broker.hang_up(client);
    let publisher = broker.connect("p", V5);
    (1..=40).for_each(|packet_id| broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b"x"));
    let mut got = 0;
    for _ in 0..5 {
        client = broker.connect("c", V5);
        let told = broker.read(client);
        got += told.iter().filter(|told| told.contains("dup0")).count();
        broker.hang_up(client);
    }
    assert!((10..=11).contains(&got), "{got}");
}

#[test]
fn a_flapping_client_is_kept_out_and_may_come_back() {
    let (mut broker, _) = guarded(1, |config| config.guard.flapping_connects = 2);
    let told: Vec<_> = (0..4).map(|_| connect_told(&mut broker, connect_packet("c", V5)).pop()).collect();
    let told: Vec<&str> = told.iter().flatten().map(String::as_str).collect();
    assert_eq!(told, ["CONNACK 0 false", "CONNACK 0 true", "CONNACK 138 false", "CONNACK 138 false"]);
    assert_eq!(broker.cores[0].counters().flapping.load(), 1);
    assert_eq!(connect_told(&mut broker, connect_packet("d", V5)), ["CONNACK 0 false"]);
    broker.now = broker.now.after(Duration::from_secs(301));
    assert_eq!(connect_told(&mut broker, connect_packet("c", V5)), ["CONNACK 0 true"]);
}

#[test]
fn a_ban_refuses_at_connect_and_ends_connections_that_are_there() {
    let (mut broker, guard) = guarded(1, |_| {});
    let there = broker.connect("bad-1", V5);
    let other = broker.connect("good", V5);
    broker.read(there);
    let ban = |target| Ban::new(target, None, "because".to_owned()).unwrap();
    let list = vec![ban(Target::Pattern(Glob::new("bad-*").unwrap())), ban(Target::User("eve".into()))];
    guard.set_bans(Bans::new(list).unwrap(), UnixTime(1000));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.read(there), ["DISCONNECT 0x98"]);
    assert!(broker.cores[0].live(other.conn).is_some());
    assert_eq!(connect_told(&mut broker, connect_packet("bad-2", V5)), ["CONNACK 138 false"]);
    assert_eq!(
        connect_told(&mut broker, Connect { user_name: Some("eve"), ..connect_packet("x", V5) }),
        ["CONNACK 138 false"]
    );
    assert_eq!(broker.cores[0].counters().ended[counters::EndReason::Banned as usize].load(), 1);
    assert_eq!(broker.cores[0].counters().refused_at_door[Refused::Banned as usize].load(), 2);
}

#[test]
fn a_new_ban_of_an_address_ends_the_connections_that_come_from_it() {
    let (mut broker, guard) = guarded(1, |config| config.guard.bans = Some("bans.json".into()));
    let mut open = |address: &str| broker.cores[0].open(broker.now, 0, Some(address.parse().unwrap())).unwrap();
    let [bad, silent, good] = ["192.0.2.7:1", "192.0.2.8:1", "198.51.100.1:1"].map(&mut open);
    let client = |conn| Client { shard: 0, conn, version: V5 };
    for (conn, id) in [(bad, "bad"), (good, "good")] {
        broker.send(client(conn), &Packet::Connect(Box::new(connect_packet(id, V5))));
        broker.read(client(conn));
    }
    let ban = Ban::new(Target::address("192.0.2.0/24").unwrap(), None, String::new()).unwrap();
    guard.set_bans(Bans::new(vec![ban]).unwrap(), UnixTime(1000));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.read(client(bad)), ["DISCONNECT 0x98"]);
    assert!(broker.cores[0].live(silent).is_none(), "nor may he go on to CONNECT");
    assert!(broker.cores[0].live(good).is_some());
    assert_eq!(broker.cores[0].counters().ended[counters::EndReason::Banned as usize].load(), 2);
    assert_eq!(broker.cores[0].guarding.addresses.len(), 1, "of those who are there");
}

#[test]
fn an_address_gets_its_connections_back_when_they_end_also_on_another_shard() {
    let (mut broker, _) = guarded(2, |config| config.guard.connections_per_address_max = 2);
    let address = Some("192.0.2.1:5".parse().unwrap());
    let open = |broker: &mut Broker| broker.cores[0].open(broker.now, 0, address);
    let (first, second) = (open(&mut broker).unwrap(), open(&mut broker).unwrap());
    assert!(open(&mut broker).is_none());
    assert_eq!(broker.cores[0].counters().refused_at_door[Refused::AddressConnections as usize].load(), 1);
    // The first one moves to its home.
    let id = client_on(&broker, 1, "c");
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect_packet(&id, V5))), V5, &mut bytes);
    broker.cores[0].receive(broker.now, first, &bytes);
    let Some(Effect::HandOver { conn, hand_over, .. }) = broker.cores[0].poll_effect() else { panic!("handed over") };
    assert_eq!(hand_over.peer.address, address);
    let moved = broker.cores[1].adopt(broker.now, hand_over).unwrap();
    broker.cores[0].disconnected(broker.now, second, TransportEnd::EndOfStream);
    broker.cores[0].release(second);
    let second = open(&mut broker).expect("counted once, though two shards have it");
    broker.cores[0].release(conn);
    assert!(open(&mut broker).is_none(), "it counts where it is");
    broker.hang_up(Client { shard: 1, conn: moved, version: V5 });
    let third = open(&mut broker).unwrap();
    assert!(open(&mut broker).is_none());
    for conn in [second, third] {
        broker.cores[0].disconnected(broker.now, conn, TransportEnd::EndOfStream);
        broker.cores[0].release(conn);
    }
    assert!(open(&mut broker).is_some() && open(&mut broker).is_some() && open(&mut broker).is_none());
}

#[test]
fn a_hand_over_that_is_lost_gives_back_what_was_counted() {
    let (mut broker, _) = guarded(2, |config| config.guard.connections_per_address_max = 1);
    let address = Some("192.0.2.1:5".parse().unwrap());
    let first = broker.cores[0].open(broker.now, 0, address).unwrap();
    let id = client_on(&broker, 1, "c");
    let mut bytes = Vec::new();
    encode(&Packet::Connect(Box::new(connect_packet(&id, V5))), V5, &mut bytes);
    broker.cores[0].receive(broker.now, first, &bytes);
    let Some(Effect::HandOver { conn, hand_over, .. }) = broker.cores[0].poll_effect() else { panic!("handed over") };
    broker.cores[0].release(conn);
    assert!(broker.cores[0].open(broker.now, 0, address).is_none(), "it is on its way");
    drop(hand_over);
    assert_eq!(broker.cores[0].shared.connections.load(Relaxed), 0);
    assert!(broker.cores[0].open(broker.now, 0, address).is_some());
}

#[test]
fn whoever_finds_the_house_full_is_counted_and_takes_no_place() {
    let (mut broker, guard) = guarded(1, |config| {
        config.limits.connections_max = 1;
        config.listeners[0].connections_max = 2;
    });
    let first = broker.cores[0].open(broker.now, 0, None).unwrap();
    assert!((0..5).all(|_| broker.cores[0].open(broker.now, 0, None).is_none()));
    assert_eq!(broker.cores[0].counters().refused_at_door[Refused::Connections as usize].load(), 5);
    assert!(guard.enter(broker.now, 0, None, false).is_ok(), "the listener's own count is as it was");
    broker.hang_up(Client { shard: 0, conn: first, version: V5 });
    assert!(broker.cores[0].open(broker.now, 0, None).is_some());
}

#[test]
fn an_address_that_a_proxy_tells_is_held_to_its_limits_too() {
    let (mut broker, _) = guarded(1, |config| config.guard.connections_per_address_max = 1);
    let peer = || Peer { address: Some("192.0.2.1:5".parse().unwrap()), ..Peer::default() };
    let open = |broker: &mut Broker| {
        let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
        broker.cores[0].identify(conn, peer());
        (conn, broker.cores[0].live(conn).is_some())
    };
    let (first, second) = (open(&mut broker), open(&mut broker));
    assert!(first.1 && !second.1);
    broker.cores[0].release(second.0);
    broker.cores[0].disconnected(broker.now, first.0, TransportEnd::EndOfStream);
    broker.cores[0].release(first.0);
    assert!(open(&mut broker).1);
}

#[test]
fn a_user_has_no_more_connections_than_he_may_and_gets_them_back() {
    let (mut broker, _) = guarded(1, |config| config.guard.connections_per_user_max = 1);
    let packet = |id| Connect { user_name: Some("u"), ..connect_packet(id, V5) };
    let first = broker.connect_as(packet("a"));
    assert_eq!(connect_told(&mut broker, packet("b")), ["CONNACK 151 false"]);
    assert_eq!(connect_told(&mut broker, packet("a")), ["CONNACK 0 true"], "a client may take its own place");
    assert_eq!(connect_told(&mut broker, packet("b")), ["CONNACK 151 false"]);
    broker.cores[0].release(first.conn);
    let second = broker.connect_as(packet("a"));
    broker.hang_up(second);
    assert_eq!(connect_told(&mut broker, packet("b")), ["CONNACK 0 false"]);
}

#[test]
fn a_takeover_that_fails_gives_the_user_no_connection_more() {
    let (mut broker, _) = guarded(1, |config| config.guard.connections_per_user_max = 1);
    let packet = |id| Connect { user_name: Some("u"), ..connect_packet(id, V5) };
    let first = broker.connect_as(packet("a"));
    let mut small = packet("a");
    small.properties.maximum_packet_size = Some(2);
    assert!(connect_told(&mut broker, small).is_empty(), "no CONNACK is so small");
    assert!(broker.cores[0].live(first.conn).is_some(), "nobody took it over");
    assert_eq!(connect_told(&mut broker, packet("b")), ["CONNACK 151 false"]);
}

#[test]
fn identifiers_and_filters_that_are_not_allowed_are_refused_with_the_codes_of_the_specification() {
    let (mut broker, _) = guarded(1, |config| {
        config.guard.client_ids = vec![Glob::new("ok-*").unwrap()];
        config.limits.wildcard_depth_min = 1;
    });
    assert_eq!(connect_told(&mut broker, connect_packet("no", V5)), ["CONNACK 133 false"]);
    assert_eq!(connect_told(&mut broker, connect_packet("", V5)), ["CONNACK 0 false"], "one that the server gives");
    for (version, refused) in [(V5, 0xA2), (ProtocolVersion::V311, 0x80)] {
        let client = broker.connect("ok-1", version);
        broker.read(client);
        for (filter, code) in [("#", refused), ("+/#", refused), ("$share/g/#", refused), ("a/#", 0), ("a", 0)] {
            broker.subscribe(client, filter, QoS::AtMostOnce);
            assert_eq!(broker.read(client), [format!("SUBACK [{code}]")], "{filter}");
        }
    }
    assert_eq!(broker.cores[0].counters().shallow_wildcards.load(), 6);
}

/// Lets everybody in, in this role.
struct Role(&'static str, Vec<ConnId>);

impl Authenticator for Role {
    fn ask(&mut self, conn: ConnId, _: Question) -> Result<(), Busy> {
        self.1.push(conn);
        Ok(())
    }
    fn poll(&mut self) -> Option<(ConnId, Verdict)> {
        let principal = Principal { user: Some("u".into()), roles: vec![self.0.into()], ..Principal::default() };
        Some((self.1.pop()?, Verdict::Allow { principal: Box::new(principal), data: Vec::new() }))
    }
    fn forget(&mut self, _: ConnId) {}
}

#[test]
fn identifiers_are_held_against_the_profile_of_who_a_client_turned_out_to_be() {
    for (role, user) in [(Some("sensor"), None), (None, Some("u"))] {
        let (mut broker, _) = guarded(1, |config| {
            let limits = ClientLimits { client_ids: Some(vec![Glob::new("s-*").unwrap()]), ..ClientLimits::default() };
            let (role, user) = (role.map(str::to_owned), user.map(|user| Glob::new(user).unwrap()));
            config.guard.profiles = vec![Profile { role, user, limits, ..Profile::default() }];
        });
        let core = broker.cores.remove(0).with_authenticator(Box::new(Role("sensor", Vec::new())));
        broker.cores.push(core);
        for (client_id, told) in [("admin-1", "CONNACK 133 false"), ("s-1", "CONNACK 0 false")] {
            let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
            let client = Client { shard: 0, conn, version: V5 };
            // It says nothing of its user: that comes out of its token, or its certificate.
            broker.send(client, &Packet::Connect(Box::new(connect_packet(client_id, V5))));
            broker.cores[0].attend(broker.now);
            assert_eq!(broker.read(client), [told], "{client_id}");
        }
    }
}

#[test]
fn rules_see_the_common_name_of_a_certificate_whatever_method_let_its_client_in() {
    let mut broker = Broker::new(1);
    let core = broker.cores.remove(0).with_authenticator(Box::new(Role("r", Vec::new())));
    broker.cores.push(core);
    let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
    let certificate = Certificate { common_name: Some("device-1".to_owned()), ..Certificate::default() };
    broker.cores[0].identify(conn, Peer { address: None, certificate: Some(Box::new(certificate)) });
    let client = Client { shard: 0, conn, version: V5 };
    broker.send(client, &Packet::Connect(Box::new(connect_packet("c", V5))));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.read(client), ["CONNACK 0 false"]);
    let slot = broker.cores[0].find_client("c").unwrap();
    let name = |core: &Core| core.sessions[slot].access.as_ref().unwrap().principal.common_name.clone();
    assert_eq!(name(&broker.cores[0]).as_deref(), Some("device-1"));
    // Authenticated again.
    broker.cores[0].take_principal(slot, Principal { user: Some("u".into()), ..Principal::default() });
    assert_eq!(name(&broker.cores[0]).as_deref(), Some("device-1"));
}

#[test]
fn a_connect_that_waits_for_its_answer_counts_as_memory_until_then() {
    for leaves in [false, true] {
        let mut broker = Broker::new(1);
        let core = broker.cores.remove(0).with_authenticator(Box::new(Role("r", Vec::new())));
        broker.cores.push(core);
        let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
        let client = Client { shard: 0, conn, version: V5 };
        let password = [b'x'; 60_000];
        let packet = Connect { user_name: Some("u"), password: Some(&password), ..connect_packet("c", V5) };
        broker.send(client, &Packet::Connect(Box::new(packet)));
        assert!(broker.cores[0].counters().reassembly_bytes.load() > 120_000, "and what is asked about has a copy");
        match leaves {
            true => broker.cores[0].disconnected(broker.now, conn, TransportEnd::Error(libc::ECONNRESET)),
            false => broker.cores[0].attend(broker.now),
        }
        assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
    }
}

#[test]
fn publications_to_very_deep_topics_are_counted_for_the_operator() {
    let (mut broker, _) = guarded(2, |_| {});
    let subscriber = broker.connect(&client_on(&broker, 1, "s"), V5);
    broker.subscribe(subscriber, "#", QoS::AtMostOnce);
    let before = broker.cores[1].counters().anti_patterns.load();
    let publisher = broker.connect(&client_on(&broker, 0, "p"), V5);
    let deep = "a/".repeat(16);
    for topic in ["a/b/c", &deep[2..], &deep, &deep] {
        broker.publish(publisher, topic, QoS::AtMostOnce, 0, b"x");
    }
    // Once for a topic that is published to again and again; and not again where it is delivered.
    let counted = [0, 1].map(|shard: usize| broker.cores[shard].counters().anti_patterns.load());
    assert_eq!(counted, [1, before]);
}

#[test]
fn subscriptions_to_everything_are_counted_for_the_operator() {
    let (mut broker, _) = guarded(1, |_| {});
    let client = broker.connect("c", V5);
    broker.subscribe(client, "#", QoS::AtMostOnce);
    broker.subscribe(client, &"/".repeat(20), QoS::AtMostOnce);
    broker.subscribe(client, "a/b", QoS::AtMostOnce);
    assert_eq!(broker.cores[0].counters().anti_patterns.load(), 2);
}

#[test]
fn a_profile_gives_some_clients_other_limits() {
    let (mut broker, _) = guarded(1, |config| {
        let limits = ClientLimits { queue_messages_max: Some(2), keep_alive_min: Some(10), ..ClientLimits::default() };
        config.guard.profiles =
            vec![Profile { client_id: Some(Glob::new("small*").unwrap()), limits, ..Profile::default() }];
    });
    for (id, keep_alive) in [("small", 10), ("large", 3)] {
        let client = broker.connect_as(Connect { keep_alive: 3, ..connect_packet(id, V5) });
        assert_eq!(broker.cores[0].wire.conns[client.conn.slot].keep_alive, keep_alive);
        broker.subscribe(client, id, QoS::AtLeastOnce);
        broker.hang_up(client);
    }
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    for packet_id in 1..=3 {
        broker.publish(publisher, "small", QoS::AtLeastOnce, packet_id, b"");
        broker.publish(publisher, "large", QoS::AtLeastOnce, packet_id + 10, b"");
    }
    let told = broker.read(publisher);
    assert_eq!(told[..4], ["PUBACK 1 0", "PUBACK 11 0", "PUBACK 2 0", "PUBACK 12 0"]);
    assert_eq!(told[4..], ["PUBACK 3 151", "PUBACK 13 0"]);
}

#[test]
fn short_memory_refuses_connections_then_slows_then_refuses_and_lets_go_again() {
    let (mut broker, guard) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::AtLeastOnce);
    broker.hang_up(subscriber);
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    let (mut refused_from, mut slowed_from, mut denied_from) = (0, 0, 0);
    for packet_id in 1..=120 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, &[b'x'; 1000]);
        slowed_from =
            if slowed_from == 0 && effects(&mut broker).iter().any(is_pause) { packet_id } else { slowed_from };
        let code = broker.read(publisher).pop().unwrap();
        denied_from = if denied_from == 0 && code.ends_with("151") { packet_id } else { denied_from };
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
        let refuses = guard.gauge().level() >= Pressure::RefuseConnections;
        refused_from = if refused_from == 0 && refuses { packet_id } else { refused_from };
    }
    assert!(
        0 < refused_from && refused_from < slowed_from && slowed_from < denied_from,
        "{refused_from} {slowed_from} {denied_from}"
    );
    assert!(broker.cores[0].counters().queued_bytes.load() <= 100_000, "the budget is kept");
    assert_eq!(broker.cores[0].counters().pressure.load(), 4);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 137 false"]);
    // The session ends, and everything in it.
    broker.pass(Duration::from_secs(101));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].counters().pressure.load(), 0);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 0 false"]);
    broker.check();
}

/// A broker whose memory is full of what waits for a client that is away.
fn filled_by(subscriber: &str, shards: u16) -> Broker {
    let (mut broker, _) = guarded(shards, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let client = broker.connect(subscriber, V5);
    broker.subscribe(client, "t", QoS::AtLeastOnce);
    broker.read(client);
    broker.hang_up(client);
    let publisher = broker.connect(&client_on(&broker, 0, "p"), V5);
    for packet_id in 1..=100 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, &[b'x'; 1000]);
        broker.read(publisher);
        broker.pass(Duration::from_millis(200));
        broker.cores.iter_mut().for_each(|core| core.attend(broker.now));
    }
    assert_eq!(broker.cores[0].counters().pressure.load(), Pressure::RefuseQos as u64);
    broker
}

#[test]
fn a_client_whose_queue_fills_the_memory_comes_back_to_take_it_and_nobody_else_comes_in() {
    let mut broker = filled_by("s", 1);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 137 false"]);
    let anew = Connect { clean_start: true, ..connect_packet("s", V5) };
    assert_eq!(connect_told(&mut broker, anew), ["CONNACK 137 false"], "nor does it begin anew");
    assert_eq!(broker.cores[0].counters().refused_at_door[Refused::Memory as usize].load(), 2);
    let client = broker.connect("s", V5);
    let told = broker.read(client);
    assert_eq!(told[0], "CONNACK 0 true");
    for packet_id in 1..told.len() as u16 {
        broker.send(client, &Packet::PubAck(Ack { packet_id, ..Ack::default() }));
    }
    broker.read(client);
    broker.pass(Duration::from_secs(2));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].counters().pressure.load(), 0);
    assert_eq!(connect_told(&mut broker, connect_packet("new", V5)), ["CONNACK 0 false"]);
    broker.check();
}

#[test]
fn who_is_turned_away_for_want_of_memory_takes_no_place_from_who_comes_after_him() {
    let ids = ["new", "s"].map(|name| client_on(&Broker::new(2), 1, name));
    let mut broker = filled_by(&ids[1], 2);
    for _ in 0..TRIALS_MAX + 10 {
        let refused = broker.connect(&ids[0], V5);
        assert_eq!(broker.read(refused), ["CONNACK 137 false"]);
        broker.cores[1].release(refused.conn);
    }
    // Those who say nothing hold a place, until they have had time enough.
    (0..TRIALS_MAX).for_each(|_| assert!(broker.cores[0].open(broker.now, 0, None).is_some()));
    assert!(broker.cores[0].open(broker.now, 0, None).is_none());
    broker.pass(Duration::from_secs(6));
    while let Some(effect) = broker.cores[0].poll_effect() {
        if let Effect::Close(conn) = effect {
            broker.cores[0].release(conn);
        }
    }
    let client = broker.connect(&ids[1], V5);
    assert_eq!(broker.read(client)[0], "CONNACK 0 true");
}

#[test]
fn what_is_sent_and_not_acknowledged_counts_for_the_budget() {
    let (mut broker, _) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let publisher = broker.connect("p", V5);
    let subscriber = broker.connect("s", V5);
    broker.subscribe(subscriber, "t", QoS::ExactlyOnce);
    let pressure = |broker: &mut Broker| {
        broker.pass(Duration::from_secs(2));
        broker.cores[0].attend(broker.now);
        broker.cores[0].counters().pressure.load()
    };
    for packet_id in 1..=75 {
        broker.publish(publisher, "t", QoS::ExactlyOnce, packet_id, &[b'x'; 900]);
        broker.read(subscriber);
        broker.read(publisher);
        broker.check();
    }
    assert_eq!(pressure(&mut broker), 1, "75 of 100 kB");
    assert_eq!(broker.cores[0].counters().output_bytes.load() + broker.cores[0].counters().queued_bytes.load(), 0);
    let ack = |packet_id| Ack { packet_id, ..Ack::default() };
    for packet_id in 1..=75 {
        broker.send(subscriber, &Packet::PubRec(ack(packet_id)));
        broker.check();
    }
    assert_eq!(pressure(&mut broker), 0, "only PUBCOMP is awaited, and no message kept for that");
    for packet_id in 1..=75 {
        broker.send(subscriber, &Packet::PubComp(ack(packet_id)));
    }
    assert_eq!(broker.cores[0].counters().inflight_bytes.load(), 0);
    broker.check();
}

#[test]
fn a_large_message_for_many_counts_once_for_the_budget_wherever_it_is_kept() {
    let (mut broker, _) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(1_000_000));
    let readers: Vec<Client> = (0..20)
        .map(|number| {
            let client = broker.connect(&format!("r{number}"), V5);
            broker.subscribe(client, "t", if number % 4 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce });
            broker.read(client);
            client
        })
        .collect();
    readers[10..].iter().for_each(|client| broker.hang_up(*client));
    let publisher = broker.connect("p", V5);
    broker.publish(publisher, "t", QoS::ExactlyOnce, 1, &[b'x'; 100_000]);
    broker.read(publisher);
    let counted = |broker: &mut Broker| {
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
        assert_eq!(broker.cores[0].counters().pressure.load(), 0, "it is a tenth of the budget");
        broker.check();
        broker.cores[0].counters().message_bytes()
    };
    let once = 100_000..110_000;
    assert!(once.contains(&counted(&mut broker)), "in queues, in flight, in output");
    let (first, rest) = readers[..10].split_first().unwrap();
    rest.iter().for_each(|client| drop(broker.read(*client)));
    assert!(once.contains(&counted(&mut broker)), "one has not read it");
    broker.read(*first);
    assert!(once.contains(&counted(&mut broker)), "nobody has acknowledged it");
    for client in &readers[..10] {
        broker.send(*client, &Packet::PubAck(Ack { packet_id: 1, ..Ack::default() }));
        broker.send(*client, &Packet::PubRec(Ack { packet_id: 1, ..Ack::default() }));
    }
    assert!(once.contains(&counted(&mut broker)), "it waits in queues");
    // One comes and is gone again, with the message in its output; the others' sessions end.
    let back = broker.connect("r11", V5);
    assert!(once.contains(&counted(&mut broker)));
    broker.hang_up(back);
    assert!(once.contains(&counted(&mut broker)));
    broker.pass(Duration::from_secs(101));
    readers[..10].iter().for_each(|client| drop(broker.read(*client)));
    broker.read(publisher);
    assert!(counted(&mut broker) < 3000, "{:?}", broker.cores[0].counters());
    assert_eq!(broker.cores[0].counters().shared_bytes.load(), 0);
}

#[test]
fn empty_messages_count_for_the_limits_in_bytes() {
    let (mut broker, _) = guarded(1, |config| {
        config.limits.queue_bytes_max = 10 * (message::OVERHEAD + 6);
        config.limits.memory_budget = MemoryBudget::Bytes(1900);
    });
    let away = broker.connect("away", V5);
    broker.subscribe(away, "t", QoS::AtLeastOnce);
    broker.hang_up(away);
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    // The body of its packet is 6 bytes: a topic, a packet identifier, no properties.
    (1..=20).for_each(|packet_id| broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b""));
    let counters = broker.cores[0].counters();
    assert_eq!(counters.queued.load(), 10);
    let refused = counters.dropped[counters::DropReason::QueueBytes as usize].load();
    assert_eq!(refused, 10);
    broker.read(publisher);
    broker.pass(Duration::from_millis(200));
    broker.cores[0].attend(broker.now);
    assert_eq!(broker.cores[0].counters().pressure.load(), 1, "1340 of 1900 bytes");
}

#[test]
fn topic_aliases_count_for_the_budget_both_ways_and_until_their_connection_ends() {
    let (mut broker, _) = guarded(1, |_| {});
    let properties = ConnectProperties { topic_alias_maximum: Some(10), ..ConnectProperties::default() };
    let subscriber = broker.connect_as(Connect { properties, ..connect_packet("s", V5) });
    broker.subscribe(subscriber, "#", QoS::AtMostOnce);
    let publisher = broker.connect("p", V5);
    let counted = |broker: &Broker| broker.cores[0].counters().alias_bytes.load();
    let topic = "x".repeat(1000);
    for (topic, least) in [(&*topic, 2000), ("y", 1000), (&*topic, 2000)] {
        let head = PublishHead { topic, topic_alias: Some(3), ..PublishHead::default() };
        broker.publish_head(publisher, head, b"");
        broker.read(subscriber);
        assert!((least..least + 300).contains(&counted(&broker)), "{}", counted(&broker));
    }
    broker.hang_up(subscriber);
    assert!((1000..1100).contains(&counted(&broker)));
    broker.hang_up(publisher);
    assert_eq!(counted(&broker), 0);
}

#[test]
fn what_is_published_at_qos_0_keeps_to_the_memory_budget_too() {
    for retain in [true, false] {
        let (mut broker, _) = guarded(1, |config| {
            config.limits.memory_budget = MemoryBudget::Bytes(100_000);
            config.mqtt.queue_qos0_offline = true;
        });
        let away = broker.connect("away", V5);
        if !retain {
            broker.subscribe(away, "#", QoS::AtMostOnce);
        }
        broker.hang_up(away);
        let publisher = broker.connect("p", V5);
        for number in 0..200 {
            let topic = format!("t/{number}");
            let head = PublishHead { topic: &topic, retain, ..PublishHead::default() };
            broker.publish_head(publisher, head, &[b'x'; 1000]);
            broker.pass(Duration::from_millis(200));
            broker.cores[0].attend(broker.now);
        }
        let counters = broker.cores[0].counters();
        assert!((90_000..=100_000).contains(&counters.message_bytes()), "{retain}: {}", counters.message_bytes());
        let dropped = counters.dropped[counters::DropReason::Memory as usize].load();
        let refused = if retain { counters.retained_refused.load() } else { dropped };
        assert!(refused > 90, "{retain}: what was not taken is counted, {refused}");
        broker.check();
    }
}

#[test]
fn wills_count_against_the_memory_budget() {
    let (mut broker, guard) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(1_000_000));
    let payload = vec![b'x'; 60_000];
    let will = Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "w",
        payload: &payload,
        delay_interval: 50,
        properties: Default::default(),
    };
    let packet = |id| Connect { will: Some(will.clone()), ..connect_packet(id, V5) };
    let ids: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    let mut clients = Vec::new();
    for id in &ids {
        if guard.gauge().level() >= Pressure::RefuseConnections {
            break;
        }
        clients.push(broker.connect_as(packet(id)));
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
    }
    assert_eq!(clients.len(), 12, "12 of them are 70 % of the budget");
    // One leaves in peace, the others' are published when their delay has passed.
    broker.send(clients[0], &Packet::Disconnect(Default::default()));
    broker.check();
    clients[1..].iter().for_each(|client| broker.hang_up(*client));
    broker.check();
    broker.pass(Duration::from_secs(51));
    assert_eq!(broker.cores[0].counters().will_bytes.load(), 0);
    broker.check();
}

#[test]
fn filters_count_against_the_memory_budget_once_and_are_refused_at_its_end() {
    let (mut broker, guard) = guarded(1, |config| config.limits.memory_budget = MemoryBudget::Bytes(100_000));
    let [client, other] = ["c", "o"].map(|id| broker.connect(id, V5));
    broker.read(client);
    let filters: Vec<String> = (0..200).map(|number| format!("{}/{number}", "x".repeat(900))).collect();
    let mut told = Vec::new();
    for filter in &filters {
        broker.subscribe(client, filter, QoS::AtMostOnce);
        told.extend(broker.read(client));
        broker.pass(Duration::from_millis(200));
        broker.cores[0].attend(broker.now);
    }
    let granted = told.iter().filter(|told| *told == "SUBACK [0]").count();
    assert!((80..100).contains(&granted) && told.last().is_some_and(|told| told == "SUBACK [151]"), "{granted}");
    assert_eq!(guard.gauge().level(), Pressure::RefuseQos);
    // Again, and with other options: it costs nothing.
    broker.subscribe(client, &filters[0], QoS::AtLeastOnce);
    assert_eq!(broker.read(client), ["SUBACK [1]"]);
    for filter in &filters[..20] {
        broker.unsubscribe(client, filter);
    }
    broker.pass(Duration::from_secs(2));
    broker.cores[0].attend(broker.now);
    let before = broker.cores[0].counters().filter_bytes.load();
    broker.subscribe(other, &filters[50], QoS::AtMostOnce);
    assert_eq!(broker.cores[0].counters().filter_bytes.load(), before, "one filter is kept once");
    broker.subscribe(other, "$share/g/a", QoS::AtMostOnce);
    assert!(broker.cores[0].counters().filter_bytes.load() > before);
    [client, other].into_iter().for_each(|client| broker.hang_up(client));
    broker.pass(Duration::from_secs(101));
    assert_eq!(broker.cores[0].counters().filter_bytes.load(), 0);
}

#[test]
fn one_reader_that_stops_costs_the_others_nothing() {
    let (mut broker, _) = guarded(1, |config| config.guard.slow_after = Duration::from_secs(10));
    let [reads, stops] = ["reads", "stops"].map(|id| {
        let client = broker.connect(id, V5);
        broker.subscribe(client, "t", QoS::AtMostOnce);
        broker.read(client);
        client
    });
    let publisher = broker.connect("p", V5);
    let mut got = 0;
    for _ in 0..3000 {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
        got += broker.read(reads).len();
    }
    let counters = broker.cores[0].shared.counters[0].clone();
    assert_eq!(got, 3000, "the other reader gets everything");
    assert_eq!(counters.pauses.load(), 0, "and the publisher never waits");
    let dropped = counters.dropped[counters::DropReason::SlowReader as usize].load();
    assert!((1900..2000).contains(&dropped), "what the slow one cannot hold is its own loss: {dropped}");
    assert_eq!(counters.slow_readers.load(), 1);
    broker.pass(Duration::from_secs(12));
    let listed = broker.cores[0].slow_readers(10);
    assert_eq!(listed.iter().map(|slow| &*slow.client_id).collect::<Vec<_>>(), ["stops"]);
    assert!(listed[0].bytes >= 1 << 20 && listed[0].waiting >= Duration::from_secs(10), "{listed:?}");
    broker.read(stops);
    assert_eq!(counters.slow_readers.load(), 0);
    broker.check();
}

/// What the driver has to do for one round of publications to many readers.
fn work_for_readers(with_one_that_stops: bool) -> (Vec<usize>, usize, [u64; 4]) {
    let (mut broker, _) = guarded(1, |_| {});
    let readers: Vec<Client> = (0..50)
        .map(|number| {
            let client = broker.connect(&format!("r{number}"), V5);
            broker.subscribe(client, "t", QoS::AtMostOnce);
            broker.read(client);
            client
        })
        .collect();
    let publisher = broker.connect("p", V5);
    broker.read(publisher);
    if with_one_that_stops {
        let stops = broker.connect("stops", V5);
        broker.subscribe(stops, "t", QoS::AtMostOnce);
        let mut sent = 0;
        while broker.cores[0].wire.has_room(stops.conn.slot) {
            broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
            sent += 1;
        }
        // The kernel has what fits into its socket, and is asked to send no more: nothing is dirty.
        broker.cores[0].take_output(stops.conn);
        assert!(sent > 1000);
        readers.iter().for_each(|reader| drop(broker.read(*reader)));
    }
    effects(&mut broker);
    while broker.cores[0].poll_dirty().is_some() {}
    let counters = broker.cores[0].shared.counters[0].clone();
    let figures = || {
        [&counters.packets_sent, &counters.publish_sent, &counters.pauses, &counters.delivered]
            .map(|counter| counter.load())
    };
    let before = figures();
    let (mut dirty, mut asked) = (Vec::new(), 0);
    for _ in 0..100 {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
        dirty.push(std::iter::from_fn(|| broker.cores[0].poll_dirty()).count());
        readers.iter().for_each(|reader| assert_eq!(broker.read(*reader).len(), 1));
        asked += effects(&mut broker).len();
    }
    let after = figures();
    (dirty, asked, std::array::from_fn(|at| after[at] - before[at]))
}

#[test]
fn one_reader_that_stops_gives_the_driver_nothing_more_to_do() {
    let (without, with) = (work_for_readers(false), work_for_readers(true));
    assert_eq!(without, (vec![50; 100], 0, [5000, 5000, 0, 5000]));
    assert_eq!(with, without);
}

#[test]
fn the_slowest_readers_of_all_shards_are_listed_among_the_figures_and_taken_off() {
    let mut broker = guarded_with_sys(2, |_| {});
    let ids = [0, 1].map(|shard| client_on(&broker, shard, "slow"));
    let slow = ids.each_ref().map(|id| broker.connect(id, V5));
    slow.iter().for_each(|client| broker.subscribe(*client, "t", QoS::AtMostOnce));
    broker.subscribe(slow[1], "u", QoS::AtMostOnce);
    let publisher = broker.connect("p", V5);
    for _ in 0..1100 {
        broker.publish(publisher, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
    }
    let watcher = broker.connect(&client_on(&broker, 0, "w"), V5);
    broker.subscribe(watcher, "$SYS/broker/clients/slow/+", QoS::AtMostOnce);
    let told = |broker: &mut Broker| {
        broker.pass(Duration::from_secs(20));
        let told = broker.read(watcher);
        told.into_iter().filter(|line| line.starts_with("PUBLISH")).collect::<Vec<_>>()
    };
    let listed = told(&mut broker);
    let of = |id: &str, rank| {
        let line = |told: &&String| told.contains(id) && told.contains(&format!("clients/slow/{rank} "));
        listed.iter().rfind(line).is_some_and(|line| line.contains("\"bytes\":10") && line.contains("\"seconds\":"))
    };
    assert!(ids.iter().all(|id| of(id, 1) || of(id, 2)), "{listed:?}");
    assert!(!listed.iter().any(|line| line.contains("slow/3")), "{listed:?}");
    slow.iter().for_each(|client| drop(broker.read(*client)));
    let gone = told(&mut broker);
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert!(gone.iter().all(|line| line.ends_with("r0 ")), "an empty message takes one away: {gone:?}");
    assert!(broker.cores[0].slowest_of_all().is_empty());
}

#[test]
fn a_client_that_takes_messages_and_never_acknowledges_them_is_a_slow_reader_too() {
    let (mut broker, _) = guarded(1, |config| config.limits.queue_messages_max = 100);
    let silent = broker.connect("silent", V5);
    broker.subscribe(silent, "t", QoS::AtLeastOnce);
    let publisher = broker.connect("p", V5);
    let counters = broker.cores[0].shared.counters[0].clone();
    for packet_id in 1..=128 + 50 {
        broker.publish(publisher, "t", QoS::AtLeastOnce, packet_id, b"x");
        broker.read(silent);
    }
    assert_eq!(counters.slow_readers.load(), 0, "the queue is for such moments");
    broker.publish(publisher, "t", QoS::AtLeastOnce, 1000, b"x");
    assert_eq!(counters.slow_readers.load(), 1);
    assert_eq!(&*broker.cores[0].slow_readers(1)[0].client_id, "silent");
    for packet_id in 1..=100 {
        broker.send(silent, &Packet::PubAck(crate::codec::Ack { packet_id, ..Default::default() }));
        broker.read(silent);
    }
    assert_eq!(counters.slow_readers.load(), 0);
    broker.check();
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines that are logged meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_operator_reads_of_anti_patterns_and_slow_readers_in_lines_of_bounded_length() {
    let long = "x".repeat(250);
    let lines = logged(|| {
        let (mut broker, _) = guarded(1, |_| {});
        let client = broker.connect(&long, V5);
        broker.subscribe(client, "#", QoS::AtMostOnce);
        broker.publish(client, &"deep/".repeat(150), QoS::AtMostOnce, 0, b"");
        broker.publish(client, &"deep/".repeat(100), QoS::AtMostOnce, 0, b"");
        for _ in 0..1100 {
            broker.publish(client, "t", QoS::AtMostOnce, 0, &[b'x'; 1000]);
        }
        broker.pass(Duration::from_secs(12));
        broker.read(client);
    });
    let of = |what: &str| lines.iter().filter(|line| line.contains(what) && line.contains("xxx")).count();
    assert_eq!(of("subscribes to everything"), 1, "{lines:?}");
    assert_eq!(of("very deep topics"), 1, "the one of 151 levels is refused: {lines:?}");
    let slow = lines.iter().find(|line| line.contains("reads too slowly")).expect("told");
    assert!(slow.contains("bytes=10") && slow.contains("waiting=10") && slow.contains("client_id="), "{slow}");
    assert_eq!(of("has caught up"), 1, "{lines:?}");
    assert!(lines.iter().all(|line| line.len() < 400), "{lines:?}");
}

#[test]
fn a_huge_remaining_length_before_connect_gets_no_memory_however_it_is_cut() {
    // All that can be said, and what a client that is known could send.
    for announced in [&[0x10, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0x10, 0xD0, 0x0F]] {
        for cut in 1..announced.len() {
            let (mut broker, _) = guarded(1, |config| config.limits.connect_bytes_max = 1000);
            let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
            broker.cores[0].receive(broker.now, conn, &announced[..cut]);
            broker.cores[0].receive(broker.now, conn, &announced[cut..]);
            assert!(broker.cores[0].live(conn).is_none(), "closed, cut after {cut}");
            assert_eq!(broker.cores[0].reassembly_bytes(), 0);
        }
    }
}

#[test]
fn a_connect_that_comes_drop_by_drop_holds_little_and_not_for_long() {
    let (mut broker, _) = guarded(1, |config| config.limits.connect_bytes_max = 1000);
    let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
    // 900 bytes are announced, which may come.
    broker.cores[0].receive(broker.now, conn, &[0x10, 0x84, 0x07, 0, 4, b'M', b'Q', b'T', b'T', 5]);
    for _ in 0..49 {
        broker.pass(Duration::from_millis(100));
        broker.cores[0].receive(broker.now, conn, &[0]);
        assert!(broker.cores[0].reassembly_bytes() < 1000);
    }
    assert!(broker.cores[0].live(conn).is_some());
    broker.pass(Duration::from_millis(200));
    assert!(broker.cores[0].live(conn).is_none(), "each drop does not begin the time anew");
    assert_eq!(broker.cores[0].counters().reassembly_bytes.load(), 0);
}

/// A client in the middle of a large PUBLISH that comes in pieces of so many bytes, one a second.
fn drips(bytes: usize, seconds: u64, keep_alive: u16) -> (Broker, Client) {
    let mut broker = Broker::new(1);
    let client = broker.connect_as(Connect { keep_alive, ..connect_packet("c", V5) });
    let packet = publish_bytes(V5, PublishHead { topic: "t", ..PublishHead::default() }, &[b'x'; 1_000_000]);
    for piece in packet.chunks(bytes).take(seconds as usize) {
        broker.pass(Duration::from_secs(1));
        broker.cores[0].receive(broker.now, client.conn, piece);
    }
    (broker, client)
}

#[test]
fn a_packet_that_comes_drop_by_drop_holds_its_memory_for_two_minutes_at_most() {
    for keep_alive in [0, 10, 600] {
        let (broker, client) = drips(1, 115, keep_alive);
        assert!(broker.cores[0].live(client.conn).is_some(), "it had a full minute after it was looked at first");
        let (broker, client) = drips(1, 125, keep_alive);
        assert!(broker.cores[0].live(client.conn).is_none());
        let counters = broker.cores[0].counters();
        assert_eq!(counters.ended[EndReason::PacketTimeout as usize].load(), 1);
        assert_eq!(counters.reassembly_bytes.load(), 0);
    }
}

#[test]
fn a_large_packet_may_take_longer_than_the_keep_alive_on_a_slow_link() {
    let (mut broker, client) = drips(20, 1000, 10);
    assert!(broker.cores[0].live(client.conn).is_some());
    broker.pass(Duration::from_secs(16));
    assert!(broker.cores[0].live(client.conn).is_none(), "and silence is silence in the midst of it too");
    assert_eq!(broker.cores[0].counters().ended[EndReason::KeepAliveTimeout as usize].load(), 1);
}

#[test]
fn small_packets_that_always_come_in_pieces_are_no_packet_that_stands_still() {
    let mut broker = Broker::new(1);
    let client = broker.connect("c", V5);
    let packet = publish_bytes(V5, PublishHead { topic: "t", ..PublishHead::default() }, b"x");
    for _ in 0..100 {
        for piece in packet.chunks(3) {
            broker.cores[0].receive(broker.now, client.conn, piece);
            broker.pass(Duration::from_secs(10));
        }
    }
    assert!(broker.cores[0].live(client.conn).is_some());
    assert!(broker.cores[0].wheel.len() <= 2, "one entry looks at all of them");
}

#[test]
fn thousands_of_user_properties_are_refused() {
    let (mut broker, _) = guarded(1, |_| {});
    let pair = [0x26, 0, 1, b'k', 0, 1, b'v'];
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0];
    let properties = pair.repeat(5000);
    put_varint(&mut body, properties.len());
    body.extend_from_slice(&properties);
    body.extend_from_slice(&[0, 1, b'c']);
    let mut packet = vec![0x10];
    put_varint(&mut packet, body.len());
    packet.extend_from_slice(&body);
    let conn = broker.cores[0].open(broker.now, 0, None).unwrap();
    for piece in packet.chunks(4096) {
        broker.cores[0].receive(broker.now, conn, piece);
    }
    let client = Client { shard: 0, conn, version: V5 };
    assert_eq!(broker.read(client), ["CONNACK 151 false"]);
    assert!(broker.cores[0].live(conn).is_none());
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let more = value > 127;
        out.push((value % 128) as u8 | u8::from(more) << 7);
        value /= 128;
        if !more {
            return;
        }
    }
}

#[test]
fn a_shard_that_is_behind_sheds_new_connections_and_serves_those_it_has() {
    let (mut broker, _) = guarded(1, |config| config.guard.turn_max = Some(Duration::from_millis(100)));
    let client = broker.connect("c", V5);
    broker.subscribe(client, "t", QoS::AtMostOnce);
    broker.read(client);
    broker.cores[0].worked(broker.now, Duration::from_millis(101));
    assert!(broker.cores[0].open(broker.now, 0, None).is_none());
    broker.publish(client, "t", QoS::AtMostOnce, 0, b"x");
    assert_eq!(broker.read(client).len(), 1);
    broker.now = broker.now.after(Duration::from_secs(1));
    assert!(broker.cores[0].open(broker.now, 0, None).is_some());
    assert_eq!(broker.cores[0].counters().lags.load(), 1);
}
