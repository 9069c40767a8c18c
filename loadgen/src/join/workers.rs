//! Joined workers as a crew: each order goes to all of them, and what they say is added up.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::Receiver;
use serde::Serialize;

use super::message::{Host, Order};
use super::peer::Peer;
use crate::engine::{Crew, Error, Outcome, Status};
use crate::measure::Sample;

/// Workers that have been given their shares.
pub struct Workers {
    peers: Vec<Peer>,
    samples: Receiver<Sample>,
    stop: Arc<AtomicBool>,
    roster: Arc<Mutex<Vec<Joined>>>,
}

/// A worker, for reports.
#[derive(Clone, Debug, Serialize)]
pub struct Joined {
    /// Its name and address.
    pub name: String,
    /// Where it runs.
    pub host: Host,
    /// What was added to its clock, in nanoseconds.
    pub clock_offset_ns: i64,
    /// How wrong that, and so a latency between this worker and another, may be, in nanoseconds: half of the shortest
    /// round trip, and what the clocks drifted until the end. 0: the same clock.
    pub clock_error_ns: u64,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.clock_error_ns {
            0 => Ok(()),
            error => write!(f, " (clock known to ±{} µs)", error.div_ceil(1000)),
        }
    }
}

impl Workers {
    pub(super) fn new(peers: Vec<Peer>, samples: Receiver<Sample>, stop: Arc<AtomicBool>) -> Self {
        let joined = |peer: &Peer| Joined {
            name: peer.name.clone(),
            host: peer.host.clone(),
            clock_offset_ns: peer.offset.ns,
            clock_error_ns: peer.offset.error_ns,
        };
        let roster = Arc::new(Mutex::new(peers.iter().map(joined).collect()));
        Self { peers, samples, stop, roster }
    }

    /// Who has joined; [`Crew::finish`] enters what the clocks drifted.
    pub fn roster(&self) -> Arc<Mutex<Vec<Joined>>> {
        Arc::clone(&self.roster)
    }

    fn all(&mut self, order: &Order) {
        self.peers.iter_mut().for_each(|peer| peer.order(order));
    }

    /// Looks at the clocks of other hosts once more, now that they have nothing else to do.
    fn measure_drift(&mut self) {
        let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        for (peer, joined) in self.peers.iter_mut().zip(roster.iter_mut()) {
            let first = peer.offset;
            // A worker that is gone says so when it is asked for its outcome.
            if first.error_ns > 0
                && let Ok(later) = peer.measure_clock()
            {
                joined.clock_error_ns = first.error_ns.max(first.error_seen_by(later));
            }
        }
    }
}

fn failed(peer: &Peer) -> impl FnOnce(String) -> Error {
    let name = peer.name.clone();
    move |what| Error::Worker { name, what }
}

/// Gives workers their last order and adds up what they leave; the first that fails is the error.
fn last_words(mut peers: Vec<Peer>, order: &Order) -> Result<Outcome, Error> {
    peers.iter_mut().for_each(|peer| peer.order(order));
    let mut sum = Ok(Outcome::default());
    // All are heard, so that none is cut off in the middle of its last word.
    for peer in &peers {
        match (peer.finished(), &mut sum) {
            (Ok(outcome), Ok(sum)) => *sum += outcome,
            (Err(what), Ok(_)) => sum = Err(failed(peer)(what)),
            (_, Err(_)) => {}
        }
    }
    sum
}

impl Crew for Workers {
    fn samples(&self) -> &Receiver<Sample> {
        &self.samples
    }

    fn status(&mut self) -> Status {
        let mut sum = Status::default();
        for peer in &self.peers {
            if peer.interrupted() {
                self.stop.store(true, Ordering::Relaxed);
            }
            sum += peer.status().unwrap_or(Status { failed: true, ..Status::default() });
        }
        sum
    }

    fn stage(&mut self, stage: u8) {
        self.all(&Order::Stage(stage));
    }

    fn publish(&mut self, stage: u8) {
        self.all(&Order::Publish(stage));
    }

    fn begin(&mut self, at_ns: u64) {
        self.all(&Order::Begin { at_ns });
    }

    fn stop(&mut self) {
        self.all(&Order::Stop);
    }

    fn sent(&mut self) -> Result<Vec<u32>, Error> {
        self.all(&Order::Sent);
        let mut sum: Vec<u32> = Vec::new();
        for peer in &self.peers {
            let sent = peer.sent().map_err(failed(peer))?;
            if sum.is_empty() {
                sum = sent;
            } else if sum.len() == sent.len() {
                sum.iter_mut().zip(sent).for_each(|(sum, sent)| *sum += sent);
            } else {
                return Err(failed(peer)(format!("counts {} flows, another worker {}", sent.len(), sum.len())));
            }
        }
        Ok(sum)
    }

    fn settle(&mut self, sent: &[u32]) {
        self.all(&Order::Settle { sent: sent.to_vec() });
    }

    fn leave(&mut self) {
        self.all(&Order::Leave);
    }

    fn finish(mut self: Box<Self>) -> Result<Outcome, Error> {
        self.measure_drift();
        // Who is gone is named first: whatever the others say is a consequence.
        let gone = self.peers.iter().find_map(|peer| peer.failure().map(failed(peer)));
        let (failing, others): (Vec<_>, Vec<_>) = self.peers.into_iter().partition(Peer::has_failed);
        // Then, in their own words, who can't go on.
        let first = match (gone, last_words(failing, &Order::Finish)) {
            (Some(gone), _) => Err(gone),
            (None, said) => said,
        };
        let order = match &first {
            Ok(_) => Order::Finish,
            // Else its clients' share would look like a success where it ran.
            Err(why) => Order::GiveUp { why: why.to_string() },
        };
        let second = last_words(others, &order);
        let mut sum = first?;
        sum += second?;
        Ok(sum)
    }
}
