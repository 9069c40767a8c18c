//! Timeouts: a wheel of small entries that are looked at again when they are due.
//!
//! An entry is never cancelled. It says which connection or session to look at; whether anything is due is
//! decided from the record itself, and packets only write when something was last heard. So that what clients
//! leave behind who come and go does not pile up, no entry lies further ahead than [`AHEAD_MAX`], and a session
//! has one entry that counts.

use super::conn::{Phase, UNSEEN};
use super::counters::EndReason;
use super::session::Leave;
use super::{Core, Time};
use crate::codec::ReasonCode;
use crate::engine::ConnId;
use crate::slab::Key;
use std::time::Duration;

/// How far ahead an entry may lie; what is due later is looked at again then.
pub(super) const AHEAD_MAX: Duration = Duration::from_secs(300);

/// How far ahead a debt of rates is looked at: who runs one up may connect again at once, and leave an entry each time.
pub(super) const DEBT_LOOK: Duration = Duration::from_secs(10);

/// How often it is looked at whether a packet that has begun to arrive goes on arriving.
pub(super) const TAIL_LOOK: Duration = Duration::from_secs(60);
/// By how many bytes it has to grow meanwhile. Each byte that reaches the core is a sign of life (of TLS, each whole
/// record), so that a large packet may take longer than the keep alive on a slow link; who lets it come drop by drop holds its memory without end. This is 137 bits a second.
pub(super) const TAIL_GROWTH_MIN: u32 = 1024;

/// An entry of the wheel.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    kind: Kind,
    slot: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The connection must have sent CONNECT.
    Connect,
    /// The connection must have been heard of.
    KeepAlive,
    /// The packet that has begun to arrive must have grown.
    Tail,
    /// The client's authentication may be over.
    Authentication,
    /// The connection may be read again as far as its rate goes.
    Unread,
    /// The connection may be written to again.
    Muted,
    /// There were clients that read slowly.
    Slow,
    /// The session's will may be due, or the session itself may have expired.
    Session,
    /// Some retained messages may have expired.
    Retained,
    /// The `$SYS` topics.
    Sys,
}

impl Timer {
    pub(super) fn connect(id: ConnId) -> Timer {
        Timer { kind: Kind::Connect, slot: id.slot, generation: id.generation }
    }

    pub(super) fn keep_alive(id: ConnId) -> Timer {
        Timer { kind: Kind::KeepAlive, slot: id.slot, generation: id.generation }
    }

    fn tail(id: ConnId) -> Timer {
        Timer { kind: Kind::Tail, slot: id.slot, generation: id.generation }
    }

    pub(super) fn authentication(id: ConnId) -> Timer {
        Timer { kind: Kind::Authentication, slot: id.slot, generation: id.generation }
    }

    pub(super) fn unread(id: ConnId) -> Timer {
        Timer { kind: Kind::Unread, slot: id.slot, generation: id.generation }
    }

    pub(super) fn muted(id: ConnId) -> Timer {
        Timer { kind: Kind::Muted, slot: id.slot, generation: id.generation }
    }

    pub(super) fn slow() -> Timer {
        Timer { kind: Kind::Slow, slot: 0, generation: 0 }
    }

    pub(super) fn session(key: Key) -> Timer {
        Timer { kind: Kind::Session, slot: key.slot, generation: key.generation }
    }

    pub(super) fn retained() -> Timer {
        Timer { kind: Kind::Retained, slot: 0, generation: 0 }
    }

    pub(super) fn sys() -> Timer {
        Timer { kind: Kind::Sys, slot: 0, generation: 0 }
    }
}

/// How long a client may be silent: one and a half times its keep alive [MQTT-3.1.2-22].
pub(super) fn silence_allowed(keep_alive: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive) * 1500)
}

impl Core {
    /// Looks at what an entry names.
    pub(super) fn fire(&mut self, timer: Timer) {
        let Timer { kind, slot, generation } = timer;
        match kind {
            Kind::Connect => self.check_connect(ConnId { slot, generation }),
            Kind::KeepAlive => self.check_keep_alive(ConnId { slot, generation }),
            Kind::Tail => self.check_tail(ConnId { slot, generation }),
            Kind::Authentication => self.check_lapse(ConnId { slot, generation }),
            Kind::Unread => self.read_again(ConnId { slot, generation }),
            Kind::Muted => self.write_again(ConnId { slot, generation }),
            Kind::Slow => self.tell_slow(),
            Kind::Session => self.check_session(Key { slot, generation }),
            Kind::Retained => self.sweep_retained(),
            Kind::Sys => self.publish_sys(),
        }
    }

