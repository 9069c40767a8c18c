//! Log lines by place and minute: an attacker cannot fill the disk with them.
//!
//! Each place in the code that logs may write so many lines a minute. What is more is left out, counted, and told when the
//! minute is over: how many lines, of which place. The places are the program's own and known when it is compiled, so
//! all of it is bounded: lines a minute ≤ places × (allowed + 1). What clients choose themselves, names and topics, has
//! only its beginning in a line.

use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tracing::callsite::Identifier;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How long lines are counted together.
pub const MINUTE: Duration = Duration::from_secs(60);

/// The target of lines about lines that were left out: these are never left out themselves.
pub const TARGET: &str = "ringmq::log";

/// The most that a line has of a name or topic that a client chose, in bytes.
pub const NAMED_BYTES: usize = 96;

/// The beginning of what a client chose, so that it does not choose how long a line is.
pub fn brief(text: &str) -> &str {
    let mut end = text.len().min(NAMED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Counts the lines of each place, and says which are written.
#[derive(Clone)]
pub struct Complaints {
    shared: Arc<Shared>,
}

struct Shared {
    per_minute: u32,
    /// Read at each event without a lock; written when a place logs for the first time.
    places: ArcSwap<HashMap<Identifier, Arc<Place>>>,
}

struct Place {
    metadata: &'static Metadata<'static>,
    lines: AtomicU32,
    left_out: AtomicU64,
}

/// What a place had left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// File and line.
    pub place: String,
    /// How many lines.
    pub lines: u64,
}

impl Complaints {
    /// Lets so many lines of each place through between two calls of [`turn_over`](Self::turn_over); 0 lets all through.
    pub fn new(per_minute: u32) -> Complaints {
        Complaints { shared: Arc::new(Shared { per_minute, places: ArcSwap::default() }) }
    }

    fn follow(&self, metadata: &'static Metadata<'static>) {
        let place = Arc::new(Place { metadata, lines: AtomicU32::new(0), left_out: AtomicU64::new(0) });
        self.shared.places.rcu(|places| {
            let mut places = HashMap::clone(places);
            places.entry(metadata.callsite()).or_insert_with(|| Arc::clone(&place));
            places
        });
    }

    /// True if one more line of this place is written.
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        if self.shared.per_minute == 0 || metadata.target() == TARGET {
            return true;
        }
        let places = self.shared.places.load();
        let Some(place) = places.get(&metadata.callsite()) else { return true };
        let written =
            place.lines.fetch_update(Relaxed, Relaxed, |lines| (lines < self.shared.per_minute).then_some(lines + 1));
        if written.is_err() {
            place.left_out.fetch_add(1, Relaxed);
        }
        written.is_ok()
    }

    /// The minute is over: every place may write again. Returns what was left out in it.
    pub fn turn_over(&self) -> Vec<LeftOut> {
        let places = self.shared.places.load();
        let mut left_out: Vec<LeftOut> = places
            .values()
            .filter_map(|place| {
                place.lines.store(0, Relaxed);
                let lines = place.left_out.swap(0, Relaxed);
                let (file, line) = (place.metadata.file(), place.metadata.line());
                let place = format!("{}:{}", file.unwrap_or(place.metadata.target()), line.unwrap_or(0));
                (lines > 0).then_some(LeftOut { place, lines })
            })
            .collect();
        left_out.sort_unstable_by(|a, b| a.place.cmp(&b.place));
        left_out
    }

    /// Says what was left out, one line for each place.
    pub fn tell(left_out: &[LeftOut]) {
        for LeftOut { place, lines } in left_out {
            tracing::warn!(target: TARGET, lines, place, "lines of the log were left out: too many of one kind");
        }
    }
}

/// A layer that is told of the events that [`Complaints`] lets through, and of everything else. (Not a `Filter`: one
/// that disables single events of a place leaves a mark behind that disables the next one.)
pub struct Throttled<L> {
    layer: L,
    complaints: Complaints,
}

impl Complaints {
    /// Puts a layer behind it.
    pub fn before<L>(&self, layer: L) -> Throttled<L> {
        Throttled { layer, complaints: self.clone() }
    }
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Throttled<L> {
    fn on_layer(&mut self, subscriber: &mut S) {
        self.layer.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() {
            self.complaints.follow(metadata);
        }
        self.layer.register_callsite(metadata)
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if self.complaints.lets_through(event.metadata()) {
            self.layer.on_event(event, context);
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.layer.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.layer.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.layer.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.layer.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.layer.on_close(id, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overheard::{Lines, heard_by};
    use tracing_subscriber::layer::SubscriberExt;

    fn complain(n: u32) {
        tracing::info!(n, "again");
    }

    #[test]
    fn a_place_writes_so_many_lines_and_then_says_how_many_it_left_out() {
        let (complaints, lines) = (Complaints::new(3), Lines::default());
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
        let subscriber = tracing_subscriber::registry().with(complaints.before(layer));
        heard_by(subscriber, || {
            (0..1000).for_each(complain);
            tracing::info!("another place");
            let left_out = complaints.turn_over();
            assert_eq!(left_out.iter().map(|left_out| left_out.lines).collect::<Vec<_>>(), [997]);
            Complaints::tell(&left_out);
            complain(5000);
            assert!(complaints.turn_over().is_empty());
        });
        let text = lines.text();
        assert_eq!(text.matches("again").count(), 4, "{text}");
        assert!(text.contains("n=5000") && text.contains("another place"), "{text}");
        assert!(text.contains("lines=997") && text.contains("complaints.rs"), "{text}");
    }

    #[test]
    fn of_a_long_name_a_line_has_whole_characters_of_the_beginning() {
        assert_eq!(brief("short"), "short");
        assert_eq!(brief(&"x".repeat(1000)).len(), NAMED_BYTES);
        let odd = format!("x{}", "ü".repeat(100));
        assert_eq!(brief(&odd).len(), NAMED_BYTES - 1);
    }

    #[test]
    fn no_limit_lets_everything_through() {
        let (complaints, lines) = (Complaints::new(0), Lines::default());
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(lines.clone());
        let subscriber = tracing_subscriber::registry().with(complaints.before(layer));
        heard_by(subscriber, || (0..1000).for_each(complain));
        assert_eq!(lines.text().lines().count(), 1000);
    }
}
