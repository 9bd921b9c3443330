//! What came of one measurement: a row of a table, or a JSON object.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flock::FlockReport;
use crate::peers::histogram::Histogram;
use crate::peers::reception::milliseconds;

/// A server holds a load while 99 of 100 packets come within this time, in milliseconds ...
pub const HELD_P99_MS: f64 = 50.0;
/// ... and no larger part than this is lost.
pub const HELD_LOSS: f64 = 0.005;

/// What came of one measurement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// What the server is called.
    pub server: String,
    /// What was done: `watch` or `rooms`, and a name of its own.
    pub scene: String,
    /// Rooms.
    pub rooms: usize,
    /// Clients that send.
    pub publishers: usize,
    /// Clients that receive.
    pub subscribers: usize,
    /// Those of them that are connected.
    pub connected: usize,
    /// Those of them that nothing reached.
    pub silent: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// RTP packets sent to the server in a second.
    pub packets_in_per_second: f64,
    /// RTP packets that reached a client in a second.
    pub packets_per_second: f64,
    /// The same in megabits, as UDP carries them.
    pub megabits_per_second: f64,
    /// CPU time of the server's process tree for each packet that reached a client.
    pub ns_per_packet: Option<f64>,
    /// CPU time of the server's process tree; 100 is one core.
    pub cpu_percent: Option<f64>,
    /// CPU time of the kernel's network thread on the server's core, which no process is charged
    /// with; 100 is one core.
    pub softirq_percent: Option<f64>,
    /// Resident memory of the server's process tree.
    pub rss_mib: Option<f64>,
    /// Half of the packets came within this time.
    pub p50_ms: Option<f64>,
    /// 99 of 100 did.
    pub p99_ms: Option<f64>,
    /// 999 of 1,000 did.
    pub p999_ms: Option<f64>,
    /// The part of the packets that did not come.
    pub loss: f64,
    /// Freezes of a video, by the definition of browsers and as far as headers tell.
    pub freezes: u64,
    /// Packets that did not decrypt or parse.
    pub unreadable: u64,
    /// Packets that came twice.
    pub repeated: u64,
    /// From asking the door to keys.
    pub connect_p50_ms: Option<f64>,
    /// The same.
    pub connect_p99_ms: Option<f64>,
    /// From asking the door to the first packet.
    pub first_packet_p50_ms: Option<f64>,
    /// The same.
    pub first_packet_p99_ms: Option<f64>,
    /// How late this program did what was due.
    pub lateness_p99_ms: Option<f64>,
    /// CPU time of this program's thread of packets; 100 is one core.
    pub load_cpu_percent: f64,
    /// Datagrams that this program could not send.
    pub send_errors: u64,
    /// Clients that did not get in.
    pub failures: usize,
}

/// What the server's side used while it was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) cpu: Duration,
    pub(super) softirq: Option<Duration>,
    pub(super) rss_bytes: u64,
}

impl Row {
    /// `fan_out` is how many clients should get each packet, on average.
    pub(super) fn new(report: &FlockReport, fan_out: f64, used: Option<Used>) -> Row {
        let seconds = report.wall.as_secs_f64().max(0.001);
        let packets = report.counts.packets as f64;
        let due = report.sent as f64 * fan_out;
        // A frame of each stream may be on its way when the count begins, and when it ends.
        let on_the_way = (report.streams as u64 * report.frame_max) as f64;
        let lost = (report.counts.missing as f64).max(due - packets - on_the_way);
        let percent = |time: Duration| 100.0 * time.as_secs_f64() / seconds;
        let at = |histogram: &Histogram, q| histogram.quantile(q).map(milliseconds);
        let latency = &report.tally.latency;
        Row {
            publishers: report.publishers_connected,
            subscribers: report.receivers,
            connected: report.connected,
            silent: report.silent,
            seconds,
            packets_in_per_second: report.sent as f64 / seconds,
            packets_per_second: packets / seconds,
            megabits_per_second: report.counts.bytes as f64 * 8e-6 / seconds,
            ns_per_packet: used.map(|used| used.cpu.as_nanos() as f64 / packets.max(1.0)),
            cpu_percent: used.map(|used| percent(used.cpu)),
            softirq_percent: used.and_then(|used| used.softirq).map(percent),
            rss_mib: used.map(|used| used.rss_bytes as f64 / f64::from(1 << 20)),
            p50_ms: at(latency, 0.5),
            p99_ms: at(latency, 0.99),
            p999_ms: at(latency, 0.999),
            loss: lost / due.max(packets).max(1.0),
            freezes: report.counts.freezes,
            unreadable: report.tally.unreadable,
            repeated: report.tally.repeated,
            connect_p50_ms: at(&report.connect, 0.5),
            connect_p99_ms: at(&report.connect, 0.99),
            first_packet_p50_ms: at(&report.first_packet, 0.5),
            first_packet_p99_ms: at(&report.first_packet, 0.99),
            lateness_p99_ms: at(&report.lateness, 0.99),
            load_cpu_percent: percent(report.cpu),
            send_errors: report.send_errors,
            ..Row::default()
        }
    }

