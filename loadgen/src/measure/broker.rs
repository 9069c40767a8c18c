//! The broker's costs as the kernel accounts them for its process, all threads together.
//!
//! CPU time is the process's clock (clock_getcpuclockid(3)): it counts to the nanosecond and keeps what threads used
//! that have ended. Its only flaw: a thread that runs on another CPU just now is up to date as of its last scheduler
//! tick, so a reading may be behind by some milliseconds; over a window of seconds that is noise.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::instructions::Instructions;
use super::proc::{field, page_bytes, waited_ns};

/// Why a process can't be watched.
#[derive(Debug, Error)]
pub enum Error {
    /// No such process.
    #[error("--broker-pid {0}: there is no such process")]
    Gone(u32),
    /// It is there but may not be looked at.
    #[error("--broker-pid {pid}: can't read {path}: {source} (run as the broker's user or as root)")]
    Denied {
        /// The process.
        pid: u32,
        /// What was read.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What a process has used since it began (or, instructions, since it is watched).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// User and system time in nanoseconds, threads that ended included.
    pub cpu_ns: u64,
    /// Of it, in the kernel; to the 10 ms.
    pub kernel_ns: u64,
    /// Voluntary and involuntary context switches of threads seen alive.
    pub switches: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// How long its threads could have run but others had the CPU, in nanoseconds.
    pub waited_ns: u64,
    /// How long it wanted to run but its cgroup's quota was used up, in nanoseconds.
    pub throttled_ns: u64,
    /// Instructions retired, where they can be counted.
    pub instructions: Option<u64>,
}

/// A process that is watched.
pub struct Broker {
    pid: u32,
    clock: ClockId,
    instructions: Result<Instructions, String>,
    /// `cpu.stat` of its cgroup and of those around it.
    quotas: Vec<PathBuf>,
    /// The last count of each thread, of those that ended too.
    switches: HashMap<u32, u64>,
    /// Counts of ended threads whose number was given out again.
    switches_gone: u64,
}

impl Broker {
    /// Starts to watch a process.
    ///
    /// # Errors
    ///
    /// When it does not exist or may not be looked at.
    pub fn watch(pid: u32) -> Result<Self, Error> {
        let raw = i32::try_from(pid).map_err(|_| Error::Gone(pid))?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(raw)).map_err(|_| Error::Gone(pid))?;
        let (instructions, quotas) = (Instructions::of(pid), quotas(pid));
        let mut broker = Self { pid, clock, instructions, quotas, switches: HashMap::new(), switches_gone: 0 };
        broker.read()?;
        broker.rss_exact()?;
        Ok(broker)
    }

    /// Its process identifier.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its command line.
    pub fn command(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = bytes.split(|&byte| byte == 0).filter(|word| !word.is_empty());
        words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ")
    }

    /// Why instructions are not counted, if they aren't.
    pub fn uncounted(&self) -> Option<&str> {
        self.instructions.as_ref().err().map(String::as_str)
    }

    /// What it has used so far. Cheap enough for once a second, also when it is large; memory is as of `statm`,
    /// which may lag by some pages per CPU.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn read(&mut self) -> Result<Reading, Error> {
        let time: TimeSpec = self.clock.now().map_err(|_| Error::Gone(self.pid))?;
        let instructions = self.instructions.as_mut().ok().and_then(|counters| counters.read().ok());
        let statm = self.text("statm")?;
        let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        Ok(Reading {
            cpu_ns: time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64,
            kernel_ns: kernel_ns(&self.text("stat")?),
            switches: self.count_switches(),
            rss_bytes: pages * page_bytes(),
            waited_ns: waited_ns(&self.pid.to_string()),
            throttled_ns: self.quotas.iter().map(|path| throttled_ns(path)).sum(),
            instructions,
        })
    }

    /// What it has used so far, with exact memory: `smaps_rollup` walks every page, so only at the edges of phases.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn read_exact(&mut self) -> Result<Reading, Error> {
        let reading = self.read()?;
        Ok(Reading { rss_bytes: self.rss_exact()?, ..reading })
    }

    fn rss_exact(&self) -> Result<u64, Error> {
        Ok(field(&self.text("smaps_rollup")?, "Rss:").unwrap_or(0) * 1024)
    }

    fn text(&self, name: &str) -> Result<String, Error> {
        let path = format!("/proc/{}/{name}", self.pid);
        fs::read_to_string(&path).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Error::Gone(self.pid),
            _ => Error::Denied { pid: self.pid, path, source },
        })
    }

    /// The kernel keeps these per thread and forgets them when the thread ends; what was last seen of it is kept here.
    fn count_switches(&mut self) -> u64 {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return 0 };
        for entry in entries.flatten() {
            let thread = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let (Some(thread), Ok(status)) = (thread, fs::read_to_string(entry.path().join("status"))) else {
                continue;
            };
            self.switched(thread, switches(&status));
        }
        self.switches.values().sum::<u64>() + self.switches_gone
    }

    fn switched(&mut self, thread: u32, count: u64) {
        let last = self.switches.insert(thread, count).unwrap_or(0);
        if count < last {
            self.switches_gone += last;
        }
    }
}

