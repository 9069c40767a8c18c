//! From the text of a file to a [`Config`] and the place of each key in it, or to every mistake at once.
//!
//! Each key is first read alone, so that one file tells all its mistakes, each with its own key and line; only a
//! document without mistakes is read as a whole.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::fields;
use super::problem::{Origin, Problem};
use super::{
    Acl, Auth, CertificateAuth, ClientLimits, Config, GuardOptions, HttpAuth, JwtAuth, Limits, Listener, MqttOptions,
    PasswordAuth, Profile, Proxy, Ring, ScramAuth, Server, Sys, Tls, WebSocket,
};

/// How alike (0 to 1) a known name must be to an unknown one to be suggested for it.
const SIMILARITY_MIN: f64 = 0.75;

/// Where each key that is set was set: `limits.packet_bytes_max`, `listener[0].address`.
pub(super) type Origins = BTreeMap<String, Origin>;

/// Reads a document; `file` is what problems call it.
pub(super) fn read(file: &str, text: &str) -> Result<(Config, Origins), Vec<Problem>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, origins: Origins::new(), problems: Vec::new() };
    for error in errors {
        reader.syntax(&error);
    }
    if reader.problems.is_empty() {
        reader.root(document.get_ref());
    }
    if reader.problems.is_empty() {
        match Config::deserialize(document.into_deserializer()) {
            Ok(config) => return Ok((config, reader.origins)),
            Err(error) => reader.syntax(&error),
        }
    }
    reader.problems.sort_by_key(|problem| match problem.origin {
        Origin::File { line, column, .. } => (line, column),
        _ => (0, 0),
    });
    Err(reader.problems)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    origins: Origins,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            match name.get_ref().as_ref() {
                "server" => self.section::<Server>("server", value),
                "listener" => self.listeners(value),
                "ring" => self.section::<Ring>("ring", value),
                "limits" => self.section::<Limits>("limits", value),
                "mqtt" => self.section::<MqttOptions>("mqtt", value),
                "acl" => self.section::<Acl>("acl", value),
                "auth" => self.auth(value),
                "sys" => self.section::<Sys>("sys", value),
                "guard" => self.guard(value),
                unknown => self.unknown_at_top(unknown, name.span()),
            }
        }
    }

    fn listeners(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Array(tables) => {
                self.origins.insert("listener".to_owned(), self.origin(value.span()));
                for (index, table) in tables.iter().enumerate() {
                    self.section::<Listener>(&format!("listener[{index}]"), table);
                }
            }
            _ => self.problem(value.span(), "listener", "not a list of tables", "write [[listener]], once for each"),
        }
    }

    /// The guard's own keys, and a section for each profile.
    fn guard(&mut self, value: &Spanned<DeValue<'_>>) {
        let profiles = match value.get_ref() {
            DeValue::Table(table) => table.get("profile"),
            _ => None,
        };
        if let Some(profiles) = profiles {
            self.origins.insert("guard.profile".to_owned(), self.origin(profiles.span()));
            match profiles.get_ref() {
                DeValue::Array(tables) => {
                    for (index, table) in tables.iter().enumerate() {
                        self.section::<Profile>(&format!("guard.profile[{index}]"), table);
                    }
                }
                _ => {
                    let remedy = "write [[guard.profile]], once for each";
                    self.problem(profiles.span(), "guard.profile", "not a list of tables", remedy);
                }
            }
        }
        self.section::<GuardOptions>("guard", value);
    }

    /// The section that has sections of its own.
    fn auth(&mut self, value: &Spanned<DeValue<'_>>) {
        if let DeValue::Table(table) = value.get_ref() {
            for (name, value) in table {
                match name.get_ref().as_ref() {
                    "password" => self.section::<PasswordAuth>("auth.password", value),
                    "jwt" => self.section::<JwtAuth>("auth.jwt", value),
                    "certificate" => self.section::<CertificateAuth>("auth.certificate", value),
                    "http" => self.section::<HttpAuth>("auth.http", value),
                    "scram" => self.section::<ScramAuth>("auth.scram", value),
                    _ => {}
                }
            }
        }
        self.section::<Auth>("auth", value);
    }

    fn section<'de, T: Deserialize<'de>>(&mut self, section: &str, value: &Spanned<DeValue<'de>>) {
        let DeValue::Table(table) = value.get_ref() else {
            return self.problem(value.span(), section, "not a table", &format!("write [{section}] above its keys"));
        };
        self.origins.insert(section.to_owned(), self.origin(value.span()));
        let known = fields::<T>();
        for (key, value) in table {
            let path = format!("{section}.{}", key.get_ref());
            if is_subsection(&path) {
                continue;
            }
            let of_profile = section.starts_with("guard.profile[");
            let of_listener = section.starts_with("listener[") && section.ends_with(']');
            if of_listener && key.get_ref() == "tls" {
                self.section::<Tls>(&path, value);
            } else if of_listener && key.get_ref() == "websocket" {
                self.section::<WebSocket>(&path, value);
            } else if (of_listener || of_profile) && key.get_ref() == "limits" {
                self.section::<ClientLimits>(&path, value);
            } else if of_listener && key.get_ref() == "proxy" {
                self.section::<Proxy>(&path, value);
            } else if known.contains(&key.get_ref().as_ref()) {
                self.value::<T>(&path, key, value);
            } else {
                let remedy = unknown_key_remedy(section, key.get_ref(), known);
                self.problem(key.span(), &path, "no such key", &remedy);
            }
        }
    }

    /// Reads one key as the only one of its section: the others are their defaults.
    fn value<'de, T: Deserialize<'de>>(
        &mut self,
        path: &str,
        key: &Spanned<toml::de::DeString<'de>>,
        value: &Spanned<DeValue<'de>>,
    ) {
        let alone = DeTable::from_iter([(key.clone(), value.clone())]);
        if let Err(error) = T::deserialize(Spanned::new(value.span(), alone).into_deserializer()) {
            let (what, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
            let remedy = match expected {
                "" => "see tuning/ringmq.example.toml".to_owned(),
                expected => format!("write {expected}{}", default_text(path)),
            };
            self.problem(value.span(), path, what, &remedy);
        } else {
            self.origins.insert(path.to_owned(), self.origin(value.span()));
        }
    }

    fn unknown_at_top(&mut self, name: &str, span: Range<usize>) {
        let remedy = match (nearest(name, fields::<Config>()), section_of(name)) {
            (_, Some(section)) => format!("it belongs below [{section}]"),
            (Some(known), None) => format!("did you mean [{known}]?"),
            (None, None) => format!("the sections are {}", fields::<Config>().join(", ")),
        };
        self.problem(span, name, "no such section or key", &remedy);
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        self.problem(span, "", error.message(), "correct the TOML; tuning/ringmq.example.toml shows every key");
    }

    fn problem(&mut self, span: Range<usize>, key: &str, what: &str, remedy: &str) {
        let origin = self.origin(span);
        self.problems.push(Problem { origin, key: key.to_owned(), what: what.to_owned(), remedy: remedy.to_owned() });
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

fn unknown_key_remedy(section: &str, key: &str, known: &'static [&'static str]) -> String {
    if let Some(elsewhere) = section_of(key) {
        return format!("it belongs below [{elsewhere}]");
    }
    match nearest(key, known) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("the keys of [{section}] are {}", known.join(", ")),
    }
}

