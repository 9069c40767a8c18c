//! `report.html`: a run on one page that needs nothing else, neither files nor a network; for screens of any size,
//! light and dark.

mod chart;
mod data;
mod plots;
mod scale;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::side_by_side::{Labelled, PLANS_DIFFER, compared, plans_differ};
use super::units::{Bytes, Count, Digits, Micros};
use super::{Report, Verdict};

/// A browser holds the page to it: nothing is loaded from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page of one run.
pub fn page(report: &Report) -> String {
    let verdict = report.verdict();
    let body = html! {
        (head(report, &verdict))
        (notes(report, &verdict))
        (tiles(report))
        h2 { "Over time" }
        div.charts { @for chart in plots::of_run(report) { (chart.draw()) } }
        (tables::figures(report))
        (tables::circumstances(report))
        footer { "ringmq-loadgen " (report.about.version) @if let Some(commit) = &report.about.commit { " (" (commit) ")" } }
    };
    document(&format!("{}: load run", report.plan.name), &body)
}

/// The page of several runs over each other.
pub fn overlay(runs: &[Labelled]) -> String {
    let lines = compared(runs);
    let body = html! {
        header {
            h1 { "Runs side by side" }
            p { "Ratios are to " b { (runs.first().map_or("", |run| &run.label)) } "." }
        }
        @if plans_differ(runs) { div.note.warn { (PLANS_DIFFER) } }
        @for run in runs {
            @for warning in &run.report.warnings { div.note.warn { b { (run.label) } ": " (warning) } }
        }
        div.card.wide {
            table.figures {
                thead { tr { th {} @for run in runs { th { (run.label) } } } }
                tbody {
                    @for line in &lines {
                        tr {
                            th { (line.name) }
                            @for (index, (figure, ratio)) in line.cells.iter().enumerate() {
                                td { (figure) @if let Some(ratio) = ratio.filter(|_| index > 0) { small { (Digits(ratio)) "×" } } }
                            }
                        }
                    }
                }
            }
        }
        h2 { "Over time" }
        div.charts { @for chart in plots::of_runs(runs) { (chart.draw()) } }
        h2 { "Commands" }
        @for run in runs {
            h3 { (run.label) }
            div.card { pre.command { (run.report.about.command) } }
            p.facts { span { (run.report.about.ended) } span { (run.report.host.kernel) } span { (run.report.host.cpu) } }
        }
    };
    document("Runs side by side", &body)
}

fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                main { (body) }
                script { (PreEscaped(include_str!("script.js"))) }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report, verdict: &Verdict) -> Markup {
    let time = report.summary.time;
    html! {
        header {
            div.top {
                h1 { (report.plan.name) }
                @if verdict.passed() {
                    span.badge.good { @if report.summary.verified { "All checks passed" } @else { "No failures" } }
                } @else {
                    span.badge.bad { (verdict.failed.len()) @if verdict.failed.len() == 1 { " check" } @else { " checks" } " failed" }
                }
            }
            p { (report.plan.about) }
            div.facts {
                span { "Broker at " (report.about.target.join(" ")) }
                span { (format!("{:.1} s measured after {:.1} s warm-up", time.window_seconds, report.warm_up_seconds())) }
                span { (report.about.ended) }
                span { (report.host.name) ", " (report.host.kernel) }
            }
        }
    }
}

fn notes(report: &Report, verdict: &Verdict) -> Markup {
    html! {
        @if !verdict.passed() || !report.failures.is_empty() {
            div.note.bad {
                ul {
                    @for finding in &verdict.failed { li { b { (Count(finding.count as f64)) } " " (finding.what) } }
                    @for failure in &report.failures { li { (failure) } }
                }
            }
        }
        @for warning in &report.warnings { div.note.warn { (warning) } }
    }
}

/// The figures that most readers come for.
fn tiles(report: &Report) -> Markup {
    let summary = &report.summary;
    let broker = summary.broker.as_ref();
    let rate = |per_second: f64| (per_second > 0.0).then(|| format!("{} /s", Count(per_second.round())));
    let time = |us: Option<f64>| us.map(|us| Micros(us).to_string());
    let delivered = summary.messages.delivered.per_second;
    let tiles = [
        ("Clients in", Some(Count(summary.connect.ready_max as f64).to_string())),
        ("Delivered", rate(delivered)),
        ("Published", rate(summary.messages.published.per_second).filter(|_| delivered == 0.0)),
        ("Connects", summary.connect.per_second.and_then(rate).filter(|_| delivered == 0.0)),
        ("Latency p50", time(summary.latency.map(|times| times.p50_us))),
        ("Latency p99", time(summary.latency.map(|times| times.p99_us))),
        ("Latency p99.9", time(summary.latency.map(|times| times.p999_us))),
        ("Broker CPU per message", time(broker.and_then(|broker| broker.cpu_us_per_message))),
        ("Broker CPU per connect", time(broker.and_then(|broker| broker.connect_cpu_us)).filter(|_| delivered == 0.0)),
        ("Broker RSS", broker.map(|broker| Bytes(broker.rss_after_bytes as f64).to_string())),
        (
            "RSS per connection",
            broker.and_then(|broker| broker.rss_per_connection_bytes).map(|each| Bytes(each).to_string()),
        ),
    ];
    html! {
        div.tiles {
            @for (name, figure) in tiles {
                @if let Some((number, unit)) = figure.as_ref().map(|figure| figure.split_once(' ').unwrap_or((figure, ""))) {
                    div.card.tile { span { (name) } b { (number) " " small { (unit) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
