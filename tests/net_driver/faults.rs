//! What the kernel and the peers may do to a driver.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq::net::driver::DriverConfig;
use ringmq::net::ring::QueueSizes;
use ringmq::server::ServerConfig;
use socket2::SockRef;

use crate::support::{Echo, EchoOptions, config, exchange, pattern, wait_until};

fn with_driver(change: impl FnOnce(&mut DriverConfig)) -> ServerConfig {
    let mut config = config();
    change(&mut config.driver);
    config
}

/// Every stream sends its own bytes at the same time and must get them back.
fn all_exchange(streams: &mut [TcpStream], len: usize) {
    std::thread::scope(|scope| {
        for (n, stream) in streams.iter_mut().enumerate() {
            scope.spawn(move || {
                let bytes = pattern(n, len);
                assert!(exchange(stream, &bytes) == bytes, "connection {n}");
            });
        }
    });
}

#[test]
fn a_reset_in_the_middle_of_traffic_ends_that_connection_alone() {
    let echo = Echo::start(1, EchoOptions::default());
    let mut bystander = echo.connect();
    for round in 0..20 {
        let mut victim = echo.connect();
        victim.write_all(&pattern(round, 500_000)).unwrap();
        SockRef::from(&victim).set_linger(Some(Duration::ZERO)).unwrap();
        drop(victim);
        let bytes = pattern(round, 5_000);
        assert!(exchange(&mut bystander, &bytes) == bytes);
    }
    drop(bystander);
    echo.expect_all_gone();
    assert_eq!(echo.watched.disconnected.load(Ordering::SeqCst), 21);
    assert!(echo.watched.resets.load(Ordering::SeqCst) >= 19);
}

#[test]
fn an_engine_that_lets_the_end_of_a_stream_be_is_told_of_the_reset_that_follows() {
    let echo = Echo::start(1, EchoOptions { outlive_end: true, pause_above: usize::MAX, ..EchoOptions::default() });
    let mut half_closed = echo.connect();
    half_closed.write_all(&pattern(1, 10_000_000)).unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    wait_until("the end is seen", || echo.watched.disconnected.load(Ordering::SeqCst) == 1);
    assert_eq!(echo.watched.connections.load(Ordering::SeqCst), 1);
    // Its output was not read: the send in flight fails.
    SockRef::from(&half_closed).set_linger(Some(Duration::ZERO)).unwrap();
    drop(half_closed);
    echo.expect_all_gone();
}

#[test]
fn two_receive_buffers_serve_a_hundred_busy_connections() {
    let config = with_driver(|driver| {
        driver.buffers = 2;
        driver.buffer_size = 512;
    });
    let echo = Echo::with(config, EchoOptions::default());
    let mut streams: Vec<TcpStream> = (0..100).map(|_| echo.connect()).collect();
    all_exchange(&mut streams, 50_000);
    assert!(echo.sum(|stats| &stats.no_buffers) > 0, "the buffers must have run out");
    drop(streams);
    echo.expect_all_gone();
}

#[test]
fn a_completion_queue_that_overflows_loses_nothing() {
    let config = with_driver(|driver| driver.queues = QueueSizes { submission: 4, completion: 8 });
    let echo = Echo::with(config, EchoOptions::default());
    let mut streams: Vec<TcpStream> = (0..200).map(|_| echo.connect()).collect();
    all_exchange(&mut streams, 20_000);
    assert!(echo.sum(|stats| &stats.overflows) > 0, "the queue must have overflowed");
    drop(streams);
    echo.expect_all_gone();
}

#[test]
fn five_thousand_connections_come_and_go_in_a_burst() {
    let echo = Echo::start(2, EchoOptions { shards: 2, ..EchoOptions::default() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let echo = &echo;
            scope.spawn(move || {
                for n in 0..1250 {
                    let mut stream = echo.connect();
                    // A third says nothing, a third something, a third leaves with a reset.
                    if n % 3 > 0 {
                        stream.write_all(&[thread, n as u8]).unwrap();
                    }
                    if n % 3 == 2 {
                        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    }
                }
            });
        }
    });
    wait_until("all were seen", || echo.sum(|stats| &stats.accepts) == 5_000);
    echo.expect_all_gone();
    assert_eq!(echo.sum(|stats| &stats.closed), 5_000 + echo.sum(|stats| &stats.adopted));
    assert_eq!(echo.sum(|stats| &stats.handed_over), echo.sum(|stats| &stats.adopted));
}

#[test]
fn taking_leave_of_one_connection_never_shuts_another_down() {
    let echo = Echo::start(2, EchoOptions { shards: 2, close_on: Some(b'!'), ..EchoOptions::default() });
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..4000 {
                    let mut stream = echo.connect();
                    assert_eq!(exchange(&mut stream, b"hello"), b"hello");
                    // The engine says goodbye, and this end closes while it does: the number is soon used again.
                    stream.write_all(b"!").unwrap();
                }
            });
        }
    });
    echo.expect_all_gone();
}

#[test]
fn a_full_table_of_descriptors_refuses_and_recovers_without_spinning() {
    let config = ServerConfig { connections_per_shard: 8, ..config() };
    let echo = Echo::with(config, EchoOptions::default());
    let mut streams: Vec<TcpStream> = (0..8).map(|_| echo.connect()).collect();
    all_exchange(&mut streams, 1000);
    let excess = echo.connect();
    wait_until("an accept failed", || echo.sum(|stats| &stats.accept_errors) > 0);
    let turns = echo.sum(|stats| &stats.turns);
    std::thread::sleep(Duration::from_millis(350));
    let spent = echo.sum(|stats| &stats.turns) - turns;
    assert!(spent < 20, "{spent} turns in 350 ms of having no room");
    drop(excess);
    drop(streams);
    echo.expect_all_gone();
    wait_until("there is room again", || {
        let mut stream = echo.connect();
        let mut back = [0; 5];
        stream.write_all(b"hello").is_ok() && stream.read_exact(&mut back).is_ok() && &back == b"hello"
    });
}
