//! Sums up what was watched: every figure of a [`Report`] is computed here, once.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::secrets::{blanked_command, blanked_plan};
use super::watch::{Mark, Observed};
use super::{
    About, BrokerCost, Connect, Distributions, FORMAT, GeneratorCost, Host, KernelCost, Messages, Rate, Report,
    Summary, Time, warnings,
};
use crate::engine::{Conducted, Phase};
use crate::measure::broker::Reading;
use crate::measure::quantiles::{Times, curve};
use crate::measure::recorder::{Recording, Row};
use crate::plan::{Pace, Plan, Presence};

/// What a report is about, as far as no observer can see it.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What was done.
    pub plan: &'a Plan,
    /// Where the broker was.
    pub target: Vec<String>,
    /// The command line, program first.
    pub command: Vec<String>,
    /// Names of joined workers.
    pub workers: Vec<String>,
    /// Whether loss at QoS 0 makes the run a failure.
    pub strict: bool,
}

impl Report {
    /// Sums up a run.
    pub fn new(subject: &Subject<'_>, observed: Observed, conducted: &Conducted) -> Self {
        let Observed { recording, .. } = &observed;
        let passwords: Vec<&str> = subject
            .plan
            .groups
            .iter()
            .filter_map(|group| group.password.as_deref())
            .filter(|s| !s.is_empty())
            .collect();
        let summary = Sums { plan: subject.plan, observed: &observed, conducted }.summary(&passwords);
        let mut report = Self {
            format: FORMAT,
            about: About {
                target: subject.target.clone(),
                command: blanked_command(&subject.command, &passwords),
                ended: now(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: option_env!("RINGMQ_COMMIT").map(str::to_owned),
                workers: subject.workers.clone(),
            },
            host: Host::of(observed.broker.as_ref().map(|broker| broker.pid())),
            plan: blanked_plan(subject.plan),
            strict: subject.strict,
            summary,
            warnings: Vec::new(),
            failures: conducted.outcome.failures.clone(),
            distributions: Distributions {
                latency: curve(&recording.window.latency_ns),
                acknowledged: curve(&recording.window.acknowledged_ns),
                connect: curve(&recording.whole.connect_ns),
            },
            series: observed.recording.rows,
            broker_series: observed.points,
        };
        report.warnings = warnings::of(&report.plan, &report.summary);
        report.warnings.extend(observed.lost_sight.map(|why| format!("the broker's process could not be read: {why}")));
        if observed.recording.rows_cut {
            report.warnings.push("the series ends after a day; the sums do not".to_owned());
        }
        report
    }
}

fn now() -> String {
    let now: OffsetDateTime = SystemTime::now().into();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

struct Sums<'a> {
    plan: &'a Plan,
    observed: &'a Observed,
    conducted: &'a Conducted,
}

impl Sums<'_> {
    fn summary(&self, passwords: &[&str]) -> Summary {
        let Recording { window, whole, .. } = &self.observed.recording;
        let mut counts = whole.counts;
        // The ledgers' count goes to the very end; samples end a little earlier.
        counts.dropped = counts.dropped.max(self.conducted.outcome.dropped);
        Summary {
            time: self.time(),
            connect: self.connect(),
            messages: self.messages(),
            latency: Times::of(&window.latency_ns),
            acknowledged: Times::of(&window.acknowledged_ns),
            whole: counts,
            faults: self.conducted.outcome.faults,
            verified: self.plan.verify,
            broker: self.broker(passwords),
            generator: self.generator(),
            kernel: self.kernel(),
        }
    }

    fn mark(&self, phase: Phase) -> Option<&Mark> {
        self.observed.marks.iter().find(|mark| mark.phase == phase)
    }

    fn between(&self, from: Phase, to: Phase) -> f64 {
        let (from, to) = (self.mark(from).map(|mark| mark.at_ns), self.mark(to).map(|mark| mark.at_ns));
        from.zip(to).map_or(0.0, |(from, to)| Duration::from_nanos(to - from).as_secs_f64())
    }

    /// As summed up: whole ticks.
    fn window_seconds(&self) -> f64 {
        (self.observed.tick * self.observed.recording.window.ticks).as_secs_f64()
    }

    fn time(&self) -> Time {
        let at = |phase| self.mark(phase).map_or(0.0, |mark| Duration::from_nanos(mark.at_ns).as_secs_f64());
        Time {
            connect_seconds: self.between(Phase::Connecting, Phase::Connected),
            window_at: (at(Phase::WindowBegins), at(Phase::WindowEnds)),
            window_seconds: self.window_seconds(),
            window_asked_seconds: self.plan.timing.window.as_secs_f64(),
            drain_seconds: self.between(Phase::WindowEnds, Phase::Drained),
            total_seconds: self.between(Phase::Connecting, Phase::Left),
            interrupted: self.conducted.interrupted,
        }
    }

