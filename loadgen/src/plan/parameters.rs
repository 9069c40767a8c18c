//! A scenario's parameters: `"$pairs"` stands for the parameter, `"$(pairs * 2)"` for what comes out, and templates
//! may name whole-number parameters in `%{…}`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::node::{Node, Table, Value};
use super::problem::{Origin, ScenarioError, suggestion};
use super::template::{self, TemplateError};

/// The parameters of one scenario, with overrides applied.
#[derive(Debug, Default)]
pub struct Parameters {
    table: Table,
    /// Those that stand somewhere.
    used: RefCell<BTreeSet<String>>,
}

impl Parameters {
    pub fn new(node: Option<Node>) -> Result<Self, ScenarioError> {
        let Some(node) = node else { return Ok(Self::default()) };
        let origin = node.origin.clone();
        let wrong = |origin: Origin, key: String, what: &str| {
            let remedy = "write name = default, below [parameters]: a number, a text, true or false".to_owned();
            ScenarioError { origin, key, what: what.to_owned(), remedy }
        };
        let Value::Table(table) = node.value else {
            return Err(wrong(origin, "parameters".to_owned(), "not a table"));
        };
        for entry in table.entries() {
            let key = || format!("parameters.{}", entry.key);
            let starts_well = entry.key.starts_with(|first: char| first.is_ascii_alphabetic());
            let is_name = starts_well && entry.key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name || matches!(entry.key.as_str(), "i" | "t" | "n" | "random") {
                return Err(wrong(entry.origin.clone(), key(), "no name for a parameter"));
            }
            if matches!(entry.node.value, Value::List(_) | Value::Table(_)) {
                return Err(wrong(entry.node.origin.clone(), key(), "not a single value"));
            }
        }
        Ok(Self { table, used: RefCell::default() })
    }

    /// Puts the values in everywhere below this table.
    pub fn apply(&self, table: &mut Table) -> Result<(), ScenarioError> {
        self.apply_to_table(table, "")
    }

    /// Puts the values into one node.
    pub fn apply_to_node(&self, node: &mut Node, key: &str) -> Result<(), ScenarioError> {
        match &mut node.value {
            Value::Table(table) => self.apply_to_table(table, key),
            Value::List(list) => {
                let mut numbered = list.iter_mut().enumerate();
                numbered.try_for_each(|(at, node)| self.apply_to_node(node, &format!("{key}.{at}")))
            }
            Value::Text(text) => {
                let text = std::mem::take(text);
                *node = self.value(text, &node.origin, key)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Complains about a parameter that stands nowhere: changing it would change nothing.
    pub fn check_used(&self) -> Result<(), ScenarioError> {
        let unused = self.table.entries().iter().find(|entry| !self.used.borrow().contains(&entry.key));
        unused.map_or(Ok(()), |entry| {
            let remedy = format!("write \"${}\" where it belongs, or leave it out", entry.key);
            let (origin, key) = (entry.origin.clone(), format!("parameters.{}", entry.key));
            Err(ScenarioError { origin, key, what: "this parameter is used nowhere".to_owned(), remedy })
        })
    }

    fn apply_to_table(&self, table: &mut Table, key: &str) -> Result<(), ScenarioError> {
        for entry in table.entries_mut() {
            let key = if key.is_empty() { entry.key.clone() } else { format!("{key}.{}", entry.key) };
            self.apply_to_node(&mut entry.node, &key)?;
        }
        Ok(())
    }

    /// Puts numbers for names into a template, but takes `$name` as it stands.
    pub fn resolve_template(&self, node: &mut Node, key: &str) -> Result<(), ScenarioError> {
        if let Value::Text(text) = &mut node.value {
            *text = template::resolve(text, self).map_err(|error| located(error, &node.origin, key))?;
        }
        Ok(())
    }

    fn value(&self, text: String, origin: &Origin, key: &str) -> Result<Node, ScenarioError> {
        let located = |error| located(error, origin, key);
        let node = |value| Node { value, origin: origin.clone() };
        let Some(reference) = text.strip_prefix('$').and_then(Reference::read) else {
            return template::resolve(&text, self).map(|text| node(Value::Text(text))).map_err(located);
        };
        let name = match reference {
            Reference::Name(name) => name,
            Reference::Expression(expression) => {
                return template::evaluate(expression, self)
                    .map(|number| node(Value::Integer(number)))
                    .map_err(located);
            }
        };
        let Some(value) = self.table.get(name) else {
            let (what, remedy) = (format!("no parameter `{name}`"), suggestion(name, "parameters", self.table.keys()));
            return Err(ScenarioError { origin: origin.clone(), key: key.to_owned(), what, remedy });
        };
        self.used.borrow_mut().insert(name.to_owned());
        let mut value = value.clone();
        self.resolve_template(&mut value, key)?;
        Ok(value)
    }
}

/// What stands after a `$` when it refers to parameters; `$share/…` does not.
enum Reference<'a> {
    Name(&'a str),
    Expression(&'a str),
}

impl<'a> Reference<'a> {
    fn read(text: &'a str) -> Option<Self> {
        if let Some(expression) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            return Some(Self::Expression(expression));
        }
        let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then_some(Self::Name(text))
    }
}

fn located(error: TemplateError, origin: &Origin, key: &str) -> ScenarioError {
    let what = format!("{} at column {} of {:?}", error.what, error.column, error.template);
    ScenarioError { origin: origin.clone(), key: key.to_owned(), what, remedy: error.remedy }
}

impl template::Parameters for Parameters {
    fn number(&self, name: &str) -> Option<i64> {
        let Value::Integer(number) = self.table.get(name)?.value else { return None };
        self.used.borrow_mut().insert(name.to_owned());
        Some(number)
    }

    fn names(&self) -> Vec<String> {
        let whole = self.table.entries().iter().filter(|entry| matches!(entry.node.value, Value::Integer(_)));
        whole.map(|entry| entry.key.clone()).collect()
    }
}
