//! What must never be granted, by whatever way it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::codec::QoS;

mod conditions;
mod files;
mod subscriptions;

const QOS0: QoS = QoS::AtMostOnce;
const QOS2: QoS = QoS::ExactlyOnce;
const CHECKED: Subscribing = Subscribing::Granted { qos: QOS2, checked: true };
const GRANTED: Subscribing = Subscribing::Granted { qos: QOS2, checked: false };

static NO_CLAIMS: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();

#[track_caller]
fn policy(format: Format, text: &str) -> Policy {
    let read = Policy::from_text("rules", text, format, Access::Deny, &["ops".to_owned()]);
    read.unwrap_or_else(|mistake| panic!("{mistake}"))
}

#[track_caller]
fn toml(text: &str) -> Policy {
    policy(Format::Toml, text)
}

#[track_caller]
fn mistake(format: Format, text: &str) -> String {
    match Policy::from_text("rules", text, format, Access::Deny, &[]) {
        Ok(_) => panic!("accepted: {text}"),
        Err(mistake) => mistake.to_string(),
    }
}

fn client(client_id: &str) -> Who<'_> {
    Who { client_id, user: None, common_name: None, roles: &[], claims: &NO_CLAIMS, address: None, rules: None }
}

fn user<'a>(client_id: &'a str, user: &'a str) -> Who<'a> {
    Who { user: Some(user), ..client(client_id) }
}

fn publishes(policy: &Policy, who: &Who<'_>, topic: &str) -> bool {
    policy.grants(who).publish(topic, QOS0, false)
}

fn subscribes(policy: &Policy, who: &Who<'_>, filter: &str) -> Subscribing {
    policy.grants(who).subscribe(filter, QOS2)
}

// --- what a client sends widens nothing ------------------------------------------------------------------------------

