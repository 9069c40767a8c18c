//! The obvious twin of every clever matcher in this room: the words of the specification, level by level.

pub use crate::codec::topic::filter_matches;

/// Filters and topics over so few levels that they meet often.
pub mod strategies {
    use proptest::prelude::*;
    use proptest::sample::select;

    pub fn topic() -> impl Strategy<Value = String> {
        prop::collection::vec(select(vec!["", "a", "b", "$s", "long level", "\u{1}", "a!"]), 1..6)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic has at least one character", |topic| !topic.is_empty())
    }

    pub fn filter() -> impl Strategy<Value = String> {
        let level = select(vec!["", "a", "b", "$s", "long level", "\u{1}", "a!", "+", "+"]);
        let end = prop_oneof![Just(None), Just(Some("#"))];
        (prop::collection::vec(level, 0..6), end)
            .prop_map(|(mut levels, end)| {
                levels.extend(end);
                levels.join("/")
            })
            .prop_filter("a filter has at least one character", |filter| !filter.is_empty())
    }
}

#[test]
fn the_examples_of_the_specification_hold() {
    for topic in ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"] {
        assert!(filter_matches("sport/tennis/player1/#", topic));
    }
    assert!(filter_matches("sport/#", "sport"));
    assert!(filter_matches("sport/tennis/+", "sport/tennis/player1"));
    assert!(!filter_matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!filter_matches("sport/+", "sport"));
    assert!(filter_matches("sport/+", "sport/"));
    assert!(filter_matches("+/+", "/finance") && filter_matches("/+", "/finance") && !filter_matches("+", "/finance"));
    assert!(
        !filter_matches("#", "$SYS/monitor/Clients") && !filter_matches("+/monitor/Clients", "$SYS/monitor/Clients")
    );
    assert!(
        filter_matches("$SYS/#", "$SYS/monitor/Clients") && filter_matches("$SYS/monitor/+", "$SYS/monitor/Clients")
    );
}
