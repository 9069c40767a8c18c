//! A client's way in and out: connecting at the plan's rate, CONNACK, SUBACK, leaving, being dropped.

use std::sync::Arc;

use ringmq::codec::{ConnAck, DecodeError, PacketType, QoS, SubAck};

use super::timers::{Kind, Timer};
use super::{Fleet, reset};
use crate::engine::client::{Client, State};
use crate::engine::ledger::Range;
use crate::engine::{Error, packets};
use crate::net::{Closed, Links};
use crate::plan::Presence;

/// Codes of SUBACK from here on are failures, as are reason codes (MQTT 5.0 §2.4).
pub(super) const FAILURE: u8 = 0x80;
/// The packet identifier of a SUBSCRIBE. Nothing else is on its way then.
const SUBSCRIBE_ID: u16 = u16::MAX;
/// The first byte of a CONNACK.
const CONNACK: u8 = (PacketType::ConnAck as u8) << 4;
/// So many bytes tell who it is that speaks no MQTT.
const BEGINS: usize = 4;
/// How far connecting may lag behind its rate and still make up for it.
const CONNECT_LAG_NS: u64 = 10_000_000;
/// The first and the longest pause before another attempt.
const RETRY_NS: (u64, u64) = (100_000_000, 5_000_000_000);
/// A broker has so long to end a connection after DISCONNECT before the client does.
const FAREWELL_NS: u64 = 1_000_000_000;

impl Fleet {
    /// Starts connections as rate and number on their way allow.
    pub(super) fn admit(&mut self, links: &mut Links) {
        while self.figures.connecting < self.admission.connecting && self.failure.is_none() {
            if self.admission.interval_ns.is_some() && self.next_connect_ns > self.now_ns {
                return;
            }
            let Some(client) = self.queue.pop_front() else { return };
            if let Some(interval_ns) = self.admission.interval_ns {
                let from_ns = self.next_connect_ns.max(self.now_ns.saturating_sub(CONNECT_LAG_NS));
                self.next_connect_ns = from_ns + interval_ns;
            }
            self.connect(links, client);
        }
    }

    /// Asks for a connection and writes the CONNECT that goes out with it.
    pub(super) fn connect(&mut self, links: &mut Links, number: u32) {
        if self.clients[number as usize].link.is_some() || self.leaving {
            return;
        }
        let target = self.host_of(number);
        let sources = &self.shared.sources;
        let source = (!sources.is_empty()).then(|| sources[self.connects as usize % sources.len()]);
        self.connects += 1;
        self.tally.counts.connecting += 1;
        self.figures.connecting += 1;
        let client = &mut self.clients[number as usize];
        client.state = State::Connecting;
        client.since_ns = self.now_ns;
        client.last_sent_ms = self.now_ms;
        let link = match links.connect(number, target, source) {
            Ok(link) => link,
            Err(error) => return self.on_closed(number, &Closed::Failed(error)),
        };
        client.link = Some(link);
        let group = &self.shared.script.plan.groups[usize::from(client.group)];
        let cast = &self.shared.script.groups[usize::from(client.group)];
        let clean = if client.flags.came && cast.lasting { false } else { group.clean };
        let output = links.output(link);
        self.composer.connect(group, cast, client.index, clean, output);
        self.tally.counts.bytes_out += output.len() as u64;
        if self.begun_ns.is_some() {
            self.set_timer(self.now_ns + self.patience_ns(), number, Kind::Arrival);
        }
    }

