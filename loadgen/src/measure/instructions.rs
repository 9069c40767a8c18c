//! Instructions that a process retires, in user space and the kernel, by the CPU's counters (perf_event_open(2)).

use std::fs;
use std::io;

use perf_event::events::{Event, Hardware};
use perf_event::{Builder, Counter};

/// One counter per thread that lived at the start; threads made later are counted with their makers.
pub struct Instructions {
    counters: Vec<Counter>,
}

impl Instructions {
    /// Starts counting.
    ///
    /// # Errors
    ///
    /// In words for people: many virtual machines have no such counters, and reading them takes a right.
    pub fn of(pid: u32) -> Result<Self, String> {
        Self::counting(pid, &Hardware::INSTRUCTIONS).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::Unsupported => {
                "this CPU or virtual machine has no instruction counter".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "not allowed: needs CAP_PERFMON or kernel.perf_event_paranoid = -1".to_owned()
            }
            _ => format!("perf_event_open: {error}"),
        })
    }

    fn counting<E: Event + Clone>(pid: u32, event: &E) -> io::Result<Self> {
        let mut counters = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let mut builder = Builder::new(event.clone());
            builder.observe_pid(thread).any_cpu().inherit(true).include_kernel();
            let mut counter = builder.build()?;
            counter.enable()?;
            counters.push(counter);
        }
        Ok(Self { counters })
    }

    /// How many so far. Where the CPU had to share its counters among users, scaled to all of the time.
    pub fn read(&mut self) -> io::Result<u64> {
        let mut total = 0.0;
        for counter in &mut self.counters {
            let reading = counter.read_count_and_time()?;
            if reading.time_running > 0 {
                total += reading.count as f64 * (reading.time_enabled as f64 / reading.time_running as f64);
            }
        }
        Ok(total as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use perf_event::events::Software;

    use super::*;

    /// Virtual machines have software events even where there is no instruction counter: the CPU clock in nanoseconds.
    #[test]
    fn threads_made_later_are_counted() {
        let Ok(mut clock) = Instructions::counting(std::process::id(), &Software::TASK_CLOCK) else {
            eprintln!("perf_event_open is not allowed here: not tested");
            return;
        };
        let before = clock.read().unwrap();
        let (done, wait) = mpsc::channel();
        let spinning = std::thread::spawn(move || {
            let start = std::time::Instant::now();
            while start.elapsed().as_millis() < 30 {}
            done.send(()).unwrap();
        });
        wait.recv().unwrap();
        spinning.join().unwrap();
        assert!(clock.read().unwrap() > before, "the spinning thread is not in the count");
    }

    #[test]
    fn where_there_is_no_counter_it_is_said_in_words() {
        match Instructions::of(std::process::id()) {
            Ok(mut instructions) => assert!(instructions.read().is_ok()),
            Err(why) => assert!(why.contains("counter") || why.contains("allowed"), "{why}"),
        }
    }
}
