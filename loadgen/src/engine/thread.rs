//! One engine thread: a ring, a fleet of clients, and orders from the conductor.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::expect::Expectations;
use super::fleet::{Admission, Fleet, Shared};
use super::gauges::Gauges;
use super::tally::Tally;
use super::{Clock, Error, Outcome};
use crate::measure::Sample;
use crate::net::{Net, Options, Waker};

/// Receive buffers: enough for a burst on many connections, and no more than the connections can use.
const BUFFERS: (u16, u16) = (64, 2048);

/// What the conductor, or another thread, wants of a thread.
pub enum Order {
    /// These are the threads; the numbers are their indexes.
    Meet(Vec<Peer>),
    /// See [`Fleet::stage`].
    Stage(u8, Admission),
    /// See [`Fleet::publish_stage`].
    Publish(u8),
    /// See [`Fleet::begin`].
    Begin(u64),
    /// See [`Fleet::stop`].
    Stop,
    /// See [`Fleet::settle`].
    Settle(Arc<[u32]>),
    /// See [`Fleet::leave`].
    Leave,
    /// See [`Fleet::reached`].
    Reached(Vec<(u32, u32)>),
    /// Ends the thread.
    End,
}

/// How to reach a thread.
#[derive(Clone)]
pub struct Peer {
    /// Its orders.
    pub orders: Sender<Order>,
    /// Ends its sleep.
    pub waker: Waker,
}

impl Peer {
    /// Gives an order. A thread that has ended follows none.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.waker.wake();
        }
    }
}

/// What a thread is started with.
pub struct Post {
    /// Which of this process's.
    pub number: u16,
    /// Which of all processes'.
    pub number_of_all: u32,
    /// Where it runs.
    pub cpu: Option<usize>,
    /// What all threads of the process have in common.
    pub shared: Arc<Shared>,
    /// Who sits where.
    pub seating: Arc<Vec<Vec<(u16, u32)>>>,
    /// Who expects what.
    pub expectations: Arc<Expectations>,
    /// The run's clock.
    pub clock: Clock,
    /// Its tick.
    pub tick_ns: u64,
    /// Where samples go.
    pub samples: Sender<Sample>,
    /// Where orders come from.
    pub orders: Receiver<Order>,
    /// Where it shows how far it is.
    pub gauges: Arc<Gauges>,
    /// Told, once, that it has stopped publishing, or has ended.
    pub stopped: Sender<()>,
}

impl Post {
    /// The thread's life. `started` is told how to wake it, or why it can't start.
    pub fn serve(self, started: Sender<Result<Waker, Error>>) -> Result<Outcome, Error> {
        let mut end = End { gauges: Arc::clone(&self.gauges), stopped: self.stopped.clone(), failed: true };
        let mut shift = match self.prepare() {
            Ok(shift) => shift,
            Err(error) => {
                // The one who started it waits for this.
                let _ = started.send(Err(error));
                return Ok(Outcome::default());
            }
        };
        let _ = started.send(Ok(shift.net.waker()));
        shift.run()?;
        end.failed = false;
        Ok(shift.fleet.finish())
    }

    fn prepare(self) -> Result<Shift, Error> {
        if let Some(id) = self.cpu
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            return Err(Error::Cpu(id));
        }
        // Messages are due at their time, not up to 50 µs later. Where it is refused they are a little late.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let tally = Tally::new(self.number_of_all, self.tick_ns, self.samples);
        let transport = self.shared.transport.clone();
        let fleet = Fleet::new(self.shared, self.number, &self.seating, &self.expectations, self.clock, tally);
        let connections = u32::try_from(fleet.len()).unwrap_or(u32::MAX).max(1);
        let (fewest, most) = BUFFERS;
        let buffers = connections.next_power_of_two().clamp(fewest.into(), most.into()) as u16;
        let net = Net::new(Options { connections, buffers, transport, ..Options::default() })
            .map_err(|source| Error::Ring { source })?;
        Ok(Shift {
            net,
            fleet,
            clock: self.clock,
            orders: self.orders,
            gauges: self.gauges,
            stopped: self.stopped,
            peers: Vec::new(),
        })
    }
}

/// Tells those who wait for a thread that it is over, also when it panics.
struct End {
    gauges: Arc<Gauges>,
    stopped: Sender<()>,
    failed: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if self.failed {
            self.gauges.fail();
        }
        // Nobody waits any more if it was told before.
        let _ = self.stopped.send(());
    }
}

/// A thread at work.
struct Shift {
    net: Net,
    fleet: Fleet,
    clock: Clock,
    orders: Receiver<Order>,
    gauges: Arc<Gauges>,
    stopped: Sender<()>,
    peers: Vec<Peer>,
}

impl Shift {
    fn run(&mut self) -> Result<(), Error> {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                if !self.follow(order) {
                    return Ok(());
                }
            }
            self.fleet.work(self.net.links());
            for (thread, reached) in self.fleet.take_reached() {
                self.peers[thread].order(Order::Reached(reached));
            }
            self.gauges.show(self.fleet.figures());
            if let Some(error) = self.fleet.failure() {
                return Err(error);
            }
            let until = Instant::now() + self.clock.until(self.fleet.next_ns()).min(Duration::from_secs(3600));
            self.net.turn(&mut self.fleet, Some(until)).map_err(|source| Error::Ring { source })?;
        }
    }

    /// Follows an order; false when it was the last.
    fn follow(&mut self, order: Order) -> bool {
        match order {
            Order::Meet(peers) => self.peers = peers,
            Order::Stage(stage, admission) => self.fleet.stage(stage, admission),
            Order::Publish(stage) => self.fleet.publish_stage(stage),
            Order::Begin(at_ns) => self.fleet.begin(at_ns),
            Order::Stop => {
                self.fleet.stop();
                // Gone with the engine, which then does not want to know.
                let _ = self.stopped.send(());
            }
            Order::Settle(sent) => self.fleet.settle(&sent),
            Order::Leave => self.fleet.leave(self.net.links()),
            Order::Reached(reached) => self.fleet.reached(self.net.links(), &reached),
            Order::End => return false,
        }
        true
    }
}
