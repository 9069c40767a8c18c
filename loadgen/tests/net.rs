//! The generator's sockets against servers of the standard library.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_loadgen::net::{Close, Closed, Handler, LinkId, Links, Net, Options};
use socket2::SockRef;

const PATIENCE: Duration = Duration::from_secs(20);

/// Remembers everything it was told, by tag.
#[derive(Default)]
struct Log {
    connected: Vec<u32>,
    received: HashMap<u32, Vec<u8>>,
    closed: Vec<(u32, Closed)>,
}

impl Handler for Log {
    fn connected(&mut self, links: &mut Links, link: LinkId) {
        self.connected.push(links.tag(link));
    }

    fn received(&mut self, links: &mut Links, link: LinkId, bytes: &[u8]) {
        self.received.entry(links.tag(link)).or_default().extend_from_slice(bytes);
    }

    fn closed(&mut self, links: &mut Links, link: LinkId, reason: Closed) {
        self.closed.push((links.tag(link), reason));
    }
}

impl Log {
    fn bytes_of(&self, tag: u32) -> usize {
        self.received.get(&tag).map_or(0, Vec::len)
    }

    fn reason(&self) -> &Closed {
        &self.closed[0].1
    }
}

fn net(connections: u32) -> Net {
    Net::new(Options { connections, ..Options::default() }).unwrap()
}

/// Turns until the handler has seen it.
fn turn_until<H: Handler>(net: &mut Net, handler: &mut H, mut seen: impl FnMut(&H) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !seen(handler) {
        assert!(Instant::now() < deadline, "it never came to that");
        net.turn(handler, Some(deadline)).unwrap();
    }
}

/// A server that gives every accepted stream to `serve` on a thread of its own.
fn server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
}

/// A listener whose connections the test takes itself.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A link and the other end of it.
fn pair(net: &mut Net, log: &mut Log) -> (LinkId, TcpStream) {
    let (listener, address) = listener();
    let link = net.links().connect(7, address, None).unwrap();
    turn_until(net, log, |log| log.connected == [7]);
    (link, listener.accept().unwrap().0)
}

#[test]
fn what_is_written_before_and_after_the_link_is_up_comes_back_in_order() {
    let (mut net, mut log) = (net(4), Log::default());
    let link = net.links().connect(7, server(echo), None).unwrap();
    net.links().output(link).extend_from_slice(b"early ");
    turn_until(&mut net, &mut log, |log| log.connected == [7]);
    net.links().output(link).extend_from_slice(b"la");
    net.links().output(link).extend_from_slice(b"te");
    turn_until(&mut net, &mut log, |log| log.bytes_of(7) == 10);
    assert_eq!(log.received[&7], b"early late");
    assert_eq!(net.links().unsent(link), 0);
}

#[test]
fn thousands_connect_at_once_without_a_descriptor_of_the_process_each() {
    const LINKS: u32 = 3000;
    // A server with a descriptor for each would be at the limit of this process: it takes, holds and counts as many
    // as a backlog, and that is what a storm meets.
    let (listener, address) = listener();
    SockRef::from(&listener).listen(LINKS as i32 + 1).unwrap();
    let (mut net, mut log) = (net(LINKS), Log::default());
    let open_before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for tag in 0..LINKS {
        net.links().connect(tag, address, None).unwrap();
    }
    turn_until(&mut net, &mut log, |log| log.connected.len() == LINKS as usize);
    // Other tests of this process open some meanwhile.
    let open_after = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open_after < open_before + 500, "{open_before} descriptors became {open_after}");
    log.connected.sort_unstable();
    assert!(log.connected.iter().copied().eq(0..LINKS));
    assert!(log.closed.is_empty());
}

#[test]
fn no_more_links_than_agreed_and_one_for_each_that_ends() {
    let (mut net, mut log) = (net(1), Log::default());
    let (_listener, address) = listener();
    let link = net.links().connect(0, address, None).unwrap();
    assert_eq!(net.links().connect(1, address, None).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    net.links().close(link, Close::Graceful);
    turn_until(&mut net, &mut log, |log| log.closed.len() == 1);
    assert!(net.links().is_empty());
    net.links().connect(1, address, None).unwrap();
}

#[test]
fn a_refused_connection_says_so() {
    let (_, address) = listener();
    let (mut net, mut log) = (net(1), Log::default());
    net.links().connect(7, address, None).unwrap();
    turn_until(&mut net, &mut log, |log| log.closed.len() == 1);
    assert!(matches!(log.reason(), Closed::Failed(error) if error.kind() == ErrorKind::ConnectionRefused));
    assert!(log.connected.is_empty());
}

#[test]
fn the_server_sees_the_source_address_and_one_of_its_own_ports() {
    let (listener, address) = listener();
    let (mut net, mut log) = (net(2), Log::default());
    for last in [9, 8] {
        let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
        net.links().connect(u32::from(last), address, Some(source)).unwrap();
        net.turn(&mut log, Some(Instant::now())).unwrap();
        let (_stream, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source);
    }
    turn_until(&mut net, &mut log, |log| log.connected.len() == 2);
}

#[test]
fn a_source_address_may_be_one_of_ipv6() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let (mut net, mut log) = (net(1), Log::default());
    let source = Some("::1".parse().unwrap());
    net.links().connect(7, listener.local_addr().unwrap(), source).unwrap();
    turn_until(&mut net, &mut log, |log| log.connected == [7]);
}

