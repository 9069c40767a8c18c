//! Topic names and topic filters (MQTT 5.0 §4.7, §4.8): what they may look like, their levels, and the plain
//! definition of what matches what, which the clever indexes are tested against.

use ascii::{AsAsciiStr, AsciiStr};
use thiserror::Error;

/// The longest topic name or filter in bytes: its length takes two bytes on the wire.
pub const TOPIC_LEN_MAX: usize = 65_535;

/// What starts a shared subscription's filter (MQTT 5.0 §4.8.2).
const SHARE_PREFIX: &str = "$share/";

/// Why a string is not a topic name or a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// It has no character `[MQTT-4.7.3-1]`.
    #[error("it is empty")]
    Empty,
    /// It is longer than 65,535 bytes `[MQTT-4.7.3-3]`.
    #[error("it is longer than 65,535 bytes")]
    TooLong,
    /// It holds U+0000 `[MQTT-4.7.3-2]`.
    #[error("it holds U+0000")]
    NullCharacter,
    /// A topic name with a wildcard `[MQTT-3.3.2-2]`.
    #[error("a topic name holds a wildcard")]
    WildcardInName,
    /// A `+` that is not a whole level `[MQTT-4.7.1-2]`.
    #[error("'+' is not alone in its level")]
    SingleLevelWildcard,
    /// A `#` that is not a whole level, or not the last one `[MQTT-4.7.1-1]`.
    #[error("'#' is not alone in the last level")]
    MultiLevelWildcard,
    /// `$share/` without a share name, with a wildcard in it, or without a filter after it
    /// `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
    #[error("a shared subscription is not of the form $share/name/filter")]
    Shared,
}

/// Checks a topic name: not empty, not too long, no U+0000, no wildcards.
pub fn validate_topic_name(name: &str) -> Result<(), TopicError> {
    let bytes = name.as_bytes();
    if let Some(at) = memchr::memchr3(0, b'+', b'#', bytes) {
        return Err(if bytes[at] == 0 { TopicError::NullCharacter } else { TopicError::WildcardInName });
    }
    validate_length(name)
}

/// The topic name that these bytes are, if it is a short and plain one, as nearly all are. `None` says nothing.
#[inline]
pub fn plain_name(bytes: &[u8]) -> Option<&str> {
    // The standard library's check of UTF-8 goes byte by byte through what is this short.
    if is_plain(bytes) { bytes.as_ascii_str().ok().map(AsciiStr::as_str) } else { None }
}

/// True for a topic name of 1 to 64 bytes of ASCII without U+0000, `+` and `#`, as most are. For these a few steps of
/// eight bytes at a time cost less than the calls of a search made for long texts.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    match bytes.len() {
        0 | 65.. => false,
        short @ 1..4 => {
            let [first, middle, last] = [bytes[0], bytes[short / 2], bytes[short - 1]];
            is_plain_word(u64::from_ne_bytes([first, middle, last, last, last, last, last, last]))
        }
        _ => is_plain_in_pieces(bytes),
    }
}

/// The last piece overlaps those before it.
#[inline]
fn is_plain_in_pieces(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<8>() {
        let (eights, _) = bytes.as_chunks::<8>();
        return eights.iter().chain([last]).all(|eight| is_plain_word(u64::from_ne_bytes(*eight)));
    }
    let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) else { return false };
    is_plain_word(u64::from(u32::from_ne_bytes(*first)) << 32 | u64::from(u32::from_ne_bytes(*last)))
}

#[inline]
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Bytes below 0x80 borrow into their highest bit exactly when one of them is 0.
    let borrows = |word: u64| word.wrapping_sub(ONES);
    let none_of = borrows(word) | borrows(word ^ (ONES * b'+' as u64)) | borrows(word ^ (ONES * b'#' as u64));
    (word | none_of) & HIGH == 0
}

/// Checks a topic filter, of a shared subscription or not.
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    validate_length(filter)?;
    if memchr::memchr(0, filter.as_bytes()).is_some() {
        return Err(TopicError::NullCharacter);
    }
    if filter.starts_with(SHARE_PREFIX) {
        let (_, inner) = parse_shared(filter).ok_or(TopicError::Shared)?;
        return validate_wildcards(inner);
    }
    validate_wildcards(filter)
}

