//! From words on the command line to plans, and what is told of those that can't be followed.

use std::time::Duration;

use clap::CommandFactory;

use super::*;
use crate::plan::{Pace, Payload};

fn run(words: &[&str]) -> Run {
    try_run(words).unwrap_or_else(|error| panic!("{error}"))
}

fn try_run(words: &[&str]) -> Result<Run, clap::Error> {
    let all = ["ringmq-loadgen", "run"].iter().chain(words);
    match Cli::try_parse_from(all)?.command {
        Command::Run(run) => Ok(*run),
        other => panic!("{other:?}"),
    }
}

fn plan(words: &[&str]) -> Plan {
    try_plan(words, &[]).unwrap_or_else(|error| panic!("{error}"))
}

fn try_plan(words: &[&str], environment: &[(&str, &str)]) -> Result<Plan, CliError> {
    let run = run(words);
    let variable =
        |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let overrides = run.options.load.overrides(variable)?;
    Ok(Scenario::find(&run.scenario)?.read(&overrides)?)
}

#[test]
fn the_command_line_is_consistent_and_explains_the_wall_of_ports() {
    Cli::command().debug_assert();
    let help = Cli::command().find_subcommand_mut("run").unwrap().render_long_help().to_string();
    for part in ["28,000 ports", "64,512", "IP_BIND_ADDRESS_NO_PORT", "RINGMQ_LOADGEN_PASSWORD"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn what_carries_mqtt_comes_from_the_option_or_else_from_the_document() {
    let prepared = |words: &[&str]| run(words).prepare().map(|prepared| prepared.plan.transport);
    assert_eq!(prepared(&["p2p"]).unwrap(), Transport::Tcp);
    assert_eq!(prepared(&["p2p", "--transport", "wss", "--insecure"]).unwrap(), Transport::Wss);
    assert_eq!(prepared(&["p2p", "--set", "transport=ws"]).unwrap(), Transport::Ws);
    assert!(prepared(&["p2p", "--transport", "tls"]).unwrap_err().to_string().contains("add --ca FILE, or --insecure"));
    assert!(prepared(&["p2p", "--set", "transport=quic"]).unwrap_err().to_string().contains("\"ws\" or \"wss\""));
}

#[test]
fn every_option_reaches_the_plan() {
    let plan = plan(&[
        "p2p",
        "--protocol",
        "5",
        "--user",
        "u%i",
        "--password",
        "p%i",
        "--client-id",
        "%g/%i",
        "--keep-alive",
        "1m",
        "--session-expiry",
        "1h",
        "--user-property",
        "site=%i",
        "--user-property",
        "site=b",
        "--receive-maximum",
        "20",
        "--maximum-packet-size",
        "4096",
        "--message-expiry",
        "1m",
        "--content-type",
        "text/plain",
        "--response-topic",
        "answers/%i",
        "--correlation-data",
        "%c:%t",
        "--message-property",
        "room=%{i:a|b}",
        "--qos",
        "1",
        "--payload",
        "100",
        "--topic",
        "x/%i",
        "--interval",
        "250ms",
        "--limit",
        "7",
        "--will-topic",
        "gone/%c",
        "--will-payload",
        "bye",
        "--will-qos",
        "1",
        "--will-retain",
        "--will-delay",
        "5s",
        "--connect-rate",
        "500",
        "--connecting",
        "9",
        "--duration",
        "3s",
        "--warm-up",
        "0s",
        "--patience",
        "4s",
        "--no-verify",
        "--set",
        "pairs=2",
    ]);
    for group in &plan.groups {
        assert_eq!((group.version, group.count, group.keep_alive, group.session_expiry), (5, 2, 60, Some(3600)));
        assert_eq!((group.user.as_deref(), group.password.as_deref()), (Some("u%i"), Some("p%i")));
        assert_eq!(group.client_id, "%g/%i");
        let properties: Vec<_> =
            group.user_properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(properties, [("site", "%i"), ("site", "b")]);
        assert_eq!((group.receive_maximum, group.properties.maximum_packet_size), (Some(20), Some(4096)));
        let will = group.will.as_ref().unwrap();
        assert_eq!(
            (will.topic.as_str(), will.payload.as_str(), will.qos, will.retain, will.delay),
            ("gone/%c", "bye", 1, true, Some(5))
        );
    }
    let subscription = &plan.groups[0].subscribe[0];
    assert_eq!((subscription.filter.as_str(), subscription.qos), ("x/%i", 1));
    let publication = &plan.groups[1].publish[0];
    assert_eq!((publication.topic.as_str(), publication.qos, publication.limit), ("x/%i", 1, Some(7)));
    assert_eq!(publication.pace, Pace::Every(Duration::from_millis(250)));
    assert_eq!(publication.payload, Payload::Bytes(100));
    assert_eq!(publication.message_expiry, Some(60));
    assert_eq!(publication.user_properties, [("room".to_owned(), "%{i:a|b}".to_owned())]);
    let properties = &publication.properties;
    let texts = [&properties.content_type, &properties.response_topic, &properties.correlation_data];
    assert_eq!(texts.map(|text| text.as_deref().unwrap()), ["text/plain", "answers/%i", "%c:%t"]);
    let timing = plan.timing;
    assert_eq!((timing.connect_rate, timing.connecting), (Some(500.0), 9));
    let seconds = |seconds| Duration::from_secs(seconds);
    assert_eq!((timing.window, timing.warm_up, timing.patience), (seconds(3), seconds(0), seconds(4)));
    assert!(!plan.verify);
}

#[test]
fn rate_outstanding_and_persistence_reach_the_plan() {
    assert_eq!(
        plan(&["p2p", "--rate", "5000"]).groups[1].publish[0].pace,
        Pace::Rate { per_second: 5000.0, poisson: true }
    );
    assert_eq!(plan(&["p2p", "--outstanding", "3"]).groups[1].publish[0].pace, Pace::Outstanding(3));
    let persistent = plan(&["idle", "--persistent", "--session-expiry", "60"]);
    assert_eq!((persistent.groups[0].clean, persistent.groups[0].session_expiry), (false, Some(60)));
    assert!(plan(&["idle", "--clean"]).groups[0].clean);
    assert!(plan(&["idle", "--verify"]).verify);
    let text = r#"{"stamp":"%s","v":%{random(0,9)}}"#;
    assert_eq!(plan(&["p2p", "--payload", text]).groups[1].publish[0].payload, Payload::Text(text.to_owned()));
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    for words in [
        &["p2p", "--rate", "5", "--interval", "1s"][..],
        &["p2p", "--outstanding", "5", "--interval", "1s"],
        &["p2p", "--clean", "--persistent"],
        &["p2p", "--verify", "--no-verify"],
        &["p2p", "--password", "x", "--password-file", "y"],
        &["p2p", "--qos", "3"],
        &["p2p", "--protocol", "4"],
        &["p2p", "--duration", "0"],
        &["p2p", "--warm-up", "soon"],
        &["p2p", "--user-property", "x"],
        &["p2p", "--threads", "0"],
        &["p2p", "--source-ips", "x"],
        &["p2p", "--cpus", "x"],
        &["p2p", "--tls"],
        &[],
    ] {
        assert!(try_run(words).is_err(), "{words:?}");
    }
}

#[test]
fn an_option_that_fits_nowhere_is_told_as_it_was_given() {
    for (words, told) in [
        (&["idle", "--rate", "5"][..], "--rate 5: the scenario publishes nothing"),
        (&["p2p", "--session-expiry", "60"], "--session-expiry 60: only MQTT 5"),
        (&["p2p", "--will-retain"], "--will-retain true: nobody has a will"),
        (&["p2p", "--payload", "15"], "--payload 15: groups.publishers.publish.0.payload: 15 bytes"),
        (&["p2p", "--rate", "nan"], "--rate NaN: groups.publishers.publish.0.rate: no rate"),
        (&["p2p", "--set", "piars=1"], "--set piars=1: the scenario has no parameter"),
        (&["p3p"], "p3p: no such scenario\n  remedy: did you mean p2p?"),
    ] {
        let error = try_plan(words, &[]).expect_err(told).to_string();
        assert!(error.starts_with(told), "{error}");
    }
}

#[test]
fn a_password_comes_from_a_file_or_the_environment_as_it_is() {
    let environment = [("RINGMQ_LOADGEN_USER", "u%"), ("RINGMQ_LOADGEN_PASSWORD", "50%i")];
    let group = try_plan(&["idle"], &environment).unwrap().groups.remove(0);
    assert_eq!((group.user.as_deref(), group.password.as_deref()), (Some("u%%"), Some("50%%i")));
    let group = try_plan(&["idle", "--user", "a", "--password", "b"], &environment).unwrap().groups.remove(0);
    assert_eq!((group.user.as_deref(), group.password.as_deref()), (Some("a"), Some("b")));

    let file = std::env::temp_dir().join(format!("ringmq-loadgen-password-{}", std::process::id()));
    std::fs::write(&file, "se%cret\n").unwrap();
    let group = try_plan(&["idle", "--user", "a", "--password-file", file.to_str().unwrap()], &environment);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(group.unwrap().groups[0].password.as_deref(), Some("se%%cret"));
    let error = try_plan(&["idle", "--password-file", "/no/such/file"], &[]).unwrap_err().to_string();
    assert!(error.starts_with("--password-file /no/such/file: ") && error.contains("remedy: "), "{error}");
}

#[test]
fn threads_are_pinned_in_turn() {
    let threads = |words: &[&str]| {
        let all: Vec<&str> = ["idle"].iter().chain(words).copied().collect();
        run(&all).options.generator.threads().map_err(|error| error.to_string())
    };
    assert_eq!(threads(&[]), Ok(vec![None]));
    assert_eq!(threads(&["--threads", "3"]), Ok(vec![None; 3]));
    assert_eq!(threads(&["--cpus", "1,3-4"]), Ok(vec![Some(1), Some(3), Some(4)]));
    assert_eq!(threads(&["--cpus", "0-1", "--threads", "3"]), Ok(vec![Some(0), Some(1), Some(0)]));
    assert!(threads(&["--cpus", "0-2", "--threads", "2"]).unwrap_err().contains("3 CPUs for 2 threads"));
    assert!(threads(&["--cpus", "0-2,1"]).unwrap_err().contains("CPU 1 is named twice"));
}

#[test]
fn a_run_is_prepared_or_told_what_it_lacks() {
    let prepared = run(&["idle", "--set", "connections=10", "--host", "127.0.0.5:99,[::1]"]).prepare().unwrap();
    assert_eq!(prepared.means.hosts, ["127.0.0.5:99".parse().unwrap(), "[::1]:1883".parse().unwrap()]);
    assert_eq!((prepared.plan.groups[0].count, prepared.means.cpus), (10, vec![None]));
    let sources = run(&["idle", "--source-ips", "127.0.0.2-4,127.0.0.3"]).options.generator.sources();
    assert_eq!(sources.len(), 3);
    let error = run(&["conn-tcp-1M-5K"]).prepare().unwrap_err().to_string();
    assert!(error.contains("--threads ") && error.contains("--source-ips 127.0.0.2-127.0.0."), "{error}");
}

#[test]
fn a_preset_in_the_place_of_a_command_is_run() {
    let read = |words: &[&str]| Cli::read(words.iter().map(Into::into));
    let Command::Run(run) = read(&["ringmq-loadgen", "connect", "--quiet"]).unwrap().command else { panic!() };
    assert!(run.scenario == "connect" && run.options.output.quiet);
    assert!(matches!(read(&["ringmq-loadgen", "list"]).unwrap().command, Command::List));
    assert!(read(&["ringmq-loadgen", "mine.toml"]).is_err());
    let commands = Cli::command();
    let mut commands = commands.get_subcommands().map(clap::Command::get_name);
    assert!(commands.all(|command| Scenario::presets().all(|scenario| scenario.name() != command)));
}

#[test]
fn list_has_a_line_for_every_preset() {
    let mut output = Vec::new();
    list(&mut output).unwrap();
    let text = String::from_utf8(output).unwrap();
    assert_eq!(text.lines().count(), Scenario::presets().count());
    for (line, scenario) in text.lines().zip(Scenario::presets()) {
        assert!(line.starts_with(scenario.name()) && line.ends_with(&scenario.about().unwrap()), "{line}");
    }
}

#[test]
fn what_show_prints_is_a_document_that_reads() {
    let mut output = Vec::new();
    show("factory", &mut output).unwrap();
    let text = String::from_utf8(output).unwrap();
    assert!(text.starts_with("# A plant by ISA-95"));
    Scenario::from_text("factory.toml", text).read(&crate::plan::Overrides::default()).unwrap();
    assert!(show("factori", &mut Vec::new()).unwrap_err().to_string().contains("did you mean factory?"));
}

/// The README's table, as it should be.
fn table() -> String {
    let row = |scenario: Scenario| {
        let parameters = scenario
            .parameters()
            .unwrap()
            .into_iter()
            .map(|(name, value)| format!("`{name}={}`", value.replace('|', "\\|")));
        format!(
            "| `{}` | {} | {} |\n",
            scenario.name(),
            scenario.about().unwrap(),
            parameters.collect::<Vec<_>>().join(" ")
        )
    };
    let head = "| Scenario | What it does | Parameters and their defaults |\n|-|-|-|\n".to_owned();
    head + &Scenario::presets().map(row).collect::<String>()
}

#[test]
fn the_readmes_table_is_what_list_says() {
    let readme = include_str!("../../README.md");
    let start = readme.find("| Scenario |").expect("the README has a table of scenarios");
    let end = readme[start..].find("\n\n").map_or(readme.len(), |length| start + length + 1);
    assert!(readme[start..end] == table(), "the table in loadgen/README.md should be:\n\n{}", table());
}

#[test]
fn the_readmes_document_reads() {
    let readme = include_str!("../../README.md");
    let start = readme.find("```toml\n").expect("the README has a document") + "```toml\n".len();
    let text = &readme[start..start + readme[start..].find("```").unwrap()];
    let plan = Scenario::from_text("thermometers.toml", text.to_owned()).read(&crate::plan::Overrides::default());
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((plan.groups[1].count, plan.groups[0].keep_alive), (500, 60));
}
