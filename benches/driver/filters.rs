//! Ways to subscribe, each with the filter and the topic of the client of a number: every filter is one client's own,
//! and every topic matches one filter.

/// A way to subscribe.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    pub filter: fn(u32) -> String,
    pub topic: fn(u32) -> String,
}

/// 64 buildings with ever more rooms, and a path of a dozen levels.
pub const WAYS: [Way; 4] = [
    Way { name: "exact", filter: room, topic: room },
    Way { name: "plus", filter: |number| format!("building/{}/+/{number}/state", number % 64), topic: room },
    Way { name: "hash", filter: |number| format!("building/{}/room/{number}/#", number % 64), topic: room },
    Way {
        name: "deep",
        filter: |number| format!("a/b/c/d/e/f/g/h/i/j/k/{number}/+/n"),
        topic: |number| format!("a/b/c/d/e/f/g/h/i/j/k/{number}/m/n"),
    },
];

fn room(number: u32) -> String {
    format!("building/{}/room/{number}/state", number % 64)
}

/// `count` numbers below `limit`, far apart, the same each time.
pub fn far_apart(count: u32, limit: u32) -> impl Iterator<Item = u32> {
    (0..count).map(move |step| (u64::from(step) * 2_654_435_761 % u64::from(limit)) as u32)
}
