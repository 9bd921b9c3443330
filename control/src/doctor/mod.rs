//! `millrace doctor`: what this machine allows, and what to set.
//!
//! [`Facts::gather`] looks, [`checks`] judges, [`render`] writes. Only the first does IO.

mod facts;

use std::fmt::Write as _;

use dataplane::driver::DriverKind;

use crate::banner::size;
use crate::config::Config;
use crate::firestore::{Place, Trouble};

pub use facts::{Facts, Offload};

/// Buffers that a worker asks for, bytes.
const BUFFER_BYTES: usize = 8 << 20;

/// Sockets are the page's and those of media over TCP: two for each client, and some.
const FILES_WANTED: u64 = 65_536;

/// Fewer do not carry a few rooms.
const FILES_MIN: u64 = 256;

/// What rings and provided buffers of a worker may take where the kernel counts them.
const LOCKED_BYTES_WANTED: u64 = 256 << 20;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found, and what it means.
    pub found: String,
    /// What sets it right, as commands.
    pub fix: Vec<String>,
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not known.
    Unknown,
    /// The node serves, and would serve better.
    Improvable,
    /// The node cannot serve.
    Missing,
}

impl Verdict {
    fn label(self) -> &'static str {
        match self {
            Verdict::Good => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Improvable => "could be better",
            Verdict::Missing => "missing",
        }
    }
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
        Check {
            name,
            verdict,
            found: found.into(),
            fix: Vec::new(),
        }
    }

    fn fix(mut self, command: impl Into<String>) -> Check {
        self.fix.push(command.into());
        self
    }
}

/// Looks at the machine and prints what it found; says whether the node can serve.
#[must_use]
pub fn run(config: &Config) -> bool {
    let checks = checks(&Facts::gather(config), config);
    print!("{}", render(&checks));
    checks.iter().all(|check| check.verdict < Verdict::Missing)
}

/// Judges what was found.
#[must_use]
pub fn checks(facts: &Facts, config: &Config) -> Vec<Check> {
    let mut checks = vec![
        kernel(facts),
        worker(facts),
        io_uring(facts),
        buffer(
            "receive buffer",
            "net.core.rmem_max",
            facts.receive_buffer_bytes,
        ),
        buffer("send buffer", "net.core.wmem_max", facts.send_buffer_bytes),
        offload(
            facts.gso,
            "GSO",
            "bursts leave in one send",
            "every packet is a send of its own",
        ),
        offload(
            facts.gro,
            "GRO",
            "runs of packets arrive in one receive",
            "every packet is received alone",
        ),
        uso(facts),
        open_files(facts),
        locked_memory(facts),
        cores(facts, config),
        clock(facts),
    ];
    if let (Some(found), Some(firestore)) = (&facts.database, &config.firestore) {
        checks.push(database(found, &firestore.place));
    }
    checks
}

/// Writes the checks in aligned columns.
#[must_use]
pub fn render(checks: &[Check]) -> String {
    let mut text = String::new();
    let name_width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let label_width = checks
        .iter()
        .map(|check| check.verdict.label().len())
        .max()
        .unwrap_or(0);
    for check in checks {
        let (label, name, found) = (check.verdict.label(), check.name, &check.found);
        let _ = writeln!(
            text,
            "  {label:<label_width$}  {name:<name_width$}  {found}"
        );
        for command in &check.fix {
            let _ = writeln!(
                text,
                "  {:<label_width$}  {:<name_width$}  $ {command}",
                "", ""
            );
        }
    }
    let missing = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Missing)
        .count();
    let improvable = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Improvable)
        .count();
    let summary = match (missing, improvable) {
        (0, 0) => "This machine is ready.".to_owned(),
        (0, n) => format!(
            "This machine can serve; {n} of {} could be better.",
            checks.len()
        ),
        (n, _) => format!(
            "This machine cannot serve yet: {n} of {} are missing.",
            checks.len()
        ),
    };
    let _ = writeln!(text, "\n{summary}");
    text
}

