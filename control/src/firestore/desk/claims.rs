//! Answers and refusals: a verdict carried out, up to what the database makes of it.

use std::time::Instant;

use signaling::firestore::{
    BadRequest, Fields, Kind, Request, Say, encode_answer, read_camera, read_muted, read_offer,
};
use signaling::node::Refusal;

use super::cases::Step;
use super::outbox::{Outcome, Pending, Purpose};
use super::reads::Question;
use super::rooms::{Origin, Room, RoomState};
use super::seats::Seat;
use super::verdict::Verdict;
use super::{Answered, Desk, Effect, RequestId, Serve, limits, paper};
use crate::firestore::message::{Change, Precondition, Stamp, Write};

impl Desk {
    /// Decides about an offer that it is time to look at.
    pub(super) fn judge(&mut self, now: Instant, id: &RequestId) {
        let Some(case) = self.cases.case(id) else {
            return;
        };
        let Some(document) = case.document.as_ref() else {
            return;
        };
        match self.verdict(now, id, case, document) {
            Verdict::Settle => self.cases.set_step(id, Step::Settled),
            Verdict::Look(at) => {
                // Never at once again, whatever was computed.
                let soonest = now + std::time::Duration::from_millis(1);
                self.cases.set_step(id, Step::Due(at.max(soonest)));
            }
            Verdict::Serve(request) => self.serve(now, id, request),
            Verdict::Repeat => self.repeat(now, id),
            Verdict::Refuse(sentence) => self.refuse(now, id, &sentence),
            Verdict::AskParent(parent) => {
                self.cases.set_step(id, Step::Asking);
                self.reads.push(Question::Parent(id.clone(), parent));
            }
            Verdict::ClaimRoom(room) => {
                self.cases.set_step(id, Step::Parked);
                self.claim_room(now, &room);
            }
            Verdict::Park => self.cases.set_step(id, Step::Parked),
        }
    }

    fn serve(&mut self, now: Instant, id: &RequestId, request: Request) {
        let Some(document) = self.cases.case(id).and_then(|case| case.document.as_ref()) else {
            return;
        };
        let effect = match Self::to_serve(id, &request, &document.fields) {
            Ok(effect) => effect,
            Err(bad) => return self.refuse(now, id, &bad.to_string()),
        };
        let moved = self
            .seats
            .get(id)
            .is_some_and(|seat| seat.room != request.room || seat.kind != request.kind);
        if moved {
            self.drop_seat(now, id);
        }
        if request.kind == Kind::Broadcaster && !self.rooms.contains_key(&request.room) {
            let room = Room::new(Origin::Broadcast(id.clone()));
            self.rooms.insert(request.room.clone(), room);
        }
        self.cases.set_step(id, Step::Serving(request));
        self.cases.set_claiming(id, true);
        self.effects.push_back(effect);
    }

    /// What the shell is to do for a request.
    fn to_serve(id: &RequestId, request: &Request, fields: &Fields) -> Result<Effect, BadRequest> {
        if request.kind == Kind::Camera {
            let camera = Box::new(read_camera(fields)?);
            return Ok(Effect::Pull(id.clone(), camera));
        }
        let serve = Serve {
            kind: request.kind,
            room: request.room.clone(),
            name: request.name.clone(),
            offer: read_offer(fields)?,
            wants: request.member.wants.clone(),
            sources: request.member.sources.clone(),
        };
        Ok(Effect::Serve(id.clone(), serve))
    }

