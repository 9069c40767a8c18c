//! Filters and topics that are allowed by the protocol and still a bad idea: refused where the configuration says so, and
//! otherwise told to the operator, with a counter and a line in the log.

use crate::codec::topic::{level_count, levels};

/// Topics with more levels than this are very deep.
pub const DEEP_LEVELS: usize = 16;

/// What an operator may want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiPattern {
    /// A subscription to everything: `#` or `+/#`.
    Everything,
    /// A topic name or filter with more than [`DEEP_LEVELS`] levels.
    VeryDeep,
}

impl AntiPattern {
    /// What to do about it, for the log.
    pub fn advice(self) -> &'static str {
        match self {
            AntiPattern::Everything => {
                "subscribes to everything: let it name what it needs; limits.wildcard_depth_min refuses it"
            }
            AntiPattern::VeryDeep => "uses very deep topics: each level costs every match; limits.topic_levels_max",
        }
    }
}

/// What is odd about a filter, without its `$share/…/`.
pub fn of_filter(filter: &str) -> Option<AntiPattern> {
    match filter {
        "#" | "+/#" => Some(AntiPattern::Everything),
        _ if is_very_deep(filter) => Some(AntiPattern::VeryDeep),
        _ => None,
    }
}

/// True if a topic name has more than [`DEEP_LEVELS`] levels.
#[inline]
pub fn is_very_deep(topic: &str) -> bool {
    // One with fewer bytes cannot have as many.
    topic.len() >= DEEP_LEVELS && level_count(topic) > DEEP_LEVELS
}

/// True if so many levels of a filter, without its `$share/…/`, come before its first wildcard, or it has none. Where
/// that is not so, SUBACK says 0xA2 (Wildcard Subscriptions not supported): a server that supports wildcard subscriptions
/// may still reject a particular one with that very code (MQTT 5.0 §3.2.2.3.11). 0x87 (Not authorized) would send the
/// client's owner to the rules of authorization, which have nothing to do with it.
pub fn is_deep_enough(filter: &str, least: u16) -> bool {
    least == 0 || levels(filter).take(usize::from(least)).all(|level| level != "+" && level != "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_needs_as_many_levels_before_it_as_are_said() {
        let shallowest = |filter: &str| (0..5).take_while(|least| is_deep_enough(filter, *least)).count() - 1;
        let cases = [("#", 0), ("+", 0), ("+/#", 0), ("+/a/b", 0), ("a/#", 1), ("a/+/b", 1), ("a/b/+", 2), ("/#", 1)];
        for (filter, deep) in cases {
            assert_eq!(shallowest(filter), deep, "{filter}");
        }
        assert!(is_deep_enough("a", 9), "a filter without wildcards is no matter");
    }

    #[test]
    fn filters_for_everything_and_very_deep_ones_are_told_of() {
        assert_eq!(of_filter("#"), Some(AntiPattern::Everything));
        assert_eq!(of_filter("+/#"), Some(AntiPattern::Everything));
        assert_eq!(of_filter(&"/".repeat(DEEP_LEVELS)), Some(AntiPattern::VeryDeep));
        assert_eq!(of_filter(&"/".repeat(DEEP_LEVELS - 1)), None);
        assert_eq!(of_filter("a/#"), None);
    }
}
