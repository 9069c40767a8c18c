//! Options that change what a scenario does: every group gets them where they make sense.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::CliError;
use super::values::{property, time};
use crate::plan::units::{parse_time, parse_version};
use crate::plan::{Overrides, Target, Value};

/// Environment variables that keep a user name and a password out of the list of processes.
const USER_VARIABLE: &str = "RINGMQ_LOADGEN_USER";
const PASSWORD_VARIABLE: &str = "RINGMQ_LOADGEN_PASSWORD";

/// What a scenario does, and how long.
///
/// Each option applies to every group of clients where it makes sense; one that fits nowhere is an error.
#[derive(Args, Clone, Debug, Default)]
#[command(group = ArgGroup::new("pace").args(["interval", "rate", "outstanding"]))]
#[command(next_help_heading = "Load (in every group where it makes sense)")]
pub struct LoadOptions {
    /// Change a parameter of the scenario (pairs=1000) or any key by its path (groups.sensors.keep_alive=60,
    /// groups.sensors.publish.0.qos=1); may be repeated. `show SCENARIO` shows what there is
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// MQTT version: 3.1, 3.1.1 or 5
    #[arg(long, value_name = "VERSION", value_parser = |text: &str| parse_version(text).map(|_| text.to_owned()))]
    pub protocol: Option<String>,
    /// User name, a template [or environment: RINGMQ_LOADGEN_USER, as it is]
    #[arg(long, value_name = "TEMPLATE")]
    pub user: Option<String>,
    /// Password, a template. Other users of this host can see it; --password-file or the environment variable
    /// RINGMQ_LOADGEN_PASSWORD keep it from them
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "password_file")]
    pub password: Option<String>,
    /// File whose first line is the password, as it is
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Template of the client identifier, different for every client: %g is the group, %i the client's number in it
    #[arg(long, value_name = "TEMPLATE")]
    pub client_id: Option<String>,
    /// Keep alive; 0 turns it off
    #[arg(long, value_name = "TIME", value_parser = checked_time)]
    pub keep_alive: Option<String>,
    /// Begin with a clean session, which ends with the connection
    #[arg(long, conflicts_with = "persistent")]
    pub clean: bool,
    /// Sessions that outlast their connections (in MQTT 5 for an hour, unless --session-expiry says otherwise)
    #[arg(long, conflicts_with = "clean")]
    pub persistent: bool,
    /// Session expiry interval, or "never" (MQTT 5)
    #[arg(long, value_name = "TIME")]
    pub session_expiry: Option<String>,
    /// User property of CONNECT, a template; may be repeated (MQTT 5)
    #[arg(long = "user-property", value_name = "NAME=VALUE", value_parser = property)]
    pub user_properties: Vec<(String, String)>,
    /// Receive maximum told to the broker: how many messages above QoS 0 it may have on the way to a client (MQTT 5)
    #[arg(long, value_name = "MESSAGES", value_parser = clap::value_parser!(u16).range(1..))]
    pub receive_maximum: Option<u16>,
    /// Largest packet that clients take; the broker leaves out what is larger (MQTT 5)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub maximum_packet_size: Option<u32>,
    /// QoS of publishing and subscribing: 0, 1 or 2
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: Option<u8>,
    /// Topic, a template: %i is the client's number, %c its identifier, %u its user name, %t the topic's number
    #[arg(long, value_name = "TEMPLATE")]
    pub topic: Option<String>,
    /// Payload: a number of bytes from 16, or a text template that begins with {"stamp":"%s"
    #[arg(long, value_name = "BYTES|TEMPLATE")]
    pub payload: Option<String>,
    /// Message expiry interval (MQTT 5)
    #[arg(long, value_name = "TIME", value_parser = checked_time)]
    pub message_expiry: Option<String>,
    /// Content type of messages, a template (MQTT 5)
    #[arg(long, value_name = "TEMPLATE")]
    pub content_type: Option<String>,
    /// Response topic of messages, a template (MQTT 5)
    #[arg(long, value_name = "TEMPLATE")]
    pub response_topic: Option<String>,
    /// Correlation data of messages, a template (MQTT 5)
    #[arg(long, value_name = "TEMPLATE")]
    pub correlation_data: Option<String>,
    /// User property of PUBLISH, a template; may be repeated (MQTT 5)
    #[arg(long = "message-property", value_name = "NAME=VALUE", value_parser = property)]
    pub message_properties: Vec<(String, String)>,
    /// Open loop: each client publishes once per interval
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub interval: Option<Duration>,
    /// Open loop: messages per second, all clients together
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Closed loop: messages that each client keeps under way
    #[arg(long, value_name = "MESSAGES")]
    pub outstanding: Option<u32>,
    /// Messages per client, then it falls silent
    #[arg(long, value_name = "MESSAGES")]
    pub limit: Option<u64>,
    /// Will topic, a template: gives every client a will
    #[arg(long, value_name = "TEMPLATE")]
    pub will_topic: Option<String>,
    /// Will payload, a template
    #[arg(long, value_name = "TEMPLATE")]
    pub will_payload: Option<String>,
    /// Will QoS
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub will_qos: Option<u8>,
    /// Retain the will
    #[arg(long)]
    pub will_retain: bool,
    /// Will delay interval (MQTT 5)
    #[arg(long, value_name = "TIME", value_parser = checked_time)]
    pub will_delay: Option<String>,
    /// New connections per second, all together; 0: as fast as --connecting lets
    #[arg(long, value_name = "PER_SECOND")]
    pub connect_rate: Option<f64>,
    /// Connections that may be on their way in at once
    #[arg(long, value_name = "N")]
    pub connecting: Option<u32>,
    /// The measured window
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub duration: Option<Duration>,
    /// Traffic before it, left out of the results
    #[arg(long, value_name = "TIME", value_parser = checked_time)]
    pub warm_up: Option<String>,
    /// Give up when nothing arrives for so long although something is due
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub patience: Option<Duration>,
    /// Enter each delivery in a ledger: loss, duplicates, wrong order and corruption are counted
    #[arg(long, conflicts_with = "no_verify")]
    pub verify: bool,
    /// Do without the ledgers
    #[arg(long)]
    pub no_verify: bool,
}

