//! The table of knobs, `tuning/knobs.toml`, which is part of the program.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::target::{Role, Target};
use super::want::{Want, WantError};

static TEXT: &str = include_str!("../../../tuning/knobs.toml");

/// One thing of a host that can be set, and what is known of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Knob {
    /// What it is called in reports; unique.
    pub name: String,
    /// Where its value is.
    #[serde(rename = "where")]
    pub place: Place,
    /// What its value should be ([`Want::read`]); for a unit's directive, the text as it stands. Empty for one to leave.
    #[serde(default, deserialize_with = "one_or_many")]
    pub wanted: Vec<String>,
    /// What is put into files and written to the host, where that is more than is checked for.
    #[serde(default)]
    pub set: Option<String>,
    /// A sysctl that has to be there and not 0 for this to matter: a module that is loaded need not be in use.
    #[serde(default)]
    pub when: Option<String>,
    /// How bad it is when it is not as wanted.
    pub severity: Severity,
    /// On which hosts it matters.
    #[serde(default)]
    pub role: Role,
    /// Whether each network namespace has its own, so that a container can be given it.
    #[serde(default)]
    pub namespaced: bool,
    /// From when on a change has effect.
    #[serde(default)]
    pub takes: Takes,
    /// Why it should be so.
    pub why: String,
    /// What that costs.
    pub cost: String,
    /// How one sees that it is wrong: the counter, the message.
    pub bites: String,
    /// What was found when it was tried, with the machine; absent where it was not.
    #[serde(default)]
    pub measured: Option<String>,
    /// Where that is written.
    pub source: String,
}

/// Where a knob's value is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Place {
    /// A sysctl by its dotted name.
    Sysctl(String),
    /// Files below /sys; `*` stands for any part of one name.
    Sysfs(String),
    /// A limit of the process: its name in /proc/PID/limits, and the unit's directive.
    Limit {
        /// As in /proc/PID/limits.
        proc: String,
        /// As in systemd.exec(5).
        unit: String,
    },
    /// A file of the process's control group (v2) and of those above it: the least holds.
    Cgroup(String),
    /// A line of /proc/meminfo, in bytes.
    Memory(String),
    /// A process that should not run, by its name.
    Process(String),
    /// A parameter of the kernel's command line. `read` is the sysctl that tells what it came to.
    Boot {
        /// Its name.
        parameter: String,
        /// A sysctl to read instead of the command line.
        #[serde(default)]
        read: Option<String>,
    },
    /// A directive of the unit file.
    Unit(String),
    /// A setting of a network interface, made by `tuning/nic`.
    Nic(String),
}

/// How bad it is when a knob is not as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The program does not run.
    Required,
    /// So many connections are not held.
    Capacity,
    /// It works, but loses something under load.
    Recommended,
    /// Depends on what the operator wants: told, and only changed when named.
    Advice,
    /// Often seen in such lists, and without use here: not looked at, said why.
    Leave,
}

/// From when on a change has effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// As soon as it is written.
    #[default]
    AtOnce,
    /// For connections opened from then on.
    NewConnections,
    /// When the program starts again.
    Restart,
    /// When the host starts again.
    Reboot,
}

/// What is wrong with the table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read.
    #[error("the table of knobs: {0}")]
    Toml(#[from] Box<toml::de::Error>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    knob: Vec<Knob>,
}

/// All knobs, in the table's order.
pub fn table() -> &'static [Knob] {
    // The text is part of the program, and a test reads it.
    static TABLE: LazyLock<Vec<Knob>> = LazyLock::new(|| parse(TEXT).expect("the built-in table is good"));
    &TABLE
}

fn parse(text: &str) -> Result<Vec<Knob>, TableError> {
    let table: Table = toml::from_str(text).map_err(Box::new)?;
    Ok(table.knob)
}

