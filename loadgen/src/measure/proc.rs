//! The shapes of text under /proc that this room reads, and the unit that some of it is in.

/// The number after a name at the start of a line.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The number after a word somewhere in a line that starts so, as in `TCP: inuse 4 orphan 0 … mem 178`.
pub fn word(text: &str, line: &str, word: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|candidate| candidate.strip_prefix(line))?.split_whitespace();
    words.by_ref().find(|candidate| *candidate == word)?;
    words.next()?.parse().ok()
}

/// How large a page of memory is: some figures are in pages.
pub fn page_bytes() -> u64 {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    bytes.ok().flatten().map_or(4096, i64::unsigned_abs)
}

/// How long the living threads of a process could have run but had no CPU, in nanoseconds: others were running there.
pub fn waited_ns(process: &str) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let waited = |schedstat: String| schedstat.split_whitespace().nth(1)?.parse::<u64>().ok();
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).ok().and_then(waited);
    threads.flatten().filter_map(|thread| of(thread.path())).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_field_is_found_at_the_start_of_its_line_only() {
        assert_eq!(field("x Rss: 1 kB\nRss:     5476 kB\n", "Rss:"), Some(5476));
        assert_eq!(field("Rssx: 1 kB\n", "Rss:"), None);
    }

    #[test]
    fn threads_that_crowd_a_cpu_wait_for_it() {
        let (start, rose) = (waited_ns("self"), AtomicBool::new(false));
        let cpus = std::thread::available_parallelism().unwrap().get();
        // Twice as many as there are CPUs, until one was seen to wait; ten seconds are far more than that takes.
        std::thread::scope(|scope| {
            for _ in 0..2 * cpus {
                scope.spawn(|| {
                    let began = Instant::now();
                    while !rose.load(Relaxed) && began.elapsed().as_secs() < 10 {
                        rose.fetch_or(waited_ns("self") > start, Relaxed);
                    }
                });
            }
        });
        assert!(rose.into_inner());
    }

    #[test]
    fn a_word_is_followed_by_its_number() {
        let sockstat = "sockets: used 24\nTCP: inuse 4 orphan 0 tw 2 alloc 4 mem 178\nUDP: inuse 0 mem 7\n";
        assert_eq!(word(sockstat, "TCP:", "mem"), Some(178));
        assert_eq!(word(sockstat, "UDP:", "mem"), Some(7));
        assert_eq!(word(sockstat, "TCP:", "memory"), None);
    }
}
