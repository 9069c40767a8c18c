//! How long criterion measures: the benches are many, and what they measure is steady.

use std::time::Duration;

use criterion::Criterion;

/// About 1.5 s for each bench; criterion's own options override it.
pub fn sampling() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}
