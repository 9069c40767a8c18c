//! Plans driven against the real broker: what is counted is what happened, and nothing that is right is called wrong.

mod engine_common;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::Receiver;
use engine_common::*;
use ringmq_loadgen::engine::{Crew, Engine, Error, Outcome, Phase, Setup, Slice, Status, conduct};
use ringmq_loadgen::measure::{Faults, Sample};
use ringmq_loadgen::plan::{Group, Pace, Payload, Plan, Presence, Publication, Subscription, Will};

const LOOP: Pace = Pace::Outstanding(8);

fn rate(per_second: f64) -> Pace {
    Pace::Rate { per_second, poisson: false }
}

#[test]
fn closed_loops_of_pairs_run_without_a_fault_at_every_qos() {
    let broker = Broker::start();
    for (qos, version) in [(0, 4), (1, 4), (2, 4), (0, 5), (1, 5), (2, 5), (1, 3)] {
        let groups = pairs(10, qos, LOOP).into_iter().map(|group| Group { version, ..group }).collect();
        let (conducted, seen) = run_clean(&plan(groups), broker.address);
        let in_window = |field| seen.sum(field, conducted.window.clone());
        assert!(in_window(|counts| counts.delivered) > 100, "QoS {qos}, version {version}");
        assert_eq!(seen.all(|counts| counts.published), seen.all(|counts| counts.delivered));
        let acknowledged = seen.all(|counts| counts.acknowledged);
        assert_eq!(acknowledged, if qos == 0 { 0 } else { seen.all(|counts| counts.published) });
        assert_eq!(seen.all(|counts| counts.connected), 20);
        assert_eq!(conducted.outcome.faults, Faults::default());
    }
}

#[test]
fn every_phase_is_passed_in_order_and_ticks_cover_the_window() {
    let broker = Broker::start();
    let (conducted, seen) = run_clean(&plan(pairs(2, 0, LOOP)), broker.address);
    use Phase::*;
    assert_eq!(seen.phases, [Connecting, Connected, Warm, WindowBegins, WindowEnds, Drained, Left]);
    assert_eq!(conducted.window.len(), 3, "300 ms of ticks of 100 ms");
    for thread in 0..2 {
        let ticks: Vec<u32> = seen.samples.iter().filter(|of| of.thread == thread).map(|of| of.tick).collect();
        assert_eq!(ticks, (0..ticks.len() as u32).collect::<Vec<_>>(), "each once, in order");
        assert!(ticks.len() as u32 > conducted.window.end);
    }
}

