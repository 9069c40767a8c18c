//! The configuration file: what it may say, what it says by default, and how its mistakes are told.

use std::time::Duration;

use ringmq::acl::{Access, Format};
use ringmq::config::{
    Config, ConfigError, CpuSet, Draft, MemoryBudget, Origin, Placement, Problem, QueueFull, SharedStrategy, WaitIn,
};

const EXAMPLE: &str = include_str!("../tuning/ringmq.example.toml");

fn four_cpus() -> CpuSet {
    (0..4).collect()
}

fn read(text: &str) -> Result<(Config, Placement), ConfigError> {
    Draft::from_text("test.toml", text)?.check(&four_cpus())
}

fn problems(text: &str) -> Vec<Problem> {
    match read(text) {
        Err(ConfigError::Invalid(problems)) => problems,
        other => panic!("expected problems, got {other:?}"),
    }
}

/// The only problem, as (line, key, what, remedy).
fn problem(text: &str) -> (usize, String, String, String) {
    let mut problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    let Problem { origin, key, what, remedy } = problems.remove(0);
    let Origin::File { file, line, .. } = origin else { panic!("no place in the file: {origin:?}") };
    assert_eq!(file, "test.toml");
    (line, key, what, remedy)
}

#[track_caller]
fn refused(text: &str, line: usize, key: &str, what: &str, remedy: &str) {
    let found = problem(text);
    assert_eq!((found.0, found.1.as_str()), (line, key), "{found:?}");
    assert!(found.2.contains(what), "{:?} should say {what:?}", found.2);
    assert!(found.3.contains(remedy), "{:?} should say {remedy:?}", found.3);
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(read("").unwrap().0, Config::default());
}

#[test]
fn the_example_sets_every_key_to_its_default() {
    assert_eq!(read(EXAMPLE).unwrap().0, Config::default());
    let written: toml::Table = EXAMPLE.parse().unwrap();
    let mut all = Config::default();
    all.server.hash_seed = Some(1);
    for (section, keys) in toml::Table::try_from(all).unwrap() {
        let keys = if section == "listener" { keys[0].clone() } else { keys };
        let there = if section == "listener" { &written["listener"][0] } else { &written[&section] };
        all_there(&section, there, &keys);
    }
}

fn all_there(section: &str, there: &toml::Value, keys: &toml::Value) {
    for (key, value) in keys.as_table().unwrap() {
        let is_example = EXAMPLE.lines().any(|line| line == format!("# example: {key} = {value}"));
        assert!(there.get(key).is_some() || is_example, "{section}.{key} is not in the example");
        if value.is_table() {
            all_there(&format!("{section}.{key}"), &there[key], value);
        }
    }
}

#[test]
fn the_examples_of_the_example_can_be_set() {
    let text = EXAMPLE.replace("# example: ", "");
    assert_eq!(read(&text).unwrap().0.server.hash_seed, Some(1));
}

#[test]
fn a_configuration_survives_being_written_and_read() {
    let mut config = read("[limits]\nsession_expiry_max = \"90s\"\nkeep_alive_max = \"1h\"").unwrap().0;
    config.server.shards = Some(3);
    config.server.pin = Some(false);
    config.server.cpus = "0,2-3".parse().unwrap();
    config.sys.interval = None;
    config.mqtt.response_information = Some("replies/".to_owned());
    config.mqtt.versions.remove(0);
    config.limits.retained_bytes_max = 5 << 30;
    let text = toml::to_string(&config).unwrap();
    assert_eq!(read(&text).unwrap().0, config, "{text}");
}