    pub(super) fn on_connack(&mut self, links: &mut Links, number: u32, connack: &ConnAck<'_>) {
        if connack.code != 0 {
            self.tally.counts.refused += 1;
            if self.begun_ns.is_none() {
                let (address, client) = (self.host_of(number), self.name_of(number));
                return self.fail(Error::Refused { address, client, code: connack.code });
            }
            self.note(|fleet| format!("{} was refused with CONNACK code {:#04x}", fleet.name_of(number), connack.code));
            return reset(links, &self.clients[number as usize]);
        }
        self.tally.counts.connected += 1;
        let client = &mut self.clients[number as usize];
        let cast = &self.shared.script.groups[usize::from(client.group)];
        let group = &self.shared.script.plan.groups[usize::from(client.group)];
        let came = std::mem::replace(&mut client.flags.came, true);
        if !came && connack.session_present && !cast.filters.is_empty() {
            let client = self.name_of(number);
            return self.fail(Error::Leftover { client });
        }
        self.tally.counts.reconnected += u64::from(came);
        client.keep_alive = connack.properties.server_keep_alive.unwrap_or(group.keep_alive);
        client.maximum_qos = connack.properties.maximum_qos.unwrap_or(QoS::ExactlyOnce);
        if !cast.publications.is_empty() && (connack.properties.receive_maximum.is_some() || client.more.is_some()) {
            client.inflight().set_limit(connack.properties.receive_maximum.unwrap_or(u16::MAX));
        }
        let (resumes, subscribes) = (came && cast.lasting, !cast.filters.is_empty());
        let (maximum, lowered) = (client.maximum_qos, self.lowers(number));
        if lowered {
            self.note(|fleet| format!("the broker takes QoS {} at most from {}", maximum as u8, fleet.name_of(number)));
        }
        if resumes && !connack.session_present {
            self.note(|fleet| format!("the session of {} was gone when it came back", fleet.name_of(number)));
        }
        if resumes && connack.session_present {
            self.resend(links, number);
            return self.now_ready(links, number);
        }
        self.forget_inflight(number);
        if subscribes { self.subscribe(links, number) } else { self.now_ready(links, number) }
    }

    fn subscribe(&mut self, links: &mut Links, number: u32) {
        let client = &mut self.clients[number as usize];
        client.state = State::Subscribing;
        let Some(link) = client.link else { return };
        let group = &self.shared.script.plan.groups[usize::from(client.group)];
        let cast = &self.shared.script.groups[usize::from(client.group)];
        let output = links.output(link);
        let before = output.len();
        self.composer.subscribe(group, cast, client.index, SUBSCRIBE_ID, output);
        self.tally.counts.bytes_out += (output.len() - before) as u64;
        self.figures.owed += self.ledger.subscribed(client.account);
    }

    pub(super) fn on_suback(&mut self, links: &mut Links, number: u32, suback: &SubAck<'_>) {
        let client = &self.clients[number as usize];
        let cast = &self.shared.script.groups[usize::from(client.group)];
        if suback.codes.len() != cast.filters.len() || suback.packet_id != SUBSCRIBE_ID {
            let what = format!("a SUBACK with {} codes for {} filters", suback.codes.len(), cast.filters.len());
            return self.fail_protocol(number, what);
        }
        let index = client.index;
        if let Some(at) = suback.codes.iter().position(|code| *code >= FAILURE) {
            let code = suback.codes[at];
            self.tally.counts.refused += 1;
            let filter = self.composer.filter(cast, index, at);
            let error = Error::SubscriptionRefused { client: self.name_of(number), filter, code };
            if self.begun_ns.is_none() {
                return self.fail(error);
            }
            self.note(|_| error.to_string());
        } else if let Some((at, granted, asked)) = self.granted_less(number, suback.codes) {
            // What is published at more than that comes at less, and is promised less.
            let filter = self.composer.filter(cast, index, at);
            let name = self.name_of(number);
            self.note(|_| format!("{name} was granted QoS {granted} instead of {asked} for {filter}"));
            self.lower(number, suback.codes);
        }
        self.now_ready(links, number);
    }

    /// The first subscription with a lower QoS than was asked for: its number, what was granted, what was asked for.
    fn granted_less(&self, number: u32, codes: &[u8]) -> Option<(usize, u8, u8)> {
        let asked = &self.shared.script.plan.groups[usize::from(self.clients[number as usize].group)].subscribe;
        let of_both = asked.iter().zip(codes).enumerate();
        of_both.map(|(at, (asked, granted))| (at, *granted, asked.qos)).find(|(_, granted, asked)| granted < asked)
    }

