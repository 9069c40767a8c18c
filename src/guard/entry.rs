//! Who may come in now: bans, connect rates, connections at once, pressure. One for the process; every shard asks it
//! without waiting for another.

use super::bans::{Ban, Bans, UnixTime};
use super::budget::{Gauge, Pressure};
use super::profile::Classes;
use super::rate::{Rate, SharedBucket};
use super::sketch::{KeyHash, Pacer, Tally, address_key};
use crate::config::{Config, GuardOptions, RateLimit};
use crate::engine::Time;
use arc_swap::ArcSwap;
use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Why somebody does not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// His address is banned.
    Banned,
    /// The listener takes no more connects at the moment.
    ConnectRate,
    /// His address connects too often.
    AddressRate,
    /// The listener has as many connections as it may.
    ListenerConnections,
    /// His address has as many connections as it may.
    AddressConnections,
    /// Memory is short.
    Memory,
    /// The shard is behind.
    Lag,
    /// His user connects too often.
    UserRate,
    /// His user has as many connections as he may.
    UserConnections,
    /// The client connects again and again.
    Flapping,
    /// The process has as many connections as it may.
    Connections,
}

impl Refused {
    /// Every reason, in the order of the counters.
    pub const ALL: [Refused; 11] = [
        Refused::Banned,
        Refused::ConnectRate,
        Refused::AddressRate,
        Refused::ListenerConnections,
        Refused::AddressConnections,
        Refused::Memory,
        Refused::Lag,
        Refused::UserRate,
        Refused::UserConnections,
        Refused::Flapping,
        Refused::Connections,
    ];

    /// The name that counters and logs use.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Banned => "banned",
            Refused::ConnectRate => "connect_rate",
            Refused::AddressRate => "address_rate",
            Refused::ListenerConnections => "listener_connections",
            Refused::AddressConnections => "address_connections",
            Refused::Memory => "memory",
            Refused::Lag => "lag",
            Refused::UserRate => "user_rate",
            Refused::UserConnections => "user_connections",
            Refused::Flapping => "flapping",
            Refused::Connections => "connections",
        }
    }
}

/// What a connection that was let in is counted under. To be given back when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    listener: u16,
    address: Option<KeyHash>,
    on_trial: bool,
}

/// Connections of the process that are let in while memory is short, until their CONNECT says whether they relieve it.
/// What they may take is this many times what a client may send before it is let in (`limits.connect_bytes_max`), for
/// `limits.connect_timeout` at most.
pub const TRIALS_MAX: u32 = 256;

impl Pass {
    /// Of a connection whose address nobody counts.
    pub fn of_listener(listener: u16) -> Pass {
        Pass { listener, address: None, on_trial: false }
    }

    /// True if more than the listener counts it.
    pub fn is_counted(self) -> bool {
        self.address.is_some() || self.on_trial
    }

    /// True if memory was short when it came in, and nobody has decided since whether it stays.
    pub fn is_on_trial(self) -> bool {
        self.on_trial
    }
}

/// The door of a listener.
#[derive(Debug)]
struct Door {
    rate: Option<Rate>,
    bucket: SharedBucket,
    connections: AtomicU32,
    /// 0 is any number.
    connections_max: u32,
}

/// See the module's description.
pub struct Guard {
    doors: Vec<Door>,
    /// Connections by address and by user, each with its limit; `None` where there is no limit.
    per_address: Option<(Tally, u32)>,
    per_user: Option<(Tally, u32)>,
    pace: Option<Pacer>,
    pace_of_users: Option<Pacer>,
    bans: ArcSwap<Bans>,
    /// Raised with each new list of bans.
    bans_version: AtomicU64,
    /// What is added to a shard's clock to get seconds since 1970.
    unix_at_zero: AtomicU64,
    gauge: Gauge,
    /// Connections on trial.
    trials: AtomicU32,
    classes: Classes,
    options: GuardOptions,
    seed: (u64, SharedSeed),
}

