//! Merges the samples of all threads and workers: a row per second, and sums over the window and over the whole run.
//!
//! Samples come in any order of threads, so the newest ticks are held back for a while before they are entered; by
//! then it is also known on which side of a window's edge a tick lies. One that comes later still is counted in the
//! sums and in its row's counts; only the row's quantiles, which are fixed by then, go without it.
//!
//! Memory: histograms exist for the sums, the open second and the ticks held back. A finished second keeps only
//! counts and quantiles, about half a kilobyte, and there are at most [`ROWS_LIMIT`] of them: 45 MB.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::quantiles::Quantiles;
use super::{Counts, Sample, times};

/// How long a tick waits for the samples of slower threads, but for at least one tick and at most [`HELD_LIMIT`].
const LAG: Duration = Duration::from_millis(500);

/// Ticks that are held back at most. Each has three histograms, half a megabyte together.
const HELD_LIMIT: u32 = 10;

/// Rows that a series can have: a day and a minute of seconds. The sums have no such limit.
pub const ROWS_LIMIT: usize = 86_460;

/// One second of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Seconds from the start of the run to the start of this one.
    pub at: f64,
    /// How much of it there was: the last one may be cut short.
    pub seconds: f64,
    /// Whether all of it lies in the measured window.
    pub in_window: bool,
    /// What happened in it.
    pub counts: Counts,
    /// Clients that were in at its end.
    pub ready: u64,
    /// Of deliveries.
    pub latency: Option<Quantiles>,
    /// Of acknowledgements.
    pub acknowledged: Option<Quantiles>,
    /// Of connects.
    pub connect: Option<Quantiles>,
    /// How busy each generator thread was, in percent of a core, in the order of their numbers.
    pub generator_percent: Vec<f32>,
}

/// Sums over a stretch of the run.
#[derive(Clone, Debug)]
pub struct Totals {
    /// How many ticks it had.
    pub ticks: u32,
    /// What happened.
    pub counts: Counts,
    /// Of deliveries, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// Of acknowledgements, in nanoseconds.
    pub acknowledged_ns: Histogram<u64>,
    /// Of connects, in nanoseconds.
    pub connect_ns: Histogram<u64>,
    /// CPU of each generator thread, in nanoseconds.
    pub cpu_ns: BTreeMap<u32, u64>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            ticks: 0,
            counts: Counts::default(),
            latency_ns: times(),
            acknowledged_ns: times(),
            connect_ns: times(),
            cpu_ns: BTreeMap::new(),
        }
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.counts += other.counts;
        self.merge([&other.latency_ns, &other.acknowledged_ns, &other.connect_ns]);
        for (&thread, ns) in &other.cpu_ns {
            *self.cpu_ns.entry(thread).or_default() += ns;
        }
    }

    fn enter(&mut self, sample: &Sample) {
        self.counts += sample.counts;
        self.merge([&sample.latency_ns, &sample.acknowledged_ns, &sample.connect_ns]);
        *self.cpu_ns.entry(sample.thread).or_default() += sample.cpu_ns;
    }

    fn merge(&mut self, others: [&Histogram<u64>; 3]) {
        let own = [&mut self.latency_ns, &mut self.acknowledged_ns, &mut self.connect_ns];
        for (own, other) in own.into_iter().zip(others).filter(|(_, other)| !other.is_empty()) {
            own.add(other).expect("all histograms of samples have the same bounds");
        }
    }
}

/// All of a run.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// A second each, without gaps.
    pub rows: Vec<Row>,
    /// The measured window alone.
    pub window: Totals,
    /// Everything: connecting, warm-up and drain too.
    pub whole: Totals,
    /// The most clients that were in at the end of a tick.
    pub ready_max: u64,
    /// Clients that were in at the end of the window, or of what there is of it.
    pub ready_in_window: u64,
    /// Whether the run went on longer than [`ROWS_LIMIT`] rows.
    pub rows_cut: bool,
}

/// A tick that is held back: the sums over its samples, and who was in.
#[derive(Default)]
struct Tick {
    totals: Totals,
    ready: BTreeMap<u32, u64>,
}

/// Takes samples in, gives rows and sums out.
pub struct Recorder {
    tick: Duration,
    held: BTreeMap<u32, Tick>,
    /// Every tick before this one is entered.
    settled: u32,
    window: (Option<u32>, Option<u32>),
    second: Totals,
    ready: BTreeMap<u32, u64>,
    rows_limit: usize,
    recording: Recording,
}

