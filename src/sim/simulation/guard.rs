//! Who may come in and what clients may do, in a run: answers that come late, never, or are no; authentications that
//! end; rules that change while messages are on their way.

use std::time::Duration;

use super::exchange::DISMISSALS;
use super::{Simulation, WATCHER};
use crate::auth::{Principal, Question, Verdict};
use crate::codec::ReasonCode;
use crate::core::Shared;
use crate::engine::Time;
use crate::sim::client::Phase;
use crate::sim::desk::{Asked, Desk};
use crate::sim::model::{ClientIndex, Fate};
use crate::sim::rules::Ruleset;
use crate::sim::subject::Audit;
use crate::sim::wire::Packet;
use crate::sim::world::LinkId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So long after its authentication is over a client is gone and knows it, when all has come to rest.
const OUTSTAYED: Duration = Duration::from_secs(3);

/// Tokens from here on, below that of the vandals, are those of answers.
pub(super) const ANSWERS: u64 = 1 << 32;

/// The outside of a guarded broker.
pub struct Guard {
    /// What its shards share: takes the rules.
    pub shared: Arc<Shared>,
    /// Where it asks who may come in; never, if the plan has nobody asked.
    pub desk: Desk,
    /// Answers on their way.
    answers: BTreeMap<u64, Answer>,
    given: u64,
}

/// What somebody says later.
pub(super) enum Answer {
    /// To a shard.
    Shard(Asked, Verdict),
    /// A client, on this connection.
    Client(ClientIndex, LinkId, Packet),
}

impl Guard {
    /// Of a broker whose shards share this.
    pub fn new(shared: Arc<Shared>, desk: Desk) -> Guard {
        Guard { shared, desk, answers: BTreeMap::new(), given: 0 }
    }
}

impl<E: Audit> Simulation<E> {
    /// Decides about whoever is asked about, and when to say so.
    pub(super) fn take_questions(&mut self) {
        while let Some(asked) = self.guard.desk.next() {
            let Some(verdict) = self.consider(&asked) else { continue };
            let delay = Duration::from_micros(*self.rng.pick(&[1, 1_000, 50_000, 700_000]));
            self.schedule_answer(delay, Answer::Shard(asked, verdict));
        }
    }

    pub(super) fn schedule_answer(&mut self, delay: Duration, answer: Answer) {
        self.guard.given += 1;
        let token = ANSWERS + self.guard.given;
        self.guard.answers.insert(token, answer);
        self.world.wake_in(delay, token);
    }

    /// The answer to a question; `None`: nobody ever says.
    fn consider(&mut self, asked: &Asked) -> Option<Verdict> {
        let about = Some((asked.shard, asked.conn));
        let (credentials, renews) = match &asked.question {
            Question::Connect(credentials) => (credentials, false),
            Question::Renew(credentials) => (credentials, true),
            Question::Continue { data } => {
                let index = self.actors.iter().position(|actor| actor.asked == about)?;
                return match self.next_step(index, data) {
                    Some(verdict) => Some(verdict),
                    None => self.last_word(Some(index), &self.actors[index].client.name.clone()),
                };
            }
        };
        let index = self.actors.iter().position(|actor| actor.client.name == credentials.client_id);
        if let Some(index) = index {
            self.actors[index].asked = about;
        }
        let first = match index.filter(|_| credentials.method.is_some()) {
            Some(index) => self.first_step(index, renews),
            None => None,
        };
        first.or_else(|| self.last_word(index, &credentials.client_id))
    }

    fn last_word(&mut self, index: Option<ClientIndex>, name: &str) -> Option<Verdict> {
        match index.filter(|index| self.actors[*index].exchange.renews) {
            Some(index) => self.renewal(index),
            None => self.verdict(index, name),
        }
    }

    /// Yes or no; `None`: nobody ever says.
    fn verdict(&mut self, index: Option<ClientIndex>, name: &str) -> Option<Verdict> {
        let strict = self.acting && index.is_none_or(|index| index > 1 && !self.actors[index].habits.steady);
        match self.rng.below(100) {
            0..8 if strict => Some(Verdict::Deny(ReasonCode::NotAuthorized)),
            8..12 if strict => None,
            12..25 if strict => Some(allow(name, Some(Duration::from_secs(self.rng.range(0, 10))))),
            _ => Some(allow(name, None)),
        }
    }

