//! Nobody can hurt the others: what the guard says is carried out, and given back.

mod door;
mod drip;
mod memory;
mod rates;
mod slow;
mod told;

use super::*;
use crate::auth::{Authenticator, Busy, Principal, Question, Verdict};
use crate::codec::{Ack, Will};
use crate::config::{ClientLimits, Config, MemoryBudget, Profile, RateLimit};
use crate::engine::{Certificate, Peer};
use crate::guard::bans::{Ban, Bans, Target, UnixTime};
use crate::guard::budget::Pressure;
use crate::guard::entry::{Guard, Refused, TRIALS_MAX};
use crate::guard::glob::Glob;
use crate::guard::rate::Rate;

const V5: ProtocolVersion = ProtocolVersion::V5;

pub(super) fn guarded(shards: u16, set: impl FnOnce(&mut Config)) -> (Broker, Arc<Guard>) {
    guarded_that_tells(shards, None, set)
}

/// A broker that publishes its figures ever so often.
fn guarded_that_tells(
    shards: u16,
    sys_interval: Option<Duration>,
    set: impl FnOnce(&mut Config),
) -> (Broker, Arc<Guard>) {
    let mut config = Config::default();
    set(&mut config);
    let guard = Arc::new(Guard::new(&config, 7, UnixTime(1000)));
    let shared = Arc::new(Shared::new(shards, 7));
    shared.set_guard(guard.clone());
    let (limits, mqtt) = (Arc::new(config.limits), Arc::new(config.mqtt));
    let core = |shard| {
        Core::new(CoreConfig {
            shard: ShardId(shard),
            shared: shared.clone(),
            limits: limits.clone(),
            mqtt: mqtt.clone(),
            sys_interval,
            seed: u64::from(shard),
            now: Time(0),
        })
    };
    (Broker { cores: (0..shards).map(core).collect(), now: Time(0) }, guard)
}

/// A broker that publishes its figures every ten seconds.
fn guarded_with_sys(shards: u16, set: impl FnOnce(&mut Config)) -> Broker {
    guarded_that_tells(shards, Some(Duration::from_secs(10)), set).0
}

fn rate(per_second: u64, burst: u64) -> RateLimit {
    RateLimit(Rate::new(per_second, Duration::from_secs(1), burst))
}

fn effects(broker: &mut Broker) -> Vec<Effect> {
    std::iter::from_fn(|| broker.cores[0].poll_effect()).collect()
}

fn is_pause(effect: &Effect) -> bool {
    matches!(effect, Effect::PauseReceive(_))
}

/// A CONNECT to the first shard, of a client that is not handed over; what it is told.
fn connect_told(broker: &mut Broker, packet: Connect<'_>) -> Vec<String> {
    let Some(conn) = broker.cores[0].open(broker.now, 0, None) else { return vec!["refused".to_owned()] };
    let client = Client { shard: 0, conn, version: packet.version };
    broker.send(client, &Packet::Connect(Box::new(packet)));
    let told = broker.read(client);
    effects(broker);
    told
}

/// Lets everybody in, in this role.
struct Role(&'static str, Vec<ConnId>);

impl Authenticator for Role {
    fn ask(&mut self, conn: ConnId, _: Question) -> Result<(), Busy> {
        self.1.push(conn);
        Ok(())
    }
    fn poll(&mut self) -> Option<(ConnId, Verdict)> {
        let principal = Principal { user: Some("u".into()), roles: vec![self.0.into()], ..Principal::default() };
        Some((self.1.pop()?, Verdict::Allow { principal: Box::new(principal), data: Vec::new() }))
    }
    fn forget(&mut self, _: ConnId) {}
}