impl Recorder {
    /// For samples of ticks of this length, which goes into a second without rest.
    ///
    /// # Panics
    ///
    /// When it doesn't.
    pub fn new(tick: Duration) -> Self {
        assert!(!tick.is_zero() && Duration::from_secs(1).as_nanos().is_multiple_of(tick.as_nanos()));
        Self {
            tick,
            held: BTreeMap::new(),
            settled: 0,
            window: (None, None),
            second: Totals::default(),
            ready: BTreeMap::new(),
            rows_limit: ROWS_LIMIT,
            recording: Recording::default(),
        }
    }

    /// Takes a sample in.
    pub fn add(&mut self, sample: &Sample) {
        if sample.tick < self.settled {
            return self.add_late(sample);
        }
        let held = self.held.entry(sample.tick).or_default();
        held.totals.enter(sample);
        held.ready.insert(sample.thread, sample.ready);
        let lag = (LAG.div_duration_f64(self.tick) as u32).clamp(1, HELD_LIMIT);
        self.settle(sample.tick.saturating_sub(lag));
    }

    /// The window begins with this tick.
    pub fn open_window(&mut self, tick: u32) {
        self.window.0.get_or_insert(tick);
    }

    /// The window ends before this tick.
    pub fn close_window(&mut self, tick: u32) {
        self.window.1.get_or_insert(tick);
    }

    /// The rows so far.
    pub fn rows(&self) -> &[Row] {
        &self.recording.rows
    }

    /// The end: nothing is held back any more. An open window ends with the last sample.
    pub fn finish(mut self) -> Recording {
        let end = self.held.last_key_value().map_or(self.settled, |(tick, _)| tick + 1);
        self.settle(end);
        self.end_second();
        self.recording
    }

    fn in_window(&self, tick: u32) -> bool {
        let (from, to) = self.window;
        from.is_some_and(|from| from <= tick) && to.is_none_or(|to| tick < to)
    }

    /// Enters every tick before `end`, also those of which there is no sample.
    fn settle(&mut self, end: u32) {
        while self.settled < end {
            let tick = self.settled;
            let held = self.held.remove(&tick).unwrap_or_default();
            self.enter(tick, held);
            self.settled += 1;
            if self.settled.is_multiple_of(self.ticks_per_second()) {
                self.end_second();
            }
        }
    }

    fn enter(&mut self, tick: u32, held: Tick) {
        self.ready.extend(held.ready);
        let ready = self.ready.values().sum();
        let in_window = self.in_window(tick);
        self.second.add(&held.totals);
        self.second.ticks += 1;
        let recording = &mut self.recording;
        recording.whole.add(&held.totals);
        recording.whole.ticks += 1;
        recording.ready_max = recording.ready_max.max(ready);
        if in_window {
            recording.window.add(&held.totals);
            recording.window.ticks += 1;
            recording.ready_in_window = ready;
        }
    }

    fn end_second(&mut self) {
        let second = std::mem::take(&mut self.second);
        if second.ticks == 0 {
            return;
        }
        if self.recording.rows.len() == self.rows_limit {
            self.recording.rows_cut = true;
            return;
        }
        let seconds = (self.tick * second.ticks).as_secs_f64();
        let first = self.settled - second.ticks;
        let percent = |thread| second.cpu_ns.get(thread).map_or(0.0, |&ns| (ns as f64 / seconds / 1e7) as f32);
        self.recording.rows.push(Row {
            at: (self.tick * first).as_secs_f64(),
            seconds,
            in_window: (first..self.settled).all(|tick| self.in_window(tick)),
            counts: second.counts,
            ready: self.ready.values().sum(),
            latency: Quantiles::of(&second.latency_ns),
            acknowledged: Quantiles::of(&second.acknowledged_ns),
            connect: Quantiles::of(&second.connect_ns),
            generator_percent: self.ready.keys().map(percent).collect(),
        });
    }

    fn add_late(&mut self, sample: &Sample) {
        self.recording.whole.enter(sample);
        if self.in_window(sample.tick) {
            self.recording.window.enter(sample);
        }
        let row = (sample.tick / self.ticks_per_second()) as usize;
        match self.recording.rows.get_mut(row) {
            Some(row) => row.counts += sample.counts,
            None => self.second.enter(sample),
        }
    }

