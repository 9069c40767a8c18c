//! Whether a run kept what MQTT promises: each check that failed, with its count.

use serde::Serialize;

use super::Report;

/// Something that went wrong, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In words that follow the count: "lost at QoS 1".
    pub what: &'static str,
    /// How often.
    pub count: u64,
}

/// The outcome of all checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What makes the run a failure.
    pub failed: Vec<Finding>,
    /// What MQTT allows, but a reader wants to know.
    pub told: Vec<Finding>,
}

impl Verdict {
    /// True when no check failed: the exit code is 0.
    pub fn passed(&self) -> bool {
        self.failed.is_empty()
    }
}

impl Report {
    /// Which checks failed. Loss at QoS 0, which MQTT allows, fails only where `strict`.
    pub fn verdict(&self, strict: bool) -> Verdict {
        let (faults, whole) = (self.summary.faults, self.summary.whole);
        let mut checks = vec![
            ("lost at QoS 1", faults.lost_qos1),
            ("lost at QoS 2", faults.lost_qos2),
            ("duplicated", faults.duplicated),
            ("out of order", faults.reordered),
            ("corrupted", faults.corrupted),
            ("wrongly acknowledged", faults.misacknowledged),
            ("connections dropped", whole.dropped),
            ("connections failed", whole.connect_failed),
            ("refused (CONNACK or SUBACK)", whole.refused),
            ("publications rejected", whole.rejected),
        ];
        let mut allowed = vec![("delivered again after a reconnect", faults.redelivered)];
        let lost_qos0 = ("lost at QoS 0", faults.lost_qos0);
        if strict {
            checks.insert(0, lost_qos0)
        } else {
            allowed.insert(0, lost_qos0)
        };
        let found = |checks: Vec<(&'static str, u64)>| {
            checks.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| Finding { what, count }).collect()
        };
        let mut verdict = Verdict { failed: found(checks), told: found(allowed) };
        let unexplained = self.failures.len() as u64;
        if verdict.passed() && unexplained > 0 {
            verdict.failed.push(Finding { what: "failures told below", count: unexplained });
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_broken_promise_fails_the_run() {
        let breaks: [(&str, fn(&mut Report)); 10] = [
            ("lost at QoS 1", |report| report.summary.faults.lost_qos1 = 3),
            ("lost at QoS 2", |report| report.summary.faults.lost_qos2 = 3),
            ("duplicated", |report| report.summary.faults.duplicated = 3),
            ("out of order", |report| report.summary.faults.reordered = 3),
            ("corrupted", |report| report.summary.faults.corrupted = 3),
            ("wrongly acknowledged", |report| report.summary.faults.misacknowledged = 3),
            ("connections dropped", |report| report.summary.whole.dropped = 3),
            ("connections failed", |report| report.summary.whole.connect_failed = 3),
            ("refused (CONNACK or SUBACK)", |report| report.summary.whole.refused = 3),
            ("publications rejected", |report| report.summary.whole.rejected = 3),
        ];
        for (what, fault) in breaks {
            let mut report = samples::report();
            assert!(report.verdict(true).passed());
            fault(&mut report);
            assert_eq!(report.verdict(false).failed, [Finding { what, count: 3 }]);
        }
    }

    #[test]
    fn loss_at_qos_0_is_told_and_fails_only_when_strict() {
        let mut report = samples::report();
        report.summary.faults.lost_qos0 = 5;
        let finding = Finding { what: "lost at QoS 0", count: 5 };
        assert_eq!(report.verdict(false), Verdict { failed: vec![], told: vec![finding.clone()] });
        assert_eq!(report.verdict(true).failed, [finding]);
    }

    #[test]
    fn redelivery_after_a_reconnect_is_allowed() {
        let mut report = samples::report();
        report.summary.faults.redelivered = 9;
        let verdict = report.verdict(true);
        assert!(verdict.passed());
        assert_eq!(verdict.told, [Finding { what: "delivered again after a reconnect", count: 9 }]);
    }

    #[test]
    fn a_failure_that_no_count_explains_fails_too() {
        let mut report = samples::report();
        report.failures.push("client 7 received a packet of type 0".to_owned());
        assert!(!report.verdict(false).passed());
    }
}
