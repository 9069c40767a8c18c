//! The closing summary: all that matters on one screen, at most 100 columns wide, a unit at every figure.

use std::fmt::{self, Write as _};

use super::units::{Bytes, Count, Digits, Micros, Or};
use super::{BrokerCost, Rate, Report};
use crate::measure::quantiles::Times;

/// Columns of a line.
const WIDTH: usize = 100;

/// Columns of the name at the start of a line.
const NAME: usize = 14;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_head(f)?;
        self.fmt_messages(f)?;
        self.fmt_times(f)?;
        self.fmt_costs(f)?;
        self.fmt_checks(f)
    }
}

impl Report {
    fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.summary.time;
        wrapped(f, "", &format!("{}: {}", self.plan.name, self.plan.about))?;
        let window = format!("{:.1} s measured after {:.1} s warm-up", time.window_seconds, self.warm_up_seconds());
        wrapped(f, "", &format!("{}, {window}", self.about.target.join(" ")))?;
        if !self.about.workers.is_empty() {
            wrapped(f, &format!("{:<NAME$}", "workers"), &self.about.workers.join(", "))?;
        }
        writeln!(f)?;
        let connect = self.summary.connect;
        let clients = format!("{} of {} clients", Count(connect.ready_max as f64), Count(connect.clients as f64));
        let took = Micros(time.connect_seconds * 1e6);
        lines(f, "connected", &format!("{clients} in {took}: {} per second", Or(connect.per_second.map(Count))))
    }

    pub(super) fn warm_up_seconds(&self) -> f64 {
        self.plan.timing.warm_up.as_secs_f64()
    }

    fn fmt_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = self.summary.messages;
        let asked = messages.asked_per_second.zip(messages.published_percent);
        let of = asked.map(|(asked, percent)| format!("   {} % of the {}/s asked for", Digits(percent), Count(asked)));
        for (name, rate, note) in [
            ("published", messages.published, of.unwrap_or_default()),
            ("delivered", messages.delivered, String::new()),
            ("acknowledged", messages.acknowledged, String::new()),
        ] {
            let Rate { count, per_second } = rate;
            if count > 0 {
                lines(f, name, &format!("{:>13} messages {:>12}/s{note}", Count(count as f64), Count(per_second)))?;
            }
        }
        let (out, in_) = (messages.bytes_out.per_second, messages.bytes_in.per_second);
        if out + in_ > 0.0 {
            lines(f, "traffic", &format!("{}/s sent, {}/s received", Bytes(out), Bytes(in_)))?;
        }
        Ok(())
    }

    fn fmt_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        let rows =
            [("delivery", summary.latency), ("acknowledged", summary.acknowledged), ("connect", summary.connect.times)];
        if rows.iter().all(|(_, times)| times.is_none()) {
            return Ok(());
        }
        let heads = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];
        write!(f, "\n{:<NAME$}", "latency")?;
        heads.iter().try_for_each(|head| write!(f, "{head:>11}"))?;
        writeln!(f)?;
        for (name, times) in rows {
            let Some(Times { p50_us, p90_us, p99_us, p999_us, p9999_us, max_us, .. }) = times else { continue };
            write!(f, "  {name:<12}")?;
            let figures = [p50_us, p90_us, p99_us, p999_us, p9999_us, max_us];
            figures.iter().try_for_each(|us| write!(f, "{:>11}", Micros(*us)))?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn fmt_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if let Some(broker) = &self.summary.broker {
            self.fmt_broker(f, broker)?;
        }
        let kernel = self.summary.kernel;
        if let Some(each) = kernel.slab_per_connection_bytes.map(Bytes) {
            let tcp = Bytes(kernel.tcp_after_bytes as f64);
            lines(f, "kernel", &format!("{each} of kernel objects per connection on this host, {tcp} in TCP buffers"))?;
        }
        let generator = &self.summary.generator;
        // No thread has been seen in a window that was cut off at its beginning.
        if generator.busy_percent.is_empty() {
            return Ok(());
        }
        let threads: Vec<String> = generator.busy_percent.iter().map(|(_, busy)| format!("{busy:.0}")).collect();
        let cpu = Or(generator.cpu_us_per_message.map(Micros));
        lines(f, "generator", &format!("{cpu} CPU per message; threads busy: {} %", threads.join(" ")))
    }

    fn fmt_broker(&self, f: &mut fmt::Formatter<'_>, cost: &BrokerCost) -> fmt::Result {
        let (cpu, switches) = (Or(cost.cpu_us_per_message.map(Micros)), Or(cost.switches_per_message.map(Digits)));
        let mut per_message = format!("{cpu} CPU and {switches} context switches per message");
        if let Some(instructions) = cost.instructions_per_message {
            let _ = write!(per_message, ", {} instructions", Count(instructions));
        }
        lines(f, "broker", &per_message)?;
        if let Some(why) = &cost.uncounted {
            lines(f, "", &format!("instructions not counted: {why}"))?;
        }
        let (busy, kernel) = (Digits(cost.busy_percent), Or(cost.kernel_percent.map(Digits)));
        let switches = Count(cost.switches_per_second.round());
        lines(f, "", &format!("{busy} % of a core, {kernel} % of it in the kernel; {switches} context switches/s"))?;
        let connect = Or(cost.connect_cpu_us.map(Micros));
        lines(f, "", &format!("{connect} CPU per client while they came in"))?;
        let [before, connected, after] =
            [cost.rss_before_bytes, cost.rss_connected_bytes, cost.rss_after_bytes].map(|bytes| Bytes(bytes as f64));
        let each = Or(cost.rss_per_connection_bytes.map(Bytes));
        lines(f, "", &format!("RSS {before} before, {connected} connected, {after} after: {each} per connection"))
    }

    fn fmt_checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let verdict = self.verdict();
        for finding in &verdict.failed {
            lines(f, "FAILED", &format!("{} {}", Count(finding.count as f64), finding.what))?;
        }
        for finding in &verdict.told {
            lines(f, "allowed", &format!("{} {}", Count(finding.count as f64), finding.what))?;
        }
        if verdict.passed() {
            let checked = match (self.summary.verified, verdict.told.is_empty()) {
                (true, true) => "passed: none lost, duplicated, out of order, corrupted or wrongly acknowledged",
                (true, false) => "passed: nothing happened that MQTT forbids",
                (false, _) => "no connection failed, none was dropped; messages were not checked",
            };
            lines(f, "checks", checked)?;
        }
        self.failures.iter().try_for_each(|failure| lines(f, "", failure))?;
        self.warnings.iter().try_for_each(|warning| lines(f, "WARNING", warning))
    }
}