impl Guard {
    /// As configured, with nobody inside. `zero` is when the shards' clocks are 0.
    pub fn new(config: &Config, seed: u64, zero: UnixTime) -> Guard {
        let guard = &config.guard;
        let doors = config.listeners.iter().map(|listener| Door {
            rate: listener.connect_rate.0,
            bucket: SharedBucket::default(),
            connections: AtomicU32::new(0),
            connections_max: listener.connections_max,
        });
        let keys = config.limits.connections_max as usize;
        let pacer = |rate: RateLimit| rate.0.map(|rate| Pacer::new(keys, rate));
        let tally = |max: u32| (max > 0).then(|| (Tally::new(keys), max));
        let listeners = config.listeners.iter().map(|listener| &listener.limits);
        Guard {
            doors: doors.collect(),
            per_address: tally(guard.connections_per_address_max),
            per_user: tally(guard.connections_per_user_max),
            pace: pacer(guard.connect_rate_per_address),
            pace_of_users: pacer(guard.connect_rate_per_user),
            bans: ArcSwap::default(),
            bans_version: AtomicU64::new(0),
            unix_at_zero: AtomicU64::new(zero.0),
            gauge: Gauge::default(),
            trials: AtomicU32::new(0),
            classes: Classes::new(&config.limits, &guard.client_ids, listeners, &guard.profiles),
            options: guard.clone(),
            seed: (seed, SharedSeed::from_u64(seed.rotate_left(17))),
        }
    }

    /// True if the address of a client makes a difference to anything here: the transport has to ask for it.
    pub fn wants_addresses(config: &Config) -> bool {
        let guard = &config.guard;
        guard.bans.is_some() || guard.connections_per_address_max > 0 || guard.connect_rate_per_address.0.is_some()
    }

