//! What a shard counts of its transports: written by its thread alone, read by anyone.

use rustls::{CertificateError, Error, HandshakeKind};

use super::link::Failure;
use super::{tls, ws};
use crate::counter::counters;

counters! {
    /// What a shard's transports count.
    TransportCounters {
        /// TLS handshakes that were completed.
        tls_handshakes,
        /// Those of them that resumed an earlier session.
        tls_resumed,
        /// Handshakes in progress (gauge).
        tls_handshaking,
        /// Times a handshake had to wait for a later turn.
        tls_waits,
        /// Connections closed while they had sent nothing, because `limits.tls_handshakes_max` were in progress and another came.
        tls_refused_silent,
        /// Handshakes given up half done, for the same reason: the client was to go on with them, and nobody was silent.
        tls_refused_unfinished,
        /// Connections refused for the same reason, where every handshake waited for its turn.
        tls_refused_full,
        /// Handshakes that ended with the connection: the client went away, or took too long.
        tls_refused_abandoned,
        /// Handshakes that failed because the client sent something that is not TLS.
        tls_refused_not_tls,
        /// Handshakes that failed because the two sides have no version, cipher suite, key exchange or protocol name in common.
        tls_refused_incompatible,
        /// Handshakes that were refused because the client wants a pre-shared key (TLS-PSK).
        tls_refused_psk,
        /// Handshakes that failed because the client showed no certificate.
        tls_refused_no_certificate,
        /// Handshakes that failed because the client's certificate is not valid: unknown issuer, expired, revoked.
        tls_refused_certificate,
        /// Handshakes that failed because the revocation list for the client's certificate is out of date.
        tls_refused_list_expired,
        /// Handshakes that failed because the names in the client's certificate, which is valid, are of no use: not UTF-8, or
        /// more than one common name.
        tls_refused_names,
        /// Handshakes that the client refused, by an alert: above all, it does not trust our certificate.
        tls_refused_by_client,
        /// Handshakes that failed for another reason.
        tls_refused_other,
        /// Connections that broke TLS after the handshake.
        tls_broken,
        /// Connections closed because they did not take what was sent before they could be handed to their home shard.
        hand_overs_given_up,
        /// WebSocket handshakes that were refused.
        ws_refused,
        /// Connections that broke the rules of WebSocket after the handshake.
        ws_broken,
        /// Connections refused because their PROXY header is none.
        proxy_refused,
        /// Connections refused because they came from no trusted proxy.
        proxy_untrusted,
    }
}

impl TransportCounters {
    pub(super) fn shook_hands(&self, kind: Option<HandshakeKind>) {
        self.tls_handshakes.add(1);
        self.tls_resumed.add(u64::from(kind == Some(HandshakeKind::Resumed)));
    }

    /// Counts a failed connection by its reason.
    pub(super) fn failed(&self, failure: &Failure, handshaking: bool) {
        let failure = match failure {
            Failure::Tls(failure) => failure,
            Failure::WebSocket(ws::Error::Handshake(_)) => return self.ws_refused.add(1),
            Failure::WebSocket(ws::Error::Frame(_)) => return self.ws_broken.add(1),
            Failure::Proxy(_) => return self.proxy_refused.add(1),
        };
        let counter = match failure {
            _ if !handshaking => &self.tls_broken,
            tls::Failure::Tls(error) => match error {
                Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => &self.tls_refused_not_tls,
                Error::PeerIncompatible(_) | Error::NoApplicationProtocol => &self.tls_refused_incompatible,
                Error::NoCertificatesPresented => &self.tls_refused_no_certificate,
                Error::InvalidCertificate(
                    CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. },
                ) => &self.tls_refused_list_expired,
                Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => &self.tls_refused_names,
                Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => &self.tls_refused_certificate,
                Error::AlertReceived(_) => &self.tls_refused_by_client,
                _ => &self.tls_refused_other,
            },
            tls::Failure::PreSharedKey => &self.tls_refused_psk,
            tls::Failure::TooLong | tls::Failure::CannotSend => &self.tls_refused_other,
        };
        counter.add(1);
    }
}
