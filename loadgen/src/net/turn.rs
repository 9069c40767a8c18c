//! One turn of a generator thread: flush, submit and wait in one enter, reap, tell the handler.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::time::{Duration, Instant};

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};
use ringmq::net::probe::probe;
use ringmq::net::ring::{Completion, QueueSizes, Ring};
use ringmq::net::ring_buffers::RingBuffers;

use super::layer::Wardrobe;
use super::links::{Ending, Phase};
use super::op::{self, Kind};
use super::{Closed, Handler, LinkId, Links, Options, Waker};

/// Submission queue entries; what is more in one turn takes another enter.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Completion queue entries per link, within bounds. What does not fit is kept by the kernel until the next enter.
const COMPLETION_ENTRIES_MAX: u32 = 16 << 10;
/// How long the kernel may take to end everything when the ring goes.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait for that before the time is looked at again.
const DRAIN_STEP: Duration = Duration::from_millis(100);

/// The ring of a thread with all its links.
pub struct Net {
    // Dropped in this order: the ring, which is in `links`, before what the kernel writes to.
    links: Links,
    buffers: Option<RingBuffers>,
    waker: Waker,
    completions: Vec<Completion>,
    /// The kernel holds completions back.
    overflowed: bool,
    /// Only the thread that made the ring may use it.
    _of_one_thread: PhantomData<*const ()>,
}

impl Net {
    /// A ring for the calling thread.
    ///
    /// # Errors
    ///
    /// When the kernel is older than 6.1 or forbids io_uring. `EMFILE`: more connections than the limit on open files.
    ///
    /// # Panics
    ///
    /// When the number of buffers is not a power of two up to 32,768, or their size is 0.
    pub fn new(options: Options) -> io::Result<Self> {
        let features = probe().map_err(io::Error::other)?;
        let completion = (options.connections.saturating_mul(2)).clamp(SUBMISSION_ENTRIES, COMPLETION_ENTRIES_MAX);
        let sizes = QueueSizes { submission: SUBMISSION_ENTRIES, completion: completion.next_power_of_two() };
        let ring = Ring::new(sizes, &features)?;
        ring.submitter().register_files_sparse(options.connections)?;
        let buffers = RingBuffers::new(&ring, options.buffers, options.buffer_bytes)?;
        let mut net = Self {
            links: Links::new(ring, options.connections, Wardrobe::new(options.transport)),
            buffers: Some(buffers),
            waker: Waker::new()?,
            completions: Vec::new(),
            overflowed: false,
            _of_one_thread: PhantomData,
        };
        net.watch_waker();
        Ok(net)
    }

    /// Ends a wait of this thread from another.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// The links.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Sends what is due, waits until something happens or it is `wait_until` (`None`: however long it takes), and
    /// tells the handler all that happened. A point in time that has passed means not to wait.
    ///
    /// # Errors
    ///
    /// Those of the ring itself; a link's go to the handler.
    pub fn turn(&mut self, handler: &mut impl Handler, wait_until: Option<Instant>) -> io::Result<()> {
        self.links.flush();
        self.enter(wait_until)?;
        let mut completions = mem::take(&mut self.completions);
        self.overflowed = self.links.ring.reap(&mut completions);
        for completion in completions.drain(..) {
            self.handle(handler, completion);
        }
        self.completions = completions;
        self.buffers().publish();
        self.arm_again();
        Ok(())
    }

    fn enter(&mut self, wait_until: Option<Instant>) -> io::Result<()> {
        let left = wait_until.map(|until| until.saturating_duration_since(Instant::now()));
        if self.overflowed || left.is_some_and(|left| left.is_zero()) {
            return self.links.ring.submit();
        }
        self.links.ring.submit_and_wait(left)
    }

    fn handle(&mut self, handler: &mut impl Handler, completion: Completion) {
        let (kind, link) = op::decode(completion.user_data);
        let Some(link) = link else {
            if kind == Kind::Wake && !cqueue::more(completion.flags) {
                self.watch_waker();
            }
            return;
        };
        let at = self.links.at(link);
        if !cqueue::more(completion.flags) {
            at.in_flight -= 1;
        }
        match kind {
            Kind::Connect => self.connected(handler, link, completion.result),
            Kind::Receive => self.received(handler, link, completion),
            Kind::Send => self.sent(link, completion.result),
            Kind::Close => debug_assert!(completion.result >= 0, "a descriptor of ours can be closed"),
            // Of a cancellation the cancelled operation tells; a reset that fails finds the connection gone.
            Kind::Cancel | Kind::Reset | Kind::Wake => {}
        }
        self.release_if_over(handler, link);
    }

    fn connected(&mut self, handler: &mut impl Handler, link: LinkId, result: i32) {
        if self.links.at(link).phase != Phase::Connecting {
            return;
        }
        // Whatever came of it, there is nothing left to cancel.
        self.links.at(link).phase = Phase::Open;
        if result < 0 {
            return self.links.end(link, Ending::Failed(-result));
        }
        self.links.receive(link);
        if self.links.wardrobe.is_used() {
            self.links.wardrobe.open(link.slot);
            return self.links.dirty_later(link);
        }
        if self.links.unsent(link) > 0 {
            self.links.dirty_later(link);
        }
        handler.connected(&mut self.links, link);
    }

