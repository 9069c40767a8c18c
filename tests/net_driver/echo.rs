//! What goes in comes out: whole, in order, whatever the sizes and speeds.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringmq::server::ServerConfig;
use ringmq::shard::Wait;

use crate::support::{Echo, EchoOptions, config, exchange, pattern, wait_until};

#[test]
fn what_is_sent_comes_back() {
    let mut echo = Echo::start(1, EchoOptions::default());
    let mut stream = echo.connect();
    let bytes = pattern(1, 100_000);
    assert!(exchange(&mut stream, &bytes) == bytes);
    drop(stream);
    echo.expect_all_gone();
    assert_eq!(echo.sum(|stats| &stats.bytes_in), 100_000);
    assert_eq!(echo.sum(|stats| &stats.bytes_out), 100_000);
    echo.stop();
}

#[test]
fn an_engine_is_attended_once_in_each_turn() {
    let mut echo = Echo::start(1, EchoOptions::default());
    let mut stream = echo.connect();
    for seed in 0..10 {
        let bytes = pattern(seed, 1000);
        // The engine panics when it is attended twice, or not.
        assert!(exchange(&mut stream, &bytes) == bytes);
    }
    assert!(echo.watched.turns.load(Ordering::Relaxed) >= 10);
    echo.stop();
}

#[test]
fn every_byte_may_arrive_separately() {
    let echo = Echo::start(1, EchoOptions { settle_after: 5, ..EchoOptions::default() });
    let mut stream = echo.connect();
    let bytes = pattern(2, 300);
    let mut back = [0; 1];
    for (n, byte) in bytes.iter().enumerate() {
        stream.write_all(&[*byte]).unwrap();
        if n == 4 {
            let mut early = [0; 5];
            stream.read_exact(&mut early).unwrap();
            assert_eq!(early, bytes[..5]);
        } else if n > 4 {
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back[0], *byte);
        }
    }
    drop(stream);
    echo.expect_all_gone();
}

#[test]
fn sleeping_in_glommio_works_just_as_well() {
    let mut echo = Echo::with(ServerConfig { wait: Wait::Glommio, ..config() }, EchoOptions::default());
    let mut stream = echo.connect();
    for round in 0..20 {
        let bytes = pattern(round, 3_000);
        assert!(exchange(&mut stream, &bytes) == bytes);
        std::thread::sleep(Duration::from_millis(round as u64 % 3));
    }
    drop(stream);
    echo.expect_all_gone();
    echo.stop();
}

#[test]
fn large_payloads_go_out_in_place_between_small_packets() {
    let echo = Echo::start(1, EchoOptions { large: true, ..EchoOptions::default() });
    let mut stream = echo.connect();
    let bytes = pattern(3, 8 << 20);
    assert!(exchange(&mut stream, &bytes) == bytes);
    drop(stream);
    echo.expect_all_gone();
}

#[test]
fn a_client_that_reads_slowly_gets_every_byte_of_many_megabytes() {
    let echo = Echo::start(1, EchoOptions::default());
    let mut stream = echo.connect();
    let bytes = pattern(4, 48 << 20);
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&bytes).unwrap());
        // Until nothing moves any more: every buffer on the way is full.
        wait_until("the writer is held up", || echo.watched.pauses.load(Ordering::SeqCst) > 0);
        let mut portion = vec![0; 600_000];
        let mut at = 0;
        while at < bytes.len() {
            std::thread::sleep(Duration::from_millis(1));
            let read = stream.read(&mut portion).unwrap();
            assert!(read > 0 && portion[..read] == bytes[at..at + read], "at byte {at}");
            at += read;
        }
    });
    drop((stream, writer));
    echo.expect_all_gone();
}

