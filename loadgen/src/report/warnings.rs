//! What a reader must know before believing the figures of a run.

use super::Summary;
use super::units::{Count, Digits, Micros};
use crate::plan::{Pace, Plan};

/// From this share of its core on, a generator thread may have been what limited the run.
const BUSY_PERCENT_LIMIT: f64 = 85.0;

/// Less than this share of what was asked for is told.
const REACHED_PERCENT: f64 = 99.0;

/// More CPU time than this share that the hypervisor kept makes figures doubtful.
const STOLEN_PERCENT_LIMIT: f64 = 1.0;

/// Waiting longer than this share of the window for a CPU that others had makes figures doubtful.
const WAITED_PERCENT_LIMIT: f64 = 5.0;

/// A window may be shorter than asked for by rounding to ticks.
const WINDOW_SECONDS_TOLERANCE: f64 = 0.011;

/// All warnings of a run.
pub fn of(plan: &Plan, summary: &Summary) -> Vec<String> {
    let mut warnings = window(summary);
    warnings.extend(busy(summary));
    warnings.extend(rate(plan, summary));
    warnings.extend(machine(summary));
    if !summary.verified && plan.groups.iter().any(|group| !group.publish.is_empty()) {
        warnings.push("not verified: loss, duplicates, order and payloads were not checked".to_owned());
    }
    warnings
}

fn window(summary: &Summary) -> Vec<String> {
    let time = summary.time;
    let mut warnings = Vec::new();
    if time.window_seconds + WINDOW_SECONDS_TOLERANCE < time.window_asked_seconds {
        let why = if time.interrupted { ", because the run was interrupted" } else { "" };
        let (was, asked) = (time.window_seconds, time.window_asked_seconds);
        warnings.push(format!("the window was cut short: {was:.1} s instead of {asked:.1} s{why}"));
    } else if time.interrupted {
        warnings.push("the run was interrupted: what was due then may not have arrived".to_owned());
    }
    let connect = summary.connect;
    if connect.ready_max < connect.clients {
        let (in_, all) = (Count(connect.ready_max as f64), Count(connect.clients as f64));
        warnings.push(format!("at most {in_} of {all} clients were in at once"));
    }
    warnings
}

fn busy(summary: &Summary) -> Vec<String> {
    let busy = |(_, percent): &&(u32, f64)| *percent >= BUSY_PERCENT_LIMIT;
    let threads: Vec<String> = summary
        .generator
        .busy_percent
        .iter()
        .filter(busy)
        .map(|(thread, busy)| format!("{thread} ({busy:.0} %)"))
        .collect();
    let (noun, verb) = if threads.len() == 1 { ("thread", "was") } else { ("threads", "were") };
    let which = threads.join(", ");
    let warned = "the generator may have been the limit";
    let in_window = format!("generator {noun} {which} {verb} busy nearly all the time: {warned}");
    let connecting = summary.generator.connecting_busy_percent.filter(|busy| *busy >= BUSY_PERCENT_LIMIT);
    let connecting =
        connecting.map(|busy| format!("a generator thread was {busy:.0} % busy while connecting: {warned}"));
    (!threads.is_empty()).then_some(in_window).into_iter().chain(connecting).collect()
}

/// Whether an open loop got through what was asked for. Few messages are not held to one per cent: arrivals by chance
/// vary, and so does, among streams that go to few and to many, how many deliveries the messages of a window make.
fn rate(plan: &Plan, summary: &Summary) -> Option<String> {
    let messages = summary.messages;
    let asked = messages.asked_per_second?;
    let by_chance = |pace: Pace| matches!(pace, Pace::Rate { poisson: true, .. });
    let paces: Vec<Pace> = plan.groups.iter().flat_map(|group| &group.publish).map(|stream| stream.pace).collect();
    let random = paces.iter().any(|pace| by_chance(*pace));
    let expected = asked * summary.time.window_seconds;
    let missed = |varies: bool| {
        let slack_messages = if varies { 3.0 * expected.sqrt() } else { 2.0 };
        let slack = 100.0 * slack_messages / expected.max(1.0);
        move |percent: &f64| *percent < REACHED_PERCENT && *percent < 100.0 - slack
    };
    let rate = format!("the {} messages/s asked for", Count(asked));
    if let Some(percent) = messages.published_percent.filter(missed(random)) {
        let percent = Digits(percent);
        return Some(format!("only {percent} % of {rate} were published: the generator fell behind its own schedule"));
    }
    let percent = Digits(messages.delivered_percent.filter(missed(random || paces.len() > 1))?);
    Some(format!("only {percent} % of what {rate} make arrived in the window: the broker did not keep up"))
}

