//! What the database answers: where each outcome belongs, and what is made of a document of ours that
//! is not as we left it.

use std::time::Instant;

use super::outbox::Pending;
use super::outbox::Purpose;
use super::reads::Question;
use super::{Desk, RequestId, WriteId, paper};
use crate::firestore::message::{Change, Document, Path, Precondition, Write, Written};

impl Desk {
    pub(super) fn on_written(&mut self, now: Instant, id: WriteId, written: &Written) {
        match written {
            Written::Done(stamp) => {
                self.clock.handle_stamp(now, *stamp);
                self.on_allowed(now);
            }
            Written::Lost => {}
            Written::Denied(reason) => {
                self.counters.writes_failed += 1;
                self.on_denied(reason);
            }
            Written::Failed(_) => self.counters.writes_failed += 1,
        }
        let Some(outcome) = self.outbox.handle_written(now, id, written) else {
            return;
        };
        match &outcome.purpose {
            Purpose::Heartbeat => self.on_beaten(now, &outcome),
            Purpose::Farewell => {}
            Purpose::Claim(id) => {
                self.note_written(id, outcome.done);
                self.on_claimed(now, id, &outcome);
            }
            Purpose::Reclaim(id) | Purpose::Finish(id) => {
                self.note_written(id, outcome.done);
                if outcome.done.is_none() {
                    self.reads.push(Question::Request(id.clone()));
                }
                self.settle_unwritten(now, id, outcome.meant);
            }
            Purpose::Refuse(id) => {
                self.note_written(id, outcome.done);
                self.on_refused(now, id, &outcome);
            }
            Purpose::Mark(_, node) | Purpose::DropRoom(_, node) => {
                self.on_swept(node, outcome.done.is_some());
            }
            Purpose::Room(name) => self.on_room_written(now, name, &outcome),
            Purpose::CloseRoom(name) => self.on_room_closed(now, name),
            Purpose::SweepBegin(node) => self.on_sweep_begun(node, outcome.done),
            Purpose::SweepEnd(node) => self.on_sweep_ended(node, outcome.done.is_some()),
        }
    }

    fn note_written(&mut self, id: &RequestId, done: Option<crate::firestore::message::Stamp>) {
        if let Some(seat) = self.seats.get_mut(id) {
            seat.version = seat.version.max(done);
        }
    }

    pub(super) fn on_read(
        &mut self,
        now: Instant,
        question: Question,
        document: Option<&Document>,
    ) {
        match question {
            Question::Station => self.on_station_read(now, document),
            Question::Parent(id, parent) => {
                self.on_parent_read(now, &id, parent.as_str(), document);
            }
            Question::RoomOwner(room) => self.on_room_read(now, &room, document),
            Question::RoomParent(room) => self.on_room_parent_read(now, &room, document),
            Question::Request(id) => self.reconcile(now, &id, document),
            Question::Owned(..) | Question::Count(_) => {}
        }
    }

    /// A document of ours may be in other hands, or as nobody left it: this is what it is.
    fn reconcile(&mut self, now: Instant, id: &RequestId, document: Option<&Document>) {
        let doubtful = self.seats.get(id).is_some_and(|seat| !seat.claimed);
        match document {
            // Deleted, or forgotten by a database that started again: the session goes on.
            None => {
                if doubtful {
                    self.drop_seat(now, id);
                } else if let Some(seat) = self.seats.get_mut(id) {
                    seat.version = None;
                }
            }
            Some(document) if self.seats.contains_key(id) => {
                self.reconcile_seat(now, id, document);
            }
            Some(document) => {
                let fields = &document.fields;
                let ours = paper::owner(fields) == self.config.node;
                let free = !self.is_awaited(id) && !self.outbox.is_busy(&id.path());
                if ours && free && !paper::is_work(fields) && !self.station.is_replaced() {
                    self.finish(now, id, Some(document.updated), "", "");
                }
            }
        }
        if doubtful {
            // A doubtful answer is decided: what the document holds now may be new work.
            self.cases.set_claiming(id, false);
            let version = document.map(|document| document.updated);
            let answered = document.is_some_and(|document| !paper::is_work(&document.fields));
            self.cases.settle(now, id, version.filter(|_| answered));
        }
    }

    fn reconcile_seat(&mut self, now: Instant, id: &RequestId, document: &Document) {
        let fields = &document.fields;
        let owner = paper::owner(fields);
        let Some(seat) = self.seats.get_mut(id) else {
            return;
        };
        seat.version = Some(document.updated);
        let claimed = seat.claimed;
        let ours = paper::answer(fields) == seat.answer;
        if paper::is_hung_up(fields) {
            self.counters.hung_up += 1;
            self.drop_seat(now, id);
            if owner == self.config.node {
                self.finish(now, id, Some(document.updated), "", "");
            }
        } else if self.is_anothers(now, owner) {
            self.drop_seat(now, id);
        } else if owner == self.config.node && ours {
            if !claimed {
                self.counters.answered += 1;
            }
            self.on_seated(now, id);
        } else if paper::is_work(fields) || !claimed {
            // The work set brings it, if it is work.
            if !claimed && !paper::is_work(fields) {
                self.drop_seat(now, id);
            }
        } else if owner != self.config.node && !ours {
            // The page has given the session up: it offered anew while we were taken for dead, and was told no.
            self.drop_seat(now, id);
        } else if owner != self.config.node && !self.station.is_replaced() {
            self.reclaim(now, id, document);
        }
    }

    /// Others took us for dead, and nobody took the document: it is ours again.
    fn reclaim(&mut self, now: Instant, id: &RequestId, document: &Document) {
        let lease_end = self.at(now).after(self.config.lease);
        self.keep_gap(now, document);
        self.outbox.push(Pending {
            write: Write {
                path: Path::request(&id.0),
                change: Change::Set(paper::served(&self.config.node, None, lease_end)),
                precondition: Precondition::Updated(document.updated),
            },
            purpose: Purpose::Reclaim(id.clone()),
            follows: false,
        });
    }
}
