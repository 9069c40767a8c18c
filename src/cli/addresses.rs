//! What asks where clients connect from, held against whether that is known.
//!
//! Where it is not (a kernel before 6.7 has no word for it in its ring, or a listener was told not to ask), a ban or a rule
//! about an address would be passed over without a word, and so would a limit by address. So the broker does not start
//! with such a thing, and takes none when it reads its files again. A Unix domain socket has no addresses, and that is
//! no gap: no ban is about its clients, and rules that deny by address deny there.

use std::fmt;
use std::path::Path;

use crate::acl::Policy;
use crate::config::{Acl, Config};
use crate::guard::ban_file::BanFileError;
use crate::guard::bans::{Bans, Target};

/// Whether every address that a client connects from is known.
#[derive(Clone, Debug)]
pub(super) struct Sight(Option<Blind>);

/// Why some are not.
#[derive(Clone, Debug)]
pub(super) enum Blind {
    /// The kernel cannot say.
    Kernel,
    /// This listener does not ask it.
    Listener(String),
}

/// Something asks for addresses that are not known.
#[derive(Debug, thiserror::Error)]
#[error("{what}, but {why}: it would be passed over\n  remedy: {}, or remove it", why.remedy())]
pub struct AddressUnknown {
    what: String,
    why: Blind,
}

/// What a ban about an address is worth here, for whoever adds one.
pub(super) const NOT_TOLD: &str = "this kernel cannot tell who connects (Linux 6.7 can): no broker on this host that clients \
                                   connect to by TCP takes a ban of an address, and none starts with one";

impl Sight {
    /// Of a broker with these listeners, on a kernel that can tell who connects, or not.
    pub fn new(config: &Config, kernel_tells: bool) -> Sight {
        // What stands behind a proxy is known from the proxy, and the listener refuses to start without.
        let mut asked = config.listeners.iter().filter(|one| one.address.ip().is_some() && one.proxy.is_none());
        let blind = match kernel_tells {
            true => {
                asked.find(|one| one.peer_address == Some(false)).map(|one| Blind::Listener(one.address.to_string()))
            }
            false => asked.next().map(|_| Blind::Kernel),
        };
        Sight(blind)
    }

    /// The limits by address of the configuration can be kept.
    pub fn of_limits(&self, config: &Config) -> Result<(), AddressUnknown> {
        let guard = &config.guard;
        self.of(match () {
            () if guard.connections_per_address_max > 0 => Some("guard.connections_per_address_max is set".to_owned()),
            () if guard.connect_rate_per_address.0.is_some() => {
                Some("guard.connect_rate_per_address is set".to_owned())
            }
            () => None,
        })
    }

    /// The rules can be followed.
    pub fn of_rules(&self, policy: &Policy, acl: &Acl) -> Result<(), AddressUnknown> {
        let file = acl.file.as_deref().unwrap_or(Path::new("")).display();
        self.of(policy.place_of_address().map(|place| format!("{file}: {place} is about an address")))
    }

    /// The bans can be held against everybody.
    pub fn of_bans(&self, bans: &Bans, file: &Path) -> Result<(), AddressUnknown> {
        let ban = bans.list().iter().find(|ban| matches!(ban.target, Target::Address(_)));
        self.of(ban.map(|ban| format!("{}: there is a ban of {}", file.display(), ban.target)))
    }

    fn of(&self, what: Option<String>) -> Result<(), AddressUnknown> {
        match (what, &self.0) {
            (Some(what), Some(why)) => Err(AddressUnknown { what, why: why.clone() }),
            _ => Ok(()),
        }
    }
}

impl Blind {
    fn remedy(&self) -> &'static str {
        match self {
            Blind::Kernel => "run Linux 6.7 or newer, let a trusted proxy say who connects ([listener.proxy])",
            Blind::Listener(_) => "leave its peer_address \"auto\"",
        }
    }
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blind::Kernel => f.write_str("this kernel cannot tell who connects (Linux 6.7 can)"),
            Blind::Listener(address) => write!(f, "the listener {address} does not ask who connects"),
        }
    }
}

/// The bans cannot be read, or not be held against everybody.
#[derive(Debug, thiserror::Error)]
pub enum BansError {
    /// Their file.
    #[error(transparent)]
    File(#[from] BanFileError),
    /// One of an address.
    #[error(transparent)]
    Address(#[from] AddressUnknown),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{Access, Format};
    use crate::config::Draft;
    use crate::guard::bans::Ban;

    fn config(text: &str) -> Config {
        Draft::from_text("a.toml", text).unwrap().check(&(0..1).collect()).unwrap().0
    }

    fn rules(address: &str) -> Policy {
        let text = format!("[[rules]]\naccess = \"deny\"\ntopic = \"t\"\n{address}\n");
        Policy::from_text("r.toml", &text, Format::Toml, Access::Allow, &[]).unwrap()
    }

    fn bans(target: Target) -> Bans {
        Bans::new(vec![Ban::new(target, None, String::new()).unwrap()]).unwrap()
    }

    const TCP: &str = "[[listener]]\naddress = \"127.0.0.1:1\"\n";

    fn told(outcome: Result<(), AddressUnknown>) -> String {
        outcome.map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn what_asks_for_addresses_is_refused_where_the_kernel_cannot_tell_them() {
        let acl = Acl { file: Some("/etc/rules.toml".into()), ..Acl::default() };
        let address = Target::address("192.0.2.0/24").unwrap();
        let limits = ["connections_per_address_max = 3", "connect_rate_per_address = \"5/s\""];
        for kernel_tells in [true, false] {
            let sight = Sight::new(&config(TCP), kernel_tells);
            let mut outcomes: Vec<String> =
                limits.iter().map(|key| told(sight.of_limits(&config(&format!("{TCP}[guard]\n{key}\n"))))).collect();
            outcomes.push(told(sight.of_rules(&rules("address = \"192.0.2.7\""), &acl)));
            outcomes.push(told(sight.of_bans(&bans(address.clone()), Path::new("/etc/bans"))));
            let names = ["connections_per_address_max", "connect_rate_per", "/etc/rules.toml: rules[0]", "/etc/bans: "];
            for (outcome, name) in outcomes.iter().zip(names) {
                assert_eq!(outcome == "fine", kernel_tells, "{outcome}");
                assert!(kernel_tells || outcome.contains(name) && outcome.contains("Linux 6.7"), "{outcome}");
            }
            // What asks for none is taken in any case.
            assert_eq!(told(sight.of_limits(&config(TCP))), "fine");
            assert_eq!(told(sight.of_rules(&rules(""), &acl)), "fine");
            assert_eq!(told(sight.of_bans(&bans(Target::ClientId("c".into())), Path::new("/etc/bans"))), "fine");
        }
    }

    #[test]
    fn a_listener_that_does_not_ask_is_named_and_one_without_addresses_is_none() {
        let bans = bans(Target::address("192.0.2.7").unwrap());
        let of =
            |text: &str, kernel_tells| told(Sight::new(&config(text), kernel_tells).of_bans(&bans, Path::new("b")));
        let told = of(&format!("{TCP}peer_address = false\n"), true);
        assert!(told.contains("127.0.0.1:1") && told.contains("peer_address"), "{told}");
        assert_eq!(of("[[listener]]\naddress = \"unix:/run/ringmq.sock\"\n", false), "fine");
    }
}