#[test]
fn a_fan_out_turns_only_when_subscribers_of_all_threads_have_the_message() {
    let broker = Broker::start();
    let groups = vec![
        Group { subscribe: vec![subscription("fan", 1)], ..group("subscribers", 40) },
        Group { publish: vec![publication("fan", 1, Pace::Outstanding(3))], ..group("publisher", 1) },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    let published = seen.all(|counts| counts.published);
    assert!(published > 20, "{published}");
    assert_eq!(seen.all(|counts| counts.delivered), published * 40);
}

#[test]
fn an_open_loop_keeps_its_rate_and_times_from_when_messages_were_due() {
    let broker = Broker::start();
    for pace in [rate(2000.0), Pace::Every(Duration::from_millis(10))] {
        let (conducted, seen) = run_clean(&plan(pairs(20, 1, pace)), broker.address);
        let published = seen.sum(|counts| counts.published, conducted.window.clone());
        assert!((540..=660).contains(&published), "{published} of 600");
        let latencies: u64 = seen.samples.iter().map(|sample| sample.latency_ns.len()).sum();
        assert_eq!(latencies, seen.all(|counts| counts.delivered));
    }
}

#[test]
fn poisson_arrivals_keep_their_rate_too() {
    let broker = Broker::start();
    let pace = Pace::Rate { per_second: 4000.0, poisson: true };
    let (conducted, seen) = run_clean(&plan(pairs(10, 0, pace)), broker.address);
    let published = seen.sum(|counts| counts.published, conducted.window.clone());
    // 1,200 with a standard deviation of 35.
    assert!((1020..=1380).contains(&published), "{published}");
}

#[test]
fn a_limit_and_topics_in_turn_are_kept() {
    let broker = Broker::start();
    let limited = Publication { limit: Some(7), topics: 3, ..publication("limited/%i/%t", 1, rate(1000.0)) };
    let groups = vec![
        Group { subscribe: vec![subscription("limited/#", 1)], ..group("subscribers", 2) },
        Group { publish: vec![limited], ..group("publishers", 5) },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert_eq!(seen.all(|counts| counts.published), 35);
    assert_eq!(seen.all(|counts| counts.delivered), 70);
}

#[test]
fn members_of_a_shared_subscription_get_each_message_once_between_them() {
    let broker = Broker::start();
    let groups = vec![
        Group { subscribe: vec![subscription("$share/workers/jobs/#", 1)], ..group("workers", 5) },
        Group { publish: vec![publication("jobs/%i", 1, rate(3000.0))], ..group("publishers", 10) },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert_eq!(seen.all(|counts| counts.delivered), seen.all(|counts| counts.published));
}

#[test]
fn who_comes_after_gets_every_retained_message_once() {
    let broker = Broker::start();
    let retained =
        Publication { retain: true, limit: Some(2), topics: 1, ..publication("state/%i", 1, rate(100_000.0)) };
    let groups = vec![
        Group { publish: vec![retained], ..group("devices", 50) },
        Group { stage: 1, subscribe: vec![subscription("state/+", 1)], ..group("dashboards", 3) },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert_eq!(seen.all(|counts| counts.published), 100);
    assert_eq!(seen.all(|counts| counts.retained), 150);
    assert_eq!(seen.all(|counts| counts.delivered), 150);
}

#[test]
fn readers_that_come_back_get_what_is_retained_again_also_from_an_earlier_run() {
    let broker = Broker::start();
    let text = "{\"stamp\":\"%s\",\"ms\":%T}".to_owned();
    let retained = Publication { retain: true, limit: Some(10), topics: 10, ..publication("r/%i/%t", 1, LOOP) };
    let state = Publication { retain: true, payload: Payload::Text(text), ..publication("r/live/%i", 1, rate(100.0)) };
    let presence =
        Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(20), abrupt: false };
    let groups = vec![
        Group { publish: vec![retained], ..group("devices", 5) },
        Group { publish: vec![state], ..group("gauges", 5) },
        Group { stage: 1, presence, subscribe: vec![subscription("r/#", 1)], ..group("readers", 4) },
    ];
    for run in 0..2 {
        let (_, seen) = run_clean(&plan(groups.clone()), broker.address);
        let connects = seen.all(|counts| counts.connected) - 10;
        let retained = seen.all(|counts| counts.retained);
        assert!(connects > 12 && retained > connects * 40, "run {run}: {retained} messages for {connects} connects");
    }
}

#[test]
fn what_an_earlier_run_left_retained_is_not_taken_for_live_by_who_keeps_the_flag() {
    let broker = Broker::start();
    let state = Publication { retain: true, ..publication("state/%i", 1, rate(500.0)) };
    let keeps = Subscription { retain_as_published: true, ..subscription("state/+", 1) };
    let groups = vec![
        Group { version: 5, subscribe: vec![keeps], ..group("readers", 2) },
        Group { publish: vec![state], ..group("gauges", 5) },
    ];
    for run in 0..3 {
        let (_, seen) = run_clean(&plan(groups.clone()), broker.address);
        let left = if run == 0 { 0 } else { 10 };
        assert_eq!(seen.all(|counts| counts.delivered), 2 * seen.all(|counts| counts.published) + left);
    }
}

#[test]
fn who_was_away_with_a_lasting_session_gets_what_was_kept() {
    let broker = Broker::start();
    let back_after = Duration::from_millis(200);
    let filling = Publication { limit: Some(20), ..publication("kept/%i", 1, rate(100_000.0)) };
    let groups = vec![
        Group {
            presence: Presence::Away { back_after },
            subscribe: vec![subscription("kept/%i", 1)],
            ..lasting("sleepers", 10)
        },
        Group { publish: vec![filling], ..group("publishers", 10) },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert_eq!(seen.all(|counts| counts.delivered), 200);
    assert_eq!(seen.all(|counts| counts.reconnected), 10);
}

#[test]
fn bad_links_that_drop_and_resume_lose_nothing_above_qos_0() {
    let broker = Broker::start();
    let presence =
        Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(20), abrupt: true };
    for qos in [1, 2] {
        let groups = vec![
            Group { presence, subscribe: vec![subscription("v/%i", qos)], ..lasting("operators", 20) },
            Group { presence, publish: vec![publication("v/%i", qos, rate(2000.0))], ..lasting("vehicles", 20) },
        ];
        let (_, seen) = run_clean(&plan(groups), broker.address);
        assert!(seen.all(|counts| counts.reconnected) > 40, "{}", seen.all(|counts| counts.reconnected));
        assert_eq!(seen.all(|counts| counts.delivered), seen.all(|counts| counts.published), "QoS {qos}");
    }
}

#[test]
fn clients_that_come_and_go_in_order_are_not_dropped() {
    let broker = Broker::start();
    let presence =
        Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(20), abrupt: false };
    let groups = vec![
        Group { presence, subscribe: vec![subscription("c/%i", 1)], ..group("subscribers", 20) },
        Group { presence, publish: vec![publication("c/%i", 1, rate(2000.0))], ..group("publishers", 20) },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert!(seen.all(|counts| counts.reconnected) > 40);
    assert_eq!(seen.all(|counts| counts.dropped), 0);
}

#[test]
fn who_comes_in_again_says_so_again() {
    let broker = Broker::start();
    let status = Publication { retain: true, ..publication("status/%i", 1, Pace::Arrival) };
    for abrupt in [false, true] {
        let presence =
            Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(20), abrupt };
        let groups = vec![
            Group { subscribe: vec![subscription("status/+", 1)], ..group("apps", 2) },
            Group { publish: vec![status.clone()], presence, ..group("lamps", 10) },
            Group { publish: vec![publication("status/%g%i", 1, Pace::Arrival)], ..group("others", 3) },
        ];
        let (_, seen) = run_clean(&plan(groups), broker.address);
        let came = seen.all(|counts| counts.connected) - 2;
        assert!(came > 30, "{came}");
        // Who comes back when traffic is over says nothing.
        let said = seen.all(|counts| counts.published);
        assert!((came - 10..=came).contains(&said), "{said} of {came}");
    }
}

#[test]
fn wills_of_broken_connections_are_counted_apart() {
    let broker = Broker::start();
    let will = Will { topic: "gone/%i".to_owned(), payload: "offline %c".to_owned(), qos: 1, ..Will::default() };
    let presence =
        Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(20), abrupt: true };
    let groups = vec![
        Group { subscribe: vec![subscription("gone/+", 1)], ..group("watchers", 1) },
        Group { will: Some(will), presence, ..group("devices", 10) },
    ];
    let (conducted, seen) = run_clean(&plan(groups), broker.address);
    let wills = seen.all(|counts| counts.wills);
    assert!(wills >= 10, "{wills}");
    assert_eq!((conducted.outcome.wills_owed, conducted.outcome.wills_came), (wills, wills));
}

#[test]
fn without_a_ledger_what_nobody_is_owed_does_not_pay_for_what_somebody_is() {
    let broker = Broker::start();
    let presence =
        Presence::Cycle { online: Duration::from_millis(60), offline: Duration::from_millis(20), abrupt: false };
    let groups = vec![
        Group { subscribe: vec![subscription("all/#", 1)], ..group("readers", 2) },
        Group { presence, subscribe: vec![subscription("all/#", 1)], ..group("visitors", 5) },
        Group { publish: vec![publication("all/%i", 1, rate(2000.0))], ..group("publishers", 5) },
    ];
    let plan = Plan { verify: false, ..plan(groups) };
    let setup = setup(&plan, broker.address, 2);
    let (tick, clock) = (setup.tick, setup.clock);
    let mut seen = Seen::default();
    let engine = Box::new(Engine::start(setup).unwrap());
    conduct(engine, &plan, tick, clock, &AtomicBool::new(false), &mut seen).unwrap();
    let Status { owed, paid, .. } = seen.status;
    assert_eq!((owed, paid), (2 * seen.all(|counts| counts.published), owed));
    assert!(seen.all(|counts| counts.delivered) > owed);
}

#[test]
fn payloads_of_text_are_checked_to_the_last_byte() {
    let broker = Broker::start();
    let text = "{\"stamp\":\"%s\",\"ms\":%T,\"bulb\":\"%c\",\"level\":%{random(0,100)},\"t\":%{random(18.0,25.0)}}";
    let payload = Payload::Text(text.to_owned());
    let groups = vec![
        Group { version: 5, subscribe: vec![subscription("home/+/state", 1)], ..group("hub", 1) },
        Group {
            publish: vec![Publication { payload, ..publication("home/%c/state", 1, rate(2000.0)) }],
            ..group("bulbs", 20)
        },
    ];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert!(seen.all(|counts| counts.delivered) > 400);
}

#[test]
fn no_local_and_overlapping_filters_are_understood() {
    let broker = Broker::start();
    let own = Subscription { no_local: true, ..subscription("chat/#", 1) };
    let chatter = Group {
        version: 5,
        subscribe: vec![own],
        publish: vec![publication("chat/%i", 1, rate(1000.0))],
        ..group("chatters", 4)
    };
    let overlapping = vec![subscription("chat/+", 1), subscription("chat/#", 0), subscription("chat/1", 1)];
    let groups = vec![chatter, Group { subscribe: overlapping, ..group("listeners", 2) }];
    let (_, seen) = run_clean(&plan(groups), broker.address);
    assert!(seen.all(|counts| counts.delivered) >= seen.all(|counts| counts.published) * 5);
}

#[test]
fn keep_alive_is_kept_by_who_has_nothing_to_say() {
    let broker = Broker::start();
    let mut plan = plan(vec![Group { keep_alive: 1, ..group("idle", 20) }]);
    plan.timing.window = Duration::from_millis(2000);
    let (_, seen) = run_clean(&plan, broker.address);
    let pings = seen.all(|counts| counts.pings);
    assert!((40..=60).contains(&pings), "{pings} pings of 20 clients in 2.1 s at one per 0.75 s");
}

#[test]
fn an_idle_engine_sleeps() {
    let broker = Broker::start();
    let mut plan = plan(vec![group("idle", 100)]);
    plan.timing.window = Duration::from_secs(2);
    let (conducted, seen) = run_clean(&plan, broker.address);
    let inside = seen.samples.iter().filter(|sample| conducted.window.contains(&sample.tick));
    let cpu_ns: u64 = inside.map(|sample| sample.cpu_ns).sum();
    assert!(cpu_ns < 10_000_000, "{cpu_ns} ns of CPU in 2 s");
}

#[test]
fn connecting_keeps_its_rate() {
    let broker = Broker::start();
    let mut plan = plan(vec![group("idle", 50)]);
    plan.timing.connect_rate = Some(100.0);
    let started = std::time::Instant::now();
    let (_, seen) = run_clean(&plan, broker.address);
    assert!(started.elapsed() > Duration::from_millis(450 + 400));
    assert_eq!(seen.all(|counts| counts.connected), 50);
}

#[test]
fn a_host_where_nobody_listens_is_one_clear_error() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(&plan(pairs(3, 0, LOOP)), address, 2).err().unwrap().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("is the broker running"), "{error}");
}

