//! All rules there are, and which of them are about a client.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rules;
use super::grants::Grants;
use super::line::{Line, Own, Source};
use super::name::Name;
use super::rule::{Access, Action, Network, Rule, is_where};
use super::table::{Part, Table, TableBuilder};
use super::template::{Level, Template};
use super::who::Who;
use crate::codec::QoS;

/// The role whose members are administrators, whatever else it grants.
pub(super) const ADMIN_ROLE: &str = "admin";

/// All rules, ready to be asked. It never changes: new rules are a new policy.
#[derive(Debug)]
pub struct Policy {
    /// In the order they are asked in, each with the clients that it is about.
    statements: Vec<(Arc<Whom>, Statement)>,
    /// The rules about one user, client or role alone, by its name.
    by_user: HashMap<Box<str>, Arc<Table>>,
    by_client: HashMap<Box<str>, Arc<Table>>,
    by_role: HashMap<Box<str>, Arc<Table>>,
    /// All other rules.
    others: Arc<Table>,
    user_roles: Bindings,
    client_roles: Bindings,
    default: Access,
    admins: Vec<Name>,
}

/// Which clients rules are about: those of which everything holds that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Whom {
    /// The user name is one of these.
    pub users: Option<Vec<Name>>,
    /// The client identifier is one of these.
    pub clients: Option<Vec<Name>>,
    /// It has one of these roles.
    pub roles: Option<Vec<Arc<str>>>,
    /// It has no user name.
    pub anonymous: bool,
}

/// One rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub access: Access,
    pub action: Action,
    pub filter: Template,
    pub qos_max: Option<QoS>,
    pub retain: Option<bool>,
    pub addresses: Vec<Network>,
    /// Where it stands in its file: `rules[2]`, `roles.sensor.publish[0]`, `line 7`.
    pub place: Box<str>,
}

/// Roles of users or of clients.
#[derive(Debug, Default)]
struct Bindings {
    exact: HashMap<Box<str>, Vec<Arc<str>>>,
    patterns: Vec<(Name, Vec<Arc<str>>)>,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub default: Option<Access>,
    /// Rules about the same clients, in the order they are asked in.
    pub sections: Vec<(Whom, Vec<Statement>)>,
    pub user_roles: Vec<(Name, Vec<Arc<str>>)>,
    pub client_roles: Vec<(Name, Vec<Arc<str>>)>,
}

impl Policy {
    /// No rules: what is not about a topic that begins with `$` is as the default says, and those are for
    /// administrators, the users of these names (`*` stands for any characters).
    pub fn without_rules(default: Access, admins: &[String]) -> Policy {
        Policy::new(Draft::default(), default, admins)
    }

    pub(super) fn new(draft: Draft, default: Access, admins: &[String]) -> Policy {
        let mut statements = Vec::new();
        for (whom, section) in draft.sections {
            let whom = Arc::new(whom);
            statements.extend(section.into_iter().map(|statement| (whom.clone(), statement)));
        }
        let tables = Tables::of(&statements);
        let finished = |tables: HashMap<Box<str>, TableBuilder>| {
            tables.into_iter().map(|(name, table)| (name, Arc::new(table.finish()))).collect()
        };
        Policy {
            statements,
            by_user: finished(tables.by_user),
            by_client: finished(tables.by_client),
            by_role: finished(tables.by_role),
            others: Arc::new(tables.others.finish()),
            user_roles: Bindings::new(draft.user_roles),
            client_roles: Bindings::new(draft.client_roles),
            default: draft.default.unwrap_or(default),
            admins: admins.iter().map(|name| Name::new(name)).collect(),
        }
    }

    /// What a client may. It holds for as long as what is said of the client does, and this policy is in force.
    pub fn grants(&self, who: &Who<'_>) -> Grants {
        let roles = self.roles(who);
        let own = who.rules.map_or_else(Own::default, |rules| Own::new(own_statements(rules), who));
        let parts = self.tables_about(who, &roles).into_iter().map(|table| Part::new(table, who, &roles));
        Grants::new(own, parts.collect(), self.default, self.is_admin(who, &roles))
    }

    /// Roles that its authentication gave a client, then those of its user name, then those of its identifier.
    fn roles<'a>(&'a self, who: &Who<'a>) -> Vec<&'a str> {
        who.roles.iter().map(|role| &**role).chain(self.bound_roles(who.client_id, who.user)).collect()
    }

    /// Roles that the rules give a client.
    pub fn bound_roles<'a>(&'a self, client_id: &'a str, user: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let of_user = user.into_iter().flat_map(|user| self.user_roles.of(user));
        of_user.chain(self.client_roles.of(client_id)).map(|role| &**role)
    }

    /// The tables that hold all rules about a client.
    fn tables_about(&self, who: &Who<'_>, roles: &[&str]) -> Vec<&Arc<Table>> {
        let of_user = who.user.and_then(|user| self.by_user.get(user));
        let mut by_role: Vec<&Arc<Table>> = roles.iter().filter_map(|role| self.by_role.get(*role)).collect();
        // A role may be given to a client more than once.
        by_role.sort_unstable_by_key(|table| Arc::as_ptr(table));
        by_role.dedup_by_key(|table| Arc::as_ptr(table));
        let others = (!self.others.is_empty()).then_some(&self.others);
        others.into_iter().chain(of_user).chain(self.by_client.get(who.client_id)).chain(by_role).collect()
    }

    /// All rules about a client one by one, in the order they are asked in: for whoever has time.
    pub(super) fn lines(&self, who: &Who<'_>) -> Vec<Line> {
        let roles = self.roles(who);
        let own = who.rules.map(own_statements).unwrap_or_default();
        let own = own.iter().filter_map(|(number, statement)| statement.fill(who, Source::Own(*number)));
        let about = (0..).zip(&self.statements).filter(|(_, (whom, _))| whom.holds(who, &roles));
        own.chain(about.filter_map(|(number, (_, statement))| statement.fill(who, Source::Policy(number)))).collect()
    }

    /// Where the first rule stands that is about clients at an address; `None` if none is.
    pub fn place_of_address(&self) -> Option<&str> {
        let mut statements = self.statements.iter().map(|(_, statement)| statement);
        statements.find(|statement| !statement.addresses.is_empty()).map(|statement| &*statement.place)
    }

    /// Where the rule of this number stands, and its filter as it was written.
    pub(super) fn source(&self, number: u32) -> (String, String) {
        let (_, statement) = &self.statements[number as usize];
        (statement.place.to_string(), statement.filter.to_string())
    }

    fn is_admin(&self, who: &Who<'_>, roles: &[&str]) -> bool {
        roles.contains(&ADMIN_ROLE) || who.user.is_some_and(|user| self.admins.iter().any(|name| name.matches(user)))
    }
}