#[test]
fn a_client_that_never_reads_holds_up_nobody_and_bounds_its_output() {
    let echo = Echo::start(1, EchoOptions::default());
    let mut stubborn = echo.connect();
    stubborn.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let bytes = pattern(5, 64 << 20);
    let mut written = 0;
    while let Ok(n) = stubborn.write(&bytes[written..]) {
        written += n;
    }
    assert!(written < bytes.len(), "the server must stop reading");
    assert!(echo.watched.pauses.load(Ordering::SeqCst) > 0);
    let mut other = echo.connect();
    let hello = pattern(6, 10_000);
    assert!(exchange(&mut other, &hello) == hello);
    let most = echo.watched.output_bytes_max.load(Ordering::SeqCst);
    assert!(most < (256 << 10) + (5 << 20), "bounded by the limit and the provided buffers, not {most}");
    let mut back = vec![0; written];
    stubborn.read_exact(&mut back).unwrap();
    assert!(back == bytes[..written], "reading again loses nothing");
    drop((stubborn, other));
    echo.expect_all_gone();
}

#[test]
fn last_words_reach_a_client_that_is_still_talking() {
    let echo = Echo::start(1, EchoOptions { close_on: Some(b'!'), ..EchoOptions::default() });
    let mut stream = echo.connect();
    stream.write_all(b"bye!").unwrap();
    // These are never read by the engine. Closing at once would answer them with a reset.
    wait_until("the engine has closed", || echo.sum(|stats| &stats.bytes_out) > 0);
    stream.write_all(&[b'x'; 50_000]).unwrap();
    let mut words = [0; 11];
    stream.read_exact(&mut words).unwrap();
    assert_eq!(&words, b"bye!goodbye");
    assert_eq!(stream.read(&mut words).unwrap(), 0, "an orderly end, not a reset");
    drop(stream);
    echo.expect_all_gone();
    assert_eq!(echo.sum(|stats| &stats.flush_timeouts), 0);
}

#[test]
fn a_closed_client_that_does_not_close_is_cut_off_in_bounded_time() {
    let echo = Echo::start(1, EchoOptions { close_on: Some(b'!'), ..EchoOptions::default() });
    let mut stream = echo.connect();
    stream.write_all(b"!").unwrap();
    wait_until("it is there", || echo.sum(|stats| &stats.accepts) == 1);
    echo.expect_all_gone();
    let mut words = Vec::new();
    stream.read_to_end(&mut words).unwrap();
    assert_eq!(words, b"!goodbye");
}

#[test]
fn a_stop_says_goodbye_to_everyone_and_ends() {
    let mut echo = Echo::start(2, EchoOptions { shards: 2, ..EchoOptions::default() });
    let mut streams: Vec<_> = (0..50).map(|_| echo.connect()).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        let hello = pattern(n, 500);
        assert!(exchange(stream, &hello) == hello);
    }
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            std::thread::spawn(move || {
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).unwrap();
                rest
            })
        })
        .collect();
    echo.stop();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), b"stopping");
    }
    echo.expect_all_gone();
    assert!(std::net::TcpStream::connect(echo.address).is_err(), "nobody listens any more");
}

#[test]
fn nobody_can_connect_while_a_stop_waits_for_others() {
    let mut echo = Echo::start(2, EchoOptions { pause_above: 256 << 20, ..EchoOptions::default() });
    let mut stubborn = echo.connect();
    stubborn.write_all(&pattern(7, 64 << 20)).unwrap();
    wait_until("the server has it all", || echo.sum(|stats| &stats.bytes_in) == 64 << 20);
    echo.running.as_ref().unwrap().stop();
    wait_until("connections are refused", || {
        let refused = std::net::TcpStream::connect(echo.address).map_err(|error| error.kind());
        refused.err() == Some(std::io::ErrorKind::ConnectionRefused)
    });
    assert_eq!(echo.watched.connections.load(Ordering::SeqCst), 1, "the stop still waits");
    echo.stop();
}

#[test]
fn a_stop_waits_for_a_client_that_never_reads_only_so_long() {
    let mut echo = Echo::start(1, EchoOptions { pause_above: 256 << 20, ..EchoOptions::default() });
    let mut stubborn = echo.connect();
    stubborn.write_all(&pattern(7, 64 << 20)).unwrap();
    wait_until("the server has it all", || echo.sum(|stats| &stats.bytes_in) == 64 << 20);
    let begin = std::time::Instant::now();
    echo.stop();
    assert!(begin.elapsed() < Duration::from_secs(6), "it took {:?}", begin.elapsed());
    echo.expect_all_gone();
    assert_eq!(echo.sum(|stats| &stats.flush_timeouts), 1);
}