#[test]
fn a_broker_that_takes_no_more_connections_is_one_clear_error() {
    let broker = Broker::with("[limits]\nconnections_max = 1\n");
    let groups = pairs(3, 0, LOOP).into_iter().map(|group| Group { version: 5, ..group }).collect();
    let error = run(&plan(groups), broker.address, 1).err().unwrap().to_string();
    assert!(error.contains(&broker.address.to_string()), "{error}");
    assert!(["connection limit", "ended the connection"].iter().any(|what| error.contains(what)), "{error}");
}

#[test]
fn a_stop_before_traffic_ends_in_order_without_a_window() {
    let broker = Broker::start();
    let plan = plan(pairs(3, 0, LOOP));
    let setup = setup(&plan, broker.address, 2);
    let (tick, clock) = (setup.tick, setup.clock);
    let mut seen = Seen::default();
    let engine = Box::new(Engine::start(setup).unwrap());
    let conducted = conduct(engine, &plan, tick, clock, &AtomicBool::new(true), &mut seen).unwrap();
    assert!(conducted.interrupted && conducted.window.is_empty());
    assert_eq!(seen.phases.last(), Some(&Phase::Left));
}

/// Two processes' engines led as one crew, as a coordinator of joined workers does.
struct Both([Engine; 2], Receiver<Sample>);

