//! What another process uses, by its files under `/proc`.

use std::fs;
use std::time::Duration;

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of its threads since it started; of those that ended too, where the system tells only
    /// ticks.
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
        let ticks = ticks * 1_000 / rustix::param::clock_ticks_per_second();
        let page = rustix::param::page_size() as u64;
        Some(Usage {
            // A tick is 10 ms, the scheduler counts nanoseconds.
            cpu: scheduled(pid).unwrap_or(Duration::from_millis(ticks)),
            rss_bytes: number(21)? * page,
        })
    }
}

/// What the scheduler says of a process's threads.
fn scheduled(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let times = threads.filter_map(Result::ok).map(|thread| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ')
            .next()?
            .parse()
            .ok()
            .map(Duration::from_nanos)
    });
    times.sum()
}

impl Usage {
    /// What the process and all its descendants have used, if it is there.
    #[must_use]
    pub fn of_tree(pid: u32) -> Option<Usage> {
        let mut sum = Usage::of(pid)?;
        let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
        let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parents: Vec<(u32, u32)> = processes
            .filter_map(|child| Some((child, parent_of(child)?)))
            .collect();
        let mut family = vec![pid];
        while let Some(parent) = family.pop() {
            let children = parents.iter().filter(|(_, of)| *of == parent);
            for (child, _) in children {
                family.push(*child);
                let usage = Usage::of(*child).unwrap_or_default();
                sum.cpu += usage.cpu;
                sum.rss_bytes += usage.rss_bytes;
            }
        }
        Some(sum)
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// How many descriptors a process has open, if it is there and ours.
#[must_use]
pub fn descriptors_of(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// CPU time of the kernel's thread for a core's network work that no process could be charged with.
#[must_use]
pub fn softirq_of(core: usize) -> Option<Duration> {
    let name = format!("ksoftirqd/{core}");
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut paths = processes.map(|entry| entry.path());
    let path = paths.find(|path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })?;
    let stat = fs::read_to_string(path.join("schedstat")).ok()?;
    stat.split(' ')
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_uses_memory_and_no_process_uses_none() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100_000);
        assert_eq!(Usage::of(u32::MAX), None);
        assert!(descriptors_of(std::process::id()) >= Some(3));
        assert_eq!(descriptors_of(u32::MAX), None);
    }

    /// A shell that waits for one child is a family that does not change while it is looked at.
    #[test]
    fn a_tree_holds_what_its_children_hold() {
        let mut shell = Command::new("sh")
            .args(["-c", "cat; exit"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = shell.stdin.take().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        input.write_all(b"here\n").unwrap();
        output.read_line(&mut String::new()).unwrap();
        let (root, tree) = (Usage::of(shell.id()), Usage::of_tree(shell.id()));
        drop(input);
        assert!(shell.wait().unwrap().success());
        let (root, tree) = (root.unwrap(), tree.unwrap());
        assert!(tree.rss_bytes > root.rss_bytes);
        assert!(tree.cpu >= root.cpu);
        assert_eq!(Usage::of_tree(u32::MAX), None);
    }
}
