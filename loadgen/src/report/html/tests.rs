//! Pages hold everything and need nothing.

use serde_json::Value;

use super::super::samples;
use super::*;

fn runs() -> Vec<Labelled> {
    ["base", "new <one>"].map(|label| Labelled { label: label.to_owned(), report: samples::report() }).into()
}

/// Attributes and rules by which a page would load something.
fn loads(page: &str) -> Vec<&str> {
    ["src=", "href=", "url(", "@import", "fetch(", "http://", "https://"]
        .into_iter()
        .filter(|way| page.contains(way))
        .collect()
}

#[test]
fn a_page_loads_nothing() {
    assert_eq!(loads(&page(&samples::report())), [""; 0]);
    assert_eq!(loads(&overlay(&runs())), [""; 0]);
}

fn numbers(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Number(number) => found.push(number.to_string()),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| numbers(value, found)),
        _ => {}
    }
}

#[test]
fn every_number_of_the_summary_is_on_the_page() {
    let report = samples::report();
    let page = page(&report);
    let mut all = Vec::new();
    numbers(&serde_json::to_value(&report.summary).unwrap(), &mut all);
    assert!(all.len() > 60);
    let missing: Vec<_> = all.iter().filter(|number| !page.contains(number.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for figure in ["400,004 (100,001 /s)", "1.23 ms", "8.50 µs", "1,024 B", "0: 70.0 %, 1: 62.0 %"] {
        assert!(page.contains(figure), "{figure}");
    }
}

#[test]
fn circumstances_are_on_the_page() {
    let page = page(&samples::report());
    for part in [
        "--password ***",
        "Linux 6.18.0",
        "net.core.somaxconn",
        "0123456789ab",
        "p2p/%i (QoS 1, 64 bytes",
        "2026-01-02",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("A CPU &lt;at&gt; 2 GHz"), "text is not escaped");
}

#[test]
fn each_plot_is_there_when_it_has_data() {
    let mut report = samples::report();
    let titles = |report: &Report| plots::of_run(report).iter().filter(|chart| !chart.draw().0.is_empty()).count();
    assert_eq!(titles(&report), 9, "all but connects per second: nobody connected");
    report.broker_series.clear();
    assert_eq!(titles(&report), 5);
    let page = page(&report);
    assert!(!page.contains("Broker CPU</h3>") && page.contains("Generator CPU</h3>"));
}

#[test]
fn warnings_and_failures_come_first() {
    let mut report = samples::report();
    report.warnings.push("take care".to_owned());
    report.summary.faults.lost_qos2 = 4_321;
    let page = page(&report);
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing"));
    assert!(at("1 check failed") < at("take care") && at("4,321") < at("take care") && at("take care") < at("<svg"));
    assert!(!page.contains("All checks passed"));
}

#[test]
fn an_overlay_has_a_line_per_run() {
    let page = overlay(&runs());
    assert!(page.contains("new &lt;one&gt;") && page.contains("<small>1.00×"));
    assert!(!page.contains("plans of these runs differ"));
    let mut different = runs();
    different[1].report.plan.groups[0].count = 7;
    assert!(overlay(&different).contains("plans of these runs differ"));
    let chart = &plots::of_runs(&runs())[0];
    assert_eq!(chart.lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(), ["base", "new <one>"]);
}
