//! What another process uses, by its files under `/proc`.

use std::fs;
use std::time::Duration;

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads since it started.
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

impl Usage {
    /// What the process has used, if it is there.
    #[must_use]
    pub fn of(pid: u32) -> Option<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold spaces and brackets; fields are counted from its end (proc_pid_stat(5)).
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
        let ticks = number(11)? + number(12)?;
        let page = rustix::param::page_size() as u64;
        Some(Usage {
            cpu: Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()),
            rss_bytes: number(21)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_no_process_uses_none() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100_000);
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
