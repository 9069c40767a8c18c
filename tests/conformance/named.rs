//! The tables that say which test holds which statement, and which class of regressions, held to the tests that there are.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 3] = ["rs", "py", "mjs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a directory whose name ends in one of these; what is installed or built there aside.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of this repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("node_modules") && !path.ends_with("target") {
                found.extend(files(&path, extensions));
            }
        } else if path.extension().is_some_and(|is| extensions.iter().any(|extension| is == *extension)) {
            found.push(path);
        }
    }
    found
}

/// `tests/conformance.md`, `tests/regressions.md` and every table beside this file.
fn tables() -> Vec<PathBuf> {
    let mut tables = files(&root().join("tests/conformance"), &["md"]);
    tables.extend(["conformance.md", "regressions.md"].map(|name| root().join("tests").join(name)));
    tables
}

/// The rows of the tables of a text, as columns.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-"));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// The tests that a column names, between backquotes: words joined by `_` (Rust, Python) or by `-` (the other
/// clients). A module before the name and a variant in brackets behind it do not matter.
fn names(column: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    column.split('`').skip(1).step_by(2).filter_map(move |quoted| {
        let name = quoted.split('[').next()?.rsplit("::").next()?;
        (name.contains(['_', '-']) && name.chars().all(part)).then_some(name)
    })
}

/// The names of functions in Rust and Python.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
        let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("def "))?;
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
    })
}

#[test]
fn every_test_that_a_table_names_exists() {
    let all = ["src", "tests"].map(|under| files(&root().join(under), &SOURCES)).concat();
    let sources: Vec<String> = all.iter().map(read).collect();
    let functions: HashSet<&str> = sources.iter().flat_map(|source| functions(source)).collect();
    let clients: String = files(&root().join("tests/clients"), &SOURCES).iter().map(read).collect();
    let exists = |name: &str| functions.contains(name) || (name.contains('-') && clients.contains(name));
    let mut missing = Vec::new();
    for path in tables() {
        let text = read(&path);
        let last = rows(&text).filter_map(|columns| columns.last().copied());
        let unknown = last.flat_map(names).filter(|name| !exists(name));
        missing.extend(unknown.map(|name| format!("{}: {name}", path.display())));
    }
    assert!(missing.is_empty(), "tests that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn each_statement_has_one_row_and_each_row_a_test() {
    let text = read(&root().join("tests/conformance/packets.md"));
    for version in text.split("\n## ").skip(1) {
        let mut seen = HashSet::new();
        for columns in rows(version).filter(|columns| columns[0].starts_with("MQTT-")) {
            let statement = columns[0];
            assert!(seen.insert(statement), "{statement} has two rows");
            assert!(columns.len() == 3 && names(columns[2]).next().is_some(), "{statement} has no test");
        }
    }
}

#[test]
fn each_class_of_regressions_has_one_row_and_each_row_a_test() {
    let text = read(&root().join("tests/regressions.md"));
    let mut seen = HashSet::new();
    for columns in rows(&text).filter(|columns| columns[0] != "Class") {
        let class = columns[0];
        assert!(seen.insert(class), "{class} has two rows");
        assert!(columns.len() == 3 && names(columns[2]).next().is_some(), "{class} has no test");
    }
    assert!(seen.len() > 40, "{} classes", seen.len());
}
