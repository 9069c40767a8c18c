//! The committed record: what each scenario costs, counted in which surroundings, and what a new count means.
//!
//! A line is a scenario and its instructions per operation, with a tab between. Lines that begin with `#` are for
//! people, but for the one that names the surroundings: counts of another compiler or C library are other counts, so
//! they are told and not judged.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How much more a scenario may cost than the record says, in percent.
pub const RISE_MAX_PERCENT: f64 = 5.0;

const SURROUNDINGS: &str = "# counted with: ";

const HEAD: &str = "\
# Instructions per operation, counted by callgrind. Made by `benches/instructions.sh --record`.
";

/// Counts by scenario, and where they were counted.
#[derive(Debug, Default, PartialEq)]
pub struct Record {
    pub surroundings: String,
    pub counts: BTreeMap<String, f64>,
}

/// What a count means beside the record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Within the bounds: the change in percent.
    Held(f64),
    /// Cheaper by more than the bound: the record should be renewed, so that the gain is kept.
    Fell(f64),
    Rose(f64),
    /// The record does not know this scenario.
    Unknown,
}

impl Record {
    /// Reads a record's text; the line that is none is the error.
    pub fn parse(text: &str) -> Result<Record, String> {
        let mut record = Record::default();
        for line in text.lines() {
            if let Some(surroundings) = line.strip_prefix(SURROUNDINGS) {
                record.surroundings = surroundings.to_owned();
            } else if !line.starts_with('#') {
                let (name, count) = line.split_once('\t').ok_or_else(|| line.to_owned())?;
                record.counts.insert(name.to_owned(), count.parse().map_err(|_| line.to_owned())?);
            }
        }
        Ok(record)
    }

    /// The text that [`Record::parse`] reads, with the day it was made.
    pub fn text(&self, day: &str) -> String {
        let mut text = format!("{HEAD}# {day}\n{SURROUNDINGS}{}\n", self.surroundings);
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{name}\t{count:.1}");
        }
        text
    }

    /// Lays a new count beside the record's.
    pub fn judge(&self, name: &str, count: f64) -> Verdict {
        let Some(before) = self.counts.get(name) else { return Verdict::Unknown };
        let change = (count / before - 1.0) * 100.0;
        if change > RISE_MAX_PERCENT {
            Verdict::Rose(change)
        } else if change < -RISE_MAX_PERCENT {
            Verdict::Fell(change)
        } else {
            Verdict::Held(change)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record { surroundings: "rustc 1".to_owned(), counts: [("a/b".to_owned(), 200.0)].into() }
    }

    #[test]
    fn a_record_reads_what_it_wrote() {
        assert_eq!(Record::parse(&record().text("2026-11-23")), Ok(record()));
    }

    #[test]
    fn a_line_that_is_no_count_is_told() {
        assert_eq!(Record::parse("# fine\na/b\tmany\n"), Err("a/b\tmany".to_owned()));
    }

    #[test]
    fn more_than_five_percent_is_a_rise_and_a_scenario_of_no_record_is_told() {
        assert!(matches!(record().judge("a/b", 209.0), Verdict::Held(_)));
        assert!(matches!(record().judge("a/b", 211.0), Verdict::Rose(_)));
        assert!(matches!(record().judge("a/b", 189.0), Verdict::Fell(_)));
        assert_eq!(record().judge("a/c", 1.0), Verdict::Unknown);
    }
}
