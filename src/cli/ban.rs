//! `ringmq ban`: the list of those who are kept out, in the file that `guard.bans` names. The broker reads it at its start
//! and at SIGHUP.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::addresses::NOT_TOLD;
use super::{REFUSED, config_refused};
use crate::config::{Draft, duration_text, parse_duration};
use crate::guard::ban_file::{self, BanFileError};
use crate::guard::bans::{Ban, BanError, Target, UnixTime};
use crate::guard::glob::Glob;
use crate::net::probe::probe;

#[derive(Args)]
pub(super) struct BanCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Keep somebody out; who is on the list already gets the new end and reason
    Add {
        #[command(flatten)]
        whom: Whom,
        /// For how long, like 10min, 1h or 7d [default: for ever]
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        lasts: Option<Duration>,
        /// Why, for whoever reads the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        #[command(flatten)]
        list: Kept,
    },
    /// Let somebody in again
    Remove {
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        list: Kept,
    },
    /// Say who is kept out, for how long, and why
    List {
        #[command(flatten)]
        list: Kept,
    },
}

/// Exactly one of them.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The client with this identifier
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// All clients with this user name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All clients from this address or network, like 192.0.2.7 or 2001:db8::/32
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// All clients whose identifier matches: `*` is any text, `?` any character
    #[arg(long, value_name = "PATTERN")]
    pattern: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Kept {
    /// The file of bans
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The broker's configuration, whose guard.bans names it
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or("expected a duration with its unit, like 1h or 7d")
}

impl Whom {
    fn target(self) -> Result<Target, BanError> {
        match (self.client, self.user, self.address, self.pattern) {
            (Some(client), ..) => Ok(Target::ClientId(client.into())),
            (_, Some(user), ..) => Ok(Target::User(user.into())),
            (_, _, Some(address), _) => Target::address(&address),
            (.., pattern) => Ok(Target::Pattern(Glob::new(&pattern.unwrap_or_default())?)),
        }
    }
}

/// Why the list was not changed or shown.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] BanFileError),
    #[error(transparent)]
    Ban(#[from] BanError),
    #[error("{0} is not on the list")]
    NotThere(Target),
}

/// The time now, in seconds since 1970.
pub(super) fn unix_now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// What is to be said of a ban on a kernel that can tell who connects, or not, or of which that is not known.
fn warning(target: &Target, kernel_tells: Option<bool>) -> Option<&'static str> {
    let in_vain = matches!(target, Target::Address(_)) && kernel_tells == Some(false);
    in_vain.then_some(NOT_TOLD)
}

impl BanCommand {
    pub(super) fn run(self) -> ExitCode {
        let list = match &self.verb {
            Verb::Add { list, .. } | Verb::Remove { list, .. } | Verb::List { list } => list,
        };
        let file = match (&list.file, &list.config) {
            (Some(file), _) => file.clone(),
            (None, config) => match Draft::from_file(&config.clone().unwrap_or_default()) {
                Ok(draft) => match draft.bans() {
                    Some(file) => file.to_owned(),
                    None => {
                        eprintln!("ringmq: the configuration names no file of bans: set guard.bans");
                        return ExitCode::from(REFUSED);
                    }
                },
                Err(error) => return config_refused(&error),
            },
        };
        match self.verb.run(&file) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("ringmq: {error}");
                ExitCode::from(REFUSED)
            }
        }
    }
}

impl Verb {
    fn run(self, file: &std::path::Path) -> Result<(), Failure> {
        let now = unix_now();
        match self {
            Verb::Add { whom, lasts, reason, .. } => {
                let until = lasts.map(|lasts| UnixTime(now.0.saturating_add(lasts.as_secs().max(1))));
                let ban = Ban::new(whom.target()?, until, reason)?;
                if let Some(warning) = warning(&ban.target, probe().ok().map(|features| features.peer_names)) {
                    eprintln!("ringmq: {warning}");
                }
                println!("{}", line(&ban, now));
                ban_file::update(file, |list| {
                    // Those that ended are of no use to anybody.
                    list.retain(|other| other.target != ban.target && other.holds(now));
                    list.push(ban);
                })?;
            }
            Verb::Remove { whom, .. } => {
                let target = whom.target()?;
                let removed = ban_file::update(file, |list| {
                    let before = list.len();
                    list.retain(|ban| ban.target != target);
                    before - list.len()
                })?;
                if removed == 0 {
                    return Err(Failure::NotThere(target));
                }
                println!("{target}: removed");
            }
            Verb::List { .. } => {
                let bans = ban_file::load(file)?;
                bans.list().iter().filter(|ban| ban.holds(now)).for_each(|ban| println!("{}", line(ban, now)));
                return Ok(());
            }
        }
        println!("a broker that runs takes it over at SIGHUP");
        Ok(())
    }
}

fn line(ban: &Ban, now: UnixTime) -> String {
    let left = ban.until.map_or("for ever".to_owned(), |until| {
        format!("for {}", duration_text(Duration::from_secs(until.0.saturating_sub(now.0))))
    });
    let reason = if ban.reason.is_empty() { String::new() } else { format!(": {}", ban.reason) };
    format!("{}, {left}{reason}", ban.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_of_an_address_is_warned_about_where_the_kernel_cannot_tell_who_connects() {
        let address = Target::address("192.0.2.7").unwrap();
        assert_eq!(warning(&address, Some(false)), Some(NOT_TOLD));
        assert_eq!([Some(true), None].map(|tells| warning(&address, tells)), [None, None]);
        assert_eq!(warning(&Target::ClientId("c".into()), Some(false)), None);
    }
}