    /// Whether the server holds this load.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.connected == self.subscribers
            && self.silent == 0
            && self.failures == 0
            && self.loss <= HELD_LOSS
            && self.p99_ms.is_some_and(|p99| p99 <= HELD_P99_MS)
    }

    /// One line for while it runs.
    #[must_use]
    pub fn progress(&self) -> String {
        format!(
            "{}/{} connected ({} silent), {:.0} packets/s, loss {:.4}, p50 {} ms, p99 {} ms, server {} % CPU, load {:.0} %",
            self.connected,
            self.subscribers,
            self.silent,
            self.packets_per_second,
            self.loss,
            figure(self.p50_ms, 2),
            figure(self.p99_ms, 2),
            figure(self.cpu_percent, 0),
            self.load_cpu_percent,
        )
    }

    /// The first lines of a table of rows.
    #[must_use]
    pub fn table_head() -> String {
        let columns = [
            "server",
            "scene",
            "subscribers",
            "packets/s",
            "ns/packet",
            "CPU %",
            "softirq %",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "loss",
            "freezes",
            "RSS MiB",
            "join p50 / p99 ms",
            "load's lateness p99 ms",
        ];
        format!(
            "| {} |\n|{}",
            columns.join(" | "),
            " --- |".repeat(columns.len())
        )
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // In rooms people come before those whom they receive.
        let joins = if self.publishers > self.rooms {
            (self.connect_p50_ms, self.connect_p99_ms)
        } else {
            (self.first_packet_p50_ms, self.first_packet_p99_ms)
        };
        let joins = (figure(joins.0, 0), figure(joins.1, 0));
        let cells = [
            self.server.clone(),
            self.scene.clone(),
            format!("{} of {}", self.connected, self.subscribers + self.failures),
            format!("{:.0}", self.packets_per_second),
            figure(self.ns_per_packet, 0),
            figure(self.cpu_percent, 1),
            figure(self.softirq_percent, 1),
            figure(self.p50_ms, 2),
            figure(self.p99_ms, 2),
            figure(self.p999_ms, 2),
            format!("{:.5}", self.loss),
            self.freezes.to_string(),
            figure(self.rss_mib, 1),
            format!("{} / {}", joins.0, joins.1),
            figure(self.lateness_p99_ms, 2),
        ];
        write!(f, "| {} |", cells.join(" | "))
    }
}

fn figure(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_is_lost_even_where_no_number_is_missing() {
        let mut report = FlockReport {
            receivers: 2,
            connected: 2,
            streams: 2,
            sent: 1_000,
            frame_max: 10,
            wall: Duration::from_secs(1),
            ..FlockReport::default()
        };
        report.counts.packets = 1_990;
        assert!(
            Row::new(&report, 2.0, None).loss.abs() < 1e-9,
            "a frame on its way"
        );
        report.counts.packets = 1_000;
        let loss = Row::new(&report, 2.0, None).loss;
        assert!((loss - 0.49).abs() < 1e-9, "{loss}");
        report.counts.packets = 1_990;
        report.counts.missing = 10;
        let used = Used {
            cpu: Duration::from_micros(1_990),
            ..Used::default()
        };
        let row = Row::new(&report, 2.0, Some(used));
        assert!((row.loss - 0.005).abs() < 1e-9);
        assert_eq!(row.ns_per_packet, Some(1_000.0));
        assert!(!row.is_held(), "no latency is known");
    }
}
