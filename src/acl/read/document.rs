//! JSON and TOML: the same keys in both.
//!
//! Permissions of users (one object, a list of them, or such a list as `users`), roles that users and clients are bound
//! to, and explicit rules. Explicit rules are asked first, in their order, then permissions of users, of clients, of roles.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Mistake;
use super::words::{ByName, Doing, Level, Many, Named, Role, Topic, by_name};
use crate::acl::name::Name;
use crate::acl::policy::{ADMIN_ROLE, Draft, Statement, Whom};
use crate::acl::rule::{Access, Action, Network, check_conditions};

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Option<Access>,
    /// The file is about one user alone.
    user: Option<Named>,
    permissions: Option<Permissions>,
    #[serde(default)]
    rules: Vec<RuleText>,
    #[serde(default)]
    users: Members,
    #[serde(default)]
    clients: Members,
    #[serde(default)]
    roles: ByName<Permissions>,
}

/// What a user, a client or a role may.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Permissions {
    #[serde(default)]
    subscribe: Vec<Topic>,
    #[serde(default)]
    publish: Vec<Topic>,
}

/// An explicit rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    access: Access,
    #[serde(default)]
    action: Doing,
    topic: Many<Topic>,
    qos_max: Option<Level>,
    retain: Option<bool>,
    address: Option<Many<Network>>,
    user: Option<Many<Named>>,
    client: Option<Many<Named>>,
    role: Option<Many<Role>>,
    #[serde(default)]
    anonymous: bool,
}

#[derive(Deserialize)]
#[serde(try_from = "RawRule")]
struct RuleText(RawRule);

impl TryFrom<RawRule> for RuleText {
    type Error = String;

    fn try_from(rule: RawRule) -> Result<RuleText, String> {
        let qos_max = rule.qos_max.as_ref().map(|level| level.0);
        check_conditions(rule.access, rule.action.into(), qos_max, rule.retain).map_err(|error| error.to_string())?;
        match rule.anonymous && rule.user.is_some() {
            true => Err("no client has a user name and is anonymous: leave one of them out".to_owned()),
            false => Ok(RuleText(rule)),
        }
    }
}

/// Users or clients.
enum Members {
    /// With permissions of their own.
    Listed(Vec<Member>),
    /// By name, with their roles.
    Bound(ByName<Many<Role>>),
}

impl Default for Members {
    fn default() -> Members {
        Members::Listed(Vec::new())
    }
}

/// A user or a client with what it may.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    user: Option<Named>,
    client: Option<Named>,
    permissions: Option<Permissions>,
    roles: Option<Many<Role>>,
}

#[derive(Deserialize)]
#[serde(try_from = "RawMember")]
struct Member {
    whom: MemberName,
    permissions: Option<Permissions>,
    roles: Vec<Arc<str>>,
}

#[derive(Clone)]
enum MemberName {
    User(Name),
    Client(Name),
}

impl TryFrom<RawMember> for Member {
    type Error = &'static str;

    fn try_from(raw: RawMember) -> Result<Member, &'static str> {
        let whom = match (raw.user, raw.client) {
            (Some(Named(name)), None) => MemberName::User(name),
            (None, Some(Named(name))) => MemberName::Client(name),
            _ => return Err("whom is it about? Write either \"user\" or \"client\""),
        };
        let roles = raw.roles.map(names).unwrap_or_default();
        Ok(Member { whom, permissions: raw.permissions, roles })
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Members, D::Error> {
        d.deserialize_any(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of permissions, or a table of names with their roles")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = seq.next_element()? {
            members.push(member);
        }
        Ok(Members::Listed(members))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members, A::Error> {
        by_name(map).map(Members::Bound)
    }
}

/// Reads a JSON document.
pub(super) fn read_json(text: &str) -> Result<Draft, Mistake> {
    let mistake = |error: serde_json::Error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        let what = what.strip_suffix(&place).unwrap_or(&what).to_owned();
        Mistake { line: error.line().max(1), column: error.column().max(1), what }
    };
    if text.trim_start().starts_with('[') {
        let listed: Vec<Member> = serde_json::from_str(text).map_err(mistake)?;
        return drafted(text, Document { users: Members::Listed(listed), ..Document::empty() });
    }
    drafted(text, serde_json::from_str(text).map_err(mistake)?)
}

/// Reads a TOML document.
pub(super) fn read_toml(text: &str) -> Result<Draft, Mistake> {
    let document = toml::from_str(text).map_err(|error: toml::de::Error| {
        let offset = error.span().map_or(0, |span| span.start);
        Mistake::at(text, offset, error.message().to_owned())
    })?;
    drafted(text, document)
}

impl Document {
    fn empty() -> Document {
        Document {
            default: None,
            user: None,
            permissions: None,
            rules: Vec::new(),
            users: Members::default(),
            clients: Members::default(),
            roles: ByName::default(),
        }
    }
}