fn switches(status: &str) -> u64 {
    ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"].iter().filter_map(|name| field(status, name)).sum()
}

/// The 15th field of `stat`, in clock ticks of 10 ms (USER_HZ is 100 everywhere). The second one is the program's name
/// in parentheses, in which anything may stand.
fn kernel_ns(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(12).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0) * 10_000_000
}

/// Where throttling would show: any cgroup on the way to the root may have a quota (cgroup 2, or the cpu controller).
fn quotas(pid: u32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let roots: &[&str] = match controllers {
            "" => &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"],
            names if names.split(',').any(|name| name == "cpu") => &["/sys/fs/cgroup/cpu"],
            _ => continue,
        };
        for root in roots {
            let group = PathBuf::from(format!("{root}{path}"));
            let up = group.ancestors().take_while(|group| group.starts_with(root));
            files.extend(up.map(|group| group.join("cpu.stat")).filter(|file| file.exists()));
        }
    }
    files
}

fn throttled_ns(cpu_stat: &Path) -> u64 {
    let text = fs::read_to_string(cpu_stat).unwrap_or_default();
    let version_2 = field(&text, "throttled_usec").map(|us| us * 1000);
    version_2.or_else(|| field(&text, "throttled_time")).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn own() -> Broker {
        Broker::watch(std::process::id()).unwrap()
    }

    #[test]
    fn cpu_of_threads_that_ended_stays_in_the_sum() {
        let mut own = own();
        let before = own.read().unwrap().cpu_ns;
        std::thread::spawn(|| {
            let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
            while clock.now().unwrap().tv_nsec() < 60_000_000 {}
        })
        .join()
        .unwrap();
        assert!(own.read().unwrap().cpu_ns - before >= 60_000_000);
    }

    #[test]
    fn a_number_given_to_a_new_thread_does_not_lower_the_count_of_switches() {
        let mut own = own();
        own.switches.clear();
        own.switched(7, 100);
        own.switched(7, 130);
        own.switched(7, 2);
        assert_eq!(own.switches_gone + own.switches[&7], 132);
    }

    #[test]
    fn a_process_is_told_by_its_command_line() {
        assert_eq!(own().command(), std::env::args().collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn exact_memory_is_near_the_quick_reading() {
        let mut own = own();
        let (quick, exact) = (own.read().unwrap().rss_bytes, own.read_exact().unwrap().rss_bytes);
        assert!(exact > 100_000 && quick.abs_diff(exact) < exact / 2, "{quick} against {exact}");
    }

    #[test]
    fn a_process_that_ended_is_gone() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let mut broker = Broker::watch(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(broker.read(), Err(Error::Gone(pid)) if pid == child.id()));
        assert!(matches!(Broker::watch(child.id()), Err(Error::Gone(_))));
    }

    #[test]
    fn system_time_is_found_behind_a_program_name_with_anything_in_it() {
        let stat = "1 (a) b (c)) S 0 1 1 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0";
        assert_eq!(kernel_ns(stat), 220_000_000);
    }

    #[test]
    fn both_versions_of_cgroups_say_what_was_throttled() {
        let directory = std::env::temp_dir().join(format!("cpu-stat-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (second, first) = (directory.join("2"), directory.join("1"));
        fs::write(&second, "nr_periods 1\nnr_throttled 1\nthrottled_usec 15\n").unwrap();
        fs::write(&first, "nr_periods 1\nnr_throttled 1\nthrottled_time 16000\n").unwrap();
        assert_eq!((throttled_ns(&second), throttled_ns(&first)), (15_000, 16_000));
        fs::remove_dir_all(&directory).unwrap();
    }
}