    /// Expects of a client's subscriptions what these codes of SUBACK promise. Of a shared subscription that is what its
    /// member was granted at best.
    fn lower(&mut self, number: u32, codes: &[u8]) {
        let shared = Arc::clone(&self.shared);
        let client = &self.clients[number as usize];
        let (script, group) = (&shared.script, usize::from(client.group));
        let (presence, maximum_qos) = (script.plan.groups[group].presence, client.maximum_qos);
        let granted = |code: Option<&u8>| code.and_then(|code| QoS::from_bits(*code)).unwrap_or(QoS::ExactlyOnce);
        self.ledger.lower(client.account, |range| {
            let qos = range.expectation.qos.min(granted(codes.get(usize::from(range.subscription))));
            let part = &script.publications[usize::from(range.publication)];
            let sender = usize::from(part.group);
            let of_sender = script.plan.groups[sender].presence;
            let reaches = script.groups[sender].delivers(of_sender, part.qos.min(maximum_qos));
            (qos, reaches && script.groups[group].keeps(presence, qos))
        });
        let best = granted(codes.iter().max());
        for share in self.memberships.get(&number).into_iter().flat_map(|member| &member.shares) {
            let lowered = |range: &Range| (range.expectation.qos.min(best), presence == Presence::Always);
            self.ledger.lower(self.shares[*share as usize].0, lowered);
        }
    }

    /// Whether a client's publications are sent at a lower QoS than the plan wants.
    fn lowers(&self, number: u32) -> bool {
        let client = &self.clients[number as usize];
        let script = &self.shared.script;
        let parts = script.groups[usize::from(client.group)].publications.clone();
        script.publications[parts].iter().any(|part| part.qos > client.maximum_qos)
    }

    fn now_ready(&mut self, links: &mut Links, number: u32) {
        self.figures.connecting -= 1;
        self.figures.ready += 1;
        let client = &mut self.clients[number as usize];
        client.state = State::Ready;
        client.attempts = 0;
        self.tally.connected(self.now_ns - client.since_ns);
        let presence = self.shared.script.plan.groups[usize::from(client.group)].presence;
        if client.flags.arrived {
            self.figures.away -= 1;
        }
        self.figures.lost -= u64::from(std::mem::take(&mut client.flags.lost));
        self.figures.rebuffed -= u64::from(std::mem::take(&mut client.flags.rebuffed));
        self.arm_keep_alive(number);
        match presence {
            Presence::Away { .. } if self.begun_ns.is_none() => return self.say_goodbye(links, number),
            Presence::Cycle { online, .. } if self.begun_ns.is_some() => self.set_presence(number, online),
            _ => {}
        }
        self.now_arrived(number);
        self.resume_streams(links, number);
    }

    fn now_arrived(&mut self, number: u32) {
        let flags = &mut self.clients[number as usize].flags;
        self.figures.arrived += u64::from(!std::mem::replace(&mut flags.arrived, true));
    }

    /// Leaves by DISCONNECT as soon as nothing is in flight any more.
    pub(super) fn depart(&mut self, links: &mut Links, number: u32) {
        let client = &mut self.clients[number as usize];
        client.state = State::Departing;
        client.since_ns = self.now_ns;
        if client.has_settled() {
            return self.say_goodbye(links, number);
        }
        self.set_timer(self.now_ns + self.patience_ns(), number, Kind::Farewell);
    }

    /// Sends DISCONNECT. The broker ends the connection.
    pub(super) fn say_goodbye(&mut self, links: &mut Links, number: u32) {
        let client = &mut self.clients[number as usize];
        let Some(link) = client.link else { return };
        client.state = State::Leaving;
        client.since_ns = self.now_ns;
        let group = usize::from(client.group);
        self.mark_shares(number);
        let output = links.output(link);
        let before = output.len();
        packets::disconnect(&self.shared.script.groups[group], output);
        self.tally.counts.bytes_out += (output.len() - before) as u64;
        links.leave(link);
        self.set_timer(self.now_ns + FAREWELL_NS, number, Kind::Farewell);
    }

    /// Breaks the connection, as a bad link does.
    pub(super) fn break_off(&mut self, links: &mut Links, number: u32) {
        self.clients[number as usize].state = State::Leaving;
        self.mark_shares(number);
        self.owe_will(number);
        reset(links, &self.clients[number as usize]);
    }

