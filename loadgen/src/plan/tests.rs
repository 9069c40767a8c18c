//! The presets by their numbers, overrides, and what is told of mistakes.

use std::collections::HashSet;
use std::time::Duration;

use ringmq::codec::topic;

use super::template::{Place, Template, Values};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn preset(name: &str) -> Plan {
    Scenario::preset(name).unwrap().read(&Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn with(name: &str, settings: &[&str]) -> Result<Plan, ScenarioError> {
    let mut overrides = Overrides::default();
    settings.iter().for_each(|setting| overrides.set(setting).unwrap());
    Scenario::preset(name).unwrap().read(&overrides)
}

fn with_option(name: &str, target: Target, value: &str) -> Result<Plan, ScenarioError> {
    let mut overrides = Overrides::default();
    overrides.option("--option", target, value);
    Scenario::preset(name).unwrap().read(&overrides)
}

fn document(text: &str) -> Result<Plan, ScenarioError> {
    Scenario::from_text("dir/mine.toml", text.to_owned()).read(&Overrides::default())
}

fn group<'a>(plan: &'a Plan, name: &str) -> &'a Group {
    plan.groups.iter().find(|group| group.name == name).unwrap_or_else(|| panic!("{name}: {:?}", plan.groups))
}

fn rendered(group: &Group, place: Place, text: &str, index: u32, topic: u32) -> String {
    let client_id = match place {
        Place::ClientId => String::new(),
        _ => rendered(group, Place::ClientId, &group.client_id, index, 0),
    };
    let name = &group.name;
    let values = Values { client_id: &client_id, group: name, index, topic, count: group.count, ..Values::default() };
    let mut output = Vec::new();
    Template::parse(place, text).unwrap().render(&values, &mut fastrand::Rng::with_seed(3), &mut output);
    String::from_utf8(output).unwrap()
}

/// Messages per second that a plan in open loop publishes, those of limited publications aside.
fn published_per_second(plan: &Plan) -> f64 {
    let of = |group: &Group, publication: &Publication| match publication.pace {
        _ if publication.limit.is_some() || publication.pace == Pace::Arrival => 0.0,
        Pace::Every(interval) => f64::from(group.count) / interval.as_secs_f64(),
        Pace::Rate { per_second, .. } => per_second,
        Pace::Outstanding(_) | Pace::Arrival => panic!("{} is a closed loop", plan.name),
    };
    plan.groups.iter().flat_map(|group| group.publish.iter().map(move |publication| of(group, publication))).sum()
}

