//! Where a shard sleeps: in the network ring, which watches glommio's rings; or, by a switch, the other way
//! round.
//!
//! `Wait::Ring`: the network ring holds multishot polls on the descriptors of glommio's rings. When one fires,
//! or a task is runnable, the main task lets glommio make a pass, then takes its next turn. Two properties of
//! glommio 0.9 shape this:
//!
//! - It only does I/O and timers between runs of its task queues, and as long as the main task is runnable and
//!   its latency ring quiet it never gets there. So the main task waits for a timer that is about to
//!   expire: then no task is runnable, glommio looks at its rings and timers, finds that one, and goes on
//!   without sleeping. One pass, exactly.
//! - A pass itself completes things in its rings (it cancels the last preemption timer), which fires the
//!   polls. So what a poll says is checked: a ring with nothing in it needs no pass, else passes would beget passes.
//!
//! - It does not tell the kernel about its timers while it is not asleep itself. So tasks wait by
//!   [`super::delay`], which the network ring's timeout knows of; a timer of glommio's own would be late.
//!
//! `Wait::Glommio`: the network ring signals an eventfd that a read of glommio waits for.

use std::fs;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;

use super::{ring_file, tasks};
use crate::engine::Engine;
use crate::net::driver::{Driver, Turn};
use crate::net::ring_poll::any_readable;

/// Long enough to be still to come when it is set, and over before glommio has looked at its rings.
const SOON: Duration = Duration::from_micros(1);

/// Turns without a rest after which glommio gets to look at its rings all the same.
const BUSY_TURNS_MAX: u32 = 64;

/// Where the thread of a shard sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// In the network ring.
    #[default]
    Ring,
    /// In glommio.
    Glommio,
}

/// The shard's main task.
pub(super) async fn run<E: Engine>(driver: &mut Driver<E>, wait: Wait, io_rings: &[RawFd]) {
    match wait {
        Wait::Ring => in_the_network_ring(driver, io_rings).await,
        Wait::Glommio => in_glommio(driver).await,
    }
}

async fn in_the_network_ring<E: Engine>(driver: &mut Driver<E>, io_rings: &[RawFd]) {
    io_rings.iter().for_each(|fd| driver.watch(*fd));
    loop {
        let next = tasks::fire_timers();
        driver.set_alarm(next.map(|when| driver.time_of(when)));
        let idle = tasks::runnable() == 0;
        let turn = driver.turn(idle).unwrap_or_else(|error| panic!("the network ring is unusable: {error}"));
        match turn {
            Turn::Stopped => return,
            Turn::Watched if any_readable(io_rings) => pass().await,
            Turn::Watched | Turn::Again if tasks::runnable() > 0 => pass().await,
            Turn::Watched | Turn::Again => {}
        }
    }
}

/// Lets glommio look at its rings and timers and run what is runnable, once.
async fn pass() {
    tasks::begin_pass();
    let mut timer = Timer::new(SOON);
    let mut passed = false;
    poll_fn(|context| {
        // A timer found expired would be ready here and now, without a pass: then once more.
        while !passed && Pin::new(&mut timer).poll(context).is_ready() {
            timer.reset(SOON);
        }
        if std::mem::replace(&mut passed, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The driver's turns in glommio's arms: for measuring against, and for hosts where the polls misbehave.
async fn in_glommio<E: Engine>(driver: &mut Driver<E>) {
    let bell = driver.signal_by_eventfd().unwrap_or_else(|error| panic!("the ring takes no eventfd: {error}"));
    let bell = ring_file::from_eventfd(bell);
    let mut busy_turns = 0u32;
    loop {
        let turn = driver.turn(false).unwrap_or_else(|error| panic!("the network ring is unusable: {error}"));
        if turn == Turn::Stopped {
            let _ = bell.close().await;
            return;
        }
        let next = tasks::fire_timers();
        driver.set_alarm(next.map(|when| driver.time_of(when)));
        busy_turns += 1;
        if tasks::runnable() > 0 || busy_turns >= BUSY_TURNS_MAX {
            busy_turns = 0;
            pass().await;
        } else if let Some(timeout) = driver.prepare_to_sleep() {
            busy_turns = 0;
            tasks::run_freely();
            rung_or_over(&bell, timeout).await;
            driver.awake();
        }
    }
}

async fn rung_or_over(bell: &BufferedFile, timeout: Option<Duration>) {
    let mut rung = pin!(bell.read_at(0, size_of::<u64>()));
    let mut over = timeout.map(Timer::new);
    poll_fn(|context| {
        let is_over = over.as_mut().is_some_and(|timer| Pin::new(timer).poll(context).is_ready());
        if is_over || rung.as_mut().poll(context).is_ready() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The descriptors of this process that are io_uring instances.
pub(super) fn io_uring_descriptors() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // A descriptor may be closed between listing and reading: then it is none of ours.
        if fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]") {
            found.extend(entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
        }
    }
    Ok(found)
}
