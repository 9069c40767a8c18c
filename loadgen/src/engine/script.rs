//! A plan made ready to be played: templates parsed, flows numbered, clients seated on threads. One for all threads.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

use ringmq::codec::property::id;
use ringmq::codec::topic::parse_shared;
use ringmq::codec::{ProtocolVersion, QoS};

use super::pace::Rhythm;
use super::{Error, Slice, stamp};
use crate::plan::template::{Place, Template, Values, Variable};
use crate::plan::{Group, MessageProperties, Pace, Payload, Plan, Presence, Publication, Will};

/// The plan of a run, compiled for one process of it.
pub struct Script {
    /// What it was made of.
    pub plan: Arc<Plan>,
    /// The plan's groups.
    pub groups: Vec<Cast>,
    /// The publications of all groups, group by group.
    pub publications: Vec<Part>,
    /// How many flows there are; they are numbered publication by publication, client by client, topic by topic.
    pub flows: u32,
    /// Deliveries are entered in ledgers: to check them, or because publishers wait for them.
    pub checks: bool,
    /// Which clients are this process's.
    slice: Slice,
    /// How many threads drive them.
    threads: u32,
}

/// A group of clients.
pub struct Cast {
    /// Its name.
    pub name: String,
    /// How many clients.
    pub count: u32,
    /// What they speak.
    pub version: ProtocolVersion,
    /// A session of theirs outlasts its connection.
    pub lasting: bool,
    /// When it connects.
    pub stage: u8,
    /// Client identifier.
    pub client_id: Text,
    /// User name.
    pub user: Option<Text>,
    /// Password.
    pub password: Option<Text>,
    /// User properties of CONNECT.
    pub user_properties: Vec<(Text, Text)>,
    /// The will.
    pub will: Option<Testament>,
    /// Topic filters, in the order of the plan's subscriptions.
    pub filters: Vec<Text>,
    /// Which of [`Script::publications`] are theirs.
    pub publications: Range<usize>,
    /// The first filter that is shared, if the members must have one ledger: by this its clients are seated.
    shared: Option<usize>,
}

/// A will.
pub struct Testament {
    /// Topic.
    pub topic: Text,
    /// Payload.
    pub payload: Text,
    /// Properties.
    pub properties: Properties,
}

/// What MQTT 5 has beside a message's payload, its expiry apart.
pub struct Properties {
    /// Payload format indicator.
    pub payload_format_indicator: Option<u8>,
    /// Content type, response topic, correlation data: the property's identifier, and the text.
    pub texts: Vec<(u8, Text)>,
    /// User properties.
    pub user: Vec<(Text, Text)>,
}

/// One publication of a group.
pub struct Part {
    /// The group.
    pub group: u16,
    /// How many topics each client goes round.
    pub topics: u32,
    /// Topic.
    pub topic: Text,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// What is in a message.
    pub payload: Content,
    /// When messages are due.
    pub rhythm: Rhythm,
    /// The most messages per client.
    pub limit: u64,
    /// Message expiry interval.
    pub message_expiry: Option<u32>,
    /// Properties of PUBLISH.
    pub properties: Properties,
    /// The number of its first flow.
    pub first_flow: u32,
    /// All of it reaches the broker in the end.
    pub delivers: bool,
    /// Published, all of it, before groups of later stages connect.
    pub early: bool,
}

/// What a payload is made of.
pub enum Content {
    /// A stamp and a filling, so long.
    Bytes(usize),
    /// A text.
    Text(Text),
}

/// A parsed template.
pub struct Text {
    template: Template,
    needs_client_id: bool,
    needs_user: bool,
}

/// What a text is rendered for.
#[derive(Clone, Copy, Default)]
pub struct Scene {
    /// The client's number in its group.
    pub index: u32,
    /// The topic's number.
    pub topic: u32,
    /// The message's stamp.
    pub stamp: [u8; stamp::BYTES],
    /// Unix time.
    pub unix_ms: u64,
}