    /// A key's hash, for everything that is kept by hash here.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let mut hasher = FoldHasher::with_seed(self.seed.0, &self.seed.1);
        hasher.write(key);
        KeyHash(hasher.finish())
    }

    /// Somebody wants to come in. `lags`: the shard that asks is behind. While memory is short a few come in on trial: whose
    /// queue fills it, nobody knows before CONNECT.
    ///
    /// # Errors
    ///
    /// He may not, for this reason; nothing is counted under his name.
    pub fn enter(&self, now: Time, listener: u16, address: Option<IpAddr>, lags: bool) -> Result<Pass, Refused> {
        if lags {
            return Err(Refused::Lag);
        }
        let on_trial = self.gauge.level() >= Pressure::RefuseConnections;
        if on_trial && self.trials.load(Relaxed) >= TRIALS_MAX {
            return Err(Refused::Memory);
        }
        // First by address: what one of them is refused is not to use up what the listener has for all.
        address.map_or(Ok(()), |address| self.comes_from(now, address))?;
        let door = self.doors.get(usize::from(listener));
        if let Some((door, rate)) = door.and_then(|door| Some((door, door.rate?))) {
            rate.take_shared(&door.bucket, now).map_err(|_| Refused::ConnectRate)?;
        }
        let mut pass = self.count_in(listener, address);
        let mut refused = self.is_full(pass);
        if on_trial && refused.is_none() {
            pass.on_trial = true;
            refused = (self.trials.fetch_add(1, Relaxed) >= TRIALS_MAX).then_some(Refused::Memory);
        }
        if refused.is_some() {
            self.leave(pass);
        }
        refused.map_or(Ok(pass), Err)
    }

    /// Bans and rates by address.
    fn comes_from(&self, now: Time, address: IpAddr) -> Result<(), Refused> {
        if self.bans.load().address(address, self.unix(now)).is_some() {
            return Err(Refused::Banned);
        }
        let Some(pace) = &self.pace else { return Ok(()) };
        pace.take(self.hash(&address_key(address)), now).map_err(|_| Refused::AddressRate)
    }

    /// Somebody who came in through a proxy turns out to come from this address.
    ///
    /// # Errors
    ///
    /// From there he may not come; his pass is what it was.
    pub fn comes_through(&self, now: Time, pass: Pass, address: IpAddr) -> Result<Pass, Refused> {
        self.comes_from(now, address)?;
        let Some((tally, max)) = &self.per_address else { return Ok(pass) };
        let key = self.hash(&address_key(address));
        if tally.add(key) > *max {
            tally.remove(key);
            return Err(Refused::AddressConnections);
        }
        Ok(Pass { address: Some(key), ..pass })
    }

    fn count_in(&self, listener: u16, address: Option<IpAddr>) -> Pass {
        let address = address.filter(|_| self.per_address.is_some()).map(|address| self.hash(&address_key(address)));
        if let Some(door) = self.doors.get(usize::from(listener)) {
            door.connections.fetch_add(1, Relaxed);
        }
        if let (Some((tally, _)), Some(key)) = (&self.per_address, address) {
            tally.add(key);
        }
        Pass { listener, address, on_trial: false }
    }

    fn is_full(&self, pass: Pass) -> Option<Refused> {
        let door = self.doors.get(usize::from(pass.listener));
        if door.is_some_and(|door| door.connections_max > 0 && door.connections.load(Relaxed) > door.connections_max) {
            return Some(Refused::ListenerConnections);
        }
        let (tally, max) = self.per_address.as_ref()?;
        (tally.count(pass.address?) > *max).then_some(Refused::AddressConnections)
    }

    /// It was decided whether a connection stays, if that was still open.
    pub fn end_trial(&self, pass: &mut Pass) {
        if std::mem::take(&mut pass.on_trial) {
            self.trials.fetch_sub(1, Relaxed);
        }
    }

    /// A connection that came in has ended.
    pub fn leave(&self, mut pass: Pass) {
        self.end_trial(&mut pass);
        if let Some(door) = self.doors.get(usize::from(pass.listener)) {
            door.connections.fetch_sub(1, Relaxed);
        }
        if let (Some((tally, _)), Some(key)) = (&self.per_address, pass.address) {
            tally.remove(key);
        }
    }

    /// True if this user may connect once more now.
    pub fn user_may_connect(&self, now: Time, user: &str) -> bool {
        self.pace_of_users.as_ref().is_none_or(|pace| pace.take(self.hash(user.as_bytes()), now).is_ok())
    }

    /// A connection of this user begins. `None`: he has as many as he may; `Some` is to be given back when it ends.
    pub fn enter_user(&self, user: &str) -> Option<UserPass> {
        let Some((tally, max)) = &self.per_user else { return Some(UserPass(None)) };
        let key = self.hash(user.as_bytes());
        if tally.add(key) > *max {
            tally.remove(key);
            return None;
        }
        Some(UserPass(Some(key)))
    }

    /// As [`enter_user`](Self::enter_user), however many there are: another one of his is about to end for it.
    pub fn succeed_user(&self, user: &str) -> UserPass {
        UserPass(self.per_user.as_ref().map(|(tally, _)| {
            let key = self.hash(user.as_bytes());
            tally.add(key);
            key
        }))
    }

    /// True if this was given for a connection of this user.
    pub fn is_of(&self, pass: UserPass, user: &str) -> bool {
        pass.0 == Some(self.hash(user.as_bytes()))
    }

    /// A connection of a user ended.
    pub fn leave_user(&self, pass: UserPass) {
        if let (Some((tally, _)), Some(key)) = (&self.per_user, pass.0) {
            tally.remove(key);
        }
    }

    /// The ban that keeps this client out, by its identifier or its user name.
    pub fn ban_of(&self, now: Time, client_id: &str, user: Option<&str>) -> Option<Ban> {
        // There never was a list.
        if self.bans_version() == 0 {
            return None;
        }
        let (bans, now) = (self.bans.load(), self.unix(now));
        bans.client(client_id, now).or_else(|| bans.user(user?, now)).cloned()
    }

    /// The ban that keeps this address out.
    pub fn ban_of_address(&self, now: Time, address: IpAddr) -> Option<Ban> {
        self.bans.load().address(address, self.unix(now)).cloned()
    }

    /// A new list holds from now on, and the wall clock says this. Shards see it by [`bans_version`](Self::bans_version).
    pub fn set_bans(&self, bans: Bans, zero: UnixTime) {
        self.unix_at_zero.store(zero.0, Relaxed);
        self.bans.store(Arc::new(bans));
        self.bans_version.fetch_add(1, Relaxed);
    }

    /// The wall clock says this now: it was set, or the host slept, which the shards' clocks do not see.
    pub fn set_clock(&self, zero: UnixTime) {
        self.unix_at_zero.store(zero.0, Relaxed);
    }

    /// Changes when the list of bans does.
    pub fn bans_version(&self) -> u64 {
        self.bans_version.load(Relaxed)
    }

    fn unix(&self, now: Time) -> UnixTime {
        UnixTime(self.unix_at_zero.load(Relaxed).saturating_add(now.0 / 1_000_000_000))
    }

    /// How short memory is.
    pub fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// As configured.
    pub fn options(&self) -> &GuardOptions {
        &self.options
    }

    /// Which limits hold for whom.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }
}

