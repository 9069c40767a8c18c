//! Threads beside the shards: what hashes, asks servers and fetches keys, on what CPU time the shards leave.

use std::io;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    thread_schedule_policy,
};
use tracing::warn;

use super::error::AuthError;

/// A thread that stands back: shards go before it when both want a CPU.
pub(super) fn start(name: String, body: impl FnOnce() + Send + 'static) -> Result<(), AuthError> {
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        stand_back();
        body();
    });
    thread.map(drop).map_err(|source| AuthError::System { what: "a thread for authentication cannot be made", source })
}

/// What is left where the policy below can't be had, and what tools that list processes show.
const NICE: i32 = 19;

/// Takes the policy `SCHED_IDLE` (sched(7)): a shard that wakes gets its CPU at once. From a thread that hashes at whatever nice
/// value it often gets it at the next tick only, within 4 ms. On a CPU that shards fill the share is 0.3 %: a weight of 3
/// beside 1,024.
fn stand_back() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Its error may be about the nice value, which it sets too and which only a privileged process can lower.
    let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    if thread_schedule_policy().ok() != Some(idle) {
        warn!("a thread for authentication keeps its scheduling policy: SCHED_IDLE is refused");
    }
    // On Linux this is about the calling thread alone. To be nicer is always allowed.
    if let Err(error) = rustix::process::setpriority_process(None, NICE).map_err(io::Error::from) {
        warn!("a thread for authentication keeps its priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_authentication_stands_back_and_its_process_does_not() {
        let seen = || (thread_schedule_policy().unwrap(), rustix::process::getpriority_process(None).unwrap());
        let (told, standing_back) = std::sync::mpsc::channel();
        let before = seen();
        start("test".to_owned(), move || told.send(seen()).unwrap()).unwrap();
        assert_eq!(
            standing_back.recv().unwrap(),
            (ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle), NICE)
        );
        assert_eq!(seen(), before);
    }
}