    /// The node made the session, or would not.
    pub(super) fn on_served(
        &mut self,
        now: Instant,
        id: &RequestId,
        served: Result<Answered, Refusal>,
    ) {
        self.cases.set_claiming(id, false);
        let Some(case) = self.cases.case(id) else {
            // The document was deleted or hung up in between.
            self.effects.push_back(Effect::HangUp(id.clone()));
            self.drop_unopened(id);
            return;
        };
        let (Step::Serving(request), Some(document)) = (&case.step, &case.document) else {
            return;
        };
        let request = request.clone();
        match served {
            Ok(answered) => {
                let fields = &document.fields;
                let seat = Seat {
                    kind: request.kind,
                    room: request.room.clone(),
                    mark: case.mark,
                    answer: match answered {
                        Answered::Session { sdp } => encode_answer(&sdp),
                        // By which `/v1/cameras` knows it.
                        Answered::Camera => id.0.clone(),
                    },
                    claimed: self.seats.get(id).is_some_and(|seat| seat.claimed),
                    version: Some(case.updated),
                    said: Say::read(fields).ok().flatten().map_or(0, |say| say.n),
                    muted: read_muted(fields).unwrap_or_default(),
                };
                self.seat(now, id, seat);
                self.cases.set_claiming(id, true);
                self.repeat(now, id);
            }
            Err(refusal) => self.on_refusal(now, id, &request, &refusal),
        }
    }

    fn on_refusal(&mut self, now: Instant, id: &RequestId, request: &Request, refusal: &Refusal) {
        let opened = self.drop_unopened(id);
        let full = matches!(
            refusal,
            Refusal::NodeFull(_) | Refusal::ShuttingDown | Refusal::Broken(_)
        );
        if full && request.kind == Kind::Broadcaster && opened {
            // Another node may take it.
            if let Some(case) = self.cases.case_mut(id) {
                case.declined = Some(refusal.to_string());
            }
            self.cases.set_step(id, Step::Due(now));
        } else {
            self.refuse(now, id, &refusal.to_string());
        }
    }

    /// Writes the answer of a document's seat into the version that we know.
    fn repeat(&mut self, now: Instant, id: &RequestId) {
        let lease_end = self.at(now).after(self.config.lease);
        let (Some(seat), Some(case)) = (self.seats.get(id), self.cases.case(id)) else {
            return;
        };
        let fields = paper::served(&self.config.node, Some(&seat.answer), lease_end);
        let updated = case.updated;
        self.cases.set_step(id, Step::Writing);
        self.outbox.push(Pending {
            write: Write {
                path: id.path(),
                change: Change::Set(fields),
                precondition: Precondition::Updated(updated),
            },
            purpose: Purpose::Claim(id.clone()),
            follows: false,
        });
    }

    /// Writes why the offer is not served.
    pub(super) fn refuse(&mut self, now: Instant, id: &RequestId, sentence: &str) {
        let at = self.at(now);
        let Some(case) = self.cases.case(id) else {
            return;
        };
        let mut fields = paper::done("", sentence, case.mark, at);
        if self.seats.contains_key(id) {
            // The session that it had goes on.
            fields.extend(paper::still_served(
                &self.config.node,
                at.after(self.config.lease),
            ));
        }
        let updated = case.updated;
        self.cases.set_step(id, Step::Writing);
        self.outbox.push(Pending {
            write: Write {
                path: id.path(),
                change: Change::Set(fields),
                precondition: Precondition::Updated(updated),
            },
            purpose: Purpose::Refuse(id.clone()),
            follows: false,
        });
    }

    /// A refusal came to an end.
    pub(super) fn on_refused(&mut self, now: Instant, id: &RequestId, outcome: &Outcome) {
        self.counters.refused += u64::from(outcome.done.is_some());
        self.cases.settle(now, id, outcome.meant);
    }

    /// An answer came to an end.
    pub(super) fn on_claimed(&mut self, now: Instant, id: &RequestId, outcome: &Outcome) {
        if outcome.done.is_some() {
            self.counters.answered += 1;
            self.cases.set_claiming(id, false);
            self.on_seated(now, id);
            self.cases.settle(now, id, outcome.meant);
            return;
        }
        if outcome.denied {
            self.cases.set_claiming(id, false);
            if self.seats.get(id).is_some_and(|seat| !seat.claimed) {
                self.drop_seat(now, id);
            }
            self.cases.set_step(id, Step::Due(now));
            return;
        }
        if outcome.doubtful {
            // It may have been lost to ourselves: the document says.
            self.reads.push(Question::Request(id.clone()));
            return;
        }
        self.on_claim_lost(now, id, outcome.meant);
    }

