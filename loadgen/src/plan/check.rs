//! What a plan must hold to that the types of its keys can't say: ranges, templates, topics, and what exists in
//! which version of MQTT.

use std::collections::HashMap;
use std::time::Duration;

use ringmq::codec::topic;

use super::schema::Finding;
use super::template::{Place, Template, Values, Variable};
use super::units::version_name;
use super::{Group, MessageProperties, Pace, Payload, Plan, Presence, Publication, Subscription, Timing, Will};

/// The smallest payload holds the binary stamp.
pub const PAYLOAD_BYTES_MIN: u32 = 16;
/// The largest payload: what a broker with default limits takes.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// Packet identifiers are 16 bits wide, and some are left for what is being acknowledged.
const OUTSTANDING_MAX: u32 = 60_000;
/// The longest client identifier of MQTT 3.1.
const CLIENT_ID_BYTES_MAX_31: usize = 23;
/// Texts and binary data have two bytes for their length.
const PROPERTY_BYTES_MAX: usize = 65_535;
/// The shortest window that says anything.
const WINDOW_MIN: Duration = Duration::from_millis(50);

type Checked = Result<(), Finding>;

/// Checks everything; templates are rendered for a sample of clients.
pub fn check(plan: &Plan) -> Checked {
    if plan.about.trim().is_empty() {
        return Err(Finding::new(&["about"], "it says nothing", "describe the scenario in one sentence"));
    }
    if plan.groups.is_empty() {
        return Err(Finding::new(&["groups"], "no client takes part", "give at least one group a count above 0"));
    }
    timing(&plan.timing)?;
    let clients: u64 = plan.groups.iter().map(|group| u64::from(group.count)).sum();
    if clients > u64::from(u32::MAX) {
        return Err(Finding::new(&["groups"], format!("{clients} clients"), "take at most 4294967295"));
    }
    let mut client_ids = HashMap::new();
    for group in &plan.groups {
        Subject { group, path: vec!["groups".to_owned(), group.name.clone()] }.check(&mut client_ids)?;
    }
    Ok(())
}

fn timing(timing: &Timing) -> Checked {
    let wrong = |key, what: &str, remedy: &str| Err(Finding::new(&["timing", key], what, remedy));
    if timing.connect_rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return wrong("connect_rate", "no rate", "write connections per second; 0 is as fast as `connecting` lets");
    }
    if timing.connecting == 0 {
        return wrong("connecting", "nobody could connect", "write at least 1");
    }
    if timing.window < WINDOW_MIN {
        return wrong("window", "too short to measure anything", "write at least 50ms");
    }
    if timing.patience.is_zero() {
        return wrong("patience", "it would be lost at once", "write at least 1s");
    }
    Ok(())
}

/// A group being checked, and the keys that lead to what is being checked of it.
struct Subject<'a> {
    group: &'a Group,
    path: Vec<String>,
}

