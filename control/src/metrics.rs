//! The metrics page: Prometheus' text format, from one look at the node.

mod cameras;
mod firestore;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use dataplane::counters::Counters;
use dataplane::driver::WorkerInfo;
use dataplane::event::Report;
use dataplane::load::Load;
use signaling::node::Refusal;

use crate::camera::cameras::CameraTotals;
use crate::firestore::shell::Standing;
use crate::gate::Gate;
use crate::room::{ChannelRefusal, ClientKind, EndReason, Totals};

/// What the node counts of its own doing, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    joins: BTreeMap<&'static str, u64>,
    opened: BTreeMap<&'static str, u64>,
    ended: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
    channels: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// A person, encoder or player came in.
    pub fn joined(&mut self, client: ClientKind) {
        *self.joins.entry(client.label()).or_default() += 1;
    }

    /// A media session was made.
    pub fn opened(&mut self, client: ClientKind) {
        *self.opened.entry(client.label()).or_default() += 1;
    }

    /// A media session ended.
    pub fn ended(&mut self, reason: EndReason) {
        *self.ended.entry(reason.label()).or_default() += 1;
    }

    /// A data channel was closed by us, or a message not handed on.
    pub fn channel_refused(&mut self, reason: ChannelRefusal) {
        *self.channels.entry(reason.label()).or_default() += 1;
    }

    /// Somebody was refused.
    pub fn refused(&mut self, refusal: &Refusal) {
        *self.refused.entry(refusal_label(refusal)).or_default() += 1;
    }
}

/// How busy a worker last said that it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// The share of its time that its turns take.
    pub load: Load,
    /// How long a packet may wait for company at that load, in microseconds.
    pub hold_us: u64,
    /// Its longest turn since the report before, in microseconds.
    pub slowest_turn_us: u64,
    /// Sessions, tracks, senders and addresses that its engine holds.
    pub objects: u64,
    /// Times at which its engine wants to do something.
    pub timers: u64,
}

impl From<&Report> for Strain {
    fn from(report: &Report) -> Strain {
        Strain {
            load: report.load,
            hold_us: report.hold_us,
            slowest_turn_us: report.slowest_turn_us,
            objects: report.objects,
            timers: report.timers,
        }
    }
}

/// What the page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// What is there now.
    pub totals: Totals,
    /// The cameras.
    pub cameras: CameraTotals,
    /// What happened so far.
    pub tally: &'a Tally,
    /// The workers.
    pub workers: &'a [WorkerInfo],
    /// What each of them last reported, by index.
    pub counters: &'a [Counters],
    /// How busy each of them last was, by index.
    pub strain: &'a [Strain],
    /// How often each of them failed, by index.
    pub failures: &'a [u64],
    /// Commands that wait for room in a worker's queue.
    pub backlog: usize,
    /// How the Firestore door stands, if there is one.
    pub database: Option<&'a Standing>,
    /// Where HTTP connections come in.
    pub gate: Option<&'a Gate>,
}

/// Writes the page (Prometheus text format 0.0.4).
#[must_use]
pub fn render(snapshot: &Snapshot<'_>) -> String {
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.family("millrace_build_info", "gauge", "The version that runs.");
    page.sample("millrace_build_info", &[("version", &version)], 1);
    page.totals(&snapshot.totals);
    page.tally(snapshot.tally);
    page.cameras(&snapshot.cameras);
    page.family(
        "millrace_command_backlog",
        "gauge",
        "Commands that wait for room in a worker's queue.",
    );
    page.sample("millrace_command_backlog", &[], snapshot.backlog as u64);
    page.family(
        "millrace_worker_info",
        "gauge",
        "The driver and port of each worker.",
    );
    for info in snapshot.workers {
        let labels: [(&str, &dyn Display); 3] = [
            ("worker", &info.index),
            ("driver", &info.driver),
            ("port", &info.port),
        ];
        page.sample("millrace_worker_info", &labels, 1);
    }
    page.family(
        "millrace_worker_failures_total",
        "counter",
        "How often each worker failed and started again; its sessions ended each time.",
    );
    for (index, failures) in snapshot.failures.iter().enumerate() {
        page.sample(
            "millrace_worker_failures_total",
            &[("worker", &index)],
            *failures,
        );
    }
    page.strain(snapshot.strain);
    page.counters(snapshot.counters);
    if let Some(gate) = snapshot.gate {
        page.gate(gate);
    }
    if let Some(standing) = snapshot.database {
        page.database(standing);
    }
    page.text
}

