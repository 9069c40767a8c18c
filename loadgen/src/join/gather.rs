//! Waiting for the workers: listen, receive each that comes, give each its share.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Error;
use super::message::{Load, Order};
use super::peer::Peer;
use super::workers::Workers;
use crate::engine::{Clock, Slice};
use crate::measure::Sample;
use crate::plan::Plan;

/// How often the operator's wish to stop, and workers that left again, are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Workers that have come, and wait for work.
pub struct Gathering {
    peers: Vec<Peer>,
    samples: (Sender<Sample>, Receiver<Sample>),
    stop: Arc<AtomicBool>,
}

/// Listens at an address until so many workers have come. `tell` is called with what an operator wants to know.
/// A worker whose operator ends it raises `stop`.
///
/// # Errors
///
/// An address that can't be listened on; `stop` raised before all had come.
pub fn gather(
    listen: SocketAddr,
    wanted: usize,
    stop: Arc<AtomicBool>,
    mut tell: impl FnMut(&str),
) -> Result<Gathering, Error> {
    let failed = |source| Error::Listen { address: listen.to_string(), source };
    let listener = TcpListener::bind(listen).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tell(&format!("waiting for {wanted} workers: ringmq-loadgen worker --join {}", reached_at(address)));
    let mut gathering = Gathering { peers: Vec::new(), samples: unbounded(), stop };
    while gathering.peers.len() < wanted {
        if gathering.stop.load(Ordering::Relaxed) {
            let why = Error::Interrupted { missing: wanted - gathering.peers.len() };
            gathering.give_up(&why);
            return Err(why);
        }
        gathering.forget_who_left(&mut tell);
        if let Some((stream, from)) = accept(&listener).map_err(failed)? {
            match Peer::receive(stream, from, gathering.samples.0.clone()) {
                Ok(peer) => gathering.welcome(peer, wanted, &mut tell),
                Err(error) => tell(&format!("{from} did not join: {error}")),
            }
        }
    }
    Ok(gathering)
}

/// What a worker is to be told. Who listens on every address does not say which one leads here.
fn reached_at(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("THIS-HOST:{}", address.port()) } else { address.to_string() }
}

/// Whoever comes within [`LOOK`].
fn accept(listener: &TcpListener) -> io::Result<Option<(std::net::TcpStream, SocketAddr)>> {
    let limit = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    match listener.accept() {
        Ok((stream, from)) => {
            stream.set_nonblocking(false)?;
            Ok(Some((stream, from)))
        }
        // Nobody came, or whoever came has gone again.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
        Err(error) => Err(error),
    }
}

impl Gathering {
    fn welcome(&mut self, peer: Peer, wanted: usize, tell: &mut impl FnMut(&str)) {
        let (count, threads, error) = (self.peers.len() + 1, peer.host.threads, peer.offset.error_ns as f64 / 1e3);
        let clock = match peer.offset.error_ns {
            0 => "same clock".to_owned(),
            _ => format!("clock known to ±{error:.0} µs"),
        };
        let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        tell(&format!("worker {count} of {wanted}: {}, {threads}, {clock}", peer.name));
        self.peers.push(peer);
    }

    fn forget_who_left(&mut self, tell: &mut impl FnMut(&str)) {
        self.peers.retain(|peer| match peer.failure() {
            Some(why) => {
                tell(&format!("worker {} is not waited for any more: {why}", peer.name));
                false
            }
            None => true,
        });
    }

    /// Gives each worker its share of a plan and waits until their threads run. `hosts` is where the broker
    /// is, `tick` and `clock` are those of the run.
    ///
    /// # Errors
    ///
    /// A worker that can't run its share, or is gone.
    pub fn load(mut self, plan: &Plan, hosts: &[SocketAddr], tick: Duration, clock: Clock) -> Result<Workers, Error> {
        self.distribute(plan, hosts, tick, clock).inspect_err(|why| self.give_up(why))?;
        // Only readers send from here on: when all workers are gone, the channel ends.
        let Gathering { peers, samples: (_, samples), stop } = self;
        Ok(Workers::new(peers, samples, stop))
    }

    fn distribute(&mut self, plan: &Plan, hosts: &[SocketAddr], tick: Duration, clock: Clock) -> Result<(), Error> {
        let (of, run) = (self.peers.len() as u32, fastrand::u64(..));
        let mut first_thread = 0;
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let load = Load {
                plan: plan.clone(),
                slice: Slice { index: index as u32, of, first_thread },
                hosts: hosts.to_vec(),
                tick_ns: tick.as_nanos() as u64,
                origin_ns: clock.origin_ns() - peer.offset.ns,
                run,
            };
            first_thread += peer.host.threads;
            let sent = peer.say(&Order::Load(Box::new(load)));
            sent.map_err(|what| Error::Worker { name: peer.name.clone(), what })?;
        }
        for peer in &self.peers {
            peer.loaded().map_err(|what| Error::Worker { name: peer.name.clone(), what })?;
        }
        Ok(())
    }

    /// Sends everybody home. Who is gone already needs no word.
    fn give_up(&mut self, why: &Error) {
        let order = Order::GiveUp { why: why.to_string() };
        self.peers.iter_mut().for_each(|peer| peer.order(&order));
    }
}
