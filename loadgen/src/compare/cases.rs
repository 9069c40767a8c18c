//! What a comparison does: which scenarios, against whom, on which CPUs.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::brokers::{self, Spec};
use super::scaling::{self, Traffic};
use super::trial::{Load, Subject};
use crate::plan::{Overrides, Plan, Scenario, Transport};

/// The scenario that starts a broker, looks at its memory and does nothing.
const START: &str = "start";
/// How many shards or threads a broker has then.
const START_SHARDS: usize = 2;

/// What is run when nobody says what: everything that two brokers are compared by, and what says how much a client costs.
pub const DEFAULT: [&str; 12] = [
    "p2p",
    "p2p-qos1",
    "p2p-qos2",
    "unbatched",
    "unbatched-qos1",
    "fan-out",
    "fan-in",
    "connect-subscribe",
    "idle",
    "open-20k-8000",
    "open-50k-1000",
    START,
];

/// A scenario and who is measured in it, the one that ratios are to first.
#[derive(Clone, Debug)]
pub struct Case {
    /// The scenario's name.
    pub name: String,
    /// What is to be done.
    pub load: Load,
    /// By whom.
    pub subjects: Vec<Subject>,
}

/// What the command line says about all of them.
pub struct Choice<'a> {
    /// The brokers.
    pub brokers: &'a [Spec],
    /// Where they run.
    pub broker_cpus: &'a [usize],
    /// Where the generator runs.
    pub generator_cpus: &'a [usize],
    /// What is changed in each scenario.
    pub overrides: &'a Overrides,
    /// The measured window of each scenario, if not its own.
    pub window: Option<Duration>,
    /// The traffic before it, if not its own.
    pub warm_up: Option<Duration>,
}

impl Choice<'_> {
    /// Reads a scenario by its name or file: `start`, `scaling-local`, `scaling-cross`, a preset or a document.
    ///
    /// # Errors
    ///
    /// A scenario that doesn't exist or can't be read.
    pub fn case(&self, name: &str) -> Result<Case, Error> {
        match name {
            START => Ok(self.start()),
            "scaling-local" => self.scaling(Traffic::Local),
            "scaling-cross" => self.scaling(Traffic::Cross),
            _ => self.scenario(name),
        }
    }

    fn scenario(&self, name: &str) -> Result<Case, Error> {
        let plan = Scenario::find(name)?.read(self.overrides)?;
        if plan.transport != Transport::Tcp {
            let carried = plan.transport.name();
            return Err(Error::Usage(format!("{name} is carried by {carried}: brokers are compared on tcp alone")));
        }
        Ok(self.timed(plan, self.subjects(self.broker_cpus)))
    }

    fn start(&self) -> Case {
        let mut cpus: Vec<usize> = self.broker_cpus.iter().chain(self.generator_cpus).copied().collect();
        cpus.dedup();
        cpus.truncate(START_SHARDS);
        Case { name: START.to_owned(), load: Load::Start, subjects: self.subjects(&cpus) }
    }

    fn scaling(&self, traffic: Traffic) -> Result<Case, Error> {
        let subject = |shards: usize| {
            let (broker_cpus, generator_cpus) = scaling::cpus(shards);
            let spec = brokers::spec("ringmq").map_err(Error::Usage)?;
            Ok(Subject { name: format!("ringmq-{shards}"), spec, broker_cpus, generator_cpus })
        };
        let subjects = (1..=usize::from(scaling::SHARDS)).map(subject).collect::<Result<_, Error>>()?;
        Ok(self.timed(scaling::plan(traffic, self.overrides)?, subjects))
    }

    fn subjects(&self, broker_cpus: &[usize]) -> Vec<Subject> {
        let subject = |spec: &Spec| Subject {
            name: spec.name.clone(),
            spec: spec.clone(),
            broker_cpus: broker_cpus.to_vec(),
            generator_cpus: self.generator_cpus.to_vec(),
        };
        self.brokers.iter().map(subject).collect()
    }

    fn timed(&self, mut plan: Plan, subjects: Vec<Subject>) -> Case {
        plan.timing.window = self.window.unwrap_or(plan.timing.window);
        plan.timing.warm_up = self.warm_up.unwrap_or(plan.timing.warm_up);
        Case { name: plan.name.clone(), load: Load::Plan(Arc::new(plan)), subjects }
    }
}