#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn gate(&mut self, gate: &Gate) {
        let (open, refused) = (gate.open() as u64, gate.refused());
        self.family(
            "millrace_http_connections",
            "gauge",
            "HTTP connections, WebSockets among them.",
        );
        self.sample("millrace_http_connections", &[], open);
        self.family(
            "millrace_http_connections_refused_total",
            "counter",
            "HTTP connections that found no place and were closed.",
        );
        self.sample("millrace_http_connections_refused_total", &[], refused);
    }

    /// Labels come from this program only, and none needs escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: u64) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{value}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    fn totals(&mut self, totals: &Totals) {
        let gauges = [
            (
                "millrace_rooms",
                "Rooms with somebody in them.",
                totals.rooms,
            ),
            (
                "millrace_people",
                "People, encoders and cameras in rooms.",
                totals.people,
            ),
            ("millrace_tracks", "Published tracks.", totals.tracks),
        ];
        for (name, help, value) in gauges {
            self.family(name, "gauge", help);
            self.sample(name, &[], value as u64);
        }
        self.family("millrace_sessions", "gauge", "Media sessions.");
        for (client, count) in ClientKind::ALL.into_iter().zip(totals.sessions) {
            self.sample(
                "millrace_sessions",
                &[("client", &client.label())],
                count as u64,
            );
        }
    }

    fn tally(&mut self, tally: &Tally) {
        let clients = ClientKind::ALL.map(ClientKind::label);
        let joins = (
            "millrace_joins_total",
            "People, encoders and players that came in.",
        );
        self.labelled(joins, "client", &clients, &tally.joins);
        let opened = (
            "millrace_sessions_opened_total",
            "Media sessions that were made.",
        );
        self.labelled(opened, "client", &clients, &tally.opened);
        let ended = (
            "millrace_sessions_ended_total",
            "Media sessions that ended, by reason.",
        );
        self.labelled(ended, "reason", &EndReason::LABELS, &tally.ended);
        let refused = (
            "millrace_refusals_total",
            "Requests that were refused, by reason.",
        );
        self.labelled(refused, "reason", &REFUSALS, &tally.refused);
        let channels = (
            "millrace_channel_refusals_total",
            "Data channels that were closed for their label or their rate, and messages that the node had no time for.",
        );
        let reasons = &ChannelRefusal::LABELS;
        self.labelled(channels, "reason", reasons, &tally.channels);
    }

    /// One counter for each known label, zeros too: a rate needs the zero before the first.
    fn labelled(
        &mut self,
        (name, help): (&str, &str),
        label: &str,
        known: &[&'static str],
        counts: &BTreeMap<&'static str, u64>,
    ) {
        self.family(name, "counter", help);
        for value in known {
            let count = counts.get(value).copied().unwrap_or(0);
            self.sample(name, &[(label, value)], count);
        }
    }

    fn strain(&mut self, workers: &[Strain]) {
        type Of = fn(&Strain) -> u64;
        let gauges: [(&str, &str, Of); 5] = [
            (
                "millrace_worker_load_permille",
                "Share of each worker's time that its turns take, in thousandths.",
                |strain| strain.load.0.into(),
            ),
            (
                "millrace_worker_hold_microseconds",
                "How long a packet may wait for others to share its send, at that load.",
                |strain| strain.hold_us,
            ),
            (
                "millrace_worker_slowest_turn_microseconds",
                "The longest turn of each worker in the last second.",
                |strain| strain.slowest_turn_us,
            ),
            (
                "millrace_worker_objects",
                "Sessions, tracks, senders and addresses that each worker's engine holds.",
                |strain| strain.objects,
            ),
            (
                "millrace_worker_timers",
                "Times at which each worker's engine wants to do something.",
                |strain| strain.timers,
            ),
        ];
        for (name, help, of) in gauges {
            self.family(name, "gauge", help);
            for (index, strain) in workers.iter().enumerate() {
                self.sample(name, &[("worker", &index)], of(strain));
            }
        }
    }

    fn counters(&mut self, workers: &[Counters]) {
        let names: Vec<&str> = Counters::default().iter().map(|(name, _)| name).collect();
        for name in names {
            let metric = format!("millrace_{name}_total");
            self.family(
                &metric,
                "counter",
                &format!("The engine's {}.", name.replace('_', " ")),
            );
            for (index, counters) in workers.iter().enumerate() {
                let value = counters.iter().find(|(known, _)| *known == name);
                let value = value.map_or(0, |(_, value)| value);
                self.sample(&metric, &[("worker", &index)], value);
            }
        }
    }
}

