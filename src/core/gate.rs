//! Who may come in: the questions that are put to the authenticator, and what becomes of a connection meanwhile
//! (MQTT 5.0 §4.12).
//!
//! A CONNECT that passed every other check is kept while its question is open, and the connection is not read: what
//! the client sent behind it is handled when it was let in, and forgotten when it was not. Nothing of a session is
//! touched before: whoever is turned away has taken over from nobody. A client that is connected may authenticate
//! again; its traffic goes on meanwhile.
//!
//! A session belongs to the user that made it. Another user with the same client identifier is refused (0x85): to give
//! it a session of its own would let anybody who has a password end the sessions of all others.

use super::access::{Access, Renewal};
use super::conn::Phase;
use super::counters::EndReason;
use super::inbound::Flow;
use super::session::{Leave, NO_SLOT};
use super::timers::{AHEAD_MAX, Timer};
use super::{Core, Time};
use crate::auth::{Authenticator, Busy, Credentials, Principal, Question, Secret, Verdict};
use crate::codec::{Auth, Connect, Frame, Packet, ProtocolVersion, ReasonCode, decode};
use crate::engine::{ConnId, Effect, Peer};
use std::net::SocketAddr;

/// What is known of a connection besides its record, until it belongs to a session.
#[derive(Default)]
pub struct Gate {
    /// Who is at the other end.
    pub peer: Peer,
    /// The CONNECT that waits.
    waiting: Option<Waiting>,
}

/// A CONNECT whose question is open.
struct Waiting {
    first: u8,
    /// The packet behind its fixed header: it holds a password.
    body: Secret,
    /// The client identifier that was assigned.
    assigned: Option<String>,
    /// Authentication method.
    method: Option<Box<str>>,
}

/// What a CONNECT of so many bytes counts for while it waits: itself, and what the question has of it (name, password, data).
fn waiting_bytes(body: usize) -> u64 {
    2 * body as u64
}

/// What the authenticator gave with its yes.
pub struct Admission {
    /// Who the client is.
    pub principal: Box<Principal>,
    /// Authentication data for CONNACK.
    pub data: Vec<u8>,
}

impl Core {
    /// Has clients authenticated; without, everybody is let in.
    pub fn with_authenticator(mut self, authenticator: Box<dyn Authenticator>) -> Core {
        self.authenticator = Some(authenticator);
        self
    }

    /// Remembers who is at the other end of a connection that has not said CONNECT.
    pub(super) fn remember_peer(&mut self, id: ConnId, peer: Peer) {
        if peer != Peer::default() {
            self.gates.entry(id.slot).or_default().peer = peer;
        }
    }

    /// The address that is known of a connection that has not said CONNECT.
    pub(super) fn known_address(&self, id: ConnId) -> Option<SocketAddr> {
        self.gates.get(&id.slot)?.peer.address
    }

    /// Takes what was remembered of the peer.
    pub(super) fn take_peer(&mut self, id: ConnId) -> Peer {
        if self.gates.is_empty() {
            return Peer::default();
        }
        self.gates.remove(&id.slot).map(|gate| gate.peer).unwrap_or_default()
    }

    /// Asks whether a CONNECT is let in, and keeps it until that is answered.
    pub(super) fn ask_about(
        &mut self,
        id: ConnId,
        frame: Frame<'_>,
        connect: &Connect<'_>,
        assigned: Option<String>,
    ) -> Flow {
        let gate = self.gates.entry(id.slot).or_default();
        let credentials = Credentials {
            client_id: assigned.as_deref().unwrap_or(connect.client_id).to_owned(),
            user: connect.user_name.map(str::to_owned),
            password: connect.password.map(|password| Secret::new(password.to_vec())),
            method: connect.properties.authentication_method.map(str::to_owned),
            data: connect.properties.authentication_data.unwrap_or_default().to_vec(),
            listener: self.wire.conns[id.slot].listener,
            peer: gate.peer.clone(),
        };
        self.counters.reassembly_bytes.add(waiting_bytes(frame.body.len()));
        gate.waiting = Some(Waiting {
            first: frame.first,
            body: Secret::new(frame.body.to_vec()),
            assigned,
            method: connect.properties.authentication_method.map(Into::into),
        });
        self.ask_for_stranger(id, Question::Connect(Box::new(credentials)))
    }

    /// Puts a question about a connection that was not let in yet; it is not read until the answer comes.
    fn ask_for_stranger(&mut self, id: ConnId, question: Question) -> Flow {
        if self.ask(id, question).is_err() {
            return self.refuse(id, ReasonCode::ServerBusy, "too many clients are being authenticated");
        }
        let conn = &mut self.wire.conns[id.slot];
        conn.phase = Phase::Asking;
        conn.stalled = true;
        self.wire.effects.push_back(Effect::PauseReceive(id));
        // It lives here, whatever the answer.
        self.wire.effects.push_back(Effect::Settle(id));
        Flow::Stop
    }

    fn ask(&mut self, id: ConnId, question: Question) -> Result<(), Busy> {
        self.counters.authentications.add(1);
        self.authenticator.as_mut().ok_or(Busy)?.ask(id, question)
    }

