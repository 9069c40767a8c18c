//! What clients publish: open loops by the agenda, closed loops as messages come through, and again after resuming.

use ringmq::codec::{PacketType, QoS, encode_ack};

use super::{Fleet, NONE, takes_messages};
use crate::engine::client::Progress;
use crate::engine::inflight::Sent;
use crate::engine::pace::{NEVER, Rhythm};
use crate::engine::packets::Message;
use crate::engine::stamp::Stamp;
use crate::net::Links;

/// More than this unsent on a connection, and open loops wait.
const UNSENT_MAX: usize = 256 << 10;
/// How long.
const UNSENT_PAUSE_NS: u64 = 1_000_000;

impl Fleet {
    /// Publishes what a stream has due, until it has to wait for something.
    pub(super) fn run_stream(&mut self, links: &mut Links, number: u32) {
        loop {
            let stream = &mut self.streams[number as usize];
            let part = &self.shared.script.publications[usize::from(stream.publication)];
            let client = &self.clients[stream.client as usize];
            if stream.sent >= part.limit {
                return self.now_done(number);
            }
            if !takes_messages(client) || self.stopped {
                stream.progress = Progress::Parked;
                return;
            }
            if stream.window != NONE {
                stream.progress = Progress::Looping;
                return self.turn_loop(links, number);
            }
            if stream.due_ns == NEVER {
                stream.progress = Progress::Parked;
                return;
            }
            if stream.due_ns > self.now_ns {
                stream.progress = Progress::Queued;
                return self.agenda.push(stream.due_ns, number);
            }
            if client.link.is_some_and(|link| links.unsent(link) > UNSENT_MAX) {
                stream.progress = Progress::Queued;
                return self.agenda.push(self.now_ns + UNSENT_PAUSE_NS, number);
            }
            let due_ns = stream.due_ns;
            let rhythm = part.rhythm;
            if !self.publish(links, number, due_ns) {
                return self.now_blocked(number);
            }
            let after_ns = rhythm.after(due_ns, &mut self.random);
            self.streams[number as usize].due_ns = after_ns;
        }
    }

    /// Fills the window of a closed loop.
    #[inline]
    pub(super) fn turn_loop(&mut self, links: &mut Links, number: u32) {
        while !self.stopped {
            let stream = &self.streams[number as usize];
            if stream.progress != Progress::Looping || !self.windows[stream.window as usize].has_room() {
                return;
            }
            let part = &self.shared.script.publications[usize::from(stream.publication)];
            if stream.sent >= part.limit {
                return self.now_done(number);
            }
            if !takes_messages(&self.clients[stream.client as usize]) {
                self.streams[number as usize].progress = Progress::Parked;
                return;
            }
            if !self.publish(links, number, self.now_ns) {
                return self.now_blocked(number);
            }
        }
    }

    fn now_blocked(&mut self, number: u32) {
        let stream = &mut self.streams[number as usize];
        stream.progress = Progress::Blocked;
        self.clients[stream.client as usize].flags.blocked = true;
    }

    fn now_done(&mut self, number: u32) {
        let stream = &mut self.streams[number as usize];
        if stream.progress != Progress::Done {
            stream.progress = Progress::Done;
            self.figures.finished += u64::from(stream.acknowledged == stream.sent);
        }
    }

    /// Publishes a stream's next message. False when the broker's receive maximum is used up.
    #[inline]
    fn publish(&mut self, links: &mut Links, number: u32, at_ns: u64) -> bool {
        let stream = &mut self.streams[number as usize];
        let client = &mut self.clients[stream.client as usize];
        let Some(link) = client.link else { return false };
        let part = &self.shared.script.publications[usize::from(stream.publication)];
        let qos = part.qos.min(client.maximum_qos);
        let mut packet_id = 0;
        if qos == QoS::AtMostOnce {
            stream.acknowledged += 1;
        } else {
            let Some(id) = client.inflight().next_id() else { return false };
            packet_id = id;
            let sent = Sent { stream: number, packet_id, qos, number: stream.sent, at_ns };
            client.inflight().push(sent);
            self.figures.sent += 1;
        }
        let message = message(part.topics, stream.flow, stream.sent, at_ns, qos, packet_id);
        let receivers = self.shared.receivers[message.stamp.flow as usize];
        if stream.window != NONE {
            self.windows[stream.window as usize].send(receivers + u32::from(qos != QoS::AtMostOnce));
        }
        stream.sent += 1;
        client.last_sent_ms = self.now_ms;
        let cast = &self.shared.script.groups[usize::from(client.group)];
        let output = links.output(link);
        let before = output.len();
        self.composer.publish(cast, part, client.index, &message, &mut stream.head, output);
        self.tally.counts.bytes_out += (output.len() - before) as u64;
        self.tally.counts.published += 1;
        self.figures.owed += u64::from(receivers);
        true
    }

