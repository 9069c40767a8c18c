//! What must never be granted, by whatever way it is asked for; and what the files of others mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::codec::QoS;

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

// --- subscriptions ---------------------------------------------------------------------------------------------------

#[test]
fn a_shared_subscription_is_asked_about_by_its_filter() {
    let policy = toml("default = \"allow\"\nrules = [{ access = \"deny\", topic = \"denied/#\" }]");
    for filter in ["$share/g/denied", "$share/g/denied/#", "$share/g/denied/x", "denied", "$share/g/$SYS/x"] {
        assert_eq!(subscribes(&policy, &client("c"), filter), Subscribing::Denied, "{filter}");
    }
    assert_eq!(subscribes(&policy, &client("c"), "$share/g/#"), CHECKED);
    assert_eq!(subscribes(&policy, &client("c"), "$share/g/free"), GRANTED);
    for malformed in ["$share/", "$share/g", "$share/g/", "$share//denied", "$share/+/denied"] {
        assert_eq!(subscribes(&policy, &user("c", "ops"), malformed), Subscribing::Denied, "{malformed}");
    }
}

#[test]
fn a_filter_wider_than_what_is_allowed_is_refused() {
    let policy = toml("[[users]]\nuser = \"u\"\npermissions = { subscribe = [\"sensors/+/data\", \"x/#\"] }");
    for filter in ["sensors/1/data", "sensors/+/data", "x", "x/#", "x/+/y/#", "$share/g/x/y"] {
        assert_eq!(subscribes(&policy, &user("c", "u"), filter), GRANTED, "{filter}");
    }
    for filter in ["sensors/#", "sensors/+/+", "sensors/+/data/#", "#", "+", "+/#", "+/1/data", "y"] {
        assert_eq!(subscribes(&policy, &user("c", "u"), filter), Subscribing::Denied, "{filter}");
    }
    let grants = policy.grants(&user("c", "u"));
    assert!(grants.receive("sensors/1/data") && !grants.receive("sensors/1/other"));
}

#[test]
fn a_deny_rule_beats_a_wider_allow_rule_behind_it() {
    let text = r##"
        rules = [{ access = "deny", topic = "plant/secret/#" }, { access = "allow", topic = "plant/#" }]
    "##;
    let policy = toml(text);
    let grants = policy.grants(&client("c"));
    assert_eq!(grants.subscribe("plant/#", QOS2), CHECKED);
    assert!(grants.receive("plant/open") && !grants.receive("plant/secret") && !grants.receive("plant/secret/x"));
    assert!(grants.publish("plant/open", QOS0, false) && !grants.publish("plant/secret/x", QOS0, false));
    assert_eq!(grants.subscribe("plant/secret/#", QOS2), Subscribing::Denied);
    assert_eq!(grants.subscribe("plant/open/#", QOS2), GRANTED);
}