#[test]
fn values_are_read_in_their_units() {
    let text = r#"
        [server]
        stop_timeout = "200ms"
        [[listener]]
        address = "[::1]:1884"
        [ring]
        wait = "glommio"
        recv_buffer_bytes = "16 KiB"
        [limits]
        packet_bytes_max = 2048
        retained_bytes_max = "1GiB"
        session_expiry_max = "7d"
        keep_alive_max = "5min"
        [mqtt]
        max_qos = 1
        queue_full = "drop_oldest"
        shared_strategy = "hash_topic"
        [sys]
        interval = 0
    "#;
    let (config, _) = read(text).unwrap();
    assert_eq!(config.server.stop_timeout, Duration::from_millis(200));
    assert_eq!(config.listeners[0].address, "[::1]:1884".parse().unwrap());
    assert_eq!(config.ring.wait, WaitIn::Glommio);
    assert_eq!(config.ring.recv_buffer_bytes, 16 * 1024);
    assert_eq!(config.limits.packet_bytes_max, 2048);
    assert_eq!(config.limits.retained_bytes_max, 1 << 30);
    assert_eq!(config.limits.session_expiry_max, 7 * 86_400);
    assert_eq!(config.limits.keep_alive_max, 300);
    assert_eq!(config.mqtt.max_qos as u8, 1);
    assert_eq!(config.mqtt.queue_full, QueueFull::DropOldest);
    assert_eq!(config.mqtt.shared_strategy, SharedStrategy::HashTopic);
    assert_eq!(config.sys.interval, None);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    refused("[limits]\n\npacket_byte_max = 5\n", 3, "limits.packet_byte_max", "no such key", "`packet_bytes_max`");
    refused("[sys]\nfoo = 5\n", 2, "sys.foo", "no such key", "the keys of [sys] are interval");
}

#[test]
fn a_key_in_the_wrong_section_is_sent_to_the_right_one() {
    refused("[limits]\nmax_qos = 1\n", 2, "limits.max_qos", "no such key", "below [mqtt]");
    refused("max_qos = 1\n", 1, "max_qos", "no such section or key", "below [mqtt]");
    refused("[server]\naddress = \"127.0.0.1:1\"\n", 2, "server.address", "no such key", "below [[listener]]");
}

