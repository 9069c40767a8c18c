//! Watches a run: records samples, reads the broker's process and the host at each boundary and once a second, and
//! keeps the progress display up to date. Lives on the conductor's thread.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Progress;
use crate::engine::{Observer, Phase, Status};
use crate::measure::broker::{Broker, Reading};
use crate::measure::recorder::{ROWS_LIMIT, Recorder, Recording};
use crate::measure::{Sample, host};

/// The broker's process over about a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrokerPoint {
    /// When it was read, in seconds since the start of the run.
    pub at: f64,
    /// Share of one core since the point before, in percent.
    pub busy_percent: f64,
    /// Context switches per second since then.
    pub switches_per_second: f64,
    /// Resident memory.
    pub rss_bytes: u64,
}

/// What was read at a boundary.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Which boundary.
    pub phase: Phase,
    /// When it was read, in nanoseconds since the start of the run.
    pub at_ns: u64,
    /// The broker's process.
    pub broker: Option<Reading>,
    /// The host.
    pub host: host::Reading,
}

/// All that was watched.
pub struct Observed {
    /// Samples, summed up.
    pub recording: Recording,
    /// How long a tick was.
    pub tick: Duration,
    /// A reading per boundary.
    pub marks: Vec<Mark>,
    /// A reading per second.
    pub points: Vec<BrokerPoint>,
    /// The broker, when its process was named.
    pub broker: Option<Broker>,
    /// Why the process could not be read any more, if so.
    pub lost_sight: Option<String>,
}

/// An observer that [`Report::new`](super::Report::new) can sum up.
pub struct Watch {
    recorder: Recorder,
    tick: Duration,
    /// The moment that the run's clock said 0, as of the first boundary.
    origin: Option<Instant>,
    broker: Option<Broker>,
    lost_sight: Option<String>,
    marks: Vec<Mark>,
    points: Vec<BrokerPoint>,
    last: Option<(Duration, Reading)>,
    progress: Progress,
}

impl Watch {
    /// Watches a run with ticks of this length, and the broker's process if it is named.
    pub fn new(tick: Duration, broker: Option<Broker>, progress: Progress) -> Self {
        Self {
            recorder: Recorder::new(tick),
            tick,
            origin: None,
            broker,
            lost_sight: None,
            marks: Vec::new(),
            points: Vec::new(),
            last: None,
            progress,
        }
    }

    /// The end of the run.
    pub fn finish(self) -> Observed {
        self.progress.clear();
        let Self { recorder, tick, marks, points, broker, lost_sight, .. } = self;
        Observed { recording: recorder.finish(), tick, marks, points, broker, lost_sight }
    }

    fn read(&mut self, how: fn(&mut Broker) -> Result<Reading, crate::measure::broker::Error>) -> Option<Reading> {
        if self.lost_sight.is_some() {
            return None;
        }
        match how(self.broker.as_mut()?) {
            Ok(reading) => Some(reading),
            Err(error) => {
                self.lost_sight = Some(error.to_string());
                None
            }
        }
    }

    fn point(&mut self, now: Duration) {
        let Some(reading) = self.read(Broker::read) else { return };
        if let Some((then, before)) = self.last.replace((now, reading)) {
            let seconds = (now - then).as_secs_f64();
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            self.points.push(BrokerPoint {
                at: now.as_secs_f64(),
                busy_percent: per_second(reading.cpu_ns, before.cpu_ns) / 1e7,
                switches_per_second: per_second(reading.switches, before.switches),
                rss_bytes: reading.rss_bytes,
            });
        }
    }
}

impl Observer for Watch {
    fn sample(&mut self, sample: Sample) {
        self.recorder.add(&sample);
    }

    fn phase(&mut self, phase: Phase, at_ns: u64) {
        let at = Duration::from_nanos(at_ns);
        // The readings below are taken now, and the ticks counted from the boundary itself, however late it is told.
        let now_ns = self.origin.map_or(at_ns, |origin| at_ns.max(origin.elapsed().as_nanos() as u64));
        self.origin.get_or_insert_with(|| Instant::now().checked_sub(at).unwrap_or_else(Instant::now));
        let tick = (at_ns / self.tick.as_nanos() as u64) as u32;
        match phase {
            Phase::WindowBegins => self.recorder.open_window(tick),
            Phase::WindowEnds => self.recorder.close_window(tick),
            _ => {}
        }
        let broker = self.read(Broker::read_exact);
        self.marks.push(Mark { phase, at_ns: now_ns, broker, host: host::Reading::now() });
        self.progress.phase(phase, at);
    }

    fn status(&mut self, status: &Status) {
        let Some(origin) = self.origin else { return };
        let now = origin.elapsed();
        // Once in every second of the run's clock, as rows are.
        let due = self.last.is_none_or(|(then, _)| now.as_secs() > then.as_secs());
        if due && self.points.len() < ROWS_LIMIT {
            self.point(now);
        }
        self.progress.show(now, status, self.recorder.rows(), self.points.last());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Counts, times};
    use crate::plan::{Overrides, Scenario};

    #[test]
    fn the_window_is_that_of_the_boundaries_although_they_are_told_late() {
        let tick = Duration::from_millis(10);
        let plan = Scenario::preset("p2p").unwrap().read(&Overrides::default()).unwrap();
        let mut watch = Watch::new(tick, None, Progress::none(&plan));
        watch.phase(Phase::Connecting, 0);
        let published = Counts { published: 1, ..Counts::default() };
        let sample = |tick| Sample {
            thread: 0,
            tick,
            counts: published,
            ready: 0,
            cpu_ns: 0,
            latency_ns: times(),
            acknowledged_ns: times(),
            connect_ns: times(),
        };
        // Told after samples of later ticks have come.
        (0..4).for_each(|tick| watch.sample(sample(tick)));
        watch.phase(Phase::WindowBegins, 20_000_000);
        (4..8).for_each(|tick| watch.sample(sample(tick)));
        watch.phase(Phase::WindowEnds, 70_000_000);
        let window = watch.finish().recording.window;
        assert_eq!((window.ticks, window.counts.published), (5, 5));
    }
}
