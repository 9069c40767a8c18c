//! Making the socket of a link, and where it connects to.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Of `linux/in.h`; the libc crate has no name for it.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// A `connect(2)` to this dissolves the connection: an established one is reset.
pub static NOWHERE: libc::sockaddr = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };

/// Makes sockets.
pub struct Sockets {
    /// The ports of the host as `IP_LOCAL_PORT_RANGE` takes them, or 0.
    port_range: u32,
}

impl Sockets {
    /// Reads the host's range of ports.
    pub fn new() -> Self {
        // Where it cannot be read, the kernel chooses as it always did.
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        Self { port_range: port_range(&text).unwrap_or(0) }
    }

    /// A TCP socket for a connection to `target`, bound to `source` if there is one.
    ///
    /// The port of a given source address is left to `connect(2)` (`IP_BIND_ADDRESS_NO_PORT`): only then does a source
    /// address have all its ports for each target, instead of each port once for all.
    ///
    /// The range of ports is set to what it is anyway. Unless it is set, `connect(2)` looks through the ports of one
    /// parity first, and once they are taken, through all of them in vain each time: from half of the range on, a
    /// connection takes ten times as long. (Linux 6.8; earlier ones know the option not, or not for that.)
    pub fn make(&self, target: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        let _ = set_ip_option(&socket, IP_LOCAL_PORT_RANGE, self.port_range);
        if let Some(source) = source {
            set_ip_option(&socket, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(socket)
    }
}

/// "LOW HIGH" as the option has them: the upper bound in the upper half.
fn port_range(text: &str) -> Option<u32> {
    let mut ports = text.split_whitespace().map(|port| port.parse::<u16>().ok());
    let (low, high) = (ports.next()??, ports.next()??);
    Some(u32::from(high) << 16 | u32::from(low))
}

fn set_ip_option(socket: &Socket, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: both options are four bytes, which live through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_written_as_the_kernel_reads_it() {
        assert_eq!(port_range("32768\t60999\n"), Some(60999 << 16 | 32768));
        assert_eq!(port_range("1024"), None);
        assert_eq!(port_range("1024 65536"), None);
        assert_eq!(port_range(""), None);
    }
}
