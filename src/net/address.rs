//! Where a shard listens: an IP address and port, or a Unix domain socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What the path of a Unix domain socket is written behind.
const UNIX: &str = "unix:";

/// The longest path that fits in a `sockaddr_un`, its final NUL apart (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix domain socket at this absolute path.
    Unix(PathBuf),
}

impl Address {
    /// True where no other host gets to it.
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }

    /// The IP address and port, if it has one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither an IP address and port nor \"unix:\" and an absolute path of at most {PATH_BYTES_MAX} bytes")]
pub struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Address, NoAddress> {
        match text.strip_prefix(UNIX) {
            Some(path) if path.starts_with('/') && path.len() <= PATH_BYTES_MAX => Ok(Address::Unix(path.into())),
            Some(_) => Err(NoAddress),
            None => text.parse().map(Address::Tcp).map_err(|_| NoAddress),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["127.0.0.1:1883", "[::1]:1883", "unix:/run/ringmq/mqtt.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["unix:relative", "unix:", "localhost:1883", &format!("unix:/{}", "x".repeat(107))] {
            assert_eq!(text.parse::<Address>(), Err(NoAddress));
        }
    }
}
