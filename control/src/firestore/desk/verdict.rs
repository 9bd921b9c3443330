//! What is to be done about an offer: the decision alone.

use std::time::{Duration, Instant};

use signaling::firestore::{Fields, Kind, Request, is_camera};
use signaling::name::RoomName;

use super::cases::Case;
use super::effect::RequestId;
use super::rooms::RoomState;
use super::{Desk, limits, outbox, paper};
use crate::firestore::message::{Document, Stamp};
use crate::firestore::registry::Standing;

/// What is to be done about an offer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing, for this version of the document.
    Settle,
    /// Look again then.
    Look(Instant),
    /// Make the session.
    Serve(Request),
    /// Write the answer that it had once more: something else in the document changed.
    Repeat,
    /// Refuse it, with this sentence.
    Refuse(String),
    /// Read its parent to learn why nobody answers it.
    AskParent(RoomName),
    /// Make the room ours.
    ClaimRoom(RoomName),
    /// Wait until the room is ours.
    Park,
}

/// How old an offer may be, as its refusal says it.
const TOO_OLD: &str = "this offer is older than 10 minutes; offer again";

impl Desk {
    /// What is to be done about this offer now.
    pub(super) fn verdict(
        &self,
        now: Instant,
        id: &RequestId,
        case: &Case,
        document: &Document,
    ) -> Verdict {
        let fields = &document.fields;
        if paper::is_empty(fields) || paper::is_refused(fields) {
            return Verdict::Settle;
        }
        let Some(at) = self.clock.at(now) else {
            return Verdict::Look(now + limits::TICK);
        };
        let rest = self.rest_of_gap(at, fields);
        if !rest.is_zero() {
            return Verdict::Look(now + rest);
        }
        if at.since(document.updated) > limits::OFFER_AGE_MAX && !is_camera(fields) {
            return self.refuse_in_turn(now, at, case, id, TOO_OLD.to_owned());
        }
        match Request::read(&id.0, fields) {
            Err(bad) => self.refuse_in_turn(now, at, case, id, bad.to_string()),
            Ok(request) => self.place(now, at, id, case, document, request),
        }
    }

    /// How long nobody should write the document, because another node did not long ago.
    fn rest_of_gap(&self, at: Stamp, fields: &Fields) -> Duration {
        let owner = paper::owner(fields);
        let lease = self.registry.lease(owner);
        let claimed = paper::since_claimed(fields, at, lease).filter(|_| owner != self.config.node);
        let given_back = paper::since_given_back(fields, at);
        let written = [paper::since_done(fields, at), claimed, given_back]
            .into_iter()
            .flatten();
        written.map(outbox::rest_of_gap).max().unwrap_or_default()
    }

    /// An offer that names its room.
    fn place(
        &self,
        now: Instant,
        at: Stamp,
        id: &RequestId,
        case: &Case,
        document: &Document,
        request: Request,
    ) -> Verdict {
        if self
            .seats
            .get(id)
            .is_some_and(|seat| seat.mark == case.mark)
        {
            return Verdict::Repeat;
        }
        let room = self.rooms.get(&request.room).map(|room| room.state);
        match (room, request.kind) {
            (Some(RoomState::Open), _) => return Verdict::Serve(request),
            // A participant is nobody's before the room is.
            (
                Some(RoomState::Claiming | RoomState::Closing),
                Kind::Broadcaster | Kind::Member | Kind::Camera,
            ) => return Verdict::Park,
            // Unless it began here by another door, with a camera or an encoder.
            (Some(RoomState::Claiming), Kind::Participant) if self.is_local(&request.room) => {
                return Verdict::Park;
            }
            (Some(RoomState::Claiming | RoomState::Closing) | None, _) => {}
        }
        let owner = paper::owner(&document.fields);
        match request.kind {
            Kind::Participant if self.may_claim(now, case, &request.room) => {
                Verdict::ClaimRoom(request.room)
            }
            Kind::Participant => self.give_up(now, at, case, id, Some(&request.room)),
            Kind::Broadcaster if self.is_anothers(now, owner) => {
                self.give_up(now, at, case, id, None)
            }
            Kind::Broadcaster => {
                let subject = format!("{}@{}", id.0, document.updated.0);
                match self.turn(now, at, &subject, case) {
                    Turn::Ours => Verdict::Serve(request),
                    Turn::At(turn) => self.wait(now, at, case, id, Some(turn), None),
                    Turn::Never => self.give_up(now, at, case, id, None),
                }
            }
            Kind::Member | Kind::Camera => self.place_member(now, at, id, case, request),
        }
    }

    /// A member, or a camera, of a room that is not ours.
    fn place_member(
        &self,
        now: Instant,
        at: Stamp,
        id: &RequestId,
        case: &Case,
        request: Request,
    ) -> Verdict {
        let room = request.room;
        if self.room_is_anothers(now, &room) {
            return self.give_up(now, at, case, id, None);
        }
        if self.may_claim(now, case, &room) {
            return Verdict::ClaimRoom(room);
        }
        match self.turn(now, at, room.as_str(), case) {
            Turn::Ours => Verdict::ClaimRoom(room),
            Turn::At(turn) => self.wait(now, at, case, id, Some(turn), None),
            Turn::Never => self.give_up(now, at, case, id, None),
        }
    }

