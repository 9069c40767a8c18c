//! Takes what the system's limits leave: the soft limit on locked memory is raised as far as the hard one allows. (That
//! on open files is the server's business: it sizes the shards' tables of descriptors.)

use rlimit::Resource;

use crate::doctor::MEMLOCK_MIN;

/// Raises the limit on locked memory if it is too low, and says if that is not enough: `ringmq doctor` tells beforehand.
pub(super) fn raise_locked_memory() {
    let Ok((soft, hard)) = Resource::MEMLOCK.get() else { return };
    if soft >= MEMLOCK_MIN {
        return;
    }
    let reached = if Resource::MEMLOCK.set(hard, hard).is_ok() { hard } else { soft };
    if reached < MEMLOCK_MIN {
        tracing::warn!("locked memory (ulimit -l, LimitMEMLOCK=): {reached} bytes allowed, {MEMLOCK_MIN} needed");
    }
}
