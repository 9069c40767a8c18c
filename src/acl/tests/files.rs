//! What files mean, and what is said of them and by them.

use super::*;

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
    let policy = toml(include_str!("../../../tuning/acl.example.toml"));
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
