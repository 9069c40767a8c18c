//! How options are written: brokers, lists of source addresses and of CPUs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::plan::units::parse_time;

/// The port of a broker that is named without one.
const PORT: u16 = 1883;
/// Of several addresses of a broker, one that has not taken a connection by then is passed over.
const ANSWER: Duration = Duration::from_secs(2);
/// The most source addresses that one option makes: more than a million connections ever need.
const SOURCES_MAX: u128 = 65_536;
/// More CPUs than Linux knows.
const CPUS_MAX: usize = 8192;

/// Where a broker is, as it was written, with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker(String);

impl Broker {
    /// The address that the name stands for. If there are several (`localhost` is `::1` and 127.0.0.1), the first one that
    /// takes a connection; if none does, the first, and the run says what is wrong with it.
    ///
    /// # Errors
    ///
    /// A name that stands for none.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let addresses = self.0.to_socket_addrs().map_err(|error| format!("{}: {error}", self.0))?;
        choose(&addresses.collect::<Vec<_>>()).ok_or_else(|| format!("{}: it has no address", self.0))
    }

    /// What it is called: a name or an address, without the port.
    pub fn name(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn choose(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let takes = |address: &&SocketAddr| TcpStream::connect_timeout(address, ANSWER).is_ok();
    match addresses {
        [] | [_] => addresses.first().copied(),
        several => several.iter().find(takes).or(several.first()).copied(),
    }
}

/// Reads `HOST`, `HOST:PORT`, an address, or `[ADDRESS]:PORT`.
///
/// # Errors
///
/// Anything else.
pub fn broker(text: &str) -> Result<Broker, String> {
    let with_port = |host: &str| Ok(Broker(format!("{host}:{PORT}")));
    if text.parse::<Ipv6Addr>().is_ok() {
        return with_port(&format!("[{text}]"));
    }
    match text.rsplit_once(':') {
        _ if text.is_empty() || text.contains([' ', '/']) => Err("wanted: HOST or HOST:PORT".to_owned()),
        None => with_port(text),
        Some(_) if text.starts_with('[') && text.ends_with(']') => with_port(text),
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(Broker(text.to_owned()))
        }
        Some((_, port)) => Err(format!("\"{port}\" is no port")),
    }
}

/// Several source addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources(pub Vec<IpAddr>);

/// Reads an address or a range of them: `127.0.0.2-127.0.0.40`, `127.0.0.2-40`.
///
/// # Errors
///
/// Anything else, and a range that ends before it begins or has more than 65,536 addresses.
pub fn sources(text: &str) -> Result<Sources, String> {
    let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| format!("\"{text}\" is no IP address"));
    let Some((first, last)) = text.split_once('-') else { return address(text).map(|one| Sources(vec![one])) };
    let first = address(first)?;
    let last = match (first, last.trim().parse::<u8>()) {
        (IpAddr::V4(first), Ok(octet)) => {
            let [a, b, c, _] = first.octets();
            Ipv4Addr::new(a, b, c, octet).into()
        }
        _ => address(last)?,
    };
    let (from, to) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (u128::from(first.to_bits()), u128::from(last.to_bits())),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits()),
        _ => return Err("one end of the range is IPv4, the other IPv6".to_owned()),
    };
    if to < from || to - from >= SOURCES_MAX {
        return Err(format!("{first} to {last} is no range of 1 to {SOURCES_MAX} addresses"));
    }
    let back = |bits: u128| match first {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    Ok(Sources((from..=to).map(back).collect()))
}

/// Several CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// Reads a CPU or a range of them: `3`, `2-5`.
///
/// # Errors
///
/// Anything else.
pub fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || format!("\"{text}\" is no CPU and no range of CPUs like 2-5");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (usize, usize) =
        (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
    if last < first || last >= CPUS_MAX {
        return Err(wrong());
    }
    Ok(Cpus((first..=last).collect()))
}

/// Reads a time of more than nothing.
///
/// # Errors
///
/// Anything else.
pub fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).and_then(|time| if time.is_zero() { Err("must be above 0".to_owned()) } else { Ok(time) })
}

/// Reads `NAME=VALUE`.
///
/// # Errors
///
/// Without a name or without `=`.
pub fn property(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "wanted: NAME=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_may_leave_its_port_out() {
        for (text, address) in [
            ("127.0.0.9", "127.0.0.9:1883"),
            ("127.0.0.9:7", "127.0.0.9:7"),
            ("::1", "[::1]:1883"),
            ("[::1]", "[::1]:1883"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(broker(text).unwrap().resolve(), Ok(address.parse().unwrap()), "{text}");
        }
        for (text, name) in [("b.example", "b.example"), ("b.example:7", "b.example"), ("[::1]:7", "::1")] {
            assert_eq!(broker(text).unwrap().name(), name);
        }
        for text in ["", "a b", "x:", ":1883", "x:0", "x:70000", "mqtt://x"] {
            assert!(broker(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_several_addresses_the_one_where_somebody_listens_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), deaf.port());
        assert_eq!(choose(&[v6, deaf, address]), Some(address));
        assert_eq!(choose(&[deaf, v6]), Some(deaf), "for the run to say that nobody is there");
        assert_eq!((choose(&[deaf]), choose(&[])), (Some(deaf), None));
    }

    #[test]
    fn source_addresses_may_be_ranges() {
        let read = |text| sources(text).map(|sources| sources.0.len());
        assert_eq!(sources("127.0.0.2-127.0.0.4").unwrap().0[2], "127.0.0.4".parse::<IpAddr>().unwrap());
        assert_eq!(sources("127.0.0.2-40").unwrap().0[38], "127.0.0.40".parse::<IpAddr>().unwrap());
        assert_eq!((read("10.0.0.1"), read("10.0.0.250-10.0.1.5"), read("fd00::1-fd00::10")), (Ok(1), Ok(12), Ok(16)));
        for text in ["", "x", "10.0.0.2-10.0.0.1", "10.0.0.2-1", "10.0.0.0-10.9.0.0", "10.0.0.1-fd00::1", "10.0.0.1-x"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_may_be_ranges() {
        assert_eq!(cpus("3"), Ok(Cpus(vec![3])));
        assert_eq!(cpus("2-4"), Ok(Cpus(vec![2, 3, 4])));
        for text in ["", "x", "4-2", "1-9000", "-1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}
