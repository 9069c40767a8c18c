//! A scenario document as a tree that knows where each value was written, so that documents can be laid over one
//! another, parameters put in and options applied, and a mistake still be told by its place.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Origin, ScenarioError};

/// A value and where it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub origin: Origin,
}

/// What a document can hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text: plain, a template, or the name of a parameter.
    Text(String),
    /// Values in a row.
    List(Vec<Node>),
    /// Keys with values.
    Table(Table),
}

/// Keys and values in the order they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    /// Where the key was written.
    pub origin: Origin,
    pub node: Node,
}

/// Reads a TOML document; `file` is what problems call it.
pub fn parse(file: &str, text: &str) -> Result<Table, ScenarioError> {
    let source = Source { file: file.into(), text };
    match DeTable::parse(text) {
        Ok(table) => source.table(table.get_ref()),
        Err(error) => {
            let remedy = "correct the TOML; \"ringmq-loadgen show p2p\" shows a whole document";
            Err(source.error(error.span().unwrap_or(0..0), error.message(), remedy))
        }
    }
}

/// Reads what follows a `=` on the command line: a TOML value, or text that needs no quotes.
pub fn parse_value(option: &str, text: &str) -> Node {
    let origin = Origin::Option(option.into());
    let document = parse(option, &format!("value = {text}")).ok();
    let value = document.and_then(|mut table| (table.entries.len() == 1).then(|| table.remove("value"))?);
    let mut node = value.unwrap_or(Node { value: Value::Text(text.to_owned()), origin: Origin::Nowhere });
    node.set_origin(&origin);
    node
}

struct Source<'a> {
    file: Arc<str>,
    text: &'a str,
}

impl Source<'_> {
    fn table(&self, table: &DeTable<'_>) -> Result<Table, ScenarioError> {
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<Cow<'_, str>>, _)| -> Result<Entry, ScenarioError> {
            Ok(Entry { key: key.get_ref().to_string(), origin: self.origin(key.span()), node: self.node(value)? })
        };
        Ok(Table { entries: keys.into_iter().map(entry).collect::<Result<_, _>>()? })
    }

    fn node(&self, value: &Spanned<DeValue<'_>>) -> Result<Node, ScenarioError> {
        let number = || self.error(value.span(), "a number that fits no 64 bits", "write a smaller one");
        let converted = match value.get_ref() {
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(digits) => {
                Value::Integer(i64::from_str_radix(digits.as_str(), digits.radix()).map_err(|_| number())?)
            }
            DeValue::Float(digits) => Value::Float(digits.as_str().parse().map_err(|_| number())?),
            DeValue::Array(values) => {
                Value::List(values.iter().map(|value| self.node(value)).collect::<Result<_, _>>()?)
            }
            DeValue::Table(table) => Value::Table(self.table(table)?),
            DeValue::Datetime(_) => {
                return Err(self.error(value.span(), "a date, where none is wanted", "write numbers, text or tables"));
            }
        };
        Ok(Node { value: converted, origin: self.origin(value.span()) })
    }

    fn error(&self, span: Range<usize>, what: &str, remedy: &str) -> ScenarioError {
        let origin = self.origin(span);
        ScenarioError { origin, key: String::new(), what: what.to_owned(), remedy: remedy.to_owned() }
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            file: Arc::clone(&self.file),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl Node {
    pub fn option(option: &str, value: Value) -> Self {
        Self { value, origin: Origin::Option(option.into()) }
    }

    pub fn table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }

    pub fn table_mut(&mut self) -> Option<&mut Table> {
        if let Value::Table(table) = &mut self.value { Some(table) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The node at the end of a path below this one, as far as it exists: the last one that does.
    pub fn nearest(&self, path: &[&str]) -> &Node {
        let next = path.split_first().and_then(|(key, rest)| {
            let inner = match &self.value {
                Value::Table(table) => table.get(key),
                Value::List(list) => list.get(key.parse::<usize>().ok()?),
                _ => None,
            };
            inner.map(|inner| inner.nearest(rest))
        });
        next.unwrap_or(self)
    }

    fn set_origin(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        match &mut self.value {
            Value::List(list) => list.iter_mut().for_each(|node| node.set_origin(origin)),
            Value::Table(table) => {
                for entry in &mut table.entries {
                    entry.origin = origin.clone();
                    entry.node.set_origin(origin);
                }
            }
            _ => {}
        }
    }
}

impl Table {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str())
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node)
    }

    /// Sets a key, in its former place if it has one.
    pub fn set(&mut self, key: &str, node: Node) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => (entry.origin, entry.node) = (node.origin.clone(), node),
            None => self.entries.push(Entry { key: key.to_owned(), origin: node.origin.clone(), node }),
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at).node)
    }

    /// Lays another table over this one: where both have a table it is merged, what else it has replaces this one's.
    pub fn overlay(&mut self, above: Table) {
        for entry in above.entries {
            match (self.get_mut(&entry.key).and_then(Node::table_mut), entry.node.value) {
                (Some(below), Value::Table(above)) => below.overlay(above),
                (_, value) => self.set(&entry.key, Node { value, origin: entry.node.origin }),
            }
        }
    }
}

