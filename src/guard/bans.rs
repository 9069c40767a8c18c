//! Who is kept out: by client identifier, by user name, by address or network, by a pattern of client identifiers.
//!
//! An operator's list, at most [`BANS_MAX`] entries, compiled into tables that answer with one probe for a name, one for
//! each prefix length in use for an address (33 or 129 at most), and for the patterns one for each length of their
//! literal beginning. Time is an argument: seconds since 1970, since a ban outlives the process.

use super::glob::{Glob, GlobError};
use crate::acl::Network;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The most bans.
pub const BANS_MAX: usize = 100_000;
/// The most of them that are patterns: those that begin alike are tried one after the other.
pub const PATTERNS_MAX: usize = 1000;
/// The longest name or reason, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Seconds since 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The client with this identifier.
    ClientId(Box<str>),
    /// All clients with this user name.
    User(Box<str>),
    /// All clients from these addresses.
    Address(Network),
    /// All clients whose identifier matches.
    Pattern(Glob),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Who.
    pub target: Target,
    /// Until when; `None` for ever.
    pub until: Option<UnixTime>,
    /// Why, for whoever reads the list.
    pub reason: String,
}

/// What is wrong with a ban, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanError {
    /// It names nobody.
    #[error("names nobody: give a client identifier, a user name, an address or a pattern")]
    Empty,
    /// A name or reason is too long.
    #[error("has {0} bytes of text, expected {TEXT_BYTES_MAX} at most")]
    TooLong(usize),
    /// Not an address or network.
    #[error("\"{0}\" is no address or network, expected one like \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\"")]
    Address(String),
    /// Not a pattern.
    #[error(transparent)]
    Pattern(#[from] GlobError),
    /// The list is full.
    #[error("there are {BANS_MAX} bans already: remove some, or ban networks and patterns instead of single clients")]
    TooMany,
    /// Too many patterns.
    #[error("there are {PATTERNS_MAX} patterns already: remove some")]
    TooManyPatterns,
}

impl Target {
    /// Reads an address or network. What is written behind the prefix does not matter, nor whether IPv4 is written as
    /// IPv6: the same network is the same target, so that it is found again.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn address(text: &str) -> Result<Target, BanError> {
        let network = text.parse().map_err(|_| BanError::Address(text.to_owned()))?;
        Ok(Target::Address(canonical(&network)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::ClientId(name) => write!(f, "client {name}"),
            Target::User(name) => write!(f, "user {name}"),
            Target::Address(network) => write!(f, "address {}/{}", network.address, network.prefix),
            Target::Pattern(glob) => write!(f, "clients {glob}"),
        }
    }
}

impl Ban {
    /// A ban that can be kept.
    ///
    /// # Errors
    ///
    /// It names nobody, or its text is too long.
    pub fn new(target: Target, until: Option<UnixTime>, reason: String) -> Result<Ban, BanError> {
        let name = match &target {
            Target::ClientId(name) | Target::User(name) => name.len(),
            Target::Address(_) | Target::Pattern(_) => 1,
        };
        match name.max(reason.len()) {
            _ if name == 0 => Err(BanError::Empty),
            longest if longest > TEXT_BYTES_MAX => Err(BanError::TooLong(longest)),
            _ => Ok(Ban { target, until, reason }),
        }
    }

    /// True while it holds.
    pub fn holds(&self, now: UnixTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A list of bans, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    list: Vec<Ban>,
    clients: HashMap<Box<str>, u32>,
    users: HashMap<Box<str>, u32>,
    networks: HashMap<Masked, u32>,
    /// Prefix lengths in use, of IPv4 (as in IPv6: from 96) and IPv6.
    prefixes: BTreeSet<u8>,
    /// Patterns by their literal beginning, and the lengths of these, in bytes.
    patterns: HashMap<Box<str>, Vec<u32>>,
    beginnings: BTreeMap<usize, u32>,
}

/// The common bits of a network; IPv4 as IPv4-mapped IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Masked {
    bits: u128,
    prefix: u8,
}