    /// Has a connection looked at when its silence would be too long.
    pub(super) fn schedule_keep_alive(&mut self, id: ConnId, due: Time) {
        self.wheel.insert(due.min(self.wire.now.after(AHEAD_MAX)), Timer::keep_alive(id));
    }

    fn check_connect(&mut self, id: ConnId) {
        let Some(conn) = self.live(id).filter(|conn| conn.phase.is_stranger()) else { return };
        if conn.phase == Phase::Asking {
            self.say_refused(id, ReasonCode::ServerUnavailable, Some("authentication takes too long"));
        }
        self.end(id.slot, EndReason::ConnectTimeout, None, Leave::Clean);
    }

    fn check_keep_alive(&mut self, id: ConnId) {
        let Some(conn) = self.live(id) else { return };
        let allowed = silence_allowed(conn.keep_alive);
        let (session, due) = (conn.session, conn.last_seen.after(allowed));
        // A stalled connection is one that we do not listen to: its silence says nothing.
        let due = if conn.stalled { self.wire.now.after(allowed) } else { due };
        if due <= self.wire.now {
            self.end(id.slot, EndReason::KeepAliveTimeout, Some(ReasonCode::KeepAliveTimeout), Leave::WithWill);
        } else {
            self.schedule_keep_alive(id, due);
            self.sessions[session].trim();
        }
    }

    /// A packet of a connection has begun to arrive, or several wait. At most one entry of each connection looks at that,
    /// however many packets come in pieces.
    #[cold]
    #[inline(never)]
    pub(super) fn watch_tail(&mut self, slot: u32) {
        let conn = &mut self.wire.conns[slot];
        conn.tail_seen = UNSEEN;
        // Before CONNECT there is a time limit for all of it.
        if !conn.tail_watched && !conn.phase.is_stranger() {
            conn.tail_watched = true;
            let id = ConnId { slot, generation: conn.generation };
            self.wheel.insert(self.wire.now.after(TAIL_LOOK), Timer::tail(id));
        }
    }

    fn check_tail(&mut self, id: ConnId) {
        if self.live(id).is_none() {
            return;
        }
        let conn = &mut self.wire.conns[id.slot];
        let (len, seen) = (conn.tail.len() as u32, conn.tail_seen);
        conn.tail_watched = !conn.tail.is_empty();
        // Of one that is not read nothing can arrive.
        conn.tail_seen = if conn.stalled { UNSEEN } else { len };
        if !conn.tail_watched {
            return;
        }
        if !conn.stalled && seen != UNSEEN && len < seen + TAIL_GROWTH_MIN {
            let code = ReasonCode::ImplementationSpecificError;
            return self.end(id.slot, EndReason::PacketTimeout, Some(code), Leave::WithWill);
        }
        self.wheel.insert(self.wire.now.after(TAIL_LOOK), Timer::tail(id));
    }

    /// Has a session looked at when its will or its own end is due, unless that is done before anyway.
    pub(super) fn schedule_session(&mut self, slot: u32) {
        let key = self.session_key(slot);
        let session = &mut self.sessions[slot];
        let will = session.will.as_ref().and_then(|will| will.due);
        let due = will.map_or(session.expires, |due| due.min(session.expires));
        let due = due.min(self.wire.now.after(AHEAD_MAX));
        if session.expires == Time(u64::MAX) && will.is_none() || session.looked_at <= due {
            return;
        }
        session.looked_at = due;
        self.wheel.insert(due, Timer::session(key));
    }

    fn check_session(&mut self, key: Key) {
        let now = self.wire.now;
        // An entry that came to lie behind a later one is not the one that counts.
        let Some(session) = self.sessions.get_key_mut(key).filter(|session| session.looked_at <= now) else { return };
        session.looked_at = Time(u64::MAX);
        if session.is_connected() {
            return;
        }
        if session.expires <= now {
            self.counters.sessions_expired.add(1);
            return self.end_session(key.slot);
        }
        if session.will.as_ref().and_then(|will| will.due).is_some_and(|due| due <= now) {
            self.publish_will(key.slot);
        }
        self.schedule_session(key.slot);
    }
}
