//! Roles and rules as a token or another server says them, in JSON.
//!
//! `roles` is a name or a list of names. `acl` is
//! `{"publish": ["a/+"], "subscribe": ["b/#"], "deny": {"publish": [], "subscribe": []}}`; what is denied comes first.
//! What cannot be read is an error and never a right less or more than was meant.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::acl::{Access, Action, Rule, Rules};
use crate::codec::topic::validate_filter;

/// The most roles and rules of one client.
const ROLES_MAX: usize = 64;
const RULES_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acl {
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    deny: Denied,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Denied {
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
}

/// Reads roles.
pub(super) fn roles(value: &Value) -> Result<Vec<Arc<str>>, &'static str> {
    let names = match value {
        Value::Null => Vec::new(),
        Value::String(name) => vec![Arc::from(name.as_str())],
        Value::Array(names) => {
            let names = names.iter().map(|name| name.as_str().map(Arc::from));
            names.collect::<Option<Vec<Arc<str>>>>().ok_or("a role is no string")?
        }
        _ => return Err("roles are neither a string nor a list of strings"),
    };
    if names.len() > ROLES_MAX { Err("more than 64 roles") } else { Ok(names) }
}

/// Reads rules.
pub(super) fn rules(value: &Value) -> Result<Option<Arc<Rules>>, &'static str> {
    if value.is_null() {
        return Ok(None);
    }
    // The library would read a list as well, by the order of the keys.
    let is_object = value.is_object() && value.get("deny").is_none_or(Value::is_object);
    let read = Some(value).filter(|_| is_object).and_then(|value| Acl::deserialize(value).ok());
    let acl = read.ok_or("acl is not {\"publish\": […], \"subscribe\": […], \"deny\": {…}}")?;
    let lists = [
        (Access::Deny, Action::Publish, acl.deny.publish),
        (Access::Deny, Action::Subscribe, acl.deny.subscribe),
        (Access::Allow, Action::Publish, acl.publish),
        (Access::Allow, Action::Subscribe, acl.subscribe),
    ];
    let filters = lists
        .into_iter()
        .flat_map(|(access, action, filters)| filters.into_iter().map(move |filter| (access, action, filter)));
    let rules: Vec<Rule> = filters.map(|(access, action, filter)| rule(access, action, filter)).collect();
    match rules.len() > RULES_MAX {
        true => Err("more than 256 rules"),
        false if rules.iter().any(|rule| validate_filter(&rule.filter).is_err()) => Err("a rule's filter is none"),
        false => Ok(Some(Arc::new(Rules(rules)))),
    }
}

fn rule(access: Access, action: Action, filter: String) -> Rule {
    Rule { access, action, filter, qos_max: None, retain: None, addresses: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_denied_comes_before_what_is_allowed() {
        let said = json!({"publish": ["a/+"], "subscribe": ["b/#"], "deny": {"publish": ["a/x"]}});
        let rules = rules(&said).unwrap().unwrap();
        let told: Vec<_> = rules.0.iter().map(|rule| (rule.access, rule.action, rule.filter.as_str())).collect();
        assert_eq!(
            told,
            [
                (Access::Deny, Action::Publish, "a/x"),
                (Access::Allow, Action::Publish, "a/+"),
                (Access::Allow, Action::Subscribe, "b/#"),
            ]
        );
    }

    #[test]
    fn rules_that_cannot_be_read_are_no_rules_at_all() {
        let many: Vec<String> = (0..=RULES_MAX).map(|n| n.to_string()).collect();
        let cases = [
            json!([]),
            json!([["a"]]),
            json!({"deny": [["a"]]}),
            json!("a"),
            json!({"publsh": ["a"]}),
            json!({"publish": "a"}),
            json!({"publish": [1]}),
            json!({"publish": ["a/#/b"]}),
            json!({"publish": [""]}),
            json!({"deny": {"all": ["a"]}}),
            json!({"publish": many}),
        ];
        for case in cases {
            assert!(rules(&case).is_err(), "{case}");
        }
        assert_eq!(rules(&Value::Null), Ok(None));
    }

    #[test]
    fn roles_are_names() {
        assert_eq!(roles(&json!("sensor")).unwrap().len(), 1);
        assert_eq!(roles(&json!(["a", "b"])).unwrap().len(), 2);
        for case in [json!(1), json!([1]), json!({}), json!(vec!["r"; ROLES_MAX + 1])] {
            assert!(roles(&case).is_err(), "{case}");
        }
    }
}