    /// The connection is over.
    pub(super) fn on_closed(&mut self, number: u32, reason: &Closed) {
        let client = &mut self.clients[number as usize];
        client.link = None;
        let unanswered = std::mem::take(&mut client.flags.pinging);
        if let Some(more) = &mut client.more {
            more.partial = Vec::new();
        }
        let was = std::mem::replace(&mut client.state, State::Away);
        match was {
            State::Connecting | State::Subscribing => self.on_not_arrived(number, was, reason),
            State::Leaving => self.on_left(number),
            State::Ready | State::Departing => self.on_dropped(number, reason, unanswered),
            State::Out | State::Away | State::Gone => self.clients[number as usize].state = was,
        }
    }

    fn on_not_arrived(&mut self, number: u32, was: State, reason: &Closed) {
        self.figures.connecting -= 1;
        if was == State::Connecting {
            self.tally.counts.connect_failed += 1;
        } else {
            self.tally.counts.disconnected += 1;
        }
        if self.leaving {
            return self.now_gone(number);
        }
        if self.begun_ns.is_none() {
            let address = self.host_of(number);
            let source = match reason {
                Closed::Failed(error) => copy(error),
                Closed::Error(error) if was == State::Connecting => copy(error),
                Closed::Layer(error) => {
                    return self.fail(Error::Layer { address, client: self.name_of(number), what: error.to_string() });
                }
                _ => {
                    return self.fail(Error::Closed {
                        address,
                        client: self.name_of(number),
                        reason: reason.to_string(),
                        answered: was == State::Subscribing,
                    });
                }
            };
            return self.fail(Error::Connect { address, count: self.connects, source });
        }
        self.now_lost(number);
        let flags = &mut self.clients[number as usize].flags;
        self.figures.rebuffed += u64::from(!std::mem::replace(&mut flags.rebuffed, true));
        self.try_again(number);
    }

    fn on_left(&mut self, number: u32) {
        self.figures.ready -= 1;
        self.tally.counts.disconnected += 1;
        let client = &mut self.clients[number as usize];
        client.flags.left_by_plan = true;
        client.flags.came_back = true;
        if self.leaving {
            return self.now_gone(number);
        }
        self.figures.away += 1;
        self.now_arrived(number);
        self.schedule_return(number);
    }

    fn on_dropped(&mut self, number: u32, reason: &Closed, unanswered: bool) {
        let reason = match reason {
            Closed::Own if unanswered => "a PINGREQ was not answered".to_owned(),
            reason => reason.to_string(),
        };
        self.figures.ready -= 1;
        self.tally.counts.disconnected += 1;
        if self.leaving {
            return self.now_gone(number);
        }
        if self.begun_ns.is_none() {
            let (address, client) = (self.host_of(number), self.name_of(number));
            return self.fail(Error::Closed { address, client, reason, answered: true });
        }
        self.tally.counts.dropped += 1;
        self.dropped += 1;
        self.note(|fleet| format!("{} was dropped: {reason}", fleet.name_of(number)));
        self.mark_shares(number);
        self.now_lost(number);
        let client = &mut self.clients[number as usize];
        client.flags.left_by_plan = false;
        client.flags.came_back = true;
        let presence = self.shared.script.plan.groups[usize::from(client.group)].presence;
        if presence == Presence::Always {
            return self.now_gone(number);
        }
        self.figures.away += 1;
        self.try_again(number);
    }

    fn now_lost(&mut self, number: u32) {
        let flags = &mut self.clients[number as usize].flags;
        self.figures.lost += u64::from(!std::mem::replace(&mut flags.lost, true));
    }

    /// Waits a while, longer each time, then connects again.
    fn try_again(&mut self, number: u32) {
        let client = &mut self.clients[number as usize];
        let (first_ns, longest_ns) = RETRY_NS;
        let pause_ns = (first_ns << client.attempts.min(10)).min(longest_ns);
        client.attempts = client.attempts.saturating_add(1);
        client.state = State::Away;
        let jitter_ns = self.random.u64(0..=pause_ns / 2);
        self.set_presence_at(number, self.now_ns + pause_ns + jitter_ns);
    }

