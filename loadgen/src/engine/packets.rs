//! The packets that a client sends, made from the plan's templates.

use ringmq::codec::property::id;
use ringmq::codec::{
    Connect, ConnectProperties, Disconnect, FilterRequest, Filters, Packet, PacketType, PublishHead, PublishProperties,
    QoS, RetainHandling, Subscribe, SubscriptionOptions, UserProperties, Will, encode, encode_publish_head,
    put_user_property,
};

use super::script::{Cast, Content, Desk, Part, Properties, Scene, Script, Testament, Text, text};
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
        put_properties(&part.properties, cast, &scene, &mut self.desk, &mut self.properties);
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
        let mut will_properties = Vec::new();
        if let Some(Testament { properties, .. }) = &cast.will {
            if let Some(seconds) = group.will.as_ref().and_then(|will| will.message_expiry) {
                will_properties.push(id::MESSAGE_EXPIRY_INTERVAL);
                will_properties.extend_from_slice(&seconds.to_be_bytes());
            }
            put_properties(properties, cast, &scene, &mut self.desk, &mut will_properties);
        }
        self.properties.clear();
        put_user_properties(&cast.user_properties, cast, &scene, &mut self.desk, &mut self.properties);
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
                properties: PublishProperties { raw: &will_properties, ..PublishProperties::EMPTY },
            }),
            user_name: user.as_deref().map(text),
            password: password.as_deref(),
            properties: ConnectProperties {
                session_expiry_interval: group.session_expiry,
                receive_maximum: group.receive_maximum,
                maximum_packet_size: group.properties.maximum_packet_size,
                request_response_information: group.properties.request_response_information,
                request_problem_information: group.properties.request_problem_information,
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

fn put_properties(properties: &Properties, cast: &Cast, scene: &Scene, desk: &mut Desk, output: &mut Vec<u8>) {
    if let Some(indicator) = properties.payload_format_indicator {
        output.extend_from_slice(&[id::PAYLOAD_FORMAT_INDICATOR, indicator]);
    }
    for (id, template) in &properties.texts {
        let value = rendered(template, cast, scene, desk);
        // Texts and binary data look the same on the wire; the plan was checked for their length.
        output.push(*id);
        output.extend_from_slice(&(value.len() as u16).to_be_bytes());
        output.extend_from_slice(&value);
    }
    put_user_properties(&properties.user, cast, scene, desk, output);
}

fn put_user_properties(templates: &[(Text, Text)], cast: &Cast, scene: &Scene, desk: &mut Desk, output: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringmq::codec::{Framed, ProtocolVersion, decode, frame};

    use super::*;
    use crate::engine::Slice;
    use crate::plan::{Overrides, Scenario};

    const REQUESTS: &str = r#"
about = "requests with all that MQTT 5 has for them"
[groups.askers]
count = 3
protocol = 5
receive_maximum = 20
maximum_packet_size = 4096
request_response_information = true
request_problem_information = false
user_properties = { site = "%i" }
will = { topic = "gone/%i", message_expiry = 60, delay = 5, content_type = "text/plain", response_topic = "heirs/%i", correlation_data = "w%i", payload_format_indicator = 1, user_properties = { why = "%g" } }

[[groups.askers.publish]]
topic = "ask/%i"
payload = '{"stamp":"%s"}'
every = "1s"
message_expiry = "1m"
payload_format_indicator = 1
content_type = "application/json"
response_topic = "answers/%c"
correlation_data = "%{i + 1}-%t-%{random(0,1000000)}"
user_properties = { room = "%{i:a|b|c}" }
"#;

    fn script(text: &str) -> Script {
        let plan = Scenario::from_text("requests.toml", text.to_owned()).read(&Overrides::default()).unwrap();
        Script::compile(Arc::new(plan), Slice::WHOLE, 1).unwrap()
    }

    fn decoded(bytes: &[u8]) -> Packet<'_> {
        let Ok(Framed::Complete { frame, len }) = frame(bytes, u32::MAX) else { panic!("{bytes:?}") };
        assert_eq!(len, bytes.len());
        decode(frame, ProtocolVersion::V5).unwrap()
    }

    fn pairs<'a>(properties: UserProperties<'a>) -> Vec<(&'a str, &'a str)> {
        properties.iter().collect()
    }

    fn published(script: &Script, index: u32, sequence: u32) -> Vec<u8> {
        let (part, mut output) = (&script.publications[0], Vec::new());
        let stamp = Stamp { flow: index, sequence, at_ns: 0 };
        let message = Message { stamp, topic: 0, qos: part.qos, packet_id: 0, dup: false };
        Composer::default().publish(&script.groups[0], part, index, &message, &mut None, &mut output);
        output
    }

    #[test]
    fn a_message_has_the_properties_of_its_publication() {
        let script = script(REQUESTS);
        let output = published(&script, 1, 0);
        let Packet::Publish(publish) = decoded(&output) else { panic!("no PUBLISH") };
        let properties = publish.properties;
        assert!(properties.payload_is_utf8);
        assert_eq!(properties.message_expiry_interval, Some(60));
        assert_eq!(properties.content_type(), Some("application/json"));
        assert_eq!(properties.response_topic(), Some("answers/askers-1"));
        assert!(properties.correlation_data().unwrap().starts_with(b"2-0-"));
        assert_eq!(pairs(properties.user_properties()), [("room", "b")]);
        assert_ne!(output, published(&script, 1, 1), "what is random differs");
    }

    #[test]
    fn a_connect_has_the_properties_of_its_group_and_of_its_will() {
        let (script, mut output) = (script(REQUESTS), Vec::new());
        Composer::default().connect(&script.plan.groups[0], &script.groups[0], 2, true, &mut output);
        let Packet::Connect(connect) = decoded(&output) else { panic!("no CONNECT") };
        let properties = connect.properties;
        assert_eq!((properties.receive_maximum, properties.maximum_packet_size), (Some(20), Some(4096)));
        let asked = (properties.request_response_information, properties.request_problem_information);
        assert_eq!(asked, (Some(true), Some(false)));
        assert_eq!(pairs(properties.user_properties), [("site", "2")]);
        let will = connect.will.unwrap();
        assert_eq!((will.topic, will.delay_interval, will.properties.message_expiry_interval), ("gone/2", 5, Some(60)));
        assert!(will.properties.payload_is_utf8);
        assert_eq!(will.properties.content_type(), Some("text/plain"));
        assert_eq!(will.properties.response_topic(), Some("heirs/2"));
        assert_eq!(will.properties.correlation_data(), Some(&b"w2"[..]));
        assert_eq!(pairs(will.properties.user_properties()), [("why", "askers")]);
    }

    #[test]
    fn a_head_is_kept_only_while_its_properties_stay_the_same() {
        let bytes = |correlation: &str| {
            let text =
                REQUESTS.replace("payload = '{\"stamp\":\"%s\"}'", "").replace("payload_format_indicator = 1\n", "");
            script(&text.replace("%{i + 1}-%t-%{random(0,1000000)}", correlation)).publications[0].has_constant_head()
        };
        assert!(bytes("%c-%i"));
        assert!(!bytes("%T") && !bytes("%{random(0,9)}"));
    }
}