impl Crew for Both {
    fn samples(&self) -> &Receiver<Sample> {
        &self.1
    }

    fn status(&mut self) -> Status {
        let mut status = self.0[0].status();
        status += self.0[1].status();
        status
    }

    fn stage(&mut self, stage: u8) {
        self.0.iter_mut().for_each(|engine| engine.stage(stage));
    }

    fn publish(&mut self, stage: u8) {
        self.0.iter_mut().for_each(|engine| engine.publish(stage));
    }

    fn begin(&mut self, at_ns: u64) {
        self.0.iter_mut().for_each(|engine| engine.begin(at_ns));
    }

    fn stop(&mut self) {
        self.0.iter_mut().for_each(|engine| engine.stop());
    }

    fn sent(&mut self) -> Result<Vec<u32>, Error> {
        let (one, other) = (self.0[0].sent()?, self.0[1].sent()?);
        Ok(one.iter().zip(&other).map(|(one, other)| one + other).collect())
    }

    fn settle(&mut self, sent: &[u32]) {
        self.0.iter_mut().for_each(|engine| engine.settle(sent));
    }

    fn leave(&mut self) {
        self.0.iter_mut().for_each(|engine| engine.leave());
    }

    fn finish(self: Box<Self>) -> Result<Outcome, Error> {
        let [one, other] = self.0;
        let mut outcome = Box::new(one).finish()?;
        outcome += Box::new(other).finish()?;
        Ok(outcome)
    }
}