    fn connect(&self) -> Connect {
        let recording = &self.observed.recording;
        let whole = recording.whole.counts;
        let first_times = whole.connected.saturating_sub(whole.reconnected);
        Connect {
            clients: self.plan.groups.iter().map(|group| u64::from(group.count)).sum(),
            ready_max: recording.ready_max,
            ready: recording.ready_in_window,
            per_second: ratio(first_times as f64, self.between(Phase::Connecting, Phase::Connected)),
            times: Times::of(&recording.whole.connect_ns),
        }
    }

    fn messages(&self) -> Messages {
        let Recording { window, whole, .. } = &self.observed.recording;
        let seconds = self.window_seconds();
        let rate = |count: u64| Rate { count, per_second: ratio(count as f64, seconds).unwrap_or(0.0) };
        let asked = asked_per_second(self.plan);
        let asked_in_window = asked.map(|asked| asked * seconds);
        let faults = self.conducted.outcome.faults;
        let lost = faults.lost_qos0 + faults.lost_qos1 + faults.lost_qos2;
        let due = whole.counts.delivered.saturating_sub(whole.counts.retained) + lost;
        // What is kept for those who are away arrives when they are back, whether that is in the window or not.
        let steady = !self.plan.groups.iter().any(|group| matches!(group.presence, Presence::Away { .. }));
        let deliveries_each = ratio(due as f64, whole.counts.published as f64).filter(|_| steady);
        let live = window.counts.delivered.saturating_sub(window.counts.retained);
        let percent = |done: u64, asked: Option<f64>| Some(ratio(done as f64, asked?)? * 100.0);
        Messages {
            published: rate(window.counts.published),
            delivered: rate(window.counts.delivered),
            acknowledged: rate(window.counts.acknowledged),
            bytes_out: rate(window.counts.bytes_out),
            bytes_in: rate(window.counts.bytes_in),
            asked_per_second: asked,
            published_percent: percent(window.counts.published, asked_in_window),
            delivered_percent: percent(live, asked_in_window.zip(deliveries_each).map(|(asked, each)| asked * each)),
        }
    }

    /// What a cost is divided by: deliveries, or publications when nothing was delivered.
    fn per_message(&self, cost: f64) -> Option<f64> {
        let counts = self.observed.recording.window.counts;
        ratio(cost, if counts.delivered > 0 { counts.delivered } else { counts.published } as f64)
    }

    fn broker(&self, passwords: &[&str]) -> Option<BrokerCost> {
        let watched = self.observed.broker.as_ref()?;
        let reading = |phase| self.mark(phase).and_then(|mark| mark.broker);
        let (before, connected) = (reading(Phase::Connecting)?, reading(Phase::Connected)?);
        let (begin, end) = (reading(Phase::WindowBegins)?, reading(Phase::WindowEnds)?);
        let seconds = self.between(Phase::WindowBegins, Phase::WindowEnds);
        let spent = |field: fn(&Reading) -> u64| field(&end).saturating_sub(field(&begin)) as f64;
        let (cpu_ns, switches) = (spent(|reading| reading.cpu_ns), spent(|reading| reading.switches));
        let instructions = end.instructions.zip(begin.instructions).map(|(end, begin)| end.saturating_sub(begin));
        // Messages are those of whole ticks; the readings are taken when the conductor gets to it, and wherever the
        // operator interrupts. What was spent is taken to be spread evenly.
        let in_ticks = ratio(self.window_seconds(), seconds).unwrap_or(1.0);
        let each = |spent: f64| self.per_message(spent * in_ticks);
        let recording = &self.observed.recording;
        let came_in = recording.whole.counts.connected.saturating_sub(recording.whole.counts.reconnected);
        let connect_ns = connected.cpu_ns.saturating_sub(before.cpu_ns);
        let grown = end.rss_bytes as f64 - before.rss_bytes as f64;
        let words: Vec<String> = watched.command().split(' ').map(str::to_owned).collect();
        Some(BrokerCost {
            pid: watched.pid(),
            command: blanked_command(&words, passwords),
            busy_percent: ratio(cpu_ns / 1e7, seconds).unwrap_or(0.0),
            kernel_percent: ratio(spent(|reading| reading.kernel_ns) * 100.0, cpu_ns).map(|share| share.min(100.0)),
            cpu_us_per_message: each(cpu_ns / 1e3),
            switches_per_message: each(switches),
            switches_per_second: ratio(switches, seconds).unwrap_or(0.0),
            instructions_per_message: instructions.and_then(|count| each(count as f64)),
            uncounted: watched.uncounted().map(str::to_owned),
            connect_cpu_us: ratio(connect_ns as f64 / 1e3, came_in as f64),
            rss_before_bytes: before.rss_bytes,
            rss_connected_bytes: connected.rss_bytes,
            rss_after_bytes: end.rss_bytes,
            rss_per_connection_bytes: ratio(grown, recording.ready_in_window as f64),
            waited_percent: ratio(spent(|reading| reading.waited_ns) / 1e7, seconds).unwrap_or(0.0),
            throttled_seconds: spent(|reading| reading.throttled_ns) / 1e9,
        })
    }