impl Knob {
    /// What is wanted of it on one host.
    ///
    /// # Errors
    /// When the table's words for it have no value there.
    pub fn want(&self, target: &Target) -> Result<Want, WantError> {
        Want::read(&self.wanted, target)
    }

    /// The value for a file that knows nothing of the host's present one; `None` when there is nothing to set.
    pub fn value(&self, target: &Target) -> Result<Option<String>, WantError> {
        if matches!(self.place, Place::Unit(_)) {
            return Ok(Some(self.wanted.join(" ")));
        }
        if self.severity == Severity::Leave {
            return Ok(None);
        }
        Ok(self.to_set(target)?.nearest(None))
    }

    /// What to set it to: within `set` where the table has that, else within `wanted`.
    ///
    /// # Errors
    /// When the table's words for it have no value there.
    pub fn to_set(&self, target: &Target) -> Result<Want, WantError> {
        match &self.set {
            Some(set) => Want::read(std::slice::from_ref(set), target),
            None => self.want(target),
        }
    }

    /// Whether it is written to the host by `apply` unless it is named: what only advises is not.
    pub fn is_applied(&self) -> bool {
        matches!(self.place, Place::Sysctl(_) | Place::Sysfs(_)) && self.severity < Severity::Advice
    }
}

impl Place {
    /// The name that an operator would look for.
    pub fn name(&self) -> String {
        match self {
            Place::Sysctl(name) => format!("sysctl {name}"),
            Place::Sysfs(path) => format!("/sys/{path}"),
            Place::Limit { unit, .. } => format!("limit, {unit}= in the unit"),
            Place::Cgroup(file) => format!("control group, {file}"),
            Place::Memory(line) => format!("{line} of /proc/meminfo"),
            Place::Process(name) => format!("process {name}"),
            Place::Boot { parameter, .. } => format!("boot parameter {parameter}"),
            Place::Unit(directive) => format!("unit, {directive}="),
            Place::Nic(setting) => format!("network interface, {setting}"),
        }
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::One(one) => vec![one],
        Written::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_reads_and_every_knob_in_it_is_complete() {
        let mut names = HashSet::new();
        for knob in parse(TEXT).unwrap() {
            assert!(names.insert(knob.name.clone()), "{} is there twice", knob.name);
            for (field, text) in [("why", &knob.why), ("cost", &knob.cost), ("bites", &knob.bites)] {
                assert!(text.ends_with('.') && text.len() > 4, "{}: {field}", knob.name);
            }
            assert!(!knob.source.is_empty(), "{}: source", knob.name);
            assert_eq!(knob.wanted.is_empty(), knob.severity == Severity::Leave, "{}: wanted", knob.name);
        }
        assert!(names.len() > 50);
    }

    #[test]
    fn what_is_wanted_has_a_value_on_hosts_small_and_large_and_setting_it_satisfies() {
        for (connections, cores, memory) in [(1, 1, 1 << 28), (1_000_000, 8, 32 << 30), (50_000_000, 64, 2 << 40)] {
            let target = Target { connections, cores, memory, ..Target::default() };
            for knob in table() {
                if knob.severity == Severity::Leave || matches!(knob.place, Place::Unit(_)) {
                    continue;
                }
                let want = knob.want(&target).unwrap_or_else(|error| panic!("{}: {error}", knob.name));
                let Some(value) = knob.value(&target).unwrap() else { continue };
                assert!(want.is_met_by(&value), "{}: {value} is not {want}", knob.name);
            }
        }
    }

    #[test]
    fn a_knob_with_an_unknown_field_is_refused() {
        let text = "[[knob]]\nname = 'a'\nwhere = { sysctl = 'a' }\nseverity = 'leave'\nwhy = ''\ncost = ''\n\
                    bites = ''\nsource = ''\n";
        assert!(parse(text).is_ok());
        assert!(parse(&format!("{text}wnated = '1'\n")).unwrap_err().to_string().contains("wnated"));
    }
}
