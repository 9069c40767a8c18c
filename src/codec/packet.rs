//! The packets and their parts, as the specification names them.
//!
//! Every type borrows from the received bytes. Fields that a protocol version does not have hold their
//! default: a 3.1.1 packet has empty properties.

use std::fmt;

/// The protocol versions spoken here (MQTT 5.0 §3.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31 = 3,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311 = 4,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5 = 5,
}

/// Quality of service (MQTT 5.0 §4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// MQTT control packet types (MQTT 5.0 §2.1.2), the upper four bits of a packet's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the specification's names say it")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type of a packet that starts with this byte; `None` for the reserved type 0.
    #[inline]
    pub fn of(first: u8) -> Option<PacketType> {
        Some(match first >> 4 {
            1 => PacketType::Connect,
            2 => PacketType::ConnAck,
            3 => PacketType::Publish,
            4 => PacketType::PubAck,
            5 => PacketType::PubRec,
            6 => PacketType::PubRel,
            7 => PacketType::PubComp,
            8 => PacketType::Subscribe,
            9 => PacketType::SubAck,
            10 => PacketType::Unsubscribe,
            11 => PacketType::UnsubAck,
            12 => PacketType::PingReq,
            13 => PacketType::PingResp,
            14 => PacketType::Disconnect,
            15 => PacketType::Auth,
            _ => return None,
        })
    }
}