fn validate_length(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        1..=TOPIC_LEN_MAX => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

fn validate_wildcards(filter: &str) -> Result<(), TopicError> {
    let bytes = filter.as_bytes();
    for at in memchr::memchr2_iter(b'+', b'#', bytes) {
        let starts_level = at == 0 || bytes[at - 1] == b'/';
        let next = bytes.get(at + 1);
        if bytes[at] == b'+' {
            if !starts_level || next.is_some_and(|byte| *byte != b'/') {
                return Err(TopicError::SingleLevelWildcard);
            }
        } else if !starts_level || next.is_some() {
            return Err(TopicError::MultiLevelWildcard);
        }
    }
    Ok(())
}

/// The share name and the filter of a shared subscription; `None` for any other filter, and for a string
/// that starts with `$share/` but is not of the form `$share/{ShareName}/{filter}`.
pub fn parse_shared(filter: &str) -> Option<(&str, &str)> {
    let (group, filter) = filter.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
    let is_name = !group.is_empty() && memchr::memchr2(b'+', b'#', group.as_bytes()).is_none();
    (is_name && !filter.is_empty()).then_some((group, filter))
}

/// The levels of a topic name or filter: what stands between the separators, empty levels included
/// `[MQTT-4.7.1-3]`, at least one.
pub fn levels(topic: &str) -> impl Iterator<Item = &str> {
    let mut separators = memchr::memchr_iter(b'/', topic.as_bytes());
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let Some(to) = separators.next() else {
            start = None;
            return Some(&topic[from..]);
        };
        start = Some(to + 1);
        Some(&topic[from..to])
    })
}

/// How many levels a topic name or filter has: one more than separators.
pub fn level_count(topic: &str) -> usize {
    memchr::memchr_iter(b'/', topic.as_bytes()).count() + 1
}