/// Memory for rendering, used again and again.
#[derive(Default)]
pub struct Desk {
    client_id: Vec<u8>,
    user: Vec<u8>,
    random: fastrand::Rng,
}

impl Script {
    /// Compiles a plan for a process with so many threads.
    ///
    /// # Errors
    ///
    /// What a plan that was read and checked can't have; too many flows.
    pub fn compile(plan: Arc<Plan>, slice: Slice, threads: usize) -> Result<Self, Error> {
        let last_stage = plan.groups.iter().map(|group| group.stage).max().unwrap_or(0);
        let mut paces = plan.groups.iter().flat_map(|group| &group.publish).map(|publication| publication.pace);
        let checks = plan.verify || paces.any(|pace| matches!(pace, Pace::Outstanding(_)));
        let (mut groups, mut publications, mut flows) = (Vec::new(), Vec::new(), 0_u32);
        for (number, group) in plan.groups.iter().enumerate() {
            let first = publications.len();
            for publication in &group.publish {
                let early = publication.limit.is_some() && group.stage < last_stage;
                let part = Part::compile(publication, group, number as u16, flows, early)?;
                let more = u64::from(group.count) * u64::from(part.topics);
                let sum = u32::try_from(u64::from(flows) + more).ok().filter(|sum| *sum < u32::MAX);
                flows = sum.ok_or_else(|| {
                    Error::Plan("more than 4,294,967,294 pairs of publisher and topic: use fewer topics".to_owned())
                })?;
                publications.push(part);
            }
            groups.push(Cast::compile(group, first..publications.len(), checks)?);
        }
        for part in &mut publications {
            let sender = usize::from(part.group);
            part.delivers = groups[sender].delivers(plan.groups[sender].presence, part.qos);
        }
        Ok(Self { plan, groups, publications, flows, checks, slice, threads: threads as u32 })
    }

    /// The thread of this process that drives a client; `None` when another process does.
    ///
    /// Client i of every group has the same seat, so that pairs meet; members of a shared subscription sit together if they
    /// have a ledger.
    pub fn seat(&self, group: usize, index: u32, desk: &mut Desk) -> Option<usize> {
        let cast = &self.groups[group];
        let number = match cast.shared {
            None => index,
            Some(filter) => {
                let mut text = Vec::new();
                let scene = Scene { index, ..Scene::default() };
                cast.filters[filter].render(cast, &scene, desk, &mut text);
                hash(&text) as u32
            }
        };
        (number % self.slice.of == self.slice.index).then(|| (number / self.slice.of % self.threads) as usize)
    }

    /// The clients that each thread drives, in the order of their numbers there.
    pub fn seating(&self) -> Vec<Vec<(u16, u32)>> {
        let mut desk = Desk::default();
        let mut seating = vec![Vec::new(); self.threads as usize];
        for group in 0..self.groups.len() {
            for index in 0..self.groups[group].count {
                if let Some(thread) = self.seat(group, index, &mut desk) {
                    seating[thread].push((group as u16, index));
                }
            }
        }
        seating
    }

    /// Other processes drive clients too.
    pub fn is_divided(&self) -> bool {
        self.slice.of > 1
    }

    /// The publication that a flow belongs to.
    #[inline]
    pub fn publication_of(&self, flow: u32) -> Option<&Part> {
        let behind = self.publications.partition_point(|part| part.first_flow <= flow);
        self.publications[..behind].last().filter(|_| flow < self.flows)
    }

    /// Some client's name for people.
    pub fn name_of(&self, group: u16, index: u32) -> String {
        let cast = &self.groups[usize::from(group)];
        let mut id = Vec::new();
        cast.client_id.render(cast, &Scene { index, ..Scene::default() }, &mut Desk::default(), &mut id);
        format!("client {} (number {index} of group {})", String::from_utf8_lossy(&id), cast.name)
    }
}