/// Orders what was read, and checks what can only be known at its end.
fn drafted(text: &str, document: Document) -> Result<Draft, Mistake> {
    let mut draft = Draft { default: document.default, ..Draft::default() };
    let roles: Vec<Arc<str>> = document.roles.0.iter().map(|(name, _)| name.as_str().into()).collect();
    for (number, RuleText(rule)) in document.rules.into_iter().enumerate() {
        let (whom, statements) = rule_section(rule, &format!("rules[{number}]"));
        draft.add(whom, statements);
    }
    match (document.user, document.permissions) {
        (Some(Named(name)), Some(permissions)) => {
            let whom = Whom { users: Some(vec![name]), ..Whom::default() };
            draft.add(whom, statements(permissions, "permissions"));
        }
        (None, None) => {}
        (Some(_), None) => return Err(Mistake::at(text, 0, "a user without permissions".to_owned())),
        (None, Some(_)) => return Err(Mistake::at(text, 0, "permissions of whom? There is no \"user\"".to_owned())),
    }
    add_members(&mut draft, "users", document.users, MemberName::User);
    add_members(&mut draft, "clients", document.clients, MemberName::Client);
    for (name, permissions) in document.roles.0 {
        let statements = statements(permissions, &format!("roles.{name}"));
        draft.add(Whom { roles: Some(vec![name.as_str().into()]), ..Whom::default() }, statements);
    }
    check_roles(text, &draft, &roles).map(|()| draft)
}

fn add_members(draft: &mut Draft, section: &str, members: Members, named: fn(Name) -> MemberName) {
    match members {
        Members::Bound(ByName(bound)) => {
            for (name, roles) in bound {
                draft.bind(named(Name::new(&name)), names(roles));
            }
        }
        Members::Listed(listed) => {
            for (number, member) in listed.into_iter().enumerate() {
                let (users, clients) = match member.whom.clone() {
                    MemberName::User(name) => (Some(vec![name]), None),
                    MemberName::Client(name) => (None, Some(vec![name])),
                };
                let place = format!("{section}[{number}].permissions");
                let statements = member.permissions.map(|permissions| statements(permissions, &place));
                draft.add(Whom { users, clients, ..Whom::default() }, statements.unwrap_or_default());
                draft.bind(member.whom, member.roles);
            }
        }
    }
}

impl Draft {
    fn add(&mut self, whom: Whom, statements: Vec<Statement>) {
        match self.sections.last_mut() {
            Some((last, so_far)) if *last == whom => so_far.extend(statements),
            _ => self.sections.push((whom, statements)),
        }
    }

    fn bind(&mut self, whom: MemberName, roles: Vec<Arc<str>>) {
        match whom {
            _ if roles.is_empty() => {}
            MemberName::User(name) => self.user_roles.push((name, roles)),
            MemberName::Client(name) => self.client_roles.push((name, roles)),
        }
    }
}

fn rule_section(rule: RawRule, place: &str) -> (Whom, Vec<Statement>) {
    let all_names = |many: Option<Many<Named>>| many.map(|many| many.0.into_iter().map(|named| named.0).collect());
    let addresses: Vec<_> = rule.address.into_iter().flat_map(|many| many.0).collect();
    let whom = Whom {
        users: all_names(rule.user),
        clients: all_names(rule.client),
        roles: rule.role.map(names),
        anonymous: rule.anonymous,
    };
    let statement = |Topic(filter)| Statement {
        access: rule.access,
        action: rule.action.into(),
        filter,
        qos_max: rule.qos_max.as_ref().map(|level| level.0),
        retain: rule.retain,
        addresses: addresses.clone(),
        place: place.into(),
    };
    (whom, rule.topic.0.into_iter().map(statement).collect())
}

fn statements(permissions: Permissions, place: &str) -> Vec<Statement> {
    let one = |action, key, (number, Topic(filter))| Statement {
        access: Access::Allow,
        action,
        filter,
        qos_max: None,
        retain: None,
        addresses: Vec::new(),
        place: format!("{place}.{key}[{number}]").into(),
    };
    let subscribe = permissions.subscribe.into_iter().enumerate().map(|each| one(Action::Subscribe, "subscribe", each));
    let publish = permissions.publish.into_iter().enumerate().map(|each| one(Action::Publish, "publish", each));
    subscribe.chain(publish).collect()
}

fn names(roles: Many<Role>) -> Vec<Arc<str>> {
    roles.0.into_iter().map(|role| role.0).collect()
}

/// A role that is given to somebody must be there: a typing error would take rights away without a word.
fn check_roles(text: &str, draft: &Draft, known: &[Arc<str>]) -> Result<(), Mistake> {
    let in_rules = draft.sections.iter().flat_map(|(whom, _)| whom.roles.iter().flatten());
    // A rule may be about a role that only authentication gives.
    let known: HashSet<&str> = known.iter().chain(in_rules).map(|role| &**role).chain([ADMIN_ROLE]).collect();
    let bound = draft.user_roles.iter().chain(&draft.client_roles).flat_map(|(_, roles)| roles);
    match bound.into_iter().find(|role| !known.contains(&***role)) {
        None => Ok(()),
        Some(role) => {
            let offset = text.find(&format!("\"{role}\"")).or_else(|| text.find(&**role)).unwrap_or(0);
            Err(Mistake::at(text, offset, format!("there is no role \"{role}\": add it to \"roles\"")))
        }
    }
}
