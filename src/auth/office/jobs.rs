//! Questions on their way to the workers.
//!
//! As with answers, whoever is at the queue may lose its CPU to the very shard that wants to put something in, and a bounded
//! channel's sender would spin until it has it back. So a shard that finds the queue held keeps its question for a turn.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

/// A queue of bounded length, of shards that never wait and workers that do.
pub(super) struct Jobs<J> {
    waiting: Mutex<Waiting<J>>,
    changed: Condvar,
    max: usize,
}

struct Waiting<J> {
    jobs: VecDeque<J>,
    is_closed: bool,
}

/// Why something was not put in; here it is again.
#[derive(Debug)]
pub(super) enum NotPut<J> {
    /// There is no room.
    Full(J),
    /// Another thread is at the queue.
    Held(J),
}

impl<J> Jobs<J> {
    /// A queue of at most so many.
    pub(super) fn new(max: usize) -> Jobs<J> {
        let waiting = Waiting { jobs: VecDeque::new(), is_closed: false };
        Jobs { waiting: Mutex::new(waiting), changed: Condvar::new(), max }
    }

    /// How many may wait.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// Puts one in, or says at once why not: what a shard may call.
    pub(super) fn offer(&self, job: J) -> Result<(), NotPut<J>> {
        match self.waiting.try_lock() {
            Ok(waiting) => self.put_into(waiting, job).map_err(NotPut::Full),
            Err(TryLockError::Poisoned(poisoned)) => self.put_into(poisoned.into_inner(), job).map_err(NotPut::Full),
            Err(TryLockError::WouldBlock) => Err(NotPut::Held(job)),
        }
    }

    /// Puts one in, and waits until no other thread is at the queue; gives it back if there is no room.
    pub(super) fn put(&self, job: J) -> Result<(), J> {
        self.put_into(self.lock(), job)
    }

    fn put_into(&self, mut waiting: MutexGuard<'_, Waiting<J>>, job: J) -> Result<(), J> {
        if waiting.jobs.len() >= self.max {
            return Err(job);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// The next one; waits for it, and calls `idle` before that. `None` when the queue was closed.
    pub(super) fn take(&self, idle: impl FnOnce()) -> Option<J> {
        let is_idle = |waiting: &mut Waiting<J>| waiting.jobs.is_empty() && !waiting.is_closed;
        let mut waiting = self.lock();
        if is_idle(&mut waiting) {
            drop(waiting);
            idle();
            waiting = self.lock();
        }
        let waited = self.changed.wait_while(waiting, is_idle);
        waited.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }

    /// Nothing is taken any more, and what waits is dropped.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let left = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        self.changed.notify_all();
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    /// What another thread does that lost its CPU at the queue.
    pub(in super::super) fn hold<J>(jobs: &Jobs<J>) -> impl Drop + '_ {
        jobs.lock()
    }

    #[test]
    fn no_more_are_taken_than_may_wait() {
        let jobs = Jobs::new(2);
        jobs.offer(1).unwrap();
        jobs.put(2).unwrap();
        assert!(matches!(jobs.offer(3), Err(NotPut::Full(3))));
        assert_eq!(jobs.put(3), Err(3));
        assert_eq!(jobs.take(|| panic!("there is one")), Some(1));
        jobs.offer(3).unwrap();
    }

    #[test]
    fn who_may_not_wait_is_told_that_the_queue_is_held() {
        let jobs = Jobs::new(1);
        let held = hold(&jobs);
        assert!(matches!(jobs.offer(1), Err(NotPut::Held(1))));
        drop(held);
        jobs.offer(1).unwrap();
    }

    #[test]
    fn threads_wait_for_jobs_and_end_when_the_queue_is_closed() {
        let jobs = Arc::new(Jobs::new(100));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let jobs = jobs.clone();
                thread::spawn(move || std::iter::from_fn(|| jobs.take(|| ())).collect::<Vec<u32>>())
            })
            .collect();
        (0..100).for_each(|job| while jobs.put(job).is_err() {});
        while !jobs.lock().jobs.is_empty() {
            thread::yield_now();
        }
        jobs.close();
        let mut taken: Vec<u32> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..100).collect::<Vec<_>>(), "each once");
        assert_eq!(jobs.take(|| panic!("it is closed")), None);
    }
}
