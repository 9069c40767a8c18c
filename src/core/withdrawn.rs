//! Clients that were let in by what does not hold any more: their user is gone from its file, or has another password; their
//! certificate was revoked, has run out, or has no authority any more.
//!
//! The connections of a shard are held against new files of users a piece in each turn. Certificates are the transport's
//! business: it says of which connection it does not vouch for the peer any more. Both end as an operator's ban does, with
//! 0x98 (Administrative action): it was the operator who took the right away. The session stays, for whoever may have it.

use super::Core;
use super::conn::Phase;
use super::counters::EndReason;
use super::session::Leave;
use crate::auth::Principal;
use crate::codec::ReasonCode;
use crate::engine::ConnId;
use crate::guard::complaints::brief;

/// Connections that are held against new files in one turn.
const STEP: u32 = 1024;

/// How far a shard has come with the files of users.
#[derive(Default)]
pub struct Withdrawn {
    version: u64,
    /// The next slot to be looked at, until all were.
    pub at: Option<u32>,
}

impl Core {
    /// Looks whether files of users have changed, and goes on with holding connections against them.
    pub(super) fn follow_users(&mut self) {
        let Some(version) = self.authenticator.as_ref().map(|authenticator| authenticator.version()) else { return };
        if version != self.withdrawn.version {
            self.withdrawn.version = version;
            self.withdrawn.at = Some(0);
        }
        if let Some(from) = self.withdrawn.at {
            self.hold_against_users(from);
        }
    }

    /// Whether a client would still be let in by what it was let in by.
    pub(super) fn is_vouched_for(&self, principal: &Principal) -> bool {
        self.authenticator.as_ref().is_none_or(|authenticator| authenticator.vouches_for(principal))
    }

    fn hold_against_users(&mut self, from: u32) {
        let slots = self.wire.conns.slots();
        let end = slots.min(from.saturating_add(STEP));
        self.withdrawn.at = (end < slots).then_some(end);
        for slot in from..end {
            // Who is not in yet is asked about when the answer comes.
            let Some(conn) = self.wire.conns.get(slot).filter(|conn| conn.phase == Phase::Connected) else { continue };
            let access = self.sessions.get(conn.session).and_then(|session| session.access.as_deref());
            if access.is_some_and(|access| !self.is_vouched_for(&access.principal)) {
                let id = ConnId { slot, generation: conn.generation };
                self.send_away(id, "its user is gone from its file, or has another password there");
            }
        }
    }

    /// Ends the connection of a client that may not stay.
    pub(super) fn send_away(&mut self, id: ConnId, why: &str) {
        let Some(conn) = self.live(id) else { return };
        let session = self.sessions.get(conn.session);
        let client_id = session.map_or("", |session| brief(&session.client_id));
        tracing::info!(shard = self.shard, client_id, why, "client disconnected");
        let code = ReasonCode::AdministrativeAction;
        self.end(id.slot, EndReason::CredentialsWithdrawn, Some(code), Leave::WithWill);
    }
}
