//! Listening sockets: one per shard and address, so that no two shards share an accept queue.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// A socket of one shard that listens.
pub struct Listener {
    /// The socket.
    pub socket: OwnedFd,
    /// How many bytes the names of its peers have, where each connection's peer is to be asked for.
    pub peer_name_bytes: Option<u32>,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Listener {
        Listener { socket: socket.into(), peer_name_bytes: None }
    }
}

/// How long a connection may be silent before the kernel asks whether its peer is still there. Long: a client with
/// a keep alive of MQTT's own is never asked, and a sleeping radio seldom woken.
const PROBE_AFTER: Duration = Duration::from_secs(300);

/// How long the kernel waits for an answer before it asks again.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Questions without an answer after which the connection fails.
const PROBES_MAX: u32 = 4;

/// Binds `shards` sockets to one address with `SO_REUSEPORT`, and listens. With port 0 the first one gets a
/// free port and the others the same. Connections inherit `TCP_NODELAY` and `SO_KEEPALIVE`: a peer that vanished
/// without a word would else stay for ever, as MQTT lets a client turn its own keep alive off.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`: above all `EADDRINUSE`, also when a socket of somebody else with
/// `SO_REUSEPORT` has the port.
pub fn bind(address: SocketAddr, shards: usize, backlog: i32) -> io::Result<Vec<TcpListener>> {
    // Another broker of the same user could share the port by SO_REUSEPORT without an error, and take half of
    // the connections; a socket without it finds that out.
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    let bound = probe.local_addr()?.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    drop(probe);
    (0..shards).map(|_| listener(bound, backlog)).collect()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // An IPv4 address is listened on where it is asked for, and nowhere else.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn listener(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL).with_retries(PROBES_MAX);
    socket.set_tcp_keepalive(&probes)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_gives_all_shards_the_same_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3, 16).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]));
    }

    #[test]
    fn connections_inherit_the_probing_of_silent_peers() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 1, 16).unwrap();
        let _client = std::net::TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let (accepted, _) = listeners[0].accept().unwrap();
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        let times = (accepted.tcp_keepalive_time().unwrap(), accepted.tcp_keepalive_interval().unwrap());
        assert_eq!(times, (Duration::from_secs(300), Duration::from_secs(30)));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 4);
    }

    #[test]
    fn a_port_that_another_broker_shares_out_is_in_use_all_the_same() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2, 16).unwrap();
        let error = bind(first[0].local_addr().unwrap(), 2, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
