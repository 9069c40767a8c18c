//! What a knob's value is now, read below a root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::knob::{Knob, Place};
use crate::doctor::proc;

/// What was found where a knob should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A value, or several where it stands for several files; never none.
    Values(Vec<Value>),
    /// This host has no such thing: an older kernel, a module that is not loaded or not in use, no such device.
    Absent,
    /// It cannot be seen from the host: it is in a unit file or a script.
    Elsewhere,
}

/// One value and the file it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The file, below the root.
    pub path: PathBuf,
    /// What is in it, without the white space around it; of a choice (`always [madvise] never`), what is chosen.
    pub text: String,
}

/// Reads a knob's value; limits and control groups are those of the process `pid`, or of this one.
pub fn read(root: &Path, knob: &Knob, pid: Option<u32>) -> Reading {
    if knob.when.as_ref().is_some_and(|name| contents(&root.join(sysctl(name))).map_or(true, |text| text == "0")) {
        return Reading::Absent;
    }
    let process = pid.map_or("self".to_owned(), |pid| pid.to_string());
    match &knob.place {
        Place::Sysctl(name) => file(root, sysctl(name)),
        Place::Sysfs(path) => files(root, path),
        Place::Limit { proc: name, .. } => {
            let path = PathBuf::from(format!("proc/{process}/limits"));
            let hard = proc::limits(root, &process, name).map(|(_, hard)| hard);
            one(path, hard.map(|hard| if hard == u64::MAX { "unlimited".to_owned() } else { hard.to_string() }))
        }
        Place::Cgroup(name) => control_group(root, &process, name),
        Place::Memory(line) => {
            let bytes = proc::memory(root, line).map(|bytes| bytes.to_string());
            one(PathBuf::from("proc/meminfo"), bytes)
        }
        Place::Process(name) => process_state(root, name),
        Place::Boot { read: Some(name), .. } => shared(file(root, sysctl(name))),
        Place::Boot { parameter, read: None } => command_line(root, parameter),
        Place::Unit(_) | Place::Nic(_) => Reading::Elsewhere,
    }
}

/// A sysctl's file. Interfaces' names may have dots; the table has none of these.
pub fn sysctl(name: &str) -> PathBuf {
    Path::new("proc/sys").join(name.replace('.', "/"))
}

fn one(path: PathBuf, text: Option<String>) -> Reading {
    text.map_or(Reading::Absent, |text| Reading::Values(vec![Value { path, text }]))
}

fn file(root: &Path, path: PathBuf) -> Reading {
    let text = contents(&root.join(&path)).ok();
    one(path, text)
}

/// A network namespace that uses the host's table says so by a minus (`tcp_ehash_entries`).
fn shared(mut reading: Reading) -> Reading {
    if let Reading::Values(values) = &mut reading {
        values.iter_mut().for_each(|value| value.text = value.text.trim_start_matches('-').to_owned());
    }
    reading
}

/// Reads a file as [`Value::text`].
///
/// # Errors
/// When it cannot be read.
pub fn contents(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    Ok(chosen.map_or(text.trim(), |(chosen, _)| chosen).to_owned())
}

fn files(root: &Path, pattern: &str) -> Reading {
    let mut found = Vec::new();
    expand(root, PathBuf::from("sys"), &pattern.split('/').collect::<Vec<_>>(), &mut found);
    if found.is_empty() { Reading::Absent } else { Reading::Values(found) }
}

/// Walks the parts of a path; a part with `*` in it is every name that starts and ends as it does, and has only digits
/// between: `cpu*` is cpu0, not cpufreq.
fn expand(root: &Path, base: PathBuf, parts: &[&str], found: &mut Vec<Value>) {
    let Some((part, rest)) = parts.split_first() else {
        if let Ok(text) = contents(&root.join(&base)) {
            found.push(Value { path: base, text });
        }
        return;
    };
    let Some((start, end)) = part.split_once('*') else { return expand(root, base.join(part), rest, found) };
    let Ok(entries) = fs::read_dir(root.join(&base)) else { return };
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix(start)?.strip_suffix(end)?.parse().ok())
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        expand(root, base.join(format!("{start}{number}{end}")), rest, found);
    }
}

/// The least value in the process's group and those above it (control groups v2).
fn control_group(root: &Path, process: &str, name: &str) -> Reading {
    let groups = proc::text(root, &format!("proc/{process}/cgroup")).unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Reading::Absent };
    let mut least: Option<(u64, Value)> = None;
    for directory in Path::new("sys/fs/cgroup").join(group).ancestors() {
        if !directory.starts_with("sys/fs/cgroup") {
            break;
        }
        let path = directory.join(name);
        let Ok(text) = contents(&root.join(&path)) else { continue };
        let Some(number) = limit(name, &text) else { continue };
        if least.as_ref().is_none_or(|(least, _)| number < *least) {
            let text = if number == u64::MAX { "max".to_owned() } else { number.to_string() };
            least = Some((number, Value { path, text }));
        }
    }
    least.map_or(Reading::Absent, |(_, value)| Reading::Values(vec![value]))
}

/// A group's limit as a number; cpu.max, a quota and a period in µs, in percent of one CPU.
fn limit(name: &str, text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let first = words.next()?;
    if first == "max" {
        return Some(u64::MAX);
    }
    let number: u64 = first.parse().ok()?;
    if name != "cpu.max" {
        return Some(number);
    }
    number.checked_mul(100)?.checked_div(words.next()?.parse().ok()?)
}

fn process_state(root: &Path, name: &str) -> Reading {
    let Ok(entries) = fs::read_dir(root.join("proc")) else { return Reading::Absent };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let runs = pids.map(|pid| format!("proc/{pid}/comm")).find(|comm| proc::text(root, comm).as_deref() == Some(name));
    let text = if runs.is_some() { "running" } else { "absent" };
    one(PathBuf::from(runs.unwrap_or_default()), Some(text.to_owned()))
}

fn command_line(root: &Path, parameter: &str) -> Reading {
    let line = proc::text(root, "proc/cmdline").unwrap_or_default();
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(parameter)?.strip_prefix('='));
    one(PathBuf::from("proc/cmdline"), value.map(str::to_owned))
}
