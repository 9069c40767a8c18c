//! Several shards: hand-over, the mesh, start-up and its failures.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq::server::{Running, ServerConfig, StartError, start};

use crate::relay::{Counts, RelayEngine};
use crate::support::{Echo, EchoOptions, config, exchange, pattern, wait_until};

#[test]
fn every_connection_reaches_its_home_with_the_bytes_before_and_after() {
    // More shards than this machine may have CPUs.
    let mut echo = Echo::start(4, EchoOptions { shards: 4, settle_after: 10, ..EchoOptions::default() });
    let mut streams: Vec<TcpStream> = (0..64).map(|_| echo.connect()).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        let mut bytes = pattern(n, 5_000);
        bytes[0] = n as u8;
        // The home is known after ten bytes; some arrive before, some with them, some after.
        stream.write_all(&bytes[..7]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        stream.write_all(&bytes[7..600]).unwrap();
        stream.write_all(&bytes[600..]).unwrap();
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == bytes, "connection {n}");
    }
    let taken = echo.sum(|stats| &stats.adopted);
    assert!(taken > 0);
    wait_until("the givers know what was taken", || echo.sum(|stats| &stats.handed_over) == taken);
    wait_until("the givers' slots were released", || echo.watched.connections.load(Ordering::SeqCst) == 64);
    wait_until("the givers' descriptors are closed", || echo.sum(|stats| &stats.descriptors) == 64);
    for shard in &echo.stats {
        wait_until("each home holds one armed receive per connection", || shard.in_flight.load() == 16);
    }
    for stream in &mut streams {
        let bytes = pattern(9, 20_000);
        assert!(exchange(stream, &bytes) == bytes);
    }
    drop(streams);
    echo.expect_all_gone();
    echo.stop();
}

#[test]
fn a_full_table_at_home_costs_the_connections_on_their_way_and_nothing_else() {
    let config = ServerConfig { shards: 2, connections_per_shard: 8, ..config() };
    let echo = Echo::with(config, EchoOptions { shards: 2, ..EchoOptions::default() });
    let mut streams = Vec::new();
    wait_until("some find no room at their home", || {
        let mut stream = echo.connect();
        // It may be closed by now: the table of whoever accepts may be full too.
        let _ = stream.write_all(&[1; 10]);
        streams.push(stream);
        echo.sum(|stats| &stats.hand_over_errors) > 0
    });
    drop(streams);
    echo.expect_all_gone();
    wait_until("there is room again", || {
        let mut stream = echo.connect();
        let mut back = [0; 10];
        stream.write_all(&[1; 10]).is_ok() && stream.read_exact(&mut back).is_ok()
    });
}

fn relay(shards: u16, mesh_capacity: usize) -> (Running, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let engines = Arc::clone(&counts);
    let config = ServerConfig { shards, mesh_capacity, ..config() };
    let running = start(config, move |me| RelayEngine::new(me, shards, Arc::clone(&engines))).unwrap();
    (running, counts)
}

fn join_relay(running: &Running, head: [u8; 4]) -> TcpStream {
    let mut stream = TcpStream::connect(running.local_addrs()[0]).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&head).unwrap();
    stream
}

#[test]
fn a_mesh_with_little_room_slows_the_sender_and_keeps_every_byte_in_order() {
    let (running, counts) = relay(3, 4);
    std::thread::scope(|scope| {
        for pair in 0..6u8 {
            let homes = [pair % 3, (pair + 1 + pair / 3) % 3];
            let mut left = join_relay(&running, [homes[0], homes[1], pair, 0]);
            let mut right = join_relay(&running, [homes[1], homes[0], pair, 1]);
            scope.spawn(move || {
                let bytes = pattern(pair.into(), 2 << 20);
                std::thread::scope(|scope| {
                    scope.spawn(|| left.write_all(&bytes).unwrap());
                    let mut there = vec![0; bytes.len()];
                    right.read_exact(&mut there).unwrap();
                    assert!(there == bytes, "pair {pair}");
                });
                right.write_all(b"thanks").unwrap();
                let mut thanks = [0; 6];
                left.read_exact(&mut thanks).unwrap();
                assert_eq!(&thanks, b"thanks");
            });
        }
    });
    assert!(counts.blocked.load(Ordering::SeqCst) > 0, "the mesh must have been full");
    wait_until("all are gone", || counts.connections.load(Ordering::SeqCst) == 0);
    let sent: u64 = running.stats().iter().map(|stats| stats.mesh_sent.load()).sum();
    assert!(sent > 6 * (2 << 20) / 64);
    running.stop();
    running.join();
}

#[test]
fn a_message_wakes_a_parked_shard_at_once() {
    let (running, _) = relay(2, 64);
    let mut left = join_relay(&running, [0, 1, 0, 0]);
    let mut right = join_relay(&running, [1, 0, 0, 1]);
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(5));
        let begin = std::time::Instant::now();
        left.write_all(b"ping").unwrap();
        let mut back = [0; 4];
        right.read_exact(&mut back).unwrap();
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "a shard slept through a message for {slowest:?}");
    let wakes: u64 = running.stats().iter().map(|stats| stats.wakes.load()).sum();
    assert!(wakes >= 40, "{wakes} wakes for 50 messages to a sleeping shard");
    drop((left, right));
    running.stop();
    running.join();
}

#[test]
fn a_taken_port_is_named_and_nothing_is_left_running() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = ServerConfig { listeners: vec![config().listeners[0].clone(), address.into()], ..config() };
    let error = start(config, |me| RelayEngine::new(me, 1, Arc::default())).err().expect("the port is taken");
    assert!(matches!(&error, StartError::Listen { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.to_string().contains("another broker"), "{error}");
}

#[test]
fn a_shard_that_panics_takes_the_process_with_it() {
    const ROLE: &str = "RINGMQ_TEST_SHARD_PANIC";
    if std::env::var_os(ROLE).is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "shards::a_shard_that_panics_takes_the_process_with_it";
        let output = child.args(["--exact", test, "--nocapture"]).env(ROLE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{said}");
        assert!(said.contains("panicked at"), "{said}");
        return;
    }
    let echo =
        Echo::with(ServerConfig { shards: 2, ..config() }, EchoOptions { panic_on: Some(7), ..EchoOptions::default() });
    echo.connect().write_all(&[7]).unwrap();
    // Long enough for the shard, and then the test fails as the child ends in order.
    std::thread::sleep(Duration::from_secs(5));
    std::process::exit(0);
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let config = ServerConfig { cpus: vec![0, 4711], ..config() };
    let error = start(config, |me| RelayEngine::new(me, 1, Arc::default())).err().expect("no such CPU");
    assert!(error.to_string().contains("CPU 4711"), "{error}");
}

#[test]
fn a_shard_that_cannot_be_set_up_ends_the_others() {
    let mut config = ServerConfig { shards: 3, ..config() };
    // More entries than a completion queue may have, even clamped, as it is below the submission queue.
    config.driver.queues.submission = 64;
    config.driver.queues.completion = 1;
    let counts = Arc::new(Counts::default());
    let engines = Arc::clone(&counts);
    let error = start(config, move |me| RelayEngine::new(me, 3, Arc::clone(&engines))).err().expect("refused");
    assert!(matches!(&error, StartError::Shard { .. }), "{error}");
    assert_eq!(Arc::strong_count(&counts), 1, "no thread holds an engine any more");
}
