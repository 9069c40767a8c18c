//! A few seeds of the simulator with every `cargo test`; `ringmq-sim` runs more.

use ringmq::sim::plan::Plan;
use ringmq::sim::simulation::Report;
use ringmq::sim::{strain, subject};

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
fn a_slow_reader_and_a_shortage_of_memory_cost_what_they_must_and_no_more() {
    for seed in 0..6 {
        let report = strain::run(seed, false);
        assert!(report.messages > 200 && report.refused > 0, "seed {seed} does next to nothing: {report:?}");
    }
}

#[test]
fn a_seed_replays_the_same_run() {
    assert_eq!(run(23), run(23));
}