    fn received(&mut self, handler: &mut impl Handler, link: LinkId, completion: Completion) {
        let armed = cqueue::more(completion.flags);
        self.links.at(link).receiving = armed;
        if let Some(id) = cqueue::buffer_select(completion.flags) {
            let length = usize::try_from(completion.result).unwrap_or(0);
            let buffers = self.buffers.as_mut().expect("taken only in drop");
            if length > 0 && self.links.at(link).phase == Phase::Open {
                let bytes = buffers.filled(id, length);
                if self.links.wardrobe.is_used() {
                    unwrap(&mut self.links, handler, link, bytes);
                } else {
                    handler.received(&mut self.links, link, bytes);
                }
            }
            buffers.give_back(id);
        }
        match completion.result {
            _ if armed => {}
            0 => self.links.end(link, Ending::Eof),
            // Out of buffers: those of this turn are given back before the receive is armed again. Or it was cancelled
            // by the kernel's own limits, after bytes.
            length if length > 0 => self.links.unarmed.push(link),
            error if matches!(-error, libc::ENOBUFS | libc::EINTR | libc::EAGAIN) => self.links.unarmed.push(link),
            error => self.links.end(link, Ending::Broken(-error)),
        }
    }

    fn sent(&mut self, link: LinkId, result: i32) {
        self.links.at(link).sending = false;
        match result {
            bytes if bytes >= 0 => self.links.sent(link, bytes as usize),
            // Nothing was lost: the flush tries again.
            error if matches!(-error, libc::EAGAIN | libc::EINTR | libc::ENOBUFS) => self.links.dirty_later(link),
            error => self.links.end(link, Ending::Broken(-error)),
        }
    }

    fn release_if_over(&mut self, handler: &mut impl Handler, link: LinkId) {
        let at = self.links.at(link);
        if at.phase == Phase::Closing && at.in_flight == 0 {
            let layers = self.links.wardrobe.take_off(link.slot);
            let at = self.links.at(link);
            let reason = match at.ending.take() {
                Some(Ending::Layer) => layers.map_or(Closed::Own, Closed::Layer),
                Some(Ending::Failed(errno)) => Closed::Failed(io::Error::from_raw_os_error(errno)),
                Some(Ending::Broken(errno)) => Closed::Error(io::Error::from_raw_os_error(errno)),
                Some(Ending::Eof) => Closed::Eof,
                Some(Ending::Own) | None => Closed::Own,
            };
            self.links.release(link);
            handler.closed(&mut self.links, link, reason);
        }
    }

    fn arm_again(&mut self) {
        while let Some(link) = self.links.unarmed.pop() {
            self.links.receive(link);
        }
    }

    /// The eventfd is never read: a multishot poll completes at each write.
    fn watch_waker(&mut self) {
        let entry = opcode::PollAdd::new(Fd(self.waker.fd()), libc::POLLIN as u32).multi(true).build();
        self.push_bare(entry, Kind::Wake);
    }

    fn push_bare(&mut self, entry: squeue::Entry, kind: Kind) {
        // SAFETY: neither of the entries that come here holds an address.
        unsafe { self.links.ring.push(&entry.user_data(op::bare(kind))) };
    }

    fn buffers(&mut self) -> &mut RingBuffers {
        self.buffers.as_mut().expect("taken only in drop")
    }

    /// Ends every link and waits until the kernel holds no operation of any; false when it does not come to that.
    fn drain(&mut self) -> bool {
        let deadline = Instant::now() + DRAIN;
        self.links.end_all();
        while self.links.in_flight() > 0 {
            if Instant::now() > deadline || self.links.ring.submit_and_wait(Some(DRAIN_STEP)).is_err() {
                return false;
            }
            self.links.ring.reap(&mut self.completions);
            for completion in self.completions.drain(..) {
                if let (_, Some(link)) = op::decode(completion.user_data)
                    && !cqueue::more(completion.flags)
                {
                    self.links.at(link).in_flight -= 1;
                }
            }
        }
        true
    }
}

/// Hands in what received bytes hold of MQTT.
fn unwrap(links: &mut Links, handler: &mut impl Handler, link: LinkId, bytes: &[u8]) {
    let now_ready = links.unwrap(link, bytes);
    if now_ready {
        handler.connected(links, link);
    }
    let plain = mem::take(&mut links.wardrobe.plain);
    if !plain.is_empty() {
        handler.received(links, link, &plain);
    }
    links.wardrobe.plain = plain;
}

impl Drop for Net {
    fn drop(&mut self) {
        if !self.drain() {
            // The kernel may still use this memory: better to lose it than to share it.
            self.links.leak();
            mem::forget(self.buffers.take());
        }
        // Closes the sockets here and now; without it, a worker of the kernel does some time after the ring is gone.
        let _ = self.links.ring.submitter().unregister_files();
    }
}
