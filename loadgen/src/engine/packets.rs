//! The packets that a client sends, made from the plan's templates.

use ringmq::codec::{
    Connect, ConnectProperties, Disconnect, FilterRequest, Filters, Packet, PacketType, PublishHead, PublishProperties,
    QoS, RetainHandling, Subscribe, SubscriptionOptions, UserProperties, Will, encode, encode_publish_head,
    put_user_property,
};

use super::script::{Cast, Content, Desk, Part, Scene, Script, Testament, Text, text};
use super::stamp::Stamp;
use crate::plan::template::Variable;
use crate::plan::{Group, Subscription};

/// Flags of PUBLISH's first byte.
const DUP: u8 = 0x08;

/// A PUBLISH of one client up to its payload, but for the packet identifier.
#[derive(Debug)]
pub struct Head {
    bytes: Box<[u8]>,
    packet_id_at: Option<u32>,
    qos: QoS,
}

/// A message to be put into a PUBLISH.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its identity.
    pub stamp: Stamp,
    /// The number of its topic.
    pub topic: u32,
    /// QoS, which the broker may have lowered.
    pub qos: QoS,
    /// Packet identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// It was sent before.
    pub dup: bool,
}

/// Makes packets; holds the memory that it takes.
#[derive(Default)]
pub struct Composer {
    desk: Desk,
    topic: Vec<u8>,
    payload: Vec<u8>,
    properties: Vec<u8>,
    /// Unix time when the run's clock said 0, in nanoseconds.
    unix_origin_ns: u64,
    /// The run's number, which is in its stamps.
    run: u64,
}

impl Composer {
    /// One whose `%T` counts from this Unix time (in nanoseconds), when the run's clock said 0; and the run's number.
    pub fn new(unix_origin_ns: u64, run: u64) -> Self {
        Self { unix_origin_ns, run, ..Self::default() }
    }

    /// Appends a PUBLISH. `head` is kept by the caller for the next message of the same client and publication.
    #[inline]
    pub fn publish(
        &mut self,
        cast: &Cast,
        part: &Part,
        index: u32,
        message: &Message,
        head: &mut Option<Box<Head>>,
        output: &mut Vec<u8>,
    ) {
        if let (Some(head), Content::Bytes(length)) = (head.as_deref(), &part.payload)
            && head.qos == message.qos
        {
            head.put(message, output);
            return message.stamp.put_payload(*length, self.run, output);
        }
        self.publish_afresh(cast, part, index, message, head, output);
    }

    #[inline(never)]
    fn publish_afresh(
        &mut self,
        cast: &Cast,
        part: &Part,
        index: u32,
        message: &Message,
        head: &mut Option<Box<Head>>,
        output: &mut Vec<u8>,
    ) {
        let scene = self.scene(index, message);
        self.payload.clear();
        match &part.payload {
            Content::Bytes(length) => message.stamp.put_payload(*length, self.run, &mut self.payload),
            Content::Text(text) => text.render(cast, &scene, &mut self.desk, &mut self.payload),
        }
        self.topic.clear();
        part.topic.render(cast, &scene, &mut self.desk, &mut self.topic);
        self.properties.clear();
        put_properties(&part.user_properties, cast, &scene, &mut self.desk, &mut self.properties);
        let fields = PublishHead {
            dup: message.dup,
            qos: message.qos,
            retain: part.retain,
            topic: text(&self.topic),
            packet_id: message.packet_id,
            message_expiry_interval: part.message_expiry,
            forward: &self.properties,
            ..PublishHead::default()
        };
        let start = output.len();
        let packet_id_at = encode_publish_head(output, cast.version, &fields, self.payload.len());
        if part.has_constant_head() {
            let mut bytes: Box<[u8]> = output[start..].into();
            bytes[0] &= !DUP;
            let packet_id_at = packet_id_at.map(|at| (at - start) as u32);
            *head = Some(Box::new(Head { bytes, packet_id_at, qos: message.qos }));
        }
        output.extend_from_slice(&self.payload);
    }

    /// Whether a payload is the one that a publisher made with this stamp.
    #[inline]
    pub fn is_payload(&mut self, script: &Script, part: &Part, stamp: Stamp, payload: &[u8]) -> bool {
        match &part.payload {
            Content::Bytes(length) => payload.len() == *length && stamp.fills(payload),
            Content::Text(text) => self.is_text(script, part, text, stamp, payload),
        }
    }

    #[inline(never)]
    fn is_text(&mut self, script: &Script, part: &Part, text: &Text, stamp: Stamp, payload: &[u8]) -> bool {
        let (index, topic) = part.at(stamp.flow);
        let message = Message { stamp, topic, qos: part.qos, packet_id: 0, dup: false };
        let scene = self.scene(index, &message);
        let cast = &script.groups[usize::from(part.group)];
        self.payload.clear();
        text.render(cast, &scene, &mut self.desk, &mut self.payload);
        if text.depends_on(Variable::Time) && script.is_divided() {
            // Another host's idea of the time: the digits may differ.
            return self.payload.len() == payload.len()
                && self.payload.iter().zip(payload).all(|(a, b)| a == b || (a.is_ascii_digit() && b.is_ascii_digit()));
        }
        self.payload == payload
    }

