//! Certificates of clients that are connected, when authorities or revocation lists have changed.
//!
//! New settings say who may come in from now on. Who is in by a certificate that they refuse is sent away: the certificates of a
//! shard's connections are verified again, a few in each turn, since each costs as much as a step of a handshake: one that
//! has run out meanwhile is refused too. That a list is out of date ends nobody: nothing new is known then of those who are in.

use rustls::{CertificateError, Error};
use tracing::info;

use super::layer::Transports;
use crate::engine::{ConnId, Engine, Time};

/// Certificates that are verified in one turn.
const VERIFIED_PER_TURN: usize = 4;

/// Slots that are looked at in one turn.
const LOOKED_AT_PER_TURN: usize = 1024;

/// How far a shard has come.
#[derive(Default)]
pub struct Verifying {
    /// By listener: the version of its settings that was last seen.
    versions: Vec<u64>,
    /// The next slot to be looked at, until all were.
    pub at: Option<u32>,
}

impl<E: Engine> Transports<E> {
    /// Looks whether there are new settings, and goes on with holding certificates against them.
    pub(super) fn follow_settings(&mut self, now: Time) {
        self.verifying.versions.resize(self.stacks.len(), 0);
        for (stack, seen) in self.stacks.iter().zip(&mut self.verifying.versions) {
            let version = stack.tls.as_ref().map_or(0, |settings| settings.version());
            if std::mem::replace(seen, version) != version {
                self.verifying.at = Some(0);
            }
        }
        if let Some(from) = self.verifying.at {
            self.verify_some(now, from);
        }
    }

    /// A connection was verified elsewhere, or by what was read a while ago: it is verified again if that was replaced since.
    pub(super) fn verify_again(&mut self, conn: ConnId) {
        let Some(Some(link)) = self.links.get(conn.slot as usize) else { return };
        let version = self.stacks.get(usize::from(link.listener)).and_then(|stack| Some(stack.tls.as_ref()?.version()));
        if link.certificates().is_some() && version.is_some_and(|version| version != link.verified_by) {
            self.verifying.at = Some(self.verifying.at.map_or(conn.slot, |at| at.min(conn.slot)));
        }
    }

    fn verify_some(&mut self, now: Time, from: u32) {
        let mut verified = 0;
        let end = self.links.len().min(from as usize + LOOKED_AT_PER_TURN);
        for slot in from as usize..end {
            if verified == VERIFIED_PER_TURN {
                self.verifying.at = Some(slot as u32);
                return;
            }
            let Some(link) = self.links[slot].as_deref_mut() else { continue };
            // One that is on its way to another shard is looked at there.
            if link.closing || link.failed || link.leaving.is_some() {
                continue;
            }
            let Some(settings) = self.stacks.get(usize::from(link.listener)).and_then(|stack| stack.tls.as_ref())
            else {
                continue;
            };
            let version = settings.version();
            let Some(chain) = link.certificates().filter(|_| link.verified_by != version) else { continue };
            verified += 1;
            let outcome = settings.current().vouch_for(chain);
            link.verified_by = version;
            let (Err(error), generation) = (outcome, link.generation) else { continue };
            if is_about_the_list(&error) {
                continue;
            }
            info!(from = link.address().map(tracing::field::display), "a client may not stay: {error}");
            self.inner.withdraw(now, ConnId { slot: slot as u32, generation });
        }
        self.verifying.at = (end < self.links.len()).then_some(end as u32);
    }
}

/// True for an error that says nothing of the certificate.
fn is_about_the_list(error: &Error) -> bool {
    use CertificateError::{ExpiredRevocationList, ExpiredRevocationListContext};
    matches!(error, Error::InvalidCertificate(ExpiredRevocationList | ExpiredRevocationListContext { .. }))
}