/// True for what is read as a section of its own.
fn is_subsection(path: &str) -> bool {
    ["auth.password", "auth.jwt", "auth.certificate", "auth.http", "auth.scram", "guard.profile"].contains(&path)
}

/// The section that has a key of exactly this name.
fn section_of(key: &str) -> Option<&'static str> {
    let sections: [(&str, &[&str]); 17] = [
        ("server", fields::<Server>()),
        ("[listener]", fields::<Listener>()),
        ("listener.tls", fields::<Tls>()),
        ("listener.websocket", fields::<WebSocket>()),
        ("listener.proxy", fields::<Proxy>()),
        ("ring", fields::<Ring>()),
        ("limits", fields::<Limits>()),
        ("mqtt", fields::<MqttOptions>()),
        ("acl", fields::<Acl>()),
        ("sys", fields::<Sys>()),
        ("auth", fields::<Auth>()),
        ("auth.password", fields::<PasswordAuth>()),
        ("auth.jwt", fields::<JwtAuth>()),
        ("auth.certificate", fields::<CertificateAuth>()),
        ("auth.http", fields::<HttpAuth>()),
        ("auth.scram", fields::<ScramAuth>()),
        ("guard", fields::<GuardOptions>()),
    ];
    sections.into_iter().find(|(_, keys)| keys.contains(&key)).map(|(section, _)| section)
}

fn nearest(name: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let alike = known.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), *known));
    alike.filter(|(alike, _)| *alike >= SIMILARITY_MIN).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// " (the default is …)", where there is one that can be written.
fn default_text(path: &str) -> String {
    let root = toml::Value::try_from(Config::default()).ok();
    let value = root.as_ref().and_then(|root| match path.rsplit_once('.')? {
        (section, key) if section.starts_with("listener") => root.get("listener")?.get(0)?.get(key),
        (section, key) => section.split('.').try_fold(root, |table, name| table.get(name))?.get(key),
    });
    value.map(|value| format!(" (the default is {value})")).unwrap_or_default()
}
