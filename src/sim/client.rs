//! A simulated MQTT client: its half of the protocol, kept by the book, and nothing that decides what to do.
//!
//! The client holds its own session state (what it sent and was not acknowledged, which QoS 2 messages it
//! has), checks what the server may do on this connection (packet identifiers, receive maximum, topic
//! aliases, DUP), and tells whoever drives it what happened as [`Seen`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::wire::{self, Ack, ConnAck, Connect, Packet, Properties, ProtocolVersion, Publish, QoS, Reasoned, id};
use super::world::LinkId;

/// Where a client is in its connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection.
    Offline,
    /// CONNECT is sent.
    Connecting,
    /// CONNACK said yes.
    Online,
    /// DISCONNECT is sent; the server closes.
    Leaving,
}

/// What a client saw, for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// CONNACK with reason 0.
    Accepted {
        /// Session present, as the server says.
        session_present: bool,
    },
    /// CONNACK with another reason.
    Refused(u8),
    /// An application message, each once however often it was sent again at QoS 2.
    Message(Publish),
    /// PUBACK, or PUBREC, for the message with this number.
    Acknowledged(u64, u8),
    /// The message with this number is on its way again.
    Resent(u64),
    /// The message with this number will not be sent again: the session that held it is gone.
    Abandoned(u64),
    /// SUBACK with its codes.
    Subscribed(u16, Vec<u8>),
    /// UNSUBACK.
    Unsubscribed(u16),
    /// DISCONNECT of the server, with its reason.
    Dismissed(u8),
    /// AUTH.
    Challenged(Reasoned),
}

/// A message on its way to the server.
#[derive(Clone, Debug)]
struct Outgoing {
    packet_id: u16,
    number: u64,
    publish: Publish,
    released: bool,
}

/// A client. See the module's description.
#[derive(Debug)]
pub struct Client {
    /// Client identifier.
    pub name: String,
    /// Protocol version of every connection.
    pub version: ProtocolVersion,
    /// The connection, if there is one.
    pub link: Option<LinkId>,
    /// Where it is in its life.
    pub phase: Phase,
    /// True while acknowledgements are kept back, to be sent by [`Client::acknowledge`].
    pub lazy: bool,
    /// Receive maximum told to the server.
    pub receive_maximum: u16,
    /// Topic alias maximum told to the server.
    pub topic_alias_maximum: u16,
    /// The next QoS 1 or 2 messages are refused, with a reason code of 0x80 or more (5.0).
    pub refuses: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    unacknowledged: VecDeque<Outgoing>,
    received: BTreeSet<u16>,
    /// Refused at QoS 2; may come again only because the refusal was lost.
    refused: BTreeSet<u16>,
    incoming: BTreeSet<u16>,
    acknowledgements: VecDeque<Packet>,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: Vec<String>,
    aliases_out_max: u16,
    receive_maximum_out: u16,
    resumed: bool,
    next_id: u16,
}

impl Client {
    /// A client that was never connected.
    pub fn new(name: &str, version: ProtocolVersion) -> Client {
        Client {
            name: name.to_owned(),
            version,
            link: None,
            phase: Phase::Offline,
            lazy: false,
            receive_maximum: u16::MAX,
            topic_alias_maximum: 0,
            refuses: false,
            inbox: Vec::new(),
            outbox: Vec::new(),
            unacknowledged: VecDeque::new(),
            received: BTreeSet::new(),
            refused: BTreeSet::new(),
            incoming: BTreeSet::new(),
            acknowledgements: VecDeque::new(),
            aliases_in: BTreeMap::new(),
            aliases_out: Vec::new(),
            aliases_out_max: 0,
            receive_maximum_out: u16::MAX,
            resumed: false,
            next_id: 0,
        }
    }

    /// Begins a connection: `connect` gets this client's own properties added and is what goes out first.
    pub fn connect(&mut self, link: LinkId, mut connect: Connect) {
        self.connection_over();
        self.link = Some(link);
        self.phase = Phase::Connecting;
        if self.version == ProtocolVersion::V5 {
            if self.receive_maximum != u16::MAX {
                connect.properties.0.extend(Properties::new().two(id::RECEIVE_MAXIMUM, self.receive_maximum).0);
            }
            if self.topic_alias_maximum > 0 {
                let maximum = Properties::new().two(id::TOPIC_ALIAS_MAXIMUM, self.topic_alias_maximum);
                connect.properties.0.extend(maximum.0);
            }
        }
        self.push(&Packet::Connect(connect));
    }

    /// Forgets what belongs to the connection alone.
    pub fn connection_over(&mut self) {
        self.link = None;
        self.phase = Phase::Offline;
        self.inbox.clear();
        self.outbox.clear();
        self.incoming.clear();
        self.acknowledgements.clear();
        self.aliases_in.clear();
        self.aliases_out.clear();
        self.resumed = false;
    }

