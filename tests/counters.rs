//! Every counter that there is has its line in COUNTERS.md, and every line there its counter.

use std::collections::BTreeSet;

use ringmq::auth::OfficeCounters;
use ringmq::core::counters::{Counters, DropReason, EndReason};
use ringmq::guard::entry::Refused;
use ringmq::net::stats::DriverStats;
use ringmq::transport::TransportCounters;

const PAGE: &str = include_str!("../COUNTERS.md");

/// The names in the tables below the headings that hold `heading`.
fn documented(heading: &str) -> BTreeSet<String> {
    let sections =
        PAGE.split("\n#").filter(|section| section.lines().next().is_some_and(|line| line.contains(heading)));
    let rows = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once("` |")).map(|(name, _)| name.to_owned()).collect()
}

#[track_caller]
fn same(heading: &str, names: impl Iterator<Item = &'static str>) {
    assert_eq!(documented(heading), names.map(str::to_owned).collect(), "{heading}");
}

#[test]
fn each_counter_has_a_line_and_each_line_a_counter() {
    same("`$SYS/broker/shards/N/…`", Counters::default().named().map(|(name, _)| name));
    let driver = DriverStats::default().named().map(|(name, _)| name).collect::<Vec<_>>();
    let transports = TransportCounters::default().named().map(|(name, _)| name).collect::<Vec<_>>();
    let office = OfficeCounters::default().named().map(|(name, _)| name).collect::<Vec<_>>();
    same("driver/…`", [driver, transports, office].concat().into_iter());
    same("`publish/messages/dropped/`", DropReason::ALL.iter().map(|reason| reason.label()));
    same("`clients/ended/`", EndReason::ALL.iter().map(|reason| reason.label()));
    same("`clients/refused/`", Refused::ALL.iter().map(|refused| refused.label()));
}
