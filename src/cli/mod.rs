//! The command line: what `ringmq` is asked to do, and the exit code it answers with.
//!
//! 0 is done, 1 is no (a mistake in the configuration, a host that cannot run it, a start that failed), 2 is a command
//! line or a file that cannot be read.

mod access;
mod accounts;
mod acl;
mod addresses;
mod ban;
mod logging;
mod passwd;
mod reload;
mod rlimits;
mod serve;
mod signals;
mod summary;
mod tune;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::acl::Policy;
use crate::auth;
use crate::config::{Config, ConfigError, CpuSet, Draft, Placement};
use crate::doctor;
use crate::transport::tls::KernelTls;

pub use self::serve::{ServeError, serve};
pub use self::signals::StopSignal;

/// Something was refused, and said why.
const REFUSED: u8 = 1;
/// What was named cannot be read.
const UNREADABLE: u8 = 2;

#[derive(Parser)]
#[command(name = "ringmq", version, about = "A single-node MQTT broker: one shard per CPU core on io_uring")]
#[command(args_conflicts_with_subcommands = true, max_term_width = 100)]
#[command(after_help = "Without a command it serves. Without a file it serves MQTT 3.1, 3.1.1 and 5.0 on \
    127.0.0.1:1883, on every CPU.\n\nExit codes: 0 done, 1 refused or failed (the message says why), 2 a command line or \
    file that cannot be read.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker until SIGTERM or SIGINT; a second signal ends it at once
    Serve(Options),
    /// Read a configuration file and say what is wrong with it, or what it amounts to on this host
    CheckConfig {
        /// The TOML file
        file: PathBuf,
    },
    /// Say whether this host can run the broker as configured, and what to change
    Doctor(DoctorOptions),
    /// Ask the rules what a client may do, and which of them decides
    Acl(acl::Acl),
    /// Add, change, remove or list the users of a password file
    Passwd(passwd::Passwd),
    /// Hold this host against the table of knobs, change it, change it back
    Tune(tune::Tune),
    /// Keep clients out, let them in again, say who is kept out
    Ban(ban::BanCommand),
}

#[derive(Args)]
struct DoctorOptions {
    #[command(flatten)]
    options: Options,
    /// Connections that have to be held; a host that cannot fails [default: limits.connections_max, as a warning]
    #[arg(long, value_name = "N")]
    connections: Option<u32>,
    /// One JSON object, every knob of the table in it
    #[arg(long)]
    json: bool,
}

/// The configuration: a file, and what the command line says instead of it.
#[derive(Args)]
struct Options {
    /// Configuration file (TOML); every key is in tuning/ringmq.example.toml
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here, instead of on the listeners of the file; may be given several times
    #[arg(long, short, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
    /// How many shards run [default: one for each CPU]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// The CPUs they may run on, like 0-3,6 [default: all that are allowed]
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuSet>,
    /// What is logged: a level, or levels by module (info,ringmq::net=debug) [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// Let clients that nobody authenticates in by listeners that other hosts can reach
    #[arg(long)]
    allow_anonymous: bool,
}

impl Options {
    fn draft(&self) -> Result<Draft, ConfigError> {
        let mut draft = self.config.as_deref().map_or_else(|| Ok(Draft::default()), Draft::from_file)?;
        if !self.listen.is_empty() {
            draft.listen(&self.listen);
        }
        if let Some(shards) = self.shards {
            draft.shards(shards);
        }
        if let Some(cpus) = &self.cpus {
            draft.cpus(cpus.clone());
        }
        if let Some(log) = &self.log {
            draft.log(log.clone());
        }
        if self.allow_anonymous {
            draft.allow_anonymous();
        }
        Ok(draft)
    }
}

/// Does what the process's arguments ask for.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| tune::refuse(&error));
    match cli.command.unwrap_or(Command::Serve(cli.options)) {
        Command::Serve(options) => run_serve(&options),
        Command::CheckConfig { file } => run_check_config(&file),
        Command::Doctor(options) => run_doctor(&options),
        Command::Acl(acl) => acl.run(),
        Command::Passwd(passwd) => passwd.run(),
        Command::Tune(tune) => tune.run(),
        Command::Ban(ban) => ban.run(),
    }
}

fn run_serve(options: &Options) -> ExitCode {
    let (config, placement) = match options.draft().and_then(checked) {
        Ok(checked) => checked,
        Err(error) => return config_refused(&error),
    };
    match serve(config, placement) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

fn run_check_config(file: &Path) -> ExitCode {
    match Draft::from_file(file).and_then(checked) {
        Ok((config, placement)) => {
            if let Err(error) = serve::try_files(&config) {
                eprintln!("{}: {error}", file.display());
                return ExitCode::from(REFUSED);
            }
            if let Err(error) = Policy::load(&config.acl) {
                eprintln!("{error}");
                return ExitCode::from(REFUSED);
            }
            if let Err(errors) = auth::check(&config.auth) {
                eprintln!("{errors}");
                return ExitCode::from(REFUSED);
            }
            println!("{}: OK", file.display());
            for (name, text) in summary::summary(&config, &placement) {
                println!("  {name:<9} {text}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => config_refused(&error),
    }
}

fn run_doctor(doctor: &DoctorOptions) -> ExitCode {
    let (mut config, placement) = match doctor.options.draft().and_then(checked) {
        Ok(checked) => checked,
        Err(error) => return config_refused(&error),
    };
    config.limits.connections_max = doctor.connections.unwrap_or(config.limits.connections_max);
    let root = Path::new("/");
    let target = doctor::target(root, &config, &placement);
    let knobs = match doctor::knobs(root, &target) {
        Ok(knobs) => knobs,
        Err(error) => {
            eprintln!("ringmq: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    let mut findings = doctor::examine(root, doctor::ring(), &config, &placement);
    findings.push(doctor::tls(&KernelTls::of_this_host()));
    if doctor.connections.is_some() {
        doctor::insist(&mut findings);
    }
    findings.extend(doctor::knob_findings(&knobs, doctor.connections.is_some()));
    if doctor.json {
        println!("{}", serde_json::json!({ "target": target, "findings": findings, "knobs": knobs }));
    } else {
        let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        findings.iter().for_each(|finding| println!("{finding:<width$}"));
    }
    match findings.iter().any(|finding| finding.level == doctor::Level::Fail) {
        true => ExitCode::from(REFUSED),
        false => ExitCode::SUCCESS,
    }
}

fn checked(draft: Draft) -> Result<(Config, Placement), ConfigError> {
    draft.check(&doctor::allowed_cpus(Path::new("/")))
}

fn config_refused(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    match error {
        ConfigError::Unreadable { .. } => ExitCode::from(UNREADABLE),
        ConfigError::Invalid(_) => ExitCode::from(REFUSED),
    }
}
