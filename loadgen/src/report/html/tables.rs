//! The tables of a page: all figures of the summary, then the circumstances that they hold under.

use maud::{Markup, html};
use serde::Serialize;

use super::super::units::{Bytes, Count, Digits, Micros, Or};
use super::super::{BrokerCost, Report};
use crate::measure::quantiles::Times;
use crate::plan::{Group, Pace, Payload, Presence, Publication};

/// A name and what is said of it.
type Pair = (&'static str, String);

/// Every figure of the summary.
pub fn figures(report: &Report) -> Markup {
    html! {
        h2 { "Latency" }
        (latency(report))
        h2 { "Figures" }
        div.columns {
            (pairs("Messages in the window", messages(report)))
            (pairs("Connections", connections(report)))
            @if let Some(broker) = &report.summary.broker { (pairs("Broker", costs(broker))) }
            (pairs("Generator and kernel", generator(report)))
            (pairs("Checks over the whole run", checks(report)))
        }
    }
}

/// Command, host, settings, plan.
pub fn circumstances(report: &Report) -> Markup {
    let host = &report.host;
    html! {
        h2 { "Command" }
        div.card { pre.command { (report.about.command) } }
        h2 { "Plan" }
        (plan(&report.plan.groups))
        (raw("The whole plan as JSON", &report.plan))
        (raw("All figures as JSON", &report.summary))
        h2 { "Host" }
        div.columns {
            (pairs("Machine", vec![
                ("Name", host.name.clone()),
                ("Kernel", host.kernel.clone()),
                ("CPU", format!("{} × {}{}", host.cpus, host.cpu, if host.is_virtual { " (virtual machine)" } else { "" })),
                ("Memory", Bytes(host.memory_bytes as f64).to_string()),
                ("Workers", if report.about.workers.is_empty() { "none".to_owned() } else { report.about.workers.join(", ") }),
            ]))
            div.card.wide {
                table.pairs {
                    thead { tr { th colspan="2" { "Settings" } } }
                    tbody { @for knob in &host.knobs { tr { th { (knob.name) } td { (knob.value) } } } }
                }
            }
        }
    }
}

fn pairs(title: &str, pairs: Vec<Pair>) -> Markup {
    html! {
        div.card.wide {
            table.pairs {
                thead { tr { th colspan="2" { (title) } } }
                tbody { @for (name, value) in pairs { tr { th { (name) } td { (value) } } } }
            }
        }
    }
}

fn raw(title: &str, value: &impl Serialize) -> Markup {
    html! {
        details.card {
            summary { (title) }
            pre { (serde_json::to_string_pretty(value).unwrap_or_default()) }
        }
    }
}

fn latency(report: &Report) -> Markup {
    let summary = &report.summary;
    let rows =
        [("delivery", summary.latency), ("acknowledgement", summary.acknowledged), ("connect", summary.connect.times)];
    html! {
        div.card.wide {
            table.figures {
                thead { tr { th {} @for head in ["timed", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] { th { (head) } } } }
                tbody {
                    @for (name, times) in rows {
                        @if let Some(Times { count, mean_us, p50_us, p90_us, p99_us, p999_us, p9999_us, max_us, .. }) = times {
                            tr {
                                th { (name) }
                                td { (Count(count as f64)) }
                                @for us in [mean_us, p50_us, p90_us, p99_us, p999_us, p9999_us, max_us] { td { (Micros(us)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn messages(report: &Report) -> Vec<Pair> {
    let messages = report.summary.messages;
    let rate = |rate: super::super::Rate| format!("{} ({} /s)", Count(rate.count as f64), Count(rate.per_second));
    let bytes = |rate: super::super::Rate| format!("{} ({}/s)", Bytes(rate.count as f64), Bytes(rate.per_second));
    let percent = |share: Option<f64>| format!("{} %", Or(share.map(Digits)));
    let mut pairs = vec![
        ("Published", rate(messages.published)),
        ("Delivered", rate(messages.delivered)),
        ("Acknowledged", rate(messages.acknowledged)),
        ("Sent", bytes(messages.bytes_out)),
        ("Received", bytes(messages.bytes_in)),
    ];
    if let Some(asked) = messages.asked_per_second {
        pairs.push(("Asked for", format!("{} messages/s", Count(asked))));
        pairs.push(("Published of it", percent(messages.published_percent)));
        pairs.push(("Delivered of what it makes", percent(messages.delivered_percent)));
    }
    pairs
}

fn connections(report: &Report) -> Vec<Pair> {
    let (connect, time, whole) = (report.summary.connect, report.summary.time, report.summary.whole);
    let count = |count: u64| Count(count as f64).to_string();
    vec![
        ("Clients of the plan", count(connect.clients)),
        ("In at once, at most", count(connect.ready_max)),
        ("In at the end of the window", count(connect.ready)),
        ("Connecting took", Micros(time.connect_seconds * 1e6).to_string()),
        ("Connects per second", Or(connect.per_second.map(|rate| Count(rate.round()))).to_string()),
        ("Came back", count(whole.reconnected)),
        ("Failed, refused, dropped", format!("{}, {}, {}", whole.connect_failed, whole.refused, whole.dropped)),
        ("PINGRESPs", count(whole.pings)),
        ("Whole run", Micros(time.total_seconds * 1e6).to_string()),
    ]
}

fn costs(cost: &BrokerCost) -> Vec<Pair> {
    let bytes = |bytes: u64| Bytes(bytes as f64).to_string();
    let instructions = match (&cost.uncounted, cost.instructions_per_message) {
        (Some(why), _) => format!("not counted: {why}"),
        (None, count) => Or(count.map(Count)).to_string(),
    };
    vec![
        ("Process", format!("{} (pid {})", cost.command, cost.pid)),
        ("CPU per message", Or(cost.cpu_us_per_message.map(Micros)).to_string()),
        ("Share of one core", format!("{} %", Digits(cost.busy_percent))),
        ("Of it in the kernel", format!("{} %", Or(cost.kernel_percent.map(Digits)))),
        ("Context switches per message", Or(cost.switches_per_message.map(Digits)).to_string()),
        ("Context switches per second", Count(cost.switches_per_second.round()).to_string()),
        ("Instructions per message", instructions),
        ("CPU per connecting client", Or(cost.connect_cpu_us.map(Micros)).to_string()),
        ("RSS before the first connection", bytes(cost.rss_before_bytes)),
        ("RSS when all were in", bytes(cost.rss_connected_bytes)),
        ("RSS at the end of the window", bytes(cost.rss_after_bytes)),
        ("RSS per connection", Or(cost.rss_per_connection_bytes.map(Bytes)).to_string()),
        ("Waited for a CPU", format!("{} % of the window", Digits(cost.waited_percent))),
        ("Held back by a CPU quota", Micros(cost.throttled_seconds * 1e6).to_string()),
    ]
}

fn generator(report: &Report) -> Vec<Pair> {
    let (generator, kernel) = (&report.summary.generator, report.summary.kernel);
    let busy: Vec<String> =
        generator.busy_percent.iter().map(|(thread, busy)| format!("{thread}: {} %", Digits(*busy))).collect();
    vec![
        ("Generator CPU per message", Or(generator.cpu_us_per_message.map(Micros)).to_string()),
        ("Generator threads, busy", busy.join(", ")),
        ("Waited for a CPU", format!("{} % of the window", Digits(generator.waited_percent))),
        ("Busiest while connecting", format!("{} %", Or(generator.connecting_busy_percent.map(Digits)))),
        ("Kernel objects before", Bytes(kernel.slab_before_bytes as f64).to_string()),
        ("Kernel objects at the end", Bytes(kernel.slab_after_bytes as f64).to_string()),
        ("Kernel objects per connection", Or(kernel.slab_per_connection_bytes.map(Bytes)).to_string()),
        ("In TCP buffers", Bytes(kernel.tcp_after_bytes as f64).to_string()),
        ("CPU kept by the hypervisor", format!("{} %", Digits(kernel.stolen_percent))),
    ]
}

fn checks(report: &Report) -> Vec<Pair> {
    let (faults, whole) = (report.summary.faults, report.summary.whole);
    let count = |count: u64| Count(count as f64).to_string();
    vec![
        ("Messages checked", if report.summary.verified { "yes" } else { "no" }.to_owned()),
        ("Lost at QoS 0, 1, 2", format!("{}, {}, {}", faults.lost_qos0, faults.lost_qos1, faults.lost_qos2)),
        ("Duplicated", count(faults.duplicated)),
        ("Redelivered after a reconnect", count(faults.redelivered)),
        ("Out of order", count(faults.reordered)),
        ("Corrupted", count(faults.corrupted)),
        ("Wrongly acknowledged", count(faults.misacknowledged)),
        ("Publications rejected", count(whole.rejected)),
        (
            "Delivered in all",
            format!("{} ({} retained, {} wills)", count(whole.delivered), whole.retained, whole.wills),
        ),
    ]
}

fn plan(groups: &[Group]) -> Markup {
    html! {
        div.card.wide {
            table {
                thead { tr { @for head in ["Group", "Clients", "MQTT", "Connected", "Subscribes to", "Publishes"] { th { (head) } } } }
                tbody {
                    @for group in groups {
                        tr {
                            th { (group.name) }
                            td { (Count(f64::from(group.count))) }
                            td { (match group.version { 3 => "3.1", 4 => "3.1.1", _ => "5.0" }) }
                            td { (presence(group.presence)) }
                            td { @for subscription in &group.subscribe { div { (subscription.filter) " (QoS " (subscription.qos) ")" } } }
                            td { @for publication in &group.publish { div { (published(publication)) } } }
                        }
                    }
                }
            }
        }
    }
}

fn presence(presence: Presence) -> String {
    match presence {
        Presence::Always => "always".to_owned(),
        Presence::Cycle { online, offline, .. } => format!("{online:?} in, {offline:?} away"),
        Presence::Away { back_after } => format!("back after {back_after:?}"),
    }
}

fn published(publication: &Publication) -> String {
    let payload = match &publication.payload {
        Payload::Bytes(bytes) => format!("{bytes} bytes"),
        Payload::Text(_) => "text".to_owned(),
    };
    let pace = match publication.pace {
        Pace::Every(interval) => format!("each client every {interval:?}"),
        Pace::Rate { per_second, poisson } => {
            format!("{} /s together{}", Count(per_second), if poisson { ", by chance" } else { "" })
        }
        Pace::Outstanding(count) => format!("{count} under way each"),
        Pace::Arrival => "each client when it comes in".to_owned(),
    };
    format!("{} (QoS {}, {payload}; {pace})", publication.topic, publication.qos)
}
