//! How a connection parts from its session: what is kept, when the will is published, when the session ends.

use super::counters::DropReason;
use super::message::{Form, NEVER, Parts, Publication};
use super::session::{EXPIRES_NEVER, InflightState, Leave, NO_SLOT, Will};
use super::{Core, Time};
use crate::codec;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Core {
    /// The session's connection is gone.
    pub(super) fn leave(&mut self, slot: u32, leave: Leave) {
        let session = &mut self.sessions[slot];
        session.conn = NO_SLOT;
        session.pause_replays();
        session.forget_acks();
        session.trim();
        let ends = session.expiry_interval == 0 || matches!(leave, Leave::TakenOver { clean_start: true });
        match leave {
            Leave::Clean | Leave::Stopping => drop(self.set_will(slot, None)),
            Leave::WithWill | Leave::TakenOver { .. } => self.will_falls_due(slot, leave, ends),
        }
        if ends {
            return self.end_session(slot);
        }
        self.shared.offline_sessions.fetch_add(1, Relaxed);
        self.set_group_members_online(slot, false);
        let session = &mut self.sessions[slot];
        session.expires = match session.expiry_interval {
            EXPIRES_NEVER => Time(u64::MAX),
            seconds => self.wire.now.after(Duration::from_secs(seconds.into())),
        };
        self.schedule_session(slot);
    }

    /// The will is published when its delay has passed or the session ends, whichever is first
    /// [MQTT-3.1.3-9] [MQTT-3.1.2-8].
    fn will_falls_due(&mut self, slot: u32, leave: Leave, ends: bool) {
        let Some(will) = &mut self.sessions[slot].will else { return };
        if ends || will.delay == 0 {
            return self.publish_will(slot);
        }
        if matches!(leave, Leave::TakenOver { .. }) {
            // The session goes on before the delay has passed [MQTT-3.1.3-9].
            self.set_will(slot, None);
            return;
        }
        will.due = Some(self.wire.now.after(Duration::from_secs(will.delay.into())));
    }

    pub(super) fn publish_will(&mut self, slot: u32) {
        let Some(will) = self.set_will(slot, None) else { return };
        let Will { message, message_expiry, .. } = *will;
        let head = message.head();
        if self.rules.in_force() && !self.may_publish(slot, message.topic(), head.topic_hash, head.qos, head.retain) {
            return self.counters.wills_denied.add(1);
        }
        let expires = message_expiry.map_or(NEVER, |seconds| self.wire.now.after(Duration::from_secs(seconds.into())));
        self.counters.wills_published.add(1);
        // The interval is counted from the publication, not from CONNECT.
        let publication = message.publication().expiring(expires);
        self.route(&publication, slot, None);
    }

    /// Forgets a session that no connection is attached to. What it still held is passed on to other members
    /// of its shared subscriptions or dropped, counted.
    pub(super) fn end_session(&mut self, slot: u32) {
        if self.sessions[slot].will.is_some() {
            self.publish_will(slot);
        }
        self.drop_all_subscriptions(slot);
        let hash = crate::index::topic_hash(&self.shared.seed, &self.sessions[slot].client_id);
        if let Ok(found) = self.clients.find_entry(hash, |&other| other == slot) {
            found.remove();
        }
        let Some(mut session) = self.sessions.remove(slot) else { return };
        if session.expires != Time(0) {
            self.shared.offline_sessions.fetch_sub(1, Relaxed);
        }
        self.counters.sessions.sub(1);
        for inflight in session.inflight.drain(..).filter(|inflight| inflight.state != InflightState::Done) {
            self.wire.end_delivery(inflight.delivery.as_ref().map(|delivery| delivery.message.clone()));
            // A message that its receiver may have seen at QoS 2 goes to nobody else [MQTT-4.8.2-5].
            match inflight.delivery.filter(|_| inflight.state == InflightState::AwaitsPubAck) {
                Some(delivery) => self.redispatch(delivery),
                None => self.counters.drop_delivery(DropReason::SessionEnded),
            }
        }
        for delivery in session.queue.iter_mut().flat_map(|queue| queue.drain()) {
            self.wire.unqueued(&delivery.message);
            self.redispatch(delivery);
        }
    }

    /// Gives a session a will, or none, in place of the one it has, which is returned.
    pub(super) fn set_will(&mut self, slot: u32, will: Option<Box<Will>>) -> Option<Box<Will>> {
        let bytes = |will: &Option<Box<Will>>| will.as_ref().map_or(0, |will| will.message.size() as u64);
        self.counters.will_bytes.add(bytes(&will));
        let before = std::mem::replace(&mut self.sessions[slot].will, will);
        self.counters.will_bytes.sub(bytes(&before));
        before
    }

    /// Makes a will of what CONNECT said.
    pub(super) fn will(&self, will: &codec::Will<'_>) -> Box<Will> {
        let mut body = will.topic.as_bytes().to_vec();
        will.properties.forwardable(&mut body);
        let properties_end = body.len();
        body.extend_from_slice(will.payload);
        let parts = Parts {
            body: &body,
            form: Form::Parts,
            // The copy in the body: every part lies within it.
            topic: std::str::from_utf8(&body[..will.topic.len()]).unwrap_or_default(),
            properties: &body[will.topic.len()..properties_end],
            payload: &body[properties_end..],
        };
        let hash = crate::index::topic_hash(&self.shared.seed, will.topic);
        let message = Publication::new(&parts, hash, will.qos, will.retain, NEVER).to_message();
        Box::new(Will {
            message,
            message_expiry: will.properties.message_expiry_interval,
            delay: will.delay_interval,
            due: None,
        })
    }
}
