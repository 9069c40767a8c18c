//! What can be wrong with received bytes, and what MQTT 5.0 wants said about it.

use thiserror::Error;

use super::ReasonCode;
use super::topic::TopicError;

/// Why bytes are not a packet. Ends the connection in every protocol version (MQTT 5.0 §4.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The remaining length takes more than four bytes, or more than it needs `[MQTT-1.5.5-1]`.
    #[error("the remaining length is not a variable byte integer")]
    RemainingLength,
    /// The packet is larger than this side accepts; known before its body arrived.
    #[error("a packet of {length} bytes is larger than the maximum packet size {maximum}")]
    PacketTooLarge {
        /// Total size of the packet in bytes.
        length: u32,
        /// The limit it exceeds.
        maximum: u32,
    },
    /// A packet type that the protocol version does not have.
    #[error("packet type {packet_type} is reserved")]
    ReservedPacketType {
        /// The upper four bits of the fixed header.
        packet_type: u8,
    },
    /// Flags of the fixed header that the packet type does not have `[MQTT-2.1.3-1]`.
    #[error("the flags of fixed header {first:#04x} are reserved")]
    ReservedFlags {
        /// The first byte of the packet.
        first: u8,
    },
    /// A field runs past the end of the packet or of the property section.
    #[error("the packet ends within a field")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("bytes follow the last field of the packet")]
    TrailingBytes,
    /// A variable byte integer of more than four bytes, or of more than it needs `[MQTT-1.5.5-1]`.
    #[error("not a variable byte integer")]
    VariableByteInteger,
    /// A string that is not UTF-8, surrogates included `[MQTT-1.5.4-1]`.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A string with U+0000 `[MQTT-1.5.4-2]`.
    #[error("a string holds U+0000")]
    NullCharacter,
    /// The protocol name is neither `MQTT` nor `MQIsdp` `[MQTT-3.1.2-1]`.
    #[error("the protocol name is not MQTT's")]
    ProtocolName,
    /// The protocol level is none of those spoken here `[MQTT-3.1.2-2]`.
    #[error("protocol level {level} is not supported")]
    ProtocolVersion {
        /// The level that the client asked for.
        level: u8,
    },
    /// The reserved bit of the connect flags is set `[MQTT-3.1.2-3]`.
    #[error("the reserved connect flag is set")]
    ReservedConnectFlag,
    /// Will QoS or will retain without a will `[MQTT-3.1.2-11]`, `[MQTT-3.1.2-13]`.
    #[error("will QoS or will retain is set without a will")]
    WillFlagsWithoutWill,
    /// Will QoS 3 `[MQTT-3.1.2-12]`.
    #[error("will QoS is 3")]
    WillQoS,
    /// A password without a user name, which only 5.0 allows (MQTT 3.1.1 `[MQTT-3.1.2-22]`).
    #[error("a password comes without a user name")]
    PasswordWithoutUserName,
    /// PUBLISH with both QoS bits `[MQTT-3.3.1-4]`.
    #[error("a PUBLISH has QoS 3")]
    PublishQoS,
    /// DUP at QoS 0 `[MQTT-3.3.1-2]`.
    #[error("a PUBLISH of QoS 0 has the DUP flag")]
    DupAtQoS0,
    /// Packet identifier 0 `[MQTT-2.2.1-3]`.
    #[error("the packet identifier is 0")]
    PacketIdentifierZero,
    /// A topic name that is none: of a PUBLISH or of a will.
    #[error("topic name: {0}")]
    TopicName(TopicError),
    /// An empty topic name without a topic alias (MQTT 5.0 §3.3.2.1).
    #[error("a PUBLISH has neither topic name nor topic alias")]
    NoTopic,
    /// A response topic that is no topic name `[MQTT-3.3.2-14]`.
    #[error("response topic: {0}")]
    ResponseTopic(TopicError),
    /// A topic filter that is none.
    #[error("topic filter: {0}")]
    TopicFilter(TopicError),
    /// Topic alias 0 `[MQTT-3.3.2-8]`.
    #[error("the topic alias is 0")]
    TopicAliasZero,
    /// A property that is unknown or does not belong in this packet (MQTT 5.0 §2.2.2.2).
    #[error("property {identifier:#04x} does not belong in this packet")]
    PropertyNotAllowed {
        /// The property's identifier.
        identifier: u8,
    },
    /// A property that may be there once is there twice.
    #[error("property {identifier:#04x} is there twice")]
    DuplicateProperty {
        /// The property's identifier.
        identifier: u8,
    },
    /// A property's value is outside its range.
    #[error("property {identifier:#04x} has a value outside its range")]
    PropertyValue {
        /// The property's identifier.
        identifier: u8,
    },
    /// Authentication data without a method (MQTT 5.0 §3.1.2.11.10).
    #[error("authentication data come without an authentication method")]
    AuthenticationDataWithoutMethod,
    /// AUTH without a method (MQTT 5.0 §3.15.2.2.2).
    #[error("an AUTH has no authentication method")]
    NoAuthenticationMethod,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter `[MQTT-3.8.3-2]`, `[MQTT-3.10.3-2]`.
    #[error("the packet has no topic filter")]
    NoFilters,
    /// Reserved bits in the subscription options `[MQTT-3.8.3-5]`.
    #[error("reserved subscription options are set")]
    ReservedSubscriptionOptions,
    /// Maximum QoS 3 in the subscription options (MQTT 5.0 §3.8.3.1).
    #[error("a subscription has QoS 3")]
    SubscriptionQoS,
    /// Retain handling 3 (MQTT 5.0 §3.8.3.1).
    #[error("retain handling is 3")]
    RetainHandling,
    /// No local on a shared subscription `[MQTT-3.8.3-4]`.
    #[error("a shared subscription has no local")]
    NoLocalOnShared,
    /// Reserved bits in the connect acknowledge flags `[MQTT-3.2.2-1]`.
    #[error("reserved connect acknowledge flags are set")]
    ReservedConnAckFlags,
    /// A reason code that the packet cannot carry.
    #[error("reason code {code:#04x} does not belong in this packet")]
    ReasonCode {
        /// The code.
        code: u8,
    },
    /// SUBACK or UNSUBACK without a reason code.
    #[error("the acknowledgment has no reason code")]
    NoReasonCodes,
}

