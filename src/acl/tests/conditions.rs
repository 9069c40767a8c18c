//! Rules that are about some messages or clients only.

use super::*;

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
