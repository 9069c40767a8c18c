//! Enhanced authentication in a run (MQTT 5.0 §4.12): exchanges of several steps before CONNACK and again later, answered
//! rightly, wrongly, late or never, by either side, while everything else goes on.

use std::time::Duration;

use super::guard::Answer;
use super::{Actor, Simulation};
use crate::auth::{Principal, Verdict};
use crate::codec::ReasonCode;
use crate::sim::client::Phase;
use crate::sim::model::ClientIndex;
use crate::sim::subject::Audit;
use crate::sim::wire::{Packet, Properties, Reasoned, Value, id};

/// The method that some clients authenticate by.
pub(super) const METHOD: &str = "SIMULATED";

/// Reasons of a DISCONNECT that a client has itself to blame for: not authenticated, protocol error, another method.
pub(super) const DISMISSALS: [u8; 3] = [0x87, 0x82, 0x8C];

/// An authentication whose answer comes later than this before it is over is given up: which of both is first depends on
/// when a shard takes its turn.
const MARGIN: Duration = Duration::from_secs(3);

/// Where a client's exchange stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchange {
    /// Steps that are still to be answered.
    steps: u8,
    /// It is one of a client that is connected.
    pub renews: bool,
}

impl<E: Audit> Simulation<E> {
    /// The first step of an exchange, if there is to be one.
    pub(super) fn first_step(&mut self, index: ClientIndex, renews: bool) -> Option<Verdict> {
        // An exchange over a slow network may take longer than the broker waits for it.
        let most = if self.actors[index].habits.steady && !renews { 1 } else { 4 };
        let steps = self.rng.below(most) as u8;
        self.actors[index].exchange = Exchange { steps, renews };
        (steps > 0).then(|| Verdict::Continue { data: vec![steps] })
    }

    /// What follows an answer of the client's; `None`: it was the last one, and right.
    pub(super) fn next_step(&mut self, index: ClientIndex, data: &[u8]) -> Option<Verdict> {
        let exchange = &mut self.actors[index].exchange;
        if data != [exchange.steps] {
            return Some(Verdict::Deny(ReasonCode::NotAuthorized));
        }
        exchange.steps -= 1;
        (exchange.steps > 0).then(|| Verdict::Continue { data: vec![exchange.steps] })
    }

    /// Whether a client that is connected may stay; `None`: nobody ever says.
    pub(super) fn renewal(&mut self, index: ClientIndex) -> Option<Verdict> {
        let actor = &self.actors[index];
        let (name, strict) = (actor.client.name.clone(), self.acting && !actor.habits.steady);
        let allow = |user: &str, lasts| {
            let principal = Box::new(Principal { user: Some(user.into()), lasts, ..Principal::default() });
            Some(Verdict::Allow { principal, data: Vec::new() })
        };
        match self.rng.below(100) {
            0..10 if strict => Some(Verdict::Deny(ReasonCode::NotAuthorized)),
            10..15 if strict => allow("somebody else", None),
            15..25 if strict => None,
            25..45 if strict => allow(&name, Some(Duration::from_secs(self.rng.range(0, 10)))),
            _ => allow(&name, None),
        }
    }

    /// An answer to a client that authenticates again is given. False: it comes too late to tell what it does.
    pub(super) fn renews(&mut self, index: ClientIndex, verdict: &Verdict) -> bool {
        let now = self.world.now();
        let actor = &mut self.actors[index];
        if actor.lapses.is_some_and(|lapses| lapses <= now.after(MARGIN)) {
            return false;
        }
        match verdict {
            Verdict::Allow { principal, .. } if principal.user.as_deref() == Some(&actor.client.name) => {
                actor.lapses = principal.lasts.map(|lasts| now.after(lasts));
            }
            Verdict::Allow { .. } | Verdict::Deny(_) => actor.lapses = Some(now),
            Verdict::Continue { .. } => {}
        }
        true
    }