/// A name and what is said of it.
fn lines(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    wrapped(f, &format!("{name:<NAME$}"), text)
}

/// A text broken between words where a line is full; further lines stand below the end of the first one's start.
fn wrapped(f: &mut fmt::Formatter<'_>, start: &str, text: &str) -> fmt::Result {
    let indent = start.chars().count();
    let mut line = start.to_owned();
    for word in text.split(' ') {
        let width = line.chars().count();
        if width > indent && width + 1 + word.chars().count() > WIDTH {
            writeln!(f, "{}", line.trim_end())?;
            line = " ".repeat(indent);
        } else if width > indent {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(f, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut report = samples::report();
        report.warnings.push("a warning that goes on and on, ".repeat(9));
        report.failures.push("x".repeat(80));
        for line in report.to_string().lines() {
            assert!(line.chars().count() <= super::WIDTH, "{line}");
        }
    }

    #[test]
    fn every_figure_is_there_with_its_unit() {
        let text = samples::report().to_string();
        for part in [
            "200 of 200 clients in 150 ms: 1,333 per second",
            "400,000 messages      100,000/s   100 % of the 100,000/s asked for",
            "50.0 µs    90.0 µs    99.0 µs",
            "8.50 µs CPU and 0.420 context switches per message",
            "85.0 % of a core, 90.0 % of it in the kernel",
            "RSS 8.00 MiB before, 8.20 MiB connected, 8.20 MiB after: 1,024 B per connection",
            "3.10 µs CPU per message; threads busy: 70 62 %",
            "instructions not counted: this machine has no counter",
            "passed: none lost",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_window_that_never_began_has_no_line_of_the_generator() {
        let mut report = samples::report();
        report.summary.generator.busy_percent.clear();
        assert!(!report.to_string().contains("threads busy"), "{report}");
    }

    #[test]
    fn failures_and_warnings_stand_at_the_end() {
        let mut report = samples::report();
        report.summary.faults.lost_qos1 = 1_234;
        report.summary.faults.lost_qos0 = 5;
        report.warnings.push("take care".to_owned());
        let text = report.to_string();
        assert!(text.contains("FAILED        1,234 lost at QoS 1\n"), "{text}");
        assert!(text.contains("allowed       5 lost at QoS 0\n"), "{text}");
        assert!(text.ends_with("WARNING       take care\n") && !text.contains("passed"), "{text}");
    }
}
