//! One rule, and a list of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::template::Template;
use crate::codec::QoS;
use crate::codec::topic::TopicError;

/// What is done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Publish to it, by PUBLISH or as a will.
    Publish,
    /// Subscribe to it, and receive what is published to it.
    Subscribe,
    /// Both.
    Both,
}

/// What a rule says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It may be done.
    Allow,
    /// It may not.
    Deny,
}

/// One rule. The first that is about an action and a topic decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow or deny.
    pub access: Access,
    /// What it is about.
    pub action: Action,
    /// Topic filter, with placeholders: `${clientid}`, `${username}`, `${cert.cn}`, `${jwt.CLAIM}`.
    pub filter: String,
    /// What it allows, it allows up to this QoS: a publication beyond is denied, a subscription is granted at most this. A
    /// rule that denies is about publications up to this QoS only.
    pub qos_max: Option<QoS>,
    /// It is about retained publications only, or about others only.
    pub retain: Option<bool>,
    /// It is about clients at these addresses only; any if empty. One that denies is also about clients whose address
    /// is unknown.
    pub addresses: Vec<Network>,
}

/// Addresses with a common prefix (CIDR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// An address in it.
    pub address: IpAddr,
    /// How many leading bits are common.
    pub prefix: u8,
}

/// Rules in the order they are asked in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// Why a rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The filter is none.
    #[error("this is no topic filter: {0}")]
    Filter(TopicError),
    /// `$share/group/filter`: rules are about the filter in it.
    #[error("rules are about the filter of a shared subscription: write it without $share/group/")]
    Shared,
    /// A placeholder that does not exist.
    #[error("there is no placeholder ${{{0}}}: write ${{clientid}}, ${{username}}, ${{cert.cn}} or ${{jwt.CLAIM}}")]
    Placeholder(String),
    /// `${` without `}`.
    #[error("a placeholder begins with ${{ and does not end with }}")]
    Unclosed,
    /// A condition on QoS in a rule that denies subscriptions.
    #[error("a rule that denies subscriptions denies them at every QoS: leave qos_max out, or deny publish only")]
    QosOfDenial,
    /// A condition on retained publications in a rule about subscriptions only.
    #[error("retain is about publications: leave it out of a rule about subscribe")]
    RetainOfSubscription,
}

impl Rule {
    /// Says whether it can be used. A rule that cannot matches nothing if it allows, everything if it denies.
    ///
    /// # Errors
    ///
    /// The filter or a placeholder is none, or a condition can never hold.
    pub fn check(&self) -> Result<(), RuleError> {
        Template::parse(&self.filter)?;
        check_conditions(self.access, self.action, self.qos_max, self.retain)
    }
}

/// Refuses conditions that would say less than they seem to.
pub(super) fn check_conditions(
    access: Access,
    action: Action,
    qos_max: Option<QoS>,
    retain: Option<bool>,
) -> Result<(), RuleError> {
    if access == Access::Deny && action != Action::Publish && qos_max.is_some() {
        return Err(RuleError::QosOfDenial);
    }
    if action == Action::Subscribe && retain.is_some() {
        return Err(RuleError::RetainOfSubscription);
    }
    Ok(())
}

/// Whether a rule with this condition on addresses is about a client at this one. Where the address is unknown, the client
/// may be at any: what denies is then about it, what allows is not.
pub(super) fn is_where(networks: &[Network], address: Option<IpAddr>, access: Access) -> bool {
    let is_in_one = |address| networks.iter().any(|network| network.contains(address));
    networks.is_empty() || address.map_or(access == Access::Deny, is_in_one)
}

impl Network {
    /// The same network in its plain form.
    fn plain(self) -> Network {
        let (address, prefix) = match self.address.to_canonical() {
            IpAddr::V4(v4) if self.address.is_ipv6() && self.prefix >= 96 => (IpAddr::V4(v4), self.prefix - 96),
            _ => (self.address, self.prefix),
        };
        let behind = |bits: u8| u32::from(bits - prefix);
        let address = match address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(behind(32)).unwrap_or(0)).into(),
            IpAddr::V6(v6) => {
                Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(behind(128)).unwrap_or(0)).into()
            }
        };
        Network { address, prefix }
    }

    /// Whether an address is in it. An IPv4 address is the same written as IPv6 (`::ffff:…`).
    pub fn contains(&self, address: IpAddr) -> bool {
        let beyond = |bits: u8| u32::from(bits.saturating_sub(self.prefix));
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(beyond(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(beyond(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address or a network: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads an address, alone or with the length of its prefix. Bits behind the prefix may be anything and are not kept,
    /// and IPv4 may be written as IPv6 (`::ffff:…`): one network is one value, however it was written.
    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError)?
            }
            Some(_) => return Err(NetworkError),
        };
        (prefix <= bits).then(|| Network { address, prefix }.plain()).ok_or(NetworkError)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    /// For files: the mistake is told with what is written there.
    fn try_from(text: String) -> Result<Network, String> {
        text.parse().map_err(|error| format!("\"{text}\": {error}"))
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Allow => "allow",
            Access::Deny => "deny",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Both => "publish and subscribe",
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_prefix() {
        let is_in = |net: &str, address: &str| network(net).contains(address.parse().unwrap());
        assert!(is_in("10.1.0.0/16", "10.1.255.3"));
        assert!(is_in("10.1.0.0/16", "::ffff:10.1.0.1"));
        assert!(!is_in("10.1.0.0/16", "10.2.0.1"));
        assert!(is_in("0.0.0.0/0", "203.0.113.9"));
        assert!(!is_in("0.0.0.0/0", "2001:db8::1"));
        assert!(is_in("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(is_in("::/0", "2001:db8::1"));
        assert!(is_in("192.0.2.7", "192.0.2.7"));
        assert!(!is_in("192.0.2.7", "192.0.2.6"));
    }

    #[test]
    fn one_network_is_one_value_however_it_is_written() {
        for (written, plain) in [
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("203.0.113.9/0", "0.0.0.0/0"),
            ("::1/0", "::/0"),
        ] {
            assert_eq!(network(written).to_string(), plain, "{written}");
        }
        assert!(network("::ffff:10.0.0.0/104").contains("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "10.0.0.0/8/8", "localhost"] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
        }
    }
}
