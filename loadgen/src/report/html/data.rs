//! From a report's series to lines of charts. A long run has more seconds than a picture has columns, so neighbours
//! are put together: the mean of a rate, the worst of a latency.

use super::super::Report;
use super::super::watch::BrokerPoint;
use super::chart::Line;
use crate::measure::quantiles::{Point, Quantiles};
use crate::measure::recorder::Row;

/// Points of a line at most.
const POINTS: usize = 480;

/// How neighbours become one point.
#[derive(Clone, Copy)]
enum Together {
    Mean,
    Worst,
}

/// A run's lines; `origin` is what is 0 on their time axis.
pub struct Lines<'a> {
    pub report: &'a Report,
    pub origin: f64,
}

impl Lines<'_> {
    /// A rate over time.
    pub fn rate(&self, name: &str, count: fn(&Row) -> u64) -> Line {
        self.rows(name, Together::Mean, move |row| count(row) as f64 / row.seconds)
    }

    /// A level over time.
    pub fn level(&self, name: &str, level: impl Fn(&Row) -> f64) -> Line {
        self.rows(name, Together::Mean, level)
    }

    /// A quantile over time, a gap where nothing was timed.
    pub fn latency(&self, name: &str, figure: fn(&Quantiles) -> f64) -> Line {
        self.rows(name, Together::Worst, move |row| row.latency.as_ref().map_or(f64::NAN, figure))
    }

    /// A figure of the broker's process over time.
    pub fn broker(&self, name: &str, figure: impl Fn(&BrokerPoint) -> f64) -> Line {
        let points = self.report.broker_series.iter().map(|point| (point.at - self.origin, figure(point))).collect();
        Line { name: name.to_owned(), points: thinned(points, Together::Mean) }
    }

    /// Growth of the broker's memory by who was in then. Of few connections it says nothing.
    pub fn memory_each(&self, name: &str) -> Line {
        let before = self.report.summary.broker.as_ref().map_or(0, |broker| broker.rss_before_bytes) as f64;
        let enough = (self.report.summary.connect.ready_max / 10).max(1);
        let ready = |at: f64| {
            let row = self.report.series.partition_point(|row| row.at + row.seconds <= at);
            self.report.series.get(row).map(|row| row.ready).filter(|ready| *ready >= enough)
        };
        let each = |point: &BrokerPoint| Some((point.rss_bytes as f64 - before).max(0.0) / ready(point.at)? as f64);
        self.broker(name, |point| each(point).unwrap_or(f64::NAN))
    }

    /// One line per generator thread.
    pub fn generator(&self) -> Vec<Line> {
        let threads = self.report.series.iter().map(|row| row.generator_percent.len()).max().unwrap_or(0);
        let thread = |index: usize| {
            let percent = move |row: &Row| row.generator_percent.get(index).map_or(f64::NAN, |&busy| f64::from(busy));
            self.level(&format!("thread {index}"), percent)
        };
        (0..threads).map(thread).collect()
    }

    fn rows(&self, name: &str, together: Together, figure: impl Fn(&Row) -> f64) -> Line {
        // A last row much shorter than a second makes a rate of noise.
        let rows = self.report.series.iter().filter(|row| row.seconds >= 0.5 || self.report.series.len() == 1);
        let points = rows.map(|row| (row.at + row.seconds / 2.0 - self.origin, figure(row))).collect();
        Line { name: name.to_owned(), points: thinned(points, together) }
    }
}

/// A distribution, by nines.
pub fn distribution(name: &str, points: &[Point]) -> Line {
    let count = points.last().map_or(1, |point| point.count) as f64;
    // The slowest of all is at infinity; it stands where one in all of them is.
    let nines = |quantile: f64| (1.0 / (1.0 - quantile).max(1.0 / count)).log10();
    Line { name: name.to_owned(), points: points.iter().map(|point| (nines(point.quantile), point.us)).collect() }
}

/// How many seconds a point of a series of so many stands for.
pub fn seconds_per_point(seconds: usize) -> usize {
    seconds.div_ceil(POINTS).max(1)
}

fn thinned(points: Vec<(f64, f64)>, together: Together) -> Vec<(f64, f64)> {
    let neighbours = seconds_per_point(points.len());
    let one = |chunk: &[(f64, f64)]| {
        let x = chunk.iter().map(|(x, _)| x).sum::<f64>() / chunk.len() as f64;
        let values = chunk.iter().map(|(_, y)| *y).filter(|y| y.is_finite());
        let y = match together {
            Together::Worst => values.fold(f64::NAN, f64::max),
            Together::Mean => values.clone().sum::<f64>() / values.count() as f64,
        };
        (x, y)
    };
    points.chunks(neighbours).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_thinned_without_losing_its_worst_second() {
        let mut day: Vec<(f64, f64)> = (0..86_400).map(|second| (f64::from(second), 10.0)).collect();
        day[50_000].1 = 999.0;
        let worst = thinned(day.clone(), Together::Worst);
        assert!(worst.len() <= POINTS);
        assert_eq!(worst.iter().map(|point| point.1).fold(0.0, f64::max), 999.0);
        let mean = thinned(day, Together::Mean);
        assert!(mean.iter().all(|point| point.1 >= 10.0 && point.1 < 20.0));
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)];
        let thinned = thinned(points, Together::Mean);
        assert!(thinned[1].1.is_nan() && thinned[2].1 == 3.0);
    }
}
