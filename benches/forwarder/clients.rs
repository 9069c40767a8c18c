//! The forwarder's own clients: pairs of plain blocking sockets, all played by one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::script;

/// What a frame carries.
const PAYLOAD: [u8; 64] = [b'x'; 64];

/// All clients. The left ones publish, the right ones subscribe.
pub struct Clients {
    left: Vec<TcpStream>,
    right: Vec<TcpStream>,
    frame_bytes: usize,
}

impl Clients {
    /// Connects so many pairs, each on a topic of its own, and puts `outstanding` frames of each on the way.
    pub fn connect(address: SocketAddr, pairs: u32, outstanding: usize) -> Clients {
        // The same length for every pair.
        let topic = |pair: u32| format!("pair/{pair:05}");
        let right = |pair: u32| {
            let mut stream = connected(address, &format!("sub-{pair}"));
            stream.write_all(&script::subscribe(&topic(pair))).expect("the forwarder reads");
            answered(&mut stream, 5);
            stream.set_nonblocking(true).expect("a socket");
            stream
        };
        let right = (0..pairs).map(right).collect();
        let left = |pair: u32| {
            let mut stream = connected(address, &format!("pub-{pair}"));
            let frames = script::publish(&topic(pair), &PAYLOAD).repeat(outstanding);
            stream.write_all(&frames).expect("it fits");
            stream
        };
        let left = (0..pairs).map(left).collect();
        Clients { left, right, frame_bytes: script::publish(&topic(0), &PAYLOAD).len() }
    }

    /// Whatever arrives on the right is sent again on the left; returns how many frames arrived.
    pub fn play(&mut self, duration: Duration, pause: Duration) -> u64 {
        let mut bytes = 0;
        let mut buffer = [0; 65_536];
        let end = Instant::now() + duration;
        while Instant::now() < end {
            let mut polls: Vec<PollFd<'_>> = self.right.iter().map(|s| PollFd::new(s, PollFlags::IN)).collect();
            poll(&mut polls, None).expect("frames are on the way");
            let ready: Vec<bool> = polls.iter().map(|poll| !poll.revents().is_empty()).collect();
            for (pair, _) in ready.iter().enumerate().filter(|(_, is_ready)| **is_ready) {
                match self.right[pair].read(&mut buffer) {
                    Ok(read) => {
                        assert!(read > 0, "the forwarder closed");
                        bytes += read;
                        self.left[pair].write_all(&buffer[..read]).expect("the forwarder reads");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
        (bytes / self.frame_bytes) as u64
    }
}

fn connected(address: SocketAddr, client_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the forwarder accepts");
    stream.set_nodelay(true).expect("a socket");
    stream.write_all(&script::connect(client_id)).expect("the forwarder reads");
    answered(&mut stream, 4);
    stream
}

/// Waits for an answer of so many bytes, which ends with a reason code.
fn answered(stream: &mut TcpStream, length: usize) {
    let mut answer = [0; 8];
    stream.read_exact(&mut answer[..length]).expect("the forwarder answers");
    assert_eq!(answer[length - 1], 0, "the forwarder agrees");
}