/// How many clients each of so many threads of one process would drive.
///
/// # Errors
///
/// A plan that can't be driven.
pub fn crowding(plan: &Plan, threads: usize) -> Result<Vec<u64>, Error> {
    let script = Script::compile(Arc::new(plan.clone()), Slice::WHOLE, threads)?;
    Ok(script.seating().iter().map(|seats| seats.len() as u64).collect())
}

impl Cast {
    fn compile(group: &Group, publications: Range<usize>, checks: bool) -> Result<Self, Error> {
        let version = match group.version {
            3 => ProtocolVersion::V31,
            4 => ProtocolVersion::V311,
            _ => ProtocolVersion::V5,
        };
        let lasting = match version {
            ProtocolVersion::V5 => group.session_expiry.is_some_and(|seconds| seconds > 0),
            _ => !group.clean,
        };
        let optional = |place, text: &Option<String>| text.as_deref().map(|text| Text::parse(place, text)).transpose();
        let filters = group.subscribe.iter().map(|subscription| Text::parse(Place::Filter, &subscription.filter));
        Ok(Self {
            name: group.name.clone(),
            count: group.count,
            version,
            lasting,
            stage: group.stage,
            client_id: Text::parse(Place::ClientId, &group.client_id)?,
            user: optional(Place::User, &group.user)?,
            password: optional(Place::Password, &group.password)?,
            user_properties: properties(Place::ConnectProperty, &group.user_properties)?,
            will: group.will.as_ref().map(Testament::compile).transpose()?,
            filters: filters.collect::<Result<_, _>>()?,
            publications,
            shared: group.subscribe.iter().position(|with| checks && parse_shared(&with.filter).is_some()),
        })
    }

    /// Whether what is owed to these clients survives their absence at a QoS.
    pub fn keeps(&self, presence: Presence, qos: QoS) -> bool {
        presence == Presence::Always || (self.lasting && qos > QoS::AtMostOnce)
    }

    /// Whether all that these clients publish at a QoS reaches the broker in the end.
    pub fn delivers(&self, presence: Presence, qos: QoS) -> bool {
        let abrupt = matches!(presence, Presence::Cycle { abrupt: true, .. });
        !abrupt || (self.lasting && qos > QoS::AtMostOnce)
    }
}

impl Testament {
    fn compile(will: &Will) -> Result<Self, Error> {
        let topic = Text::parse(Place::WillTopic, &will.topic)?;
        let properties = Properties::compile(Place::ConnectProperty, &will.properties, &will.user_properties)?;
        Ok(Self { topic, payload: Text::parse(Place::WillPayload, &will.payload)?, properties })
    }
}

impl Properties {
    fn compile(place: Place, plan: &MessageProperties, user: &[(String, String)]) -> Result<Self, Error> {
        let texts = [
            (id::CONTENT_TYPE, &plan.content_type),
            (id::RESPONSE_TOPIC, &plan.response_topic),
            (id::CORRELATION_DATA, &plan.correlation_data),
        ];
        let texts = texts.into_iter().filter_map(|(id, text)| Some((id, text.as_deref()?)));
        Ok(Self {
            payload_format_indicator: plan.payload_format_indicator,
            texts: texts.map(|(id, text)| Ok((id, Text::parse(place, text)?))).collect::<Result<_, Error>>()?,
            user: properties(place, user)?,
        })
    }

    fn all_texts(&self) -> impl Iterator<Item = &Text> {
        self.texts.iter().map(|(_, text)| text).chain(self.user.iter().flat_map(|(name, value)| [name, value]))
    }
}

