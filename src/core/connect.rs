//! CONNECT: where the client lives, which session it gets, what was agreed (MQTT 5.0 §3.1, §3.2).

use super::conn::{Aliases, PACKET_BYTES_MAX, Phase};
use super::counters::EndReason;
use super::gate::Admission;
use super::inbound::{Flow, version_of_malformed};
use super::session::{Leave, NO_SLOT, Session};
use super::timers::silence_allowed;
use super::{Core, Time};
use crate::codec::{
    ConnAck, ConnAckProperties, Connect, DecodeError, Frame, Packet, ProtocolVersion, QoS, ReasonCode,
    connack_return_code_v3, connect_version, decode,
};
use crate::config::MqttOptions;
use crate::engine::{ConnId, Effect, HandOver, ShardId};
use std::sync::atomic::Ordering::Relaxed;
use tracing::debug;

/// What client identifiers that the server gives begin with [MQTT-3.2.2-16], before so many hexadecimal digits.
const ASSIGNED: &str = "auto-";
const ASSIGNED_DIGITS: usize = 32;

/// The identifier that a client gave itself, unless it has the shape of those that the server gives.
pub(super) fn own_name(client_id: &str) -> Option<&str> {
    let digits = client_id.strip_prefix(ASSIGNED).filter(|digits| digits.len() == ASSIGNED_DIGITS);
    let is_assigned = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    Some(client_id).filter(|client_id| !client_id.is_empty() && !is_assigned)
}

