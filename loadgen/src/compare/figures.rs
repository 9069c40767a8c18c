//! What a comparison compares: the few figures of one run that are told in tables and records.

use serde::{Deserialize, Serialize};

/// Of one run against one broker. A figure that the run doesn't have is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// User and system time of the broker per delivered message, in microseconds.
    pub cpu_us_per_message: Option<f64>,
    /// The same per client that came in (CONNACK, and SUBACK where it subscribes), in microseconds.
    pub cpu_us_per_client: Option<f64>,
    /// Messages delivered per second.
    pub delivered_per_second: Option<f64>,
    /// Messages that the broker could deliver per second if its shards' cores were its own: deliveries per second of
    /// its CPU time, times its shards.
    pub capacity_per_second: Option<f64>,
    /// Latency in microseconds: the median.
    pub p50_us: Option<f64>,
    /// 99 of 100.
    pub p99_us: Option<f64>,
    /// 999 of 1,000.
    pub p999_us: Option<f64>,
    /// Context switches of the broker per delivered message.
    pub switches_per_message: Option<f64>,
    /// CPU of the broker, in percent of one core.
    pub broker_busy_percent: Option<f64>,
    /// Resident memory of the broker before the first client, in bytes.
    pub rss_at_start: Option<f64>,
    /// What a connection adds to it, in bytes.
    pub rss_per_connection: Option<f64>,
    /// CPU of the generator's busiest thread, in percent of one core.
    pub generator_busy_percent: Option<f64>,
    /// CPU that went to neither broker nor generator over the whole run, in percent of one core.
    pub others_busy_percent: Option<f64>,
}

/// The name of one of [`Figures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// `cpu_us_per_message`.
    CpuPerMessage,
    /// `cpu_us_per_client`.
    CpuPerClient,
    /// `capacity_per_second`.
    Capacity,
    /// `p50_us`.
    P50,
    /// `p99_us`.
    P99,
    /// `p999_us`.
    P999,
    /// `broker_busy_percent`.
    BrokerBusy,
    /// `rss_at_start`.
    RssAtStart,
    /// `rss_per_connection`.
    RssPerConnection,
}

impl Figure {
    /// What it is called in tables, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuPerMessage => "µs CPU/message",
            Self::CpuPerClient => "µs CPU/client",
            Self::Capacity => "messages/s of own cores",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::BrokerBusy => "broker % of a core",
            Self::RssAtStart => "bytes RSS at start",
            Self::RssPerConnection => "bytes RSS/connection",
        }
    }

    /// Its value.
    pub fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::CpuPerMessage => figures.cpu_us_per_message,
            Self::CpuPerClient => figures.cpu_us_per_client,
            Self::Capacity => figures.capacity_per_second,
            Self::P50 => figures.p50_us,
            Self::P99 => figures.p99_us,
            Self::P999 => figures.p999_us,
            Self::BrokerBusy => figures.broker_busy_percent,
            Self::RssAtStart => figures.rss_at_start,
            Self::RssPerConnection => figures.rss_per_connection,
        }
    }
}

impl Figures {
    /// The median of each figure over several runs; absent where no run has it.
    pub fn medians(runs: &[Figures]) -> Figures {
        let over = |figure: fn(&Figures) -> Option<f64>| median(runs.iter().filter_map(figure));
        Figures {
            cpu_us_per_message: over(|run| run.cpu_us_per_message),
            cpu_us_per_client: over(|run| run.cpu_us_per_client),
            delivered_per_second: over(|run| run.delivered_per_second),
            capacity_per_second: over(|run| run.capacity_per_second),
            p50_us: over(|run| run.p50_us),
            p99_us: over(|run| run.p99_us),
            p999_us: over(|run| run.p999_us),
            switches_per_message: over(|run| run.switches_per_message),
            broker_busy_percent: over(|run| run.broker_busy_percent),
            rss_at_start: over(|run| run.rss_at_start),
            rss_per_connection: over(|run| run.rss_per_connection),
            generator_busy_percent: over(|run| run.generator_busy_percent),
            others_busy_percent: over(|run| run.others_busy_percent),
        }
    }
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median([4.0, 1.0, 9.0].into_iter()), Some(4.0));
        assert_eq!(median([4.0, 1.0, 9.0, 6.0].into_iter()), Some(5.0));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn a_figure_that_some_runs_lack_is_the_median_of_the_others() {
        let run = |p50_us| Figures { p50_us, ..Figures::default() };
        let medians = Figures::medians(&[run(Some(3.0)), run(None), run(Some(5.0))]);
        assert_eq!((medians.p50_us, medians.p99_us), (Some(4.0), None));
    }
}
