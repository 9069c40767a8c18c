//! The PROXY protocol, versions 1 and 2: what a load balancer says of the client before the client's own bytes.
//!
//! Specification: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. Whether a peer is trusted to send such
//! a header is the listener's business. Here every header is read strictly: one that is not understood to its end is an
//! error, because what stands in it decides who a client is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header of version 1, its CRLF included (§2.1).
pub const V1_BYTES_MAX: usize = 107;
/// The fixed part of a header of version 2.
pub const V2_FIXED_BYTES: usize = 16;
/// The most that may follow the fixed part: addresses and TLVs. The largest that is known to be sent, a client
/// certificate in full, fits.
pub const V2_VARIABLE_BYTES_MAX: usize = 4096;
/// The longest common name that is taken. X.520 allows 64 characters.
pub const COMMON_NAME_BYTES_MAX: usize = 256;

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The client's address. `None`: the proxy does not know it, or it is not an IP address; then, and where `local`,
    /// the address of the connection itself counts.
    pub source: Option<SocketAddr>,
    /// The proxy speaks for itself (a health check).
    pub local: bool,
    /// Common name of the client certificate that the proxy has verified. That of a certificate which it has not
    /// verified is left out.
    pub common_name: Option<String>,
    /// The client speaks TLS to the proxy.
    pub tls: bool,
}

/// Why bytes are no PROXY header that can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither version's signature.
    #[error("no PROXY header: the listener expects one in front of every connection")]
    Signature,
    /// No CRLF within [`V1_BYTES_MAX`].
    #[error("a PROXY header of version 1 has at most {V1_BYTES_MAX} bytes")]
    V1TooLong,
    /// The line is not as the specification has it.
    #[error("malformed PROXY header of version 1: {0}")]
    V1Malformed(&'static str),
    /// Another version, or a command that is neither LOCAL nor PROXY.
    #[error("PROXY version and command {0:#04x} are unknown")]
    Command(u8),
    /// An address family or transport that a stream cannot have.
    #[error("PROXY address family and transport {0:#04x} cannot be of a stream")]
    Family(u8),
    /// More than [`V2_VARIABLE_BYTES_MAX`] are announced.
    #[error("a PROXY header of version 2 announces {0} bytes, at most {V2_VARIABLE_BYTES_MAX} are taken")]
    V2TooLong(u16),
    /// Fewer bytes than the addresses need.
    #[error("a PROXY header of version 2 ends within its addresses")]
    Addresses,
    /// A TLV goes beyond the end of what holds it.
    #[error("PROXY TLV {0:#04x} goes beyond the end of the header")]
    TlvTruncated(u8),
    /// A TLV whose value cannot be what its type says, or that is there twice.
    #[error("PROXY TLV {0:#04x} is malformed")]
    TlvMalformed(u8),
    /// The checksum does not fit the header.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Reads the header at the front of what a connection has sent: how long it is, and what it says. `None`: it is not
/// complete, more bytes are needed. Never are more than [`V1_BYTES_MAX`] or [`V2_FIXED_BYTES`] +
/// [`V2_VARIABLE_BYTES_MAX`] bytes needed.
///
/// # Errors
///
/// What is there can be no header, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Header)>, ProxyError> {
    if begins(bytes, V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if begins(bytes, V1_SIGNATURE) {
        return parse_v1(bytes);
    }
    Err(ProxyError::Signature)
}

/// As far as there are bytes.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(is, should)| is == should)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(usize, Header)>, ProxyError> {
    let bytes = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(ProxyError::V1TooLong) };
    };
    let line = std::str::from_utf8(&bytes[V1_SIGNATURE.len()..end]).map_err(|_| "it is not text");
    let source = line.and_then(parse_v1_line).map_err(ProxyError::V1Malformed)?;
    Ok(Some((end + 2, Header { source, ..Header::default() })))
}

/// What follows "PROXY ".
fn parse_v1_line(line: &str) -> Result<Option<SocketAddr>, &'static str> {
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let (protocol, source, destination) = (next(), next(), next());
    let (source_port, destination_port) = (next(), next());
    let address: fn(&str) -> Option<IpAddr> = match protocol {
        // Whatever else the line says is to be ignored.
        "UNKNOWN" => return Ok(None),
        "TCP4" => |word| word.parse().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse().ok().map(IpAddr::V6),
        _ => return Err("the protocol is none of TCP4, TCP6, UNKNOWN"),
    };
    if words.next().is_some() {
        return Err("there is more than two addresses and two ports");
    }
    let ip = address(source).ok_or("the source address is not of the protocol's family")?;
    address(destination).ok_or("the destination address is not of the protocol's family")?;
    let source_port = port(source_port).ok_or("the source port is no number up to 65535")?;
    port(destination_port).ok_or("the destination port is no number up to 65535")?;
    Ok(Some(SocketAddr::new(ip, source_port)))
}

/// Decimal digits only, no leading zero.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(usize, Header)>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let local = match command {
        0x20 => true,
        0x21 => false,
        other => return Err(ProxyError::Command(other)),
    };
    let announced = u16::from_be_bytes([high, low]);
    let length = usize::from(announced);
    if length > V2_VARIABLE_BYTES_MAX {
        return Err(ProxyError::V2TooLong(announced));
    }
    let Some(variable) = rest.get(..length) else { return Ok(None) };
    let whole = V2_FIXED_BYTES + length;
    if local {
        // Everything else is to be discarded unread (§2.2).
        return Ok(Some((whole, Header { local, ..Header::default() })));
    }
    let (source, tlvs) = parse_addresses(family, variable)?;
    let mut header = Header { source, ..Header::default() };
    parse_tlvs(&bytes[..whole], tlvs, &mut header)?;
    Ok(Some((whole, header)))
}

