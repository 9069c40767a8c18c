//! Reason codes: from and to the wire, their names, and what becomes of them in 3.x.

use super::ReasonCode;
use ReasonCode::*;

/// Every reason code with the specification's name for it (MQTT 5.0 §2.4).
const NAMES: [(ReasonCode, &str); 43] = [
    (Success, "Success"),
    (GrantedQoS1, "Granted QoS 1"),
    (GrantedQoS2, "Granted QoS 2"),
    (DisconnectWithWill, "Disconnect with Will Message"),
    (NoMatchingSubscribers, "No matching subscribers"),
    (NoSubscriptionExisted, "No subscription existed"),
    (ContinueAuthentication, "Continue authentication"),
    (ReAuthenticate, "Re-authenticate"),
    (UnspecifiedError, "Unspecified error"),
    (MalformedPacket, "Malformed Packet"),
    (ProtocolError, "Protocol Error"),
    (ImplementationSpecificError, "Implementation specific error"),
    (UnsupportedProtocolVersion, "Unsupported Protocol Version"),
    (ClientIdentifierNotValid, "Client Identifier not valid"),
    (BadUserNameOrPassword, "Bad User Name or Password"),
    (NotAuthorized, "Not authorized"),
    (ServerUnavailable, "Server unavailable"),
    (ServerBusy, "Server busy"),
    (Banned, "Banned"),
    (ServerShuttingDown, "Server shutting down"),
    (BadAuthenticationMethod, "Bad authentication method"),
    (KeepAliveTimeout, "Keep Alive timeout"),
    (SessionTakenOver, "Session taken over"),
    (TopicFilterInvalid, "Topic Filter invalid"),
    (TopicNameInvalid, "Topic Name invalid"),
    (PacketIdentifierInUse, "Packet Identifier in use"),
    (PacketIdentifierNotFound, "Packet Identifier not found"),
    (ReceiveMaximumExceeded, "Receive Maximum exceeded"),
    (TopicAliasInvalid, "Topic Alias invalid"),
    (PacketTooLarge, "Packet too large"),
    (MessageRateTooHigh, "Message rate too high"),
    (QuotaExceeded, "Quota exceeded"),
    (AdministrativeAction, "Administrative action"),
    (PayloadFormatInvalid, "Payload format invalid"),
    (RetainNotSupported, "Retain not supported"),
    (QoSNotSupported, "QoS not supported"),
    (UseAnotherServer, "Use another server"),
    (ServerMoved, "Server moved"),
    (SharedSubscriptionsNotSupported, "Shared Subscriptions not supported"),
    (ConnectionRateExceeded, "Connection rate exceeded"),
    (MaximumConnectTime, "Maximum connect time"),
    (SubscriptionIdentifiersNotSupported, "Subscription Identifiers not supported"),
    (WildcardSubscriptionsNotSupported, "Wildcard Subscriptions not supported"),
];

impl ReasonCode {
    /// The reason code of a byte; `None` when the specification has none.
    pub fn from_u8(code: u8) -> Option<ReasonCode> {
        NAMES.iter().find(|(known, _)| *known as u8 == code).map(|(known, _)| *known)
    }

    /// True for 0x80 and above: what was asked for did not happen.
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The specification's name, as in MQTT 5.0 table 2-6.
    pub fn name(&self) -> &'static str {
        // Every variant is in the table (a test walks all bytes), so the empty string is never seen.
        NAMES.iter().find(|(known, _)| known == self).map_or("", |(_, name)| name)
    }
}

/// The CONNACK return code that a 3.x client is refused with (MQTT 3.1.1 §3.2.2.3).
///
/// 3.x has five refusals; whatever is none of the other four is "server unavailable" (3).
pub fn connack_return_code_v3(reason: ReasonCode) -> u8 {
    match reason {
        Success => 0,
        UnsupportedProtocolVersion => 1,
        ClientIdentifierNotValid => 2,
        BadUserNameOrPassword | BadAuthenticationMethod => 4,
        NotAuthorized | Banned => 5,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_code_has_its_byte_and_a_name_of_its_own() {
        let codes: Vec<ReasonCode> = (0..=u8::MAX).filter_map(ReasonCode::from_u8).collect();
        assert_eq!(codes.len(), NAMES.len());
        let mut names: Vec<&str> = codes.iter().map(ReasonCode::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        assert!(names.iter().all(|name| !name.is_empty()));
        assert_eq!(ReasonCode::from_u8(0x8F), Some(TopicFilterInvalid));
        assert_eq!(ReasonCode::from_u8(0x7F), None);
    }

    #[test]
    fn errors_start_at_0x80() {
        for (code, _) in NAMES {
            assert_eq!(code.is_error(), code as u8 & 0x80 != 0, "{}", code.name());
        }
    }

    #[test]
    fn refusals_become_the_five_return_codes_of_3_x() {
        let expected = [
            (Success, 0),
            (UnsupportedProtocolVersion, 1),
            (ClientIdentifierNotValid, 2),
            (ServerUnavailable, 3),
            (ServerBusy, 3),
            (QuotaExceeded, 3),
            (BadUserNameOrPassword, 4),
            (NotAuthorized, 5),
            (Banned, 5),
        ];
        for (reason, code) in expected {
            assert_eq!(connack_return_code_v3(reason), code, "{}", reason.name());
        }
    }
}
