//! Two shards against one: what a second shard adds when its clients keep to themselves, and when every message
//! has to change shards.
//!
//! A client lives on the shard that its identifier hashes to. The broker is started with a known hash seed, so that the
//! plan can choose identifiers: of each pair, both on one shard (*local*), or one on either (*cross*). The very
//! same plan then runs against one shard and against two.
//!
//! What is compared is capacity: messages per second of the broker's CPU time, times its shards, each arrangement loaded
//! until it is busy. On a machine with CPUs to spare that is what it delivers. On one with only as many CPUs as
//! shards the generator has to share them, one thread beside each shard in either arrangement; the time it takes away is
//! then not held against the broker, but its effect on caches and on batches (a shard that waits for its CPU finds more
//! to do at once) is in the figure, on both sides alike.

use std::num::NonZero;
use std::thread;
use std::time::Duration;

use ringmq::core::Shared;
use ringmq::engine::ShardId;

use super::brokers::SEED;
use crate::plan::{Group, Pace, Payload, Plan, Presence, Publication, Subscription, Timing};

/// The largest number of shards that is compared.
pub const SHARDS: u16 = 2;
/// Pairs of clients: as many on either shard.
const PAIRS: u16 = 100;
/// Messages that each pair keeps under way: enough for a shard never to wait.
const OUTSTANDING: u32 = 32;

/// How long it takes, unless told otherwise.
pub const TIMING: Timing = Timing {
    connect_rate: None,
    connecting: 64,
    warm_up: Duration::from_secs(1),
    window: Duration::from_secs(4),
    patience: Duration::from_secs(5),
};

/// Where the two clients of a pair live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Both on one shard.
    Local,
    /// On different shards.
    Cross,
}

/// The plan.
pub fn plan(traffic: Traffic, timing: Timing) -> Plan {
    let (name, about) = match traffic {
        Traffic::Local => ("scaling-local", "pairs of clients that live on the same of 2 shards"),
        Traffic::Cross => ("scaling-cross", "pairs of clients that live on different ones of 2 shards"),
    };
    let homes = Homes::new();
    let groups = |pair: u16| {
        let to = ShardId(pair % SHARDS);
        let from = match traffic {
            Traffic::Local => to,
            Traffic::Cross => ShardId(1 - pair % SHARDS),
        };
        let topic = format!("scaling/{pair}");
        [
            subscriber(pair, &topic, homes.client("to", pair, to)),
            publisher(pair, &topic, homes.client("from", pair, from)),
        ]
    };
    Plan {
        name: name.to_owned(),
        about: about.to_owned(),
        groups: (0..PAIRS).flat_map(groups).collect(),
        timing,
        verify: true,
    }
}

/// Which shard a client identifier lives on.
struct Homes(Shared);

impl Homes {
    fn new() -> Self {
        Self(Shared::new(SHARDS, SEED))
    }

    /// An identifier that lives on `home`.
    fn client(&self, side: &str, pair: u16, home: ShardId) -> String {
        let candidates = (0_u32..).map(|attempt| format!("scaling-{side}-{pair}-{attempt}"));
        candidates.into_iter().find(|id| self.0.home(id) == home).expect("a hash that leaves out no shard")
    }
}

fn subscriber(pair: u16, topic: &str, client_id: String) -> Group {
    let subscription = Subscription {
        filter: topic.to_owned(),
        qos: 0,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    Group { subscribe: vec![subscription], ..client(format!("to-{pair}"), 0, client_id) }
}

fn publisher(pair: u16, topic: &str, client_id: String) -> Group {
    let publication = Publication {
        topic: topic.to_owned(),
        topics: 1,
        qos: 0,
        retain: false,
        payload: Payload::Bytes(64),
        pace: Pace::Outstanding(OUTSTANDING),
        limit: None,
        message_expiry: None,
        user_properties: Vec::new(),
    };
    Group { publish: vec![publication], ..client(format!("from-{pair}"), 1, client_id) }
}

/// A group of one.
fn client(name: String, stage: u8, client_id: String) -> Group {
    Group {
        name,
        count: 1,
        stage,
        version: 4,
        client_id,
        user: None,
        password: None,
        keep_alive: 300,
        clean: true,
        session_expiry: None,
        receive_maximum: None,
        user_properties: Vec::new(),
        will: None,
        subscribe: Vec::new(),
        publish: Vec::new(),
        presence: Presence::Always,
    }
}

/// The CPUs of broker and generator for so many shards: apart where the machine has enough, else one shard and one
/// generator thread on each CPU.
pub fn cpus(shards: usize) -> (Vec<usize>, Vec<usize>) {
    let all = thread::available_parallelism().map_or(1, NonZero::get);
    let broker: Vec<usize> = (0..shards).collect();
    let most = usize::from(SHARDS);
    if all < 2 * most {
        return (broker.clone(), broker);
    }
    (broker, (most..2 * most).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes(traffic: Traffic) -> Vec<(ShardId, ShardId)> {
        let plan = plan(traffic, TIMING);
        let homes = Homes::new();
        let of = |group: &Group| homes.0.home(&group.client_id);
        plan.groups.chunks(2).map(|pair| (of(&pair[0]), of(&pair[1]))).collect()
    }

    #[test]
    fn local_pairs_live_together_and_on_both_shards_alike() {
        let homes = homes(Traffic::Local);
        assert!(homes.iter().all(|(to, from)| to == from));
        assert_eq!(homes.iter().filter(|(to, _)| *to == ShardId(0)).count(), usize::from(PAIRS) / 2);
    }

    #[test]
    fn cross_pairs_live_apart_and_both_shards_receive_alike() {
        let homes = homes(Traffic::Cross);
        assert!(homes.iter().all(|(to, from)| to != from));
        assert_eq!(homes.iter().filter(|(to, _)| *to == ShardId(0)).count(), usize::from(PAIRS) / 2);
    }
}
