//! What a filter is granted, and what is taken from it.

use super::*;

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