#[test]
fn a_foreign_source_address_and_one_of_the_wrong_family_are_refused_with_their_errno() {
    let mut net = net(1);
    let (_listener, address) = listener();
    let mut errno = |source: &str| {
        let error = net.links().connect(0, address, Some(source.parse().unwrap())).unwrap_err();
        error.raw_os_error().unwrap()
    };
    assert_eq!(errno("192.0.2.1"), libc::EADDRNOTAVAIL);
    assert_eq!(errno("::1"), libc::EAFNOSUPPORT);
    assert!(net.links().is_empty());
}

#[test]
fn a_peer_that_closes_is_an_end_and_what_it_said_before_arrives() {
    let (mut net, mut log) = (net(1), Log::default());
    let (_link, mut peer) = pair(&mut net, &mut log);
    peer.write_all(b"goodbye").unwrap();
    drop(peer);
    turn_until(&mut net, &mut log, |log| log.closed.len() == 1);
    assert_eq!(log.received[&7], b"goodbye");
    assert!(matches!(log.reason(), Closed::Eof));
}

#[test]
fn a_peer_that_resets_is_an_error() {
    let (mut net, mut log) = (net(1), Log::default());
    let (_link, peer) = pair(&mut net, &mut log);
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    turn_until(&mut net, &mut log, |log| log.closed.len() == 1);
    assert!(matches!(log.reason(), Closed::Error(error) if error.kind() == ErrorKind::ConnectionReset));
}

#[test]
fn a_graceful_close_sends_everything_and_then_the_end() {
    const BYTES: usize = 3_000_000;
    let (mut net, mut log) = (net(1), Log::default());
    let (link, mut peer) = pair(&mut net, &mut log);
    net.links().output(link).extend_from_slice(&[b'x'; BYTES]);
    net.links().close(link, Close::Graceful);
    net.links().output(link).extend_from_slice(b"written too late");
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all.len())
    });
    turn_until(&mut net, &mut log, |log| log.closed.len() == 1);
    assert!(matches!(log.reason(), Closed::Own));
    assert_eq!(reader.join().unwrap().unwrap(), BYTES);
}

