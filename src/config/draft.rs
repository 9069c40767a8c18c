//! A configuration on its way: the file, then the command line's overrides, then the check of it all.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::check::check;
use super::document::{self, Origins};
use super::placement::{Placement, placement};
use super::problem::{ConfigError, Finding, Origin, Problem};
use super::{Config, CpuSet, Listener};

/// A configuration that may still be changed and isn't checked yet. It remembers where each value came from.
#[derive(Clone, Debug)]
pub struct Draft {
    config: Config,
    origins: Origins,
}

impl Default for Draft {
    /// What runs when there is no file.
    fn default() -> Draft {
        Draft { config: Config::default(), origins: Origins::new() }
    }
}

impl Draft {
    /// Reads a file. Errors: it cannot be read, isn't TOML, or has unknown keys or values of the wrong kind.
    pub fn from_file(path: &Path) -> Result<Draft, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { file: path.to_owned(), source })?;
        Draft::from_text(&path.display().to_string(), &text)
    }

    /// Reads a file's text; `file` is what problems call it.
    pub fn from_text(file: &str, text: &str) -> Result<Draft, ConfigError> {
        let (config, origins) = document::read(file, text).map_err(ConfigError::Invalid)?;
        Ok(Draft { config, origins })
    }

    /// `--listen`: these instead of the listeners of the file.
    pub fn listen(&mut self, addresses: &[SocketAddr]) {
        self.origins.retain(|key, _| !key.starts_with("listener"));
        for index in 0..addresses.len() {
            self.origins.insert(format!("listener[{index}]"), Origin::Option("--listen"));
        }
        self.config.listeners =
            addresses.iter().map(|address| Listener { address: (*address).into(), ..Listener::default() }).collect();
    }

    /// `--shards`.
    pub fn shards(&mut self, shards: u16) {
        self.config.server.shards = Some(shards);
        self.origins.insert("server.shards".to_owned(), Origin::Option("--shards"));
    }

    /// `--cpus`.
    pub fn cpus(&mut self, cpus: CpuSet) {
        self.config.server.cpus = cpus;
        self.origins.insert("server.cpus".to_owned(), Origin::Option("--cpus"));
    }

    /// `--log`.
    pub fn log(&mut self, log: String) {
        self.config.server.log = log;
        self.origins.insert("server.log".to_owned(), Origin::Option("--log"));
    }

    /// `--allow-anonymous`.
    pub fn allow_anonymous(&mut self) {
        self.config.server.allow_anonymous = true;
        self.origins.insert("server.allow_anonymous".to_owned(), Origin::Option("--allow-anonymous"));
    }

    /// The file of bans, if one is named.
    pub fn bans(&self) -> Option<&Path> {
        self.config.guard.bans.as_deref()
    }

    /// Checks every value and combination for a host that allows these CPUs.
    pub fn check(self, allowed: &CpuSet) -> Result<(Config, Placement), ConfigError> {
        let findings = check(&self.config, allowed);
        match (findings.is_empty(), placement(&self.config.server, allowed)) {
            (true, Ok(placement)) => Ok((self.config, placement)),
            _ => Err(ConfigError::Invalid(findings.into_iter().map(|finding| self.located(finding)).collect())),
        }
    }

    /// Blames the first of a finding's keys that somebody set: a default is never the mistake.
    fn located(&self, finding: Finding) -> Problem {
        let set = finding.keys.iter().find_map(|key| Some((key, self.origin_of(key)?)));
        let (key, origin) = set.unwrap_or((&finding.keys[0], Origin::Default));
        Problem { origin, key: key.clone(), what: finding.what, remedy: finding.remedy }
    }

    /// Where a key was set; for one that a section leaves to its default, where the section begins.
    fn origin_of(&self, key: &str) -> Option<Origin> {
        let section = || key.rsplit_once('.').filter(|(section, _)| section.starts_with("listener["));
        self.origins.get(key).or_else(|| self.origins.get(section()?.0)).cloned()
    }
}
