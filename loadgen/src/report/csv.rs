//! `series.csv`: a row per second, for spreadsheets and plotting programs. Units stand in the names of the columns.

use std::fmt::Write;

use super::{BrokerPoint, Report};
use crate::measure::recorder::Row;

/// A figure of a row, of the row itself or of the broker's reading that falls into it.
type Column = (&'static str, fn(&Row, Option<&BrokerPoint>) -> Option<f64>);

const COLUMNS: [Column; 29] = [
    ("second", |row, _| Some(row.at)),
    ("seconds_covered", |row, _| Some(row.seconds)),
    ("in_window", |row, _| Some(f64::from(u8::from(row.in_window)))),
    ("ready", |row, _| Some(row.ready as f64)),
    ("connected", |row, _| Some(row.counts.connected as f64)),
    ("reconnected", |row, _| Some(row.counts.reconnected as f64)),
    ("disconnected", |row, _| Some(row.counts.disconnected as f64)),
    ("connect_failed", |row, _| Some(row.counts.connect_failed as f64)),
    ("refused", |row, _| Some(row.counts.refused as f64)),
    ("dropped", |row, _| Some(row.counts.dropped as f64)),
    ("published", |row, _| Some(row.counts.published as f64)),
    ("delivered", |row, _| Some(row.counts.delivered as f64)),
    ("retained", |row, _| Some(row.counts.retained as f64)),
    ("acknowledged", |row, _| Some(row.counts.acknowledged as f64)),
    ("rejected", |row, _| Some(row.counts.rejected as f64)),
    ("bytes_out", |row, _| Some(row.counts.bytes_out as f64)),
    ("bytes_in", |row, _| Some(row.counts.bytes_in as f64)),
    ("pings", |row, _| Some(row.counts.pings as f64)),
    ("latency_p50_us", |row, _| Some(row.latency?.p50_us)),
    ("latency_p99_us", |row, _| Some(row.latency?.p99_us)),
    ("latency_p999_us", |row, _| Some(row.latency?.p999_us)),
    ("acknowledged_p50_us", |row, _| Some(row.acknowledged?.p50_us)),
    ("acknowledged_p99_us", |row, _| Some(row.acknowledged?.p99_us)),
    ("connect_p50_us", |row, _| Some(row.connect?.p50_us)),
    ("connect_p99_us", |row, _| Some(row.connect?.p99_us)),
    ("broker_busy_percent", |_, point| Some(point?.busy_percent)),
    ("broker_switches_per_second", |_, point| Some(point?.switches_per_second)),
    ("broker_rss_bytes", |_, point| Some(point?.rss_bytes as f64)),
    ("generator_busiest_percent", |row, _| row.generator_percent.iter().copied().map(f64::from).reduce(f64::max)),
];

/// The whole file. A figure that is missing is an empty cell.
pub fn series(report: &Report) -> String {
    let mut text = COLUMNS.map(|(name, _)| name).join(",") + "\n";
    let mut points = report.broker_series.iter().peekable();
    for row in &report.series {
        // The last reading in the second stands for it.
        let mut point = None;
        while let Some(next) = points.next_if(|next| next.at < row.at + row.seconds) {
            point = Some(next);
        }
        let cells = COLUMNS.map(|(_, figure)| figure(row, point).map_or(String::new(), cell));
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", cells.join(","));
    }
    text
}

/// To three decimals, and none where there are none.
fn cell(value: f64) -> String {
    format!("{}", (value * 1e3).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn it_reads_back_as_the_series() {
        let report = samples::report();
        let text = series(&report);
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let heads = lines.next().unwrap();
        let rows: Vec<_> = lines.collect();
        assert_eq!(rows.len(), report.series.len());
        let column = |name: &str| heads.iter().position(|head| *head == name).unwrap();
        for (cells, row) in rows.iter().zip(&report.series) {
            assert_eq!(cells.len(), heads.len());
            assert_eq!(cells[column("delivered")].parse(), Ok(row.counts.delivered));
            assert_eq!(cells[column("latency_p999_us")].parse(), Ok(row.latency.unwrap().p999_us));
            assert_eq!(cells[column("in_window")], if row.in_window { "1" } else { "0" });
            assert_eq!(cells[column("generator_busiest_percent")], "70");
        }
        assert_eq!(rows[0][column("connect_p99_us")], "99");
        assert_eq!(rows[1][column("connect_p99_us")], "", "nothing was timed, which is not 0");
    }

    #[test]
    fn a_reading_of_the_broker_stands_in_its_second() {
        let text = series(&samples::report());
        let rss = |second: usize| text.lines().nth(second + 1).unwrap().split(',').nth(27).unwrap().to_owned();
        assert_eq!((rss(0), rss(1)), (String::new(), "8593408".to_owned()));
    }
}
