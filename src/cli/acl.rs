//! `ringmq acl check`: what the rules make of a client, and which of them decided.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{REFUSED, UNREADABLE, checked, config_refused};
use crate::acl::{Policy, Who};
use crate::codec::QoS;
use crate::codec::topic::{validate_filter, validate_topic_name};
use crate::config::{self, ConfigError, Draft};

/// The command and its own help.
#[derive(Args)]
#[command(after_help = "Exit codes: 0 allowed, 1 denied, 2 a command line or a file that cannot be read.\n\n\
    Example: ringmq acl check --file rules.json --client sensor001 --user sensor001 publish data/room1")]
pub(super) struct Acl {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether a client may publish or subscribe, and which rule decides
    Check(Check),
}

#[derive(Args)]
struct Check {
    /// Configuration file (TOML), for its section [acl]
    #[arg(long, short, value_name = "FILE", required_unless_present = "file")]
    config: Option<PathBuf>,
    /// The file of rules, instead of the one that the configuration names
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Client identifier
    #[arg(long, value_name = "ID")]
    client: String,
    /// User name [default: a client that nobody authenticated]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Common name of its certificate
    #[arg(long, value_name = "NAME")]
    common_name: Option<String>,
    /// A role that its authentication gives it, besides those of the file; may be given several times
    #[arg(long, value_name = "ROLE")]
    role: Vec<Arc<str>>,
    /// A claim of its token, NAME=VALUE; may be given several times
    #[arg(long, value_name = "CLAIM", value_parser = claim)]
    claim: Vec<(Arc<str>, Arc<str>)>,
    /// Where it connects from [default: by a Unix domain socket]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// May it publish to this topic?
    Publish {
        /// Topic name
        topic: String,
        /// QoS of the message
        #[arg(long, value_name = "QOS", default_value = "0", value_parser = qos)]
        qos: QoS,
        /// A retained message
        #[arg(long)]
        retain: bool,
    },
    /// May it subscribe to this filter?
    Subscribe {
        /// Topic filter, of a shared subscription or not
        filter: String,
        /// QoS that it asks for
        #[arg(long, value_name = "QOS", default_value = "2", value_parser = qos)]
        qos: QoS,
    },
}

fn claim(text: &str) -> Result<(Arc<str>, Arc<str>), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

fn qos(text: &str) -> Result<QoS, &'static str> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("write 0, 1 or 2"),
    }
}

impl Acl {
    /// Does it, and says what came out.
    pub(super) fn run(&self) -> ExitCode {
        let Command::Check(check) = &self.command;
        let acl = match check.section() {
            Ok(acl) => acl,
            Err(error) => return config_refused(&error),
        };
        match Policy::load(&acl).map_err(|error| error.to_string()).and_then(|policy| check.ask(&policy)) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(UNREADABLE)
            }
        }
    }
}

impl Check {
    /// `[acl]` of the configuration, with the file that the command line names.
    fn section(&self) -> Result<config::Acl, ConfigError> {
        let acl = match &self.config {
            Some(file) => Draft::from_file(file).and_then(checked)?.0.acl,
            None => config::Acl::default(),
        };
        Ok(config::Acl { file: self.file.clone().or(acl.file), ..acl })
    }

    fn ask(&self, policy: &Policy) -> Result<ExitCode, String> {
        let claims: BTreeMap<_, _> = self.claim.iter().cloned().collect();
        let who = Who {
            client_id: &self.client,
            user: self.user.as_deref(),
            common_name: self.common_name.as_deref(),
            roles: &self.role,
            claims: &claims,
            address: self.address,
            rules: None,
        };
        let answer = match &self.question {
            Question::Publish { topic, qos, retain } => {
                validate_topic_name(topic).map_err(|error| format!("{topic}: {error}"))?;
                policy.explain_publish(&who, topic, *qos, *retain)
            }
            Question::Subscribe { filter, qos } => {
                validate_filter(filter).map_err(|error| format!("{filter}: {error}"))?;
                policy.explain_subscribe(&who, filter, *qos)
            }
        };
        println!("{answer}");
        Ok(if answer.is_allowed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }
}
