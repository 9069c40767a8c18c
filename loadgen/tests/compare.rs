//! Comparisons of real broker processes: this program itself, started again as a ringmq.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Parser;
use ringmq::config::Draft;
use ringmq::doctor::allowed_cpus;
use ringmq_loadgen::compare::Compare;
use serde_json::Value;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    compare: Compare,
}

/// Not a test of its own: what the other tests start as a process with `LISTEN` set.
#[test]
fn broker_process() {
    let Ok(address) = env::var("LISTEN") else { return };
    let mut draft = Draft::from_text("test.toml", "").unwrap();
    draft.listen(&[address.parse::<SocketAddr>().unwrap()]);
    draft.shards(1);
    draft.log("warn".to_owned());
    let (config, placement) = draft.check(&allowed_cpus(Path::new("/"))).unwrap();
    ringmq::cli::serve(config, placement).unwrap();
}

/// A broker under this name.
fn broker(name: &str) -> String {
    let own = env::current_exe().unwrap();
    format!("{name}=env LISTEN=127.0.0.1:{{port}} '{}' --exact broker_process --nocapture", own.display())
}

/// Runs a comparison; whether all went well, and what it wrote.
fn compare(name: &str, options: &[&str]) -> (bool, Value) {
    let json = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    let file = json.display().to_string();
    let Cli { compare } = Cli::parse_from(["compare", "--json", &file].iter().chain(options));
    let well = compare.run(&AtomicBool::new(false)).unwrap();
    (well, read(&json))
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn memory_at_start_is_measured_without_a_client() {
    let (well, results) = compare("start", &["--scenario", "start", "--rounds", "2", "--broker", &broker("ringmq")]);
    assert!(well, "{results}");
    let row = &results["medians"][0];
    assert_eq!((&row["broker"], &row["rounds"]), (&"ringmq".into(), &2.into()));
    let bytes = row["figures"]["rss_at_start"].as_f64().unwrap();
    assert!((1e6..1e9).contains(&bytes), "{bytes}");
    assert_eq!(results["bars"][0]["scenario"], "start");
}

#[test]
fn the_order_of_the_brokers_changes_from_round_to_round() {
    let (first, second) = (broker("first"), broker("second"));
    let options = ["--scenario", "start", "--rounds", "2", "--broker", &first, "--broker", &second];
    let (_, results) = compare("order", &options);
    let order: Vec<_> = results["rounds"].as_array().unwrap().iter().map(|round| &round["broker"]).collect();
    assert_eq!(order, ["first", "second", "second", "first"]);
}

#[test]
fn a_broker_that_fails_fails_the_comparison_but_not_the_others_results() {
    let good = broker("good");
    let options = ["--scenario", "start", "--rounds", "1", "--broker", "bad=false", "--broker", &good];
    let (well, results) = compare("failure", &options);
    assert!(!well);
    assert!(results["failures"][0].as_str().unwrap().contains("round 1/1 start bad"), "{results}");
    assert_eq!(results["medians"].as_array().unwrap().len(), 1);
}

#[test]
fn two_brokers_under_load_get_medians_and_the_ratio_of_their_costs() {
    let (first, second) = (broker("first"), broker("second"));
    let mut options = vec!["--scenario", "p2p", "--set", "pairs=4", "--rounds", "1", "--seconds", "0.3"];
    options.extend(["--warm-up", "0.1", "--broker", &first, "--broker", &second]);
    let (well, results) = compare("load", &options);
    assert!(well, "{results}");
    let medians = results["medians"].as_array().unwrap();
    for row in medians {
        let figure = |name: &str| row["figures"][name].as_f64().unwrap();
        assert!(figure("cpu_us_per_message") > 0.0 && figure("delivered_per_second") > 100.0, "{row}");
        assert!(figure("p50_us") <= figure("p99_us") && figure("cpu_us_per_client") > 0.0, "{row}");
    }
    assert!(medians[0]["ratio"].is_null() && medians[1]["ratio"].as_f64().unwrap() > 0.0);
}
