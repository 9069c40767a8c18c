//! Which charts a page has.

use super::super::Report;
use super::super::side_by_side::Labelled;
use super::chart::{Chart, Line, nines};
use super::data::{Lines, distribution, seconds_per_point};
use super::scale::{Scale, Unit};

/// The charts of one run.
pub fn of_run(report: &Report) -> Vec<Chart> {
    let lines = Lines { report, origin: 0.0 };
    let over_time = OverTime::of_run(report);
    let latency = vec![
        lines.latency("p50", |latency| latency.p50_us),
        lines.latency("p99", |latency| latency.p99_us),
        lines.latency("p99.9", |latency| latency.p999_us),
    ];
    let messages = vec![
        lines.rate("published", |row| row.counts.published),
        lines.rate("delivered", |row| row.counts.delivered),
        lines.rate("acknowledged", |row| row.counts.acknowledged),
    ];
    let ready = vec![lines.level("connections", |row| row.ready as f64)];
    let connects =
        vec![lines.rate("connects", |row| row.counts.connected), lines.rate("ends", |row| row.counts.disconnected)];
    let host = |title, note: &str, unit, line| over_time.linear(title, note, unit, vec![line]);
    vec![
        over_time.linear("Messages per second", "", Unit::Count, messages),
        over_time.logarithmic("Latency", &worst(report), latency),
        distributions("Latency by percentile", "in the measured window; connects: of all", own_distributions(report)),
        over_time.linear("Connections", "clients that are in", Unit::Count, ready),
        over_time.linear("Connects per second", "", Unit::Count, connects),
        host(
            "Broker CPU",
            "all threads, in percent of one core",
            Unit::Percent,
            lines.broker("broker", |at| at.busy_percent),
        ),
        host("Broker memory", "resident set", Unit::Bytes, lines.broker("RSS", |at| at.rss_bytes as f64)),
        host(
            "Memory per connection",
            "growth of the resident set by the clients that are in",
            Unit::Bytes,
            lines.memory_each("RSS per connection"),
        ),
        host(
            "Context switches per second",
            "of the broker",
            Unit::Count,
            lines.broker("switches", |at| at.switches_per_second),
        ),
        over_time.linear("Generator CPU", "each thread, in percent of its core", Unit::Percent, lines.generator()),
    ]
}

/// The charts of several runs over each other, each from the start of its window.
pub fn of_runs(runs: &[Labelled]) -> Vec<Chart> {
    let over_time = OverTime::of_runs(runs);
    let each = |line: &dyn Fn(&Lines<'_>, &str) -> Line| {
        let of = |run: &Labelled| {
            line(&Lines { report: &run.report, origin: run.report.summary.time.window_at.0 }, &run.label)
        };
        runs.iter().map(of).collect::<Vec<_>>()
    };
    let distribution_of = |run: &Labelled| distribution(&run.label, &run.report.distributions.latency);
    let by_percentile = runs.iter().map(distribution_of).collect();
    vec![
        distributions("Latency by percentile", "in the measured window", by_percentile),
        over_time.linear(
            "Deliveries per second",
            "",
            Unit::Count,
            each(&|run, name| run.rate(name, |row| row.counts.delivered)),
        ),
        over_time.logarithmic("Latency, median", "", each(&|run, name| run.latency(name, |latency| latency.p50_us))),
        over_time.logarithmic("Latency, p99", "", each(&|run, name| run.latency(name, |latency| latency.p99_us))),
        over_time.linear(
            "Broker CPU",
            "all threads, in percent of one core",
            Unit::Percent,
            each(&|run, name| run.broker(name, |point| point.busy_percent)),
        ),
        over_time.linear(
            "Broker memory",
            "resident set",
            Unit::Bytes,
            each(&|run, name| run.broker(name, |point| point.rss_bytes as f64)),
        ),
        over_time.linear(
            "Memory per connection",
            "growth of the resident set",
            Unit::Bytes,
            each(&|run, name| run.memory_each(name)),
        ),
        over_time.linear("Connections", "", Unit::Count, each(&|run, name| run.level(name, |row| row.ready as f64))),
    ]
}

fn worst(report: &Report) -> String {
    match seconds_per_point(report.series.len()) {
        1 => "each second's own; the scale is logarithmic".to_owned(),
        seconds => format!("the worst of each {seconds} s; the scale is logarithmic"),
    }
}

fn own_distributions(report: &Report) -> Vec<Line> {
    let of = &report.distributions;
    let all = [("delivery", &of.latency), ("acknowledgement", &of.acknowledged), ("connect", &of.connect)];
    all.into_iter().filter(|(_, points)| !points.is_empty()).map(|(name, points)| distribution(name, points)).collect()
}

fn distributions(title: &'static str, note: &str, lines: Vec<Line>) -> Chart {
    let most = lines.iter().filter_map(|line| line.points.last()).map(|point| point.0).fold(1.0, f64::max);
    let x = nines(10f64.powf(most) as u64);
    Chart { title, note: note.to_owned(), x, y: logarithmic(&lines), lines, window: None }
}

fn logarithmic(lines: &[Line]) -> Scale {
    let values = lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    Scale::logarithmic(Unit::Micros, values.filter(|us| us.is_finite() && *us > 0.0))
}

/// What charts over the same time share.
struct OverTime {
    x: Scale,
    window: Option<(f64, f64)>,
}

impl OverTime {
    fn of_run(report: &Report) -> Self {
        let end = report.series.last().map_or(1.0, |row| row.at + row.seconds);
        let window = report.summary.time.window_at;
        Self { x: Scale::exact(Unit::Seconds, 0.0, end), window: (window.1 > window.0).then_some(window) }
    }

    fn of_runs(runs: &[Labelled]) -> Self {
        let edges = |run: &Labelled| {
            let (begin, end) = run.report.summary.time.window_at;
            let last = run.report.series.last().map_or(1.0, |row| row.at + row.seconds);
            (-begin, last - begin, end - begin)
        };
        let (mut from, mut to, mut window): (f64, f64, f64) = (0.0, 0.0, f64::MAX);
        for (start, last, end) in runs.iter().map(edges) {
            (from, to, window) = (from.min(start), to.max(last), window.min(end));
        }
        Self { x: Scale::exact(Unit::Seconds, from, to), window: (window < f64::MAX).then_some((0.0, window)) }
    }

    fn linear(&self, title: &'static str, note: &str, unit: Unit, lines: Vec<Line>) -> Chart {
        let something = |line: &Line| line.points.iter().any(|point| point.1.is_finite() && point.1 > 0.0);
        let lines: Vec<Line> = lines.into_iter().filter(something).collect();
        let values = lines.iter().flat_map(|line| &line.points).map(|point| point.1).filter(|value| value.is_finite());
        let y = Scale::linear(unit, values);
        Chart { title, note: note.to_owned(), x: self.x, y, lines, window: self.window }
    }

    fn logarithmic(&self, title: &'static str, note: &str, lines: Vec<Line>) -> Chart {
        let lines: Vec<Line> =
            lines.into_iter().filter(|line| line.points.iter().any(|point| point.1.is_finite())).collect();
        Chart { title, note: note.to_owned(), x: self.x, y: logarithmic(&lines), lines, window: self.window }
    }
}
