//! Requests that come as documents: a broadcaster is an encoder whose room bears its document's
//! name, a participant is a player, a member is a person. Each may offer again on its document.

use std::time::Instant;

use dataplane::id::SessionId;
use signaling::name::{PersonName, RoomName};
use signaling::node::{Connect, Door, PageOffer, PersonId, Refusal};
use signaling::quality::Quality;

use super::effect::{ClientKind, EndReason};
use super::people::GRACE;
use super::person::{Presence, Said};
use super::session::{Origin, Owner};
use super::{Rooms, random, translate};

/// What was said last, for members who come later: as much as a page shows at once.
const CHAT_LEN_MAX: usize = 20;

/// An offer that came in a document.
#[derive(Clone, Debug)]
pub struct Request {
    /// The document's id, which names the session.
    pub id: String,
    /// What the page is.
    pub kind: RequestKind,
    /// The room; made when it does not exist.
    pub room: RoomName,
    /// How the person wants to be called.
    pub name: PersonName,
    /// The offer; what is wanted and sent where only members say.
    pub page: PageOffer,
}

/// What a page with a document is in its meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Publishes.
    Broadcaster,
    /// Watches.
    Participant,
    /// Both.
    Member,
}

impl RequestKind {
    /// The kind of client.
    #[must_use]
    pub fn client(self) -> ClientKind {
        match self {
            RequestKind::Broadcaster => ClientKind::Broadcaster,
            RequestKind::Participant => ClientKind::Participant,
            RequestKind::Member => ClientKind::Member,
        }
    }
}

impl Rooms {
    /// Answers an offer that came in a document: the first makes its session, later ones
    /// renegotiate it, or make a new one in its place when they come from another
    /// `RTCPeerConnection`.
    ///
    /// # Errors
    /// An offer that cannot be served; limits. Nothing has changed then.
    pub fn handle_request(&mut self, request: &Request) -> Result<String, Refusal> {
        if self.ending {
            return Err(Refusal::ShuttingDown);
        }
        let door = match request.kind {
            RequestKind::Broadcaster => Door::Whip,
            RequestKind::Participant => Door::Whep,
            RequestKind::Member => return self.on_member(request),
        };
        let connect = Connect {
            door,
            room: request.room.clone(),
            name: request.name.clone(),
            offer: request.page.offer.clone(),
            watch: None,
            most: Quality::BEST,
            from: std::net::Ipv4Addr::UNSPECIFIED.into(),
        };
        self.on_connect(request, &connect)
    }

    /// Ends the session of a document's request, and with it the person that it was.
    pub fn handle_request_over(&mut self, id: &str) {
        match self.requests.get(id).copied() {
            Some(session) => self.end_request(session, EndReason::Left),
            None => self.leave_document(&PersonId(id.to_owned()), EndReason::Left),
        }
    }

    /// Whether anybody in the room reads its document.
    pub(super) fn has_members(&self, room: &RoomName) -> bool {
        let people = self.rooms.get(room).map(|room| room.people.iter());
        people.into_iter().flatten().any(|id| self.is_member(id))
    }

    /// Who asked for the sessions of this person.
    pub(super) fn origin_of(&self, person: &PersonId) -> Origin {
        if self.is_member(person) {
            Origin {
                client: ClientKind::Member,
                request: Some(person.0.clone()),
            }
        } else {
            ClientKind::Page.into()
        }
    }

    /// A member's media was lost: they have the grace time to offer again.
    pub(super) fn await_document(&mut self, person: &PersonId, now: Instant) {
        if let Some(person) = self.people.get_mut(person)
            && let Presence::Document { until } = &mut person.presence
        {
            *until = Some(now + GRACE);
        }
    }

    /// Keeps what was said for members, who read it in the room's document.
    pub(super) fn remember_said(
        &mut self,
        room: &RoomName,
        from: &PersonId,
        name: &PersonName,
        text: &str,
    ) {
        if !self.has_members(room) {
            return;
        }
        let Some(room) = self.rooms.get_mut(room) else {
            return;
        };
        let n = room.chat.back().map_or(1, |last| last.n + 1);
        room.chat.push_back(Said {
            n,
            from: from.clone(),
            name: name.clone(),
            text: text.to_owned(),
        });
        while room.chat.len() > CHAT_LEN_MAX {
            room.chat.pop_front();
        }
    }

