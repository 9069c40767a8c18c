//! What is under test, and the only place that knows how it is made: the broker's core.

use std::sync::Arc;
use std::time::Duration;

use super::desk::Desk;
use super::plan::Plan;
use super::rules::Ruleset;
use super::simulation::{Guard, START, Simulation};
use crate::config::{Limits, MqttOptions};
use crate::core::{Core, CoreConfig, Shared};
use crate::engine::{Engine, ShardId, Time};

/// An engine that can be asked whether it kept account.
pub trait Audit: Engine {
    /// Nothing matched has disappeared.
    fn conservation(&self) -> Result<(), String>;

    /// Everything it holds that should be nothing when nobody is there any more, by name.
    fn holdings(&self) -> Vec<(&'static str, u64)>;

    /// Deliveries it gave up for a limit.
    fn dropped_for_limits(&self) -> u64;
}

impl Audit for Core {
    fn conservation(&self) -> Result<(), String> {
        Core::conservation(self)
    }

    fn holdings(&self) -> Vec<(&'static str, u64)> {
        let counters = self.counters();
        vec![
            ("connections", counters.connections.load()),
            ("connected", counters.connected.load()),
            ("sessions", counters.sessions.load()),
            ("subscriptions", counters.subscriptions.load()),
            ("shared subscriptions", counters.shared_subscriptions.load()),
            ("retained messages", counters.retained_messages.load()),
            ("retained bytes", counters.retained_bytes.load()),
            ("queued deliveries", counters.queued.load()),
            ("queued bytes", counters.queued_bytes.load()),
            ("deliveries in flight", counters.inflight.load()),
            ("bytes in flight", counters.inflight_bytes.load()),
            ("reassembly bytes", counters.reassembly_bytes.load()),
            ("slots", self.connections() as u64),
        ]
    }

    fn dropped_for_limits(&self) -> u64 {
        use crate::core::counters::DropReason::{QueueBytes, QueueMessages, SlowReader};
        [QueueBytes, QueueMessages, SlowReader]
            .iter()
            .map(|reason| self.counters().dropped[*reason as usize].load())
            .sum()
    }
}

/// A run of a plan on the broker's cores.
pub fn simulation(plan: Plan, trace: bool) -> Simulation<Core> {
    let shared = Arc::new(Shared::new(plan.shards, plan.seed));
    if plan.rule_changes > 0 {
        // Rules are in force from the start, as in a broker that has any.
        shared.set_policy(Some(Arc::new(Ruleset::default().policy(0))));
    }
    let guard = Guard::new(shared.clone(), Desk::new());
    let (limits, mqtt, desk) = (plan.limits.clone(), plan.mqtt.clone(), plan.asks.then_some(&guard.desk));
    let cores = guarded_cores(shared, limits, mqtt, None, plan.seed, START, desk);
    Simulation::new(plan, cores, guard, trace)
}

/// The cores of a whole broker that knows nobody yet.
pub fn cores(shards: u16, limits: Limits, mqtt: MqttOptions, sys: Option<Duration>, seed: u64, now: Time) -> Vec<Core> {
    guarded_cores(Arc::new(Shared::new(shards, seed)), limits, mqtt, sys, seed, now, None)
}

/// The same of a broker that authenticates its clients at a desk, if one is given; `shared` takes the rules.
pub fn guarded_cores(
    shared: Arc<Shared>,
    limits: Limits,
    mqtt: MqttOptions,
    sys: Option<Duration>,
    seed: u64,
    now: Time,
    desk: Option<&Desk>,
) -> Vec<Core> {
    let shards = shared.counters.len() as u16;
    let (limits, mqtt) = (Arc::new(limits), Arc::new(mqtt));
    let core = |shard| {
        let core = Core::new(CoreConfig {
            shard: ShardId(shard),
            shared: shared.clone(),
            limits: limits.clone(),
            mqtt: mqtt.clone(),
            sys_interval: sys,
            seed: seed ^ u64::from(shard),
            now,
        });
        match desk {
            Some(desk) => core.with_authenticator(desk.authenticator(usize::from(shard))),
            None => core,
        }
    };
    (0..shards).map(core).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::LEAVES_OUT;

    /// Whatever else the thread may run is without the fault.
    struct Reset;

    impl Drop for Reset {
        fn drop(&mut self) {
            LEAVES_OUT.set(0);
        }
    }

    #[test]
    #[should_panic(expected = "which the rules deny")]
    fn a_broker_that_does_not_hold_one_subscription_in_twenty_against_new_rules_is_caught() {
        let _reset = Reset;
        LEAVES_OUT.set(20);
        for plan in (0..100).map(Plan::new).filter(|plan| plan.rule_changes > 0) {
            simulation(plan, false).run();
        }
    }
}
