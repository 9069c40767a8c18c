//! What a thread counts between two edges of the run's ticks.

use std::mem;

use crossbeam_channel::Sender;
use hdrhistogram::Histogram;

use super::clock::thread_cpu_ns;
use crate::measure::{Counts, Sample, times};

/// Counts and times since the last edge.
pub struct Tally {
    /// What happened.
    pub counts: Counts,
    latency_ns: Histogram<u64>,
    acknowledged_ns: Histogram<u64>,
    connect_ns: Histogram<u64>,
    samples: Sender<Sample>,
    thread: u32,
    tick_ns: u64,
    tick: u32,
    cpu_ns: u64,
}

impl Tally {
    /// Begins with tick 0 on the calling thread.
    pub fn new(thread: u32, tick_ns: u64, samples: Sender<Sample>) -> Self {
        Self {
            counts: Counts::default(),
            latency_ns: times(),
            acknowledged_ns: times(),
            connect_ns: times(),
            samples,
            thread,
            tick_ns,
            tick: 0,
            cpu_ns: thread_cpu_ns(),
        }
    }

    /// A message arrived so long after it was due.
    #[inline]
    pub fn latency(&mut self, ns: u64) {
        self.latency_ns.saturating_record(ns);
    }

    /// A message was acknowledged so long after it was due.
    #[inline]
    pub fn acknowledged(&mut self, ns: u64) {
        self.counts.acknowledged += 1;
        self.acknowledged_ns.saturating_record(ns);
    }

    /// A client came in so long after it asked to.
    pub fn connected(&mut self, ns: u64) {
        self.connect_ns.saturating_record(ns);
    }

    /// When the present tick ends.
    #[inline]
    pub fn edge_ns(&self) -> u64 {
        u64::from(self.tick + 1) * self.tick_ns
    }

    /// Hands over every tick that is over by now. What is counted goes to the first of them: an idle thread may have
    /// slept through the others.
    #[cold]
    pub fn cut(&mut self, now_ns: u64, ready: u64) {
        while self.edge_ns() <= now_ns {
            self.hand_over(ready);
        }
    }

    /// Hands over what there is of the last tick.
    pub fn finish(&mut self, now_ns: u64, ready: u64) {
        self.cut(now_ns, ready);
        self.hand_over(ready);
    }

    fn hand_over(&mut self, ready: u64) {
        let cpu_ns = thread_cpu_ns();
        let sample = Sample {
            thread: self.thread,
            tick: self.tick,
            counts: mem::take(&mut self.counts),
            ready,
            cpu_ns: cpu_ns - mem::replace(&mut self.cpu_ns, cpu_ns),
            latency_ns: take(&mut self.latency_ns),
            acknowledged_ns: take(&mut self.acknowledged_ns),
            connect_ns: take(&mut self.connect_ns),
        };
        self.tick += 1;
        // Nobody listens any more when the run was given up.
        let _ = self.samples.send(sample);
    }
}

/// Takes what was recorded. One without records is as small as it can be: most threads of an idle million have nothing
/// to tell.
fn take(histogram: &mut Histogram<u64>) -> Histogram<u64> {
    if histogram.is_empty() {
        return Histogram::new_with_bounds(1, 2, 0).expect("constant bounds in order");
    }
    mem::replace(histogram, times())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tick_is_handed_over_once_and_its_counts_with_it() {
        let (sender, samples) = crossbeam_channel::unbounded();
        let mut tally = Tally::new(3, 100, sender);
        tally.counts.published = 5;
        tally.latency(2_000_000);
        tally.cut(99, 1);
        assert!(samples.is_empty(), "the tick is not over");
        tally.cut(250, 2);
        tally.counts.published = 7;
        tally.finish(260, 3);
        let samples: Vec<Sample> = samples.try_iter().collect();
        let told: Vec<_> = samples.iter().map(|of| (of.tick, of.counts.published, of.ready)).collect();
        assert_eq!(told, [(0, 5, 2), (1, 0, 2), (2, 7, 3)]);
        assert!(samples.iter().all(|sample| sample.thread == 3));
        let mut all = times();
        samples.iter().for_each(|sample| all.add(&sample.latency_ns).unwrap());
        assert_eq!(all.len(), 1);
    }
}