    /// Whether this room has somebody in it here, and is to be known to the other nodes as ours.
    fn may_claim(&self, now: Instant, case: &Case, room: &RoomName) -> bool {
        let is_ours = self.is_local(room) && !self.room_is_anothers(now, room);
        is_ours && case.declined.is_none() && self.has_place()
    }

    /// When it is our turn to take a new room.
    fn turn(&self, now: Instant, at: Stamp, subject: &str, case: &Case) -> Turn {
        let candidates = self.registry.candidates(subject, at);
        let Some(rank) = candidates.iter().position(|node| *node == self.config.node) else {
            return Turn::Never;
        };
        if case.declined.is_some() || !self.has_place() {
            return Turn::Never;
        }
        let turn = self.base(case) + self.turn_wait(rank);
        if now >= turn {
            Turn::Ours
        } else {
            Turn::At(turn)
        }
    }

    /// It is somebody else's turn, or nobody's: wait, and in the end refuse it when it is our turn
    /// to.
    fn give_up(
        &self,
        now: Instant,
        at: Stamp,
        case: &Case,
        id: &RequestId,
        parent: Option<&RoomName>,
    ) -> Verdict {
        self.wait(now, at, case, id, None, parent)
    }

    fn wait(
        &self,
        now: Instant,
        at: Stamp,
        case: &Case,
        id: &RequestId,
        turn: Option<Instant>,
        parent: Option<&RoomName>,
    ) -> Verdict {
        let order = self.registry.by_hash(&id.0, at);
        let rank = order.iter().position(|node| *node == self.config.node);
        let rank = rank.map_or(limits::GIVE_UP_RANKS_MAX, |rank| {
            u32::try_from(rank).unwrap_or(u32::MAX)
        });
        let step = limits::CHOICE_STEP * rank.min(limits::GIVE_UP_RANKS_MAX);
        let end = self.base(case) + limits::GIVE_UP + step + self.pace.slack();
        if now < end {
            // Others' headroom changes in the meantime, and so does whose turn it is.
            let again = now + limits::SECOND_CHOICE;
            return Verdict::Look(end.min(again).min(turn.unwrap_or(end)));
        }
        if case
            .document
            .as_ref()
            .is_some_and(|document| is_camera(&document.fields))
        {
            // Nobody waits for an answer, and somebody has a place for it some day.
            return Verdict::Look(now + limits::GIVE_UP);
        }
        match parent {
            Some(parent) => Verdict::AskParent(parent.clone()),
            None => Verdict::Refuse(self.why_nobody(at)),
        }
    }

    /// Why nobody takes new rooms.
    pub(super) fn why_nobody(&self, at: Stamp) -> String {
        let live: Vec<&str> = self.registry.by_hash("", at);
        let draining = |id: &&str| self.registry.node(id).is_some_and(|node| node.draining);
        let free = !self.registry.candidates("", at).is_empty();
        if free {
            "no node took this offer in time, all may be full; try again later".to_owned()
        } else if !live.is_empty() && live.iter().all(draining) {
            "all nodes are shutting down; offer again later".to_owned()
        } else {
            "all nodes are full; try again later".to_owned()
        }
    }

    /// A bad document is refused by one node, and by another if that one does not.
    fn refuse_in_turn(
        &self,
        now: Instant,
        at: Stamp,
        case: &Case,
        id: &RequestId,
        sentence: String,
    ) -> Verdict {
        let order = self.registry.by_hash(&id.0, at);
        let rank = order.iter().position(|node| *node == self.config.node);
        let turn = self.base(case) + self.turn_wait(rank.unwrap_or(order.len()));
        if now >= turn {
            Verdict::Refuse(sentence)
        } else {
            Verdict::Look(turn)
        }
    }

    /// How long after the first choice this one waits, as slow as the database is now.
    fn turn_wait(&self, rank: usize) -> Duration {
        match rank {
            0 => Duration::ZERO,
            rank => turn_wait(rank) + self.pace.slack(),
        }
    }

    /// Since when an offer could have been served.
    pub(super) fn base(&self, case: &Case) -> Instant {
        let able = self.able_since.unwrap_or(case.first_seen);
        case.first_seen.max(able)
    }

    /// Whether a node other than ours serves the document, as far as anybody knows.
    pub(super) fn is_anothers(&self, now: Instant, owner: &str) -> bool {
        let Some(at) = self.clock.at(now) else {
            return false;
        };
        let standing = || self.registry.standing(owner, at, self.is_settled(now));
        !owner.is_empty() && owner != self.config.node && standing() != Standing::Gone
    }

    /// Whether we may take one more room.
    pub(super) fn has_place(&self) -> bool {
        !self.is_leaving()
            && self.rooms.len() < self.config.broadcasts_max
            && self.load.sessions < self.config.sessions_max
    }
}

/// Whose turn it is.
enum Turn {
    Ours,
    At(Instant),
    Never,
}

/// How long after the first choice this one waits.
fn turn_wait(rank: usize) -> Duration {
    match u32::try_from(rank).unwrap_or(u32::MAX) {
        0 => Duration::ZERO,
        1 => limits::SECOND_CHOICE,
        rank => limits::OTHER_CHOICES + limits::CHOICE_STEP * (rank - 2).min(limits::CHOICES_MAX),
    }
}