fn checked_time(text: &str) -> Result<String, String> {
    parse_time(text).map(|_| text.to_owned())
}

impl LoadOptions {
    /// What these options change in a scenario. `environment` looks up a variable of the process.
    ///
    /// # Errors
    ///
    /// `--set` without a value, an unreadable password file.
    pub fn overrides(&self, environment: impl Fn(&str) -> Option<String>) -> Result<Overrides, CliError> {
        let mut overrides = Overrides::default();
        self.set.iter().try_for_each(|setting| overrides.set(setting))?;
        self.connection(&mut overrides);
        self.credentials(&mut overrides, environment)?;
        self.will(&mut overrides);
        self.messages(&mut overrides);
        self.message_properties(&mut overrides);
        self.timing(&mut overrides);
        Ok(overrides)
    }

    /// The version first: others depend on it.
    fn connection(&self, overrides: &mut Overrides) {
        add_text(overrides, "--protocol", Target::Group("protocol"), &self.protocol);
        add_text(overrides, "--client-id", Target::Group("client_id"), &self.client_id);
        add_text(overrides, "--keep-alive", Target::Group("keep_alive"), &self.keep_alive);
        if self.clean || self.persistent {
            overrides.option(if self.clean { "--clean" } else { "--persistent" }, Target::Clean, self.clean);
        }
        add_text(overrides, "--session-expiry", Target::Group5("session_expiry"), &self.session_expiry);
        let receive_maximum = self.receive_maximum.map(i64::from);
        add(overrides, "--receive-maximum", Target::Group5("receive_maximum"), receive_maximum);
        let maximum_packet_size = self.maximum_packet_size.map(i64::from);
        add(overrides, "--maximum-packet-size", Target::Group5("maximum_packet_size"), maximum_packet_size);
        if !self.user_properties.is_empty() {
            let target = Target::Group5("user_properties");
            overrides.option("--user-property", target, Value::texts(&self.user_properties));
        }
    }