/// What a connection is counted under for its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserPass(Option<KeyHash>);

impl UserPass {
    /// True if it has to be given back.
    pub fn is_counted(self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bans::Target;
    use super::super::budget::Budget;
    use super::*;
    use crate::config::Listener;
    use std::time::Duration;

    const NOW: Time = Time(5_000_000_000);

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn rate(burst: u64) -> RateLimit {
        RateLimit(Rate::new(1, Duration::from_secs(1), burst))
    }

    fn guard(set: impl FnOnce(&mut Config)) -> Guard {
        let mut config = Config::default();
        config.listeners.push(Listener::default());
        set(&mut config);
        Guard::new(&config, 7, UnixTime(1000))
    }

    #[test]
    fn a_listener_takes_so_many_connects_and_another_one_its_own() {
        let guard = guard(|config| config.listeners[0].connect_rate = rate(2));
        let enter = |listener| guard.enter(NOW, listener, None, false).map(drop);
        assert_eq!([enter(0), enter(0), enter(0)], [Ok(()), Ok(()), Err(Refused::ConnectRate)]);
        assert_eq!(enter(1), Ok(()));
        assert_eq!(guard.enter(NOW.after(Duration::from_secs(1)), 0, None, false).map(drop), Ok(()));
    }

    #[test]
    fn what_one_address_is_refused_does_not_use_up_what_others_have() {
        let guard = guard(|config| {
            config.listeners[0].connect_rate = rate(3);
            config.guard.connect_rate_per_address = rate(2);
        });
        let enter = |from| guard.enter(NOW, 0, address(from), false).map(drop);
        assert_eq!([enter("192.0.2.1"), enter("192.0.2.1")], [Ok(()), Ok(())]);
        (0..100).for_each(|_| assert_eq!(enter("192.0.2.1"), Err(Refused::AddressRate)));
        assert_eq!(enter("192.0.2.2"), Ok(()));
        assert_eq!(enter("192.0.2.3"), Err(Refused::ConnectRate));
    }

    #[test]
    fn connections_at_once_are_counted_until_they_end() {
        let guard = guard(|config| {
            config.guard.connections_per_address_max = 2;
            config.listeners[1].connections_max = 1;
        });
        let enter = |listener, from| guard.enter(NOW, listener, address(from), false);
        let first = enter(0, "192.0.2.1").unwrap();
        enter(0, "192.0.2.1").unwrap();
        assert_eq!(enter(0, "192.0.2.1"), Err(Refused::AddressConnections));
        guard.leave(first);
        let other = enter(1, "192.0.2.1").unwrap();
        assert_eq!(enter(1, "192.0.2.9"), Err(Refused::ListenerConnections));
        guard.leave(other);
        assert!(enter(1, "192.0.2.9").is_ok());
    }

    #[test]
    fn a_user_has_no_more_connections_than_he_may() {
        let guard = guard(|config| config.guard.connections_per_user_max = 1);
        let first = guard.enter_user("u").unwrap();
        assert!(guard.enter_user("u").is_none());
        assert!(guard.enter_user("v").is_some());
        guard.leave_user(first);
        assert!(guard.enter_user("u").is_some());
    }

    #[test]
    fn a_ban_holds_from_when_the_list_is_set_until_it_ends() {
        let guard = guard(|_| {});
        let ban = |target, until| Ban::new(target, Some(UnixTime(until)), "why".to_owned()).unwrap();
        let list = vec![ban(Target::address("192.0.2.0/24").unwrap(), 1006), ban(Target::User("u".into()), 1006)];
        assert!(guard.enter(NOW, 0, address("192.0.2.1"), false).is_ok());
        let before = guard.bans_version();
        guard.set_bans(Bans::new(list).unwrap(), UnixTime(1000));
        assert_ne!(guard.bans_version(), before);
        assert_eq!(guard.enter(NOW, 0, address("192.0.2.1"), false), Err(Refused::Banned));
        assert_eq!(guard.ban_of(NOW, "c", Some("u")).map(|ban| ban.reason), Some("why".to_owned()));
        assert!(guard.ban_of(NOW, "c", None).is_none());
        let later = NOW.after(Duration::from_secs(1));
        assert!(
            guard.enter(later, 0, address("192.0.2.1"), false).is_ok() && guard.ban_of(later, "c", Some("u")).is_none()
        );
    }

    #[test]
    fn a_ban_ends_by_the_wall_clock_also_when_the_host_has_slept_or_its_clock_was_set() {
        let guard = guard(|_| {});
        let ban = Ban::new(Target::User("u".into()), Some(UnixTime(2000)), String::new()).unwrap();
        guard.set_bans(Bans::new(vec![ban]).unwrap(), UnixTime(1000));
        let banned = || guard.ban_of(NOW, "c", Some("u")).is_some();
        assert!(banned());
        guard.set_clock(UnixTime(1994));
        assert!(banned(), "it is 1999");
        guard.set_clock(UnixTime(1995));
        assert!(!banned(), "it is 2000, after the five seconds that shards saw");
        guard.set_clock(UnixTime(500));
        assert!(banned(), "a clock that was ahead is set right");
    }

    #[test]
    fn while_memory_is_short_few_come_in_and_only_until_it_is_known_who_they_are() {
        let guard = guard(|_| {});
        guard.gauge().update(Budget::new(100).unwrap(), 75, NOW);
        let mut passes: Vec<Pass> = (0..TRIALS_MAX).map(|_| guard.enter(NOW, 0, None, false).unwrap()).collect();
        assert!(passes.iter().all(|pass| pass.is_on_trial()));
        assert_eq!(guard.enter(NOW, 0, None, false), Err(Refused::Memory));
        assert_eq!(guard.enter(NOW, 0, None, false), Err(Refused::Memory), "who is refused takes no place");
        guard.end_trial(&mut passes[0]);
        guard.leave(passes[1]);
        guard.leave(passes[0]);
        let free = (0..5).filter(|_| guard.enter(NOW, 0, None, false).is_ok()).count();
        assert_eq!(free, 2, "each is given back once");
        let later = NOW.after(Duration::from_secs(10));
        guard.gauge().update(Budget::new(100).unwrap(), 10, later);
        assert_eq!(guard.enter(later, 0, None, true), Err(Refused::Lag));
        assert!(guard.enter(later, 0, None, false).is_ok_and(|pass| !pass.is_on_trial()));
    }
}
