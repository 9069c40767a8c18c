//! What a session's client is allowed to do.

use super::Core;
use super::Time;
use super::gate::Admission;
use crate::auth::{Credentials, Principal};
use crate::codec::Connect;
use crate::engine::{ConnId, Peer};

/// Who a session's client is: kept only where clients are authenticated or rules are set.
#[derive(Debug)]
pub struct Access {
    /// Who it is. A session belongs to this user until it ends.
    pub principal: Principal,
    /// Who was at the other end of its last connection.
    pub peer: Peer,
    /// Authentication method of that connection's CONNECT.
    pub method: Option<Box<str>>,
    /// Where authenticating again stands.
    pub renewal: Renewal,
    /// When the authentication is over; `None` never.
    pub lapses: Option<Time>,
    /// When the timer that counts for that fires; `u64::MAX` when there is none.
    pub looked_at: Time,
}

/// How far a client that authenticates again has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It does not.
    None,
    /// A question is open.
    Asked,
    /// It was sent AUTH and has to answer.
    AwaitsClient,
}

impl Access {
    /// What it says of itself when it authenticates again.
    pub fn credentials(&self, client_id: String, listener: u16, data: Vec<u8>) -> Credentials {
        Credentials {
            client_id,
            user: self.principal.user.as_deref().map(str::to_owned),
            password: None,
            method: self.method.as_deref().map(str::to_owned),
            data,
            listener,
            peer: self.peer.clone(),
        }
    }
}

impl Core {
    /// Whether a client may have the session of this identifier: it is nobody's yet, or the same user's.
    pub(super) fn may_have_session(&self, client_id: &str, admission: Option<&Admission>) -> bool {
        let (Some(admission), Some(slot)) = (admission, self.find_client(client_id)) else { return true };
        let owner = self.sessions[slot].access.as_ref().and_then(|access| access.principal.user.as_ref());
        owner == admission.principal.user.as_ref()
    }

    /// Remembers with the session who its client is.
    pub(super) fn give_access(&mut self, id: ConnId, slot: u32, connect: &Connect<'_>, principal: Option<&Principal>) {
        let peer = self.take_peer(id);
        let Some(principal) = principal else { return };
        let access = Access {
            principal: principal.clone(),
            peer,
            method: connect.properties.authentication_method.map(Into::into),
            renewal: Renewal::None,
            lapses: principal.lasts.map(|lasts| self.wire.now.after(lasts)),
            looked_at: Time(u64::MAX),
        };
        self.sessions[slot].access = Some(Box::new(access));
        self.schedule_lapse(id);
    }

    /// The client has authenticated again.
    pub(super) fn take_principal(&mut self, slot: u32, principal: Principal) {
        let now = self.wire.now;
        let Some(access) = self.sessions[slot].access.as_deref_mut() else { return };
        access.lapses = principal.lasts.map(|lasts| now.after(lasts));
        access.principal = principal;
    }
}