/// The source's address, and the TLVs behind the addresses.
fn parse_addresses(family: u8, variable: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), ProxyError> {
    let length = match family {
        0x00 => 0,          // AF_UNSPEC
        0x11 => 2 * 4 + 4,  // TCP over IPv4
        0x21 => 2 * 16 + 4, // TCP over IPv6
        0x31 => 2 * 108,    // AF_UNIX stream
        other => return Err(ProxyError::Family(other)),
    };
    let (addresses, tlvs) = variable.split_at_checked(length).ok_or(ProxyError::Addresses)?;
    let source = match family {
        0x11 => first::<4>(addresses).map(|ip| IpAddr::V4(Ipv4Addr::from(ip))).zip(port_at(addresses, 8)),
        0x21 => first::<16>(addresses).map(|ip| IpAddr::V6(Ipv6Addr::from(ip))).zip(port_at(addresses, 32)),
        _ => None,
    };
    Ok((source.map(SocketAddr::from), tlvs))
}

fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

fn port_at(addresses: &[u8], at: usize) -> Option<u16> {
    first(addresses.get(at..)?).map(u16::from_be_bytes)
}

const PP2_TYPE_CRC32C: u8 = 0x03;
const PP2_TYPE_SSL: u8 = 0x20;
const PP2_SUBTYPE_SSL_CN: u8 = 0x22;

fn parse_tlvs(header_bytes: &[u8], tlvs: &[u8], header: &mut Header) -> Result<(), ProxyError> {
    let (mut seen_ssl, mut seen_checksum) = (false, false);
    for tlv in Tlvs(tlvs) {
        let (kind, value) = tlv?;
        match kind {
            PP2_TYPE_SSL => {
                once(&mut seen_ssl, kind)?;
                parse_ssl(value, header)?;
            }
            PP2_TYPE_CRC32C => {
                once(&mut seen_checksum, kind)?;
                check(header_bytes, value)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn once(seen: &mut bool, kind: u8) -> Result<(), ProxyError> {
    if std::mem::replace(seen, true) { Err(ProxyError::TlvMalformed(kind)) } else { Ok(()) }
}

const PP2_CLIENT_SSL: u8 = 0x01;
const PP2_CLIENT_CERT_CONN: u8 = 0x02;
const PP2_CLIENT_CERT_SESS: u8 = 0x04;

/// The bit field `client`, the four bytes `verify`, then TLVs (§2.2.6).
fn parse_ssl(value: &[u8], header: &mut Header) -> Result<(), ProxyError> {
    let (fixed, tlvs) = value.split_first_chunk::<5>().ok_or(ProxyError::TlvMalformed(PP2_TYPE_SSL))?;
    let [client, verify @ ..] = *fixed;
    header.tls = client & PP2_CLIENT_SSL != 0;
    let presented = client & (PP2_CLIENT_CERT_CONN | PP2_CLIENT_CERT_SESS) != 0;
    // Zero is what the specification gives a certificate that was presented and verified.
    let verified = header.tls && presented && verify == [0; 4];
    let mut seen = false;
    for tlv in Tlvs(tlvs) {
        if let (PP2_SUBTYPE_SSL_CN, name) = tlv? {
            once(&mut seen, PP2_SUBTYPE_SSL_CN)?;
            let name = common_name(name)?;
            header.common_name = verified.then_some(name);
        }
    }
    Ok(())
}

fn common_name(value: &[u8]) -> Result<String, ProxyError> {
    let fits = (1..=COMMON_NAME_BYTES_MAX).contains(&value.len());
    let text = std::str::from_utf8(value).ok().filter(|text| fits && !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or(ProxyError::TlvMalformed(PP2_SUBTYPE_SSL_CN))
}

/// CRC-32C over the whole header, in which the checksum itself counts as zeros (§2.2.4).
fn check(header_bytes: &[u8], value: &[u8]) -> Result<(), ProxyError> {
    let stated = <[u8; 4]>::try_from(value).map_err(|_| ProxyError::TlvMalformed(PP2_TYPE_CRC32C))?;
    let at = value.as_ptr().addr() - header_bytes.as_ptr().addr();
    let (before, after) = (&header_bytes[..at], &header_bytes[at + 4..]);
    let bytes = before.iter().chain(&[0; 4]).chain(after);
    let sum = !bytes.fold(!0, |sum, byte| step(sum, *byte));
    if sum == u32::from_be_bytes(stated) { Ok(()) } else { Err(ProxyError::Checksum) }
}

/// A byte more in a CRC-32C; the polynomial is written with its bits reversed.
fn step(sum: u32, byte: u8) -> u32 {
    (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ ((sum & 1) * 0x82F6_3B78))
}

/// Type-length-value entries, each of which must end where there still is something.
struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<(u8, &'a [u8]), ProxyError>;

    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.0.first()?;
        let entry = self.0.get(1..3).and_then(|length| {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            self.0[3..].split_at_checked(length)
        });
        let Some((value, rest)) = entry else {
            self.0 = &[];
            return Some(Err(ProxyError::TlvTruncated(kind)));
        };
        self.0 = rest;
        Some(Ok((kind, value)))
    }
}

#[cfg(test)]
mod tests;
