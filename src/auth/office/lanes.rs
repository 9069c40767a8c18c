//! Where questions wait, and the threads that answer them.
//!
//! Workers compute; they wait for nobody. A method that has to ask a server says so, and the question moves on to the queue
//! of that method alone, whose threads wait. A server that never answers holds up those whom only it knows, and nobody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::debug;

use super::Shared;
use super::answers::Answers;
use super::jobs::{Jobs, NotPut};
use crate::auth::chain::{Lane, Outcome, Proven, Queue};
use crate::auth::error::{AuthError, AuthErrors};
use crate::auth::password::Scratch;
use crate::auth::{Credentials, Verdict, background};
use crate::config::Auth;
use crate::engine::{ConnId, ShardId};

/// A question on its way.
pub(super) struct Job {
    pub shard: ShardId,
    pub conn: ConnId,
    pub client: Box<Credentials>,
    /// What it has proved of itself before the methods are asked.
    pub proven: Option<Proven>,
    /// Nobody waits for the answer any more.
    pub forgotten: Arc<AtomicBool>,
    /// Where the answer goes; gone with the shard.
    pub answers: Weak<Answers>,
    /// The number of the method that is asked next.
    pub next: usize,
}

/// Where questions wait. The threads end with the last desk, so they hold this weakly.
pub(super) struct Queues {
    workers: Arc<Jobs<Job>>,
    /// By the number of the method.
    waiting: Vec<Option<(Queue, Sender<Job>)>>,
}

impl Queues {
    /// Makes the queues, and starts the threads that empty them.
    pub(super) fn start(config: &Auth, shared: &Arc<Shared>) -> Result<Arc<Queues>, AuthErrors> {
        let workers = Arc::new(Jobs::new(config.queue_max as usize));
        let mut lanes = Vec::new();
        let mut waiting = Vec::new();
        for (index, method) in shared.chain.methods.iter().enumerate() {
            waiting.push(method.lane().map(|lane| {
                let (sender, jobs) = bounded(lane.waiting_max as usize);
                let entry = (lane.queue, sender);
                lanes.push((index, lane, jobs));
                entry
            }));
        }
        let queues = Arc::new(Queues { workers: workers.clone(), waiting });
        let staff = Staff { shared: shared.clone(), queues: Arc::downgrade(&queues) };
        for number in 0..config.workers {
            let (staff, jobs) = (staff.clone(), workers.clone());
            start(format!("auth {number}"), move || staff.work(&jobs))?;
        }
        for (index, Lane { queue, threads, .. }, jobs) in lanes {
            for number in 0..threads {
                let (staff, jobs) = (staff.clone(), jobs.clone());
                start(format!("auth {} {number}", queue.name()), move || staff.wait(index, &jobs))?;
            }
        }
        Ok(queues)
    }

    /// Puts a new question to the workers, and never waits.
    pub(super) fn ask(&self, job: Job) -> Result<(), NotPut<Job>> {
        self.workers.offer(job)
    }

    /// How many questions may wait for a worker.
    pub(super) fn workers_max(&self) -> usize {
        self.workers.max()
    }

    /// Another thread is at the queue of the workers, for as long as this is there.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Drop + '_ {
        super::jobs::tests::hold(&self.workers)
    }

    /// Passes a question on to the queue where it belongs next. One that finds no room there is given back.
    fn pass_on(&self, job: Job, to: Option<usize>) -> Result<(), (Job, Queue)> {
        let waiting = to.and_then(|index| self.waiting.get(index)?.as_ref());
        match waiting {
            Some((queue, sender)) => sender.try_send(job).map_err(|error| (error.into_inner(), *queue)),
            None => self.workers.put(job).map_err(|job| (job, Queue::Workers)),
        }
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.workers.close();
    }
}

fn start(name: String, body: impl FnOnce() + Send + 'static) -> Result<(), AuthErrors> {
    background::start(name, body).map_err(|error: AuthError| AuthErrors(vec![error]))
}

/// What a thread works with.
#[derive(Clone)]
struct Staff {
    shared: Arc<Shared>,
    queues: Weak<Queues>,
}

impl Staff {
    /// A worker's life.
    fn work(&self, jobs: &Jobs<Job>) {
        let mut scratch = Scratch::default();
        // While nobody waits, the memory that hashing takes is given back.
        while let Some(job) = jobs.take(|| scratch.release()) {
            if !job.forgotten.load(Ordering::Relaxed) {
                match self.shared.chain.judge(&job.client, job.proven.as_ref(), job.next, &mut scratch) {
                    Outcome::Decided(verdict) => self.answer(job, Ok(verdict)),
                    Outcome::Waits(index) => self.pass_on(job, index, Some(index)),
                }
            }
        }
    }

    /// The life of a thread that waits for what a method asks others.
    fn wait(&self, index: usize, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if !job.forgotten.load(Ordering::Relaxed) {
                match self.shared.chain.wait(&job.client, job.proven.as_ref(), index) {
                    Some(verdict) => self.answer(job, Ok(verdict)),
                    None => self.pass_on(job, index + 1, None),
                }
            }
        }
    }

    fn pass_on(&self, mut job: Job, next: usize, to: Option<usize>) {
        job.next = next;
        // Without queues there is no desk left that would take an answer.
        let Some(queues) = self.queues.upgrade() else { return };
        if let Err((job, queue)) = queues.pass_on(job, to) {
            self.answer(job, Err(queue));
        }
    }

    fn answer(&self, job: Job, answer: Result<Verdict, Queue>) {
        if let Ok(Verdict::Deny(reason)) = &answer {
            debug!("client {:?} is not let in: {}", job.client.client_id, reason.name());
        }
        let Some(answers) = job.answers.upgrade() else { return };
        answers.put((job.conn, answer));
        self.shared.wake(job.shard);
    }
}