    fn message_properties(&self, overrides: &mut Overrides) {
        for (option, key, text) in [
            ("--message-expiry", "message_expiry", &self.message_expiry),
            ("--content-type", "content_type", &self.content_type),
            ("--response-topic", "response_topic", &self.response_topic),
            ("--correlation-data", "correlation_data", &self.correlation_data),
        ] {
            add_text(overrides, option, Target::Publication5(key), text);
        }
        if !self.message_properties.is_empty() {
            let target = Target::Publication5("user_properties");
            overrides.option("--message-property", target, Value::texts(&self.message_properties));
        }
    }

    fn credentials(
        &self,
        overrides: &mut Overrides,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(), CliError> {
        let literal = |variable| environment(variable).map(|text| text.replace('%', "%%"));
        if let Some(user) = self.user.clone().or_else(|| literal(USER_VARIABLE)) {
            overrides.option("--user", Target::Group("user"), user.as_str());
        }
        let password = match (&self.password, &self.password_file) {
            (Some(password), _) => Some(password.clone()),
            (None, Some(file)) => Some(first_line(file)?.replace('%', "%%")),
            (None, None) => literal(PASSWORD_VARIABLE),
        };
        if let Some(password) = password {
            overrides.option("--password", Target::Group("password"), password.as_str());
        }
        Ok(())
    }

    /// The topic first: it makes the will that the others are about.
    fn will(&self, overrides: &mut Overrides) {
        add_text(overrides, "--will-topic", Target::Will("topic"), &self.will_topic);
        add_text(overrides, "--will-payload", Target::Will("payload"), &self.will_payload);
        add(overrides, "--will-qos", Target::Will("qos"), self.will_qos.map(i64::from));
        add(overrides, "--will-retain", Target::Will("retain"), self.will_retain.then_some(true));
        add_text(overrides, "--will-delay", Target::Will("delay"), &self.will_delay);
    }

    fn messages(&self, overrides: &mut Overrides) {
        add(overrides, "--qos", Target::Message("qos"), self.qos.map(i64::from));
        add_text(overrides, "--topic", Target::Topic, &self.topic);
        if let Some(text) = &self.payload {
            let bytes = text.parse::<i64>().map(Value::from);
            let value = bytes.unwrap_or_else(|_| Value::from(text.as_str()));
            overrides.option(&format!("--payload {text}"), Target::Publication("payload"), value);
        }
        add(overrides, "--interval", Target::Pace("every"), self.interval.map(|time| time.as_secs_f64()));
        add(overrides, "--rate", Target::Pace("rate"), self.rate);
        add(overrides, "--outstanding", Target::Pace("outstanding"), self.outstanding.map(i64::from));
        let limit = self.limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        add(overrides, "--limit", Target::Publication("limit"), limit);
    }

    fn timing(&self, overrides: &mut Overrides) {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        add(overrides, "--connect-rate", Target::Timing("connect_rate"), self.connect_rate);
        add(overrides, "--connecting", Target::Timing("connecting"), self.connecting.map(i64::from));
        add(overrides, "--duration", Target::Timing("window"), seconds(self.duration));
        add_text(overrides, "--warm-up", Target::Timing("warm_up"), &self.warm_up);
        add(overrides, "--patience", Target::Timing("patience"), seconds(self.patience));
        let verify = (self.verify || self.no_verify).then_some(self.verify);
        add(overrides, if self.verify { "--verify" } else { "--no-verify" }, Target::Top("verify"), verify);
    }
}

fn add(overrides: &mut Overrides, option: &str, target: Target, value: Option<impl Into<Value> + ToString>) {
    if let Some(value) = value {
        overrides.option(&format!("{option} {}", value.to_string()), target, value);
    }
}

fn add_text(overrides: &mut Overrides, option: &str, target: Target, text: &Option<String>) {
    if let Some(text) = text {
        overrides.option(&format!("{option} {text}"), target, text.as_str());
    }
}

fn first_line(file: &PathBuf) -> Result<String, CliError> {
    let text = fs::read_to_string(file).map_err(|error| CliError::Option {
        option: format!("--password-file {}", file.display()),
        what: error.to_string(),
        remedy: "give a readable file whose first line is the password".to_owned(),
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