    fn now_gone(&mut self, number: u32) {
        self.clients[number as usize].state = State::Gone;
        self.forget_inflight(number);
    }

    /// A message may go to another member of a shared subscription when one has gone.
    fn mark_shares(&mut self, number: u32) {
        if self.clients[number as usize].flags.shares {
            for share in self.memberships.get(&number).into_iter().flat_map(|member| &member.shares) {
                self.shares[*share as usize].1 = true;
            }
        }
    }

    /// Brings back everybody whose session holds what they are owed.
    pub(super) fn call_back(&mut self) {
        let groups = &self.shared.script.groups;
        let absent = (0..).zip(&self.clients).filter(|(_, client)| {
            client.state == State::Away && client.flags.came && groups[usize::from(client.group)].lasting
        });
        self.queue.extend(absent.map(|(number, _)| number));
    }

    /// Everybody takes leave.
    pub fn leave(&mut self, links: &mut Links) {
        self.look_at_clock();
        self.leaving = true;
        self.queue.clear();
        for number in 0..self.clients.len() as u32 {
            match self.clients[number as usize].state {
                State::Ready | State::Departing => self.say_goodbye(links, number),
                State::Connecting | State::Subscribing => reset(links, &self.clients[number as usize]),
                _ => {}
            }
        }
    }

    /// A timer says that a connection took too long to come about.
    pub(super) fn on_late_arrival(&mut self, links: &mut Links, Timer { client: number, .. }: Timer) {
        let client = &self.clients[number as usize];
        let waits = matches!(client.state, State::Connecting | State::Subscribing);
        if waits && self.now_ns >= client.since_ns + self.patience_ns() {
            reset(links, client);
        }
    }

    /// A timer says that a farewell took too long.
    pub(super) fn on_long_farewell(&mut self, links: &mut Links, number: u32) {
        let client = &self.clients[number as usize];
        match (client.state, self.now_ns.saturating_sub(client.since_ns)) {
            (State::Departing, waited_ns) if waited_ns >= self.patience_ns() => self.say_goodbye(links, number),
            (State::Leaving, waited_ns) if waited_ns >= FAREWELL_NS => reset(links, client),
            _ => {}
        }
    }

    /// What arrived is no MQTT packet. `begins` is where it does.
    #[cold]
    pub(super) fn fail_malformed(&mut self, number: u32, begins: &[u8], error: &DecodeError) {
        let Client { state, flags, .. } = &self.clients[number as usize];
        let first = begins.first().copied().unwrap_or_default();
        let what = format!("a malformed packet that starts with {first:#04x}: {error}");
        // A server of an older version answers in that version's words [MQTT-3.1.2-2 of 3.1.1].
        if let ([CONNACK, 2, _, code @ 1..=u8::MAX], State::Connecting) = (begins, *state) {
            let (address, client) = (self.host_of(number), self.name_of(number));
            return self.fail(Error::Refused { address, client, code: *code });
        }
        if *state == State::Connecting && !flags.came && first != CONNACK {
            let (address, begins) = (self.host_of(number), begins[..begins.len().min(BEGINS)].to_vec());
            return self.fail(Error::Foreign { address, what, begins });
        }
        self.fail_protocol(number, what);
    }

    /// The beginning of the answer to CONNECT: nobody needs to wait for the rest of what is no CONNACK.
    #[cold]
    pub(super) fn check_answer(&mut self, number: u32, begins: &[u8]) {
        let first = begins.first().copied().unwrap_or(CONNACK);
        if first != CONNACK && !self.clients[number as usize].flags.came {
            let (address, what) = (self.host_of(number), format!("a packet that starts with {first:#04x}"));
            self.fail(Error::Foreign { address, what, begins: begins[..begins.len().min(BEGINS)].to_vec() });
        }
    }

    pub(super) fn fail_protocol(&mut self, number: u32, what: String) {
        let client = self.name_of(number);
        self.fail(Error::Protocol { client, what });
    }
}

fn copy(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(errno) => std::io::Error::from_raw_os_error(errno),
        None => std::io::Error::new(error.kind(), error.to_string()),
    }
}
