//! Scenarios by their names or files, and the way from a document to a [`Plan`].

use std::borrow::Cow;
use std::path::Path;
use std::{fs, io};

use super::Plan;
use super::check::check;
use super::decode::decode;
use super::node::{self, Node, Table, Value};
use super::overrides::Overrides;
use super::parameters::Parameters;
use super::presets::PRESETS;
use super::problem::{Origin, ScenarioError, suggestion};
use super::schema::{Document, Finding};

/// How long a chain of bases may be.
const BASES_MAX: u32 = 8;

/// A scenario's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    name: String,
    /// What messages call the document.
    file: String,
    text: Cow<'static, str>,
}

impl Scenario {
    /// The preset of this name.
    pub fn preset(name: &str) -> Option<Self> {
        let (name, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
        Some(Self { name: (*name).to_owned(), file: format!("{name}.toml"), text: Cow::Borrowed(text) })
    }

    /// All presets, in the order in which they are listed.
    pub fn presets() -> impl Iterator<Item = Self> {
        PRESETS.iter().filter_map(|(name, _)| Self::preset(name))
    }

    /// A document of somebody's own. `file` is what messages call it; the scenario's name is what is left of it without
    /// directories and ending.
    pub fn from_text(file: &str, text: String) -> Self {
        let name = Path::new(file).file_stem().map_or(file.into(), |stem| stem.to_string_lossy());
        Self { name: name.into_owned(), file: file.to_owned(), text: Cow::Owned(text) }
    }

    /// A preset by its name, or a document by its file: what ends in `.toml` or has a `/` in it is a file.
    ///
    /// # Errors
    ///
    /// No such preset, or an unreadable file.
    pub fn find(name: &str) -> Result<Self, ScenarioError> {
        let error = |what: String, remedy: String| ScenarioError {
            origin: Origin::Nowhere,
            key: name.to_owned(),
            what,
            remedy,
        };
        if name.ends_with(".toml") || name.contains('/') {
            let read = fs::read_to_string(name);
            let unreadable =
                |source: io::Error| error(source.to_string(), "give the path of a readable file".to_owned());
            return read.map(|text| Self::from_text(name, text)).map_err(unreadable);
        }
        Self::preset(name).ok_or_else(|| {
            let remedy = suggestion(name, "scenarios", PRESETS.iter().map(|(name, _)| *name));
            error("no such scenario".to_owned(), format!("{remedy} (a file's name ends in .toml)"))
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The document, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The sentence that says what it is.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], for a document that can't be read at all.
    pub fn about(&self) -> Result<String, ScenarioError> {
        let document = self.document(BASES_MAX)?;
        Ok(document.get("about").and_then(Node::text).unwrap_or_default().to_owned())
    }

    /// The names of its parameters and their defaults, as they are written.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], for a document that can't be read at all.
    pub fn parameters(&self) -> Result<Vec<(String, String)>, ScenarioError> {
        let document = self.document(BASES_MAX)?;
        let parameters = document.get("parameters").and_then(Node::table).map(Table::entries).unwrap_or_default();
        let written = |node: &Node| match &node.value {
            Value::Boolean(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => text.clone(),
            Value::List(_) | Value::Table(_) => String::new(),
        };
        Ok(parameters.iter().map(|entry| (entry.key.clone(), written(&entry.node))).collect())
    }

    /// The plan that the document and these overrides make.
    ///
    /// # Errors
    ///
    /// What can't be read, or can be read but not be done, by its place; an override that means nothing here.
    pub fn read(&self, overrides: &Overrides) -> Result<Plan, ScenarioError> {
        let mut document = self.document(BASES_MAX)?;
        overrides.apply_early(&mut document)?;
        let parameters = Parameters::new(document.remove("parameters"))?;
        parameters.apply(&mut document)?;
        parameters.check_used()?;
        share_defaults(&mut document);
        overrides.apply_late(&mut document, &parameters)?;
        let whole = Origin::File { file: self.file.as_str().into(), line: 1, column: 1 };
        let root = Node { value: Value::Table(document), origin: whole };
        let decoded: Document = decode(&root)?;
        let located = |Finding { path, what, remedy }: Finding| {
            let keys: Vec<&str> = path.iter().map(String::as_str).collect();
            let origin = root.nearest(&keys).origin.clone();
            ScenarioError { origin, key: keys.join("."), what, remedy }
        };
        let plan = decoded.plan(&self.name).map_err(located)?;
        check(&plan).map_err(located)?;
        Ok(plan)
    }

    /// The document laid over its base.
    fn document(&self, bases_left: u32) -> Result<Table, ScenarioError> {
        let mut document = node::parse(&self.file, &self.text)?;
        let Some(base) = document.remove("base") else { return Ok(document) };
        let wrong = |what: &str, remedy: String| ScenarioError {
            origin: base.origin.clone(),
            key: "base".to_owned(),
            what: what.to_owned(),
            remedy,
        };
        let name = base.text().ok_or_else(|| wrong("not a name", "write base = \"NAME\"".to_owned()))?;
        let found = Self::preset(name).ok_or_else(|| {
            wrong("no such preset", suggestion(name, "presets", PRESETS.iter().map(|(name, _)| *name)))
        })?;
        if bases_left == 0 {
            return Err(wrong("a base of a base of a base … without end", "let one of them stand alone".to_owned()));
        }
        let mut below = found.document(bases_left - 1)?;
        below.overlay(document);
        Ok(below)
    }
}

/// Puts what `defaults` says into every group that does not say it itself.
fn share_defaults(document: &mut Table) {
    let Some(Value::Table(defaults)) = document.remove("defaults").map(|node| node.value) else { return };
    let groups = document.get_mut("groups").and_then(Node::table_mut);
    for entry in groups.into_iter().flat_map(|groups| groups.entries_mut()) {
        if let Some(group) = entry.node.table_mut() {
            let mut shared = defaults.clone();
            shared.overlay(std::mem::take(group));
            *group = shared;
        }
    }
}