impl Part {
    fn compile(
        publication: &Publication,
        group: &Group,
        number: u16,
        first_flow: u32,
        early: bool,
    ) -> Result<Self, Error> {
        let payload = match &publication.payload {
            Payload::Bytes(bytes) => Content::Bytes((*bytes as usize).max(stamp::BYTES)),
            Payload::Text(text) => Content::Text(Text::parse(Place::Payload, text)?),
        };
        Ok(Self {
            group: number,
            topics: publication.topics.max(1),
            topic: Text::parse(Place::Topic, &publication.topic)?,
            qos: QoS::from_bits(publication.qos).unwrap_or(QoS::ExactlyOnce),
            retain: publication.retain,
            payload,
            rhythm: Rhythm::of(publication.pace, group.count),
            limit: publication.limit.unwrap_or(u64::MAX),
            message_expiry: publication.message_expiry,
            properties: Properties::compile(
                Place::PublishProperty,
                &publication.properties,
                &publication.user_properties,
            )?,
            first_flow,
            delivers: false,
            early,
        })
    }

    /// A message follows when another one is through.
    pub fn is_closed(&self) -> bool {
        matches!(self.rhythm, Rhythm::Closed { .. })
    }

    /// The client and the topic of one of its flows.
    #[inline]
    pub fn at(&self, flow: u32) -> (u32, u32) {
        let offset = flow - self.first_flow;
        if self.topics == 1 { (offset, 0) } else { (offset / self.topics, offset % self.topics) }
    }

    /// The number that a message of a flow has among all of its client.
    #[inline]
    pub fn number(&self, flow: u32, sequence: u32) -> u32 {
        if self.topics == 1 {
            return sequence;
        }
        sequence.wrapping_mul(self.topics).wrapping_add(self.at(flow).1)
    }

    /// The same publication of two clients goes to two topics.
    pub fn is_topic_of_its_own(&self) -> bool {
        let own = [Variable::Index, Variable::ClientId, Variable::User];
        own.into_iter().any(|variable| self.topic.depends_on(variable))
    }

    /// Everything before the payload is the same for each message of a client.
    pub fn has_constant_head(&self) -> bool {
        let changes = |text: &Text| text.depends_on(Variable::Time) || text.depends_on(Variable::Random);
        self.topics == 1 && matches!(self.payload, Content::Bytes(_)) && !self.properties.all_texts().any(changes)
    }
}

impl Text {
    /// Parses a template.
    pub fn parse(place: Place, text: &str) -> Result<Self, Error> {
        let template = Template::parse(place, text).map_err(|error| Error::Plan(error.to_string()))?;
        let needs_user = template.depends_on(Variable::User);
        let needs_client_id = needs_user || template.depends_on(Variable::ClientId);
        Ok(Self { template, needs_client_id, needs_user })
    }

    /// Whether what is rendered depends on this.
    pub fn depends_on(&self, variable: Variable) -> bool {
        self.template.depends_on(variable)
    }

    /// Appends the text for a client of a group.
    pub fn render(&self, cast: &Cast, scene: &Scene, desk: &mut Desk, output: &mut Vec<u8>) {
        let Desk { client_id, user, random } = desk;
        let mut values = Values {
            group: &cast.name,
            index: scene.index,
            topic: scene.topic,
            count: cast.count,
            stamp: scene.stamp,
            unix_ms: scene.unix_ms,
            ..Values::default()
        };
        if self.needs_client_id {
            client_id.clear();
            cast.client_id.template.render(&values, random, client_id);
            values.client_id = text(client_id);
        }
        if self.needs_user
            && let Some(template) = &cast.user
        {
            user.clear();
            template.template.render(&values, random, user);
            values.user = text(user);
        }
        self.template.render(&values, random, output);
    }
}

impl Desk {
    /// What is random comes out the same after the same seed.
    pub fn seed(&mut self, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
    }
}

/// What a template was rendered to.
pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("templates are rendered from text")
}

/// A hash that is the same in every process of a run.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = foldhash::quality::FixedState::with_seed(0).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

fn properties(place: Place, templates: &[(String, String)]) -> Result<Vec<(Text, Text)>, Error> {
    templates.iter().map(|(name, value)| Ok((Text::parse(place, name)?, Text::parse(place, value)?))).collect()
}
