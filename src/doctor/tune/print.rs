//! The files of `tuning/` that are made from the table.
//!
//! Configuration files are written line by line here; the unit and the scripts are templates (`tuning/templates/`) whose
//! `{{NAME}}` are replaced. What each file needs of the table is all that it knows.

use super::knob::{Knob, Place, Severity, table};
use super::target::{Role, Target};
use super::want::WantError;

/// Between these lines of `tuning/README.md` stands [`Form::Readme`].
pub const README_BEGIN: &str = "<!-- from knobs.toml, by tuning/generate -->";
/// The end of it.
pub const README_END: &str = "<!-- end of what is from knobs.toml -->";

static UNIT: &str = include_str!("../../../tuning/templates/ringmq.service");
static NIC: &str = include_str!("../../../tuning/templates/nic");
static LOADGEN_HOST: &str = include_str!("../../../tuning/templates/loadgen-host");

/// What can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A file for /etc/sysctl.d
    Sysctl,
    /// The systemd unit
    Unit,
    /// A profile for tuned
    Tuned,
    /// The script for a network interface
    Nic,
    /// The script for a load generator's host
    LoadgenHost,
    /// The tables of tuning/README.md
    Readme,
}

/// Why a file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// The table has no value for such a host.
    #[error(transparent)]
    Want(#[from] WantError),
    /// A template asks for what the table does not have.
    #[error("the template asks for {0}, and the table has no such knob")]
    Name(String),
}

/// Makes one file for one target.
///
/// # Errors
/// When the table has no value for such a target.
pub fn print(form: Form, target: &Target) -> Result<String, PrintError> {
    match form {
        Form::Sysctl => sysctl(target),
        Form::Unit => filled(UNIT, target),
        Form::Tuned => tuned(target),
        Form::Nic => filled(NIC, target),
        Form::LoadgenHost => filled(LOADGEN_HOST, &Target { role: Role::Generator, ..*target }),
        Form::Readme => readme(target),
    }
}

/// What the file is for, and how to have another.
fn heading(form: &str, target: &Target) -> String {
    let role = match target.role {
        Role::Broker => "broker",
        Role::Generator => "generator",
        Role::Both => "both",
    };
    let Target { connections, cores, memory, .. } = target;
    let memory = memory >> 30;
    format!(
        "# For {connections} connections, {cores} cores and {memory} GiB of memory; made from tuning/knobs.toml by tuning/generate.\n\
         # For another host: ringmq tune print {form} --role {role} --connections N --cores N --memory-gib N\n"
    )
}

fn sysctl(target: &Target) -> Result<String, PrintError> {
    let mut text = heading("sysctl", target);
    text.push_str("# Install as /etc/sysctl.d/90-ringmq.conf, then: sysctl --system\n");
    text.push_str("# A host that has more already is better left so: ringmq tune apply lowers nothing.\n\n");
    for knob in of_role(target).filter(|knob| matches!(knob.place, Place::Sysctl(_))) {
        let (Place::Sysctl(name), Some(value)) = (&knob.place, knob.value(target)?) else { continue };
        // One dash before a name: a host without it is no error.
        let comment = if knob.severity == Severity::Advice { "#" } else { "" };
        line(&mut text, &format!("# {}\n{comment}-{name} = {value}\n", first_sentence(&knob.why)));
    }
    text.truncate(text.trim_end().len() + 1);
    Ok(text)
}

fn tuned(target: &Target) -> Result<String, PrintError> {
    let mut text = heading("tuned", target);
    text.push_str("# Install as /etc/tuned/ringmq/tuned.conf (newer: /etc/tuned/profiles/ringmq/tuned.conf), then:\n");
    text.push_str("# tuned-adm profile ringmq\n\n[main]\nsummary=Many connections to an MQTT broker, ringmq\n");
    let (mut sysctls, mut files, mut boot) = (String::new(), String::new(), String::new());
    for knob in of_role(target).filter(|knob| knob.severity < Severity::Advice) {
        let Some(value) = knob.value(target)? else { continue };
        match &knob.place {
            Place::Sysctl(name) => line(&mut sysctls, &format!("{name}={value}")),
            Place::Sysfs(path) => line(&mut files, &format!("/sys/{path}={value}")),
            Place::Boot { parameter, .. } => line(&mut boot, &format!("# cmdline=+{parameter}={value}")),
            _ => {}
        }
    }
    Ok(format!("{text}\n[sysctl]\n{sysctls}\n[sysfs]\n{files}\n[bootloader]\n# Holds after a reboot.\n{boot}"))
}

fn of_role(target: &Target) -> impl Iterator<Item = &'static Knob> {
    let role = target.role;
    table().iter().filter(move |knob| role.includes(knob.role))
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

