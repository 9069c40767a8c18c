//! All rules there are, and which of them are about a client.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rules;
use super::grants::{Grants, Line, Source, Table};
use super::name::Name;
use super::rule::{Access, Action, Network, Rule};
use super::template::Template;
use super::who::Who;
use crate::acl::filter::Filter;
use crate::codec::QoS;

/// The role whose members are administrators, whatever else it grants.
pub(super) const ADMIN_ROLE: &str = "admin";

/// All rules, ready to be asked. It never changes: new rules are a new policy.
#[derive(Debug)]
pub struct Policy {
    /// In the order they are asked in.
    sections: Vec<Section>,
    /// Sections about one user, client or role alone, by its name; all others are looked through.
    by_user: HashMap<Box<str>, Vec<usize>>,
    by_client: HashMap<Box<str>, Vec<usize>>,
    by_role: HashMap<Box<str>, Vec<usize>>,
    others: Vec<usize>,
    user_roles: Bindings,
    client_roles: Bindings,
    default: Access,
    admins: Vec<Name>,
}

/// Rules about the same clients.
#[derive(Debug)]
struct Section {
    whom: Whom,
    statements: Vec<Statement>,
    /// Where the numbers of its statements begin.
    first: u32,
    /// The statements, if they are the same for every client.
    shared: Option<Arc<Table>>,
}

/// Which clients rules are about: those of which everything holds that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        let mut policy = Policy {
            sections: Vec::new(),
            by_user: HashMap::new(),
            by_client: HashMap::new(),
            by_role: HashMap::new(),
            others: Vec::new(),
            user_roles: Bindings::new(draft.user_roles),
            client_roles: Bindings::new(draft.client_roles),
            default: draft.default.unwrap_or(default),
            admins: admins.iter().map(|name| Name::new(name)).collect(),
        };
        let mut first = 0;
        for (whom, statements) in draft.sections {
            let index = policy.sections.len();
            policy.index_of(&whom).push(index);
            let len = statements.len() as u32;
            policy.sections.push(Section::new(whom, statements, first));
            first += len;
        }
        policy
    }

    /// The list that a section about these clients is found by.
    fn index_of(&mut self, whom: &Whom) -> &mut Vec<usize> {
        let one = |names: &Option<Vec<Name>>| match names.as_deref() {
            Some([name]) => name.exact().map(Box::<str>::from),
            _ => None,
        };
        match (&whom.users, &whom.clients, whom.roles.as_deref(), whom.anonymous) {
            (Some(_), None, None, false) => one(&whom.users).map(|name| self.by_user.entry(name).or_default()),
            (None, Some(_), None, false) => one(&whom.clients).map(|name| self.by_client.entry(name).or_default()),
            (None, None, Some([role]), false) => Some(self.by_role.entry(Box::from(&**role)).or_default()),
            _ => None,
        }
        .unwrap_or(&mut self.others)
    }

    /// What a client may. It holds for as long as what is said of the client does, and this policy is in force.
    pub fn grants(&self, who: &Who<'_>) -> Grants {
        let roles = self.roles(who);
        let mut tables = Vec::new();
        tables.extend(who.rules.map(|rules| Arc::new(own_table(rules, who))));
        tables.extend(self.sections_about(who, &roles).into_iter().map(|index| self.sections[index].table(who)));
        tables.retain(|table| !table.is_empty());
        Grants::new(tables, self.default, self.is_admin(who, &roles))
    }

    /// Roles that its authentication gave a client, then those of its user name, then those of its identifier.
    fn roles<'a>(&'a self, who: &Who<'a>) -> Vec<&'a str> {
        let of_user = who.user.into_iter().flat_map(|user| self.user_roles.of(user));
        let bound = of_user.chain(self.client_roles.of(who.client_id));
        who.roles.iter().chain(bound).map(|role| &**role).collect()
    }

    /// Ascending: in the order they are asked in.
    fn sections_about(&self, who: &Who<'_>, roles: &[&str]) -> Vec<usize> {
        let mut about: Vec<usize> =
            self.others.iter().copied().filter(|index| self.sections[*index].whom.holds(who, roles)).collect();
        about.extend(who.user.and_then(|user| self.by_user.get(user)).into_iter().flatten());
        about.extend(self.by_client.get(who.client_id).into_iter().flatten());
        about.extend(roles.iter().filter_map(|role| self.by_role.get(*role)).flatten());
        about.sort_unstable();
        about.dedup();
        about
    }

    /// Where the first rule stands that is about clients at an address; `None` if none is.
    pub fn place_of_address(&self) -> Option<&str> {
        let mut statements = self.sections.iter().flat_map(|section| &section.statements);
        statements.find(|statement| !statement.addresses.is_empty()).map(|statement| &*statement.place)
    }

    /// Where the rule of this number stands, and its filter as it was written.
    pub(super) fn source(&self, number: u32) -> (String, String) {
        let section = &self.sections[self.sections.partition_point(|section| section.first <= number) - 1];
        let statement = &section.statements[(number - section.first) as usize];
        (statement.place.to_string(), statement.filter.to_string())
    }

    fn is_admin(&self, who: &Who<'_>, roles: &[&str]) -> bool {
        roles.contains(&ADMIN_ROLE) || who.user.is_some_and(|user| self.admins.iter().any(|name| name.matches(user)))
    }
}

