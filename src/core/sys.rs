//! The `$SYS` topics: figures of the broker under the names that mosquitto's users know, and of each shard.
//!
//! Shard 0 sums up and publishes; everything is retained, so that a subscriber sees the figures at once. A topic
//! is published only when its value has changed.

use super::Core;
use super::counters::{Counters, DropReason, EndReason};
use super::message::{Form, NEVER, Parts, Publication};
use super::session::NO_SLOT;
use super::slow::{SLOW_LISTED, SlowClient};
use super::timers::Timer;
use crate::codec::QoS;
use crate::counter::Counter;
use crate::engine::Time;
use crate::guard::entry::Refused;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What the publishing of `$SYS` topics remembers.
pub struct Sys {
    interval: Duration,
    started: Time,
    last: Time,
    /// The value last published of each topic.
    published: HashMap<String, String>,
    loads: Vec<Load>,
}

/// A moving average of a counter's growth per minute, over 1, 5 and 15 minutes.
struct Load {
    name: &'static str,
    of: TotalOf,
    before: u64,
    averages: [f64; 3],
}

type CounterOf = fn(&Counters) -> &Counter;
type TotalOf = fn(&Counters) -> u64;

const LOADS: [(&str, TotalOf); 9] = [
    ("messages/received", |counters| counters.packets_received.load()),
    ("messages/sent", |counters| counters.packets_sent.load()),
    ("publish/received", |counters| counters.publish_received.load()),
    ("publish/sent", |counters| counters.publish_sent.load()),
    ("publish/dropped", Counters::dropped_total),
    ("bytes/received", |counters| counters.bytes_received.load()),
    ("bytes/sent", |counters| counters.bytes_sent.load()),
    ("sockets", |counters| counters.sockets_opened.load()),
    ("connections", |counters| counters.connects.load()),
];

impl Sys {
    pub fn new(interval: Duration, now: Time) -> Sys {
        let loads = LOADS.map(|(name, of)| Load { name, of, before: 0, averages: [0.0; 3] }).into();
        Sys { interval, started: now, last: now, published: HashMap::new(), loads }
    }
}

impl Load {
    fn update(&mut self, total: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(f64::EPSILON);
        let per_minute = (total - self.before) as f64 * 60.0 / seconds;
        self.before = total;
        for (average, minutes) in self.averages.iter_mut().zip([1.0, 5.0, 15.0]) {
            let keep = (-seconds / (minutes * 60.0)).exp();
            *average = per_minute + keep * (*average - per_minute);
        }
    }
}

fn line_of_slow(slow: &SlowClient) -> String {
    let SlowClient { client_id, bytes, waiting } = slow;
    serde_json::json!({ "client_id": client_id, "bytes": bytes, "seconds": waiting.as_secs() }).to_string()
}

impl Core {
    /// Publishes for the first time at once, then at each interval. Only shard 0 does.
    pub(super) fn schedule_sys(&mut self, now: Time) {
        if self.shard == 0 && self.sys.is_some() {
            self.wheel.insert(now, Timer::sys());
        }
    }

    pub(super) fn publish_sys(&mut self) {
        let Some(mut sys) = self.sys.take() else { return };
        let now = self.wire.now;
        for (topic, value) in self.sys_figures(&mut sys, now) {
            if sys.published.get(&topic) != Some(&value) {
                self.publish_figure(&topic, &value);
                sys.published.insert(topic, value);
            }
        }
        sys.last = now;
        self.wheel.insert(now.after(sys.interval), Timer::sys());
        self.sys = Some(sys);
    }

    fn publish_figure(&mut self, topic: &str, value: &str) {
        let body = [topic.as_bytes(), value.as_bytes()].concat();
        let parts = Parts {
            body: &body,
            form: Form::Parts,
            topic: std::str::from_utf8(&body[..topic.len()]).unwrap_or_default(),
            properties: &[],
            payload: &body[topic.len()..],
        };
        let hash = crate::index::topic_hash(&self.shared.seed, topic);
        let publication = Publication::new(&parts, hash, QoS::AtMostOnce, true, NEVER);
        self.route(&publication, NO_SLOT, None);
    }

