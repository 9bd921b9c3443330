//! Our own node in the registry: heartbeats, who took our place, the end.

use std::time::Instant;

use signaling::firestore::{Fields, Value};

use super::outbox::{Outcome, Pending, Purpose};
use super::reads::Question;
use super::{Desk, limits};
use crate::firestore::message::{Change, Collection, Document, Path, Precondition, Stamp, Write};
use crate::firestore::registry::text;

/// Our own node.
#[derive(Debug, Default)]
pub(super) struct Station {
    state: State,
    /// The version of our document that we wrote last.
    version: Option<Stamp>,
    /// When we wrote it.
    written: Option<Instant>,
    /// When to write it next; now if never.
    next: Option<Instant>,
    /// Documents of ours may be in others' hands: look for them when we are registered.
    audit: bool,
    draining: bool,
    ending: bool,
    /// The end is written, or being written.
    farewell: bool,
}

/// Where we stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Our document is to be read, is being read or written.
    #[default]
    Absent,
    /// It is there and it is ours.
    Registered,
    /// Another process of our id took our place.
    Replaced,
}

impl Station {
    pub(super) fn is_registered(&self) -> bool {
        self.state == State::Registered
    }

    /// Whether our documents are another process's.
    pub(super) fn is_replaced(&self) -> bool {
        self.state == State::Replaced
    }

