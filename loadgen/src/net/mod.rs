//! The generator's sockets: one io_uring per thread, thousands of connections on it.
//!
//! MQTT is unknown here; a [`Handler`] is who knows it. A connection is a *link*: a slot of the thread's table, named by
//! a [`LinkId`]. Its socket is an entry of the ring's own table of descriptors, so that the limit on open files bounds
//! each thread and not the process, and everything that could block, `connect(2)` included, is an operation of the ring.
//! Whatever is written to a link while its send is in flight goes out with the next one: many small packets, one send.
//!
//! Start at [`Net::turn`]. `unsafe` is where operations are queued (`links`, `turn`) and where a system call has no safe
//! wrapper (`socket`, `waker`); the ring itself and its receive buffers are the broker's. What lies between TCP and MQTT is
//! in `layer`.

pub mod layer;
mod links;
mod op;
mod socket;
mod turn;
mod waker;

use std::fmt;
use std::io;
use std::num::NonZeroU32;

pub use self::layer::{LayerError, Transport};
pub use self::links::Links;
pub use self::turn::Net;
pub use self::waker::Waker;

/// Names one link, from [`Links::connect`] until [`Handler::closed`]; later it names nothing, also when the slot is in
/// use again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId {
    slot: u32,
    generation: NonZeroU32,
}

const _: () = assert!(size_of::<Option<LinkId>>() == 8);

/// Who is told what happens to the links of a thread.
///
/// Each link is told of at most one [`connected`](Self::connected) and exactly one [`closed`](Self::closed), which is
/// the last that is heard of it. Any method of [`Links`] may be called in each.
pub trait Handler {
    /// The link is established, with all its layers.
    fn connected(&mut self, links: &mut Links, link: LinkId);
    /// Bytes arrived, without what was around them. They are gone when this returns.
    fn received(&mut self, links: &mut Links, link: LinkId, bytes: &[u8]);
    /// The link is over and its slot is free again; [`Links::tag`] still knows it, for the last time.
    fn closed(&mut self, links: &mut Links, link: LinkId, reason: Closed);
}

/// Why a link ended.
#[derive(Debug)]
pub enum Closed {
    /// It was never established: the peer refused (`ECONNREFUSED`), no port was left for the source address
    /// (`EADDRNOTAVAIL`), nobody answered (`ETIMEDOUT`)…
    Failed(io::Error),
    /// The peer closed it.
    Eof,
    /// It broke: the peer reset it (`ECONNRESET`), or vanished.
    Error(io::Error),
    /// Its layers can't go on.
    Layer(LayerError),
    /// [`Links::close`] was called.
    Own,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Failed(error) => write!(f, "could not connect: {error}"),
            Closed::Eof => f.write_str("the peer closed the connection"),
            Closed::Error(error) => write!(f, "the connection broke: {error}"),
            Closed::Layer(error) => write!(f, "{error}"),
            Closed::Own => f.write_str("closed on purpose"),
        }
    }
}

/// How [`Links::close`] ends a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Everything written so far is handed to the kernel, then the socket is closed. A peer that does not read holds
    /// that up for ever; a second close, by [`Reset`](Close::Reset), ends the wait. What the peer sends to a socket that
    /// is closed is answered by a reset, as ever in TCP.
    Graceful,
    /// At once, with a TCP reset: what a device does that loses its power or its network.
    Reset,
}

/// Sizes of a [`Net`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The most links at a time; at most the (soft) limit on open files, and 1,048,576.
    pub connections: u32,
    /// Receive buffers that all links share; a power of two, at most 32,768.
    pub buffers: u16,
    /// Bytes in each. A receive brings no more than this at once.
    pub buffer_bytes: u32,
    /// What lies between TCP and MQTT on each link.
    pub transport: Transport,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 1024, buffers: 1024, buffer_bytes: 4096, transport: Transport::default() }
    }
}