    fn generator(&self) -> GeneratorCost {
        let seconds = self.window_seconds();
        let cpu_ns = &self.observed.recording.window.cpu_ns;
        let percent = |ns: u64| ratio(ns as f64 / 1e7, seconds).unwrap_or(0.0);
        GeneratorCost {
            busy_percent: cpu_ns.iter().map(|(&thread, &ns)| (thread, percent(ns))).collect(),
            connecting_busy_percent: self.connecting_busy_percent(),
            cpu_us_per_message: self.per_message(cpu_ns.values().sum::<u64>() as f64 / 1e3),
            waited_percent: self.waited_percent().unwrap_or(0.0),
        }
    }

    fn waited_percent(&self) -> Option<f64> {
        let (begin, end) = (self.mark(Phase::WindowBegins)?, self.mark(Phase::WindowEnds)?);
        let waited_ns = end.host.waited_ns.saturating_sub(begin.host.waited_ns);
        ratio(waited_ns as f64 * 100.0, (end.at_ns - begin.at_ns) as f64)
    }

    fn connecting_busy_percent(&self) -> Option<f64> {
        let time = self.time();
        let rows: Vec<&Row> =
            self.observed.recording.rows.iter().filter(|row| row.at + row.seconds <= time.connect_seconds).collect();
        let threads = rows.iter().map(|row| row.generator_percent.len()).min()?;
        let mean = |thread: usize| {
            rows.iter().map(|row| f64::from(row.generator_percent[thread])).sum::<f64>() / rows.len() as f64
        };
        (0..threads).map(mean).reduce(f64::max)
    }

    fn kernel(&self) -> KernelCost {
        let reading = |phase| self.mark(phase).map(|mark| mark.host).unwrap_or_default();
        let (before, begin, end) =
            (reading(Phase::Connecting), reading(Phase::WindowBegins), reading(Phase::WindowEnds));
        let cpus = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let all_cpus_ns = self.between(Phase::WindowBegins, Phase::WindowEnds) * cpus * 1e9;
        let grown = end.slab_bytes as f64 - before.slab_bytes as f64;
        KernelCost {
            slab_before_bytes: before.slab_bytes,
            slab_after_bytes: end.slab_bytes,
            // Less than before: what else the kernel did outweighs the connections.
            slab_per_connection_bytes: ratio(grown.max(0.0), self.observed.recording.ready_in_window as f64)
                .filter(|each| *each > 0.0),
            tcp_after_bytes: end.tcp_bytes,
            stolen_percent: ratio(end.stolen_ns.saturating_sub(begin.stolen_ns) as f64 * 100.0, all_cpus_ns)
                .unwrap_or(0.0),
        }
    }
}

/// None where there is nothing to divide by.
fn ratio(of: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| of / by)
}

/// What a plan asks to be published in a second of steady traffic. None in closed loop, and where publishers come and
/// go. Streams with a limit are over before the window, or add to it what was not asked for, as do messages on arrival.
fn asked_per_second(plan: &Plan) -> Option<f64> {
    let mut sum = 0.0;
    for group in &plan.groups {
        for publication in group.publish.iter().filter(|of| of.limit.is_none() && of.pace != Pace::Arrival) {
            if group.presence != Presence::Always {
                return None;
            }
            sum += match publication.pace {
                Pace::Every(interval) => f64::from(group.count) / interval.as_secs_f64(),
                Pace::Rate { per_second, .. } => per_second,
                Pace::Outstanding(_) | Pace::Arrival => return None,
            };
        }
    }
    (sum > 0.0).then_some(sum)
}
