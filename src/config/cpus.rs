//! Lists of CPUs as the kernel and its tools write them: "0-3,6".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Numbers above this are a mistake: the kernel is built for at most 8,192 CPUs.
const CPU_MAX: usize = 8191;

/// A set of CPU numbers, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(Vec<usize>);

impl CpuSet {
    /// The numbers, ascending, each once.
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }

    /// True when this CPU is among them.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    /// True when no CPU is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> CpuSet {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        CpuSet(cpus)
    }
}

/// What is wrong with a list of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{part}\" is no CPU or range of CPUs, expected a list like \"0-3,6\"")]
pub struct CpuSetError {
    part: String,
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<CpuSet, CpuSetError> {
        if text.trim().is_empty() {
            return Ok(CpuSet::default());
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let range = parse_range(part.trim()).ok_or_else(|| CpuSetError { part: part.trim().to_owned() })?;
            cpus.extend(range);
        }
        Ok(cpus.into_iter().collect())
    }
}

fn parse_range(part: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last <= CPU_MAX).then_some(first..=last)
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (i, run) in runs.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = CpuSetError;

    fn try_from(text: String) -> Result<CpuSet, CpuSetError> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(cpus: CpuSet) -> String {
        cpus.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_in_any_order_and_written_in_runs() {
        let cpus: CpuSet = "6, 3,0-2,1".parse().unwrap();
        assert_eq!(cpus.as_slice(), [0, 1, 2, 3, 6]);
        assert_eq!(cpus.to_string(), "0-3,6");
        assert_eq!("".parse::<CpuSet>().unwrap().to_string(), "");
    }

    #[test]
    fn the_part_that_cannot_be_read_is_named() {
        for (text, part) in [("0,x", "x"), ("1,,2", ""), ("4-2", "4-2"), ("0-99999999999", "0-99999999999")] {
            assert_eq!(text.parse::<CpuSet>(), Err(CpuSetError { part: part.to_owned() }), "{text}");
        }
    }
}
