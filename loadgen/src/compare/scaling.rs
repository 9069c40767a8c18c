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

use ringmq::core::Shared;
use ringmq::engine::ShardId;

use super::Error;
use super::brokers::SEED;
use crate::plan::{Overrides, Plan, Scenario};

/// The largest number of shards that is compared.
pub const SHARDS: u16 = 2;
/// Pairs of clients: as many on either shard.
const PAIRS: u16 = 100;

/// 32 messages under way for each pair are enough for a shard never to wait.
const DOCUMENT: &str = r#"
about = "ABOUT"

[groups.subscribers]
count = PAIRS
client_id = "%{i:SUBSCRIBERS}"
subscribe = [{ filter = "scaling/%i", qos = 0 }]

[groups.publishers]
count = PAIRS
client_id = "%{i:PUBLISHERS}"
publish = [{ topic = "scaling/%i", qos = 0, payload = 64, outstanding = 32 }]
"#;

/// Where the two clients of a pair live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Both on one shard.
    Local,
    /// On different shards.
    Cross,
}

/// The plan.
///
/// # Errors
///
/// Overrides that mean nothing here.
pub fn plan(traffic: Traffic, overrides: &Overrides) -> Result<Plan, Error> {
    let (name, about) = match traffic {
        Traffic::Local => ("scaling-local", "pairs of clients that live on the same of 2 shards"),
        Traffic::Cross => ("scaling-cross", "pairs of clients that live on different ones of 2 shards"),
    };
    let homes = Homes::new();
    let subscriber = |pair: u16| homes.client("to", pair, ShardId(pair % SHARDS));
    let publisher = |pair: u16| homes.client("from", pair, publisher_home(traffic, pair));
    let words = |client: &dyn Fn(u16) -> String| (0..PAIRS).map(client).collect::<Vec<_>>().join("|");
    let text = DOCUMENT.replace("ABOUT", about).replace("PAIRS", &PAIRS.to_string());
    let text = text.replace("SUBSCRIBERS", &words(&subscriber)).replace("PUBLISHERS", &words(&publisher));
    Ok(Plan { name: name.to_owned(), ..Scenario::from_text(name, text).read(overrides)? })
}

fn publisher_home(traffic: Traffic, pair: u16) -> ShardId {
    match traffic {
        Traffic::Local => ShardId(pair % SHARDS),
        Traffic::Cross => ShardId((pair + 1) % SHARDS),
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

    /// Of the subscriber and the publisher of each pair.
    fn homes(traffic: Traffic) -> Vec<(ShardId, ShardId)> {
        let plan = plan(traffic, &Overrides::default()).unwrap();
        let homes = Homes::new();
        let ids = |group: usize| -> Vec<ShardId> {
            let template = &plan.groups[group].client_id;
            let words = template.trim_start_matches("%{i:").trim_end_matches('}').split('|');
            words.map(|id| homes.0.home(id)).collect()
        };
        assert_eq!(plan.groups.iter().map(|group| group.count).collect::<Vec<_>>(), [100, 100]);
        ids(0).into_iter().zip(ids(1)).collect()
    }

    #[test]
    fn local_pairs_live_together_and_on_both_shards_alike() {
        let homes = homes(Traffic::Local);
        assert!(homes.len() == 100 && homes.iter().all(|(to, from)| to == from));
        assert_eq!(homes.iter().filter(|(to, _)| *to == ShardId(0)).count(), usize::from(PAIRS) / 2);
    }

    #[test]
    fn cross_pairs_live_apart_and_both_shards_receive_alike() {
        let homes = homes(Traffic::Cross);
        assert!(homes.len() == 100 && homes.iter().all(|(to, from)| to != from));
        assert_eq!(homes.iter().filter(|(to, _)| *to == ShardId(0)).count(), usize::from(PAIRS) / 2);
    }
}