impl Subject<'_> {
    fn check(&mut self, client_ids: &mut HashMap<String, String>) -> Checked {
        let group = self.group;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if group.name.is_empty() || !group.name.bytes().all(is_name) {
            return Err(self.finding("", "no name for a group", "use letters, digits, - and _"));
        }
        self.version()?;
        self.clients(client_ids)?;
        if let Some(will) = &group.will {
            self.within(&["will"], |subject| subject.will(will))?;
        }
        for (at, subscription) in group.subscribe.iter().enumerate() {
            self.within(&["subscribe", &at.to_string()], |subject| subject.subscription(subscription))?;
        }
        for (at, publication) in group.publish.iter().enumerate() {
            self.within(&["publish", &at.to_string()], |subject| subject.publication(publication))?;
        }
        self.presence()
    }

    /// Things that only MQTT 5 has.
    fn version(&self) -> Checked {
        let group = self.group;
        let will = group.will.as_ref();
        let in_will = |key, is_used: fn(&Will) -> bool| (key, will.is_some_and(is_used));
        let in_subscribe = |key, is_used: fn(&Subscription) -> bool| (key, group.subscribe.iter().any(is_used));
        let in_publish = |key, is_used: fn(&Publication) -> bool| (key, group.publish.iter().any(is_used));
        let used = [
            ("session_expiry", group.session_expiry.is_some()),
            ("receive_maximum", group.receive_maximum.is_some()),
            ("user_properties", !group.user_properties.is_empty()),
            ("maximum_packet_size", group.properties.maximum_packet_size.is_some()),
            ("request_response_information", group.properties.request_response_information.is_some()),
            ("request_problem_information", group.properties.request_problem_information.is_some()),
            in_will("will.delay", |will| will.delay.is_some()),
            in_will("will.message_expiry", |will| will.message_expiry.is_some()),
            in_will("will.user_properties", |will| !will.user_properties.is_empty()),
            in_will("will", |will| !will.properties.is_empty()),
            in_subscribe("subscribe", |with| with.no_local || with.retain_as_published || with.retain_handling != 0),
            in_publish("publish", |with| with.message_expiry.is_some() || !with.user_properties.is_empty()),
            in_publish("publish", |with| !with.properties.is_empty()),
        ];
        if let Some((key, _)) = used.into_iter().find(|(_, is_used)| *is_used && group.version < 5) {
            let what = format!("only MQTT 5 has this, and the group speaks {}", version_name(group.version));
            return Err(self.finding(key, what, "leave it out, or let the group speak 5 (protocol, --protocol)"));
        }
        if group.receive_maximum == Some(0) {
            return Err(self.finding("receive_maximum", "0 is a protocol error [MQTT-3.1.2-24]", "write at least 1"));
        }
        if group.properties.maximum_packet_size == Some(0) {
            return Err(self.finding("maximum_packet_size", "0 is a protocol error (3.1.2.11.4)", "write at least 1"));
        }
        Ok(())
    }

    fn clients(&self, client_ids: &mut HashMap<String, String>) -> Checked {
        let group = self.group;
        let template = self.template("client_id", Place::ClientId, &group.client_id)?;
        if group.count > 1 && !template.depends_on(Variable::Index) {
            return Err(self.finding("client_id", "the same for every client", "put %i into it"));
        }
        for index in samples(group.count) {
            let client_id = self.rendered(&template, index, 0);
            if client_id.is_empty() || client_id.len() > topic::TOPIC_LEN_MAX {
                return Err(self.finding("client_id", "empty or too long for its two bytes of length", "use %g-%i"));
            }
            if group.version == 3 && client_id.len() > CLIENT_ID_BYTES_MAX_31 {
                let what = format!("\"{client_id}\" is longer than the 23 bytes of MQTT 3.1");
                return Err(self.finding("client_id", what, "make it shorter, or speak 3.1.1"));
            }
            if let Some(other) = client_ids.insert(client_id.clone(), group.name.clone()) {
                let what = format!("\"{client_id}\" is the identifier of another client too (of {other})");
                let remedy = "put %g (the group) and %i (the client) into it, with something between them";
                return Err(self.finding("client_id", what, remedy));
            }
        }
        let texts = [("user", Place::User, &group.user), ("password", Place::Password, &group.password)];
        for (key, place, text) in texts {
            text.as_deref().map(|text| self.template(key, place, text)).transpose()?;
        }
        if group.password.is_some() && group.user.is_none() && group.version < 5 {
            let what = "a password without a user name [MQTT-3.1.2-22]";
            return Err(self.finding("password", what, "add a user (--user)"));
        }
        self.properties("user_properties", Place::ConnectProperty, &group.user_properties)
    }

    fn presence(&self) -> Checked {
        let group = self.group;
        match group.presence {
            Presence::Cycle { online, offline, .. } if online.is_zero() || offline.is_zero() => {
                Err(self.finding("cycle", "no time at all", "give online and offline at least 1ms"))
            }
            Presence::Away { .. } if group.clean && group.session_expiry.unwrap_or(0) == 0 => {
                let remedy = "set clean = false (3.1, 3.1.1) or a session_expiry (5): --persistent";
                Err(self.finding("away", "its session would end with its connection", remedy))
            }
            _ => Ok(()),
        }
    }

    fn will(&self, will: &Will) -> Checked {
        self.qos("qos", will.qos)?;
        self.topic_name(Place::WillTopic, &will.topic, 1)?;
        self.template("payload", Place::WillPayload, &will.payload)?;
        self.message_properties(&will.properties, Place::ConnectProperty, true)?;
        self.properties("user_properties", Place::ConnectProperty, &will.user_properties)
    }

    fn subscription(&self, subscription: &Subscription) -> Checked {
        self.qos("qos", subscription.qos)?;
        if subscription.retain_handling > 2 {
            return Err(self.finding("retain_handling", "not 0, 1 or 2", "see MQTT 5.0, 3.8.3.1"));
        }
        let template = self.template("filter", Place::Filter, &subscription.filter)?;
        for index in samples(self.group.count) {
            let filter = self.rendered(&template, index, 0);
            if let Err(error) = topic::validate_filter(&filter) {
                let what = format!("\"{filter}\" is no topic filter: {error}");
                return Err(self.finding("filter", what, "correct the template"));
            }
        }
        if subscription.no_local && subscription.filter.starts_with("$share/") {
            let what = "a shared subscription with no local is a protocol error [MQTT-3.8.3-4]";
            return Err(self.finding("no_local", what, "leave it out"));
        }
        Ok(())
    }

    fn publication(&self, publication: &Publication) -> Checked {
        self.qos("qos", publication.qos)?;
        if publication.topics == 0 {
            return Err(self.finding("topics", "no topic at all", "write at least 1"));
        }
        self.topic_name(Place::Topic, &publication.topic, publication.topics)?;
        self.pace(publication)?;
        match &publication.payload {
            Payload::Bytes(bytes) if !(PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_MAX).contains(bytes) => {
                let remedy = format!("write {PAYLOAD_BYTES_MIN} (the stamp) to {PAYLOAD_BYTES_MAX}");
                Err(self.finding("payload", format!("{bytes} bytes"), remedy))
            }
            Payload::Text(text) => self.template("payload", Place::Payload, text).map(drop),
            Payload::Bytes(_) => Ok(()),
        }?;
        let is_text = matches!(publication.payload, Payload::Text(_));
        self.message_properties(&publication.properties, Place::PublishProperty, is_text)?;
        self.properties("user_properties", Place::PublishProperty, &publication.user_properties)
    }

    fn pace(&self, publication: &Publication) -> Checked {
        let (key, what, remedy) = match publication.pace {
            Pace::Every(interval) if interval.is_zero() => ("every", "no time at all", "write a time above 0"),
            Pace::Rate { per_second, .. } if !(per_second.is_finite() && per_second > 0.0) => {
                ("rate", "no rate", "write messages per second, above 0")
            }
            Pace::Outstanding(messages) if !(1..=OUTSTANDING_MAX).contains(&messages) => {
                ("outstanding", "out of range", "write 1 to 60000")
            }
            _ if publication.limit == Some(0) => ("limit", "nothing would be published", "write at least 1"),
            _ => return Ok(()),
        };
        Err(self.finding(key, what, remedy))
    }

    fn topic_name(&self, place: Place, text: &str, topics: u32) -> Checked {
        let template = self.template("topic", place, text)?;
        if topics > 1 && !template.depends_on(Variable::Topic) {
            let what = format!("{topics} topics, but no topic number in the template");
            return Err(self.finding("topic", what, "put %t into it, or leave `topics` out"));
        }
        for index in samples(self.group.count) {
            for number in samples(topics) {
                let name = self.rendered(&template, index, number);
                if let Err(error) = topic::validate_topic_name(&name) {
                    let what = format!("\"{name}\" is no topic name: {error}");
                    return Err(self.finding("topic", what, "correct the template"));
                }
            }
        }
        Ok(())
    }

    fn properties(&self, key: &str, place: Place, properties: &[(String, String)]) -> Checked {
        for (name, value) in properties {
            self.property(&format!("{key}.{name}"), place, name)?;
            self.property(&format!("{key}.{name}"), place, value)?;
        }
        Ok(())
    }

    /// A text that fits its two bytes of length, for any client.
    fn property(&self, key: &str, place: Place, text: &str) -> Checked {
        let template = self.template(key, place, text)?;
        for index in samples(self.group.count) {
            let length = self.rendered(&template, index, 0).len();
            if length > PROPERTY_BYTES_MAX {
                return Err(self.finding(key, format!("{length} bytes"), "write at most 65535"));
            }
        }
        Ok(())
    }

    fn message_properties(&self, properties: &MessageProperties, place: Place, is_text: bool) -> Checked {
        let MessageProperties { payload_format_indicator, content_type, response_topic, correlation_data } = properties;
        match payload_format_indicator {
            None | Some(0) => {}
            Some(1) if is_text => {}
            Some(1) => {
                let remedy = "give a text as payload, or leave it out";
                return Err(self.finding("payload_format_indicator", "1 is UTF-8, the payload is bytes", remedy));
            }
            Some(_) => return Err(self.finding("payload_format_indicator", "neither 0 nor 1", "write 1 for UTF-8")),
        }
        for (key, text) in [("content_type", content_type), ("correlation_data", correlation_data)] {
            text.as_deref().map(|text| self.property(key, place, text)).transpose()?;
        }
        let Some(text) = response_topic else { return Ok(()) };
        self.property("response_topic", place, text)?;
        let template = self.template("response_topic", place, text)?;
        for index in samples(self.group.count) {
            let name = self.rendered(&template, index, 0);
            if let Err(error) = topic::validate_topic_name(&name) {
                let what = format!("\"{name}\" is no topic name: {error} [MQTT-3.3.2-14]");
                return Err(self.finding("response_topic", what, "correct the template"));
            }
        }
        Ok(())
    }

    fn qos(&self, key: &str, qos: u8) -> Checked {
        if qos <= 2 { Ok(()) } else { Err(self.finding(key, format!("{qos} is no QoS"), "write 0, 1 or 2")) }
    }

    fn template(&self, key: &str, place: Place, text: &str) -> Result<Template, Finding> {
        Template::parse(place, text).map_err(|error| {
            let shown = if place == Place::Password { String::new() } else { format!(" of {text:?}") };
            self.finding(key, format!("{} at column {}{shown}", error.what, error.column), error.remedy)
        })
    }

    fn rendered(&self, template: &Template, index: u32, topic: u32) -> String {
        let group = self.group;
        let mut random = fastrand::Rng::with_seed(0);
        let mut render = |template: &Template, client_id: &str, user: &str| {
            let values =
                Values { client_id, user, group: &group.name, index, topic, count: group.count, ..<_>::default() };
            let mut output = Vec::new();
            template.render(&values, &mut random, &mut output);
            String::from_utf8(output).expect("text and digits are UTF-8")
        };
        let parse = |place, text: Option<&str>| text.and_then(|text| Template::parse(place, text).ok());
        let client_id =
            parse(Place::ClientId, Some(&group.client_id)).map(|id| render(&id, "", "")).unwrap_or_default();
        let user = parse(Place::User, group.user.as_deref()).map(|user| render(&user, &client_id, ""));
        render(template, &client_id, user.as_deref().unwrap_or_default())
    }

    fn within(&mut self, keys: &[&str], check: impl FnOnce(&Self) -> Checked) -> Checked {
        let depth = self.path.len();
        self.path.extend(keys.iter().map(|key| (*key).to_owned()));
        let checked = check(self);
        self.path.truncate(depth);
        checked
    }

    fn finding(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let mut path = self.path.clone();
        path.extend(key.split('.').filter(|key| !key.is_empty()).map(str::to_owned));
        Finding { path, what: what.into(), remedy: remedy.into() }
    }
}

/// Numbers below `count` at which a mistake in a template shows: both ends, what is near them, and some between.
fn samples(count: u32) -> impl Iterator<Item = u32> {
    let mut samples = vec![0, 1, 2, 3, 7, 10, 11, count / 3, count / 2];
    samples.extend((1..=3).map(|back| count.saturating_sub(back)));
    samples.retain(|sample| *sample < count);
    samples.sort_unstable();
    samples.dedup();
    samples.into_iter()
}
