//! Medians of rounds, ratios to the baseline, and the table that shows them beside the bars.

use std::fmt::Write;

use serde::Serialize;

use crate::compare::Round;
use crate::report::{BrokerCost, Or, Report};
use crate::scenario::{Bar, Name};

/// A scenario on a broker: medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Row {
    scenario: &'static str,
    broker: String,
    rounds: usize,
    cpu_us_per_message: Option<f64>,
    /// Median of the rounds' own ratios to the baseline, which take a drift of the machine out.
    ratio: Option<f64>,
    delivered_per_second: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    switches_per_message: Option<f64>,
    broker_busy_percent: Option<f64>,
    rss_per_connection: Option<f64>,
    connect_cpu_us: Option<f64>,
    generator_busy_percent: Option<f64>,
    #[serde(skip)]
    bar: Bar,
    #[serde(skip)]
    baseline: bool,
}

/// One row per scenario and broker, in the order they first ran.
pub fn summarize(rounds: &[Round], baseline: &str) -> Vec<Row> {
    let mut keys: Vec<(Name, &str)> = Vec::new();
    for round in rounds {
        let key = (round.scenario, round.broker.as_str());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.into_iter().map(|(scenario, broker)| row(rounds, scenario, broker, baseline)).collect()
}

fn row(rounds: &[Round], scenario: Name, broker: &str, baseline: &str) -> Row {
    let of = |name: &str| {
        let name = name.to_owned();
        rounds.iter().filter(move |round| round.scenario == scenario && round.broker == name)
    };
    let over = |figure: fn(&Report) -> Option<f64>| median(of(broker).filter_map(|round| figure(&round.report)));
    let ratio = |round: &Round| {
        let other = of(baseline).find(|other| other.round == round.round)?;
        Some(cpu(&round.report)? / cpu(&other.report)?)
    };
    Row {
        scenario: scenario.as_str(),
        broker: broker.to_owned(),
        rounds: of(broker).count(),
        cpu_us_per_message: over(cpu),
        ratio: median(of(broker).filter_map(ratio)),
        delivered_per_second: over(|report| Some(report.delivered_per_second)),
        p50_us: over(|report| Some(report.latency_us?.p50)),
        p99_us: over(|report| Some(report.latency_us?.p99)),
        switches_per_message: over(|report| report.broker?.switches_per_message),
        broker_busy_percent: over(|report| Some(report.broker?.busy_percent)),
        rss_per_connection: over(|report| Some(report.broker?.rss_per_connection)),
        connect_cpu_us: over(|report| report.connect.broker_cpu_us_per_client),
        generator_busy_percent: over(|report| Some(report.generator.busy_percent)),
        bar: scenario.bar(),
        baseline: broker == baseline,
    }
}

fn cpu(report: &Report) -> Option<f64> {
    report.broker.and_then(|cost: BrokerCost| cost.cpu_us_per_message)
}

/// The middle value, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

/// The table for people: traffic first, then what the idle connections cost.
pub fn table(rows: &[Row]) -> String {
    let (idle, traffic): (Vec<_>, Vec<_>) = rows.iter().partition(|row| matches!(row.bar, Bar::Idle { .. }));
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = traffic_table(&mut text, &traffic);
    let _ = idle_table(&mut text, &idle);
    text
}

fn traffic_table(text: &mut String, rows: &[&Row]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    write!(text, "{:<15}{:<12}{:>11}{:>8}{:>7}{:>6}", "scenario", "broker", "µs CPU/msg", "ratio", "bar", "")?;
    writeln!(text, "{:>11}{:>10}{:>10}{:>9}{:>8}", "msg/s", "p50 µs", "p99 µs", "csw/msg", "gen %")?;
    for row in rows {
        let (bar, verdict) = match row.bar {
            Bar::CpuRatio(bar) if !row.baseline => (format!("{bar:.3}"), verdict(row.ratio, bar)),
            _ => (String::new(), ""),
        };
        let (cpu, ratio) = (Or(row.cpu_us_per_message), Or(row.ratio));
        write!(text, "{:<15}{:<12}{cpu:>11}{ratio:>8}{bar:>7}{verdict:>6}", row.scenario, row.broker)?;
        let (rate, p50, p99) = (Or(row.delivered_per_second), Or(row.p50_us), Or(row.p99_us));
        let (switches, own) = (Or(row.switches_per_message), Or(row.generator_busy_percent));
        writeln!(text, "{rate:>11.0}{p50:>10.0}{p99:>10.0}{switches:>9}{own:>8.0}")?;
    }
    Ok(())
}

fn idle_table(text: &mut String, rows: &[&Row]) -> std::fmt::Result {
    for row in rows {
        let Bar::Idle { bytes_per_connection, cpu_percent } = row.bar else { continue };
        let (bytes, cpu) = (row.rss_per_connection, row.broker_busy_percent);
        let told = |value: Option<f64>, bar| if row.baseline { "" } else { verdict(value, bar) };
        write!(text, "{:<15}{:<12}{:>11.0} bytes of RSS per connection", row.scenario, row.broker, Or(bytes))?;
        write!(text, " (bar {bytes_per_connection:.0}) {}", told(bytes, bytes_per_connection))?;
        write!(text, ", {} % CPU (bar {cpu_percent}) {}", Or(cpu), told(cpu, cpu_percent))?;
        writeln!(text, ", connect + subscribe {} µs CPU", Or(row.connect_cpu_us))?;
    }
    Ok(())
}

fn verdict(value: Option<f64>, bar: f64) -> &'static str {
    match value {
        Some(value) if value <= bar => "ok",
        Some(_) => "OVER",
        None => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 9.0].into_iter()), Some(4.0));
        assert_eq!(median([4.0, 1.0, 9.0, 6.0].into_iter()), Some(5.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
