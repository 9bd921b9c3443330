//! What came of a meeting: for people a line a second and a table, for programs JSON.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::histogram::Histogram;
use super::person::PersonReport;
pub use super::reception::StreamReport;
use super::reception::milliseconds;

/// What the server used.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerReport {
    /// CPU time by wall time; 100 is one core.
    pub cpu_percent: f64,
    /// Resident memory.
    pub rss_mib: f64,
}

/// How durations spread, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// Half of them are not above it.
    pub p50_ms: Option<f64>,
    /// 99 of 100 are not above it.
    pub p99_ms: Option<f64>,
    /// 999 of 1,000 are not above it.
    pub p999_ms: Option<f64>,
    /// None is above it.
    pub max_ms: Option<f64>,
}

/// What came of a meeting.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// People who set out.
    pub people: usize,
    /// People with SRTP keys and no failure since.
    pub connected: usize,
    /// Why the others are not there, one sentence each.
    pub failures: Vec<String>,
    /// From the first message to SRTP keys.
    pub connect: Spread,
    /// From the offer that asked for a video (or the connection, if that came later) to its first
    /// frame.
    pub first_picture: Spread,
    /// From a frame's leaving to the arrival of each of its packets, among these people.
    pub latency: Spread,
    /// How late these people did what was due, for want of CPU: what they add to latency and
    /// intervals by themselves.
    pub lateness: Spread,
    /// Streams that somebody receives.
    pub streams: usize,
    /// Streams of which nothing came yet.
    pub silent: usize,
    /// Packets that were to come.
    pub expected: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came when they were asked for again.
    pub recovered: u64,
    /// Video frames that could be shown.
    pub frames: u64,
    /// Freezes of a video, by the definition of browsers.
    pub freezes: u64,
    /// The longest time between two frames of a video.
    pub interval_max_ms: f64,
    /// Packets that did not decrypt, or are not as agreed.
    pub unreadable: u64,
    /// Key frames that these people were asked for.
    pub key_requests: u64,
    /// What the server used since it was measured.
    pub server: Option<ServerReport>,
    /// Streams with losses, freezes, or nothing at all.
    pub bad_streams: Vec<StreamReport>,
}

impl Report {
    pub(super) fn new(
        people: usize,
        reports: Vec<PersonReport>,
        server: Option<ServerReport>,
    ) -> Report {
        let (mut connect, mut pictures) = (Histogram::default(), Histogram::default());
        let (mut latency, mut lateness) = (Histogram::default(), Histogram::default());
        let mut report = Report {
            people,
            connected: 0,
            failures: Vec::new(),
            connect: Spread::default(),
            first_picture: Spread::default(),
            latency: Spread::default(),
            lateness: Spread::default(),
            streams: 0,
            silent: 0,
            expected: 0,
            lost: 0,
            recovered: 0,
            frames: 0,
            freezes: 0,
            interval_max_ms: 0.0,
            unreadable: 0,
            key_requests: 0,
            server,
            bad_streams: Vec::new(),
        };
        for person in reports {
            if let Some(connected_in) = person.connected_in {
                connect.add(connected_in);
                report.connected += usize::from(person.failure.is_none());
            }
            report.failures.extend(person.failure);
            report.unreadable += person.unreadable;
            report.key_requests += person.key_requests;
            latency.merge(&person.latency);
            lateness.merge(&person.lateness);
            for stream in person.streams {
                report.add(stream, &mut pictures);
            }
        }
        report.connect = Spread::of(&connect);
        report.first_picture = Spread::of(&pictures);
        report.latency = Spread::of(&latency);
        report.lateness = Spread::of(&lateness);
        report
    }

    fn add(&mut self, stream: StreamReport, pictures: &mut Histogram) {
        self.streams += 1;
        self.silent += usize::from(stream.first_ms.is_none());
        self.expected += stream.expected;
        self.lost += stream.lost;
        self.recovered += stream.recovered;
        self.frames += stream.frames;
        self.freezes += stream.freezes;
        self.interval_max_ms = self.interval_max_ms.max(stream.interval_max_ms);
        self.unreadable += stream.format_errors;
        if let Some(first_ms) = stream.first_ms.filter(|_| stream.kind == "video") {
            pictures.add(std::time::Duration::from_secs_f64(first_ms / 1_000.0));
        }
        if stream.lost > 0 || stream.freezes > 0 || stream.first_ms.is_none() {
            self.bad_streams.push(stream);
        }
    }

    /// Whether everybody is connected, and everybody's streams came to everybody else of them.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let among_them = 2 * self.people * self.people.saturating_sub(1);
        self.connected == self.people && self.streams >= among_them && self.silent == 0
    }

    /// One line for while it runs.
    #[must_use]
    pub fn progress(&self) -> String {
        format!(
            "{}/{} connected, {} streams ({} silent), {} frames, {} lost, {} freezes, latency p99 {} ms",
            self.connected,
            self.people,
            self.streams,
            self.silent,
            self.frames,
            self.lost,
            self.freezes,
            figure(self.latency.p99_ms)
        )
    }
}

impl Spread {
    fn of(histogram: &Histogram) -> Spread {
        let at = |q| histogram.quantile(q).map(milliseconds);
        Spread {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "| {name:<29} | {value:>25} |");
        let spread = |s: Spread| format!("{} / {}", figure(s.p50_ms), figure(s.p99_ms));
        row("", String::new())?;
        row("---", "---:".to_owned())?;
        row(
            "connected",
            format!("{} of {}", self.connected, self.people),
        )?;
        row("connect p50 / p99, ms", spread(self.connect))?;
        row("first picture p50 / p99, ms", spread(self.first_picture))?;
        row(
            "streams (silent)",
            format!("{} ({})", self.streams, self.silent),
        )?;
        row("packets", self.expected.to_string())?;
        row(
            "lost / repaired",
            format!("{} / {}", self.lost, self.recovered),
        )?;
        row("unreadable", self.unreadable.to_string())?;
        row("frames", self.frames.to_string())?;
        row("freezes", self.freezes.to_string())?;
        row(
            "longest interval, ms",
            format!("{:.1}", self.interval_max_ms),
        )?;
        let longer = |s: Spread| {
            let (p999, max) = (figure(s.p999_ms), figure(s.max_ms));
            format!("{} / {p999} / {max}", spread(s))
        };
        row("latency p50/p99/p99.9/max, ms", longer(self.latency))?;
        row("own lateness, ms", longer(self.lateness))?;
        row(
            "key frames asked for, in all",
            self.key_requests.to_string(),
        )?;
        if let Some(server) = self.server {
            row(
                "server CPU, % of a core",
                format!("{:.1}", server.cpu_percent),
            )?;
            row("server memory, MiB", format!("{:.1}", server.rss_mib))?;
        }
        for stream in &self.bad_streams {
            writeln!(
                f,
                "{}'s {} to {}: {} of {} lost, {} repaired, {} freezes, longest interval {:.1} ms",
                stream.from,
                stream.kind,
                stream.to,
                stream.lost,
                stream.expected,
                stream.recovered,
                stream.freezes,
                stream.interval_max_ms
            )?;
        }
        for failure in &self.failures {
            writeln!(f, "not connected: {failure}")?;
        }
        Ok(())
    }
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}
