//! The generator's sockets on one io_uring: receive persistently, send once per connection and turn.
//!
//! Whatever is written to a connection while its send is in flight goes out with the next one, so that many
//! small packets cost one system call's share. MQTT is unknown here; [`Handler`] is who knows it.

use std::io;
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::buffers::{Buffers, GROUP};

const SUBMISSION_ENTRIES: u32 = 1024;
/// Room for what a burst on thousands of connections completes in one turn.
const COMPLETION_ENTRIES: u32 = 16 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const RECEIVE: u64 = 0;
const SEND: u64 = 1;

/// Who is told what happened to the connections.
pub trait Handler {
    /// Bytes arrived.
    fn received(&mut self, links: &mut Links, link: usize, bytes: &[u8]);
    /// The peer or an error ended the connection; told once, and never after `Links::close`.
    fn closed(&mut self, links: &mut Links, link: usize, reason: io::Error);
}

/// One connection.
struct Link {
    stream: TcpStream,
    pending: Vec<u8>,
    flying: Vec<u8>,
    flown: usize,
    dirty: bool,
    sending: bool,
    receiving: bool,
    open: bool,
}

/// The connections' output sides, which a handler writes to.
#[derive(Default)]
pub struct Links {
    links: Vec<Link>,
    dirty: Vec<usize>,
    unarmed: Vec<usize>,
}

impl Links {
    /// Where to append what shall be sent to a link with the next flush.
    pub fn output(&mut self, link: usize) -> &mut Vec<u8> {
        let at = &mut self.links[link];
        if !at.dirty {
            at.dirty = true;
            self.dirty.push(link);
        }
        &mut at.pending
    }

    fn add(&mut self, stream: TcpStream) -> usize {
        let link = self.links.len();
        let (pending, flying) = (Vec::new(), Vec::new());
        self.links.push(Link {
            stream,
            pending,
            flying,
            flown: 0,
            dirty: false,
            sending: false,
            receiving: false,
            open: true,
        });
        self.unarmed.push(link);
        link
    }

    fn in_kernel(&self) -> bool {
        self.links.iter().any(|link| link.sending || link.receiving)
    }
}

/// All connections of a generator thread and the ring that moves their bytes.
pub struct Net {
    // Declared first, dropped first: `Buffers` and the output vectors must outlive it.
    ring: IoUring,
    buffers: Buffers,
    links: Links,
    completions: Vec<cqueue::Entry>,
}

