//! Who comes in: bans, flapping, numbers of connections, identifiers, profiles; and that each place is given back.

use super::*;

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