#[test]
fn wildcards_in_an_identifier_widen_no_pattern() {
    let policy = toml(r##"rules = [{ access = "allow", topic = "devices/${clientid}/#" }]"##);
    assert!(publishes(&policy, &client("d1"), "devices/d1/x"));
    assert_eq!(subscribes(&policy, &client("d1"), "devices/d1/#"), GRANTED);
    for id in ["+", "#", "d1/+", "d+", "d#", "+/#", ""] {
        for topic in ["devices/d1/x", "devices/+/x", "devices/x", "devices", "devices//x"] {
            assert!(!publishes(&policy, &client(id), topic), "{id} {topic}");
        }
        for filter in ["devices/#", "devices/+/#", "devices/d1/#", "#", "devices//#", &format!("devices/{id}/#")] {
            assert_eq!(subscribes(&policy, &client(id), filter), Subscribing::Denied, "{id} {filter}");
        }
    }
}

#[test]
fn wildcards_in_a_user_name_widen_no_mosquitto_pattern() {
    let policy = policy(Format::Mosquitto, "pattern read %u/%c/in\npattern write %u/%c/out\n");
    assert!(publishes(&policy, &user("c", "u"), "u/c/out"));
    for (id, name) in [("c", "+"), ("+", "u"), ("c", "#"), ("#", "u"), ("c/out", "u"), ("c", "")] {
        assert!(!publishes(&policy, &user(id, name), "u/c/out"), "{id} {name}");
        assert_eq!(subscribes(&policy, &user(id, name), "u/c/in"), Subscribing::Denied, "{id} {name}");
        assert_eq!(subscribes(&policy, &user(id, name), "+/c/in"), Subscribing::Denied, "{id} {name}");
    }
    assert!(!publishes(&policy, &client("c"), "/c/out"), "no user name");
}

#[test]
fn a_separator_in_an_identifier_reaches_no_other_level() {
    let policy = toml(r##"rules = [{ access = "allow", topic = "devices/${clientid}" }]"##);
    assert!(!publishes(&policy, &client("d1/admin"), "devices/d1/admin"));
    assert!(!publishes(&policy, &client("/"), "devices//"));
}

#[test]
fn a_value_that_looks_like_a_placeholder_is_text() {
    let policy = toml(r##"rules = [{ access = "allow", topic = "a/${clientid}/${username}" }]"##);
    let who = user("${username}", "alice");
    assert!(publishes(&policy, &who, "a/${username}/alice"));
    assert!(!publishes(&policy, &who, "a/alice/alice"));
    let percent = super::tests::policy(Format::Mosquitto, "pattern write %c/%u");
    assert!(publishes(&percent, &user("%u", "alice"), "%u/alice"));
    assert!(!publishes(&percent, &user("%u", "alice"), "alice/alice"));
}

#[test]
fn an_identifier_names_no_system_topics() {
    let policy = toml(r##"rules = [{ access = "allow", topic = "${clientid}/#" }]"##);
    assert_eq!(subscribes(&policy, &client("$SYS"), "$SYS/#"), Subscribing::Denied);
    assert!(!publishes(&policy, &client("$SYS"), "$SYS/x"));
    assert_eq!(subscribes(&policy, &client("SYS"), "SYS/#"), GRANTED);
}

#[test]
fn an_identifier_slips_past_no_deny_rule() {
    let text = r##"
        default = "allow"
        rules = [{ access = "deny", action = "publish", topic = "private/${clientid}/audit" }]
    "##;
    let policy = toml(text);
    assert!(!publishes(&policy, &client("d1"), "private/d1/audit"));
    assert!(publishes(&policy, &client("d1"), "private/d2/audit"));
    for id in ["+", "#", "a/b", "", "d1\0"] {
        for topic in ["private", "private/d1/audit", "private/a/b/audit", "private//audit"] {
            assert!(!publishes(&policy, &client(id), topic), "{id:?} {topic}");
        }
        assert!(publishes(&policy, &client(id), "public/x"), "{id:?}");
    }
    let at_first = toml("default = \"allow\"\nrules = [{ access = \"deny\", topic = \"${jwt.tenant}/secret\" }]");
    assert!(!publishes(&at_first, &client("d1"), "a/secret"), "a claim that is missing denies all");
    assert_eq!(subscribes(&at_first, &client("d1"), "#"), Subscribing::Denied);
}

#[test]
fn every_placeholder_takes_its_own_value() {
    let text = r##"rules = [{ access = "allow", topic = "${clientid}/${username}/${cert.cn}/${jwt.plant}" }]"##;
    let policy = toml(text);
    let claims = BTreeMap::from([("plant".into(), "north".into())]);
    let all = Who { common_name: Some("cn"), claims: &claims, ..user("id", "name") };
    assert!(publishes(&policy, &all, "id/name/cn/north"));
    for less in [Who { user: None, ..all }, Who { common_name: None, ..all }, Who { claims: &NO_CLAIMS, ..all }] {
        assert!(!publishes(&policy, &less, "id/name/cn/north"), "{less:?}");
    }
}

#[test]
fn unknown_placeholders_are_refused() {
    for name in ["${client}", "${}", "${jwt.}", "${clientid", "${ClientId}", "${env.HOME}"] {
        let text = format!("rules = [{{ access = \"allow\", topic = \"a/{name}\" }}]");
        assert!(mistake(Format::Toml, &text).contains("placeholder"), "{name}");
    }
}

// --- topics that begin with `$` --------------------------------------------------------------------------------------

#[test]
fn system_topics_are_for_administrators_and_where_a_rule_names_them() {
    let open = Policy::without_rules(Access::Allow, &["ops-*".to_owned()]);
    for (who, is_granted) in [
        (client("c"), false),
        (user("c", "alice"), false),
        (user("c", "ops-1"), true),
        (client("ops-1"), false),
        (Who { roles: &["admin".into()], ..client("c") }, true),
    ] {
        let grants = open.grants(&who);
        assert_eq!(grants.subscribe("$SYS/#", QOS2) == GRANTED, is_granted, "{who:?}");
        assert_eq!(grants.publish("$other/x", QOS0, false), is_granted, "{who:?}");
        assert_eq!((grants.receive("$SYS/uptime"), grants.is_admin()), (is_granted, is_granted), "{who:?}");
        assert_eq!(grants.subscribe("#", QOS2), GRANTED, "{who:?}");
    }
    let policy = toml("rules = [{ access = \"allow\", action = \"subscribe\", topic = [\"$SYS/broker/+\", \"#\"] }]");
    assert_eq!(subscribes(&policy, &client("c"), "$SYS/broker/uptime"), GRANTED);
    assert_eq!(subscribes(&policy, &client("c"), "$SYS/other"), Subscribing::Denied);
    assert_eq!(subscribes(&policy, &client("c"), "$SYS/#"), Subscribing::Denied);
    assert!(!publishes(&policy, &client("c"), "$SYS/broker/uptime"));
}

#[test]
fn a_wildcard_that_allows_everything_opens_no_control_topic() {
    let policy = toml("default = \"allow\"\nrules = [{ access = \"allow\", topic = [\"#\", \"+/#\", \"+/+/+\"] }]");
    for topic in ["$CONTROL/dynamic-security/v1", "$CONTROL", "$MQTT/x/y", "$share/g/t", "$x"] {
        assert!(!publishes(&policy, &client("c"), topic), "{topic}");
        assert!(!policy.grants(&client("c")).receive(topic), "{topic}");
    }
    for filter in ["$CONTROL/#", "$CONTROL/+/v1", "$share/g/$CONTROL/#", "$MQTT/#"] {
        assert_eq!(subscribes(&policy, &client("c"), filter), Subscribing::Denied, "{filter}");
    }
}

#[test]
fn system_topics_have_their_case() {
    let policy = toml("rules = [{ access = \"allow\", topic = [\"$SYS/#\", \"#\"] }]");
    assert_eq!(subscribes(&policy, &client("c"), "$SYS/x"), GRANTED);
    for other in ["$sys/x", "$Sys/x", "$SYS ", "$SYSX/x"] {
        assert_eq!(subscribes(&policy, &client("c"), other), Subscribing::Denied, "{other}");
    }
}

#[test]
fn wildcards_of_rules_and_filters_are_not_about_system_topics() {
    let policy = toml("rules = [{ access = \"allow\", topic = [\"#\", \"+/uptime\"] }]");
    for filter in ["$SYS/uptime", "$SYS/+", "$SYS/#", "$SYS"] {
        assert_eq!(subscribes(&policy, &client("c"), filter), Subscribing::Denied, "{filter}");
    }
    let denied = toml("default = \"allow\"\nrules = [{ access = \"deny\", topic = \"$SYS/secret\" }]");
    assert_eq!(subscribes(&denied, &client("c"), "#"), GRANTED);
    assert_eq!(subscribes(&denied, &user("c", "ops"), "$SYS/#"), CHECKED);
}

// --- remembered answers ----------------------------------------------------------------------------------------------

#[test]
fn a_remembered_answer_is_that_of_the_grants_asked_now() {
    let (yes, no) = (Policy::without_rules(Access::Allow, &[]), Policy::without_rules(Access::Deny, &[]));
    let deny = toml("default = \"allow\"\nrules = [{ access = \"deny\", topic = \"b\" }]");
    let mut decisions = Decisions::default();
    for _ in 0..2 {
        for (policy, is_granted) in [(&yes, true), (&no, false), (&deny, true)] {
            let grants = policy.grants(&client("c"));
            assert_eq!(decisions.publish(&grants, "a", 7, QOS0, false), is_granted);
            assert_eq!(decisions.receive(&grants, "a", 7), is_granted);
        }
    }
}

#[test]
fn what_was_asked_is_part_of_what_is_remembered() {
    let text = r##"rules = [{ access = "allow", action = "publish", topic = "a", qos_max = 0, retain = false }]"##;
    let grants = toml(text).grants(&client("c"));
    let mut decisions = Decisions::default();
    for _ in 0..2 {
        assert!(decisions.publish(&grants, "a", 7, QOS0, false));
        assert!(!decisions.publish(&grants, "a", 7, QOS0, true));
        assert!(!decisions.publish(&grants, "a", 7, QOS2, false));
        assert!(!decisions.receive(&grants, "a", 7));
    }
}