/// Labels of all refusals.
const REFUSALS: [&str; 9] = [
    "unservable",
    "bad_camera",
    "room_full",
    "node_full",
    "shutting_down",
    "nothing_to_watch",
    "unknown_session",
    "stale_etag",
    "broken",
];

fn refusal_label(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Unservable(_) => "unservable",
        Refusal::RoomFull(_) => "room_full",
        Refusal::NodeFull(_) => "node_full",
        Refusal::ShuttingDown => "shutting_down",
        Refusal::NothingToWatch => "nothing_to_watch",
        Refusal::UnknownSession => "unknown_session",
        Refusal::BadCamera(_) => "bad_camera",
        Refusal::StaleEtag => "stale_etag",
        Refusal::Broken(_) => "broken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firestore::share::{BOUNDS_US, Histogram};

    /// Lines that the page of the test below must have.
    const SAMPLES: [&str; 16] = [
        "millrace_rooms 3",
        "millrace_joins_total{client=\"whip\"} 1",
        "millrace_joins_total{client=\"page\"} 0",
        "millrace_sessions_ended_total{reason=\"grace_over\"} 1",
        "millrace_refusals_total{reason=\"room_full\"} 1",
        "millrace_rtp_received_total{worker=\"0\"} 7",
        "millrace_rtp_received_total{worker=\"1\"} 0",
        "millrace_worker_load_permille{worker=\"0\"} 300",
        "millrace_worker_failures_total{worker=\"1\"} 2",
        "millrace_http_connections 0",
        "millrace_http_connections_refused_total 0",
        "millrace_firestore_up 1",
        "millrace_firestore_answered_total 5",
        "millrace_firestore_answer_microseconds_bucket{le=\"200\"} 2",
        "millrace_firestore_answer_microseconds_bucket{le=\"+Inf\"} 11",
        "millrace_firestore_answer_microseconds_count 11",
    ];

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_the_family_above() {
        let mut tally = Tally::default();
        tally.joined(ClientKind::Encoder);
        tally.ended(EndReason::GraceOver);
        tally.refused(&Refusal::RoomFull(2));
        let counters = [
            Counters {
                rtp_received: 7,
                ..Counters::default()
            },
            Counters::default(),
        ];
        let page = render(&Snapshot {
            totals: Totals {
                rooms: 3,
                ..Totals::default()
            },
            cameras: CameraTotals::default(),
            tally: &tally,
            workers: &[],
            counters: &counters,
            strain: &[Strain {
                load: Load(300),
                ..Strain::default()
            }],
            failures: &[0, 2],
            backlog: 0,
            gate: Some(&Gate::new()),
            database: Some(&Standing {
                ready: Ok(()),
                counters: crate::firestore::desk::Counters {
                    answered: 5,
                    ..Default::default()
                },
                share: Histogram {
                    counts: [1; BOUNDS_US.len() + 1],
                    sum_us: 12,
                },
            }),
        });
        let mut family = "";
        for line in page.lines() {
            match line
                .strip_prefix("# TYPE ")
                .or(line.strip_prefix("# HELP "))
            {
                Some(header) => family = header.split(' ').next().unwrap(),
                None => {
                    let (sample, value) = line.rsplit_once(' ').unwrap();
                    let name = sample.split('{').next().unwrap();
                    let ends = ["", "_bucket", "_sum", "_count"];
                    let of_family = ends.iter().any(|end| format!("{family}{end}") == name);
                    assert!(of_family, "{line}");
                    value.parse::<u64>().unwrap();
                }
            }
        }
        for sample in SAMPLES {
            assert!(page.lines().any(|line| line == sample), "{sample}\n{page}");
        }
    }
}
