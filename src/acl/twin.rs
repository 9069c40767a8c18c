//! Compiled rules against the definition: all rules one by one, in their order, the first that is about a question
//! decides. And what that definition is worth: a subscription brings nothing that is denied.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::grants::Decided;
use super::line::{Line, Source};
use super::name::Name;
use super::policy::{Draft, Policy, Statement, Whom};
use super::template::Template;
use super::trie::{Room, Taken};
use super::*;
use crate::codec::QoS;
use crate::codec::topic::filter_matches;

/// Every topic of up to four levels; one level more than any filter has.
fn topics() -> Vec<String> {
    let levels = ["", "a", "b", "$x", "dev"];
    let longer = |topics: &[String]| -> Vec<String> {
        topics.iter().flat_map(|topic| levels.iter().map(move |level| format!("{topic}/{level}"))).collect()
    };
    let one = levels.map(str::to_owned).to_vec();
    let two = longer(&one);
    let three = longer(&two);
    let four = longer(&three);
    one.into_iter().chain(two).chain(three).chain(four).filter(|topic| !topic.is_empty()).collect()
}

fn filter(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    let filter = (prop::collection::vec(select(levels), 0..4), any::<bool>());
    filter.prop_filter_map("a filter", |(mut levels, all)| {
        levels.extend(all.then_some("#"));
        Some(levels.join("/")).filter(|filter| !filter.is_empty())
    })
}

const PLAIN: &[&str] = &["", "a", "b", "$x", "+", "+", "dev"];
const WRITTEN: &[&str] = &[
    "",
    "a",
    "b",
    "$x",
    "+",
    "+",
    "dev",
    "${clientid}",
    "${username}",
    "${jwt.l}",
    "$${jwt.l}",
    "d${jwt.l}v",
    "${clientid}${jwt.l}",
];

fn rule() -> impl Strategy<Value = Rule> {
    let access = select(vec![Access::Allow, Access::Deny]);
    let action = select(vec![Action::Publish, Action::Subscribe, Action::Both]);
    let qos_max = prop::option::weighted(0.3, select(vec![QoS::AtMostOnce, QoS::AtLeastOnce]));
    let retain = prop::option::weighted(0.3, any::<bool>());
    let network = select(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"]);
    let addresses = prop::collection::vec(network.prop_map(|network| network.parse().unwrap()), 0..2);
    let rule = (access, action, filter(WRITTEN), qos_max, retain, addresses);
    rule.prop_map(|(access, action, filter, qos_max, retain, addresses)| Rule {
        access,
        action,
        filter,
        qos_max: qos_max.filter(|_| access == Access::Allow || action == Action::Publish),
        retain,
        addresses,
    })
}

fn whom() -> impl Strategy<Value = Whom> {
    let names = |names: Vec<&'static str>| {
        let some = prop::collection::vec(select(names).prop_map(Name::new), 1..3);
        prop::option::weighted(0.3, some)
    };
    let roles = prop::option::weighted(0.3, prop::collection::vec(select(vec!["r", "s"]).prop_map(Arc::from), 1..3));
    let whom = (names(vec!["a", "u", "*"]), names(vec!["a", "d*", "+"]), roles, prop::bool::weighted(0.1));
    whom.prop_map(|(users, clients, roles, anonymous)| Whom { users, clients, roles, anonymous })
}

/// As a file gives them; one in three sections is about everybody.
fn policies() -> impl Strategy<Value = Policy> {
    let rules = || prop::collection::vec(rule(), 0..5);
    let section = (prop_oneof![1 => Just(Whom::default()), 2 => whom()], rules());
    (prop::collection::vec(section, 0..5), any::<bool>()).prop_map(|(sections, open)| {
        let statements = |rules: Vec<Rule>| rules.into_iter().map(statement).collect();
        let sections = sections.into_iter().map(|(whom, rules)| (whom, statements(rules))).collect();
        let user_roles = vec![(Name::new("u"), vec!["s".into()])];
        let default = if open { Access::Allow } else { Access::Deny };
        Policy::new(Draft { sections, user_roles, ..Draft::default() }, default, &["a".to_owned()])
    })
}

fn statement(rule: Rule) -> Statement {
    let Rule { access, action, qos_max, retain, addresses, filter } = rule;
    let filter = Template::parse(&filter).unwrap();
    Statement { access, action, filter, qos_max, retain, addresses, place: Box::default() }
}

#[derive(Debug)]
struct Somebody {
    client_id: &'static str,
    user: Option<&'static str>,
    roles: Vec<Arc<str>>,
    claims: BTreeMap<Arc<str>, Arc<str>>,
    address: Option<IpAddr>,
    rules: Option<Rules>,
}

impl Somebody {
    fn who(&self) -> Who<'_> {
        let Somebody { client_id, user, roles, claims, address, rules } = self;
        Who { client_id, user: *user, common_name: None, roles, claims, address: *address, rules: rules.as_ref() }
    }
}

fn somebody() -> impl Strategy<Value = Somebody> {
    let address = select(vec!["10.1.0.1", "10.2.0.1", "192.0.2.1"]).prop_map(|address| address.parse().unwrap());
    // More than a list takes, now and then.
    let rules = prop_oneof![prop::collection::vec(rule(), 0..5), prop::collection::vec(rule(), 17..22)];
    (
        select(vec!["a", "b", "dev", "+", "a/b", "$x", ""]),
        prop::option::of(select(vec!["a", "u", "#"])),
        prop::collection::vec(select(vec!["r", "s", "admin"]).prop_map(Arc::from), 0..3),
        prop::option::of(select(vec!["e", "x", "/", "a"])),
        prop::option::of(address),
        prop::option::weighted(0.3, rules.prop_map(Rules)),
    )
        .prop_map(|(client_id, user, roles, claim, address, rules)| {
            let claims = claim.into_iter().map(|value| ("l".into(), value.into())).collect();
            Somebody { client_id, user, roles, claims, address, rules }
        })
}

