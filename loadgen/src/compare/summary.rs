//! Medians over the rounds, ratios to the first broker, verdicts by the bars, and the tables that show them.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::bars::{Against, BARS, Bar, Bound};
use super::figures::{Figure, Figures, median};

/// One run that gave a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Counted from 1.
    pub round: u32,
    /// The scenario.
    pub scenario: String,
    /// The broker's name.
    pub broker: String,
    /// What came out.
    pub figures: Figures,
}

/// A scenario on a broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// The broker's name.
    pub broker: String,
    /// How many rounds gave a result.
    pub rounds: usize,
    /// The main figure's ratio to the first broker of the scenario: CPU per message, or per client where nothing is
    /// published. The median of the rounds' own ratios; absent for the first itself.
    pub ratio: Option<f64>,
    /// The medians.
    pub figures: Figures,
}

/// What became of one bar.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The bar.
    #[serde(flatten)]
    pub bar: Bar,
    /// The figure, or its ratio.
    pub value: f64,
    /// Whether it holds.
    pub holds: bool,
}

/// One row per scenario and broker, in the order of `order`.
pub fn rows(rounds: &[Round], order: &[(String, Vec<String>)]) -> Vec<Row> {
    let of_scenario = |(scenario, brokers): &(String, Vec<String>)| -> Vec<Row> {
        brokers.iter().filter_map(|broker| row(rounds, scenario, broker, brokers.first()?)).collect()
    };
    order.iter().flat_map(of_scenario).collect()
}

fn row(rounds: &[Round], scenario: &str, broker: &str, first: &str) -> Option<Row> {
    let figures: Vec<Figures> = runs(rounds, scenario, broker).map(|round| round.figures).collect();
    let main = |other| {
        let ratio = |figure| self::ratio(rounds, scenario, figure, broker, other);
        ratio(Figure::CpuPerMessage).or_else(|| ratio(Figure::CpuPerClient))
    };
    (!figures.is_empty()).then(|| Row {
        scenario: scenario.to_owned(),
        broker: broker.to_owned(),
        rounds: figures.len(),
        ratio: if broker == first { None } else { main(first) },
        figures: Figures::medians(&figures),
    })
}

fn runs<'a>(rounds: &'a [Round], scenario: &str, broker: &str) -> impl Iterator<Item = &'a Round> {
    rounds.iter().filter(move |round| round.scenario == scenario && round.broker == broker)
}

/// The median of the rounds' own ratios.
fn ratio(rounds: &[Round], scenario: &str, figure: Figure, broker: &str, other: &str) -> Option<f64> {
    let of_round = |round: &Round| {
        let other = runs(rounds, scenario, other).find(|other| other.round == round.round)?;
        Some(figure.of(&round.figures)? / figure.of(&other.figures)?)
    };
    median(runs(rounds, scenario, broker).filter_map(of_round))
}

/// The bars that these rounds say something about.
pub fn verdicts(rounds: &[Round]) -> Vec<Verdict> {
    let verdict = |bar: &Bar| {
        let value = match bar.against {
            Against::Other(other) => ratio(rounds, bar.scenario, bar.figure, bar.broker, other)?,
            Against::Itself => {
                median(runs(rounds, bar.scenario, bar.broker).filter_map(|round| bar.figure.of(&round.figures)))?
            }
        };
        Some(Verdict { bar: *bar, value, holds: bar.bound.holds(value) })
    };
    BARS.iter().filter_map(verdict).collect()
}

/// The tables for people; `spared` are scenarios and the brokers that can't do them.
pub fn tables(rows: &[Row], spared: &[(String, String)], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write_rows(&mut text, rows)
        .and_then(|()| write_spared(&mut text, spared))
        .and_then(|()| write_verdicts(&mut text, verdicts));
    text
}

const TITLES: [(&str, usize); 12] = [
    ("µs CPU/msg", 11),
    ("µs CPU/client", 14),
    ("msg/s", 11),
    ("p50 µs", 10),
    ("p99 µs", 10),
    ("p99.9 µs", 10),
    ("csw/msg", 9),
    ("broker %", 9),
    ("RSS start", 12),
    ("RSS/conn", 10),
    ("gen %", 7),
    ("others %", 10),
];