    fn on_connect(&mut self, request: &Request, connect: &Connect) -> Result<String, Refusal> {
        let before = self.requests.get(&request.id).copied();
        let client = request.kind.client();
        let kept = before.filter(|id| self.continues(*id, client, connect));
        // Whoever has a place keeps it.
        let has_place = before.is_some_and(|id| {
            let session = self.sessions.get(&id);
            session.is_some_and(|session| session.room == connect.room)
        });
        if !has_place {
            self.check_place(&connect.room)?;
        }
        let known = kept.and_then(|id| self.sessions.get(&id)?.receives.values().next());
        let cname = known.map(|receiver| receiver.spec.cname.clone());
        let cname = cname.unwrap_or_else(|| random::id(&mut *self.random));
        let plan = self.plan_connect(kept, connect, &cname)?;
        if let Some(kept) = kept {
            self.restart_ice_if_new(kept, &connect.offer);
            return Ok(self.carry_out(kept, plan, &connect.offer));
        }
        if let Some(before) = before {
            self.end_request(before, EndReason::Replaced);
        }
        let origin = Origin {
            client,
            request: Some(request.id.clone()),
        };
        Ok(self.connect(connect, origin, plan, cname).answer)
    }

    /// Whether the offer comes from the `RTCPeerConnection` that has the session.
    fn continues(&self, id: SessionId, client: ClientKind, connect: &Connect) -> bool {
        let fingerprints = translate::dtls_spec(&connect.offer).fingerprints;
        self.sessions.get(&id).is_some_and(|session| {
            session.origin.client == client
                && session.room == connect.room
                && session.dtls.fingerprints == fingerprints
        })
    }

    fn on_member(&mut self, request: &Request) -> Result<String, Refusal> {
        let id = PersonId(request.id.clone());
        match self.people.get_mut(&id) {
            Some(person) if person.room == request.room => {
                let Presence::Document { until } = &mut person.presence else {
                    return Err(id_taken());
                };
                let waits = std::mem::take(until);
                let answered = self.handle_offer(&id, &request.page);
                if answered.is_err()
                    && let Some(person) = self.people.get_mut(&id)
                {
                    person.presence = Presence::Document { until: waits };
                }
                return answered;
            }
            Some(person) if !matches!(person.presence, Presence::Document { .. }) => {
                return Err(id_taken());
            }
            Some(_) => self.leave_document(&id, EndReason::Replaced),
            None => {}
        }
        self.check_place(&request.room)?;
        let told = self.effects.len();
        let presence = Presence::Document { until: None };
        self.add_person_as(&id, &request.room, request.name.clone(), presence);
        let answered = self.handle_offer(&id, &request.page);
        if answered.is_err() {
            // Nobody has been told yet that they came.
            self.effects.truncate(told);
            self.people.remove(&id);
            if let Some(room) = self.rooms.get_mut(&request.room) {
                room.people.retain(|other| *other != id);
            }
            self.drop_room_if_empty(&request.room);
        }
        answered
    }

    fn end_request(&mut self, session: SessionId, reason: EndReason) {
        let owner = self
            .sessions
            .get(&session)
            .map(|session| session.owner.clone());
        match owner {
            Some(Owner::Encoder(person, _) | Owner::Page(person) | Owner::Camera(person)) => {
                self.handle_leave(&person, reason);
            }
            Some(Owner::Viewer(..)) => self.end_session(session, reason),
            None => {}
        }
    }

    fn leave_document(&mut self, person: &PersonId, reason: EndReason) {
        if self.is_member(person) || self.is_camera(person) {
            self.handle_leave(person, reason);
        }
    }

    /// Whether the person came by a document.
    pub(super) fn is_member(&self, person: &PersonId) -> bool {
        let person = self.people.get(person);
        person.is_some_and(|person| matches!(person.presence, Presence::Document { .. }))
    }
}

/// A page chose an id that is somebody else's.
pub(super) fn id_taken() -> Refusal {
    Refusal::Unservable("somebody in a room has this id; offer on a new document".to_owned())
}