    fn ticks_per_second(&self) -> u32 {
        Duration::from_secs(1).div_duration_f64(self.tick) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(500);

    /// A thread's sample with so many deliveries, each of so many microseconds.
    fn sample(thread: u32, tick: u32, delivered: u64, us: u64) -> Sample {
        let mut sample = Sample {
            thread,
            tick,
            counts: Counts { delivered, connecting: 1, ..Counts::default() },
            ready: u64::from(tick + 1) * 10,
            cpu_ns: 100_000_000 * u64::from(thread + 1),
            latency_ns: times(),
            acknowledged_ns: times(),
            connect_ns: times(),
        };
        sample.latency_ns.record_n(us * 1000, delivered).unwrap();
        sample
    }

    #[test]
    fn a_row_sums_threads_and_ticks_of_its_second() {
        let mut recorder = Recorder::new(TICK);
        for tick in 0..4 {
            recorder.add(&sample(0, tick, 100, 50));
            recorder.add(&sample(1, tick, 100, 2_000));
        }
        let Recording { rows, whole, .. } = recorder.finish();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].at, rows[1].at, rows[1].seconds), (0.0, 1.0, 1.0));
        assert_eq!(rows[1].counts.delivered, 400);
        assert_eq!((rows[0].ready, rows[1].ready), (40, 80));
        assert_eq!(rows[0].generator_percent, [20.0, 40.0]);
        let latency = rows[0].latency.unwrap();
        assert!((latency.p50_us - 50.0).abs() < 1.0 && (latency.p99_us - 2_000.0).abs() < 2.0, "{latency:?}");
        assert_eq!((whole.counts.delivered, whole.ticks), (800, 4));
    }

    #[test]
    fn warm_up_and_drain_are_not_in_the_window() {
        let mut recorder = Recorder::new(TICK);
        for tick in 0..10 {
            if tick == 3 {
                recorder.open_window(3);
            }
            if tick == 7 {
                recorder.close_window(7);
            }
            let slow = if (3..7).contains(&tick) { 50 } else { 9_000 };
            recorder.add(&sample(0, tick, 10, slow));
        }
        let Recording { rows, window, whole, .. } = recorder.finish();
        assert_eq!((window.ticks, window.counts.delivered, whole.counts.delivered), (4, 40, 100));
        assert_eq!(window.cpu_ns, BTreeMap::from([(0, 400_000_000)]));
        assert!(window.latency_ns.max() < 51_000, "a sample from outside is in the window");
        assert!(whole.latency_ns.max() > 8_999_000);
        assert_eq!(rows.iter().map(|row| row.in_window).collect::<Vec<_>>(), [false, false, true, false, false]);
    }

    #[test]
    fn an_edge_told_with_a_delay_of_a_tick_still_counts_from_its_tick() {
        let mut recorder = Recorder::new(TICK);
        (0..4).for_each(|tick| recorder.add(&sample(0, tick, 1, 50)));
        recorder.open_window(3);
        (4..6).for_each(|tick| recorder.add(&sample(0, tick, 1, 50)));
        recorder.close_window(5);
        assert_eq!(recorder.finish().window.counts.delivered, 2);
    }

    #[test]
    fn a_sample_after_its_row_was_finished_is_counted_all_the_same() {
        let mut recorder = Recorder::new(TICK);
        recorder.open_window(0);
        (0..8).for_each(|tick| recorder.add(&sample(0, tick, 1, 50)));
        assert!(!recorder.rows().is_empty());
        recorder.add(&sample(1, 0, 1_000, 70));
        let Recording { rows, window, whole, .. } = recorder.finish();
        assert_eq!(rows[0].counts.delivered, 1_002);
        assert_eq!((window.counts.delivered, whole.counts.delivered), (1_008, 1_008));
        assert_eq!(window.latency_ns.len(), 1_008);
    }

    #[test]
    fn a_silent_second_has_a_row_too() {
        let mut recorder = Recorder::new(TICK);
        recorder.add(&sample(0, 0, 1, 50));
        recorder.add(&sample(0, 5, 1, 50));
        let rows = recorder.finish().rows;
        assert_eq!(rows.iter().map(|row| row.counts.delivered).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!(rows[1].latency, None);
        assert_eq!(rows[1].ready, 10, "who was in stays in");
    }

    #[test]
    fn a_last_second_cut_short_says_how_long_it_was() {
        let mut recorder = Recorder::new(TICK);
        (0..3).for_each(|tick| recorder.add(&sample(0, tick, 1, 50)));
        let rows = recorder.finish().rows;
        assert_eq!((rows.len(), rows[1].seconds), (2, 0.5));
        assert_eq!(rows[1].generator_percent, [20.0]);
    }

    #[test]
    fn rows_have_a_limit_and_sums_have_none() {
        let mut recorder = Recorder { rows_limit: 3, ..Recorder::new(TICK) };
        (0..9).for_each(|tick| recorder.add(&sample(0, tick, 1, 50)));
        let Recording { rows, whole, rows_cut, .. } = recorder.finish();
        assert!(rows_cut);
        assert_eq!((rows.len(), whole.ticks, whole.counts.delivered), (3, 9, 9));
    }
}