/// Any control packet, either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Client → server: connection request.
    Connect(Box<Connect<'a>>),
    /// Server → client: connect acknowledgment.
    ConnAck(ConnAck<'a>),
    /// Publish message.
    Publish(Publish<'a>),
    /// QoS 1 acknowledgment.
    PubAck(Ack<'a>),
    /// QoS 2, step 1.
    PubRec(Ack<'a>),
    /// QoS 2, step 2.
    PubRel(Ack<'a>),
    /// QoS 2, step 3.
    PubComp(Ack<'a>),
    /// Client → server: subscribe request.
    Subscribe(Subscribe<'a>),
    /// Server → client: subscribe acknowledgment.
    SubAck(SubAck<'a>),
    /// Client → server: unsubscribe request.
    Unsubscribe(Unsubscribe<'a>),
    /// Server → client: unsubscribe acknowledgment.
    UnsubAck(SubAck<'a>),
    /// Client → server: ping request.
    PingReq,
    /// Server → client: ping response.
    PingResp,
    /// Disconnect notification (server → client in 5.0 only).
    Disconnect(Disconnect<'a>),
    /// Authentication exchange (5.0 only).
    Auth(Auth<'a>),
}

/// CONNECT (MQTT 5.0 §3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Which protocol the client speaks.
    pub version: ProtocolVersion,
    /// The bridge bit (0x80 of the protocol level) that some 3.x bridges set.
    pub bridge: bool,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Keep alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Client identifier; empty asks the server to assign one.
    pub client_id: &'a str,
    /// The will, if the will flag is set.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// 5.0 properties.
    pub properties: ConnectProperties<'a>,
}

/// Properties of CONNECT (MQTT 5.0 §3.1.2.11). `None` where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Session expiry interval in seconds; `u32::MAX` never expires.
    pub session_expiry_interval: Option<u32>,
    /// Receive maximum, 1..=65535.
    pub receive_maximum: Option<u16>,
    /// Maximum packet size in bytes, ≥ 1.
    pub maximum_packet_size: Option<u32>,
    /// Topic alias maximum.
    pub topic_alias_maximum: Option<u16>,
    /// Request response information.
    pub request_response_information: Option<bool>,
    /// Request problem information; absent means true.
    pub request_problem_information: Option<bool>,
    /// User properties, in order.
    pub user_properties: UserProperties<'a>,
    /// Authentication method.
    pub authentication_method: Option<&'a str>,
    /// Authentication data.
    pub authentication_data: Option<&'a [u8]>,
}

/// The will in CONNECT's payload (MQTT 5.0 §3.1.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS that the will is published with.
    pub qos: QoS,
    /// Retain flag that the will is published with.
    pub retain: bool,
    /// Topic name: not empty, no wildcards.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Will delay interval in seconds.
    pub delay_interval: u32,
    /// The publish properties of the will; never holds a topic alias or subscription identifiers.
    pub properties: PublishProperties<'a>,
}

/// CONNACK (MQTT 5.0 §3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Session present.
    pub session_present: bool,
    /// Reason code (5.0) or return code (3.x), as on the wire.
    pub code: u8,
    /// 5.0 properties.
    pub properties: ConnAckProperties<'a>,
}

/// Properties of CONNACK (MQTT 5.0 §3.2.2.3). `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's names say it")]
pub struct ConnAckProperties<'a> {
    pub session_expiry_interval: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_identifier: Option<&'a str>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

/// PUBLISH (MQTT 5.0 §3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// DUP flag.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name; empty only in 5.0 together with a topic alias.
    pub topic: &'a str,
    /// Packet identifier; 0 exactly when `qos` is 0.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: PublishProperties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

/// Properties of PUBLISH (MQTT 5.0 §3.3.2.3), kept raw with the few that the broker acts on picked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// The whole property section after its length, validated.
    pub raw: &'a [u8],
    /// Payload format indicator is present and 1: the payload says it is UTF-8.
    pub payload_is_utf8: bool,
    /// Message expiry interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Topic alias, ≥ 1.
    pub topic_alias: Option<u16>,
    /// True when `raw` holds nothing but what a server forwards unaltered: no topic alias, no
    /// message expiry interval, no subscription identifier, no will delay interval.
    pub forwards_as_is: bool,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5.0 §3.4–3.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Packet identifier, never 0.
    pub packet_id: u16,
    /// Reason code; 0 in 3.x.
    pub reason: u8,
    /// Reason string.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
}

/// SUBSCRIBE (MQTT 5.0 §3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Packet identifier, never 0.
    pub packet_id: u16,
    /// Subscription identifier, 1..=268,435,455.
    pub subscription_identifier: Option<u32>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// The filters with their options; at least one, all validated.
    pub filters: Filters<'a>,
}

/// One filter of a SUBSCRIBE with its subscription options (MQTT 5.0 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRequest<'a> {
    /// Topic filter, `$share/group/` included.
    pub filter: &'a str,
    /// Options.
    pub options: SubscriptionOptions,
}

/// Subscription options (MQTT 5.0 §3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

/// Retain Handling (MQTT 5.0 §3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send retained messages at the time of the subscribe.
    #[default]
    Send = 0,
    /// Send them only if the subscription does not exist yet.
    SendIfNew = 1,
    /// Do not send them.
    DoNotSend = 2,
}

/// UNSUBSCRIBE (MQTT 5.0 §3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Packet identifier, never 0.
    pub packet_id: u16,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// The filters; the options are default.
    pub filters: Filters<'a>,
}

/// SUBACK and UNSUBACK (MQTT 5.0 §3.9, §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Packet identifier of the request.
    pub packet_id: u16,
    /// Reason string.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// One code a filter (an UNSUBACK of 3.x has none on the wire).
    pub codes: &'a [u8],
}

/// DISCONNECT (MQTT 5.0 §3.14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Reason code; 0 in 3.x.
    pub reason: u8,
    /// Session expiry interval in seconds (client → server only).
    pub session_expiry_interval: Option<u32>,
    /// Reason string.
    pub reason_string: Option<&'a str>,
    /// User properties.
    pub user_properties: UserProperties<'a>,
    /// Server reference (server → client only).
    pub server_reference: Option<&'a str>,
}

/// AUTH (MQTT 5.0 §3.15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's names say it")]
pub struct Auth<'a> {
    pub reason: u8,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

/// User properties in wire order: the validated bytes of a property section, walked by [`UserProperties::iter`],
/// which passes over every other property.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    /// A validated property section (any properties), or empty.
    pub section: &'a [u8],
}

/// The filters of a SUBSCRIBE or UNSUBSCRIBE, validated, walked by [`Filters::iter`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a> {
    /// The payload of the packet.
    pub payload: &'a [u8],
    /// True when an options byte follows each filter (SUBSCRIBE).
    pub with_options: bool,
}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserProperties({} bytes)", self.section.len())
    }
}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filters({} bytes)", self.payload.len())
    }
}

/// Reason codes that a server may send (MQTT 5.0 §2.4), and the 3.x CONNACK return codes they become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the specification's names say it")]
pub enum ReasonCode {
    Success = 0x00,
    GrantedQoS1 = 0x01,
    GrantedQoS2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8A,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9A,
    QoSNotSupported = 0x9B,
    UseAnotherServer = 0x9C,
    ServerMoved = 0x9D,
    SharedSubscriptionsNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
    MaximumConnectTime = 0xA0,
    SubscriptionIdentifiersNotSupported = 0xA1,
    WildcardSubscriptionsNotSupported = 0xA2,
}
