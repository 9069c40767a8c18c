//! How many shards run, and on which CPUs.

use super::Server;
use super::cpus::CpuSet;
use super::problem::Finding;

/// Shards are a set in one 64-bit word wherever a message asks which of them want it.
pub const SHARDS_MAX: u16 = 64;

/// Where the shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// How many shards there are, 1..=[`SHARDS_MAX`].
    pub shards: u16,
    /// The CPUs they may run on; never empty.
    pub cpus: CpuSet,
    /// Whether shard `n` stays on the `n`-th of the CPUs; then there are at least as many CPUs as shards.
    pub pin: bool,
}

/// Decides what `server` leaves to the host, whose `allowed` CPUs are those the process may use.
pub(super) fn placement(server: &Server, allowed: &CpuSet) -> Result<Placement, Finding> {
    let cpus = if server.cpus.is_empty() { allowed.clone() } else { server.cpus.clone() };
    let missing: CpuSet = cpus.as_slice().iter().copied().filter(|cpu| !allowed.contains(*cpu)).collect();
    if !missing.is_empty() {
        return Err(Finding {
            keys: vec!["server.cpus".to_owned()],
            what: format!("CPU {missing} does not exist or is not allowed for this process"),
            remedy: format!("choose among {allowed}, or leave it empty to use them all"),
        });
    }
    let count = cpus.as_slice().len();
    let shards = server.shards.unwrap_or_else(|| u16::try_from(count).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX));
    let fits = usize::from(shards) <= count;
    if server.pin == Some(true) && !fits {
        return Err(Finding {
            keys: vec!["server.pin".to_owned(), "server.shards".to_owned(), "server.cpus".to_owned()],
            what: format!("{shards} shards cannot be pinned to {count} CPUs"),
            remedy: format!("run at most {count} shards, or leave pin \"auto\""),
        });
    }
    Ok(Placement { shards, cpus, pin: server.pin.unwrap_or(fits) })
}