    /// A client that is connected authenticates again, in turn or out of it.
    pub(super) fn authenticate_again(&mut self, index: ClientIndex) {
        let actor = &self.actors[index];
        let out_of_turn = actor.exchange.renews;
        let clumsy = !actor.habits.steady && self.may_blame(index);
        if out_of_turn && !(clumsy && self.rng.chance(10)) {
            return;
        }
        if out_of_turn {
            self.is_to_blame(index);
        }
        self.actors[index].exchange.renews = true;
        self.actors[index].client.push(&auth(0x19, METHOD, b"again"));
        self.flush(index);
    }

    /// AUTH came: the client has to answer, or is through.
    pub(super) fn challenged(&mut self, index: ClientIndex, packet: &Reasoned) {
        let method = packet.properties.find(id::AUTHENTICATION_METHOD);
        assert_eq!(method, Some(&Value::Text(METHOD.to_owned())), "AUTH of another method to client {index}");
        if self.actors[index].client.phase == Phase::Leaving {
            return; // it has said goodbye meanwhile
        }
        if packet.reason == 0 {
            let exchange = &mut self.actors[index].exchange;
            assert!(std::mem::take(&mut exchange.renews), "client {index} did not authenticate again");
            return;
        }
        assert_eq!(packet.reason, 0x18, "AUTH to client {index}: {packet:?}");
        let data = match packet.properties.find(id::AUTHENTICATION_DATA) {
            Some(Value::Binary(data)) => data.clone(),
            other => panic!("AUTH to client {index} with {other:?}"),
        };
        self.answer_challenge(index, &data);
    }

    fn answer_challenge(&mut self, index: ClientIndex, data: &[u8]) {
        let strict = self.acting && !self.actors[index].habits.steady && self.may_blame(index);
        let online = self.actors[index].client.phase == Phase::Online;
        let roll = self.rng.below(100);
        let wrong = match roll {
            0..5 => Some(auth(0x18, "ANOTHER", data)),
            5..9 => Some(auth(0x19, METHOD, data)),
            9..12 if !online => Some(Packet::PingReq),
            _ => None,
        };
        match wrong.filter(|_| strict) {
            Some(wrong) => {
                if online {
                    self.is_to_blame(index);
                }
                self.actors[index].client.push(&wrong);
            }
            None if strict && roll < 20 => self.actors[index].client.push(&auth(0x18, METHOD, b"wrong")),
            // It never answers: what it has lasts as long as it did, not longer.
            None if strict && roll < 26 => {}
            None if strict && online && self.actors[index].lapses.is_some() && roll < 45 => {}
            None if roll < 50 && self.acting => return self.answer_later(index, auth(0x18, METHOD, data)),
            None => self.actors[index].client.push(&auth(0x18, METHOD, data)),
        }
        self.flush(index);
    }

    fn answer_later(&mut self, index: ClientIndex, packet: Packet) {
        let Some(link) = self.actors[index].client.link else { return };
        let delay = Duration::from_millis(*self.rng.pick(&[1, 100, 2_000]));
        self.schedule_answer(delay, Answer::Client(index, link, packet));
    }

    /// Whether what a client does wrong now arrives soon.
    fn may_blame(&self, index: ClientIndex) -> bool {
        self.actors[index].client.link.is_some_and(|link| self.world.unsent(link) == 0)
    }

    /// The broker ends the connection when this arrives.
    fn is_to_blame(&mut self, index: ClientIndex) {
        let now = self.world.now();
        let lapses = &mut self.actors[index].lapses;
        *lapses = Some(lapses.map_or(now, |lapses| lapses.min(now)));
    }
}

impl Actor {
    /// Authenticates by an exchange.
    pub(super) fn exchanges(&self) -> bool {
        self.method.is_some()
    }
}

fn auth(reason: u8, method: &str, data: &[u8]) -> Packet {
    let properties = Properties::new().text(id::AUTHENTICATION_METHOD, method).binary(id::AUTHENTICATION_DATA, data);
    Packet::Auth(Reasoned { reason, properties })
}
