//! `latency.hgrm`: a distribution in HdrHistogram's percentile format, which its plotters read. In milliseconds.

use std::fmt::Write;

use crate::measure::TIME_NS;
use crate::measure::quantiles::{Point, Times};

/// The file for a distribution with these figures.
pub fn percentiles(points: &[Point], times: Option<&Times>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for point in points {
        let Point { us, quantile, count } = *point;
        let ms = us / 1e3;
        // Writing to a String can't fail. The last point is at infinity, which the format leaves out.
        let _ = match 1.0 / (1.0 - quantile) {
            rest if rest.is_finite() => writeln!(text, "{ms:12.3} {quantile:2.12} {count:10} {rest:14.2}"),
            _ => writeln!(text, "{ms:12.3} {quantile:2.12} {count:10}"),
        };
    }
    if let Some(times) = times {
        text.push_str(&foot(times));
    }
    text
}

fn foot(times: &Times) -> String {
    let [mean, deviation, max] = [times.mean_us, times.deviation_us, times.max_us].map(|us| us / 1e3);
    let histogram = crate::measure::times();
    // As HdrHistogram counts them: each bucket doubles the range of the one before.
    let sub_buckets = 2 * 10u64.pow(u32::from(histogram.sigfig()));
    let sub_buckets = sub_buckets.next_power_of_two();
    let unit = 1 << TIME_NS.0.ilog2();
    let buckets = 1 + (TIME_NS.1 / (sub_buckets * unit)).ilog2() + 1;
    format!(
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n\
         #[Max     = {max:12.3}, Total count    = {:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n",
        times.count
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::quantiles::curve;
    use crate::measure::times;

    #[test]
    fn it_reads_back_as_the_distribution() {
        let mut histogram = times();
        (1..=100_000).for_each(|us| histogram.record(us * 1_000).unwrap());
        let (points, figures) = (curve(&histogram), Times::of(&histogram).unwrap());
        let text = percentiles(&points, Some(&figures));
        let numbers = |line: &str| line.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<f64>>();
        let rows: Vec<_> = text.lines().skip(2).filter(|line| !line.starts_with('#')).map(numbers).collect();
        assert_eq!(rows.len(), points.len());
        for (row, point) in rows.iter().zip(&points) {
            assert!((row[0] * 1e3 - point.us).abs() < 1.0, "{row:?} {point:?}");
            assert!((row[1] - point.quantile).abs() < 1e-9);
            assert_eq!(row[2] as u64, point.count);
        }
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2], last.len()), (1.0, 100_000.0, 3));
        assert!(text.contains("#[Max     =      100"), "{text}");
        assert!(text.contains("Total count    =       100000]\n"), "{text}");
    }

    #[test]
    fn nothing_timed_leaves_the_head_alone() {
        assert_eq!(percentiles(&[], None).lines().count(), 2);
    }
}