/// Says whether a topic name matches a filter (without `$share/…/`), the obvious way (MQTT 5.0 §4.7.1, §4.7.2).
/// Both must be valid.
pub fn filter_matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]: a filter that starts with a wildcard does not match a topic that starts with `$`.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = levels(topic);
    for filter_level in levels(filter) {
        // Asked before the topic's next level is: `sport/#` matches `sport` too.
        if filter_level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(level) if filter_level == "+" || filter_level == level => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn topic_names_have_no_wildcards_and_are_not_empty() {
        for name in ["a", "/", "//", "a/b", "/a", "a/", " ", "$SYS/x", "Ünïcode/𝄞", "$share/g/x", "a b"] {
            assert_eq!(validate_topic_name(name), Ok(()), "{name}");
        }
        let refused = [
            ("", TopicError::Empty),
            ("+", TopicError::WildcardInName),
            ("a/#", TopicError::WildcardInName),
            ("a+b", TopicError::WildcardInName),
            ("a\0", TopicError::NullCharacter),
        ];
        for (name, error) in refused {
            assert_eq!(validate_topic_name(name), Err(error), "{name}");
        }
        assert_eq!(validate_topic_name(&"x".repeat(65_535)), Ok(()));
        assert_eq!(validate_topic_name(&"x".repeat(65_536)), Err(TopicError::TooLong));
    }

    proptest! {
        #[test]
        fn a_topic_name_is_checked_short_and_plain_or_not(
            name in "[ -~\\x01+#\\x00\\x7f\\x80ü𝄞]{1,2}|[a-z/]{0,70}[+#\\x00ü\\x7fa\"]?[a-z/]{0,20}",
        ) {
            let expected = match name.bytes().find(|byte| matches!(byte, 0 | b'+' | b'#')) {
                Some(0) => Err(TopicError::NullCharacter),
                Some(_) => Err(TopicError::WildcardInName),
                None => validate_length(&name),
            };
            prop_assert_eq!(validate_topic_name(&name), expected);
            let is_plain = expected.is_ok() && name.is_ascii() && name.len() <= 64;
            prop_assert_eq!(plain_name(name.as_bytes()), is_plain.then_some(&name[..]));
        }

        #[test]
        fn bytes_that_are_no_ascii_are_no_plain_name(
            name in "[a-z/]{0,40}", at in 0..=40usize, byte in 0x80u8..,
        ) {
            let mut bytes = name.into_bytes();
            bytes.insert(at.min(bytes.len()), byte);
            prop_assert_eq!(plain_name(&bytes), None);
        }
    }

    #[test]
    fn wildcards_of_a_filter_are_whole_levels_and_the_multi_level_one_is_last() {
        for filter in ["#", "+", "/", "+/+", "/+", "+/", "a/#", "/#", "a/+/b", "+/a/#", "$SYS/#", "$share", "$shared/+"]
        {
            assert_eq!(validate_filter(filter), Ok(()), "{filter}");
        }
        let refused = [
            ("", TopicError::Empty),
            ("a\0/#", TopicError::NullCharacter),
            ("a+", TopicError::SingleLevelWildcard),
            ("+a", TopicError::SingleLevelWildcard),
            ("a/b+/c", TopicError::SingleLevelWildcard),
            ("++", TopicError::SingleLevelWildcard),
            ("+#", TopicError::SingleLevelWildcard),
            ("a#", TopicError::MultiLevelWildcard),
            ("#/a", TopicError::MultiLevelWildcard),
            ("#/", TopicError::MultiLevelWildcard),
            ("##", TopicError::MultiLevelWildcard),
            ("a/#/b", TopicError::MultiLevelWildcard),
        ];
        for (filter, error) in refused {
            assert_eq!(validate_filter(filter), Err(error), "{filter}");
        }
    }

    #[test]
    fn shared_subscriptions_have_a_name_without_wildcards_and_a_filter() {
        for (filter, parts) in [
            ("$share/g/a", ("g", "a")),
            ("$share/g/#", ("g", "#")),
            ("$share/g//", ("g", "/")),
            ("$share/g//a", ("g", "/a")),
            ("$share/consumers/+/b/#", ("consumers", "+/b/#")),
            ("$share/g/$share/h/x", ("g", "$share/h/x")),
        ] {
            assert_eq!(validate_filter(filter), Ok(()), "{filter}");
            assert_eq!(parse_shared(filter), Some(parts), "{filter}");
        }
        for filter in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/g#/a", "$share/#"] {
            assert_eq!(validate_filter(filter), Err(TopicError::Shared), "{filter}");
            assert_eq!(parse_shared(filter), None, "{filter}");
        }
        assert_eq!(validate_filter("$share/g/a+"), Err(TopicError::SingleLevelWildcard));
        assert_eq!(parse_shared("share/g/a"), None);
        assert_eq!(parse_shared("$shared/g/a"), None);
    }

    #[test]
    fn empty_levels_count() {
        for (topic, expected) in [
            ("a", &["a"][..]),
            ("a/b", &["a", "b"]),
            ("/", &["", ""]),
            ("/a//b/", &["", "a", "", "b", ""]),
            ("", &[""]),
        ] {
            assert_eq!(levels(topic).collect::<Vec<_>>(), expected, "{topic}");
            assert_eq!(level_count(topic), expected.len(), "{topic}");
        }
    }

    #[test]
    fn filters_match_as_in_the_examples_of_the_specification() {
        let table = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("#", "a/b/c", true),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+/tennis/#", "sport/tennis", true),
            ("sport/+/player1", "sport/tennis/player1", true),
            ("#", "$SYS/a", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/a", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
            ("a/$x", "a/$x", true),
            ("a/+", "a/$x", true),
        ];
        for (filter, topic, expected) in table {
            assert_eq!(filter_matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    /// The wildcard rules of MQTT 5.0 §4.7.1, level by level.
    fn wildcards_are_in_place(filter: &str) -> bool {
        let levels: Vec<&str> = filter.split('/').collect();
        levels.iter().enumerate().all(|(index, level)| match *level {
            "+" => true,
            "#" => index + 1 == levels.len(),
            level => !level.contains(['+', '#']),
        })
    }

    proptest! {
        #[test]
        fn scanning_for_wildcards_says_what_looking_at_each_level_says(filter in "[a+#/]{1,8}") {
            prop_assert_eq!(validate_filter(&filter).is_ok(), wildcards_are_in_place(&filter), "{}", filter);
        }

        #[test]
        fn levels_are_what_splitting_gives(topic in "[aé/]{0,40}") {
            prop_assert_eq!(levels(&topic).collect::<Vec<_>>(), topic.split('/').collect::<Vec<_>>());
            prop_assert_eq!(level_count(&topic), topic.split('/').count());
        }

        #[test]
        fn a_topic_matches_itself_and_what_stands_for_everything(topic in "[ab/]{1,10}") {
            prop_assert!(filter_matches(&topic, &topic));
            prop_assert!(filter_matches("#", &topic));
            let (with_children, only_children) = (topic.clone() + "/#", topic.clone() + "/+");
            prop_assert!(filter_matches(&with_children, &topic));
            prop_assert!(!filter_matches(&only_children, &topic));
        }
    }
}