#[test]
fn a_reset_is_seen_as_a_reset_also_after_a_graceful_close_that_does_not_get_through() {
    let (mut net, mut log) = (net(1), Log::default());
    let (link, mut peer) = pair(&mut net, &mut log);
    // More than the buffers of both sides take; the peer does not read.
    net.links().output(link).resize(64 << 20, b'x');
    net.links().close(link, Close::Graceful);
    for _ in 0..50 {
        net.turn(&mut log, Some(Instant::now() + Duration::from_millis(1))).unwrap();
    }
    assert!(log.closed.is_empty() && net.links().unsent(link) > 0);
    net.links().close(link, Close::Reset);
    turn_until(&mut net, &mut log, |log| log.closed.len() == 1);
    assert!(matches!(log.reason(), Closed::Own));
    let mut buffer = vec![0; 1 << 20];
    let error = loop {
        match peer.read(&mut buffer) {
            Ok(0) => panic!("an orderly end instead of a reset"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn closing_while_connecting_is_told_once_and_frees_the_slot() {
    // Nobody answers there: the connection stays under way.
    let (mut net, mut log) = (net(1), Log::default());
    let (listener, address) = listener();
    SockRef::from(&listener).listen(0).unwrap();
    let _fills_the_backlog = [TcpStream::connect(address).unwrap()];
    for _ in 0..3 {
        let link = net.links().connect(7, address, None).unwrap();
        net.turn(&mut log, Some(Instant::now())).unwrap();
        net.links().close(link, Close::Graceful);
        let told = log.closed.len();
        turn_until(&mut net, &mut log, |log| log.closed.len() > told);
        net.links().close(link, Close::Reset);
    }
    assert_eq!(log.closed.len(), 3);
    assert!(log.closed.iter().all(|(_, reason)| matches!(reason, Closed::Own)));
}

#[test]
fn everything_arrives_at_a_reader_that_is_slow_and_from_more_senders_than_there_are_buffers() {
    const LINKS: u32 = 40;
    const BYTES: usize = 200_000;
    let slow_echo = |mut stream: TcpStream| {
        SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
        let mut all = vec![0; BYTES];
        for part in all.chunks_mut(20_000) {
            stream.read_exact(part).unwrap();
            thread::yield_now();
        }
        stream.write_all(&all).unwrap();
    };
    let address = server(slow_echo);
    let mut net =
        Net::new(Options { connections: LINKS, buffers: 2, buffer_bytes: 512, ..Options::default() }).unwrap();
    let mut log = Log::default();
    let payload = |tag: u32| (0..BYTES).map(move |n| (n as u32 * 31 + tag) as u8);
    for tag in 0..LINKS {
        let link = net.links().connect(tag, address, None).unwrap();
        net.links().output(link).extend(payload(tag));
    }
    turn_until(&mut net, &mut log, |log| log.received.values().map(Vec::len).sum::<usize>() == BYTES * LINKS as usize);
    assert!((0..LINKS).all(|tag| payload(tag).eq(log.received[&tag].iter().copied())));
}

/// Connects again in a slot as soon as it is free, closes in all ways, and expects of each link its own tag.
struct Churn {
    target: SocketAddr,
    next: u32,
    last: u32,
    open: HashMap<u32, LinkId>,
    echoed: usize,
    closed: usize,
}

impl Churn {
    fn connect(&mut self, links: &mut Links) {
        if self.next < self.last {
            let link = links.connect(self.next, self.target, None).expect("a slot is free");
            links.output(link).extend_from_slice(&self.next.to_be_bytes());
            assert!(self.open.insert(self.next, link).is_none());
            self.next += 1;
        }
    }
}

impl Handler for Churn {
    fn connected(&mut self, links: &mut Links, link: LinkId) {
        let tag = links.tag(link);
        assert_eq!(self.open.get(&tag), Some(&link));
        match tag % 5 {
            0 => links.close(link, Close::Reset),
            1 => links.close(link, Close::Graceful),
            _ => {}
        }
    }

    fn received(&mut self, links: &mut Links, link: LinkId, bytes: &[u8]) {
        let tag = links.tag(link);
        assert_eq!(self.open.get(&tag), Some(&link));
        assert_eq!(bytes, tag.to_be_bytes(), "bytes of another link");
        assert!(tag % 5 >= 2, "nothing is received after a close");
        self.echoed += 1;
        let how = if tag % 5 == 2 { Close::Reset } else { Close::Graceful };
        links.output(link).extend_from_slice(b"!");
        links.close(link, how);
    }

    fn closed(&mut self, links: &mut Links, link: LinkId, reason: Closed) {
        assert!(matches!(reason, Closed::Own), "{reason}");
        assert_eq!(self.open.remove(&links.tag(link)), Some(link), "each link is told of once");
        self.closed += 1;
        self.connect(links);
        assert_eq!(links.unsent(link), 0);
        links.output(link).extend_from_slice(b"to the next user of the slot?");
        links.close(link, Close::Reset);
    }
}

#[test]
fn slots_are_used_again_and_their_users_never_meet() {
    const LINKS: u32 = 2000;
    const SLOTS: u32 = 16;
    let mut net = net(SLOTS);
    let target = server(echo);
    let mut churn = Churn { target, next: 0, last: LINKS, open: HashMap::new(), echoed: 0, closed: 0 };
    for _ in 0..SLOTS {
        churn.connect(net.links());
    }
    turn_until(&mut net, &mut churn, |churn| churn.closed == LINKS as usize);
    assert_eq!(churn.echoed, LINKS as usize * 3 / 5);
}

#[test]
fn a_waker_ends_a_wait_that_has_no_end_and_the_one_after_it() {
    let mut net = net(1);
    let (go, gone): (_, Receiver<()>) = channel();
    let waker = net.waker();
    let thread = thread::spawn(move || {
        waker.wake();
        while gone.recv().is_ok() {
            waker.wake();
        }
    });
    for _ in 0..100 {
        net.turn(&mut Log::default(), None).unwrap();
        go.send(()).unwrap();
    }
    drop(go);
    thread.join().unwrap();
}

#[test]
fn a_wait_lasts_until_its_deadline_and_one_that_has_passed_not_at_all() {
    let mut net = net(1);
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(20);
    while Instant::now() < deadline {
        net.turn(&mut Log::default(), Some(deadline)).unwrap();
    }
    assert!(begin.elapsed() < PATIENCE);
    net.turn(&mut Log::default(), Some(begin)).unwrap();
}

#[test]
fn a_net_that_goes_closes_its_links() {
    let (mut net, mut log) = (net(2), Log::default());
    let (_link, mut peer) = pair(&mut net, &mut log);
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(net);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_net_that_goes_with_everything_under_way_goes_at_once() {
    let (mut net, mut log) = (net(8), Log::default());
    let (link, _reads_nothing) = pair(&mut net, &mut log);
    net.links().output(link).resize(64 << 20, b'x');
    let (listener, address) = listener();
    SockRef::from(&listener).listen(0).unwrap();
    for _ in 0..5 {
        net.links().connect(8, address, None).unwrap();
    }
    net.turn(&mut log, Some(Instant::now())).unwrap();
    let begin = Instant::now();
    drop(net);
    assert!(begin.elapsed() < Duration::from_secs(5));
}
