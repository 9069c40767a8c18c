//! The table of links: what a [`Handler`](super::Handler) may do with them, and the operations that follow.
//!
//! A link's slot is also its index in the ring's table of descriptors. It is free again when the kernel holds no
//! operation of it any more; until then nothing that the kernel may read is touched.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};
use ringmq::net::ring::Ring;
use ringmq::net::ring_buffers::GROUP;

use super::layer::{Received, Wardrobe};
use super::op::{self, GENERATION_BITS, Kind};
use super::socket::{NOWHERE, Sockets, Targets};
use super::{Close, LinkId};

/// Output vectors kept for whoever writes next.
const SPARE_MAX: usize = 256;
/// Larger ones go back to the allocator.
const SPARE_BYTES_MAX: usize = 64 << 10;

/// A link as this room sees it. It owns memory only while there is something to send.
pub(super) struct Link {
    /// What goes out with the next send.
    pending: Vec<u8>,
    /// What the kernel is sending, or has sent in part.
    flying: Vec<u8>,
    /// How much of `flying` the kernel has taken.
    flown: usize,
    tag: u32,
    generation: NonZeroU32,
    /// Why the link is ending, once it is.
    pub(super) ending: Option<Ending>,
    pub(super) phase: Phase,
    /// Operations whose last completion is still to come.
    pub(super) in_flight: u8,
    dirty: bool,
    pub(super) sending: bool,
    pub(super) receiving: bool,
}

const _: () = assert!(size_of::<Link>() <= 88);

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No link in this slot.
    Free,
    Connecting,
    Open,
    /// Closed on purpose; the last output goes out.
    Flushing,
    /// The descriptor is being closed; waits for the last completion.
    Closing,
}

/// Why a link ends, as small as it can be kept.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Own,
    /// The wardrobe knows why.
    Layer,
    Eof,
    Failed(i32),
    Broken(i32),
}

/// All links of a thread.
pub struct Links {
    // Dropped first: the kernel must have let go of the vectors before they go.
    pub(super) ring: Ring,
    table: Vec<Link>,
    free: Vec<u32>,
    capacity: u32,
    sockets: Sockets,
    targets: Targets,
    pub(super) wardrobe: Wardrobe,
    /// Links that have something to send and are not sending.
    dirty: Vec<LinkId>,
    /// Links whose receive ended without an end.
    pub(super) unarmed: Vec<LinkId>,
    spare: Vec<Vec<u8>>,
    /// Takes what is written to links that are over.
    void: Vec<u8>,
}

impl Links {
    pub(super) fn new(ring: Ring, capacity: u32, wardrobe: Wardrobe) -> Self {
        Self {
            ring,
            table: Vec::with_capacity(capacity as usize),
            free: Vec::new(),
            capacity,
            sockets: Sockets::new(),
            targets: Targets::default(),
            wardrobe,
            dirty: Vec::new(),
            unarmed: Vec::new(),
            spare: Vec::new(),
            void: Vec::new(),
        }
    }