fn mapped(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn masked(bits: u128, prefix: u8) -> Masked {
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Masked { bits: bits & mask, prefix }
}

fn masked_network(network: &Network) -> Masked {
    let mapped_by = if network.address.is_ipv4() { 96 } else { 0 };
    masked(mapped(network.address), network.prefix + mapped_by)
}

fn canonical(network: &Network) -> Network {
    let Masked { bits, prefix } = masked_network(network);
    let address = Ipv6Addr::from(bits);
    match address.to_ipv4_mapped().filter(|_| prefix >= 96) {
        Some(v4) => Network { address: v4.into(), prefix: prefix - 96 },
        None => Network { address: address.into(), prefix },
    }
}

impl Bans {
    /// Compiles a list. Of bans of the same target the last one counts.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub fn new(list: Vec<Ban>) -> Result<Bans, BanError> {
        if list.len() > BANS_MAX {
            return Err(BanError::TooMany);
        }
        if list.iter().filter(|ban| matches!(ban.target, Target::Pattern(_))).count() > PATTERNS_MAX {
            return Err(BanError::TooManyPatterns);
        }
        let mut bans = Bans::default();
        for (index, ban) in list.iter().enumerate() {
            bans.enter(index as u32, &ban.target);
        }
        bans.list = list;
        Ok(bans)
    }

    fn enter(&mut self, index: u32, target: &Target) {
        match target {
            Target::ClientId(name) => drop(self.clients.insert(name.clone(), index)),
            Target::User(name) => drop(self.users.insert(name.clone(), index)),
            Target::Address(network) => {
                let masked = masked_network(network);
                self.prefixes.insert(masked.prefix);
                self.networks.insert(masked, index);
            }
            Target::Pattern(glob) => {
                let beginning = glob.literal_prefix();
                *self.beginnings.entry(beginning.len()).or_insert(0) += 1;
                self.patterns.entry(beginning.into()).or_default().push(index);
            }
        }
    }

    /// The list, as it was given.
    pub fn list(&self) -> &[Ban] {
        &self.list
    }

    fn holding(&self, index: u32, now: UnixTime) -> Option<&Ban> {
        self.list.get(index as usize).filter(|ban| ban.holds(now))
    }

    /// The ban that keeps this client identifier out.
    pub fn client(&self, client_id: &str, now: UnixTime) -> Option<&Ban> {
        let by_name = self.clients.get(client_id).and_then(|index| self.holding(*index, now));
        by_name.or_else(|| {
            let beginnings = self.beginnings.keys().filter_map(|len| client_id.get(..*len));
            let mut alike = beginnings.filter_map(|beginning| self.patterns.get(beginning)).flatten();
            alike.find_map(|index| self.holding(*index, now).filter(|ban| is_meant(ban, client_id)))
        })
    }

    /// The ban that keeps this user out.
    pub fn user(&self, user: &str, now: UnixTime) -> Option<&Ban> {
        self.users.get(user).and_then(|index| self.holding(*index, now))
    }

    /// The ban that keeps this address out.
    pub fn address(&self, address: IpAddr, now: UnixTime) -> Option<&Ban> {
        if self.prefixes.is_empty() {
            return None;
        }
        let bits = mapped(address);
        // A mapped IPv4 address is no member of ::/0 and the like.
        let least = if address.to_canonical().is_ipv4() { 96 } else { 0 };
        let found = self.prefixes.range(least..).filter_map(|prefix| self.networks.get(&masked(bits, *prefix)));
        found.filter_map(|index| self.holding(*index, now)).next()
    }
}

