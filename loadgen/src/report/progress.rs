//! What a running run shows: a few live lines on a terminal, else a plain line now and then. On standard error, so
//! that the summary on standard output stays clean.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::units::{Bytes, Count, Digits, Micros, Or};
use super::watch::BrokerPoint;
use crate::engine::{Phase, Status};
use crate::measure::Counts;
use crate::measure::recorder::Row;
use crate::plan::Plan;

/// How often the live lines change.
const REDRAWN: Duration = Duration::from_millis(200);

/// How far apart plain lines are.
const PLAIN: Duration = Duration::from_secs(5);

/// Where progress goes.
enum Output {
    Live(ProgressBar),
    Plain,
    Nowhere,
}

/// A run's progress display.
pub struct Progress {
    output: Output,
    clients: u64,
    warm_up: Duration,
    window: Duration,
    /// Which phase it is in, and since when.
    phase: Option<(Phase, Duration)>,
    next: Duration,
}

impl Progress {
    /// Live on a terminal, plain lines elsewhere.
    pub fn new(plan: &Plan) -> Self {
        let live = std::io::stderr().is_terminal();
        Self::to(if live { Output::Live(bar()) } else { Output::Plain }, plan)
    }

    /// Shows nothing.
    pub fn none(plan: &Plan) -> Self {
        Self::to(Output::Nowhere, plan)
    }

    fn to(output: Output, plan: &Plan) -> Self {
        Self {
            output,
            clients: plan.groups.iter().map(|group| u64::from(group.count)).sum(),
            warm_up: plan.timing.warm_up,
            window: plan.timing.window,
            phase: None,
            next: Duration::ZERO,
        }
    }

    /// A boundary is passed.
    pub(super) fn phase(&mut self, phase: Phase, at: Duration) {
        self.phase = Some((phase, at));
        self.next = at;
    }

    /// Where the run stands at a time of its clock.
    pub(super) fn show(&mut self, now: Duration, status: &Status, rows: &[Row], broker: Option<&BrokerPoint>) {
        if now < self.next {
            return;
        }
        match &self.output {
            Output::Live(bar) => {
                self.next = now + REDRAWN;
                let (done, of) = self.share(now, status);
                bar.set_length((of * 1e3) as u64);
                bar.set_position((done * 1e3) as u64);
                bar.set_prefix(self.title(now));
                bar.set_message(lines(self.clients, status, rows, broker));
            }
            Output::Plain => {
                self.next = now + PLAIN;
                eprintln!("{}", self.plain_line(now, status, rows, broker));
            }
            Output::Nowhere => {}
        }
    }

    /// Takes the live lines away, so that the summary stands in their place.
    pub(super) fn clear(&self) {
        if let Output::Live(bar) = &self.output {
            bar.finish_and_clear();
        }
    }

    /// How much of the phase is over, of how much: clients while they come in, seconds after that.
    fn share(&self, now: Duration, status: &Status) -> (f64, f64) {
        let since = |start: Duration| now.saturating_sub(start).as_secs_f64();
        match self.phase {
            None | Some((Phase::Connecting, _)) => (status.arrived as f64, self.clients as f64),
            Some((Phase::Warm, start)) => (since(start), self.warm_up.as_secs_f64()),
            Some((Phase::WindowBegins, start)) => (since(start), self.window.as_secs_f64()),
            Some(_) => (1.0, 1.0),
        }
    }

    fn title(&self, now: Duration) -> String {
        let of = |start: Duration, length: Duration| {
            let gone = now.saturating_sub(start).as_secs_f64();
            format!("{gone:.0} of {:.0} s", length.as_secs_f64())
        };
        match self.phase {
            None | Some((Phase::Connecting, _)) => "connecting".to_owned(),
            Some((Phase::Connected, _)) => "connected".to_owned(),
            Some((Phase::Warm, start)) => format!("warm-up, {}", of(start, self.warm_up)),
            Some((Phase::WindowBegins, start)) => format!("measuring, {}", of(start, self.window)),
            Some((Phase::WindowEnds, _)) => "draining".to_owned(),
            Some((Phase::Drained, _)) => "leaving".to_owned(),
            Some((Phase::Left, _)) => "done".to_owned(),
        }
    }

