//! What the process may take, and what it leaves behind. It takes what the system's limits leave: the soft limit on locked memory is raised as far as the hard one allows. (That
//! on open files is the server's business: it sizes the shards' tables of descriptors.)

use rlimit::Resource;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

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

/// Has no core dump written from here on. To be called before the first secret is read.
pub(super) fn forbid_core_dumps() {
    let hard = Resource::CORE.get().map_or(0, |(_, hard)| hard);
    if let Err(error) = Resource::CORE.set(0, hard) {
        tracing::warn!("core dumps cannot be forbidden (server.core_dumps): {error}");
    }
}

/// Has the kernel let nobody look into the process but root: a program that the kernel hands core dumps to (`core_pattern`
/// with a pipe) gets one whatever the limit. To be called when the shards run, as they have to read `/proc/self/fd` at first,
/// which is root's from here on.
pub(super) fn forbid_looking_in() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("other processes of this user can look into this one (server.core_dumps): {error}");
    }
}