    /// A message's last acknowledgement came.
    pub(super) fn message_acknowledged(&mut self, links: &mut Links, message: &Sent) {
        let stream = &mut self.streams[message.stream as usize];
        stream.acknowledged += 1;
        if stream.progress == Progress::Done && stream.acknowledged == stream.sent {
            self.figures.finished += 1;
        }
        if stream.window != NONE {
            self.reached_here(links, message.stream, message.number as u32);
        }
    }

    /// A message of a closed loop of this thread came to a subscriber, or was acknowledged.
    #[inline]
    pub(super) fn reached_here(&mut self, links: &mut Links, stream: u32, number: u32) {
        self.windows[self.streams[stream as usize].window as usize].reached(number);
        self.turn_loop(links, stream);
    }

    /// There is room for more in flight.
    pub(super) fn unblock_streams(&mut self, links: &mut Links, client: u32) {
        for stream in self.streams_of(client) {
            if self.streams[stream as usize].progress == Progress::Blocked {
                self.run_stream(links, stream);
            }
        }
    }

    /// The client is in: it goes on publishing. What would have been due while it was away by the plan is left out.
    pub(super) fn resume_streams(&mut self, links: &mut Links, client: u32) {
        let by_plan = self.clients[client as usize].flags.left_by_plan;
        self.clients[client as usize].flags.blocked = false;
        for number in self.streams_of(client) {
            let stream = &mut self.streams[number as usize];
            match stream.progress {
                Progress::Parked | Progress::Blocked | Progress::Looping => {}
                Progress::Idle | Progress::Queued | Progress::Done => continue,
            }
            let rhythm = self.shared.script.publications[usize::from(stream.publication)].rhythm;
            if by_plan || rhythm == Rhythm::Arrival {
                stream.due_ns = rhythm.resume(stream.due_ns, self.now_ns, &mut self.random);
            }
            self.run_stream(links, number);
        }
    }

    /// The session was resumed: sends again what was not acknowledged `[MQTT-4.4.0-1]`.
    pub(super) fn resend(&mut self, links: &mut Links, number: u32) {
        let client = &mut self.clients[number as usize];
        let (Some(link), Some(more)) = (client.link, &client.more) else { return };
        let script = &self.shared.script;
        let cast = &script.groups[usize::from(client.group)];
        let output = links.output(link);
        let before = output.len();
        for packet_id in more.inflight.released() {
            encode_ack(output, client.version, PacketType::PubRel, packet_id, 0);
        }
        for sent in more.inflight.unacknowledged() {
            let stream = &mut self.streams[sent.stream as usize];
            let part = &script.publications[usize::from(stream.publication)];
            let again = message(part.topics, stream.flow, sent.number, sent.at_ns, sent.qos, sent.packet_id);
            let again = Message { dup: true, ..again };
            self.composer.publish(cast, part, client.index, &again, &mut stream.head, output);
        }
        self.tally.counts.bytes_out += (output.len() - before) as u64;
    }

    /// The session is gone, and what was in flight with it.
    pub(super) fn forget_inflight(&mut self, number: u32) {
        let client = &mut self.clients[number as usize];
        let Some(more) = &mut client.more else { return };
        for sent in more.inflight.clear() {
            self.figures.acknowledged += 1;
            let stream = &mut self.streams[sent.stream as usize];
            stream.acknowledged += 1;
            if stream.window != NONE {
                self.windows[stream.window as usize].forget();
            }
        }
    }

    fn streams_of(&self, client: u32) -> std::ops::Range<u32> {
        let client = &self.clients[client as usize];
        let count = self.shared.script.groups[usize::from(client.group)].publications.len() as u32;
        client.first_stream..client.first_stream + count
    }
}

/// Message `number` of a client's publication, whose topics are taken in turn.
#[inline]
fn message(topics: u32, first_flow: u32, number: u64, at_ns: u64, qos: QoS, packet_id: u16) -> Message {
    let (topic, sequence) = match topics {
        1 => (0, number as u32),
        _ => ((number % u64::from(topics)) as u32, (number / u64::from(topics)) as u32),
    };
    Message { stamp: Stamp { flow: first_flow + topic, sequence, at_ns }, topic, qos, packet_id, dup: false }
}
