//! What the command line changes in a scenario: parameters and keys by their names, and options that mean something
//! in every group where they make sense.
//!
//! Parameters come first, then options, then keys by their path: the more exactly something is named, the later.

use super::node::{Node, Table, Value, parse_value};
use super::parameters::Parameters;
use super::problem::{Origin, ScenarioError, suggestion};
use super::schema::{PACES, VERSION};
use super::units::parse_version;

/// How long a session lasts that an option made persistent, unless the scenario says otherwise (MQTT 5).
const PERSISTENT_SECONDS: i64 = 3600;
/// The keys of a document at its top that can be set.
const TOP: [&str; 4] = ["about", "verify", "timing", "groups"];

/// Overrides in the order they were given.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    settings: Vec<Setting>,
    options: Vec<(String, Target, Node)>,
}

/// `--set path=value`
#[derive(Clone, Debug)]
struct Setting {
    path: Vec<String>,
    value: Node,
}

/// What an option is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A key at the top.
    Top(&'static str),
    /// A key of `timing`.
    Timing(&'static str),
    /// A key of every group.
    Group(&'static str),
    /// A key of every group that speaks MQTT 5.
    Group5(&'static str),
    /// `clean`, and what makes a session outlast its connection in MQTT 5.
    Clean,
    /// A key of every publication.
    Publication(&'static str),
    /// A key of every publication and every subscription.
    Message(&'static str),
    /// `every` or `outstanding` of every publication, or the `rate` of the only one.
    Pace(&'static str),
    /// The topic of the only publication, and the filters that are the same.
    Topic,
    /// A key of the will, which every group gets with its topic; the others belong to wills that are there.
    Will(&'static str),
}

impl Overrides {
    /// Adds what follows `--set`: `name=value` for a parameter, `path.to.key=value` for a key.
    ///
    /// # Errors
    ///
    /// Without `=`.
    pub fn set(&mut self, text: &str) -> Result<(), ScenarioError> {
        let option = format!("--set {text}");
        let Some((path, value)) = text.split_once('=') else {
            let (what, remedy) = ("no value".to_owned(), "write --set NAME=VALUE".to_owned());
            return Err(ScenarioError { origin: Origin::Option(option.into()), key: String::new(), what, remedy });
        };
        let path = path.trim().split('.').map(str::to_owned).collect();
        self.settings.push(Setting { path, value: parse_value(&option, value.trim()) });
        Ok(())
    }

    /// Adds an option; `option` is how it was given, for messages.
    pub fn option(&mut self, option: &str, target: Target, value: impl Into<Value>) {
        self.options.push((option.to_owned(), target, Node::option(option, value.into())));
    }

    /// The settings that come before parameters are put in: the parameters themselves, and shared defaults.
    pub(super) fn apply_early(&self, document: &mut Table) -> Result<(), ScenarioError> {
        for setting in &self.settings {
            let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
            match path[..] {
                [name] | ["parameters", name] if !TOP.contains(&name) => setting.parameter(document, name)?,
                ["defaults", ..] => setting.write(document, &path)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The options, then the settings of keys by their path.
    pub(super) fn apply_late(&self, document: &mut Table, parameters: &Parameters) -> Result<(), ScenarioError> {
        for (option, target, value) in &self.options {
            let mut value = value.clone();
            parameters.apply_to_node(&mut value, option)?;
            apply_option(document, *target, value)?;
        }
        for setting in &self.settings {
            let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
            match path[..] {
                ["parameters" | "defaults", ..] => continue,
                [name, ..] if TOP.contains(&name) => {}
                [_] => continue,
                [name, ..] => {
                    let remedy = suggestion(name, "beginnings of a path", TOP);
                    return Err(setting.wrong(format!("nothing is called `{name}`"), remedy));
                }
                [] => continue,
            }
            let mut setting = setting.clone();
            parameters.apply_to_node(&mut setting.value, "")?;
            setting.write(document, &path)?;
        }
        Ok(())
    }
}

impl Setting {
    fn wrong(&self, what: String, remedy: String) -> ScenarioError {
        ScenarioError { origin: self.value.origin.clone(), key: String::new(), what, remedy }
    }

    fn parameter(&self, document: &mut Table, name: &str) -> Result<(), ScenarioError> {
        let parameters = document.get_mut("parameters").and_then(Node::table_mut);
        let Some(parameters) = parameters.filter(|parameters| parameters.get(name).is_some()) else {
            let known = document.get("parameters").and_then(Node::table).map(Table::keys);
            let remedy = suggestion(name, "parameters", known.into_iter().flatten());
            let remedy = format!("{remedy} (a key is set by its path: timing.window, groups.NAME.keep_alive)");
            return Err(self.wrong(format!("the scenario has no parameter `{name}`"), remedy));
        };
        parameters.set(name, self.value.clone());
        Ok(())
    }

    fn write(&self, document: &mut Table, path: &[&str]) -> Result<(), ScenarioError> {
        if let ["groups", name, ..] = path {
            let groups = document.get("groups").and_then(Node::table);
            if groups.is_none_or(|groups| groups.get(name).is_none()) {
                let remedy = suggestion(name, "groups", groups.into_iter().flat_map(Table::keys));
                return Err(self.wrong(format!("the scenario has no group `{name}`"), remedy));
            }
        }
        self.descend(document, path)
    }

    /// Sets a key, making the tables on the way to it; whether it may be there is said when it is decoded.
    fn descend(&self, table: &mut Table, path: &[&str]) -> Result<(), ScenarioError> {
        let (key, rest) = path.split_first().expect("a path has at least one key");
        if rest.is_empty() {
            set_key(table, key, self.value.clone());
            return Ok(());
        }
        if table.get(key).is_none() {
            let inner = Node { value: Value::Table(Table::default()), origin: self.value.origin.clone() };
            table.set(key, inner);
        }
        let node = table.get_mut(key).expect("set if it was not there");
        let (node, rest) = match &mut node.value {
            Value::List(list) => (self.entry(list, key, rest[0])?, &rest[1..]),
            _ => (node, rest),
        };
        match node.table_mut() {
            Some(inner) if !rest.is_empty() => self.descend(inner, rest),
            _ => Err(self.wrong(format!("`{key}` has no keys below it"), "end the path there".to_owned())),
        }
    }

    /// An entry of a list by its number.
    fn entry<'a>(&self, list: &'a mut [Node], key: &str, number: &str) -> Result<&'a mut Node, ScenarioError> {
        let count = list.len();
        let entry = number.parse::<usize>().ok().and_then(|at| list.get_mut(at));
        entry.ok_or_else(|| {
            self.wrong(format!("`{number}` is no entry of `{key}`"), format!("it has {count}, counted from 0"))
        })
    }
}

/// Sets a key; of those that say when messages are due only one can be.
fn set_key(table: &mut Table, key: &str, value: Node) {
    if PACES.contains(&key) {
        PACES.iter().filter(|other| **other != key).for_each(|other| drop(table.remove(other)));
        if key != "rate" {
            table.remove("poisson");
        }
    }
    table.set(key, value);
}

fn apply_option(document: &mut Table, target: Target, value: Node) -> Result<(), ScenarioError> {
    let origin = value.origin.clone();
    let fits_nowhere = |what: &str, remedy: &str| ScenarioError {
        origin: origin.clone(),
        key: String::new(),
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    };
    match target {
        Target::Top(key) => document.set(key, value),
        Target::Timing(key) => {
            let timing = Node { value: Value::Table(Table::default()), origin: origin.clone() };
            if document.get("timing").is_none() {
                document.set("timing", timing);
            }
            document
                .get_mut("timing")
                .and_then(Node::table_mut)
                .into_iter()
                .for_each(|table| table.set(key, value.clone()));
        }
        Target::Group(key) => groups(document).for_each(|group| group.set(key, value.clone())),
        Target::Group5(key) => {
            let speaking_5: Vec<_> = groups(document).filter(|group| version(group) == 5).collect();
            if speaking_5.is_empty() {
                return Err(fits_nowhere("only MQTT 5 has this, and no group speaks it", "add --protocol 5"));
            }
            speaking_5.into_iter().for_each(|group| group.set(key, value.clone()));
        }
        Target::Clean => groups(document).for_each(|group| set_clean(group, &value)),
        Target::Publication(key) => {
            let publications = entries(document, "publish");
            if publications.is_empty() {
                return Err(fits_nowhere("the scenario publishes nothing", "leave it out"));
            }
            publications.into_iter().for_each(|publication| publication.set(key, value.clone()));
        }
        Target::Message(key) => {
            let count = ["publish", "subscribe"].map(|list| {
                let messages = entries(document, list);
                let count = messages.len();
                messages.into_iter().for_each(|message| message.set(key, value.clone()));
                count
            });
            if count == [0, 0] {
                return Err(fits_nowhere("the scenario publishes nothing and subscribes to nothing", "leave it out"));
            }
        }
        Target::Pace(key) => {
            let publications = entries(document, "publish");
            match publications.len() {
                0 => return Err(fits_nowhere("the scenario publishes nothing", "leave it out")),
                2.. if key == "rate" => {
                    let remedy = "say whose: --set groups.NAME.publish.0.rate=…, or use --interval";
                    return Err(fits_nowhere("the scenario has several streams of messages", remedy));
                }
                _ => publications.into_iter().for_each(|publication| set_key(publication, key, value.clone())),
            }
        }
        Target::Topic => set_topic(document, &value).map_err(|what| {
            fits_nowhere(
                what,
                "set both by their paths: --set groups.NAME.publish.0.topic=…, groups.NAME.subscribe.0.filter=…",
            )
        })?,
        Target::Will(key) => set_will(document, key, &value)
            .map_err(|what| fits_nowhere(what, "add --will-topic, which gives every client one"))?,
    }
    Ok(())
}

fn groups(document: &mut Table) -> impl Iterator<Item = &mut Table> {
    let groups = document.get_mut("groups").and_then(Node::table_mut).into_iter();
    groups.flat_map(|groups| groups.entries_mut()).filter_map(|entry| entry.node.table_mut())
}

/// The entries of a list (`publish`, `subscribe`) of every group.
fn entries<'a>(document: &'a mut Table, list: &str) -> Vec<&'a mut Table> {
    let lists = groups(document).filter_map(|group| match &mut group.get_mut(list)?.value {
        Value::List(list) => Some(list),
        _ => None,
    });
    let is_there = |table: &&mut Table| table.get("when").is_none_or(|when| when.value != Value::Boolean(false));
    lists.flatten().filter_map(Node::table_mut).filter(is_there).collect()
}

/// The protocol level of a group, as far as it can be read.
fn version(group: &Table) -> u8 {
    let text = group.get("protocol").map(|node| match &node.value {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => String::new(),
    });
    text.map_or(VERSION, |text| parse_version(&text).unwrap_or(VERSION))
}

fn set_clean(group: &mut Table, clean: &Node) {
    group.set("clean", clean.clone());
    match clean.value {
        Value::Boolean(true) => drop(group.remove("session_expiry")),
        _ if version(group) == 5 && group.get("session_expiry").is_none() => {
            let value = Value::Integer(PERSISTENT_SECONDS);
            group.set("session_expiry", Node { value, origin: clean.origin.clone() });
        }
        _ => {}
    }
}

fn set_topic(document: &mut Table, topic: &Node) -> Result<(), &'static str> {
    let mut publications = entries(document, "publish");
    let [publication] = &mut publications[..] else {
        return Err(match publications.len() {
            0 => "the scenario publishes nothing",
            _ => "the scenario publishes to several topics",
        });
    };
    let former = publication.get("topic").cloned();
    publication.set("topic", topic.clone());
    let former = former.as_ref().and_then(Node::text);
    for subscription in entries(document, "subscribe") {
        if subscription.get("filter").and_then(Node::text) != former {
            return Err("a filter of the scenario is not just the topic");
        }
        subscription.set("filter", topic.clone());
    }
    Ok(())
}

fn set_will(document: &mut Table, key: &str, value: &Node) -> Result<(), &'static str> {
    let mut wills = 0;
    for group in groups(document) {
        if key == "topic" && group.get("will").is_none() {
            group.set("will", Node { value: Value::Table(Table::default()), origin: value.origin.clone() });
        }
        if let Some(will) = group.get_mut("will").and_then(Node::table_mut) {
            will.set(key, value.clone());
            wills += 1;
        }
    }
    if wills == 0 { Err("nobody has a will") } else { Ok(()) }
}