#[test]
fn two_workers_share_the_clients_and_their_ledgers_agree() {
    let broker = Broker::start();
    let groups = vec![
        Group { subscribe: vec![subscription("all/#", 1)], ..group("listeners", 3) },
        Group { subscribe: vec![subscription("$share/g/all/+", 1)], ..group("workers", 4) },
        Group { publish: vec![publication("all/%i", 1, rate(2000.0))], ..group("publishers", 9) },
    ];
    let plan = plan(groups);
    let setup = setup(&plan, broker.address, 2);
    let (tick, clock) = (setup.tick, setup.clock);
    let engines = [0, 1].map(|index| {
        let slice = Slice { index, of: 2, first_thread: 2 * index };
        Engine::start(Setup { slice, ..setup.clone() }).unwrap()
    });
    let samples = engines[0].samples().clone();
    let others = engines[1].samples().clone();
    let mut seen = Seen::default();
    let both = Box::new(Both(engines, samples));
    let conducted = conduct(both, &plan, tick, clock, &AtomicBool::new(false), &mut seen).unwrap();
    seen.samples.extend(others.try_iter());
    assert!(conducted.outcome.is_clean(), "{:?}", conducted.outcome);
    assert_eq!(seen.all(|counts| counts.connected), 16);
    assert!(seen.all(|counts| counts.published) > 500);
    assert_eq!(seen.all(|counts| counts.delivered), seen.all(|counts| counts.published) * 4);
    let threads: BTreeSet<u32> = seen.samples.iter().map(|sample| sample.thread).collect();
    assert_eq!(threads, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn a_closed_loop_that_nobody_closes_is_refused() {
    let groups = vec![Group { publish: vec![publication("nobody", 0, LOOP)], ..group("publishers", 1) }];
    let error = run(&plan(groups), "127.0.0.1:1".parse().unwrap(), 1).err().unwrap().to_string();
    assert!(error.contains("group publishers") && error.contains("subscriber"), "{error}");
}