#[test]
fn an_unknown_section_is_refused_with_the_nearest_known_one() {
    refused("[sys]\n[limit]\nx = 5\n", 2, "limit", "no such section", "[limits]");
    refused(
        "[persistence]\n",
        1,
        "persistence",
        "no such section",
        "server, listener, ring, limits, mqtt, acl, auth, sys, guard",
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_what_is_expected() {
    let cases = [
        ("[limits]\nconnections_max = \"many\"", "limits.connections_max", "\"many\"", "a whole number"),
        ("[limits]\nconnections_max = -1", "limits.connections_max", "-1", "(the default is 1000000)"),
        ("[limits]\nreceive_maximum = 65536", "limits.receive_maximum", "65536", "at most 65535"),
        ("[limits]\npacket_bytes_max = \"1MB\"", "limits.packet_bytes_max", "\"1MB\"", "\"64KiB\""),
        ("[limits]\nconnect_timeout = 5", "limits.connect_timeout", "5", "with its unit"),
        ("[limits]\nconnect_timeout = \"5 parsecs\"", "limits.connect_timeout", "parsecs", "\"200ms\""),
        ("[limits]\nconnect_timeout = \"never\"", "limits.connect_timeout", "never", "\"5s\""),
        ("[limits]\nkeep_alive_max = \"20h\"", "limits.keep_alive_max", "20h", "65535s"),
        ("[limits]\nkeep_alive_max = \"1500ms\"", "limits.keep_alive_max", "1500ms", "whole seconds"),
        ("[limits]\nsession_expiry_max = \"50000d\"", "limits.session_expiry_max", "50000d", "\"never\""),
        ("[mqtt]\nmax_qos = 3", "mqtt.max_qos", "3", "0, 1 or 2"),
        ("[mqtt]\nqueue_full = \"drop\"", "mqtt.queue_full", "drop", "`refuse` or `drop_oldest`"),
        ("[mqtt]\nversions = [\"5\"]", "mqtt.versions", "\"5\"", "\"3.1.1\" or \"5.0\""),
        ("[mqtt]\nretain_available = 1", "mqtt.retain_available", "integer", "boolean"),
        ("[server]\nshards = \"all\"", "server.shards", "all", "\"auto\""),
        ("[server]\nshards = true", "server.shards", "true", "a whole number"),
        ("[server]\npin = 1", "server.pin", "1", "true, false, or \"auto\""),
        ("[server]\ncpus = \"0-\"", "server.cpus", "\"0-\"", "\"0-3,6\""),
        ("[server]\ncpus = \"3-1\"", "server.cpus", "\"3-1\"", "\"0-3,6\""),
        ("[server]\nhash_seed = -4", "server.hash_seed", "-4", "0 or more"),
        ("[[listener]]\naddress = \"localhost:1883\"", "listener[0].address", "localhost", "\"[::1]:1883\""),
        ("[[listener]]\naddress = 1883", "listener[0].address", "1883", "an IP address and port"),
    ];
    for (text, key, what, remedy) in cases {
        refused(text, 2, key, what, remedy);
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_the_bound() {
    let cases = [
        ("[server]\nshards = 65", "server.shards", "64 or less"),
        ("[server]\nshards = 0", "server.shards", "1 or more"),
        ("[server]\nstop_timeout = \"2h\"", "server.stop_timeout", "1h or less"),
        ("[server]\nlog = \"inof\"", "server.log", "off, error, warn"),
        ("[server]\nlog = \"info,=debug\"", "server.log", "by module"),
        ("[[listener]]\nbacklog = 0", "listener[0].backlog", "1 or more"),
        ("[ring]\nentries = 4", "ring.entries", "8 or more"),
        ("[ring]\nrecv_buffers = 1000", "ring.recv_buffers", "write 1024"),
        ("[ring]\nrecv_buffer_bytes = 255", "ring.recv_buffer_bytes", "256B or more"),
        ("[limits]\npacket_bytes_max = 64", "limits.packet_bytes_max", "128B or more"),
        ("[limits]\nreceive_maximum = 0", "limits.receive_maximum", "1 or more"),
        ("[limits]\nclient_id_bytes_max = 22", "limits.client_id_bytes_max", "23B or more"),
        ("[limits]\nconnect_timeout = 0", "limits.connect_timeout", "100ms or more"),
        ("[sys]\ninterval = \"2d\"", "sys.interval", "1d or less"),
        ("[mqtt]\nversions = []", "mqtt.versions", "at least one"),
        ("[mqtt]\nresponse_information = \"a\\u0000\"", "mqtt.response_information", "MQTT-1.5.4-2"),
    ];
    for (text, key, remedy) in cases {
        let (line, found, what, told) = problem(text);
        assert_eq!((line, found.as_str()), (2, key), "{text}: {what}");
        assert!(told.contains(remedy), "{text}: {told:?} should say {remedy:?}");
    }
}

#[test]
fn impossible_combinations_are_refused_at_the_key_that_was_set() {
    let cases = [
        ("[ring]\ncompletion_entries = 512", "ring.completion_entries", "fewer than entries, 1024"),
        ("[ring]\nentries = 16384", "ring.entries", "8192, are fewer than entries, 16384"),
        (
            "[limits]\nqueue_bytes_max = \"1KiB\"\ntopic_levels_max = 5",
            "limits.queue_bytes_max",
            "cannot hold one packet",
        ),
        ("[limits]\noutput_bytes_max = 4096", "limits.output_bytes_max", "cannot hold one packet"),
        ("[limits]\nretained_bytes_max = 4096", "limits.retained_bytes_max", "cannot hold one packet"),
        ("[limits]\npacket_bytes_max = 1000", "limits.packet_bytes_max", "does not fit"),
        ("[ring]\nrecv_buffer_bytes = \"1MiB\"\nrecv_buffers = 2048", "ring.recv_buffer_bytes", "would take 2GiB"),
        ("[server]\ncpus = \"2-5\"", "server.cpus", "CPU 4-5 does not exist"),
    ];
    for (text, key, what) in cases {
        refused(text, 2, key, what, "");
    }
    refused("[server]\nshards = 5\npin = true\n", 3, "server.pin", "5 shards cannot be pinned to 4 CPUs", "at most 4");
}

#[test]
fn limits_of_what_is_off_do_not_contradict_others() {
    read("[mqtt]\nretain_available = false\n[limits]\nretained_bytes_max = 0").unwrap();
    read("[limits]\nqueue_messages_max = 0\nqueue_bytes_max = 0").unwrap();
}

#[test]
fn a_listener_that_others_can_reach_must_be_allowed() {
    let open = "[[listener]]\n[[listener]]\n\naddress = \"0.0.0.0:1883\"\n";
    refused(open, 4, "listener[1].address", "not authenticated", "allow_anonymous");
    read(&format!("{open}[server]\nallow_anonymous = true")).unwrap();
    read("[[listener]]\naddress = \"[::ffff:127.0.0.1]:1883\"").unwrap();
}

#[test]
fn a_listener_that_others_can_reach_may_be_open_where_clients_are_authenticated() {
    let open = "[[listener]]\naddress = \"0.0.0.0:1883\"\n";
    let by_proxy = format!("{open}[listener.proxy]\ntrusted = [\"10.0.0.0/8\"]\n");
    read(&format!("{by_proxy}[auth]\nmethods = [\"certificate\"]")).unwrap();
    refused(&format!("{open}[auth.password]\nfile = \"users\""), 2, "listener[0].address", "not authenticated", "");
}

#[test]
fn what_an_authentication_method_lacks_is_named_by_its_key() {
    let chosen = |methods: &str, rest: &str| format!("[auth]\nmethods = {methods}\n{rest}");
    let cases = [
        (chosen("[\"password\"]", ""), 2, "auth.methods", "not set"),
        (chosen("[\"password\"]", "[auth.password]\nfile = \"\""), 4, "auth.password.file", "not set"),
        (chosen("[\"jwt\"]", "[auth.jwt]\nkey_file = \"\""), 4, "auth.jwt.key_file", "not set"),
        (chosen("[\"jwt\"]", "[auth.jwt]\nkey_file = \"a\"\njwks_url = \"http://b\""), 5, "auth.jwt.jwks_url", "both"),
        (chosen("[\"http\", \"http\"]", "[auth.http]\nurl = \"http://b\""), 2, "auth.methods", "twice"),
        (chosen("[\"certificate\"]", ""), 2, "auth.methods", "no listener asks"),
        (chosen("[\"certificates\"]", ""), 2, "auth.methods", "unknown variant"),
        (chosen("[]", "[auth.http]\nurl = \"ftp://x\""), 4, "auth.http.url", "neither"),
        (chosen("[]", "[auth.jwt]\nleeway = \"1h\""), 4, "auth.jwt.leeway", "too much"),
        (chosen("[]", "[auth.jwt]\nalgorithm = \"none\""), 4, "auth.jwt.algorithm", "unknown variant"),
        (chosen("[]", "[auth.jwt]\nkeyfile = \"a\""), 4, "auth.jwt.keyfile", "no such key"),
        (chosen("[]", "workers = 0"), 3, "auth.workers", "too little"),
        (chosen("[]", "expired_reason = \"banned\""), 3, "auth.expired_reason", "banned"),
        (chosen("[]", "expired_reason = 0x8A"), 3, "auth.expired_reason", "138"),
        (chosen("[]", "[auth.http]\nrequests_max = 257"), 4, "auth.http.requests_max", "too much"),
        (chosen("[]", "[auth.http]\nwaiting_max = 0"), 4, "auth.http.waiting_max", "too little"),
        (chosen("[]", "[auth.jwt]\nwaiting_max = 0"), 4, "auth.jwt.waiting_max", "too little"),
    ];
    for (text, line, key, what) in cases {
        refused(&text, line, key, what, "");
    }
}

#[test]
fn the_reason_for_an_expired_authentication_is_a_name_or_its_number() {
    for written in ["\"administrative_action\"", "0x98", "152"] {
        let (config, _) = read(&format!("[auth]\nexpired_reason = {written}")).unwrap();
        assert_eq!(config.auth.expired_reason as u8, 0x98, "{written}");
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap().0, config);
    }
}

#[test]
fn an_address_can_be_listed_once() {
    refused("[[listener]]\n[[listener]]\nbacklog = 5", 2, "listener[1].address", "twice", "remove");
    read("[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"").unwrap();
}

#[test]
fn listeners_are_a_list_that_is_not_empty() {
    refused("\n[listener]\naddress = \"127.0.0.1:1\"", 2, "listener", "not a list", "[[listener]]");
    refused("listener = []", 1, "listener", "no listener", "at least one");
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    refused("[limits]\npacket_bytes_max = \n", 2, "", "", "correct the TOML");
    refused("[limits]\ninflight_max = 1\ninflight_max = 2\n", 3, "", "duplicate key", "");
}

#[test]
fn every_mistake_is_told_at_once_in_the_order_of_the_file() {
    let text = "[ring]\nwait = \"here\"\n[limits]\ninflight_max = \"x\"\n[server]\nshard = 1\n";
    let keys: Vec<String> = problems(text).into_iter().map(|problem| problem.key).collect();
    assert_eq!(keys, ["ring.wait", "limits.inflight_max", "server.shard"]);
}

#[test]
fn an_override_is_blamed_by_the_name_of_its_option() {
    let mut draft = Draft::from_text("test.toml", "[server]\nshards = 2\n").unwrap();
    draft.shards(65);
    draft.listen(&["0.0.0.0:0".parse().unwrap()]);
    let Err(error) = draft.check(&four_cpus()) else { panic!("65 shards were accepted") };
    let text = error.to_string();
    assert!(text.contains("--shards: server.shards: 65 is too much"), "{text}");
    assert!(text.contains("--listen: listener[0].address: other hosts can reach 0.0.0.0:0"), "{text}");
}

#[test]
fn shards_fill_the_allowed_cpus_unless_told_otherwise() {
    let placement = |text| read(text).unwrap().1;
    let all = placement("");
    assert_eq!((all.shards, all.pin, all.cpus.as_slice()), (4, true, &[0, 1, 2, 3][..]));
    let some = placement("[server]\ncpus = \"1,3\"");
    assert_eq!((some.shards, some.pin, some.cpus.as_slice()), (2, true, &[1, 3][..]));
    let more = placement("[server]\nshards = 9");
    assert_eq!((more.shards, more.pin), (9, false));
    let (_, many) = Draft::default().check(&(0..256).collect()).unwrap();
    assert_eq!((many.shards, many.pin), (64, true));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Draft::from_file("/nonexistent/ringmq.toml".as_ref()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/ringmq.toml: No such file"), "{error}");
    assert!(error.contains("remedy: "), "{error}");
}

#[test]
fn rules_are_named_and_their_default_is_allow_deny_or_auto() {
    let acl =
        read("[acl]\nfile = \"rules.json\"\nformat = \"json\"\ndefault = \"deny\"\nadmins = [\"ops\"]").unwrap().0.acl;
    assert_eq!((acl.file, acl.default), (Some("rules.json".into()), Some(Access::Deny)));
    assert_eq!((acl.format, acl.admins), (Format::Json, vec!["ops".to_owned()]));
    refused("[acl]\ndefault = \"perhaps\"", 2, "acl.default", "\"perhaps\"", "\"deny\"");
    refused("[acl]\nformat = \"yaml\"", 2, "acl.format", "yaml", "mosquitto");
    refused("[acl]\nadmins = [\"a\", \"\"]", 2, "acl.admins", "name 2 of the list is empty", "remove");
}

#[test]
fn the_guards_values_are_read_and_survive_being_written() {
    let text = r#"
        [[listener]]
        connect_rate = "1000/s burst 5000"
        connections_max = 10
        limits = { keep_alive_max = "5min", queue_bytes_max = "2MiB", client_ids = ["a-*"], packet_bytes_max = "64KiB" }
        [limits]
        bytes_in_rate = "1MiB/s burst 4MiB"
        messages_in_rate = "10/min"
        memory_budget = "4GiB"
        [guard]
        bans = "/var/lib/ringmq/bans.json"
        turn_max = 0
        [[guard.profile]]
        user = "admin*"
        limits = { messages_in_rate = 0, inflight_max = 7 }
    "#;
    let config = read(text).unwrap().0;
    assert_eq!(config.listeners[0].connect_rate.0.map(|rate| (rate.amount(), rate.burst())), Some((1000, 5000)));
    assert_eq!(config.listeners[0].limits.keep_alive_max, Some(300));
    assert_eq!(config.listeners[0].limits.packet_bytes_max, Some(64 << 10));
    assert_eq!(config.limits.bytes_in_rate.0.map(|rate| rate.burst()), Some(4 << 20));
    assert_eq!(config.limits.messages_in_rate.0.map(|rate| rate.period()), Some(Duration::from_secs(60)));
    assert_eq!(config.limits.memory_budget, MemoryBudget::Bytes(4 << 30));
    assert_eq!(config.guard.turn_max, None);
    assert_eq!(config.guard.profiles[0].limits.inflight_max, Some(7));
    assert_eq!(config.guard.profiles[0].limits.messages_in_rate.map(|rate| rate.0), Some(None));
    let written = toml::to_string(&config).unwrap();
    assert_eq!(read(&written).unwrap().0, config, "{written}");
}

#[test]
fn what_the_guard_cannot_do_is_refused() {
    let cases = [
        ("[guard]\nclient_ids = [\"\"]", "guard.client_ids", "the pattern is empty", ""),
        ("[guard]\nconnect_rate_per_address = \"5/d\"", "guard.connect_rate_per_address", "5/d", "\"10/min\""),
        ("[guard]\nturn_max = \"2h\"", "guard.turn_max", "too much", "1h or less"),
        ("[guard]\nflapping_window = \"1ms\"", "guard.flapping_window", "too little", "1s or more"),
        ("[guard]\nprofile = [{ users = \"x\" }]", "guard.profile[0].users", "no such key", "`user`"),
        ("[guard]\nprofile = [{}, { user = \"x\" }]", "guard.profile[0]", "for everybody", "put it last"),
        ("[guard]\nprofile = 5", "guard.profile", "not a list of tables", "[[guard.profile]]"),
        ("[limits]\nkeep_alive_min = \"2min\"\nkeep_alive_max = \"1min\"", "limits.keep_alive_min", "longer", "lower"),
        ("[limits]\nmemory_budget = \"1KiB\"", "limits.memory_budget", "too little", "1MiB or more"),
        ("[limits]\nconnect_bytes_max = 1", "limits.connect_bytes_max", "too little", "128B or more"),
        ("[[listener]]\nlimits = { inflight = 1 }", "listener[0].limits.inflight", "no such key", "inflight_max"),
        ("[[listener]]\nlimits = 5", "listener[0].limits", "not a table", "[listener[0].limits]"),
        ("[[listener]]\nlimits = { inflight_max = 65536 }", "listener[0].limits.inflight_max", "65536", "65535"),
        ("[[listener]]\nlimits = { receive_maximum = 0 }", "listener[0].limits.receive_maximum", "too little", "1 or"),
        (
            "[[listener]]\nlimits = { packet_bytes_max = 1 }",
            "listener[0].limits.packet_bytes_max",
            "too little",
            "128B",
        ),
        (
            "[[listener]]\nlimits = { packet_bytes_max = \"8MiB\" }",
            "listener[0].limits.packet_bytes_max",
            "output_bytes_max, 1MiB, cannot hold one packet",
            "raise output_bytes_max",
        ),
        ("[[guard.profile]]\nlimits = { inflight_max = 0 }", "guard.profile[0].limits.inflight_max", "little", "1 or"),
        (
            "[[guard.profile]]\nlimits = { queue_bytes_max = \"1KiB\" }",
            "guard.profile[0].limits.queue_bytes_max",
            "cannot hold one packet",
            "or lower packet_bytes_max",
        ),
        (
            "[[guard.profile]]\nlimits = { keep_alive_min = \"2min\", keep_alive_max = \"1min\" }",
            "guard.profile[0].limits.keep_alive_min",
            "longer",
            "lower",
        ),
    ];
    for (text, key, what, remedy) in cases {
        refused(text, 2, key, what, remedy);
    }
}

#[test]
fn a_transport_and_its_sections_belong_together() {
    let tls = "[listener.tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    refused("[[listener]]\ntransport = \"wss\"", 2, "listener[0].transport", "needs a certificate", "[listener.tls]");
    refused(&format!("[[listener]]\n{tls}"), 2, "listener[0].tls", "has no TLS", "\"wss\"");
    refused("[[listener]]\n[listener.websocket]", 2, "listener[0].websocket", "has no WebSocket", "\"ws\"");
    refused("[[listener]]\n[listener.proxy]", 2, "listener[0].proxy.trusted", "nobody is trusted", "10.0.0.0/8");
    let proxied = |trusted: &str| format!("[[listener]]\n[listener.proxy]\ntrusted = [\"{trusted}\"]");
    let networks = [("10.0.0.0/8", "10.0.0.0/8"), ("::/0", "::/0"), ("192.0.2.7", "192.0.2.7/32")];
    for (written, meant) in networks {
        let (config, _) = read(&proxied(written)).unwrap();
        assert_eq!(config.listeners[0].proxy.as_ref().unwrap().trusted[0].to_string(), meant);
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap().0, config);
    }
    refused(&proxied("10.0.0.0/33"), 3, "listener[0].proxy.trusted", "10.0.0.0/33", "");
    let secured = format!("[[listener]]\ntransport = \"tls\"\n{tls}");
    read(&secured).unwrap();
    let text = format!("{secured}client_ca = \"ca.pem\"\n");
    refused(&text, 6, "listener[0].tls.client_ca", "not asked for a certificate", "\"required\"");
    let text = format!("{secured}client_certificate = \"required\"\n");
    refused(&text, 6, "listener[0].tls.client_certificate", "no authority", "client_ca");
    let text = format!("{secured}client_crl_expired = \"ignore\"\n");
    refused(&text, 6, "listener[0].tls.client_crl_expired", "ignore", "`refuse` or `accept`");
    refused(&format!("{secured}certifcate = \"b\"\n"), 6, "listener[0].tls.certifcate", "no such key", "`certificate`");
}

#[test]
fn a_socket_file_has_an_absolute_path_and_a_mode_in_octal() {
    let (config, _) = read("[[listener]]\naddress = \"unix:/run/a.sock\"\nmode = \"0660\"\ngroup = \"mqtt\"").unwrap();
    assert_eq!(config.listeners[0].mode, Some(0o660));
    let text = toml::to_string(&config).unwrap();
    assert_eq!(read(&text).unwrap().0, config, "{text}");
    refused("[[listener]]\naddress = \"unix:a.sock\"", 2, "listener[0].address", "unix:a.sock", "unix:/run/mqtt.sock");
    refused("[[listener]]\nmode = \"0660\"", 2, "listener[0].mode", "is no file", "\"unix:\"");
    let numbered = "[[listener]]\naddress = \"unix:/a\"\nmode = 660";
    refused(numbered, 3, "listener[0].mode", "660", "in octal and in quotes");
}