    fn plain_line(&self, now: Duration, status: &Status, rows: &[Row], broker: Option<&BrokerPoint>) -> String {
        let in_ = format!("{} of {} in", Count(status.ready as f64), Count(self.clients as f64));
        let mut line = format!("{:>7.1} s  {:<24} {in_}", now.as_secs_f64(), self.title(now));
        // Writing to a String can't fail.
        if let Some(row) = rows.last() {
            let [out, in_] = [row.counts.published, row.counts.delivered].map(|count| Count(per_second(count, row)));
            let _ = write!(line, ", {out}/s sent, {in_}/s delivered");
            if let Some(latency) = row.latency {
                let _ = write!(line, ", p50 {}, p99 {}", Micros(latency.p50_us), Micros(latency.p99_us));
            }
        }
        if let Some(point) = broker {
            let _ = write!(line, ", broker {:.0} % CPU, {}", point.busy_percent, Bytes(point.rss_bytes as f64));
        }
        let errors = errors(rows);
        if errors > 0 {
            let _ = write!(line, ", {} errors", Count(errors as f64));
        }
        line
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40.cyan/dim} {prefix:.bold}\n{msg}")
        .expect("a constant template")
        .progress_chars("━╸─");
    ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr()).with_style(style)
}

/// The live lines below the bar.
fn lines(clients: u64, status: &Status, rows: &[Row], broker: Option<&BrokerPoint>) -> String {
    let row = rows.last();
    let rate = |field: fn(&Counts) -> u64| Or(row.map(|row| Count(per_second(field(&row.counts), row))));
    let (connected, published) = (rate(|counts| counts.connected), rate(|counts| counts.published));
    let (delivered, acknowledged) = (rate(|counts| counts.delivered), rate(|counts| counts.acknowledged));
    let latency = row.and_then(|row| row.latency);
    let [p50, p99] = [latency.map(|l| l.p50_us), latency.map(|l| l.p99_us)].map(|us| Or(us.map(Micros)));
    let (ready, all) = (Count(status.ready as f64), Count(clients as f64));
    let busiest = row.and_then(|row| row.generator_percent.iter().copied().reduce(f32::max));
    let generator = Or(busiest.map(|busy| Digits(f64::from(busy))));
    let mut text = format!("  connections {ready:>12} of {all}   {connected}/s   {} failed\n", failed(rows));
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "  messages    {published:>12}/s sent   {delivered}/s delivered   {acknowledged}/s acknowledged"
    );
    let _ = writeln!(text, "  latency     {p50:>12} p50    {p99} p99");
    let _ = write!(text, "  CPU         {generator:>12} % of the busiest generator thread");
    if let Some(point) = broker {
        let _ = write!(text, "   broker {:.0} %, {}", point.busy_percent, Bytes(point.rss_bytes as f64));
    }
    text
}

fn per_second(count: u64, row: &Row) -> f64 {
    (count as f64 / row.seconds).round()
}

fn failed(rows: &[Row]) -> Count {
    Count(rows.iter().map(|row| row.counts.connect_failed + row.counts.dropped).sum::<u64>() as f64)
}

fn errors(rows: &[Row]) -> u64 {
    let of = |counts: &Counts| counts.connect_failed + counts.refused + counts.dropped + counts.rejected;
    rows.iter().map(|row| of(&row.counts)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn at(phase: Phase, since: u64) -> Progress {
        let mut progress = Progress::none(&samples::plan());
        progress.phase(phase, Duration::from_secs(since));
        progress
    }

    #[test]
    fn a_plain_line_says_phase_rates_latency_and_broker() {
        let report = samples::report();
        let status = Status { ready: 200, ..Status::default() };
        let point = report.broker_series.first();
        let line = at(Phase::WindowBegins, 2).plain_line(Duration::from_secs(4), &status, &report.series[..3], point);
        assert_eq!(
            line,
            "    4.0 s  measuring, 2 of 4 s      200 of 200 in, 100,000/s sent, 100,001/s delivered, \
             p50 50.0 µs, p99 99.0 µs, broker 85 % CPU, 8.20 MiB"
        );
    }

    #[test]
    fn errors_are_told_when_there_are_some() {
        let mut rows = samples::report().series;
        rows[0].counts.dropped = 2;
        rows[1].counts.rejected = 1;
        let line = at(Phase::Connecting, 0).plain_line(Duration::ZERO, &Status::default(), &rows, None);
        assert!(line.ends_with(", 3 errors"), "{line}");
    }

    #[test]
    fn the_live_lines_are_five_and_narrow() {
        let report = samples::report();
        let text = lines(
            1_000_000,
            &Status { ready: 999_999, ..Status::default() },
            &report.series,
            report.broker_series.last(),
        );
        assert!(text.contains("999,999 of 1,000,000") && text.contains("99.0 µs p99"), "{text}");
        assert!(text.lines().count() == 4 && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn the_bar_counts_clients_first_and_seconds_then() {
        let status = Status { arrived: 50, ..Status::default() };
        assert_eq!(at(Phase::Connecting, 0).share(Duration::from_secs(9), &status), (50.0, 200.0));
        assert_eq!(at(Phase::WindowBegins, 2).share(Duration::from_secs(3), &status), (1.0, 4.0));
    }
}
