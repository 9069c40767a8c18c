//! Takes what the system's limits leave: the soft limits are raised to what is needed, as far as the hard ones allow.

use rlimit::Resource;

use crate::config::{Config, Placement};
use crate::doctor;

/// Raises what can be raised, and says where less is left than the configuration asks for. Neither an error nor a
/// warning: the default configuration asks for a million connections, and `ringmq doctor` tells beforehand.
pub(super) fn raise(config: &Config, placement: &Placement) {
    let descriptors = doctor::descriptors_needed(config, placement);
    raise_one(Resource::NOFILE, "open files of a shard (ulimit -n, LimitNOFILE=)", descriptors);
    raise_one(Resource::MEMLOCK, "locked memory (ulimit -l, LimitMEMLOCK=)", doctor::MEMLOCK_MIN);
}

fn raise_one(resource: Resource, name: &str, needed: u64) {
    let Ok((soft, hard)) = resource.get() else { return };
    if soft >= needed {
        return;
    }
    let reached = if resource.set(hard, hard).is_ok() { hard } else { soft };
    if reached < needed {
        tracing::info!("{name}: {reached} allowed, {needed} would be needed at the configured limits");
    }
}