    /// Begins to connect to `target`, from `source` if given, without waiting for anything. `tag` is the caller's name
    /// for the link. What is written to it before it is connected goes out when it is.
    ///
    /// # Errors
    ///
    /// `EMFILE` or `ENFILE`: no descriptor is left in the process or on the host. `EADDRNOTAVAIL`: `source` is not an
    /// address of this host. `QuotaExceeded`: all links of this thread are in use. `InvalidInput`: TLS can't be spoken with a
    /// broker of that name. What goes wrong later, such as
    /// `EADDRNOTAVAIL` for want of ports, comes as [`Closed::Failed`](super::Closed::Failed).
    pub fn connect(&mut self, tag: u32, target: SocketAddr, source: Option<IpAddr>) -> io::Result<LinkId> {
        if self.len() == self.capacity as usize {
            let what = format!("all {} links of the thread are in use", self.capacity);
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, what));
        }
        let socket = self.sockets.make(target, source)?;
        let slot = self.free.last().copied().unwrap_or(self.table.len() as u32);
        self.wardrobe.put(slot, target).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()])?;
        let link = self.occupy(slot, tag);
        let address = self.targets.of(target);
        let entry = opcode::Connect::new(Fixed(slot), address.as_ptr().cast(), address.len()).build();
        // SAFETY: a target is never removed, nor moved, before the ring is gone.
        unsafe { self.begin(link, Kind::Connect, entry) };
        Ok(link)
    }

    /// The tag that [`connect`](Self::connect) was given.
    ///
    /// # Panics
    ///
    /// When the link is over and its slot in use again.
    pub fn tag(&self, link: LinkId) -> u32 {
        self.get(link).expect("the link is not over").tag
    }

    /// Where to append what shall be sent. Everything appended in one turn leaves in one send at its end. What is
    /// written to a link that is over, or being closed, goes nowhere.
    pub fn output(&mut self, link: LinkId) -> &mut Vec<u8> {
        let slot = link.slot as usize;
        let found = self.table.get_mut(slot).filter(|at| at.generation == link.generation && at.takes_output());
        let Some(at) = found else {
            self.void.clear();
            return &mut self.void;
        };
        if at.pending.capacity() == 0 {
            at.pending = self.spare.pop().unwrap_or_default();
        }
        if !at.dirty {
            at.dirty = true;
            self.dirty.push(link);
        }
        &mut at.pending
    }

    /// Bytes written to a link that the kernel has not taken yet.
    pub fn unsent(&self, link: LinkId) -> usize {
        self.get(link).map_or(0, |at| at.pending.len() + at.flying.len() - at.flown)
    }

    /// What is written to a link by now is the last of MQTT: its layers take leave of the peer behind it.
    pub fn leave(&mut self, link: LinkId) {
        if self.wardrobe.is_used() && self.get(link).is_some() {
            self.wardrobe.leave(link.slot);
        }
    }

    /// Ends a link; nothing more is received from it. [`Handler::closed`](super::Handler::closed) tells when it is over.
    pub fn close(&mut self, link: LinkId, how: Close) {
        let Some(at) = self.get_mut(link) else { return };
        match (at.phase, how) {
            (Phase::Open, Close::Graceful) => {
                at.phase = Phase::Flushing;
                at.ending = Some(Ending::Own);
                self.dirty_later(link);
            }
            (Phase::Connecting, _) => self.end(link, Ending::Own),
            (Phase::Open | Phase::Flushing, Close::Reset) => {
                self.reset(link);
                self.end(link, Ending::Own);
            }
            (Phase::Flushing, Close::Graceful) | (Phase::Closing | Phase::Free, _) => {}
        }
    }

    /// Links that are not over: connecting, connected or closing.
    pub fn len(&self) -> usize {
        self.table.len() - self.free.len()
    }

    /// True when there is no link.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most links there can be.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    fn occupy(&mut self, slot: u32, tag: u32) -> LinkId {
        match self.free.pop() {
            Some(_) => {
                let at = &mut self.table[slot as usize];
                at.generation = next(at.generation);
                (at.tag, at.phase, at.ending) = (tag, Phase::Connecting, None);
            }
            None => self.table.push(Link::connecting(tag)),
        }
        LinkId { slot, generation: self.table[slot as usize].generation }
    }

    /// Makes the slot of a link free; the link must have nothing in flight. Its tag is known until the slot is used
    /// again.
    pub(super) fn release(&mut self, link: LinkId) {
        let at = self.get_mut(link).expect("a link stays until its last operation has completed");
        debug_assert!(at.phase == Phase::Closing && at.in_flight == 0);
        at.phase = Phase::Free;
        at.flown = 0;
        at.dirty = false;
        let vectors = [mem::take(&mut at.pending), mem::take(&mut at.flying)];
        vectors.into_iter().for_each(|vector| self.keep(vector));
        self.free.push(link.slot);
    }

    pub(super) fn get(&self, link: LinkId) -> Option<&Link> {
        self.table.get(link.slot as usize).filter(|at| at.generation == link.generation)
    }

    pub(super) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.table.get_mut(link.slot as usize).filter(|at| at.generation == link.generation)
    }

    /// A link that is known to be there.
    pub(super) fn at(&mut self, link: LinkId) -> &mut Link {
        self.get_mut(link).expect("a link stays until its last operation has completed")
    }

    /// Ends a link whatever is in flight, if it is not ending yet. The first reason counts.
    pub(super) fn end(&mut self, link: LinkId, ending: Ending) {
        let at = self.at(link);
        if at.phase == Phase::Closing {
            return;
        }
        let (connecting, receiving, sending) = (at.phase == Phase::Connecting, at.receiving, at.sending);
        at.phase = Phase::Closing;
        at.ending.get_or_insert(ending);
        let operations = [(connecting, Kind::Connect), (receiving, Kind::Receive), (sending, Kind::Send)];
        for (_, kind) in operations.into_iter().filter(|(is_there, _)| *is_there) {
            let entry = opcode::AsyncCancel::new(op::of_link(kind, link)).build();
            // SAFETY: the entry holds no address.
            unsafe { self.begin(link, Kind::Cancel, entry) };
        }
        // SAFETY: as above.
        unsafe { self.begin(link, Kind::Close, opcode::Close::new(Fixed(link.slot)).build()) };
    }

    /// Ends every link that the kernel holds an operation of. Each operation is cancelled by its name, which the kernel looks
    /// up: to cancel "any" it walks past all that it has cancelled before, for milliseconds a call when there are thousands.
    pub(super) fn end_all(&mut self) {
        for slot in 0..self.table.len() {
            let Link { generation, in_flight: 1.., .. } = self.table[slot] else { continue };
            self.end(LinkId { slot: slot as u32, generation }, Ending::Own);
        }
    }

    fn reset(&mut self, link: LinkId) {
        let entry = opcode::Connect::new(Fixed(link.slot), &NOWHERE, size_of_val(&NOWHERE) as libc::socklen_t).build();
        // SAFETY: the address is a static.
        unsafe { self.begin(link, Kind::Reset, entry) };
    }

    /// Takes received bytes through the link's layers, and tells whether they became ready with it. What they hold of
    /// MQTT is in [`Wardrobe::plain`]. Layers that can't go on have their last word, then the link ends.
    #[inline(never)]
    pub(super) fn unwrap(&mut self, link: LinkId, bytes: &[u8]) -> bool {
        let received = self.wardrobe.receive(link.slot, bytes);
        let now_ready = match received {
            Received::Taken { now_ready } => now_ready,
            Received::Failed => {
                let at = self.at(link);
                at.phase = Phase::Flushing;
                at.ending.get_or_insert(Ending::Layer);
                self.dirty_later(link);
                return false;
            }
        };
        if now_ready || self.wardrobe.has_wire(link.slot) {
            self.dirty_later(link);
        }
        now_ready
    }

    /// Arms the receive of a link that is open.
    pub(super) fn receive(&mut self, link: LinkId) {
        let Some(at) = self.get_mut(link) else { return };
        if matches!(at.phase, Phase::Open | Phase::Flushing) && !at.receiving {
            at.receiving = true;
            // SAFETY: the entry holds no address; the buffers outlive the ring.
            unsafe { self.begin(link, Kind::Receive, opcode::RecvMulti::new(Fixed(link.slot), GROUP).build()) };
        }
    }

    /// Queues a link for the next flush.
    pub(super) fn dirty_later(&mut self, link: LinkId) {
        let at = self.at(link);
        if !mem::replace(&mut at.dirty, true) {
            self.dirty.push(link);
        }
    }

    /// One send for each link that has output and no send in flight.
    pub(super) fn flush(&mut self) {
        let mut list = mem::take(&mut self.dirty);
        list.drain(..).for_each(|link| self.flush_one(link));
        self.dirty = list;
    }

    fn flush_one(&mut self, link: LinkId) {
        let has_layers = self.wardrobe.is_used();
        let Some(at) = self.get_mut(link) else { return };
        at.dirty = false;
        if at.sending || !matches!(at.phase, Phase::Open | Phase::Flushing) {
            return;
        }
        if at.flying.is_empty() {
            if has_layers {
                return self.flush_layers(link);
            }
            mem::swap(&mut at.flying, &mut at.pending);
        }
        self.launch(link);
    }

    /// The same through the link's layers.
    #[inline(never)]
    fn flush_layers(&mut self, link: LinkId) {
        let at = &mut self.table[link.slot as usize];
        self.wardrobe.wrap(link.slot, &mut at.pending, &mut at.flying);
        if at.pending.is_empty() {
            let emptied = mem::take(&mut at.pending);
            self.keep(emptied);
        }
        self.launch(link);
    }

    /// Sends what is ready; ends a link that waited only for that.
    fn launch(&mut self, link: LinkId) {
        let at = self.at(link);
        if !at.flying.is_empty() {
            self.send(link);
        } else if at.phase == Phase::Flushing {
            self.end(link, Ending::Own);
        }
    }

    fn send(&mut self, link: LinkId) {
        let at = self.at(link);
        at.sending = true;
        let rest = &at.flying[at.flown..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fixed(link.slot), rest.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        // SAFETY: while `sending`, nothing touches `flying`, and the table only moves its header. The slot is released
        // after the last completion, and the table is leaked when the ring goes before that.
        unsafe { self.begin(link, Kind::Send, entry) };
    }

    /// The kernel took bytes of the link's send.
    pub(super) fn sent(&mut self, link: LinkId, bytes: usize) {
        let at = self.at(link);
        at.flown += bytes;
        debug_assert!(at.flown <= at.flying.len());
        if at.flown == at.flying.len() {
            at.flown = 0;
            at.flying.clear();
            let done = mem::take(&mut at.flying);
            self.keep(done);
        }
        let at = self.at(link);
        if !at.flying.is_empty() || !at.pending.is_empty() || at.phase == Phase::Flushing {
            self.dirty_later(link);
        }
    }

    fn keep(&mut self, mut vector: Vec<u8>) {
        if (1..=SPARE_BYTES_MAX).contains(&vector.capacity()) && self.spare.len() < SPARE_MAX {
            vector.clear();
            self.spare.push(vector);
        }
    }

    /// Queues an operation of a link.
    ///
    /// # Safety
    ///
    /// What the entry points at stays valid, and unmoved, until its last completion was reaped or the ring is gone.
    unsafe fn begin(&mut self, link: LinkId, kind: Kind, entry: squeue::Entry) {
        self.at(link).in_flight += 1;
        // SAFETY: the caller's promise.
        unsafe { self.ring.push(&entry.user_data(op::of_link(kind, link))) };
    }

    /// Operations that the kernel holds for links.
    pub(super) fn in_flight(&self) -> usize {
        self.table.iter().map(|at| usize::from(at.in_flight)).sum()
    }

    /// Gives up the memory that the kernel may still read.
    pub(super) fn leak(&mut self) {
        mem::forget(mem::take(&mut self.table));
    }
}

impl Link {
    fn connecting(tag: u32) -> Self {
        Self {
            pending: Vec::new(),
            flying: Vec::new(),
            flown: 0,
            tag,
            generation: NonZeroU32::MIN,
            ending: None,
            phase: Phase::Connecting,
            in_flight: 0,
            dirty: false,
            sending: false,
            receiving: false,
        }
    }

    fn takes_output(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open)
    }
}

/// The next user of a slot: as many as `user_data` tells apart, never 0.
fn next(generation: NonZeroU32) -> NonZeroU32 {
    let next = (generation.get() + 1) & ((1 << GENERATION_BITS) - 1);
    NonZeroU32::new(next).unwrap_or(NonZeroU32::MIN)
}
