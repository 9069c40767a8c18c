//! Holding a host against the table: a row for each knob that can be looked at.

use std::path::Path;

use serde::Serialize;

use super::knob::{Knob, Place, Severity, Takes};
use super::reading::{Reading, read};
use super::target::Target;
use super::want::{Want, WantError};

/// How a knob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// As wanted.
    Ok,
    /// This host does not have it.
    Absent,
    /// Otherwise than advised: the operator's choice.
    Note,
    /// Something is lost under load.
    Warn,
    /// It does not run, or does not hold so many connections.
    Fail,
}

/// A knob of a host.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub knob: &'static str,
    /// Where it is, for people.
    #[serde(rename = "where")]
    pub place: String,
    /// Its value; of several, the first that is not as wanted.
    pub current: Option<String>,
    /// What is wanted.
    pub wanted: String,
    /// How it is.
    pub state: State,
    /// How bad that is.
    pub severity: Severity,
    /// What to do; absent when nothing is.
    pub remedy: Option<String>,
    /// Why it is wanted.
    pub why: &'static str,
    /// What it costs.
    pub cost: &'static str,
    /// How it shows.
    pub bites: &'static str,
}

/// How many rows are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// [`State::Ok`].
    pub ok: usize,
    /// [`State::Absent`].
    pub absent: usize,
    /// [`State::Note`].
    pub note: usize,
    /// [`State::Warn`].
    pub warn: usize,
    /// [`State::Fail`].
    pub fail: usize,
}

impl Count {
    /// Counts rows.
    pub fn of(rows: &[Row]) -> Count {
        let mut count = Count::default();
        for row in rows {
            *match row.state {
                State::Ok => &mut count.ok,
                State::Absent => &mut count.absent,
                State::Note => &mut count.note,
                State::Warn => &mut count.warn,
                State::Fail => &mut count.fail,
            } += 1;
        }
        count
    }
}

/// Looks at every knob that matters to the host and can be seen on it. Limits and control groups are those of `pid`, or
/// of this process.
///
/// # Errors
/// When the table's words have no value for such a target.
pub fn check(root: &Path, table: &'static [Knob], target: &Target, pid: Option<u32>) -> Result<Vec<Row>, WantError> {
    let mut rows = Vec::new();
    for knob in table.iter().filter(|knob| target.role.includes(knob.role) && knob.severity != Severity::Leave) {
        let reading = read(root, knob, pid);
        if reading != Reading::Elsewhere {
            rows.push(row(knob, &knob.want(target)?, &reading, target)?);
        }
    }
    Ok(rows)
}

fn row(knob: &'static Knob, want: &Want, reading: &Reading, target: &Target) -> Result<Row, WantError> {
    let current = match reading {
        Reading::Values(values) => values.iter().find(|value| !want.is_met_by(&value.text)).or(values.first()),
        Reading::Absent | Reading::Elsewhere => None,
    };
    let current = current.map(|value| value.text.split_whitespace().collect::<Vec<_>>().join(" "));
    let state = match &current {
        None => State::Absent,
        Some(value) if want.is_met_by(value) => State::Ok,
        Some(_) => match knob.severity {
            Severity::Required | Severity::Capacity => State::Fail,
            Severity::Recommended => State::Warn,
            Severity::Advice | Severity::Leave => State::Note,
        },
    };
    let remedy = match state {
        State::Ok | State::Absent => None,
        State::Note | State::Warn | State::Fail => Some(remedy(knob, want, current.as_deref(), target)?),
    };
    Ok(Row {
        knob: &knob.name,
        place: knob.place.name(),
        current,
        wanted: want.to_string(),
        state,
        severity: knob.severity,
        remedy,
        why: &knob.why,
        cost: &knob.cost,
        bites: &knob.bites,
    })
}

fn remedy(knob: &Knob, want: &Want, current: Option<&str>, target: &Target) -> Result<String, WantError> {
    let value = knob.to_set(target)?.nearest(current).unwrap_or_else(|| want.to_string());
    let mut remedy = match &knob.place {
        Place::Sysctl(name) => format!("sysctl -w {name}='{value}'"),
        Place::Sysfs(path) => format!("echo {value} > /sys/{path}"),
        Place::Limit { unit, .. } => format!("{unit}={value} in the unit, or ulimit before the start"),
        Place::Cgroup(file) => format!("raise {file} of the control group (or of the container)"),
        Place::Memory(_) => "more memory, or fewer connections".to_owned(),
        Place::Process(name) => format!("systemctl disable --now {name}, if tuning/nic has placed the interrupts"),
        Place::Boot { parameter, .. } => format!("boot with {parameter}={value}"),
        Place::Unit(_) | Place::Nic(_) => String::new(),
    };
    match knob.takes {
        Takes::Restart => remedy.push_str(", then restart the broker"),
        Takes::NewConnections => remedy.push_str(" (holds for new connections)"),
        Takes::AtOnce | Takes::Reboot => {}
    }
    Ok(remedy)
}