    /// Appends a CONNECT.
    pub fn connect(&mut self, group: &Group, cast: &Cast, index: u32, clean_start: bool, output: &mut Vec<u8>) {
        let scene = self.scene_now(index);
        let mut texts = [cast.user.as_ref(), cast.password.as_ref()]
            .map(|text| text.map(|text| rendered(text, cast, &scene, &mut self.desk)));
        let [user, password] = &mut texts;
        let client_id = rendered(&cast.client_id, cast, &scene, &mut self.desk);
        let will = cast.will.as_ref().map(|will| self.will(cast, will, index));
        self.properties.clear();
        put_properties(&cast.user_properties, cast, &scene, &mut self.desk, &mut self.properties);
        let connect = Connect {
            version: cast.version,
            bridge: false,
            clean_start,
            keep_alive: group.keep_alive,
            client_id: text(&client_id),
            will: group.will.as_ref().zip(will.as_ref()).map(|(will, (topic, payload))| Will {
                qos: QoS::from_bits(will.qos).unwrap_or_default(),
                retain: will.retain,
                topic: text(topic),
                payload,
                delay_interval: will.delay.unwrap_or(0),
                properties: PublishProperties::EMPTY,
            }),
            user_name: user.as_deref().map(text),
            password: password.as_deref(),
            properties: ConnectProperties {
                session_expiry_interval: group.session_expiry,
                receive_maximum: group.receive_maximum,
                user_properties: UserProperties { section: &self.properties },
                ..ConnectProperties::default()
            },
        };
        encode(&Packet::Connect(Box::new(connect)), cast.version, output);
    }

    /// Topic and payload of a client's will.
    pub fn will(&mut self, cast: &Cast, will: &Testament, index: u32) -> (Vec<u8>, Vec<u8>) {
        let scene = self.scene_now(index);
        let topic = rendered(&will.topic, cast, &scene, &mut self.desk);
        (topic, rendered(&will.payload, cast, &scene, &mut self.desk))
    }

    /// Appends a SUBSCRIBE to all filters of a client.
    pub fn subscribe(&mut self, group: &Group, cast: &Cast, index: u32, packet_id: u16, output: &mut Vec<u8>) {
        let scene = self.scene_now(index);
        self.payload.clear();
        for (subscription, filter) in group.subscribe.iter().zip(&cast.filters) {
            self.topic.clear();
            filter.render(cast, &scene, &mut self.desk, &mut self.topic);
            FilterRequest { filter: text(&self.topic), options: options(subscription) }.put(&mut self.payload);
        }
        let filters = Filters { payload: &self.payload, with_options: true };
        let user_properties = UserProperties::default();
        let subscribe = Subscribe { packet_id, subscription_identifier: None, user_properties, filters };
        encode(&Packet::Subscribe(subscribe), cast.version, output);
    }

    /// The text of one of a client's filters.
    pub fn filter(&mut self, cast: &Cast, index: u32, filter: usize) -> String {
        let scene = self.scene_now(index);
        let text = cast.filters.get(filter).map(|filter| rendered(filter, cast, &scene, &mut self.desk));
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    /// What is random or a time in a message comes out the same when the message is made again.
    fn scene(&mut self, index: u32, message: &Message) -> Scene {
        let Stamp { flow, sequence, at_ns } = message.stamp;
        self.desk.seed(u64::from(flow) << 32 | u64::from(sequence));
        let unix_ms = (self.unix_origin_ns + at_ns) / 1_000_000;
        Scene { index, topic: message.topic, stamp: message.stamp.to_bytes(self.run), unix_ms }
    }

    fn scene_now(&mut self, index: u32) -> Scene {
        self.desk.seed(u64::from(index));
        Scene { index, unix_ms: self.unix_origin_ns / 1_000_000, ..Scene::default() }
    }
}

impl Head {
    #[inline]
    fn put(&self, message: &Message, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(&self.bytes);
        if let Some(at) = self.packet_id_at {
            let at = start + at as usize;
            output[at..at + 2].copy_from_slice(&message.packet_id.to_be_bytes());
        }
        if message.dup {
            output[start] |= DUP;
        }
    }
}

/// Appends a DISCONNECT of reason 0.
pub fn disconnect(cast: &Cast, output: &mut Vec<u8>) {
    encode(&Packet::Disconnect(Disconnect::default()), cast.version, output);
}

/// Appends a PINGREQ.
pub fn ping(output: &mut Vec<u8>) {
    output.extend_from_slice(&[(PacketType::PingReq as u8) << 4, 0]);
}

fn rendered(text: &Text, cast: &Cast, scene: &Scene, desk: &mut Desk) -> Vec<u8> {
    let mut output = Vec::new();
    text.render(cast, scene, desk, &mut output);
    output
}

fn put_properties(templates: &[(Text, Text)], cast: &Cast, scene: &Scene, desk: &mut Desk, output: &mut Vec<u8>) {
    for (name, value) in templates {
        let [name, value] = [name, value].map(|template| rendered(template, cast, scene, desk));
        put_user_property(output, text(&name), text(&value));
    }
}

fn options(subscription: &Subscription) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::from_bits(subscription.qos).unwrap_or_default(),
        no_local: subscription.no_local,
        retain_as_published: subscription.retain_as_published,
        retain_handling: match subscription.retain_handling {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
    }
}
