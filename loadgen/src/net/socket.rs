//! Making the socket of a link, and where it connects to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// A `connect(2)` to this dissolves the connection: an established one is reset.
pub static NOWHERE: libc::sockaddr = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };

/// A TCP socket for a connection to `target`, bound to `source` if there is one.
///
/// The port of a given source address is left to `connect(2)` (`IP_BIND_ADDRESS_NO_PORT`): only then does a source
/// address have all its ports for each target, instead of each port once for all.
pub fn make(target: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        leave_the_port_to_connect(&socket)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

fn leave_the_port_to_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option is an int, which lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The addresses that links connect to, each at a place in memory that stays.
#[derive(Default)]
pub struct Targets {
    known: Vec<(SocketAddr, Box<SockAddr>)>,
}

impl Targets {
    /// The target as `connect(2)` takes it. There are few: the hosts of a run.
    pub fn of(&mut self, target: SocketAddr) -> &SockAddr {
        let index = self.known.iter().position(|(known, _)| *known == target).unwrap_or_else(|| {
            self.known.push((target, Box::new(target.into())));
            self.known.len() - 1
        });
        &self.known[index].1
    }
}