    /// Takes the answers that have come.
    pub(super) fn take_verdicts(&mut self) {
        while let Some((id, verdict)) = self.authenticator.as_mut().and_then(|authenticator| authenticator.poll()) {
            match self.live(id).map(|conn| conn.phase) {
                Some(Phase::Asking) => self.judge_stranger(id, verdict),
                Some(Phase::Connected) => self.judge_renewal(id, verdict),
                // The connection is gone, or another has its slot: nobody asks any more.
                _ => {}
            }
        }
    }

    fn judge_stranger(&mut self, id: ConnId, verdict: Verdict) {
        match verdict {
            // The file may have changed while the answer was on its way.
            Verdict::Allow { principal, .. } if !self.is_vouched_for(&principal) => {
                self.refuse(id, ReasonCode::NotAuthorized, "its user is gone, or has another password");
            }
            Verdict::Allow { principal, data } => {
                self.let_in(id, Admission { principal, data });
            }
            Verdict::Deny(code) => {
                self.refuse(id, code, "authentication failed");
            }
            Verdict::Continue { data } => {
                self.challenge_stranger(id, &data);
            }
        }
        self.resume(id);
    }

    /// The CONNECT that waited is accepted.
    fn let_in(&mut self, id: ConnId, admission: Admission) -> Flow {
        let waiting = self.gates.get_mut(&id.slot).and_then(|gate| gate.waiting.take());
        let Some(Waiting { first, body, assigned, .. }) = waiting else { return Flow::Stop };
        self.counters.reassembly_bytes.sub(waiting_bytes(body.bytes().len()));
        self.wire.conns[id.slot].phase = Phase::AwaitsConnect;
        // It was decoded before it was kept.
        match decode(Frame { first, body: body.bytes() }, ProtocolVersion::V5) {
            Ok(Packet::Connect(connect)) => {
                self.accept(id, &connect, assigned.as_deref().unwrap_or(connect.client_id), Some(admission))
            }
            _ => self.refuse(id, ReasonCode::UnspecifiedError, "the CONNECT was lost"),
        }
    }

    /// AUTH with the server's next step; the client has to answer it [MQTT-4.12.0-2].
    fn challenge_stranger(&mut self, id: ConnId, data: &[u8]) -> Flow {
        let waiting = self.gates.get(&id.slot).and_then(|gate| gate.waiting.as_ref());
        let Some(method) = waiting.and_then(|waiting| waiting.method.clone()) else {
            return self.refuse(id, ReasonCode::UnspecifiedError, "an exchange without an authentication method");
        };
        self.wire.conns[id.slot].phase = Phase::Authenticating;
        if !self.say_auth(id, ReasonCode::ContinueAuthentication, &method, data) {
            return self.refuse(id, ReasonCode::PacketTooLarge, "AUTH exceeds the maximum packet size");
        }
        Flow::Continue
    }

    /// Writes AUTH; false if it is larger than the client takes.
    fn say_auth(&mut self, id: ConnId, reason: ReasonCode, method: &str, data: &[u8]) -> bool {
        let packet = Packet::Auth(Auth {
            reason: reason as u8,
            authentication_method: Some(method),
            authentication_data: Some(data).filter(|data| !data.is_empty()),
            ..Auth::default()
        });
        let fits = self.wire.fits(id.slot, &packet);
        if fits {
            self.wire.packet(id.slot, &packet);
        }
        fits
    }

    /// A packet of a client that was sent AUTH: its own AUTH, or a DISCONNECT.
    pub(super) fn on_authenticating(&mut self, id: ConnId, packet: &Packet<'_>) -> Flow {
        match packet {
            Packet::Auth(auth) => {
                let waiting = self.gates.get(&id.slot).and_then(|gate| gate.waiting.as_ref());
                let method = waiting.and_then(|waiting| waiting.method.as_deref());
                if auth.reason != ReasonCode::ContinueAuthentication as u8 {
                    return self.refuse(
                        id,
                        ReasonCode::ProtocolError,
                        "AUTH before CONNACK goes on with what was begun",
                    );
                }
                if auth.authentication_method != method {
                    return self.refuse(id, ReasonCode::BadAuthenticationMethod, "AUTH of another method");
                }
                let data = auth.authentication_data.unwrap_or_default().to_vec();
                self.ask_for_stranger(id, Question::Continue { data })
            }
            Packet::Disconnect(_) => {
                self.end(id.slot, EndReason::ClientDisconnect, None, Leave::Clean);
                Flow::Stop
            }
            // [MQTT-3.1.2-30]
            _ => self.refuse(id, ReasonCode::ProtocolError, "only AUTH and DISCONNECT may come before CONNACK"),
        }
    }