    /// Somebody changed the document before our answer came.
    pub(super) fn on_claim_lost(&mut self, now: Instant, id: &RequestId, meant: Option<Stamp>) {
        self.counters.claims_lost += 1;
        self.cases.set_claiming(id, false);
        if self.seats.get(id).is_some_and(|seat| seat.claimed) {
            self.reads.push(Question::Request(id.clone()));
        } else {
            self.drop_seat(now, id);
        }
        self.cases.settle(now, id, meant);
    }

    /// The answer is in the database: the room is open.
    pub(super) fn on_seated(&mut self, now: Instant, id: &RequestId) {
        let Some(seat) = self.seats.get_mut(id) else {
            return;
        };
        seat.claimed = true;
        let name = seat.room.clone();
        let kind = seat.kind;
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        if room.origin == Origin::Broadcast(id.clone()) {
            room.orphaned_until = None;
            if room.state == RoomState::Claiming {
                room.state = RoomState::Open;
                self.cases.look_at_room(now, &name);
            }
        }
        if kind == Kind::Member {
            self.share_room(now, &name);
        }
    }

    /// Forgets the room of a broadcaster whose answer never came to the database. Whether there was
    /// one.
    pub(super) fn drop_unopened(&mut self, id: &RequestId) -> bool {
        let Ok(name) = id.0.parse() else {
            return false;
        };
        let unopened = self.rooms.get(&name).is_some_and(|room| {
            room.state == RoomState::Claiming && room.origin == Origin::Broadcast(id.clone())
        });
        if unopened {
            self.rooms.remove(&name);
        }
        unopened
    }

    /// A document of the work set has this version; if we serve it, its owner may be another now, or its page have
    /// been refused by another.
    pub(super) fn note_version(
        &mut self,
        now: Instant,
        document: &crate::firestore::message::Document,
    ) {
        let id = document.request_id();
        let owner = paper::owner(&document.fields);
        if !self.seats.contains_key(&id) {
            return;
        }
        let is_refused = paper::is_refused(&document.fields) && owner != self.config.node;
        if self.is_anothers(now, owner) || is_refused {
            self.drop_seat(now, &id);
        } else if let Some(seat) = self.seats.get_mut(&id) {
            seat.version = seat.version.max(Some(document.updated));
        }
    }

    /// The parent of an offer that nobody answers was read.
    pub(super) fn on_parent_read(
        &mut self,
        now: Instant,
        id: &RequestId,
        parent: &str,
        document: Option<&crate::firestore::message::Document>,
    ) {
        let Some(case) = self.cases.case(id) else {
            return;
        };
        if !matches!(case.step, Step::Asking) {
            return;
        }
        let patience = self.base(case) + limits::OWNER_PATIENCE + self.pace.slack();
        let gone =
            "the node that served this meeting is gone; offer again when its broadcaster has";
        let sentence = match document {
            None => format!("there is no meeting `{parent}`; check its id"),
            Some(document) => {
                let fields = &document.fields;
                let kind = crate::firestore::registry::text(fields, "kind");
                let owner = paper::owner(fields);
                if kind != Kind::Broadcaster.as_str() {
                    format!("`{parent}` is not a broadcaster's document; check its id")
                } else if paper::is_hung_up(fields) {
                    "this meeting is over".to_owned()
                } else if self.is_anothers(now, owner) {
                    if now < patience {
                        self.cases.set_step(id, Step::Due(patience));
                        return;
                    }
                    "the node that serves this meeting did not answer in time; offer again"
                        .to_owned()
                } else if paper::is_work(fields) {
                    "this meeting has not begun; offer again when its broadcaster is there"
                        .to_owned()
                } else {
                    gone.to_owned()
                }
            }
        };
        self.refuse(now, id, &sentence);
    }
}
