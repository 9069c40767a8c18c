//! What a knob's value should be, and whether a value is that.
//!
//! A value is numbers separated by white space (`4096 131072 6291456`), one word, or a list of ports. What is wanted of
//! it is written
//!
//! ```text
//!     ">= EXPRESSION", "<= EXPRESSION", "= EXPRESSION" or "*"   a number; several, in an array, for several numbers
//!     "one of WORD WORD…"                                      a word; the first is the one to set
//!     "includes PORT PORT…"                                    a list of ports and ranges (1883,8000-8100)
//! ```
//!
//! so that a host that has more than is wanted is left as it is.

use std::fmt;

use super::expression::{ExpressionError, evaluate};
use super::target::Target;

/// How one number is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// No less than this.
    AtLeast(u64),
    /// No more than this.
    AtMost(u64),
    /// Just this.
    Exactly(u64),
    /// Whatever it is.
    Any,
}

impl Bound {
    /// The number nearest to `current` that is within the bound; with nothing to start from, the bound itself.
    fn nearest(self, current: Option<u64>) -> Option<u64> {
        match self {
            Bound::AtLeast(least) => Some(current.map_or(least, |current| current.max(least))),
            Bound::AtMost(most) => Some(current.map_or(most, |current| current.min(most))),
            Bound::Exactly(value) => Some(value),
            Bound::Any => current,
        }
    }
}

/// What is wanted of a value, computed for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// Numbers, each within its bound.
    Numbers(Vec<Bound>),
    /// One of these words.
    OneOf(Vec<String>),
    /// A list with all of these ports.
    Includes(Vec<u16>),
}

/// What is wrong with a wanted value of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantError {
    /// None of the forms above.
    #[error("\"{0}\" is not >=, <= or = with an expression, *, \"one of WORDS\" or \"includes PORTS\"")]
    Form(String),
    /// Its expression has no value.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
}

impl Want {
    /// Reads what the table says, for one host.
    ///
    /// # Errors
    /// When it is in none of the forms, or an expression has no value.
    pub fn read(written: &[String], target: &Target) -> Result<Want, WantError> {
        let bad = || WantError::Form(written.join(", "));
        if let [one] = written {
            if let Some(words) = one.strip_prefix("one of ") {
                return Ok(Want::OneOf(words.split_whitespace().map(str::to_owned).collect()));
            }
            if let Some(ports) = one.strip_prefix("includes ") {
                let ports: Result<Vec<u16>, _> = ports.split_whitespace().map(str::parse).collect();
                return ports.map(Want::Includes).map_err(|_| bad());
            }
        }
        if written.is_empty() {
            return Err(bad());
        }
        written.iter().map(|field| bound(field, target)).collect::<Result<_, _>>().map(Want::Numbers)
    }

    /// True when `value` is as wanted.
    pub fn is_met_by(&self, value: &str) -> bool {
        match self {
            Want::Numbers(bounds) => match numbers(value) {
                Some(values) if values.len() == bounds.len() => {
                    values.iter().zip(bounds).all(|(value, bound)| bound.nearest(Some(*value)) == Some(*value))
                }
                _ => false,
            },
            Want::OneOf(words) => words.iter().any(|word| word == value.trim()),
            Want::Includes(ports) => ports.iter().all(|port| includes(value, *port)),
        }
    }

    /// The value nearest to `current` that is as wanted; `None` when it depends on a current value that is missing or
    /// unlike what the table expects.
    pub fn nearest(&self, current: Option<&str>) -> Option<String> {
        match self {
            Want::Numbers(bounds) => {
                let values = current.map(numbers).map_or(Some(None), |values| values.map(Some))?;
                if values.as_ref().is_some_and(|values| values.len() != bounds.len()) {
                    return None;
                }
                let number = |(i, bound): (usize, &Bound)| bound.nearest(values.as_ref().map(|values| values[i]));
                let numbers: Option<Vec<String>> =
                    bounds.iter().enumerate().map(|field| number(field).map(|n| n.to_string())).collect();
                Some(numbers?.join(" "))
            }
            Want::OneOf(words) => match current {
                Some(current) if self.is_met_by(current) => Some(current.trim().to_owned()),
                _ => words.first().cloned(),
            },
            Want::Includes(ports) => Some(with_ports(current.unwrap_or_default().trim(), ports)),
        }
    }
}