impl Net {
    /// A ring for the calling thread, which must be the one that uses it.
    ///
    /// # Errors
    ///
    /// When the kernel is older than 6.1 or forbids io_uring.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        // SAFETY: `Drop` below waits until no operation is left; the field order drops the ring first.
        let buffers = unsafe { Buffers::register(&ring) }?;
        Ok(Self { ring, buffers, links: Links::default(), completions: Vec::new() })
    }

    /// Opens a connection and starts to receive on it.
    ///
    /// # Errors
    ///
    /// Those of `connect`, and of running out of descriptors or ports.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<usize> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        Ok(self.links.add(stream))
    }

    /// The connections' outputs.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Sends what is due, waits for something to happen (at most `wait`), and tells the handler all of it.
    ///
    /// # Errors
    ///
    /// Those of the ring itself; a connection's go to the handler.
    pub fn turn(&mut self, handler: &mut impl Handler, wait: Duration) -> io::Result<()> {
        self.arm()?;
        self.flush()?;
        self.enter(wait)?;
        self.completions.extend(self.ring.completion());
        let mut completions = mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            let link = usize::try_from(completion.user_data() >> 1).expect("made from a usize");
            match completion.user_data() & 1 {
                SEND => self.sent(handler, link, completion.result()),
                _ => self.received(handler, link, &completion),
            }
        }
        self.completions = completions;
        Ok(())
    }

    fn arm(&mut self) -> io::Result<()> {
        while let Some(link) = self.links.unarmed.pop() {
            let at = &mut self.links.links[link];
            if at.open {
                at.receiving = true;
                let entry = opcode::RecvMulti::new(Fd(at.stream.as_raw_fd()), GROUP).build();
                // SAFETY: the descriptor stays open and the buffers stay registered while `receiving`.
                unsafe { push(&mut self.ring, entry.user_data((link as u64) << 1 | RECEIVE)) }?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(link) = self.links.dirty.pop() {
            let at = &mut self.links.links[link];
            at.dirty = false;
            if !at.sending && at.open && !at.pending.is_empty() {
                mem::swap(&mut at.pending, &mut at.flying);
                self.send(link)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, link: usize) -> io::Result<()> {
        let at = &mut self.links.links[link];
        at.sending = true;
        let rest = &at.flying[at.flown..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(at.stream.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        // SAFETY: while `sending`, nothing touches `flying`, so that its memory stays where it is, and the
        // descriptor stays open; `Drop` waits for both.
        unsafe { push(&mut self.ring, entry.user_data((link as u64) << 1 | SEND)) }
    }

    fn enter(&self, wait: Duration) -> io::Result<()> {
        let timeout = Timespec::from(wait);
        let args = SubmitArgs::new().timespec(&timeout);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sent(&mut self, handler: &mut impl Handler, link: usize, result: i32) {
        let at = &mut self.links.links[link];
        at.sending = false;
        let Ok(taken) = usize::try_from(result) else {
            return self.close(handler, link, io::Error::from_raw_os_error(-result));
        };
        at.flown += taken;
        if at.flown == at.flying.len() {
            at.flying.clear();
        } else {
            // Short: the rest goes before anything newer.
            at.flying.drain(..at.flown);
            at.flying.append(&mut at.pending);
            mem::swap(&mut at.flying, &mut at.pending);
        }
        at.flown = 0;
        if !at.pending.is_empty() {
            self.links.output(link);
        }
    }

    fn received(&mut self, handler: &mut impl Handler, link: usize, completion: &cqueue::Entry) {
        let armed = cqueue::more(completion.flags());
        if let Some(id) = cqueue::buffer_select(completion.flags()) {
            let length = usize::try_from(completion.result()).unwrap_or(0);
            if length > 0 && self.links.links[link].open {
                handler.received(&mut self.links, link, self.buffers.bytes(id, length));
            }
            self.buffers.give_back(id);
        }
        if armed {
            return;
        }
        self.links.links[link].receiving = false;
        match completion.result() {
            // Out of buffers, or a burst ended the multishot: they are back by now, ask again.
            result if result > 0 || result == -libc::ENOBUFS => self.links.unarmed.push(link),
            0 => self.close(handler, link, io::ErrorKind::UnexpectedEof.into()),
            error => self.close(handler, link, io::Error::from_raw_os_error(-error)),
        }
    }

    fn close(&mut self, handler: &mut impl Handler, link: usize, reason: io::Error) {
        if mem::replace(&mut self.links.links[link].open, false) {
            handler.closed(&mut self.links, link, reason);
        }
    }

    /// Shuts every socket down and waits until the kernel holds nothing of this any more.
    fn drain(&mut self) -> io::Result<()> {
        for link in &mut self.links.links {
            link.open = false;
            // Refused when the peer was first; then the operations complete all the same.
            let _ = link.stream.shutdown(Shutdown::Both);
        }
        while self.links.in_kernel() {
            self.turn(&mut Deaf, Duration::from_millis(100))?;
        }
        Ok(())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Err(error) = self.drain() {
            // The kernel may still write to memory that is about to be freed.
            eprintln!("the ring failed while closing: {error}");
            std::process::abort();
        }
    }
}

/// The handler of what still arrives while closing.
struct Deaf;

impl Handler for Deaf {
    fn received(&mut self, _: &mut Links, _: usize, _: &[u8]) {}
    fn closed(&mut self, _: &mut Links, _: usize, _: io::Error) {}
}

/// Queues an entry, making room by submitting when there is none.
///
/// # Safety
///
/// What the entry points to must stay valid until its last completion.
unsafe fn push(ring: &mut IoUring, entry: squeue::Entry) -> io::Result<()> {
    // SAFETY: the caller's promise, here and below.
    while unsafe { ring.submission().push(&entry) }.is_err() {
        ring.submit()?;
    }
    Ok(())
}