/// Why a CONNECT is refused.
type Refusal = (ReasonCode, &'static str);

impl Core {
    /// The first packet of a connection is a CONNECT.
    pub(super) fn on_first_packet(&mut self, id: ConnId, frame: Frame<'_>, from_here: &[u8]) -> Flow {
        let connect = match decode(frame, ProtocolVersion::V5) {
            Ok(Packet::Connect(connect)) => connect,
            Ok(_) => return self.close_silently(id, "the first packet is not a CONNECT"),
            Err(error) => return self.refuse_malformed_connect(id, error, frame.body),
        };
        let conn = &mut self.wire.conns[id.slot];
        conn.version = connect.version;
        conn.maximum_packet_size = connect.properties.maximum_packet_size.unwrap_or(u32::MAX).min(PACKET_BYTES_MAX);
        if let Err((code, why)) = self.check_connect_packet(&connect) {
            return self.refuse(id, code, why);
        }
        if connect.client_id.is_empty() {
            let assigned = self.assign_client_id();
            return self.admit(id, frame, &connect, Some(assigned));
        }
        let home = self.shared.home(connect.client_id);
        if home.0 != self.shard {
            return self.hand_over(id, home, from_here);
        }
        self.admit(id, frame, &connect, None)
    }

    /// The client is at home: it is let in, or whether it may come in is asked.
    fn admit(&mut self, id: ConnId, frame: Frame<'_>, connect: &Connect<'_>, assigned: Option<String>) -> Flow {
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        if let Err((code, why)) = self.guard_identifier(id, connect, client_id) {
            return self.refuse(id, code, why);
        }
        if self.authenticator.is_some() {
            return self.ask_about(id, frame, connect, assigned);
        }
        self.accept(id, connect, assigned.as_deref().unwrap_or(connect.client_id), None)
    }

    fn hand_over(&mut self, id: ConnId, to: ShardId, bytes: &[u8]) -> Flow {
        let peer = self.take_peer(id);
        let place = self.guard_moves(id.slot);
        let conn = &mut self.wire.conns[id.slot];
        conn.phase = Phase::Leaving;
        let hand_over = HandOver {
            listener: conn.listener,
            accepted: conn.accepted,
            bytes: bytes.to_vec(),
            peer,
            transport: None,
            place: Some(Box::new(place)),
        };
        self.wire.effects.push_back(Effect::HandOver { conn: id, to, hand_over });
        Flow::Stop
    }

    /// What a client is turned away for before it has a session.
    fn check_connect_packet(&self, connect: &Connect<'_>) -> Result<(), Refusal> {
        if !self.mqtt.versions.contains(&connect.version) {
            return Err((ReasonCode::UnsupportedProtocolVersion, "this protocol version is turned off"));
        }
        if connect.client_id.is_empty() && (connect.version == ProtocolVersion::V31 || !self.may_be_nameless(connect)) {
            // [MQTT-3.1.3-8] of 3.1.1
            return Err((ReasonCode::ClientIdentifierNotValid, "an empty client identifier needs a clean session"));
        }
        if connect.client_id.len() > usize::from(self.limits.client_id_bytes_max) {
            return Err((ReasonCode::ClientIdentifierNotValid, "the client identifier is too long"));
        }
        if connect.properties.authentication_method.is_some() && self.authenticator.is_none() {
            return Err((ReasonCode::BadAuthenticationMethod, "enhanced authentication is not offered"));
        }
        let user_properties_max = usize::from(self.limits.user_properties_max);
        if connect.properties.user_properties.iter().nth(user_properties_max).is_some() {
            return Err((ReasonCode::QuotaExceeded, "too many user properties"));
        }
        connect.will.as_ref().map_or(Ok(()), |will| self.check_will_packet(will))
    }

    fn may_be_nameless(&self, connect: &Connect<'_>) -> bool {
        connect.version == ProtocolVersion::V5 || connect.clean_start
    }

    fn check_will_packet(&self, will: &crate::codec::Will<'_>) -> Result<(), Refusal> {
        if will.qos > self.mqtt.max_qos {
            return Err((ReasonCode::QoSNotSupported, "the will's QoS is above the maximum")); // [MQTT-3.2.2-12]
        }
        if will.retain && !self.mqtt.retain_available {
            return Err((ReasonCode::RetainNotSupported, "retained messages are not available")); // [MQTT-3.2.2-13]
        }
        if will.topic.len() > usize::from(self.limits.topic_bytes_max) {
            return Err((ReasonCode::TopicNameInvalid, "the will's topic name is too long"));
        }
        if will.topic.starts_with("$SYS/") || will.topic == "$SYS" {
            return Err((ReasonCode::NotAuthorized, "$SYS belongs to the server"));
        }
        let user_properties_max = usize::from(self.limits.user_properties_max);
        if will.properties.user_properties().iter().nth(user_properties_max).is_some() {
            return Err((ReasonCode::QuotaExceeded, "too many user properties in the will"));
        }
        if self.mqtt.check_payload_format
            && will.properties.payload_is_utf8
            && simdutf8::basic::from_utf8(will.payload).is_err()
        {
            return Err((ReasonCode::PayloadFormatInvalid, "the will's payload is not UTF-8"));
        }
        Ok(())
    }

    /// A client identifier that no client has, whose home is this shard [MQTT-3.1.3-6].
    fn assign_client_id(&mut self) -> String {
        loop {
            let id = format!("{ASSIGNED}{:0ASSIGNED_DIGITS$x}", self.random.u128(..));
            if self.shared.home(&id).0 == self.shard && self.find_client(&id).is_none() {
                return id;
            }
        }
    }

    pub(super) fn find_client(&self, client_id: &str) -> Option<u32> {
        let hash = crate::index::topic_hash(&self.shared.seed, client_id);
        self.clients.find(hash, |&slot| *self.sessions[slot].client_id == *client_id).copied()
    }

    pub(super) fn accept(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        admission: Option<Admission>,
    ) -> Flow {
        if !self.may_have_session(client_id, admission.as_ref()) {
            // Whoever it belongs to shall neither lose it nor be cut off.
            let why = "the client identifier is another user's";
            return self.refuse(id, ReasonCode::ClientIdentifierNotValid, why);
        }
        if let Err((code, why)) = self.guard_trial(id, connect, client_id) {
            return self.refuse(id, code, why);
        }
        let principal = admission.as_ref().map(|admission| &*admission.principal);
        if let Err((code, why)) = self.guard_client(id, connect, client_id, principal) {
            return self.refuse(id, code, why);
        }
        let expiry_interval = self.session_expiry(connect);
        let mqtt = self.mqtt.clone();
        let assigned = connect.client_id.is_empty().then_some(client_id);
        let mut conn_ack = self.conn_ack(id, &mqtt, connect, expiry_interval, assigned);
        if let Some(admission) = &admission {
            // [MQTT-4.12.0-5]
            conn_ack.properties.authentication_method = connect.properties.authentication_method;
            let has_data = connect.properties.authentication_method.is_some() && !admission.data.is_empty();
            conn_ack.properties.authentication_data = has_data.then_some(&admission.data[..]);
        }
        let mut told = Packet::ConnAck(conn_ack);
        if !self.wire.fits(id.slot, &told) {
            return self.refuse(id, ReasonCode::PacketTooLarge, "CONNACK exceeds the maximum packet size");
        }
        let (slot, session_present) = match self.session_for(client_id, connect.clean_start, expiry_interval) {
            Ok(found) => found,
            Err((code, why)) => return self.refuse(id, code, why),
        };
        self.attach(id, slot, connect);
        let user = admission.as_ref().and_then(|admission| admission.principal.user.as_deref());
        let is_read = self.guard_meter(id, connect, user);
        let session = &mut self.sessions[slot];
        session.expiry_interval = expiry_interval;
        let will = connect.will.as_ref().map(|will| self.will(will));
        self.set_will(slot, will);
        self.count_connected();
        if let Packet::ConnAck(conn_ack) = &mut told {
            // 3.1 has no session present flag: the byte is reserved.
            conn_ack.session_present = session_present && connect.version != ProtocolVersion::V31;
        }
        self.wire.packet(id.slot, &told);
        self.give_access(id, slot, connect, admission);
        self.wire.effects.push_back(Effect::Settle(id));
        self.set_group_members_online(slot, true);
        self.pump(slot);
        if is_read { Flow::Continue } else { Flow::Stop }
    }

    fn session_expiry(&self, connect: &Connect<'_>) -> u32 {
        let asked = match connect.version {
            ProtocolVersion::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        asked.min(self.limits.session_expiry_max)
    }

    /// The client's session: the one it has, taken over from another connection if need be, or a new one.
    fn session_for(&mut self, client_id: &str, clean_start: bool, expiry: u32) -> Result<(u32, bool), Refusal> {
        if let Some(slot) = self.find_client(client_id) {
            self.take_over(slot, clean_start);
            // It may have ended with its connection.
            if let Some(slot) = self.find_client(client_id) {
                if !clean_start {
                    self.resume_session(slot);
                    return Ok((slot, true));
                }
                self.end_session(slot); // [MQTT-3.1.2-4]
            }
        }
        if expiry > 0 && self.shared.offline_sessions.load(Relaxed) >= u64::from(self.limits.sessions_max) {
            return Err((ReasonCode::QuotaExceeded, "too many sessions are kept for clients that are away"));
        }
        let slot = self.sessions.insert(Session::new(client_id.into())).slot;
        let hash = crate::index::topic_hash(&self.shared.seed, client_id);
        let (sessions, seed) = (&self.sessions, &self.shared.seed);
        self.clients.insert_unique(hash, slot, |&slot| crate::index::topic_hash(seed, &sessions[slot].client_id));
        self.counters.sessions.add(1);
        Ok((slot, false))
    }

    /// Ends the connection that has the session now, if one has [MQTT-3.1.4-3].
    fn take_over(&mut self, slot: u32, clean_start: bool) {
        let old = self.sessions[slot].conn;
        if old != NO_SLOT {
            self.counters.takeovers.add(1);
            let leave = Leave::TakenOver { clean_start };
            self.end(old, EndReason::TakenOver, Some(ReasonCode::SessionTakenOver), leave);
        }
    }

    /// A session whose client is back: its will is not published any more, what was in flight goes out again.
    fn resume_session(&mut self, slot: u32) {
        self.shared.offline_sessions.fetch_sub(1, Relaxed);
        let session = &mut self.sessions[slot];
        session.expires = Time(0);
        session.to_resend = 0;
        for inflight in &mut session.inflight {
            let finished = inflight.state == super::session::InflightState::Done;
            inflight.sent = finished;
            session.to_resend += u16::from(!finished);
        }
    }

    /// Ties connection and session together.
    fn attach(&mut self, id: ConnId, slot: u32, connect: &Connect<'_>) {
        let properties = &connect.properties;
        let outgoing_max = properties.topic_alias_maximum.unwrap_or(0).min(self.limits.topic_alias_max);
        let class = self.wire.conns[id.slot].class;
        let own = self.limits_of(class);
        let keep_alive = own.keep_alive(connect.keep_alive, connect.version == ProtocolVersion::V5);
        let (inflight_max, receive_maximum, packet_bytes_max) =
            (own.inflight_max, own.receive_maximum, own.packet_bytes_max);
        let conn = &mut self.wire.conns[id.slot];
        conn.phase = Phase::Connected;
        conn.session = slot;
        conn.keep_alive = keep_alive;
        conn.packet_bytes_max = packet_bytes_max;
        conn.problem_information = properties.request_problem_information.unwrap_or(true);
        conn.aliases = (outgoing_max > 0).then(|| Box::new(Aliases { outgoing_max, ..Aliases::default() }));
        let session = &mut self.sessions[slot];
        session.conn = id.slot;
        session.class = class;
        session.receive_maximum = receive_maximum;
        session.window = properties.receive_maximum.unwrap_or(u16::MAX).min(inflight_max);
        if keep_alive > 0 {
            self.schedule_keep_alive(id, self.wire.now.after(silence_allowed(keep_alive)));
        }
    }

    fn count_connected(&self) {
        self.counters.connects.add(1);
        self.counters.connected.add(1);
        let connected: u64 = self.shared.counters.iter().map(|counters| counters.connected.load()).sum();
        self.shared.connected_peak.fetch_max(connected, Relaxed);
    }

    /// CONNACK for a session of this expiry interval; whether there was one is not known yet.
    fn conn_ack<'a>(
        &self,
        id: ConnId,
        mqtt: &'a MqttOptions,
        connect: &Connect<'_>,
        granted: u32,
        assigned: Option<&'a str>,
    ) -> ConnAck<'a> {
        let own = self.limits_of(self.wire.conns[id.slot].class);
        let keep_alive = own.keep_alive(connect.keep_alive, connect.version == ProtocolVersion::V5);
        let unless = |available: bool| (!available).then_some(false);
        let wants_information = connect.properties.request_response_information == Some(true);
        let properties = ConnAckProperties {
            session_expiry_interval: (granted != connect.properties.session_expiry_interval.unwrap_or(0))
                .then_some(granted),
            receive_maximum: Some(own.receive_maximum),
            maximum_qos: (mqtt.max_qos != QoS::ExactlyOnce).then_some(mqtt.max_qos),
            retain_available: unless(mqtt.retain_available),
            maximum_packet_size: Some(own.packet_bytes_max),
            assigned_client_identifier: assigned,
            topic_alias_maximum: (self.limits.topic_alias_max > 0).then_some(self.limits.topic_alias_max),
            wildcard_subscription_available: unless(mqtt.wildcard_subscriptions),
            subscription_identifiers_available: unless(mqtt.subscription_identifiers),
            shared_subscription_available: unless(mqtt.shared_subscriptions),
            server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            response_information: mqtt.response_information.as_deref().filter(|_| wants_information),
            ..ConnAckProperties::default()
        };
        ConnAck { session_present: false, code: 0, properties }
    }

    /// CONNACK with an error and the reason in words if they fit [MQTT-3.2.2-19], then the end [MQTT-3.1.4-2].
    pub(super) fn refuse(&mut self, id: ConnId, code: ReasonCode, why: &str) -> Flow {
        self.refuse_with(id, code, why, Some(why))
    }

    fn refuse_with(&mut self, id: ConnId, code: ReasonCode, why: &str, reason_string: Option<&str>) -> Flow {
        debug!(shard = self.shard, slot = id.slot, code = code.name(), why, "CONNECT refused");
        self.counters.connects_refused.add(1);
        self.counters.protocol_errors.of(code as u8).add(1);
        self.say_refused(id, code, reason_string);
        self.end(id.slot, EndReason::ConnectRefused, None, Leave::Clean);
        Flow::Stop
    }

    /// CONNACK with an error.
    pub(super) fn say_refused(&mut self, id: ConnId, code: ReasonCode, reason_string: Option<&str>) {
        let conn = &self.wire.conns[id.slot];
        let byte = if conn.is_v5() { code as u8 } else { connack_return_code_v3(code) };
        let plain = ConnAck { code: byte, ..ConnAck::default() };
        let properties = ConnAckProperties { reason_string, ..ConnAckProperties::default() };
        let packets = [ConnAck { properties, ..plain.clone() }, plain].map(Packet::ConnAck);
        if let Some(packet) = packets.iter().find(|packet| self.wire.fits(id.slot, packet)) {
            self.wire.packet(id.slot, packet);
        }
    }

    /// A CONNECT that cannot be read. It is answered where only the version is wrong, and where it is one of 5.0,
    /// which has the words for it (§4.13.1); else the connection is closed without a word, as 3.1.1 wants it
    /// [MQTT-3.1.4-1].
    pub(super) fn refuse_malformed_connect(&mut self, id: ConnId, error: DecodeError, body: &[u8]) -> Flow {
        let conn = &mut self.wire.conns[id.slot];
        match error {
            DecodeError::ProtocolVersion { .. } => {
                conn.version = version_of_malformed(error);
                self.refuse(id, ReasonCode::UnsupportedProtocolVersion, "this protocol version is not spoken here")
            }
            _ if connect_version(body) == Some(ProtocolVersion::V5) => {
                conn.version = ProtocolVersion::V5;
                // How long a packet the client takes is not known.
                self.refuse_with(id, error.reason(), error.label(), None)
            }
            _ => self.close_silently(id, error.label()),
        }
    }
}
