//! What clients do by the clock: keep alive, coming and going, and giving up waiting.

use std::time::Duration;

use ringmq::engine::Time;

use super::Fleet;
use crate::engine::client::State;
use crate::engine::pace::nanoseconds;
use crate::engine::packets;
use crate::net::{Close, Links};
use crate::plan::Presence;

/// How exactly timers fire.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// An entry of the wheel: a hint to look at a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// The thread's number of the client.
    pub client: u32,
    /// What to look at.
    pub kind: Kind,
}

const _: () = assert!(size_of::<Timer>() == 8);

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A PINGREQ may be due, or a PINGRESP overdue.
    KeepAlive,
    /// It is time to come or to go.
    Presence,
    /// CONNACK or SUBACK may be overdue.
    Arrival,
    /// The broker may be slow to end a connection.
    Farewell,
}

impl Fleet {
    pub(super) fn set_timer(&mut self, at_ns: u64, client: u32, kind: Kind) {
        self.wheel.insert(Time(at_ns), Timer { client, kind });
    }

    /// Does what timers are due for.
    pub(super) fn fire(&mut self, links: &mut Links) {
        if self.wheel.next_deadline().is_none_or(|Time(at_ns)| at_ns > self.now_ns) {
            return;
        }
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.advance(Time(self.now_ns), &mut fired);
        for timer in fired.drain(..) {
            match timer.kind {
                Kind::KeepAlive => self.on_keep_alive(links, timer.client),
                Kind::Presence => self.on_presence(links, timer.client),
                Kind::Arrival => self.on_late_arrival(links, timer),
                Kind::Farewell => self.on_long_farewell(links, timer.client),
            }
        }
        self.fired = fired;
    }

    /// Watches a client's keep alive from now on.
    pub(super) fn arm_keep_alive(&mut self, number: u32) {
        let client = &mut self.clients[number as usize];
        if client.keep_alive == 0 || std::mem::replace(&mut client.flags.keep_alive_armed, true) {
            return;
        }
        let at_ns = self.now_ns + silence_ns(client.keep_alive);
        self.set_timer(at_ns, number, Kind::KeepAlive);
    }

    fn on_keep_alive(&mut self, links: &mut Links, number: u32) {
        let patience_ns = self.patience_ns();
        let client = &mut self.clients[number as usize];
        let Some(link) = client.link.filter(|_| client.state == State::Ready && client.keep_alive > 0) else {
            client.flags.keep_alive_armed = false;
            return;
        };
        let due_ns = u64::from(client.last_sent_ms) * 1_000_000 + silence_ns(client.keep_alive);
        let next_ns = if client.flags.pinging && self.now_ns >= u64::from(client.last_sent_ms) * 1_000_000 + patience_ns
        {
            client.flags.keep_alive_armed = false;
            // Told as dropped when the link is over.
            return links.close(link, Close::Reset);
        } else if self.now_ns + nanoseconds(TICK) < due_ns || client.flags.pinging {
            due_ns.max(self.now_ns + nanoseconds(TICK))
        } else {
            let output = links.output(link);
            packets::ping(output);
            self.tally.counts.bytes_out += 2;
            client.flags.pinging = true;
            client.last_sent_ms = self.now_ms;
            // An answer that does not come is noticed when patience is over, or at the next silence.
            self.now_ns + patience_ns.min(silence_ns(client.keep_alive))
        };
        self.set_timer(next_ns, number, Kind::KeepAlive);
    }

    pub(super) fn on_ping_response(&mut self, number: u32) {
        self.tally.counts.pings += 1;
        self.clients[number as usize].flags.pinging = false;
    }

    /// Coming and going starts with traffic.
    pub(super) fn begin_presence(&mut self, at_ns: u64) {
        for number in 0..self.clients.len() as u32 {
            let client = &self.clients[number as usize];
            match self.shared.script.plan.groups[usize::from(client.group)].presence {
                Presence::Always => {}
                Presence::Cycle { online, .. } => {
                    let at_ns = at_ns + self.draw_ns(online);
                    self.set_presence_at(number, at_ns);
                }
                Presence::Away { back_after } => {
                    self.set_presence_at(number, at_ns + nanoseconds(back_after));
                }
            }
        }
    }

    /// Comes or goes about `after` from now.
    pub(super) fn set_presence(&mut self, number: u32, after: Duration) {
        let at_ns = self.now_ns + self.draw_ns(after);
        self.set_presence_at(number, at_ns);
    }

    /// Comes or goes then, and not when it was to before.
    pub(super) fn set_presence_at(&mut self, number: u32, at_ns: u64) {
        self.clients[number as usize].presence_ms = milliseconds(at_ns);
        self.set_timer(at_ns, number, Kind::Presence);
    }

    /// The client has left: when does it come back?
    pub(super) fn schedule_return(&mut self, number: u32) {
        let client = &self.clients[number as usize];
        let group = &self.shared.script.plan.groups[usize::from(client.group)];
        if let Presence::Cycle { offline, .. } = group.presence {
            if self.stopped {
                // Nobody goes any more, and whoever is owed something comes back at once.
                return self.queue.push_back(number);
            }
            self.set_presence(number, offline);
        }
    }

    fn on_presence(&mut self, links: &mut Links, number: u32) {
        let client = &mut self.clients[number as usize];
        if self.now_ms < client.presence_ms {
            return;
        }
        client.presence_ms = u32::MAX;
        let presence = self.shared.script.plan.groups[usize::from(client.group)].presence;
        let lasting = self.shared.script.groups[usize::from(client.group)].lasting;
        match (client.state, presence) {
            // Towards the end only those come back who are owed something.
            (State::Away, _) if !self.leaving && (lasting || !self.stopped) => self.connect(links, number),
            (State::Ready, Presence::Cycle { abrupt, .. }) if !self.stopped => match abrupt {
                true => self.break_off(links, number),
                false => self.depart(links, number),
            },
            _ => {}
        }
    }

    /// Between half and one and a half of it.
    fn draw_ns(&mut self, about: Duration) -> u64 {
        let about_ns = nanoseconds(about);
        about_ns / 2 + self.random.u64(0..=about_ns)
    }
}

/// Rounded down, as the fleet's own time in milliseconds is.
pub(super) fn milliseconds(at_ns: u64) -> u32 {
    (at_ns / 1_000_000) as u32
}

/// A client may be silent for so long: three quarters of its keep alive.
fn silence_ns(keep_alive: u16) -> u64 {
    u64::from(keep_alive) * 750_000_000
}