    /// AUTH of a client that is connected: it authenticates again (§4.12.1).
    pub(super) fn on_auth(&mut self, id: ConnId, auth: &Auth<'_>) -> Flow {
        let slot = self.wire.conns[id.slot].session;
        let session = &mut self.sessions[slot];
        let Some(access) = session.access.as_deref_mut().filter(|access| access.method.is_some()) else {
            // [MQTT-4.12.0-7]
            return self.protocol_error(id, ReasonCode::ProtocolError, "AUTH without an authentication method");
        };
        let data = auth.authentication_data.unwrap_or_default().to_vec();
        let begins = auth.reason == ReasonCode::ReAuthenticate as u8;
        let goes_on = auth.reason == ReasonCode::ContinueAuthentication as u8;
        let in_turn = match access.renewal {
            Renewal::None => begins,
            Renewal::AwaitsClient => goes_on,
            Renewal::Asked => false,
        };
        if !in_turn {
            return self.protocol_error(id, ReasonCode::ProtocolError, "AUTH out of turn");
        }
        if auth.authentication_method != access.method.as_deref() {
            // [MQTT-4.12.1-1]
            return self.protocol_error(id, ReasonCode::BadAuthenticationMethod, "AUTH of another method");
        }
        access.renewal = Renewal::Asked;
        let question = if begins {
            let client_id = session.client_id.to_string();
            Question::Renew(Box::new(access.credentials(client_id, self.wire.conns[id.slot].listener, data)))
        } else {
            Question::Continue { data }
        };
        if self.ask(id, question).is_err() {
            return self.lapse(id, ReasonCode::ServerBusy, "too many clients are being authenticated");
        }
        Flow::Continue
    }

    fn judge_renewal(&mut self, id: ConnId, verdict: Verdict) {
        let slot = self.wire.conns[id.slot].session;
        let Some(access) = self.sessions[slot].access.as_deref_mut() else { return };
        let Some(method) = access.method.clone().filter(|_| access.renewal == Renewal::Asked) else { return };
        let (reason, data) = match verdict {
            Verdict::Deny(code) => {
                // [MQTT-4.12.1-2]
                self.lapse(id, code, "authentication failed");
                return;
            }
            Verdict::Allow { principal, .. } if principal.user != access.principal.user => {
                // The session is the first one's.
                self.lapse(id, ReasonCode::NotAuthorized, "authenticated again as another user");
                return;
            }
            Verdict::Continue { data } => {
                access.renewal = Renewal::AwaitsClient;
                (ReasonCode::ContinueAuthentication, data)
            }
            Verdict::Allow { principal, data } => {
                access.renewal = Renewal::None;
                self.take_principal(slot, *principal);
                self.schedule_lapse(id);
                (ReasonCode::Success, data)
            }
        };
        if !self.say_auth(id, reason, &method, &data) {
            self.lapse(id, ReasonCode::PacketTooLarge, "AUTH exceeds the maximum packet size");
        }
    }

    /// A client that was let in may stay no longer.
    fn lapse(&mut self, id: ConnId, code: ReasonCode, why: &str) -> Flow {
        tracing::debug!(shard = self.shard, slot = id.slot, code = code.name(), why, "client dismissed");
        self.counters.protocol_errors.of(code as u8).add(1);
        self.end(id.slot, EndReason::NotAuthenticated, Some(code), Leave::WithWill);
        Flow::Stop
    }

    /// Has the connection looked at when its authentication is over, if it ever is.
    pub(super) fn schedule_lapse(&mut self, id: ConnId) {
        let now = self.wire.now;
        let Some(access) = self.access_of(id) else { return };
        let Some(due) = access.lapses.map(|lapses| lapses.min(now.after(AHEAD_MAX))) else { return };
        if due < access.looked_at {
            access.looked_at = due;
            self.wheel.insert(due, Timer::authentication(id));
        }
    }

    /// The authentication of a client may be over.
    pub(super) fn check_lapse(&mut self, id: ConnId) {
        let now = self.wire.now;
        // An entry that came to lie behind a later one is not the one that counts.
        let Some(access) = self.access_of(id).filter(|access| access.looked_at <= now) else { return };
        access.looked_at = Time(u64::MAX);
        if access.lapses.is_some_and(|lapses| lapses <= now) {
            let reason = self.shared.expired_reason.get().copied().unwrap_or(ReasonCode::NotAuthorized);
            self.lapse(id, reason, "the authentication is over");
        } else {
            self.schedule_lapse(id);
        }
    }

    fn access_of(&mut self, id: ConnId) -> Option<&mut Access> {
        let session = self.live(id)?.session;
        self.sessions.get_mut(session)?.access.as_deref_mut()
    }

    /// Nothing is asked about this connection any more.
    pub(super) fn forget_question(&mut self, id: ConnId) {
        let conn = &self.wire.conns[id.slot];
        let stranger = matches!(conn.phase, Phase::Asking | Phase::Authenticating);
        let renewing = |access: &Access| access.renewal != Renewal::None;
        let open =
            stranger || conn.session != NO_SLOT && self.sessions[conn.session].access.as_deref().is_some_and(renewing);
        if !self.gates.is_empty()
            && let Some(waiting) = self.gates.remove(&id.slot).and_then(|gate| gate.waiting)
        {
            self.counters.reassembly_bytes.sub(waiting_bytes(waiting.body.bytes().len()));
        }
        if let Some(authenticator) = self.authenticator.as_mut().filter(|_| open) {
            authenticator.forget(id);
        }
    }
}