fn machine(summary: &Summary) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(throttled) = summary.broker.as_ref().map(|broker| broker.throttled_seconds).filter(|time| *time > 0.0) {
        let time = Micros(throttled * 1e6);
        warnings.push(format!("the broker was held back for {time} of the window by its cgroup's CPU quota"));
    }
    let broker = summary.broker.as_ref().map_or(0.0, |broker| broker.waited_percent);
    for (who, waited) in [("the broker", broker), ("the generator", summary.generator.waited_percent)] {
        if waited > WAITED_PERCENT_LIMIT {
            let waited = Digits(waited);
            warnings.push(format!(
                "{who} could have run but others had the CPU for {waited} % of the window: give it CPUs of its own"
            ));
        }
    }
    let stolen = summary.kernel.stolen_percent;
    if stolen > STOLEN_PERCENT_LIMIT {
        warnings.push(format!("the hypervisor kept {stolen:.1} % of the CPU time for others: repeat when it is calm"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::super::{BrokerCost, Report};
    use super::*;

    fn warned(change: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut report = samples::report();
        change(&mut report);
        of(&report.plan, &report.summary)
    }

    /// Exactly one warning, with these words in it.
    fn assert_warns(words: &str, change: impl FnOnce(&mut Report)) {
        let warnings = warned(change);
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{words}: {warnings:?}");
    }

    #[test]
    fn a_clean_run_has_none() {
        assert_eq!(warned(|_| {}), [""; 0]);
    }

    #[test]
    fn a_busy_generator_thread_is_named() {
        assert_warns("generator thread 1 (85 %) was busy", |report| report.summary.generator.busy_percent[1].1 = 85.0);
        assert_eq!(warned(|report| report.summary.generator.busy_percent[1].1 = 84.9), [""; 0]);
        let connecting = |report: &mut Report| report.summary.generator.connecting_busy_percent = Some(97.0);
        assert_warns("97 % busy while connecting", connecting);
    }

    #[test]
    fn a_short_window_is_told_with_its_cause() {
        assert_warns("3.0 s instead of 4.0 s, because", |report| {
            report.summary.time.window_seconds = 3.0;
            report.summary.time.interrupted = true;
        });
        assert_warns("may not have arrived", |report| report.summary.time.interrupted = true);
    }

    #[test]
    fn a_rate_that_was_not_reached_is_told_with_who_was_late() {
        assert_warns("fell behind its own schedule", |report| report.summary.messages.published_percent = Some(98.5));
        assert_warns("did not keep up", |report| report.summary.messages.delivered_percent = Some(98.5));
        assert_eq!(warned(|report| report.summary.messages.published_percent = Some(99.1)), [""; 0]);
    }

    #[test]
    fn few_arrivals_by_chance_are_not_held_to_one_percent() {
        let chance = |report: &mut Report, per_second| {
            report.summary.messages.asked_per_second = Some(per_second);
            report.summary.messages.published_percent = Some(97.0);
            let pace = Pace::Rate { per_second, poisson: true };
            report.plan.groups[0].publish[0].pace = pace;
        };
        assert_eq!(warned(|report| chance(report, 1_000.0)), [""; 0]);
        assert_warns("schedule", |report| chance(report, 100_000.0));
    }

    #[test]
    fn few_messages_of_several_streams_may_make_fewer_deliveries() {
        let streams = |report: &mut Report, per_second| {
            report.summary.messages.asked_per_second = Some(per_second);
            report.summary.messages.delivered_percent = Some(97.0);
            let stream = report.plan.groups[0].publish[0].clone();
            report.plan.groups[0].publish.push(stream);
        };
        assert_eq!(warned(|report| streams(report, 1_000.0)), [""; 0]);
        assert_warns("did not keep up", |report| streams(report, 100_000.0));
    }

    #[test]
    fn a_host_that_held_the_broker_back_is_told() {
        let throttled = |broker: &mut BrokerCost| broker.throttled_seconds = 0.25;
        assert_warns("held back for 250 ms", |report| throttled(report.summary.broker.as_mut().unwrap()));
        let crowded = |broker: &mut BrokerCost| broker.waited_percent = 30.0;
        assert_warns("the broker could have run", |report| crowded(report.summary.broker.as_mut().unwrap()));
        assert_warns("the generator could have run", |report| report.summary.generator.waited_percent = 5.1);
        assert_warns("hypervisor kept 2.0 %", |report| report.summary.kernel.stolen_percent = 2.0);
    }

    #[test]
    fn clients_that_never_were_in_and_checks_that_were_off_are_told() {
        assert_warns("at most 150 of 200 clients", |report| report.summary.connect.ready_max = 150);
        assert_warns("not verified", |report| report.summary.verified = false);
    }
}