fn kernel(facts: &Facts) -> Check {
    let release = facts.kernel.as_str();
    match kernel_version(release) {
        Some(version) if version >= (6, 1) => {
            Check::new("kernel", Verdict::Good, format!("Linux {release}"))
        }
        Some(version) if version >= (4, 18) => Check::new(
            "kernel",
            Verdict::Improvable,
            format!("Linux {release}: the io_uring driver needs 6.1"),
        ),
        Some(_) => Check::new(
            "kernel",
            Verdict::Improvable,
            format!("Linux {release}: GSO needs 4.18, the io_uring driver 6.1"),
        ),
        None => Check::new("kernel", Verdict::Unknown, format!("Linux {release}")),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn worker(facts: &Facts) -> Check {
    match &facts.worker {
        Ok(_) => Check::new("media worker", Verdict::Good, "it starts"),
        Err(reason) => Check::new("media worker", Verdict::Missing, reason.clone()),
    }
}

fn io_uring(facts: &Facts) -> Check {
    const NAME: &str = "io_uring";
    let allow = "sudo sysctl -w kernel.io_uring_disabled=0";
    match (&facts.worker, facts.io_uring_disabled) {
        (Ok((DriverKind::Uring, _)), _) => {
            Check::new(NAME, Verdict::Good, "allowed, and a ring works")
        }
        (Ok((DriverKind::Msg, None)), Some(0) | None) => Check::new(
            NAME,
            Verdict::Unknown,
            "not tried: driver msg was asked for",
        ),
        (_, Some(2)) => Check::new(
            NAME,
            Verdict::Improvable,
            "forbidden here (kernel.io_uring_disabled = 2): workers use plain sockets",
        )
        .fix(allow),
        (Ok((DriverKind::Msg, why)), Some(1)) => Check::new(
            NAME,
            Verdict::Improvable,
            format!(
                "allowed to one group only (kernel.io_uring_disabled = 1): {}",
                why.as_deref().unwrap_or("workers use plain sockets")
            ),
        )
        .fix(allow),
        (Ok((DriverKind::Msg, Some(why))), _) => Check::new(
            NAME,
            Verdict::Improvable,
            format!(
                "refused ({why}): workers use plain sockets; in a container, allow it by its seccomp profile"
            ),
        ),
        (Ok((DriverKind::Msg, None)), _) | (Err(_), _) => {
            Check::new(NAME, Verdict::Unknown, "not tried")
        }
    }
}

fn buffer(name: &'static str, sysctl: &str, granted: Option<usize>) -> Check {
    let Some(granted) = granted else {
        return Check::new(name, Verdict::Unknown, "not tried: no worker started");
    };
    let found = size(granted);
    if granted >= BUFFER_BYTES {
        return Check::new(name, Verdict::Good, found);
    }
    Check::new(
        name,
        Verdict::Improvable,
        format!("{found}: bursts are lost under load, 8 MiB hold them"),
    )
    .fix(format!("sudo sysctl -w {sysctl}={BUFFER_BYTES}"))
}

fn offload(offload: Offload, name: &'static str, with: &str, without: &str) -> Check {
    match offload {
        Offload::Works => Check::new(name, Verdict::Good, with),
        Offload::Refused => Check::new(
            name,
            Verdict::Improvable,
            format!("refused by this kernel: {without}"),
        ),
        Offload::Unknown => Check::new(name, Verdict::Unknown, "not tried: no worker started"),
    }
}

fn uso(facts: &Facts) -> Check {
    const NAME: &str = "USO of the device";
    let Some(device) = &facts.device else {
        return Check::new(
            NAME,
            Verdict::Unknown,
            "no default route, so no device to look at",
        );
    };
    let command = format!("ethtool -k {device} | grep tx-udp-segmentation");
    match facts.uso {
        Offload::Works => Check::new(NAME, Verdict::Good, format!("{device} cuts bursts itself")),
        Offload::Refused => Check::new(
            NAME,
            Verdict::Improvable,
            format!("{device} does not cut bursts: the kernel does, at about twice the cost"),
        )
        .fix(format!("sudo ethtool -K {device} tx-udp-segmentation on")),
        Offload::Unknown => Check::new(
            NAME,
            Verdict::Unknown,
            format!("ethtool says nothing about {device}; look with"),
        )
        .fix(command),
    }
}

fn open_files(facts: &Facts) -> Check {
    const NAME: &str = "open files";
    let fix =
        format!("ulimit -n {FILES_WANTED}    # in a systemd unit: LimitNOFILE={FILES_WANTED}");
    match facts.open_files {
        None => Check::new(NAME, Verdict::Good, "no limit"),
        Some(limit) if limit >= FILES_WANTED => Check::new(NAME, Verdict::Good, limit.to_string()),
        Some(limit) if limit >= FILES_MIN => {
            let found = format!("{limit}: every page takes one, media over TCP another");
            Check::new(NAME, Verdict::Improvable, found).fix(fix)
        }
        Some(limit) => Check::new(
            NAME,
            Verdict::Missing,
            format!("{limit}: too few for a node"),
        )
        .fix(fix),
    }
}

fn locked_memory(facts: &Facts) -> Check {
    const NAME: &str = "locked memory";
    match facts.locked_memory_bytes {
        None => Check::new(NAME, Verdict::Good, "no limit"),
        Some(limit) if limit >= LOCKED_BYTES_WANTED => {
            Check::new(NAME, Verdict::Good, size(limit as usize))
        }
        Some(limit) => {
            let found = format!(
                "{}: rings of many workers may not fit",
                size(limit as usize)
            );
            Check::new(NAME, Verdict::Improvable, found).fix(format!(
                "ulimit -l {}    # in a systemd unit: LimitMEMLOCK=256M",
                LOCKED_BYTES_WANTED >> 10
            ))
        }
    }
}

fn cores(facts: &Facts, config: &Config) -> Check {
    let (cores, workers) = (facts.cores, config.workers);
    let found = format!("{cores} for {workers} workers");
    if workers > cores {
        let found = format!("{found}: workers that share a core wait for each other");
        return Check::new("cores", Verdict::Improvable, found)
            .fix(format!("millrace --workers {cores}"));
    }
    Check::new("cores", Verdict::Good, found)
}

fn clock(facts: &Facts) -> Check {
    const NAME: &str = "clock source";
    // These are read without a system call (vdso(7)).
    let fast = [
        "tsc",
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
        "arch_sys_counter",
        "timebase",
    ];
    match facts.clock_source.as_deref() {
        Some(source) if fast.contains(&source) => Check::new(NAME, Verdict::Good, source),
        Some(source) => {
            let found =
                format!("{source}: reading the time is a system call, which costs in every turn");
            let path = "/sys/devices/system/clocksource/clocksource0";
            Check::new(NAME, Verdict::Improvable, found)
                .fix(format!("cat {path}/available_clocksource"))
                .fix(format!(
                    "echo tsc | sudo tee {path}/current_clocksource    # if it is among them"
                ))
        }
        None => Check::new(NAME, Verdict::Unknown, "the kernel does not say"),
    }
}

fn database(found: &Result<(), Trouble>, place: &Place) -> Check {
    const NAME: &str = "database";
    let project = &place.project;
    match found {
        Ok(()) => Check::new(
            NAME,
            Verdict::Good,
            format!("project {project}: reached, and {} can be read", place.collection),
        ),
        Err(Trouble::Denied(reason)) => Check::new(
            NAME,
            Verdict::Missing,
            format!("project {project} lets us in nowhere: {reason}"),
        )
        .fix("export GOOGLE_APPLICATION_CREDENTIALS=/path/to/key.json")
        .fix(format!(
            "gcloud projects add-iam-policy-binding {project} --role roles/datastore.user --member serviceAccount:NAME"
        )),
        Err(Trouble::Unreachable(reason)) => Check::new(
            NAME,
            Verdict::Missing,
            format!("project {project}: {reason}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        use clap::Parser;
        Config::load(&crate::cli::Cli::parse_from(["millrace", "--workers", "2"])).unwrap()
    }

    fn good() -> Facts {
        Facts {
            kernel: "6.12.1-generic".to_owned(),
            worker: Ok((DriverKind::Uring, None)),
            io_uring_disabled: Some(0),
            receive_buffer_bytes: Some(8 << 20),
            send_buffer_bytes: Some(8 << 20),
            gso: Offload::Works,
            gro: Offload::Works,
            device: Some("eth0".to_owned()),
            uso: Offload::Works,
            open_files: Some(1 << 20),
            locked_memory_bytes: None,
            cores: 2,
            clock_source: Some("tsc".to_owned()),
            database: None,
        }
    }

    fn verdicts(facts: &Facts) -> Vec<(&'static str, Verdict)> {
        let checks = checks(facts, &config());
        let bad = checks.iter().filter(|check| check.verdict != Verdict::Good);
        bad.map(|check| (check.name, check.verdict)).collect()
    }

    #[test]
    fn a_good_machine_has_nothing_to_set() {
        assert_eq!(verdicts(&good()), []);
        assert!(render(&checks(&good(), &config())).ends_with("This machine is ready.\n"));
    }

    #[test]
    fn what_could_be_better_comes_with_its_command() {
        let facts = Facts {
            worker: Ok((DriverKind::Msg, Some("EPERM".to_owned()))),
            io_uring_disabled: Some(2),
            receive_buffer_bytes: Some(212_992),
            ..good()
        };
        let expected = [
            ("io_uring", Verdict::Improvable),
            ("receive buffer", Verdict::Improvable),
        ];
        assert_eq!(verdicts(&facts), expected);
        let text = render(&checks(&facts, &config()));
        assert!(
            text.contains("$ sudo sysctl -w net.core.rmem_max=8388608"),
            "{text}"
        );
        assert!(
            text.contains("$ sudo sysctl -w kernel.io_uring_disabled=0"),
            "{text}"
        );
        assert!(
            text.ends_with("This machine can serve; 2 of 12 could be better.\n"),
            "{text}"
        );
    }

    #[test]
    fn a_worker_that_does_not_start_is_missing() {
        let facts = Facts {
            worker: Err("address in use".to_owned()),
            ..good()
        };
        assert!(verdicts(&facts).contains(&("media worker", Verdict::Missing)));
    }

    #[test]
    fn a_database_that_refuses_us_comes_with_what_to_do() {
        use clap::Parser;
        let args = ["millrace", "--workers", "2", "--firestore-project", "meet"];
        let config = Config::load(&crate::cli::Cli::parse_from(args)).unwrap();
        let denied = Trouble::Denied("missing or insufficient permissions".to_owned());
        for (database, verdict) in [(Ok(()), Verdict::Good), (Err(denied), Verdict::Missing)] {
            let facts = Facts {
                database: Some(database),
                ..good()
            };
            let checks = checks(&facts, &config);
            let check = checks.last().unwrap();
            assert_eq!((check.name, check.verdict), ("database", verdict));
            assert!(check.found.contains("meet"), "{check:?}");
        }
    }

    #[test]
    fn versions_read_as_kernels_write_them() {
        assert_eq!(kernel_version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(kernel_version("5.4"), Some((5, 4)));
        assert_eq!(kernel_version("odd"), None);
    }
}
