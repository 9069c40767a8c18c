//! A histogram of times boiled down to what is printed, drawn and stored: quantiles, and the whole distribution as a
//! curve. Microseconds from here on: people read them.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Points of a distribution per halving of what is left above (50 %, 75 %, 87.5 %…). HdrHistogram's own usual value.
const STEPS_PER_HALVING: u32 = 5;

/// How long something took, over many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many were timed.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Their standard deviation.
    pub deviation_us: f64,
    /// Half took no longer.
    pub p50_us: f64,
    /// Nine in ten.
    pub p90_us: f64,
    /// 99 in 100.
    pub p99_us: f64,
    /// 999 in 1,000.
    pub p999_us: f64,
    /// 9,999 in 10,000.
    pub p9999_us: f64,
    /// None took longer.
    pub max_us: f64,
}

impl Times {
    /// The figures of a histogram of nanoseconds; none when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean_us: round(histogram.mean() / 1e3),
            deviation_us: round(histogram.stdev() / 1e3),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: micros(histogram.max()),
        })
    }
}

/// The three quantiles that a row of a series has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half took no longer.
    pub p50_us: f64,
    /// 99 in 100.
    pub p99_us: f64,
    /// 999 in 1,000.
    pub p999_us: f64,
}

impl Quantiles {
    /// The figures of a histogram of nanoseconds; none when it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| micros(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999) })
    }
}

/// A point of a distribution: `count` of all took at most `us`, which is the share `quantile`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// How long.
    pub us: f64,
    /// Which share of all took no longer, 0 to 1.
    pub quantile: f64,
    /// How many that is.
    pub count: u64,
}

/// The distribution as a curve, dense where it matters: towards the slowest. Ends at quantile 1; empty when nothing
/// was timed.
pub fn curve(histogram: &Histogram<u64>) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut count = 0;
    for step in histogram.iter_quantiles(STEPS_PER_HALVING) {
        count += step.count_since_last_iteration();
        let point = Point { us: micros(step.value_iterated_to()), quantile: step.quantile_iterated_to(), count };
        // The iterator names the last value twice: once at its quantile, once at 1.
        match points.last_mut().filter(|last| last.count == point.count && last.us == point.us) {
            Some(last) => last.quantile = point.quantile,
            None => points.push(point),
        }
    }
    points
}

/// Nanoseconds as microseconds, to the nanosecond.
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn round(us: f64) -> f64 {
    (us * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::super::times;
    use super::*;

    /// 1 to 100,000 µs, each once.
    fn ramp() -> Histogram<u64> {
        let mut histogram = times();
        (1..=100_000).for_each(|us| histogram.record(us * 1_000).unwrap());
        histogram
    }

    fn near(measured: f64, expected: f64) {
        assert!((measured / expected - 1.0).abs() < 0.002, "{measured} is not {expected}");
    }

    #[test]
    fn quantiles_of_a_ramp_are_its_ranks() {
        let times = Times::of(&ramp()).unwrap();
        assert_eq!(times.count, 100_000);
        near(times.mean_us, 50_000.5);
        near(times.p50_us, 50_000.0);
        near(times.p90_us, 90_000.0);
        near(times.p99_us, 99_000.0);
        near(times.p999_us, 99_900.0);
        near(times.p9999_us, 99_990.0);
        near(times.max_us, 100_000.0);
        let Quantiles { p50_us, p99_us, p999_us } = Quantiles::of(&ramp()).unwrap();
        assert_eq!((p50_us, p99_us, p999_us), (times.p50_us, times.p99_us, times.p999_us));
    }

    #[test]
    fn nothing_timed_gives_no_figure_instead_of_zero() {
        assert_eq!(Times::of(&times()), None);
        assert_eq!(Quantiles::of(&times()), None);
        assert_eq!(curve(&times()), []);
    }

    #[test]
    fn the_curve_rises_to_the_last_and_counts_all() {
        let points = curve(&ramp());
        assert!(points.windows(2).all(|pair| pair[0].us <= pair[1].us && pair[0].quantile < pair[1].quantile));
        let last = points.last().unwrap();
        assert_eq!((last.count, last.quantile), (100_000, 1.0));
        let median = points.iter().find(|point| point.quantile >= 0.5).unwrap();
        near(median.us, 50_000.0);
        near(median.count as f64, 50_000.0);
    }
}