    /// An answer is given. Whether the connection it is for still exists does not matter.
    pub(super) fn give_answer(&mut self, token: u64) {
        let (asked, verdict) = match self.guard.answers.remove(&token) {
            Some(Answer::Shard(asked, verdict)) => (asked, verdict),
            Some(Answer::Client(index, link, packet)) => return self.speak(index, link, &packet),
            None => return,
        };
        let about = Some((asked.shard, asked.conn));
        if let Some(index) = self.actors.iter().position(|actor| actor.asked == about) {
            if self.actors[index].exchange.renews {
                if !self.renews(index, &verdict) {
                    return;
                }
            } else if let Verdict::Allow { principal, .. } = &verdict {
                // Counted from when the shard takes the answer, which is soon.
                self.actors[index].lapses = principal.lasts.map(|lasts| self.world.now().after(lasts));
            }
        }
        self.guard.desk.answer(asked.shard, asked.conn, verdict);
        self.world.wake_shards();
    }

    fn speak(&mut self, index: ClientIndex, link: LinkId, packet: &Packet) {
        if self.actors[index].client.link == Some(link) {
            self.actors[index].client.push(packet);
            self.flush(index);
        }
    }

    /// CONNACK says no.
    pub(super) fn refused(&mut self, index: ClientIndex, code: u8) {
        assert!(self.plan.asks && index > 1, "the broker refuses client {index} with {code:#04x}");
        assert!(!self.actors[index].habits.steady, "a steady client is always let in");
        let known = [0x87, 0x88, 5, 3].contains(&code) || self.plan.exchanges && DISMISSALS.contains(&code);
        assert!(known, "client {index} is refused with {code:#04x}");
        self.turned_away(index);
    }

    /// A client was not let in: nothing of its session was touched.
    pub(super) fn turned_away(&mut self, index: ClientIndex) {
        let actor = &mut self.actors[index];
        let (link, overtaken, will) = (actor.client.link, actor.overtaken.take(), actor.will.take());
        actor.client.connection_over();
        if let Some(link) = link {
            self.links.remove(&link);
            self.doomed.push(link);
        }
        // What it should have taken over goes on, and nobody listens there any more.
        if let Some(overtaken) = overtaken {
            self.world.reset(overtaken);
        }
        if let Some(number) = will {
            self.model.known(number).will = Some(Fate::Dropped);
        }
    }

    /// When the broker let go of a client whose authentication is over; `None` if it is not.
    pub(super) fn lapsed(&self, index: ClientIndex, now: Time) -> Option<Time> {
        let actor = &self.actors[index];
        actor.lapses.filter(|lapses| actor.client.phase == Phase::Online && *lapses <= now)
    }

    /// Whoever's authentication is over has been let go, also if it began to authenticate again and never went on.
    pub(super) fn nobody_outstays(&self) {
        let now = self.world.now();
        for (index, actor) in self.actors.iter().enumerate() {
            let lapsed = self.lapsed(index, now).filter(|lapsed| lapsed.after(OUTSTAYED) <= now);
            let Some((lapsed, link)) = lapsed.zip(actor.client.link) else { continue };
            // It may not have noticed.
            let is_deaf = self.world.is_stalled(link) || self.world.unsent(link) > 0;
            let stalls = if actor.exchange.renews { ", in the midst of authenticating again" } else { "" };
            assert!(is_deaf, "client {index} stays{stalls}, and its authentication was over at {lapsed:?}");
        }
    }

    /// The broker may have let go of a client, and published its will, before the client notices, or sees CONNACK.
    pub(super) fn release_wills_of_lapsed(&mut self, now: Time) {
        for (index, actor) in self.actors.iter().enumerate() {
            let pending = match actor.client.phase {
                Phase::Connecting => actor.will,
                Phase::Online => self.model.parties[index].will.map(|pending| pending.number),
                Phase::Offline | Phase::Leaving => None,
            };
            if let (Some(number), true) = (pending, actor.lapses.is_some_and(|lapses| lapses <= now)) {
                self.model.known(number).will = Some(Fate::Open);
            }
        }
    }

    /// Sets new rules while whatever was on its way is on its way. From when that has come to rest on, the model goes
    /// by the new ones alone.
    pub(super) fn change_rules(&mut self) {
        let rules = Ruleset(self.rng.range(1, 1_000));
        self.world.tell(|| format!("new rules: {rules:?}"));
        self.model.rules_change(rules, self.world.now());
        self.guard.shared.set_policy(Some(Arc::new(rules.policy(self.actors.len()))));
        self.world.wake_shards();
        self.acting = false;
        for index in WATCHER..self.actors.len() {
            if let Some(link) = self.actors[index].client.link {
                self.world.set_stalled(link, false);
            }
        }
        self.rest();
        self.model.rules_hold();
        self.acting = true;
        for index in 2..self.actors.len() {
            self.wake(index);
        }
    }
}

fn allow(name: &str, lasts: Option<Duration>) -> Verdict {
    let principal = Box::new(Principal { user: Some(name.into()), lasts, ..Principal::default() });
    Verdict::Allow { principal, data: Vec::new() }
}
