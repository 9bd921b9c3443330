//! Seats: sessions that this node serves for documents, from the answer to the last write.

use std::collections::BTreeMap;
use std::time::Instant;

use signaling::firestore::{Fields, Kind, Say, read_muted};
use signaling::name::RoomName;
use signaling::node::SourceKind;

use super::cases::Step;
use super::outbox::{Pending, Purpose};
use super::reads::Question;
use super::rooms::{Origin, RoomState};
use super::{Desk, Effect, RequestId, limits, paper};
use crate::firestore::message::{Change, Document, Path, Precondition, Stamp, Write};

/// A session that this node serves for a document.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// What its page is.
    pub(super) kind: Kind,
    /// Its room.
    pub(super) room: RoomName,
    /// The offer that it answers.
    pub(super) mark: u64,
    /// The text of the answer, to be written again if something else in the document changes first.
    pub(super) answer: String,
    /// Whether an answer of it is in the database.
    pub(super) claimed: bool,
    /// The document's newest version that we know.
    pub(super) version: Option<Stamp>,
    /// The number of what its member said last.
    pub(super) said: i64,
    /// What its member muted.
    pub(super) muted: BTreeMap<SourceKind, bool>,
}

impl Desk {
    /// Takes note of a session that was made or has a new offer.
    pub(super) fn seat(&mut self, now: Instant, id: &RequestId, seat: Seat) {
        for (source, _) in seat.muted.iter().filter(|(_, muted)| **muted) {
            let mute = Effect::Mute(id.clone(), *source, true);
            self.effects.push_back(mute);
        }
        if let Some(room) = self.rooms.get_mut(&seat.room) {
            room.seats.insert(id.clone());
            room.empty_since = Some(now);
        }
        self.seats.insert(id.clone(), seat);
    }

    /// Takes a seat away, and it from its room.
    fn unseat(&mut self, now: Instant, id: &RequestId) -> Option<Seat> {
        self.cases.set_claiming(id, false);
        let seat = self.seats.remove(id)?;
        if let Some(room) = self.rooms.get_mut(&seat.room) {
            room.seats.remove(id);
            room.empty_since = Some(now);
        }
        Some(seat)
    }

    /// Ends a session, and the room with it if it is the broadcaster's. Its document is not written.
    pub(super) fn drop_seat(&mut self, now: Instant, id: &RequestId) {
        let Some(seat) = self.unseat(now, id) else {
            return;
        };
        self.effects.push_back(Effect::HangUp(id.clone()));
        if self.withdraw_answer(&id.path()) {
            self.settle_unwritten(now, id, None);
        }
        self.end_room_of(now, id, &seat.room);
    }

    /// Nobody shall read the answer of a session that is over: whether one waited to be written.
    fn withdraw_answer(&mut self, path: &Path) -> bool {
        let waits = matches!(self.outbox.waiting_purpose(path), Some(Purpose::Claim(_)));
        if waits {
            self.outbox.cancel(path);
        }
        waits
    }

    /// What was decided about this offer is not written any more, since something else was, or nothing: it is looked
    /// at again if its document is not of this version.
    pub(super) fn settle_unwritten(
        &mut self,
        now: Instant,
        id: &RequestId,
        version: Option<Stamp>,
    ) {
        let case = self.cases.case(id);
        let is_writing = case.is_some_and(|case| matches!(case.step, Step::Writing));
        if is_writing && !self.outbox.is_busy(&id.path()) {
            self.cases.settle(now, id, version);
        }
    }

    fn end_room_of(&mut self, now: Instant, id: &RequestId, name: &RoomName) {
        let room = self.rooms.get(name);
        let Some(room) = room.filter(|room| room.origin == Origin::Broadcast(id.clone())) else {
            return;
        };
        if room.state == RoomState::Claiming {
            self.rooms.remove(name);
        } else {
            self.close_room(now, name, "this meeting is over");
        }
    }

    /// A page hung up.
    pub(super) fn on_hung_up(&mut self, now: Instant, document: &Document) {
        let id = document.request_id();
        let seated = self.seats.contains_key(&id);
        if !seated && self.station.is_replaced() {
            return;
        }
        if seated {
            self.counters.hung_up += 1;
            self.drop_seat(now, &id);
        } else if let Ok(name) = id.0.parse() {
            // The broadcaster whose media was lost before.
            self.end_room_of(now, &id, &name);
        }
        self.finish(now, &id, Some(document.updated), "", "");
    }