fn bound(written: &str, target: &Target) -> Result<Bound, WantError> {
    if written == "*" {
        return Ok(Bound::Any);
    }
    let (sign, expression) = written.split_once(' ').ok_or_else(|| WantError::Form(written.to_owned()))?;
    let value = evaluate(expression, target)?;
    match sign {
        ">=" => Ok(Bound::AtLeast(value)),
        "<=" => Ok(Bound::AtMost(value)),
        "=" => Ok(Bound::Exactly(value)),
        _ => Err(WantError::Form(written.to_owned())),
    }
}

/// Limits say "max", "unlimited" or "infinity" for no limit.
fn numbers(value: &str) -> Option<Vec<u64>> {
    let number = |word: &str| match word {
        "max" | "unlimited" | "infinity" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    value.split_whitespace().map(number).collect()
}

fn includes(list: &str, port: u16) -> bool {
    list.trim().split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

fn with_ports(list: &str, ports: &[u16]) -> String {
    let missing = ports.iter().filter(|port| !includes(list, **port)).map(u16::to_string);
    let had = Some(list.to_owned()).filter(|list| !list.is_empty());
    had.into_iter().chain(missing).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Want::Numbers(bounds) => {
                let fields: Vec<String> = bounds.iter().map(Bound::to_string).collect();
                f.write_str(&fields.join(" "))
            }
            Want::OneOf(words) => f.write_str(&words.join("|")),
            Want::Includes(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "with {}", ports.join(","))
            }
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtLeast(least) => write!(f, ">={least}"),
            Bound::AtMost(most) => write!(f, "<={most}"),
            Bound::Exactly(value) => write!(f, "{value}"),
            Bound::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(written: &[&str]) -> Want {
        let written: Vec<String> = written.iter().map(|&field| field.to_owned()).collect();
        Want::read(&written, &Target::default()).unwrap()
    }

    #[test]
    fn a_host_that_has_more_than_is_wanted_is_left_as_it_is() {
        let least = want(&[">= connections"]);
        assert!(least.is_met_by("1000000\n") && least.is_met_by("unlimited") && !least.is_met_by("999999"));
        assert_eq!(least.nearest(Some("999999")).unwrap(), "1000000");
        assert_eq!(least.nearest(Some("1000001")).unwrap(), "1000001");
        let most = want(&["<= 10"]);
        assert!(most.is_met_by("0") && !most.is_met_by("60"));
        assert_eq!(most.nearest(Some("60")).unwrap(), "10");
    }

    #[test]
    fn of_several_numbers_only_those_out_of_bounds_change() {
        let range = want(&["<= 1024", ">= 65535"]);
        assert_eq!(range.nearest(Some("32768\t60999")).unwrap(), "1024 65535");
        assert_eq!(range.nearest(Some("1000\t65535")).unwrap(), "1000 65535");
        assert!(range.is_met_by("1000\t65535") && !range.is_met_by("1024"));
        assert_eq!(range.nearest(Some("1024")), None, "a value of another form is not touched");
        assert_eq!(range.nearest(None).unwrap(), "1024 65535");
        assert_eq!(want(&["*", "= 7"]).nearest(Some("4 5")).unwrap(), "4 7");
        assert_eq!(want(&["*"]).nearest(None), None);
    }

    #[test]
    fn of_the_words_that_will_do_the_first_is_set() {
        let words = want(&["one of madvise never"]);
        assert!(words.is_met_by("never") && !words.is_met_by("always"));
        assert_eq!(words.nearest(Some("always")).unwrap(), "madvise");
        assert_eq!(words.nearest(Some("never")).unwrap(), "never");
    }

    #[test]
    fn ports_are_added_to_those_that_are_listed() {
        let ports = want(&["includes 1883 8883"]);
        assert!(ports.is_met_by("8000-9000,1883") && !ports.is_met_by("") && !ports.is_met_by("1883"));
        assert_eq!(ports.nearest(Some("")).unwrap(), "1883,8883");
        assert_eq!(ports.nearest(Some("80,8883\n")).unwrap(), "80,8883,1883");
    }

    #[test]
    fn what_is_in_no_form_is_refused() {
        for written in ["", "5", "> 5", ">=5", "includes x", ">= nothing"] {
            assert!(Want::read(&[written.to_owned()], &Target::default()).is_err(), "{written}");
        }
        assert!(Want::read(&[], &Target::default()).is_err());
    }
}
