//! CPU time of threads, and where they run.

use std::fs;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU that the calling thread has used.
#[must_use]
pub fn of_this_thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds on the monotonic clock.
#[must_use]
pub fn wall_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Runs the calling thread on one core; on a machine with fewer cores it stays where it is.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).ok();
}

/// A thread of this process, by the start of its name.
#[derive(Clone, Debug)]
pub struct Thread(std::path::PathBuf);

impl Thread {
    /// The first thread whose name starts with `prefix`.
    #[must_use]
    pub fn named(prefix: &str) -> Option<Thread> {
        let tasks = fs::read_dir("/proc/self/task").ok()?;
        tasks
            .filter_map(Result::ok)
            .map(|task| task.path())
            .find_map(|path| {
                let name = fs::read_to_string(path.join("comm")).ok()?;
                name.starts_with(prefix)
                    .then(|| Thread(path.join("schedstat")))
            })
    }

    /// Nanoseconds of CPU that it has used.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        let stat = fs::read_to_string(&self.0).unwrap_or_default();
        stat.split(' ')
            .next()
            .and_then(|ns| ns.parse().ok())
            .unwrap_or(0)
    }
}

/// The median; 0 for nothing.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The value that a share `q` (0 to 1) of the samples does not exceed.
#[must_use]
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    values
        .get((last * q).round() as usize)
        .copied()
        .unwrap_or(0.0)
}
