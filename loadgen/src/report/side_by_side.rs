//! Stored runs side by side: each figure with its ratio to the first run's.

use std::fmt::Write;

use super::Report;
use super::units::{Bytes, Count, Digits, Micros};
use crate::measure::quantiles::Times;

/// A report and what to call it.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Its name in tables and legends.
    pub label: String,
    /// The run.
    pub report: Report,
}

/// How a figure is written.
#[derive(Clone, Copy)]
enum Unit {
    Micros,
    Bytes,
    Count,
    Digits,
}

/// A line of the table: name, unit, and the figure of a report.
type Line = (&'static str, Unit, fn(&Report) -> Option<f64>);

const LINES: [Line; 24] = [
    ("published /s", Unit::Count, |report| positive(report.summary.messages.published.per_second)),
    ("delivered /s", Unit::Count, |report| positive(report.summary.messages.delivered.per_second)),
    ("acknowledged /s", Unit::Count, |report| positive(report.summary.messages.acknowledged.per_second)),
    ("latency p50", Unit::Micros, |report| latency(report, |times| times.p50_us)),
    ("latency p90", Unit::Micros, |report| latency(report, |times| times.p90_us)),
    ("latency p99", Unit::Micros, |report| latency(report, |times| times.p99_us)),
    ("latency p99.9", Unit::Micros, |report| latency(report, |times| times.p999_us)),
    ("latency p99.99", Unit::Micros, |report| latency(report, |times| times.p9999_us)),
    ("latency max", Unit::Micros, |report| latency(report, |times| times.max_us)),
    ("ack p50", Unit::Micros, |report| Some(report.summary.acknowledged?.p50_us)),
    ("ack p99", Unit::Micros, |report| Some(report.summary.acknowledged?.p99_us)),
    ("connects /s", Unit::Count, |report| report.summary.connect.per_second),
    ("connect p50", Unit::Micros, |report| Some(report.summary.connect.times?.p50_us)),
    ("connect p99", Unit::Micros, |report| Some(report.summary.connect.times?.p99_us)),
    ("broker CPU / message", Unit::Micros, |report| report.summary.broker.as_ref()?.cpu_us_per_message),
    ("broker switches / message", Unit::Digits, |report| report.summary.broker.as_ref()?.switches_per_message),
    ("broker instr. / message", Unit::Count, |report| report.summary.broker.as_ref()?.instructions_per_message),
    ("broker % of a core", Unit::Digits, |report| Some(report.summary.broker.as_ref()?.busy_percent)),
    ("broker CPU / connect", Unit::Micros, |report| report.summary.broker.as_ref()?.connect_cpu_us),
    ("broker RSS after", Unit::Bytes, |report| Some(report.summary.broker.as_ref()?.rss_after_bytes as f64)),
    ("broker RSS / connection", Unit::Bytes, |report| report.summary.broker.as_ref()?.rss_per_connection_bytes),
    ("kernel / connection", Unit::Bytes, |report| report.summary.kernel.slab_per_connection_bytes),
    ("generator CPU / message", Unit::Micros, |report| report.summary.generator.cpu_us_per_message),
    ("failed checks", Unit::Count, |report| Some(report.verdict().failed.len() as f64)),
];

fn positive(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn latency(report: &Report, figure: fn(&Times) -> f64) -> Option<f64> {
    report.summary.latency.as_ref().map(figure)
}

/// A line with at least one figure: its name, and per run the figure and its ratio to the first run's.
pub(super) struct Compared {
    pub name: &'static str,
    pub cells: Vec<(String, Option<f64>)>,
}

/// The table's lines that have anything to say.
pub(super) fn compared(runs: &[Labelled]) -> Vec<Compared> {
    let line = |&(name, unit, figure): &Line| {
        let figures: Vec<Option<f64>> = runs.iter().map(|run| figure(&run.report)).collect();
        let first = figures.first().copied().flatten().filter(|first| *first > 0.0);
        let ratio = |value: Option<f64>| value.zip(first).map(|(value, first)| value / first);
        let cells = figures.iter().map(|&value| (written(unit, value), ratio(value))).collect();
        figures.iter().any(Option::is_some).then_some(Compared { name, cells })
    };
    LINES.iter().filter_map(line).collect()
}

fn written(unit: Unit, value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    match unit {
        Unit::Micros => Micros(value).to_string(),
        Unit::Bytes => Bytes(value).to_string(),
        Unit::Count => Count(value.round()).to_string(),
        Unit::Digits => Digits(value).to_string(),
    }
}

/// Columns of a run: the figure and, from the second on, its ratio.
const FIGURE: usize = 12;
const RATIO: usize = 8;
const NAME: usize = 26;

/// Runs of a block: with more, lines would be wider than 100 columns.
const RUNS_PER_BLOCK: usize = 4;

/// The table for people. Its first run is what the ratios are to; more than four runs make several tables.
pub fn side_by_side(runs: &[Labelled]) -> String {
    let lines = compared(runs);
    let mut text = String::new();
    let others: Vec<usize> = (1..runs.len()).collect();
    let blocks: Vec<&[usize]> = if others.is_empty() { vec![&[]] } else { others.chunks(RUNS_PER_BLOCK - 1).collect() };
    for (index, block) in blocks.into_iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        self::block(&mut text, runs, &lines, block);
    }
    if plans_differ(runs) {
        let _ = writeln!(text, "\nWARNING: {PLANS_DIFFER}");
    }
    for run in runs {
        for warning in &run.report.warnings {
            let _ = writeln!(text, "WARNING {}: {warning}", run.label);
        }
    }
    text
}

/// The first run and some others. Writing to a String can't fail.
fn block(text: &mut String, runs: &[Labelled], lines: &[Compared], others: &[usize]) {
    let Some(first) = runs.first() else { return };
    let _ = write!(text, "{:<NAME$}{:>FIGURE$}", "", short(&first.label, FIGURE));
    for &other in others {
        let _ = write!(text, "{:>width$}", short(&runs[other].label, FIGURE + RATIO - 2), width = FIGURE + RATIO);
    }
    text.push('\n');
    for Compared { name, cells } in lines {
        let _ = write!(text, "{name:<NAME$}{:>FIGURE$}", cells[0].0);
        for &other in others {
            let (figure, ratio) = &cells[other];
            let ratio = ratio.map_or(String::new(), |ratio| format!("{}×", Digits(ratio)));
            let _ = write!(text, "{figure:>FIGURE$}{ratio:>RATIO$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
}

/// The end of a label that is too long: file names differ there.
fn short(label: &str, width: usize) -> String {
    let count = label.chars().count();
    if count <= width {
        return label.to_owned();
    }
    "…".to_owned() + &label.chars().skip(count - width + 1).collect::<String>()
}

/// What is told when runs did not do the same.
pub const PLANS_DIFFER: &str = "the plans of these runs differ, so their figures may not be comparable";

/// Whether any two of the runs did something different.
pub fn plans_differ(runs: &[Labelled]) -> bool {
    runs.windows(2).any(|pair| pair[0].report.plan != pair[1].report.plan)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn runs(count: usize) -> Vec<Labelled> {
        let run = |index: usize| {
            let mut report = samples::report();
            report.summary.broker.as_mut().unwrap().cpu_us_per_message = Some(8.5 / (index + 1) as f64);
            Labelled { label: format!("run-{index}"), report }
        };
        (0..count).map(run).collect()
    }

    fn line<'a>(table: &'a str, name: &str) -> &'a str {
        table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in\n{table}"))
    }

    #[test]
    fn ratios_are_to_the_first_run() {
        let table = side_by_side(&runs(3));
        let words: Vec<_> = line(&table, "broker CPU / message").split_whitespace().skip(4).collect();
        assert_eq!(words, ["8.50", "µs", "4.25", "µs", "0.500×", "2.83", "µs", "0.333×"]);
        assert!(line(&table, "latency p99 ").contains("1.00×"));
        assert!(!table.contains("broker instr."), "a line without a figure is left out");
        assert!(!table.contains("WARNING"), "{table}");
    }

    #[test]
    fn many_runs_make_several_tables_within_the_width() {
        let mut runs = runs(9);
        runs[3].label = "a/very/long/path/to/a/certain/result.json".to_owned();
        let table = side_by_side(&runs);
        assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
        assert_eq!(table.matches("latency max").count(), 3);
        assert!((0..9).filter(|index| *index != 3).all(|index| table.contains(&format!("run-{index}"))));
    }

    #[test]
    fn different_plans_and_each_runs_warnings_are_told() {
        let mut runs = runs(2);
        runs[1].report.plan.groups[0].count = 7;
        runs[1].report.warnings.push("take care".to_owned());
        let table = side_by_side(&runs);
        assert!(table.contains("plans of these runs differ") && table.contains("WARNING run-1: take care"), "{table}");
    }
}