impl DecodeError {
    /// The reason code to close the connection with (MQTT 5.0 §4.13.1).
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::RemainingLength
            | Self::ReservedPacketType { .. }
            | Self::ReservedFlags { .. }
            | Self::Truncated
            | Self::TrailingBytes
            | Self::VariableByteInteger
            | Self::InvalidUtf8
            | Self::NullCharacter
            | Self::ReservedConnectFlag
            | Self::WillFlagsWithoutWill
            | Self::WillQoS
            | Self::PasswordWithoutUserName
            | Self::PublishQoS
            | Self::PropertyNotAllowed { .. }
            | Self::ReservedSubscriptionOptions
            | Self::ReservedConnAckFlags => ReasonCode::MalformedPacket,
            Self::DupAtQoS0
            | Self::PacketIdentifierZero
            | Self::NoTopic
            | Self::ResponseTopic(_)
            | Self::DuplicateProperty { .. }
            | Self::PropertyValue { .. }
            | Self::AuthenticationDataWithoutMethod
            | Self::NoAuthenticationMethod
            | Self::NoFilters
            | Self::SubscriptionQoS
            | Self::RetainHandling
            | Self::NoLocalOnShared
            | Self::ReasonCode { .. }
            | Self::NoReasonCodes => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::ProtocolName | Self::ProtocolVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicName(_) => ReasonCode::TopicNameInvalid,
            Self::TopicFilter(_) => ReasonCode::TopicFilterInvalid,
            Self::TopicAliasZero => ReasonCode::TopicAliasInvalid,
        }
    }

    /// A short name for counters and logs; each kind has its own.
    pub fn label(&self) -> &'static str {
        match self {
            Self::RemainingLength => "remaining_length",
            Self::PacketTooLarge { .. } => "packet_too_large",
            Self::ReservedPacketType { .. } => "reserved_packet_type",
            Self::ReservedFlags { .. } => "reserved_flags",
            Self::Truncated => "truncated",
            Self::TrailingBytes => "trailing_bytes",
            Self::VariableByteInteger => "variable_byte_integer",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::NullCharacter => "null_character",
            Self::ProtocolName => "protocol_name",
            Self::ProtocolVersion { .. } => "protocol_version",
            Self::ReservedConnectFlag => "reserved_connect_flag",
            Self::WillFlagsWithoutWill => "will_flags_without_will",
            Self::WillQoS => "will_qos",
            Self::PasswordWithoutUserName => "password_without_user_name",
            Self::PublishQoS => "publish_qos",
            Self::DupAtQoS0 => "dup_at_qos_0",
            Self::PacketIdentifierZero => "packet_identifier_zero",
            Self::TopicName(_) => "topic_name",
            Self::NoTopic => "no_topic",
            Self::ResponseTopic(_) => "response_topic",
            Self::TopicFilter(_) => "topic_filter",
            Self::TopicAliasZero => "topic_alias_zero",
            Self::PropertyNotAllowed { .. } => "property_not_allowed",
            Self::DuplicateProperty { .. } => "duplicate_property",
            Self::PropertyValue { .. } => "property_value",
            Self::AuthenticationDataWithoutMethod => "authentication_data_without_method",
            Self::NoAuthenticationMethod => "no_authentication_method",
            Self::NoFilters => "no_filters",
            Self::ReservedSubscriptionOptions => "reserved_subscription_options",
            Self::SubscriptionQoS => "subscription_qos",
            Self::RetainHandling => "retain_handling",
            Self::NoLocalOnShared => "no_local_on_shared",
            Self::ReservedConnAckFlags => "reserved_connack_flags",
            Self::ReasonCode { .. } => "reason_code",
            Self::NoReasonCodes => "no_reason_codes",
        }
    }
}