    /// True while one more QoS 1 or 2 message may be sent.
    pub fn has_quota(&self) -> bool {
        self.unacknowledged.len() < usize::from(self.receive_maximum_out)
    }

    /// How many messages the server has not acknowledged to the end.
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Publishes; `number` is what [`Seen`] will call it.
    pub fn publish(&mut self, number: u64, mut publish: Publish, alias: bool) {
        if publish.qos != QoS::AtMostOnce {
            publish.packet_id = self.fresh_id();
            let packet_id = publish.packet_id;
            self.unacknowledged.push_back(Outgoing { packet_id, number, publish: publish.clone(), released: false });
        }
        if alias {
            self.alias(&mut publish);
        }
        self.push(&Packet::Publish(publish));
    }

    /// Replaces the topic by an alias, or announces one, while the server has room for it.
    fn alias(&mut self, publish: &mut Publish) {
        let known = self.aliases_out.iter().position(|topic| *topic == publish.topic);
        let index = match known {
            Some(index) => index,
            None if self.aliases_out.len() < usize::from(self.aliases_out_max) => {
                self.aliases_out.push(publish.topic.clone());
                self.aliases_out.len() - 1
            }
            None => return,
        };
        if known.is_some() {
            publish.topic.clear();
        }
        publish.properties.0.extend(Properties::new().two(id::TOPIC_ALIAS, index as u16 + 1).0);
    }

    /// Sends a packet as it is.
    pub fn push(&mut self, packet: &Packet) {
        self.outbox.extend(wire::encode(packet, self.version));
    }

