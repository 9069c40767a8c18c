//! Takes what the system's limits leave: the soft limits are raised to what is needed, as far as the hard ones allow.

use rlimit::Resource;

use crate::config::{Config, Placement};
use crate::doctor;

/// Raises what can be raised, and warns where less is left than the configuration asks for. Not an error: what is
/// short shows when it is needed, and `ringmq doctor` tells beforehand.
pub(super) fn raise(config: &Config, placement: &Placement) {
    let descriptors = doctor::descriptors_needed(config, placement);
    raise_one(Resource::NOFILE, "open files (ulimit -n, LimitNOFILE=)", descriptors);
    raise_one(Resource::MEMLOCK, "locked memory (ulimit -l, LimitMEMLOCK=)", doctor::MEMLOCK_MIN);
}

fn raise_one(resource: Resource, name: &str, needed: u64) {
    let Ok((soft, hard)) = resource.get() else { return };
    if soft >= needed {
        return;
    }
    let reached = if resource.set(hard, hard).is_ok() { hard } else { soft };
    if reached < needed {
        tracing::warn!("the limit on {name} is {reached}, {needed} are needed for what is configured");
    }
}