impl Value {
    /// A table of texts; a name may come more than once.
    pub fn texts(texts: &[(String, String)]) -> Self {
        let node = |text: &str| Node { value: text.into(), origin: Origin::Nowhere };
        let entry =
            |(key, text): &(String, String)| Entry { key: key.clone(), origin: Origin::Nowhere, node: node(text) };
        Self::Table(Table { entries: texts.iter().map(entry).collect() })
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_know_their_place() {
        let table = parse("x.toml", "b = 1\n[a]\n\"ä\" = [true,\n  2.5]\n").unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["b", "a"]);
        let root = Node { value: Value::Table(table), origin: Origin::Nowhere };
        let second = root.nearest(&["a", "ä", "1"]);
        assert_eq!(second.value, Value::Float(2.5));
        assert_eq!(second.origin.to_string(), "x.toml:4:3");
        assert_eq!(root.nearest(&["a", "ä", "7", "x"]).origin.to_string(), "x.toml:3:7");
    }

    #[test]
    fn an_overlay_merges_tables_and_replaces_the_rest() {
        let mut below = parse("below", "x = 1\nl = [1]\n[t]\na = 1\nb = 1\n").unwrap();
        below.overlay(parse("above", "l = []\ny = 2\n[t]\nb = 2\n").unwrap());
        let merged = parse("merged", "x = 1\nl = []\ny = 2\n[t]\na = 1\nb = 2\n").unwrap();
        let plain = |table: &Table| {
            let mut node = Node { value: Value::Table(table.clone()), origin: Origin::Nowhere };
            node.set_origin(&Origin::Nowhere);
            node
        };
        assert_eq!(below.keys().collect::<Vec<_>>(), ["x", "l", "t", "y"]);
        assert_eq!(plain(&below).nearest(&["t"]).value, plain(&merged).nearest(&["t"]).value);
        assert_eq!(below.get("l").unwrap().value, Value::List(vec![]));
    }

    #[test]
    fn a_value_of_the_command_line_is_toml_or_text() {
        let value = |text| parse_value("--set x", text).value;
        assert_eq!(value("5"), Value::Integer(5));
        assert_eq!(value("true"), Value::Boolean(true));
        assert_eq!(value("1.5"), Value::Float(1.5));
        assert_eq!(value("10s"), Value::Text("10s".into()));
        assert_eq!(value("3.1.1"), Value::Text("3.1.1".into()));
        assert_eq!(value("\"5\""), Value::Text("5".into()));
        assert_eq!(value("a\nb = 1"), Value::Text("a\nb = 1".into()));
        assert_eq!(value("1\nb = 1"), Value::Text("1\nb = 1".into()));
        assert_eq!(value(""), Value::Text(String::new()));
    }

    #[test]
    fn what_is_no_toml_is_told_by_its_place() {
        let error = parse("x.toml", "a = 1\nb = = 2\n").unwrap_err();
        assert!(error.to_string().starts_with("x.toml:2:"), "{error}");
    }
}