#[test]
fn the_first_rule_decides() {
    let text = r##"
        rules = [{ access = "allow", topic = "a/b" }, { access = "deny", topic = "a/#" }, { access = "allow", topic = "#" }]
    "##;
    let grants = toml(text).grants(&client("c"));
    assert!(grants.publish("a/b", QOS0, false) && !grants.publish("a/c", QOS0, false));
    assert_eq!(grants.subscribe("a/b", QOS2), GRANTED);
    assert_eq!(grants.subscribe("a/+", QOS2), Subscribing::Denied);
    assert_eq!(grants.subscribe("#", QOS2), CHECKED);
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

// --- conditions ------------------------------------------------------------------------------------------------------

#[test]
fn conditions_on_qos_and_retain_are_about_the_message() {
    let text = r##"
        [[rules]]
        access = "deny"
        action = "publish"
        topic = "a/#"
        retain = true
        [[rules]]
        access = "allow"
        topic = "a/#"
        qos_max = 1
    "##;
    let grants = toml(text).grants(&client("c"));
    assert!(grants.publish("a/x", QoS::AtLeastOnce, false));
    assert!(!grants.publish("a/x", QOS2, false));
    assert!(!grants.publish("a/x", QOS0, true));
    let granted = |qos| Subscribing::Granted { qos, checked: false };
    let retained_only = toml("rules = [{ access = \"allow\", topic = \"a\", retain = true }]").grants(&client("c"));
    assert!(retained_only.publish("a", QOS0, true) && !retained_only.publish("a", QOS0, false));
    assert_eq!(retained_only.subscribe("a", QOS2), GRANTED, "the condition is about publications");
    let both = toml("rules = [{ access = \"allow\", topic = \"a\", qos_max = 1 }]").grants(&client("c"));
    assert_eq!(both.subscribe("a", QOS2), granted(QoS::AtLeastOnce));
    assert_eq!(both.subscribe("a", QOS0), granted(QOS0));
}

#[test]
fn what_is_allowed_up_to_a_qos_is_not_allowed_beyond_by_a_wider_rule_behind() {
    let text = r##"
        rules = [
            { access = "allow", topic = "a/slow/#", qos_max = 0 },
            { access = "deny", action = "publish", topic = "a/deny", qos_max = 1 },
            { access = "allow", topic = "a/some/+", qos_max = 1 },
            { access = "allow", topic = "a/#" },
        ]
    "##;
    let policy = toml(text);
    let grants = policy.grants(&client("c"));
    assert!(grants.publish("a/slow/x", QOS0, false) && !grants.publish("a/slow/x", QoS::AtLeastOnce, false));
    assert!(grants.publish("a/some/x", QoS::AtLeastOnce, false) && !grants.publish("a/some/x", QOS2, false));
    // What denies up to a QoS says nothing of more.
    assert!(!grants.publish("a/deny", QoS::AtLeastOnce, false) && grants.publish("a/deny", QOS2, false));
    let granted = |filter: &str| match grants.subscribe(filter, QOS2) {
        Subscribing::Granted { qos, .. } => qos,
        Subscribing::Denied => panic!("{filter}"),
    };
    for (filter, qos) in [
        ("a/slow/x", QOS0),
        ("a/slow/#", QOS0),
        ("a/some/x", QoS::AtLeastOnce),
        ("a/other/#", QOS2),
        // A part of it is granted at that.
        ("a/#", QOS0),
        ("a/+/x", QOS0),
        ("a/some/#", QoS::AtLeastOnce),
        ("a/+", QOS0),
        ("$share/g/a/#", QOS0),
    ] {
        assert_eq!(granted(filter), qos, "{filter}");
    }
    let by_default = toml("default = \"allow\"\nrules = [{ access = \"allow\", topic = \"a\", qos_max = 0 }]");
    assert!(!by_default.grants(&client("c")).publish("a", QOS2, false));
    assert_eq!(subscribes(&by_default, &client("c"), "#"), Subscribing::Granted { qos: QOS0, checked: false });
    let explained = policy.explain_publish(&client("c"), "a/slow/x", QOS2, false).to_string();
    assert!(explained.starts_with("denied\n  by rules[0]") && explained.contains("QoS 0 at most"), "{explained}");
}

#[test]
fn a_subscription_to_more_places_than_are_looked_at_is_held_to_the_strictest_rule_behind_them() {
    let granted = |places| with_places(places).grants(&client("c")).subscribe("a/+/x", QOS2);
    assert_eq!(granted(trie::PLACES_MAX), GRANTED);
    assert_eq!(granted(trie::PLACES_MAX + 1), STRICTLY, "never more than is granted, and deliveries are asked about");
}

/// Rules about so many places below `a`, and about nothing that `a/+/x` matches.
fn with_places(places: usize) -> Policy {
    let mut text = "default = \"allow\"\n".to_owned();
    for number in 0..places {
        let [deny, limit] = ["access = \"deny\"", "access = \"allow\"\nqos_max = 1"];
        let what = if number % 2 == 0 { deny } else { limit };
        text += &format!("[[rules]]\naction = \"subscribe\"\ntopic = \"a/{number}/b\"\n{what}\n");
    }
    toml(&text)
}

/// What is granted by all of these rules at once.
const STRICTLY: Subscribing = Subscribing::Granted { qos: QoS::AtLeastOnce, checked: true };

#[test]
fn many_filters_together_lead_to_so_many_places_and_what_leads_to_none_needs_no_room() {
    let grants = with_places(trie::PLACES_MAX).grants(&client("c"));
    let mut room = Room::of_a_packet();
    for number in 0..300 {
        let expected = if number < 256 { GRANTED } else { STRICTLY };
        assert_eq!(grants.subscribe_within("a/+/x", QOS2, &mut room), expected, "{number}");
        assert_eq!(grants.subscribe_within("a/1/x", QOS2, &mut room), GRANTED, "{number}");
    }
    assert_eq!(grants.subscribe("a/+/x", QOS2), GRANTED, "alone it has room");
}

#[test]
fn rules_about_publishing_take_nothing_from_a_subscription_however_many_they_are() {
    let mut text = String::new();
    for number in 0..=trie::PLACES_MAX {
        for rule in ["access = \"deny\"", "access = \"allow\"\nqos_max = 0"] {
            text += &format!("[[rules]]\n{rule}\naction = \"publish\"\ntopic = \"dev/{number}/x\"\n");
        }
    }
    text += "[[rules]]\naccess = \"allow\"\ntopic = \"dev/#\"\n";
    assert_eq!(toml(&text).grants(&client("c")).subscribe("dev/+/x", QOS2), GRANTED);
}

#[test]
fn the_explanation_says_when_a_subscription_is_held_to_rules_as_a_whole() {
    let explained = |places: usize| {
        let mut text = String::new();
        for number in 0..places {
            text += &format!("[[rules]]\naccess = \"deny\"\naction = \"subscribe\"\ntopic = \"dev/{number}/x\"\n");
        }
        text += "[[rules]]\naccess = \"allow\"\ntopic = \"dev/#\"\n";
        let explanation = toml(&text).explain_subscribe(&client("c"), "dev/+/y", QOS2);
        assert!(explanation.is_allowed);
        explanation.text.contains("more than 256 places")
    };
    assert!(!explained(trie::PLACES_MAX) && explained(trie::PLACES_MAX + 1));
}

/// A rule about both actions, without conditions.
fn about(access: Access, filter: &str) -> Rule {
    let filter = filter.to_owned();
    Rule { access, action: Action::Both, filter, qos_max: None, retain: None, addresses: Vec::new() }
}

#[test]
fn where_an_address_is_unknown_what_denies_by_address_denies_and_what_allows_does_not_allow() {
    let network = || vec!["10.0.0.0/8".parse().unwrap()];
    let rule = |access, filter: &str| Rule { addresses: network(), ..about(access, filter) };
    let open = Policy::without_rules(Access::Allow, &[]);
    let closed = Policy::without_rules(Access::Deny, &[]);
    let at = |address: &str| Some(address.parse().unwrap());
    // As few and as many as make a list or a trie of them.
    for more in [0, 20] {
        let others = |access| (0..more).map(move |number| rule(access, &format!("other/{number}")));
        let denies = Rules(others(Access::Deny).chain([rule(Access::Deny, "a")]).collect());
        let allows = Rules(others(Access::Allow).chain([rule(Access::Allow, "a")]).collect());
        for (address, is_denied, is_allowed) in
            [(None, true, false), (at("10.1.1.1"), true, true), (at("192.0.2.1"), false, false)]
        {
            let who = |rules| Who { address, rules: Some(rules), ..client("c") };
            assert_eq!(!publishes(&open, &who(&denies), "a"), is_denied, "{address:?}");
            assert_eq!(open.grants(&who(&denies)).receive("a"), !is_denied, "{address:?}");
            assert_eq!(publishes(&closed, &who(&allows), "a"), is_allowed, "{address:?}");
        }
    }
    let text = "default = \"allow\"\nrules = [{ access = \"deny\", topic = \"a\", address = \"10.0.0.0/8\" }]";
    assert!(!publishes(&toml(text), &client("c"), "a"), "in a file too");
}

#[test]
fn conditions_that_say_less_than_they_seem_are_refused() {
    let rule = |text: &str| mistake(Format::Toml, &format!("\nrules = [{{ topic = \"a\", {text} }}]"));
    assert!(rule("access = \"deny\", qos_max = 0").contains("at every QoS"));
    assert!(rule("access = \"allow\", action = \"subscribe\", retain = true").contains("retain"));
    assert!(rule("access = \"allow\", user = \"u\", anonymous = true").contains("anonymous"));
    assert!(rule("access = \"allow\", user = []").contains("empty"));
    assert!(rule("access = \"allow\", address = \"10.0.0.0/33\"").contains("network"));
    assert!(rule("access = \"allow\", qos_max = 3").contains("no QoS 3"));
}

#[test]
fn rules_can_be_about_users_clients_roles_and_addresses() {
    let text = r##"
        [[rules]]
        access = "allow"
        topic = "lan"
        address = ["10.0.0.0/8", "2001:db8::/32"]
        [[rules]]
        access = "allow"
        topic = "named"
        user = ["alice", "dev-*"]
        client = "c*"
        [[rules]]
        access = "allow"
        topic = "by-role"
        role = ["reader", "writer"]
        [[rules]]
        access = "allow"
        topic = "anybody"
        anonymous = true
    "##;
    let policy = toml(text);
    let from = |address: &str| Who { address: Some(address.parse().unwrap()), ..client("c") };
    assert!(publishes(&policy, &from("10.2.3.4"), "lan") && publishes(&policy, &from("::ffff:10.2.3.4"), "lan"));
    assert!(!publishes(&policy, &from("11.2.3.4"), "lan") && !publishes(&policy, &client("c"), "lan"));
    assert!(publishes(&policy, &user("c1", "alice"), "named") && publishes(&policy, &user("c", "dev-7"), "named"));
    assert!(!publishes(&policy, &user("x", "alice"), "named") && !publishes(&policy, &client("c1"), "named"));
    assert!(publishes(&policy, &Who { roles: &["writer".into()], ..client("c") }, "by-role"));
    assert!(!publishes(&policy, &Who { roles: &["other".into()], ..client("c") }, "by-role"));
    assert!(publishes(&policy, &client("c"), "anybody") && !publishes(&policy, &user("c", "alice"), "anybody"));
}

#[test]
fn a_clients_own_rules_come_first() {
    let policy = toml("rules = [{ access = \"allow\", topic = \"#\" }]");
    let own = Rules(vec![about(Access::Deny, "a/${clientid}"), about(Access::Allow, "$SYS/#")]);
    let who = Who { rules: Some(&own), ..client("c") };
    assert!(!publishes(&policy, &who, "a/c") && publishes(&policy, &who, "a/d"));
    assert_eq!(subscribes(&policy, &who, "$SYS/#"), GRANTED);
    let broken = Rules(vec![about(Access::Deny, "a/${nobody}")]);
    assert!(broken.0[0].check().is_err());
    assert!(!publishes(&policy, &Who { rules: Some(&broken), ..client("c") }, "x"), "a deny rule must not vanish");
    let broken = Rules(vec![about(Access::Allow, "#/${nobody}")]);
    let none = Policy::without_rules(Access::Deny, &[]);
    assert!(!publishes(&none, &Who { rules: Some(&broken), ..client("c") }, "x"));
}

#[test]
fn what_is_open_to_all_is_known_without_asking() {
    let open = Policy::without_rules(Access::Allow, &["ops".to_owned()]);
    assert!(open.grants(&user("c", "ops")).grants_everything());
    assert!(!open.grants(&client("c")).grants_everything(), "not what begins with $");
    assert!(open.grants(&client("c")).is_open_to("a") && !open.grants(&client("c")).is_open_to("$SYS/x"));
    let behind = toml("rules = [{access = \"allow\", topic = \"#\"}, {access = \"deny\", topic = \"$x\"}]");
    assert!(behind.grants(&client("c")).is_open_to("a"));
    assert!(!behind.grants(&user("c", "ops")).grants_everything());
    assert!(!publishes(&behind, &user("c", "ops"), "$x"));
    for text in [
        "default = \"allow\"\nrules = [{access = \"deny\", topic = \"a\"}]",
        "rules = [{access = \"allow\", action = \"publish\", topic = \"#\"}]",
        "rules = [{access = \"allow\", topic = \"#\", qos_max = 1}]",
        "default = \"allow\"\nrules = [{access = \"allow\", topic = \"a\", qos_max = 1}]",
    ] {
        let grants = toml(text).grants(&user("c", "ops"));
        assert!(!grants.is_open_to("a") && !grants.grants_everything(), "{text}");
    }
    assert!(Grants::everything().grants_everything());
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

// --- files -----------------------------------------------------------------------------------------------------------

#[test]
fn an_empty_acl_file_denies_all() {
    let allow = |name: &str, text: &str| Policy::from_text(name, text, Format::Auto, Access::Allow, &[]).unwrap();
    for (name, text) in [
        ("acl", ""),
        ("acl.json", ""),
        ("acl.toml", ""),
        ("acl.json", " \n"),
        ("acl.json", "{}"),
        ("acl.json", "[]"),
        ("acl", "# nothing yet\n"),
        ("acl.toml", "# nothing yet\n"),
        ("acl", "user alice\n"),
    ] {
        let policy = allow(name, text);
        assert!(!publishes(&policy, &user("c", "alice"), "a"), "{name} {text:?}");
        assert_eq!(subscribes(&policy, &user("c", "alice"), "a"), Subscribing::Denied, "{name} {text:?}");
    }
    assert!(publishes(&allow("acl.toml", "default = \"allow\""), &client("c"), "a"), "said in so many words");
}

#[test]
fn permissions_of_users_are_read_as_they_stand() {
    let one = r##"{"user": "sensor001", "permissions": {"subscribe": ["sensors/+/data"], "publish": ["sensors/sensor001/+"]}}"##;
    for text in [one.to_owned(), format!("[{one}]"), format!("{{\"users\": [{one}]}}")] {
        let policy = policy(Format::Json, &text);
        let sensor = user("any", "sensor001");
        assert!(publishes(&policy, &sensor, "sensors/sensor001/t"), "{text}");
        assert!(!publishes(&policy, &sensor, "sensors/sensor002/t"), "{text}");
        assert_eq!(subscribes(&policy, &sensor, "sensors/+/data"), GRANTED, "{text}");
        assert!(!publishes(&policy, &user("sensor001", "sensor002"), "sensors/sensor001/t"), "{text}");
        assert!(!publishes(&policy, &client("sensor001"), "sensors/sensor001/t"), "{text}");
    }
}

#[test]
fn roles_are_read_as_they_stand() {
    let text = r##"{
        "roles": {
            "sensor": {"subscribe": ["commands/+"], "publish": ["data/+", "status/+"]},
            "controller": {"subscribe": ["data/+"], "publish": ["commands/+"]}
        },
        "users": {"sensor001": ["sensor"], "boss": ["sensor", "controller"]},
        "clients": {"panel-*": "controller"}
    }"##;
    let policy = policy(Format::Json, text);
    assert!(publishes(&policy, &user("c", "sensor001"), "data/1"));
    assert!(!publishes(&policy, &user("c", "sensor001"), "commands/1"));
    assert!(publishes(&policy, &user("c", "boss"), "commands/1") && publishes(&policy, &user("c", "boss"), "data/1"));
    assert!(publishes(&policy, &client("panel-3"), "commands/1") && !publishes(&policy, &client("panel-3"), "data/1"));
    assert!(publishes(&policy, &Who { roles: &["sensor".into()], ..client("c") }, "data/1"), "a role of its token");
    assert!(!publishes(&policy, &Who { roles: &["sensors".into()], ..client("c") }, "data/1"));
}

#[test]
fn the_example_says_what_it_says_it_does() {
    let policy = toml(include_str!("../../tuning/acl.example.toml"));
    let device = Who { address: Some([10, 1, 2, 3].into()), ..client("d1") };
    assert!(publishes(&policy, &device, "devices/d1/state") && !publishes(&policy, &client("d1"), "devices/d1/state"));
    assert!(!policy.grants(&device).publish("devices/d1/commands/x", QOS0, true));
    assert!(publishes(&policy, &user("c", "sensor001"), "data/sensor001/t"));
    assert!(publishes(&policy, &user("c", "boss-2"), "commands/x"));
    assert!(publishes(&policy, &client("panel-7"), "commands/x") && publishes(&policy, &client("x"), "lobby/x"));
    assert!(policy.grants(&user("c", "root")).is_admin());
    let panel = Who { roles: &["reader".into()], ..user("panel-1", "panel-1") };
    assert_eq!(subscribes(&policy, &panel, "$SYS/broker/uptime"), GRANTED);
}

#[test]
fn toml_says_the_same_as_json() {
    let text = "[roles.sensor]\nsubscribe = [\"commands/+\"]\npublish = [\"data/${clientid}\"]\n[users]\nsensor001 = \"sensor\"";
    let policy = toml(text);
    assert!(publishes(&policy, &user("c", "sensor001"), "data/c"));
    assert!(!publishes(&policy, &user("c", "sensor001"), "data/d"));
}

#[test]
fn mosquitto_files_mean_what_they_mean_there() {
    let text = "# comment\n\ntopic read news/#\n\nuser alice\ntopic readwrite a/#\ntopic deny a/secret/#\ntopic write b c\ntopic d\n\
        user bob smith\ntopic write ${clientid}/x\nuser alice\ntopic read late\npattern write up/%c/#\r\n";
    let policy = policy(Format::Auto, text);
    let (alice, bob) = (user("c1", "alice"), user("c2", "bob smith"));
    assert_eq!(subscribes(&policy, &client("c"), "news/x"), GRANTED);
    assert!(!publishes(&policy, &client("c"), "news/x"));
    assert_eq!(subscribes(&policy, &alice, "news/x"), Subscribing::Denied, "for clients without a user name only");
    assert_eq!(subscribes(&policy, &alice, "a/#"), CHECKED);
    assert!(!publishes(&policy, &alice, "a/secret/x"), "denials come first, wherever they stand");
    assert!(publishes(&policy, &alice, "b c"), "spaces belong to the topic");
    assert!(publishes(&policy, &alice, "d") && subscribes(&policy, &alice, "d") == GRANTED, "no word: read and write");
    assert_eq!(subscribes(&policy, &alice, "late"), GRANTED);
    assert!(publishes(&policy, &bob, "${clientid}/x"), "not a placeholder there");
    assert!(publishes(&policy, &bob, "up/c2/x") && !publishes(&policy, &bob, "up/c1/x"));
    assert!(publishes(&policy, &client("c"), "up/c/x"));
}

#[test]
fn a_star_in_a_mosquitto_user_name_is_a_star() {
    let policy = policy(Format::Mosquitto, "user *\ntopic a\n");
    assert!(publishes(&policy, &user("c", "*"), "a") && !publishes(&policy, &user("c", "alice"), "a"));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cases = [
        (Format::Mosquitto, "user u\ntopic a/#/b", "2:7: this is no topic filter"),
        (Format::Mosquitto, "user u\n  topik a", "2:3: \"topik\" is no keyword"),
        (Format::Mosquitto, "user\n", "1:5: nothing follows"),
        (Format::Mosquitto, "topic a\ntopic denny secret/#", "2:7: \"denny\" is no access: write read"),
        (Format::Mosquitto, "pattern Deny secret/%u", "1:9: \"Deny\" is no access"),
        (Format::Mosquitto, "topic read a/#/b", "1:12: this is no topic filter"),
        (Format::Mosquitto, "pattern read $share/g/%c", "1:14: rules are about the filter"),
        (Format::Toml, "\n[[rules]]\naccess = \"allow\"\ntopic = \"a+\"", "4:9: \"a+\": this is no topic filter"),
        (Format::Toml, "default = \"perhaps\"", "1:11: "),
        (Format::Toml, "[[rules]]\nacces = \"allow\"", "2:1: unknown field `acces`"),
        (Format::Toml, "[users]\nu = [\"sensr\"]", "2:6: there is no role \"sensr\""),
        (Format::Json, "{\"rules\": [\n {\"access\": \"allow\", \"topic\": \"#/a\"}]}", "2:"),
        (Format::Json, "{\"roles\": {\"r\": {},\n\"r\": {}}}", "2:3: \"r\" stands here twice"),
        (Format::Json, "{\"user\": \"u\"}", "1:1: a user without permissions"),
        (Format::Json, "{\"permissions\": {}}", "1:1: permissions of whom"),
        (Format::Json, "[{\"permissions\": {}}]", "1:"),
        (Format::Json, "[{\"user\": \"\"}]", "1:"),
        (Format::Json, "{\"user\": \"u\", \"permissions\": {\"pub\": []}}", "1:"),
        (Format::Json, "{", "1:"),
    ];
    for (format, text, expected) in cases {
        let told = mistake(format, text);
        assert!(told.starts_with(expected), "{text}: {told}");
    }
}

#[test]
fn the_format_is_known_by_the_files_name_or_its_beginning() {
    let read = |name: &str, text: &str| Policy::from_text(name, text, Format::Auto, Access::Deny, &[]).is_ok();
    assert!(read("x.json", "{}") && read("x.JSON", "{}") && read("x", " {}") && read("x.toml", "default = \"deny\""));
    assert!(read("x", "user u") && read("x.acl", "topic a") && read("x.json", "\u{feff}{}"));
    assert!(!read("x.json", "user u") && !read("x.toml", "user u") && !read("x", "default = \"deny\""));
}

#[test]
fn a_file_that_cannot_be_read_or_has_a_mistake_is_no_policy() {
    let file = std::env::temp_dir().join(format!("ringmq-acl-{}.json", std::process::id()));
    let acl = crate::config::Acl { file: Some(file.clone()), ..crate::config::Acl::default() };
    let missing = Policy::load(&acl).unwrap_err().to_string();
    assert!(missing.contains(&*file.to_string_lossy()) && missing.contains("remedy"), "{missing}");
    std::fs::write(&file, "{\n]").unwrap();
    let malformed = Policy::load(&acl).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(malformed.contains(".json:2:1: "), "{malformed}");
    assert!(Policy::load(&crate::config::Acl::default()).unwrap().grants(&client("c")).is_open_to("a"));
}

// --- why -------------------------------------------------------------------------------------------------------------

#[test]
fn the_rule_that_decided_is_named() {
    let text = r##"
        rules = [{ access = "deny", topic = "a/secret" }, { access = "allow", topic = "a/${clientid}/+", qos_max = 1 }]
        [roles.sensor]
        publish = ["data/+"]
        subscribe = ["data/+", "a/#"]
        [users]
        u = ["sensor"]
    "##;
    let policy = toml(text);
    let who = user("c", "u");
    let publish = |topic| policy.explain_publish(&who, topic, QOS0, false).to_string();
    assert_eq!(publish("data/1"), "allowed\n  by roles.sensor.publish[0]: allow publish data/+");
    assert_eq!(publish("a/secret"), "denied\n  by rules[0]: deny publish and subscribe a/secret");
    assert_eq!(publish("a/c/x"), "allowed\n  by rules[1]: allow publish and subscribe a/${clientid}/+ (here a/c/+)");
    assert!(publish("b").contains("no rule is about it, and the default is deny"));
    assert!(publish("$SYS/x").contains("administrators"));
    let subscribe = |filter| policy.explain_subscribe(&who, filter, QOS2).to_string();
    assert!(subscribe("a/#").contains("not delivered"), "{}", subscribe("a/#"));
    assert!(subscribe("a/c/x").contains("QoS 1 at most"));
    assert!(subscribe("#").contains("only a part of it is allowed, by rules[1]"), "{}", subscribe("#"));
}