    /// A member's document changed.
    pub(super) fn on_member(&mut self, document: &Document) {
        let id = document.request_id();
        let Some(seat) = self.seats.get_mut(&id) else {
            return;
        };
        seat.version = seat.version.max(Some(document.updated));
        // Bad fields are as if they had not been written.
        let muted = read_muted(&document.fields).unwrap_or_default();
        for (source, muted) in muted {
            if seat.muted.insert(source, muted).unwrap_or(false) != muted {
                let mute = Effect::Mute(id.clone(), source, muted);
                self.effects.push_back(mute);
            }
        }
        if let Ok(Some(say)) = Say::read(&document.fields)
            && say.n > seat.said
        {
            seat.said = say.n;
            self.effects.push_back(Effect::Say(id, say.text));
        }
    }

    /// A session ended by itself.
    pub(super) fn on_ended(&mut self, now: Instant, id: &RequestId, reason: &str) {
        let Some(seat) = self.unseat(now, id) else {
            return;
        };
        self.counters.ended += 1;
        let mut owner = String::new();
        if !self.drop_unopened(id)
            && let Some(room) = self.rooms.get_mut(&seat.room)
            && room.origin == Origin::Broadcast(id.clone())
        {
            // Its room is kept, and with it the document, until it offers again.
            room.orphaned_until = Some(now + limits::BROADCASTER_GRACE);
            owner.clone_from(&self.config.node);
        }
        if seat.kind == Kind::Camera && self.is_leaving() {
            self.give_back(now, id, &seat);
            return;
        }
        let error = format!("{reason}; offer again");
        self.finish_seat(now, id, &seat, &owner, &error);
    }

    /// A node that ends gave up a room of cameras: others may take them at once.
    pub(super) fn leave_cameras(&mut self, now: Instant, room: &RoomName) {
        if !self.is_leaving() {
            return;
        }
        let ours = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.kind == Kind::Camera && seat.room == *room && seat.claimed);
        let ids: Vec<RequestId> = ours.map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some(seat) = self.unseat(now, &id) {
                self.give_back(now, &id, &seat);
            }
        }
    }

    /// Leaves a camera to another node.
    fn give_back(&mut self, now: Instant, id: &RequestId, seat: &Seat) {
        self.effects.push_back(Effect::HangUp(id.clone()));
        if let Some(version) = seat.version {
            self.write_last(id, version, paper::given_back(self.at(now)));
        }
    }

    /// Writes that the document of a seat that was taken away is done with.
    pub(super) fn finish_seat(
        &mut self,
        now: Instant,
        id: &RequestId,
        seat: &Seat,
        owner: &str,
        error: &str,
    ) {
        self.finish_offer(now, id, seat.version, owner, error, seat.mark);
    }

    /// Writes that a document is done with.
    pub(super) fn finish(
        &mut self,
        now: Instant,
        id: &RequestId,
        version: Option<Stamp>,
        owner: &str,
        error: &str,
    ) {
        self.finish_offer(now, id, version, owner, error, 0);
    }

    fn finish_offer(
        &mut self,
        now: Instant,
        id: &RequestId,
        version: Option<Stamp>,
        owner: &str,
        error: &str,
        mark: u64,
    ) {
        let Some(version) = version else {
            self.reads.push(Question::Request(id.clone()));
            return;
        };
        self.write_last(id, version, paper::done(owner, error, mark, self.at(now)));
    }

    /// Writes the last that we have to say of a document.
    fn write_last(&mut self, id: &RequestId, version: Stamp, fields: Fields) {
        let path = id.path();
        self.withdraw_answer(&path);
        self.outbox.push(Pending {
            write: Write {
                path,
                change: Change::Set(fields),
                precondition: Precondition::Updated(version),
            },
            purpose: Purpose::Finish(id.clone()),
            follows: true,
        });
    }

    /// The node ends: every document is told.
    pub(super) fn leave_all(&mut self, now: Instant) {
        let ids: Vec<RequestId> = self.seats.keys().cloned().collect();
        for id in ids {
            match self.unseat(now, &id) {
                Some(seat) if seat.kind == Kind::Camera => self.give_back(now, &id, &seat),
                Some(seat) => self.finish_seat(now, &id, &seat, "", "the node ended; offer again"),
                None => {}
            }
        }
        let rooms: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for room in rooms {
            self.forget_room(&room);
        }
    }
}
