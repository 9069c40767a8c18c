//! The driver end to end on the real ring: echo over loopback sockets.

mod net_support;

use std::io::{Read, Write};

use net_support::{Echo, EchoOptions, exchange, pattern};

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