    fn sys_figures(&self, sys: &mut Sys, now: Time) -> Vec<(String, String)> {
        let total = |of: CounterOf| -> u64 { self.shared.counters.iter().map(|counters| of(counters).load()).sum() };
        let mut figures = Vec::with_capacity(128);
        let mut put = |topic: &str, value: String| figures.push((format!("$SYS/broker/{topic}"), value));
        put("version", format!("ringmq version {}", env!("CARGO_PKG_VERSION")));
        put("uptime", format!("{} seconds", now.since(sys.started).as_secs()));
        let (connected, sessions) = (total(|c| &c.connected), total(|c| &c.sessions));
        put("clients/connected", connected.to_string());
        put("clients/active", connected.to_string());
        put("clients/total", sessions.to_string());
        let away = sessions.saturating_sub(connected).to_string();
        put("clients/disconnected", away.clone());
        put("clients/inactive", away);
        put("clients/expired", total(|c| &c.sessions_expired).to_string());
        put("clients/maximum", self.shared.connected_peak.load(Relaxed).to_string());
        put("clients/slow", total(|c| &c.slow_readers).to_string());
        put("messages/received", total(|c| &c.packets_received).to_string());
        put("messages/sent", total(|c| &c.packets_sent).to_string());
        put("messages/inflight", total(|c| &c.inflight).to_string());
        let stored = total(|c| &c.retained_messages) + total(|c| &c.queued);
        put("messages/stored", stored.to_string());
        put("store/messages/count", stored.to_string());
        let stored_bytes = total(|c| &c.retained_bytes) + total(|c| &c.queued_bytes);
        put("store/messages/bytes", stored_bytes.to_string());
        put("publish/messages/received", total(|c| &c.publish_received).to_string());
        put("publish/messages/sent", total(|c| &c.publish_sent).to_string());
        put("publish/bytes/received", total(|c| &c.publish_bytes_received).to_string());
        put("publish/bytes/sent", total(|c| &c.publish_bytes_sent).to_string());
        let dropped: u64 = self.shared.counters.iter().map(|counters| counters.dropped_total()).sum();
        put("publish/messages/dropped", dropped.to_string());
        put("bytes/received", total(|c| &c.bytes_received).to_string());
        put("bytes/sent", total(|c| &c.bytes_sent).to_string());
        put("subscriptions/count", total(|c| &c.subscriptions).to_string());
        put("shared_subscriptions/count", total(|c| &c.shared_subscriptions).to_string());
        put("retained messages/count", total(|c| &c.retained_messages).to_string());
        put("retained messages/bytes", total(|c| &c.retained_bytes).to_string());
        for load in &mut sys.loads {
            let total = self.shared.counters.iter().map(|counters| (load.of)(counters)).sum();
            load.update(total, now.since(sys.last));
            for (average, minutes) in load.averages.iter().zip(["1min", "5min", "15min"]) {
                put(&format!("load/{}/{minutes}", load.name), format!("{average:.2}"));
            }
        }
        let slow = self.slowest_of_all();
        for rank in 0..SLOW_LISTED {
            let topic = format!("clients/slow/{}", rank + 1);
            let listed = slow.get(rank).map(line_of_slow);
            // Where nobody has this rank any more, an empty message takes the last one away.
            if listed.is_some() || sys.published.contains_key(&format!("$SYS/broker/{topic}")) {
                put(&topic, listed.unwrap_or_default());
            }
        }
        self.put_reasons(&mut put);
        for (shard, counters) in self.shared.counters.iter().enumerate() {
            for (name, value) in counters.named() {
                put(&format!("shards/{shard}/{name}"), value.to_string());
            }
            for (name, value) in self.shared.driver_figures.get().map(|of| of(shard)).unwrap_or_default() {
                put(&format!("shards/{shard}/driver/{name}"), value.to_string());
            }
        }
        figures
    }

    /// What was dropped and which connections ended, by reason; reasons that never came up are left out.
    fn put_reasons(&self, put: &mut impl FnMut(&str, String)) {
        let sum = |of: &dyn Fn(&Counters) -> u64| -> u64 { self.shared.counters.iter().map(|c| of(c)).sum() };
        for &reason in DropReason::ALL {
            let count = sum(&|counters| counters.dropped[reason as usize].load());
            if count > 0 {
                put(&format!("publish/messages/dropped/{}", reason.label()), count.to_string());
            }
        }
        for &reason in EndReason::ALL {
            let count = sum(&|counters| counters.ended[reason as usize].load());
            if count > 0 {
                put(&format!("clients/ended/{}", reason.label()), count.to_string());
            }
        }
        for (index, refused) in Refused::ALL.iter().enumerate() {
            let count = sum(&|counters| counters.refused_at_door[index].load());
            if count > 0 {
                put(&format!("clients/refused/{}", refused.label()), count.to_string());
            }
        }
        for code in 0x80..=0xFF_u8 {
            let count = sum(&|counters| counters.protocol_errors.of(code).load());
            if count > 0 {
                put(&format!("clients/errors/{code:#04x}"), count.to_string());
            }
        }
    }
}