fn is_meant(ban: &Ban, client_id: &str) -> bool {
    matches!(&ban.target, Target::Pattern(glob) if glob.matches(client_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime(1000);

    fn ban(target: Target) -> Ban {
        Ban::new(target, None, String::new()).unwrap()
    }

    fn pattern(text: &str) -> Target {
        Target::Pattern(Glob::new(text).unwrap())
    }

    fn naive_contains(network: &Network, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect(),
            IpAddr::V6(v6) => {
                v6.octets().iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect::<Vec<u8>>()
            }
        };
        let prefix = usize::from(network.prefix);
        network.address.is_ipv4() == address.is_ipv4() && bits(network.address)[..prefix] == bits(address)[..prefix]
    }

    proptest! {
        #[test]
        fn an_address_is_out_if_and_only_if_a_network_contains_it(
            networks in prop::collection::vec((0..4u32, 24..=32u8, any::<bool>()), 0..6), address in 0..1024u32, v6: bool,
        ) {
            let ip = |bits: u32, v6: bool| match v6 {
                true => IpAddr::V6((u128::from(bits) << 8).into()),
                false => IpAddr::V4(bits.into()),
            };
            let networks: Vec<Network> = networks
                .into_iter()
                .map(|(at, prefix, v6)| Network { address: ip(at << 8, v6), prefix: if v6 { prefix + 80 } else { prefix } })
                .collect();
            let bans = Bans::new(networks.iter().map(|network| ban(Target::Address(*network))).collect()).unwrap();
            let address = ip(address, v6);
            let expected = networks.iter().any(|network| naive_contains(network, address));
            prop_assert_eq!(bans.address(address, NOW).is_some(), expected);
        }

        #[test]
        fn a_client_is_out_if_and_only_if_a_name_or_pattern_matches(
            patterns in prop::collection::vec("[ab]{0,2}[a*?é]{1,3}", 0..6), name in "[abé]{1,4}", id in "[abé]{1,4}",
        ) {
            let mut list = vec![ban(Target::ClientId(name.as_str().into()))];
            list.extend(patterns.iter().map(|text| ban(pattern(text))));
            let bans = Bans::new(list).unwrap();
            let expected = id == name || patterns.iter().any(|text| Glob::new(text).unwrap().matches(&id));
            prop_assert_eq!(bans.client(&id, NOW).is_some(), expected);
        }

        #[test]
        fn no_text_breaks_the_reader_of_networks(text: String) {
            let _ = Target::address(&text);
        }
    }

    #[test]
    fn a_ban_ends_when_it_is_said_to() {
        let until = |until| Ban::new(Target::User("u".into()), Some(UnixTime(until)), "x".to_owned()).unwrap();
        let bans = Bans::new(vec![until(1001)]).unwrap();
        assert_eq!(bans.user("u", UnixTime(1000)).map(|ban| ban.reason.as_str()), Some("x"));
        assert!(bans.user("u", UnixTime(1001)).is_none());
        assert!(bans.user("v", NOW).is_none());
    }

    #[test]
    fn a_ban_of_all_ipv6_spares_ipv4_and_a_mapped_address_is_ipv4() {
        let bans = Bans::new(vec![ban(Target::address("::/0").unwrap())]).unwrap();
        assert!(bans.address("2001:db8::1".parse().unwrap(), NOW).is_some());
        assert!(bans.address("192.0.2.1".parse().unwrap(), NOW).is_none());
        let bans = Bans::new(vec![ban(Target::address("192.0.2.0/24").unwrap())]).unwrap();
        assert!(bans.address("::ffff:192.0.2.9".parse().unwrap(), NOW).is_some());
    }

    #[test]
    fn a_network_is_the_same_however_it_is_written() {
        let alike = [
            ["192.0.2.0/24", "192.0.2.7/24", "::ffff:192.0.2.1/120"],
            ["192.0.2.7/32", "192.0.2.7", "::ffff:192.0.2.7"],
            ["2001:db8::/32", "2001:db8::1/32", "2001:DB8:0::/32"],
            ["::/0", "::1/0", "::ffff:192.0.2.1/0"],
        ];
        for [first, second, third] in alike {
            let target = Target::address(first).unwrap();
            assert_eq!(
                [Target::address(second).unwrap(), Target::address(third).unwrap()],
                [target.clone(), target.clone()]
            );
            assert_eq!(target.to_string(), format!("address {first}"));
        }
    }

    #[test]
    fn what_is_no_ban_is_refused_with_what_is_wrong() {
        for text in ["", "192.0.2.0/33", "2001:db8::/129", "192.0.2", "host", "192.0.2.1/-1", "192.0.2.1/"] {
            assert_eq!(Target::address(text), Err(BanError::Address(text.to_owned())), "{text}");
        }
        assert_eq!(Ban::new(Target::User("".into()), None, String::new()), Err(BanError::Empty));
        assert_eq!(Ban::new(Target::User("u".into()), None, "x".repeat(1025)), Err(BanError::TooLong(1025)));
        let many = vec![ban(pattern("a*")); PATTERNS_MAX + 1];
        assert_eq!(Bans::new(many).unwrap_err(), BanError::TooManyPatterns);
    }
}
