//! CPU time of threads, and where they run.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The core of what is measured; the load runs on core 0.
pub const MEASURED_CORE: usize = 1;

/// The core of the load.
pub const LOAD_CORE: usize = 0;

/// Nanoseconds of CPU that the calling thread has used.
#[must_use]
pub fn of_this_thread_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

/// Nanoseconds on the monotonic clock.
#[must_use]
pub fn wall_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Runs the calling thread, and threads that it starts, on one core; on a machine with fewer
/// cores it stays where it is.
pub fn pin(core: usize) {
    pin_to(&[core]);
}

/// The same for several cores.
pub fn pin_to(cores: &[usize]) {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).ok();
}

/// A thread of this process.
#[derive(Clone, Debug)]
pub struct Thread {
    id: String,
}

impl Thread {
    /// The calling thread's fellows by their name.
    #[must_use]
    pub fn named(name: &str) -> BTreeSet<String> {
        tasks()
            .filter(|(_, its)| its == name)
            .map(|(id, _)| id)
            .collect()
    }

    /// The thread of that name that was not among `before`.
    #[must_use]
    pub fn new_since(name: &str, before: &BTreeSet<String>) -> Option<Thread> {
        let id = Thread::named(name).difference(before).next()?.clone();
        Some(Thread { id })
    }

    /// Nanoseconds of CPU that it has used, and the kernel's io_uring workers for it.
    ///
    /// The kernel brings the figure up to date when the thread goes to sleep, so it is exact for a
    /// thread that has nothing to do.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        let helper = format!("iou-wrk-{}", self.id);
        tasks()
            .filter(|(id, name)| *id == self.id || *name == helper)
            .map(|(id, _)| scheduled_ns("self", &id))
            .sum()
    }
}

/// Nanoseconds of CPU that a process's threads with names that begin so have used.
#[must_use]
pub fn of_threads_ns(pid: u32, name: &str) -> u64 {
    let process = pid.to_string();
    tasks_of(&process)
        .filter(|(_, its)| its.starts_with(name))
        .map(|(id, _)| scheduled_ns(&process, &id))
        .sum()
}

/// Thread ids and names of this process.
fn tasks() -> impl Iterator<Item = (String, String)> {
    tasks_of("self")
}

fn tasks_of(process: &str) -> impl Iterator<Item = (String, String)> + use<> {
    let path: PathBuf = ["/proc", process, "task"].iter().collect();
    let entries = fs::read_dir(path).into_iter().flatten();
    entries.filter_map(Result::ok).filter_map(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let id = entry.file_name().into_string().ok()?;
        Some((id, name.trim_end().to_owned()))
    })
}

fn scheduled_ns(process: &str, id: &str) -> u64 {
    let path: PathBuf = ["/proc", process, "task", id, "schedstat"].iter().collect();
    let stat = fs::read_to_string(path).unwrap_or_default();
    let first = stat.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

/// The median; 0 for nothing.
#[must_use]
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that a share `q` (0 to 1) of the samples does not exceed; 0 for no samples.
#[must_use]
pub fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    let at = (last * q).round() as usize;
    values.get(at).copied().unwrap_or(0.0)
}

/// Nanoseconds of CPU per call of `work`, which is told how often it was called before: the median
/// of `rounds` rounds of `calls`.
pub fn per_call(rounds: usize, calls: u64, mut work: impl FnMut(u64)) -> f64 {
    let mut number = 0;
    let mut round = || {
        let start = of_this_thread_ns();
        for _ in 0..calls {
            work(number);
            number += 1;
        }
        (of_this_thread_ns() - start) as f64 / calls as f64
    };
    // The first one fills caches.
    round();
    let mut times: Vec<f64> = (0..rounds).map(|_| round()).collect();
    median(&mut times)
}