fn write_rows(text: &mut String, rows: &[Row]) -> fmt::Result {
    write!(text, "{:<19}{:<12}{:>7}", "scenario", "broker", "ratio")?;
    TITLES.iter().try_for_each(|(title, width)| write!(text, "{title:>width$}"))?;
    writeln!(text)?;
    for Row { scenario, broker, ratio, figures, .. } in rows {
        write!(text, "{scenario:<19}{broker:<12}{:>7.3}", Or(*ratio))?;
        let Figures { cpu_us_per_message, cpu_us_per_client, delivered_per_second, .. } = *figures;
        let shown = [
            (cpu_us_per_message, 3),
            (cpu_us_per_client, 2),
            (delivered_per_second.filter(|rate| *rate > 0.0), 0),
            (figures.p50_us, 0),
            (figures.p99_us, 0),
            (figures.p999_us, 0),
            (figures.switches_per_message, 4),
            (figures.broker_busy_percent, 2),
            (figures.rss_at_start, 0),
            (figures.rss_per_connection, 0),
            (figures.generator_busy_percent, 0),
            (figures.others_busy_percent, 0),
        ];
        for ((value, precision), (_, width)) in shown.into_iter().zip(TITLES) {
            write!(text, "{:>width$.precision$}", Or(value))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn write_spared(text: &mut String, spared: &[(String, String)]) -> fmt::Result {
    spared.iter().try_for_each(|(scenario, broker)| {
        writeln!(text, "{scenario:<19}{broker:<12}{:>7}  not supported by {broker}", Or(None))
    })
}

fn write_verdicts(text: &mut String, verdicts: &[Verdict]) -> fmt::Result {
    if !verdicts.is_empty() {
        writeln!(text, "\nWhat ringmq is held to:")?;
    }
    for Verdict { bar, value, holds } in verdicts {
        let what = match bar.against {
            Against::Itself => bar.figure.title().to_owned(),
            Against::Other(other) => format!("{} ÷ {other}'s", bar.figure.title()),
        };
        let bound = match bar.bound {
            Bound::AtMost(most) => format!("≤ {most}"),
            Bound::AtLeast(least) => format!("≥ {least}"),
        };
        let said = if *holds { "ok" } else { "MISSED" };
        let precision = if *value >= 1e3 { 0 } else { 3 };
        writeln!(text, "  {:<19}{what:<42}{value:>11.precision$} {bound:>9}  {said}", bar.scenario)?;
    }
    Ok(())
}

/// A figure, or a dash where there is none.
pub struct Or(pub Option<f64>);

impl fmt::Display for Or {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (precision, width) = (f.precision().unwrap_or(3), f.width().unwrap_or(0));
        match self.0 {
            Some(value) => write!(f, "{value:>width$.precision$}"),
            None => write!(f, "{:>width$}", "–"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(round: u32, broker: &str, cpu: f64) -> Round {
        let figures = Figures { cpu_us_per_message: Some(cpu), ..Figures::default() };
        Round { round, scenario: "p2p".to_owned(), broker: broker.to_owned(), figures }
    }

    fn order(brokers: &[&str]) -> Vec<(String, Vec<String>)> {
        vec![("p2p".to_owned(), brokers.iter().map(|&name| name.to_owned()).collect())]
    }

    #[test]
    fn a_ratio_is_taken_within_each_round_so_that_a_drift_of_the_machine_cancels() {
        let rounds = [
            round(1, "mosquitto", 4.0),
            round(1, "ringmq", 0.2),
            round(2, "ringmq", 0.8),
            round(2, "mosquitto", 16.0),
            round(3, "mosquitto", 8.0),
            round(3, "ringmq", 0.4),
        ];
        let rows = rows(&rounds, &order(&["mosquitto", "ringmq"]));
        assert_eq!(rows[0].ratio, None);
        assert_eq!((rows[1].ratio, rows[1].figures.cpu_us_per_message), (Some(0.05), Some(0.4)));
        let verdicts = verdicts(&rounds);
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].holds && verdicts[0].value == 0.05);
    }

    #[test]
    fn a_round_in_which_the_other_failed_gives_no_ratio() {
        let rounds = [round(1, "ringmq", 0.2), round(2, "ringmq", 0.5), round(2, "mosquitto", 8.0)];
        let rows = rows(&rounds, &order(&["mosquitto", "ringmq"]));
        assert_eq!((rows[1].ratio, rows[1].rounds), (Some(0.0625), 2));
    }

    #[test]
    fn a_missed_bar_is_shown_as_missed() {
        let rounds = [round(1, "mosquitto", 1.0), round(1, "ringmq", 0.5), round(1, "forwarder", 0.3)];
        let spared = [("shared".to_owned(), "nats-server".to_owned())];
        let text = tables(&rows(&rounds, &order(&["mosquitto", "ringmq"])), &spared, &verdicts(&rounds));
        assert!(text.lines().any(|line| line.starts_with("shared") && line.ends_with("not supported by nats-server")));
        assert!(text.contains("≤ 0.055  MISSED") && text.contains("≤ 2.2  ok"), "{text}");
    }
}
