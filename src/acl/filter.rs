//! The topic filter of a rule: which topics it matches, which other filters it covers, which it overlaps.

use crate::codec::topic::levels;

/// A rule's filter with every placeholder filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// A valid topic filter; empty in one that matches every topic there is.
    text: Box<str>,
    /// How many bytes of it stand before the first wildcard.
    literal: usize,
}

impl Filter {
    /// Takes a valid topic filter.
    pub fn new(text: &str) -> Filter {
        let literal = memchr::memchr2(b'+', b'#', text.as_bytes()).unwrap_or(text.len());
        Filter { text: text.into(), literal }
    }

    /// Matches every topic, also those that begin with `$`, which no filter of MQTT does.
    pub fn everything() -> Filter {
        Filter { text: Box::default(), literal: 0 }
    }

    fn is_everything(&self) -> bool {
        self.text.is_empty()
    }

    /// The filter as one would write it.
    pub fn text(&self) -> &str {
        if self.is_everything() { "(every topic)" } else { &self.text }
    }

    /// Whether the topic name matches (MQTT 5.0 §4.7).
    #[inline]
    pub fn matches(&self, topic: &str) -> bool {
        let (literal, wild) = self.text.as_bytes().split_at(self.literal);
        if wild.is_empty() {
            return self.is_everything() || literal == topic.as_bytes();
        }
        let Some(rest) = topic.as_bytes().strip_prefix(literal) else {
            // `sport/#` matches `sport` too.
            return wild == b"#" && literal.strip_suffix(b"/") == Some(topic.as_bytes());
        };
        // [MQTT-4.7.2-1]: a filter that starts with a wildcard does not match a topic that starts with `$`.
        if literal.is_empty() && rest.first() == Some(&b'$') {
            return false;
        }
        // What stands before a wildcard ends with a separator, so both rests begin with a level.
        wild == b"#" || rest_matches(&self.text[self.literal..], &topic[self.literal..])
    }

    /// Whether every topic that matches the given filter matches this one.
    pub fn covers(&self, filter: &str) -> bool {
        if self.is_everything() {
            return true;
        }
        if self.begins_differently(filter) || is_apart(&self.text, filter) {
            return false;
        }
        let mut other = levels(spelled_out(filter));
        for level in levels(&self.text) {
            if level == "#" {
                return true;
            }
            match other.next() {
                Some("#") | None => return false,
                Some(theirs) if level == "+" || level == theirs => {}
                Some(_) => return false,
            }
        }
        other.next().is_none()
    }

    /// Whether the two differ before the first wildcard of either: no topic matches both. Most of many rules are told
    /// apart by this alone.
    fn begins_differently(&self, filter: &str) -> bool {
        let mut pairs = self.text.as_bytes()[..self.literal].iter().zip(filter.as_bytes());
        let difference = pairs.find(|(ours, theirs)| ours != theirs);
        difference.is_some_and(|(_, theirs)| !matches!(theirs, b'+' | b'#'))
    }

    /// Whether some topic matches both the given filter and this one.
    pub fn overlaps(&self, filter: &str) -> bool {
        if self.is_everything() {
            return true;
        }
        if self.begins_differently(filter) || is_apart(&self.text, filter) {
            return false;
        }
        let (mut ours, mut theirs) = (levels(spelled_out(&self.text)), levels(spelled_out(filter)));
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (None, _) | (_, None) => return false,
                (Some("+"), _) | (_, Some("+")) => {}
                (Some(ours), Some(theirs)) if ours == theirs => {}
                _ => return false,
            }
        }
    }
}

/// Whether one of two filters is about topics that begin with `$` and the other begins with a wildcard, which is
/// never about those `[MQTT-4.7.2-1]`.
fn is_apart(one: &str, other: &str) -> bool {
    let is_wild = |filter: &str| filter.starts_with(['+', '#']);
    is_wild(one) && other.starts_with('$') || one.starts_with('$') && is_wild(other)
}

/// The same filter, with `+` for a level that `#` cannot do without since no topic is empty.
pub(super) fn spelled_out(filter: &str) -> &str {
    match filter {
        "#" => "+/#",
        "/#" => "/+/#",
        other => other,
    }
}

fn rest_matches(filter: &str, topic: &str) -> bool {
    let mut topic = levels(topic);
    for level in levels(filter) {
        if level == "#" {
            return true;
        }
        match topic.next() {
            Some(theirs) if level == "+" || level == theirs => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::topic::filter_matches;

    /// Levels that filters and topics of the tests are made of. The last stands in filters never: it is what a wildcard
    /// matches besides all that is named.
    const LEVELS: [&str; 5] = ["", "a", "b", "$x", "other"];
    const DEPTH_MAX: usize = 4;

    /// Every topic of up to five levels; one level more than any filter has.
    fn topics() -> Vec<String> {
        let mut all = Vec::new();
        let mut longest: Vec<String> = LEVELS.iter().map(|level| (*level).to_owned()).collect();
        for _ in 0..=DEPTH_MAX {
            all.extend(longest.iter().cloned());
            longest =
                longest.iter().flat_map(|topic| LEVELS.iter().map(move |level| format!("{topic}/{level}"))).collect();
        }
        all.retain(|topic| !topic.is_empty());
        all
    }

    fn filters() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["", "a", "b", "$x", "+"]);
        let filter = (prop::collection::vec(level, 0..DEPTH_MAX), any::<bool>());
        filter.prop_filter_map("a filter", |(mut levels, all)| {
            levels.extend(all.then_some("#"));
            Some(levels.join("/")).filter(|filter| !filter.is_empty())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn covering_and_overlapping_are_what_comparing_every_topic_says(rule in filters(), asked in filters()) {
            thread_local!(static TOPICS: Vec<String> = topics());
            let filter = Filter::new(&rule);
            let (covers, overlaps) = TOPICS.with(|topics| {
                let asked = || topics.iter().filter(|topic| filter_matches(&asked, topic));
                let ours = |topic: &&String| filter_matches(&rule, topic);
                (asked().all(|topic| ours(&topic)), asked().any(|topic| ours(&topic)))
            });
            prop_assert_eq!(filter.covers(&asked), covers, "{} covers {}", &rule, &asked);
            prop_assert_eq!(filter.overlaps(&asked), overlaps, "{} overlaps {}", &rule, &asked);
        }

        #[test]
        fn a_topic_matches_as_the_plain_definition_says(
            rule in filters(),
            topic in "(|a|b|\\$x|ab|ü)(/(|a|b|\\$x|ab|ü)){0,4}",
        ) {
            prop_assume!(!topic.is_empty());
            prop_assert_eq!(Filter::new(&rule).matches(&topic), filter_matches(&rule, &topic), "{} {}", &rule, &topic);
        }
    }

    #[test]
    fn everything_is_more_than_any_filter_matches() {
        let everything = Filter::everything();
        for filter in ["#", "$SYS/#", "a", "/"] {
            assert!(everything.covers(filter) && everything.overlaps(filter), "{filter}");
        }
        assert!(everything.matches("$SYS/uptime") && everything.matches("a/b"));
    }
}
