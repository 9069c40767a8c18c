//! Timeouts: a wheel of small entries that are looked at again when they are due.
//!
//! An entry is never cancelled. It says which connection or session to look at; whether anything is due is
//! decided from the record itself, and packets only write when something was last heard.

use super::conn::Phase;
use super::counters::EndReason;
use super::session::Leave;
use super::{Core, Time};
use crate::codec::ReasonCode;
use crate::engine::ConnId;
use crate::slab::Key;
use std::time::Duration;

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
    /// The session's will may be due.
    Will,
    /// The session may have expired.
    SessionExpiry,
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

    pub(super) fn will(slot: u32, generation: u32) -> Timer {
        Timer { kind: Kind::Will, slot, generation }
    }

    pub(super) fn session_expiry(slot: u32, generation: u32) -> Timer {
        Timer { kind: Kind::SessionExpiry, slot, generation }
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
            Kind::Will | Kind::SessionExpiry if self.sessions.get_key(Key { slot, generation }).is_none() => {}
            Kind::Will => self.check_will(slot),
            Kind::SessionExpiry => self.check_session_expiry(slot),
            Kind::Sys => self.publish_sys(),
        }
    }

    fn check_connect(&mut self, id: ConnId) {
        if self.live(id).is_some_and(|conn| conn.phase == Phase::AwaitsConnect) {
            self.end(id.slot, EndReason::ConnectTimeout, None, Leave::Clean);
        }
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
            self.wheel.insert(due, Timer::keep_alive(id));
            self.sessions[session].trim();
        }
    }

    fn check_will(&mut self, slot: u32) {
        let session = &mut self.sessions[slot];
        let due = |will: &super::session::Will| will.due.is_some_and(|due| due <= self.wire.now);
        if !session.is_connected() && session.will.as_deref().is_some_and(due) {
            self.publish_will(slot);
        }
    }

    fn check_session_expiry(&mut self, slot: u32) {
        let session = &self.sessions[slot];
        if session.is_connected() || session.expires == Time(u64::MAX) {
            return;
        }
        if session.expires <= self.wire.now {
            self.counters.sessions_expired.add(1);
            self.end_session(slot);
        }
    }
}