/// A template with its `{{NAME}}` replaced: `heading`, `limits`, `directives`, `sysctls`, or the value of the knob of that
/// name.
fn filled(template: &str, target: &Target) -> Result<String, PrintError> {
    let mut parts = template.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").ok_or_else(|| PrintError::Name(part.to_owned()))?;
        let value = match name {
            "heading" => heading_of(template, target),
            "limits" => directives(target, |knob| matches!(knob.place, Place::Limit { .. }))?,
            "directives" => directives(target, |knob| matches!(knob.place, Place::Unit(_)))?,
            "sysctls" => sysctl_lines(target)?,
            name => value_of(name, target)?,
        };
        text.push_str(value.trim_end());
        text.push_str(rest);
    }
    Ok(text)
}

fn heading_of(template: &str, target: &Target) -> String {
    let form = if template == UNIT {
        "unit"
    } else if template == NIC {
        "nic"
    } else {
        "loadgen-host"
    };
    heading(form, target)
}

fn value_of(name: &str, target: &Target) -> Result<String, PrintError> {
    let knob = table().iter().find(|knob| knob.name == name).ok_or_else(|| PrintError::Name(name.to_owned()))?;
    knob.value(target)?.ok_or_else(|| PrintError::Name(name.to_owned()))
}

/// Lines of a unit file, each below its reason; what only advises is a comment.
fn directives(target: &Target, belongs: impl Fn(&Knob) -> bool) -> Result<String, PrintError> {
    let mut text = String::new();
    for knob in of_role(target).filter(|knob| belongs(knob)) {
        let (Place::Unit(name) | Place::Limit { unit: name, .. }) = &knob.place else { continue };
        let value = knob.value(target)?.unwrap_or_default();
        let comment = if knob.severity == Severity::Advice { "# " } else { "" };
        line(&mut text, &format!("# {}\n{comment}{name}={value}", knob.why));
    }
    Ok(text)
}

/// `NAME=VALUE` for a script, a line each.
fn sysctl_lines(target: &Target) -> Result<String, PrintError> {
    let mut lines = Vec::new();
    for knob in of_role(target).filter(|knob| knob.is_applied() && knob.role == Role::Generator) {
        if let (Place::Sysctl(name), Some(value)) = (&knob.place, knob.value(target)?) {
            lines.push(format!("{name}={value}"));
        }
    }
    Ok(lines.join("\n"))
}

fn readme(target: &Target) -> Result<String, PrintError> {
    let sections = [
        (Severity::Required, "Required: it does not run otherwise"),
        (Severity::Capacity, "Capacity: it does not hold so many otherwise"),
        (Severity::Recommended, "Recommended: something is lost under load otherwise"),
        (Severity::Advice, "Advice: your choice, changed only when named (`--only NAME`)"),
    ];
    let mut text = String::new();
    for (severity, title) in sections {
        line(
            &mut text,
            &format!("### {title}\n\n| Knob | Wanted | Why | Cost | How it bites | Source |\n|-|-|-|-|-|-|"),
        );
        for knob in table().iter().filter(|knob| is_of_host(knob) && knob.severity == severity) {
            row(&mut text, knob, target)?;
        }
        line(&mut text, "");
    }
    line(&mut text, "### Leave: often seen in such lists, and of no use here\n\n| Knob | Why not | Source |\n|-|-|-|");
    for knob in table().iter().filter(|knob| knob.severity == Severity::Leave) {
        line(&mut text, &format!("| `{}` | {} | {} |", knob.name, reason(knob), knob.source));
    }
    line(&mut text, "\n### The unit's directives, beside its limits\n\n| Directive | Why | Cost |\n|-|-|-|");
    for knob in table().iter().filter(|knob| matches!(knob.place, Place::Unit(_))) {
        line(&mut text, &format!("| `{}={}` | {} | {} |", knob.name, knob.wanted.join(" "), reason(knob), knob.cost));
    }
    Ok(text)
}

fn is_of_host(knob: &Knob) -> bool {
    !matches!(knob.place, Place::Unit(_))
}

fn row(text: &mut String, knob: &Knob, target: &Target) -> Result<(), PrintError> {
    let wanted = knob.want(target)?.to_string().replace('|', " or ");
    let Knob { name, cost, bites, source, .. } = knob;
    let place = knob.place.name();
    let place = if place.ends_with(name) { String::new() } else { format!(" ({place})") };
    let role = if knob.role == Role::Generator { ", generators" } else { "" };
    let why = reason(knob);
    line(text, &format!("| `{name}`{place}{role} | {wanted} | {why} | {cost} | {bites} | {source} |"));
    Ok(())
}

/// Why, and what was found when it was tried.
fn reason(knob: &Knob) -> String {
    match &knob.measured {
        Some(measured) => format!("{} *Measured:* {measured}", knob.why),
        None => knob.why.clone(),
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
