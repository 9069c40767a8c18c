//! A few seeds of the simulator with every `cargo test`; `ringmq-sim` runs more.

use ringmq::sim::plan::Plan;
use ringmq::sim::simulation::Report;
use ringmq::sim::subject;

fn run(seed: u64) -> Report {
    subject::simulation(Plan::new(seed), false).run()
}

#[test]
fn a_simulated_broker_keeps_what_it_promises() {
    for seed in [6, 9, 14, 23, 33, 37] {
        let report = run(seed);
        assert!(report.messages > 100 && report.deliveries > 100, "seed {seed} does next to nothing: {report:?}");
    }
}

#[test]
fn a_seed_replays_the_same_run() {
    assert_eq!(run(23), run(23));
}
