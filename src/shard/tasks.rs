//! Tasks beside the driver: who is runnable, and who waits until when.
//!
//! The shard must not go to sleep in the network ring while a task could run, and it must wake up for the
//! next timer. glommio tells neither, so both are kept here: a task spawned by [`spawn`] counts as runnable
//! from its wake-up to its poll, and [`delay`] is a timer of the shard's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use glommio::{Latency, Shares, TaskQueueHandle};

/// What glommio's `yield_if_needed` goes by in our tasks. That the latency matters also makes glommio wake the
/// executor for what other threads complete for it, even though it never sleeps itself.
const TASK_LATENCY: Duration = Duration::from_millis(1);

/// How long a pass may go on starting tasks; then the driver has its turn. glommio's own timer for this is only
/// set after a pass, too late for the first.
const PASS_MAX: Duration = Duration::from_millis(1);

thread_local! {
    static TASKS: Tasks = Tasks::default();
}

#[derive(Default)]
struct Tasks {
    runnable: Arc<AtomicUsize>,
    queue: Cell<Option<TaskQueueHandle>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    /// When this pass of the executor has run tasks for long enough.
    pass_ends: Cell<Option<Instant>>,
    /// Runnable tasks that must wait for the next pass.
    put_off: RefCell<Vec<Waker>>,
    next_timer: Cell<u64>,
}

/// Runs a future on this shard, beside the driver. To be called on a shard's thread.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    TASKS.with(|tasks| {
        let queue = tasks.queue.get().unwrap_or_else(|| {
            let queue =
                glommio::executor().create_task_queue(Shares::default(), Latency::Matters(TASK_LATENCY), "tasks");
            tasks.queue.set(Some(queue));
            queue
        });
        let flag = Arc::new(Flag {
            woken: AtomicBool::new(true),
            runnable: Arc::clone(&tasks.runnable),
            task: Mutex::new(None),
        });
        flag.runnable.fetch_add(1, Ordering::SeqCst);
        let tracked = Tracked { waker: Waker::from(Arc::clone(&flag)), flag, future: Box::pin(future) };
        glommio::spawn_local_into(tracked, queue).expect("the queue was made on this executor").detach();
    });
}

/// Completes after a duration; exact to the timers of the kernel, on an idle shard too.
pub fn delay(duration: Duration) -> Delay {
    let id = TASKS.with(|tasks| {
        tasks.next_timer.set(tasks.next_timer.get() + 1);
        tasks.next_timer.get()
    });
    Delay { key: (Instant::now() + duration, id) }
}

/// How many tasks could run now.
pub(super) fn runnable() -> usize {
    TASKS.with(|tasks| tasks.runnable.load(Ordering::SeqCst))
}

/// Begins a pass: tasks may run for a while from now. What the last one put off is runnable again.
pub(super) fn begin_pass() {
    TASKS.with(|tasks| {
        tasks.pass_ends.set(Some(Instant::now() + PASS_MAX));
        tasks.put_off.take().into_iter().for_each(Waker::wake);
    });
}

/// Lets tasks run as glommio likes, while the driver sleeps in its arms.
pub(super) fn run_freely() {
    begin_pass();
    TASKS.with(|tasks| tasks.pass_ends.set(None));
}

/// True when this pass is over for tasks that have not run yet.
fn pass_is_over() -> bool {
    TASKS.with(|tasks| tasks.pass_ends.get().is_some_and(|end| end <= Instant::now()))
}

/// Wakes the tasks whose time has come; returns when the next one's comes.
pub(super) fn fire_timers() -> Option<Instant> {
    TASKS.with(|tasks| {
        loop {
            let mut timers = tasks.timers.borrow_mut();
            let first = timers.first_entry()?;
            let when = first.key().0;
            if when > Instant::now() {
                return Some(when);
            }
            let waker = first.remove();
            drop(timers);
            waker.wake();
        }
    })
}

/// See [`delay`].
pub struct Delay {
    key: (Instant, u64),
}

impl Future for Delay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.key.0 <= Instant::now() {
            return Poll::Ready(());
        }
        TASKS.with(|tasks| tasks.timers.borrow_mut().insert(self.key, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        TASKS.with(|tasks| tasks.timers.borrow_mut().remove(&self.key));
    }
}

/// Counts its task as runnable from the wake-up to the poll.
struct Flag {
    woken: AtomicBool,
    runnable: Arc<AtomicUsize>,
    task: Mutex<Option<Waker>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.runnable.fetch_add(1, Ordering::SeqCst);
        }
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

struct Tracked<F> {
    flag: Arc<Flag>,
    waker: Waker,
    future: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for Tracked<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        *self.flag.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        if pass_is_over() {
            // It stays runnable, so the shard comes back to it without sleeping, after a turn of the driver.
            TASKS.with(|tasks| tasks.put_off.borrow_mut().push(context.waker().clone()));
            return Poll::Pending;
        }
        self.flag.settle();
        let Tracked { waker, future, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

impl<F> Drop for Tracked<F> {
    fn drop(&mut self) {
        // What wakes it from now on wakes nobody: let it count as runnable for ever, without counting.
        self.flag.settle();
        self.flag.woken.store(true, Ordering::SeqCst);
    }
}

impl Flag {
    fn settle(&self) {
        if self.woken.swap(false, Ordering::SeqCst) {
            self.runnable.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