impl Section {
    fn new(whom: Whom, statements: Vec<Statement>, first: u32) -> Section {
        let mut section = Section { whom, statements, first, shared: None };
        if section.statements.iter().all(Statement::is_for_everybody) {
            let nobody = Who {
                client_id: "",
                user: None,
                common_name: None,
                roles: &[],
                claims: &Default::default(),
                address: None,
                rules: None,
            };
            section.shared = Some(Arc::new(section.fill(&nobody)));
        }
        section
    }

    fn table(&self, who: &Who<'_>) -> Arc<Table> {
        self.shared.clone().unwrap_or_else(|| Arc::new(self.fill(who)))
    }

    fn fill(&self, who: &Who<'_>) -> Table {
        let numbered = (self.first..).zip(&self.statements);
        Table::new(numbered.filter_map(|(number, statement)| statement.fill(who, Source::Policy(number))).collect())
    }
}

impl Whom {
    fn holds(&self, who: &Who<'_>, roles: &[&str]) -> bool {
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
    fn is_for_everybody(&self) -> bool {
        self.addresses.is_empty() && self.filter.is_literal()
    }

    /// The rule for one client; `None` if it isn't about it.
    fn fill(&self, who: &Who<'_>, source: Source) -> Option<Line> {
        let is_there = |address| self.addresses.iter().any(|network| network.contains(address));
        if !self.addresses.is_empty() && !who.address.is_some_and(is_there) {
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

    fn of(&self, name: &str) -> impl Iterator<Item = &Arc<str>> {
        let by_pattern =
            self.patterns.iter().filter(move |(pattern, _)| pattern.matches(name)).flat_map(|(_, roles)| roles);
        self.exact.get(name).into_iter().flatten().chain(by_pattern)
    }
}

fn own_table(rules: &Rules, who: &Who<'_>) -> Table {
    Table::new((0..).zip(&rules.0).filter_map(|(number, rule)| own_line(rule, who, Source::Own(number))).collect())
}

/// A rule that its authentication gave a client. One that cannot be read allows nothing and denies everything.
fn own_line(rule: &Rule, who: &Who<'_>, source: Source) -> Option<Line> {
    let Rule { access, action, qos_max, retain, .. } = *rule;
    match Template::parse(&rule.filter) {
        Ok(filter) => {
            let addresses = rule.addresses.clone();
            let statement = Statement { access, action, filter, qos_max, retain, addresses, place: Box::default() };
            statement.fill(who, source)
        }
        Err(_) if access == Access::Allow => None,
        Err(_) => Some(Line { access, action, filter: Filter::everything(), qos_max: None, retain: None, source }),
    }
}
