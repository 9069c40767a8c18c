//! What `server.log` may say: a level, and levels for single modules.

use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

/// Reads "info" or "warn,ringmq::net=debug"; the error is the part that can't be read.
///
/// `Targets` would take a mistyped level for the name of a module and log nothing; hence the stricter reading.
pub(crate) fn parse(text: &str) -> Result<Targets, &str> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let (target, level) = part.split_once('=').unwrap_or(("", part));
        let level = level_named(level).ok_or(part)?;
        targets = match target {
            "" if part.contains('=') => return Err(part),
            "" => targets.with_default(level),
            target => targets.with_target(target, level),
        };
    }
    Ok(targets)
}

/// Levels by name only: `LevelFilter` also reads numbers, which say nothing to a reader.
fn level_named(name: &str) -> Option<LevelFilter> {
    let named = name.chars().all(|c| c.is_ascii_lowercase()) && !name.is_empty();
    LevelFilter::from_str(name).ok().filter(|_| named)
}