    /// Sends bytes as they are.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.outbox.extend_from_slice(bytes);
    }

    /// What is to be written to the connection.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox)
    }

    /// A packet identifier that nothing uses.
    pub fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if self.unacknowledged.iter().all(|outgoing| outgoing.packet_id != self.next_id) {
                return self.next_id;
            }
        }
    }

    /// Sends up to `most` of the acknowledgements kept back.
    pub fn acknowledge(&mut self, most: usize) {
        for _ in 0..most {
            let Some(packet) = self.acknowledgements.pop_front() else { return };
            match &packet {
                Packet::PubAck(ack) | Packet::PubComp(ack) => {
                    self.incoming.remove(&ack.packet_id);
                }
                // The exchange ends here, unless the connection ends first.
                Packet::PubRec(ack) if ack.reason >= 0x80 => {
                    self.incoming.remove(&ack.packet_id);
                    self.received.remove(&ack.packet_id);
                    self.refused.insert(ack.packet_id);
                }
                _ => {}
            }
            self.push(&packet);
        }
    }

    /// Takes bytes of the server; an error says how it broke the protocol.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Seen>, String> {
        self.inbox.extend_from_slice(bytes);
        let mut seen = Vec::new();
        while let Some(length) = wire::deframe(&self.inbox).map_err(|error| error.0)? {
            let whole: Vec<u8> = self.inbox.drain(..length).collect();
            let packet = wire::decode(&whole, self.version).map_err(|error| format!("{}: {whole:02x?}", error.0))?;
            self.handle(packet, &mut seen)?;
        }
        if !self.lazy {
            self.acknowledge(usize::MAX);
        }
        Ok(seen)
    }

    fn handle(&mut self, packet: Packet, seen: &mut Vec<Seen>) -> Result<(), String> {
        match (self.phase, packet) {
            (Phase::Connecting, Packet::ConnAck(ack)) => self.accepted(&ack, seen),
            (_, Packet::Auth(reasoned)) => {
                seen.push(Seen::Challenged(reasoned));
                Ok(())
            }
            (Phase::Connecting, other) => Err(format!("{other:?} before CONNACK")),
            (_, Packet::Publish(publish)) => self.message(publish, seen),
            (_, Packet::PubAck(ack)) => self.acknowledged(&ack, QoS::AtLeastOnce, seen),
            (_, Packet::PubRec(ack)) => self.acknowledged(&ack, QoS::ExactlyOnce, seen),
            (_, Packet::PubRel(ack)) => {
                if !self.received.remove(&ack.packet_id) && ack.reason == 0 && !self.resumed {
                    return Err(format!("PUBREL for {}, which is not in use", ack.packet_id));
                }
                self.acknowledgements.push_back(Packet::PubComp(Ack::new(ack.packet_id)));
                Ok(())
            }
            (_, Packet::PubComp(ack)) => self.completed(&ack),
            (_, Packet::SubAck(codes)) => {
                seen.push(Seen::Subscribed(codes.packet_id, codes.codes));
                Ok(())
            }
            (_, Packet::UnsubAck(codes)) => {
                seen.push(Seen::Unsubscribed(codes.packet_id));
                Ok(())
            }
            (_, Packet::PingResp) => Ok(()),
            (_, Packet::Disconnect(reasoned)) => {
                seen.push(Seen::Dismissed(reasoned.reason));
                Ok(())
            }
            (_, other) => Err(format!("unexpected {other:?}")),
        }
    }

    fn accepted(&mut self, ack: &ConnAck, seen: &mut Vec<Seen>) -> Result<(), String> {
        if ack.code != 0 {
            seen.push(Seen::Refused(ack.code));
            return Ok(());
        }
        self.phase = Phase::Online;
        self.resumed = ack.session_present;
        self.receive_maximum_out =
            ack.properties.number(id::RECEIVE_MAXIMUM).map_or(u16::MAX, |maximum| maximum as u16);
        self.aliases_out_max = ack.properties.number(id::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) as u16;
        seen.push(Seen::Accepted { session_present: ack.session_present });
        if !ack.session_present {
            self.received.clear();
            self.refused.clear();
            seen.extend(self.unacknowledged.drain(..).map(|outgoing| Seen::Abandoned(outgoing.number)));
        }
        self.resend(seen);
        Ok(())
    }

    /// Sends again, in the old order, what the server has not acknowledged [MQTT-4.4.0-1].
    fn resend(&mut self, seen: &mut Vec<Seen>) {
        for outgoing in self.unacknowledged.clone() {
            if outgoing.released {
                self.push(&Packet::PubRel(Ack::new(outgoing.packet_id)));
            } else {
                seen.push(Seen::Resent(outgoing.number));
                self.push(&Packet::Publish(Publish { dup: true, ..outgoing.publish }));
            }
        }
    }

    fn message(&mut self, mut publish: Publish, seen: &mut Vec<Seen>) -> Result<(), String> {
        self.resolve_alias(&mut publish)?;
        if publish.dup && (publish.qos == QoS::AtMostOnce || !self.resumed) {
            return Err(format!("DUP on a message that is not sent again: {publish:?}"));
        }
        if publish.qos == QoS::AtMostOnce {
            seen.push(Seen::Message(publish));
            return Ok(());
        }
        let id = publish.packet_id;
        if !self.incoming.insert(id) {
            return Err(format!("packet identifier {id} is in use"));
        }
        if self.incoming.len() > usize::from(self.receive_maximum) {
            return Err(format!("receive maximum {} exceeded", self.receive_maximum));
        }
        let reason = if self.refuses && self.version == ProtocolVersion::V5 { 0x83 } else { 0 };
        let ack = Ack { reason, ..Ack::new(id) };
        if publish.qos == QoS::AtLeastOnce {
            self.acknowledgements.push_back(Packet::PubAck(ack));
            seen.push(Seen::Message(publish));
            return Ok(());
        }
        self.acknowledgements.push_back(Packet::PubRec(ack));
        let refused_before = self.refused.remove(&id) && publish.dup;
        if refused_before {
            self.received.insert(id);
        } else if self.received.insert(id) {
            seen.push(Seen::Message(publish));
        } else if !publish.dup {
            return Err(format!("packet identifier {id} used again before PUBREL"));
        }
        Ok(())
    }

    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), String> {
        let alias = publish.properties.number(id::TOPIC_ALIAS).map(|alias| alias as u16);
        match alias {
            Some(alias) if alias == 0 || alias > self.topic_alias_maximum => Err(format!("topic alias {alias}")),
            Some(alias) if publish.topic.is_empty() => match self.aliases_in.get(&alias) {
                Some(topic) => {
                    publish.topic.clone_from(topic);
                    Ok(())
                }
                None => Err(format!("topic alias {alias} was never announced")),
            },
            Some(alias) => {
                self.aliases_in.insert(alias, publish.topic.clone());
                Ok(())
            }
            None if publish.topic.is_empty() => Err("neither topic nor alias".into()),
            None => Ok(()),
        }
    }

    fn acknowledged(&mut self, ack: &Ack, qos: QoS, seen: &mut Vec<Seen>) -> Result<(), String> {
        let found = self
            .unacknowledged
            .iter()
            .position(|outgoing| outgoing.packet_id == ack.packet_id && outgoing.publish.qos == qos);
        let Some(index) = found else {
            return Err(format!("acknowledgement of {}, which is not in use", ack.packet_id));
        };
        if !self.unacknowledged[index].released {
            seen.push(Seen::Acknowledged(self.unacknowledged[index].number, ack.reason));
        }
        if qos == QoS::AtLeastOnce || ack.reason >= 0x80 {
            self.unacknowledged.remove(index);
        } else {
            self.unacknowledged[index].released = true;
            self.push(&Packet::PubRel(Ack::new(ack.packet_id)));
        }
        Ok(())
    }

    fn completed(&mut self, ack: &Ack) -> Result<(), String> {
        let found =
            self.unacknowledged.iter().position(|outgoing| outgoing.packet_id == ack.packet_id && outgoing.released);
        match found {
            Some(index) => {
                self.unacknowledged.remove(index);
                Ok(())
            }
            // A PUBREC from before the break may come beside the one for the PUBLISH that was sent again.
            None if self.resumed => Ok(()),
            None => Err(format!("PUBCOMP for {}, which is not in use", ack.packet_id)),
        }
    }
}