/// The tables of a policy, while they are made.
#[derive(Default)]
struct Tables {
    by_user: HashMap<Box<str>, TableBuilder>,
    by_client: HashMap<Box<str>, TableBuilder>,
    by_role: HashMap<Box<str>, TableBuilder>,
    others: TableBuilder,
}

impl Tables {
    fn of(statements: &[(Arc<Whom>, Statement)]) -> Tables {
        let mut tables = Tables::default();
        for (number, (whom, statement)) in (0..).zip(statements) {
            match tables.of_one(whom) {
                Some(table) => table.insert(number, statement, None),
                None => tables.others.insert(number, statement, Some(whom).filter(|whom| !whom.is_everybody())),
            }
        }
        tables
    }

    /// The table that is found by a name, if the rules are about one name alone.
    fn of_one(&mut self, whom: &Whom) -> Option<&mut TableBuilder> {
        let one = |names: &Option<Vec<Name>>| match names.as_deref() {
            Some([name]) => name.exact().map(Box::<str>::from),
            _ => None,
        };
        match (&whom.users, &whom.clients, whom.roles.as_deref(), whom.anonymous) {
            (Some(_), None, None, false) => Some(self.by_user.entry(one(&whom.users)?).or_default()),
            (None, Some(_), None, false) => Some(self.by_client.entry(one(&whom.clients)?).or_default()),
            (None, None, Some([role]), false) => Some(self.by_role.entry(Box::from(&**role)).or_default()),
            _ => None,
        }
    }
}

impl Whom {
    fn is_everybody(&self) -> bool {
        *self == Whom::default()
    }

    pub fn holds(&self, who: &Who<'_>, roles: &[&str]) -> bool {
        let is_one = |names: &Option<Vec<Name>>, name: Option<&str>| {
            names.as_ref().is_none_or(|names| name.is_some_and(|name| names.iter().any(|known| known.matches(name))))
        };
        is_one(&self.users, who.user)
            && is_one(&self.clients, Some(who.client_id))
            && self.roles.as_ref().is_none_or(|known| known.iter().any(|role| roles.contains(&&**role)))
            && !(self.anonymous && who.user.is_some())
    }
}

impl Statement {
    /// Whether it grants all of MQTT to whom it is about, as far as topics do not begin with `$`.
    pub fn opens_all(&self) -> bool {
        let is_unconditional = self.qos_max.is_none() && self.retain.is_none();
        let is_everything = matches!(&self.filter.levels()[..], [Level::All] | [Level::Any, Level::All]);
        is_unconditional && self.access == Access::Allow && self.action == Action::Both && is_everything
    }

    /// The rule for one client; `None` if it isn't about it.
    pub fn fill(&self, who: &Who<'_>, source: Source) -> Option<Line> {
        if !is_where(&self.addresses, who.address, self.access) {
            return None;
        }
        let filter = self.filter.fill(self.access, who)?;
        let Statement { access, action, qos_max, retain, .. } = *self;
        Some(Line { access, action, filter, qos_max, retain, source })
    }
}

impl Bindings {
    fn new(bound: Vec<(Name, Vec<Arc<str>>)>) -> Bindings {
        let mut bindings = Bindings::default();
        for (name, roles) in bound {
            match name.exact() {
                Some(exact) => bindings.exact.entry(exact.into()).or_default().extend(roles),
                None => bindings.patterns.push((name, roles)),
            }
        }
        bindings
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        let by_pattern =
            self.patterns.iter().filter(move |(pattern, _)| pattern.matches(name)).flat_map(|(_, roles)| roles);
        self.exact.get(name).into_iter().flatten().chain(by_pattern)
    }
}

/// The rules that its authentication gave a client. One that cannot be read allows nothing and denies everything.
fn own_statements(rules: &Rules) -> Vec<(u32, Statement)> {
    let statement = |rule: &Rule| {
        let Rule { access, action, qos_max, retain, .. } = *rule;
        let place = Box::default();
        match Template::parse(&rule.filter) {
            Ok(filter) => {
                let addresses = rule.addresses.clone();
                Some(Statement { access, action, filter, qos_max, retain, addresses, place })
            }
            Err(_) if access == Access::Allow => None,
            Err(_) => {
                let (filter, addresses) = (Template::everything(), Vec::new());
                Some(Statement { access, action, filter, qos_max: None, retain: None, addresses, place })
            }
        }
    };
    (0..).zip(&rules.0).filter_map(|(number, rule)| Some((number, statement(rule)?))).collect()
}