    pub(super) fn on_up(&mut self) {
        self.next = None;
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// # Errors
    /// Why no rooms are taken.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.is_replaced() {
            Err("another node registered with the same id".to_owned())
        } else if self.ending || self.draining {
            Err("the node is shutting down".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Desk {
    /// Whether no new rooms are taken.
    pub(super) fn is_leaving(&self) -> bool {
        self.station.draining || self.station.ending || self.station.is_replaced()
    }

    /// Writes our document when it is time.
    pub(super) fn tick_station(&mut self, now: Instant) {
        let due = self.station.next.is_none_or(|next| next <= now);
        let path = Path::node(&self.config.node);
        if !due
            || !self.reach.is_up()
            || self.station.is_replaced()
            || self.station.farewell
            || self.outbox.is_busy(&path)
            || self.reads.is_asking(&Question::Station)
        {
            return;
        }
        match self.station.version {
            Some(version) => self.beat(now, Precondition::Updated(version)),
            None => self.reads.push(Question::Station),
        }
    }

    /// What our document says was read.
    pub(super) fn on_station_read(&mut self, now: Instant, document: Option<&Document>) {
        if self.station.farewell {
            return;
        }
        let Some(document) = document else {
            // Never written, swept, or forgotten with everything else.
            self.station.audit = true;
            if self.station.written.is_some() {
                // Whoever deleted it did so not long ago.
                let path = Path::node(&self.config.node);
                self.outbox.hold(&path, now + limits::FOREIGN_WRITE_GAP);
            }
            self.beat(now, Precondition::Absent);
            return;
        };
        let is_ours = text(&document.fields, "incarnation") == self.config.incarnation;
        if !is_ours && self.station.written.is_some() {
            self.on_replaced();
            return;
        }
        let swept = !text(&document.fields, "swept_by").is_empty();
        self.station.audit |= !is_ours || swept;
        self.keep_gap(now, document);
        self.beat(now, Precondition::Updated(document.updated));
    }

    /// A heartbeat came to an end.
    pub(super) fn on_beaten(&mut self, now: Instant, outcome: &Outcome) {
        let Some(version) = outcome.done else {
            self.station.version = None;
            self.station.next = Some(now);
            self.reads.push(Question::Station);
            return;
        };
        let lapsed = self
            .station
            .written
            .is_none_or(|written| now > written + self.config.lease);
        self.station.version = Some(version);
        self.station.written = Some(now);
        self.station.next = Some(now + limits::HEARTBEAT);
        if self.station.state == State::Absent {
            self.station.state = State::Registered;
        }
        if lapsed || self.station.audit {
            self.station.audit = false;
            let node = self.config.node.clone();
            for collection in [Collection::Requests, Collection::Rooms] {
                self.reads.push(Question::Owned(node.clone(), collection));
            }
        }
    }

    /// A node's document changed: it may be ours.
    pub(super) fn on_node(&mut self, now: Instant, document: &Document) {
        if document.path.id != self.config.node {
            return;
        }
        let newer = self
            .station
            .version
            .is_some_and(|version| document.updated > version);
        let incarnation = text(&document.fields, "incarnation");
        if newer && incarnation != self.config.incarnation {
            self.on_replaced();
        } else if newer && !text(&document.fields, "swept_by").is_empty() {
            // We are taken for dead: say that we are not.
            self.station.version = None;
            self.station.next = Some(now);
            self.tick_station(now);
        }
    }

    fn on_replaced(&mut self) {
        if !self.station.is_replaced() {
            self.station.state = State::Replaced;
            self.outbox.cancel(&Path::node(&self.config.node));
            self.alarm(format!(
                "another node registered as `{}`: this one takes no new meetings; give each node its own id",
                self.config.node
            ));
        }
    }

    pub(super) fn on_drain(&mut self, now: Instant) {
        self.station.draining = true;
        self.station.next = Some(now);
        self.tick_station(now);
    }

    pub(super) fn on_end(&mut self, now: Instant) {
        if self.station.ending {
            return;
        }
        self.station.ending = true;
        self.station.draining = true;
        self.leave_all(now);
        self.next_tick = Some(now);
    }

    /// Whether all else is written and only our own document is left.
    pub(super) fn is_farewell_due(&self) -> bool {
        let path = Path::node(&self.config.node);
        let own = usize::from(self.outbox.is_busy(&path));
        self.station.ending
            && !self.station.farewell
            && self.outbox.in_flight() + self.outbox.waiting() <= own
    }

    /// Takes our document out of the registry.
    pub(super) fn say_farewell(&mut self) {
        self.station.farewell = true;
        let path = Path::node(&self.config.node);
        let Some(version) = self.station.version.filter(|_| !self.station.is_replaced()) else {
            self.outbox.cancel(&path);
            return;
        };
        self.outbox.push(Pending {
            write: Write {
                path,
                change: Change::Delete,
                precondition: Precondition::Updated(version),
            },
            purpose: Purpose::Farewell,
            follows: true,
        });
    }

    /// Whether everything is written that [`Desk::handle_end`] asked for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let written = self.outbox.in_flight() + self.outbox.waiting() == 0;
        self.station.ending && self.station.farewell && written
    }

    fn beat(&mut self, now: Instant, precondition: Precondition) {
        // Until it is done; a failed one is the outbox's to repeat.
        self.station.next = Some(now + limits::HEARTBEAT);
        let fields = self.node_fields(now);
        self.outbox.push(Pending {
            write: Write {
                path: Path::node(&self.config.node),
                change: Change::Set(fields),
                precondition,
            },
            purpose: Purpose::Heartbeat,
            follows: false,
        });
    }

    fn node_fields(&self, now: Instant) -> Fields {
        let count = |count: usize| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
        let config = &self.config;
        let lease_s = i64::try_from(config.lease.as_secs()).unwrap_or(i64::MAX);
        let lease_end = self.clock.at(now).map(|at| at.after(config.lease));
        [
            ("id", Value::from(config.node.as_str())),
            ("incarnation", config.incarnation.as_str().into()),
            ("addresses", config.addresses.as_str().into()),
            ("http", config.http.as_str().into()),
            ("version", config.version.as_str().into()),
            ("rooms", count(self.load.rooms)),
            ("sessions", count(self.load.sessions)),
            ("broadcasts", count(self.rooms.len())),
            ("capacity_broadcasts", count(config.broadcasts_max)),
            ("capacity_sessions", count(config.sessions_max)),
            ("load", Value::Double(self.load.load)),
            ("draining", self.station.draining.into()),
            ("lease_s", lease_s.into()),
            (
                "lease_until",
                lease_end.map_or(Value::Null, |end| Value::Time(end.0)),
            ),
            ("swept_by", "".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}