#[test]
fn every_preset_reads_and_can_be_written_and_read_as_a_plan() {
    let mut names = HashSet::new();
    for scenario in Scenario::presets() {
        let plan = scenario.read(&Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(names.insert(plan.name.clone()));
        assert_eq!(plan.name, scenario.name());
        assert_eq!(Ok(&plan.about), scenario.about().as_ref());
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }
}

#[test]
fn every_preset_has_distinct_clients_with_valid_topics_and_json_payloads() {
    for scenario in Scenario::presets() {
        let plan = scenario.read(&Overrides::default()).unwrap();
        let mut client_ids = HashSet::new();
        for group in &plan.groups {
            for index in (0..group.count).step_by((group.count as usize / 500).max(1)) {
                let id = rendered(group, Place::ClientId, &group.client_id, index, 0);
                assert!(client_ids.insert(id.clone()), "{}: {id} twice", plan.name);
                topics_are_valid(group, index);
            }
            for publication in &group.publish {
                let Payload::Text(text) = &publication.payload else { continue };
                let payload = rendered(group, Place::Payload, text, 1, 2);
                let json: serde_json::Value =
                    serde_json::from_str(&payload).unwrap_or_else(|error| panic!("{payload}: {error}"));
                assert_eq!(json["stamp"].as_str().map(str::len), Some(template::STAMP_DIGITS));
                assert_eq!(payload.find("00000000"), Some(template::STAMP_AT));
            }
        }
    }
}

fn topics_are_valid(group: &Group, index: u32) {
    for publication in &group.publish {
        for number in [0, publication.topics / 2, publication.topics - 1] {
            let name = rendered(group, Place::Topic, &publication.topic, index, number);
            assert_eq!(topic::validate_topic_name(&name), Ok(()), "{name}");
        }
    }
    for subscription in &group.subscribe {
        let filter = rendered(group, Place::Filter, &subscription.filter, index, 0);
        assert_eq!(topic::validate_filter(&filter), Ok(()), "{filter}");
    }
}

#[test]
fn what_is_published_somewhere_is_subscribed_to_somewhere() {
    for scenario in Scenario::presets() {
        let plan = scenario.read(&Overrides::default()).unwrap();
        let filters: Vec<String> = plan.groups.iter().flat_map(filters).collect();
        for group in &plan.groups {
            for publication in &group.publish {
                let last = (group.count - 1, publication.topics - 1);
                for (index, number) in [(0, 0), (group.count / 2, publication.topics / 3), last] {
                    let name = rendered(group, Place::Topic, &publication.topic, index, number);
                    let inner = |filter: &str| {
                        topic::parse_shared(filter).map_or(filter.to_owned(), |(_, inner)| inner.to_owned())
                    };
                    let matched = filters.iter().any(|filter| topic::filter_matches(&inner(filter), &name));
                    assert!(matched, "{}: nobody gets {name}", plan.name);
                }
            }
        }
    }
}

fn filters(group: &Group) -> Vec<String> {
    let of = |index| group.subscribe.iter().map(move |with| rendered(group, Place::Filter, &with.filter, index, 0));
    (0..group.count).flat_map(of).collect()
}

#[test]
fn the_closed_loops_are_those_that_the_records_were_made_with() {
    for (name, pairs, outstanding, qos) in [
        ("p2p", 100, 32, 0),
        ("p2p-qos1", 100, 32, 1),
        ("p2p-qos2", 100, 32, 2),
        ("unbatched", 100, 1, 0),
        ("unbatched-qos1", 100, 1, 1),
    ] {
        let plan = preset(name);
        let (subscribers, publishers) = (group(&plan, "subscribers"), group(&plan, "publishers"));
        closed_loop(publishers, pairs, outstanding, qos);
        assert_eq!((subscribers.count, subscribers.subscribe.len(), subscribers.subscribe[0].qos), (pairs, 1, qos));
        for index in [0, 99] {
            let filter = rendered(subscribers, Place::Filter, &subscribers.subscribe[0].filter, index, 0);
            let name = rendered(publishers, Place::Topic, &publishers.publish[0].topic, index, 0);
            assert_eq!((&filter, filter.as_str()), (&name, format!("p2p/{index}").as_str()));
        }
    }
    let plan = preset("fan-out");
    closed_loop(group(&plan, "publisher"), 1, 10, 0);
    assert_eq!(group(&plan, "subscribers").count, 1000);
    assert_eq!(group(&plan, "subscribers").subscribe[0].filter, group(&plan, "publisher").publish[0].topic);
    let plan = preset("fan-in");
    closed_loop(group(&plan, "publishers"), 200, 10, 0);
    assert_eq!(group(&plan, "subscriber").count, 1);
    assert_eq!(filters(group(&plan, "subscriber")), ["fan-in/+"]);
    let plan = preset("idle");
    let clients = &plan.groups[0];
    assert_eq!((plan.groups.len(), clients.count, clients.version, clients.keep_alive), (1, 10_000, 5, 300));
    assert_eq!((filters(clients)[9_999].as_str(), clients.subscribe[0].qos), ("idle/9999", 0));
    assert_eq!(plan.timing.connecting, 64);
}

fn closed_loop(publishers: &Group, count: u32, outstanding: u32, qos: u8) {
    assert_eq!((publishers.count, publishers.version, publishers.keep_alive), (count, 4, 300));
    let [publication] = &publishers.publish[..] else { panic!("{publishers:?}") };
    assert_eq!((publication.pace, publication.qos), (Pace::Outstanding(outstanding), qos));
    assert_eq!((&publication.payload, publication.limit, publication.retain), (&Payload::Bytes(64), None, false));
}

#[test]
fn the_open_loops_have_their_rates_and_connections() {
    for (name, pairs, rate) in [("open-20k-8000", 4000, 20_000.0), ("open-50k-1000", 500, 50_000.0)] {
        let plan = preset(name);
        assert_eq!(plan.groups.iter().map(|group| group.count).collect::<Vec<_>>(), [pairs, pairs]);
        let publication = &group(&plan, "publishers").publish[0];
        assert_eq!(publication.pace, Pace::Rate { per_second: rate, poisson: true });
        assert_eq!((&publication.payload, publication.qos), (&Payload::Bytes(64), 0));
    }
}

#[test]
fn the_suites_connections_are_as_it_defines_them() {
    for (name, connections, rate) in [("conn-tcp-10K-100", 10_000, 100.0), ("conn-tcp-1M-5K", 1_000_000, 5_000.0)] {
        let plan = preset(name);
        let [clients] = &plan.groups[..] else { panic!("{name}") };
        suite_client(clients, connections, 4);
        assert!(clients.subscribe.is_empty() && clients.publish.is_empty());
        assert_eq!((plan.timing.connect_rate, plan.timing.window), (Some(rate), 30 * MINUTE));
    }
}

#[test]
fn the_suites_traffic_is_as_it_defines_it() {
    // Name, version, publishers, subscribers, filters of each, messages in and out per second.
    for (name, version, publishers, subscribers, filters_each, rate_in, rate_out) in [
        ("fanout-1-1K-1-1K", 4, 1, 1000, 1, 1.0, 1000.0),
        ("fanout-5-1000-5-250K", 4, 5, 1000, 5, 250.0, 250_000.0),
        ("p2p-1K-1K-1K-1K", 4, 1000, 1000, 1, 1000.0, 1000.0),
        ("p2p-1K", 4, 1000, 1000, 1, 1000.0, 1000.0),
        ("p2p-50K-50K-50K-50K", 4, 50_000, 50_000, 1, 50_000.0, 50_000.0),
        ("sharedsub-1K-5-1K-1K", 5, 1000, 5, 1, 1000.0, 1000.0),
        ("sharedsub-50K-500-50K-50K", 5, 50_000, 500, 1, 50_000.0, 50_000.0),
    ] {
        let plan = preset(name);
        assert_eq!(plan.groups.len(), 2, "{name}");
        let (from, to) = (group(&plan, "publishers"), group(&plan, "subscribers"));
        suite_client(from, publishers, version);
        suite_client(to, subscribers, version);
        assert_eq!(plan.timing.window, 30 * MINUTE, "{name}");
        assert!((published_per_second(&plan) - rate_in).abs() < 1e-6, "{name}");
        assert_eq!(to.subscribe.len(), filters_each, "{name}");
        assert!(to.subscribe.iter().all(|with| with.qos == 1));
        let [publication] = &from.publish[..] else { panic!("{name}") };
        assert_eq!((&publication.payload, publication.qos, publication.retain), (&Payload::Bytes(16), 1, false));
        let topics: HashSet<String> =
            (0..from.count).map(|index| rendered(from, Place::Topic, &publication.topic, index, 0)).collect();
        assert_eq!(topics.len() as u32, publishers, "{name}: each publisher has a topic of its own");
        assert!(topics.contains("test/1") && topics.contains(&format!("test/{publishers}")), "{name}");
        let shared = filters(to).iter().all(|filter| filter == "$share/benchmark/test/#");
        assert_eq!(shared, name.starts_with("sharedsub"), "{name}");
        let deliveries =
            if shared { topics.len() } else { filters(to).iter().filter(|filter| topics.contains(*filter)).count() };
        let out = deliveries as f64 * rate_in / f64::from(publishers);
        assert!((out - rate_out).abs() < 1e-6, "{name}: {out} out");
    }
}

fn suite_client(group: &Group, count: u32, version: u8) {
    assert_eq!((group.count, group.version, group.keep_alive, group.clean), (count, version, 300, true));
    assert_eq!((group.session_expiry, group.will.as_ref(), group.stage), (None, None, 0));
    assert_eq!((group.presence, group.user.as_ref()), (Presence::Always, None));
}

#[test]
fn the_fleets_publish_what_they_say() {
    let robots = 1200.0;
    for (name, per_second) in [
        ("smart-home", 1900.0 / 30.0 + 100.0 / 30.0 + 10.0),
        ("factory", robots * 4.0 / 5.0 + robots / 60.0 + 50.0),
        ("vehicles", 3.0 * 3000.0 / 10.0 + 20.0),
        ("city", 2000.0 / 30.0 + 4000.0 / 5.0 + 0.8),
        ("mixed", 1000.0 + 100.0 + 200.0 + 10.0 + 500.0),
        ("offline", 5000.0),
        ("churn", 1000.0),
    ] {
        let published = published_per_second(&preset(name));
        assert!((published - per_second).abs() < 1e-6, "{name}: {published}");
    }
}

#[test]
fn a_robots_points_are_those_of_its_cell_and_scada_reaches_every_robot() {
    let plan = preset("factory");
    let (robots, scada) = (group(&plan, "robots"), group(&plan, "scada"));
    let commanded: HashSet<String> = (0..scada.count)
        .flat_map(|site| (0..400).map(move |number| (site, number)))
        .map(|(site, number)| rendered(scada, Place::Topic, &scada.publish[0].topic, site, number))
        .collect();
    let listening: HashSet<String> = filters(robots).into_iter().collect();
    assert_eq!((commanded.len(), &commanded), (1200, &listening));
    assert_eq!(robots.publish[1].qos, 2);
    let point = |topic| rendered(robots, Place::Topic, &robots.publish[0].topic, 1199, topic);
    assert_eq!(point(2), "enterprise/site2/assembly/line3/cell4/robot4/current");
}

#[test]
fn a_lamps_will_says_offline_and_stays() {
    let plan = preset("smart-home");
    let will = group(&plan, "switched-bulbs").will.as_ref().unwrap();
    assert_eq!((will.payload.as_str(), will.retain), ("offline", true));
    let text = rendered(group(&plan, "switched-bulbs"), Place::WillTopic, &will.topic, 5, 0);
    assert_eq!(text, "home/living/bulb/1905/status");
    assert!(matches!(group(&plan, "switched-bulbs").presence, Presence::Cycle { abrupt: true, .. }));
}

#[test]
fn vehicles_on_bad_links_resume_their_sessions() {
    let plan = preset("vehicles");
    let bad = group(&plan, "bad-links");
    assert_eq!((bad.count, bad.session_expiry, bad.version), (600, Some(3600), 5));
    let Presence::Cycle { abrupt, .. } = bad.presence else { panic!("{bad:?}") };
    assert!(abrupt);
    assert_eq!(rendered(bad, Place::Topic, &bad.publish[0].topic, 0, 0), "fleet/vehicle/WRQ1002400/location");
}

#[test]
fn retained_messages_are_stored_before_readers_come() {
    let plan = preset("retained");
    let (publishers, readers) = (group(&plan, "publishers"), group(&plan, "readers"));
    assert_eq!((publishers.stage, readers.stage), (0, 1));
    let publication = &publishers.publish[0];
    assert_eq!((publication.retain, publication.qos, publication.limit, publication.topics), (true, 1, Some(100), 100));
    assert_eq!(filters(readers)[7], "retained/7/+");
    let everything = with("retained", &["filter=retained/#"]).unwrap();
    assert_eq!(filters(group(&everything, "readers"))[0], "retained/#");
}

#[test]
fn a_parameter_changes_every_place_where_it_stands() {
    let plan = with("p2p", &["pairs=3", "qos=1"]).unwrap();
    assert!(plan.groups.iter().all(|group| group.count == 3));
    assert_eq!((plan.groups[0].subscribe[0].qos, plan.groups[1].publish[0].qos), (1, 1));
    assert_eq!(preset("connect").groups[0].subscribe.len(), 0);
    let plan = with("connect", &["subscribe=true", "hold=5s", "connect_rate=1000"]).unwrap();
    assert_eq!((plan.groups[0].subscribe.len(), plan.timing.window), (1, Duration::from_secs(5)));
    assert_eq!(plan.timing.connect_rate, Some(1000.0));
    assert_eq!(preset("connect-subscribe").groups[0].subscribe.len(), 1);
}

#[test]
fn a_path_changes_one_key() {
    let settings = ["groups.publishers.publish.0.every=1s", "timing.window=3s", "groups.subscribers.keep_alive=60"];
    let plan = with("p2p", &settings).unwrap();
    assert_eq!(group(&plan, "publishers").publish[0].pace, Pace::Every(Duration::from_secs(1)));
    assert_eq!((group(&plan, "subscribers").keep_alive, group(&plan, "publishers").keep_alive), (60, 300));
    assert_eq!(plan.timing.window, Duration::from_secs(3));
    let plan = with("p2p", &["groups.publishers.will.topic=gone/%i"]).unwrap();
    assert_eq!(group(&plan, "publishers").will.as_ref().unwrap().topic, "gone/%i");
    let plan = with("vehicles", &["defaults.keep_alive=15"]).unwrap();
    assert!(plan.groups.iter().all(|group| group.keep_alive == 15));
    assert_eq!(with("p2p", &["groups.publishers.count=0"]).unwrap().groups.len(), 1);
}

#[test]
fn an_override_that_means_nothing_says_what_there_is() {
    for (scenario, setting, what, remedy) in [
        ("p2p", "piars=3", "no parameter `piars`", "did you mean pairs?"),
        ("p2p", "zzz=3", "no parameter `zzz`", "the parameters are pairs, outstanding, qos, payload"),
        ("p2p", "groups.publisher.count=3", "no group `publisher`", "did you mean publishers?"),
        ("p2p", "group.publishers.count=3", "nothing is called `group`", "did you mean groups?"),
        ("p2p", "groups.publishers.keepalive=3", "no such key", "did you mean keep_alive?"),
        ("p2p", "groups.publishers.publish.1.qos=3", "`1` is no entry of `publish`", "it has 1, counted from 0"),
        ("p2p", "groups.publishers.publish.0.qos=3", "3 is no QoS", "write 0, 1 or 2"),
        ("p2p", "groups.publishers.count.x=3", "no keys below it", "end the path there"),
        ("p2p", "pairs=many", "string \"many\"", "a whole number from 0 to 4294967295"),
        ("p2p", "timing.windows=1s", "no such key", "did you mean window?"),
        ("p2p", "timing.window=long", "string \"long\"", "a time like"),
        ("p2p", "payload=15", "15 bytes", "write 16"),
        ("p2p", "payload=hello", "no stamp", "begin it with"),
    ] {
        let error = with(scenario, &[setting]).expect_err(setting);
        assert_eq!(error.origin.to_string(), format!("--set {setting}"), "{error}");
        let told = error.to_string();
        assert!(told.contains(what) && told.contains(remedy), "{setting}: {told}");
    }
    assert!(Overrides::default().set("pairs").unwrap_err().to_string().contains("NAME=VALUE"));
}

#[test]
fn an_option_applies_wherever_it_makes_sense() {
    let plan = with_option("vehicles", Target::Group("user"), "u-%i").unwrap();
    assert!(plan.groups.iter().all(|group| group.user.as_deref() == Some("u-%i")));
    let plan = with_option("city", Target::Group5("session_expiry"), "60s").unwrap();
    for group in &plan.groups {
        assert_eq!(group.session_expiry, (group.version == 5).then_some(60), "{}", group.name);
    }
    let plan = with_option("smart-home", Target::Will("payload"), "gone").unwrap();
    assert_eq!(
        plan.groups.iter().filter_map(|group| group.will.as_ref()).filter(|will| will.payload == "gone").count(),
        2
    );
    let plan = with_option("p2p", Target::Will("topic"), "gone/%c").unwrap();
    assert!(plan.groups.iter().all(|group| group.will.as_ref().unwrap().topic == "gone/%c"));
    let plan = with_option("city", Target::Pace("every"), "4s").unwrap();
    let paces = plan.groups.iter().flat_map(|group| &group.publish).map(|publication| publication.pace);
    assert!(paces.into_iter().all(|pace| pace == Pace::Every(Duration::from_secs(4))));
    let plan = with_option("p2p", Target::Topic, "mine/%{i + pairs}").unwrap();
    assert_eq!(
        (filters(&plan.groups[0])[1].as_str(), plan.groups[1].publish[0].topic.as_str()),
        ("mine/101", "mine/%{i + 100}")
    );
}

#[test]
fn qos_means_publishing_and_subscribing_alike() {
    let mut overrides = Overrides::default();
    overrides.option("--qos 2", Target::Message("qos"), 2);
    let plan = Scenario::preset("fan-in").unwrap().read(&overrides).unwrap();
    assert_eq!((plan.groups[0].subscribe[0].qos, plan.groups[1].publish[0].qos), (2, 2));
    overrides.set("groups.subscriber.subscribe.0.qos=0").unwrap();
    let plan = Scenario::preset("fan-in").unwrap().read(&overrides).unwrap();
    assert_eq!((plan.groups[0].subscribe[0].qos, plan.groups[1].publish[0].qos), (0, 2));
}

#[test]
fn a_persistent_session_lasts_in_every_version() {
    let mut overrides = Overrides::default();
    overrides.option("--persistent", Target::Clean, false);
    let plan = Scenario::preset("city").unwrap().read(&overrides).unwrap();
    for group in &plan.groups {
        assert_eq!(
            (group.clean, group.session_expiry),
            (false, (group.version == 5).then_some(3600)),
            "{}",
            group.name
        );
    }
    let mut overrides = Overrides::default();
    overrides.option("--clean", Target::Clean, true);
    let plan = Scenario::preset("vehicles").unwrap().read(&overrides).unwrap();
    assert!(plan.groups.iter().all(|group| group.clean && group.session_expiry.is_none()));
}

#[test]
fn an_option_that_fits_nowhere_is_refused() {
    for (scenario, target, value, what) in [
        ("idle", Target::Publication("payload"), "x", "publishes nothing"),
        ("idle", Target::Pace("every"), "1s", "publishes nothing"),
        ("conn-tcp-10K-100", Target::Message("qos"), "1", "publishes nothing and subscribes to nothing"),
        ("connect", Target::Message("qos"), "1", "publishes nothing and subscribes to nothing"),
        ("p2p", Target::Group5("session_expiry"), "60", "no group speaks it"),
        ("p2p", Target::Publication5("content_type"), "text/plain", "no group that publishes speaks it"),
        ("idle", Target::Publication5("content_type"), "text/plain", "publishes nothing"),
        ("p2p", Target::Will("retain"), "true", "nobody has a will"),
        ("city", Target::Pace("rate"), "5", "several streams"),
        ("city", Target::Topic, "x", "several topics"),
        ("fan-in", Target::Topic, "x/%i", "not just the topic"),
        ("p2p", Target::Group("client_id"), "me", "the same for every client"),
        ("p2p", Target::Group("client_id"), "c%i", "identifier of another client"),
        ("p2p", Target::Group("keep_alive"), "70000", "too long for its two bytes"),
        ("p2p", Target::Group("password"), "x", "without a user name"),
    ] {
        let error = with_option(scenario, target, value).expect_err(value);
        assert_eq!(error.origin.to_string(), "--option", "{error}");
        assert!(error.to_string().contains(what) && !error.remedy.is_empty(), "{error}");
    }
}

#[test]
fn what_only_mqtt_5_has_is_told_where_it_stands_when_the_version_is_changed() {
    let error = with_option("vehicles", Target::Group("protocol"), "3.1.1").unwrap_err();
    assert!(error.to_string().starts_with("vehicles.toml:") && error.key.ends_with("session_expiry"), "{error}");
    assert!(error.remedy.contains("--protocol"), "{error}");
}

#[test]
fn a_password_may_begin_with_a_dollar_sign() {
    let mut overrides = Overrides::default();
    overrides.option("--user", Target::Group("user"), "$bob");
    overrides.option("--password", Target::Group("password"), "$ecret");
    let plan = Scenario::preset("p2p").unwrap().read(&overrides).unwrap();
    assert_eq!((plan.groups[0].user.as_deref(), plan.groups[0].password.as_deref()), (Some("$bob"), Some("$ecret")));
}

#[test]
fn a_bad_password_template_is_refused_without_showing_it() {
    let mut overrides = Overrides::default();
    overrides.option("--user", Target::Group("user"), "u");
    overrides.option("--password", Target::Group("password"), "secret%");
    let error = Scenario::preset("p2p").unwrap().read(&overrides).unwrap_err().to_string();
    assert!(error.contains("password") && !error.contains("secret"), "{error}");
}

#[test]
fn a_document_of_ones_own_needs_little() {
    let plan =
        document("about = \"x\"\n[groups.a]\ncount = 2\npublish = [{ topic = \"t/%i\", every = \"1s\" }]\n").unwrap();
    assert_eq!((plan.name.as_str(), plan.verify, plan.timing.connect_rate), ("mine", true, None));
    let group = &plan.groups[0];
    assert_eq!((group.version, group.keep_alive, group.clean, group.client_id.as_str()), (4, 300, true, "%g-%i"));
    let publication = &group.publish[0];
    assert_eq!((publication.qos, publication.topics, &publication.payload), (0, 1, &Payload::Bytes(64)));
    let plan = document("base = \"p2p\"\nabout = \"x\"\n[parameters]\npairs = 5\n").unwrap();
    assert_eq!(plan.groups[1].count, 5);
}

#[test]
fn a_mistake_is_told_by_file_line_and_key() {
    let group = "about = \"x\"\n[groups.a]\ncount = 1\n";
    for (text, start, what) in [
        ("about = \"x\"\n", "dir/mine.toml:1:1: ", "`groups` is missing"),
        ("about = \"\"\n[groups.a]\ncount = 1\n", "dir/mine.toml:1:9: about: ", "says nothing"),
        ("about = \"x\"\n[groups.a]\nstage = 1\n", "dir/mine.toml:2:1: groups.a: ", "`count` is missing"),
        ("about = \"x\"\n[groups.a]\ncount = -1\n", "dir/mine.toml:3:9: groups.a.count: ", "whole number"),
        ("about = \"x\"\n[groups]\n", "dir/mine.toml:2:1: groups: ", "no client takes part"),
        (&format!("{group}keep_alife = 3\n"), "dir/mine.toml:4:1: groups.a.keep_alife: ", "did you mean keep_alive?"),
        (&format!("{group}protocol = \"4\"\n"), "dir/mine.toml:4:12: groups.a.protocol: ", "\"3.1.1\""),
        (&format!("{group}clean = 1\n"), "dir/mine.toml:4:9: groups.a.clean: ", "true or false"),
        (&format!("{group}user = \"%x\"\n"), "dir/mine.toml:4:8: groups.a.user: ", "'%x' at column 1 of \"%x\""),
        (
            &format!("{group}subscribe = [{{ filter = \"a+\" }}]\n"),
            "dir/mine.toml:4:25: groups.a.subscribe.0.filter: ",
            "'+' is not alone in its level",
        ),
        (
            &format!("{group}subscribe = [{{ filter = \"a\", qos = 5 }}]\n"),
            "dir/mine.toml:4:36: groups.a.subscribe.0.qos: ",
            "no QoS",
        ),
        (
            &format!("{group}publish = [{{ topic = \"a\" }}]\n"),
            "dir/mine.toml:4:12: groups.a.publish.0: ",
            "every, rate, outstanding and on_arrival",
        ),
        (
            &format!("{group}publish = [{{ topic = \"a/#\", rate = 1 }}]\n"),
            "dir/mine.toml:4:22: groups.a.publish.0.topic: ",
            "holds a wildcard",
        ),
        (
            &format!("{group}publish = [{{ topic = \"a\", topics = 2, rate = 1 }}]\n"),
            "dir/mine.toml:4:22: groups.a.publish.0.topic: ",
            "put %t into it",
        ),
        (
            &format!("{group}publish = [{{ topic = \"a\", rate = 1, every = 1 }}]\n"),
            "dir/mine.toml:4:12: groups.a.publish.0: ",
            "more than one",
        ),
        (
            &format!("{group}publish = [{{ topic = \"a\", every = 1, message_expiry = 1 }}]\n"),
            "dir/mine.toml:4:11: groups.a.publish: ",
            "only MQTT 5",
        ),
        (
            &format!("{group}publish = [{{ topic = \"a\", every = 1, content_type = \"x\" }}]\n"),
            "dir/mine.toml:4:11: groups.a.publish: ",
            "only MQTT 5",
        ),
        (
            &format!("{group}will = {{ topic = \"a\", response_topic = \"x\" }}\n"),
            "dir/mine.toml:4:8: groups.a.will: ",
            "only MQTT 5",
        ),
        (
            &format!("{group}maximum_packet_size = 100\n"),
            "dir/mine.toml:4:23: groups.a.maximum_packet_size: ",
            "only MQTT 5",
        ),
        (
            &format!("{group}protocol = 5\nmaximum_packet_size = 0\n"),
            "dir/mine.toml:5:23: groups.a.maximum_packet_size: ",
            "protocol error",
        ),
        (
            &format!("{group}protocol = 5\npublish = [{{ topic = \"a\", every = 1, response_topic = \"x/#\" }}]\n"),
            "dir/mine.toml:5:55: groups.a.publish.0.response_topic: ",
            "holds a wildcard [MQTT-3.3.2-14]",
        ),
        (
            &format!("{group}protocol = 5\npublish = [{{ topic = \"a\", every = 1, payload_format_indicator = 1 }}]\n"),
            "dir/mine.toml:5:65: groups.a.publish.0.payload_format_indicator: ",
            "the payload is bytes",
        ),
        (
            &format!("{group}protocol = 5\npublish = [{{ topic = \"a\", every = 1, correlation_data = \"%s\" }}]\n"),
            "dir/mine.toml:5:57: groups.a.publish.0.correlation_data: ",
            "only a payload has a stamp",
        ),
        (
            &format!("{group}protocol = 5\nuser_properties = {{ long = \"{}\" }}\n", "x".repeat(65_536)),
            "dir/mine.toml:5:28: groups.a.user_properties.long: ",
            "65536 bytes",
        ),
        (&format!("{group}away = {{ back_after = 1 }}\n"), "dir/mine.toml:4:8: groups.a.away: ", "--persistent"),
        (
            &format!("{group}client_id = \"$nobody\"\n"),
            "dir/mine.toml:4:13: groups.a.client_id: ",
            "no parameter `nobody`",
        ),
        (&format!("{group}[parameters]\nx = 1\n"), "dir/mine.toml:5:1: parameters.x: ", "used nowhere"),
        (&format!("{group}[parameters]\nn = 1\n"), "dir/mine.toml:5:1: parameters.n: ", "no name for a parameter"),
        (
            &format!("{group}client_id = \"%{{i + pair}}\"\n"),
            "dir/mine.toml:4:13: groups.a.client_id: ",
            "unknown name 'pair'",
        ),
        (&format!("base = \"p3p\"\n{group}"), "dir/mine.toml:1:8: base: ", "did you mean p2p?"),
        ("about = = 1\n", "dir/mine.toml:1:9: ", "ringmq-loadgen show"),
        (&format!("{group}when = 1979-05-27\n"), "dir/mine.toml:4:8: ", "a date"),
    ] {
        let error = document(text).expect_err(text).to_string();
        assert!(error.starts_with(start) && error.contains(what), "{text}\n{error}");
        assert!(error.contains("remedy: "), "{error}");
    }
}

#[test]
fn a_scenario_is_found_by_its_name_or_its_file() {
    assert_eq!(Scenario::find("fan-in").unwrap().name(), "fan-in");
    let error = Scenario::find("fanin").unwrap_err().to_string();
    assert!(error.contains("did you mean fan-in?"), "{error}");
    let error = Scenario::find("no/such/file.toml").unwrap_err().to_string();
    assert!(error.starts_with("no/such/file.toml: "), "{error}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/p2p.toml");
    assert_eq!(Scenario::find(file).unwrap().text(), Scenario::preset("p2p").unwrap().text());
}
