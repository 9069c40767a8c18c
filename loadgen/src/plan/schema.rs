//! The keys of a scenario document, with their defaults, and what each becomes in a [`Plan`].

use std::fmt;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::units::{Carrier, Seconds, Time, Version};
use super::{
    ConnectProperties, Group, MessageProperties, Pace, Payload, Plan, Presence, Publication, Subscription, Timing, Will,
};

/// A whole document, without what is gone by the time it is decoded: `base`, `parameters` and `defaults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    about: String,
    #[serde(default = "yes")]
    verify: bool,
    #[serde(default)]
    transport: Carrier,
    #[serde(default)]
    timing: TimingKeys,
    groups: Named<GroupKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TimingKeys {
    /// 0: as fast as `connecting` lets.
    connect_rate: f64,
    connecting: u32,
    warm_up: Time,
    window: Time,
    patience: Time,
}

impl Default for TimingKeys {
    fn default() -> Self {
        let seconds = |seconds| Time(Duration::from_secs(seconds));
        Self { connect_rate: 0.0, connecting: 64, warm_up: seconds(2), window: seconds(10), patience: seconds(10) }
    }
}

/// The version of a group that names none.
pub const VERSION: u8 = 4;
/// The client identifiers of a group that says nothing of them.
pub const CLIENT_ID: &str = "%g-%i";
/// The keep alive of a group that says nothing of it.
pub const KEEP_ALIVE_SECONDS: u16 = 300;
/// The length of a payload that nothing is said of.
pub const PAYLOAD_BYTES: u32 = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupKeys {
    count: u32,
    #[serde(default)]
    stage: u8,
    #[serde(default = "version")]
    protocol: Version,
    #[serde(default = "client_id")]
    client_id: String,
    user: Option<String>,
    password: Option<String>,
    #[serde(default = "keep_alive")]
    keep_alive: Seconds,
    #[serde(default = "yes")]
    clean: bool,
    session_expiry: Option<Seconds>,
    receive_maximum: Option<u16>,
    maximum_packet_size: Option<u32>,
    request_response_information: Option<bool>,
    request_problem_information: Option<bool>,
    #[serde(default)]
    user_properties: Named<String>,
    will: Option<WillKeys>,
    #[serde(default)]
    subscribe: Vec<SubscriptionKeys>,
    #[serde(default)]
    publish: Vec<PublicationKeys>,
    cycle: Option<CycleKeys>,
    away: Option<AwayKeys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WillKeys {
    topic: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    delay: Option<Seconds>,
    message_expiry: Option<Seconds>,
    payload_format_indicator: Option<u8>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data: Option<String>,
    #[serde(default)]
    user_properties: Named<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionKeys {
    /// Whether it is there at all.
    #[serde(default = "yes")]
    when: bool,
    filter: String,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    no_local: bool,
    #[serde(default)]
    retain_as_published: bool,
    #[serde(default)]
    retain_handling: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicationKeys {
    /// Whether it is there at all.
    #[serde(default = "yes")]
    when: bool,
    topic: String,
    #[serde(default = "one")]
    topics: u32,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    #[serde(default)]
    payload: PayloadKey,
    every: Option<Time>,
    rate: Option<f64>,
    poisson: Option<bool>,
    outstanding: Option<u32>,
    #[serde(default)]
    on_arrival: bool,
    limit: Option<u64>,
    message_expiry: Option<Seconds>,
    payload_format_indicator: Option<u8>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data: Option<String>,
    #[serde(default)]
    user_properties: Named<String>,
}

/// The keys of a publication that say when messages are due: exactly one of them.
pub const PACES: [&str; 4] = ["every", "rate", "outstanding", "on_arrival"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CycleKeys {
    online: Time,
    offline: Time,
    #[serde(default)]
    abrupt: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AwayKeys {
    back_after: Time,
}

/// A table whose keys are names that somebody chose, in their order.
struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// A number of bytes, or a text template.
struct PayloadKey(Payload);

impl Default for PayloadKey {
    fn default() -> Self {
        Self(Payload::Bytes(PAYLOAD_BYTES))
    }
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn version() -> Version {
    Version(VERSION)
}

fn keep_alive() -> Seconds {
    Seconds(KEEP_ALIVE_SECONDS.into())
}

fn client_id() -> String {
    CLIENT_ID.to_owned()
}

/// A value that can be read but not be meant, by the keys that lead to it.
pub struct Finding {
    pub path: Vec<String>,
    pub what: String,
    pub remedy: String,
}

impl Finding {
    pub fn new(path: &[&str], what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Self { path, what: what.into(), remedy: remedy.into() }
    }
}

impl Document {
    /// The plan that this document describes, with groups of no clients left out.
    pub fn plan(self, name: &str) -> Result<Plan, Finding> {
        let timing = Timing {
            connect_rate: (self.timing.connect_rate != 0.0).then_some(self.timing.connect_rate),
            connecting: self.timing.connecting,
            warm_up: self.timing.warm_up.0,
            window: self.timing.window.0,
            patience: self.timing.patience.0,
        };
        let groups = self.groups.0.into_iter().filter(|(_, group)| group.count > 0);
        let groups = groups.map(|(name, group)| group.plan(name)).collect::<Result<_, _>>()?;
        Ok(Plan {
            name: name.to_owned(),
            about: self.about,
            groups,
            timing,
            verify: self.verify,
            transport: self.transport.0,
        })
    }
}

impl GroupKeys {
    fn plan(self, name: String) -> Result<Group, Finding> {
        let path = ["groups", name.as_str()];
        let presence = match (self.cycle, self.away) {
            (None, None) => Presence::Always,
            (Some(CycleKeys { online, offline, abrupt }), None) => {
                Presence::Cycle { online: online.0, offline: offline.0, abrupt }
            }
            (None, Some(away)) => Presence::Away { back_after: away.back_after.0 },
            (Some(_), Some(_)) => {
                return Err(Finding::new(&path, "both `cycle` and `away`", "leave one of them out"));
            }
        };
        let keep_alive = u16::try_from(self.keep_alive.0).map_err(|_| {
            let remedy = "write at most 65535 (seconds); 0 turns it off";
            Finding::new(&["groups", &name, "keep_alive"], "too long for its two bytes", remedy)
        })?;
        let publications = self.publish.into_iter().enumerate().filter(|(_, publication)| publication.when);
        Ok(Group {
            publish: publications.map(|(at, keys)| keys.plan(&name, at)).collect::<Result<_, _>>()?,
            name,
            count: self.count,
            stage: self.stage,
            version: self.protocol.0,
            client_id: self.client_id,
            user: self.user,
            password: self.password,
            keep_alive,
            clean: self.clean,
            session_expiry: self.session_expiry.map(|seconds| seconds.0),
            receive_maximum: self.receive_maximum,
            user_properties: self.user_properties.0,
            properties: ConnectProperties {
                maximum_packet_size: self.maximum_packet_size,
                request_response_information: self.request_response_information,
                request_problem_information: self.request_problem_information,
            },
            will: self.will.map(WillKeys::plan),
            subscribe: self.subscribe.into_iter().filter(|keys| keys.when).map(SubscriptionKeys::plan).collect(),
            presence,
        })
    }
}

impl WillKeys {
    fn plan(self) -> Will {
        Will {
            topic: self.topic,
            payload: self.payload,
            qos: self.qos,
            retain: self.retain,
            delay: self.delay.map(|seconds| seconds.0),
            message_expiry: self.message_expiry.map(|seconds| seconds.0),
            properties: MessageProperties {
                payload_format_indicator: self.payload_format_indicator,
                content_type: self.content_type,
                response_topic: self.response_topic,
                correlation_data: self.correlation_data,
            },
            user_properties: self.user_properties.0,
        }
    }
}

impl SubscriptionKeys {
    fn plan(self) -> Subscription {
        let Self { when: _, filter, qos, no_local, retain_as_published, retain_handling } = self;
        Subscription { filter, qos, no_local, retain_as_published, retain_handling }
    }
}

impl PublicationKeys {
    fn plan(self, group: &str, at: usize) -> Result<Publication, Finding> {
        let wrong = |what, remedy| {
            let at = at.to_string();
            Err(Finding::new(&["groups", group, "publish", &at], what, remedy))
        };
        let pace = match (self.every, self.rate, self.outstanding, self.on_arrival) {
            (Some(interval), None, None, false) => Pace::Every(interval.0),
            (None, Some(per_second), None, false) => Pace::Rate { per_second, poisson: self.poisson.unwrap_or(true) },
            (None, None, Some(messages), false) => Pace::Outstanding(messages),
            (None, None, None, true) => Pace::Arrival,
            (None, None, None, false) => {
                return wrong(
                    "nothing says when messages are due",
                    "add one of every, rate, outstanding and on_arrival",
                );
            }
            _ => return wrong("more than one of every, rate, outstanding and on_arrival", "leave one of them"),
        };
        if self.poisson.is_some() && self.rate.is_none() {
            return wrong("`poisson` goes with `rate` only", "leave it out");
        }
        Ok(Publication {
            topic: self.topic,
            topics: self.topics,
            qos: self.qos,
            retain: self.retain,
            payload: self.payload.0,
            pace,
            limit: self.limit,
            message_expiry: self.message_expiry.map(|seconds| seconds.0),
            properties: MessageProperties {
                payload_format_indicator: self.payload_format_indicator,
                content_type: self.content_type,
                response_topic: self.response_topic,
                correlation_data: self.correlation_data,
            },
            user_properties: self.user_properties.0,
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for PayloadKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesOrText;

        impl Visitor<'_> for BytesOrText {
            type Value = PayloadKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text that begins with {\"stamp\":\"%s\"")
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<PayloadKey, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(bytes), &self);
                u32::try_from(bytes).map(|bytes| PayloadKey(Payload::Bytes(bytes))).map_err(wrong)
            }

            fn visit_str<E>(self, text: &str) -> Result<PayloadKey, E> {
                Ok(PayloadKey(Payload::Text(text.to_owned())))
            }
        }

        deserializer.deserialize_any(BytesOrText)
    }
}