/// Where the rule that decides comes from.
fn source(decided: Decided) -> Option<Source> {
    match decided {
        Decided::By(ruling) => Some(ruling.source),
        _ => None,
    }
}

/// The definition, for topics. A rule that allows up to a QoS is about publications beyond it too: they are denied.
fn plainly<'a>(lines: &'a [Line], topic: &str, is_about: impl Fn(&Line) -> bool) -> Option<&'a Line> {
    let matches = |line: &Line| line.filter.text() == "(every topic)" || filter_matches(line.filter.text(), topic);
    lines.iter().find(|line| is_about(line) && matches(line))
}

/// The definition, for filters.
fn plainly_subscribed<'a>(lines: &'a [Line], asked: &str) -> (Option<&'a Line>, Taken) {
    let mut taken = Taken::NOTHING;
    for line in lines.iter().filter(|line| line.action != Action::Publish) {
        if line.filter.covers(asked) {
            return (Some(line), taken);
        }
        if line.filter.overlaps(asked) {
            taken.take(line.access, line.qos_max);
        }
    }
    (None, taken)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]
    #[test]
    fn compiled_rules_say_what_the_first_of_all_rules_one_by_one_says(
        policy in policies(),
        somebody in somebody(),
        asked in prop::collection::vec(filter(PLAIN), 8),
    ) {
        thread_local!(static TOPICS: Vec<String> = topics());
        let who = somebody.who();
        let (grants, lines) = (policy.grants(&who), policy.lines(&who));
        TOPICS.with(|topics| {
            for topic in topics {
                for (qos, retain) in [(QoS::AtMostOnce, false), (QoS::AtLeastOnce, true), (QoS::ExactlyOnce, false)] {
                    let is_about = |line: &Line| {
                        let beyond = line.qos_max.is_some_and(|most| qos > most);
                        line.action != Action::Subscribe
                            && !(line.access == Access::Deny && beyond)
                            && line.retain.is_none_or(|wanted| wanted == retain)
                    };
                    let line = plainly(&lines, topic, is_about);
                    let decided = grants.decide_publish(topic, qos, retain);
                    prop_assert_eq!(source(decided), line.map(|line| line.source), "{} {:?}", topic, qos);
                    prop_assert_eq!(grants.publish(topic, qos, retain), decided.allows(qos), "{} {:?}", topic, qos);
                    if let Some(line) = line {
                        let allowed = line.access == Access::Allow && line.qos_max.is_none_or(|most| qos <= most);
                        prop_assert_eq!(decided.allows(qos), allowed);
                    }
                }
                let line = plainly(&lines, topic, |line| line.action != Action::Publish);
                let decided = grants.decide_receive(topic);
                prop_assert_eq!(source(decided), line.map(|line| line.source), "{}", topic);
                prop_assert_eq!(grants.receive(topic), decided.access() == Access::Allow, "{}", topic);
            }
            for asked in &asked {
                let (line, plainly_taken) = plainly_subscribed(&lines, asked);
                let (decided, taken) = grants.decide_subscribe(asked);
                prop_assert_eq!(source(decided), line.map(|line| line.source), "{}", asked);
                if decided.access() == Access::Allow {
                    prop_assert_eq!(taken, plainly_taken, "{}", asked);
                }
                for places in 0..3 {
                    let (roughly, taken) = grants.decide_subscribe_within(asked, &mut Room::of(places));
                    prop_assert_eq!(source(roughly), source(decided), "{} within {}", asked, places);
                    if decided.access() == Access::Allow {
                        let is_no_more = taken.denies >= plainly_taken.denies && taken.qos_max <= plainly_taken.qos_max;
                        prop_assert!(is_no_more, "{} within {}: {:?}, {:?}", asked, places, taken, plainly_taken);
                        prop_assert!(taken.is_rough || taken == plainly_taken, "{} within {}", asked, places);
                    }
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_subscription_brings_nothing_that_is_denied_and_nothing_at_more_than_its_qos(
        policy in policies(),
        somebody in somebody(),
        asked in filter(PLAIN),
    ) {
        thread_local!(static TOPICS: Vec<String> = topics());
        let grants = policy.grants(&somebody.who());
        TOPICS.with(|topics| {
            let of_asked: Vec<Decided> = topics
                .iter()
                .filter(|topic| filter_matches(&asked, topic))
                .map(|topic| grants.decide_receive(topic))
                .collect();
            let is_granted = |decided: &Decided| decided.access() == Access::Allow;
            match grants.subscribe(&asked, QoS::ExactlyOnce) {
                Subscribing::Granted { qos, checked } => {
                    prop_assert!(checked || of_asked.iter().all(is_granted));
                    let mut granted = of_asked.iter().filter(|decided| is_granted(decided));
                    prop_assert!(granted.all(|decided| qos <= decided.qos_max()));
                }
                Subscribing::Denied => prop_assert!(!grants.is_open_to(&asked), "open, and denied"),
            }
            if grants.grants_everything() {
                prop_assert!(of_asked.iter().all(is_granted));
            }
            Ok(())
        })?;
    }
}
