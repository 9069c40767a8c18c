//! Any text is read as a file of rules in every format without a panic; what it grants agrees with itself, and topics
//! that begin with `$` are open to no client whose rules do not name them.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use ringmq_fuzz::acl::{Access, Format, Policy, Subscribing, Who};
use ringmq_fuzz::codec::QoS;

fuzz_target!(|text: &str| {
    for format in [Format::Auto, Format::Json, Format::Toml, Format::Mosquitto] {
        match Policy::from_text("rules", text, format, Access::Deny, &[]) {
            Ok(policy) => ask(&policy, text),
            Err(mistake) => {
                assert!(mistake.line <= text.matches('\n').count() + 1 && mistake.column > 0, "{mistake}");
                assert!(!mistake.what.is_empty());
            }
        }
    }
});

/// The text's own words are the client's identifier and the topics.
fn ask(policy: &Policy, text: &str) {
    let claims = BTreeMap::new();
    let mut words = text.split(['"', ' ', '\n']).filter(|word| !word.is_empty());
    let client_id = words.next().unwrap_or_default();
    let user = words.next();
    let who = Who { client_id, user, common_name: None, roles: &[], claims: &claims, address: None, rules: None };
    let grants = policy.grants(&who);
    for topic in words.take(16).chain(["a", "$SYS/x", "#", "$SYS/#"]) {
        let is_name = !topic.contains(['+', '#', '\0']);
        let subscribing = grants.subscribe(topic, QoS::ExactlyOnce);
        if is_name && !topic.starts_with("$share/") {
            assert_eq!(subscribing != Subscribing::Denied, grants.receive(topic), "{topic}");
        }
        let explained = policy.explain_subscribe(&who, topic, QoS::ExactlyOnce);
        assert_eq!(explained.is_allowed, subscribing != Subscribing::Denied, "{topic}: {explained}");
        let published = policy.explain_publish(&who, topic, QoS::AtMostOnce, false);
        assert_eq!(published.is_allowed, grants.publish(topic, QoS::AtMostOnce, false), "{topic}: {published}");
        let names_system_topics =
            text.contains('$') || text.contains("\\u") || text.contains("\\U") || text.contains("\\x");
        assert!(
            !topic.starts_with('$') || names_system_topics || grants.is_admin() || subscribing == Subscribing::Denied
        );
    }
}
