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
const TOP: [&str; 5] = ["about", "verify", "transport", "timing", "groups"];

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
    /// A key of every publication of a group that speaks MQTT 5.
    Publication5(&'static str),
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
            // A password is not looked into: it may begin with `$`, and must not be shown.
            if *target != Target::Group("password") {
                parameters.resolve_template(&mut value, option)?;
            }
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
    let applied = match target {
        Target::Top(key) => {
            document.set(key, value.clone());
            Ok(())
        }
        Target::Timing(key) => {
            set_timing(document, key, &value);
            Ok(())
        }
        Target::Group(key) => {
            groups(document).for_each(|group| group.set(key, value.clone()));
            Ok(())
        }
        Target::Clean => {
            groups(document).for_each(|group| set_clean(group, &value));
            Ok(())
        }
        Target::Group5(key) => set_in_version_5(document, key, &value),
        Target::Publication(key) => publications(document)
            .map(|all| all.into_iter().for_each(|publication| publication.set(key, value.clone()))),
        Target::Publication5(key) => set_in_publications_of_version_5(document, key, &value),
        Target::Message(key) => set_in_messages(document, key, &value),
        Target::Pace(key) => set_pace(document, key, &value),
        Target::Topic => set_topic(document, &value),
        Target::Will(key) => set_will(document, key, &value),
    };
    applied.map_err(|Misfit(what, remedy)| {
        let (what, remedy) = (what.to_owned(), remedy.to_owned());
        ScenarioError { origin: value.origin, key: String::new(), what, remedy }
    })
}

/// Why an option has nothing to change, and what to do instead.
struct Misfit(&'static str, &'static str);

/// What `--topic` says when it can't tell what is meant.
const TOPIC_REMEDY: &str =
    "set both by their paths: --set groups.NAME.publish.0.topic=…, --set groups.NAME.subscribe.0.filter=…";

fn groups(document: &mut Table) -> impl Iterator<Item = &mut Table> {
    let groups = document.get_mut("groups").and_then(Node::table_mut).into_iter();
    groups.flat_map(|groups| groups.entries_mut()).filter_map(|entry| entry.node.table_mut())
}

/// The entries of a list (`publish`, `subscribe`) of every group.
fn entries<'a>(document: &'a mut Table, list: &str) -> Vec<&'a mut Table> {
    groups(document).flat_map(|group| list_of(group, list)).collect()
}

/// The entries of a list of one group that are there.
fn list_of<'a>(group: &'a mut Table, list: &str) -> impl Iterator<Item = &'a mut Table> {
    let list = group.get_mut(list).and_then(|node| match &mut node.value {
        Value::List(list) => Some(list),
        _ => None,
    });
    let is_there = |table: &&mut Table| table.get("when").is_none_or(|when| when.value != Value::Boolean(false));
    list.into_iter().flatten().filter_map(Node::table_mut).filter(is_there)
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

fn set_timing(document: &mut Table, key: &str, value: &Node) {
    if document.get("timing").is_none() {
        document.set("timing", Node { value: Value::Table(Table::default()), origin: value.origin.clone() });
    }
    if let Some(timing) = document.get_mut("timing").and_then(Node::table_mut) {
        timing.set(key, value.clone());
    }
}

fn set_in_version_5(document: &mut Table, key: &str, value: &Node) -> Result<(), Misfit> {
    let speaking: Vec<_> = groups(document).filter(|group| version(group) == 5).collect();
    if speaking.is_empty() {
        return Err(Misfit("only MQTT 5 has this, and no group speaks it", "add --protocol 5"));
    }
    speaking.into_iter().for_each(|group| group.set(key, value.clone()));
    Ok(())
}

fn set_in_publications_of_version_5(document: &mut Table, key: &str, value: &Node) -> Result<(), Misfit> {
    publications(document)?;
    let speaking = groups(document).filter(|group| version(group) == 5);
    let mut found = false;
    for publication in speaking.flat_map(|group| list_of(group, "publish")) {
        publication.set(key, value.clone());
        found = true;
    }
    match found {
        true => Ok(()),
        false => Err(Misfit("only MQTT 5 has this, and no group that publishes speaks it", "add --protocol 5")),
    }
}

/// All publications, of which there must be one.
fn publications(document: &mut Table) -> Result<Vec<&mut Table>, Misfit> {
    let publications = entries(document, "publish");
    if publications.is_empty() {
        Err(Misfit("the scenario publishes nothing", "leave it out"))
    } else {
        Ok(publications)
    }
}

fn set_in_messages(document: &mut Table, key: &str, value: &Node) -> Result<(), Misfit> {
    let mut messages = 0;
    for list in ["publish", "subscribe"] {
        for message in entries(document, list) {
            message.set(key, value.clone());
            messages += 1;
        }
    }
    match messages {
        0 => Err(Misfit("the scenario publishes nothing and subscribes to nothing", "leave it out")),
        _ => Ok(()),
    }
}

fn set_pace(document: &mut Table, key: &str, value: &Node) -> Result<(), Misfit> {
    let publications = publications(document)?;
    if key == "rate" && publications.len() > 1 {
        let remedy = "say whose: --set groups.NAME.publish.0.rate=…, or use --interval";
        return Err(Misfit("the scenario has several streams of messages", remedy));
    }
    publications.into_iter().for_each(|publication| set_key(publication, key, value.clone()));
    Ok(())
}

fn set_topic(document: &mut Table, topic: &Node) -> Result<(), Misfit> {
    let mut publications = publications(document)?;
    let [publication] = &mut publications[..] else {
        return Err(Misfit("the scenario publishes to several topics", TOPIC_REMEDY));
    };
    let former = publication.get("topic").cloned();
    publication.set("topic", topic.clone());
    let former = former.as_ref().and_then(Node::text);
    for subscription in entries(document, "subscribe") {
        if subscription.get("filter").and_then(Node::text) != former {
            return Err(Misfit("a filter of the scenario is not just the topic", TOPIC_REMEDY));
        }
        subscription.set("filter", topic.clone());
    }
    Ok(())
}

fn set_will(document: &mut Table, key: &str, value: &Node) -> Result<(), Misfit> {
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
    if wills == 0 { Err(Misfit("nobody has a will", "add --will-topic, which gives every client one")) } else { Ok(()) }
}
